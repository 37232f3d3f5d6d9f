//! Reading what really is on a medium, past the caches of the host.
//!
//! Direct I/O where the kernel offers it; elsewhere the page cache is asked to forget the bytes first. On a filesystem
//! that lives in memory the cache is the medium.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use bmap::ByteRange;
use image::buffer::{ALIGNMENT, AlignedBuffer};
use nix::fcntl::PosixFadviseAdvice;

use super::{Refusal, TargetError, wide};

/// Alignment of direct transfers in the file or device: the largest sector in use.
const SECTOR: u64 = 4096;

/// A file or block device open for reading what its medium holds.
#[derive(Debug)]
pub struct Medium {
    name: String,
    cached: File,
    /// Past the page cache; `None` where the filesystem cannot.
    direct: Option<File>,
    size: u64,
    identity: (u64, u64),
    is_device: bool,
}

impl Medium {
    /// Opens a regular file or block device for reading; others may have it open or mounted.
    ///
    /// # Errors
    /// What is missing, cannot be opened, or is neither file nor block device.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        let name = path.display().to_string();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => TargetError::Missing { target: name.clone(), source },
            _ => TargetError::Open { target: name.clone(), source },
        };
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let refusal =
                Refusal::WrongKind(if kind.is_dir() { "a directory" } else { "a pipe, socket or character device" });
            return Err(TargetError::Refused { target: name, refusal });
        }
        let cached = File::open(path).map_err(failed)?;
        Self::of(path, cached).map_err(failed)
    }

    /// The medium behind an open file.
    pub(super) fn of(path: &Path, cached: File) -> io::Result<Self> {
        let metadata = cached.metadata()?;
        let is_device = metadata.file_type().is_block_device();
        let identity = if is_device { (0, metadata.rdev()) } else { (metadata.dev(), metadata.ino()) };
        let size = if is_device { (&cached).seek(SeekFrom::End(0))? } else { metadata.len() };
        let direct = OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECT).open(path).ok();
        // The name may have come to mean something else in between.
        let same = |other: &File| {
            other
                .metadata()
                .is_ok_and(|m| (m.dev(), m.ino()) == (metadata.dev(), metadata.ino()) && m.rdev() == metadata.rdev())
        };
        let direct = direct.filter(same);
        Ok(Self { name: path.display().to_string(), cached, direct, size, identity, is_device })
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length in bytes when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a block device rather than a file.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// What it is, to tell whether two names mean the same: device and inode number of a file; 0 and its own number of
    /// a block device.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Fills `into` with what the medium holds from offset `at` on. Fastest when `at` and the address of `into` are
    /// multiples of 4096.
    ///
    /// # Errors
    /// When not all of it could be read.
    pub fn read_back(&self, at: u64, into: &mut [u8]) -> Result<(), TargetError> {
        let extent = ByteRange::at(at, wide(into.len())).unwrap_or(ByteRange::first(0));
        let failed = |source| TargetError::Io { target: self.name.clone(), action: "read back", extent, source };
        let done = match &self.direct {
            Some(direct) => match read_direct(direct, at, into) {
                // Some filesystems open with O_DIRECT and refuse each transfer.
                Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) && !self.is_device => false,
                result => result.map(|()| true).map_err(failed)?,
            },
            None => false,
        };
        if done { Ok(()) } else { self.read_dropping_cache(at, into).map_err(failed) }
    }

    fn read_dropping_cache(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let bad = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (start, len) = (i64::try_from(at).map_err(bad)?, i64::try_from(into.len()).map_err(bad)?);
        let drop = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        nix::fcntl::posix_fadvise(self.cached.as_fd(), start, len, drop)?;
        self.cached.read_exact_at(into, at)
    }
}

/// Direct reads of whole sectors: straight into `into` where it is aligned, the rest by way of a buffer.
fn read_direct(direct: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
    let aligned = at.is_multiple_of(SECTOR) && into.as_ptr().addr().is_multiple_of(ALIGNMENT);
    let whole = if aligned { into.len() / ALIGNMENT * ALIGNMENT } else { 0 };
    let (front, mut rest) = into.split_at_mut(whole);
    direct.read_exact_at(front, at)?;
    let mut at = at.saturating_add(wide(whole));
    if rest.is_empty() {
        return Ok(());
    }
    let mut sectors = AlignedBuffer::new(1 << 20);
    while !rest.is_empty() {
        let skip = at % SECTOR;
        let len = skip.saturating_add(wide(rest.len())).next_multiple_of(SECTOR).min(wide(sectors.len()));
        let bad = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (skip, len) = (usize::try_from(skip).map_err(bad)?, usize::try_from(len).map_err(bad)?);
        // The last sector of a file may be short, and a device may end within 4096 bytes.
        let got = direct.read_at(sectors.get_mut(..len).unwrap_or_default(), at - wide(skip))?;
        let part = sectors.get(skip..got).filter(|part| !part.is_empty());
        let part = part.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let taken = part.len().min(rest.len());
        let (now, later) = rest.split_at_mut(taken);
        now.copy_from_slice(part.get(..taken).unwrap_or_default());
        rest = later;
        at = at.saturating_add(wide(taken));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// Every combination of odd start, odd end and odd address, on whatever filesystems are there.
    #[test]
    fn any_part_can_be_read() {
        let content: Vec<u8> = (0..50_001_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for folder in [std::env::temp_dir(), "/dev/shm".into()].into_iter().filter(|folder| folder.exists()) {
            let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
            file.write_all(&content).unwrap();
            file.as_file().sync_all().unwrap();
            let medium = Medium::open(file.path()).unwrap();
            for start in [0_usize, 1, 512, 4096, 5000, 40_960] {
                for end in [start, start + 1, 8192.max(start), 45_056.max(start), 50_000, 50_001] {
                    for shift in [0_usize, 3] {
                        let mut buffer = AlignedBuffer::new(end - start + shift);
                        medium.read_back(start.try_into().unwrap(), &mut buffer[shift..]).unwrap();
                        assert!(buffer[shift..] == content[start..end], "{start}..{end} shifted by {shift}");
                    }
                }
            }
            let mut past = [0; 2];
            assert!(medium.read_back(50_000, &mut past).is_err());
        }
    }

    #[test]
    fn only_files_and_devices_are_media() {
        assert!(matches!(Medium::open(Path::new("/")), Err(TargetError::Refused { .. })));
        assert!(matches!(Medium::open(Path::new("/dev/null")), Err(TargetError::Refused { .. })));
        assert!(matches!(Medium::open(Path::new("/nonexistent")), Err(TargetError::Missing { .. })));
    }
}
