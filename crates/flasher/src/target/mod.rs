//! The one seam that every kind of device fills.
//!
//! Proof, retry, hole policy and the head's order are written once above it, in the engine; a target only moves bytes
//! and says honestly what it can.

pub mod block;
pub mod file;
pub mod medium;
pub mod memory;
mod pacing;

use std::fmt;
use std::io;

use bmap::ByteRange;

use crate::disk::Use;
use crate::event::{Note, Observer};
use crate::plan::Plan;

/// What a target looks like before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Its size in bytes; `None` for a file, which grows.
    pub size: Option<u64>,
    /// Whether it starts empty: nothing old can shine through, and what is not written reads as zeros.
    pub fresh: bool,
    /// Whether it is a part of something bootable (a partition) rather than the whole: then the image has no head.
    pub partition: bool,
    /// Zeros found while reading an image without a map are passed to [`Target::zero`] in multiples of this many bytes
    /// instead of being written; a power of two.
    pub zero_granule: u64,
    /// Whether it can be read back.
    pub readable: bool,
    /// How many writes it likes to have under way at once; at least 1.
    pub depth: usize,
}

/// What became of a request for zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroed {
    /// The extent reads as zeros from now on, and no zeros were sent.
    Guaranteed,
    /// The target has no cheap way to promise that; nothing was changed.
    Unsupported,
}

/// Something an image is written to.
///
/// Calls come in this order: `begin` once, then any number of `write`, `zero`, `sync` and `read_back` from several
/// threads (never two at once for overlapping extents), then `commit` if all went well. Dropping a target at any time
/// restores what it changed on the host.
pub trait Target: fmt::Debug + Send + Sync {
    /// Its name for people, such as `/dev/sdb`.
    fn name(&self) -> String;

    /// What it looks like.
    fn geometry(&self) -> Geometry;

    /// Called once, just before the first change, with the plan that is about to be carried out.
    ///
    /// # Errors
    /// When the target cannot be prepared. It is unchanged then, but for a file, which may already be empty.
    fn begin(&self, plan: &Plan, observer: &dyn Observer) -> Result<(), TargetError>;

    /// Writes `bytes` at offset `at`. When this returns they may still be in a cache. Fastest when `bytes` lie at a
    /// 4096-aligned address.
    ///
    /// # Errors
    /// When not all were taken; how many were is unknown.
    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), TargetError>;

    /// Makes `extent` read as zeros without sending them, if it can promise that.
    ///
    /// # Errors
    /// When it could, but failed; what the extent holds is unknown then.
    fn zero(&self, extent: ByteRange) -> Result<Zeroed, TargetError>;

    /// Returns when everything written so far is on the medium.
    ///
    /// # Errors
    /// When it may not be.
    fn sync(&self) -> Result<(), TargetError>;

    /// Reads `into.len()` bytes at offset `at` from the medium, not from a cache of the host's. Call [`Target::sync`]
    /// first.
    ///
    /// # Errors
    /// When not all could be read, or the target cannot be read at all ([`TargetError::Unreadable`]).
    fn read_back(&self, at: u64, into: &mut [u8]) -> Result<(), TargetError>;

    /// Called once after everything is written and, where asked for, proven: final length, partition table.
    /// `length` is the image's.
    ///
    /// # Errors
    /// When a file does not get its length. A table that the kernel does not take is only an event.
    fn commit(&self, length: u64, observer: &dyn Observer) -> Result<(), TargetError>;
}

/// Why a target was refused: `--yes` does not lift it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It, or a part of it, is in use.
    InUse(Vec<Use>),
    /// Another program has it open for itself alone.
    Busy,
    /// The running system lives on it.
    SystemDisk,
    /// The kernel or its switch holds it read-only.
    ReadOnly,
    /// It is the image itself.
    IsTheImage,
    /// Its sectors are larger than the 4096 bytes that transfers are aligned to.
    LargeSectors(u64),
    /// A directory, pipe, socket: nothing an image can be written to.
    WrongKind(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(uses) => {
                let uses: Vec<String> = uses.iter().map(ToString::to_string).collect();
                write!(f, "it is in use: {}", uses.join(", "))
            }
            Self::Busy => f.write_str("another program or the kernel holds it open for itself alone"),
            Self::SystemDisk => f.write_str("the running system lives on it"),
            Self::ReadOnly => f.write_str("it is read-only"),
            Self::IsTheImage => f.write_str("it is the image itself"),
            Self::LargeSectors(bytes) => write!(f, "its sectors have {bytes} bytes, and 4096 is the most we handle"),
            Self::WrongKind(kind) => write!(f, "it is {kind}, not a file or block device"),
        }
    }
}

/// What went wrong at a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It must not be written.
    #[error("refusing to write to {target}: {refusal}")]
    Refused {
        /// The target's name.
        target: String,
        /// Why.
        refusal: Refusal,
    },
    /// There is no such device.
    #[error("{target} does not exist")]
    Missing {
        /// The target's name.
        target: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It cannot be opened.
    #[error("cannot open {target}")]
    Open {
        /// The target's name.
        target: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("cannot {action} {extent} of {target}")]
    Io {
        /// The target's name.
        target: String,
        /// What was being done: "write", "read back", "zero".
        action: &'static str,
        /// Where.
        extent: ByteRange,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something about the target as a whole failed.
    #[error("cannot {action} {target}")]
    Whole {
        /// The target's name.
        target: String,
        /// What was being done: "sync", "set the length of".
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It cannot be read back, by its nature.
    #[error("{target} cannot be read back")]
    Unreadable {
        /// The target's name.
        target: String,
    },
}

/// `len` bytes at `at`; nothing where no device could be that long.
fn extent(at: u64, len: usize) -> ByteRange {
    ByteRange::at(at, wide(len)).unwrap_or(ByteRange::first(0))
}

/// The smallest range that holds both.
fn span(one: ByteRange, other: ByteRange) -> ByteRange {
    ByteRange::new(one.start().min(other.start()), one.end().max(other.end())).unwrap_or(one)
}

/// A length in memory as the type that offsets have.
fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Puts a note into an observer.
pub(crate) fn note(observer: &dyn Observer, note: Note) {
    observer.event(&crate::event::Event::Note(note));
}
