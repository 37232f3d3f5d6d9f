//! Reports 3 and 4 ↔ values.

use std::fmt;

use super::{REPORT_HAB, REPORT_STATUS};

/// Length of the longest report in, its identifier included.
pub const REPORT_IN_BYTES: usize = 65;

/// Status after a register was written or a DCD carried out.
pub const DONE_DCD: u32 = 0x128a_8a12;
/// Status after a file was taken.
pub const DONE_FILE: u32 = 0x8888_8888;
/// Status after a DCD was skipped, and before a jump.
pub const DONE_JUMP: u32 = 0x900d_d009;

const OPEN: u32 = 0x5678_7856;
const CLOSED: u32 = 0x1234_3412;

/// Does the chip start unsigned images?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HabState {
    /// It does.
    Open,
    /// Only signed ones. U-Boot's SPL says "open" whatever the chip.
    Closed,
}

impl HabState {
    /// As it stands in report 3.
    pub fn word(self) -> u32 {
        match self {
            Self::Open => OPEN,
            Self::Closed => CLOSED,
        }
    }
}

impl fmt::Display for HabState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
        })
    }
}

/// A report that is not the one expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Another report.
    #[error("the board sent report {found} instead of report {expected}")]
    Identifier {
        /// The report that was due.
        expected: u8,
        /// What came.
        found: u8,
    },
    /// Too short for an identifier and four bytes.
    #[error("the board sent {length} bytes as report {expected}, which has at least 5")]
    Short {
        /// The report that was due.
        expected: u8,
        /// Bytes that came.
        length: usize,
    },
    /// Neither open nor closed.
    #[error("the board's HAB state is {0:#010x}, neither open ({OPEN:#x}) nor closed ({CLOSED:#x})")]
    Hab(u32),
}

fn word(report: &[u8], expected: u8) -> Result<u32, ReplyError> {
    match *report {
        [found, a, b, c, d, ..] if found == expected => Ok(u32::from_le_bytes([a, b, c, d])),
        [found, ..] if found != expected => Err(ReplyError::Identifier { expected, found }),
        _ => Err(ReplyError::Short { expected, length: report.len() }),
    }
}

/// The HAB state in a report 3, its identifier first. Bytes after the fifth mean nothing.
pub fn hab_report(report: &[u8]) -> Result<HabState, ReplyError> {
    match word(report, REPORT_HAB)? {
        OPEN => Ok(HabState::Open),
        CLOSED => Ok(HabState::Closed),
        other => Err(ReplyError::Hab(other)),
    }
}

/// The status or register value in a report 4, its identifier first. Bytes after the fifth mean nothing.
pub fn status_report(report: &[u8]) -> Result<u32, ReplyError> {
    word(report, REPORT_STATUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As i.MX6 and 7 answer; from traces of `uuu` 1.5.243.
    #[test]
    fn golden() {
        assert_eq!(hab_report(b"\x03\x56\x78\x78\x56"), Ok(HabState::Open));
        assert_eq!(hab_report(b"\x03\x12\x34\x34\x12\0\0"), Ok(HabState::Closed));
        assert_eq!(status_report(b"\x04\x12\x8a\x8a\x12"), Ok(DONE_DCD));
        assert_eq!(status_report(b"\x04\x88\x88\x88\x88"), Ok(DONE_FILE));
        assert_eq!(status_report(b"\x04\x09\xd0\x0d\x90"), Ok(DONE_JUMP));
        for state in [HabState::Open, HabState::Closed] {
            let mut report = vec![REPORT_HAB];
            report.extend(state.word().to_le_bytes());
            assert_eq!(hab_report(&report), Ok(state));
        }
    }

    #[test]
    fn other_reports() {
        assert_eq!(hab_report(&[]), Err(ReplyError::Short { expected: 3, length: 0 }));
        assert_eq!(hab_report(&[3, 1, 2, 3]), Err(ReplyError::Short { expected: 3, length: 4 }));
        assert_eq!(hab_report(&[4, 1, 2, 3, 4]), Err(ReplyError::Identifier { expected: 3, found: 4 }));
        assert_eq!(
            hab_report(&[3, 1, 0, 0, 0]).unwrap_err().to_string(),
            "the board's HAB state is 0x00000001, neither open (0x56787856) nor closed (0x12343412)"
        );
        assert_eq!(status_report(&[3]), Err(ReplyError::Identifier { expected: 4, found: 3 }));
    }
}
