//! What the U-Boot on a board can do, and where: everything that must be settled before it is sent a command.

use std::ops::Range;

use imx_usb::probe::Shell;

/// A board's U-Boot, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// How it runs shell lines, if it does.
    pub shell: Option<Shell>,
    /// Its number of the device that is written.
    pub device: u32,
    /// The fastboot name of that device's whole user area, if it has one.
    pub whole: Option<String>,
    /// Bytes of the user area, where it tells.
    pub capacity: Option<u64>,
    /// The most bytes it may be sent in one download.
    pub download: u64,
    /// Where downloads lie, if that is known.
    pub buffer: Option<u64>,
    /// Memory that commands may use: disjoint from the download buffer and from U-Boot.
    pub scratch: Option<Range<u64>>,
    /// `crc32 -v`.
    pub crc32_verify: bool,
    /// `hash sha256` and comparing strings.
    pub sha256: bool,
    /// `cmp.b`.
    pub compare: bool,
    /// Values come back: a variable `fastboot.X` by `getvar:X`.
    pub values: bool,
    /// `unlz4`.
    pub unlz4: bool,
    /// `gzwrite`.
    pub gzwrite: bool,
    /// The longest command, in bytes: 4095 over USB, 64 over UDP.
    pub line: usize,
}

impl Profile {
    /// Bytes of scratch memory; 0 where none is known.
    pub(crate) fn scratch_bytes(&self) -> u64 {
        self.scratch.as_ref().map_or(0, |scratch| scratch.end.saturating_sub(scratch.start))
    }

    /// Can a download be written by `mmc write`, to any place?
    pub(crate) fn can_place(&self) -> bool {
        self.shell.is_some() && self.buffer.is_some()
    }

    /// Is it NXP's tree? Only its fastboot calls the whole card so.
    pub(crate) fn is_nxp(&self) -> bool {
        self.whole.as_deref() == Some("all")
    }

    /// Can it make sums of what it holds?
    pub(crate) fn can_sum(&self) -> bool {
        self.can_judge() && (self.crc32_verify || self.sha256)
    }

    /// Can what was written be compared with what was sent?
    pub(crate) fn can_compare(&self) -> bool {
        self.compare && self.can_place()
    }

    /// Can what was written be read back and judged there?
    pub(crate) fn can_judge(&self) -> bool {
        self.shell.is_some() && self.scratch_bytes() > 0 && (self.crc32_verify || self.sha256 || self.can_compare())
    }
}
