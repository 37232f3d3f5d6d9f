//! What a board does when all is written and proven.

use imx_usb::fastboot::{Command as Fastboot, FastbootError};
use imx_usb::probe::Shell;

use super::error::BoardError;
use super::uboot::Uboot;

/// What to do when all is written and proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// Stay in fastboot.
    #[default]
    Stay,
    /// Reset the board.
    Reset,
    /// Leave fastboot and go on booting.
    Continue,
}

/// The last command. What is on the card is proven by now: that the board leaves before it has answered is no failure.
pub(super) fn farewell(uboot: &mut Uboot, then: Then) -> Result<(), BoardError> {
    let said = match (then, uboot.profile.shell) {
        (Then::Stay, _) => return Ok(()),
        // Only that shell answers before it resets; over UDP, where lines are short, it is not run at all.
        (Then::Reset, Some(Shell::UCmd)) if uboot.profile.line > 64 => uboot.session.acmd("reset"),
        (Then::Reset, _) => uboot.session.run(&Fastboot::Reboot("".into())),
        (Then::Continue, _) => uboot.session.run(&Fastboot::Continue),
    };
    match said {
        Ok(_) => Ok(()),
        Err(FastbootError::Transfer { source, .. }) if source.is_gone() => Ok(()),
        Err(error) => Err(BoardError::Stays { source: error }),
    }
}
