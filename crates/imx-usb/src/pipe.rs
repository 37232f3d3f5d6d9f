//! The seams to a board: [`BulkPipe`] for fastboot, [`ReportPipe`] for boot ROMs. Their implementations live
//! elsewhere; tests implement them over memory.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Two bulk endpoints, or something that behaves like them.
pub trait BulkPipe {
    /// Delivers every byte, in order, or fails and says how many went. Never sends a byte twice, so it never retries
    /// by itself unless the transport's own rules make a repetition invisible to the other side.
    ///
    /// `within` is for the whole call. No zero-length packet follows. An empty `bytes` sends nothing.
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError>;

    /// Receives one transfer: up to `into.len()` bytes, ended early by a short packet. `Ok(0)` is a zero-length
    /// packet, which is no end of anything.
    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError>;

    /// Time as the other side has it, since whenever: for measuring how long things take. A virtual board may run on
    /// simulated time; all others on the real one.
    fn now(&self) -> Duration {
        monotonic()
    }
}

/// Real time since the first call.
pub fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// HID reports in both directions.
pub trait ReportPipe {
    /// Delivers one report or fails. `report` begins with the report's identifier, as on the wire.
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError>;

    /// Receives one report, its identifier first; returns its length.
    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError>;

    /// Time as the other side has it: [`BulkPipe::now`].
    fn now(&self) -> Duration {
        monotonic()
    }
}

impl<P: BulkPipe + ?Sized> BulkPipe for &mut P {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        (**self).send(bytes, within)
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        (**self).receive(into, within)
    }

    fn now(&self) -> Duration {
        (**self).now()
    }
}

impl<P: BulkPipe + ?Sized> BulkPipe for Box<P> {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        (**self).send(bytes, within)
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        (**self).receive(into, within)
    }

    fn now(&self) -> Duration {
        (**self).now()
    }
}

impl<P: ReportPipe + ?Sized> ReportPipe for &mut P {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        (**self).send_report(report, within)
    }

    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        (**self).receive_report(into, within)
    }

    fn now(&self) -> Duration {
        (**self).now()
    }
}

impl<P: ReportPipe + ?Sized> ReportPipe for Box<P> {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        (**self).send_report(report, within)
    }

    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        (**self).receive_report(into, within)
    }

    fn now(&self) -> Duration {
        (**self).now()
    }
}

/// Which way a transfer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the board.
    Out,
    /// From the board.
    In,
}

/// A transfer that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{} {delivered} of {asked} bytes {}", verb(*.direction), place(*.direction))]
pub struct TransferError {
    /// Which way.
    pub direction: Direction,
    /// How many bytes certainly went. The other side may have seen more of an unfinished packet.
    pub delivered: usize,
    /// How many were asked for.
    pub asked: usize,
    /// What happened.
    #[source]
    pub fault: Fault,
}

fn verb(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "sent",
        Direction::In => "received",
    }
}

fn place(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "to the board",
        Direction::In => "from the board",
    }
}

/// What happened to a transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing more came or went in time.
    #[error("no progress within {}", Seconds(*.0))]
    TimedOut(Duration),
    /// The endpoint answered with a stall: the board refuses.
    #[error("the board refused (stall)")]
    Stalled,
    /// The board left the bus, or does not answer the controller any more.
    #[error("the board is gone")]
    Gone,
    /// The board sent more than was asked for.
    #[error("the board sent more than was asked for")]
    Overflow,
    /// The transfer was called off on this side.
    #[error("cancelled")]
    Cancelled,
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl TransferError {
    /// An error on the way out.
    pub fn sending(delivered: usize, asked: usize, fault: Fault) -> Self {
        Self { direction: Direction::Out, delivered, asked, fault }
    }

    /// An error on the way in.
    pub fn receiving(delivered: usize, asked: usize, fault: Fault) -> Self {
        Self { direction: Direction::In, delivered, asked, fault }
    }

    /// Did it only take too long?
    pub fn is_timeout(&self) -> bool {
        matches!(self.fault, Fault::TimedOut(_))
    }

    /// Did the board leave?
    pub fn is_gone(&self) -> bool {
        matches!(self.fault, Fault::Gone)
    }
}

/// A duration as people write it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms @ 0..1000 => write!(f, "{ms} ms"),
            ms if ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}

#[cfg(test)]
pub(crate) mod script;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_how_far_it_got() {
        let error = TransferError::sending(512, 4096, Fault::TimedOut(Duration::from_millis(2500)));
        assert_eq!(error.to_string(), "sent 512 of 4096 bytes to the board");
        assert_eq!(error.source().unwrap().to_string(), "no progress within 2.5 s");
        assert!(error.is_timeout() && !error.is_gone());
        let error = TransferError::receiving(0, 65, Fault::Gone);
        assert_eq!(error.to_string(), "received 0 of 65 bytes from the board");
        assert_eq!(error.source().unwrap().to_string(), "the board is gone");
        assert_eq!(Seconds(Duration::from_secs(10)).to_string(), "10 s");
        assert_eq!(Seconds(Duration::from_millis(200)).to_string(), "200 ms");
    }
}
