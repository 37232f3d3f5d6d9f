//! What a board is made of. How it goes from stage to stage, what it tells of itself, its transfers and its faults are
//! the modules below.

mod descriptors;
mod faults;
mod stages;
mod transfers;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Setup, Stage};
use crate::emmc::{Emmc, Geometry};
use crate::fastboot::Fastboot;
use crate::fault::{Back, Fault};
use crate::fbk::Daemon;
use crate::machine::Machine;
use crate::record::{Event, Recorder, Traffic};
use crate::rom::sdp::Sdp;
use crate::rom::stream::Stream;
use crate::timing::Clock;

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

    pub(super) fn address(&self) -> Option<u32> {
        self.on_the_bus().then_some(self.address)
    }

    fn on_the_bus(&self) -> bool {
        self.away.is_none() && self.stage != Stage::Running
    }

    pub(super) fn daemon(&self) -> Option<&Daemon> {
        match &self.program {
            Program::Fbk(daemon) => Some(daemon),
            _ => None,
        }
    }
}
