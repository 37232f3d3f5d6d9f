//! Which block map belongs to an image: names to try, in the order bmaptool tries them.
//!
//! `.bmap` is put behind the image's name, then behind the name without its last extension, and so on until there is
//! no extension left: `a.wic.gz` gives `a.wic.gz.bmap`, `a.wic.bmap`, `a.bmap`. Only the last component of the path
//! is looked at, and the dots a name begins with are no extension. The first candidate that opens is the one, even if
//! it turns out to be no bmap: silently trying another would hide the damage.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The names to try, best first.
pub(crate) fn candidates(image: &Path) -> Vec<PathBuf> {
    let mut stem = image.as_os_str();
    let mut found = Vec::new();
    loop {
        let mut name = OsString::from(stem);
        name.push(".bmap");
        found.push(PathBuf::from(name));
        match without_extension(stem) {
            Some(shorter) => stem = shorter,
            None => return found,
        }
    }
}

/// The first candidate that `opens`.
pub(crate) fn find(image: &Path, mut opens: impl FnMut(&Path) -> bool) -> Option<PathBuf> {
    candidates(image).into_iter().find(|candidate| opens(candidate))
}

/// Whether a candidate can be opened: a readable file that is no folder.
pub(crate) fn opens(path: &Path) -> bool {
    std::fs::File::open(path).and_then(|file| file.metadata()).is_ok_and(|metadata| !metadata.is_dir())
}

/// Whether two paths are the same text, which catches `copy x.bmap …` leading back to itself; comparing files is for
/// the caller, who has them open.
pub(crate) fn same_path(one: &Path, other: &Path) -> bool {
    one.as_os_str() == other.as_os_str()
}

/// The path without what stands behind the last dot of its last component; `None` when there is nothing to take off.
fn without_extension(path: &OsStr) -> Option<&OsStr> {
    let bytes = path.as_bytes();
    let name_at = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = bytes.get(name_at..)?;
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let leading_only = name.get(..dot)?.iter().all(|byte| *byte == b'.');
    if leading_only { None } else { Some(OsStr::from_bytes(bytes.get(..name_at + dot)?)) }
}

/// A path as the user would type it, with what a terminal must not see made visible.
pub(crate) fn shown(path: &Path) -> String {
    let text = String::from_utf8_lossy(&path.as_os_str().to_owned().into_vec()).into_owned();
    crate::render::text::printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(image: &str) -> Vec<String> {
        candidates(Path::new(image)).iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn extensions_are_taken_off_one_by_one() {
        assert_eq!(names("disk.img.gz"), ["disk.img.gz.bmap", "disk.img.bmap", "disk.bmap"]);
        assert_eq!(names("a.b.c"), ["a.b.c.bmap", "a.b.bmap", "a.bmap"]);
        assert_eq!(names("noext"), ["noext.bmap"]);
        assert_eq!(names("a."), ["a..bmap", "a.bmap"]);
    }

    #[test]
    fn folders_and_leading_dots_are_left_alone() {
        assert_eq!(names("/a.b/c.d/disk.wic"), ["/a.b/c.d/disk.wic.bmap", "/a.b/c.d/disk.bmap"]);
        assert_eq!(names(".hid"), [".hid.bmap"]);
        assert_eq!(names("x/..hid.gz"), ["x/..hid.gz.bmap", "x/..hid.bmap"]);
        assert_eq!(names("..."), ["....bmap"]);
        assert_eq!(names("-"), ["-.bmap"]);
    }

    #[test]
    fn the_first_that_opens_is_used() {
        let mut tried = Vec::new();
        let found = find(Path::new("d.wic.zst"), |path| {
            tried.push(path.to_owned());
            path == Path::new("d.wic.bmap")
        });
        assert_eq!(found, Some(PathBuf::from("d.wic.bmap")));
        assert_eq!(tried, [PathBuf::from("d.wic.zst.bmap"), PathBuf::from("d.wic.bmap")]);
        assert_eq!(find(Path::new("d"), |_| false), None);
    }

    #[test]
    fn a_folder_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d.img.bmap")).unwrap();
        std::fs::write(folder.path().join("d.bmap"), "").unwrap();
        assert_eq!(find(&folder.path().join("d.img"), opens), Some(folder.path().join("d.bmap")));
    }

    #[test]
    fn a_bmap_given_as_image_leads_back_to_itself() {
        let image = Path::new("x.bmap");
        assert!(candidates(image).iter().any(|candidate| same_path(candidate, image)));
    }
}
