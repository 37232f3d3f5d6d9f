//! What went wrong on the way.

use std::fmt;
use std::time::Duration;

use super::action::Contents;
use crate::bootimage::ImageError;
use crate::bus::{BusError, OpenError, Port};
use crate::chips::{ImageFormat, Protocol};
use crate::pipe::Fault;
use crate::sdp::{HabState, SdpError};
use crate::sdps::SdpsError;

/// A board in a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it speaks.
    pub protocol: Protocol,
    /// The chip or loader, in full.
    pub title: Option<String>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.protocol {
            Protocol::Sdp | Protocol::Sdps => "boot ROM",
            Protocol::Sdpu | Protocol::Sdpv => "loader",
            Protocol::Fastboot => "fastboot",
            Protocol::Fbk => "initramfs",
        };
        let its = if self.protocol == Protocol::Fastboot { "" } else { "its " };
        write!(f, "in {its}{place} ({})", self.protocol)
    }
}

/// A board that could not be brought to fastboot.
#[derive(Debug, thiserror::Error)]
#[error("the {} at {port}{}", what(.stage), InStage(.stage))]
pub struct BootError {
    /// Where it is, or was.
    pub port: Port,
    /// The stage it was last seen in; `None` if it was not seen.
    pub stage: Option<Stage>,
    /// Bytes it was sent in that stage.
    pub sent: usize,
    /// Bytes it was to be sent there.
    pub of: usize,
    /// What went wrong.
    #[source]
    pub problem: Box<Problem>,
}

/// The chip where it is known; a loader's name says nothing.
fn what(stage: &Option<Stage>) -> &str {
    let rom = stage.as_ref().filter(|stage| stage.protocol.is_rom());
    rom.and_then(|stage| stage.title.as_deref()).unwrap_or("board")
}

struct InStage<'a>(&'a Option<Stage>);

impl fmt::Display for InStage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(stage) => write!(f, ", {stage}"),
            None => Ok(()),
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The bus could not be looked at.
    #[error(transparent)]
    Bus(BusError),
    /// The board could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// Nothing is plugged in there.
    #[error("no board is there (waited {})", Seconds(*.0))]
    NoBoard(Duration),
    /// Something is there that is no board the table knows.
    #[error("{vendor:04x}:{product:04x} (release {release:#06x}) is no i.MX board that is known")]
    Unknown {
        /// `idVendor`.
        vendor: u16,
        /// `idProduct`.
        product: u16,
        /// `bcdDevice`.
        release: u16,
    },
    /// A row of the table names a chip of which nothing is known.
    #[error("nothing is known about this chip but its name, so it cannot be talked to")]
    NoChip,
    /// The image is broken, or what is due is not in it.
    #[error("the boot image cannot be used")]
    Image(#[source] ImageError),
    /// The image is not of the kind that the ROM takes. Nothing was sent.
    #[error("{}", wrong_format(*.wanted, *.found))]
    Format {
        /// What the ROM takes.
        wanted: ImageFormat,
        /// What lies where the loader should be.
        found: Contents,
    },
    /// The chip is closed and the image has no signature. Nothing was sent.
    #[error("the chip is closed (HAB): it starts signed images only, and the boot image is not signed")]
    Unsigned,
    /// The ROM or loader said so.
    #[error("it refuses the boot image with status {status:#010x}{}", refusal(*.hab, *.signed))]
    Refused {
        /// Its status.
        status: u32,
        /// Is the chip closed, as far as it says?
        hab: Option<HabState>,
        /// Has the image a signature, as far as can be told?
        signed: Option<bool>,
    },
    /// A command failed. [`Problem::fault`] tells a stall from a board that left or hangs.
    #[error(transparent)]
    Sdp(SdpError),
    /// The stream broke off. [`Problem::fault`] tells a stall from a board that left or hangs.
    #[error(transparent)]
    Sdps(SdpsError),
    /// It was sent everything and is still there as it was.
    #[error("it was sent everything, but does not start it (waited {}){}", Seconds(*.waited), unsigned(*.signed))]
    Stays {
        /// How long.
        waited: Duration,
        /// Has the image a signature, as far as can be told? A closed chip that streams ignores unsigned ones silently.
        signed: Option<bool>,
    },
    /// It left and did not come back.
    #[error("it left and did not come back within {}{}", Seconds(*.waited), moved(.elsewhere))]
    Vanished {
        /// How long was waited.
        waited: Duration,
        /// A device of the same serial number that is on the bus elsewhere.
        elsewhere: Option<Port>,
    },
    /// It came back as something that does not follow.
    #[error("it came back {found}{}", unsigned(*.signed))]
    CameBack {
        /// As what.
        found: Stage,
        /// Has the image a signature, as far as can be told?
        signed: Option<bool>,
    },
    /// It is another board.
    #[error("this is another board: its {what} is {found:?}, not {expected:?}")]
    OtherBoard {
        /// What differs.
        what: &'static str,
        /// As it was.
        expected: String,
        /// As it is.
        found: String,
    },
    /// It came and went too often.
    #[error("it comes and goes: {0} times by now")]
    Restless(u32),
    /// Somebody called it off.
    #[error("called off")]
    Cancelled,
}

impl Problem {
    /// What happened to the transfer, if that was the problem.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Sdp(SdpError::Transfer { source, .. }) | Self::Sdps(SdpsError::Transfer { source, .. }) => {
                Some(&source.fault)
            }
            _ => None,
        }
    }
}

fn wrong_format(wanted: ImageFormat, found: Contents) -> String {
    let wanted = format_words(wanted);
    match found {
        Contents::Unknown => format!("the file to boot it with is no boot image: the chip takes {wanted}"),
        found => format!("the chip takes {wanted}, but the boot image is {found}"),
    }
}

pub(super) fn format_words(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Ivt => "images with a vector table (IVT)",
        ImageFormat::Container => "containers (AHAB)",
        ImageFormat::BootStream => "boot streams (.sb)",
        ImageFormat::Loader => "what its loader finds",
    }
}

fn refusal(hab: Option<HabState>, signed: Option<bool>) -> &'static str {
    match (hab, signed) {
        (Some(HabState::Closed), Some(true)) => "; the chip is closed (HAB), so the signature may be a wrong one",
        (Some(HabState::Closed), _) => "; the chip is closed (HAB): it starts signed images only",
        (_, _) => "",
    }
}

fn unsigned(signed: Option<bool>) -> &'static str {
    match signed {
        Some(false) => "; the image is not signed: a closed chip does that",
        _ => "",
    }
}

fn moved(elsewhere: &Option<Port>) -> String {
    match elsewhere {
        Some(port) => format!("; a device of its serial number is at {port}"),
        None => String::new(),
    }
}

/// A duration as people write it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_millis() / 100;
        match tenths % 10 {
            0 => write!(f, "{} s", tenths / 10),
            rest => write!(f, "{}.{rest} s", tenths / 10),
        }
    }
}
