//! Files without a name, for what is kept while a job runs: gone when they are closed, however the process ends.
//!
//! Some file systems (overlays, network and FUSE ones) have no `O_TMPFILE`. There a file of a new name is made and its
//! name taken away at once; between the two a process that is killed leaves an empty file behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

/// How many names are tried.
const NAMES: u32 = 100;

/// A file in `folder` that nobody else can open, and that is gone when it is closed.
pub(super) fn unnamed(folder: &Path) -> io::Result<File> {
    match options().custom_flags(libc::O_TMPFILE).open(folder) {
        Err(error) if is_unsupported(&error) => named_and_removed(folder),
        result => result,
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Does that come from a file system or a kernel without `O_TMPFILE`? Kernels that do not know the flag take it for
/// opening the folder itself.
fn is_unsupported(error: &io::Error) -> bool {
    let codes = [libc::EOPNOTSUPP, libc::EISDIR, libc::ENOENT, libc::EINVAL, libc::ENOSYS];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn named_and_removed(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..NAMES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".mapflash-{}-{number}", std::process::id()));
        // Never through a link, never onto a file that is there.
        match options().create_new(true).open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn nobody_sees_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for make in [unnamed, named_and_removed] {
            let file = make(folder.path()).unwrap();
            let about = file.metadata().unwrap();
            assert_eq!((about.nlink(), about.mode() & 0o777), (0, 0o600));
            file.write_all_at(b"kept", 5000).unwrap();
            let mut back = [0; 4];
            file.read_exact_at(&mut back, 5000).unwrap();
            assert_eq!(&back, b"kept");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn names_that_are_taken_are_passed_over_and_other_errors_told() {
        let folder = tempfile::tempdir().unwrap();
        let taken = |number: u32| folder.path().join(format!(".mapflash-{}-{number}", std::process::id()));
        (0..50).for_each(|number| std::os::unix::fs::symlink("/nowhere", taken(number)).unwrap());
        assert!(named_and_removed(folder.path()).is_ok());
        let nowhere = folder.path().join("nowhere");
        assert_eq!(unnamed(&nowhere).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(is_unsupported(&io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        assert!(!is_unsupported(&io::Error::from_raw_os_error(libc::ENOSPC)));
        assert!(!is_unsupported(&io::Error::from_raw_os_error(libc::EACCES)));
    }
}
