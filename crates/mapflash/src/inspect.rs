//! What a file is, what is in it, and what will go wrong with it: facts first, then judgement, then words.
//!
//! [`look`] reads a file and returns a [`Report`]; [`warn`](warnings::warn) judges it; [`print()`] and
//! [`json()`] say it. Only raw images and disks are read anywhere but at their start: unpacking gigabytes
//! to look at a superblock would not be inspecting.

pub(crate) mod boot;
pub(crate) mod card;
pub(crate) mod fs;
mod pack;
pub(crate) mod sparse;
mod warnings;
mod words;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bmap::holes::{self, Support};
use bmap::xml::{self, BmapFile};
use bmap::{BlockMap, ByteRange};
use image::table::{self, Table};
use image::{Format, Image, Kind, Options, SNIFF_LEN, Wanted, sniff};

use crate::discover;
use crate::error::AppError;
pub(crate) use warnings::Warning;
pub(crate) use words::{json, print};

/// Stands for the image as a whole where partitions are numbered.
pub(crate) const NO_PARTITION: u32 = 0;

/// A block map and where it came from.
#[derive(Debug)]
pub(crate) struct Map {
    /// Its file.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) file: BmapFile,
}

/// What is known about an image's bytes.
#[derive(Debug)]
pub(crate) struct Contents {
    /// How it is packed.
    pub(crate) format: Format,
    /// Unpacked length, where it is known without unpacking.
    pub(crate) size: Option<u64>,
    /// Bytes that are no holes, of a raw file whose filesystem can tell.
    pub(crate) data: Option<u64>,
    /// The partition table.
    pub(crate) table: Option<Table>,
    /// Why a table that is there cannot be used.
    pub(crate) table_error: Option<String>,
    /// Length of the head, which is written last.
    pub(crate) head_len: u64,
    /// The boot image that it is, or that is in its head.
    pub(crate) boot: Option<boot::Boot>,
    /// Filesystems by the number of their partition; 0 is the image as a whole.
    pub(crate) filesystems: Vec<(u32, fs::Filesystem)>,
}

/// What a file turned out to be.
#[derive(Debug)]
pub(crate) enum Found {
    /// An image, packed or not.
    Image(Box<Contents>),
    /// A block map.
    Map,
    /// An Android sparse image.
    Sparse(sparse::Sparse),
    /// An image packed for boards.
    Pack(Box<pack::Packed>),
    /// Something that is not read as an image.
    Other(Kind),
}

/// Everything found out about a file.
#[derive(Debug)]
pub(crate) struct Report {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its length as stored, or a disk's size.
    pub(crate) stored: u64,
    /// What it is.
    pub(crate) found: Found,
    /// The block map: the file itself, or the one beside the image.
    pub(crate) map: Option<Map>,
    /// What will go wrong.
    pub(crate) warnings: Vec<Warning>,
}

/// Looks at a file. `bmap` is the map to judge it with; without one it is looked for beside the file.
///
/// # Errors
/// When the file, or a map that belongs to it, cannot be read.
pub(crate) fn look(path: &Path, bmap: Option<&Path>) -> Result<Report, AppError> {
    look_with(path, || match bmap {
        Some(path) => Some(path.to_owned()),
        None => discover::find(path, discover::opens),
    })
}

/// The same of an image that will be written, with the map that it will be written by, if any.
///
/// # Errors
/// As [`look`].
pub(crate) fn look_before_writing(path: &Path, bmap: Option<&Path>) -> Result<Report, AppError> {
    look_with(path, || bmap.map(Path::to_owned))
}

fn look_with(path: &Path, map: impl FnOnce() -> Option<PathBuf>) -> Result<Report, AppError> {
    let (kind, stored) = first_look(path)?;
    let (found, map) = match kind {
        Kind::BmapXml => (Found::Map, Some(read_map(path)?)),
        Kind::AndroidSparse => {
            let failed = |error| AppError::io(format!("cannot read the sparse image {}", discover::shown(path)), error);
            let file = File::open(path).map_err(failed)?;
            (Found::Sparse(sparse::look(&file, stored).map_err(failed)?), None)
        }
        Kind::Pack => (Found::Pack(Box::new(pack::look(path)?)), None),
        kind if !kind.is_readable() => (Found::Other(kind), None),
        _ => {
            let map = map().map(|path| read_map(&path)).transpose()?;
            (Found::Image(Box::new(contents(path)?)), map)
        }
    };
    let mut report = Report { path: path.to_owned(), stored, found, map, warnings: Vec::new() };
    report.warnings = warnings::warn(&report);
    Ok(report)
}

fn read_map(path: &Path) -> Result<Map, AppError> {
    let file = xml::read(path).map_err(|source| AppError::bmap(path, source))?;
    Ok(Map { path: path.to_owned(), file })
}

fn first_look(path: &Path) -> Result<(Kind, u64), AppError> {
    // Opening by the image crate refuses pipes and folders in good words; what it does not take is told apart here.
    let failed = |source| AppError::io(format!("cannot read {}", discover::shown(path)), source);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let image = Image::open(path, &Options::default()).map_err(AppError::from)?;
        return Ok((Kind::Unknown, image.packed_size().unwrap_or(0)));
    }
    let mut first = Vec::new();
    let limit = u64::try_from(SNIFF_LEN).unwrap_or(4096);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut first)).map_err(failed)?;
    Ok((sniff(&first), metadata.len()))
}

fn contents(path: &Path) -> Result<Contents, AppError> {
    let mut image = Image::open(path, &Options::default())?;
    let (format, size) = (image.format(), image.size());
    let head = image.head(table::HEAD_WANTED)?;
    // What is shorter than we asked for is known to its end.
    let size = size.or_else(|| u64::try_from(head.len()).ok().filter(|_| head.len() < table::HEAD_WANTED));
    let file = image.file();
    let mut read_at = |at: u64, into: &mut [u8]| match file {
        Some(file) => file.read_exact_at(into, at),
        None => Err(io::Error::new(io::ErrorKind::Unsupported, "the image is packed")),
    };
    let reachable: Option<&mut table::ReadAt<'_>> = if file.is_some() { Some(&mut read_at) } else { None };
    let (table, table_error) = match table::read(&head, size, reachable) {
        Ok(table) => (table, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let mut filesystems = Vec::new();
    if let (Some(_), Some(size)) = (file, size) {
        let whole = [(NO_PARTITION, ByteRange::first(size))];
        let parts: Vec<(u32, ByteRange)> = match &table {
            Some(table) => {
                let real = table.partitions.iter().filter(|part| !part.kind.is_extended());
                real.map(|part| (part.number, part.extent)).collect()
            }
            None => whole.to_vec(),
        };
        for (number, extent) in parts {
            let Some(extent) = extent.intersect(ByteRange::first(size)) else { continue };
            // A partition that cannot be read is for reading it to report, not for this look.
            if let Ok(Some(found)) = fs::look(extent, &mut read_at) {
                filesystems.push((number, found));
            }
        }
    }
    let data = file.and_then(|file| holes::scan(file).ok()).and_then(|scan| match scan.support {
        Support::Exact => Some(scan.data.iter().map(|extent| extent.len()).sum()),
        _ => None,
    });
    let head_len = table::head_len(table.as_ref());
    let boot = if filesystems.iter().any(|(number, _)| *number == NO_PARTITION) {
        None
    } else {
        let head = match (file, size) {
            (Some(file), Some(size)) => more_of_file(file, size, head)?,
            _ if head.len() < table::HEAD_WANTED || boot::look(&head, size, table.as_ref()).is_none() => head,
            // Unpacking more is worth it only where a loader begins.
            _ => more_of_packed(path).unwrap_or(head),
        };
        boot::look(&head, size, table.as_ref())
    };
    Ok(Contents { format, size, data, table, table_error, head_len, boot, filesystems })
}

/// More of a file's start: boot images are looked at whole.
fn more_of_file(file: &File, size: u64, mut head: Vec<u8>) -> Result<Vec<u8>, AppError> {
    let (done, wanted) = (head.len(), usize::try_from(size).unwrap_or(usize::MAX).min(boot::LOOK));
    if wanted > done {
        head.resize(wanted, 0);
        let at = u64::try_from(done).unwrap_or(u64::MAX);
        file.read_exact_at(&mut head[done..], at).map_err(|error| AppError::io("cannot read", error))?;
    }
    Ok(head)
}

/// The same of a packed one. `None` if it is damaged there, which is for reading it to report, not for this look.
fn more_of_packed(path: &Path) -> Option<Vec<u8>> {
    let wanted = ByteRange::first(u64::try_from(boot::LOOK).ok()?);
    let mut reader = Image::open(path, &Options::default()).ok()?.read(Wanted::Ranges([wanted].into())).ok()?;
    let (mut head, mut done) = (vec![0; boot::LOOK], 0);
    while done < head.len() {
        match reader.read(&mut head[done..]).ok()? {
            0 => break,
            count => done += count,
        }
    }
    head.truncate(done);
    Some(head)
}

/// How much of `extent` a map leaves out, in bytes.
pub(crate) fn uncovered(map: &BlockMap, extent: ByteRange) -> u64 {
    // Searched, not walked: a filesystem has thousands of bitmaps, and a map may have a million ranges.
    let ranges = map.ranges();
    let first = ranges.partition_point(|range| map.bytes_of(range.blocks).end() <= extent.start());
    let near = ranges.iter().skip(first).map(|range| map.bytes_of(range.blocks));
    let near = near.take_while(|bytes| bytes.start() < extent.end());
    let covered: u64 = near.filter_map(|bytes| bytes.intersect(extent)).map(ByteRange::len).sum();
    extent.len().saturating_sub(covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bmap::{BlockRange, BlockSize, MappedRange};

    #[test]
    fn uncovered_bytes_are_counted_at_every_edge() {
        let range = |first, last| MappedRange { blocks: BlockRange::new(first, last).unwrap(), digest: None };
        let map = BlockMap::new(100, BlockSize::new(10).unwrap(), vec![range(1, 2), range(3, 3), range(8, 9)]).unwrap();
        for start in 0..110 {
            for end in start..120 {
                let extent = ByteRange::new(start, end).unwrap();
                let missing = (start..end).filter(|at| !(10..40).contains(at) && !(80..100).contains(at)).count();
                assert_eq!(uncovered(&map, extent), u64::try_from(missing).unwrap(), "{extent}");
            }
        }
    }
}
