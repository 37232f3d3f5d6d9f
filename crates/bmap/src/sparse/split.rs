//! Cutting an image into sparse images that each fit a size limit: a plan, made without looking at any data.
//!
//! A [`Split`] is one complete sparse image. It leads up to its first block with DONT_CARE and from its last one to the
//! image's end, because a device starts each sparse image at block 0 and wants its chunks to add up. Applied one after
//! another, in any order, the splits of a [`Layout`] give the image.

use super::header::{ChunkHeader, ChunkKind, FileHeader};
use crate::map::BlockMap;
use crate::units::{BlockRange, BlockSize, ByteRange};

/// What a run of blocks holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes of the image.
    Data,
    /// These bytes, over and over. Zeros cost no bytes to carry, though the device writes them like any others.
    Fill([u8; 4]),
}

/// A run of blocks that a device has to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The blocks.
    pub blocks: BlockRange,
    /// What they hold.
    pub kind: ExtentKind,
}

/// What to write where: extents ascending, disjoint, inside an image that sparse headers can describe. All between them
/// is DONT_CARE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    image_size: u64,
    block_size: BlockSize,
    /// Blocks in the image.
    blocks: u32,
    extents: Vec<Extent>,
}

/// Why extents make no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A block size that sparse images cannot have.
    #[error("blocks of {0} bytes do not fit a sparse image: its block size is a multiple of 4")]
    BlockSize(BlockSize),
    /// More blocks than 32 bits count.
    #[error("an image of {blocks} blocks of {block_size} bytes does not fit a sparse image, which counts in 32 bits")]
    TooManyBlocks {
        /// Blocks in the image.
        blocks: u64,
        /// Their size.
        block_size: BlockSize,
    },
    /// An extent that does not come behind the one in front of it.
    #[error("extent {index} (blocks {blocks}) overlaps or comes before the one in front of it")]
    OutOfOrder {
        /// Place in the list, counted from 0.
        index: usize,
        /// Its blocks.
        blocks: BlockRange,
    },
    /// An extent past the image.
    #[error("extent {index} (blocks {blocks}) reaches past the image, which has {total} blocks")]
    OutsideImage {
        /// Place in the list, counted from 0.
        index: usize,
        /// Its blocks.
        blocks: BlockRange,
        /// Blocks in the image.
        total: u32,
    },
}

impl Layout {
    /// A layout of an image of `image_size` bytes.
    ///
    /// # Errors
    /// [`LayoutError`] names the first thing that does not fit.
    pub fn new(image_size: u64, block_size: BlockSize, extents: Vec<Extent>) -> Result<Self, LayoutError> {
        if !block_size.get().is_multiple_of(4) {
            return Err(LayoutError::BlockSize(block_size));
        }
        let blocks = block_size.blocks_for(image_size);
        let total = u32::try_from(blocks).map_err(|_| LayoutError::TooManyBlocks { blocks, block_size })?;
        let mut next = 0;
        for (index, Extent { blocks, .. }) in extents.iter().enumerate() {
            let blocks = *blocks;
            if blocks.first() < next {
                return Err(LayoutError::OutOfOrder { index, blocks });
            }
            if blocks.last() >= u64::from(total) {
                return Err(LayoutError::OutsideImage { index, blocks, total });
            }
            next = blocks.last() + 1;
        }
        Ok(Self { image_size, block_size, blocks: total, extents })
    }

    /// The layout that carries what a map has mapped.
    ///
    /// # Errors
    /// [`LayoutError`] when the map's blocks are not fit for sparse images.
    pub fn of_map(map: &BlockMap) -> Result<Self, LayoutError> {
        let data = |range: &crate::MappedRange| Extent { blocks: range.blocks, kind: ExtentKind::Data };
        Self::new(map.image_size(), map.block_size(), map.ranges().iter().map(data).collect())
    }

    /// The runs to write.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Size of the image in bytes.
    #[must_use]
    pub fn image_size(&self) -> u64 {
        self.image_size
    }

    /// Size of a block.
    #[must_use]
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }
}

/// What follows a chunk's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// These bytes of the image and then so many zeros, as the image may end inside its last block.
    Data {
        /// Where in the image.
        bytes: ByteRange,
        /// Zeros behind them, fewer than a block.
        padding: u32,
    },
    /// These four bytes.
    Fill([u8; 4]),
    /// Nothing.
    DontCare,
}

/// One chunk of a [`Split`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedChunk {
    /// Its header.
    pub header: ChunkHeader,
    /// What follows the header.
    pub payload: Payload,
}

/// One sparse image of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    header: FileHeader,
    chunks: Vec<PlannedChunk>,
    len: u64,
    /// From the first block written to the last.
    blocks: Option<BlockRange>,
}

impl Split {
    /// Its file header.
    #[must_use]
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Its chunks, in order.
    #[must_use]
    pub fn chunks(&self) -> &[PlannedChunk] {
        &self.chunks
    }

    /// Its length in bytes, headers included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no split is ever empty: it has a header")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// From the first block that is written to the last; `None` when none is.
    #[must_use]
    pub fn blocks(&self) -> Option<BlockRange> {
        self.blocks
    }
}

/// Why an image cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// Not even one block fits.
    #[error("a sparse image of at most {limit} bytes cannot carry a block: that takes {least}")]
    Limit {
        /// The limit in bytes.
        limit: u64,
        /// What a single block takes, with headers.
        least: u64,
    },
    /// More chunks than one header counts.
    #[error("one sparse image cannot have so many chunks")]
    TooManyChunks,
}

const FILE_HEADER: u64 = 28;
const CHUNK_HEADER: u64 = 12;
/// File header, DONT_CARE before, DONT_CARE behind.
const FRAME: u64 = FILE_HEADER + 2 * CHUNK_HEADER;

/// Cuts a layout into sparse images of at most `limit` bytes each, headers included. Fills one before it starts the next,
/// so each but the last is short of the limit by less than a block and two chunk headers. Nothing to write gives no
/// splits.
///
/// # Errors
/// [`SplitError::Limit`] when a single block would be too much.
pub fn split(layout: &Layout, limit: u64) -> Result<Vec<Split>, SplitError> {
    let mut splits = Vec::new();
    let mut open = Open::new(layout);
    for extent in &layout.extents {
        let mut next = extent.blocks.first();
        while next <= extent.blocks.last() {
            let left = extent.blocks.last() - next + 1;
            let taken = open.take(next, left, extent.kind, limit);
            if taken == 0 {
                if open.chunks.is_empty() {
                    return Err(SplitError::Limit { limit, least: FRAME + CHUNK_HEADER + layout.block_size.bytes() });
                }
                splits.push(std::mem::replace(&mut open, Open::new(layout)).finish());
            }
            next += taken;
        }
    }
    if !open.chunks.is_empty() {
        splits.push(open.finish());
    }
    Ok(splits)
}

/// The whole layout as one sparse image, however long; without extents, one that is all DONT_CARE.
///
/// # Errors
/// [`SplitError::TooManyChunks`] past 32 bits of them.
pub fn whole(layout: &Layout) -> Result<Split, SplitError> {
    let mut splits = split(layout, u64::MAX)?;
    match (splits.pop(), splits.is_empty()) {
        (None, _) => Ok(Open::new(layout).finish()),
        (Some(split), true) => Ok(split),
        (Some(_), false) => Err(SplitError::TooManyChunks),
    }
}

/// A split being filled.
struct Open<'a> {
    layout: &'a Layout,
    chunks: Vec<PlannedChunk>,
    /// Bytes so far.
    len: u64,
    /// Blocks covered so far.
    position: u64,
    first: Option<u64>,
}

impl<'a> Open<'a> {
    /// Chunks that a header can count, less one for the end.
    const MOST_CHUNKS: usize = 1 << 30;

    fn new(layout: &'a Layout) -> Self {
        Self { layout, chunks: Vec::new(), len: FILE_HEADER, position: 0, first: None }
    }

    /// Takes as many of `left` blocks from `next` on as fit, and says how many; changes nothing when that is none.
    fn take(&mut self, next: u64, left: u64, kind: ExtentKind, limit: u64) -> u64 {
        let block = self.layout.block_size.bytes();
        let gap = next - self.position;
        let before = self.len + if gap > 0 { CHUNK_HEADER } else { 0 };
        // Room for the data of one chunk; the DONT_CARE to the image's end is always provided for.
        let room = limit.saturating_sub(before + 2 * CHUNK_HEADER);
        let taken = match kind {
            // A chunk's length in bytes is a number of 32 bits.
            ExtentKind::Data => left.min(room / block).min((u64::from(u32::MAX) - CHUNK_HEADER) / block),
            ExtentKind::Fill(_) => {
                if room < 4 {
                    0
                } else {
                    left
                }
            }
        };
        if taken == 0 || self.chunks.len() > Self::MOST_CHUNKS {
            return 0;
        }
        self.dont_care(gap);
        let (kind, payload) = match kind {
            ExtentKind::Data => (ChunkKind::Raw, self.data(next, taken)),
            ExtentKind::Fill(pattern) => (ChunkKind::Fill, Payload::Fill(pattern)),
        };
        self.push(kind, taken, payload);
        self.first.get_or_insert(next);
        taken
    }

    fn data(&self, next: u64, taken: u64) -> Payload {
        let block = self.layout.block_size.bytes();
        // Inside the image by the layout's construction, so these products fit.
        let (start, end) = (next * block, (next + taken) * block);
        let bytes = ByteRange::first(self.layout.image_size);
        let bytes = ByteRange::new(start, end).and_then(|range| range.intersect(bytes)).unwrap_or(bytes);
        Payload::Data { bytes, padding: u32::try_from(end - bytes.end()).unwrap_or(0) }
    }

    fn dont_care(&mut self, blocks: u64) {
        if blocks > 0 {
            self.push(ChunkKind::DontCare, blocks, Payload::DontCare);
        }
    }

    fn push(&mut self, kind: ChunkKind, blocks: u64, payload: Payload) {
        // Blocks are at most the layout's, which are a number of 32 bits; lengths were bounded when taken.
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let Some(header) = ChunkHeader::new(kind, blocks, self.layout.block_size) else { return };
        self.chunks.push(PlannedChunk { header, payload });
        self.len += u64::from(header.total_len);
        self.position += u64::from(blocks);
    }

    fn finish(mut self) -> Split {
        let last = self.position.checked_sub(1);
        let blocks = self.first.zip(last).and_then(|(first, last)| BlockRange::new(first, last));
        self.dont_care(u64::from(self.layout.blocks).saturating_sub(self.position));
        let header = FileHeader {
            minor: 0,
            header_len: FileHeader::LEN,
            chunk_header_len: ChunkHeader::LEN,
            block_size: self.layout.block_size,
            blocks: self.layout.blocks,
            chunks: u32::try_from(self.chunks.len()).unwrap_or(u32::MAX),
            checksum: 0,
        };
        Split { header, chunks: self.chunks, len: self.len, blocks }
    }
}
