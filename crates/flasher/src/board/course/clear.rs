//! What goes before anything is written: what could start the old system is zeroed, and holes are erased where that is
//! asked for. How a card erases is `erase`'s.

use bmap::{Algorithm, ByteRange, Hasher};

use super::Course;
use super::download::Sending;
use crate::board::batch::{self, Batch};
use crate::board::check::{Claim, false_claims};
use crate::board::erase::{Erased, erase};
use crate::board::error::BoardError;
use crate::board::fill::Fill;
use crate::board::pack::Form;
use crate::board::place::Place;
use crate::board::uboot::{SECTOR, Uboot};
use crate::board::wire::{Costs, Wire};
use crate::board::zeros::zero_claim;
use crate::error::TargetState;
use crate::event::{Event, Note, Stage};
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
            return Ok(());
        }
        let done = self.stage_done;
        self.begin(Stage::Invalidate, Some(ranges.iter().map(|range| range.len()).sum()));
        let size = self.image_size();
        let fills = ranges.iter().map(|extent| Fill { extent: *extent, word: [0; 4] });
        let batch = batch::zeros(self.ground.feed, fills, size)?;
        self.put_zeros(uboot, place, &ranges, &batch)?;
        // Without the table in front a loader in a boot partition would look for its backup.
        if ranges.first().is_some_and(|range| range.start() == 0) {
            self.clear_backup(uboot, place)?;
        }
        self.cleared = true;
        // Zeros that are written over again are no part of the image.
        self.stage_done = done;
        self.state = TargetState::NoHead { written: self.sums.written };
        // From here on the whole head must be written, whatever was there.
        for index in self.pieces(Phase::Head) {
            self.unknow(index);
        }
        Ok(())
    }

    /// The header of an old backup table at the end of a card that is longer than the image: zeroed where it is seen to
    /// be there, as on disks. Otherwise nothing is written behind the image.
    fn clear_backup(&mut self, uboot: &mut Uboot, place: &Place) -> Result<(), BoardError> {
        /// A GPT's header begins so (UEFI specification, GPT header).
        const SIGNATURE: &[u8] = b"EFI PART";
        let Some(size) = place.size.filter(|_| place.start == Some(0)) else { return Ok(()) };
        let image = self.image_size();
        for sector in [SECTOR, 4096] {
            let last = size.checked_sub(sector).filter(|at| *at >= image && size.is_multiple_of(sector));
            let Some(last) = last.and_then(|at| ByteRange::at(at, sector)) else { continue };
            if self.ground.feed.plan().but_kept(last) != [last] {
                continue;
            }
            if !uboot.profile.can_sum() {
                let told = std::mem::replace(&mut self.backup_told, true);
                if !told {
                    self.observer.event(&Event::Note(Note::BackupTable { at: last, cleared: false }));
                }
                return Ok(());
            }
            let begins = ByteRange::at(last.start(), 8).unwrap_or(last);
            let (crc32, sha256) = (crc32fast::hash(SIGNATURE), Hasher::digest(Algorithm::Sha256, SIGNATURE));
            let claim = Claim { index: usize::MAX, extent: begins, crc32, sha256 };
            let sum = self.compare(uboot);
            if !false_claims(uboot, place, &[claim], sum, &mut |_| Ok(()))?.is_empty() {
                continue;
            }
            let batch = batch::zero_sectors(self.ground.feed, Fill { extent: last, word: [0; 4] }, size)?;
            self.put_zeros(uboot, place, &[last], &batch)?;
            self.observer.event(&Event::Note(Note::BackupTable { at: last, cleared: true }));
        }
        Ok(())
    }

    /// Sends a download of zeros, and proves that they are where they should be.
    fn put_zeros(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        ranges: &[ByteRange],
        batch: &Batch,
    ) -> Result<(), BoardError> {
        for attempt in 0..=self.how.attempts {
            let costs = &mut Costs::new(Wire::Only(Form::Raw), &uboot.profile.clone(), place);
            self.send(uboot, place, batch, costs, Sending::default())?;
            let Some(sum) = self.how.proof else { return Ok(()) };
            let claims: Vec<Claim> = ranges.iter().map(|extent| zero_claim(*extent)).collect();
            let start = uboot.now();
            let bad = false_claims(uboot, place, &claims, sum, &mut |_| Ok(()))?;
            self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(start));
            if bad.is_empty() {
                return Ok(());
            }
            let bad: Vec<ByteRange> = bad.iter().filter_map(|at| ranges.get(*at)).copied().collect();
            if attempt == self.how.attempts {
                return Err(BoardError::NotHeld { pieces: bad, attempts: attempt });
            }
            bad.iter().for_each(|extent| self.observer.event(&Event::Retry { extent: *extent, attempt: attempt + 1 }));
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
        if self.state == TargetState::Unchanged && !holes.is_empty() {
            self.state = TargetState::Mixed { written: 0 };
        }
        let start = uboot.now();
        self.erased = Some(erase(uboot, place, first, &holes, self.how.proof)?);
        self.spent.card = self.spent.card.saturating_add(uboot.now().saturating_sub(start));
        Ok(())
    }
}
