//! The program itself: run as a process, judged by what it prints, leaves behind and exits with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

#[path = "cli/boards.rs"]
mod boards;
#[path = "cli/boot.rs"]
mod boot;
#[path = "cli/copy.rs"]
mod copy;
#[path = "cli/create.rs"]
mod create;
#[path = "cli/disks.rs"]
mod disks;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/flash.rs"]
mod flash;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/interface.rs"]
mod interface;
#[path = "cli/pack.rs"]
mod pack;
#[path = "support/signal.rs"]
mod signal;
#[path = "cli/signals.rs"]
mod signals;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/usb.rs"]
mod usb;
#[path = "cli/verify.rs"]
mod verify;
