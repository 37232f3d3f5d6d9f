//! Memory: comparing, filling, copying, CRC-32 and hashes.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::machine::{Halt, Machine};
use crate::store::wide;

use super::commands::{number, width};
use super::number::hex;

/// `itest[.b|.w|.l|.q|.s] [*]value op [*]value`, numbers hexadecimal; `*` reads memory.
pub(super) fn itest(machine: &mut Machine, suffix: &str, args: &[&str]) -> Result<i32, Halt> {
    let [left, op, right] = args else { return Ok(1) };
    let order = if suffix == "s" {
        left.cmp(right)
    } else {
        let Some(bytes) = width(suffix) else { return Ok(1) };
        operand(machine, left, bytes)?.cmp(&operand(machine, right, bytes)?)
    };
    let holds = match *op {
        "-eq" | "==" => order.is_eq(),
        "-ne" | "!=" | "<>" => order.is_ne(),
        "-lt" | "<" => order.is_lt(),
        "-le" | "<=" => order.is_le(),
        "-gt" | ">" => order.is_gt(),
        "-ge" | ">=" => order.is_ge(),
        _ => false,
    };
    Ok(i32::from(!holds))
}

/// `setexpr[.b|.w|.l|.q] name [*]value [op [*]value]`, numbers hexadecimal. Strings and regular expressions are left out.
pub(super) fn setexpr(machine: &mut Machine, suffix: &str, args: &[&str]) -> Result<i32, Halt> {
    let Some(bytes) = width(suffix) else { return Ok(1) };
    let (name, value) = match args {
        [name, value] => (name, operand(machine, value, bytes)?),
        [name, left, op, right] => {
            let (a, b) = (operand(machine, left, bytes)?, operand(machine, right, bytes)?);
            let value = match *op {
                "+" => a.wrapping_add(b),
                "-" => a.wrapping_sub(b),
                "*" => a.wrapping_mul(b),
                "/" => a.checked_div(b).unwrap_or(0),
                "%" => a.checked_rem(b).unwrap_or(0),
                "&" => a & b,
                "|" => a | b,
                "^" => a ^ b,
                _ => return Ok(1),
            };
            (name, value)
        }
        _ => return Ok(1),
    };
    Ok(i32::from(!machine.set_env(name, &format!("{value:x}"))))
}

fn operand(machine: &Machine, text: &str, bytes: usize) -> Result<u64, Halt> {
    match text.strip_prefix('*') {
        None => Ok(hex(text) & (u64::MAX >> (64 - 8 * bytes.min(8)))),
        Some(address) => {
            let mut value = [0; 8];
            machine.ram.read(hex(address), &mut value[..bytes])?;
            Ok(u64::from_le_bytes(value))
        }
    }
}

/// `mw[.b|.w|.l|.q] address value [count]`.
pub(super) fn mw(machine: &mut Machine, suffix: &str, args: &[&str]) -> Result<i32, Halt> {
    let (Some(bytes), Some(mut address), Some(value)) = (width(suffix), number(args, 0), number(args, 1)) else {
        return Ok(1);
    };
    let unit = &value.to_le_bytes()[..bytes];
    let mut left = number(args, 2).unwrap_or(1).saturating_mul(wide(bytes));
    let piece = unit.repeat(4096 / bytes);
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
        machine.ram.write(address, &piece[..n])?;
        address = address.saturating_add(wide(n));
        left -= wide(n);
    }
    Ok(0)
}

/// `cp[.b|.w|.l|.q] source target count`. Overlapping upwards is not what U-Boot's loop makes of it.
pub(super) fn cp(machine: &mut Machine, suffix: &str, args: &[&str]) -> Result<i32, Halt> {
    let (Some(bytes), Some(from), Some(to), Some(count)) =
        (width(suffix), number(args, 0), number(args, 1), number(args, 2))
    else {
        return Ok(1);
    };
    let (mut done, len) = (0, count.saturating_mul(wide(bytes)));
    while done < len {
        let n = usize::try_from(len - done).unwrap_or(4096).min(4096);
        let piece = machine.ram.bytes(from.saturating_add(done), n)?;
        machine.ram.write(to.saturating_add(done), &piece)?;
        done += wide(n);
    }
    Ok(0)
}

/// `cmp[.b|.w|.l|.q] address address count`: fails at the first difference.
pub(super) fn cmp(machine: &mut Machine, suffix: &str, args: &[&str]) -> Result<i32, Halt> {
    let (Some(bytes), Some(a), Some(b), Some(count)) =
        (width(suffix), number(args, 0), number(args, 1), number(args, 2))
    else {
        return Ok(1);
    };
    let len = count.saturating_mul(wide(bytes));
    machine.spend_bytes(len, machine.timing.crc32);
    let mut done = 0;
    while done < len {
        let n = usize::try_from(len - done).unwrap_or(4096).min(4096);
        let (left, right) =
            (machine.ram.bytes(a.saturating_add(done), n)?, machine.ram.bytes(b.saturating_add(done), n)?);
        if let Some(at) = left.iter().zip(&right).position(|(left, right)| left != right) {
            let same = (done + wide(at)) / wide(bytes);
            machine.print(&format!("Total of {same} unit(s) were the same\n"));
            return Ok(1);
        }
        done += wide(n);
    }
    machine.print(&format!("Total of {count} unit(s) were the same\n"));
    Ok(0)
}

/// `crc32 address count [target]` and `crc32 -v address count crc`.
pub(super) fn crc32(machine: &mut Machine, args: &[&str]) -> Result<i32, Halt> {
    let (verify, args) = match args {
        ["-v", args @ ..] => (true, args),
        _ => (false, args),
    };
    let (Some(address), Some(count)) = (number(args, 0), number(args, 1)) else { return Ok(1) };
    if verify && args.len() != 3 {
        return Ok(1);
    }
    let sum = digest(machine, "crc32", address, count)?.unwrap_or_default();
    let last = address.wrapping_add(count).wrapping_sub(1);
    machine.print(&format!("crc32 for {address:08x} ... {last:08x} ==> {}", words(&sum)));
    match args.get(2) {
        Some(wanted) if verify => return verdict(machine, &sum, wanted),
        Some(to) => machine.ram.write(hex(to), &sum)?,
        None => {}
    }
    machine.print("\n");
    Ok(0)
}

/// `hash algorithm address count [[*]target]`: into memory or a variable. None of the known configurations has `-v`.
pub(super) fn hash(machine: &mut Machine, args: &[&str]) -> Result<i32, Halt> {
    let (Some(algorithm), Some(address), Some(count)) = (args.first(), number(args, 1), number(args, 2)) else {
        return Ok(1);
    };
    if args.len() > 4 {
        return Ok(1);
    }
    let Some(sum) = digest(machine, algorithm, address, count)? else {
        machine.print(&format!("Unknown hash algorithm '{algorithm}'\n"));
        return Ok(1);
    };
    let last = address.wrapping_add(count).wrapping_sub(1);
    machine.print(&format!("{algorithm} for {address:08x} ... {last:08x} ==> {}\n", words(&sum)));
    match args.get(3) {
        None => Ok(0),
        Some(target) => match target.strip_prefix('*') {
            Some(to) => machine.ram.write(hex(to), &sum).map(|()| 0),
            None => Ok(i32::from(!machine.set_env(target, &words(&sum)))),
        },
    }
}

/// Compares with hexadecimal digits, a variable's, or `*address`'s.
fn verdict(machine: &mut Machine, sum: &[u8], wanted: &str) -> Result<i32, Halt> {
    let same = match wanted.strip_prefix('*') {
        Some(address) => machine.ram.bytes(hex(address), sum.len())? == sum,
        None => {
            // Digits if it is as long as digits are; otherwise the name of a variable.
            let text = if wanted.len() == 2 * sum.len() { wanted } else { machine.env(wanted).unwrap_or(wanted) };
            hex(text) == sum.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
        }
    };
    machine.print(if same { "\n" } else { " != expected ** ERROR **\n" });
    Ok(i32::from(!same))
}

fn words(sum: &[u8]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sum of memory; `None` for an algorithm that is not there.
fn digest(machine: &mut Machine, algorithm: &str, address: u64, count: u64) -> Result<Option<Vec<u8>>, Halt> {
    let mut crc = crc32fast::Hasher::new();
    let (mut sha1, mut sha256) = (Sha1::new(), Sha256::new());
    let rate = if algorithm == "crc32" { machine.timing.crc32 } else { machine.timing.sha };
    let each: &mut dyn FnMut(&[u8]) = match algorithm {
        "crc32" => &mut |bytes| crc.update(bytes),
        "sha1" => &mut |bytes| sha1.update(bytes),
        "sha256" => &mut |bytes| sha256.update(bytes),
        _ => return Ok(None),
    };
    machine.ram.pieces(address, count, each)?;
    machine.spend_bytes(count, rate);
    Ok(Some(match algorithm {
        "crc32" => crc.finalize().to_be_bytes().to_vec(),
        "sha1" => sha1.finalize().to_vec(),
        _ => sha256.finalize().to_vec(),
    }))
}
