//! Partition tables and loaders: where the head of a disk image ends, and what in it a board would start.
//!
//! Reads GPT (UEFI specification 2.10, chapter 5) and MBR partition tables from bytes that may be anything, and finds
//! i.MX boot images at the offsets the boot ROMs look at. It reads only: it mends nothing, writes nothing, and knows
//! no filesystem. What is odd but readable is listed in [`Table::problems`]; what cannot be read is a [`TableError`].

mod bytes;
mod gpt;
mod guid;
mod loader;
mod mbr;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use bmap::ByteRange;

pub use gpt::{Backup, Gpt};
pub use guid::Guid;
pub use loader::{Loader, loaders};

/// The head of an image without a partition table, in bytes: 1 MiB.
pub const HEAD_WITHOUT_TABLE: u64 = 1 << 20;

/// The longest head, in bytes: 8 MiB. A first partition that begins later does not make the head longer.
pub const HEAD_MAX: u64 = 8 << 20;

/// How many bytes of an image [`read`] and [`loaders`] like to see, 1 MiB: enough for a GPT with the most entries we
/// accept in 4096-byte sectors, and for every place a boot ROM looks for a loader.
pub const HEAD_WANTED: usize = 1 << 20;

/// Reads bytes of the image that lie outside the head: fills the buffer from the given offset or fails.
pub type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// Which kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// Master boot record, with logical partitions where it has an extended one.
    Mbr,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
        })
    }
}

/// What a partition is said to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionType {
    /// The type GUID of a GPT entry.
    Gpt(Guid),
    /// The type byte of an MBR entry.
    Mbr(u8),
}

impl PartitionType {
    /// Whether this is the container of logical partitions (MBR types 05, 0f and 85).
    #[must_use]
    pub fn is_extended(self) -> bool {
        matches!(self, Self::Mbr(0x05 | 0x0f | 0x85))
    }

    /// A common name for the type, where there is one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Gpt(guid) => guid.type_name(),
            Self::Mbr(byte) => mbr::type_name(byte),
        }
    }
}

impl fmt::Display for PartitionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::Gpt(guid)) => guid.fmt(f),
            (None, Self::Mbr(byte)) => write!(f, "type {byte:02x}"),
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number as Linux counts: GPT entries and MBR primary partitions by their place in the table, from 1;
    /// logical partitions from 5.
    pub number: u32,
    /// The GPT name; empty where there is none. It is text from the image: escape it before printing.
    pub name: String,
    /// What it is said to hold.
    pub kind: PartitionType,
    /// Where it lies. It may reach past the image; [`Table::problems`] says so.
    pub extent: ByteRange,
    /// The MBR boot flag, or the legacy boot attribute of GPT.
    pub bootable: bool,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which kind.
    pub kind: TableKind,
    /// Bytes in a sector: 512 or 4096 for GPT, found by where the header lies; 512 for MBR.
    pub sector_size: u32,
    /// The partitions in the order of the table. An MBR's extended partition is listed beside its logical ones.
    pub partitions: Vec<Partition>,
    /// What only a GPT has.
    pub gpt: Option<Gpt>,
    /// What is odd about the table, in the order it was noticed.
    pub problems: Vec<Problem>,
}

/// Something odd about a table that could be read all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The first GPT header could not be used; the table was read from the backup.
    PrimaryDamaged(String),
    /// The backup GPT was looked for where the first header says it is, and is not there.
    BackupDamaged {
        /// Offset of the sector that should hold it.
        at: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The backup GPT lies past the end of the image: the image was cut short or made for a larger disk.
    BackupOutside {
        /// Offset of the sector that should hold it.
        at: u64,
        /// Length of the image.
        image_size: u64,
    },
    /// The backup GPT is not in the last sector of the image.
    BackupNotAtEnd {
        /// Offset of the sector that holds it.
        at: u64,
        /// Offset of the last sector of the image.
        last: u64,
    },
    /// Two partitions share bytes.
    Overlap {
        /// Number of the one that begins first.
        first: u32,
        /// Number of the other.
        second: u32,
    },
    /// A partition reaches past the image.
    PartitionOutside {
        /// Its number.
        number: u32,
        /// Where it lies.
        extent: ByteRange,
        /// Length of the image.
        image_size: u64,
    },
    /// A partition begins inside the table that describes it.
    PartitionInTable {
        /// Its number.
        number: u32,
        /// Where it lies.
        extent: ByteRange,
    },
    /// An entry ends before it begins, or its end does not fit 64 bits. It is left out.
    BadEntry {
        /// Its number.
        number: u32,
    },
    /// A GPT without the MBR that protects it: Linux and U-Boot ignore such a table.
    NoProtectiveMbr,
    /// An MBR with ordinary partitions lies in front of a GPT it does not protect: the MBR counts, the GPT is stale.
    StaleGpt,
    /// The chain of logical partitions could not be followed to its end.
    LogicalChain {
        /// Offset of the sector where it broke.
        at: u64,
        /// What is wrong there.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrimaryDamaged(reason) => write!(f, "the first GPT is damaged ({reason}); read from the backup"),
            Self::BackupDamaged { at, reason } => {
                write!(f, "the backup GPT is missing or damaged at byte {at} ({reason})")
            }
            Self::BackupOutside { at, image_size } => {
                write!(f, "the backup GPT belongs at byte {at}, past the end of the image ({image_size} bytes)")
            }
            Self::BackupNotAtEnd { at, last } => {
                write!(f, "the backup GPT is at byte {at}, not in the last sector (byte {last})")
            }
            Self::Overlap { first, second } => write!(f, "partitions {first} and {second} overlap"),
            Self::PartitionOutside { number, extent, image_size } => {
                write!(f, "partition {number} ({extent}) reaches past the end of the image ({image_size} bytes)")
            }
            Self::PartitionInTable { number, extent } => {
                write!(f, "partition {number} ({extent}) begins inside the partition table")
            }
            Self::BadEntry { number } => write!(f, "the entry of partition {number} makes no sense and is ignored"),
            Self::NoProtectiveMbr => {
                f.write_str("the GPT has no protective MBR in front of it: Linux and U-Boot will not see it")
            }
            Self::StaleGpt => f.write_str("a stale GPT lies behind the MBR; only the MBR counts"),
            Self::LogicalChain { at, reason } => {
                write!(f, "the list of logical partitions breaks off at byte {at} ({reason})")
            }
        }
    }
}

/// Why a partition table that is there cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A GPT is announced but no usable header or entries were found, neither at the start nor at the end.
    #[error("the GPT cannot be used: {primary}; {backup}")]
    NoUsableGpt {
        /// What is wrong with the first.
        primary: String,
        /// What is wrong with the backup, or why it was not looked at.
        backup: String,
    },
}

/// Reads the partition table of an image.
///
/// `head` holds the image's first bytes, at best [`HEAD_WANTED`] of them. `image_size` is the image's length where it
/// is known: without it the backup is not looked for, and nothing is said to lie outside. `read_at` reads elsewhere
/// in the image, for the backup GPT, long entry arrays and logical partitions; without it these are left out.
///
/// Returns `None` when there is no table: no MBR signature and no GPT, a filesystem's boot sector, or an MBR with four
/// empty entries.
///
/// # Errors
/// [`TableError::NoUsableGpt`] when there is a GPT, or a protective MBR, and neither copy can be trusted.
pub fn read(
    head: &[u8],
    image_size: Option<u64>,
    mut read_at: Option<&mut ReadAt<'_>>,
) -> Result<Option<Table>, TableError> {
    let mbr = mbr::parse(head);
    let ordinary = mbr.as_ref().is_some_and(|mbr| !mbr.entries.is_empty() && !mbr.protective);
    let sector_size = gpt::sector_size(head);
    let mut table = if ordinary {
        let Some(mbr) = mbr else { return Ok(None) };
        let mut table = mbr::table(&mbr, head, image_size, read_at.as_deref_mut());
        if sector_size.is_some() {
            table.problems.push(Problem::StaleGpt);
        }
        table
    } else if sector_size.is_some() || mbr.as_ref().is_some_and(|mbr| mbr.protective) {
        let mut table = gpt::table(head, sector_size, image_size, read_at)?;
        match mbr {
            Some(mbr) if mbr.protective => {
                if let Some(gpt) = &mut table.gpt {
                    gpt.hybrid = mbr.entries.len() > 1;
                }
            }
            _ => table.problems.push(Problem::NoProtectiveMbr),
        }
        table
    } else {
        return Ok(None);
    };
    table.check_layout(image_size);
    Ok(Some(table))
}

/// Length of the head in bytes: what lies before the first partition, at most [`HEAD_MAX`]; [`HEAD_WITHOUT_TABLE`]
/// when there is no table or no partition in it. It never ends inside the table itself, whatever the entries claim.
#[must_use]
pub fn head_len(table: Option<&Table>) -> u64 {
    let Some(table) = table else { return HEAD_WITHOUT_TABLE };
    match table.partitions.iter().map(|partition| partition.extent.start()).min() {
        Some(start) => start.max(table.structures_end()).min(HEAD_MAX),
        None => HEAD_WITHOUT_TABLE,
    }
}

impl Table {
    /// Where the structures at the front end, in bytes: the MBR sector, or the GPT's entries.
    fn structures_end(&self) -> u64 {
        let sector = u64::from(self.sector_size);
        match &self.gpt {
            // Entries far away (some tools place them behind a loader) do not push the front out.
            Some(gpt) if gpt.entries.end() <= HEAD_MAX => gpt.entries.end().max(2 * sector),
            Some(_) => 2 * sector,
            None => sector,
        }
    }

    /// Notes partitions that overlap, begin in the table or reach past the image.
    fn check_layout(&mut self, image_size: Option<u64>) {
        let front = self.structures_end();
        for partition in &self.partitions {
            let (number, extent) = (partition.number, partition.extent);
            if extent.start() < front {
                self.problems.push(Problem::PartitionInTable { number, extent });
            }
            if let Some(image_size) = image_size.filter(|size| extent.end() > *size) {
                self.problems.push(Problem::PartitionOutside { number, extent, image_size });
            }
        }
        let mut order: Vec<&Partition> = self.partitions.iter().filter(|part| !part.kind.is_extended()).collect();
        order.sort_by_key(|partition| (partition.extent.start(), partition.extent.end()));
        // The one that reaches furthest so far is the one a later partition can overlap.
        let mut furthest: Option<&Partition> = None;
        for partition in order {
            match furthest {
                Some(before) if partition.extent.start() < before.extent.end() => {
                    self.problems.push(Problem::Overlap { first: before.number, second: partition.number });
                    if partition.extent.end() > before.extent.end() {
                        furthest = Some(partition);
                    }
                }
                _ => furthest = Some(partition),
            }
        }
    }
}
