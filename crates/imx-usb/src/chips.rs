//! Which chip is this, and how does it want to be talked to.
//!
//! A [`ChipTable`] has two lists: [`UsbId`]s in match order (USB identifiers → protocol and chip name) and [`Chip`]s
//! (what is known about a chip by that name). [`ChipTable::builtin`] knows i.MX28 to i.MX952 and the loaders and
//! fastboot gadgets that follow them; [`config`] adds to it from `CFG:` lines and configuration files.
//!
//! Nothing here opens a device. The rows agree with those of NXP's `uuu` 1.5.243, as its `-v` option prints them.

pub mod config;
mod rows;

use std::borrow::Cow;
use std::fmt;
use std::ops::{Range, RangeInclusive};

/// What a device on the bus speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// A boot ROM that takes an image with an IVT by HID commands: i.MX6, i.MX7, i.MX8M Quad and Mini.
    Sdp,
    /// A boot ROM that takes a stream of HID reports: i.MX28, i.MX8/8X, i.MX8M Nano and Plus, i.MX9.
    Sdps,
    /// An older U-Boot SPL; the host must know where in the file U-Boot proper starts.
    Sdpu,
    /// A U-Boot SPL that looks for U-Boot proper in what it is sent.
    Sdpv,
    /// U-Boot's fastboot.
    Fastboot,
    /// The fastboot-like daemon of an initramfs (`ufb`).
    Fbk,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Sdp, Self::Sdps, Self::Sdpu, Self::Sdpv, Self::Fastboot, Self::Fbk];

    /// The name scripts use: `SDP`, `SDPS`, `SDPU`, `SDPV`, `FB` or `FBK`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sdp => "SDP",
            Self::Sdps => "SDPS",
            Self::Sdpu => "SDPU",
            Self::Sdpv => "SDPV",
            Self::Fastboot => "FB",
            Self::Fbk => "FBK",
        }
    }

    /// The protocol of that name, whatever its case. `FASTBOOT` means `FB`.
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("FASTBOOT") {
            return Some(Self::Fastboot);
        }
        Self::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// How far a board that speaks it is on its way to Linux: `rom`, `loader`, `fastboot` or `initramfs`. These stay the
    /// same.
    pub const fn stage(self) -> &'static str {
        match self {
            Self::Sdp | Self::Sdps => "rom",
            Self::Sdpu | Self::Sdpv => "loader",
            Self::Fastboot => "fastboot",
            Self::Fbk => "initramfs",
        }
    }

    /// Is this the chip's own ROM, rather than software it was given?
    pub fn is_rom(self) -> bool {
        matches!(self, Self::Sdp | Self::Sdps)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A USB identifier: who made the device, which one, and its release (`bcdDevice`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsbId {
    /// What such a device speaks.
    pub protocol: Protocol,
    /// The chip's short name, for looking up its [`Chip`]. Empty for fastboot and FBK: any chip.
    pub chip: Cow<'static, str>,
    /// Whose [`Chip`] to use when there is none by the name in `chip`.
    pub compatible: Option<Cow<'static, str>>,
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// The values of `bcdDevice` this row is for.
    pub release: RangeInclusive<u16>,
}

impl UsbId {
    /// Is a device with these numbers meant?
    pub fn matches(&self, vendor: u16, product: u16, release: u16) -> bool {
        self.vendor == vendor && self.product == product && self.release.contains(&release)
    }
}

/// Which way HID reports go out when the interface lists no OUT endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportRoute {
    /// By SET_REPORT on the control pipe.
    Control,
    /// By interrupt transfers to endpoint 0x01, though the descriptors may not list it.
    Endpoint1,
}

/// How much of a boot image a streaming ROM is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamExtent {
    /// Everything: the loader fetches the rest through the ROM.
    WholeFile,
    /// Up to the end of the container that holds the loader, which then comes back as SDPV.
    LoaderContainer,
}

/// The form in which a ROM takes its loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// An image vector table (HAB).
    Ivt,
    /// AHAB containers.
    Container,
    /// i.MX28 boot stream (`.sb`).
    BootStream,
    /// Whatever the loader finds by itself: FIT, container, or an image with IVT.
    Loader,
}

/// Where a chip's ROM looks for its loader, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoaderOffset {
    /// From the start of an SD card, or of an eMMC's user area.
    pub user: u32,
    /// From the start of an eMMC boot partition. `None` if it depends on the revision of the chip (i.MX8QXP B0 looks
    /// at 0x8000, C0 at 0).
    pub boot: Option<u32>,
}

/// Where NXP's U-Boot keeps its hands off, on the evaluation kits of a chip.
///
/// From the board configurations of NXP's U-Boot 2023.04; a board with less memory than the kit may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Memory {
    /// `loadaddr`: free memory from here up to the fastboot buffer.
    pub load_address: u64,
    /// Where fastboot puts what it downloads.
    pub fastboot_buffer: u64,
    /// Length of that buffer as U-Boot announces it; not clamped to what the board really has.
    pub fastboot_buffer_bytes: u64,
}

impl Memory {
    /// Addresses that commands may use for themselves without touching U-Boot or a download.
    pub fn scratch(&self) -> Range<u64> {
        self.load_address..self.fastboot_buffer
    }
}

/// U-Boot's numbers for the cards of NXP's evaluation kits; other boards may have others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cards {
    /// The eMMC.
    pub emmc: u32,
    /// The SD slot.
    pub sd: u32,
}

/// What is known about a chip, or about a loader of which the chip is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chip {
    /// Short name, as in scripts: `MX8MM`.
    pub name: Cow<'static, str>,
    /// Full name: `i.MX8M Mini`.
    pub title: Cow<'static, str>,
    /// Bytes of data in a HID report 2, not counting its identifier: 1024 or 1020.
    pub report_payload: u16,
    /// Which way reports go out.
    pub route: ReportRoute,
    /// An address that may hold a DCD on its way to being carried out. `None`: not needed.
    pub free_address: Option<u32>,
    /// Does the ROM know the command to skip the DCD? Without it the image is sent a DCD pointer of 0.
    pub skip_dcd: bool,
    /// Most bytes in one SDP file write. `None`: no limit.
    pub write_limit: Option<u32>,
    /// Does a stream begin with a command block (i.MX28)?
    pub command_block: bool,
    /// How much a streaming ROM is sent.
    pub stream: StreamExtent,
    /// What the ROM takes.
    pub format: ImageFormat,
    /// Does a barebox image need its second part sent after the first?
    pub barebox_second_stage: bool,
    /// The string descriptor that holds the serial number when the device descriptor names none.
    pub serial_string: Option<u8>,
    /// Where the ROM looks on storage; `None` where no source was found.
    pub loader_offset: Option<LoaderOffset>,
    /// What the device may come back as, likeliest first. Empty where nothing is known.
    pub next: Cow<'static, [Protocol]>,
    /// Memory for U-Boot commands; `None` where no source was found.
    pub memory: Option<Memory>,
    /// Numbers of cards; `None` where no source was found.
    pub cards: Option<Cards>,
}

/// A device that the table knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match<'t> {
    /// The row of identifiers.
    pub id: &'t UsbId,
    /// The chip, unless nothing is known about one of that name (always so for fastboot and FBK).
    pub chip: Option<&'t Chip>,
}

/// The identifiers and chips in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipTable {
    ids: Vec<UsbId>,
    chips: Vec<Chip>,
}

impl Default for ChipTable {
    fn default() -> Self {
        Self::builtin()
    }
}

impl ChipTable {
    /// Every chip and gadget this crate knows.
    pub fn builtin() -> Self {
        Self { ids: rows::ids(), chips: rows::chips() }
    }

    /// The first row that matches.
    pub fn identify(&self, vendor: u16, product: u16, release: u16) -> Option<Match<'_>> {
        let id = self.ids.iter().find(|id| id.matches(vendor, product, release))?;
        Some(Match { id, chip: self.chip_of(id) })
    }

    /// Rows with these identifiers whatever their release: why a device just missed, or what it might be.
    pub fn near_misses(&self, vendor: u16, product: u16) -> impl Iterator<Item = &UsbId> {
        self.ids.iter().filter(move |id| id.vendor == vendor && id.product == product)
    }

    /// The chip by that name, whatever its case.
    pub fn chip(&self, name: &str) -> Option<&Chip> {
        self.chips.iter().find(|chip| chip.name.eq_ignore_ascii_case(name))
    }

    /// What is known about the chip of a row: by its name, else by the name it is compatible with.
    pub fn chip_of(&self, id: &UsbId) -> Option<&Chip> {
        self.chip(&id.chip).or_else(|| self.chip(id.compatible.as_deref()?))
    }

    /// All rows, in match order.
    pub fn ids(&self) -> &[UsbId] {
        &self.ids
    }

    /// All chips.
    pub fn chips(&self) -> &[Chip] {
        &self.chips
    }

    /// Adds a row as `uuu` does: it takes the place of the first row with the same vendor and product whose releases
    /// include the new row's last one; without such a row it goes to the end.
    ///
    /// A row for all releases (up to 0xFFFF) therefore does not replace one that ends at 0x9998.
    pub fn add_id(&mut self, id: UsbId) {
        let last = *id.release.end();
        match self.ids.iter_mut().find(|old| old.matches(id.vendor, id.product, last)) {
            Some(old) => *old = id,
            None => self.ids.push(id),
        }
    }

    /// Adds a chip, or replaces the one of that name.
    pub fn add_chip(&mut self, chip: Chip) {
        match self.chips.iter_mut().find(|old| old.name.eq_ignore_ascii_case(&chip.name)) {
            Some(old) => *old = chip,
            None => self.chips.push(chip),
        }
    }
}

#[cfg(test)]
mod tests;
