//! Things that are known by a few bytes at a place: FlexSPI headers, barebox, FIT, U-Boot's older images, disk images and the loader's tag.

use std::ops::Range;

use super::ImageError;
pub use super::fit::{Fit, find_fit};
use super::read::{offset, u32_be, u32_le};

/// Length of what precedes an image for FlexSPI storage.
pub const FLEXSPI_BYTES: usize = 0x1000;

const FLEXSPI_MAGIC: [u32; 2] = [0xc0ff_ee01, u32::from_le_bytes(*b"FCFB")];
const FLEXSPI_AT: [usize; 4] = [0, 0x400, 0x1fc, 0x5fc];
const LEGACY_MAGIC: u32 = 0x2705_1956;
const LEGACY_BYTES: usize = 64;
const BAREBOX_AT: usize = 0x20;
/// Written after the loader into disk images by NXP's Yocto layers; the loader's length in decimal digits follows.
pub const LOADER_TAG: &[u8] = b"UUUBURNXXOEUZX7+A-XY5601QQWWZ";
/// Where to look for the tag.
const TAG_FROM: usize = 512;

/// Is there a FlexSPI header at that offset? The image then follows [`FLEXSPI_BYTES`] later.
pub fn is_flexspi(bytes: &[u8], at: usize) -> bool {
    let magic = |step: &usize| u32_le(bytes, at.checked_add(*step)?);
    FLEXSPI_AT.iter().filter_map(magic).any(|word| FLEXSPI_MAGIC.contains(&word))
}

/// Is this a barebox image?
pub fn is_barebox(bytes: &[u8]) -> bool {
    bytes.get(BAREBOX_AT..).is_some_and(|rest| rest.starts_with(b"barebox"))
}

/// Does this begin with a partition table in the old style (or the protective one of GPT), so that it is a disk image?
pub fn is_disk_image(bytes: &[u8]) -> bool {
    bytes.get(510..512) == Some(&[0x55, 0xaa])
}

/// U-Boot's image format from before FIT: often U-Boot proper, `u-boot.img`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// Where in the file its header of 64 bytes begins.
    pub at: usize,
    /// Length of what follows the header.
    pub length: u32,
    /// Its name.
    pub name: String,
}

/// The first image in U-Boot's old format in `bytes` at or after `from`, at offsets divisible by 4. Its name must be
/// text; its checksums are not looked at.
pub fn find_legacy(bytes: &[u8], from: usize) -> Option<Legacy> {
    let end = bytes.len().min(super::SCAN_BYTES);
    (from.checked_next_multiple_of(4)?..end).step_by(4).find_map(|at| {
        if u32_be(bytes, at)? != LEGACY_MAGIC {
            return None;
        }
        let header = bytes.get(at..)?.get(..LEGACY_BYTES)?;
        let length = u32_be(header, 12)?;
        // The name is the last of the header, filled up with NULs.
        let name = header.get(32..)?;
        let text = name.split(|b| *b == 0).next()?;
        let is_text = text.iter().all(|b| (0x20..0x7f).contains(b)) && name[text.len()..].iter().all(|b| *b == 0);
        let name = String::from_utf8_lossy(text).into_owned();
        (is_text && length > 0).then_some(Legacy { at, length, name })
    })
}

/// Where the loader of a disk image lies, by the tag after it.
pub fn tagged_loader(bytes: &[u8]) -> Result<Range<usize>, ImageError> {
    let end = bytes.len().min(super::SCAN_BYTES);
    let searched = bytes.get(TAG_FROM..end).unwrap_or_default();
    let found = searched.windows(LOADER_TAG.len()).position(|window| window == LOADER_TAG);
    let at = found.map(|at| at.saturating_add(TAG_FROM)).ok_or(ImageError::NoTag(end))?;
    let digits = bytes.get(at.saturating_add(LOADER_TAG.len())..).unwrap_or_default();
    // More digits than any length has are cut, and then too large.
    let count = digits.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let text = String::from_utf8_lossy(&digits[..count]).into_owned();
    let length = text.parse().ok().filter(|length| *length > 0);
    let start = length.and_then(|length: u64| at.checked_sub(offset(length)));
    match start {
        Some(start) => Ok(start..at),
        None => Err(ImageError::TagLength { at, length: text }),
    }
}
