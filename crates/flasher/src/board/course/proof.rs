//! Proof: the board judges what was sent, all of a phase at its end or some of it while others have the bus. What it
//! finds wrong is sent again.
//!
//! How a board is asked is `check`'s. Where it has no sums, `write` has compared everything by now.

use std::collections::BTreeSet;

use bmap::{Algorithm, ByteRange, Hasher};

use super::Course;
use super::known::Known;
use crate::board::batch::Item;
use crate::board::check::{Claim, Sum, false_claims};
use crate::board::error::BoardError;
use crate::board::place::Place;
use crate::board::uboot::{SECTOR, Uboot};
use crate::board::wire::Costs;
use crate::event::{Event, Stage};
use crate::plan::Phase;

/// How much is proven at a time while others have the bus.
const PROVE_MEANWHILE: u64 = 16 << 20;

impl Course<'_> {
    /// What the card must hold of these pieces: a claim for each, or several for one that is longer than the memory
    /// that it can be read into.
    pub(super) fn claims(&mut self, uboot: &Uboot, indices: &[usize]) -> Result<Vec<Claim>, BoardError> {
        let items: Vec<Item> =
            indices.iter().map(|index| Item { index: *index, extent: self.extent(*index) }).collect();
        self.claims_of(uboot, &items)
    }

    /// The same of pieces, or parts of them.
    fn claims_of(&mut self, uboot: &Uboot, items: &[Item]) -> Result<Vec<Claim>, BoardError> {
        let most = uboot.profile.scratch_bytes() / SECTOR * SECTOR;
        let most = if most == 0 { u64::MAX } else { most };
        let mut claims = Vec::with_capacity(items.len());
        for Item { index, extent } in items.iter().copied() {
            let piece = self.extent(index);
            if extent == piece && extent.len() <= most {
                let facts = self.waiting(uboot, |feed| feed.facts(index))?;
                claims.push(Claim { index, extent, crc32: facts.crc32, sha256: facts.sha256 });
                continue;
            }
            let bytes = self.waiting(uboot, |feed| feed.bytes(index))?;
            let offset = |at: u64| usize::try_from(at.saturating_sub(piece.start())).unwrap_or(usize::MAX);
            let part = bytes.get(offset(extent.start())..offset(extent.end())).unwrap_or_default();
            let mut at = extent.start();
            for part in part.chunks(usize::try_from(most).unwrap_or(usize::MAX)) {
                let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
                let Some(extent) = ByteRange::at(at, len) else { break };
                let (crc32, sha256) = (crc32fast::hash(part), Hasher::digest(Algorithm::Sha256, part));
                claims.push(Claim { index, extent, crc32, sha256 });
                at = extent.end();
            }
        }
        Ok(claims)
    }

    /// Those of these items that the card does not hold, as far as it can be told. Where there are no sums, they were
    /// compared as they were written.
    pub(super) fn not_held(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        items: &[Item],
    ) -> Result<Vec<Item>, BoardError> {
        let Some(sum) = self.how.proof.filter(|_| !self.compares()) else { return Ok(Vec::new()) };
        let claims = self.claims_of(uboot, items)?;
        let (start, cancel) = (uboot.now(), self.ground.cancel);
        let bad = false_claims(uboot, place, &claims, sum, &mut |_| {
            if cancel.is_cancelled() { Err(BoardError::Cancelled) } else { Ok(()) }
        });
        self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(start));
        let bad: Vec<ByteRange> = bad?.iter().filter_map(|at| claims.get(*at)).map(|claim| claim.extent).collect();
        let wrong =
            |item: &&Item| bad.iter().any(|extent| extent.intersect(item.extent).is_some_and(|part| !part.is_empty()));
        Ok(items.iter().filter(wrong).copied().collect())
    }

    /// Something is sent again: tells of it, and counts it.
    pub(super) fn again(&mut self, extent: ByteRange, attempt: u32) {
        self.observer.event(&Event::Retry { extent, attempt });
        self.sums.resent += 1;
    }

    /// Has the board judge what was sent; what is wrong is sent again.
    pub(super) fn prove(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        phase: Phase,
        stage: Stage,
        sum: Sum,
    ) -> Result<(), BoardError> {
        for attempt in 0..=self.how.attempts {
            let sent: Vec<usize> =
                self.pieces(phase).into_iter().filter(|index| self.known.get(*index) == Some(&Known::Sent)).collect();
            if sent.is_empty() {
                return Ok(());
            }
            if sum == Sum::Compare {
                // It was compared as it was written.
                for index in sent {
                    self.know_proven(index);
                }
                self.journal.flush();
                return Ok(());
            }
            let claims = self.claims(uboot, &sent)?;
            if stage == Stage::Prove {
                self.begin(stage, Some(claims.iter().map(|claim| claim.extent.len()).sum()));
            }
            let (start, observer, cancel) = (uboot.now(), self.observer, self.ground.cancel);
            let bad = false_claims(uboot, place, &claims, sum, &mut |done| {
                observer.event(&Event::Progress { stage, done, position: 0 });
                if cancel.is_cancelled() { Err(BoardError::Cancelled) } else { Ok(()) }
            });
            self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(start));
            let bad = bad?;
            let bad: BTreeSet<usize> = bad.iter().filter_map(|at| claims.get(*at)).map(|claim| claim.index).collect();
            let mut wrong = Vec::new();
            for index in sent {
                if bad.contains(&index) {
                    wrong.push(index);
                    self.know(index, Known::Nothing);
                } else {
                    self.know_proven(index);
                }
            }
            self.journal.flush();
            if wrong.is_empty() {
                return Ok(());
            }
            if attempt == self.how.attempts {
                let pieces = wrong.iter().map(|index| self.extent(*index)).collect();
                return Err(BoardError::NotHeld { pieces, attempts: attempt });
            }
            wrong.iter().for_each(|index| self.again(self.extent(*index), attempt + 1));
            let items = wrong.iter().map(|index| Item { index: *index, extent: self.extent(*index) }).collect();
            self.send_plain(uboot, place, costs, items)?;
            wrong.iter().for_each(|index| self.know(*index, Known::Sent));
        }
        Ok(())
    }

    /// Has the board judge a few of the pieces that were sent; `false` if there are none. What is found wrong waits for
    /// the proof of everything.
    pub(super) fn prove_some(&mut self, uboot: &mut Uboot, place: &Place) -> Result<bool, BoardError> {
        let Some(sum) = self.how.proof.filter(|_| !self.compares()) else { return Ok(false) };
        let mut bytes = 0_u64;
        let sent = (self.proven_to..self.known.len()).filter(|index| self.known.get(*index) == Some(&Known::Sent));
        let some: Vec<usize> = sent
            .take_while(|index| {
                bytes = bytes.saturating_add(self.extent(*index).len());
                bytes <= PROVE_MEANWHILE
            })
            .collect();
        let Some(last) = some.last() else { return Ok(false) };
        self.proven_to = last + 1;
        let claims = self.claims(uboot, &some)?;
        let start = uboot.now();
        let bad = false_claims(uboot, place, &claims, sum, &mut |_| Ok(()));
        self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(start));
        let bad: BTreeSet<usize> = bad?.iter().filter_map(|at| claims.get(*at)).map(|claim| claim.index).collect();
        for index in some.into_iter().filter(|index| !bad.contains(index)) {
            self.know_proven(index);
        }
        self.journal.flush();
        Ok(true)
    }
}
