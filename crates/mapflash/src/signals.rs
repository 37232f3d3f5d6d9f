//! Signals: the first asks the job to stop, the second stops the process.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flasher::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Status;
use crate::render::print_line;

/// What has to be put back before a process may stop in the middle.
type Restore = Box<dyn FnOnce() + Send>;

/// Watches for SIGINT, SIGTERM and SIGHUP from when it is made until the process ends.
#[derive(Clone)]
pub(crate) struct Watch {
    caught: Arc<AtomicU8>,
    restore: Arc<Mutex<Option<Restore>>>,
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
    pub(crate) fn start(cancel: &Cancel) -> io::Result<Self> {
        let watch = Self { caught: Arc::default(), restore: Arc::default() };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (cancel, inner) = (cancel.clone(), watch.clone());
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                let number = u8::try_from(signal).unwrap_or(0);
                if inner.caught.swap(number, Ordering::SeqCst) == 0 {
                    cancel.cancel();
                    print_line("mapflash: stopping; once more to stop at once");
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

    /// The last signal caught.
    pub(crate) fn caught(&self) -> Option<u8> {
        Some(self.caught.load(Ordering::SeqCst)).filter(|number| *number > 0)
    }

    fn stop_at_once(&self, number: u8) -> ! {
        if let Some(restore) = self.restore.lock().unwrap_or_else(PoisonError::into_inner).take() {
            restore();
        }
        print_line("mapflash: stopped at once; the target may hold part of the image: do not use it");
        std::process::exit(i32::from(Status::Signal(number).code()));
    }
}
