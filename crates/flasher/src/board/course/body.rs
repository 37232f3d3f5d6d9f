//! All behind the head, in order: pieces are taken in until there is a batch of what must be sent, and that is sent while
//! the next is packed.
//!
//! How much goes at once is decided here; whether a piece must be sent at all is `same`'s to find, and in which form it
//! goes is `form`'s.

use super::download::{Sending, most};
use super::known::Known;
use super::{AHEAD, BATCH, Course};
use crate::board::batch::Item;
use crate::board::error::BoardError;
use crate::board::place::Place;
use crate::board::uboot::Uboot;
use crate::board::wire::{Costs, TRIAL};
use crate::event::Stage;
use crate::plan::Phase;

/// The most of one download for boards that share a bus.
const SHARED_BATCH: u64 = 16 << 20;
/// How much is compared at a time.
const COMPARE: u64 = 64 << 20;
/// How much one board may have in hand at a time, compared or to be sent: less than the feed keeps ready.
const IN_HAND: u64 = BATCH + (12 << 20);

impl Course<'_> {
    /// Sends what is not known to be there; compares first what perhaps is.
    pub(super) fn body(&mut self, uboot: &mut Uboot, place: &Place, costs: &mut Costs) -> Result<(), BoardError> {
        let todo: Vec<usize> = self
            .pieces(Phase::Body)
            .into_iter()
            .filter(|index| self.known.get(*index) != Some(&Known::Proven))
            .collect();
        let total = todo.iter().map(|index| self.extent(*index).len()).sum();
        let compares = !self.cleared && todo.iter().any(|index| self.known.get(*index) == Some(&Known::Perhaps));
        self.begin(if compares { Stage::Compare } else { Stage::Write }, Some(total));
        let mut rest = todo.as_slice();
        let mut pending: Vec<usize> = Vec::new();
        loop {
            self.check_cancel()?;
            // Take in pieces until a batch is full.
            let most = self.most_now(uboot).max(self.ground.feed.plan().piece_len()).min(most(uboot));
            while !rest.is_empty() && self.weight(&pending) < most {
                let group = self.group(rest, &pending, most);
                if group == 0 {
                    break;
                }
                let (now, later) = rest.split_at(group);
                rest = later;
                pending.extend(self.different(uboot, place, now)?);
                let needed = pending.first().or(rest.first()).copied().unwrap_or(usize::MAX);
                self.ground.feed.reached(self.board, needed);
            }
            if pending.is_empty() {
                self.ground.feed.reached(self.board, usize::MAX);
                return Ok(());
            }
            if !self.cleared {
                self.clear(uboot, place)?;
                let done = self.stage_done;
                self.begin(Stage::Write, Some(total));
                self.stage_done = done;
            }
            let taken = self.send_some(uboot, place, costs, &pending, rest)?;
            pending.drain(..taken.min(pending.len()));
        }
    }

    /// Bytes that the next batch may carry. While it is sent, the next must be read: where pieces are nowhere but in the
    /// window, both must fit in there. Where others wait for the bus, batches are short, so that nobody has to wait long
    /// for the last of them.
    fn most_now(&self, uboot: &Uboot) -> u64 {
        let batch = if self.ground.feed.must_wait() { AHEAD / 2 } else { BATCH };
        let batch = if self.ground.turns.has_company(&self.bus, self.board) { batch.min(SHARED_BATCH) } else { batch };
        batch.min(most(uboot))
    }

    /// How many of the next pieces to look at together: of one kind, perhaps there or not, and no more than a batch of
    /// `most` bytes takes besides those that are pending.
    fn group(&self, rest: &[usize], pending: &[usize], most: u64) -> usize {
        let perhaps = |index: &usize| self.known.get(*index) == Some(&Known::Perhaps);
        let kind = rest.first().is_some_and(perhaps);
        let held = self.weight(pending);
        let room = if kind { COMPARE.min(IN_HAND.saturating_sub(held)) } else { most.saturating_sub(held) };
        // Comparing a few pieces at a time would be all commands.
        if kind && room < COMPARE / 2 {
            return 0;
        }
        let mut bytes = 0_u64;
        let fits = rest.iter().take_while(|index| {
            bytes = bytes.saturating_add(self.ground.feed.weight(**index));
            bytes <= room && perhaps(index) == kind
        });
        fits.count().max(usize::from(pending.is_empty()))
    }

    /// Sends the front of `pending` in the form that costs least; returns how many pieces went.
    fn send_some(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        pending: &[usize],
        rest: &[usize],
    ) -> Result<usize, BoardError> {
        let most = self.most_now(uboot).max(self.ground.feed.plan().piece_len()).min(most(uboot));
        let mut bytes = 0_u64;
        let fit = pending.iter().take_while(|index| {
            bytes = bytes.saturating_add(self.ground.feed.weight(**index));
            bytes <= most
        });
        let Some(mut pieces) = pending.get(..fit.count()).filter(|pieces| !pieces.is_empty()) else {
            // A piece that is longer than a download may be.
            let index = pending.first().copied().unwrap_or(0);
            self.send_plain(uboot, place, costs, vec![Item { index, extent: self.extent(index) }])?;
            self.know_sent(index);
            self.journal.sent(index);
            self.journal.flush();
            return Ok(1);
        };
        let (form, tried) = self.form(uboot, costs, pieces)?;
        if tried {
            // The first bytes are few, so that a wrong guess costs little.
            let mut bytes = 0_u64;
            let few = pieces.iter().take_while(|index| {
                let before = bytes;
                bytes = bytes.saturating_add(self.extent(**index).len());
                before < TRIAL
            });
            pieces = pieces.get(..few.count()).unwrap_or(pieces);
        }
        let items: Vec<Item> = pieces.iter().map(|index| Item { index: *index, extent: self.extent(*index) }).collect();
        let batch = self.make(uboot, place, costs, items, form)?;
        // While the board is busy with these, the next are packed.
        let next = pending.get(pieces.len()..).unwrap_or_default().iter().chain(rest);
        let mut room = most;
        let next = next.filter(|index| self.known.get(**index) == Some(&Known::Nothing)).take_while(|index| {
            let fits = room > 0;
            room = room.saturating_sub(self.extent(**index).len().max(4096));
            fits
        });
        self.ground.packer.want(next.copied(), form);
        self.send(uboot, place, &batch, costs, Sending { body: true, apart: tried, once: false })?;
        for index in pieces {
            self.know_sent(*index);
            self.journal.sent(*index);
        }
        self.journal.flush();
        Ok(pieces.len())
    }
}
