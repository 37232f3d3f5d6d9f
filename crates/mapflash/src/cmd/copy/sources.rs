//! Refusing a target that shares bytes with what is read: the same file or device by any name, a partition and its disk,
//! a loop device and the file behind it.
//!
//! A file on a filesystem on the target is no matter for here: a mounted target is refused as such.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use flasher::disk::{DeviceNumber, System};

use crate::error::{AppError, Cause};
use crate::job::{Copy, Source};

/// How many devices may be stacked on each other before the search ends.
const DEPTH: u8 = 8;

/// A file or device, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    /// `st_dev` and `st_ino`.
    File(u64, u64),
    /// The number of a block device, as sysfs writes it.
    Device(String),
}

/// Refuses a target that is, holds or is part of the image or its map.
pub(super) fn refuse(job: &Copy) -> Result<(), AppError> {
    let image = match &job.source {
        Source::File(path) => Some((path.as_path(), ["the image", "what the image is on", "part of the image"])),
        Source::Stdin => None,
    };
    let map = ["the block map", "what the block map is on", "part of the block map"];
    let map = job.map.path().map(|path| (path, map));
    for (path, [same, below, above]) in image.into_iter().chain(map) {
        let what = match (node(path), node(&job.dest)) {
            (Some(source), Some(target)) if source == target => same,
            (Some(_), Some(target)) if is_on(path).contains(&target) => below,
            (Some(source), Some(_)) if is_on(&job.dest).contains(&source) => above,
            _ => continue,
        };
        return Err(Cause::TargetIsSource { path: job.dest.clone(), what }.into());
    }
    Ok(())
}

/// Whether two paths lead to one file or one device.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    node(one).is_some_and(|one| Some(one) == node(other))
}

fn node(path: &Path) -> Option<Node> {
    let metadata = fs::metadata(path).ok()?;
    Some(if metadata.file_type().is_block_device() {
        Node::Device(DeviceNumber::from_raw(metadata.rdev()).to_string())
    } else {
        Node::File(metadata.dev(), metadata.ino())
    })
}

/// The devices and files that the bytes of `path` lie in: for a partition its disk, for a loop device the file behind
/// it, and what those lie in.
fn is_on(path: &Path) -> BTreeSet<Node> {
    let mut found = BTreeSet::new();
    let mut path = path.to_owned();
    for _ in 0..DEPTH {
        let Ok(metadata) = fs::metadata(&path) else { break };
        if !metadata.file_type().is_block_device() {
            break;
        }
        let Ok(folder) = System::default().queue_folder(DeviceNumber::from_raw(metadata.rdev())) else { break };
        found.extend(fs::read_to_string(folder.join("dev")).ok().map(|disk| Node::Device(disk.trim().to_owned())));
        let Ok(backing) = fs::read_to_string(folder.join("loop/backing_file")) else { break };
        path = backing.trim_end_matches('\n').into();
        found.extend(node(&path));
    }
    found
}
