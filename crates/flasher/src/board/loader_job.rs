//! A job of a loader alone: no image, only a boot partition of each board. How it gets there is `loader`'s.

use std::sync::{Mutex, PoisonError};
use std::thread;

use super::connected::{Connect, Connected};
use super::error::BoardError;
use super::job::BoardObserver;
use super::loader::{self, Loader, Putting};
use super::options::Proof;
use super::place::To;
use super::result::BoardResult;
use super::suits;
use super::sums::Sums;
use super::then::{Then, farewell};
use super::uboot::Uboot;
use crate::error::TargetState;
use crate::event::{Event, Stage};

/// A loader, the boards it goes to, and how: no image, only a boot partition.
pub struct LoaderJob<'a> {
    /// The loader.
    pub loader: Loader,
    /// How many boards there are.
    pub boards: usize,
    /// Brings them to fastboot.
    pub connect: &'a dyn Connect,
    /// How they are proven.
    pub proof: Proof,
    /// How often it is written again.
    pub attempts: u32,
    /// What to do at the end.
    pub then: Then,
    /// Is told what happens.
    pub observer: &'a dyn BoardObserver,
}

impl std::fmt::Debug for LoaderJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoaderJob").field("boards", &self.boards).finish_non_exhaustive()
    }
}

/// Writes a loader into a boot partition of each board; returns what became of each, in order.
#[must_use]
pub fn flash_loader(job: &LoaderJob<'_>) -> Vec<BoardResult> {
    let results: Vec<Mutex<Option<BoardResult>>> = (0..job.boards).map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for (board, slot) in results.iter().enumerate() {
            scope.spawn(move || {
                let result = one_loader(job, board);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            });
        }
    });
    let take = |slot: Mutex<Option<BoardResult>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|slot| take(slot).unwrap_or_else(|| BoardResult::failed(BoardError::Panicked))).collect()
}

fn one_loader(job: &LoaderJob<'_>, board: usize) -> BoardResult {
    let started = imx_usb::pipe::monotonic();
    let observer = |event: &Event| job.observer.event(board, event);
    let mut result = BoardResult::failed(BoardError::Panicked);
    let done = (|| {
        let connected = job.connect.connect(board, &To::Emmc, None, &observer)?;
        result.spent.boot = imx_usb::pipe::monotonic().saturating_sub(started);
        let Connected { session, profile, serial, chip, row, .. } = connected;
        (result.serial, result.chip) = (serial, chip);
        let mut uboot = Uboot::new(session, profile);
        let offset = suits::check(&mut uboot, &job.loader, row.as_ref())?;
        observer(&Event::Stage { stage: Stage::BootPartition, total: None });
        let how = Putting { loader: &job.loader, offset, proof: job.proof, attempts: job.attempts };
        let mut begun = false;
        let placed = loader::put(&mut uboot, how, &mut begun);
        if begun {
            result.state = TargetState::Mixed { written: 0 };
        }
        let placed = placed?;
        let sum = placed.proof;
        result.state = if sum.is_some() { TargetState::Proven } else { TargetState::WrittenUnproven };
        result.sums = Sums { wanted: placed.bytes, written: placed.bytes, sent: placed.bytes, ..Sums::default() };
        (result.proof, result.loader) = (sum, Some(placed));
        result.sums.proven = if sum.is_some() { placed.bytes } else { 0 };
        farewell(&mut uboot, job.then)
    })();
    observer(&Event::BoardDone);
    result.error = done.err();
    result.time = imx_usb::pipe::monotonic().saturating_sub(started);
    result
}
