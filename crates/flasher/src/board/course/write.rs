//! The board writes what it was sent: the commands for that, what they cost, and one more try where a card was only busy.
//!
//! Where there are no sums, what was written is compared here too, while what was sent is still in the board's memory.

use std::time::Duration;

use imx_usb::fastboot::{FastbootError, Pace};

use super::Course;
use crate::board::batch::{self, Batch, Does, Part};
use crate::board::check::{Sum, differing};
use crate::board::error::BoardError;
use crate::board::pack::Form;
use crate::board::place::Place;
use crate::board::uboot::Uboot;
use crate::board::wire::Costs;

/// How long a card may take to write, at worst.
const WRITING: Pace = Pace::new(30, 2_000_000);

impl Course<'_> {
    /// Has the board write what it holds, and learns what that costs. A card that was busy for too long makes the command
    /// fail though it would write by now: so it is asked once more after a pause.
    pub(super) fn carry_out(
        &self,
        uboot: &mut Uboot,
        place: &Place,
        batch: &Batch,
        costs: &mut Costs,
        apart: bool,
    ) -> Result<(), BoardError> {
        match batch {
            Batch::Split(..) => self.flash(uboot, place, batch, costs),
            Batch::Parts(parts, _) => self.run(uboot, place, batch, parts, costs, apart),
        }
    }

    /// By fastboot's own command.
    fn flash(&self, uboot: &mut Uboot, place: &Place, batch: &Batch, costs: &mut Costs) -> Result<(), BoardError> {
        let Some(name) = &place.name else {
            return Err(BoardError::Cannot { what: "write there", why: "fastboot has no name for the place" });
        };
        let writes = batch.writes();
        uboot.session.deadlines.flash = Pace { base: WRITING.time_for(writes), ..WRITING };
        let start = uboot.now();
        match uboot.session.flash(name) {
            Err(FastbootError::Fail { .. }) => {
                self.rest();
                match uboot.session.flash(name) {
                    Err(FastbootError::Fail { reason, .. }) => Err(refused(batch, reason)),
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

    /// By lines of the shell.
    fn run(
        &self,
        uboot: &mut Uboot,
        place: &Place,
        batch: &Batch,
        parts: &[Part],
        costs: &mut Costs,
        apart: bool,
    ) -> Result<(), BoardError> {
        let (mut all, mut inflating, mut writing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let (mut whole, mut timed, mut again) = (0, 0, false);
        for (does, line) in batch::lines(parts, uboot, place, apart)? {
            let start = uboot.now();
            if !uboot.run(&line)? {
                again = true;
                self.rest();
                if !uboot.run(&line)? {
                    return Err(refused(batch, String::new()));
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
        let writes = batch.writes();
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

    fn rest(&self) {
        std::thread::sleep(self.how.pause);
    }

    /// Is proof made by comparing with what was sent? Then it is sent raw, in parts.
    pub(super) fn compares(&self) -> bool {
        self.how.proof == Some(Sum::Compare)
    }

    /// Where there are no sums: what was written is compared with what was sent, and written again from there.
    pub(super) fn compare_sent(
        &mut self,
        uboot: &mut Uboot,
        place: &Place,
        batch: &Batch,
        costs: &mut Costs,
        attempts: u32,
    ) -> Result<(), BoardError> {
        let Batch::Parts(parts, len) = batch else { return Ok(()) };
        if !self.compares() {
            return Ok(());
        }
        let started = uboot.now();
        let mut left = parts.clone();
        for attempt in 0..=attempts {
            let bad = differing(uboot, place, &left)?;
            left = bad.iter().filter_map(|at| left.get(*at)).cloned().collect();
            if left.is_empty() {
                break;
            }
            if attempt == attempts {
                let pieces = left.iter().map(|part| part.item.extent).collect();
                return Err(BoardError::NotHeld { pieces, attempts: attempt });
            }
            for part in &left {
                self.again(part.item.extent, attempt + 1);
            }
            let again = Batch::Parts(left.clone(), *len);
            self.carry_out(uboot, place, &again, costs, false)?;
        }
        self.spent.proof = self.spent.proof.saturating_add(uboot.now().saturating_sub(started));
        Ok(())
    }
}

fn refused(batch: &Batch, says: String) -> BoardError {
    BoardError::Refused { pieces: batch.items().iter().map(|item| item.extent).collect(), says }
}
