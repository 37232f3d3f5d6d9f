//! From a name to blocks of a card.

use crate::emmc::{Area, BLOCK_BYTES};
use crate::machine::Machine;
use crate::shell;

use super::getvar::user_blocks;
use super::gpt;

/// NXP's table has so many entries.
const MAX_TABLE: usize = 32;

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) dev: u32,
    pub(super) area: Area,
    pub(super) first: u64,
    pub(super) blocks: u64,
}

/// The device that NXP's fastboot writes to; `None` if the variables name none that could be.
pub(super) fn nxp_device(machine: &Machine) -> Option<u32> {
    match machine.env("fastboot_dev") {
        None | Some("mmc") => {}
        Some(_) => return None,
    }
    match machine.env("target_ubootdev") {
        Some(text) => text.parse().ok(),
        None => Some(machine.model.layout(machine.tree).emmc),
    }
}

/// NXP's table of partitions, made when the server starts and when the device changes.
#[derive(Debug, Default)]
pub(super) struct Table {
    dev: Option<u32>,
    entries: Vec<(String, Target)>,
}

impl Table {
    /// Makes it anew.
    pub(super) fn reload(&mut self, machine: &Machine) {
        self.dev = nxp_device(machine);
        self.entries.clear();
        let Some((dev, card)) = self.dev.and_then(|dev| Some((dev, machine.cards.get(&dev)?))) else { return };
        let user = card.blocks(Area::User);
        let area = if card.is_sd() { Area::User } else { Area::Boot0 };
        let first = machine.model.loader_offset(!card.is_sd()) / BLOCK_BYTES;
        let loader = Target { dev, area, first, blocks: card.blocks(area).saturating_sub(first) };
        self.entries.push(("all".to_owned(), Target { dev, area: Area::User, first: 0, blocks: user }));
        self.entries.push(("bootloader".to_owned(), loader));
        self.entries.push(("gpt".to_owned(), Target { dev, area: Area::User, first: 0, blocks: 34.min(user) }));
        for entry in gpt::entries(card).into_iter().take(MAX_TABLE - self.entries.len()) {
            let blocks = entry.last - entry.first + 1;
            self.entries.push((entry.name, Target { dev, area: Area::User, first: entry.first, blocks }));
        }
    }

    /// Makes it anew if the device has changed.
    pub(super) fn refresh(&mut self, machine: &Machine) {
        if self.dev != nxp_device(machine) {
            self.reload(machine);
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<Target> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, target)| *target)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }
}

/// Upstream's names, apart from `gpt` and `mbr`: boot partitions, the whole user area, aliases, GPT labels, windows
/// from variables, and `device[.hwpart][:partition]`.
pub(super) fn upstream(machine: &Machine, name: &str) -> Result<Target, &'static str> {
    let dev = machine.model.layout(machine.tree).emmc;
    if name.is_empty() {
        return Err("partition not given");
    }
    let card = machine.cards.get(&dev).ok_or("no such device")?;
    let user = Target { dev, area: Area::User, first: 0, blocks: card.blocks(Area::User) };
    for (boot, area) in [("mmc0boot0", Area::Boot0), ("mmc0boot1", Area::Boot1)] {
        if name == boot {
            let blocks = card.blocks(area);
            return if blocks == 0 { Err("no such partition") } else { Ok(Target { area, blocks, ..user }) };
        }
    }
    if name == "mmc0" {
        return Ok(user);
    }
    let name = machine.env(&format!("fastboot_partition_alias_{name}")).unwrap_or(name);
    if let Some(window) = machine.env(&format!("fastboot_raw_partition_{name}")) {
        return raw_window(machine, user, window);
    }
    if let Some(entry) = gpt::entries(card).into_iter().find(|entry| entry.name == name) {
        return Ok(Target { first: entry.first, blocks: entry.last - entry.first + 1, ..user });
    }
    described(machine, name)
}

/// `<lba> <count> [mmcpart N]`, numbers as C writes them.
fn raw_window(machine: &Machine, user: Target, text: &str) -> Result<Target, &'static str> {
    const BAD: &str = "invalid partition or device";
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(_) => Some(shell::hex(text)),
        None => text.parse().ok(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (first, blocks, area) = match words.as_slice() {
        [first, count] => (number(first), number(count), Some(Area::User)),
        [first, count, "mmcpart", hwpart] => (number(first), number(count), number(hwpart).and_then(Area::from_hwpart)),
        _ => return Err(BAD),
    };
    let (Some(first), Some(blocks), Some(area)) = (first, blocks, area) else { return Err(BAD) };
    let room = machine.cards.get(&user.dev).map_or(0, |card| card.blocks(area));
    match first.checked_add(blocks) {
        Some(end) if end <= room => Ok(Target { dev: user.dev, area, first, blocks }),
        _ => Err(BAD),
    }
}

/// `D`, `D:P`, `D.H`, `D.H:P`.
fn described(machine: &Machine, name: &str) -> Result<Target, &'static str> {
    const BAD: &str = "invalid partition or device";
    let (disk, part) = name.split_once(':').map_or((name, None), |(disk, part)| (disk, Some(part)));
    let (dev, hwpart) = disk.split_once('.').unwrap_or((disk, "0"));
    let (Ok(dev), Ok(hwpart)) = (dev.parse::<u32>(), hwpart.parse()) else { return Err(BAD) };
    let area = Area::from_hwpart(hwpart).ok_or(BAD)?;
    let card = machine.cards.get(&dev).ok_or(BAD)?;
    let blocks = card.blocks(area);
    if blocks == 0 {
        return Err(BAD);
    }
    match part {
        None | Some("0") => Ok(Target { dev, area, first: 0, blocks }),
        Some(part) => {
            let number: u32 = part.parse().map_err(|_| BAD)?;
            let entry = gpt::entries(card).into_iter().find(|entry| entry.number == number && area == Area::User);
            let entry = entry.ok_or("no such partition")?;
            Ok(Target { dev, area, first: entry.first, blocks: entry.last - entry.first + 1 })
        }
    }
}

/// Blocks of the card behind a target, whole.
pub(super) fn device_blocks(machine: &Machine, target: Target) -> u64 {
    user_blocks(machine, target.dev).unwrap_or(0)
}
