//! What goes wrong in a job, and what the target holds then.

use bmap::holes::HolesError;
use bmap::{BlockRange, ByteRange, Digest};
use image::ImageError;

use crate::board::PackError;
use crate::target::TargetError;

/// Why a job did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// The image could not be read or unpacked.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image's holes could not be found.
    #[error("cannot find the holes of the image")]
    Holes(#[from] HolesError),
    /// The image could not be read while its map was made.
    #[error("cannot read {extent} of {name}")]
    Read {
        /// The image's name.
        name: String,
        /// Where.
        extent: ByteRange,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The map would have more ranges than a bmap file may hold.
    #[error("the image's data lies in {ranges} pieces, and a block map holds {most}: larger blocks make fewer")]
    TooManyRanges {
        /// How many there are.
        ranges: usize,
        /// How many there may be.
        most: usize,
    },
    /// The ranges found make no map.
    #[error(transparent)]
    Map(#[from] bmap::MapError),
    /// The target refused, or failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Image and map are of different lengths.
    #[error("the image has {image} bytes but its block map describes {map}: they do not belong together")]
    LengthMismatch {
        /// Bytes of the unpacked image.
        image: u64,
        /// `ImageSize` of the map.
        map: u64,
    },
    /// The image does not end where its map does.
    #[error("the image goes on past byte {map}, where its block map ends: they do not belong together")]
    LongerThanMap {
        /// `ImageSize` of the map.
        map: u64,
    },
    /// A range's bytes do not have the digest that the map carries.
    #[error("{0}")]
    RangeDigest(Box<RangeMismatch>),
    /// The target is smaller than the image.
    #[error("the image needs {}, {target} has {}", sized(*image), sized(*capacity))]
    TooSmall {
        /// The target's name.
        target: String,
        /// Bytes of the image.
        image: u64,
        /// Bytes the target has.
        capacity: u64,
    },
    /// The image, whose length was not known beforehand, goes on past the target's end.
    #[error("the image goes on past byte {capacity}, where {target} ends")]
    GoesOn {
        /// The target's name.
        target: String,
        /// Bytes the target has.
        capacity: u64,
    },
    /// Pieces did not read back as they were written, also after they had been written again.
    #[error("{}", not_held(.target, .pieces, *.attempts, *.rewritable))]
    NotHeld {
        /// The target's name.
        target: String,
        /// The pieces.
        pieces: Vec<ByteRange>,
        /// How many times they were written again.
        attempts: u32,
        /// Whether they could be written again at all: standard input cannot be read twice.
        rewritable: bool,
        /// What reading the first of them back said, where it failed outright.
        #[source]
        source: Option<TargetError>,
    },
    /// The source gave other bytes when bad pieces were read again.
    #[error("the image changed while it was being written: {extent} no longer have the digest they had")]
    SourceChanged {
        /// Where.
        extent: ByteRange,
    },
    /// Ranges of the target, or bytes, are not what the image or map says ([`crate::verify`]).
    #[error("{}", differs(.target, .ranges))]
    Differs {
        /// The target's name.
        target: String,
        /// Where it differs: whole mapped ranges, or pieces.
        ranges: Vec<ByteRange>,
    },
    /// Nothing can be compared: the map carries no digests.
    #[error("the block map carries no digests, so there is nothing to compare with; give the image instead")]
    NoDigests,
    /// The target cannot be read back.
    #[error("{target} cannot be read back")]
    NoProof {
        /// The target's name.
        target: String,
        /// Why.
        #[source]
        source: TargetError,
    },
    /// Pieces that were read could not be kept for slower boards, or not be read again.
    #[error("cannot keep what was read of the image for slower boards")]
    Spill {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A piece is needed a second time, and the source cannot be read twice.
    #[error("{extent} of the image are needed again, and the source cannot be read twice")]
    SourceGone {
        /// Where.
        extent: ByteRange,
    },
    /// A piece could not be packed.
    #[error("cannot compress a piece of the image")]
    Pack {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A pack file cannot be used, or is damaged.
    #[error(transparent)]
    PackFile(Box<PackError>),
    /// A pack file cannot be written.
    #[error("cannot write the pack file")]
    PackWrite {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The plan is not one of the pack file that is to be flashed: a defect of whoever made the job.
    #[error("the plan was made for another image than the pack file {name}")]
    PlanOfAnother {
        /// The pack file.
        name: String,
    },
    /// A board must be told lengths, and this image's is known only once it is unpacked.
    #[error("the length of {name} is not known before it is unpacked")]
    LengthUnknown {
        /// The image's name.
        name: String,
    },
    /// The map's ranges do not begin and end at sectors.
    #[error("the block map's ranges are aligned to {alignment} bytes only, and boards write sectors of 512")]
    Unaligned {
        /// To what they are aligned.
        alignment: u64,
    },
    /// The image is too large to be described to a board.
    #[error(transparent)]
    Layout(#[from] bmap::sparse::split::LayoutError),
    /// The image cannot be cut for a board.
    #[error(transparent)]
    Split(#[from] bmap::sparse::split::SplitError),
    /// Somebody asked the job to stop.
    #[error("stopped on request")]
    Cancelled,
    /// A worker thread panicked: a defect of ours, reported rather than passed on.
    #[error("internal error: the {thread} thread panicked")]
    Panicked {
        /// Which.
        thread: &'static str,
    },
}

/// A mapped range whose bytes are not what the map says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeMismatch {
    /// The range in blocks.
    pub blocks: BlockRange,
    /// The same in bytes.
    pub extent: ByteRange,
    /// The map's digest.
    pub expected: Digest,
    /// The image's.
    pub found: Digest,
}

impl std::fmt::Display for RangeMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { blocks, extent, expected, found } = self;
        let algorithm = expected.algorithm();
        write!(
            f,
            "the image does not match its block map: {} {blocks} ({extent}) {} {algorithm} {found}, the map says {expected}",
            if blocks.first() == blocks.last() { "block" } else { "blocks" },
            if blocks.first() == blocks.last() { "has" } else { "have" },
        )
    }
}

/// A size in bytes, with the unit in front that fits where it is large.
pub(crate) fn sized(bytes: u64) -> String {
    let (unit, factor) = match bytes {
        0x4000_0000.. => ("GiB", 1_u64 << 30),
        0x10_0000.. => ("MiB", 1 << 20),
        _ => return format!("{bytes} bytes"),
    };
    let tenths = (u128::from(bytes) * 10 + u128::from(factor) / 2) / u128::from(factor);
    format!("{}.{} {unit} ({bytes} bytes)", tenths / 10, tenths % 10)
}

pub(crate) fn listed(ranges: &[ByteRange]) -> String {
    const NAMED: usize = 8;
    let mut text = ranges.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if ranges.len() > NAMED {
        text.push_str(&format!(" and {} more", ranges.len() - NAMED));
    }
    text
}

fn not_held(target: &str, pieces: &[ByteRange], attempts: u32, rewritable: bool) -> String {
    let again = match (rewritable, attempts) {
        (false, _) => " (the source cannot be read twice, so they could not be written again)".to_owned(),
        (true, 1) => ", also after writing them again".to_owned(),
        (true, n) => format!(", also after writing them again {n} times"),
    };
    format!("{target} does not hold what was written: {}{again}", listed(pieces))
}

fn differs(target: &str, ranges: &[ByteRange]) -> String {
    format!("{target} differs in {} of the ranges compared: {}", ranges.len(), listed(ranges))
}

/// What a target holds after a job ended, well or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetState {
    /// Nothing was written: it is as it was.
    Unchanged,
    /// `written` bytes of the new image are there, the head is not: it cannot boot, neither the old nor the new.
    NoHead {
        /// Bytes of the body written so far.
        written: u64,
    },
    /// `written` bytes of the new image are there, and all else is as it was: a partition, or a disk whose old head was
    /// kept on request.
    Mixed {
        /// Bytes written so far.
        written: u64,
    },
    /// The body is complete, the head is being written: it may hold part of it.
    HeadIncomplete,
    /// Everything was written; nothing was proven, or the proof failed.
    WrittenUnproven,
    /// Everything was written and read back right.
    Proven,
}

impl TargetState {
    /// Whether any byte of the target was changed.
    #[must_use]
    pub fn changed(self) -> bool {
        self != Self::Unchanged
    }

    /// The state's name in machine-readable output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::NoHead { .. } => "no_head",
            Self::Mixed { .. } => "mixed",
            Self::HeadIncomplete => "head_incomplete",
            Self::WrittenUnproven => "written_unproven",
            Self::Proven => "proven",
        }
    }
}

impl std::fmt::Display for TargetState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unchanged => f.write_str("the target was not changed"),
            Self::NoHead { written } => write!(
                f,
                "the target holds part of the new image ({written} bytes) and no partition table or loader: it does not boot"
            ),
            Self::Mixed { written } => write!(
                f,
                "the target holds part of the new image ({written} bytes) among what it held before: do not use it"
            ),
            Self::HeadIncomplete => f.write_str(
                "the target holds the new image but for its head (partition table and loader), which is incomplete",
            ),
            Self::WrittenUnproven => f.write_str("the target was written completely but not proven"),
            Self::Proven => f.write_str("the target holds the image, read back and proven"),
        }
    }
}

/// A job that failed: why, and what the target holds now.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// Why.
    #[source]
    pub error: Box<FlashError>,
    /// What the target holds.
    pub state: TargetState,
}
