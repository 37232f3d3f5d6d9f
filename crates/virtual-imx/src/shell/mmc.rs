//! `mmc`: the card that commands go to, its blocks and its boot switch.

use std::time::Duration;

use crate::emmc::{Area, PartConf};
use crate::machine::{Halt, Machine};
use crate::model::Tree;

use super::commands::number;
use super::number::dec;

/// Subcommands that change a card for ever. They are remembered, not carried out, and fail.
const ONE_WAY: [&str; 4] = ["hwpartition", "rst-function", "bootpart-resize", "wp"];

pub(super) fn run(machine: &mut Machine, args: &[&str]) -> Result<i32, Halt> {
    let Some((sub, rest)) = args.split_first() else { return Ok(1) };
    match *sub {
        "dev" => Ok(dev(machine, rest)),
        "rescan" | "info" | "part" if rest.is_empty() => Ok(i32::from(current(machine).is_none())),
        "list" => {
            let list: String = machine.cards.keys().map(|dev| format!("FSL_SDHC: {dev}\n")).collect();
            machine.print(&list);
            Ok(0)
        }
        "read" => transfer(machine, rest, false),
        "write" => transfer(machine, rest, true),
        "erase" => Ok(erase(machine, rest)),
        "partconf" => Ok(partconf(machine, rest)),
        "bootbus" => Ok(bootbus(machine, rest)),
        sub if ONE_WAY.contains(&sub) => {
            if machine.one_way.len() < 1000 {
                machine.one_way.push(format!("mmc {}", args.join(" ")));
            }
            Ok(1)
        }
        _ => Ok(1),
    }
}

/// The card that commands go to, and the area it has selected.
fn current(machine: &Machine) -> Option<(u32, Area)> {
    let dev = machine.current?;
    Some((dev, machine.cards.get(&dev)?.selected()))
}

fn device(text: &str) -> Option<u32> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    u32::try_from(dec(text)).ok()
}

/// `mmc dev [dev [hwpart [mode]]]`. Without a number it shows which is current, and without a hwpart selects the user
/// area.
fn dev(machine: &mut Machine, args: &[&str]) -> i32 {
    if args.len() > 3 {
        return 1;
    }
    let wanted = match args.first() {
        None => machine.current,
        Some(text) => device(text),
    };
    let Some((number, card)) = wanted.and_then(|dev| Some((dev, machine.cards.get_mut(&dev)?))) else {
        machine.print("MMC: no card present\n");
        return 1;
    };
    if !args.is_empty() {
        let hwpart = args.get(1).map_or(0, |text| dec(text));
        let Some(area) = Area::from_hwpart(hwpart) else { return 1 };
        if card.select(area).is_err() {
            machine.print(&format!("switch to partitions #{hwpart}, FAIL\n"));
            return 1;
        }
        machine.print(&format!("switch to partitions #{hwpart}, OK\n"));
        machine.current = Some(number);
    }
    machine.print(&format!("mmc{number} is current device\n"));
    0
}

fn transfer(machine: &mut Machine, args: &[&str], write: bool) -> Result<i32, Halt> {
    let ([_, _, _], Some(address), Some(block), Some(count)) =
        (args, number(args, 0), number(args, 1), number(args, 2))
    else {
        return Ok(1);
    };
    let Some((dev, area)) = current(machine) else { return Ok(1) };
    let name = if write { "write" } else { "read" };
    machine.print(&format!("MMC {name}: dev # {dev}, block # {block}, count {count} ... "));
    let done = if write {
        machine.ram_to_card(dev, area, block, count, address)?
    } else {
        machine.card_to_ram(dev, area, block, count, address)?
    };
    machine.print(&format!("{} blocks {name}: {}\n", if done { count } else { 0 }, if done { "OK" } else { "ERROR" }));
    Ok(i32::from(!done))
}

/// `mmc erase block count`. NXP's rounds outwards to erase groups; upstream's trims exactly if the card can.
fn erase(machine: &mut Machine, args: &[&str]) -> i32 {
    let ([_, _], Some(block), Some(count)) = (args, number(args, 0), number(args, 1)) else { return 1 };
    let Some((dev, area)) = current(machine) else { return 1 };
    let group_time = machine.timing.erase_group;
    let tree = machine.tree;
    let Some(card) = machine.cards.get_mut(&dev) else { return 1 };
    let group = (card.geometry().erase_group_bytes / crate::emmc::BLOCK_BYTES).max(1);
    let aligned = block.is_multiple_of(group) && count.is_multiple_of(group);
    let groups = if tree == Tree::Upstream && card.geometry().trim && !aligned {
        card.trim(area, block, count).map(|()| count.div_ceil(group))
    } else {
        card.erase(area, block, count)
    };
    match groups {
        Ok(groups) => {
            machine.spend(group_time.saturating_mul(u32::try_from(groups).unwrap_or(u32::MAX)));
            // Each command waits a second at most; upstream sends one for up to 2 GiB, NXP one per group.
            let waits = if tree == Tree::Upstream { groups } else { 1 };
            let busy = group_time.saturating_mul(u32::try_from(waits).unwrap_or(u32::MAX));
            let done = busy <= Duration::from_secs(1);
            machine.print(&format!("{count} blocks erased: {}\n", if done { "OK" } else { "ERROR" }));
            i32::from(!done)
        }
        Err(_) => 1,
    }
}

/// `mmc partconf dev [varname | ack part access]`, decimal.
fn partconf(machine: &mut Machine, args: &[&str]) -> i32 {
    let Some(card) = args.first().and_then(|dev| machine.cards.get_mut(&device(dev)?)) else {
        machine.print("no mmc device at that slot\n");
        return 1;
    };
    if card.is_sd() {
        machine.print("Not an eMMC\n");
        return 1;
    }
    match &args[1..] {
        rest @ ([] | [_]) => {
            let conf = card.partconf();
            let line = format!(
                "EXT_CSD[179], PARTITION_CONFIG:\nBOOT_ACK: {:#x}\nBOOT_PARTITION_ENABLE: {:#x}\nPARTITION_ACCESS: {:#x}\n",
                u8::from(conf.ack),
                conf.boot,
                conf.access
            );
            machine.print(&line);
            match rest {
                [name] => i32::from(!machine.set_env(name, &conf.boot.to_string())),
                _ => 0,
            }
        }
        [ack, boot, access] => {
            let bits = |text: &str| u8::try_from(dec(text)).ok().filter(|value| *value <= 7);
            let (Some(ack), Some(boot), Some(access)) = (bits(ack), bits(boot), bits(access)) else { return 1 };
            i32::from(card.set_partconf(PartConf { ack: ack & 1 != 0, boot, access }).is_err())
        }
        _ => 1,
    }
}

/// `mmc bootbus dev width reset mode`: taken and forgotten, for nothing here boots over that bus.
fn bootbus(machine: &mut Machine, args: &[&str]) -> i32 {
    let card = args.first().and_then(|dev| machine.cards.get(&device(dev)?));
    i32::from(args.len() != 4 || card.is_none_or(|card| card.is_sd()))
}
