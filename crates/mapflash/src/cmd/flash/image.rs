//! The image: opened, and unpacked beforehand where its length cannot be told otherwise.

use std::io::Write as _;
use std::path::PathBuf;

use bmap::BlockMap;
use bmap::holes::is_zero;
use flasher::board::{Pack, open_pack};
use flasher::{Cancel, FlashError};
use image::{Image, ImageError, Options, Wanted};
use imx_usb::boot::BootImage;
use imx_usb::bootimage::{SCAN_BYTES, marks};
use tempfile::NamedTempFile;

use crate::board::boot_image::{front, is_pack, read_boot_image};
use crate::discover::shown;
use crate::error::{AppError, Cause};
use crate::job::{Flash, Map, Source};
use crate::render::Display;

/// Unpacked at a time.
const PIECE: usize = 1 << 20;

/// An image that can be planned.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The image.
    pub(crate) image: Image,
    /// Where it can be read again, if it can.
    path: Option<PathBuf>,
    options: Options,
    /// The unpacked image, while the job lasts.
    _unpacked: Option<NamedTempFile>,
}

/// Where an image is read again.
#[derive(Debug, Clone)]
pub(super) struct Again(PathBuf, Options);

impl Again {
    /// Opens it.
    pub(super) fn open(&self) -> Result<Image, ImageError> {
        Image::open(&self.0, &self.1)
    }
}

impl Opened {
    /// Opens it. An image of which neither it nor its map tells the length is unpacked into a temporary file first:
    /// boards must be told lengths.
    pub(crate) fn open(
        source: &Source,
        options: &Options,
        map: Option<&BlockMap>,
        cancel: &Cancel,
        display: &Display,
    ) -> Result<Self, AppError> {
        let mut image = source.open(options, cancel)?;
        let path = match source {
            Source::File(path) => Some(path.clone()),
            Source::Stdin => None,
        };
        if map.is_none() && image.head(1)?.is_empty() {
            return Err(Cause::Empty(path.unwrap_or_else(|| "-".into())).into());
        }
        let options = options.clone();
        if map.is_some() || image.size().is_some() {
            return Ok(Self { image, path, options, _unpacked: None });
        }
        display.say(&format!("{} is unpacked first: without a block map its length is not known", source.name()));
        let unpacked = unpack(image, cancel)?;
        let image = Image::open(unpacked.path(), &options)?;
        let path = Some(unpacked.path().to_owned());
        Ok(Self { image, path, options, _unpacked: Some(unpacked) })
    }

    /// A way to open it again, if there is one.
    pub(super) fn again(&self) -> Option<Again> {
        Some(Again(self.path.clone()?, self.options.clone()))
    }
}

/// The image, if it is a pack. Its map is in it.
pub(super) fn pack(job: &mut Flash) -> Result<Option<Pack>, AppError> {
    let Source::File(path) = &job.source else { return Ok(None) };
    if !is_pack(path) {
        return Ok(None);
    }
    let pack = open_pack(path).map_err(FlashError::from)?;
    if matches!(job.map, Map::Named(_) | Map::Unwanted) {
        let text = "a pack has its block map in it: --bmap and --nobmap are for 'mapflash pack'";
        return Err(Cause::Usage(text.to_owned()).into());
    }
    job.map = Map::Missing;
    Ok(Some(pack))
}

/// Unpacks an image into a temporary file with holes for its zeros.
fn unpack(image: Image, cancel: &Cancel) -> Result<NamedTempFile, AppError> {
    let failed = |error| AppError::io("cannot unpack the image into a temporary file", error);
    // Where large files belong, unlike /tmp.
    let folder = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let mut file = tempfile::Builder::new().prefix("mapflash-").tempfile_in(folder).map_err(failed)?;
    let mut reader = image.read(Wanted::All)?;
    let mut piece = vec![0; PIECE];
    let mut end = 0_u64;
    loop {
        if cancel.is_cancelled() {
            return Err(Cause::Flash(FlashError::Cancelled).into());
        }
        let count = reader.read(&mut piece)?;
        if count == 0 {
            break;
        }
        for part in piece.get(..count).unwrap_or_default().chunks(64 << 10) {
            let len = u64::try_from(part.len()).unwrap_or(0);
            if !is_zero(part) {
                std::os::unix::fs::FileExt::write_all_at(file.as_file(), part, end).map_err(failed)?;
            }
            end = end.saturating_add(len);
        }
    }
    reader.finish()?;
    file.as_file().set_len(end).map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(file)
}

/// Which map is used, or that there is none.
pub(super) fn tell_map(job: &Flash, image: &Image, display: &Display) {
    let otherwise = if image.file().is_some() { "the holes of the file are" } else { "blocks of zeros are found and" };
    match &job.map {
        Map::Found(path) => display.say(&format!("block map {} found", shown(path))),
        Map::Missing => display.say(&format!("no block map found: {otherwise} written as zeros")),
        Map::Named(_) | Map::Unwanted => {}
    }
}

/// What a bare board is booted with: the file that was named, else the loader inside the image.
pub(super) fn boot_image(job: &Flash) -> Result<Option<BootImage>, AppError> {
    match (&job.boot, &job.source) {
        (Some(path), _) => read_boot_image(path).map(Some),
        (None, Source::File(path)) => {
            let front = front(path, SCAN_BYTES)?;
            Ok(holds_loader(&front).then(|| BootImage::new(front)))
        }
        // What was read of standard input cannot be read twice.
        (None, Source::Stdin) => Ok(None),
    }
}

/// Is there a loader in the front of a disk image?
fn holds_loader(front: &[u8]) -> bool {
    marks::tagged_loader(front).is_ok() || !image::table::loaders(front).is_empty()
}
