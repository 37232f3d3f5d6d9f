//! One board's way through a plan: clear what boots, body, proof, head, proof. It can be gone again from any point.
//!
//! What is known of each piece survives the loss of the board: a piece that was written before is compared before it is
//! sent again. The head is cleared anew after each loss and written last, its first blocks at the very end, so that at
//! no time anything boots but the whole image.

use std::collections::BTreeSet;
use std::time::Duration;

use bmap::{Algorithm, BlockMap, ByteRange, Hasher};
use imx_usb::fastboot::{FastbootError, Pace};

use super::batch::{self, Batch, Does, Item};
use super::check::{Claim, Sum, differing, false_claims, true_claims};
use super::erase::{Erased, erase};
use super::error::BoardError;
use super::feed::Feed;
use super::fill::Fill;
use super::journal::Journal;
use super::pack::{Form, Packer};
use super::place::{Place, To};
use super::turns::{SharedBus, Turn, Turns};
use super::uboot::{SECTOR, Uboot};
use super::wire::{Costs, TRIAL, Wire};
use crate::cancel::Cancel;
use crate::error::TargetState;
use crate::event::{Event, Observer, Stage};
use crate::plan::{Kind, Phase};

/// The most that is written by one download. As much as the window holds, and then some pieces less.
pub(crate) const BATCH: u64 = 64 << 20;
/// The same for boards that share a bus.
const SHARED_BATCH: u64 = 16 << 20;
/// What a split's headers may take of a download.
const HEADERS: u64 = 256 << 10;
/// How much is proven at a time while others have the bus.
const PROVE_MEANWHILE: u64 = 16 << 20;
/// How much is compared at a time.
const COMPARE: u64 = 64 << 20;
/// How much one board may have in hand at a time, compared or to be sent: less than the feed keeps ready.
const IN_HAND: u64 = BATCH + (12 << 20);
/// How long a card may take to write, at worst.
const WRITING: Pace = Pace::new(30, 2_000_000);

/// How a board is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) wire: Wire,
    /// By what it is proven; `None` for no proof.
    pub(crate) proof: Option<Sum>,
    /// By what it is compared first.
    pub(crate) compare: Sum,
    /// How often bad pieces are sent again.
    pub(crate) attempts: u32,
    /// How long a card that refused is left alone before it is asked once more.
    pub(crate) pause: Duration,
    pub(crate) keep_head: bool,
    /// Erase the map's holes.
    pub(crate) erase: bool,
}

/// How a batch is sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sending {
    /// It is part of the body, in order.
    body: bool,
    /// What the board does with it is timed apart.
    apart: bool,
}

/// What is known of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It must be sent.
    Nothing,
    /// It may be there: compare first.
    Perhaps,
    /// It was sent in this connection.
    Sent,
    /// The board has judged it right.
    Proven,
}

/// Sums of one board, in bytes unless they say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Bytes of the image that had to be on the board.
    pub wanted: u64,
    /// Bytes of the image that were written, repetitions included.
    pub written: u64,
    /// Bytes of the image that the board held already.
    pub skipped: u64,
    /// Bytes that went over the bus as data, headers and all.
    pub sent: u64,
    /// Bytes of the image that travelled packed.
    pub packed: u64,
    /// Bytes that went as FILL chunks.
    pub filled: u64,
    /// Bytes proven on the board.
    pub proven: u64,
    /// Pieces that had to be sent again: a count.
    pub resent: u64,
    /// How often the board was lost and came back: a count.
    pub returns: u32,
}

/// Where a board's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Boot ROM, loader, U-Boot.
    pub boot: Duration,
    /// Waiting for the image to be read, decoded or packed.
    pub source: Duration,
    /// Waiting for a turn on the bus.
    pub turn: Duration,
    /// Data on the bus.
    pub bus: Duration,
    /// The board writing.
    pub card: Duration,
    /// Comparing and proving.
    pub proof: Duration,
}

/// What stays the same for all boards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) feed: &'a Feed<'a>,
    pub(crate) packer: &'a Packer<'a>,
    pub(crate) turns: &'a Turns,
    pub(crate) cancel: &'a Cancel,
    pub(crate) map: Option<&'a BlockMap>,
}

/// See the module's description.
pub(crate) struct Course<'a> {
    pub(crate) board: usize,
    ground: Ground<'a>,
    how: How,
    bus: SharedBus,
    observer: &'a dyn Observer,
    known: Vec<Known>,
    /// Pieces that were sent by this job, or found to be there by it: they are counted once.
    touched: BTreeSet<usize>,
    pub(crate) sums: Sums,
    pub(crate) spent: Spent,
    pub(crate) state: TargetState,
    pub(crate) journal: Journal,
    pub(crate) erased: Option<Erased>,
    cleared: bool,
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
    pub(crate) fn new(
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
            sums: Sums { wanted, ..Sums::default() },
            spent: Spent::default(),
            state: TargetState::Unchanged,
            journal,
            erased: None,
            cleared: false,
            proven_to: 0,
            gzip: None,
            stage: Stage::Write,
            stage_done: 0,
        }
    }

    /// The board is back, perhaps with another U-Boot or at another port.
    pub(crate) fn reconnected(&mut self, how: How, bus: SharedBus) {
        self.how = how;
        self.bus = bus;
        self.sums.returns += 1;
    }

    /// How many pieces are proven or sent: whether a return got anywhere.
    pub(crate) fn progress(&self) -> usize {
        self.known.iter().filter(|known| matches!(known, Known::Sent | Known::Proven)).count()
    }

    /// The link was lost: what was sent is there only perhaps, and so is what was proven. It may be another board that
    /// comes back, under a number that both have, and its card may have lost power before it had everything.
    pub(crate) fn lost(&mut self) {
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
    pub(crate) fn go(&mut self, uboot: &mut Uboot, place: &Place, to: &To) -> Result<(), BoardError> {
        if let Some(capacity) = place.size
            && let Some(image) = self.ground.feed.plan().image_size()
            && image > capacity
        {
            return Err(BoardError::TooSmall { place: to.clone(), image, capacity });
        }
        let mut costs = Costs::new(self.how.wire, &uboot.profile, place.area == super::Area::User);
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

    fn check_cancel(&self) -> Result<(), BoardError> {
        if self.ground.cancel.is_cancelled() { Err(BoardError::Cancelled) } else { Ok(()) }
    }

    /// Waits for the source, and counts the time.
    fn waiting<T>(
        &mut self,
        uboot: &Uboot,
        wait: impl FnOnce(&'a Feed<'a>) -> Result<T, super::feed::Dry>,
    ) -> Result<T, BoardError> {
        let start = uboot.now();
        let got = wait(self.ground.feed);
        self.spent.source = self.spent.source.saturating_add(uboot.now().saturating_sub(start));
        Ok(got?)
    }

    fn pieces(&self, phase: Phase) -> Vec<usize> {
        let pieces = self.ground.feed.pieces().iter().enumerate();
        pieces.filter(|(_, piece)| piece.phase == phase && !piece.kept).map(|(index, _)| index).collect()
    }

    fn extent(&self, index: usize) -> ByteRange {
        self.ground.feed.pieces().get(index).map_or(ByteRange::first(0), |piece| piece.extent)
    }

    fn know(&mut self, index: usize, now: Known) {
        self.known.iter_mut().skip(index).take(1).for_each(|known| *known = now);
    }

    /// What the card must hold of these pieces: a claim for each, or several for one that is longer than the memory
    /// that it can be read into.
    fn claims(&mut self, uboot: &Uboot, indices: &[usize]) -> Result<Vec<Claim>, BoardError> {
        let most = uboot.profile.scratch_bytes() / SECTOR * SECTOR;
        let mut claims = Vec::with_capacity(indices.len());
        for index in indices.iter().copied() {
            let extent = self.extent(index);
            let facts = self.waiting(uboot, |feed| feed.facts(index))?;
            if extent.len() <= most || most == 0 {
                claims.push(Claim { index, extent, crc32: facts.crc32, sha256: facts.sha256 });
                continue;
            }
            let bytes = self.waiting(uboot, |feed| feed.bytes(index))?;
            let len = usize::try_from(extent.len()).unwrap_or(usize::MAX);
            let mut at = extent.start();
            for part in bytes.get(..len).unwrap_or_default().chunks(usize::try_from(most).unwrap_or(usize::MAX)) {
                let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
                let Some(extent) = ByteRange::at(at, len) else { break };
                let (crc32, sha256) = (crc32fast::hash(part), Hasher::digest(Algorithm::Sha256, part));
                claims.push(Claim { index, extent, crc32, sha256 });
                at = extent.end();
            }
        }
        Ok(claims)
    }

    /// Zeros over what could start the old system, proven.
    fn clear(&mut self, uboot: &mut Uboot, place: &Place) -> Result<(), BoardError> {
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
            let costs = &mut Costs::new(Wire::Only(Form::Raw), &uboot.profile.clone(), true);
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
            self.know(index, Known::Nothing);
        }
        Ok(())
    }

    fn image_size(&self) -> u64 {
        self.ground.feed.plan().image_size().unwrap_or(0)
    }

    /// Erases the map's holes behind the head.
    fn erase(&mut self, uboot: &mut Uboot, place: &Place) -> Result<(), BoardError> {
        let Some(map) = self.ground.map.filter(|_| uboot.profile.shell.is_some() && place.start.is_some()) else {
            return Ok(());
        };
        let head = self.ground.feed.plan().head();
        let holes: Vec<ByteRange> =
            map.holes().filter_map(|hole| ByteRange::new(hole.start().max(head), hole.end())).collect();
        self.begin(Stage::Erase, Some(holes.iter().map(|hole| hole.len()).sum()));
        let start = uboot.now();
        self.erased = Some(erase(uboot, place, &holes, self.how.proof)?);
        self.spent.card = self.spent.card.saturating_add(uboot.now().saturating_sub(start));
        Ok(())
    }

    /// Sends what is not known to be there; compares first what perhaps is.
    fn body(&mut self, uboot: &mut Uboot, place: &Place, costs: &mut Costs) -> Result<(), BoardError> {
        let todo: Vec<usize> = self
            .pieces(Phase::Body)
            .into_iter()
            .filter(|index| self.known.get(*index) != Some(&Known::Proven))
            .collect();
        let total = todo.iter().map(|index| self.extent(*index).len()).sum();
        self.begin(Stage::Write, Some(total));
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
        let batch = if self.ground.feed.must_wait() { super::AHEAD / 2 } else { BATCH };
        let batch = if self.ground.turns.has_company(&self.bus, self.board) { batch.min(SHARED_BATCH) } else { batch };
        batch.min(most(uboot))
    }

    fn weight(&self, indices: &[usize]) -> u64 {
        indices.iter().map(|index| self.ground.feed.weight(*index)).sum()
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

    /// Those of `indices` that must be sent.
    fn different(&mut self, uboot: &mut Uboot, place: &Place, indices: &[usize]) -> Result<Vec<usize>, BoardError> {
        let perhaps = indices.first().and_then(|index| self.known.get(*index)) == Some(&Known::Perhaps);
        if !perhaps || !uboot.profile.can_sum() || place.start.is_none() {
            return Ok(indices.to_vec());
        }
        let claims = self.claims(uboot, indices)?;
        let start = uboot.now();
        let marks = true_claims(uboot, place, &claims, self.compare(uboot));
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
            self.know(index, Known::Proven);
            if !self.touched.contains(&index) {
                self.sums.skipped = self.sums.skipped.saturating_add(extent.len());
                self.touched.insert(index);
            }
            self.sums.proven = self.sums.proven.saturating_add(extent.len());
            self.journal.proven(index);
            self.ground.feed.passed_over(index);
            self.advance(Stage::Write, extent.len(), extent.end());
        }
        self.journal.flush();
        Ok(wrong)
    }

    /// The sum to compare by: as asked, or what there is.
    fn compare(&self, uboot: &Uboot) -> Sum {
        match self.how.compare {
            Sum::Sha256 if uboot.profile.sha256 => Sum::Sha256,
            _ if uboot.profile.crc32_verify => Sum::Crc32,
            _ => Sum::Sha256,
        }
    }

    fn advance(&mut self, stage: Stage, bytes: u64, position: u64) {
        self.stage_done = self.stage_done.saturating_add(bytes);
        self.observer.event(&Event::Progress { stage, done: self.stage_done, position });
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
        let (mut form, mut sending) = (Form::Raw, Sending { body: true, apart: false });
        if costs.may_pack() {
            let sample = sample(pieces, |index| self.is_data(index));
            let ratio = self.ratio(uboot, costs, &sample)?;
            form = match costs.trial(&|form| ratio(form)) {
                // The first bytes are few, so that a wrong guess costs little.
                Some(form) => {
                    let mut bytes = 0_u64;
                    let few = pieces.iter().take_while(|index| {
                        let before = bytes;
                        bytes = bytes.saturating_add(self.extent(**index).len());
                        before < TRIAL
                    });
                    pieces = pieces.get(..few.count()).unwrap_or(pieces);
                    sending.apart = true;
                    form
                }
                None => costs.favourite(&|form| ratio(form)),
            };
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
        self.send(uboot, place, &batch, costs, sending)?;
        for index in pieces {
            self.know_sent(*index);
            self.journal.sent(*index);
        }
        self.journal.flush();
        Ok(pieces.len())
    }

    fn is_data(&self, index: usize) -> bool {
        self.ground.feed.pieces().get(index).is_some_and(|piece| piece.kind == Kind::Data)
    }

    /// Unpacked to packed bytes of a sample, by form.
    fn ratio(
        &mut self,
        uboot: &Uboot,
        costs: &Costs,
        sample: &[usize],
    ) -> Result<impl Fn(Form) -> f64 + use<>, BoardError> {
        let mut ratios = [1.0, 1.0];
        for (slot, form) in [(0, Form::Lz4), (1, Form::Gzip)] {
            if !costs.takes(form) || sample.is_empty() || (form == Form::Gzip && self.gzip.is_some()) {
                continue;
            }
            let start = uboot.now();
            let (mut packed, mut unpacked) = (0, 0);
            for index in sample {
                let (of, to) = self.ground.packer.sample(*index, form)?;
                unpacked += of;
                packed += to;
            }
            self.spent.source = self.spent.source.saturating_add(uboot.now().saturating_sub(start));
            #[expect(clippy::as_conversions, reason = "there is no other way from usize to f64")]
            let ratio = unpacked as f64 / packed.max(1) as f64;
            ratios[slot] = ratio;
        }
        if let Some(better) = self.gzip {
            ratios[1] = ratios[0] * better;
        } else if !sample.is_empty() {
            // It takes long to know, and is only a guess what to try.
            self.gzip = Some(ratios[1] / ratios[0]);
        }
        Ok(move |form| match form {
            Form::Raw => 1.0,
            Form::Lz4 => ratios[0],
            Form::Gzip => ratios[1],
        })
    }

    /// A download of these items; each packed as `form` where it gains by that.
    fn make(
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
        let batch = if gained || place.name.is_none() || self.compares() {
            Ok(batch::parts(form, parts))
        } else {
            batch::split(ground.feed, parts.into_iter().map(|(item, _)| item).collect(), self.image_size())
        };
        self.spent.source = self.spent.source.saturating_add(uboot.now().saturating_sub(start));
        Ok(batch?)
    }

    /// Sends items as they are, in as many downloads as it takes.
    fn send_plain(
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
                batch.extend(item(index, at, end));
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
    fn send(
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
        let started = uboot.now();
        self.carry_out(uboot, place, batch, costs, sending.apart)?;
        self.spent.card = self.spent.card.saturating_add(uboot.now().saturating_sub(started));
        self.account(batch);
        self.compare_sent(uboot, place, batch, costs)?;
        self.stage_done = base.saturating_add(writes);
        self.sums.written = self.sums.written.saturating_add(writes);
        if let TargetState::NoHead { written } | TargetState::Mixed { written } = &mut self.state {
            *written = self.sums.written;
        }
        Ok(())
    }

    /// Is proof made by comparing with what was sent? Then it is sent raw, in parts.
    fn compares(&self) -> bool {
        self.how.proof == Some(Sum::Compare)
    }

    /// Where there are no sums: what was written is compared with what was sent, and written again from there.
    fn compare_sent(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        batch: &Batch,
        costs: &mut Costs,
    ) -> Result<(), BoardError> {
        let Batch::Parts(parts, len) = batch else { return Ok(()) };
        if !self.compares() {
            return Ok(());
        }
        let started = uboot.now();
        let mut left = parts.clone();
        for attempt in 0..=self.how.attempts {
            let bad = differing(uboot, place, &left)?;
            left = bad.iter().filter_map(|at| left.get(*at)).cloned().collect();
            if left.is_empty() {
                break;
            }
            if attempt == self.how.attempts {
                let pieces = left.iter().map(|part| part.item.extent).collect();
                return Err(BoardError::NotHeld { pieces, attempts: attempt });
            }
            for part in &left {
                self.observer.event(&Event::Retry { extent: part.item.extent, attempt: attempt + 1 });
                self.sums.resent += 1;
            }
            let again = Batch::Parts(left.clone(), *len);
            self.carry_out(uboot, place, &again, costs, false)?;
        }
        self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(started));
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

    /// Has the board judge a few of the pieces that were sent; `false` if there are none. What is found wrong waits for
    /// the proof of everything.
    fn prove_some(&mut self, uboot: &mut Uboot, place: &Place) -> Result<bool, BoardError> {
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
            self.know(index, Known::Proven);
            self.sums.proven = self.sums.proven.saturating_add(self.extent(index).len());
            self.journal.proven(index);
        }
        self.journal.flush();
        Ok(true)
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

    /// Has the board write what it holds, and learns what that costs. A card that was busy for too long makes the command
    /// fail though it would write by now: so it is asked once more after a pause.
    fn carry_out(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        batch: &Batch,
        costs: &mut Costs,
        apart: bool,
    ) -> Result<(), BoardError> {
        let pieces = || batch.items().iter().map(|item| item.extent).collect::<Vec<_>>();
        let writes = batch.writes();
        match batch {
            Batch::Split(..) => {
                let Some(name) = &place.name else {
                    return Err(BoardError::Cannot { what: "write there", why: "fastboot has no name for the place" });
                };
                uboot.session.deadlines.flash = Pace { base: WRITING.time_for(writes), ..WRITING };
                let start = uboot.now();
                match uboot.session.flash(name) {
                    Err(FastbootError::Fail { .. }) => {
                        self.rest(uboot);
                        match uboot.session.flash(name) {
                            Err(FastbootError::Fail { reason, .. }) => {
                                Err(BoardError::Refused { pieces: pieces(), says: reason })
                            }
                            result => Ok(result.map(drop)?),
                        }
                    }
                    Err(error) => Err(error.into()),
                    Ok(_) => {
                        let took = uboot.now().saturating_sub(start);
                        costs.worked(Form::Raw, writes, costs.without_commands(took, 1));
                        Ok(())
                    }
                }
            }
            Batch::Parts(parts, _) => {
                let (mut all, mut inflating, mut writing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
                let (mut whole, mut timed, mut again) = (0, 0, false);
                for (does, line) in batch::lines(parts, uboot, place, apart) {
                    let start = uboot.now();
                    if !uboot.run(&line)? {
                        again = true;
                        self.rest(uboot);
                        if !uboot.run(&line)? {
                            return Err(BoardError::Refused { pieces: pieces(), says: String::new() });
                        }
                    }
                    let took = costs.without_commands(uboot.now().saturating_sub(start), 1);
                    match does {
                        Does::All => {
                            all = all.saturating_add(took);
                            whole += line.bytes;
                        }
                        Does::Inflates => inflating = inflating.saturating_add(took),
                        Does::Writes => {
                            writing = writing.saturating_add(took);
                            timed += line.bytes;
                        }
                    }
                }
                let packed = parts.iter().filter(|part| part.form != Form::Raw);
                let form = packed.clone().map(|part| part.form).next();
                let bytes: u64 = packed.map(|part| part.item.extent.len()).sum();
                match form {
                    // A pause is none of the board's work.
                    _ if again => {}
                    None => costs.worked(Form::Raw, writes, all),
                    Some(form) if !writing.is_zero() => {
                        costs.worked(Form::Raw, timed, writing);
                        costs.worked(form, timed, inflating.saturating_add(writing));
                    }
                    // What is measured is the form that most of it has.
                    Some(form) if bytes.saturating_mul(10) >= writes.saturating_mul(9) => {
                        costs.worked(form, whole, all);
                    }
                    Some(_) => {}
                }
                Ok(())
            }
        }
    }

    fn rest(&self, _: &Uboot) {
        std::thread::sleep(self.how.pause);
    }

    /// Has the board judge what was sent; what is wrong is sent again.
    fn prove(
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
                    self.know(index, Known::Proven);
                    self.sums.proven = self.sums.proven.saturating_add(self.extent(index).len());
                    self.journal.proven(index);
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
                    self.know(index, Known::Proven);
                    self.sums.proven = self.sums.proven.saturating_add(self.extent(index).len());
                    self.journal.proven(index);
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
            for index in &wrong {
                let extent = self.extent(*index);
                self.observer.event(&Event::Retry { extent, attempt: attempt + 1 });
                self.sums.resent += 1;
            }
            let items = wrong.iter().map(|index| Item { index: *index, extent: self.extent(*index) }).collect();
            self.send_plain(uboot, place, costs, items)?;
            wrong.iter().for_each(|index| self.know(*index, Known::Sent));
        }
        Ok(())
    }

    /// What lies in front of the first partition, its first blocks last.
    fn head(&mut self, uboot: &mut Uboot, place: &Place, costs: &mut Costs) -> Result<(), BoardError> {
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
                rest.extend(item(*index, at, cut.start()));
                last.take(*index, cut);
                at = cut.end();
            }
            rest.extend(item(*index, at, end));
        }
        // A board that is lost from here on has an unknown head.
        self.state = TargetState::HeadIncomplete;
        self.send_plain(uboot, place, costs, rest)?;
        self.last(uboot, place, costs, last)?;
        head.iter().for_each(|index| self.know_sent(*index));
        self.state = TargetState::WrittenUnproven;
        if let Some(sum) = self.how.proof {
            self.prove(uboot, place, costs, Phase::Head, Stage::Head, sum)?;
        }
        Ok(())
    }

    /// What makes the head whole, in its order.
    fn last(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        costs: &mut Costs,
        steps: LastSteps,
    ) -> Result<(), BoardError> {
        let steps = steps.0.into_iter().filter(|items| !items.is_empty());
        if uboot.profile.can_place() && place.start.is_some() {
            let parts: Vec<_> = steps.flatten().map(|item| (item, None)).collect();
            if parts.is_empty() {
                return Ok(());
            }
            let batch = batch::parts(Form::Raw, parts);
            return self.send(uboot, place, &batch, costs, Sending::default());
        }
        for items in steps {
            let batch = batch::sectors(self.ground.feed, items, self.image_size())?;
            self.send(uboot, place, &batch, costs, Sending::default())?;
        }
        Ok(())
    }

    fn know_sent(&mut self, index: usize) {
        self.touched.insert(index);
        if self.known.get(index) != Some(&Known::Proven) {
            self.know(index, Known::Sent);
        }
    }
}

/// Bytes that one download may carry, besides the headers of a split.
fn most(uboot: &Uboot) -> u64 {
    let download = uboot.profile.download;
    BATCH.min(download - HEADERS.min(download / 8))
}

fn item(index: usize, from: u64, to: u64) -> Option<Item> {
    let extent = ByteRange::new(from, to).filter(|extent| !extent.is_empty())?;
    Some(Item { index, extent })
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
            self.0[0].extend(item(index, at, sector.start()));
            self.0[step].extend(item(index, sector.start(), sector.end()));
            at = sector.end();
        }
        self.0[0].extend(item(index, at, cut.end()));
    }
}

/// A few pieces of data from the front, the middle and the end.
fn sample(pieces: &[usize], is_data: impl Fn(usize) -> bool) -> Vec<usize> {
    let data: Vec<usize> = pieces.iter().copied().filter(|index| is_data(*index)).collect();
    let mut picks: Vec<usize> =
        [0, data.len() / 2, data.len().saturating_sub(1)].iter().filter_map(|at| data.get(*at)).copied().collect();
    picks.dedup();
    picks
}

/// A claim that an extent holds zeros.
pub(crate) fn zero_claim(extent: ByteRange) -> Claim {
    let (crc32, sha256) = zero_sums(extent.len());
    Claim { index: usize::MAX, extent, crc32, sha256 }
}

/// CRC-32 and SHA-256 of so many zeros.
pub(crate) fn zero_sums(len: u64) -> (u32, bmap::Digest) {
    const ZEROS: [u8; 4096] = [0; 4096];
    let (mut crc32, mut sha256) = (crc32fast::Hasher::new(), Hasher::new(Algorithm::Sha256));
    let mut left = len;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
        let part = ZEROS.get(..count).unwrap_or_default();
        crc32.update(part);
        sha256.update(part);
        left -= u64::try_from(count).unwrap_or(left);
    }
    (crc32.finalize(), sha256.finish())
}
