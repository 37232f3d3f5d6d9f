//! Results on standard output. A reader that goes away is no error: `mapflash disks | head -1` is a fine command.

use std::io::{self, Write};

use crate::error::AppError;

/// Prints to standard output.
pub(crate) fn print(bytes: &[u8]) -> Result<(), AppError> {
    let mut out = io::stdout().lock();
    let done = out.write_all(bytes).and_then(|()| out.flush());
    match done {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|error| AppError::io("cannot write to standard output", error)),
    }
}
