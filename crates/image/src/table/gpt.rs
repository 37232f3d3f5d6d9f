//! GPT: header and entries, both checked by CRC-32, and the backup copy.
//!
//! Layout of the header, numbers low byte first (UEFI specification 2.10, table 5.5): 0 `EFI PART`, 8 revision u32,
//! 12 header size u32, 16 header CRC u32 (computed with this field zero), 24 own sector u64, 32 the other header's
//! sector u64, 40 first and 48 last usable sector u64, 56 disk GUID, 72 first sector of the entries u64, 80 number of
//! entries u32, 84 bytes in an entry u32, 88 CRC of the entries u32. An entry (table 5.6): 0 type GUID, 16 own GUID,
//! 32 first and 40 last sector u64 (included), 48 attributes u64, 56 name in UTF-16.

use bmap::ByteRange;

use super::bytes::{array, has, u16_at, u32_at, u64_at};
use super::{Guid, Partition, PartitionType, Problem, ReadAt, Table, TableError, TableKind};

const SIGNATURE: &[u8] = b"EFI PART";

/// The shortest header: up to and including the CRC of the entries.
const HEADER_MIN: usize = 92;

/// The most entries we read. Nearly every table has 128; Linux itself stops at 256 partitions on most disks.
const MAX_ENTRIES: u32 = 1024;

/// The longest entry we read, in bytes. Every table seen has 128.
const MAX_ENTRY: u32 = 4096;

/// Attribute bit 2: legacy BIOS bootable; U-Boot takes it as "bootable" too.
const LEGACY_BOOT: u64 = 1 << 2;

/// What a GPT says about itself and its backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The disk's GUID.
    pub disk: Guid,
    /// Offset of the header the table was read from, in bytes.
    pub header_at: u64,
    /// Offset of the header that is the other's backup: the one at the end, in bytes.
    pub backup_at: u64,
    /// Where the entries lie that the table was read from.
    pub entries: ByteRange,
    /// The part of the disk that partitions may use.
    pub usable: ByteRange,
    /// What was found where the backup should be.
    pub backup: Backup,
    /// Whether the MBR in front lists other partitions beside the protective one.
    pub hybrid: bool,
}

/// What was found where the backup GPT should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backup {
    /// Its header and entries are sound and agree with the first.
    Sound,
    /// It is missing, damaged, outside the image or says something else; [`Table::problems`] has the reason.
    Unusable,
    /// It was not looked at: the image's length or a way to read there was not given.
    Unseen,
}

impl Gpt {
    /// Bytes the backup takes at the end of a disk: the entries, then one sector for the header.
    fn backup_len(&self, sector_size: u32) -> Option<u64> {
        let sector = u64::from(sector_size);
        self.entries.len().div_ceil(sector).checked_add(1)?.checked_mul(sector)
    }
}

impl Table {
    /// Where the backup GPT belongs on a disk of `disk_size` bytes: entries and header in its last whole sectors.
    /// `None` for an MBR, and for a disk too small to hold it.
    #[must_use]
    pub fn backup_place(&self, disk_size: u64) -> Option<ByteRange> {
        let sector = u64::from(self.sector_size);
        let end = disk_size.checked_sub(disk_size.checked_rem(sector)?)?;
        ByteRange::new(end.checked_sub(self.gpt.as_ref()?.backup_len(self.sector_size)?)?, end)
    }
}

/// The sector size the head speaks of: that of the place where a GPT header stands.
pub(super) fn sector_size(head: &[u8]) -> Option<u32> {
    [512_u32, 4096].into_iter().find(|size| usize::try_from(*size).is_ok_and(|at| has(head, at, SIGNATURE)))
}

/// A header whose checksum is right and whose numbers make sense.
#[derive(Debug, Clone, Copy)]
struct Header {
    own: u64,
    other: u64,
    first_usable: u64,
    last_usable: u64,
    disk: Guid,
    entries_sector: u64,
    entry_count: u32,
    entry_size: u32,
    entries_crc: u32,
}

impl Header {
    fn parse(sector: &[u8], expected: u64) -> Result<Self, String> {
        if !has(sector, 0, SIGNATURE) {
            return Err("no GPT signature".into());
        }
        let short = || "the header is cut short".to_owned();
        let header_size = u32_at(sector, 12).ok_or_else(short)?;
        let size = usize::try_from(header_size).unwrap_or(usize::MAX);
        if size < HEADER_MIN || size > sector.len() {
            return Err(format!("a header of {header_size} bytes cannot be"));
        }
        let stored = u32_at(sector, 16).ok_or_else(short)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(sector.get(..16).ok_or_else(short)?);
        crc.update(&[0; 4]);
        crc.update(sector.get(20..size).ok_or_else(short)?);
        let found = crc.finalize();
        if found != stored {
            return Err(format!("the header's CRC is {found:08x}, it says {stored:08x}"));
        }
        let header = Self::fields(sector).ok_or_else(short)?;
        if header.own != expected {
            return Err(format!("the header says it is in sector {}, it is in {expected}", header.own));
        }
        if header.entry_count > MAX_ENTRIES {
            return Err(format!("{} entries are more than {MAX_ENTRIES}", header.entry_count));
        }
        if header.entry_size < 128 || header.entry_size > MAX_ENTRY || header.entry_size % 128 != 0 {
            return Err(format!("entries of {} bytes cannot be", header.entry_size));
        }
        Ok(header)
    }

    fn fields(sector: &[u8]) -> Option<Self> {
        Some(Self {
            own: u64_at(sector, 24)?,
            other: u64_at(sector, 32)?,
            first_usable: u64_at(sector, 40)?,
            last_usable: u64_at(sector, 48)?,
            disk: Guid(array(sector, 56)?),
            entries_sector: u64_at(sector, 72)?,
            entry_count: u32_at(sector, 80)?,
            entry_size: u32_at(sector, 84)?,
            entries_crc: u32_at(sector, 88)?,
        })
    }

    fn entries(&self, sector_size: u32) -> Result<ByteRange, String> {
        let len = u64::from(self.entry_count) * u64::from(self.entry_size);
        self.entries_sector
            .checked_mul(u64::from(sector_size))
            .and_then(|start| ByteRange::at(start, len))
            .ok_or_else(|| format!("the entries are said to begin in sector {}", self.entries_sector))
    }
}

/// A copy of the table: its header and the entries' bytes, checked.
struct Copy {
    header: Header,
    extent: ByteRange,
    entries: Vec<u8>,
}

/// Bytes of the image, from the head where they lie in it.
fn fetch(
    head: &[u8],
    extent: ByteRange,
    image_size: Option<u64>,
    read_at: Option<&mut ReadAt<'_>>,
) -> Result<Vec<u8>, String> {
    if let (Ok(start), Ok(end)) = (usize::try_from(extent.start()), usize::try_from(extent.end()))
        && let Some(bytes) = head.get(start..end)
    {
        return Ok(bytes.to_vec());
    }
    if let Some(image_size) = image_size.filter(|size| extent.end() > *size) {
        return Err(format!("{extent} lie past the end of the image ({image_size} bytes)"));
    }
    let read_at = read_at.ok_or_else(|| format!("{extent} cannot be read from here"))?;
    // At most 4 MiB: MAX_ENTRIES entries of MAX_ENTRY bytes.
    let len = usize::try_from(extent.len()).map_err(|_| format!("{extent} are too many"))?;
    let mut bytes = vec![0; len];
    read_at(extent.start(), &mut bytes).map_err(|error| format!("{extent} cannot be read: {error}"))?;
    Ok(bytes)
}

fn copy(
    head: &[u8],
    own: u64,
    sector_size: u32,
    image_size: Option<u64>,
    mut read_at: Option<&mut ReadAt<'_>>,
) -> Result<Copy, String> {
    let sector = u64::from(sector_size);
    let place = own
        .checked_mul(sector)
        .and_then(|start| ByteRange::at(start, sector))
        .ok_or_else(|| format!("sector {own} is nowhere"))?;
    let header = Header::parse(&fetch(head, place, image_size, read_at.as_deref_mut())?, own)?;
    let extent = header.entries(sector_size)?;
    let entries = fetch(head, extent, image_size, read_at)?;
    let found = crc32fast::hash(&entries);
    if found != header.entries_crc {
        return Err(format!("the entries' CRC is {found:08x}, the header says {:08x}", header.entries_crc));
    }
    Ok(Copy { header, extent, entries })
}

/// Reads the table; `sector_size` is `None` when only a protective MBR says there is one.
pub(super) fn table(
    head: &[u8],
    sector_size: Option<u32>,
    image_size: Option<u64>,
    mut read_at: Option<&mut ReadAt<'_>>,
) -> Result<Table, TableError> {
    let primary = match sector_size {
        Some(size) => copy(head, 1, size, image_size, read_at.as_deref_mut()).map(|copy| (copy, size)),
        None => Err("no GPT header behind the protective MBR".into()),
    };
    match primary {
        Ok((copy, sector)) => Ok(from_primary(head, &copy, sector, image_size, read_at)),
        Err(primary) => from_backup(head, sector_size, image_size, read_at, primary),
    }
}

fn from_primary(
    head: &[u8],
    primary: &Copy,
    sector_size: u32,
    image_size: Option<u64>,
    read_at: Option<&mut ReadAt<'_>>,
) -> Table {
    let mut problems = Vec::new();
    let sector = u64::from(sector_size);
    let at = primary.header.other.saturating_mul(sector);
    let mut backup = Backup::Unseen;
    if let Some(image_size) = image_size {
        let last = (image_size / sector).saturating_sub(1) * sector;
        if at.saturating_add(sector) > image_size {
            backup = Backup::Unusable;
            problems.push(Problem::BackupOutside { at, image_size });
        } else {
            if at != last {
                problems.push(Problem::BackupNotAtEnd { at, last });
            }
            if let Some(read_at) = read_at {
                let seen =
                    copy(head, primary.header.other, sector_size, Some(image_size), Some(read_at)).and_then(|copy| {
                        match (copy.header.disk == primary.header.disk, copy.entries == primary.entries) {
                            (true, true) => Ok(()),
                            (false, _) => Err("it belongs to another disk".to_owned()),
                            (true, false) => Err("its partitions are not those of the first".to_owned()),
                        }
                    });
                backup = if seen.is_ok() { Backup::Sound } else { Backup::Unusable };
                problems.extend(seen.err().map(|reason| Problem::BackupDamaged { at, reason }));
            }
        }
    }
    build(primary, sector_size, at, backup, problems)
}

fn from_backup(
    head: &[u8],
    sector_size: Option<u32>,
    image_size: Option<u64>,
    read_at: Option<&mut ReadAt<'_>>,
    primary: String,
) -> Result<Table, TableError> {
    let (Some(image_size), Some(read_at)) = (image_size, read_at) else {
        return Err(TableError::NoUsableGpt { primary, backup: "the backup was not looked at".into() });
    };
    let sizes = match sector_size {
        Some(size) => vec![size],
        None => vec![512, 4096],
    };
    let mut reason = String::new();
    for size in sizes {
        let sector = u64::from(size);
        let Some(last) = (image_size / sector).checked_sub(1) else { continue };
        match copy(head, last, size, Some(image_size), Some(&mut *read_at)) {
            Ok(copy) => {
                let at = last.saturating_mul(sector);
                return Ok(build(&copy, size, at, Backup::Sound, vec![Problem::PrimaryDamaged(primary)]));
            }
            Err(error) => reason = error,
        }
    }
    Err(TableError::NoUsableGpt { primary, backup: format!("the backup in the last sector neither: {reason}") })
}

fn build(copy: &Copy, sector_size: u32, backup_at: u64, backup: Backup, mut problems: Vec<Problem>) -> Table {
    let sector = u64::from(sector_size);
    let header = &copy.header;
    let entry_size = usize::try_from(header.entry_size).unwrap_or(128).max(128);
    let mut partitions = Vec::new();
    for (number, entry) in (1_u32..).zip(copy.entries.chunks_exact(entry_size)) {
        match partition(number, entry, sector) {
            Some(Some(partition)) => partitions.push(partition),
            Some(None) => {}
            None => problems.push(Problem::BadEntry { number }),
        }
    }
    let usable = sectors(header.first_usable, header.last_usable, sector);
    let gpt = Gpt {
        disk: header.disk,
        header_at: header.own.saturating_mul(sector),
        backup_at,
        entries: copy.extent,
        usable: usable.unwrap_or(ByteRange::first(0)),
        backup,
        hybrid: false,
    };
    Table { kind: TableKind::Gpt, sector_size, partitions, gpt: Some(gpt), problems }
}

/// An entry: `Some(None)` when it is unused, `None` when it makes no sense.
fn partition(number: u32, entry: &[u8], sector: u64) -> Option<Option<Partition>> {
    let kind = Guid(array(entry, 0)?);
    if kind == Guid::ZERO {
        return Some(None);
    }
    let extent = sectors(u64_at(entry, 32)?, u64_at(entry, 40)?, sector)?;
    let units = (56..128).step_by(2).filter_map(|at| u16_at(entry, at)).take_while(|unit| *unit != 0);
    let name = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let bootable = u64_at(entry, 48)? & LEGACY_BOOT != 0;
    Some(Some(Partition { number, name, kind: PartitionType::Gpt(kind), extent, bootable }))
}

/// Sectors `first` to `last`, both included, in bytes.
fn sectors(first: u64, last: u64, sector: u64) -> Option<ByteRange> {
    ByteRange::new(first.checked_mul(sector)?, last.checked_add(1)?.checked_mul(sector)?)
        .filter(|extent| !extent.is_empty())
}
