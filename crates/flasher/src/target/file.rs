//! A regular file, or a character device such as `/dev/null`.
//!
//! A new or emptied file gets exactly the image's length and holes where the image has them. A file opened with
//! [`FileTarget::open_disk`] is used as if it were a disk: it keeps its length and whatever is not written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bmap::ByteRange;
use nix::fcntl::FallocateFlags;

use super::medium::Medium;
use super::pacing::Pacing;
use super::{Geometry, Refusal, Target, TargetError, Zeroed, extent};
use crate::disk::{System, Use};
use crate::event::Observer;
use crate::plan::Plan;

/// A file that an image is written to.
#[derive(Debug)]
pub struct FileTarget {
    path: PathBuf,
    file: File,
    /// The same file for reading back; a character device has none.
    medium: Option<Medium>,
    use_as: UseAs,
    pacing: Pacing,
    /// How far the image's bytes and zeros have come: zeros at the end do not make a file longer by themselves.
    reached: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UseAs {
    /// Emptied first; ends with the image's length.
    Fresh,
    /// Keeps this length and what is not written.
    Disk(u64),
    /// A character device.
    Character,
}

/// The unit in which zeros are left out: a page, which every filesystem can keep as a hole.
const PAGE: u64 = 4096;

impl FileTarget {
    /// Opens or makes `path` to hold an image. An existing file is emptied, but only when writing begins.
    ///
    /// # Errors
    /// Directories, pipes, sockets and block devices are refused; so is what cannot be opened for writing.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        Self::open_as(
            path,
            true,
            |metadata| {
                if metadata.file_type().is_char_device() { UseAs::Character } else { UseAs::Fresh }
            },
        )
    }

    /// Opens an existing regular file to be written like a disk of its size.
    ///
    /// # Errors
    /// As [`FileTarget::open`]; the file must exist.
    pub fn open_disk(path: &Path) -> Result<Self, TargetError> {
        Self::open_as(path, false, |metadata| UseAs::Disk(metadata.len()))
    }

    fn open_as(path: &Path, create: bool, use_as: impl Fn(&std::fs::Metadata) -> UseAs) -> Result<Self, TargetError> {
        let target = path.display().to_string();
        let refused = |refusal| TargetError::Refused { target: target.clone(), refusal };
        // Looked at before it is opened: opening a pipe waits for its other end.
        match std::fs::metadata(path) {
            Ok(metadata) => {
                let kind = metadata.file_type();
                if kind.is_dir() {
                    return Err(refused(Refusal::WrongKind("a directory")));
                } else if kind.is_fifo() || kind.is_socket() {
                    return Err(refused(Refusal::WrongKind("a pipe or socket")));
                } else if kind.is_block_device() {
                    return Err(refused(Refusal::WrongKind("a block device")));
                }
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound && !create => {
                return Err(TargetError::Missing { target, source });
            }
            Err(_) => {}
        }
        let failed = |source: io::Error| match source.raw_os_error().map(nix::errno::Errno::from_raw) {
            Some(nix::errno::Errno::EROFS) => refused(Refusal::ReadOnly),
            _ => TargetError::Open { target: target.clone(), source },
        };
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path);
        let file = file.map_err(&failed)?;
        let metadata = file.metadata().map_err(&failed)?;
        let use_as = use_as(&metadata);
        let medium = match use_as {
            UseAs::Character => None,
            _ => Some(file.try_clone().and_then(|file| Medium::of(path, file)).map_err(&failed)?),
        };
        let held = medium.as_ref().and_then(|medium| System::default().loop_on(medium.identity()));
        if let Some(by) = held {
            return Err(refused(Refusal::InUse(vec![Use::Held { device: path.to_owned(), by }])));
        }
        Ok(Self { path: path.to_owned(), file, medium, use_as, pacing: Pacing::default(), reached: AtomicU64::new(0) })
    }

    /// What it is, as [`Medium::identity`] tells it; `None` for a character device.
    #[must_use]
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.medium.as_ref().map(Medium::identity)
    }

    fn whole(&self, action: &'static str) -> impl Fn(io::Error) -> TargetError + '_ {
        move |source| TargetError::Whole { target: self.name(), action, source }
    }

    fn io(&self, action: &'static str, extent: ByteRange) -> impl Fn(io::Error) -> TargetError + '_ {
        move |source| TargetError::Io { target: self.name(), action, extent, source }
    }
}

impl Target for FileTarget {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            size: if let UseAs::Disk(size) = self.use_as { Some(size) } else { None },
            fresh: self.use_as == UseAs::Fresh,
            partition: self.use_as == UseAs::Character,
            zero_granule: PAGE,
            readable: self.use_as != UseAs::Character,
            depth: 2,
        }
    }

    fn begin(&self, plan: &Plan, _observer: &dyn Observer) -> Result<(), TargetError> {
        if self.use_as != UseAs::Fresh {
            return Ok(());
        }
        let failed = self.whole("set the length of");
        self.file.set_len(0).map_err(&failed)?;
        plan.image_size().map_or(Ok(()), |length| self.file.set_len(length)).map_err(&failed)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let extent = extent(at, bytes.len());
        self.file.write_all_at(bytes, at).map_err(self.io("write", extent))?;
        match self.use_as {
            UseAs::Character => Ok(()),
            _ => self.pacing.wrote(&self.file, extent).map_err(self.io("write", extent)),
        }
    }

    fn zero(&self, extent: ByteRange) -> Result<Zeroed, TargetError> {
        match self.use_as {
            UseAs::Character => return Ok(Zeroed::Unsupported),
            // Never written before, so still a hole; punching it again costs little and holds when it was.
            UseAs::Fresh | UseAs::Disk(_) => {}
        }
        let (Ok(start), Ok(len)) = (i64::try_from(extent.start()), i64::try_from(extent.len())) else {
            return Ok(Zeroed::Unsupported);
        };
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match nix::fcntl::fallocate(self.file.as_fd(), flags, start, len) {
            Ok(()) => {
                self.reached.fetch_max(extent.end(), Ordering::Relaxed);
                Ok(Zeroed::Guaranteed)
            }
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => Ok(Zeroed::Unsupported),
            Err(errno) => Err(self.io("zero", extent)(errno.into())),
        }
    }

    fn sync(&self) -> Result<(), TargetError> {
        match self.use_as {
            UseAs::Character => Ok(()),
            UseAs::Disk(_) => self.file.sync_all().map_err(self.whole("sync")),
            UseAs::Fresh => {
                let reached = self.reached.load(Ordering::Relaxed);
                let len = self.file.metadata().map_err(self.whole("sync"))?.len();
                if len < reached {
                    self.file.set_len(reached).map_err(self.whole("set the length of"))?;
                }
                self.file.sync_all().map_err(self.whole("sync"))
            }
        }
    }

    fn read_back(&self, at: u64, into: &mut [u8]) -> Result<(), TargetError> {
        match &self.medium {
            Some(medium) => medium.read_back(at, into),
            None => Err(TargetError::Unreadable { target: self.name() }),
        }
    }

    fn commit(&self, length: u64, _observer: &dyn Observer) -> Result<(), TargetError> {
        if self.use_as == UseAs::Fresh {
            let failed = self.whole("set the length of");
            let now = self.file.metadata().map_err(&failed)?.len();
            if now != length {
                self.file.set_len(length).map_err(&failed)?;
                self.file.sync_all().map_err(&failed)?;
            }
        }
        Ok(())
    }
}
