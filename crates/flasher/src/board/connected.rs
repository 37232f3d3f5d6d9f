//! A board in fastboot, and who brings boards there. [`super::Boards`] does it on a bus and over the network; others may.

use std::time::Duration;

use imx_usb::bus::{Port, Speed};
use imx_usb::chips::Chip;
use imx_usb::fastboot::Session;
use imx_usb::pipe::BulkPipe;

use super::error::BoardError;
use super::place::To;
use super::profile::Profile;
use crate::event::Observer;

/// A board in fastboot.
pub struct Connected {
    /// The session.
    pub session: Session<Box<dyn BulkPipe + Send>>,
    /// What its U-Boot can do.
    pub profile: Profile,
    /// Its serial number: what tells it from others when it comes back.
    pub serial: Option<String>,
    /// Where it is plugged in; `None` over the network.
    pub port: Option<Port>,
    /// How fast it is connected.
    pub speed: Option<Speed>,
    /// Its chip, where that is known.
    pub chip: Option<String>,
    /// What the table says of that chip.
    pub row: Option<Chip>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("serial", &self.serial).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Brings boards to fastboot. Called once for each board, and again whenever it was lost.
pub trait Connect: Sync {
    /// Brings board number `board` to fastboot, for an image that goes to `to`. `again`: it was there before and is
    /// waited for, for so long.
    ///
    /// # Errors
    /// [`BoardError`]; [`BoardError::Another`] if another board came back in its place.
    fn connect(
        &self,
        board: usize,
        to: &To,
        again: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<Connected, BoardError>;
}

/// Tells of boards that come late.
pub trait Joiners: Sync {
    /// The number of a board that has come since this was last asked: the next one that was not given to any. [`Connect`]
    /// knows it from then on.
    fn joined(&self) -> Option<usize>;
}
