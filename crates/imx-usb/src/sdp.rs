//! Serial download protocol: commands in HID reports, for the boot ROMs of i.MX6, 7 and 8M Quad and Mini, and for
//! U-Boot's SPL (SDPU and SDPV), which speaks the same but for a few limits.
//!
//! | report | direction | content |
//! |---|---|---|
//! | 1 | out | a [`Command`], 16 bytes |
//! | 2 | out | data, padded to the full report |
//! | 3 | in | [`HabState`], u32 little-endian |
//! | 4 | in | status or register value, u32 little-endian |
//!
//! A ROM is given an image by [`Session::boot`]. An SPL is given U-Boot proper by [`Session::write_file`] to address 0
//! (which it takes for "where you like") and [`Session::jump`] to 0; what of a file that is, is a matter of the boot
//! image: all behind the SPL for SDPV, from a fixed offset on for SDPU.
//!
//! Sources: "Serial Downloader" in the i.MX6 and i.MX7 reference manuals; traces of `uuu` 1.5.243.

mod command;
mod reply;
mod session;

pub use command::{Access, COMMAND_BYTES, Code, Command, CommandError};
pub use reply::{DONE_DCD, DONE_FILE, DONE_JUMP, HabState, REPORT_IN_BYTES, ReplyError, hab_report, status_report};
pub use session::{BootLog, Jump, Load, Reading, SdpError, Session, Settings};

/// Identifier of the report that carries a command.
pub const REPORT_COMMAND: u8 = 1;
/// Identifier of the report that carries data.
pub const REPORT_DATA: u8 = 2;
/// Identifier of the report that tells the HAB state.
pub const REPORT_HAB: u8 = 3;
/// Identifier of the report that tells the status.
pub const REPORT_STATUS: u8 = 4;

/// Makes `report` a data report: identifier 2, `bytes`, and zeros up to `payload` bytes.
///
/// Zeros, so that the same input always gives the same bytes on the wire; `uuu` leaves there what the last report held.
pub(crate) fn data_report(report: &mut Vec<u8>, payload: usize, bytes: &[u8]) {
    report.clear();
    report.push(REPORT_DATA);
    report.extend_from_slice(bytes);
    report.resize(payload.saturating_add(1), 0);
}
