//! What goes to a board in one download, and what it is told to do with it.
//!
//! Two kinds. A split is one Android sparse image: RAW, FILL and DONT_CARE chunks, no other, whose blocks add up; any
//! U-Boot with fastboot takes it. Parts are pieces raw or packed, one behind the other at sector boundaries, that shell
//! lines inflate and write.

use std::sync::Arc;

use bmap::sparse::split::{Extent, ExtentKind, Layout, Payload, Split, whole};
use bmap::{BlockRange, BlockSize, ByteRange};

use super::error::BoardError;
use super::feed::{Dry, Feed};
use super::fill::Fill;
use super::pack::Form;
use super::place::{Place, not_by_number};
use super::uboot::{Command, Line, Lines, SECTOR, Uboot};
use crate::error::FlashError;

/// A piece, or a part of one, that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    /// The piece's place in the feed.
    pub(crate) index: usize,
    /// Which bytes of it.
    pub(crate) extent: ByteRange,
}

impl Item {
    /// From there to there; `None` if that is nothing.
    pub(crate) fn of(index: usize, from: u64, to: u64) -> Option<Self> {
        let extent = ByteRange::new(from, to).filter(|extent| !extent.is_empty())?;
        Some(Self { index, extent })
    }
}

/// One part of a download that shell lines take apart.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) item: Item,
    pub(crate) form: Form,
    /// Its bytes if it is packed.
    pub(crate) packed: Option<Arc<Vec<u8>>>,
    /// Where in the download.
    pub(crate) at: u64,
    /// Its length there.
    pub(crate) len: u64,
}

/// One download.
#[derive(Debug)]
pub(crate) enum Batch {
    /// A sparse image of these items.
    Split(Split, Vec<Item>),
    /// Parts, and the length of them all.
    Parts(Vec<Part>, u64),
}

impl Batch {
    /// Bytes of the download.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Split(split, _) => split.len(),
            Self::Parts(_, len) => *len,
        }
    }

    /// Bytes of the target that it writes.
    pub(crate) fn writes(&self) -> u64 {
        match self {
            Self::Split(_, items) => items.iter().map(|item| item.extent.len()).sum(),
            Self::Parts(parts, _) => parts.iter().map(|part| part.item.extent.len()).sum(),
        }
    }

    /// The items in it.
    pub(crate) fn items(&self) -> Vec<Item> {
        match self {
            Self::Split(_, items) => items.clone(),
            Self::Parts(parts, _) => parts.iter().map(|part| part.item).collect(),
        }
    }
}

/// The size of a sparse image's blocks for a plan whose writes begin at multiples of `alignment`. `None` if a board's
/// sectors are larger than that.
pub(crate) fn block_size(alignment: u64) -> Option<BlockSize> {
    let bytes = alignment.clamp(1, 4096);
    if bytes < SECTOR { None } else { BlockSize::new(u32::try_from(bytes).ok()?) }
}

fn dry(error: FlashError) -> Dry {
    Dry::Failed(std::sync::Arc::new(error))
}

/// A sparse image of these items, which ascend. Zeros, and what is one word over and over, is FILL.
pub(crate) fn split(feed: &Feed<'_>, items: Vec<Item>, size: u64) -> Result<Batch, Dry> {
    let Some(block) = block_size(feed.plan().alignment()) else {
        return Err(dry(FlashError::Unaligned { alignment: feed.plan().alignment() }));
    };
    split_by(feed, items, size, block)
}

/// The same of items that begin and end at any sector.
pub(crate) fn sectors(feed: &Feed<'_>, items: Vec<Item>, size: u64) -> Result<Batch, Dry> {
    match block_size(SECTOR) {
        Some(block) => split_by(feed, items, size, block),
        None => split(feed, items, size),
    }
}

fn split_by(feed: &Feed<'_>, items: Vec<Item>, size: u64, block: BlockSize) -> Result<Batch, Dry> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut push = |bytes: ByteRange, kind: ExtentKind| {
        let first = bytes.start() / block.bytes();
        let last = bytes.end().div_ceil(block.bytes()).saturating_sub(1);
        let Some(blocks) = BlockRange::new(first, last) else { return };
        match extents.last_mut() {
            // One chunk for what lies side by side.
            Some(before) if before.kind == kind && before.blocks.last() + 1 == first => {
                before.blocks = BlockRange::new(before.blocks.first(), last).unwrap_or(before.blocks);
            }
            _ => extents.push(Extent { blocks, kind }),
        }
    };
    for item in &items {
        let mut at = item.extent.start();
        for Fill { extent, word } in &feed.facts(item.index)?.fills {
            let Some(fill) = extent.intersect(item.extent).filter(|fill| !fill.is_empty()) else { continue };
            if let Some(data) = ByteRange::new(at, fill.start()).filter(|data| !data.is_empty()) {
                push(data, ExtentKind::Data);
            }
            push(fill, ExtentKind::Fill(*word));
            at = fill.end();
        }
        if let Some(data) = ByteRange::new(at, item.extent.end()).filter(|data| !data.is_empty()) {
            push(data, ExtentKind::Data);
        }
    }
    let layout = Layout::new(size, block, extents).map_err(|source| dry(FlashError::Layout(source)))?;
    let split = whole(&layout).map_err(|source| dry(FlashError::Split(source)))?;
    Ok(Batch::Split(split, items))
}

/// A sparse image that writes nothing but these fills, which ascend.
pub(crate) fn zeros(feed: &Feed<'_>, fills: impl Iterator<Item = Fill>, size: u64) -> Result<Batch, Dry> {
    let Some(block) = block_size(feed.plan().alignment()) else {
        return Err(dry(FlashError::Unaligned { alignment: feed.plan().alignment() }));
    };
    zeros_by(fills, size, block)
}

/// The same of a single fill that begins and ends at any sector; `size` is the card's then.
pub(crate) fn zero_sectors(feed: &Feed<'_>, fill: Fill, size: u64) -> Result<Batch, Dry> {
    match block_size(SECTOR) {
        Some(block) => zeros_by(std::iter::once(fill), size, block),
        None => zeros(feed, std::iter::once(fill), size),
    }
}

fn zeros_by(fills: impl Iterator<Item = Fill>, size: u64, block: BlockSize) -> Result<Batch, Dry> {
    let (mut extents, mut items) = (Vec::new(), Vec::new());
    for Fill { extent, word } in fills {
        let last = extent.end().div_ceil(block.bytes()).saturating_sub(1);
        let blocks = BlockRange::new(extent.start() / block.bytes(), last);
        extents.extend(blocks.map(|blocks| Extent { blocks, kind: ExtentKind::Fill(word) }));
        items.push(Item { index: usize::MAX, extent });
    }
    let layout = Layout::new(size, block, extents).map_err(|source| dry(FlashError::Layout(source)))?;
    let split = whole(&layout).map_err(|source| dry(FlashError::Split(source)))?;
    Ok(Batch::Split(split, items))
}

/// Parts of these items: packed as `form` those that have packed bytes.
pub(crate) fn parts(form: Form, items: Vec<(Item, Option<Arc<Vec<u8>>>)>) -> Batch {
    let mut parts = Vec::with_capacity(items.len());
    let mut at = 0_u64;
    for (item, packed) in items {
        let (form, len) = match &packed {
            None => (Form::Raw, item.extent.len()),
            Some(packed) => (form, u64::try_from(packed.len()).unwrap_or(u64::MAX)),
        };
        parts.push(Part { item, form, packed, at, len });
        at = at.saturating_add(len).next_multiple_of(SECTOR);
    }
    Batch::Parts(parts, at)
}

/// Hands the bytes of a download to `out`, in order and in large slices; `passed` is told each piece that is needed no
/// more for it.
pub(crate) fn stream<E: From<Dry>>(
    batch: &Batch,
    feed: &Feed<'_>,
    out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    passed: &mut dyn FnMut(usize),
) -> Result<(), E> {
    match batch {
        Batch::Split(split, items) => {
            let mut headers = split.header().to_bytes().to_vec();
            let mut items = items.iter().peekable();
            for chunk in split.chunks() {
                headers.extend(chunk.header.to_bytes());
                match chunk.payload {
                    Payload::DontCare => {}
                    Payload::Fill(word) => headers.extend(word),
                    Payload::Data { bytes, padding } => {
                        out(&headers)?;
                        headers.clear();
                        let mut at = bytes.start();
                        while at < bytes.end() {
                            while items.peek().is_some_and(|item| item.extent.end() <= at) {
                                items.next();
                            }
                            let Some(item) = items.peek() else { break };
                            let end = bytes.end().min(item.extent.end());
                            let held = feed.bytes(item.index)?;
                            out(slice_of(feed, item.index, &held, at, end))?;
                            at = end;
                            if at == item.extent.end() {
                                drop(held);
                                passed(item.index);
                            }
                        }
                        headers.resize(usize::try_from(padding).unwrap_or(0), 0);
                    }
                }
            }
            if headers.is_empty() { Ok(()) } else { out(&headers) }
        }
        Batch::Parts(parts, _) => {
            const ZEROS: [u8; 512] = [0; 512];
            for part in parts {
                let Item { index, extent } = part.item;
                match &part.packed {
                    None => {
                        let held = feed.bytes(index)?;
                        out(slice_of(feed, index, &held, extent.start(), extent.end()))?;
                    }
                    Some(packed) => out(packed)?,
                }
                passed(index);
                let padding = part.len.next_multiple_of(SECTOR) - part.len;
                let padding = ZEROS.get(..usize::try_from(padding).unwrap_or(0)).unwrap_or_default();
                if !padding.is_empty() {
                    out(padding)?;
                }
            }
            Ok(())
        }
    }
}

/// Bytes `start..end` of the image, which lie in piece `index`.
fn slice_of<'b>(feed: &Feed<'_>, index: usize, bytes: &'b [u8], start: u64, end: u64) -> &'b [u8] {
    let begin = feed.pieces().get(index).map_or(0, |piece| piece.extent.start());
    let offset = |at: u64| usize::try_from(at.saturating_sub(begin)).unwrap_or(usize::MAX);
    bytes.get(offset(start)..offset(end)).unwrap_or_default()
}

/// What a shell line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Whatever has to be done with these parts.
    All,
    /// It inflates only.
    Inflates,
    /// It writes only.
    Writes,
}

/// The shell lines that write a download of parts. `apart`: inflating and writing the largest one are lines of their own,
/// so that each can be timed.
///
/// # Errors
/// [`BoardError::Cannot`] where the place lies is not known.
pub(crate) fn lines(
    parts: &[Part],
    uboot: &Uboot,
    place: &Place,
    apart: bool,
) -> Result<Vec<(Does, Line)>, BoardError> {
    let profile = &uboot.profile;
    let buffer = profile.buffer.unwrap_or(0);
    let scratch = profile.scratch.as_ref().map_or(0, |scratch| scratch.start);
    let mut lines = Lines::new(profile.line, &[uboot.select(place.area)]);
    let mut timed = Vec::new();
    let largest = parts.iter().filter(|part| part.form == Form::Lz4).max_by_key(|part| part.item.extent.len());
    let largest = largest.filter(|_| apart).map(|part| part.at);
    for part in parts {
        let from = buffer.saturating_add(part.at);
        let sectors = place.sectors(part.item.extent).ok_or_else(not_by_number)?;
        let len = part.item.extent.len();
        match part.form {
            Form::Raw => lines.add(&[Command::Write { from, sectors }], len),
            Form::Lz4 => {
                let unpack = Command::Unlz4 { from, to: scratch, most: profile.scratch_bytes() };
                let write = Command::Write { from: scratch, sectors };
                if largest == Some(part.at) {
                    let line = |command: Command| Line { text: command.to_string(), bytes: len };
                    let select = Line { text: uboot.select(place.area).to_string(), bytes: 0 };
                    timed.push((Does::All, select));
                    timed.push((Does::Inflates, line(unpack)));
                    timed.push((Does::Writes, line(write)));
                } else {
                    lines.add(&[unpack, write], len);
                }
            }
            Form::Gzip => {
                let offset = sectors.first.saturating_mul(SECTOR);
                lines.add(&[Command::GzWrite { device: profile.device, from, len: part.len, offset, out: len }], len);
            }
        }
    }
    let rest = lines.finish().into_iter().map(|line| (Does::All, line));
    timed.extend(rest);
    Ok(timed)
}
