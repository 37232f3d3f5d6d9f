//! What the card holds already: pieces that may be there are compared by their sums, and those that are are passed over.

use std::collections::BTreeSet;

use super::Course;
use super::known::Known;
use crate::board::check::{Sum, true_claims};
use crate::board::error::BoardError;
use crate::board::place::Place;
use crate::board::uboot::Uboot;

impl Course<'_> {
    /// Those of `indices` that must be sent.
    pub(super) fn different(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        indices: &[usize],
    ) -> Result<Vec<usize>, BoardError> {
        let perhaps = indices.first().and_then(|index| self.known.get(*index)) == Some(&Known::Perhaps);
        if !perhaps || !uboot.profile.can_sum() || place.start.is_none() {
            return Ok(indices.to_vec());
        }
        let claims = self.claims(uboot, indices)?;
        // While the board reads these, the next are read here; the few that differ are read once more.
        if let Some(last) = indices.last().filter(|_| !self.ground.feed.must_wait()) {
            self.ground.feed.reached(self.board, last.saturating_add(1));
        }
        let start = uboot.now();
        let sum = self.compare(uboot);
        self.compared = Some(sum);
        let marks = true_claims(uboot, place, &claims, sum);
        self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(start));
        let marks = claims.iter().zip(marks?);
        let bad: BTreeSet<usize> = marks.filter(|(_, right)| !right).map(|(claim, _)| claim.index).collect();
        let mut wrong = Vec::new();
        for index in indices.iter().copied() {
            if bad.contains(&index) {
                self.know(index, Known::Nothing);
                wrong.push(index);
                continue;
            }
            let extent = self.extent(index);
            self.know_proven(index);
            let sum = if self.touched.insert(index) {
                self.passed.insert(index);
                &mut self.sums.skipped
            } else {
                &mut self.sums.survived
            };
            *sum = sum.saturating_add(extent.len());
            self.ground.feed.passed_over(index);
            self.advance(self.stage, extent.len(), extent.end());
        }
        self.journal.flush();
        Ok(wrong)
    }

    /// The sum to compare by: as asked, or what there is.
    pub(super) fn compare(&self, uboot: &Uboot) -> Sum {
        match self.how.compare {
            Sum::Sha256 if uboot.profile.sha256 => Sum::Sha256,
            _ if uboot.profile.crc32_verify => Sum::Crc32,
            _ => Sum::Sha256,
        }
    }
}
