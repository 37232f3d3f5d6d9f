//! Boards: what is on the card afterwards, in which order it came there, and what is left when things fail.
//!
//! The boards are virtual, in process and in simulated time; each begins full of old data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

mod again;
mod forms;
mod holes;
mod loader;
mod many;
mod packs;
#[path = "../support/mod.rs"]
mod support;
mod wrong;
