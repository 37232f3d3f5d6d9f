//! Proof: reading pieces back from the medium, and writing those again that are not right.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bmap::{Algorithm, ByteRange, Hasher};
use image::buffer::AlignedBuffer;
use image::{ImageError, Wanted};

use super::Reopen;
use super::pipeline::{Done, Expected, Held as HeldPiece, skip_to};
use super::run::{Progress, Run};
use crate::error::FlashError;
use crate::event::{Event, Stage};
use crate::plan::Kind;
use crate::target::TargetError;

/// Takes a piece and its bytes.
type Write<'a> = dyn FnMut(&Done, &[u8]) -> Result<(), FlashError> + 'a;

/// Where the bytes of bad pieces come from a second time.
pub(super) trait Rewrite {
    /// Hands every piece's bytes to `write`. Pieces ascend and are data. `None` when the source cannot be read twice.
    fn each(&self, pieces: &[Done], write: &mut Write<'_>) -> Result<Option<()>, FlashError>;
}

/// From the image, opened again.
pub(super) struct Again<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) reopen: Option<Reopen<'a>>,
}

impl Rewrite for Again<'_> {
    fn each(&self, pieces: &[Done], write: &mut Write<'_>) -> Result<Option<()>, FlashError> {
        let Some(reopen) = self.reopen else { return Ok(None) };
        let wanted: Arc<[ByteRange]> = pieces.iter().map(|piece| piece.extent).collect();
        let mut reader = reopen()?.read(Wanted::Ranges(wanted))?;
        for piece in pieces {
            let mut bytes = AlignedBuffer::new(usize::try_from(piece.extent.len()).unwrap_or(0));
            // Skipping tells no progress here: what is counted is what is read back.
            skip_to(self.run, &mut *reader, piece.extent.start(), &Progress::silent())?;
            self.run.check_cancel()?;
            match reader.read_exact(&mut bytes) {
                Err(ImageError::TooShort { .. }) => return Err(FlashError::SourceChanged { extent: piece.extent }),
                result => result?,
            }
            let expected = Expected::Bytes(Hasher::digest(Algorithm::Sha256, &bytes));
            if piece.expected != expected {
                return Err(FlashError::SourceChanged { extent: piece.extent });
            }
            write(piece, &bytes)?;
        }
        Ok(Some(()))
    }
}

/// From memory, where the head's pieces wait.
pub(super) struct Held<'a>(pub(super) &'a [HeldPiece]);

impl Rewrite for Held<'_> {
    fn each(&self, pieces: &[Done], write: &mut Write<'_>) -> Result<Option<()>, FlashError> {
        let bad = |held: &&HeldPiece| pieces.iter().any(|piece| piece.extent == held.piece.extent);
        for held in self.0.iter().filter(bad) {
            write(&held.piece, &held.bytes)?;
        }
        Ok(Some(()))
    }
}

/// A piece that did not read back right, with what reading said if it failed outright.
struct Bad {
    piece: Done,
    error: Option<TargetError>,
}

/// Reads `pieces` back; what is wrong is written and read again up to the run's number of attempts. Returns how many
/// pieces had to be written again.
pub(super) fn prove_and_mend(
    run: &Run<'_>,
    stage: Stage,
    pieces: &[Done],
    source: &dyn Rewrite,
) -> Result<u64, FlashError> {
    let mut bad = prove(run, stage, pieces)?;
    let mut rewritten = 0;
    for attempt in 1..=run.attempts {
        if bad.is_empty() {
            return Ok(rewritten);
        }
        for bad in &bad {
            run.observer.event(&Event::Retry { extent: bad.piece.extent, attempt });
        }
        let (data, zeros): (Vec<Done>, Vec<Done>) =
            bad.iter().map(|bad| bad.piece).partition(|piece| piece.kind == Kind::Data);
        if !data.is_empty() {
            let write = &mut |piece: &Done, bytes: &[u8]| {
                run.check_cancel()?;
                Ok(run.target.write(piece.extent.start(), bytes)?)
            };
            if source.each(&data, write)?.is_none() {
                return Err(not_held(run, bad, attempt - 1, false));
            }
        }
        let page = AlignedBuffer::new(1 << 20);
        for piece in &zeros {
            run.write_zeros(piece.extent, &page)?;
        }
        run.target.sync()?;
        rewritten += super::run::wide(bad.len());
        let again: Vec<Done> = bad.iter().map(|bad| bad.piece).collect();
        bad = prove(run, stage, &again)?;
    }
    if bad.is_empty() { Ok(rewritten) } else { Err(not_held(run, bad, run.attempts, true)) }
}

fn not_held(run: &Run<'_>, bad: Vec<Bad>, attempts: u32, rewritable: bool) -> FlashError {
    let pieces = bad.iter().map(|bad| bad.piece.extent).collect();
    let source = bad.into_iter().find_map(|bad| bad.error);
    FlashError::NotHeld { target: run.target.name(), pieces, attempts, rewritable, source }
}

/// Reads pieces back on a few threads; returns those that are wrong, ascending.
fn prove(run: &Run<'_>, stage: Stage, pieces: &[Done]) -> Result<Vec<Bad>, FlashError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).clamp(1, 4).min(pieces.len().max(1));
    let longest = pieces.iter().map(|piece| piece.extent.len()).max().unwrap_or(0);
    let longest = usize::try_from(longest).unwrap_or(0);
    let next = AtomicUsize::new(0);
    let bad = Mutex::new(Vec::new());
    let progress = Progress::new(stage, run.observer);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut buffer = AlignedBuffer::new(longest);
                    while !run.stopping() {
                        let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                        if let Err(error) = holds(run, piece, &mut buffer) {
                            bad.lock().unwrap_or_else(PoisonError::into_inner).push(Bad { piece: *piece, error });
                        }
                        progress.add(piece.extent.len());
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap_or_else(|_| run.fail(FlashError::Panicked { thread: "proving" }));
        }
    });
    run.outcome()?;
    let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.sort_unstable_by_key(|bad: &Bad| bad.piece.extent);
    Ok(bad)
}

/// Whether the medium holds a piece; the error says what went wrong where it could not be read at all.
fn holds(run: &Run<'_>, piece: &Done, buffer: &mut AlignedBuffer) -> Result<(), Option<TargetError>> {
    let len = usize::try_from(piece.extent.len()).unwrap_or(usize::MAX);
    let bytes = buffer.get_mut(..len).ok_or(None)?;
    run.target.read_back(piece.extent.start(), bytes).map_err(Some)?;
    let right = match piece.expected {
        Expected::Bytes(digest) => Hasher::digest(Algorithm::Sha256, bytes) == digest,
        Expected::Zeros => bmap::holes::is_zero(bytes),
    };
    if right { Ok(()) } else { Err(None) }
}
