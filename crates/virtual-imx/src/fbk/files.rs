//! Files in memory, and the cards as devices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::emmc::{Area, BLOCK_BYTES, Emmc, EmmcError};
use crate::machine::Halt;
use crate::store::wide;
use crate::timing::at_rate;

use super::System;

/// The most that all files together may hold.
pub const MAX_BYTES: usize = 256 << 20;
const BLOCK: usize = 512;

/// Something with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Directory,
    File(String),
    /// A card, or one of its boot partitions.
    Card(u32, Area),
    /// `/dev/null`.
    Null,
    /// `/dev/zero`.
    Zero,
}

#[derive(Debug)]
pub(super) struct Files {
    directories: BTreeSet<String>,
    files: BTreeMap<String, Vec<u8>>,
}

/// The path without doubled slashes and without one at its end.
fn clean(path: &str) -> String {
    let mut clean = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() { "/".to_owned() } else { clean }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// The switch that keeps a boot partition from being written.
fn force_ro(dev: u32, area: Area) -> Option<String> {
    let name = match area {
        Area::User => return None,
        Area::Boot0 => "boot0",
        Area::Boot1 => "boot1",
    };
    Some(format!("/sys/block/mmcblk{dev}{name}/force_ro"))
}

impl Files {
    pub(super) fn new(cards: &BTreeMap<u32, Emmc>) -> Self {
        let directories = ["/", "/dev", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp"].map(str::to_owned);
        let mut files = Self { directories: directories.into(), files: BTreeMap::new() };
        for (dev, card) in cards.iter().filter(|(_, card)| !card.is_sd()) {
            for area in [Area::Boot0, Area::Boot1].into_iter().filter(|area| card.blocks(*area) > 0) {
                if let Some(path) = force_ro(*dev, area) {
                    files.directories.insert(parent(&path).to_owned());
                    files.files.insert(path, b"1\n".to_vec());
                }
            }
        }
        files
    }

    pub(super) fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(&clean(path)).map(Vec::as_slice)
    }

    pub(super) fn make_directory(&mut self, path: &str) -> bool {
        let path = clean(path);
        self.directories.contains(parent(&path))
            && !self.files.contains_key(&path)
            && self.directories.len() < 1000
            && {
                self.directories.insert(path);
                true
            }
    }

    pub(super) fn remove(&mut self, path: &str) -> bool {
        self.files.remove(&clean(path)).is_some()
    }

    fn device(cards: &BTreeMap<u32, Emmc>, path: &str) -> Option<Place> {
        let name = path.strip_prefix("/dev/")?;
        match name {
            "null" => return Some(Place::Null),
            "zero" => return Some(Place::Zero),
            _ => {}
        }
        let name = name.strip_prefix("mmcblk")?;
        let (digits, area) = match (name.strip_suffix("boot0"), name.strip_suffix("boot1")) {
            (Some(digits), _) => (digits, Area::Boot0),
            (_, Some(digits)) => (digits, Area::Boot1),
            _ => (name, Area::User),
        };
        let dev = digits.parse().ok()?;
        cards.get(&dev).filter(|card| card.blocks(area) > 0).map(|_| Place::Card(dev, area))
    }

    /// What is there to be read.
    pub(super) fn readable(&self, cards: &BTreeMap<u32, Emmc>, path: &str) -> Option<Place> {
        let path = clean(path);
        if self.directories.contains(&path) {
            return Some(Place::Directory);
        }
        if self.files.contains_key(&path) {
            return Some(Place::File(path));
        }
        Self::device(cards, &path)
    }

    /// What is there to be written; a file is made if there is none.
    pub(super) fn writable(&mut self, cards: &BTreeMap<u32, Emmc>, path: &str) -> Option<Place> {
        let path = clean(path);
        if let Some(place) = self.readable(cards, &path) {
            return match place {
                Place::Card(dev, area) if self.is_read_only(dev, area) => None,
                place => Some(place),
            };
        }
        if !self.directories.contains(parent(&path)) || parent(&path) == "/dev" || self.files.len() >= 10_000 {
            return None;
        }
        self.files.insert(path.clone(), Vec::new());
        Some(Place::File(path))
    }

    fn is_read_only(&self, dev: u32, area: Area) -> bool {
        force_ro(dev, area).and_then(|path| self.file(&path)).is_some_and(|text| !text.starts_with(b"0"))
    }

    pub(super) fn cut(&mut self, place: &Place) {
        if let Place::File(path) = place
            && let Some(bytes) = self.files.get_mut(path)
        {
            bytes.clear();
        }
    }

    /// As `fstat` has it: of devices 0.
    pub(super) fn size(&self, place: &Place) -> u64 {
        match place {
            Place::File(path) => self.file(path).map_or(0, |bytes| wide(bytes.len())),
            _ => 0,
        }
    }
}

/// Writes at a place; `false` if it does not go.
pub(super) fn write(system: &mut System, place: &Place, at: u64, bytes: &[u8]) -> Result<bool, Halt> {
    match place {
        Place::Null | Place::Zero => Ok(true),
        Place::Directory => Ok(false),
        Place::File(path) => {
            let held: usize = system.files.files.values().map(Vec::len).sum();
            let end = usize::try_from(at).ok().and_then(|at| at.checked_add(bytes.len()));
            let Some(end) = end.filter(|end| *end <= MAX_BYTES && held + bytes.len() <= MAX_BYTES) else {
                return Ok(false);
            };
            let Some(file) = system.files.files.get_mut(path) else { return Ok(false) };
            if file.len() < end {
                file.resize(end, 0);
            }
            file[end - bytes.len()..end].copy_from_slice(bytes);
            Ok(true)
        }
        Place::Card(dev, area) => write_card(system, *dev, *area, at, bytes),
    }
}

fn write_card(system: &mut System, dev: u32, area: Area, at: u64, bytes: &[u8]) -> Result<bool, Halt> {
    let Some(card) = system.cards.get_mut(&dev) else { return Ok(false) };
    let room = card.blocks(area).saturating_mul(BLOCK_BYTES);
    if at.checked_add(wide(bytes.len())).is_none_or(|end| end > room) {
        return Ok(false);
    }
    // Blocks that are written in part keep what else is in them.
    let first = at / BLOCK_BYTES;
    let head = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
    let whole;
    let blocks = if head == 0 && bytes.len().is_multiple_of(BLOCK) {
        bytes
    } else {
        let mut around = vec![0; (head + bytes.len()).next_multiple_of(BLOCK)];
        if card.read(area, first, &mut around).is_err() {
            return Ok(false);
        }
        around[head..head + bytes.len()].copy_from_slice(bytes);
        whole = around;
        &whole[..]
    };
    let done = card.write(area, first, blocks);
    let time = system.timing.card_command.saturating_add(at_rate(wide(blocks.len()), system.timing.card_write));
    system.spend(time);
    match done {
        Ok(()) => Ok(true),
        Err(EmmcError::PowerCut { .. }) => Err(Halt::PowerLost),
        Err(_) => Ok(false),
    }
}

/// Reads at a place, at most `most` bytes; `None` if it does not go.
pub(super) fn read(system: &mut System, place: &Place, at: u64, most: usize) -> Option<Vec<u8>> {
    match place {
        Place::Directory => None,
        Place::Null => Some(Vec::new()),
        Place::Zero => Some(vec![0; most]),
        Place::File(path) => {
            let bytes = system.files.file(path)?;
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Some(bytes[from..bytes.len().min(from.saturating_add(most))].to_vec())
        }
        Place::Card(dev, area) => {
            let card = system.cards.get_mut(dev)?;
            let room = card.blocks(*area).saturating_mul(BLOCK_BYTES).saturating_sub(at);
            let n = usize::try_from(room).unwrap_or(most).min(most);
            let head = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
            let mut blocks = vec![0; (head + n).next_multiple_of(BLOCK)];
            card.read(*area, at / BLOCK_BYTES, &mut blocks).ok()?;
            let time: Duration = at_rate(wide(blocks.len()), system.timing.card_read);
            system.spend(time);
            Some(blocks[head..head + n].to_vec())
        }
    }
}
