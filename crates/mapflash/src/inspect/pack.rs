//! What a pack file holds.

use std::path::Path;

use flasher::FlashError;
use flasher::board::packfile::{Contents, Stored};
use flasher::board::{Pack, open_pack};
use image::table::{self, Table};
use serde_json::{Value, json};

use super::boot::{self, Boot};
use crate::error::AppError;
use crate::render::text::{count, percent, ratio, size};

/// A pack, and what its first bytes say of the image.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) pack: Pack,
    /// The partition table.
    pub(crate) table: Option<Table>,
    /// The boot image in the head.
    pub(crate) boot: Option<Boot>,
}

/// Reads a pack's index, and unpacks its first pieces.
pub(super) fn look(path: &Path) -> Result<Packed, AppError> {
    let failed = |error| AppError::from(FlashError::from(error));
    let pack = open_pack(path).map_err(failed)?;
    let front = pack.front(boot::LOOK).map_err(failed)?;
    let size = Some(pack.index().image_size());
    let table = table::read(front.get(..table::HEAD_WANTED).unwrap_or(&front), size, None).ok().flatten();
    // A filesystem may have anything in it that looks like a boot image.
    let boot = table.as_ref().and_then(|table| boot::look(&front, size, Some(table)));
    Ok(Packed { table, boot, pack })
}

/// Bytes of the pieces that are kept as they are, and of those that are not kept because they are one word.
fn unpacked(pack: &Pack) -> (u64, u64) {
    let entries = pack.index().entries().iter();
    entries.fold((0, 0), |(raw, words), entry| match entry.stored {
        Stored::Raw { .. } => (raw + entry.extent.len(), words),
        Stored::Word(_) => (raw, words + entry.extent.len()),
        Stored::Lz4 { .. } => (raw, words),
    })
}

/// How it is packed, and what with.
pub(super) fn lines(packed: &Packed) -> Vec<(&'static str, String)> {
    let index = packed.pack.index();
    let (raw, words) = unpacked(&packed.pack);
    let (data, kept) = (index.data(), index.packed());
    let pieces = count(index.entries().len(), "piece");
    let mut line = format!("{} in {pieces} of at most {}", size(data), size(index.piece_len()));
    line.push_str(&format!(", {} of the image", percent(data, index.image_size())));
    let mut lines = vec![("data", line)];
    let mut line = format!("by LZ4, level {}, to {}", index.level(), size(kept));
    if let Some(ratio) = ratio(data, kept) {
        line.push_str(&format!(", {ratio:.2} to 1"));
    }
    if raw > 0 {
        line.push_str(&format!("; {} do not pack", size(raw)));
    }
    if words > 0 {
        line.push_str(&format!("; {} are one word over and over", size(words)));
    }
    lines.push(("packed", line));
    let line = match index.contents() {
        Contents::Anywhere => "none: every byte of the image counts".to_owned(),
        Contents::Extents(_) => "none: the holes of the image are zeros".to_owned(),
        Contents::Map(map) => {
            let digests = match map.algorithm() {
                Some(name) => format!("{name} digests"),
                None => "no digests".to_owned(),
            };
            let ranges = count(map.ranges().len(), "range");
            let mapped = percent(map.mapped_bytes(), map.image_size());
            format!(
                "{} mapped ({mapped}) in {ranges} of {}-byte blocks, {digests}",
                size(map.mapped_bytes()),
                map.block_size()
            )
        }
    };
    lines.push(("block map", line));
    lines
}

/// The same for machines.
pub(super) fn json(packed: &Packed) -> Value {
    let index = packed.pack.index();
    let (raw, words) = unpacked(&packed.pack);
    json!({
        "image_size": index.image_size(),
        "head": index.head(),
        "data": index.data(),
        "packed": index.packed(),
        "raw": raw,
        "one_word": words,
        "ratio": ratio(index.data(), index.packed()),
        "pieces": index.entries().len(),
        "piece_len": index.piece_len(),
        "level": index.level(),
        "map": index.map().map(|map| json!({
            "block_size": map.block_size().get(),
            "mapped_bytes": map.mapped_bytes(),
            "ranges": map.ranges().len(),
            "digests": map.algorithm().map(|name| name.to_string()),
        })),
    })
}
