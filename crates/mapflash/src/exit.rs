//! The exit statuses, in one place. The README and `--help` list them; scripts rely on them.

use std::process::ExitCode;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// 0: all that was asked was done.
    Done,
    /// 1: failed, for a reason that is none of the others: the image cannot be read, the disk with the image is full.
    Failed,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: there is no such board or device.
    NoDevice,
    /// 4: the board or device failed or went away while it was in use.
    DeviceFailed,
    /// 5: the image does not match its bmap, or the bmap does not match itself.
    WrongImage,
    /// 6: the target does not hold what was written.
    NotHeld,
    /// 7: refused as unsafe.
    Refused,
    /// 8: written, but the proof that was asked for is impossible there.
    NoProof,
    /// 128+N: stopped by signal N.
    Signal(u8),
}

impl Status {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoDevice => 3,
            Self::DeviceFailed => 4,
            Self::WrongImage => 5,
            Self::NotHeld => 6,
            Self::Refused => 7,
            Self::NoProof => 8,
            Self::Signal(number) => number.saturating_add(128),
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_a_promise() {
        use Status::*;
        let all = [Done, Failed, Usage, NoDevice, DeviceFailed, WrongImage, NotHeld, Refused, NoProof];
        assert_eq!(all.map(Status::code), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((Signal(2).code(), Signal(15).code()), (130, 143));
    }
}
