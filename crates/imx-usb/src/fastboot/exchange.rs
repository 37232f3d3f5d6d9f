//! One command, its answers, and what may go wrong: what fastboot and FBK have in common.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::reply::{REPLY_BYTES, Reply, ReplyError};
use crate::pipe::{BulkPipe, Fault, TransferError};

/// What the transport and the other side can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest command, in bytes.
    pub command: usize,
    /// The longest answer, in bytes: how much is asked for at once. Over USB more than the board sends would do no
    /// harm at high speed, but at full speed a 64-byte answer and the next would run together.
    pub reply: usize,
}

impl Limits {
    /// U-Boot over USB: a full packet of 4096 bytes is already too much for it.
    pub const USB: Self = Self { command: 4095, reply: REPLY_BYTES };
    /// U-Boot over UDP: it cuts longer commands without a word, runs what is left and says OKAY.
    pub const UDP: Self = Self { command: 64, reply: 1020 };
    /// The daemon `ufb`.
    pub const FBK: Self = Self { command: 511, reply: REPLY_BYTES };
}

/// What a board says on the way to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A line for people. May be empty: a sign of life.
    Info(&'a str),
    /// A part of something longer.
    Text(&'a str),
}

/// What went wrong. `command` is the text of the command, shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FastbootError {
    /// A transfer failed. What the board did is unknown.
    #[error("{command}")]
    Transfer {
        /// During which command.
        command: String,
        /// What happened.
        #[source]
        source: TransferError,
    },
    /// The board said FAIL.
    #[error("{command}: the board says {}", Words(reason))]
    Fail {
        /// To which command.
        command: String,
        /// In its own words; may be empty.
        reason: String,
    },
    /// The board sent no answer but something else.
    #[error("{command}")]
    Reply {
        /// After which command.
        command: String,
        /// What it sent.
        #[source]
        source: ReplyError,
    },
    /// An answer of the wrong kind: DATA where nothing was to follow, OKAY where data was.
    #[error("{command}: the board answers {found} where {expected} belongs")]
    Unexpected {
        /// To which command.
        command: String,
        /// The answers that make sense there.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// The board wants another number of bytes than it was told.
    #[error("{command}: the board is ready for {found} bytes instead of {expected}")]
    DataSize {
        /// To which command.
        command: String,
        /// As announced.
        expected: u32,
        /// As in its answer.
        found: u32,
    },
    /// Longer than this transport can carry.
    #[error("{command}: the command has {length} bytes; {limit} is the most that goes this way")]
    CommandTooLong {
        /// Its beginning.
        command: String,
        /// Its length in bytes.
        length: usize,
        /// The most it may have.
        limit: usize,
    },
    /// A command cannot hold a NUL or be empty.
    #[error("{command:?} cannot be sent: a command is text without NUL")]
    CommandText {
        /// Its beginning.
        command: String,
    },
    /// More data was given than announced. Nothing of it was sent.
    #[error("{extra} bytes too many: the download was announced with {announced} bytes, {sent} were sent")]
    TooMuch {
        /// As announced.
        announced: u32,
        /// Sent before.
        sent: u32,
        /// How many too many.
        extra: u64,
    },
    /// Less data was given than announced. What lacked was filled with zeros, and will not be flashed.
    #[error("the download was announced with {announced} bytes, but {sent} were given")]
    TooLittle {
        /// As announced.
        announced: u32,
        /// Sent.
        sent: u32,
    },
    /// `flash` or `boot` without a complete download before.
    #[error("{command}: {why}")]
    NotStaged {
        /// Which command.
        command: String,
        /// Why there is nothing.
        why: &'static str,
    },
    /// The two sides lost step earlier: a command is of no use before the board was reset.
    #[error("{command}: the connection is out of step since an earlier failure; the board needs a reset")]
    OutOfStep {
        /// The command that was not sent.
        command: String,
    },
    /// The board offers more than the caller wants.
    #[error("{command}: the board offers {offered} bytes; at most {limit} are wanted")]
    UploadTooLong {
        /// To which command.
        command: String,
        /// As the board says.
        offered: u64,
        /// As the caller says.
        limit: u64,
    },
    /// What was received could not be stored on this side.
    #[error("storing what the board sent")]
    Store(#[source] io::Error),
}

impl FastbootError {
    /// The board's own words, if it said FAIL.
    pub fn board_says(&self) -> Option<&str> {
        match self {
            Self::Fail { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

struct Words<'a>(&'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("FAIL, and no reason"),
            reason => write!(f, "FAIL {reason:?}"),
        }
    }
}

/// A command shortened for a message.
pub(crate) fn short(command: &str) -> String {
    match command.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &command[..end]),
        None => command.to_owned(),
    }
}

/// The last answer to a command, of the two kinds that are no failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Okay(String),
    Data(u32),
}

/// Who is told what the board says.
type Observer = dyn FnMut(Message<'_>) + Send;

/// The two ends in step.
pub(crate) struct Exchange<P> {
    pub(crate) pipe: P,
    pub(crate) limits: Limits,
    pub(crate) observer: Option<Box<Observer>>,
    /// A transfer failed: an answer of then may still come and would be taken for the answer to the next command.
    pub(crate) out_of_step: bool,
    buffer: Vec<u8>,
}

impl<P: fmt::Debug> fmt::Debug for Exchange<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipe, limits, out_of_step, .. } = self;
        f.debug_struct("Exchange")
            .field("pipe", pipe)
            .field("limits", limits)
            .field("out_of_step", out_of_step)
            .finish_non_exhaustive()
    }
}

impl<P: BulkPipe> Exchange<P> {
    pub(crate) fn new(pipe: P, limits: Limits) -> Self {
        let buffer = vec![0; limits.reply.clamp(REPLY_BYTES, 1 << 16)];
        Self { pipe, limits, observer: None, out_of_step: false, buffer }
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, command: &str, within: Duration) -> Result<(), FastbootError> {
        if self.out_of_step {
            return Err(FastbootError::OutOfStep { command: short(command) });
        }
        let (length, limit) = (command.len(), self.limits.command);
        if length > limit {
            return Err(FastbootError::CommandTooLong { command: short(command), length, limit });
        }
        if length == 0 || command.contains('\0') {
            return Err(FastbootError::CommandText { command: short(command) });
        }
        self.send_data(command, command.as_bytes(), within)
    }

    /// Sends data, or anything else, as part of `command`.
    pub(crate) fn send_data(&mut self, command: &str, data: &[u8], within: Duration) -> Result<(), FastbootError> {
        self.pipe.send(data, within).map_err(|source| self.lost(command, source))
    }

    /// Receives exactly that much data.
    pub(crate) fn receive_data(
        &mut self,
        command: &str,
        mut into: &mut [u8],
        within: Duration,
    ) -> Result<(), FastbootError> {
        let asked = into.len();
        let end = Instant::now().checked_add(within);
        while !into.is_empty() {
            let left = left(end, within);
            let received = match left {
                Some(left) => self.pipe.receive(into, left),
                None => Err(TransferError::receiving(0, 0, Fault::TimedOut(within))),
            };
            let received = received.map_err(|error| {
                let delivered = asked - into.len() + error.delivered.min(into.len());
                self.lost(command, TransferError { delivered, asked, ..error })
            })?;
            into = into.split_at_mut(received.min(into.len())).1;
        }
        Ok(())
    }

    /// Waits for OKAY, FAIL or DATA; INFO and TEXT go to the observer. `within` is for all of it.
    pub(crate) fn outcome(&mut self, command: &str, within: Duration) -> Result<Outcome, FastbootError> {
        let end = Instant::now().checked_add(within);
        loop {
            let Some(left) = left(end, within) else {
                let error = TransferError::receiving(0, self.buffer.len(), Fault::TimedOut(within));
                return Err(self.lost(command, error));
            };
            let received = match self.pipe.receive(&mut self.buffer, left) {
                Ok(received) => received.min(self.buffer.len()),
                Err(error) => return Err(self.lost(command, error)),
            };
            // A zero-length packet is no answer: some boards end each transfer with one.
            if received == 0 {
                continue;
            }
            let reply = Reply::decode(&self.buffer[..received]).map_err(|source| {
                self.out_of_step = true;
                FastbootError::Reply { command: short(command), source }
            })?;
            match reply {
                Reply::Okay(text) => return Ok(Outcome::Okay(text)),
                Reply::Data(bytes) => return Ok(Outcome::Data(bytes)),
                Reply::Fail(reason) => return Err(FastbootError::Fail { command: short(command), reason }),
                Reply::Info(text) => self.tell(Message::Info(&text)),
                Reply::Text(text) => self.tell(Message::Text(&text)),
            }
        }
    }

    /// Waits for OKAY.
    pub(crate) fn okay(&mut self, command: &str, within: Duration) -> Result<String, FastbootError> {
        match self.outcome(command, within)? {
            Outcome::Okay(text) => Ok(text),
            Outcome::Data(bytes) => {
                self.out_of_step = true;
                let found = format!("DATA for {bytes} bytes");
                Err(FastbootError::Unexpected { command: short(command), expected: "OKAY", found })
            }
        }
    }

    /// Waits for DATA.
    pub(crate) fn data(&mut self, command: &str, within: Duration) -> Result<u32, FastbootError> {
        match self.outcome(command, within)? {
            Outcome::Data(bytes) => Ok(bytes),
            Outcome::Okay(_) => {
                let found = "OKAY".to_owned();
                Err(FastbootError::Unexpected { command: short(command), expected: "DATA", found })
            }
        }
    }

    fn tell(&mut self, message: Message<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(message);
        }
    }

    fn lost(&mut self, command: &str, source: TransferError) -> FastbootError {
        self.out_of_step = true;
        FastbootError::Transfer { command: short(command), source }
    }
}

/// What is left until `end`; `None` when it has passed. An `end` too far for the clock never passes.
fn left(end: Option<Instant>, within: Duration) -> Option<Duration> {
    match end {
        Some(end) => Some(end.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()),
        None => Some(within),
    }
}
