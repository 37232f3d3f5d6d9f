//! Commands by name.

use crate::machine::{After, Halt, Machine};
use crate::model::Tree;
use crate::shell;

use super::{Fastboot, State};

/// `ACmd` keeps its line in a buffer of 64.
const MAX_LATE: usize = 63;

impl Fastboot {
    pub(super) fn command(&mut self, machine: &mut Machine, text: &str) -> Result<(), Halt> {
        let nxp = machine.tree == Tree::Nxp;
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None if nxp => text.split_once(' ').map_or((text, None), |(name, argument)| (name, Some(argument))),
            None => (text, None),
        };
        match (name, argument) {
            ("getvar", argument) => self.getvar(machine, argument.unwrap_or_default()),
            ("download", argument) => self.download(argument),
            ("flash", argument) => return self.flash(machine, argument.unwrap_or_default()),
            ("erase", argument) => self.erase(machine, argument.unwrap_or_default()),
            ("UCmd", Some(line)) => return self.run_now(machine, line),
            ("oem run", Some(line)) if !nxp => return self.run_now(machine, line),
            ("ACmd", Some(line)) if line.len() > MAX_LATE => self.fail("too long command"),
            ("ACmd", Some(line)) => self.after(machine, After::Run(line.to_owned())),
            ("UCmd" | "ACmd", None) => self.fail("missing command"),
            ("boot", _) => self.after(machine, After::Boot),
            ("continue", _) => self.after(machine, After::Continue),
            ("reboot", _) => self.after(machine, After::Reset),
            ("reboot-bootloader", _) if nxp => self.after(machine, After::Reset),
            ("reboot-bootloader" | "reboot-fastboot" | "reboot-recovery", _) if !nxp => {
                // The flag goes to a partition "misc", which these images have not.
                self.fail("Cannot set reboot flag");
            }
            ("set_active", _) if !nxp => self.okay(""),
            ("upload" | "get_staged", _) if nxp => self.start_upload(),
            ("oem format", _) if !nxp => self.fail("partitions not set"),
            ("oem partconf", Some(argument)) if !nxp => {
                let dev = machine.model.layout(machine.tree).emmc;
                return self.oem(machine, &format!("mmc partconf {dev} {argument} 0"), "Cannot set oem partconf");
            }
            ("oem bootbus", Some(argument)) if !nxp => {
                let dev = machine.model.layout(machine.tree).emmc;
                return self.oem(machine, &format!("mmc bootbus {dev} {argument}"), "Cannot set oem bootbus");
            }
            ("oem partconf" | "oem bootbus" | "oem run", None) if !nxp => self.fail("Expected command parameter"),
            ("oem console" | "oem board", _) if !nxp => self.fail("Unsupported command"),
            _ => self.fail("unrecognized command"),
        }
        Ok(())
    }

    fn after(&mut self, machine: &mut Machine, after: After) {
        machine.after = Some(after);
        self.okay("");
    }

    fn download(&mut self, argument: Option<&str>) {
        let Some(digits) = argument else {
            self.fail("Expected command parameter");
            return;
        };
        // U-Boot's variable has 32 bits.
        let size = u32::try_from(shell::hex(digits) & 0xffff_ffff).unwrap_or(0);
        if size == 0 {
            self.fail("Expected nonzero image size");
        } else if size > self.buffer_bytes {
            self.fail(digits);
        } else {
            let size = match self.wrong_size.take() {
                Some(wrong) => {
                    self.answer("DATA", &format!("{wrong:08x}"));
                    wrong
                }
                None => {
                    self.answer("DATA", digits);
                    size
                }
            };
            let size = u64::from(size);
            self.state = match size {
                0 => State::Command,
                _ => State::Data { at: self.buffer, left: size, size },
            };
        }
    }

    fn start_upload(&mut self) {
        let size = self.downloaded;
        if size == 0 {
            // What NXP's tree answers here is not on record.
            self.fail("no data to upload");
            return;
        }
        self.answer("DATA", &format!("{size:08x}"));
        self.upload = Some((self.buffer, size));
        self.okay("");
    }

    fn run_now(&mut self, machine: &mut Machine, line: &str) -> Result<(), Halt> {
        machine.unheard.clear();
        let status = shell::run(machine, line)?;
        self.send_console(machine);
        if status == 0 {
            if machine.tree == Tree::Nxp {
                if let Some(buffer) = machine.env_hex("fastboot_buffer") {
                    self.buffer = buffer;
                }
                self.table.refresh(machine);
            }
            self.okay("");
        } else {
            self.fail("");
        }
        // `reset` in a line that is waited for: the answer never leaves.
        if machine.after == Some(After::Reset) {
            self.bus_reset();
        }
        Ok(())
    }

    fn oem(&mut self, machine: &mut Machine, line: &str, problem: &str) -> Result<(), Halt> {
        if shell::run(machine, line)? == 0 {
            self.okay("")
        } else {
            self.fail(problem)
        }
        Ok(())
    }
}
