//! `gzwrite`, `unzip` and `unlz4`.

use flate2::{Decompress, FlushDecompress, Status};

use crate::emmc::{Area, BLOCK_BYTES};
use crate::machine::{Halt, Machine, PIECE};
use crate::store::wide;

use super::commands::number;
use super::lz4;
use super::number::dec;

/// Compressed bytes read at a time.
const INPUT: u64 = 64 << 10;

/// Length of the gzip header at an address; `None` if it is none.
fn gzip_header(machine: &Machine, address: u64) -> Result<Option<u64>, Halt> {
    let byte = |at: u64| machine.ram.bytes(address.saturating_add(at), 1).map(|bytes| bytes[0]);
    let fixed = machine.ram.bytes(address, 10)?;
    // Magic, method "deflate", and no reserved flag.
    if fixed[..3] != [0x1f, 0x8b, 8] || fixed[3] & 0xe0 != 0 {
        return Ok(None);
    }
    let (flags, mut at) = (fixed[3], 10);
    if flags & 4 != 0 {
        at += 2 + u64::from(u16::from_le_bytes([byte(at)?, byte(at + 1)?]));
    }
    for _ in 0..(flags >> 3 & 1) + (flags >> 4 & 1) {
        while byte(at)? != 0 {
            at += 1;
        }
        at += 1;
    }
    Ok(Some(at + if flags & 2 != 0 { 2 } else { 0 }))
}

/// What ends an inflation early.
enum Early {
    /// The data is wrong, or the taker has had enough.
    Failed,
    Halt(Halt),
}

impl From<Halt> for Early {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// Takes pieces of what is inflated.
type Taker<'t> = dyn FnMut(&mut Machine, &[u8]) -> Result<(), Early> + 't;

fn settled(result: Result<(), Early>) -> Result<i32, Halt> {
    match result {
        Ok(()) => Ok(0),
        Err(Early::Failed) => Ok(1),
        Err(Early::Halt(halt)) => Err(halt),
    }
}

/// Inflates from memory at `from`, `most` bytes at most, handing pieces of the output to `each`. `Err(Failed)` unless
/// the stream ends by itself.
fn inflate(machine: &mut Machine, mut from: u64, most: u64, each: &mut Taker<'_>) -> Result<(), Early> {
    let mut stream = Decompress::new(false);
    let end = from.saturating_add(most).min(machine.ram.end());
    let mut out = vec![0; PIECE];
    let mut filled = 0;
    loop {
        let n = usize::try_from(end.saturating_sub(from).min(INPUT)).unwrap_or(0);
        let input = machine.ram.bytes(from, n)?;
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let status = stream.decompress(&input, &mut out[filled..], FlushDecompress::None).map_err(|_| Early::Failed)?;
        let (used, made) = (stream.total_in() - before_in, stream.total_out() - before_out);
        from = from.saturating_add(used);
        filled += usize::try_from(made).unwrap_or(0);
        machine.spend_bytes(made, machine.timing.inflate);
        if filled == out.len() || status == Status::StreamEnd {
            each(machine, &out[..filled])?;
            filled = 0;
        }
        match status {
            Status::StreamEnd => return Ok(()),
            _ if used == 0 && made == 0 => return Err(Early::Failed),
            _ => {}
        }
    }
}

/// `gzwrite mmc dev[.hwpart] address length [buffer [offset [size]]]`.
///
/// Checks the stream's CRC and length, but not whether the card took what it was given.
pub(super) fn gzwrite(machine: &mut Machine, args: &[&str]) -> Result<i32, Halt> {
    let [interface, dev, address, length, ..] = args else { return Ok(1) };
    if *interface != "mmc" || args.len() > 7 {
        return Ok(1);
    }
    let (address, length) = (super::hex(address), super::hex(length));
    let (buffer, offset, size) =
        (number(args, 4).unwrap_or(1 << 20), number(args, 5).unwrap_or(0), number(args, 6).unwrap_or(0));
    let (dev, hwpart) = dev.split_once('.').unwrap_or((dev, "0"));
    let (Ok(dev), Some(area)) = (u32::try_from(dec(dev)), Area::from_hwpart(dec(hwpart))) else { return Ok(1) };
    let Some(card) = machine.cards.get_mut(&dev) else { return Ok(1) };
    if card.select(area).is_err() {
        return Ok(1);
    }
    let room = card.blocks(area) * BLOCK_BYTES;
    if buffer == 0 || !buffer.is_multiple_of(BLOCK_BYTES) || !offset.is_multiple_of(BLOCK_BYTES) || length < 18 {
        machine.print("** bad buffer, offset or length\n");
        return Ok(1);
    }
    let Some(header) = gzip_header(machine, address)?.filter(|header| *header < length - 8) else {
        machine.print("Error: bad gzipped data\n");
        return Ok(1);
    };
    let trailer = machine.ram.bytes(address.saturating_add(length - 8), 8)?;
    let word = |at: usize| trailer[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let (crc, isize) = (word(0), word(4));
    if size != 0 && size & 0xffff_ffff != isize {
        machine.print("** size does not match the trailer\n");
        return Ok(1);
    }
    let expected = if size == 0 { isize } else { size };
    if offset.checked_add(expected).is_none_or(|end| end > room) {
        machine.print("Uncompressed size exceeds device size\n");
        return Ok(1);
    }
    let (mut sum, mut total) = (crc32fast::Hasher::new(), 0);
    let result = inflate(machine, address.saturating_add(header), length - header - 8, &mut |machine, bytes| {
        sum.update(bytes);
        let at = offset + total;
        total += wide(bytes.len());
        if total > expected {
            return Err(Early::Failed);
        }
        let mut whole = bytes.to_vec();
        whole.resize(bytes.len().next_multiple_of(512), 0);
        // Whether the card took it is not asked, as in U-Boot.
        machine.write_card(dev, area, at / BLOCK_BYTES, &whole)?;
        Ok(())
    });
    let status = settled(result)?;
    if status != 0 || total != expected || u64::from(sum.finalize()) != crc {
        machine.print("** weird termination, or CRC or length differ\n");
        return Ok(1);
    }
    machine.print(&format!("\t{total} bytes, crc 0x{crc:08x}\n"));
    Ok(0)
}

/// `unzip source target [most]`. As in U-Boot, the trailer's CRC is not looked at.
pub(super) fn unzip(machine: &mut Machine, args: &[&str]) -> Result<i32, Halt> {
    let (Some(from), Some(to)) = (number(args, 0), number(args, 1)) else { return Ok(1) };
    let most = number(args, 2).unwrap_or(0x7fff_ffff);
    let Some(header) = gzip_header(machine, from)? else {
        machine.print("Error: Bad gzipped data\n");
        return Ok(1);
    };
    let mut total = 0;
    let result = inflate(machine, from.saturating_add(header), u64::MAX, &mut |machine, bytes| {
        if total + wide(bytes.len()) > most {
            return Err(Early::Failed);
        }
        machine.ram.write(to.saturating_add(total), bytes)?;
        total += wide(bytes.len());
        Ok(())
    });
    let status = settled(result)?;
    if status == 0 {
        machine.print(&format!("Uncompressed size: {total} = 0x{total:X}\n"));
        machine.set_env("filesize", &format!("{total:x}"));
    }
    Ok(status)
}

/// `unlz4 source target size`.
pub(super) fn unlz4(machine: &mut Machine, args: &[&str]) -> Result<i32, Halt> {
    let ([_, _, _], Some(from), Some(to), Some(most)) = (args, number(args, 0), number(args, 1), number(args, 2))
    else {
        return Ok(1);
    };
    match lz4::unpack(&mut machine.ram, from, to, most)? {
        Ok(total) => {
            machine.spend_bytes(total, machine.timing.unlz4);
            machine.print(&format!("Uncompressed size: {total} = 0x{total:X}\n"));
            machine.set_env("filesize", &format!("{total:x}"));
            Ok(0)
        }
        Err(code) => {
            machine.print(&format!("Uncompressed err :{code}\n"));
            Ok(1)
        }
    }
}
