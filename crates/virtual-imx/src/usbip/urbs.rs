//! The transfers of one device: what is pending, what is answered, what is called off.
//!
//! Nothing is answered before it is over, as on a real bus: a transfer in that finds no data stays pending, and so does
//! one out while the board is busy or hung; both can still be called off. Requests on endpoint 0 that a device answers
//! by itself are answered at once whatever the board does (a real one may be too busy).

use std::collections::VecDeque;
use std::time::Duration;

use crate::board::{Board, Device};
use crate::link::Outcome;
use crate::record::Event;
use crate::store::wide;
use crate::usb::{Answer, Function, SetupPacket};

use super::wire::{Command, DONE, Direction, Reply, SHORT, SHORT_NOT_OK, STALLED, Submit, UNLINKED};

/// Transfers that may be pending on an endpoint; more are refused.
const MAX_PENDING: usize = 4096;

/// What to wait for when nothing more can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Until then by the board's clock, or until the host asks for something.
    Until(Duration),
    /// Until the host asks for something, or somebody does something to the board.
    Idle,
    /// Nothing: the device has left the bus.
    Gone,
}

/// Where answers go, with their data.
pub type Sink<'s> = &'s mut dyn FnMut(Reply, &[u8]);

#[derive(Debug)]
struct Urb {
    sequence: u32,
    flags: u32,
    length: usize,
    /// Out: all of it. In: what came so far.
    data: Vec<u8>,
    done: usize,
}

/// A device with its pending transfers.
#[derive(Debug)]
pub struct Urbs {
    board: Board,
    device: Device,
    function: Function,
    /// Reports by way of endpoint 0.
    reports: VecDeque<Urb>,
    out: VecDeque<Urb>,
    input: VecDeque<Urb>,
    /// Vectors to be used again.
    spare: Vec<Vec<u8>>,
}

/// How far a transfer got.
enum Step {
    Over(i32),
    Pending(Option<Duration>),
    Gone,
}

impl Urbs {
    /// Those of `device`, which `board` is on the bus.
    pub fn new(board: Board, device: Device) -> Self {
        let queue = VecDeque::new;
        Self {
            board,
            device,
            function: Function::default(),
            reports: queue(),
            out: queue(),
            input: queue(),
            spare: Vec::new(),
        }
    }

    /// Bytes on their way to the board.
    pub fn bytes_pending(&self) -> u64 {
        self.out.iter().chain(&self.reports).map(|urb| wide(urb.data.len())).sum()
    }

    /// An empty vector, if there is one that was used before.
    pub fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn endpoint(&self, direction: Direction) -> Option<u8> {
        let wanted = if direction == Direction::In { 0x80 } else { 0 };
        self.device.endpoints.iter().map(|endpoint| endpoint.address).find(|address| address & 0x80 == wanted)
    }

    /// Takes a message with its data (as long as [`Command::data_bytes`] says) and answers what can be answered at once.
    pub fn take(&mut self, command: Command, data: Vec<u8>, sink: Sink<'_>) {
        match command {
            Command::Submit(submit) => self.submit(submit, data, sink),
            Command::Unlink { sequence, target, .. } => {
                let mut found = false;
                for queue in [&mut self.reports, &mut self.out, &mut self.input] {
                    if let Some(at) = queue.iter().position(|urb| urb.sequence == target) {
                        queue.remove(at);
                        found = true;
                    }
                }
                // What was answered before, or never came, cannot be called off.
                sink(Reply::Unlinked { sequence, status: if found { UNLINKED } else { DONE } }, &[]);
            }
        }
    }

    fn submit(&mut self, submit: Submit, data: Vec<u8>, sink: Sink<'_>) {
        let Submit { sequence, direction, flags, .. } = submit;
        let stall = Reply::Submitted { sequence, status: STALLED, actual: 0 };
        let length = usize::try_from(submit.length).unwrap_or(usize::MAX);
        let urb = Urb { sequence, flags, length, data, done: 0 };
        if submit.endpoint == 0 {
            return self.control(submit, urb, sink);
        }
        let address = submit.endpoint | if direction == Direction::In { 0x80 } else { 0 };
        if self.endpoint(direction) != Some(address) || self.function.is_halted(address) {
            return sink(stall, &[]);
        }
        let queue = if direction == Direction::In { &mut self.input } else { &mut self.out };
        if queue.len() >= MAX_PENDING {
            return sink(stall, &[]);
        }
        queue.push_back(urb);
    }

    fn control(&mut self, submit: Submit, urb: Urb, sink: Sink<'_>) {
        let sequence = submit.sequence;
        let setup = SetupPacket::decode(submit.setup);
        let done = |actual| Reply::Submitted { sequence, status: DONE, actual };
        match self.function.answer(&self.device, setup) {
            Answer::Data(mut bytes) if submit.direction == Direction::In => {
                bytes.truncate(urb.length);
                sink(done(u32::try_from(bytes.len()).unwrap_or(0)), &bytes);
            }
            Answer::Data(_) => sink(done(submit.length), &[]),
            Answer::Restarted => {
                self.board.bus_reset(self.device.address);
                sink(done(0), &[]);
            }
            Answer::Report if submit.direction == Direction::Out && self.reports.len() < MAX_PENDING => {
                self.reports.push_back(urb);
            }
            Answer::Report | Answer::Stall => {
                sink(Reply::Submitted { sequence, status: STALLED, actual: 0 }, &[]);
            }
        }
    }

    /// Does what can be done now.
    pub fn work(&mut self, sink: Sink<'_>) -> Next {
        let mut next: Option<Duration> = None;
        for direction in [None, Some(Direction::Out), Some(Direction::In)] {
            loop {
                let queue = match direction {
                    None => &mut self.reports,
                    Some(Direction::Out) => &mut self.out,
                    Some(Direction::In) => &mut self.input,
                };
                let Some(mut urb) = queue.pop_front() else { break };
                let step = match direction {
                    Some(Direction::In) => self.step_in(&mut urb),
                    _ => self.step_out(&mut urb),
                };
                match step {
                    Step::Over(status) => self.finish(direction, urb, status, sink),
                    Step::Gone => return Next::Gone,
                    Step::Pending(when) => {
                        next = [next, when].into_iter().flatten().min();
                        let queue = match direction {
                            None => &mut self.reports,
                            Some(Direction::Out) => &mut self.out,
                            Some(Direction::In) => &mut self.input,
                        };
                        queue.push_front(urb);
                        break;
                    }
                }
            }
        }
        if self.board.address() != Some(self.device.address) {
            return Next::Gone;
        }
        let next = [next, self.board.next_change()].into_iter().flatten().min();
        next.map_or(Next::Idle, Next::Until)
    }

    fn step_out(&mut self, urb: &mut Urb) -> Step {
        loop {
            match self.board.try_out(self.device.address, &urb.data[urb.done..]) {
                Outcome::Done(n) => {
                    urb.done += n;
                    if urb.done >= urb.data.len() {
                        return Step::Over(DONE);
                    }
                }
                Outcome::Wait(when) => return Step::Pending(when),
                Outcome::Stalled => return Step::Over(STALLED),
                Outcome::Gone => return Step::Gone,
            }
        }
    }

    fn step_in(&mut self, urb: &mut Urb) -> Step {
        loop {
            match self.board.try_in(self.device.address, urb.length - urb.data.len()) {
                Outcome::Done(bytes) => {
                    let ends = !self.device.is_whole_packets(bytes.len());
                    if urb.data.is_empty() {
                        urb.data = bytes;
                    } else {
                        urb.data.extend(bytes);
                    }
                    urb.done = urb.data.len();
                    if ends || urb.done >= urb.length {
                        return Step::Over(DONE);
                    }
                }
                Outcome::Wait(when) => return Step::Pending(when),
                Outcome::Stalled => return Step::Over(STALLED),
                Outcome::Gone => return Step::Gone,
            }
        }
    }

    fn finish(&mut self, direction: Option<Direction>, urb: Urb, status: i32, sink: Sink<'_>) {
        let Urb { sequence, flags, length, mut data, done } = urb;
        let actual = u32::try_from(done).unwrap_or(u32::MAX);
        if direction == Some(Direction::In) {
            let short = status == DONE && done < length && flags & SHORT_NOT_OK != 0;
            let status = if short { SHORT } else { status };
            self.board.note(&Event::ToHost(done));
            sink(Reply::Submitted { sequence, status, actual }, &data);
        } else {
            self.board.note(&Event::FromHost(done));
            sink(Reply::Submitted { sequence, status, actual }, &[]);
        }
        if self.spare.len() < 8 {
            data.clear();
            self.spare.push(data);
        }
        if let (STALLED, Some(direction)) = (status, direction) {
            let Some(endpoint) = self.endpoint(direction) else { return };
            self.function.halt(endpoint);
            let queue = if direction == Direction::In { &mut self.input } else { &mut self.out };
            for urb in std::mem::take(queue) {
                sink(Reply::Submitted { sequence: urb.sequence, status: STALLED, actual: 0 }, &[]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
