//! The head: what lies in front of the first partition. It is cleared before it is written, and what a ROM looks for
//! comes at the very end.

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
        if place.takes_parts(&uboot.profile) {
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
