//! Sends signals to programs under test.
#![allow(dead_code, reason = "each test program uses a part")]

use std::process::{Child, Command};

/// The numbers that Linux has for them, wherever these tests run.
pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGQUIT: i32 = 3;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCONT: i32 = 18;
pub(crate) const SIGSTOP: i32 = 19;

/// Sends a signal to a child that has not been waited for.
#[track_caller]
pub(crate) fn send(child: &Child, signal: i32) {
    must_be_heeded(signal);
    let done = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
    assert!(done.success());
}

/// Fails when these tests were started with the signal ignored, as shells start what runs in their background: children
/// ignore it as well, and would be waited for without end.
#[track_caller]
pub(crate) fn must_be_heeded(signal: i32) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap() >> (signal - 1) & 1 == 1;
    assert!(!ignored, "signal {signal} is ignored here: try env --default-signal cargo test");
}
