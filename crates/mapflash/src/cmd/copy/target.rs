//! Opening the target: a block device or a file.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bmap::ByteRange;
use flasher::disk::Disk;
use flasher::event::Observer;
use flasher::plan::Plan;
use flasher::target::block::BlockTarget;
use flasher::target::file::FileTarget;
use flasher::target::{Geometry, Target, TargetError, Zeroed};

use super::place;
use crate::error::AppError;

/// An open target.
#[derive(Debug)]
pub(super) enum Opened {
    /// A block device.
    Block(Box<BlockTarget>),
    /// A file.
    File {
        /// The file.
        target: FileTarget,
        /// Where it lies, links followed, if it was made by opening it.
        made: Option<PathBuf>,
    },
    /// A file that does not exist and is not to be made.
    Absent(Absent),
}

impl Opened {
    /// Opens a target for writing.
    pub(super) fn open(path: &Path) -> Result<Self, AppError> {
        if is_block_device(path) {
            let target = BlockTarget::open(path).map_err(|error| AppError::from(error).at_device(true))?;
            return Ok(Self::Block(Box::new(target)));
        }
        let made = if path.exists() { None } else { Some(place::of_new(path)?) };
        Ok(Self::File { target: FileTarget::open(path)?, made })
    }

    /// Opens a target to plan for it; makes no file.
    pub(super) fn for_planning(path: &Path) -> Result<Self, AppError> {
        if path.exists() {
            return Self::open(path);
        }
        place::of_new(path)?;
        Ok(Self::Absent(Absent(path.to_owned())))
    }

    /// The target.
    pub(super) fn target(&self) -> &dyn Target {
        match self {
            Self::Block(target) => &**target,
            Self::File { target, .. } => target,
            Self::Absent(target) => target,
        }
    }

    /// Whether it is a device.
    pub(super) fn is_device(&self) -> bool {
        matches!(self, Self::Block(_))
    }

    /// What the kernel says about it, if it is a device.
    pub(super) fn disk(&self) -> Option<&Disk> {
        match self {
            Self::Block(target) => Some(target.disk()),
            _ => None,
        }
    }

    /// Takes away a file that was made by opening it: nothing was written, so nothing should be left.
    pub(super) fn forget(&self) {
        if let Self::File { target, made: Some(path) } = self {
            take_away(path, target.identity());
        }
    }

    /// Puts back what was changed on the host, for when the process must stop at once.
    pub(super) fn restore(&self) -> impl FnOnce() + Send + 'static {
        let block = match self {
            Self::Block(target) => Some(target.at_exit()),
            _ => None,
        };
        let made = match self {
            Self::File { target, made: Some(path) } => Some((path.clone(), target.identity())),
            _ => None,
        };
        move || {
            if let Some(restore) = block {
                restore();
            }
            if let Some((path, identity)) = made {
                take_away(&path, identity);
            }
        }
    }
}

/// Removes a file that was made here and is still empty; by now the path may lead to another one.
fn take_away(path: &Path, identity: Option<(u64, u64)>) {
    let ours = |file: &fs::Metadata| file.is_file() && file.len() == 0 && Some((file.dev(), file.ino())) == identity;
    if fs::symlink_metadata(path).is_ok_and(|file| ours(&file)) {
        // An empty file left behind is the worst that can come of a failure here.
        let _ = fs::remove_file(path);
    }
}

fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// A new file as a plan sees it.
#[derive(Debug)]
pub(super) struct Absent(PathBuf);

impl Absent {
    fn error(&self) -> TargetError {
        let source = std::io::ErrorKind::NotFound.into();
        TargetError::Missing { target: self.name(), source }
    }
}

impl Target for Absent {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn geometry(&self) -> Geometry {
        Geometry { size: None, fresh: true, partition: false, zero_granule: 4096, readable: true, depth: 1 }
    }

    fn begin(&self, _: &Plan, _: &dyn Observer) -> Result<(), TargetError> {
        Err(self.error())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), TargetError> {
        Err(self.error())
    }

    fn zero(&self, _: ByteRange) -> Result<Zeroed, TargetError> {
        Err(self.error())
    }

    fn sync(&self) -> Result<(), TargetError> {
        Err(self.error())
    }

    fn read_back(&self, _: u64, _: &mut [u8]) -> Result<(), TargetError> {
        Err(self.error())
    }

    fn commit(&self, _: u64, _: &dyn Observer) -> Result<(), TargetError> {
        Err(self.error())
    }
}
