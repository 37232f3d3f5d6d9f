//! Questions to U-Boot of which the answer may be no.

use std::time::Duration;

use super::{ProbeError, Shell};
use crate::fastboot::{Deadlines, FastbootError, Session};
use crate::pipe::BulkPipe;

/// Nothing that is asked here takes longer.
const QUESTION: Duration = Duration::from_secs(10);

/// A session that is being asked. Gives it its deadlines back at the end.
pub(super) struct Talk<'s, P: BulkPipe> {
    session: &'s mut Session<P>,
    deadlines: Deadlines,
    pub(super) shell: Option<Shell>,
    pub(super) values: bool,
}

impl<'s, P: BulkPipe> Talk<'s, P> {
    pub(super) fn new(session: &'s mut Session<P>) -> Self {
        let deadlines = session.deadlines.clone();
        session.deadlines.run = deadlines.run.min(QUESTION);
        session.deadlines.question = deadlines.question.min(QUESTION);
        Self { session, deadlines, shell: None, values: false }
    }

    /// A variable of fastboot's; `None` if U-Boot does not know it or it is empty.
    pub(super) fn getvar(&mut self, name: &str) -> Result<Option<String>, ProbeError> {
        match self.session.getvar(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) => refused(error).map(|_| None),
        }
    }

    /// What U-Boot says against a variable.
    pub(super) fn refusal(&mut self, name: &str) -> Result<Option<String>, ProbeError> {
        match self.session.getvar(name) {
            Ok(_) => Ok(None),
            Err(error) => refused(error).map(Some),
        }
    }

    /// Runs a line: did it succeed? No, too, if there is no way to run it, or it is too long for the transport.
    pub(super) fn run(&mut self, line: &str) -> Result<bool, ProbeError> {
        let Some(shell) = self.shell else { return Ok(false) };
        match self.session.run(&shell.command(line)) {
            Ok(_) => Ok(true),
            Err(error) => refused(error).map(|_| false),
        }
    }

    /// A variable of U-Boot's environment.
    pub(super) fn env(&mut self, name: &str) -> Result<Option<String>, ProbeError> {
        if !self.values || !self.run(&format!("setenv fastboot.mf ${{{name}}}"))? {
            return Ok(None);
        }
        let value = self.getvar("mf")?;
        self.run("setenv fastboot.mf")?;
        Ok(value)
    }

    /// Downloads these bytes: was U-Boot willing?
    pub(super) fn download(&mut self, bytes: &[u8]) -> Result<bool, ProbeError> {
        match self.session.download_all(bytes) {
            Ok(_) => Ok(true),
            Err(error) => refused(error).map(|_| false),
        }
    }
}

impl<P: BulkPipe> Drop for Talk<'_, P> {
    fn drop(&mut self) {
        self.session.deadlines = self.deadlines.clone();
    }
}

/// The board's words if it was only unwilling.
fn refused(error: FastbootError) -> Result<String, ProbeError> {
    match error {
        FastbootError::Fail { reason, .. } => Ok(reason),
        FastbootError::CommandTooLong { .. } => Ok(String::new()),
        error => Err(ProbeError::Link(error)),
    }
}

/// The value of a variable of U-Boot's environment, read through `fastboot.mf`. `None` if it is unset or empty, or if
/// `name` is none: letters, digits and underscores. Of a longer value the first 59 bytes or so come.
///
/// # Errors
/// When the link fails.
pub fn variable<P: BulkPipe>(session: &mut Session<P>, shell: Shell, name: &str) -> Result<Option<String>, ProbeError> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(None);
    }
    let mut talk = Talk::new(session);
    (talk.shell, talk.values) = (Some(shell), true);
    talk.env(name)
}
