//! An eMMC: user area, two boot partitions, the boot switch in EXT_CSD, counters, and defects on request.
//!
//! Addresses are blocks of 512 bytes, as on the card's bus. Everything is kept in [`Store`]s, so that only what is
//! written costs memory. How long things take is [`crate::timing`]'s; RPMB and general-purpose partitions are left out.
//!
//! Sources: JEDEC eMMC 5.1 (EXT_CSD, erase, TRIM) and what U-Boot makes of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;

use crate::store::{Store, StoreError, wide};

/// Bytes in a block.
pub const BLOCK_BYTES: u64 = 512;
const BLOCK: usize = 512;

/// A hardware partition of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// The user area: hardware partition 0.
    User,
    /// The first boot partition: hardware partition 1.
    Boot0,
    /// The second boot partition: hardware partition 2.
    Boot1,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::User, Self::Boot0, Self::Boot1];

    /// The area that U-Boot's `mmc dev N H` selects for this `H`.
    pub fn from_hwpart(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::User),
            1 => Some(Self::Boot0),
            2 => Some(Self::Boot1),
            _ => None,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::User => 0,
            Self::Boot0 => 1,
            Self::Boot1 => 2,
        }
    }
}

/// EXT_CSD byte 179, PARTITION_CONFIG: what the card boots from and which area commands go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartConf {
    /// Bit 6: send the boot acknowledge.
    pub ack: bool,
    /// Bits 5 to 3: 0 none, 1 boot0, 2 boot1, 7 user area; others are reserved.
    pub boot: u8,
    /// Bits 2 to 0: 0 user area, 1 boot0, 2 boot1.
    pub access: u8,
}

impl PartConf {
    /// As the byte of EXT_CSD.
    pub fn byte(self) -> u8 {
        (u8::from(self.ack) << 6) | ((self.boot & 7) << 3) | (self.access & 7)
    }

    /// From the byte of EXT_CSD. Bit 7 is reserved and dropped.
    pub fn from_byte(byte: u8) -> Self {
        Self { ack: byte & 0x40 != 0, boot: (byte >> 3) & 7, access: byte & 7 }
    }
}

/// What went wrong on the card. `done` is the number of blocks that came to be before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmmcError {
    /// The area ends before.
    #[error("{count} blocks at {block:#x} are not within the {blocks:#x} blocks of {area:?}")]
    OutOfRange {
        /// Which area.
        area: Area,
        /// First block asked for.
        block: u64,
        /// How many.
        count: u64,
        /// How many there are.
        blocks: u64,
    },
    /// A length that is no whole number of blocks.
    #[error("{0} bytes are no whole blocks")]
    NotBlocks(usize),
    /// The card cannot read or write a block.
    #[error("{area:?}: block {block:#x} is bad")]
    Bad {
        /// Which area.
        area: Area,
        /// The block.
        block: u64,
        /// Blocks before it that were transferred.
        done: u64,
    },
    /// The power went away during the write.
    #[error("power lost after {done} blocks")]
    PowerCut {
        /// Blocks that were written.
        done: u64,
    },
    /// The card was busy for longer than hosts wait; what it was told is done all the same.
    #[error("the card was busy for too long")]
    Busy,
    /// The card has no boot partitions, being an SD card.
    #[error("this card has no boot partitions")]
    NoBoot,
}

/// What is wrong with a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Writing fails; what stood there stays.
    Write,
    /// Reading fails.
    Read,
    /// Writing is acknowledged and nothing is stored.
    Lost,
}

/// A bit that comes out wrong each time its byte is written.
#[derive(Debug, Clone, Copy)]
struct WeakBit {
    area: Area,
    at: u64,
    mask: u8,
    left: u32,
}

/// What an area has been through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Write commands.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Read commands.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes erased or trimmed.
    pub bytes_erased: u64,
}

#[derive(Debug)]
struct AreaState {
    store: Store,
    counters: Counters,
    /// Bytes written and erased in each erase group that was touched.
    wear: BTreeMap<u64, u64>,
}

/// Of what make the card is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the user area; cut to whole blocks.
    pub user_bytes: u64,
    /// Bytes of each boot partition; 0 makes it an SD card.
    pub boot_bytes: u64,
    /// Bytes of an erase group; at least a block.
    pub erase_group_bytes: u64,
    /// What erased bytes read as, 0x00 or 0xff (ERASED_MEM_CONT).
    pub erased: u8,
    /// Can it erase single blocks (TRIM)?
    pub trim: bool,
}

impl Default for Geometry {
    /// 16 GB, boot partitions of 4 MiB, groups of 512 KiB, erased to zeros, with TRIM.
    fn default() -> Self {
        Self { user_bytes: 15_758_000_128, boot_bytes: 4 << 20, erase_group_bytes: 512 << 10, erased: 0, trim: true }
    }
}

/// A card.
#[derive(Debug)]
pub struct Emmc {
    areas: [AreaState; 3],
    geometry: Geometry,
    partconf: PartConf,
    defects: Vec<(Area, Range<u64>, Defect)>,
    weak: Vec<WeakBit>,
    power_left: Option<u64>,
    late: u32,
}

impl Emmc {
    /// A new card of that make, erased, with nothing to boot from.
    pub fn new(geometry: Geometry) -> Self {
        let group = geometry.erase_group_bytes.max(BLOCK_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
        let geometry = Geometry { erase_group_bytes: group, ..geometry };
        let area = |bytes: u64| AreaState {
            store: Store::new(bytes / BLOCK_BYTES * BLOCK_BYTES, geometry.erased),
            counters: Counters::default(),
            wear: BTreeMap::new(),
        };
        Self {
            areas: [area(geometry.user_bytes), area(geometry.boot_bytes), area(geometry.boot_bytes)],
            geometry,
            partconf: PartConf::default(),
            defects: Vec::new(),
            weak: Vec::new(),
            power_left: None,
            late: 0,
        }
    }

    /// Of what make it is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Is it an SD card: no boot partitions, no EXT_CSD?
    pub fn is_sd(&self) -> bool {
        self.geometry.boot_bytes < BLOCK_BYTES
    }

    /// Blocks of an area.
    pub fn blocks(&self, area: Area) -> u64 {
        self.areas[area.index()].store.len() / BLOCK_BYTES
    }

    /// What an area has been through.
    pub fn counters(&self, area: Area) -> Counters {
        self.areas[area.index()].counters
    }

    /// The most bytes written or erased in any one erase group, by how often that would have been the whole group.
    pub fn most_wear(&self, area: Area) -> u64 {
        let most = self.areas[area.index()].wear.values().max().copied().unwrap_or(0);
        most.div_ceil(self.geometry.erase_group_bytes)
    }

    /// PARTITION_CONFIG as it stands.
    pub fn partconf(&self) -> PartConf {
        self.partconf
    }

    /// Sets PARTITION_CONFIG.
    pub fn set_partconf(&mut self, conf: PartConf) -> Result<(), EmmcError> {
        if self.is_sd() {
            return Err(EmmcError::NoBoot);
        }
        self.partconf = PartConf::from_byte(conf.byte());
        Ok(())
    }

    /// The area that commands go to. Reserved values mean the user area here.
    pub fn selected(&self) -> Area {
        Area::from_hwpart(u64::from(self.partconf.access)).unwrap_or(Area::User)
    }

    /// Sends commands to `area` from now on.
    pub fn select(&mut self, area: Area) -> Result<(), EmmcError> {
        if self.is_sd() && area != Area::User {
            return Err(EmmcError::NoBoot);
        }
        self.partconf.access = u8::try_from(area.index()).unwrap_or(0);
        Ok(())
    }

    /// As the card wakes: commands go to the user area. All else is kept.
    pub fn power_on(&mut self) {
        self.partconf.access = 0;
        self.power_left = None;
    }

    /// The power goes away once so many more bytes have been written, at the end of a block.
    pub fn cut_power_after(&mut self, bytes: u64) {
        self.power_left = Some(bytes / BLOCK_BYTES * BLOCK_BYTES);
    }

    /// Takes too long over the next so many writes: they fail as [`EmmcError::Busy`], and are done.
    pub fn be_late(&mut self, writes: u32) {
        self.late = writes;
    }

    /// Makes blocks bad.
    pub fn add_defect(&mut self, area: Area, blocks: Range<u64>, defect: Defect) {
        self.defects.push((area, blocks, defect));
    }

    /// Makes all blocks good again and weak bits strong.
    pub fn repair(&mut self) {
        self.defects.clear();
        self.weak.clear();
    }

    /// Turns bits of a stored byte over, now. Outside the area nothing happens.
    pub fn flip(&mut self, area: Area, at: u64, mask: u8) {
        let store = &mut self.areas[area.index()].store;
        let mut byte = [0];
        if store.read(at, &mut byte).is_ok() {
            // Just read: it is within.
            let _ = store.write(at, &[byte[0] ^ mask]);
        }
    }

    /// Stores these bits of byte `at` wrongly the next `times` times it is written.
    pub fn weaken(&mut self, area: Area, at: u64, mask: u8, times: u32) {
        self.weak.push(WeakBit { area, at, mask, left: times });
    }

    /// Looks at stored bytes from outside: no counters, no defects. `None` if they are not within.
    pub fn peek(&self, area: Area, at: u64, len: usize) -> Option<Vec<u8>> {
        let store = &self.areas[area.index()].store;
        store.check(at, wide(len)).ok()?;
        let mut bytes = vec![0; len];
        store.read(at, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Puts bytes on the card from outside, as if it had been used before. `false` if they do not fit.
    pub fn poke(&mut self, area: Area, at: u64, bytes: &[u8]) -> bool {
        self.areas[area.index()].store.write(at, bytes).is_ok()
    }

    /// Keeps an area in a file from now on: what the file holds is what the card holds. The file is cut or extended to
    /// the area's length; where erasing should leave ones a new file still holds zeros.
    ///
    /// # Errors
    /// What the system says.
    pub fn use_file(&mut self, area: Area, file: File) -> io::Result<()> {
        let state = &mut self.areas[area.index()];
        state.store = Store::on_file(file, state.store.len(), self.geometry.erased)?;
        Ok(())
    }

    /// Writes an area to an empty file, leaving holes where the card holds zeros that nobody ever wrote.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, area: Area, file: File) -> io::Result<()> {
        let store = &self.areas[area.index()].store;
        let failed = |error: StoreError| io::Error::other(error);
        let mut copy = Store::on_file(file, store.len(), 0)?;
        let mut done = 0;
        for range in store.written().chain(std::iter::once(store.len()..store.len())) {
            if self.geometry.erased != 0 {
                copy.set(done, range.start - done, self.geometry.erased).map_err(failed)?;
            }
            let mut at = range.start;
            let mut result = Ok(());
            let each = &mut |bytes: &[u8]| {
                // An earlier failure stays.
                if result.is_ok() && bytes.iter().any(|byte| *byte != 0) {
                    result = copy.write(at, bytes);
                }
                at += wide(bytes.len());
            };
            store.look(range.start, range.end - range.start, each).map_err(failed)?;
            result.map_err(failed)?;
            done = range.end;
        }
        Ok(())
    }

    fn check(&self, area: Area, block: u64, count: u64) -> Result<(), EmmcError> {
        let blocks = self.blocks(area);
        match block.checked_add(count) {
            Some(end) if end <= blocks => Ok(()),
            _ => Err(EmmcError::OutOfRange { area, block, count, blocks }),
        }
    }

    /// The first block of a range that has one of these defects.
    fn first_bad(&self, area: Area, blocks: &Range<u64>, kind: Defect) -> Option<u64> {
        let bad = self.defects.iter().filter(|(of, _, defect)| *of == area && *defect == kind);
        let hit = bad.map(|(_, bad, _)| bad.start.max(blocks.start)..bad.end.min(blocks.end));
        hit.filter(|hit| hit.start < hit.end).map(|hit| hit.start).min()
    }

    /// Reads whole blocks. On an error what `into` holds counts only up to the bad block.
    pub fn read(&mut self, area: Area, block: u64, into: &mut [u8]) -> Result<(), EmmcError> {
        if !into.len().is_multiple_of(BLOCK) {
            return Err(EmmcError::NotBlocks(into.len()));
        }
        let count = wide(into.len() / BLOCK);
        self.check(area, block, count)?;
        let bad = self.first_bad(area, &(block..block.saturating_add(count)), Defect::Read);
        let done = bad.map_or(count, |bad| bad - block);
        let state = &mut self.areas[area.index()];
        state.counters.reads += 1;
        state.counters.bytes_read += done * BLOCK_BYTES;
        let good = usize::try_from(done).unwrap_or(0) * BLOCK;
        if state.store.read(block * BLOCK_BYTES, &mut into[..good]).is_err() {
            // Checked above: it is the file behind the card that fails.
            return Err(EmmcError::Bad { area, block, done: 0 });
        }
        match bad {
            Some(block) => Err(EmmcError::Bad { area, block, done }),
            None => Ok(()),
        }
    }

    /// Writes whole blocks. On an error those before it are written.
    pub fn write(&mut self, area: Area, block: u64, bytes: &[u8]) -> Result<(), EmmcError> {
        if !bytes.len().is_multiple_of(BLOCK) {
            return Err(EmmcError::NotBlocks(bytes.len()));
        }
        let count = wide(bytes.len() / BLOCK);
        self.check(area, block, count)?;
        let bad = self.first_bad(area, &(block..block.saturating_add(count)), Defect::Write);
        let mut done = bad.map_or(count, |bad| bad - block);
        let mut cut = false;
        if let Some(left) = &mut self.power_left {
            if done * BLOCK_BYTES >= *left {
                (done, cut) = (*left / BLOCK_BYTES, true);
            }
            *left -= done * BLOCK_BYTES;
        }
        if self.store(area, block, &bytes[..usize::try_from(done).unwrap_or(0) * BLOCK]).is_err() {
            return Err(EmmcError::Bad { area, block, done: 0 });
        }
        match bad {
            _ if cut => Err(EmmcError::PowerCut { done }),
            Some(block) => Err(EmmcError::Bad { area, block, done }),
            None if self.late > 0 => {
                self.late -= 1;
                Err(EmmcError::Busy)
            }
            None => Ok(()),
        }
    }

    fn store(&mut self, area: Area, block: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let lost: Vec<_> = self.defects.iter().filter(|(of, _, kind)| *of == area && *kind == Defect::Lost).collect();
        let at = block * BLOCK_BYTES;
        let state = &mut self.areas[area.index()];
        state.counters.writes += 1;
        state.counters.bytes_written += wide(bytes.len());
        if lost.is_empty() {
            state.store.write(at, bytes)?;
        } else {
            for (n, one) in (block..).zip(bytes.chunks(BLOCK)) {
                if !lost.iter().any(|(_, bad, _)| bad.contains(&n)) {
                    state.store.write(n * BLOCK_BYTES, one)?;
                }
            }
        }
        let end = at + wide(bytes.len());
        Self::wear(state, self.geometry.erase_group_bytes, at..end);
        let mut flips = Vec::new();
        for weak in &mut self.weak {
            if weak.area == area && (at..end).contains(&weak.at) && weak.left > 0 {
                weak.left -= 1;
                flips.push((weak.at, weak.mask));
            }
        }
        for (at, mask) in flips {
            self.flip(area, at, mask);
        }
        Ok(())
    }

    fn wear(state: &mut AreaState, group: u64, bytes: Range<u64>) {
        let mut at = bytes.start;
        while at < bytes.end {
            let next = (at / group + 1).saturating_mul(group).min(bytes.end);
            *state.wear.entry(at / group).or_default() += next - at;
            at = next;
        }
    }

    /// Erases as the card's CMD35, 36 and 38 do: **whole groups**, rounded outwards. Returns how many groups.
    pub fn erase(&mut self, area: Area, block: u64, count: u64) -> Result<u64, EmmcError> {
        self.check(area, block, count)?;
        if count == 0 {
            return Ok(0);
        }
        let group = self.geometry.erase_group_bytes;
        let first = block * BLOCK_BYTES / group;
        let last = ((block + count) * BLOCK_BYTES).div_ceil(group);
        let end = last.saturating_mul(group).min(self.areas[area.index()].store.len());
        self.clear(area, first * group..end);
        Ok(last - first)
    }

    /// Erases exactly these blocks (TRIM).
    pub fn trim(&mut self, area: Area, block: u64, count: u64) -> Result<(), EmmcError> {
        self.check(area, block, count)?;
        self.clear(area, block * BLOCK_BYTES..(block + count) * BLOCK_BYTES);
        Ok(())
    }

    fn clear(&mut self, area: Area, bytes: Range<u64>) {
        let state = &mut self.areas[area.index()];
        let _ = state.store.set(bytes.start, bytes.end - bytes.start, self.geometry.erased);
        state.counters.bytes_erased += bytes.end - bytes.start;
        Self::wear(state, self.geometry.erase_group_bytes, bytes);
    }
}

#[cfg(test)]
mod tests;
