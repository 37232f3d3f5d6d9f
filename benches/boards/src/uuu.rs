//! What uuu 1.4 sends for `FB: flash -raw2sparse all IMAGE` without a map, and nothing else.
//!
//! It asks `max-download-size` and `logical-block-size`, then sends the image block by block as sparse images that hold
//! 0xFFE000 bytes of it, all of it RAW, zeros too: `download`, the data in transfers of at most 1 MiB, each waited for,
//! and `flash:all`, one after the other. Every image but the first begins with a DONT_CARE over what was sent before.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use imx_usb::pipe::BulkPipe;

use crate::Problem;

/// Bytes of the image in one piece.
pub(crate) const PIECE: u64 = 0x00ff_e000;
const TRANSFER: usize = 1 << 20;
const BLOCK: u64 = 4096;
const WITHIN: Duration = Duration::from_secs(60);

fn ask(pipe: &mut dyn BulkPipe, command: &str) -> Result<String, Problem> {
    pipe.send(command.as_bytes(), WITHIN)?;
    answer(pipe, command)
}

fn answer(pipe: &mut dyn BulkPipe, command: &str) -> Result<String, Problem> {
    let mut reply = [0; 64];
    loop {
        let n = pipe.receive(&mut reply, WITHIN)?;
        let text = String::from_utf8_lossy(&reply[..n]).into_owned();
        match text.split_at_checked(4) {
            Some(("OKAY" | "DATA", rest)) => return Ok(rest.to_owned()),
            Some(("FAIL", rest)) => return Err(format!("{command}: {rest}").into()),
            _ => {}
        }
    }
}

/// A chunk's header.
fn chunk(kind: u16, blocks: u64, bytes: u64) -> Result<[u8; 12], Problem> {
    let mut header = [0; 12];
    header[..2].copy_from_slice(&kind.to_le_bytes());
    header[4..8].copy_from_slice(&u32::try_from(blocks)?.to_le_bytes());
    header[8..].copy_from_slice(&u32::try_from(12 + bytes)?.to_le_bytes());
    Ok(header)
}

/// A sparse image of `bytes`, which lie at `at`.
fn sparse(at: u64, bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let len = u64::try_from(bytes.len())?;
    let mut image = Vec::with_capacity(bytes.len() + 52);
    image.extend(0xed26_ff3a_u32.to_le_bytes());
    for half in [1_u16, 0, 28, 12] {
        image.extend(half.to_le_bytes());
    }
    let chunks = if at == 0 { 1 } else { 2 };
    for word in [BLOCK, (at + len) / BLOCK, chunks, 0] {
        image.extend(u32::try_from(word)?.to_le_bytes());
    }
    if at > 0 {
        image.extend(chunk(0xcac3, at / BLOCK, 0)?);
    }
    image.extend(chunk(0xcac1, len / BLOCK, len)?);
    image.extend(bytes);
    Ok(image)
}

/// Sends the image's first `pieces` pieces; how many bytes of it those were, and how long it took.
pub(crate) fn flash(pipe: &mut dyn BulkPipe, file: &File, pieces: u64) -> Result<(u64, Duration), Problem> {
    let size = file.metadata()?.len();
    let start = Instant::now();
    ask(pipe, "getvar:max-download-size")?;
    // What the board does not know is no reason to stop: 4096 is meant then.
    let _ = ask(pipe, "getvar:logical-block-size");
    let mut at = 0;
    for _ in 0..pieces {
        let len = PIECE.min(size - at);
        if len == 0 {
            break;
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        file.read_exact_at(&mut bytes, at)?;
        let image = sparse(at, &bytes)?;
        ask(pipe, &format!("download:{:08x}", image.len()))?;
        for transfer in image.chunks(TRANSFER) {
            pipe.send(transfer, WITHIN)?;
        }
        answer(pipe, "download")?;
        ask(pipe, "flash:all")?;
        at += len;
    }
    Ok((at, start.elapsed()))
}
