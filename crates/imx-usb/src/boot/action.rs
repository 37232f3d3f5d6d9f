//! What a board is due, by the image and by what is on the port. Touches no device.

use std::fmt;
use std::ops::Range;

use super::{BootImage, Problem, Seen};
use crate::bootimage::container::{self, Container};
use crate::bootimage::describe::{Family, describe};
use crate::bootimage::ivt::{self, Ivt, Signature};
use crate::bootimage::part::{SDPU_OFFSET, Start, after_spl, barebox_second, for_stream};
use crate::bootimage::{ImageError, marks};
use crate::chips::{Chip, ImageFormat, Protocol};
use crate::sdp::Load;

/// Where loaders lie on disks, for disk images without a tag.
const DISK_OFFSETS: [usize; 3] = [0x8000, 0x8400, 0x400];
/// So much is looked at to guess what chips an image is for.
const GUESS_BYTES: usize = 0x10_0000;

/// What is due next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<'i> {
    /// Nothing: the board is where it should be.
    Arrived,
    /// To a ROM that takes commands: load this and start it.
    Load {
        /// What goes where.
        load: Load<'i>,
        /// The second part of a barebox image, to be sent after the start.
        second: Option<&'i [u8]>,
        /// Does the ROM take the next image after this one has run?
        plugin: bool,
        /// Has it a signature?
        signed: bool,
    },
    /// To a ROM that is streamed to.
    Stream {
        /// The stream.
        bytes: &'i [u8],
        /// Has every image in it that the maker of the device could sign a signature? `None` if that cannot be told.
        signed: Option<bool>,
        /// Is it longer than the loader and U-Boot, by an amount that cannot be told? Then the board leaves before all
        /// of it has gone.
        open_end: bool,
    },
    /// To a loader: write this to address 0 and start it there.
    Hand(&'i [u8]),
}

impl Action<'_> {
    /// Bytes that will be sent, without commands and padding.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Arrived => 0,
            Self::Load { load, second, .. } => load.bytes.len().saturating_add(second.map_or(0, <[u8]>::len)),
            Self::Stream { bytes, .. } | Self::Hand(bytes) => bytes.len(),
        }
    }

    /// Has what will be sent a signature, as far as can be told?
    pub fn signed(&self) -> Option<bool> {
        match self {
            Self::Load { signed, .. } => Some(*signed),
            Self::Stream { signed, .. } => *signed,
            Self::Arrived | Self::Hand(_) => None,
        }
    }
}

/// What lies where a loader should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Contents {
    /// An image with a vector table.
    Ivt,
    /// A container.
    Container,
    /// U-Boot without a loader.
    Fit,
    /// Nothing that is known.
    Unknown,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ivt => "one with a vector table (IVT)",
            Self::Container => "of containers (AHAB)",
            Self::Fit => "a FIT without a loader",
            Self::Unknown => "no boot image that is known",
        })
    }
}

/// What begins at `at`.
pub(super) fn contents(bytes: &[u8], at: usize) -> Contents {
    if Ivt::read(bytes, at).is_some() {
        Contents::Ivt
    } else if is_container(bytes, at) {
        Contents::Container
    } else if marks::find_fit(bytes, at).is_some_and(|fit| fit.at == at) {
        Contents::Fit
    } else {
        Contents::Unknown
    }
}

fn is_container(bytes: &[u8], at: usize) -> bool {
    Container::read(bytes, at).is_ok_and(|found| found.tag == container::TAG && matches!(found.version, 0..=2))
}

/// What a board that was seen as `seen` is due. `origin` is the chip it was in its ROM, if it was seen there; `plugins`
/// says how many plugin images it has run already.
pub fn next_action<'i>(
    image: &'i BootImage,
    seen: Seen<'_>,
    origin: Option<&Chip>,
    plugins: usize,
) -> Result<Action<'i>, Problem> {
    match (seen.protocol, seen.chip) {
        (Protocol::Fastboot | Protocol::Fbk, _) => Ok(Action::Arrived),
        (_, None) => Err(Problem::NoChip),
        (Protocol::Sdp, Some(chip)) => load(image, chip, plugins),
        (Protocol::Sdps, Some(chip)) => stream(image, chip),
        (protocol @ (Protocol::Sdpu | Protocol::Sdpv), Some(_)) => {
            hand(image, protocol, origin).map(Action::Hand).map_err(Problem::Image)
        }
    }
}

/// The chips that the image seems to be for, if `chip` is none of them.
pub(super) fn another_family(image: &BootImage, chip: &Chip) -> Option<Family> {
    let range = place(image, Some(chip)).ok()?;
    let family = family_of(image.bytes().get(range)?)?;
    (!fits(family, chip)).then_some(family)
}

/// The chips that the loader at the beginning of `bytes` seems to be for.
pub(super) fn family_of(bytes: &[u8]) -> Option<Family> {
    describe(bytes.get(..bytes.len().min(GUESS_BYTES))?).family()
}

/// Is `chip` one of these?
pub(super) fn fits(family: Family, chip: &Chip) -> bool {
    let name = &*chip.name;
    match family {
        Family::Imx6 => name.starts_with("MX6"),
        Family::Imx6Or7 => name.starts_with("MX6") || name.starts_with("MX7"),
        Family::Imx7 => name.starts_with("MX7"),
        Family::Imx8mQuadOrMini => matches!(name, "MX8MQ" | "MX8MM"),
        Family::Imx8mNano => name == "MX815",
        Family::Imx8mPlus => name == "MX865",
        Family::Imx8 => matches!(name, "MX8QXP" | "MX8QM" | "MX8DXL"),
        Family::Imx8Ulp => name == "MX8ULP",
        Family::Imx9 => name.starts_with("MX9"),
        Family::Imx95 => matches!(name, "MX95" | "MX943" | "MX952"),
        Family::Rt => name.starts_with("MXRT"),
        Family::Imx7Ulp => name == "MX7ULP",
        Family::Imx53 => false,
    }
}

/// Where in the file the loader, and all that belongs to it, lies.
fn place(image: &BootImage, chip: Option<&Chip>) -> Result<Range<usize>, ImageError> {
    let bytes = image.bytes();
    match image.start.range(bytes) {
        // A disk image without a tag: the loader is where a ROM would look for it on a disk.
        Err(ImageError::NoTag(end)) => {
            let own = chip.and_then(|chip| usize::try_from(chip.loader_offset?.user).ok());
            let at = own.into_iter().chain(DISK_OFFSETS);
            let found = at.into_iter().find(|at| matches!(contents(bytes, *at), Contents::Ivt | Contents::Container));
            found.map(|at| at..bytes.len()).ok_or(ImageError::NoTag(end))
        }
        range => range,
    }
}

fn load<'i>(image: &'i BootImage, chip: &Chip, plugins: usize) -> Result<Action<'i>, Problem> {
    let range = place(image, Some(chip)).map_err(Problem::Image)?;
    let bytes = image.bytes().get(range).unwrap_or_default();
    let format = |found| Problem::Format { wanted: ImageFormat::Ivt, found };
    match contents(bytes, 0) {
        // A container may well hold something that looks like a table.
        found @ (Contents::Container | Contents::Fit) => return Err(format(found)),
        Contents::Ivt | Contents::Unknown => {}
    }
    let ivt = match ivt::find(bytes, image.skip.saturating_add(plugins)) {
        Ok(ivt) => ivt,
        Err(ImageError::NoIvt(_)) if image.skip == 0 && plugins == 0 => return Err(format(Contents::Unknown)),
        Err(error) => return Err(Problem::Image(error)),
    };
    let load = ivt.load(bytes).map_err(Problem::Image)?;
    let second = if chip.barebox_second_stage { barebox_second(bytes, &ivt).map_err(Problem::Image)? } else { None };
    let second = second.and_then(|range| bytes.get(range));
    Ok(Action::Load { load, second, plugin: ivt.is_plugin(), signed: ivt.signature(bytes) == Signature::Present })
}

fn stream<'i>(image: &'i BootImage, chip: &Chip) -> Result<Action<'i>, Problem> {
    let range = place(image, Some(chip)).map_err(Problem::Image)?;
    let file = image.bytes().get(..range.end).unwrap_or_default();
    let start = Start { offset: range.start, ..Start::default() };
    let range = for_stream(file, start, chip.stream).map_err(Problem::Image)?;
    let found = contents(file, range.start);
    let right = match chip.format {
        ImageFormat::Ivt => found == Contents::Ivt,
        ImageFormat::Container => found == Contents::Container,
        ImageFormat::BootStream => found == Contents::Unknown,
        ImageFormat::Loader => true,
    };
    if !right {
        return Err(Problem::Format { wanted: chip.format, found });
    }
    let bytes = file.get(range).unwrap_or_default();
    // The first images decide; looking through all of a large file would find nothing more.
    let signed = describe(bytes.get(..bytes.len().min(GUESS_BYTES)).unwrap_or_default()).is_signed();
    let open_end =
        image.start.by_tag && marks::is_disk_image(image.bytes()) && marks::tagged_loader(image.bytes()).is_err();
    Ok(Action::Stream { bytes, signed, open_end })
}

fn hand<'i>(image: &'i BootImage, protocol: Protocol, origin: Option<&Chip>) -> Result<&'i [u8], ImageError> {
    if let Some(uboot) = &image.uboot {
        return Ok(uboot);
    }
    let range = place(image, origin)?;
    let file = image.bytes().get(..range.end).unwrap_or_default();
    let behind = after_spl(file, Start { offset: range.start, ..Start::default() });
    if protocol == Protocol::Sdpv {
        return Ok(file.get(behind?).unwrap_or_default());
    }
    // An older loader wants U-Boot's own beginning: where there is one, or at the place that is usual.
    let from = behind.map_or(range.start, |behind| behind.start);
    let found = marks::find_fit(file, from).map(|fit| fit.at);
    let found = found.or_else(|| marks::find_legacy(file, from).map(|legacy| legacy.at));
    let start = found.unwrap_or(range.start.saturating_add(SDPU_OFFSET));
    match file.get(start..) {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(ImageError::NothingLeft { at: u64::try_from(start).unwrap_or(u64::MAX), end: file.len() }),
    }
}
