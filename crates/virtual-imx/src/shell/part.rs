//! `part`: what the table on a card says of a partition.
//!
//! `part start|size mmc dev partition [variable]`, in blocks and hexadecimal; a partition is a number, decimal or after
//! `0x` hexadecimal, or else a name. The other subcommands are left out.

use crate::fastboot::gpt;
use crate::machine::Machine;

use super::number::{dec, hex};

pub(super) fn run(machine: &mut Machine, args: &[&str]) -> i32 {
    let (sub, dev, wanted, variable) = match args {
        [sub, "mmc", dev, wanted] => (*sub, *dev, *wanted, None),
        [sub, "mmc", dev, wanted, variable] => (*sub, *dev, *wanted, Some(*variable)),
        _ => return 1,
    };
    // The device is hexadecimal, as for all commands that take an interface.
    let card = u32::try_from(hex(dev)).ok().and_then(|dev| machine.cards.get(&dev));
    let Some(card) = card else {
        machine.print(&format!("** Bad device specification mmc {dev} **\n"));
        return 1;
    };
    let number = number(wanted);
    let found = gpt::entries(card).into_iter().find(|entry| match number {
        Some(number) => u64::from(entry.number) == number,
        None => entry.name == wanted,
    });
    let Some(entry) = found else { return 1 };
    let blocks = match sub {
        "start" => entry.first,
        "size" => entry.last - entry.first + 1,
        _ => return 1,
    };
    match variable {
        Some(name) => i32::from(!machine.set_env(name, &format!("{blocks:x}"))),
        None => {
            machine.print(&format!("{blocks:x}\n"));
            0
        }
    }
}

/// A partition's number, if all of the text is one.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit()) => Some(hex(text)),
        None if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) => Some(dec(text)),
        _ => None,
    }
}
