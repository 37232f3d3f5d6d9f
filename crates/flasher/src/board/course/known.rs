//! What is known of the pieces of a plan, and what they are. It is kept by number: pieces are as the feed counts them.

use bmap::ByteRange;

use super::Course;
use crate::error::TargetState;
use crate::plan::{Kind, Phase};

/// What is known of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It must be sent.
    Nothing,
    /// It may be there: compare first.
    Perhaps,
    /// It was sent in this connection.
    Sent,
    /// The board has judged it right.
    Proven,
}

impl Course<'_> {
    pub(super) fn pieces(&self, phase: Phase) -> Vec<usize> {
        let pieces = self.ground.feed.pieces().iter().enumerate();
        pieces.filter(|(_, piece)| piece.phase == phase && !piece.kept).map(|(index, _)| index).collect()
    }

    pub(super) fn extent(&self, index: usize) -> ByteRange {
        self.ground.feed.pieces().get(index).map_or(ByteRange::first(0), |piece| piece.extent)
    }

    pub(super) fn is_data(&self, index: usize) -> bool {
        self.ground.feed.pieces().get(index).is_some_and(|piece| piece.kind == Kind::Data)
    }

    pub(super) fn weight(&self, indices: &[usize]) -> u64 {
        indices.iter().map(|index| self.ground.feed.weight(*index)).sum()
    }

    pub(super) fn know(&mut self, index: usize, now: Known) {
        self.known.iter_mut().skip(index).take(1).for_each(|known| *known = now);
    }

    pub(super) fn know_sent(&mut self, index: usize) {
        if self.touched.insert(index) {
            self.sums.written = self.sums.written.saturating_add(self.extent(index).len());
            if let TargetState::NoHead { written } | TargetState::Mixed { written } = &mut self.state {
                *written = self.sums.written;
            }
        }
        if self.known.get(index) != Some(&Known::Proven) {
            self.know(index, Known::Sent);
        }
    }

    /// It must be sent, whatever was known of it: it is taken off the sums it was counted in.
    pub(super) fn unknow(&mut self, index: usize) {
        let len = self.extent(index).len();
        if self.known.get(index) == Some(&Known::Proven) {
            self.sums.proven = self.sums.proven.saturating_sub(len);
        }
        if self.passed.remove(&index) {
            self.sums.skipped = self.sums.skipped.saturating_sub(len);
            self.touched.remove(&index);
        }
        self.know(index, Known::Nothing);
    }

    /// The board has judged it right.
    pub(super) fn know_proven(&mut self, index: usize) {
        self.know(index, Known::Proven);
        self.sums.proven = self.sums.proven.saturating_add(self.extent(index).len());
        self.journal.proven(index);
    }
}
