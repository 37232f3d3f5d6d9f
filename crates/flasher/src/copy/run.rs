//! What the threads of one job share: counters, the first error, and what the target holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bmap::ByteRange;

use super::Job;
use super::clearing::Clearing;
use super::pipeline::Held;
use crate::cancel::Cancel;
use crate::error::{FlashError, TargetState};
use crate::event::{Event, Observer, Stage};
use crate::plan::{Kind, Plan};
use crate::target::{Target, Zeroed};

/// How much is done between two progress events.
const STEP: u64 = 4 << 20;

/// Sums over a job, in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) data: u64,
    pub(super) zeros: u64,
    pub(super) sent: u64,
    pub(super) zeroed: u64,
    pub(super) holes_zeroed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    data: AtomicU64,
    zeros: AtomicU64,
    sent: AtomicU64,
    zeroed: AtomicU64,
    holes_zeroed: AtomicU64,
}

pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) target: &'a dyn Target,
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
    pub(super) attempts: u32,
    pub(super) check_digests: bool,
    counters: Counters,
    clearing: Clearing,
    state: Mutex<TargetState>,
    stop: AtomicBool,
    error: Mutex<Option<FlashError>>,
}

fn add(counter: &AtomicU64, bytes: u64) -> u64 {
    counter.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
}

/// Told that something was done; passes on a progress event now and then.
pub(super) struct Progress<'a> {
    stage: Stage,
    observer: &'a dyn Observer,
    done: AtomicU64,
    told: AtomicU64,
    position: AtomicU64,
}

impl<'a> Progress<'a> {
    pub(super) fn new(stage: Stage, observer: &'a dyn Observer) -> Self {
        let zero = AtomicU64::default;
        Self { stage, observer, done: zero(), told: zero(), position: zero() }
    }

    /// One that nobody hears.
    pub(super) fn silent() -> Progress<'static> {
        Progress::new(Stage::Prove, &())
    }

    /// `bytes` more are done.
    pub(super) fn add(&self, bytes: u64) {
        add(&self.done, bytes);
        self.tell();
    }

    /// The reader has come to `position`.
    pub(super) fn reached(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
        self.tell();
    }

    fn tell(&self) {
        let (done, position) = (self.done.load(Ordering::Relaxed), self.position.load(Ordering::Relaxed));
        let sum = done.saturating_add(position);
        let told = self.told.load(Ordering::Relaxed);
        let due = sum >= told.saturating_add(STEP);
        // Whoever moves `told` speaks; the others have nothing newer to say.
        if due && self.told.compare_exchange(told, sum, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.observer.event(&Event::Progress { stage: self.stage, done, position });
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        let (done, position) = (self.done.load(Ordering::Relaxed), self.position.load(Ordering::Relaxed));
        self.observer.event(&Event::Progress { stage: self.stage, done, position });
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(job: &Job<'a>) -> Self {
        job.cancel.halt(false);
        Self {
            plan: job.plan,
            target: job.target,
            observer: job.observer,
            cancel: job.cancel,
            attempts: job.options.attempts,
            check_digests: job.options.check_digests,
            counters: Counters::default(),
            clearing: Clearing::new(),
            state: Mutex::new(TargetState::Unchanged),
            stop: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    /// Remembers the first error and tells every thread to stop.
    pub(super) fn fail(&self, error: FlashError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::SeqCst);
        // A source that waits for bytes nobody needs any more.
        self.cancel.halt(true);
    }

    /// Whether a thread failed or somebody asked to stop.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    pub(super) fn check_cancel(&self) -> Result<(), FlashError> {
        if self.cancel.is_cancelled() { Err(FlashError::Cancelled) } else { Ok(()) }
    }

    /// The first error, after the threads have ended.
    pub(super) fn outcome(&self) -> Result<(), FlashError> {
        match self.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => self.check_cancel(),
        }
    }

    fn set(&self, state: TargetState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn state(&self) -> TargetState {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.counters.sent.load(Ordering::Relaxed);
        match state {
            TargetState::NoHead { .. } => TargetState::NoHead { written: done },
            TargetState::Mixed { .. } => TargetState::Mixed { written: done },
            state => state,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = &self.counters;
        Counts {
            data: get(&of.data),
            zeros: get(&of.zeros),
            sent: get(&of.sent),
            zeroed: get(&of.zeroed),
            holes_zeroed: get(&of.holes_zeroed),
        }
    }

    pub(super) fn begin(&self) -> Result<(), FlashError> {
        if self.target.geometry().fresh {
            self.set(TargetState::NoHead { written: 0 });
        }
        Ok(self.target.begin(self.plan, self.observer)?)
    }

    /// Zeros over what boots, on the medium and read back.
    pub(super) fn invalidate(&self) -> Result<(), FlashError> {
        self.set(TargetState::Mixed { written: 0 });
        let zeros = image::buffer::AlignedBuffer::new(8192);
        let mut left = self.plan.invalidate().to_vec();
        for attempt in 0..=self.attempts {
            for extent in &left {
                self.check_cancel()?;
                if attempt > 0 {
                    self.observer.event(&Event::Retry { extent: *extent, attempt });
                }
                self.write_zeros(*extent, &zeros)?;
            }
            self.target.sync()?;
            if !self.target.geometry().readable {
                left.clear();
            }
            let mut bad = Vec::new();
            for extent in left {
                let mut back = image::buffer::AlignedBuffer::new(usize::try_from(extent.len()).unwrap_or(0));
                self.target.read_back(extent.start(), &mut back)?;
                if !bmap::holes::is_zero(&back) {
                    bad.push(extent);
                }
            }
            left = bad;
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            let (target, attempts) = (self.target.name(), self.attempts);
            return Err(FlashError::NotHeld { target, pieces: left, attempts, rewritable: true, source: None });
        }
        if self.plan.survivors().is_empty() {
            self.set(TargetState::NoHead { written: 0 });
        }
        Ok(())
    }

    /// Called before the first byte of the body is written.
    pub(super) fn body_begins(&self) {
        if self.state() == TargetState::Unchanged {
            self.set(TargetState::Mixed { written: 0 });
        }
    }

    /// Called when head and body are on the target.
    pub(super) fn complete(&self, proven: bool) {
        self.set(if proven { TargetState::Proven } else { TargetState::WrittenUnproven });
    }

    pub(super) fn write_head(&self, head: &[Held]) -> Result<(), FlashError> {
        let progress = Progress::new(Stage::Head, self.observer);
        for held in head {
            self.check_cancel()?;
            self.set(TargetState::HeadIncomplete);
            match held.piece.kind {
                Kind::Data => self.write_data(held.piece.extent, &held.bytes)?,
                _ => self.make_zero(held.piece.extent)?,
            }
            progress.add(held.piece.extent.len());
        }
        self.target.sync()?;
        self.set(TargetState::WrittenUnproven);
        Ok(())
    }

    /// Writes a piece; zeros in it are left to the target where it can make them for free and no map says that they
    /// are data.
    pub(super) fn write_data(&self, extent: ByteRange, bytes: &[u8]) -> Result<(), FlashError> {
        add(&self.counters.data, extent.len());
        if !self.plan.find_zeros() {
            self.target.write(extent.start(), bytes)?;
            add(&self.counters.sent, extent.len());
            return Ok(());
        }
        let granule = self.target.geometry().zero_granule;
        let mut at = extent.start();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (len, zero) = same_kind(at, rest, granule);
            let (now, later) = rest.split_at(len.min(rest.len()));
            let part = ByteRange::at(at, wide(now.len())).unwrap_or(extent);
            if zero && self.target.zero(part)? == Zeroed::Guaranteed {
                add(&self.counters.zeroed, part.len());
            } else {
                self.target.write(at, now)?;
                add(&self.counters.sent, part.len());
            }
            at = part.end();
            rest = later;
        }
        Ok(())
    }

    /// Zeros that the image asks for.
    pub(super) fn make_zero(&self, extent: ByteRange) -> Result<(), FlashError> {
        add(&self.counters.zeros, extent.len());
        if self.target.zero(extent)? == Zeroed::Guaranteed {
            add(&self.counters.zeroed, extent.len());
            return Ok(());
        }
        let zeros = image::buffer::AlignedBuffer::new(1 << 20);
        self.write_zeros(extent, &zeros)?;
        add(&self.counters.sent, extent.len());
        Ok(())
    }

    /// A hole of the map: zeros if they are free.
    pub(super) fn clear_hole(&self, extent: ByteRange) -> Result<(), FlashError> {
        add(&self.counters.holes_zeroed, self.clearing.clear(self.target, extent)?);
        Ok(())
    }

    /// Writes zeros, whatever the target could do for free.
    pub(super) fn write_zeros(&self, extent: ByteRange, zeros: &[u8]) -> Result<(), FlashError> {
        let mut at = extent.start();
        while at < extent.end() {
            let len = usize::try_from(extent.end() - at).map_or(zeros.len(), |rest| rest.min(zeros.len()));
            self.target.write(at, zeros.get(..len).unwrap_or_default())?;
            at = at.saturating_add(wide(len));
        }
        Ok(())
    }
}

pub(super) fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// How many bytes from `at` on are of one kind, all granules of zeros or none, and which.
fn same_kind(at: u64, bytes: &[u8], granule: u64) -> (usize, bool) {
    let mut len = 0;
    let mut first = None;
    while let Some(rest) = bytes.get(len..).filter(|rest| !rest.is_empty()) {
        let here = at.saturating_add(wide(len));
        let to_edge = (here / granule).saturating_add(1).saturating_mul(granule).saturating_sub(here);
        let part = rest.get(..usize::try_from(to_edge).map_or(rest.len(), |edge| edge.min(rest.len())));
        let part = part.unwrap_or_default();
        // Only whole granules go to the target as zeros.
        let zero = wide(part.len()) == granule && bmap::holes::is_zero(part);
        if *first.get_or_insert(zero) != zero {
            break;
        }
        len += part.len();
    }
    (len, first.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_cut_at_granules() {
        let mut bytes = vec![0_u8; 5 * 4096];
        bytes[4096] = 1;
        assert_eq!(same_kind(0, &bytes, 4096), (4096, true));
        assert_eq!(same_kind(4096, &bytes[4096..], 4096), (4096, false));
        assert_eq!(same_kind(8192, &bytes[8192..], 4096), (3 * 4096, true));
        // Neither an unaligned front nor a short end is a granule.
        assert_eq!(same_kind(100, &bytes[..3996], 4096), (3996, false));
        assert_eq!(same_kind(0, &[0; 100], 4096), (100, false));
    }
}
