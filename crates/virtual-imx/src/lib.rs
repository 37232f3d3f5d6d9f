//! An i.MX board in software, for testing tools that flash boards.
//!
//! - [`store`]: bytes kept in pages, so that memory and cards of many gigabytes cost only what is written to them.
//! - [`emmc`]: the card: user area, boot partitions, boot switch, wear, and what can be wrong with it.
//! - [`model`]: which boards there are, and their numbers.
//! - [`timing`]: how long things take, in real or simulated time.
//! - [`machine`]: what U-Boot runs on: memory, cards, variables, a console.
//! - [`shell`]: U-Boot's command line, as far as flashing tools use it.
//! - [`fastboot`]: its fastboot, in the flavours of two source trees.
//! - [`fbk`]: the daemon of an initramfs.
//! - [`rom`]: boot ROMs and the loader, and what they see in a boot image.
//! - [`board`]: all of it together: stages, the bus, booting from the card.
//! - [`fault`]: what goes wrong, and when.
//! - [`link`]: a host's side of it in the same process.
//! - `host`: boards in the same process as `imx-usb`'s bus and pipes (feature `host`).
//! - `remote`: boards in another process as `imx-usb`'s bus and pipes (feature `host`).
//! - [`sharing`]: boards that share one bus.
//! - [`record`]: what happened on the bus.
//! - [`udp`]: fastboot over UDP.
//! - [`usb`]: descriptors, and requests on endpoint 0.
//! - [`usbip`]: boards behind the kernel's USB stack or a socket.
//! - [`sample`]: small boot images that the virtual ROMs accept.
//!
//! ```
//! use std::time::Duration;
//! use virtual_imx::board::{Board, Setup, Stage};
//! use virtual_imx::model::{Model, Tree};
//!
//! let board = Board::new(Setup::new(Model::Imx8mp, Tree::Nxp));
//! assert_eq!(board.device().unwrap().ids.product, 0x0146);
//! // Stream it a boot image in HID reports, as its ROM wants them.
//! let link = board.open().unwrap();
//! for part in virtual_imx::sample::flash_bin(Model::Imx8mp, 1).chunks(1020) {
//!     let mut report = vec![2];
//!     report.extend(part);
//!     report.resize(1021, 0);
//!     link.send(&report, Duration::from_secs(10)).unwrap();
//! }
//! // It leaves the bus and comes back as fastboot; the simulated clock waits for nothing.
//! let fastboot = board.wait_for_device(Some(link.device().address), Duration::from_secs(5)).unwrap();
//! assert_eq!((fastboot.ids.product, board.stage()), (0x0152, Stage::UBoot));
//! ```
//!
//! The program `virtual-imx` runs boards by hand.
//!
//! Every parser here is this crate's own, written from descriptions of the device side; only the table of USB
//! identifiers comes from `imx-usb`. A codec tested against itself hides its mistakes.
//!
//! Nothing here prints or trusts what a host sends; threads are started by [`usbip`] alone.

pub mod board;
pub mod emmc;
pub mod fastboot;
pub mod fault;
pub mod fbk;
#[cfg(feature = "host")]
pub mod host;
pub mod link;
pub mod machine;
pub mod model;
pub mod record;
#[cfg(all(unix, feature = "host"))]
pub mod remote;
pub mod rom;
pub mod sample;
pub mod sharing;
pub mod shell;
pub mod store;
pub mod timing;
#[cfg(unix)]
pub mod udp;
pub mod usb;
#[cfg(unix)]
pub mod usbip;
