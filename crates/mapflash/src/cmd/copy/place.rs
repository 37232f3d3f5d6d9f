//! Where a file that does not exist yet would come to lie: not among the devices.
//!
//! `/dev` is a filesystem in memory. A device that is not there, because it was unplugged or its name was mistyped,
//! must not become a file there, which fills the memory and is gone after the next boot.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flasher::target::TargetError;

use crate::error::AppError;

/// As many links as the kernel follows: `path_resolution(7)`.
const LINKS: u8 = 40;

/// Where opening `path`, which does not exist, would make a file: links followed, also one that leads nowhere yet.
///
/// # Errors
/// [`TargetError::Missing`] when that is among the devices.
pub(super) fn of_new(path: &Path) -> Result<PathBuf, AppError> {
    let place = follow(path);
    let folder = place.ancestors().skip(1).map(or_here).find(|folder| folder.is_dir());
    if folder.is_some_and(is_among_devices) {
        let source = nix::errno::Errno::ENOENT.into();
        return Err(TargetError::Missing { target: path.display().to_string(), source }.into());
    }
    Ok(place)
}

fn follow(path: &Path) -> PathBuf {
    let mut place = path.to_owned();
    for _ in 0..LINKS {
        let Ok(link) = fs::read_link(&place) else { break };
        place = place.parent().map_or(link.clone(), |folder| folder.join(&link));
    }
    match (place.parent().map(or_here).map(fs::canonicalize), place.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => place,
    }
}

/// The parent of a bare name is the empty path, which means here.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn is_among_devices(folder: &Path) -> bool {
    let on = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let Ok(devices) = on(Path::new("/dev")) else { return false };
    if on(Path::new("/")).is_ok_and(|root| root == devices) {
        // Not a filesystem of its own, as in a chroot: then only what lies below counts.
        return fs::canonicalize(folder).is_ok_and(|folder| folder.starts_with("/dev"));
    }
    // /dev/shm and the like are filesystems of their own, and files may be made there.
    on(folder).is_ok_and(|folder| folder == devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_made_among_the_devices() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        symlink("/dev", at("devices")).unwrap();
        symlink("/dev/mapflash-no-such-disk", at("dangling")).unwrap();
        for path in [
            Path::new("/dev/mapflash-no-such-disk"),
            Path::new("/dev/../dev/mapflash-no-such-disk"),
            Path::new("/dev/mapflash-no-such-folder/by-id/usb-disk"),
            &at("devices/mapflash-no-such-disk"),
            &at("dangling"),
        ] {
            assert_eq!(of_new(path).unwrap_err().kind(), "target_missing", "{}", path.display());
        }
    }

    #[test]
    fn links_lead_to_where_the_file_will_be() {
        let room = tempfile::tempdir().unwrap();
        let room = fs::canonicalize(room.path()).unwrap().join("a");
        fs::create_dir(&room).unwrap();
        symlink("two", room.join("one")).unwrap();
        symlink("../a/three", room.join("two")).unwrap();
        assert_eq!(of_new(&room.join("one")).unwrap(), room.join("three"));
        assert_eq!(of_new(&room.join("missing/file")).unwrap(), room.join("missing/file"));
        // A ring of links ends nowhere; opening it says so.
        symlink("ring", room.join("ring")).unwrap();
        of_new(&room.join("ring")).unwrap();
    }
}
