//! The question before a disk is overwritten. Asked only when somebody is there to answer: standard input and standard
//! error are terminals. Scripts are not asked; what must not happen is refused by the target, not by a question.

use std::io::{self, IsTerminal as _, Write as _};

use flasher::{Cancel, FlashError};

use super::target::Opened;
use crate::error::AppError;
use crate::job::stdin;
use crate::render::text::{printable, size};

/// Whether the target may be overwritten. Waiting for the answer ends when `cancel` is raised.
pub(super) fn may_overwrite(target: &Opened, cancel: &Cancel) -> Result<bool, AppError> {
    let Some(disk) = target.disk() else { return Ok(true) };
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    let what = crate::cmd::disks::name(disk);
    let question = format!(
        "{} is {what}, {}. Everything on it will be lost. Overwrite it? [y/N] ",
        printable(&target.target().name()),
        size(disk.size)
    );
    let failed = |error| AppError::io("cannot ask", error);
    let mut out = io::stderr().lock();
    out.write_all(question.as_bytes()).and_then(|()| out.flush()).map_err(failed)?;
    if let Err(error) = stdin::wait(cancel) {
        return Err(if cancel.is_cancelled() { FlashError::Cancelled.into() } else { failed(error) });
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes("Yes\n") && is_yes(" YES"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("n") && !is_yes("yep"));
    }
}
