//! FBK: the daemon `ufb` of an initramfs, which speaks something like fastboot: run a shell line, take a file, give a
//! file.
//!
//! | wire | meaning |
//! |---|---|
//! | `UCmd:LINE` | run by `sh -c` and wait; its output comes as INFO, with empty INFOs as signs of life |
//! | `ACmd:LINE` | start, with its input and output connected to the daemon |
//! | `Sync:` | wait for what `ACmd` started |
//! | `WOpen:PATH`, `ROpen:PATH` | open a file to write, to read; `-` is the input or output of what `ACmd` started |
//! | `donwload:%08X` | spelled so at both ends: data for the open file |
//! | `upload` | the next piece of the open file |
//! | `Close` | close it |
//!
//! The daemon does not truncate a file it opens to write, and calls a program that was killed by a signal a success.
//! It syncs nothing. An unknown command gets no answer at all.
//!
//! Sources: `ufb.c` of NXP's imx-uuc; traces of `uuu` 1.5.243.

use std::io;
use std::time::Duration;

use crate::fastboot::{Deadlines, Exchange, FastbootError, Limits, Message};
use crate::pipe::BulkPipe;

/// Most bytes in one `donwload`, as `uuu` has it. The daemon keeps each piece in memory.
pub const PIECE: usize = 0x4000;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FbkError {
    /// A command failed, or the link.
    #[error(transparent)]
    Fastboot(#[from] FastbootError),
    /// The path is a directory; a file name must follow it.
    #[error("{path} on the board is a directory")]
    Directory {
        /// The path.
        path: String,
    },
    /// The program that was to read the data has ended.
    #[error("the program on the board that takes the data has ended, after {taken} bytes")]
    PipeClosed {
        /// Bytes it was given before.
        taken: u64,
    },
    /// The size of a file is not 16 hexadecimal digits.
    #[error("the board says the size of {path} is {text:?}, which is not 16 hexadecimal digits")]
    Size {
        /// The path.
        path: String,
        /// What the board says.
        text: String,
    },
    /// The file ended before its size.
    #[error("{path} on the board ended after {received} of {size} bytes")]
    Short {
        /// The path.
        path: String,
        /// Bytes that came.
        received: u64,
        /// Its size as the board said.
        size: u64,
    },
    /// The file is longer than is wanted.
    #[error("{path} on the board has more than {limit} bytes")]
    Long {
        /// The path.
        path: String,
        /// The most that is wanted.
        limit: u64,
    },
}

/// The daemon on the other side of a pipe.
#[derive(Debug)]
pub struct Session<P: BulkPipe> {
    exchange: Exchange<P>,
    /// How long things may take. `run` is for [`Session::ucmd`] and [`Session::sync`].
    pub deadlines: Deadlines,
}

impl<P: BulkPipe> Session<P> {
    /// A session on that pipe.
    pub fn new(pipe: P) -> Self {
        Self { exchange: Exchange::new(pipe, Limits::FBK), deadlines: Deadlines::default() }
    }

    /// Has `observer` told what programs on the board print, as it comes.
    pub fn observe(&mut self, observer: impl FnMut(Message<'_>) + Send + 'static) {
        self.exchange.observer = Some(Box::new(observer));
    }

    /// Ends the session and hands back the pipe.
    pub fn into_pipe(self) -> P {
        self.exchange.pipe
    }

    /// Runs a shell line and waits for it.
    pub fn ucmd(&mut self, line: &str) -> Result<(), FbkError> {
        self.simple(&format!("UCmd:{line}"), self.long())
    }

    /// Starts a shell line. FAIL if it has failed within the first moments.
    pub fn acmd(&mut self, line: &str) -> Result<(), FbkError> {
        self.simple(&format!("ACmd:{line}"), self.quick())
    }

    /// Waits for what [`Session::acmd`] started; FAIL if it failed.
    pub fn sync(&mut self) -> Result<(), FbkError> {
        self.simple("Sync:", self.long())
    }

    /// Opens a file of the board to write, `-` for the input of what [`Session::acmd`] started.
    pub fn create(&mut self, path: &str) -> Result<FileWriter<'_, P>, FbkError> {
        match self.simple(&format!("WOpen:{path}"), self.quick()) {
            Ok(()) => Ok(FileWriter { session: self, taken: 0, open: true }),
            Err(FbkError::Fastboot(FastbootError::Fail { reason, .. })) if reason == "DIR" => {
                Err(FbkError::Directory { path: path.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a file of the board, at most `most` bytes; `-` for the output of what [`Session::acmd`] started, which
    /// ends with the first empty piece. Returns the number of bytes.
    pub fn read_file(&mut self, path: &str, most: u64, into: &mut dyn io::Write) -> Result<u64, FbkError> {
        let command = format!("ROpen:{path}");
        let text = self.answer(&command, self.quick())?;
        let size = match text.as_str() {
            // A stream has none.
            "" => 0,
            digits if digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16).unwrap_or(u64::MAX)
            }
            _ => {
                let _ = self.simple("Close", self.quick());
                return Err(FbkError::Size { path: path.to_owned(), text });
            }
        };
        let result = self.pieces(path, size, most, into);
        let closed = self.simple("Close", self.quick());
        let received = result?;
        closed?;
        Ok(received)
    }

    fn pieces(&mut self, path: &str, size: u64, most: u64, into: &mut dyn io::Write) -> Result<u64, FbkError> {
        let long = || FbkError::Long { path: path.to_owned(), limit: most };
        if size > most {
            return Err(long());
        }
        let mut received = 0u64;
        // Size 0: an empty file, or a stream. Either ends with an empty piece.
        while size == 0 || received < size {
            self.exchange.send("upload", self.quick())?;
            let piece = u64::from(self.exchange.data("upload", self.quick())?);
            let end = if size == 0 { most } else { size };
            let room = end.saturating_sub(received);
            if piece > room {
                self.exchange.out_of_step = true;
                return Err(long());
            }
            let stored = self.exchange.take("upload", piece, room, &self.deadlines, into)?;
            self.exchange.okay("upload", self.quick())?;
            stored.map_err(FastbootError::Store)?;
            if piece == 0 {
                break;
            }
            received = received.saturating_add(piece);
        }
        if received < size {
            return Err(FbkError::Short { path: path.to_owned(), received, size });
        }
        Ok(received)
    }

    fn quick(&self) -> Duration {
        self.deadlines.fixed.unwrap_or(self.deadlines.question)
    }

    fn long(&self) -> Duration {
        self.deadlines.fixed.unwrap_or(self.deadlines.run)
    }

    fn simple(&mut self, command: &str, within: Duration) -> Result<(), FbkError> {
        self.answer(command, within).map(drop)
    }

    fn answer(&mut self, command: &str, within: Duration) -> Result<String, FbkError> {
        self.exchange.send(command, within)?;
        Ok(self.exchange.okay(command, within)?)
    }
}

/// A file of the board, open to write.
///
/// Close it with [`FileWriter::close`], which tells whether that worked; dropped, it is closed without a word.
#[derive(Debug)]
pub struct FileWriter<'s, P: BulkPipe> {
    session: &'s mut Session<P>,
    taken: u64,
    open: bool,
}

impl<P: BulkPipe> FileWriter<'_, P> {
    /// Bytes the board has taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Appends `bytes`, in pieces of [`PIECE`] bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FbkError> {
        for piece in bytes.chunks(PIECE) {
            self.piece(piece)?;
        }
        Ok(())
    }

    /// Closes the file. What was written is not yet on storage: run `sync` on the board.
    pub fn close(mut self) -> Result<u64, FbkError> {
        self.open = false;
        let within = self.session.quick();
        self.session.simple("Close", within)?;
        Ok(self.taken)
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), FbkError> {
        let exchange = &mut self.session.exchange;
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let command = format!("donwload:{length:08X}");
        // The program at the other end may be slow to take it.
        let within = self.session.deadlines.fixed.unwrap_or(self.session.deadlines.run);
        exchange.send(&command, within)?;
        let taken = self.taken;
        let closed = |error| match error {
            FastbootError::Fail { reason, .. } if reason == "EPIPE" => FbkError::PipeClosed { taken },
            other => other.into(),
        };
        let found = exchange.data(&command, within).map_err(closed)?;
        if found != length {
            exchange.out_of_step = true;
            return Err(FastbootError::DataSize { command, expected: length, found }.into());
        }
        exchange.send_data(&command, piece, self.session.deadlines.of_data(length.into()))?;
        exchange.okay(&command, within).map_err(closed)?;
        self.taken = self.taken.saturating_add(length.into());
        Ok(())
    }
}

impl<P: BulkPipe> Drop for FileWriter<'_, P> {
    fn drop(&mut self) {
        if self.open {
            let within = self.session.quick();
            // Nobody is left to be told; a link out of step refuses it anyway.
            let _ = self.session.simple("Close", within);
        }
    }
}

#[cfg(test)]
mod tests;
