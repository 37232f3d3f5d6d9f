//! A report in words, and as JSON.

use std::io::{self, Write};

use image::table::{Backup, Table};
use image::{Format, Kind};
use imx_usb::bootimage::describe::Finding;
use serde_json::{Value, json};

use super::boot::{Boot, chips_at};
use super::{Contents, Found, Map, Report, pack, uncovered};
use crate::discover::shown;
use crate::render::text::{count, exact, percent, printable, size};

/// Prints a report for people.
///
/// # Errors
/// Those of writing.
pub(crate) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let line = |out: &mut dyn Write, key: &str, value: &str| writeln!(out, "{key:>11}  {value}");
    line(out, "file", &shown(&report.path))?;
    line(out, "is", &what(report))?;
    line(out, "stored", &exact(report.stored))?;
    if let Found::Image(contents) = &report.found {
        if let Some(len) = contents.size.filter(|_| contents.format != Format::Raw) {
            line(out, "unpacked", &exact(len))?;
        }
        let is_disk = contents.table.is_some() || contents.boot.is_none();
        if let (Some(data), Some(len), true) = (contents.data, contents.size, is_disk) {
            line(out, "data", &format!("{}, {}; the rest is holes", size(data), percent(data, len)))?;
        }
        if let Some(table) = &contents.table {
            line(out, "table", &table_line(table))?;
            for part in &table.partitions {
                let found = contents.filesystems.iter().find(|(number, _)| *number == part.number);
                let mut words = vec![format!("{} at {}", size(part.extent.len()), exact(part.extent.start()))];
                words.push(part.kind.to_string());
                if !part.name.is_empty() {
                    words.push(format!("\"{}\"", printable(&part.name)));
                }
                words.extend(found.map(|(_, found)| filesystem(found)));
                if part.bootable {
                    words.push("bootable".to_owned());
                }
                line(out, &part.number.to_string(), &words.join(", "))?;
            }
        }
        for (_, found) in contents.filesystems.iter().filter(|(number, _)| *number == 0) {
            line(out, "filesystem", &filesystem(found))?;
        }
        if let Some(boot) = &contents.boot {
            for (key, value) in boot_lines(boot) {
                line(out, key, &value)?;
            }
        }
    }
    if let Found::Sparse(sparse) = &report.found {
        line(out, "unpacked", &exact(sparse.image_size))?;
        let kinds = [(sparse.raw, "data"), (sparse.fill, "repeated patterns"), (sparse.dont_care, "left alone")];
        let kinds: Vec<String> = kinds.iter().map(|(bytes, what)| format!("{} {what}", size(*bytes))).collect();
        let chunks = count(usize::try_from(sparse.chunks).unwrap_or(usize::MAX), "chunk");
        line(out, "chunks", &format!("{chunks} in {}-byte blocks: {}", sparse.block_size, kinds.join(", ")))?;
    }
    if let Found::Pack(packed) = &report.found {
        line(out, "unpacked", &exact(packed.pack.index().image_size()))?;
        for (key, words) in pack::lines(packed) {
            line(out, key, &words)?;
        }
        if let Some(table) = &packed.table {
            line(out, "table", &table_line(table))?;
        }
        for (key, value) in packed.boot.iter().flat_map(boot_lines) {
            line(out, key, &value)?;
        }
    }
    if let Some(map) = &report.map {
        line(out, "block map", &map_line(map, matches!(report.found, Found::Map)))?;
    }
    for warning in &report.warnings {
        line(out, "WARNING", &warning.to_string())?;
    }
    Ok(())
}

fn what(report: &Report) -> String {
    match &report.found {
        Found::Map => "a block map".to_owned(),
        Found::Sparse(_) => "an Android sparse image".to_owned(),
        Found::Pack(_) => Kind::Pack.to_string(),
        Found::Other(kind) => kind.to_string(),
        Found::Image(contents) => {
            let packed = match contents.format {
                Format::Raw => String::new(),
                format => format!(", packed by {format}"),
            };
            let whole = contents.filesystems.iter().find(|(number, _)| *number == 0);
            let what = match (&contents.table, whole, &contents.boot) {
                (Some(_), ..) => "a disk image",
                (None, Some(_), _) => "a filesystem image",
                (None, None, Some(boot)) => match boot.kind() {
                    "fit" => "U-Boot without its loader, as a FIT",
                    "legacy" => "U-Boot without its loader",
                    _ => "a boot loader",
                },
                (None, None, None) => "a raw image",
            };
            format!("{what}{packed}")
        }
    }
}

fn table_line(table: &Table) -> String {
    let mut words = vec![format!("{} with {}", table.kind, count(table.partitions.len(), "partition"))];
    if let Some(gpt) = &table.gpt {
        words.push(format!("sectors of {} bytes", table.sector_size));
        words.push(
            match gpt.backup {
                Backup::Sound => "backup sound",
                Backup::Unusable => "backup unusable",
                Backup::Unseen => "backup not looked at",
            }
            .to_owned(),
        );
        if gpt.hybrid {
            words.push("hybrid MBR".to_owned());
        }
    }
    words.join(", ")
}

fn filesystem(found: &super::fs::Filesystem) -> String {
    match found.label.as_str() {
        "" => found.name.to_owned(),
        label => format!("{} labelled \"{}\"", found.name, printable(label)),
    }
}

/// What is known about a boot image, as lines.
fn boot_lines(boot: &Boot) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let description = &boot.description;
    if description.loader_at().is_some() {
        let mut words = Vec::new();
        if boot.at > 0 {
            let place = boot.chips().map_or(String::new(), |chips| format!(", where {chips} look for one"));
            words.push(format!("at {}{place}", exact(boot.at)));
        }
        words.extend(description.loader_bytes().map(|bytes| format!("{} long", size(bytes))));
        lines.push(("loader", words.join(", ")));
    }
    if let Some(family) = description.family() {
        lines.push(("for", format!("{family}, by its addresses")));
    }
    if let Some(signed) = boot.signed() {
        let word = match (signed, description.is_signed_in_part()) {
            (true, _) => "yes; whether a chip takes it, its fuses decide",
            (false, true) => "in part only",
            (false, false) => "no: a closed chip refuses it",
        };
        let encrypted = if description.is_encrypted() { "; encrypted in part or whole" } else { "" };
        lines.push(("signed", format!("{word}{encrypted}")));
    }
    for (n, part) in boot.parts().into_iter().enumerate() {
        lines.push((if n == 0 { "parts" } else { "" }, printable(&part)));
    }
    if let Some(stages) = &boot.stages {
        lines.push(("over USB", stages.to_string()));
    }
    if !boot.on_disk
        && let Some(places) = places(boot)
    {
        lines.push(("on a card", places));
    }
    for other in &boot.others {
        lines.push(("loader", format!("another one at {}", exact(other.offset))));
    }
    lines
}

/// Where a loader is written to, by the chips it is for.
fn places(boot: &Boot) -> Option<String> {
    // Flash memory of another kind has it behind a header.
    let has_header = boot.description.findings.iter().any(|finding| matches!(finding, Finding::FlexSpi(_)));
    let place = |at: u32| if at == 0 { "its start".to_owned() } else { exact(at.into()) };
    let mut on_cards: Vec<String> = boot.belongs().iter().map(|belongs| place(belongs.user)).collect();
    on_cards.dedup();
    let mut on_boot: Vec<String> = boot.belongs().iter().filter_map(|belongs| belongs.boot.map(place)).collect();
    on_boot.dedup();
    if on_cards.is_empty() || has_header {
        return None;
    }
    let mut words = format!("at {}", on_cards.join(" or "));
    if !on_boot.is_empty() {
        words.push_str(&format!("; in an eMMC boot partition at {}", on_boot.join(" or ")));
    }
    Some(words)
}

fn map_line(map: &Map, alone: bool) -> String {
    let block_map = &map.file.map;
    let mut line = if alone { String::new() } else { format!("{}: ", shown(&map.path)) };
    let digests = block_map.algorithm().map_or("no digests".to_owned(), |name| format!("{name} digests"));
    line.push_str(&format!(
        "version {}, image of {}, {} mapped ({}) in {} of {}-byte blocks, {digests}",
        map.file.version,
        exact(block_map.image_size()),
        size(block_map.mapped_bytes()),
        percent(block_map.mapped_bytes(), block_map.image_size()),
        count(block_map.ranges().len(), "range"),
        block_map.block_size(),
    ));
    line
}

/// A report for machines.
pub(crate) fn json(report: &Report) -> Value {
    let mut value = json!({
        "command": "inspect",
        "status": 0,
        "file": shown(&report.path),
        "kind": match &report.found {
            Found::Image(_) => "image",
            Found::Map => "bmap",
            Found::Sparse(_) => "sparse",
            Found::Pack(_) => "pack",
            Found::Other(_) => "other",
        },
        "description": what(report),
        "stored": report.stored,
        "warnings": report.warnings.iter().map(|warning| json!({ "kind": warning.kind, "text": warning.text }))
            .collect::<Vec<_>>(),
    });
    let mut put = |key: &str, entry: Value| {
        if let Some(object) = value.as_object_mut() {
            object.insert(key.to_owned(), entry);
        }
    };
    if let Found::Image(contents) = &report.found {
        put("format", json!(contents.format.to_string()));
        put("size", json!(contents.size));
        put("data", json!(contents.data));
        put("head", json!(contents.head_len));
        put("table", contents.table.as_ref().map_or(Value::Null, |table| table_json(table, contents)));
        put("loaders", contents.boot.as_ref().map_or(json!([]), loaders_json));
        let whole = contents.filesystems.iter().find(|(number, _)| *number == 0);
        put("filesystem", whole.map_or(Value::Null, |(_, found)| filesystem_json(found)));
    }
    if let Found::Sparse(sparse) = &report.found {
        put(
            "sparse",
            json!({
                "image_size": sparse.image_size,
                "block_size": sparse.block_size,
                "chunks": sparse.chunks,
                "raw": sparse.raw,
                "fill": sparse.fill,
                "dont_care": sparse.dont_care,
                "broken": sparse.broken,
            }),
        );
    }
    if let Found::Pack(packed) = &report.found {
        put("pack", pack::json(packed));
        put("loaders", packed.boot.as_ref().map_or(json!([]), loaders_json));
    }
    if let Some(map) = &report.map {
        let block_map = &map.file.map;
        let mut entry = json!({
            "file": shown(&map.path),
            "version": map.file.version.to_string(),
            "image_size": block_map.image_size(),
            "block_size": block_map.block_size().get(),
            "mapped_bytes": block_map.mapped_bytes(),
            "ranges": block_map.ranges().len(),
            "digests": block_map.algorithm().map(|name| name.to_string()),
        });
        if let (Found::Image(contents), Some(object)) = (&report.found, entry.as_object_mut()) {
            let left_out = contents.filesystems.iter().flat_map(|(_, found)| &found.metadata);
            let left_out: u64 = left_out.map(|(_, extent)| uncovered(block_map, *extent)).sum();
            object.insert("metadata_left_out".to_owned(), json!(left_out));
        }
        put("map", entry);
    }
    value
}

fn table_json(table: &Table, contents: &Contents) -> Value {
    let partitions = table.partitions.iter().map(|part| {
        let found = contents.filesystems.iter().find(|(number, _)| *number == part.number);
        json!({
            "number": part.number,
            "name": part.name,
            "type": part.kind.to_string(),
            "start": part.extent.start(),
            "size": part.extent.len(),
            "bootable": part.bootable,
            "filesystem": found.map(|(_, found)| filesystem_json(found)),
        })
    });
    json!({
        "kind": table.kind.to_string(),
        "sector_size": table.sector_size,
        "disk": table.gpt.as_ref().map(|gpt| gpt.disk.to_string()),
        "hybrid": table.gpt.as_ref().map(|gpt| gpt.hybrid),
        "backup_at": table.gpt.as_ref().map(|gpt| gpt.backup_at),
        "backup": table.gpt.as_ref().map(|gpt| match gpt.backup {
            Backup::Sound => "sound",
            Backup::Unusable => "unusable",
            Backup::Unseen => "unseen",
        }),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn filesystem_json(found: &super::fs::Filesystem) -> Value {
    json!({ "type": found.name, "label": found.label, "size": found.size })
}

/// The boot image first, then places where a ROM would find another.
fn loaders_json(boot: &Boot) -> Value {
    let description = &boot.description;
    let usb = boot.stages.iter().flat_map(|stages| &stages.parts);
    let first = json!({
        "offset": boot.at,
        "kind": boot.kind(),
        "chips": boot.chips(),
        "size": description.loader_bytes(),
        "family": description.family().map(|family| family.to_string()),
        "signed": boot.signed(),
        "encrypted": description.is_encrypted(),
        "parts": boot.parts(),
        "usb": usb.map(|stage| json!({
            "protocol": stage.protocol.name(),
            "offset": stage.bytes.start,
            "size": stage.bytes.len(),
        })).collect::<Vec<_>>(),
        "belongs": boot.belongs().iter().map(|place| json!({ "card": place.user, "boot": place.boot }))
            .collect::<Vec<_>>(),
        "problems": boot.problems,
    });
    let others = boot.others.iter().map(|other| {
        let container = boot.kind() == "container";
        json!({ "offset": other.offset, "kind": "other", "chips": chips_at(other.offset, container), "size": null })
    });
    std::iter::once(first).chain(others).collect()
}
