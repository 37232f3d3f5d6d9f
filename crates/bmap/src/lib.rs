//! What to write: which blocks of a disk image hold data.
//!
//! A [`BlockMap`] names the mapped ranges of an image and, where they are known, their digests. It comes from bmap
//! XML ([`xml`]), from the holes of a file ([`holes`]) or from code; however it is made, its ranges are sorted,
//! disjoint and inside the image. [`sparse`] turns maps into Android sparse images and back.
//!
//! This crate is pure: it reads what it is given, starts no threads and prints nothing.
//!
//! ```
//! use std::io::Cursor;
//! use bmap::{BlockMap, BlockRange, BlockSize, MappedRange, sparse, xml};
//!
//! // An image of 3 blocks and a bit, of which the first block and the last hold data.
//! let image: Vec<u8> = [vec![1; 4096], vec![0; 8192], vec![2; 100]].concat();
//! let mut ranges = Vec::new();
//! for block in [0, 3] {
//!     let blocks = BlockRange::new(block, block).ok_or("backwards")?;
//!     ranges.push(MappedRange { blocks, digest: None });
//! }
//! let map = BlockMap::new(12388, BlockSize::DEFAULT, ranges)?;
//! assert_eq!(map.mapped_bytes(), 4096 + 100);
//!
//! // As a bmap file, and read back.
//! let file = xml::parse(xml::write(&map).as_bytes())?;
//! assert_eq!(file.map, map);
//!
//! // As sparse images of at most 5000 bytes, which put together give the image again.
//! let splits = sparse::split(&sparse::Layout::of_map(&map)?, 5000)?;
//! assert_eq!(splits.len(), 2);
//! let mut device = Cursor::new(vec![0; 4 * 4096]);
//! for split in &splits {
//!     let mut bytes = Vec::new();
//!     sparse::write_split(split, &mut Cursor::new(&image), &mut bytes)?;
//!     sparse::apply(bytes.as_slice(), &mut device, 1 << 20)?;
//! }
//! assert_eq!(device.get_ref()[..image.len()], image);
//!
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod digest;
pub mod holes;
pub mod map;
pub mod sparse;
pub mod units;
pub mod xml;

pub use digest::{Algorithm, Digest, Hasher};
pub use map::{BlockMap, MapError, MappedRange};
pub use units::{BlockRange, BlockSize, ByteRange};
