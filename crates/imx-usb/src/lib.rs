//! How bytes reach an i.MX board: its boot ROM, its loader and U-Boot's fastboot.
//!
//! - [`chips`]: one table of USB identifiers and of what is known about each chip.
//! - [`pipe`]: the seams to a board, and what can go wrong with a transfer.
//! - [`sdp`]: HID commands, to boot ROMs and to U-Boot's SPL (SDP, SDPU, SDPV).
//! - [`sdps`]: loaders streamed to boot ROMs.
//! - [`fastboot`]: U-Boot's fastboot, over a pipe or UDP.
//! - [`fbk`]: the fastboot-like daemon of an initramfs.
//! - [`bootimage`]: where the loader lies in a file, which part of it a board is sent, what it seems to be.
//!
//! Each protocol has pure codecs (values to bytes and back) and a session that is generic over a pipe, so that it can
//! be tried without a board.
//!
//! This crate knows nothing of disk images or block maps; it starts no threads and prints nothing.

pub mod bootimage;
pub mod chips;
pub mod fastboot;
pub mod fbk;
pub mod pipe;
pub mod sdp;
pub mod sdps;
