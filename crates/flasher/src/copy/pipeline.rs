//! The threads and channels of writing, and nothing else: the only file of a copy that starts any.
//!
//! A stage ends when its input is exhausted, when it failed (it tells the run, whose flag all others look at) or when
//! the stage behind it is gone. Dropping a channel's end wakes whoever waits at the other, and a dropped buffer goes
//! home to the pool, so that no thread waits for ever.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bmap::{Algorithm, BlockMap, ByteRange, Digest, Hasher};
use crossbeam_channel::{Receiver, Sender, bounded};
use image::buffer::{AlignedBuffer, BufferPool};
use image::{Image, ImageReader, Wanted};

use super::run::{Progress, Run, wide};
use crate::error::{FlashError, RangeMismatch};
use crate::event::Stage;
use crate::plan::{Kind, Phase, Piece};

/// Buffers for each writer, beside the two that reader and digester hold.
const BUFFERS_A_WRITER: usize = 2;

/// How far the reader skips before it looks at the stop flag again and tells where it is.
const SKIP_STEP: u64 = 64 << 20;

/// What a piece must read back as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Bytes with this SHA-256.
    Bytes(Digest),
    /// Zeros.
    Zeros,
}

/// A piece that was written, or will be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) extent: ByteRange,
    pub(super) kind: Kind,
    pub(super) expected: Expected,
}

/// A piece of the head with its bytes, kept aside.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) piece: Done,
    /// Empty for zeros.
    pub(super) bytes: AlignedBuffer,
}

/// What the write stage leaves behind.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Pieces of the body, ascending; empty unless they are to be proven.
    pub(super) body: Vec<Done>,
    /// Pieces of the head, ascending, not written yet.
    pub(super) head: Vec<Held>,
    /// Length of the image.
    pub(super) image_size: u64,
}

struct Work {
    piece: Piece,
    /// The piece's bytes at the buffer's front; `None` for what is not data.
    buffer: Option<AlignedBuffer>,
}

impl Work {
    fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.piece.extent.len()).unwrap_or(usize::MAX);
        self.buffer.as_ref().and_then(|buffer| buffer.get(..len)).unwrap_or_default()
    }
}

/// Reads, checks and writes the whole plan but for its head, which comes back.
pub(super) fn write(run: &Run<'_>, image: Image, map: Option<&BlockMap>, proving: bool) -> Result<Written, FlashError> {
    let plan = run.plan;
    let wanted = match plan.image_size() {
        Some(_) => Wanted::Ranges(plan.data().collect::<Arc<[ByteRange]>>()),
        None => Wanted::All,
    };
    let reader = image.read(wanted)?;
    let writers = run.target.geometry().depth.max(1);
    let piece_len = usize::try_from(plan.piece_len()).unwrap_or(0);
    let pool = BufferPool::new(2 + writers * BUFFERS_A_WRITER, piece_len);
    let progress = Progress::new(Stage::Write, run.observer);
    let done = Mutex::new(Written::default());
    let digests = map.filter(|map| run.check_digests && map.algorithm().is_some());

    thread::scope(|scope| {
        let (to_digest, read) = bounded::<Work>(1);
        let (to_write, checked) = bounded::<Work>(writers);
        let reader_thread = scope.spawn({
            let (pool, progress) = (&pool, &progress);
            move || read_pieces(run, reader, pool, progress, &to_digest)
        });
        let digester = scope.spawn(move || check_ranges(run, digests, &read, &to_write));
        let writers: Vec<_> = (0..writers)
            .map(|_| {
                let (checked, progress, done) = (checked.clone(), &progress, &done);
                scope.spawn(move || write_pieces(run, &checked, proving, progress, done))
            })
            .collect();
        drop(checked);
        let panicked = |thread| run.fail(FlashError::Panicked { thread });
        let image_size = reader_thread.join().unwrap_or_else(|_| {
            panicked("reading");
            None
        });
        digester.join().unwrap_or_else(|_| panicked("digesting"));
        writers.into_iter().for_each(|writer| writer.join().unwrap_or_else(|_| panicked("writing")));
        done.lock().unwrap_or_else(PoisonError::into_inner).image_size = image_size.unwrap_or(0);
    });
    run.outcome()?;
    let mut written = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    written.body.sort_unstable_by_key(|piece| piece.extent);
    written.head.sort_unstable_by_key(|held| held.piece.extent);
    Ok(written)
}

/// Fills buffers in image order; returns the image's length.
fn read_pieces(
    run: &Run<'_>,
    mut reader: Box<dyn ImageReader>,
    pool: &BufferPool,
    progress: &Progress<'_>,
    out: &Sender<Work>,
) -> Option<u64> {
    match try_read_pieces(run, &mut *reader, pool, progress, out) {
        Ok(length) => length,
        Err(error) => {
            run.fail(error);
            None
        }
    }
}

fn try_read_pieces(
    run: &Run<'_>,
    reader: &mut dyn ImageReader,
    pool: &BufferPool,
    progress: &Progress<'_>,
    out: &Sender<Work>,
) -> Result<Option<u64>, FlashError> {
    let open_ended = run.plan.image_size().is_none();
    let capacity = run.target.geometry().size;
    for piece in run.plan.pieces() {
        if run.stopping() {
            return Ok(None);
        }
        let mut work = Work { piece, buffer: None };
        let mut ended = false;
        if piece.kind == Kind::Data {
            skip_to(run, reader, piece.extent.start(), progress)?;
            if run.stopping() {
                return Ok(None);
            }
            let mut buffer = pool.take();
            let len = usize::try_from(piece.extent.len()).unwrap_or(usize::MAX).min(buffer.len());
            let into = buffer.get_mut(..len).unwrap_or_default();
            if open_ended {
                let read = read_up_to(reader, into)?;
                let Some(extent) = ByteRange::at(piece.extent.start(), wide(read)).filter(|extent| !extent.is_empty())
                else {
                    break;
                };
                if let Some(capacity) = capacity.filter(|capacity| extent.end() > *capacity) {
                    return Err(FlashError::GoesOn { target: run.target.name(), capacity });
                }
                work.piece.extent = extent;
                ended = read < len;
            } else {
                reader.read_exact(into)?;
            }
            work.buffer = Some(buffer);
            progress.reached(reader.position());
        }
        // A closed channel means that a stage behind has ended, and why is known there.
        if out.send(work).is_err() {
            return Ok(None);
        }
        if ended {
            break;
        }
    }
    // To the very end: what is behind the last piece is checked too, and counted.
    let Some(size) = run.plan.image_size() else { return Ok(Some(reader.finish()?)) };
    skip_to(run, reader, size, progress)?;
    if run.stopping() {
        return Ok(None);
    }
    // One byte more is one too many, and known now rather than after all the rest.
    if reader.read(&mut [0])? > 0 {
        return Err(FlashError::LongerThanMap { map: size });
    }
    Ok(Some(reader.finish()?))
}

/// Goes forward in steps, so that it can be stopped and tells where it is.
pub(super) fn skip_to(
    run: &Run<'_>,
    reader: &mut dyn ImageReader,
    to: u64,
    progress: &Progress<'_>,
) -> Result<(), FlashError> {
    while reader.position() < to && !run.stopping() {
        reader.skip_to(to.min(reader.position().saturating_add(SKIP_STEP)))?;
        progress.reached(reader.position());
    }
    Ok(())
}

/// Fills `into` unless the image ends first.
fn read_up_to(reader: &mut dyn ImageReader, into: &mut [u8]) -> Result<usize, FlashError> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// Digests whole ranges in order. A piece goes on only after its bytes were counted in, and the last piece of a range
/// only if the digest is right.
fn check_ranges(run: &Run<'_>, map: Option<&BlockMap>, read: &Receiver<Work>, out: &Sender<Work>) {
    let mut current: Option<(usize, Hasher)> = None;
    for work in read {
        if run.stopping() {
            return;
        }
        let range = map.and_then(|map| Some((map, work.piece.mapped?)));
        let range = range.and_then(|(map, index)| Some((map, index, *map.ranges().get(index)?)));
        if let Some((map, index, range)) = range
            && let Some(expected) = range.digest
        {
            let mut hasher = match current.take() {
                Some((of, hasher)) if of == index => hasher,
                _ => Hasher::new(expected.algorithm()),
            };
            hasher.update(work.bytes());
            let extent = map.bytes_of(range.blocks);
            if work.piece.extent.end() == extent.end() {
                let found = hasher.finish();
                if found != expected {
                    let mismatch = RangeMismatch { blocks: range.blocks, extent, expected, found };
                    run.fail(FlashError::RangeDigest(Box::new(mismatch)));
                    return;
                }
            } else {
                current = Some((index, hasher));
            }
        }
        if out.send(work).is_err() {
            return;
        }
    }
}

fn write_pieces(
    run: &Run<'_>,
    checked: &Receiver<Work>,
    proving: bool,
    progress: &Progress<'_>,
    done: &Mutex<Written>,
) {
    for work in checked {
        if run.stopping() {
            return;
        }
        if let Err(error) = write_piece(run, work, proving, progress, done) {
            run.fail(error);
            return;
        }
    }
}

fn write_piece(
    run: &Run<'_>,
    work: Work,
    proving: bool,
    progress: &Progress<'_>,
    done: &Mutex<Written>,
) -> Result<(), FlashError> {
    let Piece { extent, kind, phase, .. } = work.piece;
    let expected = match kind {
        Kind::Data if proving => Expected::Bytes(Hasher::digest(Algorithm::Sha256, work.bytes())),
        _ => Expected::Zeros,
    };
    let piece = Done { extent, kind, expected };
    if phase == Phase::Head {
        let mut bytes = AlignedBuffer::new(work.bytes().len());
        bytes.copy_from_slice(work.bytes());
        done.lock().unwrap_or_else(PoisonError::into_inner).head.push(Held { piece, bytes });
        return Ok(());
    }
    run.body_begins();
    match kind {
        Kind::Data => run.write_data(extent, work.bytes())?,
        Kind::Zero => run.make_zero(extent)?,
        Kind::DontCare => return run.clear_hole(extent),
    }
    progress.add(extent.len());
    if proving {
        done.lock().unwrap_or_else(PoisonError::into_inner).body.push(piece);
    }
    Ok(())
}
