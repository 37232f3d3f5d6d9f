//! A way to end what waits in a socket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Wake = Box<dyn Fn() + Send>;

/// Ends servers and attachments; clones are the same.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_set: AtomicBool,
    waiting: Mutex<(u64, BTreeMap<u64, Wake>)>,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_set()).finish()
    }
}

impl Stop {
    /// One that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Is it time to end?
    pub fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::SeqCst)
    }

    /// Makes everything end that heeds it.
    pub fn set(&self) {
        self.0.is_set.store(true, Ordering::SeqCst);
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.1.values().for_each(|wake| wake());
    }

    /// Calls `wake` when it is set, as long as the guard lives.
    pub(crate) fn when_set(&self, wake: impl Fn() + Send + 'static) -> Waking<'_> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_set() {
            wake();
        }
        waiting.0 += 1;
        let number = waiting.0;
        waiting.1.insert(number, Box::new(wake));
        Waking { stop: self, number }
    }
}

/// See [`Stop::when_set`].
#[derive(Debug)]
pub(crate) struct Waking<'s> {
    stop: &'s Stop,
    number: u64,
}

impl Drop for Waking<'_> {
    fn drop(&mut self) {
        self.stop.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.number);
    }
}
