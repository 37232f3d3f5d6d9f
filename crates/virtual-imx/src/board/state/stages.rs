//! How a board goes from stage to stage: power, entering, leaving the bus and coming back.

use std::time::Duration;

use super::{Next, Program, State};
use crate::board::{BootMode, Stage, find_loader};
use crate::emmc::Emmc;
use crate::fastboot::Fastboot;
use crate::fault::{Back, When};
use crate::fbk::Daemon;
use crate::machine::Machine;
use crate::model::RomKind;
use crate::record::Event;
use crate::rom::sdp::Sdp;
use crate::rom::stream::Stream;

impl State {
    fn take_cards(&mut self) {
        match &mut self.program {
            Program::UBoot(machine, _) => self.cards = std::mem::take(&mut machine.cards),
            Program::Fbk(daemon) => self.cards = std::mem::take(&mut daemon.system.cards),
            _ => {}
        }
        self.program = Program::Other;
    }

    pub(in crate::board) fn power_on(&mut self) {
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

    pub(in crate::board) fn leave_for_good(&mut self) {
        self.poll();
        // What it was about to become it becomes all the same, away from the bus.
        let next = self.away.map_or(Next::Same, |(_, next)| next);
        if self.away.is_none() {
            self.record(&Event::Left);
        }
        self.away = Some((None, next));
    }

    pub(in crate::board) fn come_to(&mut self, path: &str) {
        self.poll();
        path.clone_into(&mut self.path);
        let next = self.away.map_or(Next::Same, |(_, next)| next);
        self.away = Some((Some(self.clock.now()), next));
        self.poll();
    }

    /// When something changes by itself next.
    pub(in crate::board) fn next_change(&self) -> Option<Duration> {
        match (self.away, self.leaving) {
            (Some((until, _)), _) => until,
            (None, leaving) => leaving.map(|(at, _)| at),
        }
    }

    /// Brings the state up to now.
    pub(in crate::board) fn poll(&mut self) {
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

    pub(in crate::board) fn bus_reset(&mut self, address: u32) {
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

    pub(in crate::board) fn start(&mut self, stage: Stage) {
        self.enter(stage);
    }

    pub(super) fn go_away(&mut self, back: Back, next: Next) {
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
}
