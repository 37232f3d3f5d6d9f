//! How long a command may take: a base, and the time its bytes need at the worst rate that is still normal.
//!
//! U-Boot says nothing while it works, so a long silence is no sign of a dead board. The rates are well below what
//! slow cards and cables do; the point is that a dead one is noticed at all.

use std::time::Duration;

use super::Command;

/// A base and a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time that is always there.
    pub base: Duration,
    /// Bytes per second at worst. 0 counts as 1.
    pub worst_rate: u64,
}

impl Pace {
    /// A pace of `base_seconds`, and `worst_rate` bytes per second.
    pub const fn new(base_seconds: u64, worst_rate: u64) -> Self {
        Self { base: Duration::from_secs(base_seconds), worst_rate }
    }

    /// The time for that many bytes.
    pub fn time_for(&self, bytes: u64) -> Duration {
        let millis = u128::from(bytes) * 1000 / u128::from(self.worst_rate.max(1));
        self.base.saturating_add(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// The deadlines of a session. Change what does not suit; `fixed` overrides all of them, as `FB[-t ms]:` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// One time for each step of each command, whatever its size.
    pub fixed: Option<Duration>,
    /// `getvar` and other questions.
    pub question: Duration,
    /// Data to the board or from it.
    pub transfer: Pace,
    /// `flash`, by the bytes downloaded before: the board writes them, or more if they are sparse fills.
    pub flash: Pace,
    /// `erase`: cards that erase slowly take minutes.
    pub erase: Duration,
    /// `UCmd`, `oem` and what else runs something of unknown length.
    pub run: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            fixed: None,
            question: Duration::from_secs(10),
            transfer: Pace::new(10, 1_000_000),
            flash: Pace::new(30, 2_000_000),
            erase: Duration::from_secs(600),
            run: Duration::from_secs(120),
        }
    }
}

impl Deadlines {
    /// How long the answer to `command` may take, when `staged` bytes were downloaded before.
    pub fn of(&self, command: &Command<'_>, staged: u64) -> Duration {
        self.fixed.unwrap_or_else(|| match command {
            Command::Flash(_) => self.flash.time_for(staged),
            Command::Erase(_) => self.erase,
            Command::UCmd(_)
            | Command::Oem(_)
            | Command::Flashing(_)
            | Command::CreateLogicalPartition(..)
            | Command::ResizeLogicalPartition(..)
            | Command::DeleteLogicalPartition(_)
            | Command::UpdateSuper(..) => self.run,
            _ => self.question,
        })
    }

    /// How long that many bytes may take on the wire.
    pub fn of_data(&self, bytes: u64) -> Duration {
        self.fixed.unwrap_or_else(|| self.transfer.time_for(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_grow_with_the_work() {
        let mut deadlines = Deadlines::default();
        let flash = Command::Flash("all".into());
        assert_eq!(deadlines.of(&flash, 0), Duration::from_secs(30));
        assert_eq!(deadlines.of(&flash, 64_000_000), Duration::from_secs(62));
        assert_eq!(deadlines.of(&Command::GetVar("x".into()), 64_000_000), Duration::from_secs(10));
        assert_eq!(deadlines.of_data(16_000_000), Duration::from_secs(26));
        assert_eq!(Pace::new(1, 0).time_for(5), Duration::from_secs(6));
        assert!(Pace::new(1, 0).time_for(u64::MAX) > Duration::from_secs(1 << 40));
        deadlines.fixed = Some(Duration::from_secs(1));
        assert_eq!(deadlines.of(&flash, 64_000_000), Duration::from_secs(1));
        assert_eq!(deadlines.of_data(16_000_000), Duration::from_secs(1));
    }
}
