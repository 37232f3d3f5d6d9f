//! Reading and completing GUID partition tables, as far as U-Boot does.
//!
//! Source: UEFI specification, chapter 5 (GPT), with blocks of 512 bytes.

use crate::emmc::{Area, BLOCK_BYTES, Emmc};

const BLOCK: usize = 512;
/// MBR, header and 128 entries of 128 bytes.
pub(super) const PRIMARY_BYTES: usize = 34 * BLOCK;
const ENTRY: usize = 128;
const MAX_ENTRIES: usize = 128;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The entries of a primary table (MBR first), if its checksums are right. Only tables of the usual shape: entries
/// of 128 bytes, at most 128 of them, beginning in the third block.
fn table(primary: &[u8]) -> Option<&[u8]> {
    let header = primary.get(BLOCK..2 * BLOCK)?;
    let length = usize::try_from(u32_at(header, 12)?).ok().filter(|length| (92..=BLOCK).contains(length))?;
    let mut checked = header[..length].to_vec();
    checked[16..20].fill(0);
    let count = usize::try_from(u32_at(header, 80)?).ok().filter(|count| *count <= MAX_ENTRIES)?;
    let entries = primary.get(2 * BLOCK..)?.get(..count * ENTRY)?;
    let right = header.starts_with(b"EFI PART")
        && crc32fast::hash(&checked) == u32_at(header, 16)?
        && u64_at(header, 24)? == 1
        && u64_at(header, 72)? == 2
        && u32_at(header, 84)? == 128
        && crc32fast::hash(entries) == u32_at(header, 88)?;
    right.then_some(entries)
}

/// Is this the beginning of a disk with a whole primary table?
pub(super) fn is_valid(primary: &[u8]) -> bool {
    table(primary).is_some()
}

/// The partitions of a card, up to the first entry that is not used.
pub(crate) fn entries(card: &Emmc) -> Vec<Entry> {
    let Some(primary) = card.peek(Area::User, 0, PRIMARY_BYTES) else { return Vec::new() };
    let entries = table(&primary).unwrap_or_default();
    let used = entries.chunks_exact(ENTRY).take_while(|entry| entry[..16] != [0; 16]);
    let entry = |(number, bytes): (u32, &[u8])| {
        let name = bytes[56..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let name: Vec<u16> = name.take_while(|unit| *unit != 0).collect();
        let (first, last) = (u64_at(bytes, 32)?, u64_at(bytes, 40)?);
        let sound = first <= last && last < card.blocks(Area::User);
        sound.then(|| Entry { number, name: String::from_utf16_lossy(&name), first, last })
    };
    (1..).zip(used).map_while(entry).collect()
}

/// The backup that belongs to a valid primary table on a card of so many blocks: where its entries go, and its bytes
/// (entries, then header). `None` if the card is too small.
pub(super) fn backup(primary: &[u8], blocks: u64) -> Option<(u64, Vec<u8>)> {
    let entries = table(primary)?;
    let last = blocks.checked_sub(1)?;
    let mut bytes = entries.to_vec();
    bytes.resize((MAX_ENTRIES * ENTRY).max(bytes.len()), 0);
    let first = last.checked_sub(32).filter(|first| *first > 34)?;
    let mut header = primary[BLOCK..2 * BLOCK].to_vec();
    let length = usize::try_from(u32_at(&header, 12)?).ok()?;
    header[24..32].copy_from_slice(&last.to_le_bytes());
    header[32..40].copy_from_slice(&1u64.to_le_bytes());
    header[72..80].copy_from_slice(&first.to_le_bytes());
    header[16..20].fill(0);
    let sum = crc32fast::hash(&header[..length]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    bytes.extend(header);
    debug_assert_eq!(bytes.len() % BLOCK, 0);
    Some((first * BLOCK_BYTES, bytes))
}
