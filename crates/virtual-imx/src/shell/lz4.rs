//! LZ4 frames as U-Boot unpacks them: independent blocks only, checksums passed over, source length unknown.
//!
//! Source: the LZ4 frame and block formats (1.6.x), and U-Boot's limits upon them.

use crate::machine::{Halt, Ram};
use crate::store::wide;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// "Not supported", U-Boot's answer to linked blocks, dictionaries and unknown versions.
const EPROTONOSUPPORT: i32 = -93;
const EINVAL: i32 = -22;
const ENOBUFS: i32 = -105;
const EPROTO: i32 = -71;
/// The largest block there is.
const MAX_BLOCK: usize = 4 << 20;

/// Unpacks a frame at `from` to `to`, `most` bytes at most; how many it made, or U-Boot's error number.
pub(super) fn unpack(ram: &mut Ram, from: u64, to: u64, most: u64) -> Result<Result<u64, i32>, Halt> {
    let head = ram.bytes(from, 7)?;
    if head[..4] != MAGIC {
        return Ok(Err(EPROTONOSUPPORT));
    }
    let flags = head[4];
    // Version 01, independent blocks, no reserved bit, no dictionary.
    if flags >> 6 != 1 || flags & 0x20 == 0 || flags & 3 != 0 {
        return Ok(Err(EPROTONOSUPPORT));
    }
    let mut at = from + if flags & 8 != 0 { 15 } else { 7 };
    let mut total = 0;
    loop {
        let size = ram.bytes(at, 4)?;
        let word = u32::from_le_bytes([size[0], size[1], size[2], size[3]]);
        at += 4;
        if word == 0 {
            return Ok(Ok(total));
        }
        let len = usize::try_from(word & 0x7fff_ffff).unwrap_or(usize::MAX);
        if len > MAX_BLOCK {
            return Ok(Err(EINVAL));
        }
        let block = ram.bytes(at, len)?;
        at += wide(len) + if flags & 0x10 != 0 { 4 } else { 0 };
        let plain = if word >> 31 == 1 { Some(block) } else { unpack_block(&block) };
        let Some(plain) = plain else { return Ok(Err(EPROTO)) };
        if total + wide(plain.len()) > most {
            return Ok(Err(ENOBUFS));
        }
        ram.write(to.saturating_add(total), &plain)?;
        total += wide(plain.len());
    }
}

/// Unpacks one block; `None` if it is wrong.
fn unpack_block(block: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = block;
    loop {
        let (token, after) = rest.split_first()?;
        rest = after;
        let literals = length(*token >> 4, &mut rest)?;
        out.extend_from_slice(rest.get(..literals)?);
        rest = &rest[literals..];
        if rest.is_empty() {
            return (out.len() <= MAX_BLOCK).then_some(out);
        }
        let (offset, after) = rest.split_first_chunk()?;
        rest = after;
        let from = out.len().checked_sub(usize::from(u16::from_le_bytes(*offset)))?;
        let n = length(*token & 15, &mut rest)?.checked_add(4)?;
        if from == out.len() || out.len().checked_add(n)? > MAX_BLOCK {
            return None;
        }
        // A match may reach into what it makes.
        for at in from..from + n {
            out.push(out[at]);
        }
    }
}

fn length(nibble: u8, rest: &mut &[u8]) -> Option<usize> {
    let mut sum = usize::from(nibble);
    if nibble == 15 {
        loop {
            let (byte, after) = rest.split_first()?;
            *rest = after;
            sum = sum.checked_add(usize::from(*byte))?;
            if *byte != 255 {
                break;
            }
        }
    }
    Some(sum)
}
