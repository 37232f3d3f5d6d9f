//! A host's side of a board in the same process: transfers with deadlines, as an operating system offers them.
//!
//! A [`Link`] is to one device on the bus and dies with it. Bulk transfers and HID reports are the same calls: which
//! they are is the device's business. With a simulated clock waiting takes no time.

use std::time::Duration;

use crate::board::{Board, Device};
use crate::record::Event;

/// How a step of a transfer came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Done.
    Done(T),
    /// Not now: the device is busy until then, or for as long as nothing happens.
    Wait(Option<Duration>),
    /// The endpoint stalls.
    Stalled,
    /// The device has left the bus.
    Gone,
}

/// A transfer that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}, after {done} bytes")]
pub struct LinkError {
    /// Bytes that went.
    pub done: usize,
    /// What happened.
    pub fault: LinkFault,
}

/// What can happen to a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The endpoint stalled.
    #[error("the endpoint stalled")]
    Stalled,
    /// The device left.
    #[error("the device is gone")]
    Gone,
}

/// An open device.
#[derive(Debug, Clone)]
pub struct Link {
    board: Board,
    device: Device,
}

impl Link {
    pub(crate) fn new(board: Board, device: Device) -> Self {
        Self { board, device }
    }

    /// What it is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The board's time.
    pub fn now(&self) -> Duration {
        self.board.now()
    }

    /// Sends bytes, all of them, in one transfer: bulk, or a report with its identifier first.
    pub fn send(&self, bytes: &[u8], within: Duration) -> Result<(), LinkError> {
        let until = self.board.now().saturating_add(within);
        let mut done = 0;
        loop {
            let error = |fault| LinkError { done, fault };
            match self.board.try_out(self.device.address, &bytes[done..]) {
                Outcome::Done(n) => {
                    done += n;
                    if done >= bytes.len() {
                        self.board.note(&Event::FromHost(done));
                        return Ok(());
                    }
                }
                Outcome::Wait(when) => self.wait(when, until).map_err(error)?,
                Outcome::Stalled => return Err(error(LinkFault::Stalled)),
                Outcome::Gone => return Err(error(LinkFault::Gone)),
            }
        }
    }

    /// Receives one transfer of at most `most` bytes. On a bulk endpoint it goes on through whole packets until a short
    /// one ends it.
    pub fn receive(&self, most: usize, within: Duration) -> Result<Vec<u8>, LinkError> {
        let until = self.board.now().saturating_add(within);
        let mut received: Vec<u8> = Vec::new();
        loop {
            let error = |fault| LinkError { done: received.len(), fault };
            match self.board.try_in(self.device.address, most - received.len()) {
                Outcome::Done(bytes) => {
                    let whole = self.device.is_whole_packets(bytes.len());
                    if received.is_empty() {
                        received = bytes;
                    } else {
                        received.extend(bytes);
                    }
                    if !whole || received.len() >= most {
                        self.board.note(&Event::ToHost(received.len()));
                        return Ok(received);
                    }
                }
                Outcome::Wait(when) => self.wait(when, until).map_err(error)?,
                Outcome::Stalled => return Err(error(LinkFault::Stalled)),
                Outcome::Gone => return Err(error(LinkFault::Gone)),
            }
        }
    }

    /// Resets the device, as a host's port does.
    pub fn reset(&self) {
        self.board.bus_reset(self.device.address);
    }

    /// Waits for a change, or until the deadline.
    fn wait(&self, when: Option<Duration>, until: Duration) -> Result<(), LinkFault> {
        let now = self.board.now();
        if now >= until {
            return Err(LinkFault::TimedOut);
        }
        // With the real clock somebody else may change the board meanwhile.
        let next = match when {
            Some(when) => when,
            None if self.board.is_real() => now + Duration::from_millis(5),
            None => until,
        };
        self.board.pass_until(next.clamp(now, until));
        Ok(())
    }
}
