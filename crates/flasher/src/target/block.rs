//! A block device: an SD card, an eMMC in a reader, a USB disk, or one of their partitions.
//!
//! It is opened for us alone (`O_EXCL`), after a look at what uses it, so that a refusal can name the mount. Data goes
//! out by direct I/O: a transfer is done when the device has taken it, so progress is honest and nothing is left to
//! flush at the end but the device's own cache. Maps with odd block sizes, whose pieces share pages, and maps of very
//! many small ranges are written through the page cache instead, paced so that it stays nearly clean.
//!
//! Left out: formatting, `BLKDISCARD` (it promises nothing about what is read afterwards).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bmap::ByteRange;
use nix::errno::Errno;
use nix::fcntl::FallocateFlags;

use super::medium::Medium;
use super::pacing::Pacing;
use super::{Geometry, Refusal, Target, TargetError, Zeroed, extent, note, wide};
use crate::disk::{DeviceNumber, Disk, System};
use crate::event::{Note, Observer};
use crate::plan::Plan;
use crate::queue::Tuning;
use crate::sys;

/// Alignment of direct transfers: the largest sector in use, and a page, so that direct and buffered writes of one job
/// never share one.
const PAGE: u64 = 4096;

/// A block device that an image is written to. Dropping it restores its queue settings.
#[derive(Debug)]
pub struct BlockTarget {
    path: PathBuf,
    /// Through the page cache: unaligned ends, odd block sizes, ioctls. Holds the device for us alone.
    buffered: File,
    direct: File,
    medium: Medium,
    disk: Disk,
    system: System,
    logical_block: u64,
    write_direct: AtomicBool,
    can_zero: AtomicBool,
    pacing: Pacing,
    tuning: Tuning,
}

impl BlockTarget {
    /// Opens the block device `path` for writing.
    ///
    /// # Errors
    /// It is refused when it or one of its partitions is mounted, swap or held, when it is read-only, when the running
    /// system lives on it, or when somebody else has it open for himself.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        Self::open_on(path, System::default())
    }

    fn open_on(path: &Path, system: System) -> Result<Self, TargetError> {
        let target = path.display().to_string();
        let refused = |refusal| TargetError::Refused { target: target.clone(), refusal };
        let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TargetError::Missing { target: target.clone(), source },
            _ => TargetError::Open { target: target.clone(), source },
        })?;
        if !metadata.file_type().is_block_device() {
            return Err(refused(Refusal::WrongKind("not a block device")));
        }
        let failed = |source: io::Error| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBUSY) => refused(Refusal::Busy),
            Some(Errno::EROFS) => refused(Refusal::ReadOnly),
            Some(Errno::ENXIO | Errno::ENODEV | Errno::ENOMEDIUM) => {
                TargetError::Missing { target: target.clone(), source }
            }
            _ => TargetError::Open { target: target.clone(), source },
        };
        let disk = system.disk(DeviceNumber::from_raw(metadata.rdev())).map_err(&failed)?;
        if disk.system {
            return Err(refused(Refusal::SystemDisk));
        }
        if !disk.uses.is_empty() {
            return Err(refused(Refusal::InUse(disk.uses)));
        }
        if disk.read_only {
            return Err(refused(Refusal::ReadOnly));
        }
        let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(&failed);
        let buffered = open(nix::libc::O_EXCL)?;
        let direct = open(nix::libc::O_DIRECT)?;
        for file in [&buffered, &direct] {
            // The name may have come to mean another device since we looked.
            if file.metadata().map_err(&failed)?.rdev() != metadata.rdev() {
                return Err(refused(Refusal::Busy));
            }
        }
        if sys::read_only(&buffered).map_err(&failed)? {
            return Err(refused(Refusal::ReadOnly));
        }
        let medium = buffered.try_clone().and_then(|file| Medium::of(path, file)).map_err(&failed)?;
        let logical_block = u64::from(sys::logical_block(&buffered).map_err(&failed)?);
        if logical_block > PAGE {
            return Err(refused(Refusal::LargeSectors(logical_block)));
        }
        Ok(Self {
            path: path.to_owned(),
            buffered,
            direct,
            medium,
            disk,
            system,
            logical_block,
            write_direct: AtomicBool::new(true),
            can_zero: AtomicBool::new(true),
            pacing: Pacing::default(),
            tuning: Tuning::default(),
        })
    }

    /// What the kernel says about it.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What it is, as [`Medium::identity`] tells it.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.medium.identity()
    }

    /// The size of its sectors in bytes.
    #[must_use]
    pub fn logical_block(&self) -> u64 {
        self.logical_block
    }

    /// What a program calls that must end without dropping its targets: puts the device's queue settings back, or waits
    /// for who is just doing that, and lets nobody change them again.
    pub fn at_exit(&self) -> impl FnOnce() + Send + use<> {
        let tuning = self.tuning.clone();
        move || tuning.end()
    }

    fn whole(&self, action: &'static str) -> impl Fn(io::Error) -> TargetError + '_ {
        move |source| TargetError::Whole { target: self.name(), action, source }
    }

    fn io(&self, action: &'static str, extent: ByteRange) -> impl Fn(io::Error) -> TargetError + '_ {
        move |source| TargetError::Io { target: self.name(), action, extent, source }
    }

    fn write_through_cache(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.buffered.write_all_at(bytes, at)?;
        self.pacing.wrote(&self.buffered, extent(at, bytes.len()))
    }
}

impl Drop for BlockTarget {
    fn drop(&mut self) {
        self.tuning.restore(&());
    }
}

impl Target for BlockTarget {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            size: Some(self.medium.size()),
            fresh: false,
            partition: self.disk.partition_of.is_some(),
            // A command per megabyte at the least: smaller ones cost cards more than writing the zeros.
            zero_granule: 1 << 20,
            readable: true,
            depth: 2,
        }
    }

    fn begin(&self, plan: &Plan, observer: &dyn Observer) -> Result<(), TargetError> {
        // Thousands of small transfers, each waited for, are slow: there the page cache may gather them.
        let direct = plan.alignment().is_multiple_of(PAGE) && !plan.is_fragmented();
        self.write_direct.store(direct, Ordering::Relaxed);
        if let Ok(folder) = self.system.queue_folder(self.disk.number) {
            self.tuning.apply(&folder, observer);
        }
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let failed = self.io("write", extent(at, bytes.len()));
        let aligned = at.is_multiple_of(PAGE) && bytes.as_ptr().addr().is_multiple_of(4096);
        let direct = if aligned && self.write_direct.load(Ordering::Relaxed) { bytes.len() / 4096 * 4096 } else { 0 };
        let (head, tail) = bytes.split_at(direct);
        if !head.is_empty() {
            self.direct.write_all_at(head, at).map_err(&failed)?;
        }
        if !tail.is_empty() {
            self.write_through_cache(at + wide(direct), tail).map_err(&failed)?;
        }
        Ok(())
    }

    fn zero(&self, extent: ByteRange) -> Result<Zeroed, TargetError> {
        let sector = self.logical_block;
        let aligned = extent.start().is_multiple_of(sector) && extent.end().is_multiple_of(sector);
        if !aligned || !self.can_zero.load(Ordering::Relaxed) {
            return Ok(Zeroed::Unsupported);
        }
        let (Ok(start), Ok(len)) = (i64::try_from(extent.start()), i64::try_from(extent.len())) else {
            return Ok(Zeroed::Unsupported);
        };
        // On a block device the kernel passes this on only as a command that leaves zeros, and refuses otherwise.
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match nix::fcntl::fallocate(self.buffered.as_fd(), flags, start, len) {
            Ok(()) => Ok(Zeroed::Guaranteed),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                self.can_zero.store(false, Ordering::Relaxed);
                Ok(Zeroed::Unsupported)
            }
            Err(errno) => Err(self.io("zero", extent)(errno.into())),
        }
    }

    fn sync(&self) -> Result<(), TargetError> {
        self.buffered.sync_all().map_err(self.whole("sync"))
    }

    fn read_back(&self, at: u64, into: &mut [u8]) -> Result<(), TargetError> {
        self.medium.read_back(at, into)
    }

    fn commit(&self, _length: u64, observer: &dyn Observer) -> Result<(), TargetError> {
        self.tuning.restore(observer);
        if self.disk.partition_of.is_some() {
            return Ok(());
        }
        match sys::reread_table(&self.buffered) {
            Ok(()) => {}
            // Loop devices without partition scanning, and disks that cannot have partitions.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {}
            Err(error) => note(observer, Note::TableNotReread { error: std::sync::Arc::new(error) }),
        }
        Ok(())
    }
}
