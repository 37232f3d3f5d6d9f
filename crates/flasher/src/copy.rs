//! Writing an image by its plan: reading, checking, writing and proving overlap, the head comes last.
//!
//! ```text
//! reader ──► range digests ──► writers (piece digests) ──► sync ──► proof ──► head ──► commit
//! ```
//! The reader fills recycled buffers in image order; one thread checks the map's digests over whole ranges; as many
//! writers as the target likes digest each piece and write it. Bounded channels hold the stages together, so memory is a
//! few pieces whatever the image. Pieces of the head are kept aside until the body is proven.

mod clearing;
mod pipeline;
mod proof;
mod run;

use std::time::{Duration, Instant};

use bmap::{BlockMap, ByteRange};
use image::{Image, ImageError};

use crate::cancel::Cancel;
use crate::error::{Failure, FlashError, TargetState};
use crate::event::{Event, Observer, Stage};
use crate::plan::{Kind, Plan};
use crate::target::Target;

use run::Run;

/// What a user may choose about writing.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// Read everything back from the medium and compare.
    pub prove: bool,
    /// Check the digests of the map's ranges while reading.
    pub check_digests: bool,
    /// How often bad pieces are written again before they are given up.
    pub attempts: u32,
}

impl Default for CopyOptions {
    /// Digests are checked, nothing is read back, three attempts.
    fn default() -> Self {
        Self { prove: false, check_digests: true, attempts: 3 }
    }
}

/// Opens the image again, to read pieces a second time.
pub type Reopen<'a> = &'a (dyn Fn() -> Result<Image, ImageError> + Sync);

/// An image, where it goes, and how.
pub struct Job<'a> {
    /// The image.
    pub image: Image,
    /// Opens it again, where that is possible: bad pieces are written again from there.
    pub reopen: Option<Reopen<'a>>,
    /// The image's map: the plan was made with it.
    pub map: Option<&'a BlockMap>,
    /// What [`crate::prepare`] planned for this image, map and target.
    pub plan: &'a Plan,
    /// Where it goes.
    pub target: &'a dyn Target,
    /// How.
    pub options: CopyOptions,
    /// Is told what happens.
    pub observer: &'a dyn Observer,
    /// Stops the job.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("target", &self.target).field("options", &self.options).finish_non_exhaustive()
    }
}

/// What a job did. All numbers are bytes unless they say otherwise.
#[derive(Debug, Clone)]
pub struct Report {
    /// Length of the image.
    pub image_size: u64,
    /// Data of the image that was handled: what the map names, or what is not a hole.
    pub data: u64,
    /// Zeros that the image asks for.
    pub zeros: u64,
    /// Bytes sent to the target, without repetitions.
    pub written: u64,
    /// Zeros the target made without being sent them.
    pub zeroed: u64,
    /// Holes of the map that now read as zeros.
    pub holes_zeroed: u64,
    /// Holes of the map behind the head that keep what the target held.
    pub holes_left: u64,
    /// Holes of the map inside the head, the gap in front of the first partition: always left alone, for boot loaders
    /// keep their settings there.
    pub gap_left: u64,
    /// Bytes read back and found right; 0 when no proof was asked for.
    pub proven: u64,
    /// Pieces that had to be written again; a count.
    pub rewritten: u64,
    /// How long each stage took, in order.
    pub stages: Vec<(Stage, Duration)>,
    /// What the target holds.
    pub state: TargetState,
}

/// Writes an image by its plan.
///
/// # Errors
/// A [`Failure`] says why and what the target holds now. With `options.prove` and a target that cannot be read back the
/// image is written and the failure is [`FlashError::NoProof`].
pub fn copy(job: Job<'_>) -> Result<Report, Failure> {
    let run = Run::new(&job);
    let Job { image, reopen, map, plan, target, options, observer, cancel: _ } = job;
    let result = steps(&run, image, reopen, plan, map, target, options, observer);
    match result {
        Ok(report) => Ok(report),
        Err(error) => {
            let error = match error {
                // Some part of a job was cut short by the request rather than by its own trouble.
                FlashError::Image(_) if run.cancel.is_cancelled() => FlashError::Cancelled,
                FlashError::Image(ImageError::TooShort { len, .. }) if map.is_some() => {
                    FlashError::LengthMismatch { image: len, map: map.map_or(0, BlockMap::image_size) }
                }
                error => error,
            };
            Err(Failure { error: Box::new(error), state: run.state() })
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one job, taken apart once")]
fn steps(
    run: &Run<'_>,
    image: Image,
    reopen: Option<Reopen<'_>>,
    plan: &Plan,
    map: Option<&BlockMap>,
    target: &dyn Target,
    options: CopyOptions,
    observer: &dyn Observer,
) -> Result<Report, FlashError> {
    let mut stages = Vec::new();
    let mut timed = |stage: Stage, total: Option<u64>, work: &mut dyn FnMut() -> Result<(), FlashError>| {
        observer.event(&Event::Stage { stage, total });
        let start = Instant::now();
        let done = work();
        stages.push((stage, start.elapsed()));
        done
    };
    let provable = target.geometry().readable;
    let proving = options.prove && provable;
    run.check_cancel()?;

    run.begin()?;
    let clear: u64 = plan.invalidate().iter().map(|extent| extent.len()).sum();
    if clear > 0 {
        timed(Stage::Invalidate, Some(clear), &mut || run.invalidate())?;
    }
    let mut image = Some(image);
    let mut written = pipeline::Written::default();
    timed(Stage::Write, plan.body_bytes(), &mut || {
        // Taken once: the stage runs once.
        if let Some(image) = image.take() {
            written = pipeline::write(run, image, map, proving)?;
        }
        Ok(())
    })?;
    timed(Stage::Sync, None, &mut || Ok(target.sync()?))?;
    let mut proven = 0;
    let mut rewritten = 0;
    if proving {
        let total = written.body.iter().map(|piece| piece.extent.len()).sum();
        timed(Stage::Prove, Some(total), &mut || {
            rewritten += proof::prove_and_mend(run, Stage::Prove, &written.body, &proof::Again { run, reopen })?;
            proven += total;
            Ok(())
        })?;
    }
    if !written.head.is_empty() {
        let total: u64 = written.head.iter().map(|held| held.piece.extent.len()).sum();
        timed(Stage::Head, Some(total), &mut || {
            run.write_head(&written.head)?;
            if proving {
                let pieces: Vec<_> = written.head.iter().map(|held| held.piece).collect();
                rewritten += proof::prove_and_mend(run, Stage::Head, &pieces, &proof::Held(&written.head))?;
                proven += total;
            }
            Ok(())
        })?;
    }
    run.complete(proving);
    timed(Stage::Commit, None, &mut || Ok(target.commit(written.image_size, observer)?))?;
    if options.prove && !provable {
        let source = crate::target::TargetError::Unreadable { target: target.name() };
        return Err(FlashError::NoProof { target: target.name(), source });
    }
    let counts = run.counts();
    // On a fresh target holes are zeros anyway.
    let map = map.filter(|_| !target.geometry().fresh);
    let (holes, gap_left) = map.map_or((0, 0), |map| holes_of(map, plan.head()));
    let planned = if map.is_some() { plan.bytes(Kind::Zero).unwrap_or(0) } else { 0 };
    Ok(Report {
        image_size: written.image_size,
        data: counts.data,
        zeros: counts.zeros,
        written: counts.sent,
        zeroed: counts.zeroed,
        holes_zeroed: counts.holes_zeroed,
        holes_left: holes.saturating_sub(gap_left).saturating_sub(counts.holes_zeroed).saturating_sub(planned),
        gap_left,
        proven,
        rewritten,
        stages,
        state: run.state(),
    })
}

/// Bytes of a map's holes, in all and in front of `head`.
fn holes_of(map: &BlockMap, head: u64) -> (u64, u64) {
    let head = ByteRange::first(head);
    map.holes()
        .fold((0, 0), |(all, gap), hole| (all + hole.len(), gap + hole.intersect(head).map_or(0, ByteRange::len)))
}
