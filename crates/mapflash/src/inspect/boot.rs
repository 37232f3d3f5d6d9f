//! Boot images: the file itself, or the loader in the head of a disk image.

use bmap::ByteRange;
use image::table::{Loader, Table, loaders};
use imx_usb::bootimage::describe::{Description, Finding, describe_until};
use imx_usb::bootimage::stages::{Stages, stages};
use imx_usb::bootimage::{ImageError, SCAN_BYTES};
use imx_usb::chips::{ChipTable, ImageFormat, LoaderOffset};

/// How much is looked at where a loader begins: all of it, in practice.
pub(crate) const LOOK: usize = 2 * SCAN_BYTES;
/// More damage than this is not listed; it would only say the same again.
const MOST_PROBLEMS: usize = 4;
/// A partition that begins before this has the loader's place in it.
const LAST_PLACE: u64 = 0x8400;

/// A boot image, or what is left of one.
#[derive(Debug)]
pub(crate) struct Boot {
    /// Everything found.
    pub(crate) description: Description,
    /// Where the loader begins; without one, U-Boot or what else was found.
    pub(crate) at: u64,
    /// Does it lie in a disk image?
    pub(crate) on_disk: bool,
    /// What a board would be sent, where that can be told.
    pub(crate) stages: Option<Stages>,
    /// What is wrong with it, in words.
    pub(crate) problems: Vec<String>,
    /// Where else in the disk image a ROM would find a loader.
    pub(crate) others: Vec<Loader>,
}

/// Looks for a boot image in the first bytes of a file that is `size` bytes long.
pub(crate) fn look(head: &[u8], size: Option<u64>, table: Option<&Table>) -> Option<Boot> {
    let on_disk = table.is_some();
    let first = table.and_then(|table| {
        let starts = table.partitions.iter().map(|part| part.extent.start());
        starts.filter(|start| *start > LAST_PLACE).min()
    });
    let end = first.and_then(|first| usize::try_from(first).ok()).unwrap_or(head.len());
    let description = describe_until(head, end);
    // A disk or filesystem image may have anything in it that looks like one; at these places it is one.
    let at = match description.findings.iter().find(|finding| !matches!(finding, Finding::DiskImage))? {
        Finding::Ivt { ivt, .. } => ivt.at,
        Finding::Container(container) | Finding::UBoot(container) => container.at,
        Finding::Tagged { start, .. } => *start,
        Finding::FlexSpi(at) => *at,
        Finding::Fit(fit) => fit.at,
        Finding::Legacy(legacy) => legacy.at,
        Finding::Barebox | Finding::Broken(_) => 0,
        _ => return None,
    };
    let places = [0, 0x400, 0x8000, 0x8400];
    let is_tagged = description.findings.iter().any(|finding| matches!(finding, Finding::Tagged { .. }));
    if !places.contains(&at) && !is_tagged || on_disk && description.loader_at().is_none() {
        return None;
    }
    let at = if on_disk || at > 0 { description.loader_at().unwrap_or(at).min(at) } else { at };
    let at = u64::try_from(at).ok()?;
    // Of a file that goes on behind what was looked at, nothing lacks because of that.
    let cut = size.is_none_or(|size| u64::try_from(head.len()).is_ok_and(|len| len < size));
    let counts = |error: &ImageError| !(cut && matches!(error, ImageError::Truncated { .. }));
    let found = stages(head, &description);
    let mut problems: Vec<String> =
        description.problems.iter().filter(|e| counts(e)).map(ToString::to_string).collect();
    if let Some(Err(error)) = &found
        && problems.is_empty()
        && counts(error)
    {
        problems.push(error.to_string());
    }
    if problems.len() > MOST_PROBLEMS {
        let more = problems.len() - MOST_PROBLEMS;
        problems.truncate(MOST_PROBLEMS);
        problems.push(format!("{more} more parts of the boot image are damaged"));
    }
    let mut others = if on_disk { loaders(head) } else { Vec::new() };
    others.retain(|other| other.offset != at && other.offset != 0);
    Some(Boot { description, at, on_disk, stages: found.and_then(Result::ok), problems, others })
}

impl Boot {
    /// What it covers: loader and U-Boot, as far as they were found.
    pub(crate) fn extent(&self) -> Option<ByteRange> {
        ByteRange::new(self.at, self.description.end()).filter(|extent| !extent.is_empty())
    }

    /// Its format as programs name it.
    pub(crate) fn kind(&self) -> &'static str {
        let is = |wanted: fn(&Finding) -> bool| self.description.findings.iter().any(wanted);
        if is(|finding| matches!(finding, Finding::Container(_))) {
            "container"
        } else if is(|finding| matches!(finding, Finding::Ivt { .. })) {
            "ivt"
        } else if is(|finding| matches!(finding, Finding::Fit(_))) {
            "fit"
        } else if is(|finding| matches!(finding, Finding::Legacy(_))) {
            "legacy"
        } else {
            "unknown"
        }
    }

    /// Which chips' ROMs look for such an image at this place of a card or disk.
    pub(crate) fn chips(&self) -> Option<&'static str> {
        chips_at(self.at, self.kind() == "container")
    }

    /// Where it belongs, by the chips it seems to be for.
    pub(crate) fn belongs(&self) -> Vec<LoaderOffset> {
        let Some(family) = self.description.family() else { return Vec::new() };
        let chips = ChipTable::builtin();
        let mut places: Vec<LoaderOffset> = Vec::new();
        for place in family.chips().iter().filter_map(|name| chips.chip(name)?.loader_offset) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Does it lie where no ROM of its chips looks?
    pub(crate) fn is_misplaced(&self) -> bool {
        let belongs = self.belongs();
        self.on_disk && !belongs.is_empty() && belongs.iter().all(|place| u64::from(place.user) != self.at)
    }

    /// Signed: all of it, some of it, or nothing. `None` if nothing in it can be.
    pub(crate) fn signed(&self) -> Option<bool> {
        self.description.is_signed()
    }

    /// What was found, a line for each.
    pub(crate) fn parts(&self) -> Vec<String> {
        let parts = self.description.findings.iter().filter(|finding| !matches!(finding, Finding::DiskImage));
        parts.map(|finding| self.description.words(finding)).collect()
    }
}

/// Which chips' boot ROMs look at this offset of an SD card or eMMC user area (NXP's and U-Boot's board
/// documentation); `None` for other places, and for offset 0, which only loader files and eMMC boot partitions have.
pub(crate) fn chips_at(offset: u64, container: bool) -> Option<&'static str> {
    let format = if container { ImageFormat::Container } else { ImageFormat::Ivt };
    Some(match (offset, format) {
        (0x400, ImageFormat::Ivt) => "i.MX6, i.MX7",
        (0x8000, ImageFormat::Ivt) => "i.MX8MN, i.MX8MP",
        (0x8000, _) => "i.MX8, i.MX8X, i.MX8ULP, i.MX9",
        (0x8400, ImageFormat::Ivt) => "i.MX8MQ, i.MX8MM",
        (0x8400, _) => "i.MX8, i.MX8X revision A",
        _ => return None,
    })
}
