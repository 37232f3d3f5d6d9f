//! What moving an image to a board took: bytes and time.

use std::time::Duration;

/// Sums of one board, in bytes unless they say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Bytes of the image that had to be on the board.
    pub wanted: u64,
    /// Bytes of the image that were written; what had to be sent again counts once.
    pub written: u64,
    /// Bytes of the image that the board held already.
    pub skipped: u64,
    /// Bytes of the image that this job had sent before the board was lost, and that it still held when it came back.
    pub survived: u64,
    /// Bytes that went over the bus as data, headers and all.
    pub sent: u64,
    /// Bytes of the image that travelled packed.
    pub packed: u64,
    /// Bytes that went as FILL chunks.
    pub filled: u64,
    /// Bytes proven on the board.
    pub proven: u64,
    /// Pieces that had to be sent again: a count.
    pub resent: u64,
    /// How often the board was lost and came back: a count.
    pub returns: u32,
}

impl Sums {
    /// Bytes of the image that are on the board, as far as is known, and how many are to be there.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.written.saturating_add(self.skipped).min(self.wanted), self.wanted)
    }
}

/// Where a board's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Boot ROM, loader, U-Boot.
    pub boot: Duration,
    /// Waiting for the image to be read, decoded or packed.
    pub source: Duration,
    /// Waiting for a turn on the bus.
    pub turn: Duration,
    /// Data on the bus.
    pub bus: Duration,
    /// The board writing.
    pub card: Duration,
    /// Comparing and proving.
    pub proof: Duration,
}
