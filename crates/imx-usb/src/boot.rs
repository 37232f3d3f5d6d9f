//! From whatever a board is in to fastboot: through its boot ROM and its loader, followed by the port it is plugged in at.
//!
//! ```text
//! SDP ──────┬──> SDPU, SDPV ──> fastboot      i.MX6, 7, 8M Quad and Mini
//!           └─────────────────> fastboot      images without SPL
//! SDPS ─┬──────> SDPV ────────> fastboot      i.MX8/8X, 95
//!       └─────────────────────> fastboot      i.MX8M Nano and Plus, 8ULP, 91, 93
//! ```
//!
//! - [`boot`] goes the way over a [`Bus`]: sends what is due, waits until the board has left and come back, and so on.
//! - [`next_action`] says what is due, from the image and from what is on the port. It touches no device.
//! - [`recognise`] says what a device is.
//! - [`suits`] says whether a loader is one that a chip would start from a card.
//!
//! A board that is in fastboot already is left as it is. Everything has a deadline. What went wrong is a [`BootError`]:
//! where, in which stage, how much had been sent, and what came back.
//!
//! Left out: what is done in fastboot, and finding boards ([`Bus::devices`]).

mod action;
mod error;
mod suits;
mod walk;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bootimage::describe::Family;
use crate::bootimage::part::Start;
use crate::bus::{Device, Port};
use crate::chips::{Chip, ChipTable, Protocol};
use crate::fastboot::Pace;
use crate::sdp::HabState;

pub use action::{Action, Contents, next_action};
pub use error::{BootError, Problem, Stage};
pub use suits::{Unfit, suits};
pub use walk::boot;

#[cfg(doc)]
use crate::bus::Bus;

/// What a device on the bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'t> {
    /// What it speaks.
    pub protocol: Protocol,
    /// Which chip or loader it is; `None` for fastboot and FBK, which say nothing of the chip.
    pub chip: Option<&'t Chip>,
    /// Are its identifiers in the table? A device that only has fastboot's interface may also be a telephone.
    pub known: bool,
}

/// What `device` is: by its identifiers, or by an interface of fastboot's class. `None` if it is nothing of ours.
///
/// Some identifiers of fastboot gadgets are those of any Linux gadget; such a device must have the interface, too.
pub fn recognise<'t>(table: &'t ChipTable, device: &Device) -> Option<Seen<'t>> {
    let fastboot = device.speaks_fastboot();
    match table.identify(device.vendor, device.product, device.release) {
        Some(found) if found.id.protocol != Protocol::Fastboot || fastboot || device.interfaces.is_empty() => {
            Some(Seen { protocol: found.id.protocol, chip: found.chip, known: true })
        }
        _ if fastboot => Some(Seen { protocol: Protocol::Fastboot, chip: None, known: false }),
        _ => None,
    }
}

/// A boot image, ready to be sent in parts. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct BootImage {
    bytes: Arc<[u8]>,
    uboot: Option<Arc<[u8]>>,
    start: Start,
    skip: usize,
}

impl BootImage {
    /// A file with the loader and, mostly, U-Boot in it: `flash.bin`, `u-boot.imx`, or the first
    /// [`SCAN_BYTES`](crate::bootimage::SCAN_BYTES) of a disk image that holds a loader.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let start = Start { offset: 0, skip_flexspi: true, by_tag: true };
        Self { bytes: bytes.into(), uboot: None, start, skip: 0 }
    }

    /// The same with U-Boot in a file of its own, which the loader is then sent whole.
    #[must_use]
    pub fn with_uboot(mut self, bytes: impl Into<Arc<[u8]>>) -> Self {
        self.uboot = Some(bytes.into());
        self
    }

    /// The same, with the loader looked for elsewhere. Without this: at the beginning, behind a FlexSPI header if there
    /// is one, or where the tag of a disk image says.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// The same, without the first `count` images that have a vector table (HDMI firmware is not one of them).
    #[must_use]
    pub fn skip_images(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is known of one board, so that it is known again. What it tells of itself differs from stage to stage: here it
/// is tied together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Where it is.
    pub port: Port,
    /// Its chip's short name, once it was seen in its ROM.
    pub chip: Option<Cow<'static, str>>,
    /// The serial number that its ROM tells.
    pub rom_serial: Option<String>,
    /// The serial number that U-Boot's fastboot tells.
    pub uboot_serial: Option<String>,
    /// Does the chip take unsigned images? Only some ROMs say.
    pub hab: Option<HabState>,
}

impl Identity {
    /// A board of which only the place is known.
    pub fn at(port: Port) -> Self {
        Self { port, chip: None, rom_serial: None, uboot_serial: None, hab: None }
    }

    /// Has the board this serial number, in one stage or the other? Letters may be large or small.
    pub fn has_serial(&self, serial: &str) -> bool {
        let same = |own: &Option<String>| own.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(serial));
        same(&self.rom_serial) || same(&self.uboot_serial)
    }
}

/// How a board is to be booted.
#[derive(Clone, Copy)]
pub struct BootOptions<'a> {
    /// How long the board may take to be there at all.
    pub appear: Duration,
    /// How long it may take to leave once it has all that it needs. Loaders set up memory in that time.
    pub leave: Duration,
    /// How long it may be gone before it comes back.
    pub come_back: Duration,
    /// How long a loader is left alone before it is sent anything. `uuu`'s scripts wait a second there.
    pub settle: Duration,
    /// How long one report may take.
    pub report: Duration,
    /// How long all reports of a stage may take.
    pub transfer: Pace,
    /// Ask ROMs that take commands whether the chip is closed? It is a command that changes nothing.
    pub ask_hab: bool,
    /// Send an unsigned image to a closed chip all the same?
    pub send_unsigned: bool,
    /// Who the board was before: another serial number in the same stage is then an error.
    pub expect: Option<&'a Identity>,
    /// Asked between reports and while waiting: has somebody called it off?
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

fn never() -> bool {
    false
}

impl Default for BootOptions<'_> {
    fn default() -> Self {
        Self {
            appear: Duration::from_secs(2),
            leave: Duration::from_secs(15),
            come_back: Duration::from_secs(30),
            settle: Duration::from_secs(1),
            report: Duration::from_secs(10),
            transfer: Pace::new(30, 200_000),
            ask_hab: true,
            send_unsigned: false,
            expect: None,
            cancelled: &never,
        }
    }
}

impl fmt::Debug for BootOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { appear, leave, come_back, settle, report, transfer, ask_hab, send_unsigned, expect, .. } = self;
        f.debug_struct("BootOptions")
            .field("appear", appear)
            .field("leave", leave)
            .field("come_back", come_back)
            .field("settle", settle)
            .field("report", report)
            .field("transfer", transfer)
            .field("ask_hab", ask_hab)
            .field("send_unsigned", send_unsigned)
            .field("expect", expect)
            .finish_non_exhaustive()
    }
}

/// What happens on the way, as it happens.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Step<'a> {
    /// The board is there as this.
    Found {
        /// The device.
        device: &'a Device,
        /// What it is.
        seen: Seen<'a>,
        /// What is known of it so far.
        identity: &'a Identity,
    },
    /// The ROM says whether the chip takes unsigned images.
    Hab(HabState),
    /// By its load address the image seems to be for other chips. A guess: it is sent all the same.
    LooksLike(Family),
    /// So much was sent in this stage.
    Sending {
        /// Bytes sent.
        sent: usize,
        /// Bytes to be sent.
        of: usize,
    },
    /// The board has what it needs; it should leave and come back.
    Waiting {
        /// As what, likeliest first; empty if nothing is known.
        next: &'a [Protocol],
    },
}

/// A board that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    /// The device.
    pub device: Device,
    /// [`Protocol::Fastboot`] or [`Protocol::Fbk`].
    pub protocol: Protocol,
    /// Who it is, by all stages it was seen in.
    pub identity: Identity,
}

#[cfg(test)]
mod tests;
