//! MBR partition tables and the chain of logical partitions behind an extended one.
//!
//! The sector holds four 16-byte entries at 446 and the bytes 55 AA at 510. An entry: 0 status (80 bootable, 00 not),
//! 4 type, 8 first sector u32, 12 number of sectors u32, low byte first. Sectors are taken as 512 bytes: nothing in
//! the table says otherwise.

use bmap::ByteRange;

use super::bytes::{has, u32_at};
use super::{Partition, PartitionType, Problem, ReadAt, Table, TableKind};

const SECTOR: u64 = 512;
const ENTRIES_AT: usize = 446;
const ENTRY: usize = 16;
const SIGNATURE: &[u8] = &[0x55, 0xaa];
const PROTECTIVE: u8 = 0xee;

/// The most logical partitions we follow; a chain that is longer, or that goes round in a circle, ends here.
const MAX_LOGICAL: u32 = 128;

/// An entry that is in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Its place, 1 to 4.
    number: u32,
    bootable: bool,
    kind: u8,
    first: u32,
    count: u32,
}

/// The four entries of a boot record, without the unused ones.
#[derive(Debug)]
pub(super) struct Mbr {
    pub(super) entries: Vec<Entry>,
    /// Whether one of them protects a GPT.
    pub(super) protective: bool,
}

/// Reads the boot record at the start of `sector`; `None` when there is none, or when what stands there is a
/// filesystem's boot sector, which carries the same signature.
pub(super) fn parse(sector: &[u8]) -> Option<Mbr> {
    if !has(sector, 510, SIGNATURE) {
        return None;
    }
    // FAT12/16 at 54, FAT32 at 82, NTFS and exFAT at 3: boot sectors with code where the entries would be.
    let filesystem = [(54, &b"FAT"[..]), (82, b"FAT32"), (3, b"NTFS"), (3, b"EXFAT")];
    if filesystem.iter().any(|(at, name)| has(sector, *at, name)) {
        return None;
    }
    let mut entries = Vec::new();
    for number in 1..=4_u32 {
        let at = ENTRIES_AT + ENTRY * usize::try_from(number - 1).ok()?;
        let entry = sector.get(at..at + ENTRY)?;
        let (status, kind) = (*entry.first()?, *entry.get(4)?);
        if status & 0x7f != 0 {
            return None;
        }
        let (first, count) = (u32_at(entry, 8)?, u32_at(entry, 12)?);
        if kind != 0 && count != 0 {
            entries.push(Entry { number, bootable: status == 0x80, kind, first, count });
        }
    }
    let protective = entries.iter().any(|entry| entry.kind == PROTECTIVE);
    Some(Mbr { entries, protective })
}

fn partition(number: u32, entry: &Entry, base: u64) -> Partition {
    // Neither product nor sum can overflow: both numbers have 32 bits, the base is a sum of two such.
    let start = (base + u64::from(entry.first)) * SECTOR;
    let extent = ByteRange::at(start, u64::from(entry.count) * SECTOR).unwrap_or(ByteRange::first(0));
    Partition { number, name: String::new(), kind: PartitionType::Mbr(entry.kind), extent, bootable: entry.bootable }
}

/// The table of an ordinary MBR.
pub(super) fn table(mbr: &Mbr, head: &[u8], image_size: Option<u64>, read_at: Option<&mut ReadAt<'_>>) -> Table {
    let mut partitions = Vec::new();
    let mut problems = Vec::new();
    for entry in &mbr.entries {
        partitions.push(partition(entry.number, entry, 0));
    }
    let extended = mbr.entries.iter().find(|entry| PartitionType::Mbr(entry.kind).is_extended());
    if let Some(extended) = extended {
        let base = u64::from(extended.first);
        let broken = logical(base, head, image_size, read_at, &mut partitions);
        problems.extend(broken.err());
    }
    Table { kind: TableKind::Mbr, sector_size: 512, partitions, gpt: None, problems }
}

/// Follows the chain of boot records inside the extended partition that begins in sector `base`.
fn logical(
    base: u64,
    head: &[u8],
    image_size: Option<u64>,
    mut read_at: Option<&mut ReadAt<'_>>,
    partitions: &mut Vec<Partition>,
) -> Result<(), Problem> {
    let mut here = base;
    for number in 5..5 + MAX_LOGICAL {
        let at = here * SECTOR;
        let broken = |reason: &str| Problem::LogicalChain { at, reason: reason.to_owned() };
        let sector = sector(at, head, image_size, read_at.as_deref_mut()).map_err(|reason| broken(&reason))?;
        let record = parse(&sector).ok_or_else(|| broken("no boot record there"))?;
        let mut next = None;
        for entry in &record.entries {
            if PartitionType::Mbr(entry.kind).is_extended() {
                next = Some(base + u64::from(entry.first));
            } else {
                partitions.push(partition(number, entry, here));
            }
        }
        match next {
            None => return Ok(()),
            Some(next) if next <= here => return Err(broken("it leads back")),
            Some(next) => here = next,
        }
    }
    Err(Problem::LogicalChain { at: here * SECTOR, reason: format!("more than {MAX_LOGICAL} logical partitions") })
}

fn sector(at: u64, head: &[u8], image_size: Option<u64>, read_at: Option<&mut ReadAt<'_>>) -> Result<Vec<u8>, String> {
    let end = at + SECTOR;
    if let (Ok(start), Ok(end)) = (usize::try_from(at), usize::try_from(end))
        && let Some(bytes) = head.get(start..end)
    {
        return Ok(bytes.to_vec());
    }
    if image_size.is_some_and(|size| end > size) {
        return Err("past the end of the image".into());
    }
    let read_at = read_at.ok_or("it cannot be read from here")?;
    let mut bytes = vec![0; 512];
    read_at(at, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A common name for a type byte.
pub(super) fn type_name(byte: u8) -> Option<&'static str> {
    Some(match byte {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "NTFS or exFAT",
        0x0b | 0x0c => "FAT32",
        0x82 => "Linux swap",
        0x83 => "Linux filesystem",
        0x8e => "Linux LVM",
        0xda => "no filesystem",
        0xee => "protects a GPT",
        0xef => "EFI system",
        0xfd => "Linux RAID",
        _ => return None,
    })
}
