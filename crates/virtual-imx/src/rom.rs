//! Boot ROMs and the loader (SPL), as devices that take HID reports.
//!
//! - [`image`]: what a ROM sees in the bytes it is given: IVTs, containers, FIT images.
//! - [`sdp`]: the ROM and the loader that take commands.
//! - [`stream`]: the ROMs that take a stream.
//!
//! No code is run: a loader that is whole counts as one that works.

pub mod image;
pub mod sdp;
pub mod stream;

/// What the fuses say about signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Hab {
    /// Anything boots.
    #[default]
    Open,
    /// Only what is signed boots. Whether the signature is right is not looked at, only whether there is one.
    Closed,
}

impl Hab {
    /// As report 3 tells it.
    pub fn word(self) -> u32 {
        match self {
            Self::Open => 0x5678_7856,
            Self::Closed => 0x1234_3412,
        }
    }
}

/// What a ROM or loader makes of what it was given so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It waits for more.
    Waiting,
    /// It starts what it was given.
    Starts,
    /// It will not or cannot start it, and says nothing more.
    Stuck,
}

#[cfg(test)]
mod tests;
