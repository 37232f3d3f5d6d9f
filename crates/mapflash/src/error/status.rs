//! What the process ends with after an error.

use bmap::xml::XmlError;
use flasher::FlashError;
use flasher::board::BoardError;
use flasher::target::TargetError;
use imx_usb::boot::Problem;
use imx_usb::bus::BusError;

use super::{AppError, Cause};
use crate::exit::Status;

impl AppError {
    /// What the process ends with.
    pub(crate) fn status(&self) -> Status {
        use Cause::*;
        match &*self.cause {
            Flash(error) => self.flash_status(error),
            Bmap { source: XmlError::FileChecksum { .. }, .. } => Status::WrongImage,
            TargetIsSource { .. } | SameFile(_) | NotComparable { .. } | Unfit { .. } => Status::Refused,
            Shorter { .. } => Status::NotHeld,
            Bus(BusError::NoUsb { .. }) | NoBoard { .. } => Status::NoDevice,
            SeveralBoards(_) | Usage(_) => Status::Usage,
            Boot(error) => boot_status(&error.problem),
            Board { error, .. } => self.board_status(error),
            Boards { .. } if self.signal.is_some() => self.signal.map_or(Status::Failed, Status::Signal),
            Boards { failed, .. } => worst(failed.iter().map(Self::status)),
            _ => Status::Failed,
        }
    }

    fn board_status(&self, error: &BoardError) -> Status {
        match error {
            BoardError::NotHeld { .. } => Status::NotHeld,
            BoardError::NoProof | BoardError::LoaderLeftOut => Status::NoProof,
            BoardError::Card(_) if error.is_lost() => Status::DeviceFailed,
            BoardError::Card(error) if error.is_absent() => Status::NoDevice,
            BoardError::TooSmall { .. }
            | BoardError::NoPlace { .. }
            | BoardError::Card(_)
            | BoardError::Unfit(_)
            | BoardError::LoaderTooLong { .. } => Status::Refused,
            BoardError::NotThere { .. } => Status::NoDevice,
            BoardError::Boot(error) => boot_status(&error.problem),
            BoardError::Source(error) => self.flash_status(error),
            BoardError::Cancelled => self.signal.map_or(Status::Failed, Status::Signal),
            BoardError::NoBootImage { .. } | BoardError::Bus(_) | BoardError::Cannot { .. } | BoardError::Panicked => {
                Status::Failed
            }
            _ => Status::DeviceFailed,
        }
    }

    fn flash_status(&self, error: &FlashError) -> Status {
        match error {
            FlashError::LengthMismatch { .. } | FlashError::LongerThanMap { .. } | FlashError::RangeDigest { .. } => {
                Status::WrongImage
            }
            FlashError::TooSmall { .. } => Status::Refused,
            // No refusal: it was written up to its end by then.
            FlashError::GoesOn { .. } if self.device => Status::DeviceFailed,
            FlashError::NotHeld { .. } | FlashError::Differs { .. } => Status::NotHeld,
            FlashError::NoProof { .. } | FlashError::NoDigests => Status::NoProof,
            FlashError::Target(error) => match error {
                TargetError::Refused { .. } => Status::Refused,
                TargetError::Missing { .. } => Status::NoDevice,
                TargetError::Io { .. } | TargetError::Whole { .. } if self.device => Status::DeviceFailed,
                TargetError::Unreadable { .. } => Status::NoProof,
                _ => Status::Failed,
            },
            FlashError::Cancelled => self.signal.map_or(Status::Failed, Status::Signal),
            _ => Status::Failed,
        }
    }
}

fn boot_status(problem: &Problem) -> Status {
    match problem {
        Problem::Bus(BusError::NoUsb { .. }) | Problem::NoBoard(_) | Problem::Unknown { .. } => Status::NoDevice,
        Problem::Bus(_)
        | Problem::Open(_)
        | Problem::NoChip
        | Problem::Image(_)
        | Problem::Format { .. }
        | Problem::Unsigned
        | Problem::Cancelled => Status::Failed,
        _ => Status::DeviceFailed,
    }
}

/// The one that counts of several.
fn worst(statuses: impl Iterator<Item = Status>) -> Status {
    const ORDER: [Status; 6] =
        [Status::NotHeld, Status::DeviceFailed, Status::WrongImage, Status::NoDevice, Status::Failed, Status::NoProof];
    let rank = |status: &Status| ORDER.iter().position(|one| one == status).unwrap_or(ORDER.len());
    statuses.min_by_key(rank).unwrap_or(Status::Failed)
}

#[cfg(test)]
mod tests {
    use std::io;

    use flasher::target::Refusal;
    use flasher::{Failure, TargetState};

    use super::*;

    #[test]
    fn statuses_follow_the_cause() {
        let io = |device| {
            let failed =
                TargetError::Whole { target: "t".into(), action: "sync", source: io::Error::from_raw_os_error(5) };
            AppError::from(failed).at_device(device).status()
        };
        assert_eq!((io(true), io(false)), (Status::DeviceFailed, Status::Failed));
        let refused = TargetError::Refused { target: "/dev/sdx".into(), refusal: Refusal::SystemDisk };
        assert_eq!(AppError::from(refused).status(), Status::Refused);
        assert_eq!(AppError::from(FlashError::LengthMismatch { image: 1, map: 2 }).status(), Status::WrongImage);
        let differs = FlashError::Differs { target: "t".into(), ranges: vec![bmap::ByteRange::first(1)] };
        assert_eq!(AppError::from(differs).status(), Status::NotHeld);
        let stopped = |signal| {
            let failure = Failure { error: Box::new(FlashError::Cancelled), state: TargetState::NoHead { written: 1 } };
            AppError::job(failure, true, signal)
        };
        assert_eq!(stopped(Some(15)).status(), Status::Signal(15));
        assert!(stopped(Some(15)).state.changed());
        // A signal that came in while the job failed by itself does not hide the failure.
        let failure = Failure { error: Box::new(FlashError::NoDigests), state: TargetState::Unchanged };
        assert_eq!(AppError::job(failure, false, Some(2)).status(), Status::NoProof);
    }
}
