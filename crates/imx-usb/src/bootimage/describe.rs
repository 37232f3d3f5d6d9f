//! What a boot image seems to be, in words.

use std::fmt;
use std::ops::Range;

use super::container::{Container, FcbCopy, Signer, loader_span, sequence};
use super::ivt::{self, Ivt, Signature};
use super::marks::{self, Fit, Legacy};
use super::read::{len64, offset};
use super::{ImageError, container};

/// Something found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A partition table.
    DiskImage,
    /// The tag after a loader: where that begins and ends.
    Tagged {
        /// Its first byte.
        start: usize,
        /// The tag.
        end: usize,
    },
    /// A FlexSPI header.
    FlexSpi(usize),
    /// Barebox.
    Barebox,
    /// An image with a vector table.
    Ivt {
        /// The table.
        ivt: Ivt,
        /// Is it signed?
        signature: Signature,
    },
    /// A container of the loader, or of the firmware ahead of it.
    Container(Container),
    /// A container behind the loader: U-Boot proper and what belongs to it.
    UBoot(Container),
    /// A FIT.
    Fit(Fit),
    /// An image in U-Boot's old format.
    Legacy(Legacy),
    /// Something that begins like a container and cannot be one as it is.
    Broken(ImageError),
}

/// Chips that share an image format and memory layout, as guessed from load addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// i.MX53, which this crate knows no ROM of.
    Imx53,
    /// i.MX6.
    Imx6,
    /// i.MX6SL, SX, UL, ULL or i.MX7: memory from 0x80000000.
    Imx6Or7,
    /// i.MX7.
    Imx7,
    /// i.MX7ULP.
    Imx7Ulp,
    /// i.MX8M Quad or Mini.
    Imx8mQuadOrMini,
    /// i.MX8M Nano.
    Imx8mNano,
    /// i.MX8M Plus.
    Imx8mPlus,
    /// i.MX8QM, QXP or DXL.
    Imx8,
    /// i.MX8ULP.
    Imx8Ulp,
    /// i.MX91 or 93.
    Imx9,
    /// i.MX95 and later: containers of version 2, or loaded where these chips have memory and i.MX93 has not.
    Imx95,
    /// i.MX RT.
    Rt,
}

impl Family {
    /// The chips of the family, by the names of the chip table; the first stands for the others where they do not
    /// differ. None of them for i.MX53.
    pub fn chips(self) -> &'static [&'static str] {
        match self {
            Self::Imx53 => &[],
            Self::Imx6 => &["MX6Q", "MX6D", "MX6SL", "MX6SX", "MX6UL", "MX6ULL", "MX6SLL"],
            Self::Imx6Or7 => &["MX6UL", "MX6ULL", "MX6SL", "MX6SX", "MX6SLL", "MX7D"],
            Self::Imx7 => &["MX7D"],
            Self::Imx7Ulp => &["MX7ULP"],
            Self::Imx8mQuadOrMini => &["MX8MM", "MX8MQ"],
            Self::Imx8mNano => &["MX815"],
            Self::Imx8mPlus => &["MX865"],
            Self::Imx8 => &["MX8QXP", "MX8QM", "MX8DXL"],
            Self::Imx8Ulp => &["MX8ULP"],
            Self::Imx9 => &["MX93", "MX91"],
            Self::Imx95 => &["MX95", "MX943", "MX952"],
            Self::Rt => &["MXRT106X"],
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imx53 => "i.MX53",
            Self::Imx6 => "i.MX6",
            Self::Imx6Or7 => "i.MX6SL/SX/UL or i.MX7",
            Self::Imx7 => "i.MX7",
            Self::Imx7Ulp => "i.MX7ULP",
            Self::Imx8mQuadOrMini => "i.MX8M Quad or Mini",
            Self::Imx8mNano => "i.MX8M Nano",
            Self::Imx8mPlus => "i.MX8M Plus",
            Self::Imx8 => "i.MX8QM, QXP or DXL",
            Self::Imx8Ulp => "i.MX8ULP",
            Self::Imx9 => "i.MX91 or 93",
            Self::Imx95 => "i.MX95 or later",
            Self::Rt => "i.MX RT",
        })
    }
}

/// All that was found, by offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Length of what was looked at.
    pub length: usize,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What is wrong with it: parts that lack, pointers that lead nowhere, images that do not match their hashes.
    pub problems: Vec<ImageError>,
}

/// So far behind the loader's containers those of U-Boot proper are looked for: tools leave room to round to a page of
/// flash memory.
const GAP: usize = 0x1_0000;

/// Where ROMs look for their loader on cards and disks: i.MX8M Nano, Plus, 8 and 9; 8M Quad and Mini; 6 and 7.
const ON_DISKS: [usize; 3] = [0x8000, 0x8400, 0x400];

/// Looks through `bytes` for everything this module knows. In a disk image, that is the loader at the place its tag
/// tells, or else at one where ROMs look, and what belongs to it.
pub fn describe(bytes: &[u8]) -> Description {
    describe_until(bytes, bytes.len())
}

/// The same, but nothing is looked for from `end` on: where the first partition of a disk image begins, since files in
/// it may well be boot images too.
pub fn describe_until(bytes: &[u8], end: usize) -> Description {
    let mut found = Description { length: bytes.len(), findings: Vec::new(), problems: Vec::new() };
    let is_disk = marks::is_disk_image(bytes);
    let place = if is_disk { found.on_disk(bytes) } else { Some(0..end) };
    let Some(place) = place else { return found };
    let (mut start, end) = (place.start, place.end.min(end));
    if marks::is_flexspi(bytes, start) {
        found.findings.push(Finding::FlexSpi(start));
        start = start.saturating_add(marks::FLEXSPI_BYTES);
    }
    if marks::is_barebox(bytes) {
        found.findings.push(Finding::Barebox);
    }
    // A container may well hold something that looks like a table.
    let container_at = |places: &[usize]| places.iter().copied().find(|at| is_container(bytes, *at, *at == start));
    let after = match container_at(&[start]) {
        Some(at) => found.containers_from(bytes, at),
        None => found.tables(bytes, start, end, is_disk),
    };
    let after = match after {
        Some(after) => after,
        // The head of a card without its partition table.
        None => match container_at(&ON_DISKS).filter(|_| !is_disk) {
            Some(at) => found.containers_from(bytes, at).unwrap_or(at),
            None => {
                if let Some(error) = broken_container(bytes, start) {
                    found.problems.push(error.clone());
                    found.findings.push(Finding::Broken(error));
                }
                start
            }
        },
    };
    found.uboot(bytes, after, end);
    found
}

impl Description {
    /// Where in a disk image the loader lies.
    fn on_disk(&mut self, bytes: &[u8]) -> Option<Range<usize>> {
        self.findings.push(Finding::DiskImage);
        match marks::tagged_loader(bytes) {
            Ok(range) => {
                self.findings.push(Finding::Tagged { start: range.start, end: range.end });
                return Some(range);
            }
            Err(error @ ImageError::TagLength { .. }) => self.problems.push(error),
            Err(_) => {}
        }
        let is_loader = |at: &usize| Ivt::read(bytes, *at).is_some() || is_container(bytes, *at, true);
        ON_DISKS.into_iter().find(is_loader).map(|at| at..bytes.len())
    }

    /// The images with vector tables, and where the last of them ends; `None` if there are none. Of a disk image, those
    /// up to the first that is neither firmware nor a plugin: behind the loader lies what is no business of its.
    fn tables(&mut self, bytes: &[u8], start: usize, end: usize, is_disk: bool) -> Option<usize> {
        let mut after = None;
        for ivt in ivt::tables(bytes).filter(|ivt| (start..end).contains(&ivt.at)) {
            // Code that looks for tables has their first bytes in it.
            if ivt.length().is_err() && after.is_some() {
                continue;
            }
            let own_end = ivt.end().ok().and_then(|end| usize::try_from(end).ok()).unwrap_or(ivt.at.saturating_add(4));
            after = after.max(Some(own_end));
            self.problems.extend(ivt.load(bytes).err());
            self.findings.push(Finding::Ivt { signature: ivt.signature(bytes), ivt });
            if is_disk && !ivt.is_hdmi_firmware() && !ivt.is_plugin() {
                break;
            }
        }
        after
    }

    /// The containers that begin at `at`, those of U-Boot proper behind them, and where the last of their images ends.
    fn containers_from(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let loader = sequence(bytes, at);
        let end = loader.iter().map(Container::end).max()?;
        let behind = uboot_containers(bytes, at, offset(end));
        self.problems.extend(loader.iter().chain(&behind).flat_map(|container| container.check(bytes)));
        if let Some(last) = loader.last()
            && loader.iter().all(|container| container.signer() == Signer::Nxp)
        {
            self.problems.push(ImageError::OnlyFirmware { at, next: last.at.saturating_add(last.step()) });
        }
        let end = behind.iter().map(Container::end).fold(end, u64::max);
        self.findings.extend(loader.into_iter().map(Finding::Container));
        self.findings.extend(behind.into_iter().map(Finding::UBoot));
        Some(offset(end))
    }

    /// U-Boot proper in other forms.
    fn uboot(&mut self, bytes: &[u8], after: usize, end: usize) {
        let fit = marks::find_fit(bytes, after).filter(|fit| fit.at < end);
        let legacy = marks::find_legacy(bytes, after).filter(|legacy| legacy.at < end);
        let ends = [
            fit.map(|fit| ("the FIT", fit.at, fit.whole)),
            legacy.as_ref().map(|legacy| ("the U-Boot image", legacy.at, u64::from(legacy.length) + 64)),
        ];
        for (what, at, length) in ends.into_iter().flatten() {
            let at = u64::try_from(at).unwrap_or(u64::MAX);
            if at.saturating_add(length) > len64(bytes) {
                self.problems.push(ImageError::Truncated { what, at, length, end: len64(bytes) });
            }
        }
        self.findings.extend(fit.map(Finding::Fit));
        self.findings.extend(legacy.map(Finding::Legacy));
    }
}

/// The containers that follow those of the loader: at once, or where the next page of some flash memory begins.
fn uboot_containers(bytes: &[u8], first: usize, end: usize) -> Vec<Container> {
    // At the place that an SPL takes it from, U-Boot's container counts even if the file does not hold all of it.
    let due = loader_span(bytes, first, FcbCopy::Take).ok().and_then(|span| first.checked_add(span));
    let due = due.into_iter().map(|at| (at, true));
    let steps = (end.saturating_sub(first).next_multiple_of(0x400)..).step_by(0x400).map(|at| first.saturating_add(at));
    let steps = steps.take_while(|at| *at <= end.saturating_add(GAP) && *at < bytes.len()).map(|at| (at, false));
    let found = due.chain(steps).find(|(at, expected)| is_container(bytes, *at, *expected));
    found.map_or_else(Vec::new, |(at, _)| sequence(bytes, at))
}

/// Does a container begin there? A header alone is only a few bits: unless it stands where one is expected, its images
/// must be where it says too.
fn is_container(bytes: &[u8], at: usize, expected: bool) -> bool {
    Container::read(bytes, at).is_ok_and(|container| {
        (container.tag == container::TAG || container.version == 0)
            && matches!(container.version, 0 | 2)
            && !container.entries.is_empty()
            && (expected
                || (container.signature_block <= container.length
                    && container.entries.iter().all(|entry| container.end_of(entry) <= len64(bytes))))
    })
}

/// What is wrong with something that begins as containers do.
fn broken_container(bytes: &[u8], at: usize) -> Option<ImageError> {
    let [version, _, _, tag] = *bytes.get(at..)?.first_chunk::<4>()?;
    if tag != container::TAG || !matches!(version, 0 | 2) { None } else { Container::read(bytes, at).err() }
}

impl Description {
    /// The chip, by where the loader would be loaded. A guess: boards may differ. Addresses are those of U-Boot's
    /// board configurations and of `mkimage`'s examples.
    pub fn family(&self) -> Option<Family> {
        let by_table = self.findings.iter().find_map(|finding| match finding {
            Finding::Ivt { ivt, .. } if !ivt.is_hdmi_firmware() => ivt_family(ivt),
            _ => None,
        });
        by_table.or_else(|| {
            let all = self.containers().map(|(container, _)| container);
            if all.clone().any(|container| container.version >= 2 || container.tag == container::TAG_V2X) {
                return Some(Family::Imx95);
            }
            // What only one of them has, before what they have in common.
            let loads = all.flat_map(|container| &container.entries).filter(|entry| entry.length > 0);
            let mut loads = loads.map(|entry| entry.load);
            loads.clone().find_map(loader_family).or_else(|| loads.find_map(controller_family))
        })
    }

    /// The containers found, and whether they are those of U-Boot proper.
    fn containers(&self) -> impl Iterator<Item = (&Container, bool)> + Clone {
        self.findings.iter().filter_map(|finding| match finding {
            Finding::Container(container) => Some((container, false)),
            Finding::UBoot(container) => Some((container, true)),
            _ => None,
        })
    }

    /// Where the loader begins; of a set of containers, the first of them.
    pub fn loader_at(&self) -> Option<usize> {
        self.findings.iter().find_map(|finding| match finding {
            Finding::Ivt { ivt, .. } if !ivt.is_hdmi_firmware() => Some(ivt.at),
            Finding::Container(container) => Some(container.at),
            _ => None,
        })
    }

    /// Is an image in a container encrypted?
    pub fn is_encrypted(&self) -> bool {
        self.containers().any(|(container, _)| container.entries.iter().any(|entry| container.is_encrypted(entry)))
    }

    /// Length of the loader in bytes: of the last image with a table that says so, or of the containers together.
    pub fn loader_bytes(&self) -> Option<u64> {
        let of_ivt = |finding: &Finding| match finding {
            Finding::Ivt { ivt, .. } if !ivt.is_hdmi_firmware() => ivt.length().ok().map(u64::from),
            _ => None,
        };
        let containers = || {
            let all = self.containers().filter(|(_, uboot)| !uboot).map(|(container, _)| container);
            let start = all.clone().map(|container| container.at).min()?;
            let end = all.map(Container::end).max()?;
            end.checked_sub(u64::try_from(start).ok()?)
        };
        self.findings.iter().find_map(of_ivt).or_else(containers)
    }

    /// Does every image that the maker of the device could sign have a signature? `None` if there is no such image.
    pub fn is_signed(&self) -> Option<bool> {
        self.signatures().reduce(|all, signed| all && signed)
    }

    /// Has one of them a signature, but not each?
    pub fn is_signed_in_part(&self) -> bool {
        self.is_signed() == Some(false) && self.signatures().any(|signed| signed)
    }

    /// By how many bytes the images found end beyond what was looked at; 0 if nothing lacks. Padding and room
    /// for a signature do not lack ([`Ivt::least_end`]). More than 0 means a file that was cut, unless only its
    /// head was handed over.
    pub fn missing_bytes(&self) -> u64 {
        let length = u64::try_from(self.length).unwrap_or(u64::MAX);
        self.end_by(|ivt| ivt.least_end()).saturating_sub(length)
    }

    /// Where the last of what was found ends, or should.
    pub fn end(&self) -> u64 {
        self.end_by(Ivt::end)
    }

    fn end_by(&self, of_ivt: impl Fn(&Ivt) -> Result<u64, ImageError>) -> u64 {
        let ends = self.findings.iter().map(|finding| match finding {
            Finding::Ivt { ivt, .. } => of_ivt(ivt).unwrap_or(0),
            Finding::Container(container) | Finding::UBoot(container) => container.end(),
            Finding::Fit(fit) => u64::try_from(fit.at).unwrap_or(u64::MAX).saturating_add(fit.whole),
            Finding::Legacy(Legacy { at, length, .. }) => {
                u64::try_from(*at).unwrap_or(u64::MAX).saturating_add(u64::from(*length) + 64)
            }
            _ => 0,
        });
        ends.max().unwrap_or(0)
    }

    /// For each image that the maker of the device could sign, whether it has a signature.
    fn signatures(&self) -> impl Iterator<Item = bool> + '_ {
        self.findings.iter().filter_map(|finding| match finding {
            Finding::Ivt { ivt, signature } if !ivt.is_hdmi_firmware() => Some(*signature == Signature::Present),
            Finding::Container(container) | Finding::UBoot(container) if container.signer() != Signer::Nxp => {
                Some(container.signer() == Signer::Oem)
            }
            _ => None,
        })
    }
}

fn ivt_family(ivt: &Ivt) -> Option<Family> {
    // On i.MX8M the loader follows its table at once; on i.MX6 and 7 there is room for a DCD between them.
    let is_8m = ivt.entry.wrapping_sub(ivt.address) == 0x40;
    Some(match ivt.address {
        0x007e_0000..0x0080_0000 => Family::Imx8mQuadOrMini,
        0x0091_0000..0x0092_0000 if is_8m && ivt.entry < 0x0092_0000 => Family::Imx8mNano,
        0x0091_0000..0x0094_0000 if is_8m => Family::Imx8mPlus,
        0x0090_0000..0x0091_0000 => Family::Imx6,
        0x0091_0000..0x0094_0000 => Family::Imx7,
        0x1000_0000..0x2000_0000 | 0x2700_0000..0x3000_0000 => Family::Imx6,
        0x6700_0000..0x7000_0000 => Family::Imx7Ulp,
        // RT's own memory, and the windows to flash memory that it runs from.
        0x2000_0000..0x2100_0000 | 0x3000_0000..0x3100_0000 | 0x6000_0000..0x6700_0000 => Family::Rt,
        0x7000_0000..0x8000_0000 => Family::Imx53,
        0x8000_0000.. => Family::Imx6Or7,
        _ => return None,
    })
}

/// By where a loader is loaded.
fn loader_family(load: u64) -> Option<Family> {
    match load {
        0x0010_0000..0x0014_0000 => Some(Family::Imx8),
        0x2202_0000..0x2205_0000 => Some(Family::Imx8Ulp),
        0x2048_0000..0x2049_8000 => Some(Family::Imx95),
        0x2049_8000..0x2054_0000 => Some(Family::Imx9),
        _ => None,
    }
}

/// By the memory of the system controller (i.MX8), or of a Cortex-M.
fn controller_family(load: u64) -> Option<Family> {
    match load {
        0x1ffe_0000..0x2000_0000 => Some(Family::Imx8),
        0x1ffc_0000..0x1ffe_0000 => Some(Family::Imx95),
        _ => None,
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return write!(f, "no boot image is recognised in {} bytes", self.length);
        }
        for (n, finding) in self.findings.iter().enumerate() {
            let end = if n == 0 { "" } else { "\n" };
            write!(f, "{end}")?;
            self.line(finding, f)?;
        }
        if let Some(family) = self.family() {
            write!(f, "\nprobably for {family}")?;
        }
        if let Some(bytes) = self.loader_bytes() {
            write!(f, "\nloader of {bytes} bytes")?;
        }
        match self.is_signed() {
            Some(true) => write!(f, "\nsigned"),
            Some(false) if self.is_signed_in_part() => write!(f, "\nsigned in part only"),
            Some(false) => write!(f, "\nnot signed"),
            None => Ok(()),
        }
    }
}

impl Description {
    /// One of the findings in words, as [`Display`](fmt::Display) has it on its line.
    pub fn words(&self, finding: &Finding) -> String {
        struct Line<'d>(&'d Description, &'d Finding);
        impl fmt::Display for Line<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.line(self.1, f)
            }
        }
        Line(self, finding).to_string()
    }

    fn line(&self, finding: &Finding, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match finding {
            Finding::Broken(error) => write!(f, "{error}"),
            Finding::DiskImage => write!(f, "0x0: partition table of a disk image"),
            Finding::Tagged { start, end } => {
                write!(f, "{start:#x}: loader of a disk image, up to its tag at {end:#x}")
            }
            Finding::FlexSpi(at) => write!(f, "{at:#x}: FlexSPI header"),
            Finding::Barebox => write!(f, "0x20: barebox"),
            Finding::Fit(fit) => {
                write!(f, "{:#x}: FIT, tree of {} bytes", fit.at, fit.length)?;
                if fit.whole > fit.length.into() {
                    write!(f, ", {} bytes with the images behind it", fit.whole)?;
                }
                self.missing(fit.at, fit.whole, f)
            }
            Finding::Legacy(Legacy { at, length, name }) => {
                write!(f, "{at:#x}: U-Boot image {name:?}, {length} bytes")?;
                self.missing(*at, u64::from(*length) + 64, f)
            }
            Finding::Ivt { ivt, signature } => {
                let what = match (ivt.is_hdmi_firmware(), ivt.is_plugin()) {
                    (true, _) => "HDMI firmware",
                    (_, true) => "plugin image",
                    _ => "image",
                };
                write!(f, "{:#x}: {what} with vector table, for {:#010x}", ivt.at, ivt.address)?;
                write!(f, ", entered at {:#010x}", ivt.entry)?;
                if ivt.dcd != 0 {
                    write!(f, ", with DCD")?;
                }
                match signature {
                    Signature::None => write!(f, ", unsigned")?,
                    Signature::Room => write!(f, ", unsigned (room for a signature)")?,
                    Signature::Present => write!(f, ", signed")?,
                }
                match ivt.length() {
                    Ok(length) => {
                        write!(f, ", {length} bytes")?;
                        // Padding, and room for a signature, may lack.
                        let lacks =
                            ivt.least_end().is_ok_and(|end| end > u64::try_from(self.length).unwrap_or(u64::MAX));
                        if lacks { self.missing(ivt.at, length.into(), f) } else { Ok(()) }
                    }
                    Err(error) => write!(f, "; {error}"),
                }
            }
            Finding::Container(container) | Finding::UBoot(container) => {
                let what = match (finding, container.tag) {
                    (Finding::UBoot(_), _) => "container behind the loader,",
                    (_, container::TAG_V2X) => "container (tag 82)",
                    _ => "container",
                };
                let signer = match container.signer() {
                    Signer::Nobody => "unsigned",
                    Signer::Nxp => "signed by NXP",
                    Signer::Oem => "signed by the maker of the device",
                    Signer::Unknown => "signed by nobody known",
                };
                write!(f, "{:#x}: {what} of version {}, {signer}", container.at, container.version)?;
                match container.entries.len() {
                    1 => write!(f, ", 1 image")?,
                    images => write!(f, ", {images} images")?,
                }
                match container.entries.iter().filter(|entry| container.is_encrypted(entry)).count() {
                    0 => {}
                    encrypted => write!(f, ", {encrypted} encrypted")?,
                }
                let length = container.end().saturating_sub(u64::try_from(container.at).unwrap_or(u64::MAX));
                self.missing(container.at, length, f)
            }
        }
    }

    fn missing(&self, at: usize, length: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(length);
        let missing = end.saturating_sub(u64::try_from(self.length).unwrap_or(u64::MAX));
        if missing > 0 { write!(f, " ({missing} of them beyond the end of the file)") } else { Ok(()) }
    }
}
