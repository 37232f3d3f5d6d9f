//! The clock of the small measurements: repeats a piece of work, prints the median and the spread.
//!
//! No statistics beyond that, and no history: results that count are kept as dated files in `benches/results`.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How often a work is measured; the first, which warms caches and allocators, is not counted.
const ROUNDS: usize = 9;

/// What one work took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The middle one of the rounds.
    pub median: Duration,
    /// The quickest.
    pub least: Duration,
    /// The slowest.
    pub most: Duration,
}

/// Runs `work` ten times and keeps the times of all but the first.
pub fn measure<T>(mut work: impl FnMut() -> T) -> Timing {
    black_box(work());
    let mut times = [Duration::ZERO; ROUNDS];
    for time in &mut times {
        let start = Instant::now();
        black_box(work());
        *time = start.elapsed();
    }
    times.sort_unstable();
    Timing { median: times[ROUNDS / 2], least: times[0], most: times[ROUNDS - 1] }
}

/// One line of the report: the name, the median with the spread, and how many of `unit` that is in a second.
#[must_use]
pub fn line(name: &str, timing: Timing, amount: f64, unit: &str) -> String {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let rate = amount / timing.median.as_secs_f64();
    format!(
        "{name:<44} {:>9.3} ms ({:.3} to {:.3}) {rate:>12.1} {unit}/s",
        millis(timing.median),
        millis(timing.least),
        millis(timing.most)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_is_not_counted() {
        let mut calls = 0;
        let timing = measure(|| {
            calls += 1;
            if calls == 1 {
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        assert_eq!(calls, ROUNDS + 1);
        assert!(timing.least <= timing.median && timing.median <= timing.most);
        assert!(timing.least < Duration::from_millis(200));
    }

    #[test]
    fn a_line_tells_the_rate() {
        let second = Duration::from_millis(500);
        let text = line("work", Timing { median: second, least: second, most: second }, 100.0, "MB");
        assert!(text.ends_with("200.0 MB/s"), "{text}");
    }
}
