//! [`BlockMap`]: sorted, disjoint, inside the image, by construction.

use crate::digest::{Algorithm, Digest};
use crate::units::{BlockRange, BlockSize, ByteRange};

/// A run of mapped blocks and, where the map carries one, the digest of its bytes.
///
/// The digest covers the bytes that exist: in the last block of an image whose size is no multiple of the block size,
/// only those before the image's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedRange {
    /// The blocks.
    pub blocks: BlockRange,
    /// The digest of their bytes.
    pub digest: Option<Digest>,
}

/// Which blocks of an image hold data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    image_size: u64,
    block_size: BlockSize,
    ranges: Vec<MappedRange>,
    mapped_blocks: u64,
    mapped_bytes: u64,
}

/// Why ranges make no map. Each names the offending range by its place in the list, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A range begins before the one in front of it ends, or is the same again.
    #[error("range {index} (blocks {range}) overlaps or comes before the range in front of it (blocks {previous})")]
    OutOfOrder {
        /// Place in the list.
        index: usize,
        /// The range there.
        range: BlockRange,
        /// The range in front of it.
        previous: BlockRange,
    },
    /// A range reaches past the image.
    #[error("range {index} (blocks {range}) reaches past the image, which has {blocks} blocks")]
    OutsideImage {
        /// Place in the list.
        index: usize,
        /// The range there.
        range: BlockRange,
        /// How many blocks the image has.
        blocks: u64,
    },
    /// Ranges carry digests of more than one kind.
    #[error("range {index} (blocks {range}) carries a {found} digest where others are {expected}")]
    MixedDigests {
        /// Place in the list.
        index: usize,
        /// The range there.
        range: BlockRange,
        /// Its kind of digest.
        found: Algorithm,
        /// The kind of those before.
        expected: Algorithm,
    },
}

impl BlockMap {
    /// A map of an image of `image_size` bytes. `ranges` must ascend, must not overlap (they may touch) and must lie
    /// inside the image; their digests, where present, must all be of one kind.
    ///
    /// # Errors
    /// [`MapError`] names the first range that breaks a rule.
    pub fn new(image_size: u64, block_size: BlockSize, ranges: Vec<MappedRange>) -> Result<Self, MapError> {
        let blocks = block_size.blocks_for(image_size);
        let mut previous: Option<BlockRange> = None;
        let mut algorithm: Option<Algorithm> = None;
        let (mut mapped_blocks, mut mapped_bytes) = (0_u64, 0_u64);
        for (index, &MappedRange { blocks: range, digest }) in ranges.iter().enumerate() {
            if let Some(previous) = previous.filter(|previous| range.first() <= previous.last()) {
                return Err(MapError::OutOfOrder { index, range, previous });
            }
            let bytes = (range.last() < blocks).then(|| range.bytes(block_size, image_size)).flatten();
            let Some(bytes) = bytes else {
                return Err(MapError::OutsideImage { index, range, blocks });
            };
            if let Some(found) = digest.map(|digest| digest.algorithm()) {
                let expected = *algorithm.get_or_insert(found);
                if found != expected {
                    return Err(MapError::MixedDigests { index, range, found, expected });
                }
            }
            // Neither sum can overflow: ranges are disjoint and inside an image whose blocks and bytes fit 64 bits.
            mapped_blocks += range.count();
            mapped_bytes += bytes.len();
            previous = Some(range);
        }
        Ok(Self { image_size, block_size, ranges, mapped_blocks, mapped_bytes })
    }

    /// Length of the image in bytes; not necessarily a multiple of the block size.
    #[must_use]
    pub fn image_size(&self) -> u64 {
        self.image_size
    }

    /// Size of a block.
    #[must_use]
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// Number of blocks in the image, the last one perhaps partly filled.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.block_size.blocks_for(self.image_size)
    }

    /// Number of mapped blocks.
    #[must_use]
    pub fn mapped_blocks(&self) -> u64 {
        self.mapped_blocks
    }

    /// Number of image bytes in mapped blocks.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.mapped_bytes
    }

    /// The mapped ranges, ascending and disjoint.
    #[must_use]
    pub fn ranges(&self) -> &[MappedRange] {
        &self.ranges
    }

    /// What the ranges' digests are made with; `None` when no range carries one.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.ranges.iter().find_map(|range| range.digest).map(|digest| digest.algorithm())
    }

    /// The bytes of blocks of this map, cut at the image's end.
    #[must_use]
    pub fn bytes_of(&self, blocks: BlockRange) -> ByteRange {
        // A range of this map always has bytes; for a stranger's, "none at the end" is the honest answer.
        blocks
            .bytes(self.block_size, self.image_size)
            .unwrap_or_else(|| ByteRange::at(self.image_size, 0).unwrap_or(ByteRange::first(0)))
    }

    /// The mapped ranges in bytes, with their digests.
    pub fn mapped(&self) -> impl DoubleEndedIterator<Item = (ByteRange, Option<Digest>)> + ExactSizeIterator + '_ {
        self.ranges.iter().map(|range| (self.bytes_of(range.blocks), range.digest))
    }

    /// What lies between the mapped ranges, and before and behind them, in bytes.
    pub fn holes(&self) -> impl Iterator<Item = ByteRange> + '_ {
        let ends = std::iter::once(0).chain(self.mapped().map(|(bytes, _)| bytes.end()));
        let starts = self.mapped().map(|(bytes, _)| bytes.start()).chain(std::iter::once(self.image_size));
        ends.zip(starts).filter_map(|(end, start)| ByteRange::new(end, start)).filter(|hole| !hole.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hasher;

    fn range(first: u64, last: u64) -> MappedRange {
        MappedRange { blocks: BlockRange::new(first, last).unwrap(), digest: None }
    }

    fn map(size: u64, ranges: Vec<MappedRange>) -> Result<BlockMap, MapError> {
        BlockMap::new(size, BlockSize::DEFAULT, ranges)
    }

    #[test]
    fn counts_and_holes() {
        let map = map(10 * 4096 + 1, vec![range(1, 2), range(3, 3), range(10, 10)]).unwrap();
        assert_eq!((map.blocks(), map.mapped_blocks(), map.mapped_bytes()), (11, 4, 3 * 4096 + 1));
        let holes: Vec<_> = map.holes().map(|hole| (hole.start(), hole.end())).collect();
        assert_eq!(holes, [(0, 4096), (4 * 4096, 10 * 4096)]);
    }

    #[test]
    fn an_image_without_data_is_one_hole() {
        let map = map(5, vec![]).unwrap();
        assert_eq!(map.holes().collect::<Vec<_>>(), [ByteRange::first(5)]);
        assert_eq!(map.mapped_blocks(), 0);
    }

    #[test]
    fn unsorted_overlapping_and_outside_ranges_are_refused() {
        assert!(matches!(map(40960, vec![range(3, 4), range(1, 1)]), Err(MapError::OutOfOrder { index: 1, .. })));
        assert!(matches!(map(40960, vec![range(3, 4), range(4, 5)]), Err(MapError::OutOfOrder { index: 1, .. })));
        assert!(matches!(map(40960, vec![range(3, 10)]), Err(MapError::OutsideImage { index: 0, blocks: 10, .. })));
        assert!(matches!(map(0, vec![range(0, 0)]), Err(MapError::OutsideImage { .. })));
        assert!(matches!(map(u64::MAX, vec![range(0, u64::MAX)]), Err(MapError::OutsideImage { .. })));
    }

    #[test]
    fn digests_are_of_one_kind() {
        let one = MappedRange { digest: Some(Hasher::digest(Algorithm::Sha1, b"")), ..range(0, 0) };
        let two = MappedRange { digest: Some(Hasher::digest(Algorithm::Sha256, b"")), ..range(1, 1) };
        assert!(matches!(map(40960, vec![one, two]), Err(MapError::MixedDigests { index: 1, .. })));
        assert_eq!(map(40960, vec![range(0, 0), two]).unwrap().algorithm(), Some(Algorithm::Sha256));
    }
}
