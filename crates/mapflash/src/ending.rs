//! Who says how it ended: the job, or the signal that stops the process at once. Only one of them does, so that nobody
//! is told two ends, and the process ends with the status that was told.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::exit::Status;

/// Decides it: whoever comes first.
#[derive(Debug, Default)]
pub(crate) struct Ending(Mutex<Option<By>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Job(Status),
    Signal,
}

impl Ending {
    /// The job is over and about to tell that it ended so. Call before the first word of the result; more often does no
    /// harm, the last status counts. Does not return when a signal was first: the process is about to stop.
    pub(crate) fn by_job(&self, status: Status) {
        while !self.job_was_first(status) {
            thread::park();
        }
    }

    fn job_was_first(&self, status: Status) -> bool {
        let mut by = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *by == Some(By::Signal) {
            return false;
        }
        *by = Some(By::Job(status));
        true
    }

    /// A signal stops the process.
    ///
    /// # Errors
    /// When the job was first: the status that it tells, or has told.
    pub(crate) fn by_signal(&self) -> Result<(), Status> {
        let mut by = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *by {
            Some(By::Job(status)) => Err(status),
            Some(By::Signal) | None => {
                *by = Some(By::Signal);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_first_tells_the_end() {
        let job = Ending::default();
        assert!(job.job_was_first(Status::Done));
        job.by_job(Status::Signal(2));
        assert_eq!(job.by_signal(), Err(Status::Signal(2)));
        let signal = Ending::default();
        assert_eq!(signal.by_signal(), Ok(()));
        assert!(!signal.job_was_first(Status::Done));
        assert_eq!(signal.by_signal(), Ok(()));
    }
}
