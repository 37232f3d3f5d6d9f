//! The head: what lies in front of the first partition. It is cleared before it is written, and what a ROM looks for
//! comes at the very end, when all else is proven. What is found wrong then is cleared again before it is mended, and
//! stays cleared if it cannot be: a head that is not held does not start.

use bmap::ByteRange;

use super::Course;
use super::download::Sending;
use super::known::Known;
use crate::board::batch::{self, Item};
use crate::board::error::BoardError;
use crate::board::pack::Form;
use crate::board::place::Place;
use crate::board::uboot::{SECTOR, Uboot};
use crate::board::wire::Costs;
use crate::error::TargetState;
use crate::event::Stage;
use crate::plan::Phase;

impl Course<'_> {
    /// What lies in front of the first partition, its first blocks last.
    pub(super) fn head(&mut self, uboot: &mut Uboot, place: &Place, costs: &mut Costs) -> Result<(), BoardError> {
        let head = self.pieces(Phase::Head);
        if head.is_empty() {
            return Ok(());
        }
        let perhaps = |course: &Self| head.iter().any(|index| course.known.get(*index) == Some(&Known::Perhaps));
        if !self.cleared && perhaps(self) {
            for index in &head {
                if self.known.get(*index) == Some(&Known::Perhaps) {
                    self.different(uboot, place, std::slice::from_ref(index))?;
                }
            }
        }
        if head.iter().all(|index| self.known.get(*index) == Some(&Known::Proven)) {
            return Ok(());
        }
        self.clear(uboot, place)?;
        self.begin(Stage::Head, Some(head.iter().map(|index| self.extent(*index).len()).sum()));
        let first = if self.how.keep_head { Vec::new() } else { self.ground.feed.plan().invalidate().to_vec() };
        let mut rest = Vec::new();
        let mut last = LastSteps::default();
        for index in head.iter().filter(|index| self.known.get(**index) != Some(&Known::Proven)) {
            let mut at = self.extent(*index).start();
            let end = self.extent(*index).end();
            for cut in &first {
                let Some(cut) = cut.intersect(self.extent(*index)).filter(|cut| !cut.is_empty()) else { continue };
                rest.extend(Item::of(*index, at, cut.start()));
                last.take(*index, cut);
                at = cut.end();
            }
            rest.extend(Item::of(*index, at, end));
        }
        if first.is_empty() && self.state.changed() {
            // Nothing was cleared: what is there of the old head and the new one is a mix.
            self.state = TargetState::HeadIncomplete;
        }
        self.rest_of_head(uboot, place, costs, rest)?;
        self.front_of_head(uboot, place, costs, &head, &last)?;
        self.state = TargetState::WrittenUnproven;
        for index in head {
            if self.how.proof.is_some() && self.known.get(index) != Some(&Known::Proven) {
                self.know_proven(index);
            }
        }
        self.journal.flush();
        Ok(())
    }

    /// What nothing starts from, proven before anything can start it.
    fn rest_of_head(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        mut items: Vec<Item>,
    ) -> Result<(), BoardError> {
        for attempt in 0..=self.how.attempts {
            self.send_plain(uboot, place, costs, items.clone())?;
            items = self.not_held(uboot, place, &items)?;
            if items.is_empty() {
                return Ok(());
            }
            if attempt == self.how.attempts {
                let pieces = items.iter().map(|item| item.extent).collect();
                return Err(BoardError::NotHeld { pieces, attempts: attempt });
            }
            items.iter().for_each(|item| self.again(item.extent, attempt + 1));
        }
        Ok(())
    }

    /// The blocks that were cleared, in the order of their steps, each proven before the next. Where one was stored wrong,
    /// all are cleared again before anything else is done: a loader that is found must not lie among wrong bytes, not
    /// even while they are sent again.
    fn front_of_head(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        head: &[usize],
        last: &LastSteps,
    ) -> Result<(), BoardError> {
        for attempt in 0..=self.how.attempts {
            self.clear(uboot, place)?;
            // If the board is lost from here on it may have all of the head.
            head.iter().for_each(|index| self.know_sent(*index));
            self.state = TargetState::HeadIncomplete;
            let Err(error) = self.last(uboot, place, costs, last) else { return Ok(()) };
            let pieces = match error {
                BoardError::NotHeld { pieces, .. } => pieces,
                error @ BoardError::Refused { .. } => return Err(self.taken_back(uboot, place, error)),
                error => return Err(error),
            };
            if attempt == self.how.attempts {
                return Err(self.taken_back(uboot, place, BoardError::NotHeld { pieces, attempts: attempt }));
            }
            pieces.iter().for_each(|extent| self.again(*extent, attempt + 1));
            self.cleared = false;
        }
        Ok(())
    }

    /// Clears what could start what was not stored right. If that fails too, the first error is what has to be seen to,
    /// and nothing is said of what the board would start.
    fn taken_back(&mut self, uboot: &mut Uboot, place: &Place, error: BoardError) -> BoardError {
        self.cleared = false;
        if self.clear(uboot, place).is_err() {
            self.state = TargetState::HeadIncomplete;
        }
        error
    }

    /// What makes the head whole, in its order.
    fn last(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        steps: &LastSteps,
    ) -> Result<(), BoardError> {
        let sending = Sending { once: true, ..Sending::default() };
        for items in steps.0.iter().filter(|items| !items.is_empty()) {
            let batch = if place.takes_parts(&uboot.profile) {
                batch::parts(Form::Raw, items.iter().map(|item| (*item, None)).collect())
            } else {
                batch::sectors(self.ground.feed, items.clone(), self.image_size())?
            };
            self.send(uboot, place, &batch, costs, sending)?;
            let wrong = self.not_held(uboot, place, items)?;
            if !wrong.is_empty() {
                let pieces = wrong.iter().map(|item| item.extent).collect();
                return Err(BoardError::NotHeld { pieces, attempts: 0 });
            }
        }
        Ok(())
    }
}

/// The first blocks of table and loaders, in the order in which they may be written: power may be lost between any two
/// sectors, and a ROM looks no further than a loader's first sector to find it. So that sector comes when all else is
/// there.
#[derive(Debug, Default)]
struct LastSteps([Vec<Item>; 3]);

impl LastSteps {
    /// Takes what of a cleared block lies in a piece.
    fn take(&mut self, index: usize, cut: ByteRange) {
        /// Loaders begin here, or where the page before it does: 1 KiB and 33 KiB, of i.MX6 to i.MX8M Mini.
        const SECOND: u64 = 1024;
        const PAGE: u64 = 4096;
        let page = cut.start() / PAGE * PAGE;
        let sector = |at: u64| ByteRange::at(at, SECTOR);
        // The loader that begins with its page comes last, for the other's place may be a part of it.
        let loader = if page >= 8 * PAGE { sector(page) } else { None };
        let mut at = cut.start();
        for (step, sector) in [(2, loader), (1, sector(page.saturating_add(SECOND)))] {
            let Some(sector) = sector.and_then(|sector| sector.intersect(cut)).filter(|sector| !sector.is_empty())
            else {
                continue;
            };
            self.0[0].extend(Item::of(index, at, sector.start()));
            self.0[step].extend(Item::of(index, sector.start(), sector.end()));
            at = sector.end();
        }
        self.0[0].extend(Item::of(index, at, cut.end()));
    }
}
