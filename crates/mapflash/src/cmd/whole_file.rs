//! Writing a file so that it is there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::discover::shown;
use crate::error::AppError;

/// Writes `bytes` under a temporary name beside `path`, then gives it its name. What is no regular file (a pipe,
/// `/dev/stdout`) is written as it is; a link is followed and stays a link.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), AppError> {
    let failed = |error| AppError::io(format!("cannot write {}", shown(path)), error);
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let file = OpenOptions::new().write(true).open(path);
            return file.and_then(|mut file| file.write_all(bytes)).map_err(failed);
        }
        _ => {}
    }
    let mut partial = Partial::create(path)?;
    partial.file.write_all(bytes).map_err(failed)?;
    partial.keep()
}

/// A file under a temporary name beside the one it is to have; gone when dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Partial {
    /// Begins a file that is to be called `path`; a link is followed.
    pub(super) fn create(path: &Path) -> Result<Self, AppError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let temporary = beside(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&temporary);
        let file = file.map_err(|error| AppError::io(format!("cannot write {}", shown(&path)), error))?;
        Ok(Self { file, temporary, path })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in place of what had it.
    pub(super) fn keep(self) -> Result<(), AppError> {
        let done = self.file.sync_all().and_then(|()| fs::rename(&self.temporary, &self.path));
        done.map_err(|error| AppError::io(format!("cannot write {}", shown(&self.path)), error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Kept files have another name by now.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_there_whole_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bmap");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("missing/a.bmap"), b"one").unwrap_err();
        assert!(error.sentence().starts_with("cannot write "), "{}", error.sentence());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write(Path::new("/dev/null"), b"one").unwrap();
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
