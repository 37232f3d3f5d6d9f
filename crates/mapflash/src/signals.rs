//! Signals: the first asks the job to stop, the second stops the process.
//!
//! A signal that is ignored when the program starts stays ignored: `nohup` and shells rely on it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use flasher::{Cancel, TargetState};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::ending::Ending;
use crate::exit::Status;
use crate::render::json::Object;
use crate::render::{Display, print_line, print_object};

/// What has to be put back before a process may stop in the middle.
type Restore = Box<dyn FnOnce() + Send>;

/// The signals that stop a job.
const STOPPING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// How long to wait for somebody to read what is printed, when there is no more time than that.
const PATIENCE: Duration = Duration::from_millis(500);

/// Watches for SIGINT, SIGTERM, SIGHUP and SIGQUIT from when it is made until the process ends.
#[derive(Clone)]
pub(crate) struct Watch {
    caught: Arc<AtomicU8>,
    writing: Arc<AtomicBool>,
    restore: Arc<Mutex<Option<Restore>>>,
    ending: Arc<Ending>,
    json: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("caught", &self.caught).finish_non_exhaustive()
    }
}

impl Watch {
    /// Begins to watch; `cancel` is raised by the first signal.
    ///
    /// # Errors
    /// When the handlers cannot be installed or the thread cannot be started.
    pub(crate) fn start(cancel: &Cancel, display: &Display) -> io::Result<Self> {
        let watch = Self {
            caught: Arc::default(),
            writing: Arc::default(),
            restore: Arc::default(),
            ending: display.ending(),
            json: display.is_json(),
        };
        let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
        let mut signals = Signals::new(STOPPING.iter().filter(|signal| !is_in(ignored, **signal)))?;
        let (cancel, inner) = (cancel.clone(), watch.clone());
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                let number = u8::try_from(signal).unwrap_or(0);
                if inner.caught.swap(number, Ordering::SeqCst) == 0 {
                    cancel.cancel();
                    say(|| print_line("mapflash: stopping; once more to stop at once"));
                } else {
                    inner.stop_at_once(number);
                }
            }
        })?;
        Ok(watch)
    }

    /// What to do before stopping at once.
    pub(crate) fn before_stopping(&self, restore: impl FnOnce() + Send + 'static) {
        *self.restore.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(restore));
    }

    /// From now on the target may be changed.
    pub(crate) fn writing(&self) {
        self.writing.store(true, Ordering::SeqCst);
    }

    /// The last signal caught.
    pub(crate) fn caught(&self) -> Option<u8> {
        Some(self.caught.load(Ordering::SeqCst)).filter(|number| *number > 0)
    }

    fn stop_at_once(&self, number: u8) -> ! {
        let first = self.ending.by_signal();
        if first.is_err() {
            // The job is over and tells so at this moment: it ends the process, if anybody listens.
            thread::sleep(PATIENCE);
        }
        if let Some(restore) = self.restore.lock().unwrap_or_else(PoisonError::into_inner).take() {
            restore();
        }
        if let Err(told) = first {
            std::process::exit(i32::from(told.code()));
        }
        let status = Status::Signal(number).code();
        let (message, changed, state) = if self.writing.load(Ordering::SeqCst) {
            ("stopped at once; the target may hold part of the image: do not use it", true, "unknown")
        } else {
            ("stopped at once", false, TargetState::Unchanged.name())
        };
        let json = self.json;
        say(move || {
            print_line(&format!("mapflash: {message}"));
            if json {
                print_object(&Object::Error {
                    kind: "cancelled",
                    message,
                    cause: None,
                    status,
                    target_changed: changed,
                    target_state: state,
                    hints: &[],
                    ranges: None,
                });
            }
        });
        std::process::exit(i32::from(status));
    }
}

/// Prints, but does not wait for long: a reader who has stopped reading must not keep a signal from being heeded.
fn say(print: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = thread::Builder::new().name("last words".into()).spawn(move || {
        print();
        // Nobody waits any more if that took too long.
        let _ = done.send(());
    });
    if thread.is_ok() {
        let _ = wait.recv_timeout(PATIENCE);
    }
}

/// The signals that are ignored, one bit each: `SigIgn` in `/proc/PID/status`, `proc_pid_status(5)`. None if that
/// cannot be read, so that all are watched.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Signal N is bit N - 1.
fn is_in(mask: u64, signal: i32) -> bool {
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    bit.and_then(|bit| mask.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let mask = ignored("Name:\tmapflash\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\nSigCgt:\t0\n");
        assert!(is_in(mask, SIGHUP) && is_in(mask, 13) && !is_in(mask, SIGINT) && !is_in(mask, 0) && !is_in(mask, 99));
        assert_eq!((ignored(""), ignored("SigIgn:\tnone\n")), (0, 0));
    }
}
