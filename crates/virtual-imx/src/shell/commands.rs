//! The commands, by name: which of them a tree has, and the small ones.
//!
//! Console texts are near U-Boot's; exit statuses are meant to be the same. A known command with wrong arguments fails
//! as an unknown one does, so that probing by `help` or by usage tells nothing, as on real boards.

use crate::machine::{After, Halt, Machine};
use crate::model::Tree;

use super::number::{dec, hex, signed};
use super::{boot, check, inflate, mmc, part};

pub(super) fn run(machine: &mut Machine, name: &str, args: &[&str]) -> Result<i32, Halt> {
    let (base, width) = name.split_once('.').unwrap_or((name, ""));
    let nxp = machine.tree == Tree::Nxp;
    let status = match base {
        "true" => 0,
        "false" => 1,
        "echo" => echo(machine, args),
        "setenv" => setenv(machine, args),
        "printenv" => printenv(machine, args),
        "env" => env(machine, args),
        "test" => i32::from(!test(args)),
        "setexpr" => return check::setexpr(machine, width, args),
        "itest" => return check::itest(machine, width, args),
        "sleep" => sleep(machine, args),
        "version" => {
            machine.print("U-Boot (virtual)\n");
            0
        }
        "reset" => {
            machine.after = Some(After::Reset);
            0
        }
        "mmc" => return mmc::run(machine, args),
        "part" if machine.part => part::run(machine, args),
        "crc32" if nxp => return check::crc32(machine, args),
        "hash" => return check::hash(machine, args),
        "cmp" => return check::cmp(machine, width, args),
        "mw" => return check::mw(machine, width, args),
        "cp" => return check::cp(machine, width, args),
        "gzwrite" => return inflate::gzwrite(machine, args),
        "unzip" => return inflate::unzip(machine, args),
        "unlz4" => return inflate::unlz4(machine, args),
        "bootm" | "booti" | "boot" => boot::boot(machine),
        _ => {
            machine.print(&format!("Unknown command '{name}' - try 'help'\n"));
            1
        }
    };
    Ok(status)
}

fn echo(machine: &mut Machine, args: &[&str]) -> i32 {
    let (args, end) = match args.split_first() {
        Some((&"-n", rest)) => (rest, ""),
        _ => (args, "\n"),
    };
    machine.print(&(args.join(" ") + end));
    0
}

fn setenv(machine: &mut Machine, args: &[&str]) -> i32 {
    let args = if args.first() == Some(&"-f") { &args[1..] } else { args };
    match args.split_first() {
        Some((name, values)) => i32::from(!machine.set_env(name, &values.join(" "))),
        None => 1,
    }
}

fn printenv(machine: &mut Machine, args: &[&str]) -> i32 {
    let mut text = String::new();
    let mut status = 0;
    if args.is_empty() {
        for (name, value) in machine.envs() {
            text += &format!("{name}={value}\n");
        }
    }
    for name in args {
        match machine.env(name) {
            Some(value) => text += &format!("{name}={value}\n"),
            None => {
                text += &format!("## Error: \"{name}\" not defined\n");
                status = 1;
            }
        }
    }
    machine.print(&text);
    status
}

fn env(machine: &mut Machine, args: &[&str]) -> i32 {
    match args.split_first() {
        Some((&"exists", [name])) => i32::from(machine.env(name).is_none()),
        Some((&"set", rest)) => setenv(machine, rest),
        Some((&"print", rest)) => printenv(machine, rest),
        Some((&"delete", names)) if !names.is_empty() => {
            for name in names {
                machine.set_env(name, "");
            }
            0
        }
        _ => 1,
    }
}

fn sleep(machine: &mut Machine, args: &[&str]) -> i32 {
    let Some(seconds) = args.first() else { return 1 };
    // A day is longer than any deadline.
    machine.spend(std::time::Duration::from_secs(dec(seconds).min(86_400)));
    0
}

/// `test`: `-a` and `-o` go from left to right without precedence, as in U-Boot.
fn test(args: &[&str]) -> bool {
    let mut rest = args;
    let mut result: Option<bool> = None;
    let mut or = false;
    while !rest.is_empty() {
        let mut not = false;
        while let Some((&"!", after)) = rest.split_first() {
            not = !not;
            rest = after;
        }
        let (value, after) = match rest {
            ["-n", text, after @ ..] => (!text.is_empty(), after),
            ["-z", text, after @ ..] => (text.is_empty(), after),
            [left, op, right, after @ ..] => match compare(left, op, right) {
                Some(value) => (value, after),
                None => return false,
            },
            _ => return false,
        };
        let value = value != not;
        result = Some(match result {
            None => value,
            Some(before) if or => before || value,
            Some(before) => before && value,
        });
        rest = match after {
            [] => after,
            ["-a", after @ ..] if !after.is_empty() => {
                or = false;
                after
            }
            ["-o", after @ ..] if !after.is_empty() => {
                or = true;
                after
            }
            _ => return false,
        };
    }
    result.unwrap_or(false)
}

fn compare(left: &str, op: &str, right: &str) -> Option<bool> {
    let (a, b) = (signed(left), signed(right));
    Some(match op {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        ">" => left > right,
        "-eq" => a == b,
        "-ne" => a != b,
        "-lt" => a < b,
        "-le" => a <= b,
        "-gt" => a > b,
        "-ge" => a >= b,
        _ => return None,
    })
}

/// Bytes of a unit: `.b`, `.w`, `.l` (default) or `.q`.
pub(super) fn width(suffix: &str) -> Option<usize> {
    match suffix {
        "b" => Some(1),
        "w" => Some(2),
        "" | "l" => Some(4),
        "q" => Some(8),
        _ => None,
    }
}

/// An argument that is a hexadecimal number, if it is there.
pub(super) fn number(args: &[&str], n: usize) -> Option<u64> {
    args.get(n).map(|text| hex(text))
}
