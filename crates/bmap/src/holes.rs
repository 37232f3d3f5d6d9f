//! Maps from the holes of a file: what a filesystem says was never written.
//!
//! Linux answers `lseek` with SEEK_DATA and SEEK_HOLE (lseek(2)); no block is read for it. What it calls data may be
//! more than was written (filesystems round to their blocks, and may call anything data), never less. Preallocated
//! blocks that were never written are holes on ext4 and xfs. FIEMAP, which older tools use, is left out: it calls those
//! blocks data, and must not be trusted before the file was synced.
//!
//! # Why no fsync first on common filesystems
//! ext4, xfs, btrfs and tmpfs take dirty pages in memory for data when they answer, so a file that was written a moment
//! ago is mapped right as it is, and an fsync would only make the caller wait for the disk. Any other filesystem is
//! synced first: ZFS may call all of a dirty file data, and behind FUSE or a network the answer comes from a server that
//! has not seen our pages.
//!
//! # Filesystems that cannot tell
//! A filesystem without support of its own refuses (EINVAL) or leaves it to the kernel's generic answer: all of the
//! file is data. The latter looks exactly like a file without holes, unless it has clearly fewer blocks allocated than
//! it is long ([`Support::CannotTell`]). Such a map is right, but maps the holes too. Compressing filesystems that count
//! compressed blocks (ZFS, f2fs) look the same, so say "perhaps" to users.

mod zero;

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use nix::errno::Errno;
use nix::sys::statfs::{self, BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC};
use nix::unistd::{self, Whence, lseek};

use crate::map::{BlockMap, MapError, MappedRange};
use crate::units::{BlockRange, BlockSize, ByteRange};

pub use zero::is_zero;

/// The most extents we take from one file; each costs 16 bytes. A file of 16 GiB with every other block written has half
/// as many.
pub const MAX_EXTENTS: usize = 1 << 22;

/// How much fewer bytes than its length a file without holes may have allocated: small files may live in their inode.
const ALLOCATION_SLACK: u64 = 64 << 10;

/// Whether the filesystem knows the holes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does, as far as can be seen.
    Exact,
    /// It calls all of the file data, though only so many bytes are allocated for it.
    CannotTell {
        /// Bytes allocated.
        allocated: u64,
    },
}

/// Where a file holds data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Length of the file in bytes.
    pub size: u64,
    /// The data: ascending, none empty, no two touching, all inside the file.
    pub data: Vec<ByteRange>,
    /// Whether to believe that all of it is data.
    pub support: Support,
}

/// Why holes could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HolesError {
    /// A directory, device, pipe or socket: only regular files have holes.
    #[error("{0} has no holes to ask for; only a regular file has")]
    NotAFile(&'static str),
    /// The filesystem has no SEEK_HOLE.
    #[error("the filesystem cannot tell where a file has holes (SEEK_HOLE is not supported)")]
    Unsupported,
    /// A system call failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The file became shorter or longer while it was looked at.
    #[error("the file changed from {before} to {after} bytes while its holes were looked for")]
    Changed {
        /// Length before, in bytes.
        before: u64,
        /// Length behind.
        after: u64,
    },
    /// An answer that lies before the place asked about.
    #[error("the filesystem answered {answer} when asked what begins at byte {asked} or behind")]
    Backwards {
        /// The place asked about.
        asked: u64,
        /// The answer.
        answer: u64,
    },
    /// More extents than [`MAX_EXTENTS`].
    #[error("the file is in more than {MAX_EXTENTS} pieces")]
    TooManyExtents,
    /// Extents that make no map; cannot come from a scan of ours.
    #[error("the extents make no map of the file")]
    Map(#[from] MapError),
}

impl Scan {
    /// The map of the file in blocks of `block_size`: blocks with any data in them are mapped, neighbours joined.
    ///
    /// # Errors
    /// [`HolesError::Map`] if the fields were changed so that they contradict each other.
    pub fn map(&self, block_size: BlockSize) -> Result<BlockMap, HolesError> {
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        for extent in self.data.iter().filter(|extent| !extent.is_empty()) {
            let (first, last) = (extent.start() / block_size.bytes(), (extent.end() - 1) / block_size.bytes());
            match blocks.last_mut() {
                // Only a neighbour behind is joined: what comes before is out of order, for the map to refuse.
                Some((start, end)) if first >= *start && first <= end.saturating_add(1) => *end = last.max(*end),
                _ => blocks.push((first, last)),
            }
        }
        let ranges = blocks.into_iter().filter_map(|(first, last)| BlockRange::new(first, last));
        let ranges = ranges.map(|blocks| MappedRange { blocks, digest: None }).collect();
        Ok(BlockMap::new(self.size, block_size, ranges)?)
    }
}

/// The data of a file, in bytes: see [`scan`].
///
/// # Errors
/// As [`scan`].
pub fn extents(file: &File) -> Result<Vec<ByteRange>, HolesError> {
    Ok(scan(file)?.data)
}

/// The map of a file by its holes: see [`scan`] and [`Scan::map`]. The digests are for others to fill in.
///
/// # Errors
/// As [`scan`].
pub fn map(file: &File, block_size: BlockSize) -> Result<BlockMap, HolesError> {
    scan(file)?.map(block_size)
}

/// Asks the filesystem where `file` holds data. The file's position is moved and put back, so nobody else may use the
/// position meanwhile (positioned reads are no matter).
///
/// # Errors
/// [`HolesError`]; [`HolesError::Unsupported`] when the filesystem has no answer at all.
pub fn scan(file: &File) -> Result<Scan, HolesError> {
    let failed = |doing, errno: Errno| HolesError::Io { doing, source: errno.into() };
    let before = metadata(file)?;
    regular(&before)?;
    if !sees_dirty_pages(file) {
        match unistd::fsync(file) {
            // EINVAL and EROFS: this filesystem has no fsync, being read-only like squashfs, so nothing waits for one.
            Ok(()) | Err(Errno::EINVAL | Errno::EROFS) => {}
            Err(errno) => return Err(failed("sync the file", errno)),
        }
    }
    let position = lseek(file, 0, Whence::SeekCur).map_err(|errno| failed("tell the file's position", errno))?;
    let size = before.len();
    let data = walk(size, |from, edge| {
        let whence = match edge {
            Edge::Data => Whence::SeekData,
            Edge::Hole => Whence::SeekHole,
        };
        // Lengths of files fit the offset type by definition.
        let from = i64::try_from(from).map_err(|_| failed("seek past 63 bits", Errno::EOVERFLOW))?;
        match lseek(file, from, whence) {
            Ok(found) => Ok(u64::try_from(found).ok()),
            Err(Errno::ENXIO) => Ok(None),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Err(HolesError::Unsupported),
            Err(errno) => Err(failed("look for holes", errno)),
        }
    });
    lseek(file, position, Whence::SeekSet).map_err(|errno| failed("put back the file's position", errno))?;
    let data = data?;
    let after = metadata(file)?;
    if after.len() != size {
        return Err(HolesError::Changed { before: size, after: after.len() });
    }
    let support = support(size, &data, after.blocks());
    Ok(Scan { size, data, support })
}

/// The block size that `create` uses for a map of this file: the filesystem's (statfs(2), `f_bsize`), else the one it
/// likes best for reading (`st_blksize`), else 4096. Sizes outside 512 bytes to 1 MiB are taken for none: network
/// filesystems name transfer sizes here, and bmaptool fails above 1 MiB.
#[must_use]
pub fn block_size_of(file: &File) -> BlockSize {
    let sane = |bytes: u32| (512..=1 << 20).contains(&bytes).then(|| BlockSize::new(bytes)).flatten();
    let filesystem = statfs::fstatfs(file).ok().and_then(|stat| u32::try_from(stat.block_size()).ok()).and_then(sane);
    let best = || file.metadata().ok().and_then(|metadata| u32::try_from(metadata.blksize()).ok()).and_then(sane);
    filesystem.or_else(best).unwrap_or(BlockSize::DEFAULT)
}

fn metadata(file: &File) -> Result<Metadata, HolesError> {
    file.metadata().map_err(|source| HolesError::Io { doing: "look at the file", source })
}

fn regular(metadata: &Metadata) -> Result<(), HolesError> {
    let kind = metadata.file_type();
    match kind {
        _ if kind.is_file() => Ok(()),
        _ if kind.is_dir() => Err(HolesError::NotAFile("a directory")),
        _ if kind.is_block_device() => Err(HolesError::NotAFile("a block device")),
        _ => Err(HolesError::NotAFile("a device, pipe or socket")),
    }
}

/// Whether the filesystem is one that counts pages not yet written as data.
fn sees_dirty_pages(file: &File) -> bool {
    let known = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];
    statfs::fstatfs(file).is_ok_and(|stat| known.contains(&stat.filesystem_type()))
}

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Data,
    Hole,
}

/// Collects the data of a file of `size` bytes. `next` gives the first byte at or behind a place that is data or hole,
/// `None` behind the last one. Answers past `size` are cut there: the file may grow.
fn walk(
    size: u64,
    mut next: impl FnMut(u64, Edge) -> Result<Option<u64>, HolesError>,
) -> Result<Vec<ByteRange>, HolesError> {
    let mut data: Vec<ByteRange> = Vec::new();
    let mut position = 0;
    // Counting questions rather than extents ends every conversation, whatever the answers are.
    for _ in 0..MAX_EXTENTS {
        if position >= size {
            return Ok(data);
        }
        let Some(start) = next(position, Edge::Data)?.filter(|start| *start < size) else {
            return Ok(data);
        };
        if start < position {
            return Err(HolesError::Backwards { asked: position, answer: start });
        }
        // A file has a hole at its end, so "none" says that it became shorter; the caller will see that.
        let end = next(start, Edge::Hole)?.unwrap_or(size).min(size);
        let Some(extent) = ByteRange::new(start, end) else {
            return Err(HolesError::Backwards { asked: start, answer: end });
        };
        match data.last_mut() {
            Some(last) if last.end() == start => *last = ByteRange::new(last.start(), end).unwrap_or(extent),
            _ if extent.is_empty() => {}
            _ => data.push(extent),
        }
        // Data that is a hole at once can only be a race with somebody who punches; go on, but do go on.
        position = end.max(position + 1);
    }
    Err(HolesError::TooManyExtents)
}

/// `blocks` are `st_blocks`, of 512 bytes each on Linux whatever the filesystem's own are (stat(2)).
fn support(size: u64, data: &[ByteRange], blocks: u64) -> Support {
    let allocated = blocks.saturating_mul(512);
    let all_data = data.first().is_some_and(|extent| extent.len() == size);
    if all_data && allocated.saturating_add(ALLOCATION_SLACK) < size {
        Support::CannotTell { allocated }
    } else {
        Support::Exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    /// Answers as a filesystem with this data would, not cut at the file's end.
    fn filesystem(data: &[(u64, u64)], size: u64) -> impl FnMut(u64, Edge) -> Result<Option<u64>, HolesError> + '_ {
        move |from, edge| {
            let inside = data.iter().find(|(start, end)| (*start..*end).contains(&from));
            let next = data.iter().map(|(start, _)| *start).find(|start| *start >= from);
            Ok(match (edge, inside) {
                (Edge::Data, Some(_)) => Some(from),
                (Edge::Data, None) => next,
                (Edge::Hole, Some((_, end))) => Some(*end),
                (Edge::Hole, None) => (from < size).then_some(from),
            })
        }
    }

    #[test]
    fn extents_are_cut_at_the_end_and_joined() {
        let data = walk(100, filesystem(&[(0, 10), (10, 20), (30, 40), (90, 128)], 100)).unwrap();
        assert_eq!(data, [range(0, 20), range(30, 40), range(90, 100)]);
        assert_eq!(walk(100, filesystem(&[], 100)).unwrap(), []);
        assert_eq!(walk(0, |_, _| panic!("an empty file is not asked about")).unwrap(), []);
    }

    #[test]
    fn nonsense_from_the_filesystem_ends_in_an_error_and_never_in_a_loop() {
        let back = walk(100, |from, _| Ok(Some(from.saturating_sub(1))));
        assert!(matches!(back, Err(HolesError::Backwards { asked: 1, answer: 0 })), "{back:?}");
        let back = walk(100, |from, edge| Ok(Some(if edge == Edge::Data { from } else { 50 })));
        assert!(matches!(back, Err(HolesError::Backwards { asked: 51, answer: 50 })), "{back:?}");
        // Every byte is data and a hole at once: nothing, after a hundred questions.
        assert_eq!(walk(100, |from, _| Ok(Some(from))).unwrap(), []);
        let shrunk = walk(100, |from, edge| Ok((edge == Edge::Data).then_some(from))).unwrap();
        assert_eq!(shrunk, [range(0, 100)]);
        for step in [0, 1] {
            let many = walk(u64::MAX, |from, _| Ok(Some(from + step)));
            assert!(matches!(many, Err(HolesError::TooManyExtents)));
        }
    }

    #[test]
    fn a_filesystem_that_calls_holes_data_is_found_out() {
        let size = 1 << 30;
        assert_eq!(support(size, &[range(0, size)], 8), Support::CannotTell { allocated: 4096 });
        assert_eq!(support(size, &[range(0, size)], size / 512), Support::Exact);
        assert_eq!(support(size, &[range(0, size - 4096)], 8), Support::Exact);
        assert_eq!(support(size, &[], 0), Support::Exact);
        assert_eq!(support(100, &[range(0, 100)], 0), Support::Exact);
    }

    #[test]
    fn extents_are_rounded_outwards_to_blocks_and_joined() {
        let scan = Scan {
            size: 10 * 4096 + 1,
            data: vec![range(1, 2), range(4095, 4097), range(3 * 4096, 4 * 4096), range(10 * 4096, 10 * 4096 + 1)],
            support: Support::Exact,
        };
        let blocks = |bytes| -> Vec<String> {
            let map = scan.map(BlockSize::new(bytes).unwrap()).unwrap();
            map.ranges().iter().map(|range| range.blocks.to_string()).collect()
        };
        assert_eq!(blocks(4096), ["0-1", "3", "10"]);
        assert_eq!(blocks(1 << 20), ["0"]);
        assert_eq!(blocks(512), ["0", "7-8", "24-31", "80"]);
        assert_eq!(blocks(1), ["1", "4095-4096", "12288-16383", "40960"]);
        let wrong = Scan { size: 5, ..scan.clone() };
        assert!(matches!(wrong.map(BlockSize::DEFAULT), Err(HolesError::Map(_))));
    }
}
