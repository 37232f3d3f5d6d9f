//! Android sparse images, as U-Boot writes them.
//!
//! | offset | header (28 bytes, little-endian) | chunk (12 bytes) |
//! |---|---|---|
//! | 0 | magic 0xed26ff3a | type, u16: RAW 0xcac1, FILL 0xcac2, DONT_CARE 0xcac3, CRC32 0xcac4 |
//! | 4 | major, minor, u16 each (not looked at) | reserved (2 bytes; the length follows at 4) |
//! | 8 | file_hdr_sz, chunk_hdr_sz, u16 each | total_sz at 8 |
//! | 12 | blk_sz | |
//! | 16 | total_blks | |
//! | 20 | total_chunks | |
//! | 24 | image_checksum (not looked at) | |
//!
//! Chunk sizes are believed beyond what was downloaded; a file header longer than 28 bytes is passed over twice; a
//! CRC32's value is not passed over; DONT_CARE has no bounds; total_blks is compared when all is written.

use crate::emmc::BLOCK_BYTES;
use crate::machine::{Halt, Machine, PIECE};
use crate::model::Tree;
use crate::store::wide;

use super::partition::Target;

const MAGIC: u32 = 0xed26_ff3a;
const RAW: u16 = 0xcac1;
const FILL: u16 = 0xcac2;
const DONT_CARE: u16 = 0xcac3;
const CRC32: u16 = 0xcac4;
/// FILL is written in pieces of this (`CONFIG_IMAGE_SPARSE_FILLBUF_SIZE`).
const FILL_PIECE: u64 = 512 << 10;
/// RAW is copied in pieces, each with a write of its own: of so many bytes by NXP's tree, and by upstream's.
const RAW_PIECE: [u64; 2] = [2 << 20, 8 << 20];

const EXCEEDS: &str = "Request would exceed partition size!";
const WRITE_FAILED: &str = "flash write failure";

fn half(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Does memory there begin as a sparse image does?
pub(super) fn is_sparse(machine: &Machine, at: u64) -> Result<bool, Halt> {
    Ok(machine.ram.bytes(at, 4)? == MAGIC.to_le_bytes())
}

/// Writes the image in memory to a target. The inner error is what FAIL says.
pub(super) fn write(machine: &mut Machine, image: u64, target: Target) -> Result<Result<(), &'static str>, Halt> {
    let header = machine.ram.bytes(image, 28)?;
    let (file_header, chunk_header) = (half(&header, 8), half(&header, 10));
    let (block_bytes, total_blocks, chunks) = (u64::from(word(&header, 12)), word(&header, 16), word(&header, 20));
    // Where U-Boot would divide by zero it is refused here.
    if block_bytes == 0 || !block_bytes.is_multiple_of(BLOCK_BYTES) {
        return Ok(Err("sparse image block size issue"));
    }
    let mut at = image + file_header + file_header.saturating_sub(28);
    let mut block = target.first;
    let end = target.first + target.blocks;
    let mut sum = 0u32;
    for _ in 0..chunks {
        let chunk = machine.ram.bytes(at, 12)?;
        at += chunk_header.max(12);
        let (kind, length, total) =
            (u16::from_le_bytes([chunk[0], chunk[1]]), word(&chunk, 4), u64::from(word(&chunk, 8)));
        let bytes = block_bytes * u64::from(length);
        let blocks = bytes / BLOCK_BYTES;
        match kind {
            RAW => {
                // U-Boot adds in 32 bits.
                if total != (chunk_header + bytes) & 0xffff_ffff {
                    return Ok(Err("Bogus chunk size for chunk type Raw"));
                }
                if block.saturating_add(blocks) > end {
                    return Ok(Err(EXCEEDS));
                }
                if !raw(machine, target, block, blocks, at)? {
                    return Ok(Err(WRITE_FAILED));
                }
                at = at.saturating_add(bytes);
                block += blocks;
            }
            FILL => {
                if total != chunk_header + 4 {
                    return Ok(Err("Bogus chunk size for chunk type FILL"));
                }
                let value = machine.ram.bytes(at, 4)?;
                at += 4;
                if block.saturating_add(blocks) > end {
                    return Ok(Err(EXCEEDS));
                }
                if !fill(machine, target, block, blocks, &value)? {
                    return Ok(Err(WRITE_FAILED));
                }
                block += blocks;
            }
            DONT_CARE => block = block.saturating_add(blocks),
            CRC32 => {
                if total != chunk_header && machine.tree == Tree::Nxp {
                    return Ok(Err("Bogus chunk size for chunk type Dont Care"));
                }
            }
            _ => return Ok(Err("Unknown chunk type")),
        }
        sum = sum.wrapping_add(length);
    }
    Ok(if sum == total_blocks { Ok(()) } else { Err("sparse image write failure") })
}

fn raw(machine: &mut Machine, target: Target, block: u64, blocks: u64, from: u64) -> Result<bool, Halt> {
    let most = RAW_PIECE[usize::from(machine.tree == Tree::Upstream)] / BLOCK_BYTES;
    let mut done = 0;
    while done < blocks {
        let n = (blocks - done).min(most);
        if !machine.ram_to_card(target.dev, target.area, block + done, n, from.saturating_add(done * BLOCK_BYTES))? {
            return Ok(false);
        }
        done += n;
    }
    Ok(true)
}

fn fill(machine: &mut Machine, target: Target, block: u64, blocks: u64, value: &[u8]) -> Result<bool, Halt> {
    let piece = value.repeat(usize::try_from(FILL_PIECE).unwrap_or(PIECE) / 4);
    let most = wide(piece.len()) / BLOCK_BYTES;
    let mut done = 0;
    while done < blocks {
        let n = (blocks - done).min(most);
        let bytes = &piece[..usize::try_from(n * BLOCK_BYTES).unwrap_or(0)];
        if !machine.write_card(target.dev, target.area, block + done, bytes)? {
            return Ok(false);
        }
        done += n;
    }
    Ok(true)
}
