//! The conversation with U-Boot.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use super::download::Download;
use super::exchange::{Exchange, FastbootError, Limits, Message, short};
use super::{Command, Deadlines};
use crate::pipe::BulkPipe;

/// A piece of an upload.
const UPLOAD_CHUNK: usize = 1 << 16;

/// What the board says to a command it has carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What stood behind OKAY: the value of a variable; mostly empty.
    pub okay: String,
}

/// A download the board has in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its length.
    pub bytes: u32,
    /// What stood behind OKAY.
    pub answer: String,
}

/// A board in fastboot on the other side of a pipe.
///
/// A failed transfer leaves it unknown which answer comes next; from then on every command is refused with
/// [`FastbootError::OutOfStep`]. FAIL is no such failure.
#[derive(Debug)]
pub struct Session<P: BulkPipe> {
    pub(super) exchange: Exchange<P>,
    /// How long things may take.
    pub deadlines: Deadlines,
    staged: Result<u32, &'static str>,
}

impl<P: BulkPipe> Session<P> {
    /// A session on that pipe.
    pub fn new(pipe: P, limits: Limits) -> Self {
        let staged = Err("nothing was downloaded");
        Self { exchange: Exchange::new(pipe, limits), deadlines: Deadlines::default(), staged }
    }

    /// Has `observer` told what the board says on its way to an answer, as it comes.
    pub fn observe(&mut self, observer: impl FnMut(Message<'_>) + Send + 'static) {
        self.exchange.observer = Some(Box::new(observer));
    }

    /// What the transport and the board can take.
    pub fn limits(&self) -> Limits {
        self.exchange.limits
    }

    /// Did a transfer fail, so that only a reset of the board and a new session help?
    pub fn is_out_of_step(&self) -> bool {
        self.exchange.out_of_step
    }

    /// Bytes of the last download, if it was complete.
    pub fn staged_bytes(&self) -> Option<u32> {
        self.staged.ok()
    }

    /// Time as the board's pipe has it: [`BulkPipe::now`].
    pub fn now(&self) -> Duration {
        self.exchange.pipe.now()
    }

    /// Ends the session and hands back the pipe.
    pub fn into_pipe(self) -> P {
        self.exchange.pipe
    }

    /// Sends any command that is answered by OKAY or FAIL alone. For `download` and `upload` there are methods of
    /// their own; sent this way they are an error before anything is sent.
    pub fn run(&mut self, command: &Command<'_>) -> Result<Answer, FastbootError> {
        let text = command.to_string();
        match (command, self.staged) {
            (Command::Flash(_) | Command::Boot, Err(why)) => {
                return Err(FastbootError::NotStaged { command: short(&text), why });
            }
            (Command::Download(_) | Command::Upload(_), _) => {
                let found = "a command with data".to_owned();
                return Err(FastbootError::Unexpected { command: short(&text), expected: "OKAY", found });
            }
            _ => {}
        }
        let within = self.deadlines.of(command, self.staged.unwrap_or(0).into());
        self.exchange.send(&text, within)?;
        let okay = self.exchange.okay(&text, within)?;
        Ok(Answer { okay })
    }

    /// The value of a variable. That the board does not know it is [`FastbootError::Fail`].
    pub fn getvar(&mut self, name: &str) -> Result<String, FastbootError> {
        Ok(self.run(&Command::GetVar(name.into()))?.okay)
    }

    /// Begins a download of exactly that many bytes.
    pub fn download(&mut self, bytes: u32) -> Result<Download<'_, P>, FastbootError> {
        let command = Command::Download(bytes);
        let text = command.to_string();
        let within = self.deadlines.of(&command, 0);
        self.exchange.send(&text, within)?;
        // From here on the buffer may hold anything.
        self.staged = Err("the last download was not completed, and what the board holds is not what was asked for");
        let found = self.exchange.data(&text, within)?;
        if found != bytes {
            // The board waits for another number than we would send.
            self.exchange.out_of_step = true;
            return Err(FastbootError::DataSize { command: text, expected: bytes, found });
        }
        Ok(Download::new(self, bytes))
    }

    /// Downloads `bytes` in transfers of at most a mebibyte.
    pub fn download_all(&mut self, bytes: &[u8]) -> Result<Staged, FastbootError> {
        let count = u32::try_from(bytes.len()).map_err(|_| FastbootError::TooMuch {
            announced: u32::MAX,
            sent: 0,
            extra: u64::try_from(bytes.len()).unwrap_or(u64::MAX) - u64::from(u32::MAX),
        })?;
        let mut download = self.download(count)?;
        for part in bytes.chunks(1 << 20) {
            download.write(part)?;
        }
        download.finish()
    }

    /// Writes the last download to a partition.
    pub fn flash(&mut self, partition: &str) -> Result<Answer, FastbootError> {
        self.run(&Command::Flash(partition.into()))
    }

    /// Erases a partition.
    pub fn erase(&mut self, partition: &str) -> Result<Answer, FastbootError> {
        self.run(&Command::Erase(partition.into()))
    }

    /// Runs a line of U-Boot's shell. The line goes out exactly as given.
    pub fn ucmd(&mut self, line: &str) -> Result<Answer, FastbootError> {
        self.run(&Command::UCmd(line.into()))
    }

    /// Has U-Boot answer first and then run a line of its shell: for what does not come back.
    pub fn acmd(&mut self, line: &str) -> Result<Answer, FastbootError> {
        self.run(&Command::ACmd(line.into()))
    }

    /// Takes what the board holds, at most `most` bytes, and writes it to `into`. Returns the number of bytes.
    ///
    /// If `into` fails, the rest is received and thrown away, so that the session stays in step.
    pub fn upload(&mut self, name: Option<&str>, most: u64, into: &mut dyn io::Write) -> Result<u64, FastbootError> {
        let command = Command::Upload(name.map(Cow::Borrowed));
        let text = command.to_string();
        let within = self.deadlines.of(&command, 0);
        self.exchange.send(&text, within)?;
        let offered = u64::from(self.exchange.data(&text, within)?);
        let stored = self.exchange.take(&text, offered, most, &self.deadlines, into)?;
        self.exchange.okay(&text, self.deadlines.of_data(0))?;
        stored.map_err(FastbootError::Store)?;
        Ok(offered)
    }

    pub(super) fn stage(&mut self, staged: Result<u32, &'static str>) {
        self.staged = staged;
    }
}

impl<P: BulkPipe> Exchange<P> {
    /// Receives `offered` bytes into a writer. The outer error is the link's; the inner one the writer's.
    pub(crate) fn take(
        &mut self,
        command: &str,
        offered: u64,
        most: u64,
        deadlines: &Deadlines,
        into: &mut dyn io::Write,
    ) -> Result<io::Result<()>, FastbootError> {
        if offered > most {
            // It sends all the same, and taking it could be without end.
            self.out_of_step = true;
            return Err(FastbootError::UploadTooLong { command: short(command), offered, limit: most });
        }
        let mut chunk = vec![0; UPLOAD_CHUNK];
        let (mut left, mut stored) = (offered, Ok(()));
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(UPLOAD_CHUNK).min(UPLOAD_CHUNK);
            let part = &mut chunk[..count];
            let length = u64::try_from(count).unwrap_or(left);
            self.receive_data(command, part, deadlines.of_data(length))?;
            if stored.is_ok() {
                stored = into.write_all(part);
            }
            left = left.saturating_sub(length);
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests;
