//! Android sparse images: a flat image as a list of chunks, each raw bytes, a repeated pattern, or nothing at all.
//!
//! Fastboot devices take images in this form, cut into several that each fit their download buffer. Here are the
//! headers ([`header`]), reading ([`parse`]), the planning of such cuts ([`mod@split`]), making ([`mod@make`]) and turning back
//! into a flat image ([`mod@apply`]). Sending is for others.
//!
//! # The format
//! Everything is little-endian. A file header of 28 bytes, then chunks, each a header of 12 bytes and its data:
//!
//! | offset | file header | offset | chunk header |
//! | --- | --- | --- | --- |
//! | 0 | u32 magic, 0xED26FF3A | 0 | u16 type |
//! | 4 | u16 major version, 1 | 2 | u16 reserved |
//! | 6 | u16 minor version, 0 | 4 | u32 blocks in the flat image |
//! | 8 | u16 length of the file header | 8 | u32 bytes in the file, this header included |
//! | 10 | u16 length of a chunk header | | |
//! | 12 | u32 block size in bytes, a multiple of 4 | | |
//! | 16 | u32 blocks in the flat image | | |
//! | 20 | u32 number of chunks | | |
//! | 24 | u32 CRC-32 of the flat image, 0 for none | | |
//!
//! | type | chunk | data |
//! | --- | --- | --- |
//! | 0xCAC1 | RAW | the bytes of its blocks |
//! | 0xCAC2 | FILL | 4 bytes that repeat through its blocks |
//! | 0xCAC3 | DONT_CARE | none: its blocks stay as they are |
//! | 0xCAC4 | CRC32 | 4 bytes, the CRC-32 of the flat image so far; 0 blocks |
//!
//! The lengths in the file header may be greater than 28 and 12, for fields to come; what is longer is passed over. There
//! is no way to say that an image ends inside a block: the last one is padded. Source: `sparse_format.h` of AOSP's
//! libsparse, and img2simg and simg2img 29.0.6 for what is tolerated.
//!
//! # Checksums
//! They are counted and not verified, because nobody agrees what they are of. AOSP's libsparse (`output_file.cpp`) leaves
//! DONT_CARE blocks out of the sum it writes and counts one block of a FILL chunk, however many it has; a device whose
//! DONT_CARE blocks stay as they are has a flat image of which nobody can have summed the bytes. Its header's field is
//! always 0, and simg2img 29.0.6 takes images in which both are wrong. A digest in the block map is the way to know.
//!
//! # What we write, and why
//! U-Boot (2023 to 2025) skips a longer file header twice, does not pass over the data of a CRC32 chunk, and fails an
//! image, after writing it all, whose chunks do not add up to the header's blocks. So what is made here has headers of
//! 28 and 12 bytes, no CRC32 chunk, and DONT_CARE chunks that lead up to the first block and from the last one to the end.

pub mod apply;
pub mod header;
pub mod make;
pub mod parse;
pub mod split;

pub use apply::{Applied, apply};
pub use header::{ChunkHeader, ChunkKind, FileHeader, MAGIC};
pub use make::{MakeError, make, write_split};
pub use parse::{Chunk, Content, Parser, SparseError};
pub use split::{Extent, ExtentKind, Layout, LayoutError, Payload, PlannedChunk, Split, SplitError, split, whole};

/// Whether a file that begins with these bytes is an Android sparse image.
#[must_use]
pub fn looks_like_sparse(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(&MAGIC.to_le_bytes())
}
