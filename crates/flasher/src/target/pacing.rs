//! Paced write-back: what goes through the page cache must not pile up there.
//!
//! Without it a copy seems to be done long before the medium has the data, and the last sync takes minutes that no
//! progress told of.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use bmap::ByteRange;

use super::span;
use crate::sys;

/// How much may be on its way from the page cache to the medium before writing waits: enough to keep a disk busy, little
/// enough that the final sync is short and progress means what it says.
const WINDOW: u64 = 64 << 20;

/// Small writes are gathered up to this before their write-back is started.
const BATCH: u64 = 4 << 20;

/// What was written and may not have reached the medium.
#[derive(Debug, Default)]
pub(super) struct Pacing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Written since the last batch: the span of it, and how many bytes.
    gathered: Option<(ByteRange, u64)>,
    /// Batches whose write-back was started, oldest first: span and bytes.
    started: VecDeque<(ByteRange, u64)>,
    bytes: u64,
}

impl Pacing {
    /// Tells that `extent` was written. Starts write-back now and then, and waits for the oldest batch once too much is
    /// under way.
    pub(super) fn wrote(&self, file: &File, extent: ByteRange) -> io::Result<()> {
        let mut start = None;
        let mut late = Vec::new();
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (gathered, bytes) = state.gathered.take().map_or((extent, extent.len()), |(gathered, bytes)| {
                (span(gathered, extent), bytes.saturating_add(extent.len()))
            });
            if bytes < BATCH {
                state.gathered = Some((gathered, bytes));
            } else {
                start = Some(gathered);
                state.started.push_back((gathered, bytes));
                state.bytes = state.bytes.saturating_add(bytes);
            }
            while state.bytes > WINDOW {
                let Some((oldest, bytes)) = state.started.pop_front() else { break };
                state.bytes = state.bytes.saturating_sub(bytes);
                late.push(oldest);
            }
        }
        start.map_or(Ok(()), |batch| sys::start_write_back(file, batch))?;
        late.into_iter().try_for_each(|batch| sys::wait_write_back(file, batch))
    }
}
