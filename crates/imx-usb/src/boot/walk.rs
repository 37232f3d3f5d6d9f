//! The way of one board, over a bus.

use std::borrow::Cow;
use std::time::Duration;

use super::action::{Action, another_family, next_action};
use super::{BootError, BootImage, BootOptions, Booted, Identity, Problem, Seen, Stage, Step, recognise};
use crate::bus::{Bus, Device, OpenError, Port, Snapshot, Visit};
use crate::chips::{Chip, ChipTable, Protocol};
use crate::pipe::{Fault, ReportPipe, TransferError};
use crate::sdp::{self, DONE_JUMP, HabState, Jump, SdpError, Settings};
use crate::sdps::{self, SdpsError};

/// A board that comes and goes more often than this is not followed any further.
const MOST_STAGES: u32 = 12;
/// How long is waited at a time before somebody may call it off.
const SLICE: Duration = Duration::from_millis(100);
/// How long a plugin may take to give the ROM back, and a ROM that said something odd to leave all the same.
const LINGER: Duration = Duration::from_secs(2);
/// How long a ROM has to answer a jump; those that start something do not.
const JUMP: Duration = Duration::from_secs(2);

/// Carries `image` through ROM and loader of the board at `port`, until it is in fastboot (or in the initramfs, FBK).
///
/// Begins at whatever the board is in; a board in fastboot is returned at once. `observer` is told what happens.
///
/// # Errors
/// [`BootError`], within the deadlines of `options`; nothing stays open.
pub fn boot(
    bus: &dyn Bus,
    table: &ChipTable,
    port: &Port,
    image: &BootImage,
    options: &BootOptions<'_>,
    observer: &mut dyn FnMut(Step<'_>),
) -> Result<Booted, BootError> {
    let identity = Identity::at(port.clone());
    let mut walk =
        Walk { bus, table, port, image, options, observer, identity, stage: None, origin: None, sent: 0, of: 0 };
    walk.all().map_err(|problem| BootError {
        port: port.clone(),
        stage: walk.stage.take(),
        sent: walk.sent,
        of: walk.of,
        problem: Box::new(problem),
    })
}

struct Walk<'a, 'o> {
    bus: &'a dyn Bus,
    table: &'a ChipTable,
    port: &'a Port,
    image: &'a BootImage,
    options: &'a BootOptions<'o>,
    observer: &'a mut dyn FnMut(Step<'_>),
    identity: Identity,
    stage: Option<Stage>,
    /// The chip, once it was seen in its ROM.
    origin: Option<&'a Chip>,
    sent: usize,
    of: usize,
}

/// What is to be waited for.
#[derive(Debug, Clone, Copy)]
enum Await {
    /// Anything that the table knows.
    Appear,
    /// Anything after this visit has ended.
    Next { visit: Visit, signed: Option<bool> },
    /// The same, or this visit still.
    Plugin(Visit),
}

/// What a board did with what it was sent.
enum Sent {
    /// It took it.
    Taken,
    /// It took it, and said this of starting it.
    Status(u32, Option<HabState>),
    /// It left before it could be talked to.
    Missed,
}

/// Stages in their order: nobody goes back.
fn rank(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Sdp | Protocol::Sdps => 0,
        Protocol::Sdpu | Protocol::Sdpv => 1,
        Protocol::Fastboot | Protocol::Fbk => 2,
    }
}

fn stage_of(seen: Seen<'_>) -> Stage {
    Stage { protocol: seen.protocol, title: seen.chip.map(|chip| chip.title.to_string()) }
}

impl<'a> Walk<'a, '_> {
    fn all(&mut self) -> Result<Booted, Problem> {
        let mut plugins = 0;
        let mut awaited = Await::Appear;
        // The stage that was sent something last, and what is known of the signature of that.
        let mut last: Option<(Protocol, Option<bool>)> = None;
        for _ in 0..MOST_STAGES {
            let (device, seen) = self.wait(awaited)?;
            if let Some((before, signed)) = last
                && rank(seen.protocol) <= rank(before)
            {
                return Err(Problem::CameBack { found: stage_of(seen), signed });
            }
            (self.stage, self.sent, self.of) = (Some(stage_of(seen)), 0, 0);
            self.identify(&device, seen)?;
            (self.observer)(Step::Found { device: &device, seen, identity: &self.identity });
            let action = next_action(self.image, seen, self.origin, plugins)?;
            if action == Action::Arrived {
                return Ok(Booted { device, protocol: seen.protocol, identity: self.identity.clone() });
            }
            // Without a chip there was no action.
            let Some(chip) = seen.chip else { return Err(Problem::NoChip) };
            self.of = action.bytes();
            if seen.protocol.is_rom()
                && plugins == 0
                && let Some(family) = another_family(self.image, chip)
            {
                (self.observer)(Step::LooksLike(family));
            }
            let visit = device.visit;
            let signed = action.signed();
            let plugin = matches!(action, Action::Load { plugin: true, .. });
            (awaited, last) = match self.send(&device, seen.protocol, chip, &action)? {
                Sent::Missed => (Await::Next { visit, signed: None }, last),
                _ if plugin => {
                    plugins += 1;
                    (Await::Plugin(visit), None)
                }
                Sent::Taken => (Await::Next { visit, signed }, Some((seen.protocol, signed))),
                Sent::Status(status, hab) => {
                    self.leaves(visit, LINGER, || Problem::Refused { status, hab, signed })?;
                    (Await::Next { visit, signed }, Some((seen.protocol, signed)))
                }
            };
            (self.observer)(Step::Waiting { next: &chip.next });
        }
        Err(Problem::Restless(MOST_STAGES))
    }

    /// Ties together what the board tells of itself, and holds it against what it was.
    fn identify(&mut self, device: &Device, seen: Seen<'a>) -> Result<(), Problem> {
        let expect = self.options.expect;
        let differs = |what, expected: Option<&String>, found: &String| match expected {
            Some(expected) if !expected.eq_ignore_ascii_case(found) => {
                Err(Problem::OtherBoard { what, expected: expected.clone(), found: found.clone() })
            }
            _ => Ok(()),
        };
        if seen.protocol.is_rom() {
            self.origin = seen.chip;
            self.identity.chip = seen.chip.map(|chip| Cow::Owned(chip.name.to_string()));
            let index = seen.chip.and_then(|chip| chip.serial_string).filter(|_| device.serial.is_none());
            let serial = match index {
                // A board without a readable serial number boots as well as any.
                Some(index) => self.bus.string(device, index).ok().flatten(),
                None => device.serial.clone(),
            };
            if let Some(serial) = serial.filter(|serial| !serial.is_empty()) {
                let what = "ROM's serial number";
                differs(what, expect.and_then(|expect| expect.rom_serial.as_ref()), &serial)?;
                differs(what, self.identity.rom_serial.as_ref(), &serial)?;
                self.identity.rom_serial = Some(serial);
            }
        } else if rank(seen.protocol) == 2
            && let Some(serial) = device.serial.clone().filter(|serial| !serial.is_empty())
        {
            differs("U-Boot's serial number", expect.and_then(|expect| expect.uboot_serial.as_ref()), &serial)?;
            self.identity.uboot_serial = Some(serial);
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), Problem> {
        if (self.options.cancelled)() { Err(Problem::Cancelled) } else { Ok(()) }
    }

    /// The devices at the port.
    fn look(&self) -> Result<Snapshot, Problem> {
        let mut seen = self.bus.look().map_err(Problem::Bus)?;
        seen.devices.retain(|device| device.port == *self.port);
        Ok(seen)
    }

    /// Waits for the board to be there, as something that is known.
    fn wait(&self, awaited: Await) -> Result<(Device, Seen<'a>), Problem> {
        let begin = self.bus.now();
        let (mut gone, mut unknown) = (None, None);
        loop {
            self.check_cancelled()?;
            let Snapshot { changes, now, devices } = self.look()?;
            let (old, limit) = match awaited {
                Await::Appear => (None, self.options.appear),
                Await::Next { visit, .. } => (Some(visit), self.options.leave),
                Await::Plugin(visit) => (Some(visit), LINGER),
            };
            let (mut stays, mut is_here) = (None, false);
            for device in devices {
                let seen = recognise(self.table, &device);
                match seen {
                    _ if Some(device.visit) == old => stays = seen.map(|seen| (device, seen)),
                    Some(seen) => return Ok((device, seen)),
                    // Its configuration may not have been read yet.
                    None => {
                        is_here = true;
                        unknown = Some((device.vendor, device.product, device.release));
                    }
                }
            }
            let waited = |since: Duration| now.saturating_sub(since);
            if let Some(found) = stays {
                if waited(begin) >= limit {
                    return match awaited {
                        Await::Next { signed, .. } => Err(Problem::Stays { waited: limit, signed }),
                        Await::Plugin(_) | Await::Appear => Ok(found),
                    };
                }
            } else {
                let since = *gone.get_or_insert(now);
                let limit = if old.is_some() { self.options.come_back } else { limit };
                if waited(since) >= limit {
                    return Err(match unknown.filter(|_| is_here) {
                        Some((vendor, product, release)) => Problem::Unknown { vendor, product, release },
                        None if old.is_none() => Problem::NoBoard(limit),
                        None => Problem::Vanished { waited: limit, elsewhere: self.elsewhere() },
                    });
                }
            }
            self.bus.wait(changes, SLICE);
        }
    }

    /// Where else on the bus something with the board's serial number is.
    fn elsewhere(&self) -> Option<Port> {
        let devices = self.bus.devices().ok()?;
        let found = devices.into_iter().find(|device| {
            let is_own = |serial| {
                self.identity.has_serial(serial) || self.options.expect.is_some_and(|expect| expect.has_serial(serial))
            };
            device.port != *self.port && device.serial.as_deref().is_some_and(is_own)
        });
        found.map(|device| device.port)
    }

    /// Waits until that visit has ended; what otherwise is the problem, `problem` says.
    fn leaves(&self, visit: Visit, within: Duration, problem: impl FnOnce() -> Problem) -> Result<(), Problem> {
        let end = self.bus.now().saturating_add(within);
        loop {
            self.check_cancelled()?;
            let Snapshot { changes, now, devices } = self.look()?;
            if devices.iter().all(|device| device.visit != visit) {
                return Ok(());
            }
            if now >= end {
                return Err(problem());
            }
            self.bus.wait(changes, SLICE);
        }
    }

    fn send(&mut self, device: &Device, protocol: Protocol, chip: &Chip, action: &Action<'_>) -> Result<Sent, Problem> {
        if matches!(action, Action::Hand(_)) {
            let end = self.bus.now().saturating_add(self.options.settle);
            while self.bus.now() < end {
                self.check_cancelled()?;
                let left = end.saturating_sub(self.bus.now());
                self.bus.wait(self.bus.changes(), left.min(SLICE));
            }
        }
        let within = self.options.transfer.time_for(u64::try_from(self.of).unwrap_or(u64::MAX));
        let pipe = match self.bus.reports(device, chip.route) {
            Ok(pipe) => pipe,
            Err(OpenError::Gone { .. }) => return Ok(Sent::Missed),
            Err(error) => return Err(Problem::Open(error)),
        };
        let end = pipe.now().saturating_add(within);
        let mut pipe = Watched { pipe, end, within, cancelled: self.options.cancelled };
        let of = self.of;
        let (sent, observer) = (&mut self.sent, &mut *self.observer);
        let mut progress = |n: usize| {
            *sent = n;
            observer(Step::Sending { sent: n, of });
        };
        match action {
            Action::Arrived => Ok(Sent::Taken),
            Action::Stream { bytes, open_end, .. } => {
                let result = sdps::stream(&mut pipe, chip, bytes, self.options.report, &mut progress);
                match result {
                    Ok(()) => Ok(Sent::Taken),
                    Err(SdpsError::Transfer { at, ref source, .. }) if *open_end && at > 0 && source.is_gone() => {
                        Ok(Sent::Taken)
                    }
                    Err(SdpsError::Transfer { source, .. }) if matches!(source.fault, Fault::Cancelled) => {
                        Err(Problem::Cancelled)
                    }
                    Err(error) => Err(Problem::Sdps(error)),
                }
            }
            Action::Load { .. } | Action::Hand(_) => {
                let settings = Settings {
                    deadline: self.options.report,
                    jump_deadline: JUMP.min(self.options.report),
                    ..Settings::from(chip)
                };
                let mut session = sdp::Session::new(pipe, settings);
                let result = match action {
                    Action::Load { load, second, signed, .. } => {
                        self.load(&mut session, protocol, load, *second, *signed)
                    }
                    Action::Hand(bytes) => {
                        session.write_file(0, bytes, &mut progress).and_then(|_| session.jump(0)).map_err(Problem::Sdp)
                    }
                    _ => return Ok(Sent::Taken),
                };
                let hab = session.hab().filter(|_| protocol.is_rom());
                match result {
                    Ok(Jump::Status(status)) if status != DONE_JUMP => Ok(Sent::Status(status, hab)),
                    Ok(_) => Ok(Sent::Taken),
                    Err(Problem::Sdp(SdpError::Refused { status, .. })) => {
                        Err(Problem::Refused { status, hab, signed: action.signed() })
                    }
                    Err(Problem::Sdp(SdpError::Transfer { source, .. }))
                        if matches!(source.fault, Fault::Cancelled) =>
                    {
                        Err(Problem::Cancelled)
                    }
                    Err(problem) => Err(problem),
                }
            }
        }
    }

    fn load(
        &mut self,
        session: &mut sdp::Session<Watched<'_>>,
        protocol: Protocol,
        load: &sdp::Load<'_>,
        second: Option<&[u8]>,
        signed: bool,
    ) -> Result<Jump, Problem> {
        if self.options.ask_hab && protocol.is_rom() {
            let (hab, _) = session.error_status().map_err(Problem::Sdp)?;
            if self.identity.hab != Some(hab) {
                (self.observer)(Step::Hab(hab));
            }
            self.identity.hab = Some(hab);
            if hab == HabState::Closed && !signed && !self.options.send_unsigned {
                return Err(Problem::Unsigned);
            }
        }
        let of = self.of;
        let (sent, observer) = (&mut self.sent, &mut *self.observer);
        let mut progress = |n: usize| {
            *sent = n;
            observer(Step::Sending { sent: n, of });
        };
        let jump = session.boot(load, &mut progress).map_err(Problem::Sdp)?;
        if let Some(second) = second {
            let first = load.bytes.len();
            session
                .write_file_unanswered(0, second, &mut |n| progress(first.saturating_add(n)))
                .map_err(Problem::Sdp)?;
        }
        Ok(jump)
    }
}

/// A pipe that can be called off between reports, and that has a deadline for all of them.
struct Watched<'a> {
    pipe: Box<dyn ReportPipe + Send>,
    end: Duration,
    within: Duration,
    cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Watched<'_> {
    fn left(&self, within: Duration) -> Result<Duration, Fault> {
        if (self.cancelled)() {
            return Err(Fault::Cancelled);
        }
        let left = self.end.saturating_sub(self.pipe.now());
        if left.is_zero() { Err(Fault::TimedOut(self.within)) } else { Ok(left.min(within)) }
    }
}

impl ReportPipe for Watched<'_> {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        let within = self.left(within).map_err(|fault| TransferError::sending(0, report.len(), fault))?;
        self.pipe.send_report(report, within)
    }

    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let within = self.left(within).map_err(|fault| TransferError::receiving(0, into.len(), fault))?;
        self.pipe.receive_report(into, within)
    }
}
