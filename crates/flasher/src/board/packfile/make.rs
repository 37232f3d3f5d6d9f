//! Making a pack file: read once, packed on all cores, written in order. Memory is a few pieces whatever the image.
//!
//! ```text
//! feed (reads, checks the map, digests) ──► workers (LZ4) ──► writer (this thread)
//! ```
//! The file is of no use before its header is there, which is written last of all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bmap::{Algorithm, BlockMap, Hasher};
use crossbeam_channel::{Receiver, Sender, bounded};
use image::Image;
use image::buffer::AlignedBuffer;

use super::index::{Contents, Entry, Index, SECTOR, Stored, word_of};
use super::{HEADER, Header, PackError};
use crate::board::feed::{Backing, Dry, Feed};
use crate::board::pack::lz4_frame;
use crate::board::place::To;
use crate::board::prepare::{Outline, Wishes};
use crate::cancel::Cancel;
use crate::error::FlashError;
use crate::event::{Event, Observer, Stage};
use crate::plan::{Content, Kind, Plan};

/// A piece is kept packed if that makes it so much smaller, in per cent.
const WORTH_PACKING: u64 = 98;

/// An image, and where its pack goes.
pub struct PackJob<'a> {
    /// The image. Its length must be known.
    pub image: Image,
    /// Its map.
    pub map: Option<&'a BlockMap>,
    /// Level of LZ4, 1 to 12 as the `lz4` tool counts them.
    pub level: u32,
    /// The longest piece in bytes: a power of two, 64 KiB to [`Plan::MAX_PIECE`].
    pub piece_len: u64,
    /// How many threads pack.
    pub threads: NonZeroUsize,
    /// Check the digests of the map's ranges while reading.
    pub check_digests: bool,
    /// Takes the pack: an empty file.
    pub out: &'a File,
    /// Is told what happens.
    pub observer: &'a dyn Observer,
    /// Stops the job.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for PackJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackJob").field("level", &self.level).field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Length of the image in bytes.
    pub image_size: u64,
    /// Bytes of data in it.
    pub data: u64,
    /// Bytes that these take in the file.
    pub packed: u64,
    /// Bytes of data that do not pack, and are kept as they are.
    pub raw: u64,
    /// How many pieces there are.
    pub pieces: usize,
    /// Length of the file in bytes.
    pub file_len: u64,
}

/// Packs an image. On failure the file is not one that opens.
///
/// # Errors
/// As [`crate::board::prepare`]; when the image cannot be read or is not what its map says; when the file cannot be
/// written.
pub fn make_pack(mut job: PackJob<'_>) -> Result<Packed, FlashError> {
    job.cancel.halt(false);
    let mut extents = Vec::new();
    let outline = Outline::of(&mut job.image, job.map, true, &mut extents, job.observer)?;
    let wishes = Wishes { piece_len: Some(job.piece_len), ..Wishes::default() };
    let plan = outline.plan(&To::Emmc, &wishes)?;
    let contents = match outline.content {
        Content::Anywhere => Contents::Anywhere,
        Content::Extents(extents) => Contents::Extents(extents.to_vec()),
        Content::Map(map) => Contents::Map(map.clone()),
    };
    let mut index = Index {
        image_size: outline.image_size,
        head: plan.head(),
        piece_len: plan.piece_len(),
        level: job.level,
        loaders: outline.loaders.iter().copied().filter(|at| *at < outline.image_size).collect(),
        contents,
        entries: Vec::new(),
    };
    let (out, cancel) = (job.out, job.cancel);
    let end = payload(job, &plan, &mut index)?;
    if cancel.is_cancelled() {
        return Err(FlashError::Cancelled);
    }
    let file_len = seal(out, &index, end)?;
    let stored = index.entries.iter().filter(|entry| matches!(entry.stored, Stored::Raw { .. }));
    Ok(Packed {
        image_size: index.image_size,
        data: index.data(),
        packed: index.packed(),
        raw: stored.map(|entry| entry.extent.len()).sum(),
        pieces: index.entries.len(),
        file_len,
    })
}

fn writing(source: io::Error) -> FlashError {
    FlashError::PackWrite { source }
}

/// Writes index and header behind and before the payload; returns the file's length.
fn seal(out: &File, index: &Index, end: u64) -> Result<u64, FlashError> {
    let bytes = index.to_bytes()?;
    // What we would not read we do not write.
    Index::parse(&bytes, end)?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(Hasher::digest(Algorithm::Sha256, &bytes).as_bytes());
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    out.write_all_at(&bytes, end).map_err(writing)?;
    // The payload must be there before the header says so.
    out.sync_all().map_err(writing)?;
    out.write_all_at(&Header { at: end, len, sha256 }.to_bytes(), 0).map_err(writing)?;
    out.sync_all().map_err(writing)?;
    Ok(end.saturating_add(len))
}

/// What a worker makes of a piece.
enum Made {
    Word([u8; 4]),
    Frame(Vec<u8>),
    Raw(Arc<AlignedBuffer>),
}

/// Reads, packs and writes every piece of data; returns where the payload ends.
fn payload(job: PackJob<'_>, plan: &Plan, index: &mut Index) -> Result<u64, FlashError> {
    let PackJob { image, map, level, threads, check_digests, out, observer, cancel, .. } = job;
    let checked = map.filter(|_| check_digests);
    let workers = threads.get();
    // Each worker packs one piece while its next is read.
    let ahead = u64::try_from(workers).unwrap_or(u64::MAX).saturating_mul(2).saturating_mul(plan.piece_len());
    // Nobody needs a piece twice.
    let feed = Feed::new(plan, Backing::Again(None), ahead, 1, cancel);
    let data: Vec<usize> =
        (0..).zip(feed.pieces()).filter(|(_, piece)| piece.kind == Kind::Data).map(|(at, _)| at).collect();
    let total = data.iter().filter_map(|at| feed.pieces().get(*at)).map(|piece| piece.extent.len()).sum();
    observer.event(&Event::Stage { stage: Stage::Pack, total: Some(total) });
    let next = AtomicUsize::new(0);
    let done = thread::scope(|scope| {
        scope.spawn(|| feed.run(image, checked));
        let (made, from_workers) = bounded(workers);
        for _ in 0..workers {
            let (made, feed, next, data) = (made.clone(), &feed, &next, &data);
            scope.spawn(move || work(feed, data, next, level, &made));
        }
        drop(made);
        let done = write(&feed, &data, from_workers, out, observer, index);
        feed.stop();
        done
    });
    match done {
        Ok(end) => Ok(end),
        Err(Stopped::Here(error)) => Err(error),
        Err(Stopped::Dry(Dry::Cancelled)) => Err(FlashError::Cancelled),
        Err(Stopped::Dry(Dry::Failed(error))) => {
            // All threads are gone: the error is ours, or the feed's and ours.
            Err(Arc::try_unwrap(error).ok().or_else(|| feed.into_failure()).unwrap_or(FlashError::Cancelled))
        }
    }
}

/// Why the writer stopped.
enum Stopped {
    /// For want of pieces.
    Dry(Dry),
    /// By an error of its own.
    Here(FlashError),
}

/// The number of a piece of data, and what was made of it.
type Done = (usize, Result<Made, Dry>);

fn work(feed: &Feed<'_>, data: &[usize], next: &AtomicUsize, level: u32, out: &Sender<Done>) {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let Some(at) = data.get(n) else { return };
        let made = make(feed, *at, level);
        // The writer has stopped, or there is nothing more to be had.
        let failed = made.is_err();
        if out.send((n, made)).is_err() || failed {
            return;
        }
    }
}

fn make(feed: &Feed<'_>, at: usize, level: u32) -> Result<Made, Dry> {
    let facts = feed.facts(at)?;
    let Some(piece) = feed.pieces().get(at) else { return Ok(Made::Word([0; 4])) };
    if let Some(word) = word_of(piece.extent, &facts.fills) {
        return Ok(Made::Word(word));
    }
    let held = feed.bytes(at)?;
    let len = usize::try_from(piece.extent.len()).unwrap_or(usize::MAX);
    let bytes = held.get(..len).unwrap_or_default();
    let frame = lz4_frame(bytes, level).map_err(|source| Dry::Failed(Arc::new(FlashError::Pack { source })))?;
    let packed = u64::try_from(frame.len()).unwrap_or(u64::MAX).saturating_mul(100);
    let pays = packed < piece.extent.len().saturating_mul(WORTH_PACKING);
    Ok(if pays { Made::Frame(frame) } else { Made::Raw(held) })
}

/// Writes what the workers make, in order.
fn write(
    feed: &Feed<'_>,
    data: &[usize],
    made: Receiver<Done>,
    out: &File,
    observer: &dyn Observer,
    index: &mut Index,
) -> Result<u64, Stopped> {
    let mut early = BTreeMap::new();
    let (mut at, mut done) = (HEADER, 0_u64);
    for (n, piece) in data.iter().enumerate() {
        let this = loop {
            if let Some(this) = early.remove(&n) {
                break this;
            }
            match made.recv() {
                Ok((number, Ok(made))) => drop(early.insert(number, made)),
                Ok((_, Err(dry))) => return Err(Stopped::Dry(dry)),
                Err(_) => return Err(Stopped::Here(FlashError::Panicked { thread: "packing" })),
            }
        };
        let facts = feed.facts(*piece).map_err(Stopped::Dry)?;
        let extent = feed.pieces().get(*piece).map_or(bmap::ByteRange::first(0), |piece| piece.extent);
        let len = usize::try_from(extent.len()).unwrap_or(usize::MAX);
        let (stored, bytes) = match &this {
            Made::Word(word) => (Stored::Word(*word), &[][..]),
            Made::Raw(bytes) => (Stored::Raw { at }, bytes.get(..len).unwrap_or_default()),
            Made::Frame(frame) => {
                let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                (Stored::Lz4 { at, len, crc32: crc32fast::hash(frame) }, frame.as_slice())
            }
        };
        out.write_all_at(bytes, at).map_err(|error| Stopped::Here(writing(error)))?;
        let (crc32, sha256, fills) = (facts.crc32, facts.sha256, facts.fills.clone());
        index.entries.push(Entry { extent, stored, crc32, sha256, fills });
        at = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX)).next_multiple_of(SECTOR);
        done = done.saturating_add(extent.len());
        feed.reached(0, piece.saturating_add(1));
        observer.event(&Event::Progress { stage: Stage::Pack, done, position: extent.end() });
    }
    feed.reached(0, usize::MAX);
    feed.wait_for_end().map_err(Stopped::Dry)?;
    Ok(at)
}

impl From<PackError> for FlashError {
    fn from(error: PackError) -> Self {
        Self::PackFile(Box::new(error))
    }
}
