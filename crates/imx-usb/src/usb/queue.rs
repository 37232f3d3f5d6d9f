//! Sending with several transfers in flight, so that the wire never waits for this side.
//!
//! Works on a [`Wire`], which hands transfers to the system and takes them back. What this adds: order, the count of
//! delivered bytes, and what to do when something goes wrong while later transfers are under way. They are called off
//! **newest first**: were it the other way round, the next one would begin to move, and leave a hole in what the board
//! gets. Nothing is in flight when a function returns, unless the system does not give it back.

use std::collections::VecDeque;
use std::time::Duration;

use super::deadline::Deadline;

/// How many transfers are in flight at once, and how large they are.
///
/// All of it together counts against the kernel's `usbfs_memory_mb`, which all programs share; where that does not
/// suffice, fewer and smaller transfers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many, at least 1.
    pub transfers: usize,
    /// Bytes in each. Rounded to whole packets of every kind of bulk endpoint, at least 16 KiB.
    pub bytes: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self { transfers: 4, bytes: 512 << 10 }
    }
}

/// A transfer is never made smaller than this: the kernel takes as much without contiguous memory.
const LEAST: usize = 16 << 10;

/// How long is waited for memory before it is asked for again.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// How long the system may take to give back what was called off.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Hands transfers of one endpoint to the system.
pub(super) trait Wire {
    /// Starts a transfer of these bytes, which are copied. `slot` was taken back, or never used.
    fn submit(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Refusal>;

    /// Takes back the next transfer that ended; `None` if none did before `until`.
    fn reap(&mut self, until: Deadline) -> Result<Option<(usize, End)>, rusb::Error>;

    /// Calls a transfer off. It still has to be taken back, and may have ended well.
    fn cancel(&mut self, slot: usize);
}

/// A transfer that the system did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No memory for it now.
    Memory,
    /// The board left.
    Gone,
    /// Anything else.
    Other(rusb::Error),
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// Bytes that went.
    pub(super) bytes: usize,
    pub(super) how: How,
}

/// See [`End`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// All that the two sides had.
    Done,
    Cancelled,
    Stalled,
    Gone,
    /// The board sent more than there was room for.
    Overflow,
    /// The controller gave up on it.
    Failed,
}

/// Why sending or receiving stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    TimedOut,
    Stalled,
    Gone,
    Overflow,
    Failed,
    Cancelled,
    /// A transfer ended early, well, and later bytes went all the same.
    Hole,
    /// No memory all the time.
    Memory,
    /// libusb would not.
    Refused(rusb::Error),
}

impl Stop {
    /// Why a transfer that ended so stops everything; `None` if it does not.
    pub(super) fn after(how: How) -> Option<Self> {
        match how {
            How::Done => None,
            How::Cancelled => Some(Self::Cancelled),
            How::Stalled => Some(Self::Stalled),
            How::Gone => Some(Self::Gone),
            How::Overflow => Some(Self::Overflow),
            How::Failed => Some(Self::Failed),
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Memory => Self::Memory,
            Refusal::Gone => Self::Gone,
            Refusal::Other(error) => Self::Refused(error),
        }
    }
}

/// Sends all of `bytes`, or says how many went, from the first on without a gap, and why it stopped.
pub(super) fn send<W: Wire>(wire: &mut W, bytes: &[u8], queue: Queue, until: Deadline) -> Result<(), (usize, Stop)> {
    let mut sending = Sending::new(wire, bytes, queue, until);
    let stop = sending.run();
    match stop {
        Some(stop) if sending.delivered < bytes.len() => Err((sending.delivered, stop)),
        _ => Ok(()),
    }
}

/// A transfer in flight.
#[derive(Debug)]
struct Flight {
    slot: usize,
    length: usize,
    end: Option<End>,
}

struct Sending<'a, W> {
    wire: &'a mut W,
    bytes: &'a [u8],
    until: Deadline,
    /// Bytes in a transfer, and transfers at once.
    length: usize,
    depth: usize,
    /// Slots that are not in flight.
    free: Vec<usize>,
    /// Oldest first.
    flights: VecDeque<Flight>,
    /// Bytes handed to the system.
    submitted: usize,
    /// Bytes that went, up to the first that may not have.
    delivered: usize,
    /// Some byte after `delivered` was handed over and did not go.
    cut: bool,
    /// Bytes that went after that.
    beyond: usize,
    /// Nothing more is handed over, everything in flight has been called off; why, and how long that may take.
    closing: Option<(Stop, Deadline)>,
}

impl<'a, W: Wire> Sending<'a, W> {
    fn new(wire: &'a mut W, bytes: &'a [u8], queue: Queue, until: Deadline) -> Self {
        let depth = queue.transfers.max(1);
        Self {
            wire,
            bytes,
            until,
            length: whole(queue.bytes),
            depth,
            free: (0..depth).rev().collect(),
            flights: VecDeque::with_capacity(depth),
            submitted: 0,
            delivered: 0,
            cut: false,
            beyond: 0,
            closing: None,
        }
    }

    fn run(&mut self) -> Option<Stop> {
        loop {
            if self.closing.is_none() {
                self.fill();
            }
            match (self.flights.is_empty(), self.closing) {
                (false, None) => match self.wire.reap(self.until) {
                    Ok(Some((slot, end))) => self.ended(slot, end),
                    Ok(None) => self.close(Stop::TimedOut),
                    Err(error) => self.close(Stop::Refused(error)),
                },
                (false, Some((stop, grace))) => match self.wire.reap(grace) {
                    Ok(Some((slot, end))) => self.ended(slot, end),
                    Err(_) if !grace.is_over() => std::thread::sleep(PAUSE),
                    // The wire keeps what it was not given back.
                    Ok(None) | Err(_) => return Some(stop),
                },
                // A transfer ended early, and no later byte went: the rest is sent as if it had not been tried.
                (true, Some((Stop::Hole, _))) if self.beyond == 0 && !self.until.is_over() => {
                    self.submitted = self.delivered;
                    self.cut = false;
                    self.closing = None;
                }
                (true, Some((Stop::Hole, _))) if self.beyond == 0 => return Some(Stop::TimedOut),
                (true, Some((stop, _))) => return Some(stop),
                (true, None) if self.delivered >= self.bytes.len() => return None,
                // Nothing could be handed over: there is no memory.
                (true, None) if self.until.is_over() => return Some(Stop::Memory),
                (true, None) => std::thread::sleep(PAUSE.min(self.until.left())),
            }
        }
    }

    /// Hands over as much as may be in flight.
    fn fill(&mut self) {
        while self.submitted < self.bytes.len() && self.flights.len() < self.depth {
            let Some(&slot) = self.free.last() else { return };
            let rest = &self.bytes[self.submitted..];
            let part = &rest[..rest.len().min(self.length)];
            match self.wire.submit(slot, part) {
                Ok(()) => {
                    self.free.pop();
                    self.submitted += part.len();
                    self.flights.push_back(Flight { slot, length: part.len(), end: None });
                }
                // Fewer have to do until what is in flight, here or for another board, gives its memory back; with none
                // in flight, smaller ones.
                Err(Refusal::Memory) if !self.flights.is_empty() => return,
                Err(Refusal::Memory) if self.length > LEAST => self.length = whole(self.length / 2),
                Err(Refusal::Memory) => return,
                Err(refusal) => return self.close(refusal.into()),
            }
        }
    }

    /// A transfer was taken back: counts it, once those before it are.
    fn ended(&mut self, slot: usize, end: End) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.slot == slot) {
            flight.end = Some(end);
        }
        while let Some(end) = self.flights.front().and_then(|flight| flight.end) {
            let Some(flight) = self.flights.pop_front() else { return };
            self.free.push(flight.slot);
            if self.cut {
                self.beyond = self.beyond.saturating_add(end.bytes);
            } else {
                self.delivered += end.bytes.min(flight.length);
                self.cut = end.bytes < flight.length;
            }
            match Stop::after(end.how) {
                Some(stop) => self.close(stop),
                None if self.cut => self.close(Stop::Hole),
                None => {}
            }
        }
    }

    /// Calls off everything in flight. The first reason stands, unless the board shows a better one.
    fn close(&mut self, why: Stop) {
        match &mut self.closing {
            Some((stop, _)) => {
                if matches!(stop, Stop::Hole | Stop::TimedOut) && !matches!(why, Stop::Hole | Stop::Cancelled) {
                    *stop = why;
                }
            }
            None => {
                self.closing = Some((why, Deadline::new(GRACE)));
                for flight in self.flights.iter().rev().filter(|flight| flight.end.is_none()) {
                    self.wire.cancel(flight.slot);
                }
            }
        }
    }
}

/// Rounded down to whole multiples of [`LEAST`], and at least that.
fn whole(bytes: usize) -> usize {
    (bytes / LEAST).max(1).saturating_mul(LEAST)
}

#[cfg(test)]
mod tests;
