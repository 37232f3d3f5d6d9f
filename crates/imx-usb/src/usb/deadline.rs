//! Until when: a duration from now, in the forms the system wants it.

use std::time::{Duration, Instant};

/// Longer than anybody waits; keeps sums within what clocks can say.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The end of a time to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    within: Duration,
}

impl Deadline {
    /// That long from now.
    pub(super) fn new(within: Duration) -> Self {
        let now = Instant::now();
        Self { at: now.checked_add(within.min(LONGEST)).unwrap_or(now), within }
    }

    /// How long it was from the start.
    pub(super) fn within(&self) -> Duration {
        self.within
    }

    /// How much of it is left; zero when it is over. Whole microseconds, rounded up, as libusb cuts what is below.
    pub(super) fn left(&self) -> Duration {
        micros(self.at.saturating_duration_since(Instant::now()))
    }

    /// Is it over?
    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

/// Whole microseconds, rounded up.
fn micros(time: Duration) -> Duration {
    let part = time.subsec_nanos() % 1000;
    if part == 0 { time } else { time.saturating_add(Duration::from_nanos(u64::from(1000 - part))) }
}

/// Whole milliseconds for libusb's synchronous calls: rounded up, and never 0, which they take for "forever".
pub(super) fn millis(time: Duration) -> Duration {
    let millis = u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
    Duration::from_millis(u64::from(millis.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_up() {
        for (nanos, expected) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (999_999_001, 1_000_000)] {
            assert_eq!(micros(Duration::from_nanos(nanos)), Duration::from_micros(expected), "{nanos}");
        }
        let ms = Duration::from_millis;
        for (time, expected) in [(Duration::ZERO, ms(1)), (Duration::from_nanos(1), ms(1)), (ms(7), ms(7))] {
            assert_eq!(millis(time), expected);
        }
        assert_eq!(millis(Duration::from_micros(1001)), ms(2));
        assert_eq!(millis(Duration::MAX), ms(u64::from(u32::MAX)));
    }

    #[test]
    fn it_ends() {
        let over = Deadline::new(Duration::ZERO);
        assert!(over.is_over() && over.left().is_zero());
        let short = Deadline::new(Duration::from_nanos(1));
        std::thread::sleep(Duration::from_micros(10));
        assert!(short.is_over());
        assert_eq!(short.within(), Duration::from_nanos(1));
        // Beyond what any clock can say.
        let long = Deadline::new(Duration::MAX);
        assert!(!long.is_over() && long.left() > Duration::from_secs(300 * 24 * 3600));
        assert_eq!(long.within(), Duration::MAX);
    }
}
