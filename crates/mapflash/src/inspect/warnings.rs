//! Judgement: what about a file will make trouble, and how to avoid it.

use bmap::ByteRange;
use image::Format;
use image::table::{Problem, Table};

use super::boot::Boot;
use super::{Contents, Found, Map, Report, uncovered};
use crate::discover::shown;
use crate::render::text;

/// Something that will go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    /// A stable name for machines.
    pub(crate) kind: &'static str,
    /// A sentence for people.
    pub(crate) text: String,
}

fn warning(kind: &'static str, text: impl Into<String>) -> Warning {
    Warning { kind, text: text.into() }
}

/// Everything there is to say against a file.
pub(super) fn warn(report: &Report) -> Vec<Warning> {
    let mut list = Vec::new();
    match &report.found {
        Found::Image(contents) => {
            of_contents(contents, report.stored, &mut list);
            match &report.map {
                Some(map) => of_pair(contents, map, &mut list),
                None => without_map(contents, &mut list),
            }
        }
        Found::Map | Found::Pack(_) => {}
        Found::Sparse(sparse) => {
            if let Some(reason) = &sparse.broken {
                list.push(warning("sparse_broken", format!("the sparse image cannot be right: {reason}")));
            }
            list.push(warning(
                "not_an_image",
                "a sparse image is for fastboot; copy takes raw or packed images (simg2img unpacks it)",
            ));
        }
        Found::Other(kind) => {
            list.push(warning("not_an_image", format!("this is {kind}; it cannot be written as a disk image")));
        }
    }
    if let Some(map) = &report.map {
        of_map(map, &mut list);
    }
    list
}

fn of_contents(contents: &Contents, stored: u64, list: &mut Vec<Warning>) {
    if stored == 0 {
        list.push(warning("empty", "the file is empty"));
        return;
    }
    if let Some(error) = &contents.table_error {
        list.push(warning("table_unusable", error.clone()));
    }
    if let Some(table) = &contents.table {
        list.extend(table.problems.iter().map(|problem| warning(problem_kind(problem), problem.to_string())));
        if let Some(boot) = &contents.boot {
            let meets = |extent: ByteRange| boot.extent().is_some_and(|loader| loader.intersect(extent).is_some());
            let real = table.partitions.iter().filter(|part| !part.kind.is_extended());
            for part in real.filter(|part| meets(part.extent)) {
                let text = format!("the loader at byte {} reaches into partition {}", boot.at, part.number);
                list.push(warning("loader_in_partition", text));
            }
        }
    } else if contents.table_error.is_none() && contents.filesystems.is_empty() && contents.boot.is_none() {
        list.push(warning("no_table", "there is no partition table at its start: is this the image of a whole disk?"));
    }
    if let Some(boot) = &contents.boot {
        of_boot(boot, list);
    }
    if let Some(size) = contents.size.filter(|size| contents.table.is_some() && size % 512 != 0) {
        let text = format!("its length, {size} bytes, is no multiple of 512: it may have been cut short");
        list.push(warning("odd_length", text));
    }
    for (number, found) in &contents.filesystems {
        let room = match &contents.table {
            Some(table) => table.partitions.iter().find(|part| part.number == *number).map(|part| part.extent.len()),
            None => contents.size,
        };
        if let Some(room) = room.filter(|room| found.size > *room) {
            let place = place(*number);
            let text = format!("the {} {place} needs {} bytes and has room for {room}", found.name, found.size);
            list.push(warning("filesystem_too_large", text));
        }
    }
}

/// What is wrong with a boot image, and with its place.
fn of_boot(boot: &Boot, list: &mut Vec<Warning>) {
    for problem in &boot.problems {
        list.push(warning("loader_damaged", format!("the boot image is damaged: {problem}")));
    }
    if boot.is_misplaced()
        && let (Some(family), Some(place)) = (boot.description.family(), boot.belongs().first())
    {
        let text = format!(
            "the loader seems to be for {family}, whose ROM looks for it at byte {}; it lies at byte {}",
            place.user, boot.at
        );
        list.push(warning("loader_misplaced", text));
    }
}

fn without_map(contents: &Contents, list: &mut Vec<Warning>) {
    if contents.format != Format::Raw {
        list.push(warning(
            "no_map",
            "no block map lies beside it: all of it must be unpacked, and blocks of zeros are found by looking",
        ));
    } else if let (Some(size), Some(data)) = (contents.size, contents.data)
        && data >= size
        && size > 0
        && (contents.boot.is_none() || contents.table.is_some())
    {
        list.push(warning(
            "no_holes",
            "nothing in it is a hole: was it copied without keeping it sparse? A block map of it would list everything",
        ));
    }
}

fn of_map(map: &Map, list: &mut Vec<Warning>) {
    let block_map = &map.file.map;
    if block_map.algorithm().is_none() && !block_map.ranges().is_empty() {
        list.push(warning("no_digests", "the block map carries no digests: a damaged image will not be noticed"));
    }
    if block_map.mapped_blocks() == block_map.blocks() && block_map.blocks() > 0 {
        list.push(warning("all_mapped", "the block map lists every block: nothing will be left out"));
    }
}

/// What the image needs and the map leaves out.
fn of_pair(contents: &Contents, map: &Map, list: &mut Vec<Warning>) {
    let block_map = &map.file.map;
    if let Some(size) = contents.size.filter(|size| *size != block_map.image_size()) {
        let (longer, than) = if size > block_map.image_size() { ("longer", "than") } else { ("shorter", "than") };
        list.push(warning(
            "length_differs",
            format!(
                "the image is {longer} {than} its block map says ({size} bytes and {}): they do not belong together",
                block_map.image_size()
            ),
        ));
        return;
    }
    let mut check = |kind, what: String, extent: ByteRange| {
        let missing = uncovered(block_map, extent);
        if missing > 0 {
            list.push(warning(
                kind,
                format!(
                    "{} does not cover {what}: {missing} bytes keep what the target held before; use --holes zero",
                    shown(&map.path)
                ),
            ));
        }
    };
    if let Some(table) = &contents.table {
        check("table_unmapped", "the partition table".to_owned(), front(table));
        if let Some(place) = contents.size.and_then(|size| table.backup_place(size)) {
            let unusable = table.problems.iter().any(|problem| matches!(problem, Problem::BackupDamaged { .. }));
            if !unusable {
                check("backup_unmapped", "the backup partition table".to_owned(), place);
            }
        }
    }
    if let Some(boot) = &contents.boot {
        if let Some(extent) = boot.extent().or(ByteRange::at(boot.at, 512)) {
            check("loader_unmapped", format!("all of the loader at byte {}", boot.at), extent);
        }
        for other in boot.others.iter().filter_map(|other| ByteRange::at(other.offset, 512)) {
            check("loader_unmapped", format!("all of the loader at byte {}", other.start()), other);
        }
    }
    for (number, found) in &contents.filesystems {
        // One line for each kind of metadata, not one for each of a thousand bitmaps.
        let mut kinds: Vec<&str> = found.metadata.iter().map(|(what, _)| *what).collect();
        kinds.dedup();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let extents = found.metadata.iter().filter(|(what, _)| *what == kind);
            let missing: u64 = extents.map(|(_, extent)| uncovered(block_map, *extent)).sum();
            if missing > 0 {
                let text = format!(
                    "{} leaves out {missing} bytes of the {kind} of the {} {}: on a target that is not empty it will \
                     be damaged; use --holes zero",
                    shown(&map.path),
                    found.name,
                    place(*number)
                );
                list.push(warning("metadata_unmapped", text));
            }
        }
    }
}

/// MBR, header and entries.
fn front(table: &Table) -> ByteRange {
    let end = table.gpt.as_ref().map_or(512, |gpt| gpt.entries.end().min(image::table::HEAD_MAX));
    ByteRange::first(end)
}

fn place(number: u32) -> String {
    if number == 0 { "in the image".to_owned() } else { format!("in partition {number}") }
}

fn problem_kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::PrimaryDamaged(_) => "table_damaged",
        Problem::BackupDamaged { .. } => "backup_missing",
        Problem::BackupOutside { .. } => "backup_outside",
        Problem::BackupNotAtEnd { .. } => "backup_not_at_end",
        Problem::Overlap { .. } => "partitions_overlap",
        Problem::PartitionOutside { .. } => "partition_outside",
        Problem::PartitionInTable { .. } => "partition_in_table",
        Problem::NoProtectiveMbr => "no_protective_mbr",
        Problem::StaleGpt => "stale_gpt",
        _ => "table_odd",
    }
}

/// A warning as it is printed.
impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&text::printable(&self.text))
    }
}
