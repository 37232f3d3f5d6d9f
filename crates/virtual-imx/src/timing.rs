//! How long things take, and by which clock.
//!
//! A board adds up what its work would cost and is busy until then. With a simulated clock time passes only when
//! somebody waits, so that a test of minutes runs at once and always the same; with the real one waiting is waiting.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// Rates and latencies of a board. A rate of 0 means at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Bytes per second over USB.
    pub bus: u64,
    /// Added to every transfer over USB.
    pub request: Duration,
    /// Bytes per second out of the card.
    pub card_read: u64,
    /// Bytes per second into the card.
    pub card_write: u64,
    /// Added to every write command to the card.
    pub card_command: Duration,
    /// For each erase group.
    pub erase_group: Duration,
    /// Bytes per second out of inflate.
    pub inflate: u64,
    /// Bytes per second out of LZ4.
    pub unlz4: u64,
    /// Bytes per second through CRC-32.
    pub crc32: u64,
    /// Bytes per second through SHA-1 and SHA-256.
    pub sha: u64,
    /// Before a command of fastboot or FBK is looked at.
    pub command: Duration,
    /// Before each command of U-Boot's shell.
    pub shell_command: Duration,
    /// Between leaving the bus and coming back as the next stage.
    pub gap: Duration,
}

impl Timing {
    /// Nothing takes time but coming back as the next stage, 300 ms.
    pub fn instant() -> Self {
        Self { gap: Duration::from_millis(300), ..Self::default() }
    }

    /// An i.MX8M at USB 2.0 with an eMMC at HS400, by what U-Boot's one request of 4 KiB in flight lets through.
    ///
    /// Reckoned from reports rather than measured on a board: 28 MB/s on the bus, 180 MB/s from and 90 MB/s to the
    /// card, inflate 60 MB/s, LZ4 300 MB/s, CRC-32 400 MB/s, SHA-256 with ARMv8 instructions 500 MB/s.
    pub fn imx8m() -> Self {
        const MB: u64 = 1_000_000;
        Self {
            bus: 28 * MB,
            request: Duration::from_micros(60),
            card_read: 180 * MB,
            card_write: 90 * MB,
            card_command: Duration::from_micros(250),
            erase_group: Duration::from_millis(1),
            inflate: 60 * MB,
            unlz4: 300 * MB,
            crc32: 400 * MB,
            sha: 500 * MB,
            command: Duration::from_micros(100),
            shell_command: Duration::from_micros(20),
            gap: Duration::from_millis(400),
        }
    }

    /// Round numbers that benchmarks are reckoned with: 30 MB/s on the bus, 160 MB/s from and 60 MB/s to the card,
    /// inflate 60 MB/s, LZ4 300 MB/s, CRC-32 250 MB/s, SHA-256 300 MB/s, 10 ms a command, half a second to come back.
    pub fn plain() -> Self {
        const MB: u64 = 1_000_000;
        Self {
            bus: 30 * MB,
            request: Duration::ZERO,
            card_read: 160 * MB,
            card_write: 60 * MB,
            card_command: Duration::ZERO,
            erase_group: Duration::from_millis(1),
            inflate: 60 * MB,
            unlz4: 300 * MB,
            crc32: 250 * MB,
            sha: 300 * MB,
            command: Duration::from_millis(10),
            shell_command: Duration::ZERO,
            gap: Duration::from_millis(500),
        }
    }

    /// Sets one field from `KEY=VALUE`.
    fn set(&mut self, text: &str) -> Option<()> {
        let (key, value) = text.split_once('=')?;
        let rate = match key {
            "bus" => &mut self.bus,
            "card-read" => &mut self.card_read,
            "card-write" => &mut self.card_write,
            "inflate" => &mut self.inflate,
            "unlz4" => &mut self.unlz4,
            "crc32" => &mut self.crc32,
            "sha" => &mut self.sha,
            _ => {
                let time = match key {
                    "request" => &mut self.request,
                    "card-command" => &mut self.card_command,
                    "erase-group" => &mut self.erase_group,
                    "command" => &mut self.command,
                    "shell-command" => &mut self.shell_command,
                    "gap" => &mut self.gap,
                    _ => return None,
                };
                *time = read_time(value)?;
                return Some(());
            }
        };
        *rate = read_rate(value)?;
        Some(())
    }
}

/// Text that is no timing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no timing: one is instant, imx8m or plain, or KEY=VALUE, parted by commas")]
pub struct TimingError(pub String);

/// A timing as text: `instant`, `imx8m` or `plain`, then what differs, as in `imx8m,bus=15M,command=10ms`.
///
/// Keys are the names of the fields with `-` for `_`. Rates are bytes per second, with `k`, `M` or `G` for thousands,
/// millions and milliards; times are whole numbers with `s`, `ms` or `us`.
impl FromStr for Timing {
    type Err = TimingError;

    fn from_str(text: &str) -> Result<Self, TimingError> {
        let mut timing = Self::instant();
        for (n, part) in text.split(',').map(str::trim).enumerate() {
            match (n, part) {
                (0, "instant") => {}
                (0, "imx8m") => timing = Self::imx8m(),
                (0, "plain") => timing = Self::plain(),
                _ => timing.set(part).ok_or_else(|| TimingError(part.to_owned()))?,
            }
        }
        Ok(timing)
    }
}

/// Bytes per second as people write them.
pub fn read_rate(text: &str) -> Option<u64> {
    let unit = |suffix, factor: u64| text.strip_suffix(suffix).map(|digits| (digits, factor));
    let (digits, factor) =
        unit("k", 1000).or_else(|| unit("M", 1_000_000)).or_else(|| unit("G", 1_000_000_000)).unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn read_time(text: &str) -> Option<Duration> {
    let number = |digits: &str| digits.parse().ok();
    match (text.strip_suffix("ms"), text.strip_suffix("us"), text.strip_suffix('s')) {
        (Some(digits), ..) => number(digits).map(Duration::from_millis),
        (_, Some(digits), _) => number(digits).map(Duration::from_micros),
        (.., Some(digits)) => number(digits).map(Duration::from_secs),
        _ => None,
    }
}

/// How long `bytes` take at that rate.
pub fn at_rate(bytes: u64, per_second: u64) -> Duration {
    if per_second == 0 {
        return Duration::ZERO;
    }
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Time since a board was made.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// Passes by itself.
    Real(Instant),
    /// Passes when it is told to.
    Simulated(Duration),
}

impl Clock {
    /// The real one, from now.
    pub fn real() -> Self {
        Self::Real(Instant::now())
    }

    /// A simulated one, at 0.
    pub fn simulated() -> Self {
        Self::Simulated(Duration::ZERO)
    }

    /// Does time pass by itself?
    pub fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Simulated(now) => *now,
        }
    }

    /// That time after the start as the system counts time; `None` for a simulated clock.
    pub(crate) fn instant(&self, time: Duration) -> Option<Instant> {
        match self {
            Self::Real(start) => start.checked_add(time),
            Self::Simulated(_) => None,
        }
    }

    /// Lets simulated time pass up to `until`; never goes back. Does nothing to the real clock.
    pub fn advance_to(&mut self, until: Duration) {
        if let Self::Simulated(now) = self {
            *now = (*now).max(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_exact_and_do_not_overflow() {
        assert_eq!(at_rate(28_000_000, 28_000_000), Duration::from_secs(1));
        assert_eq!(at_rate(1, 0), Duration::ZERO);
        assert_eq!(at_rate(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn timings_are_read() {
        assert_eq!("instant".parse(), Ok(Timing::instant()));
        assert_eq!("plain".parse(), Ok(Timing::plain()));
        let expected = Timing { bus: 15_000_000, command: Duration::from_millis(10), ..Timing::imx8m() };
        assert_eq!("imx8m, bus=15M,command=10ms".parse(), Ok(expected));
        let expected =
            Timing { sha: 1500, gap: Duration::from_secs(2), request: Duration::from_micros(60), ..Timing::instant() };
        assert_eq!("sha=1500,gap=2s,request=60us".parse(), Ok(expected));
        for wrong in ["", "fast", "bus", "bus=", "bus=-1", "bus=99999999999G", "gap=1", "gap=x ms", "plain,plain"] {
            assert!(wrong.parse::<Timing>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn simulated_time_never_goes_back() {
        let mut clock = Clock::simulated();
        clock.advance_to(Duration::from_secs(2));
        clock.advance_to(Duration::from_secs(1));
        assert_eq!(clock.now(), Duration::from_secs(2));
        assert!(!clock.is_real() && Clock::real().is_real());
    }
}
