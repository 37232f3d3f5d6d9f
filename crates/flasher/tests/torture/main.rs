//! Boards under torture: every fault of the virtual board at every stage, boards that are unplugged at any moment, images
//! and U-Boots of odd shapes. What is told of each board must be true, the others must come to no harm, nothing may wait
//! for ever, and nothing but a whole image may ever boot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

mod cut;
mod faults;
mod loaders;
mod network;
mod places;
mod ports;
mod shapes;
mod sources;
mod stops;
#[path = "../support/mod.rs"]
mod support;
mod unplug;
