//! An i.MX board in software, for testing tools that flash boards.
//!
//! - [`store`]: bytes kept in pages, so that memory and cards of many gigabytes cost only what is written to them.
//! - [`emmc`]: the card: user area, boot partitions, boot switch, wear, and what can be wrong with it.
//!
//! Every parser here is this crate's own, written from descriptions of the device side; only the table of USB
//! identifiers comes from `imx-usb`. A codec tested against itself hides its mistakes.
//!
//! Nothing here prints, starts threads or trusts what a host sends.

pub mod emmc;
pub mod store;
