//! How bytes reach an i.MX board: its boot ROM, its loader and U-Boot's fastboot.
//!
//! - [`chips`]: one table of USB identifiers and of what is known about each chip.
//!
//! This crate knows nothing of disk images or block maps; it starts no threads and prints nothing.

pub mod chips;
