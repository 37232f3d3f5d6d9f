//! A flag that asks a running job to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a job to stop at the next piece. Clones share the flag, so a signal thread may keep one.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    cancelled: AtomicBool,
    halted: AtomicBool,
}

impl Cancel {
    /// A flag that is not raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the job to stop. It finishes the transfers under way, restores what it changed on the host and says what
    /// the target holds.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Whether the job that runs under this flag has no use for further input: somebody asked it to stop, or a part of
    /// it failed. A source that waits for bytes, such as a pipe, looks here now and then and gives up with an error.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.is_cancelled() || self.0.halted.load(Ordering::SeqCst)
    }

    /// A part of the job failed (or, with false, a new job begins).
    pub(crate) fn halt(&self, halted: bool) {
        self.0.halted.store(halted, Ordering::SeqCst);
    }
}
