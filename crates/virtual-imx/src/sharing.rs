//! One bus that several boards share: they are on one hub, and what one sends the others wait for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::wide;
use crate::timing::at_rate;

/// The bandwidth of a hub. Boards made with clones of it share it, in the order in which their transfers come.
///
/// A transfer takes as long as the board's own rate makes it, or until the hub has carried it, whichever ends later;
/// the hub carries pieces of 64 KiB one after the other. It counts with the real clock only: simulated clocks run
/// apart, one for each board, and have no order between them.
#[derive(Debug, Clone)]
pub struct SharedBus(Arc<Ledger>);

#[derive(Debug)]
struct Ledger {
    per_second: u64,
    free_at: Mutex<Instant>,
}

impl SharedBus {
    /// A hub that carries so many bytes per second. 0 means at once.
    pub fn new(per_second: u64) -> Self {
        Self(Arc::new(Ledger { per_second, free_at: Mutex::new(Instant::now()) }))
    }

    /// Carries `bytes` that come at `from`; when it is done, as time after `from`.
    pub(crate) fn carry(&self, from: Instant, bytes: usize) -> Duration {
        let mut free_at = self.0.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let end = (*free_at).max(from).checked_add(at_rate(wide(bytes), self.0.per_second));
        *free_at = end.unwrap_or(from);
        free_at.saturating_duration_since(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_together_goes_one_by_one() {
        let hub = SharedBus::new(1_000_000);
        let other = hub.clone();
        let start = Instant::now();
        let late = start + Duration::from_secs(10);
        assert_eq!(hub.carry(late, 500_000), Duration::from_millis(500));
        assert_eq!(other.carry(late, 500_000), Duration::from_secs(1));
        assert_eq!(hub.carry(late + Duration::from_secs(2), 1_000_000), Duration::from_secs(1));
        assert_eq!(SharedBus::new(0).carry(late, 1 << 30), Duration::ZERO);
    }
}
