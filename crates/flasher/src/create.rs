//! Making a block map of an image.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

use bmap::holes::{self, Support};
use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, ByteRange, Digest, Hasher, MappedRange};
use image::{Image, Wanted};

use crate::cancel::Cancel;
use crate::error::FlashError;
use crate::event::{Event, Observer, Stage};
use crate::ranges;

/// How to make a map.
#[derive(Debug, Clone, Copy)]
pub struct CreateOptions {
    /// Size of the map's blocks; `None` for that of the filesystem the image lies on.
    pub block_size: Option<BlockSize>,
    /// Whether ranges get SHA-256 digests.
    pub digests: bool,
    /// How many threads hash.
    pub threads: NonZeroUsize,
}

/// A map, and how far it can be trusted.
#[derive(Debug, Clone)]
pub struct Created {
    /// The map.
    pub map: BlockMap,
    /// Whether the filesystem could tell where the holes are.
    pub support: Support,
}

/// Maps a raw image file by its holes.
///
/// # Errors
/// When the holes cannot be found, the file cannot be read, or it changes its length meanwhile.
pub fn create(
    file: &File,
    name: &str,
    options: &CreateOptions,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Created, FlashError> {
    let block_size = options.block_size.unwrap_or_else(|| holes::block_size_of(file));
    let scan = holes::scan(file)?;
    let map = scan.map(block_size)?;
    readable(map.ranges().len())?;
    if !options.digests {
        return Ok(Created { map, support: scan.support });
    }
    let wanted: Vec<(ByteRange, Algorithm)> = map.mapped().map(|(bytes, _)| (bytes, Algorithm::Sha256)).collect();
    let read = |at, into: &mut [u8]| {
        let extent = ByteRange::at(at, u64::try_from(into.len()).unwrap_or(0)).unwrap_or(ByteRange::first(0));
        let error = |source| FlashError::Read { name: name.to_owned(), extent, source };
        file.read_exact_at(into, at).map_err(error)
    };
    let digests = ranges::digests(&wanted, &read, ranges::FILE_CHUNK, options.threads, observer, cancel)?;
    let ranges = map.ranges().iter().zip(digests);
    let ranges = ranges.map(|(range, digest)| MappedRange { digest: Some(digest), ..*range }).collect();
    let map = BlockMap::new(map.image_size(), block_size, ranges)?;
    Ok(Created { map, support: scan.support })
}

/// Maps an image, packed or not, by looking at its content: blocks of zeros are left out.
///
/// # Errors
/// When the image cannot be read.
pub fn create_by_content(
    image: Image,
    options: &CreateOptions,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<BlockMap, FlashError> {
    const CHUNK: usize = 4 << 20;
    let block_size = options.block_size.unwrap_or(BlockSize::DEFAULT);
    let block = usize::try_from(block_size.get()).unwrap_or(CHUNK);
    observer.event(&Event::Stage { stage: Stage::Hash, total: image.size() });
    let mut reader = image.read(Wanted::All)?;
    // Whole blocks at a time, at least one.
    let mut buffer = vec![0; CHUNK.max(block) / block * block];
    let mut found = Found { ranges: Vec::new(), open: None, digests: options.digests };
    let mut index = 0_u64;
    loop {
        if cancel.is_cancelled() {
            return Err(FlashError::Cancelled);
        }
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match reader.read(rest)? {
                0 => break,
                count => filled += count,
            }
        }
        let bytes = buffer.get(..filled).unwrap_or_default();
        for block in bytes.chunks(block) {
            found.block(index, block);
            index += 1;
        }
        readable(found.ranges.len())?;
        let position = reader.position();
        observer.event(&Event::Progress { stage: Stage::Hash, done: position, position });
        if filled < buffer.len() {
            break;
        }
    }
    let size = reader.finish()?;
    let ranges = found.finish();
    Ok(BlockMap::new(size, block_size, ranges)?)
}

/// Refuses to make what no reader of ours would take.
fn readable(ranges: usize) -> Result<(), FlashError> {
    let most = bmap::xml::MAX_RANGES;
    if ranges > most { Err(FlashError::TooManyRanges { ranges, most }) } else { Ok(()) }
}

/// Ranges of blocks that are not zero, as they are found.
struct Found {
    ranges: Vec<MappedRange>,
    open: Option<(u64, u64, Hasher)>,
    digests: bool,
}

impl Found {
    fn block(&mut self, index: u64, bytes: &[u8]) {
        if holes::is_zero(bytes) {
            self.close();
            return;
        }
        let (_, last, hasher) = self.open.get_or_insert_with(|| (index, index, Hasher::new(Algorithm::Sha256)));
        *last = index;
        if self.digests {
            hasher.update(bytes);
        }
    }

    fn close(&mut self) {
        if let Some((first, last, hasher)) = self.open.take() {
            let digest: Option<Digest> = self.digests.then(|| hasher.finish());
            self.ranges.extend(BlockRange::new(first, last).map(|blocks| MappedRange { blocks, digest }));
        }
    }

    fn finish(mut self) -> Vec<MappedRange> {
        self.close();
        self.ranges
    }
}
