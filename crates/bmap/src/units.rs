//! Blocks and bytes: the only place that multiplies one into the other, always checked.

use std::fmt;
use std::num::NonZeroU32;

/// Size of a block in bytes: 1 to [`BlockSize::MAX`]. It need not be a power of two; the bmap format allows any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockSize(NonZeroU32);

impl BlockSize {
    /// The largest block we accept, 1 GiB: far above any filesystem's, low enough to keep sums small.
    pub const MAX: u32 = 1 << 30;

    /// 4096 bytes, what nearly every map uses.
    pub const DEFAULT: BlockSize = match BlockSize::new(4096) {
        Some(size) => size,
        None => unreachable!(),
    };

    /// A block size of `bytes`, or `None` outside 1 to [`BlockSize::MAX`].
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes > Self::MAX {
            return None;
        }
        match NonZeroU32::new(bytes) {
            Some(size) => Some(Self(size)),
            None => None,
        }
    }

    /// The size in bytes.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The size in bytes, as the type that offsets have.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0.get())
    }

    /// How many blocks it takes to hold `bytes`; the last one may be partly filled.
    #[must_use]
    pub fn blocks_for(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.bytes())
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of blocks, first and last both included, as bmap files write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRange {
    first: u64,
    last: u64,
}

impl BlockRange {
    /// Blocks `first` to `last`, both included; `None` if `first` is greater.
    #[must_use]
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        if first > last { None } else { Some(Self { first, last }) }
    }

    /// The first block's number.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The last block's number.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// How many blocks; at least 1. Saturates for the one range that names all 2⁶⁴ blocks.
    #[must_use]
    pub const fn count(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// The bytes of these blocks inside an image of `image_size` bytes: the last block of an image may be cut short.
    /// `None` when the first block begins at or past the image's end.
    #[must_use]
    pub fn bytes(self, block_size: BlockSize, image_size: u64) -> Option<ByteRange> {
        let start = self.first.checked_mul(block_size.bytes())?;
        if start >= image_size {
            return None;
        }
        let end = self.last.checked_add(1).and_then(|end| end.checked_mul(block_size.bytes()));
        ByteRange::new(start, end.map_or(image_size, |end| end.min(image_size)))
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A run of bytes: `start` included, `end` not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// Bytes `start` up to but without `end`; `None` if `start` is greater.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start > end { None } else { Some(Self { start, end }) }
    }

    /// `len` bytes from `start` on; `None` if the end does not fit 64 bits.
    #[must_use]
    pub const fn at(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// The first `len` bytes.
    #[must_use]
    pub const fn first(len: u64) -> Self {
        Self { start: 0, end: len }
    }

    /// Offset of the first byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Offset just past the last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes in both; `None` when there are none.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        if start < end { Some(Self { start, end }) } else { None }
    }

    /// Whether every byte of `other` is here too.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_of_an_image_may_be_short() {
        let range = BlockRange::new(1, 2).unwrap();
        let bytes = range.bytes(BlockSize::DEFAULT, 8193).unwrap();
        assert_eq!((bytes.start(), bytes.end()), (4096, 8193));
        assert_eq!(range.bytes(BlockSize::DEFAULT, 4096), None);
    }

    #[test]
    fn multiplication_past_64_bits_is_refused_or_clipped() {
        let huge = BlockRange::new(u64::MAX - 1, u64::MAX).unwrap();
        assert_eq!(huge.bytes(BlockSize::DEFAULT, u64::MAX), None);
        let open = BlockRange::new(0, u64::MAX).unwrap();
        assert_eq!(open.bytes(BlockSize::DEFAULT, 10).unwrap().len(), 10);
        assert_eq!(open.count(), u64::MAX);
    }

    #[test]
    fn block_sizes_have_bounds() {
        assert!(BlockSize::new(0).is_none());
        assert!(BlockSize::new(BlockSize::MAX + 1).is_none());
        assert_eq!(BlockSize::new(1000).unwrap().blocks_for(2001), 3);
    }

    #[test]
    fn ranges_print_as_bmap_files_write_them() {
        assert_eq!(BlockRange::new(7, 7).unwrap().to_string(), "7");
        assert_eq!(BlockRange::new(7, 9).unwrap().to_string(), "7-9");
    }
}
