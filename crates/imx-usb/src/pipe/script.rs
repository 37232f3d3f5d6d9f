//! A pipe that plays a script: what must be sent, what is answered, where it fails. For this crate's unit tests.

use std::collections::VecDeque;
use std::time::Duration;

use super::{BulkPipe, Fault, ReportPipe, TransferError};

/// One thing that happens on the wire.
#[derive(Debug)]
pub(crate) enum Step {
    /// Exactly these bytes are sent next.
    Out(Vec<u8>),
    /// These bytes are received next.
    In(Vec<u8>),
    /// The next transfer, whichever way, fails after that many bytes.
    Fail(usize, fn() -> Fault),
}

/// Plays its steps and panics at anything else.
#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    /// The deadlines that were given, in order.
    pub(crate) deadlines: Vec<Duration>,
}

pub(crate) fn out(bytes: impl AsRef<[u8]>) -> Step {
    Step::Out(bytes.as_ref().to_vec())
}

pub(crate) fn reply(bytes: impl AsRef<[u8]>) -> Step {
    Step::In(bytes.as_ref().to_vec())
}

pub(crate) fn gone() -> Step {
    Step::Fail(0, || Fault::Gone)
}

pub(crate) fn silence() -> Step {
    Step::Fail(0, || Fault::TimedOut(Duration::from_secs(1)))
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), deadlines: Vec::new() }
    }

    /// Nothing is left to happen.
    pub(crate) fn finish(&self) {
        assert!(self.steps.is_empty(), "never happened: {:02x?}", self.steps);
    }

    fn transfer_out(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        self.deadlines.push(within);
        match self.steps.pop_front() {
            Some(Step::Out(expected)) => {
                assert_eq!(bytes.len(), expected.len(), "{:02x?} for {:02x?}", head(bytes), head(&expected));
                let differs = bytes.iter().zip(&expected).position(|(a, b)| a != b);
                assert_eq!(differs, None, "{:02x?} for {:02x?}", head(bytes), head(&expected));
                Ok(())
            }
            Some(Step::Fail(delivered, fault)) => Err(TransferError::sending(delivered, bytes.len(), fault())),
            other => {
                panic!("sent {:02x?} ({}) instead of {other:02x?}", head(bytes), String::from_utf8_lossy(head(bytes)))
            }
        }
    }

    fn transfer_in(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        self.deadlines.push(within);
        match self.steps.pop_front() {
            Some(Step::In(mut bytes)) => {
                if bytes.len() > into.len() {
                    // A longer answer stays in the pipe, as it does over USB when packets allow it.
                    self.steps.push_front(Step::In(bytes.split_off(into.len())));
                }
                into[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Some(Step::Fail(delivered, fault)) => Err(TransferError::receiving(delivered, into.len(), fault())),
            other => panic!("received instead of {other:02x?}"),
        }
    }
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(70)]
}

impl BulkPipe for Script {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        self.transfer_out(bytes, within)
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        self.transfer_in(into, within)
    }
}

impl ReportPipe for Script {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        self.transfer_out(report, within)
    }

    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        self.transfer_in(into, within)
    }
}
