//! Boot images: read from a file, or from the front of a disk image that holds one.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use flasher::FlashError;
use flasher::board::open_pack;
use image::{Image, Options, PACK_MAGIC, Wanted};
use imx_usb::boot::BootImage;
use imx_usb::bootimage::describe::{Finding, describe};
use imx_usb::bootimage::{SCAN_BYTES, marks};

use crate::discover::shown;
use crate::error::{AppError, Cause};
use crate::render::text::size;

/// No boot image is larger.
const MOST: usize = 64 << 20;
/// Read at a time.
const PIECE: usize = 1 << 20;

/// A boot image, or as much of a disk image as may hold one. Either may be packed.
pub(crate) fn read_boot_image(path: &Path) -> Result<BootImage, AppError> {
    boot_bytes(path).map(BootImage::new)
}

/// The bytes of a boot image, or the front of a disk image.
pub(crate) fn boot_bytes(path: &Path) -> Result<Arc<[u8]>, AppError> {
    let mut bytes = front(path, MOST + 1)?;
    if marks::is_disk_image(&bytes) {
        bytes.truncate(SCAN_BYTES);
    }
    match bytes.len() {
        0 => Err(Cause::Empty(path.to_owned()).into()),
        length if length > MOST => {
            Err(Cause::Usage(format!("{} is too large for a boot image: more than {}", shown(path), size(64 << 20)))
                .into())
        }
        _ => Ok(bytes.into()),
    }
}

/// The first bytes of an image, at most so many. It may be packed, also for boards.
pub(crate) fn front(path: &Path, most: usize) -> Result<Vec<u8>, AppError> {
    if is_pack(path) {
        let front = open_pack(path).and_then(|pack| pack.front(most));
        return front.map_err(|error| FlashError::from(error).into());
    }
    let mut reader = Image::open(path, &Options::default())?.read(Wanted::All)?;
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    while bytes.len() < most {
        let count = reader.read(&mut piece)?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    bytes.truncate(most);
    Ok(bytes)
}

/// Is this a file that `mapflash pack` made?
pub(crate) fn is_pack(path: &Path) -> bool {
    let mut first = [0; PACK_MAGIC.len()];
    // Devices are not packs, and reading a pipe would take from it.
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file && File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *PACK_MAGIC
}

/// Does this file hold a loader and nothing else: no disk image, and a table or container at its beginning?
pub(crate) fn is_loader(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= u64::try_from(MOST).unwrap_or(0)) {
        return false;
    }
    // A damaged file is looked at again by whoever takes it for an image.
    front(path, SCAN_BYTES).is_ok_and(|front| begins_with_loader(&front))
}

/// Does a loader begin these bytes, or lie where HDMI firmware leaves it?
pub(crate) fn begins_with_loader(front: &[u8]) -> bool {
    if marks::is_disk_image(front) {
        return false;
    }
    describe(front).findings.iter().any(|finding| match finding {
        // HDMI firmware may lie ahead of the loader.
        Finding::Ivt { ivt, .. } => ivt.at <= 0x4_0000,
        Finding::Container(container) => container.at <= 0x1000,
        _ => false,
    })
}
