//! The bulk pipe to fastboot.

use std::sync::Arc;
use std::time::Duration;

use super::deadline::Deadline;
use super::fault::fault;
use super::queue::{Queue, Stop, send};
use super::receive::receive;
use super::transfer::{Lane, Opened};
use crate::descriptors::BulkPair;
use crate::pipe::{BulkPipe, TransferError};

/// A pair of bulk endpoints.
#[derive(Debug)]
pub(super) struct Bulk {
    out: Lane,
    input: Lane,
    queue: Queue,
    /// The endpoint stalled, which has to be cleared before it is used again.
    out_halted: bool,
    input_halted: bool,
}

impl Bulk {
    pub(super) fn new(opened: Arc<Opened>, pair: BulkPair, queue: Queue) -> Self {
        let (out, input) = (Lane::new(Arc::clone(&opened), pair.out), Lane::new(opened, pair.input));
        Self { out, input, queue, out_halted: false, input_halted: false }
    }
}

/// Lets an endpoint go on after a stall.
pub(super) fn clear(lane: &Lane, halted: &mut bool) -> Result<(), Stop> {
    if *halted {
        lane.opened().handle().clear_halt(lane.endpoint().address).map_err(super::fault::control_stop)?;
        *halted = false;
    }
    Ok(())
}

impl BulkPipe for Bulk {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        let until = Deadline::new(within);
        let result = match clear(&self.out, &mut self.out_halted) {
            Ok(()) => send(&mut self.out, bytes, self.queue, until),
            Err(stop) => Err((0, stop)),
        };
        result.map_err(|(delivered, stop)| {
            self.out_halted |= stop == Stop::Stalled;
            TransferError::sending(delivered, bytes.len(), fault(stop, until, self.out.opened()))
        })
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let until = Deadline::new(within);
        let result = match clear(&self.input, &mut self.input_halted) {
            Ok(()) => receive(&mut self.input, into, until),
            Err(stop) => Err((0, stop)),
        };
        result.map_err(|(delivered, stop)| {
            self.input_halted |= stop == Stop::Stalled;
            TransferError::receiving(delivered, into.len(), fault(stop, until, self.input.opened()))
        })
    }
}
