//! Downloads: items made into as many as it takes, sent when it is this board's turn on the bus, and what that took.
//!
//! What the board does with a download is `write`'s.

use std::time::Duration;

use bmap::{BlockSize, ByteRange};

use super::{BATCH, Course, Ground};
use crate::board::batch::{self, Batch, Item};
use crate::board::error::BoardError;
use crate::board::pack::Form;
use crate::board::place::Place;
use crate::board::turns::Turn;
use crate::board::uboot::{SECTOR, Uboot};
use crate::board::wire::Costs;
use crate::error::TargetState;
use crate::event::Event;

/// What a split's headers may take of a download.
const HEADERS: u64 = 256 << 10;

/// How a batch is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sending {
    /// It is part of the body, in order.
    pub(super) body: bool,
    /// What the board does with it is timed apart.
    pub(super) apart: bool,
    /// What is found wrong by comparing is not written again at once.
    pub(super) once: bool,
}

impl<'a> Course<'a> {
    /// A download of these items; each packed as `form` where it gains by that.
    pub(super) fn make(
        &mut self,
        uboot: &Uboot,
        place: &Place,
        costs: &Costs,
        items: Vec<Item>,
        form: Form,
    ) -> Result<Batch, BoardError> {
        let ground = self.ground;
        let start = uboot.now();
        let mut parts = Vec::with_capacity(items.len());
        let mut gained = false;
        // Packed bytes are of no use where fastboot alone can write.
        let by_number = place.takes_parts(&uboot.profile);
        let form = if by_number { form } else { Form::Raw };
        if form != Form::Raw {
            ground.packer.want(items.iter().map(|item| item.index), form);
        }
        for item in items {
            // Whole sectors only: what is behind them in memory would be written too.
            let len = item.extent.len();
            let packs = form != Form::Raw
                && len.is_multiple_of(SECTOR)
                && len <= uboot.profile.scratch_bytes()
                && self.extent(item.index) == item.extent;
            let packed = if packs { ground.packer.get(item.index, form)? } else { None };
            let packed =
                packed.filter(|packed| costs.gains(form, len, u64::try_from(packed.len()).unwrap_or(u64::MAX)));
            gained |= packed.is_some();
            parts.push((item, packed));
        }
        let batch = if by_number && (gained || place.name.is_none() || self.compares()) {
            Ok(batch::parts(form, parts))
        } else if self.overhangs(place) {
            batch::sectors(ground.feed, parts.into_iter().map(|(item, _)| item).collect(), self.image_size())
        } else {
            batch::split(ground.feed, parts.into_iter().map(|(item, _)| item).collect(), self.image_size())
        };
        self.spent.source = self.spent.source.saturating_add(uboot.now().saturating_sub(start));
        Ok(batch?)
    }

    /// Does the image end in a block of a sparse image that is not all inside the place?
    fn overhangs(&self, place: &Place) -> bool {
        let Some(size) = place.size else { return false };
        let block = batch::block_size(self.ground.feed.plan().alignment()).map_or(SECTOR, BlockSize::bytes);
        self.image_size().checked_next_multiple_of(block).is_none_or(|end| end > size)
    }

    /// Sends items as they are, in as many downloads as it takes.
    pub(super) fn send_plain(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        items: Vec<Item>,
    ) -> Result<(), BoardError> {
        // Whole blocks of a sparse image, whatever their size.
        let most = most(uboot) / 4096 * 4096;
        if most == 0 {
            return Err(BoardError::Cannot { what: "be flashed", why: "it takes too little in one download" });
        }
        let (mut batch, mut bytes) = (Vec::new(), 0_u64);
        for Item { index, extent } in items {
            let mut at = extent.start();
            while let Some(rest) = ByteRange::new(at, extent.end()).filter(|rest| !rest.is_empty()) {
                // Besides its bytes it has headers, and a whole block of its own if it is short.
                if bytes > 0 && bytes.saturating_add(rest.len()).saturating_add(4096) > most {
                    self.send_split(uboot, place, costs, std::mem::take(&mut batch))?;
                    bytes = 0;
                }
                let end = rest.end().min(at.saturating_add(most));
                batch.extend(Item::of(index, at, end));
                bytes = bytes.saturating_add(end - at).saturating_add(4096);
                at = end;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.send_split(uboot, place, costs, batch) }
    }

    fn send_split(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        items: Vec<Item>,
    ) -> Result<(), BoardError> {
        let batch = self.make(uboot, place, costs, items, Form::Raw)?;
        self.send(uboot, place, &batch, costs, Sending::default())
    }

    /// One download, and what the board is to do with it.
    pub(super) fn send(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        batch: &Batch,
        costs: &mut Costs,
        sending: Sending,
    ) -> Result<(), BoardError> {
        self.check_cancel()?;
        let (len, writes) = (batch.len(), batch.writes());
        let announced = u32::try_from(len)
            .map_err(|_| BoardError::Cannot { what: "take so long a download", why: "fastboot counts in 32 bits" })?;
        let ground = self.ground;
        let turn = self.turn(uboot, place, costs, sending)?;
        self.check_cancel()?;
        let start = uboot.now();
        let (observer, stage, base) = (self.observer, self.stage, self.stage_done);
        let mut sent = 0_u64;
        let mut on_bus = Duration::ZERO;
        let mut streaming = Duration::ZERO;
        // What went by is not needed any more, unless it would have to be decoded again after a loss.
        let releases = sending.body && !ground.feed.must_wait();
        let data = {
            let mut download = uboot.session.download(announced)?;
            let began = download.now();
            costs.answered(began.saturating_sub(start));
            let mut out = |bytes: &[u8]| {
                let before = download.now();
                download.write(bytes)?;
                on_bus = on_bus.saturating_add(download.now().saturating_sub(before));
                sent = sent.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                let share = u128::from(writes) * u128::from(sent) / u128::from(len.max(1));
                let done = base.saturating_add(u64::try_from(share).unwrap_or(writes));
                observer.event(&Event::Progress { stage, done, position: 0 });
                Ok(())
            };
            batch::stream::<BoardError>(batch, ground.feed, &mut out, &mut |index| {
                if releases {
                    ground.feed.reached(self.board, index + 1);
                }
            })?;
            streaming = streaming.saturating_add(download.now().saturating_sub(began));
            let announcing = began.saturating_sub(start);
            download.finish()?;
            uboot.now().saturating_sub(start).saturating_sub(announcing)
        };
        drop(turn);
        // What the source made the bus wait is not the bus's.
        let dry = streaming.saturating_sub(on_bus);
        let took = uboot.now().saturating_sub(start).saturating_sub(dry);
        self.spent.source = self.spent.source.saturating_add(dry);
        self.spent.bus = self.spent.bus.saturating_add(took);
        costs.sent(len, data.saturating_sub(dry));
        self.sums.sent = self.sums.sent.saturating_add(len);
        if self.state == TargetState::Unchanged {
            // Until here nothing but the board's memory was written.
            self.state = TargetState::Mixed { written: 0 };
        }
        let started = uboot.now();
        self.carry_out(uboot, place, batch, costs, sending.apart)?;
        self.spent.card = self.spent.card.saturating_add(uboot.now().saturating_sub(started));
        self.account(batch);
        self.compare_sent(uboot, place, batch, costs, if sending.once { 0 } else { self.how.attempts })?;
        self.stage_done = base.saturating_add(writes);
        Ok(())
    }

    /// A turn on the bus. While others have it, what was written is proven: it must be anyway.
    fn turn(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &Costs,
        sending: Sending,
    ) -> Result<Turn<'a>, BoardError> {
        let Ground { turns, cancel, .. } = self.ground;
        loop {
            if let Some(turn) = turns.try_take(&self.bus, costs.bus_rate()) {
                return Ok(turn);
            }
            if !sending.body || !self.prove_some(uboot, place)? {
                let waiting = uboot.now();
                let turn = turns.take(&self.bus, costs.bus_rate(), cancel);
                self.spent.turn = self.spent.turn.saturating_add(uboot.now().saturating_sub(waiting));
                return Ok(turn);
            }
            self.check_cancel()?;
        }
    }

    /// What a download was.
    fn account(&mut self, batch: &Batch) {
        match batch {
            Batch::Split(split, items) => {
                let writes: u64 = items.iter().map(|item| item.extent.len()).sum();
                self.sums.filled = self.sums.filled.saturating_add(writes.saturating_sub(split.len()));
            }
            Batch::Parts(parts, _) => {
                let packed = parts.iter().filter(|part| part.form != Form::Raw);
                let bytes: u64 = packed.map(|part| part.item.extent.len()).sum();
                self.sums.packed = self.sums.packed.saturating_add(bytes);
            }
        }
    }
}

/// Bytes that one download may carry, besides the headers of a split.
pub(super) fn most(uboot: &Uboot) -> u64 {
    let download = uboot.profile.download;
    BATCH.min(download - HEADERS.min(download / 8))
}
