//! Whether clearing holes is as free as it looks.
//!
//! A kernel that promises zeros without being sent them may still have the device write them: some disks take minutes
//! for what others do at once. Holes that a map leaves out are cleared as a courtesy, so it stops when that turns out to
//! cost what writing costs, and the report says how much was left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bmap::ByteRange;

use crate::target::{Target, TargetError, Zeroed};

/// Slower than this, in bytes a second, and the device is writing zeros rather than forgetting blocks. Cards and USB
/// disks write less; forgetting is a matter of many GB a second.
const FREE: u128 = 256 << 20;

/// One slow answer may be the machine's hiccup.
const SLOW_ANSWERS: u32 = 2;

/// How much is cleared at once until it has proved to be free: little, for on a slow device it is waited for.
const CAREFUL: u64 = 1 << 20;

/// How long clearing many small holes may take in any case; past a quarter of the job's time it ends there.
const SMALL_HOLES: Duration = Duration::from_secs(1);

/// How many quick answers make it free.
const QUICK_ANSWERS: u32 = 16;

#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    time: Duration,
    slow: u32,
    quick: u32,
    /// Time spent on holes too small to be judged by their rate.
    small: Duration,
}

impl Seen {
    fn add(&mut self, bytes: u64, time: Duration) {
        if bytes < CAREFUL {
            self.small = self.small.saturating_add(time);
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.time = self.time.saturating_add(time);
        *(if is_slow(bytes, time) { &mut self.slow } else { &mut self.quick }) += 1;
    }

    /// `running`: for how long the job has been writing.
    fn costly(&self, running: Duration) -> bool {
        let big = self.slow >= SLOW_ANSWERS && is_slow(self.bytes, self.time);
        big || (self.small > SMALL_HOLES && self.small > running / 4)
    }
}

fn is_slow(bytes: u64, time: Duration) -> bool {
    u128::from(bytes).saturating_mul(1_000_000) < time.as_micros().saturating_mul(FREE)
}

/// Clears holes for as long as that is free.
#[derive(Debug)]
pub(super) struct Clearing {
    since: Instant,
    seen: Mutex<Seen>,
}

impl Clearing {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), seen: Mutex::default() }
    }

    /// Turns a hole into zeros where that is free; returns how many of its bytes were.
    pub(super) fn clear(&self, target: &dyn Target, hole: ByteRange) -> Result<u64, TargetError> {
        let mut at = hole.start();
        while at < hole.end() {
            let step = {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.costly(self.since.elapsed()) {
                    break;
                }
                if seen.quick < QUICK_ANSWERS { CAREFUL } else { hole.len() }
            };
            let Some(part) = ByteRange::new(at, at.saturating_add(step).min(hole.end())) else { break };
            let start = Instant::now();
            if target.zero(part)? == Zeroed::Unsupported {
                break;
            }
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).add(part.len(), start.elapsed());
            at = part.end();
        }
        Ok(at - hole.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_answers_are_found_out_and_a_hiccup_is_forgiven() {
        let mut seen = Seen::default();
        seen.add(1 << 20, Duration::from_millis(300));
        assert!(!seen.costly(Duration::ZERO), "one slow answer");
        for _ in 0..200 {
            seen.add(4 << 20, Duration::from_micros(100));
        }
        seen.add(1 << 20, Duration::from_millis(300));
        assert!(!seen.costly(Duration::ZERO), "two in many");
        let mut card = Seen::default();
        card.add(1 << 20, Duration::from_millis(25));
        card.add(1 << 20, Duration::from_millis(25));
        assert!(card.costly(Duration::ZERO));
        let mut crumbs = Seen::default();
        (0..2500).for_each(|_| crumbs.add(4096, Duration::from_micros(400)));
        assert!(!crumbs.costly(Duration::from_secs(3)), "a second is no matter");
        (0..2500).for_each(|_| crumbs.add(4096, Duration::from_micros(400)));
        assert!(crumbs.costly(Duration::from_secs(6)) && !crumbs.costly(Duration::from_secs(9)));
    }

    #[test]
    fn holes_are_cleared_to_their_ends() {
        let disk = crate::target::memory::MemoryTarget::new(vec![9; 20 << 20]).that_can_zero();
        let clearing = Clearing::new();
        let hole = ByteRange::new(4096, (20 << 20) - 512).unwrap();
        assert_eq!(clearing.clear(&disk, hole).unwrap(), hole.len());
        let bytes = disk.bytes();
        assert_eq!(bytes.iter().filter(|byte| **byte == 9).count(), 4096 + 512);
    }
}
