//! What tests of boards share: images, boards full of old data, and runs of whole jobs. Boards are virtual, in process and
//! in simulated time.
//!
//! Each program of tests takes of it what it needs.

#![allow(dead_code, unused_imports, reason = "shared by several programs, of which none needs all")]

mod boards;
mod run;
mod scene;

use flasher::TargetState;
use flasher::board::{BoardError, BoardResult};

pub(crate) use boards::{board, board_of, old, port_of};
pub(crate) use run::{Run, changed};
pub(crate) use scene::{LARGE, Scene};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
/// What the boards were booted with, and what their cards held before, differ from every image's loader.
pub(crate) const BOOT: u8 = 200;
pub(crate) const OLD: u8 = 99;

pub(crate) fn narrow(at: u64) -> usize {
    usize::try_from(at).unwrap()
}

/// Numbers that look random and are the same each time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

#[track_caller]
pub(crate) fn assert_good(result: &BoardResult, what: &str) {
    assert!(result.error.is_none(), "{what}: {:?}", result.error);
    assert_eq!(result.state, TargetState::Proven, "{what}");
}

/// An error with all that led to it.
pub(crate) fn in_full(error: &BoardError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
