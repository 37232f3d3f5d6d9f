//! The index of a pack file: what the image is, and where each of its pieces lies. What parses is consistent.

use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, ByteRange, Digest, MappedRange};

use super::PackError;
use crate::board::fill::{self, Fill};
use crate::board::place::To;
use crate::board::prepare::{Outline, Wishes};
use crate::plan::{Content, Kind, Piece, Plan};

/// The most pieces an image may have, holes and all: planning takes memory for each.
const MAX_PIECES: u64 = 1 << 22;
/// The most loaders an image may have.
const MAX_LOADERS: usize = 16;
/// Payload begins at multiples of this.
pub(super) const SECTOR: u64 = 512;
/// Bytes of a piece's record.
const RECORD: usize = 72;
/// Bytes of a run's.
const RUN: usize = 12;

/// The digests of ranges by their numbers in the file, beginning at 1.
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Sha1, Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

/// Where the image that was packed has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Anywhere.
    Anywhere,
    /// In these extents; all else is zero.
    Extents(Vec<ByteRange>),
    /// In the ranges of its block map; all else may hold anything.
    Map(BlockMap),
}

/// How the bytes of a piece are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As they are, from this byte of the file on.
    Raw {
        /// Where.
        at: u64,
    },
    /// As an LZ4 frame.
    Lz4 {
        /// Where.
        at: u64,
        /// Bytes of the frame; fewer than those of the piece.
        len: u32,
        /// CRC-32 of the frame.
        crc32: u32,
    },
    /// Not at all: they are one word over and over.
    Word([u8; 4]),
}

/// A piece of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where in the image.
    pub extent: ByteRange,
    /// How it is kept.
    pub stored: Stored,
    /// CRC-32 of its bytes.
    pub crc32: u32,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Long runs of one word in it.
    pub(crate) fills: Vec<Fill>,
}

/// What a pack file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub(super) image_size: u64,
    pub(super) head: u64,
    pub(super) piece_len: u64,
    pub(super) level: u32,
    pub(super) loaders: Vec<u64>,
    pub(super) contents: Contents,
    pub(super) entries: Vec<Entry>,
}

fn wrong(what: &'static str) -> PackError {
    PackError::Index { what }
}

impl Index {
    /// Length of the image in bytes.
    #[must_use]
    pub fn image_size(&self) -> u64 {
        self.image_size
    }

    /// Bytes in front of the first partition, which are written last.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The longest piece in bytes.
    #[must_use]
    pub fn piece_len(&self) -> u64 {
        self.piece_len
    }

    /// The level of LZ4 it was packed with, as the `lz4` tool counts them.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Where the image has data.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The image's block map, if it had one.
    #[must_use]
    pub fn map(&self) -> Option<&BlockMap> {
        match &self.contents {
            Contents::Map(map) => Some(map),
            Contents::Anywhere | Contents::Extents(_) => None,
        }
    }

    /// Every piece of data, in image order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of data.
    #[must_use]
    pub fn data(&self) -> u64 {
        self.entries.iter().map(|entry| entry.extent.len()).sum()
    }

    /// Bytes that these take in the file.
    #[must_use]
    pub fn packed(&self) -> u64 {
        self.entries.iter().map(|entry| place(entry).map_or(0, |(_, len)| len)).sum()
    }

    /// What a plan is made from.
    pub(super) fn outline(&self) -> Outline<'_> {
        let content = match &self.contents {
            Contents::Anywhere => Content::Anywhere,
            Contents::Extents(extents) => Content::Extents(extents),
            Contents::Map(map) => Content::Map(map),
        };
        Outline { image_size: self.image_size, content, head: self.head, loaders: self.loaders.clone() }
    }

    /// As bytes.
    ///
    /// # Errors
    /// [`PackError::IndexTooLong`], and [`PackError::Index`] if there is more of something than a file can hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PackError> {
        let many = |_| wrong("there are too many pieces");
        let mut bytes = Vec::new();
        let put = |bytes: &mut Vec<u8>, number: usize| -> Result<(), PackError> {
            bytes.extend(u32::try_from(number).map_err(many)?.to_le_bytes());
            Ok(())
        };
        bytes.extend(self.image_size.to_le_bytes());
        bytes.extend(self.head.to_le_bytes());
        bytes.extend(u32::try_from(self.piece_len).map_err(many)?.to_le_bytes());
        bytes.extend(self.level.to_le_bytes());
        put(&mut bytes, self.loaders.len())?;
        let (kind, count, block, algorithm) = match &self.contents {
            Contents::Anywhere => (0_u32, 0, 0, None),
            Contents::Extents(extents) => (1, extents.len(), 0, None),
            Contents::Map(map) => (2, map.ranges().len(), map.block_size().get(), map.algorithm()),
        };
        bytes.extend(kind.to_le_bytes());
        put(&mut bytes, count)?;
        bytes.extend(block.to_le_bytes());
        let number = algorithm.and_then(|algorithm| ALGORITHMS.iter().position(|known| *known == algorithm));
        put(&mut bytes, number.map_or(0, |number| number + 1))?;
        put(&mut bytes, self.entries.len())?;
        put(&mut bytes, self.entries.iter().map(|entry| entry.fills.len()).sum())?;
        put(&mut bytes, 0)?;
        self.loaders.iter().for_each(|loader| bytes.extend(loader.to_le_bytes()));
        match &self.contents {
            Contents::Anywhere => {}
            Contents::Extents(extents) => {
                for extent in extents {
                    bytes.extend(extent.start().to_le_bytes());
                    bytes.extend(extent.end().to_le_bytes());
                }
            }
            Contents::Map(map) => {
                for range in map.ranges() {
                    bytes.extend(range.blocks.first().to_le_bytes());
                    bytes.extend(range.blocks.last().to_le_bytes());
                    if let Some(algorithm) = algorithm {
                        put(&mut bytes, usize::from(range.digest.is_some()))?;
                        let none = [0; 64];
                        let digest = range.digest.as_ref().map_or(&none[..], Digest::as_bytes);
                        bytes.extend(digest.get(..algorithm.digest_len()).unwrap_or_default());
                    }
                }
            }
        }
        for entry in &self.entries {
            let (form, at, len, crc32) = match entry.stored {
                Stored::Raw { at } => (0_u32, at, u32::try_from(entry.extent.len()).map_err(many)?, entry.crc32),
                Stored::Lz4 { at, len, crc32 } => (1, at, len, crc32),
                Stored::Word(_) => (2, 0, 0, 0),
            };
            bytes.extend(entry.extent.start().to_le_bytes());
            bytes.extend(at.to_le_bytes());
            bytes.extend(u32::try_from(entry.extent.len()).map_err(many)?.to_le_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend(entry.crc32.to_le_bytes());
            bytes.extend(crc32.to_le_bytes());
            bytes.extend(form.to_le_bytes());
            put(&mut bytes, entry.fills.len())?;
            bytes.extend(entry.sha256.as_bytes());
        }
        for entry in &self.entries {
            for Fill { extent, word } in &entry.fills {
                let blocks = |bytes: u64| u32::try_from(bytes / block_len()).map_err(many);
                bytes.extend(blocks(extent.start().saturating_sub(entry.extent.start()))?.to_le_bytes());
                bytes.extend(blocks(extent.len())?.to_le_bytes());
                bytes.extend(word);
            }
        }
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if found > super::MAX_INDEX { Err(PackError::IndexTooLong { found }) } else { Ok(bytes) }
    }

    /// Reads an index whose payload lies in front of byte `end` of the file.
    ///
    /// # Errors
    /// [`PackError::Index`] and [`PackError::Map`] say what is wrong with it.
    pub fn parse(bytes: &[u8], end: u64) -> Result<Self, PackError> {
        let mut fields = Fields { rest: bytes };
        let image_size = fields.u64()?;
        let head = fields.u64()?;
        let piece_len = u64::from(fields.u32()?);
        let level = fields.u32()?;
        let loaders = fields.count()?;
        let (kind, ranges, block, algorithm) = (fields.u32()?, fields.count()?, fields.u32()?, fields.u32()?);
        let (pieces, runs) = (fields.count()?, fields.count()?);
        if fields.u32()? != 0 {
            return Err(wrong("a field that should be zero is not"));
        }
        if !piece_len.is_power_of_two() || !((64 << 10)..=Plan::MAX_PIECE).contains(&piece_len) {
            return Err(wrong("pieces cannot be so long"));
        }
        if image_size.div_ceil(piece_len) > MAX_PIECES {
            return Err(wrong("the image is too long for its pieces"));
        }
        if head > image_size || !head.is_multiple_of(block_len()) {
            return Err(wrong("the head ends outside the image, or inside a page"));
        }
        if loaders > MAX_LOADERS {
            return Err(wrong("there are too many loaders"));
        }
        let loaders = (0..loaders).map(|_| fields.u64()).collect::<Result<Vec<_>, _>>()?;
        if loaders.iter().any(|at| *at >= image_size) {
            return Err(wrong("a loader lies outside the image"));
        }
        let contents = match (kind, ranges, block, algorithm) {
            (0, 0, 0, 0) => Contents::Anywhere,
            (1, count, 0, 0) => Contents::Extents(fields.extents(count, image_size)?),
            (2, count, block, number) => {
                let block = BlockSize::new(block).ok_or_else(|| wrong("blocks cannot be so long"))?;
                let algorithm = match number.checked_sub(1) {
                    None => None,
                    Some(at) => {
                        let known = usize::try_from(at).ok().and_then(|at| ALGORITHMS.get(at));
                        Some(*known.ok_or_else(|| wrong("the kind of the ranges' digests is not known"))?)
                    }
                };
                let ranges = fields.ranges(count, algorithm)?;
                let map = BlockMap::new(image_size, block, ranges)?;
                if map.algorithm() != algorithm {
                    return Err(wrong("no range has a digest of the kind that is named"));
                }
                Contents::Map(map)
            }
            _ => return Err(wrong("where the image has data is said in no known way")),
        };
        let mut index = Self { image_size, head, piece_len, level, loaders, contents, entries: Vec::new() };
        let plan = index.plan()?;
        index.entries = fields.entries(pieces, runs, end, plan.pieces().filter(|piece| piece.kind == Kind::Data))?;
        if fields.rest.is_empty() { Ok(index) } else { Err(wrong("something follows its end")) }
    }

    /// The plan that says how the image is cut; that of every board cuts its data in the same places.
    fn plan(&self) -> Result<Plan, PackError> {
        let wishes = Wishes { piece_len: Some(self.piece_len), ..Wishes::default() };
        self.outline().plan(&To::Emmc, &wishes).map_err(|_| wrong("its pieces are not made of sectors"))
    }
}

/// Where a piece lies in the file, and how many bytes it has there; `None` for one that is not stored.
fn place(entry: &Entry) -> Option<(u64, u64)> {
    match entry.stored {
        Stored::Raw { at } => Some((at, entry.extent.len())),
        Stored::Lz4 { at, len, .. } => Some((at, u64::from(len))),
        Stored::Word(_) => None,
    }
}

/// The word of a piece that is one word over and over.
pub(super) fn word_of(extent: ByteRange, fills: &[Fill]) -> Option<[u8; 4]> {
    match fills {
        [fill] if fill.extent == extent => Some(fill.word),
        _ => None,
    }
}

fn block_len() -> u64 {
    u64::try_from(fill::BLOCK).unwrap_or(4096)
}

/// Fields one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], PackError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| wrong("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| wrong("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, PackError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, PackError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things, each of which takes at least a byte of what follows.
    fn count(&mut self) -> Result<usize, PackError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > self.rest.len() { Err(wrong("it ends too early")) } else { Ok(count) }
    }

    /// Are there so many records of so many bytes?
    fn holds(&self, count: usize, len: usize) -> Result<(), PackError> {
        let fits = count.checked_mul(len).is_some_and(|bytes| bytes <= self.rest.len());
        if fits { Ok(()) } else { Err(wrong("it ends too early")) }
    }

    fn extents(&mut self, count: usize, image_size: u64) -> Result<Vec<ByteRange>, PackError> {
        self.holds(count, 16)?;
        let mut extents = Vec::with_capacity(count);
        let mut at = 0;
        for _ in 0..count {
            let extent = ByteRange::new(self.u64()?, self.u64()?).filter(|extent| !extent.is_empty());
            let extent = extent.filter(|extent| extent.start() >= at && extent.end() <= image_size);
            let extent = extent.ok_or_else(|| wrong("its extents do not ascend inside the image"))?;
            at = extent.end();
            extents.push(extent);
        }
        Ok(extents)
    }

    fn ranges(&mut self, count: usize, algorithm: Option<Algorithm>) -> Result<Vec<MappedRange>, PackError> {
        self.holds(count, 16 + algorithm.map_or(0, |algorithm| 4 + algorithm.digest_len()))?;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let blocks = BlockRange::new(self.u64()?, self.u64()?);
            let blocks = blocks.ok_or_else(|| wrong("a range ends before it begins"))?;
            let digest = match algorithm {
                None => None,
                Some(algorithm) => {
                    let there = self.u32()?;
                    let bytes = self.take(algorithm.digest_len())?;
                    match there {
                        0 if bytes.iter().all(|byte| *byte == 0) => None,
                        1 => Digest::from_bytes(algorithm, bytes),
                        _ => return Err(wrong("a range has half a digest")),
                    }
                }
            };
            ranges.push(MappedRange { blocks, digest });
        }
        Ok(ranges)
    }

    /// The records of pieces that are cut as `cut` says, and their runs.
    fn entries(
        &mut self,
        count: usize,
        runs: usize,
        end: u64,
        mut cut: impl Iterator<Item = Piece>,
    ) -> Result<Vec<Entry>, PackError> {
        self.holds(count, RECORD)?;
        let records = self.take(count.saturating_mul(RECORD))?;
        self.holds(runs, RUN)?;
        let mut records = Fields { rest: records };
        let (mut entries, mut left) = (Vec::with_capacity(count), runs);
        let mut free = super::HEADER;
        for _ in 0..count {
            let (start, at) = (records.u64()?, records.u64()?);
            let (len, packed, crc32, packed_crc32) = (records.u32()?, records.u32()?, records.u32()?, records.u32()?);
            let (form, fills) = (records.u32()?, records.u32()?);
            let sha256 = Digest::from_bytes(Algorithm::Sha256, records.take(32)?);
            let sha256 = sha256.ok_or_else(|| wrong("it ends too early"))?;
            let extent = ByteRange::at(start, u64::from(len));
            let extent = extent.filter(|extent| cut.next().is_some_and(|piece| piece.extent == *extent));
            let extent = extent.ok_or_else(|| wrong("its pieces are not those of its ranges"))?;
            let fills = usize::try_from(fills).ok().filter(|fills| *fills <= left);
            let fills = fills.ok_or_else(|| wrong("pieces have more runs than there are"))?;
            left -= fills;
            let fills = self.runs(fills, extent)?;
            let stored = match (form, word_of(extent, &fills)) {
                (0, None) if packed == len && packed_crc32 == crc32 => Stored::Raw { at },
                (1, None) if packed < len && packed > 0 => Stored::Lz4 { at, len: packed, crc32: packed_crc32 },
                (2, Some(word)) if packed == 0 && at == 0 && packed_crc32 == 0 => Stored::Word(word),
                _ => return Err(wrong("a piece is stored in no known way")),
            };
            if !matches!(stored, Stored::Word(_)) {
                if at != free {
                    return Err(wrong("pieces do not lie one behind the other"));
                }
                free = at.saturating_add(u64::from(packed)).next_multiple_of(SECTOR);
            }
            entries.push(Entry { extent, stored, crc32, sha256, fills });
        }
        if cut.next().is_some() {
            return Err(wrong("its pieces are not those of its ranges"));
        }
        if left > 0 {
            return Err(wrong("there are runs that belong to no piece"));
        }
        if free != end {
            return Err(wrong("pieces do not lie one behind the other"));
        }
        Ok(entries)
    }

    fn runs(&mut self, count: usize, piece: ByteRange) -> Result<Vec<Fill>, PackError> {
        if count > 0 && !piece.start().is_multiple_of(block_len()) {
            return Err(wrong("a run lies outside its piece"));
        }
        let mut fills = Vec::with_capacity(count);
        let mut at = piece.start();
        for _ in 0..count {
            let first = u64::from(self.u32()?).checked_mul(block_len());
            let len = u64::from(self.u32()?).checked_mul(block_len()).filter(|len| *len > 0);
            let word = self.array()?;
            let start = first.and_then(|first| piece.start().checked_add(first)).filter(|start| *start >= at);
            let extent = start.zip(len).and_then(|(start, len)| ByteRange::at(start, len));
            let extent = extent.filter(|extent| extent.end() <= piece.end());
            let extent = extent.ok_or_else(|| wrong("a run lies outside its piece"))?;
            at = extent.end();
            fills.push(Fill { extent, word });
        }
        Ok(fills)
    }
}
