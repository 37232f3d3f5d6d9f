//! Transfers with the host: what a board takes in, what it answers, and when.

use std::time::Duration;

use super::{Next, Program, State};
use crate::board::Stage;
use crate::fastboot::{Fastboot, REPLY_BYTES, REQUEST_BYTES};
use crate::fault::{Back, What, When};
use crate::link::Outcome;
use crate::machine::{After, Halt};
use crate::model::RomKind;
use crate::record::Event;
use crate::rom::Verdict;
use crate::sample::FBK_MARK;
use crate::store::wide;
use crate::timing::at_rate;

/// A ROM stays for so long after the last report it has heard, and a stage after its last answer.
const LINGER: Duration = Duration::from_millis(50);
/// Bytes taken of a bulk transfer at a time.
const BULK_PIECE: usize = 64 << 10;
/// A thread that wakes up later than this after the time it waited for has left a gap on the bus.
const LATE: Duration = Duration::from_millis(50);

impl State {
    /// The board is busy with a transfer of so many bytes over the bus from now on.
    fn occupy_bus(&mut self, bytes: usize) {
        let now = self.clock.now();
        // A transfer that waited for the one before follows it without a gap, however late its thread woke up.
        let from = if std::mem::take(&mut self.queued) && now.saturating_sub(self.busy_until) < LATE {
            self.busy_until.min(now)
        } else {
            now
        };
        let own = self.setup.timing.request.saturating_add(at_rate(wide(bytes), self.setup.timing.bus));
        let shared = match (&self.setup.hub, self.clock.instant(from)) {
            (Some(hub), Some(from)) => hub.carry(from, bytes),
            _ => Duration::ZERO,
        };
        self.busy_until = from.saturating_add(own.max(shared));
    }

    fn server(&self, address: u32) -> Option<&Fastboot> {
        match &self.program {
            Program::UBoot(_, server) if self.address() == Some(address) => Some(server),
            _ => None,
        }
    }

    pub(in crate::board) fn bytes_wanted(&self, address: u32) -> u64 {
        self.server(address).map_or(0, Fastboot::bytes_wanted)
    }

    pub(in crate::board) fn forget_late(&mut self, address: u32) {
        if self.server(address).is_some()
            && let Program::UBoot(machine, _) = &mut self.program
        {
            machine.after.take_if(|after| matches!(after, After::Run(_)));
        }
    }

    pub(in crate::board) fn has_answer(&self, address: u32) -> bool {
        self.server(address).is_some_and(|server| !server.is_quiet())
    }

    /// May a transfer with that device go ahead? `Err` says why not.
    fn admit<T>(&mut self, address: u32) -> Result<(), Outcome<T>> {
        self.poll();
        if !self.on_the_bus() || address != self.address {
            return Err(Outcome::Gone);
        }
        if std::mem::take(&mut self.stall) {
            return Err(Outcome::Stalled);
        }
        if self.hung {
            return Err(Outcome::Wait(self.next_change()));
        }
        if self.busy_until > self.clock.now() {
            self.queued = true;
            return Err(Outcome::Wait(Some(self.busy_until)));
        }
        Ok(())
    }

    pub(in crate::board) fn try_out(&mut self, address: u32, bytes: &[u8]) -> Outcome<usize> {
        if let Err(outcome) = self.admit(address) {
            return outcome;
        }
        if let Program::Fbk(daemon) = &self.program
            && daemon.works_until() > self.clock.now()
        {
            // It listens again when it has answered.
            return Outcome::Wait(Some(daemon.works_until()));
        }
        let mut n = bytes.len();
        if self.is_bulk() {
            n = n.min(BULK_PIECE);
        }
        // A fault at a byte lets through what comes before it.
        let (stage, from) = (self.stage, self.heard);
        let to = from.saturating_add(wide(n));
        let hits = self.faults.iter().enumerate().filter_map(|(n, fault)| match fault.when {
            When::Byte(at) if fault.stage == stage && (from..to).contains(&at) => Some((at, n)),
            _ => None,
        });
        let hit = hits.min().map(|(at, n)| (at, self.remove_fault(n)));
        if let Some((at, What::Unplug(_) | What::PowerCut(_) | What::Stall | What::Hang)) = hit {
            n = usize::try_from(at - from).unwrap_or(0);
        }
        self.heard = from.saturating_add(wide(n));
        self.traffic.bytes_from_host += wide(n);
        self.occupy_bus(n);
        // A report that comes in part is no report.
        if n == bytes.len() || self.is_bulk() {
            self.take(&bytes[..n], bytes.is_empty());
        }
        if let Some((_, what)) = hit {
            self.suffer(what);
        }
        if !self.on_the_bus() && n < bytes.len() && n == 0 { Outcome::Gone } else { Outcome::Done(n) }
    }

    fn take(&mut self, bytes: &[u8], empty: bool) {
        match &mut self.program {
            Program::Sdp(sdp) => {
                let verdict = sdp.report(bytes);
                self.judged(verdict);
            }
            Program::Stream(stream) => {
                let verdict = stream.report(bytes);
                self.judged(verdict);
            }
            Program::UBoot(..) | Program::Fbk(..) if empty => {}
            Program::Fbk(..) => self.fbk_request(bytes),
            Program::UBoot(..) => {
                let mut left = bytes;
                while !left.is_empty() && self.on_the_bus() && !self.hung {
                    // U-Boot queues one request after the other; of data that comes to the same.
                    let wanted = match &self.program {
                        Program::UBoot(_, server) => usize::try_from(server.bytes_wanted()).unwrap_or(usize::MAX),
                        _ => 0,
                    };
                    let whole = wanted.min(left.len()) / REQUEST_BYTES * REQUEST_BYTES;
                    let n = whole.max(REQUEST_BYTES.min(left.len()));
                    let (request, rest) = left.split_at(n);
                    self.request(request);
                    left = rest;
                }
            }
            Program::Other => {}
        }
    }

    fn is_marked(&self) -> bool {
        let bytes = match &self.program {
            Program::Sdp(sdp) => sdp.last_file(),
            Program::Stream(stream) => stream.bytes().to_vec(),
            _ => return false,
        };
        bytes.windows(FBK_MARK.len()).any(|window| window == FBK_MARK)
    }

    fn judged(&mut self, verdict: Verdict) {
        let next = match (verdict, self.stage, self.setup.model.rom()) {
            (Verdict::Starts, Stage::Rom, RomKind::SdpIvt | RomKind::LoaderContainer) => Stage::Loader,
            // A whole boot image whose U-Boot boots on by itself.
            (Verdict::Starts, ..) if self.is_marked() => Stage::Fbk,
            (Verdict::Starts, ..) => Stage::UBoot,
            (Verdict::Stuck, Stage::Loader, _) => {
                self.hung = true;
                return;
            }
            _ => return,
        };
        self.leaving = Some((self.busy_until.saturating_add(LINGER), Next::Stage(next)));
    }

    fn request(&mut self, request: &[u8]) {
        let Program::UBoot(_, server) = &self.program else { return };
        let is_command = server.bytes_wanted() == 0;
        if is_command && !self.goes_ahead(request) {
            return;
        }
        let Program::UBoot(machine, server) = &mut self.program else { return };
        let result = server.request(machine, request);
        let spent = machine.take_spent();
        self.busy_until = self.busy_until.saturating_add(spent);
        if !spent.is_zero() {
            self.record(&Event::Worked(spent));
        }
        self.settle(result.map(|()| None));
        self.after_answers();
    }

    fn fbk_request(&mut self, bytes: &[u8]) {
        let Program::Fbk(daemon) = &self.program else { return };
        if daemon.bytes_wanted() == 0 && !self.goes_ahead(bytes) {
            return;
        }
        let from = self.busy_until;
        let Program::Fbk(daemon) = &mut self.program else { return };
        let result = daemon.request(from, bytes);
        let worked = daemon.works_until().saturating_sub(from);
        if daemon.system.reboots {
            self.leaving = Some((daemon.works_until().saturating_add(LINGER), Next::PowerOn));
        }
        if !worked.is_zero() {
            self.record(&Event::Worked(worked));
        }
        self.settle(result.map(|()| None));
    }

    fn is_bulk(&self) -> bool {
        matches!(self.program, Program::UBoot(..) | Program::Fbk(..))
    }

    /// What is left of U-Boot after some work.
    fn settle(&mut self, result: Result<Option<After>, Halt>) {
        match result {
            Ok(None) => {}
            Ok(Some(After::Reset)) => self.leaving = Some((self.busy_until, Next::PowerOn)),
            Ok(Some(After::Boot)) if self.setup.fbk => {
                self.leaving = Some((self.busy_until, Next::Stage(Stage::Fbk)));
            }
            Ok(Some(After::Continue | After::Boot)) => {
                self.leaving = Some((self.busy_until, Next::Stage(Stage::Running)));
            }
            Ok(Some(After::Run(_))) => {}
            Err(Halt::PowerLost) => {
                let back = self.cut_back.take().unwrap_or(Back::Never);
                self.go_away(back, Next::PowerOn);
            }
            Err(Halt::Abort(_)) => self.leaving = Some((self.busy_until, Next::PowerOn)),
            Err(Halt::Overwritten(_)) => self.hung = true,
        }
    }

    pub(in crate::board) fn try_in(&mut self, address: u32, most: usize) -> Outcome<Vec<u8>> {
        if let Err(outcome) = self.admit(address) {
            return outcome;
        }
        let now = self.clock.now();
        let reply = match &mut self.program {
            Program::Fbk(daemon) => match daemon.reply(now, most) {
                Ok(reply) => Some(reply),
                Err(when) => {
                    let next = [when, self.next_change()].into_iter().flatten().min();
                    return Outcome::Wait(next);
                }
            },
            Program::Sdp(_) if !self.rest.is_empty() => None,
            Program::Sdp(sdp) => sdp.reply(),
            Program::UBoot(machine, server) => server.reply(machine, most),
            Program::Stream(_) | Program::Other => None,
        };
        let reply = if self.rest.is_empty() { reply } else { Some(std::mem::take(&mut self.rest)) };
        let Some(mut reply) = reply else {
            // Whoever waits for an answer that is not there yet is no transfer that follows the last one.
            self.queued = false;
            self.after_answers();
            return Outcome::Wait(self.next_change());
        };
        // Of a report that does not fit the rest comes next.
        if reply.len() > most {
            self.rest = reply.split_off(most);
        }
        if let Some(short) = self.short.take() {
            reply.truncate(short);
        }
        self.traffic.bytes_to_host += wide(reply.len());
        self.answered(&reply);
        self.occupy_bus(reply.len());
        self.after_answers();
        Outcome::Done(reply)
    }

    fn answered(&mut self, reply: &[u8]) {
        if !self.is_bulk() || reply.len() > REPLY_BYTES {
            return;
        }
        if reply.starts_with(b"FAIL") {
            self.traffic.fails += 1;
        }
        if self.recorder.is_some() {
            self.record(&Event::Answer(String::from_utf8_lossy(reply).into_owned()));
        }
    }

    /// Does what was to wait for the last answer.
    fn after_answers(&mut self) {
        if let Program::UBoot(machine, server) = &mut self.program
            && server.is_quiet()
            && machine.after.is_some()
        {
            let result = server.finish(machine);
            let spent = machine.take_spent();
            self.busy_until = self.busy_until.saturating_add(spent);
            self.settle(result);
        }
    }
}
