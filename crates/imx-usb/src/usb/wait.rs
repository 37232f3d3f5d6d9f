//! Waiting for a change: woken by the kernel's own events, and looking again now and then where those do not arrive (in
//! containers) or nobody may listen to them.
//!
//! Events are only a hint to look at once. They need no udevd, unlike libusb's.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};

/// How long nobody looks when no event comes.
const PACE: Duration = Duration::from_millis(150);

/// The group of events that come from the kernel itself, rather than from udevd.
const KERNEL: u32 = 1;

/// Returns as soon as `changed`, or after `within`.
pub(super) fn wait(within: Duration, mut changed: impl FnMut() -> bool) {
    // Listening begins before the first look, so that nothing falls in between.
    let events = listen().ok();
    let start = Instant::now();
    while !changed() {
        let left = within.saturating_sub(start.elapsed());
        if left.is_zero() {
            return;
        }
        doze(events.as_ref(), left.min(PACE));
    }
}

fn listen() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let events = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&events), &NetlinkAddr::new(0, KERNEL))?;
    Ok(events)
}

/// Until an event comes, or for that long.
fn doze(events: Option<&OwnedFd>, long: Duration) {
    let Some(events) = events else { return std::thread::sleep(long) };
    let millis = long.as_nanos().div_ceil(1_000_000);
    let timeout = u16::try_from(millis).map_or(PollTimeout::MAX, PollTimeout::from);
    match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(Errno::EINTR) => {}
        Ok(_) => drain(events),
        Err(_) => std::thread::sleep(long),
    }
}

/// Reads what has come; nothing in it is of interest.
fn drain(events: &OwnedFd) {
    let mut event = [0; 8192];
    // A storm of events does not keep anybody from looking.
    for _ in 0..1000 {
        match recv(std::os::fd::AsRawFd::as_raw_fd(events), &mut event, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_at_a_change_or_in_time() {
        let start = Instant::now();
        let mut looks = 0;
        wait(Duration::from_secs(60), || {
            looks += 1;
            looks == 2
        });
        assert_eq!(looks, 2);
        let first = start.elapsed();
        assert!(first < Duration::from_secs(10), "{first:?}");
        wait(Duration::from_millis(200), || false);
        let second = start.elapsed() - first;
        assert!(second >= Duration::from_millis(200) && second < Duration::from_secs(10), "{second:?}");
        wait(Duration::ZERO, || false);
    }

    #[test]
    fn without_events_time_passes_all_the_same() {
        let start = Instant::now();
        doze(None, Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
}
