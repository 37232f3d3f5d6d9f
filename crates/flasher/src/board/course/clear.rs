//! What goes before anything is written: what could start the old system is zeroed, and holes are erased where that is
//! asked for. How a card erases is `erase`'s.

use bmap::ByteRange;

use super::Course;
use super::download::Sending;
use crate::board::batch;
use crate::board::check::{Claim, false_claims};
use crate::board::erase::{Erased, erase};
use crate::board::error::BoardError;
use crate::board::fill::Fill;
use crate::board::pack::Form;
use crate::board::place::Place;
use crate::board::uboot::Uboot;
use crate::board::wire::{Costs, Wire};
use crate::board::zeros::zero_claim;
use crate::error::TargetState;
use crate::event::{Event, Stage};
use crate::plan::Phase;

impl Course<'_> {
    /// Zeros over what could start the old system, proven.
    pub(super) fn clear(&mut self, uboot: &mut Uboot, place: &Place) -> Result<(), BoardError> {
        if self.cleared {
            return Ok(());
        }
        let ranges = self.ground.feed.plan().invalidate().to_vec();
        if ranges.is_empty() {
            self.cleared = true;
            if self.state == TargetState::Unchanged {
                self.state = TargetState::Mixed { written: 0 };
            }
            return Ok(());
        }
        let (done, written) = (self.stage_done, self.sums.written);
        self.begin(Stage::Invalidate, Some(ranges.iter().map(|range| range.len()).sum()));
        let size = self.image_size();
        let fills = ranges.iter().map(|extent| Fill { extent: *extent, word: [0; 4] });
        let batch = batch::zeros(self.ground.feed, fills, size)?;
        self.state = TargetState::Mixed { written: 0 };
        for attempt in 0..=self.how.attempts {
            let costs = &mut Costs::new(Wire::Only(Form::Raw), &uboot.profile.clone(), place);
            self.send(uboot, place, &batch, costs, Sending::default())?;
            let Some(sum) = self.how.proof else { break };
            let claims: Vec<Claim> = ranges.iter().map(|extent| zero_claim(*extent)).collect();
            let start = uboot.now();
            let bad = false_claims(uboot, place, &claims, sum, &mut |_| Ok(()))?;
            self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(start));
            if bad.is_empty() {
                break;
            }
            let bad: Vec<ByteRange> = bad.iter().filter_map(|at| ranges.get(*at)).copied().collect();
            if attempt == self.how.attempts {
                return Err(BoardError::NotHeld { pieces: bad, attempts: attempt });
            }
            bad.iter().for_each(|extent| self.observer.event(&Event::Retry { extent: *extent, attempt: attempt + 1 }));
        }
        self.cleared = true;
        // Zeros that are written over again are no part of the image.
        (self.stage_done, self.sums.written) = (done, written);
        self.state = TargetState::NoHead { written: self.sums.written };
        // From here on the whole head must be written, whatever was there.
        for index in self.pieces(Phase::Head) {
            self.unknow(index);
        }
        Ok(())
    }

    /// Erases the map's holes behind the head, but for what is kept. Where that cannot be done they are all left alone,
    /// and counted as such.
    pub(super) fn erase(&mut self, uboot: &mut Uboot, place: &Place) -> Result<(), BoardError> {
        let Some(map) = self.ground.map else { return Ok(()) };
        let plan = self.ground.feed.plan();
        let behind = map.holes().filter_map(|hole| ByteRange::new(hole.start().max(plan.head()), hole.end()));
        let holes: Vec<ByteRange> = behind.flat_map(|hole| plan.but_kept(hole)).collect();
        let total = holes.iter().map(|hole| hole.len()).sum();
        let (Some(_), Some(first)) = (uboot.profile.shell, place.start) else {
            self.erased = Some(Erased { left: total, ..Erased::default() });
            return Ok(());
        };
        self.begin(Stage::Erase, Some(total));
        let start = uboot.now();
        self.erased = Some(erase(uboot, place, first, &holes, self.how.proof)?);
        self.spent.card = self.spent.card.saturating_add(uboot.now().saturating_sub(start));
        Ok(())
    }
}
