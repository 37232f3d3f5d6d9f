//! `getvar`.

use crate::emmc::{Area, BLOCK_BYTES};
use crate::machine::Machine;
use crate::model::Tree;

use super::Fastboot;
use super::partition;

/// So much of a variable's value upstream was seen to send, one less than would fit.
const MAX_VALUE: usize = 59;

/// Upstream's variables, in its order.
const UPSTREAM: [&str; 10] = [
    "version",
    "version-bootloader",
    "downloadsize",
    "max-download-size",
    "serialno",
    "version-baseband",
    "product",
    "platform",
    "current-slot",
    "is-userspace",
];

/// NXP's, likewise.
const NXP: [&str; 13] = [
    "version",
    "version-bootloader",
    "version-baseband",
    "product",
    "max-download-size",
    "downloadsize",
    "serialno",
    "erase-block-size",
    "logical-block-size",
    "slot-count",
    "unlocked",
    "secure",
    "is-userspace",
];

impl Fastboot {
    pub(super) fn getvar(&mut self, machine: &mut Machine, name: &str) {
        match machine.tree {
            Tree::Nxp => self.getvar_nxp(machine, name),
            Tree::Upstream => self.getvar_upstream(machine, name),
        }
    }

    fn getvar_upstream(&mut self, machine: &Machine, name: &str) {
        if name == "all" {
            for name in UPSTREAM {
                if let Ok(value) = self.upstream(machine, name) {
                    self.info(&format!("{name}:{value}"));
                }
            }
            self.okay("");
            return;
        }
        if let Some(value) = machine.env(&format!("fastboot.{name}")) {
            let cut: String = value.chars().take(MAX_VALUE).collect();
            self.okay(&cut);
            return;
        }
        match self.upstream(machine, name) {
            Ok(value) => self.okay(&value),
            Err(problem) => self.fail(problem),
        }
    }

    fn upstream(&self, machine: &Machine, name: &str) -> Result<String, &'static str> {
        let (name, argument) = name.split_once(':').map_or((name, None), |(name, rest)| (name, Some(rest)));
        let found = |argument: Option<&str>| {
            let part = argument.ok_or("Expected partition name")?;
            partition::upstream(machine, part)
        };
        Ok(match name {
            "version" => "0.4".to_owned(),
            "version-bootloader" => "U-Boot 2026.07".to_owned(),
            "downloadsize" | "max-download-size" => format!("0x{:08x}", self.buffer_bytes),
            "serialno" => machine.env("serial#").ok_or("Value not set")?.to_owned(),
            "version-baseband" => "N/A".to_owned(),
            "product" => machine.env("board").ok_or("Board not set")?.to_owned(),
            "platform" => machine.env("platform").ok_or("Value not set")?.to_owned(),
            "current-slot" => "a".to_owned(),
            "is-userspace" => "no".to_owned(),
            "has-slot" => {
                let part = argument.ok_or("Expected partition name")?;
                let slotted = partition::upstream(machine, &format!("{part}_a")).is_ok();
                (if slotted { "yes" } else { "no" }).to_owned()
            }
            "partition-size" => {
                let target = found(argument)?;
                format!("0x{:016x}", target.blocks * BLOCK_BYTES)
            }
            "partition-type" => found(argument).map(|_| "raw".to_owned())?,
            _ => return Err("Variable not implemented"),
        })
    }

    fn getvar_nxp(&mut self, machine: &Machine, name: &str) {
        if name == "all" {
            for name in NXP {
                if let Some(value) = self.nxp(machine, name) {
                    self.info(&format!("{name}:{value}"));
                }
            }
            let parts: Vec<_> = self.table.names().map(str::to_owned).collect();
            for part in parts {
                for kind in ["partition-type", "partition-size"] {
                    let name = format!("{kind}:{part}");
                    if let Some(value) = self.nxp(machine, &name) {
                        self.info(&format!("{name}:{value}"));
                    }
                }
            }
            self.okay("Done!");
            return;
        }
        let late: String = name.chars().take(21).collect();
        let late = machine.env(&format!("fastboot.{late}")).map(str::to_owned);
        match self.nxp(machine, name).or(late) {
            Some(value) => self.okay(&value),
            None => self.fail(&format!("FAILunknown variable:{name}")),
        }
    }

    /// A name is known if a known one is its beginning.
    fn nxp(&self, machine: &Machine, name: &str) -> Option<String> {
        let is = |known: &str| name.starts_with(known);
        let part = |kind: &str| name.strip_prefix(kind).and_then(|part| self.table.find(part));
        let card = machine.cards.get(&partition::nxp_device(machine)?);
        if is("partition-size:") {
            return part("partition-size:").map(|target| format!("0x{:x}", target.blocks * BLOCK_BYTES));
        }
        if is("partition-type:") {
            let whole = name == "partition-type:all";
            return part("partition-type:").map(|_| (if whole { "device" } else { "raw" }).to_owned());
        }
        Some(match () {
            () if is("version-bootloader") || is("bootloader-version") => "U-Boot 2023.04".to_owned(),
            () if is("version-baseband") => "N/A".to_owned(),
            () if is("version") => "0.4".to_owned(),
            () if is("product") => machine.model.board().to_owned(),
            () if is("downloadsize") || is("max-download-size") => format!("0x{:x}", self.buffer_bytes),
            () if is("serialno") => self.serial.clone(),
            () if is("erase-block-size") => format!("0x{:x}", card?.geometry().erase_group_bytes),
            () if is("logical-block-size") => format!("0x{BLOCK_BYTES:x}"),
            () if is("slot-count") => "0".to_owned(),
            () if is("unlocked") => "yes".to_owned(),
            () if is("secure") || is("is-userspace") || is("current-slot") || is("has-slot") => "no".to_owned(),
            () => return None,
        })
    }
}

/// The blocks of a whole card.
pub(super) fn user_blocks(machine: &Machine, dev: u32) -> Option<u64> {
    machine.cards.get(&dev).map(|card| card.blocks(Area::User))
}
