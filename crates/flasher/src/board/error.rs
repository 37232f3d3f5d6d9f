//! What goes wrong with one board. Others go on.

use std::sync::Arc;
use std::time::Duration;

use bmap::ByteRange;
use imx_usb::boot::{BootError, Problem, Unfit};
use imx_usb::bus::{BusError, OpenError, Port};
use imx_usb::fastboot::FastbootError;
use imx_usb::fastboot::udp::UdpError;
use imx_usb::pipe::Fault;
use imx_usb::probe::ProbeError;
use imx_usb::probe::card::CardError;

use super::feed::Dry;
use super::place::To;
use super::uboot::Area;
use crate::error::{FlashError, listed, sized};

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
    #[error("no board {which} appeared within {} s", whole(*waited))]
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
    #[error("the image needs {}, the board's {place} has {}", sized(*image), sized(*capacity))]
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
    #[error("{}", not_back(then, lost))]
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
    #[error("the board was lost, or did not answer, {times} times without getting any further")]
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

fn not_back(then: &BoardError, lost: &BoardError) -> String {
    let left = if lost.is_gone() { "was unplugged or lost its power" } else { "does not answer any more" };
    match then {
        BoardError::NotThere { waited, .. } => {
            format!("the board {left}, and did not come back within {} s", whole(*waited))
        }
        BoardError::Silent { .. } => format!("{then}"),
        then => format!("the board {left}: {then}"),
    }
}

/// In seconds: what is left of a wait is a little less than was asked for.
fn whole(waited: Duration) -> u64 {
    waited.saturating_add(Duration::from_millis(500)).as_secs()
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

    /// Was it only the link that failed, so that another run can finish?
    #[must_use]
    pub fn may_finish(&self) -> bool {
        self.is_lost()
            || matches!(
                self,
                Self::NotBack { .. }
                    | Self::NotThere { .. }
                    | Self::Silent { .. }
                    | Self::LostAgain { .. }
                    | Self::Another { .. }
                    | Self::Network(_)
                    | Self::Open(_)
                    | Self::Bus(_)
            )
    }

    /// Did the board leave the bus, for all that is known? Else it is there and does not answer as it should.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let link = |error: &FastbootError| matches!(error, FastbootError::Transfer { source, .. } if source.is_gone());
        let probe = |error: &ProbeError| matches!(error, ProbeError::Link(error) if link(error));
        match self {
            Self::Open(OpenError::Gone { .. }) | Self::NotThere { .. } => true,
            Self::Boot(error) => match &*error.problem {
                Problem::Open(OpenError::Gone { .. }) | Problem::Vanished { .. } => true,
                problem => matches!(problem.fault(), Some(Fault::Gone)),
            },
            Self::Probe(error) => probe(error),
            Self::Card(error) => matches!(&**error, CardError::Probe(error) if probe(error)),
            Self::Fastboot(error) => link(error),
            Self::NotBack { lost, .. } => lost.is_gone(),
            Self::LostAgain { source, .. } => source.is_gone(),
            _ => false,
        }
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
