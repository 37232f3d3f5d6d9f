//! What a board is made of, and how it goes from stage to stage.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::emmc::{Emmc, Geometry};
use crate::fastboot::{Fastboot, REPLY_BYTES, REQUEST_BYTES};
use crate::fault::{Back, Fault, What, When};
use crate::fbk::Daemon;
use crate::link::Outcome;
use crate::machine::{After, Halt, Machine};
use crate::model::{self, Model, RomKind, Tree};
use crate::record::{Event, Recorder, Traffic};
use crate::rom::Verdict;
use crate::rom::sdp::Sdp;
use crate::rom::stream::Stream;
use crate::sample::FBK_MARK;
use crate::store::wide;
use crate::timing::{Clock, at_rate};

use super::{BootMode, Device, Endpoint, Kind, Setup, Speed, Stage, find_loader};

/// A ROM stays for so long after the last report it has heard, and a stage after its last answer.
const LINGER: Duration = Duration::from_millis(50);
/// Bytes taken of a bulk transfer at a time.
const BULK_PIECE: usize = 64 << 10;
/// A thread that wakes up later than this after the time it waited for has left a gap on the bus.
const LATE: Duration = Duration::from_millis(50);

enum Program {
    Sdp(Sdp),
    Stream(Stream),
    UBoot(Box<Machine>, Fastboot),
    Fbk(Box<Daemon>),
    /// Nothing that listens.
    Other,
}

/// What comes next, once the board has left the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The same again, as after a pulled cable.
    Same,
    PowerOn,
    Stage(Stage),
}

pub(super) struct State {
    pub(super) setup: Setup,
    pub(super) clock: Clock,
    pub(super) stage: Stage,
    pub(super) path: String,
    pub(super) faults: Vec<Fault>,
    serial: Option<String>,
    program: Program,
    /// The cards, while no U-Boot has them.
    cards: BTreeMap<u32, Emmc>,
    address: u32,
    /// Off the bus: until when (`None`: for ever), and what then.
    away: Option<(Option<Duration>, Next)>,
    /// Leaves the bus at that time.
    leaving: Option<(Duration, Next)>,
    pub(super) busy_until: Duration,
    /// A transfer is waiting for the board to be free.
    queued: bool,
    hung: bool,
    stall: bool,
    short: Option<usize>,
    /// The rest of a report that the host had no room for.
    rest: Vec<u8>,
    /// Bytes from the host in this stage.
    heard: u64,
    /// Commands that faults have counted: how often each was seen.
    seen: Vec<u32>,
    /// Where the board comes back after the power cut that the card is counting down to.
    cut_back: Option<Back>,
    pub(super) traffic: Traffic,
    pub(super) recorder: Option<Recorder>,
}

impl State {
    pub(super) fn new(setup: Setup) -> Self {
        let layout = setup.model.layout(setup.tree);
        let mut cards: BTreeMap<_, _> = [(layout.emmc, Emmc::new(setup.emmc))].into();
        if let Some(geometry) = setup.sd {
            cards.insert(layout.sd, Emmc::new(Geometry { boot_bytes: 0, ..geometry }));
        }
        Self {
            clock: setup.clock,
            stage: Stage::Rom,
            path: setup.path.clone(),
            faults: Vec::new(),
            serial: None,
            program: Program::Other,
            cards,
            address: 0,
            away: Some((None, Next::PowerOn)),
            leaving: None,
            busy_until: Duration::ZERO,
            queued: false,
            hung: false,
            stall: false,
            short: None,
            rest: Vec::new(),
            heard: 0,
            seen: Vec::new(),
            cut_back: None,
            traffic: Traffic::default(),
            recorder: None,
            setup,
        }
    }

    pub(super) fn record(&mut self, event: &Event) {
        let now = self.clock.now();
        if let Some(recorder) = &mut self.recorder {
            recorder(now, event);
        }
    }

    pub(super) fn machine(&self) -> Option<&Machine> {
        match &self.program {
            Program::UBoot(machine, _) => Some(machine),
            _ => None,
        }
    }

    pub(super) fn largest_download(&self) -> u64 {
        match &self.program {
            Program::UBoot(_, server) => server.largest,
            _ => 0,
        }
    }

    pub(super) fn emmc(&mut self) -> &mut Emmc {
        let dev = self.setup.model.layout(self.setup.tree).emmc;
        let geometry = self.setup.emmc;
        let cards = match &mut self.program {
            Program::UBoot(machine, _) => &mut machine.cards,
            Program::Fbk(daemon) => &mut daemon.system.cards,
            _ => &mut self.cards,
        };
        cards.entry(dev).or_insert_with(|| Emmc::new(geometry))
    }

    fn take_cards(&mut self) {
        match &mut self.program {
            Program::UBoot(machine, _) => self.cards = std::mem::take(&mut machine.cards),
            Program::Fbk(daemon) => self.cards = std::mem::take(&mut daemon.system.cards),
            _ => {}
        }
        self.program = Program::Other;
    }

    pub(super) fn power_on(&mut self) {
        self.take_cards();
        self.cards.values_mut().for_each(Emmc::power_on);
        self.cut_back = None;
        let (model, hab, boot) = (self.setup.model, self.setup.hab, self.setup.boot);
        let starts = boot == BootMode::Card && find_loader(model, self.emmc(), hab).is_ok();
        self.enter(if starts { Stage::Running } else { Stage::Rom });
    }

    fn enter(&mut self, stage: Stage) {
        self.take_cards();
        self.stage = stage;
        (self.away, self.leaving) = (None, None);
        (self.hung, self.stall, self.short, self.queued) = (false, false, None, false);
        self.rest.clear();
        (self.heard, self.busy_until) = (0, self.clock.now());
        self.address = self.address.wrapping_add(1);
        let (model, tree, hab) = (self.setup.model, self.setup.tree, self.setup.hab);
        let layout = model.layout(tree);
        self.program = match (stage, model.rom()) {
            (Stage::Running, _) => Program::Other,
            (Stage::Rom, RomKind::SdpIvt) => Program::Sdp(Sdp::rom(hab)),
            (Stage::Rom, kind) => Program::Stream(Stream::new(kind, hab, model.report_payload())),
            (Stage::Loader, _) => {
                let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
                Program::Sdp(Sdp::loader(word(layout.ram), word(layout.ram_bytes), word(layout.load_address)))
            }
            (Stage::UBoot, _) => {
                let cards = std::mem::take(&mut self.cards);
                let machine = Machine::new(model, tree, cards, self.setup.timing);
                let mut machine = Box::new(match self.setup.ram {
                    Some(bytes) => machine.with_ram(bytes),
                    None => machine,
                });
                machine.part = self.setup.part;
                for (name, value) in &self.setup.variables {
                    machine.set_env(name, value);
                }
                let serial = self.serial(Stage::UBoot);
                let server = Fastboot::new(&mut machine, &serial);
                Program::UBoot(machine, server)
            }
            (Stage::Fbk, _) => {
                let cards = std::mem::take(&mut self.cards);
                Program::Fbk(Box::new(Daemon::new(cards, self.setup.timing)))
            }
        };
        self.come();
        self.on_enter();
    }

    /// The board is on the bus, as something new.
    fn come(&mut self) {
        if self.on_the_bus() {
            self.traffic.visits += 1;
        }
        self.record(&Event::Entered(self.stage));
    }

    fn on_enter(&mut self) {
        // How often a command came counts anew in each stage.
        self.seen.clear();
        let stage = self.stage;
        while let Some(at) = self.faults.iter().position(|fault| fault.stage == stage && fault.when == When::Enter) {
            let what = self.remove_fault(at);
            self.suffer(what);
        }
    }

    /// Both are the number in the fuses: U-Boot writes it in small letters, the ROM here in capitals (what real ROMs
    /// write is not on record).
    fn serial(&self, stage: Stage) -> String {
        let uid = self.setup.uid;
        match &self.serial {
            Some(serial) => serial.clone(),
            None if stage == Stage::Rom => format!("{uid:016X}"),
            None => format!("{uid:016x}"),
        }
    }

    /// Takes a fault out of the list: each happens once.
    fn remove_fault(&mut self, n: usize) -> What {
        self.seen.resize(self.faults.len(), 0);
        self.seen.remove(n);
        self.faults.remove(n).what
    }

    pub(super) fn address(&self) -> Option<u32> {
        self.on_the_bus().then_some(self.address)
    }

    fn on_the_bus(&self) -> bool {
        self.away.is_none() && self.stage != Stage::Running
    }

    pub(super) fn leave_for_good(&mut self) {
        self.poll();
        // What it was about to become it becomes all the same, away from the bus.
        let next = self.away.map_or(Next::Same, |(_, next)| next);
        if self.away.is_none() {
            self.record(&Event::Left);
        }
        self.away = Some((None, next));
    }

    pub(super) fn come_to(&mut self, path: &str) {
        self.poll();
        path.clone_into(&mut self.path);
        let next = self.away.map_or(Next::Same, |(_, next)| next);
        self.away = Some((Some(self.clock.now()), next));
        self.poll();
    }

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

    /// When something changes by itself next.
    pub(super) fn next_change(&self) -> Option<Duration> {
        match (self.away, self.leaving) {
            (Some((until, _)), _) => until,
            (None, leaving) => leaving.map(|(at, _)| at),
        }
    }

    /// Brings the state up to now.
    pub(super) fn poll(&mut self) {
        let now = self.clock.now();
        if let Some((at, next)) = self.leaving.filter(|(at, _)| self.away.is_none() && *at <= now) {
            self.leaving = None;
            self.away = Some((Some(at.saturating_add(self.setup.timing.gap)), next));
            self.record(&Event::Left);
        }
        let Some((Some(until), next)) = self.away else { return };
        if until > now {
            return;
        }
        match next {
            Next::Same => {
                self.away = None;
                self.address = self.address.wrapping_add(1);
                self.heard = 0;
                match &mut self.program {
                    Program::UBoot(_, server) => {
                        server.bus_reset();
                        self.come();
                        self.on_enter();
                    }
                    Program::Fbk(daemon) => {
                        daemon.bus_reset();
                        self.come();
                        self.on_enter();
                    }
                    _ => self.enter(self.stage),
                }
            }
            Next::PowerOn => self.power_on(),
            Next::Stage(stage) => self.enter(stage),
        }
    }

    /// Is what runs on the faster side of the connector? A board that was plugged in elsewhere has lost it.
    fn is_super(&self) -> bool {
        self.stage == Stage::UBoot && self.setup.super_speed.is_some() && self.path == self.setup.path
    }

    pub(super) fn bus_reset(&mut self, address: u32) {
        self.poll();
        if !self.on_the_bus() || address != self.address {
            return;
        }
        match &mut self.program {
            Program::UBoot(_, server) => server.bus_reset(),
            Program::Fbk(daemon) => daemon.bus_reset(),
            _ => {}
        }
    }

    fn server(&self, address: u32) -> Option<&Fastboot> {
        match &self.program {
            Program::UBoot(_, server) if self.address() == Some(address) => Some(server),
            _ => None,
        }
    }

    pub(super) fn bytes_wanted(&self, address: u32) -> u64 {
        self.server(address).map_or(0, Fastboot::bytes_wanted)
    }

    pub(super) fn forget_late(&mut self, address: u32) {
        if self.server(address).is_some()
            && let Program::UBoot(machine, _) = &mut self.program
        {
            machine.after.take_if(|after| matches!(after, After::Run(_)));
        }
    }

    pub(super) fn has_answer(&self, address: u32) -> bool {
        self.server(address).is_some_and(|server| !server.is_quiet())
    }

    pub(super) fn start(&mut self, stage: Stage) {
        self.enter(stage);
    }

    pub(super) fn daemon(&self) -> Option<&Daemon> {
        match &self.program {
            Program::Fbk(daemon) => Some(daemon),
            _ => None,
        }
    }

    pub(super) fn device(&self) -> Option<Device> {
        if !self.on_the_bus() {
            return None;
        }
        let (model, tree) = (self.setup.model, self.setup.tree);
        let endpoint = |address, kind, packet| Endpoint { address, kind, packet };
        let hid_in = endpoint(0x81, Kind::Interrupt, 64);
        let (ids, strings, class, endpoints) = match self.stage {
            Stage::Rom => {
                let mut endpoints = vec![hid_in];
                if model.has_out_endpoint() {
                    endpoints.push(endpoint(0x01, Kind::Interrupt, 1024));
                }
                (model.rom_ids(), ["NXP SemiConductor Inc", rom_product(model)], [3, 0, 0], endpoints)
            }
            Stage::Loader => (tree.loader_ids(), ["FSL", "USB download gadget"], [3, 0, 0], vec![hid_in]),
            Stage::Fbk => {
                let endpoints = vec![endpoint(0x81, Kind::Bulk, 512), endpoint(0x02, Kind::Bulk, 512)];
                (model::fbk_ids(), ["NXP", "i.MX"], [0xff, 0, 0], endpoints)
            }
            Stage::UBoot | Stage::Running => {
                let packet = if self.is_super() { 1024 } else { 512 };
                // NXP's own client needs the IN endpoint first.
                let endpoints = vec![endpoint(0x81, Kind::Bulk, packet), endpoint(0x01, Kind::Bulk, packet)];
                (tree.fastboot_ids(), ["FSL", "USB download gadget"], [0xff, 0x42, 3], endpoints)
            }
        };
        let serial = match (&self.program, tree) {
            (Program::UBoot(machine, _), Tree::Upstream) => machine.env("serial#").map(str::to_owned),
            (Program::UBoot(..), Tree::Nxp) | (Program::Fbk(..), _) => Some(self.serial(Stage::UBoot)),
            _ => None,
        };
        let string4 = (self.stage == Stage::Rom).then(|| self.serial(Stage::Rom));
        let (speed, path) = match &self.setup.super_speed {
            Some(path) if self.is_super() => (Speed::Super, path.clone()),
            _ => (Speed::High, self.path.clone()),
        };
        let report_payload = match self.stage {
            Stage::Rom => u16::try_from(model.report_payload()).unwrap_or(0),
            _ => 1024,
        };
        let (address, connector) = (self.address, self.path.clone());
        Some(Device {
            address,
            path,
            connector,
            speed,
            report_payload,
            ids,
            serial,
            string4,
            strings,
            class,
            endpoints,
        })
    }

    fn go_away(&mut self, back: Back, next: Next) {
        let until = match back {
            Back::Never => None,
            Back::After(after) => Some(after),
            Back::Elsewhere(path, after) => {
                self.path = path;
                Some(after)
            }
        };
        self.away = Some((until.map(|after| self.clock.now().saturating_add(after)), next));
        self.leaving = None;
        self.record(&Event::Left);
    }

    fn suffer(&mut self, what: What) {
        match what {
            What::Unplug(back) => self.go_away(back, Next::Same),
            What::PowerCut(back) => self.go_away(back, Next::PowerOn),
            What::CutAfterWriting(bytes, back) => {
                self.emmc().cut_power_after(bytes);
                self.cut_back = Some(back);
            }
            What::Stall => self.stall = true,
            What::Hang => self.hung = true,
            What::Short(bytes) => self.short = Some(bytes),
            What::Serial(serial) => {
                self.serial = Some(serial);
                let serial = self.serial(Stage::UBoot);
                if let Program::UBoot(machine, server) = &mut self.program {
                    server.serial = serial;
                    if machine.tree == Tree::Upstream {
                        machine.set_env("serial#", &server.serial);
                    }
                }
            }
            What::Bad(area, first, end, defect) => self.emmc().add_defect(area, first..end, defect),
            What::Flip(area, at, mask) => self.emmc().flip(area, at, mask),
            What::Weak(area, at, mask, times) => self.emmc().weaken(area, at, mask, times),
            What::Slow(time) => self.busy_until = self.busy_until.saturating_add(time),
            What::Late(writes) => self.emmc().be_late(writes),
            What::SlowErase(group) => {
                self.setup.timing.erase_group = group;
                if let Program::UBoot(machine, _) = &mut self.program {
                    machine.timing.erase_group = group;
                }
            }
            What::DataSize(size) => {
                if let Program::UBoot(_, server) = &mut self.program {
                    server.wrong_size = Some(size);
                }
                if let Program::Fbk(daemon) = &mut self.program {
                    daemon.wrong_size = Some(size);
                }
            }
            What::Fail(text) => {
                if let Program::UBoot(_, server) = &mut self.program {
                    server.fail(&text);
                }
                let now = self.busy_until;
                if let Program::Fbk(daemon) = &mut self.program {
                    daemon.fail(now, &text);
                }
            }
        }
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

    pub(super) fn try_out(&mut self, address: u32, bytes: &[u8]) -> Outcome<usize> {
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

    /// Notes a command and lets a fault happen at it. Is it to be carried out?
    fn goes_ahead(&mut self, command: &[u8]) -> bool {
        self.traffic.commands += 1;
        if self.recorder.is_some() {
            self.record(&Event::Command(String::from_utf8_lossy(command).into_owned()));
        }
        let stage = self.stage;
        let mut fault = None;
        self.seen.resize(self.faults.len(), 0);
        for (n, candidate) in self.faults.iter().enumerate() {
            let When::Command(nth, prefix) = &candidate.when else { continue };
            if candidate.stage == stage && command.starts_with(prefix.as_bytes()) {
                self.seen[n] += 1;
                if self.seen[n] >= *nth {
                    fault = fault.or(Some(n));
                }
            }
        }
        let Some(what) = fault.map(|n| self.remove_fault(n)) else { return true };
        // These come instead of what was asked.
        let instead = matches!(what, What::Unplug(_) | What::PowerCut(_) | What::Stall | What::Hang | What::Fail(_));
        self.suffer(what);
        !instead
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

    pub(super) fn try_in(&mut self, address: u32, most: usize) -> Outcome<Vec<u8>> {
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

fn rom_product(model: Model) -> &'static str {
    match model.rom() {
        RomKind::SdpIvt => "SE Blank ARIK",
        _ => "SE Blank",
    }
}
