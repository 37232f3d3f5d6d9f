//! What a job tells while it runs: plain numbers, never text for people.
//!
//! Order of a [`crate::copy`]: [`Event::Stage`] opens a stage, [`Event::Progress`] follows any number of times with
//! rising `done`, and the next `Stage` closes it. Stages come in the order of [`Stage`]'s variants; those with nothing
//! to do are left out. [`Event::Retry`] and [`Event::Note`] may come at any time. Events of one job may come from
//! several threads, one at a time or not: an observer brings its own lock.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bmap::ByteRange;

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Bringing a board to fastboot.
    Boot,
    /// Zeros over the old head, so that an interrupted target cannot boot a mix.
    Invalidate,
    /// Erasing what a map leaves out, on boards and on request.
    Erase,
    /// Asking a board which of the pieces behind the head it holds already; ends when one must be written.
    Compare,
    /// Reading, decoding, checking and writing everything behind the head.
    Write,
    /// Waiting until the target has it on the medium.
    Sync,
    /// Reading the body back from the medium.
    Prove,
    /// Writing the head, syncing and proving it.
    Head,
    /// A loader into a boot partition, proven, and the boot switch.
    BootPartition,
    /// Telling the kernel about the new partition table, final length of files.
    Commit,
    /// Hashing mapped ranges ([`crate::create`]) or comparing them ([`crate::verify`]).
    Hash,
    /// Reading, checking and packing an image into a pack file ([`crate::board::make_pack`]).
    Pack,
}

impl Stage {
    /// The stage's name in machine-readable output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Invalidate => "invalidate",
            Self::Erase => "erase",
            Self::Compare => "compare",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Prove => "prove",
            Self::Head => "head",
            Self::BootPartition => "boot_partition",
            Self::Commit => "commit",
            Self::Hash => "hash",
            Self::Pack => "pack",
        }
    }
}

/// Something a user may want to know that is no failure.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Note {
    /// A queue setting of the target's device could not be changed; writing goes on without.
    NotTuned {
        /// The sysfs file.
        setting: PathBuf,
        /// Why.
        error: Arc<io::Error>,
    },
    /// A queue setting could not be put back.
    NotRestored {
        /// The sysfs file.
        setting: PathBuf,
        /// What it should hold.
        value: String,
        /// Why.
        error: Arc<io::Error>,
    },
    /// The filesystem cannot tell where the image's holes are; everything was read and zeros were found by looking.
    HolesUnknown,
    /// No journal can be kept, so that an interrupted job could not go on where it was.
    NoJournal {
        /// Where it should be.
        folder: PathBuf,
        /// Why.
        error: Arc<io::Error>,
    },
    /// By its load address the boot image that a board is booted with is for other chips. A guess: it is sent all the
    /// same.
    OtherChip {
        /// For which.
        family: String,
    },
    /// An interrupted job was to go on, and none of this image was begun on this board: all is sent.
    NothingBegun,
    /// At the end of a card that is longer than the image is the header of the old backup partition table, or may be.
    BackupTable {
        /// Where.
        at: ByteRange,
        /// It was there, and is zeroed; otherwise it could not be looked at, and what is there stays.
        cleared: bool,
    },
    /// The kernel did not take the new partition table; it will at the next plug or boot.
    TableNotReread {
        /// Why.
        error: Arc<io::Error>,
    },
}

/// In which way a board was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It left the bus: unplugged, without power, or reset.
    Gone,
    /// It does not answer, or what it says makes no sense.
    Silent,
}

impl Loss {
    /// The name in machine-readable output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Silent => "silent",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A stage began.
    Stage {
        /// Which.
        stage: Stage,
        /// How many bytes it will handle, where that is known.
        total: Option<u64>,
    },
    /// The stage went on.
    Progress {
        /// Which.
        stage: Stage,
        /// Bytes of the target handled in this stage so far.
        done: u64,
        /// How far into the unpacked image the reader has come, in bytes; 0 in stages that do not read it.
        position: u64,
    },
    /// A piece did not read back as it was written; it is written again.
    Retry {
        /// Where.
        extent: ByteRange,
        /// Which repetition this is, from 1.
        attempt: u32,
    },
    /// A board is done, well or not: its last stage is over.
    BoardDone,
    /// A board was lost and is waited for.
    Lost {
        /// In which way.
        loss: Loss,
        /// What failed: of its protocol.
        why: String,
        /// Bytes of the image that it was known to hold by then.
        done: u64,
        /// Of how many.
        wanted: u64,
        /// For how long it is waited for.
        within: Duration,
    },
    /// A board that was lost is plugged in at another port now.
    Moved {
        /// Where it was.
        from: String,
        /// Where it is.
        to: String,
    },
    /// A board comes along on its way to fastboot: what it is given, or has become.
    Booting {
        /// A name that stays the same: `rom`, `loader`, `fastboot` and `initramfs` are what it has become, `sending` is
        /// what is done to it.
        step: &'static str,
        /// In words.
        what: String,
        /// Bytes sent of those to send, while something is sent.
        sent: Option<(u64, u64)>,
    },
    /// Something worth knowing.
    Note(Note),
}

/// Takes events. `()` ignores them; any closure is an observer.
pub trait Observer: Send + Sync {
    /// Takes one. Called from the job's threads: be quick.
    fn event(&self, event: &Event);
}

impl Observer for () {
    fn event(&self, _: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}
