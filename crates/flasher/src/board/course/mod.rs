//! One board's way through a plan: clear what boots, body, proof, head, proof. It can be gone again from any point.
//!
//! What is known of each piece survives the loss of the board: a piece that was written before is compared before it is
//! sent again. The head is cleared anew after each loss and written last, its first blocks at the very end, so that at
//! no time anything boots but the whole image.
//!
//! Here is the state of a course and the order of its stages. `known` is what is known of each piece; `clear`, `body`
//! and `head` are the stages, `same` finds what need not be sent and `proof` judges what was. `form` chooses how pieces
//! travel, `download` sends them and `write` has the board write them.

mod body;
mod clear;
mod download;
mod form;
mod head;
mod known;
mod proof;
mod same;
mod write;

use std::collections::BTreeSet;
use std::time::Duration;

use bmap::BlockMap;

use super::check::Sum;
use super::erase::Erased;
use super::error::BoardError;
use super::feed::{Dry, Feed};
use super::journal::Journal;
use super::pack::Packer;
use super::place::{Place, To};
use super::sums::{Spent, Sums};
use super::turns::{SharedBus, Turns};
use super::uboot::Uboot;
use super::wire::{Costs, Wire};
use crate::cancel::Cancel;
use crate::error::TargetState;
use crate::event::{Event, Observer, Stage};
use crate::plan::Phase;

use known::Known;

/// The most that is written by one download. As much as the window holds, and then some pieces less.
const BATCH: u64 = 64 << 20;
/// Bytes of the image that are read ahead of the fastest board, for all boards together: a batch and what is read while
/// it is written.
pub(super) const AHEAD: u64 = BATCH + (16 << 20);

/// How a board is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) wire: Wire,
    /// By what it is proven; `None` for no proof.
    pub(super) proof: Option<Sum>,
    /// By what it is compared first.
    pub(super) compare: Sum,
    /// How often bad pieces are sent again.
    pub(super) attempts: u32,
    /// How long a card that refused is left alone before it is asked once more.
    pub(super) pause: Duration,
    pub(super) keep_head: bool,
    /// Erase the map's holes.
    pub(super) erase: bool,
}

/// What stays the same for all boards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) feed: &'a Feed<'a>,
    pub(super) packer: &'a Packer<'a>,
    pub(super) turns: &'a Turns,
    pub(super) cancel: &'a Cancel,
    pub(super) map: Option<&'a BlockMap>,
}

/// See the module's description.
pub(super) struct Course<'a> {
    pub(super) board: usize,
    ground: Ground<'a>,
    how: How,
    bus: SharedBus,
    observer: &'a dyn Observer,
    known: Vec<Known>,
    /// Pieces that were sent by this job, or found to be there by it: they are counted once.
    touched: BTreeSet<usize>,
    /// Those of them that were found to be there.
    passed: BTreeSet<usize>,
    pub(super) sums: Sums,
    pub(super) spent: Spent,
    pub(super) state: TargetState,
    pub(super) journal: Journal,
    pub(super) erased: Option<Erased>,
    /// By what pieces were found to be there already.
    pub(super) compared: Option<Sum>,
    cleared: bool,
    /// It was told that a backup table may be left.
    backup_told: bool,
    /// Pieces before this one were judged while others had the bus, if they were sent.
    proven_to: usize,
    /// How much better than LZ4 gzip packs this image, by the first samples.
    gzip: Option<f64>,
    /// The stage that was told last, and the bytes done in it.
    stage: Stage,
    stage_done: u64,
}

impl<'a> Course<'a> {
    /// A board that is to be written. `delta`: compare everything first.
    pub(super) fn new(
        board: usize,
        ground: Ground<'a>,
        how: How,
        bus: SharedBus,
        delta: bool,
        journal: Journal,
        observer: &'a dyn Observer,
    ) -> Self {
        let first = if delta { Known::Perhaps } else { Known::Nothing };
        let mut known = vec![first; ground.feed.pieces().len()];
        journal
            .hints()
            .iter()
            .for_each(|index| known.iter_mut().skip(*index).take(1).for_each(|known| *known = Known::Perhaps));
        let wanted = ground.feed.pieces().iter().filter(|piece| !piece.kept).map(|piece| piece.extent.len()).sum();
        Self {
            board,
            ground,
            how,
            bus,
            observer,
            known,
            touched: BTreeSet::new(),
            passed: BTreeSet::new(),
            sums: Sums { wanted, ..Sums::default() },
            spent: Spent::default(),
            state: TargetState::Unchanged,
            journal,
            erased: None,
            compared: None,
            cleared: false,
            backup_told: false,
            proven_to: 0,
            gzip: None,
            stage: Stage::Write,
            stage_done: 0,
        }
    }

    /// The board is back, perhaps with another U-Boot or at another port.
    pub(super) fn reconnected(&mut self, how: How, bus: SharedBus) {
        self.how = how;
        self.bus = bus;
        self.sums.returns += 1;
    }

    /// How many pieces are proven or sent: whether a return got anywhere.
    pub(super) fn progress(&self) -> usize {
        self.known.iter().filter(|known| matches!(known, Known::Sent | Known::Proven)).count()
    }

    /// The link was lost: what was sent is there only perhaps, and so is what was proven. It may be another board that
    /// comes back, under a number that both have, and its card may have lost power before it had everything.
    pub(super) fn lost(&mut self) {
        for known in &mut self.known {
            if matches!(known, Known::Sent | Known::Proven) {
                *known = Known::Perhaps;
            }
        }
        self.sums.proven = 0;
        // Nothing is known of the head: it is cleared and written again, unless all of it is there.
        self.cleared = false;
        self.proven_to = 0;
    }

    /// Goes all the way. May be called again after [`Course::lost`].
    pub(super) fn go(&mut self, uboot: &mut Uboot, place: &Place, to: &To) -> Result<(), BoardError> {
        if let Some(capacity) = place.size
            && let Some(image) = self.ground.feed.plan().image_size()
            && image > capacity
        {
            return Err(BoardError::TooSmall { place: to.clone(), image, capacity });
        }
        let mut costs = Costs::new(self.how.wire, &uboot.profile, place);
        let delta = self.known.contains(&Known::Perhaps);
        if !delta {
            self.clear(uboot, place)?;
        }
        if self.how.erase && !delta && self.erased.is_none() {
            self.erase(uboot, place)?;
        }
        self.body(uboot, place, &mut costs)?;
        if let Some(sum) = self.how.proof {
            self.prove(uboot, place, &mut costs, Phase::Body, Stage::Prove, sum)?;
        }
        self.waiting(uboot, |feed| feed.wait_for_end())?;
        self.head(uboot, place, &mut costs)?;
        self.state = if self.how.proof.is_some() { TargetState::Proven } else { TargetState::WrittenUnproven };
        Ok(())
    }

    fn begin(&mut self, stage: Stage, total: Option<u64>) {
        self.stage = stage;
        self.stage_done = 0;
        self.observer.event(&Event::Stage { stage, total });
    }

    fn advance(&mut self, stage: Stage, bytes: u64, position: u64) {
        self.stage_done = self.stage_done.saturating_add(bytes);
        self.observer.event(&Event::Progress { stage, done: self.stage_done, position });
    }

    fn check_cancel(&self) -> Result<(), BoardError> {
        if self.ground.cancel.is_cancelled() { Err(BoardError::Cancelled) } else { Ok(()) }
    }

    /// Waits for the source, and counts the time.
    fn waiting<T>(
        &mut self,
        uboot: &Uboot,
        wait: impl FnOnce(&'a Feed<'a>) -> Result<T, Dry>,
    ) -> Result<T, BoardError> {
        let start = uboot.now();
        let got = wait(self.ground.feed);
        self.spent.source = self.spent.source.saturating_add(uboot.now().saturating_sub(start));
        Ok(got?)
    }

    fn image_size(&self) -> u64 {
        self.ground.feed.plan().image_size().unwrap_or(0)
    }
}
