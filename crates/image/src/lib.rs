//! Disk images: where an image's bytes come from.
//!
//! An [`Image`] is a file, a block device or standard input, raw or packed by gzip, zstd, xz or bzip2. What it is gets
//! decided by its first bytes, never by its name. [`Image::read`] turns it into an [`ImageReader`]: the unpacked bytes
//! in order, with a [`skip_to`](ImageReader::skip_to) that passes over what nobody wants as cheaply as the container
//! allows.
//!
//! | packing | skipping a hole | on several cores |
//! | --- | --- | --- |
//! | raw file or device | free: reads happen only where wanted | no need |
//! | gzip | inflated and dropped | no |
//! | zstd | frames are left out where all lengths are declared; inside a frame, decoded and dropped | frames |
//! | xz | blocks are left out by the index at the end | blocks |
//! | bzip2 | blocks are decoded and dropped; repeated blocks of zeros only once | blocks |
//!
//! Standard input cannot be read from its end, so there only bzip2 keeps its parallel decoding.
//!
//! What is decoded is checked by everything its container carries (CRC, length, hash), with one exception: the seek
//! table of the seekable zstd format is used, and its checksums are verified, only for a file of several frames. A stream
//! and a single frame are checked by what the frames themselves carry. An error of reading, decoding or length is an
//! [`ImageError`], never the end of the image.
//!
//! What is left out is not checked, but its length decides where everything behind it lies. It is held to what the file
//! tells of it elsewhere: a zstd frame's blocks, an xz block's own header. A file made to lie within what those allow,
//! or an xz file without sizes in its headers, can move wanted data unseen; the digests of a block map find that.
//!
//! Left out on purpose: archives that hold an image, network sources, and everything about what the bytes mean.

pub mod buffer;
mod bzip2;
mod crew;
mod error;
mod gzip;
mod image;
mod input;
mod merge;
mod num;
mod options;
mod raw;
mod reader;
mod sniff;
mod streaming;
pub mod table;
mod xz;
mod zstd;

pub use buffer::{AlignedBuffer, BufferPool};
pub use error::ImageError;
pub use image::{Image, MAX_HEAD};
pub use options::{Format, Options, Wanted};
pub use reader::ImageReader;
pub use sniff::{Kind, PACK_MAGIC, SNIFF_LEN, sniff};
