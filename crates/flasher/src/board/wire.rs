//! In which form the next bytes go to a board: by what its bus, its card and its processor were measured to do.
//!
//! U-Boot receives, inflates and writes in turn, so the time of a piece is the sum of the parts: its bytes on the wire
//! by the bus, and its bytes by what the board then does with them. `auto` tries each form that could win on a few
//! mebibytes, then takes for each piece the one that costs least; what does not pack goes raw by the same sum. What packs
//! is tried as LZ4 first, inflating and writing apart, so that one trial tells what raw bytes would cost as well.
//!
//! What a command takes by itself is left out of all rates, or trials of few bytes would look slow.

use std::time::Duration;

use super::pack::Form;
use super::place::Place;
use super::profile::Profile;
use super::uboot::Area;

/// What a user may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// By measurement.
    #[default]
    Auto,
    /// Always this; what does not pack goes raw all the same.
    Only(Form),
}

/// Bytes that a form is tried on.
pub(crate) const TRIAL: u64 = 8 << 20;
/// A form whose best case is no better than this share of the current one is not tried.
const WORTH_A_TRIAL: f64 = 0.95;
/// Bytes that become so many times fewer are tried packed first.
const PACKS: f64 = 1.15;
/// A form must be so much cheaper than raw to be taken for a piece.
const WORTH_PACKING: f64 = 0.98;

/// Seconds a byte, measured; the newest counts most.
#[derive(Debug, Clone, Copy, Default)]
struct Rate(Option<f64>);

impl Rate {
    fn add(&mut self, bytes: u64, time: Duration) {
        if bytes == 0 {
            return;
        }
        // Rounding of a mere measurement; a byte count has far fewer than 53 bits.
        #[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
        let new = time.as_secs_f64() / bytes as f64;
        self.0 = Some(self.0.map_or(new, |old| old.mul_add(0.6, new * 0.4)));
    }
}

/// What was measured of one board.
#[derive(Debug, Clone)]
pub(crate) struct Costs {
    wire: Wire,
    usable: [Option<Form>; 2],
    bus: Rate,
    /// The shortest time that a command took.
    command: Option<Duration>,
    /// What the board does with raw, LZ4 and gzip bytes once it has them, by unpacked bytes.
    work: [Rate; 3],
    tried: [bool; 3],
}

fn slot(form: Form) -> usize {
    match form {
        Form::Raw => 0,
        Form::Lz4 => 1,
        Form::Gzip => 2,
    }
}

/// The least that inflating can cost, in seconds a byte: faster than any i.MX does it.
fn best_inflate(form: Form) -> f64 {
    match form {
        Form::Raw => 0.0,
        Form::Lz4 => 1.0 / 500e6,
        Form::Gzip => 1.0 / 80e6,
    }
}

impl Costs {
    pub(crate) fn new(wire: Wire, profile: &Profile, place: &Place) -> Self {
        let parts = place.takes_parts(profile);
        let lz4 = (parts && profile.unlz4 && profile.scratch_bytes() > 0).then_some(Form::Lz4);
        let gzip = (parts && profile.gzwrite && place.area == Area::User).then_some(Form::Gzip);
        let wanted = |form: &Form| match wire {
            Wire::Auto => true,
            Wire::Only(only) => only == *form,
        };
        let usable = [lz4.filter(wanted), gzip.filter(wanted)];
        Self { wire, usable, bus: Rate::default(), command: None, work: [Rate::default(); 3], tried: [false; 3] }
    }

    /// Is this form one that the board takes and the user wants?
    pub(crate) fn takes(&self, form: Form) -> bool {
        form == Form::Raw || self.usable.contains(&Some(form))
    }

    /// The form to try next, if one could win that has not been tried. `ratio` is unpacked to packed bytes, by form, of
    /// what is at hand.
    pub(crate) fn trial(&self, ratio: &dyn Fn(Form) -> f64) -> Option<Form> {
        if self.wire != Wire::Auto {
            return None;
        }
        if !self.tried[0] {
            let lz4 = self.usable[0].filter(|form| !self.tried[slot(*form)] && ratio(*form) > PACKS);
            return Some(lz4.unwrap_or(Form::Raw));
        }
        let (bus, write) = (self.bus.0?, self.work[0].0?);
        let current = self.usable.iter().flatten().filter(|form| self.tried[slot(**form)]);
        let best =
            current.filter_map(|form| Some(bus / ratio(*form) + self.work[slot(*form)].0?)).fold(bus + write, f64::min);
        let untried = self.usable.iter().flatten().filter(|form| !self.tried[slot(**form)]);
        untried.copied().find(|form| bus / ratio(*form) + write + best_inflate(*form) < best * WORTH_A_TRIAL)
    }

    /// Could packing pay at all, however well it packs?
    pub(crate) fn may_pack(&self) -> bool {
        match (self.wire, self.bus.0, self.work[0].0) {
            (Wire::Auto, Some(bus), Some(write)) => self.usable.iter().flatten().any(|form| {
                let work = self.work[slot(*form)].0.unwrap_or(write + best_inflate(*form));
                work < (bus + write) * WORTH_A_TRIAL
            }),
            _ => self.usable.iter().any(Option::is_some),
        }
    }

    /// The cheapest form by what is known: those measured, or the only one asked for.
    pub(crate) fn favourite(&self, ratio: &dyn Fn(Form) -> f64) -> Form {
        match self.wire {
            Wire::Only(form) => {
                if self.takes(form) {
                    form
                } else {
                    Form::Raw
                }
            }
            Wire::Auto => {
                let (Some(bus), Some(raw)) = (self.bus.0, self.work[0].0) else { return Form::Raw };
                let mut best = (Form::Raw, (bus + raw) * WORTH_PACKING);
                for form in self.usable.iter().flatten() {
                    let Some(work) = self.work[slot(*form)].0 else { continue };
                    let cost = bus / ratio(*form) + work;
                    if cost < best.1 {
                        best = (*form, cost);
                    }
                }
                best.0
            }
        }
    }

    /// Does a piece of so many bytes gain by going as `form` in so many?
    pub(crate) fn gains(&self, form: Form, unpacked: u64, packed: u64) -> bool {
        #[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
        let (unpacked, packed) = (unpacked as f64, packed as f64);
        match (self.bus.0, self.work[0].0, self.work[slot(form)].0) {
            (Some(bus), Some(raw), Some(work)) if self.wire == Wire::Auto => {
                packed.mul_add(bus, unpacked * work) < unpacked * (bus + raw) * WORTH_PACKING
            }
            _ => packed < unpacked * WORTH_PACKING,
        }
    }

    /// What the board was seen to receive, in bytes a second.
    pub(crate) fn bus_rate(&self) -> Option<u64> {
        let rate = 1.0 / self.bus.0.filter(|cost| *cost > 0.0)?;
        // Rounded, and never more than a u64 holds: a bus of 10 GB/s is none.
        Some(Duration::try_from_secs_f64(rate.min(1e10)).ok()?.as_secs())
    }

    /// A command with nothing to do was answered after so long.
    pub(crate) fn answered(&mut self, time: Duration) {
        self.command = Some(self.command.map_or(time, |command| command.min(time)));
    }

    /// What is left of a time without that of so many commands.
    pub(crate) fn without_commands(&self, time: Duration, commands: usize) -> Duration {
        let commands = u32::try_from(commands).unwrap_or(u32::MAX);
        time.saturating_sub(self.command.unwrap_or_default().saturating_mul(commands))
    }

    /// So many bytes went over the bus in this time.
    pub(crate) fn sent(&mut self, bytes: u64, time: Duration) {
        self.bus.add(bytes, time);
    }

    /// The board took this long for so many (unpacked) bytes that it had been sent in this form.
    pub(crate) fn worked(&mut self, form: Form, bytes: u64, time: Duration) {
        self.work[slot(form)].add(bytes, time);
        self.tried[slot(form)] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            shell: Some(imx_usb::probe::Shell::UCmd),
            device: 2,
            whole: Some("all".to_owned()),
            capacity: None,
            download: 64 << 20,
            buffer: Some(0x4280_0000),
            scratch: Some(0x4040_0000..0x4280_0000),
            crc32_verify: true,
            sha256: true,
            compare: true,
            values: true,
            unlz4: true,
            gzwrite: true,
            line: 4095,
        }
    }

    fn card() -> Place {
        Place { area: Area::User, start: Some(0), name: Some("all".to_owned()), size: None }
    }

    fn settle(bus: u32, ratio: impl Fn(Form) -> f64) -> (Vec<Form>, Form) {
        let mut costs = Costs::new(Wire::Auto, &profile(), &card());
        let mut tried = Vec::new();
        while let Some(form) = costs.trial(&ratio) {
            tried.push(form);
            assert!(tried.len() <= 3);
            let bytes = 12_000_000_u64;
            costs.sent(bytes, Duration::from_secs_f64(12e6 / f64::from(bus)));
            let work = match form {
                Form::Raw => 1.0 / 60e6,
                Form::Lz4 => 1.0 / 60e6 + 1.0 / 300e6,
                Form::Gzip => 1.0 / 60e6 + 1.0 / 60e6,
            };
            costs.worked(form, bytes, Duration::from_secs_f64(12e6 * work));
            if form == Form::Lz4 {
                costs.worked(Form::Raw, bytes, Duration::from_secs_f64(12e6 / 60e6));
            }
        }
        (tried, costs.favourite(&ratio))
    }

    #[test]
    fn the_cheapest_sum_wins() {
        let packs = |form: Form| match form {
            Form::Raw => 1.0,
            Form::Lz4 => 2.24,
            Form::Gzip => 2.9,
        };
        assert_eq!(settle(30_000_000, packs), (vec![Form::Lz4], Form::Lz4));
        assert_eq!(settle(15_000_000, packs).1, Form::Lz4);
        // A bus so slow that the better packing wins although inflating takes longer.
        assert_eq!(settle(3_000_000, packs), (vec![Form::Lz4, Form::Gzip], Form::Gzip));
        // One so fast that packing costs more than it saves, and bytes that do not pack.
        assert_eq!(settle(300_000_000, packs), (vec![Form::Lz4], Form::Raw));
        assert_eq!(settle(15_000_000, |_| 1.0), (vec![Form::Raw], Form::Raw));
    }

    #[test]
    fn what_does_not_pack_goes_raw() {
        let mut costs = Costs::new(Wire::Only(Form::Lz4), &profile(), &card());
        assert!(costs.gains(Form::Lz4, 100, 50) && !costs.gains(Form::Lz4, 100, 100));
        costs.worked(Form::Raw, 100, Duration::from_secs(1));
        assert_eq!(costs.favourite(&|_| 1.0), Form::Lz4);
        let none = Profile { shell: None, ..profile() };
        assert_eq!(Costs::new(Wire::Only(Form::Gzip), &none, &card()).favourite(&|_| 9.0), Form::Raw);
        assert!(!Costs::new(Wire::Auto, &none, &card()).may_pack());
        // Where the place lies is not known: what is inflated could only be written somewhere.
        let somewhere = Place { start: None, ..card() };
        for form in [Form::Lz4, Form::Gzip] {
            let costs = Costs::new(Wire::Only(form), &profile(), &somewhere);
            assert_eq!((costs.favourite(&|_| 9.0), costs.takes(form)), (Form::Raw, false));
        }
    }
}
