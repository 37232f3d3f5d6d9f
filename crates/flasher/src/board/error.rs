//! What goes wrong with one board. Others go on.

use std::sync::Arc;
use std::time::Duration;

use bmap::ByteRange;
use imx_usb::boot::{BootError, Problem, Unfit};
use imx_usb::bus::{BusError, OpenError, Port};
use imx_usb::fastboot::FastbootError;
use imx_usb::fastboot::udp::UdpError;
use imx_usb::probe::ProbeError;
use imx_usb::probe::card::CardError;

use super::feed::Dry;
use super::place::To;
use super::uboot::Area;
use crate::error::{FlashError, listed};

/// Why a board does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// The bus cannot be listed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is not there.
    #[error("no board {which} appeared within {} s", waited.as_secs())]
    NotThere {
        /// Which, as it was named, or where it was.
        which: String,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// It waits in its ROM or loader, and nothing was given to boot it with.
    #[error("the board at {port} ({chip}) waits for a boot image")]
    NoBootImage {
        /// Where.
        port: Port,
        /// What it is.
        chip: String,
    },
    /// It did not come as far as fastboot.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// It does not answer over the network.
    #[error(transparent)]
    Network(Box<UdpError>),
    /// It could not be asked what it can do.
    #[error(transparent)]
    Probe(Box<ProbeError>),
    /// It has no such card.
    #[error(transparent)]
    Card(Box<CardError>),
    /// A command failed, or the link.
    #[error(transparent)]
    Fastboot(#[from] FastbootError),
    /// It refused to write, twice.
    #[error("the board could not write all of {}{}", listed(pieces), words(says))]
    Refused {
        /// What it was to write.
        pieces: Vec<ByteRange>,
        /// Its words; often none.
        says: String,
    },
    /// It does not hold what it was sent, also after it was sent again.
    #[error(
        "the board does not hold what was written: {}, also after sending it again {attempts} times",
        listed(pieces)
    )]
    NotHeld {
        /// Which parts of the image.
        pieces: Vec<ByteRange>,
        /// How often they were sent again.
        attempts: u32,
    },
    /// The image could not be read, or is not what its map says.
    #[error("{0}")]
    Source(Arc<FlashError>),
    /// Somebody asked to stop.
    #[error("stopped on request")]
    Cancelled,
    /// The image does not fit.
    #[error("the image needs {image} bytes, the board's {place} has {capacity}")]
    TooSmall {
        /// Where it should go.
        place: To,
        /// Bytes of the image.
        image: u64,
        /// Bytes there are.
        capacity: u64,
    },
    /// A proof was asked for, and the loader cannot be proven there: it was not written, and the boot switch is as it was.
    #[error("the loader was left out, for this board's U-Boot has no command to prove it with")]
    LoaderLeftOut,
    /// There is no such place on this board.
    #[error("the board has no {place} ({why})")]
    NoPlace {
        /// Where the image should go.
        place: To,
        /// How that was found out.
        why: String,
    },
    /// The loader is none that its chip would start. Nothing was written.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The loader does not fit into a boot partition. Nothing was written.
    #[error("the loader would end at byte {end} of {}, which ends before", area.name())]
    LoaderTooLong {
        /// Where it should go.
        area: Area,
        /// Where it would end.
        end: u64,
    },
    /// Its U-Boot cannot do what was asked.
    #[error("this board's U-Boot cannot {what}: {why}")]
    Cannot {
        /// What.
        what: &'static str,
        /// What it lacks.
        why: &'static str,
    },
    /// It was written, and there is no way to prove it.
    #[error("written, but this board's U-Boot has no command to prove it with")]
    NoProof,
    /// Another board stands where it was.
    #[error("the board that is now at {port} is another one: it says it is {found}, and it was {expected}")]
    Another {
        /// Where.
        port: Port,
        /// The serial number it had.
        expected: String,
        /// The serial number of the other.
        found: String,
    },
    /// It is on the bus and says nothing.
    #[error("the board at {port} does not answer any more: it must be switched off and on")]
    Silent {
        /// Where.
        port: Port,
    },
    /// It was lost and is not to be had again.
    #[error("the board was lost: {then}")]
    NotBack {
        /// Why it is not to be had again.
        then: Box<BoardError>,
        /// How it was lost.
        #[source]
        lost: Box<BoardError>,
    },
    /// All was written, and the last command, to leave fastboot, was not carried out.
    #[error("the board holds the image, but does not leave fastboot")]
    Stays {
        /// What happened to the command.
        #[source]
        source: FastbootError,
    },
    /// It failed again and again.
    #[error("the board was lost {times} times without getting any further")]
    LostAgain {
        /// How often.
        times: u32,
        /// The last time.
        #[source]
        source: Box<BoardError>,
    },
    /// A worker thread panicked: a defect of ours.
    #[error("internal error: the board's thread panicked")]
    Panicked,
}

fn words(says: &str) -> String {
    if says.is_empty() { ", and does not say why".to_owned() } else { format!(": it says {says:?}") }
}

impl BoardError {
    /// Is the link lost, so that the board may come back and go on?
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Open(OpenError::Gone { .. }) => true,
            Self::Boot(error) => {
                let gone = matches!(*error.problem, Problem::Open(OpenError::Gone { .. }) | Problem::Vanished { .. });
                gone || error.problem.fault().is_some()
            }
            Self::Probe(error) => matches!(&**error, ProbeError::Link(error) if is_link(error)),
            Self::Card(error) => matches!(&**error, CardError::Probe(ProbeError::Link(error)) if is_link(error)),
            Self::Fastboot(error) => is_link(error),
            _ => false,
        }
    }

    /// Is the board not to be had at all? What was before that is then what has to be seen to.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::NotThere { .. } | Self::Silent { .. } | Self::Network(_))
    }

    /// May the board be there still? It was talked to, and has not left the bus for all that is known.
    pub(crate) fn may_be_there(&self) -> bool {
        let error = match self {
            Self::Fastboot(error) => error,
            Self::Probe(error) => match &**error {
                ProbeError::Link(error) => error,
                _ => return false,
            },
            Self::Card(error) => match &**error {
                CardError::Probe(ProbeError::Link(error)) => error,
                _ => return false,
            },
            _ => return false,
        };
        let gone = matches!(error, FastbootError::Transfer { source, .. } if source.is_gone());
        is_link(error) && !gone
    }
}

/// After these nothing is known of what the board does.
fn is_link(error: &FastbootError) -> bool {
    use FastbootError::{DataSize, OutOfStep, Reply, Transfer, Unexpected};
    matches!(error, Transfer { .. } | OutOfStep { .. } | Reply { .. } | DataSize { .. } | Unexpected { .. })
}

/// An error and what is behind it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

impl From<Dry> for BoardError {
    fn from(dry: Dry) -> Self {
        match dry {
            Dry::Failed(error) => Self::Source(error),
            Dry::Cancelled => Self::Cancelled,
        }
    }
}
