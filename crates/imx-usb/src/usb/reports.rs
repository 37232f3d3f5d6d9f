//! The pipe for HID reports.

use std::sync::Arc;
use std::time::Duration;

use super::bulk::clear;
use super::deadline::{Deadline, millis};
use super::fault::{UsbFault, control_stop, fault, other};
use super::queue::{Queue, Stop, send};
use super::receive::receive;
use super::transfer::{Lane, Opened};
use crate::chips::ReportRoute;
use crate::descriptors::{Endpoint, Kind, ReportEndpoints};
use crate::pipe::{Fault, ReportPipe, TransferError};

/// SET_REPORT to an interface, of the type "output". Source: HID 1.11, 7.2.2.
const REQUEST_TYPE: u8 = 0x21;
const SET_REPORT: u8 = 0x09;
const OUTPUT: u8 = 2;

/// usbfs takes no more than a page on the control pipe.
const MOST_CONTROL: usize = 4096;

/// Reports of one interface.
#[derive(Debug)]
pub(super) struct Reports {
    opened: Arc<Opened>,
    interface: u8,
    /// The endpoint out; without one, reports go by the control pipe.
    out: Option<Lane>,
    input: Lane,
    out_halted: bool,
    input_halted: bool,
}

/// The endpoint by which reports go out, if not by the control pipe.
fn way_out(endpoints: &ReportEndpoints, route: ReportRoute) -> Option<Endpoint> {
    let unlisted = Endpoint { address: 1, kind: Kind::Interrupt, packet: 64 };
    endpoints.out.or(match route {
        ReportRoute::Endpoint1 => Some(unlisted),
        ReportRoute::Control => None,
    })
}

impl Reports {
    pub(super) fn new(opened: Arc<Opened>, endpoints: ReportEndpoints, route: ReportRoute) -> Self {
        let lane = |endpoint| Lane::new(Arc::clone(&opened), endpoint);
        let (out, input) = (way_out(&endpoints, route).map(lane), lane(endpoints.input));
        Self { opened, interface: endpoints.interface, out, input, out_halted: false, input_halted: false }
    }

    fn set_report(&self, report: &[u8], until: Deadline) -> Result<(), (usize, Fault)> {
        if report.len() > MOST_CONTROL {
            return Err((0, other(UsbFault::TooLong(report.len()))));
        }
        let value = u16::from_be_bytes([OUTPUT, report.first().copied().unwrap_or(0)]);
        let index = u16::from(self.interface);
        let time = millis(until.within());
        match self.opened.handle().write_control(REQUEST_TYPE, SET_REPORT, value, index, report, time) {
            Ok(taken) if taken < report.len() => Err((taken, other(UsbFault::Cut))),
            Ok(_) => Ok(()),
            Err(error) => Err((0, fault(control_stop(error), until, &self.opened))),
        }
    }
}

impl ReportPipe for Reports {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        let until = Deadline::new(within);
        let result = match &mut self.out {
            None => self.set_report(report, until),
            Some(lane) => {
                let whole = Queue { transfers: 1, bytes: report.len().max(MOST_CONTROL) };
                clear(lane, &mut self.out_halted)
                    .map_err(|stop| (0, stop))
                    .and_then(|()| send(lane, report, whole, until))
                    .map_err(|(delivered, stop)| {
                        self.out_halted |= stop == Stop::Stalled;
                        (delivered, fault(stop, until, &self.opened))
                    })
            }
        };
        result.map_err(|(delivered, fault)| TransferError::sending(delivered, report.len(), fault))
    }

    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let until = Deadline::new(within);
        let result = match clear(&self.input, &mut self.input_halted) {
            Ok(()) => receive(&mut self.input, into, until),
            Err(stop) => Err((0, stop)),
        };
        result.map_err(|(delivered, stop)| {
            self.input_halted |= stop == Stop::Stalled;
            TransferError::receiving(delivered, into.len(), fault(stop, until, &self.opened))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_way_reports_go() {
        let endpoint = |address| Endpoint { address, kind: Kind::Interrupt, packet: 64 };
        let mut listed = ReportEndpoints { interface: 0, out: Some(endpoint(2)), input: endpoint(0x81) };
        for route in [ReportRoute::Control, ReportRoute::Endpoint1] {
            assert_eq!(way_out(&listed, route), Some(endpoint(2)));
        }
        listed.out = None;
        assert_eq!(way_out(&listed, ReportRoute::Control), None);
        assert_eq!(way_out(&listed, ReportRoute::Endpoint1), Some(endpoint(1)));
    }
}
