//! ROMs that take their loader as a stream of reports and never answer: i.MX8M Nano and Plus, 93, 8QXP, 95.

use crate::model::RomKind;

use super::image::{self, MAX_IMAGE, NotBootable};
use super::{Hab, Verdict};

/// A ROM that is being streamed to.
#[derive(Debug)]
pub struct Stream {
    kind: RomKind,
    hab: Hab,
    payload: usize,
    bytes: Vec<u8>,
    /// Nothing can be said before so many bytes.
    next_look: usize,
    verdict: Verdict,
    refused: Option<NotBootable>,
}

impl Stream {
    /// A ROM of that kind, whose data reports carry `payload` bytes.
    pub fn new(kind: RomKind, hab: Hab, payload: usize) -> Self {
        let (bytes, verdict) = (Vec::new(), Verdict::Waiting);
        Self { kind, hab, payload, bytes, next_look: 16, verdict, refused: None }
    }

    /// Why it will not start what it was given.
    pub fn refused(&self) -> Option<NotBootable> {
        self.refused
    }

    /// What came so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes a report, its identifier first. Anything but a data report of the right length is passed over.
    pub fn report(&mut self, report: &[u8]) -> Verdict {
        let Some((2, data)) = report.split_first() else { return self.verdict };
        if data.len() != self.payload || self.verdict != Verdict::Waiting {
            return self.verdict;
        }
        self.bytes.extend_from_slice(data);
        if self.bytes.len() < self.next_look {
            return self.verdict;
        }
        match image::loader_length(self.kind, &self.bytes, self.hab) {
            Ok(_) => self.verdict = Verdict::Starts,
            Err(NotBootable::Short(needed)) if needed <= MAX_IMAGE => {
                self.next_look = needed;
            }
            Err(problem) => {
                self.verdict = Verdict::Stuck;
                self.refused = Some(problem);
            }
        }
        self.verdict
    }
}
