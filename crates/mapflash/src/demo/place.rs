//! A folder to work in: room enough, found out first; gone at the end, however the end comes.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A folder of our own below another. Dropping it removes it and all in it, unless it shall be kept.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    keep: bool,
}

impl Place {
    /// Makes a new folder in `parent`, for this user alone.
    ///
    /// # Errors
    /// Those of making it; taken names are passed over.
    pub(super) fn new(parent: &Path, keep: bool) -> io::Result<Self> {
        let mut number = 0_u32;
        loop {
            let path = parent.join(format!("mapflash-demo-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, keep }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it stays.
    pub(super) fn keeps(&self) -> bool {
        self.keep
    }

    /// What removes it, for whoever stops the process without dropping anything.
    pub(crate) fn remover(&self) -> impl FnOnce() + Send + 'static {
        let (path, keep) = (self.path.clone(), self.keep);
        move || remove(&path, keep)
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.path, self.keep);
    }
}

fn remove(path: &Path, keep: bool) {
    if !keep {
        // Nobody is left to be told.
        let _ = fs::remove_dir_all(path);
    }
}

/// How many bytes an ordinary user may still write below `path`.
///
/// # Errors
/// Those of `statvfs(3)`.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_gone_unless_kept() {
        let parent = tempfile::tempdir().unwrap();
        for keep in [false, true] {
            let place = Place::new(parent.path(), keep).unwrap();
            let path = place.path().to_owned();
            fs::write(place.file("inside"), "x").unwrap();
            drop(place);
            assert_eq!(path.exists(), keep);
        }
        // The name that is taken now is passed over.
        assert!(
            Place::new(parent.path(), false)
                .unwrap()
                .path()
                .ends_with(format!("mapflash-demo-{}-1", std::process::id()))
        );
    }

    #[test]
    fn free_space_is_asked_of_the_filesystem() {
        assert!(free_bytes(Path::new("/proc")).unwrap() == 0);
        assert!(free_bytes(Path::new("/nonexistent")).is_err());
    }
}
