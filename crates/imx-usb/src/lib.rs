//! How bytes reach an i.MX board: its boot ROM, its loader and U-Boot's fastboot.
//!
//! - [`bus`]: devices and where they are plugged in; the seam to a bus.
//! - [`chips`]: one table of USB identifiers and of what is known about each chip.
//! - [`descriptors`]: what a device says it has, and which of it is for us.
//! - [`pipe`]: the seams to a board, and what can go wrong with a transfer.
//! - [`probe`]: what a U-Boot in fastboot can do.
//! - [`sdp`]: HID commands, to boot ROMs and to U-Boot's SPL (SDP, SDPU, SDPV).
//! - [`sdps`]: loaders streamed to boot ROMs.
//! - [`fastboot`]: U-Boot's fastboot, over a pipe or UDP.
//! - [`fbk`]: the fastboot-like daemon of an initramfs.
//! - `usb`: real USB, over libusb (feature `usb`, on unless switched off).
//! - [`boot`]: from whatever a board is in to fastboot.
//! - [`bootimage`]: where the loader lies in a file, which part of it a board is sent, what it seems to be.
//!
//! Each protocol has pure codecs (values to bytes and back) and a session that is generic over a pipe, so that it can
//! be tried without a board.
//!
//! ```
//! use imx_usb::bootimage::part::{Start, for_stream};
//! use imx_usb::chips::{ChipTable, Protocol};
//! use imx_usb::pipe::{ReportPipe, TransferError};
//! use std::time::Duration;
//!
//! /// Counts the reports it is given.
//! struct Counter(usize);
//!
//! impl ReportPipe for Counter {
//!     fn send_report(&mut self, _: &[u8], _: Duration) -> Result<(), TransferError> {
//!         self.0 += 1;
//!         Ok(())
//!     }
//!     fn receive_report(&mut self, _: &mut [u8], _: Duration) -> Result<usize, TransferError> {
//!         Ok(0)
//!     }
//! }
//!
//! // What a device on the bus is, by its descriptor: an i.MX8M Plus in its ROM.
//! let table = ChipTable::builtin();
//! let found = table.identify(0x1fc9, 0x0146, 0x0001).ok_or("not an i.MX")?;
//! let chip = found.chip.ok_or("no ROM")?;
//! assert_eq!((found.id.protocol, &*chip.title), (Protocol::Sdps, "i.MX8M Plus"));
//!
//! // What of a file it is sent, and in how many reports.
//! let file = vec![0; 0x6_0000];
//! let range = for_stream(&file, Start::default(), chip.stream)?;
//! let mut pipe = Counter(0);
//! imx_usb::sdps::stream(&mut pipe, chip, &file[range], Duration::from_secs(10), &mut |_sent| {})?;
//! assert_eq!(pipe.0, 386);
//!
//! // It then comes back as fastboot.
//! assert_eq!(*chip.next, [Protocol::Fastboot]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate knows nothing of disk images or block maps; it starts no threads and prints nothing.

pub mod boot;
pub mod bootimage;
pub mod bus;
pub mod chips;
pub mod descriptors;
pub mod fastboot;
pub mod fbk;
pub mod pipe;
pub mod probe;
pub mod sdp;
pub mod sdps;
#[cfg(feature = "usb")]
pub mod usb;
