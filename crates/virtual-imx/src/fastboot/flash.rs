//! `flash` and `erase`.

use crate::emmc::{Area, BLOCK_BYTES};
use crate::machine::{Halt, Machine};
use crate::model::Tree;
use crate::store::wide;

use super::partition::{self, Target};
use super::{Fastboot, gpt, sparse};

impl Fastboot {
    pub(super) fn flash(&mut self, machine: &mut Machine, name: &str) -> Result<(), Halt> {
        match machine.tree {
            Tree::Nxp => self.flash_nxp(machine, name),
            Tree::Upstream => self.flash_upstream(machine, name),
        }
    }

    fn flash_nxp(&mut self, machine: &mut Machine, name: &str) -> Result<(), Halt> {
        let dev = partition::nxp_device(machine);
        if dev.is_none_or(|dev| !machine.cards.contains_key(&dev)) {
            // No device: it returns with nothing in its buffer, and nothing is sent.
            return Ok(());
        }
        self.table.refresh(machine);
        let Some(target) = self.table.find(name) else {
            self.fail("partition does not exist");
            return Ok(());
        };
        select(machine, target);
        if name == "gpt" {
            return self.flash_gpt(machine, target);
        }
        let verbatim = ["bootloader", "boot", "misc"].iter().any(|raw| name.starts_with(raw));
        if !verbatim && sparse::is_sparse(machine, self.buffer)? {
            return self.flash_sparse(machine, target);
        }
        if name == "all" {
            // It takes sparse images only; its words about it are not on record.
            self.fail("");
            return Ok(());
        }
        self.flash_raw(machine, target, "too large for partition")
    }

    fn flash_upstream(&mut self, machine: &mut Machine, name: &str) -> Result<(), Halt> {
        let dev = machine.model.layout(machine.tree).emmc;
        if name == "gpt" || name == "mbr" {
            let Some(card) = machine.cards.get(&dev) else {
                self.fail("no such device");
                return Ok(());
            };
            let target = Target { dev, area: Area::User, first: 0, blocks: card.blocks(Area::User) };
            select(machine, target);
            return if name == "gpt" { self.flash_gpt(machine, target) } else { self.flash_mbr(machine, target) };
        }
        let target = match partition::upstream(machine, name) {
            Ok(target) => target,
            Err(problem) => {
                self.fail(problem);
                return Ok(());
            }
        };
        select(machine, target);
        let boot = name.starts_with("mmc0boot");
        let done = if !boot && sparse::is_sparse(machine, self.buffer)? {
            self.flash_sparse(machine, target)
        } else {
            self.flash_raw(machine, target, "too large for partition")
        };
        if let Some(card) = machine.cards.get_mut(&target.dev) {
            // The user area is always there.
            let _ = card.select(Area::User);
        }
        done
    }

    fn flash_sparse(&mut self, machine: &mut Machine, target: Target) -> Result<(), Halt> {
        match sparse::write(machine, self.buffer, target)? {
            Ok(()) => self.okay(""),
            Err(problem) => self.fail(problem),
        }
        Ok(())
    }

    /// From the beginning of the partition, rounded up to blocks: the tail of the last is what memory holds.
    fn flash_raw(&mut self, machine: &mut Machine, target: Target, too_large: &str) -> Result<(), Halt> {
        let count = self.downloaded.div_ceil(BLOCK_BYTES);
        if count > target.blocks {
            self.fail(too_large);
        } else if machine.ram_to_card(target.dev, target.area, target.first, count, self.buffer)? {
            self.okay("");
        } else {
            self.fail("failed writing to device");
        }
        Ok(())
    }

    fn flash_gpt(&mut self, machine: &mut Machine, target: Target) -> Result<(), Halt> {
        let primary = machine.ram.bytes(self.buffer, gpt::PRIMARY_BYTES)?;
        let whole = self.downloaded >= wide(gpt::PRIMARY_BYTES) && gpt::is_valid(&primary);
        let backup = gpt::backup(&primary, partition::device_blocks(machine, target)).filter(|_| whole);
        let Some((at, backup)) = backup else {
            self.fail("invalid GPT partition");
            return Ok(());
        };
        let done = machine.write_card(target.dev, Area::User, 0, &primary)?
            && machine.write_card(target.dev, Area::User, at / BLOCK_BYTES, &backup)?;
        if done {
            self.okay("")
        } else {
            self.fail("writing GPT partitions failed")
        }
        Ok(())
    }

    fn flash_mbr(&mut self, machine: &mut Machine, target: Target) -> Result<(), Halt> {
        let sector = machine.ram.bytes(self.buffer, 512)?;
        if self.downloaded < 512 || sector[510..] != [0x55, 0xaa] {
            self.fail("invalid MBR partition");
        } else if machine.write_card(target.dev, Area::User, 0, &sector)? {
            self.okay("");
        } else {
            self.fail("writing MBR partition failed");
        }
        Ok(())
    }

    /// Whole erase groups inside the partition; what sticks out at both ends stays.
    pub(super) fn erase(&mut self, machine: &mut Machine, name: &str) {
        let target = match machine.tree {
            // The entry for the whole device and that for the table are not to be erased.
            Tree::Nxp if name == "all" || name == "gpt" => Err("partition does not exist"),
            Tree::Nxp => self.table.find(name).ok_or("partition does not exist"),
            Tree::Upstream => partition::upstream(machine, name),
        };
        let target = match target {
            Ok(target) => target,
            Err(problem) => {
                self.fail(problem);
                return;
            }
        };
        let time = machine.timing.erase_group;
        let Some(card) = machine.cards.get_mut(&target.dev) else {
            self.fail("no such device");
            return;
        };
        let group = (card.geometry().erase_group_bytes / BLOCK_BYTES).max(1);
        let first = target.first.div_ceil(group);
        let end = (target.first + target.blocks) / group;
        let groups = end.saturating_sub(first);
        if groups == 0 || card.erase(target.area, first * group, groups * group).is_ok() {
            machine.spend(time.saturating_mul(u32::try_from(groups).unwrap_or(u32::MAX)));
            self.okay("");
        } else {
            self.fail("failed erasing from device");
        }
    }
}

/// Sends the card's commands to the target's area, and leaves it so.
fn select(machine: &mut Machine, target: Target) {
    if let Some(card) = machine.cards.get_mut(&target.dev) {
        // A table names no area that its card has not.
        let _ = card.select(target.area);
    }
}
