//! Is this the image of a whole card or disk? By its first bytes, so that it can be asked of any image.

use std::io;

use bmap::ByteRange;
use image::table;

use super::{boot, fs};

/// What speaks against it, to be said behind the name of an image of `size` bytes that begins with `head`.
/// `filesystem` is the one that it was found to be, if more of it was looked at.
pub(crate) fn against(head: &[u8], size: Option<u64>, filesystem: Option<&'static str>) -> Option<String> {
    // A table that cannot be used is one all the same.
    if !matches!(table::read(head, size, None), Ok(None)) {
        return None;
    }
    if let Some(name) = filesystem.or_else(|| filesystem_in(head)) {
        return Some(format!("is a filesystem ({name}), not the image of a whole card"));
    }
    let loader = boot::look(head, size, None).filter(|boot| boot.description.loader_at().is_some());
    let what = "has neither a partition table nor a loader: is it the image of a whole card?";
    loader.is_none().then(|| what.to_owned())
}

/// The filesystem that begins with these bytes, if it can be told by them.
fn filesystem_in(head: &[u8]) -> Option<&'static str> {
    let length = u64::try_from(head.len()).ok()?;
    let mut read_at = |at: u64, into: &mut [u8]| {
        let start = usize::try_from(at).ok();
        let bytes = start.and_then(|start| head.get(start..start.checked_add(into.len())?));
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    };
    fs::look(ByteRange::first(length), &mut read_at).ok().flatten().map(|found| found.name)
}
