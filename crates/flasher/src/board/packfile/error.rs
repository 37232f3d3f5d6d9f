//! What can be wrong with a pack file.

use std::io;

use bmap::{ByteRange, MapError};

/// Why a pack file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// It cannot be read.
    #[error("cannot read the pack file {name}")]
    Read {
        /// The file.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It does not begin as pack files do.
    #[error("{name} is no pack file")]
    NotAPack {
        /// The file.
        name: String,
    },
    /// It is of another version.
    #[error(
        "the pack file is of version {found}, and this program reads version {}: pack the image again",
        super::VERSION
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// Its header is damaged.
    #[error("the header of the pack file is damaged")]
    Header,
    /// It is longer or shorter than its header says.
    #[error("the pack file has {found} bytes and should have {expected}: it was cut off, or something was appended")]
    Length {
        /// Bytes by its header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Its index is longer than any we write.
    #[error("the index of a pack file has at most {} bytes, and this one would have {found}", super::MAX_INDEX)]
    IndexTooLong {
        /// Bytes it has.
        found: u64,
    },
    /// Its index does not have the digest that the header names.
    #[error("the index of the pack file is damaged")]
    IndexDigest,
    /// Its index makes no sense.
    #[error("the index of the pack file makes no sense: {what}")]
    Index {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The block map in its index is none.
    #[error("the index of the pack file makes no sense")]
    Map(#[from] MapError),
    /// A piece does not unpack to what the index says.
    #[error("the pack file is damaged: {extent} of the image do not have the CRC-32 they had when they were packed")]
    Damaged {
        /// Which bytes of the image.
        extent: ByteRange,
    },
}
