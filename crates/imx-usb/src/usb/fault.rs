//! From what libusb and the system say to what a caller can act on.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::deadline::Deadline;
use super::queue::Stop;
use super::transfer::Opened;
use crate::pipe::Fault;

/// A board that was pulled out fails its transfers before the hub says that it is gone: hubs are asked four times a
/// second, and wait a while until they believe what they see.
const SURELY_GONE: u16 = 1000;

/// What USB does to transfers, beyond what [`Fault`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsbFault {
    /// The board is there, but packets do not get through: cable, hub or noise.
    #[error("the USB controller gave up: the board is there, but packets to it or from it are lost")]
    Lost,
    /// A transfer ended early and later bytes went nevertheless.
    #[error("a part was taken only half, and the next part was sent nevertheless")]
    Hole,
    /// The kernel gives no memory for transfers.
    #[error("the kernel has no memory for USB transfers: all programs together reached usbfs_memory_mb")]
    Memory,
    /// A report cannot be that long.
    #[error("a report of {0} bytes is too long for the control pipe")]
    TooLong(usize),
    /// Less than a whole report was taken.
    #[error("a part of the report was not taken")]
    Cut,
    /// libusb failed.
    #[error("libusb: {0}")]
    Libusb(#[source] rusb::Error),
}

/// Why a transfer stopped.
pub(super) fn fault(stop: Stop, until: Deadline, opened: &Opened) -> Fault {
    match stop {
        Stop::TimedOut => Fault::TimedOut(until.within()),
        Stop::Stalled => Fault::Stalled,
        Stop::Gone => Fault::Gone,
        Stop::Overflow => Fault::Overflow,
        Stop::Cancelled => Fault::Cancelled,
        Stop::Failed | Stop::Refused(rusb::Error::Io) if is_gone(opened) => Fault::Gone,
        Stop::Failed => other(UsbFault::Lost),
        Stop::Hole => other(UsbFault::Hole),
        Stop::Memory => other(UsbFault::Memory),
        Stop::Refused(error) => other(UsbFault::Libusb(error)),
    }
}

/// Why a control transfer failed.
pub(super) fn control_stop(error: rusb::Error) -> Stop {
    match error {
        rusb::Error::Timeout => Stop::TimedOut,
        rusb::Error::Pipe => Stop::Stalled,
        rusb::Error::NoDevice => Stop::Gone,
        rusb::Error::Overflow => Stop::Overflow,
        rusb::Error::Io => Stop::Failed,
        rusb::Error::NoMem => Stop::Memory,
        error => Stop::Refused(error),
    }
}

pub(super) fn other(fault: UsbFault) -> Fault {
    Fault::Other(fault.into())
}

/// Does the device leave within a moment? The kernel hangs up its node then.
fn is_gone(opened: &Opened) -> bool {
    let mut node = [PollFd::new(opened.node().as_fd(), PollFlags::empty())];
    match poll(&mut node, PollTimeout::from(SURELY_GONE)) {
        Ok(_) => node[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)),
        Err(_) => false,
    }
}

/// What opening a device node came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeFault {
    Denied,
    /// There is no such node, or not yet.
    Missing,
    /// The node is there, the device is not.
    Gone,
    Other,
}

pub(super) fn node_fault(error: &io::Error) -> NodeFault {
    use nix::libc::{EACCES, ENODEV, ENOENT, ENXIO, EPERM};
    match error.raw_os_error() {
        Some(EACCES | EPERM) => NodeFault::Denied,
        Some(ENOENT) => NodeFault::Missing,
        Some(ENODEV | ENXIO) => NodeFault::Gone,
        _ => NodeFault::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;

    #[test]
    fn what_the_system_says_of_a_node() {
        let cases = [
            (libc::EACCES, NodeFault::Denied),
            (libc::EPERM, NodeFault::Denied),
            (libc::ENOENT, NodeFault::Missing),
            (libc::ENODEV, NodeFault::Gone),
            (libc::ENXIO, NodeFault::Gone),
            (libc::EIO, NodeFault::Other),
        ];
        for (code, expected) in cases {
            assert_eq!(node_fault(&io::Error::from_raw_os_error(code)), expected);
        }
        assert_eq!(node_fault(&io::Error::other("no number")), NodeFault::Other);
    }

    #[test]
    fn what_libusb_says_of_control_transfers() {
        assert_eq!(control_stop(rusb::Error::Timeout), Stop::TimedOut);
        assert_eq!(control_stop(rusb::Error::Pipe), Stop::Stalled);
        assert_eq!(control_stop(rusb::Error::NoDevice), Stop::Gone);
        assert_eq!(control_stop(rusb::Error::Io), Stop::Failed);
        assert_eq!(control_stop(rusb::Error::Access), Stop::Refused(rusb::Error::Access));
    }
}
