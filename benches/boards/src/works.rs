//! What is measured, and what it would take if nothing were ever waited for.

use crate::float;

/// Rates of the timing model, in bytes a second; a command takes [`COMMAND`] seconds.
pub(crate) const CARD_WRITE: f64 = 60e6;
pub(crate) const CARD_READ: f64 = 160e6;
pub(crate) const UNLZ4: f64 = 300e6;
pub(crate) const GUNZIP: f64 = 60e6;
pub(crate) const CRC32: f64 = 250e6;
pub(crate) const SHA256: f64 = 300e6;
pub(crate) const COMMAND: f64 = 0.01;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Flashes, raw.
    Raw,
    /// Flashes, LZ4 of level 1.
    Lz4,
    /// Flashes, gzip.
    Gzip,
    /// Flashes, whatever is measured to be fastest.
    Auto,
    /// Flashes from a pack file.
    Packed,
    /// Flashes what differs, raw.
    Delta,
    /// Sends what uuu sends.
    Uuu,
}

/// One work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) job: Job,
    /// What a board's own bus carries, MB/s.
    pub(crate) bus: u64,
    pub(crate) boards: u64,
    /// What the bus carries that they share, MB/s.
    pub(crate) hub: Option<u64>,
}

const fn one(name: &'static str, title: &'static str, job: Job, bus: u64) -> Work {
    Work { name, title, job, bus, boards: 1, hub: None }
}

/// All works, in the order of a round.
pub(crate) const WORKS: [Work; 15] = [
    one("uuu-30", "uuu's requests, no map", Job::Uuu, 30),
    one("raw-30", "raw", Job::Raw, 30),
    one("lz4-30", "LZ4", Job::Lz4, 30),
    one("auto-30", "auto", Job::Auto, 30),
    one("packed-30", "packed beforehand", Job::Packed, 30),
    one("gzip-30", "gzip", Job::Gzip, 30),
    one("delta-30", "delta, 5 % changed", Job::Delta, 30),
    Work { name: "eight-30", title: "8 boards, a bus each, raw", job: Job::Raw, bus: 30, boards: 8, hub: None },
    Work { name: "eight-auto-30", title: "8 boards, a bus each, auto", job: Job::Auto, bus: 30, boards: 8, hub: None },
    Work { name: "four-40", title: "4 boards on one bus, raw", job: Job::Raw, bus: 30, boards: 4, hub: Some(40) },
    one("uuu-15", "uuu's requests, no map", Job::Uuu, 15),
    one("raw-15", "raw", Job::Raw, 15),
    one("lz4-15", "LZ4", Job::Lz4, 15),
    one("auto-15", "auto", Job::Auto, 15),
    one("packed-15", "packed beforehand", Job::Packed, 15),
];

impl Work {
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        WORKS.iter().find(|work| work.name == name).copied()
    }

    /// The bus in bytes a second.
    pub(crate) fn bus_rate(&self) -> f64 {
        float(self.bus * 1_000_000)
    }

    /// Where the boards are plugged in: at the root hub, or all behind one hub.
    pub(crate) fn ports(&self) -> Vec<String> {
        let before = if self.hub.is_some() { "1-1." } else { "1-" };
        (1..=self.boards).map(|n| format!("{before}{n}")).collect()
    }

    /// The timing model on virtual-imx's command line.
    pub(crate) fn timing(&self) -> String {
        format!("plain,bus={}M", self.bus)
    }

    /// What a board does with so many bytes of the image once it has them, in seconds.
    pub(crate) fn work_time(&self, bytes: u64) -> f64 {
        let inflate = match self.job {
            Job::Lz4 | Job::Packed => 1.0 / UNLZ4,
            Job::Gzip => 1.0 / GUNZIP,
            _ => 0.0,
        };
        float(bytes) * (1.0 / CARD_WRITE + inflate)
    }
}

/// How long reading and judging by CRC-32 takes, in seconds.
pub(crate) fn proof_time(bytes: u64) -> f64 {
    float(bytes) * (1.0 / CARD_READ + 1.0 / CRC32)
}

/// How long reading and comparing by SHA-256 takes, in seconds.
pub(crate) fn compare_time(bytes: u64) -> f64 {
    float(bytes) * (1.0 / CARD_READ + 1.0 / SHA256)
}

/// The best that `boards` boards on one bus can do, in seconds: every byte goes over the bus, and it is never idle; then
/// the one that received last still has to write the last of its batches and to prove it. What they do meanwhile beside
/// that (proving what they wrote while others receive) costs nothing. `least` is the smallest batch, a piece.
pub(crate) fn shared_bus(boards: u64, hub: u64, bytes: u64, least: u64) -> f64 {
    float(boards * bytes) / float(hub * 1_000_000) + float(least) / CARD_WRITE + proof_time(least)
}
