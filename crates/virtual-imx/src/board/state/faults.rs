//! What befalls a board when a fault of its script comes due.

use super::{Next, Program, State};
use crate::board::Stage;
use crate::fault::{What, When};
use crate::model::Tree;
use crate::record::Event;

impl State {
    /// Takes a fault out of the list: each happens once.
    pub(super) fn remove_fault(&mut self, n: usize) -> What {
        self.seen.resize(self.faults.len(), 0);
        self.seen.remove(n);
        self.faults.remove(n).what
    }

    pub(super) fn suffer(&mut self, what: What) {
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

    /// Notes a command and lets a fault happen at it. Is it to be carried out?
    pub(super) fn goes_ahead(&mut self, command: &[u8]) -> bool {
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
}
