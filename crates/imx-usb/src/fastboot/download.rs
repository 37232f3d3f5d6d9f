//! The guard of a download.

use super::exchange::{FastbootError, short};
use super::session::{Session, Staged};
use crate::pipe::BulkPipe;

/// What fills up a download that was dropped.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A download under way: the board waits for exactly the announced bytes and can do nothing else meanwhile.
///
/// While it exists, the session cannot be used. Dropped before all bytes were written, it fills up with zeros if the
/// link still works, so that the board listens again; the session then refuses to flash or boot until another download
/// is complete. The filling is sent when the guard is dropped and can take as long as the rest of the download.
#[derive(Debug)]
pub struct Download<'s, P: BulkPipe> {
    session: &'s mut Session<P>,
    announced: u32,
    sent: u32,
    /// The board has answered at the end, or the link failed: nothing to fill up.
    over: bool,
}

impl<'s, P: BulkPipe> Download<'s, P> {
    pub(super) fn new(session: &'s mut Session<P>, announced: u32) -> Self {
        Self { session, announced, sent: 0, over: false }
    }

    /// Bytes announced.
    pub fn announced(&self) -> u32 {
        self.announced
    }

    /// Bytes still to be written.
    pub fn remaining(&self) -> u32 {
        self.announced - self.sent
    }

    /// Time as the board's pipe has it: [`BulkPipe::now`].
    pub fn now(&self) -> std::time::Duration {
        self.session.now()
    }

    /// Sends the next bytes, as one transfer. More than remain are an error, and none of them is sent.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FastbootError> {
        let (announced, sent) = (self.announced, self.sent);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let count = match u32::try_from(length) {
            Ok(count) if count <= self.remaining() => count,
            _ => {
                let extra = length - u64::from(self.remaining());
                return Err(FastbootError::TooMuch { announced, sent, extra });
            }
        };
        if count == 0 {
            return Ok(());
        }
        let within = self.session.deadlines.of_data(length);
        let result = self.session.exchange.send_data(&self.command(), bytes, within);
        match &result {
            Ok(()) => self.sent += count,
            Err(_) => self.over = true,
        }
        result
    }

    /// Waits for the board to say that it has everything. Too few bytes are an error: the download is filled up, and
    /// nothing is staged.
    pub fn finish(mut self) -> Result<Staged, FastbootError> {
        let (announced, sent) = (self.announced, self.sent);
        if sent < announced {
            self.fill_up();
            return Err(FastbootError::TooLittle { announced, sent });
        }
        self.over = true;
        let within = self.session.deadlines.of_data(0);
        let answer = self.session.exchange.okay(&self.command(), within)?;
        let staged = Staged { bytes: announced, answer };
        self.session.stage(Ok(announced));
        Ok(staged)
    }

    fn command(&self) -> String {
        format!("download:{:08x}", self.announced)
    }

    /// Sends zeros for what lacks, so that the board hears commands again.
    fn fill_up(&mut self) {
        self.over = true;
        let command = short(&self.command());
        while self.sent < self.announced {
            let count = self.remaining().min(1 << 16);
            let zeros = usize::try_from(count).ok().and_then(|count| ZEROS.get(..count)).unwrap_or(&ZEROS);
            let within = self.session.deadlines.of_data(count.into());
            if self.session.exchange.send_data(&command, zeros, within).is_err() {
                return;
            }
            self.sent += count;
        }
        let within = self.session.deadlines.of_data(0);
        // OKAY or FAIL are both an end; a broken link has left the exchange out of step.
        let _ = self.session.exchange.okay(&command, within);
    }
}

impl<P: BulkPipe> Drop for Download<'_, P> {
    fn drop(&mut self) {
        if !self.over {
            self.fill_up();
        }
    }
}
