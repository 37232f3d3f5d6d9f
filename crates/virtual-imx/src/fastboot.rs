//! U-Boot's fastboot, the device's side, as NXP's tree and upstream's have it.
//!
//! One request of at most 4096 bytes is taken at a time, as U-Boot's gadget does; answers are at most 64 bytes. There is
//! no way to call a download off: until its bytes have come, everything is data. What the two trees do differently and
//! what they get wrong is kept, because hosts must live with it:
//!
//! - the number of bytes announced is the host's own digits, echoed; the tail of a last block is whatever memory held;
//! - a sparse image is judged by its sum of blocks only after everything was written (`fastboot/sparse.rs`);
//! - NXP's answers nothing at all to a flash when the device is not there, and `bootloader` leaves the boot partition
//!   selected;
//! - NXP's matches variables by prefix and says FAIL twice.
//!
//! Left out: Android locking, A/B slots, UDP framing. Sources: U-Boot v2026.07 and NXP's 2023.04, and what a QEMU rig
//! running the former was seen to answer.

mod command;
mod flash;
mod getvar;
pub(crate) mod gpt;
mod partition;
mod sparse;

use std::collections::VecDeque;

use crate::machine::{After, Halt, Machine};
use crate::model::Tree;
use crate::store::wide;

/// Most bytes of one request out to the board.
pub const REQUEST_BYTES: usize = 4096;
/// Most bytes of an answer.
pub const REPLY_BYTES: usize = 64;
/// Bytes of an upload sent at a time.
const UPLOAD_PIECE: usize = 4096;

/// What is to come next from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Command,
    Data { at: u64, left: u64, size: u64 },
}

/// The server of one U-Boot.
#[derive(Debug)]
pub struct Fastboot {
    state: State,
    replies: VecDeque<Vec<u8>>,
    upload: Option<(u64, u64)>,
    buffer: u64,
    buffer_bytes: u32,
    downloaded: u64,
    pub(crate) serial: String,
    table: partition::Table,
    /// The most that was downloaded at once.
    pub(crate) largest: u64,
    /// For the next download: announce this many bytes instead of those asked for.
    pub(crate) wrong_size: Option<u32>,
}

impl Fastboot {
    /// Starts serving. `serial` is what `getvar:serialno` tells.
    pub fn new(machine: &mut Machine, serial: &str) -> Self {
        let layout = machine.model.layout(machine.tree);
        let mut server = Self {
            state: State::Command,
            replies: VecDeque::new(),
            upload: None,
            buffer: layout.buffer,
            buffer_bytes: layout.buffer_bytes,
            downloaded: 0,
            serial: serial.to_owned(),
            table: partition::Table::default(),
            largest: 0,
            wrong_size: None,
        };
        server.table.reload(machine);
        server
    }

    /// Bytes of a download that have still to come.
    pub fn bytes_wanted(&self) -> u64 {
        match self.state {
            State::Command => 0,
            State::Data { left, .. } => left,
        }
    }

    /// Forgets the download and the answers under way, as a reset of the bus does.
    pub fn bus_reset(&mut self) {
        self.state = State::Command;
        self.replies.clear();
        self.upload = None;
    }

    /// Takes one request of at most [`REQUEST_BYTES`]; of a longer one the rest is lost. Data that is still wanted may
    /// come as several requests in one.
    pub fn request(&mut self, machine: &mut Machine, bytes: &[u8]) -> Result<(), Halt> {
        let most = usize::try_from(self.bytes_wanted()).unwrap_or(usize::MAX).max(REQUEST_BYTES);
        let bytes = &bytes[..bytes.len().min(most)];
        match self.state {
            State::Data { at, left, size } => self.data(machine, bytes, at, left, size),
            // A zero-length packet says nothing.
            State::Command if bytes.is_empty() => Ok(()),
            State::Command if bytes.len() >= REQUEST_BYTES => {
                self.fail("buffer overflow");
                Ok(())
            }
            State::Command => {
                let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = String::from_utf8_lossy(text).into_owned();
                machine.spend(machine.timing.command);
                self.command(machine, &text)
            }
        }
    }

    fn data(&mut self, machine: &mut Machine, bytes: &[u8], at: u64, left: u64, size: u64) -> Result<(), Halt> {
        // The request was queued for no more than is missing; what else came in it is dropped.
        let n = wide(bytes.len()).min(left);
        machine.ram.write(at, &bytes[..usize::try_from(n).unwrap_or(0)])?;
        let left = left - n;
        if left > 0 {
            self.state = State::Data { at: at.saturating_add(n), left, size };
            return Ok(());
        }
        self.state = State::Command;
        self.downloaded = size;
        self.largest = self.largest.max(size);
        machine.set_env("filesize", &format!("{size:x}"));
        if machine.tree == Tree::Nxp {
            machine.set_env("fastboot_bytes", &format!("{size:x}"));
        }
        self.okay("");
        Ok(())
    }

    /// The next thing to send, at most `most` bytes. What is longer stays for the next time.
    pub fn reply(&mut self, machine: &Machine, most: usize) -> Option<Vec<u8>> {
        if let Some((at, left)) = self.upload.filter(|_| self.replies.len() <= 1 && most > 0) {
            // The last answer, OKAY, waits behind the data.
            let n = usize::try_from(left).unwrap_or(UPLOAD_PIECE).min(UPLOAD_PIECE).min(most);
            let bytes = machine.ram.bytes(at, n).unwrap_or_else(|_| vec![0; n]);
            let rest = left - wide(n);
            self.upload = (rest > 0).then_some((at.saturating_add(wide(n)), rest));
            return Some(bytes);
        }
        let mut reply = self.replies.pop_front()?;
        if reply.len() > most {
            self.replies.push_front(reply.split_off(most));
        }
        Some(reply)
    }

    /// Is there nothing more to send?
    pub fn is_quiet(&self) -> bool {
        self.replies.is_empty() && self.upload.is_none()
    }

    fn answer(&mut self, tag: &str, text: &str) {
        let mut reply = [tag.as_bytes(), text.as_bytes()].concat();
        reply.truncate(REPLY_BYTES);
        self.replies.push_back(reply);
    }

    fn okay(&mut self, text: &str) {
        self.answer("OKAY", text);
    }

    fn info(&mut self, text: &str) {
        self.answer("INFO", text);
    }

    /// Answers FAIL with a reason.
    pub(crate) fn fail(&mut self, text: &str) {
        self.answer("FAIL", text);
    }

    /// Sends console output as INFO, where the host listens to it.
    fn send_console(&mut self, machine: &mut Machine) {
        let heard = std::mem::take(&mut machine.unheard);
        if machine.tree == Tree::Nxp {
            for piece in heard.as_bytes().chunks(REPLY_BYTES - 4) {
                self.replies.push_back([b"INFO", piece].concat());
            }
        }
    }

    /// Runs a shell line whose answer has left already.
    pub fn run_late(&mut self, machine: &mut Machine, line: &str) -> Result<(), Halt> {
        crate::shell::run(machine, line)?;
        machine.unheard.clear();
        Ok(())
    }

    /// Does what was put off until the answer had left; what is the board's business comes back.
    pub fn finish(&mut self, machine: &mut Machine) -> Result<Option<After>, Halt> {
        match machine.after.take() {
            Some(After::Run(line)) => {
                self.run_late(machine, &line)?;
                Ok(machine.after.take().filter(|after| !matches!(after, After::Run(_))))
            }
            after => Ok(after),
        }
    }
}

#[cfg(test)]
mod tests;
