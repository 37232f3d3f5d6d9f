//! Standard input that can be left while waiting for it: a pipe that never ends must not keep a stopped job alive.

use std::io;
use std::os::fd::AsFd as _;

use flasher::Cancel;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a raised flag may go unnoticed, in milliseconds.
const PATIENCE: u8 = 200;

/// Standard input, read without a buffer of its own.
#[derive(Debug)]
pub(super) struct Stdin {
    stdin: io::Stdin,
    cancel: Cancel,
}

impl Stdin {
    /// Standard input for as long as the job under `cancel` wants it.
    pub(super) fn new(cancel: &Cancel) -> Self {
        Self { stdin: io::stdin(), cancel: cancel.clone() }
    }
}

/// Returns when there is something to read on standard input, the end included; fails once the job under
/// `cancel` has no use for it.
pub(crate) fn wait(cancel: &Cancel) -> io::Result<()> {
    let stdin = io::stdin();
    loop {
        if cancel.is_halted() {
            return Err(io::Error::other("stopped on request"));
        }
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl io::Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        wait(&self.cancel)?;
        // Not through the lock of `io::stdin`: its buffer would hide from `poll` what is there already.
        nix::unistd::read(self.stdin.as_fd(), into).map_err(io::Error::from)
    }
}
