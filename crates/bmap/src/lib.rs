//! What to write: which blocks of a disk image hold data.
//!
//! A [`BlockMap`] names the mapped ranges of an image and, where they are known, their digests. It comes from bmap
//! XML ([`xml`]), from the holes of a file ([`holes`]) or from code; however it is made, its ranges are sorted,
//! disjoint and inside the image. [`sparse`] turns maps into Android sparse images and back.
//!
//! This crate is pure: it reads what it is given, starts no threads and prints nothing.

pub mod digest;
pub mod holes;
pub mod map;
pub mod units;
pub mod xml;

pub use digest::{Algorithm, Digest, Hasher};
pub use map::{BlockMap, MapError, MappedRange};
pub use units::{BlockRange, BlockSize, ByteRange};
