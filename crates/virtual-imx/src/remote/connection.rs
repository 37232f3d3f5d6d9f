//! The transfers of one imported device, by the thread that asks for them.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use imx_usb::pipe::Fault;

use crate::usb::SetupPacket;
use crate::usbip::Stream;
use crate::usbip::wire::{Command, DONE, Direction, HEADER_BYTES, Reply, STALLED, Submit};
use crate::usbip::write_both;

/// Most bytes in one transfer to a board.
pub const TRANSFER_BYTES: usize = 512 << 10;
/// Transfers under way at once.
const MAX_UNDER_WAY: usize = 4;
/// How long the rest of a message may take to come, and an answer to calling a transfer off.
const REST_WITHIN: Duration = Duration::from_secs(10);

/// The endpoints of interface 0, without the bit for the direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) bulk_in: Option<u8>,
    pub(super) bulk_out: Option<u8>,
    pub(super) interrupt_in: Option<u8>,
    pub(super) interrupt_out: Option<u8>,
}

impl Endpoints {
    /// From a configuration's descriptors; what is cut short is passed over.
    pub(super) fn read(mut bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let mut interface = 0;
        while let Some(length) = bytes.first().map(|length| usize::from(*length)).filter(|length| *length >= 2) {
            let Some((descriptor, rest)) = bytes.split_at_checked(length) else { break };
            match descriptor {
                [_, 4, number, ..] => interface = *number,
                [_, 5, address, kind, ..] if interface == 0 => {
                    let place = match (kind & 3, address & 0x80 != 0) {
                        (2, true) => &mut found.bulk_in,
                        (2, false) => &mut found.bulk_out,
                        (3, true) => &mut found.interrupt_in,
                        (3, false) => &mut found.interrupt_out,
                        _ => &mut None,
                    };
                    place.get_or_insert(address & 0x0f);
                }
                _ => {}
            }
            bytes = rest;
        }
        found
    }
}

/// A transfer that was asked for.
#[derive(Debug, Clone, Copy)]
struct Pending {
    sequence: u32,
    direction: Direction,
    bytes: usize,
}

/// A device that is ours.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    device: u32,
    sequence: u32,
    pending: VecDeque<Pending>,
    endpoints: Endpoints,
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that have come.
    have: usize,
    /// Nothing more comes of it.
    broken: bool,
}

/// An answer without its data.
struct Answer {
    /// `None` for a transfer that was given up before.
    of: Option<Pending>,
    status: i32,
    actual: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream, device: u32) -> Self {
        let (pending, endpoints) = (VecDeque::new(), Endpoints::default());
        Self { stream, device, sequence: 0, pending, endpoints, header: [0; HEADER_BYTES], have: 0, broken: false }
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    pub(super) fn close(&mut self) {
        self.broken = true;
        self.stream.close();
    }

    fn failed(&mut self, error: io::Error) -> Fault {
        self.close();
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Fault::Gone,
            _ => Fault::Other(error.into()),
        }
    }

    fn submit(
        &mut self,
        direction: Direction,
        endpoint: u8,
        setup: [u8; 8],
        length: usize,
        data: &[u8],
    ) -> Result<(), Fault> {
        if self.broken {
            return Err(Fault::Gone);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let submit = Submit {
            sequence,
            device: self.device,
            direction,
            endpoint,
            flags: 0,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            setup,
        };
        self.pending.push_back(Pending { sequence, direction, bytes: length });
        write_both(&mut self.stream, &Command::Submit(submit).encode(), data).map_err(|error| self.failed(error))
    }

    /// Waits for the next answer; `Ok(None)`: there is none in time. Its data, if it has any, goes to `into`, which must
    /// be long enough for what was asked for.
    fn answer(&mut self, into: &mut [u8], until: Option<Instant>) -> Result<Option<Answer>, Fault> {
        while self.have < HEADER_BYTES {
            // The rest of a message that has begun is on its way.
            let until = if self.have == 0 { until } else { Instant::now().checked_add(REST_WITHIN) };
            let Some(n) = self.read_some(None, until)? else {
                return if self.have == 0 { Ok(None) } else { Err(self.failed(io::ErrorKind::TimedOut.into())) };
            };
            self.have += n;
        }
        self.have = 0;
        let reply = Reply::decode(&self.header).map_err(|error| {
            self.close();
            Fault::Other(error.into())
        })?;
        let (sequence, status, actual) = match reply {
            Reply::Submitted { sequence, status, actual } => (sequence, status, actual),
            Reply::Unlinked { status, .. } => return Ok(Some(Answer { of: None, status, actual: 0 })),
        };
        let at = self.pending.iter().position(|pending| pending.sequence == sequence);
        let Some(pending) = at.and_then(|at| self.pending.remove(at)) else {
            return Err(self.failed(io::Error::new(io::ErrorKind::InvalidData, "an answer to nothing")));
        };
        let actual = usize::try_from(actual).unwrap_or(usize::MAX);
        if actual > pending.bytes {
            self.close();
            return Err(Fault::Overflow);
        }
        if pending.direction == Direction::In {
            let mut given_up = Vec::new();
            let place = match into.get_mut(..actual) {
                Some(place) => place,
                None => {
                    // Of a transfer that its caller had given up.
                    given_up.resize(actual, 0);
                    &mut given_up[..]
                }
            };
            let mut done = 0;
            while done < actual {
                match self.read_some(Some(&mut place[done..]), Instant::now().checked_add(REST_WITHIN))? {
                    Some(n) => done += n,
                    None => return Err(self.failed(io::ErrorKind::TimedOut.into())),
                }
            }
        }
        Ok(Some(Answer { of: Some(pending), status, actual }))
    }

    /// Reads something, into `into` or the header; `Ok(None)`: nothing came in time.
    fn read_some(&mut self, into: Option<&mut [u8]>, until: Option<Instant>) -> Result<Option<usize>, Fault> {
        let into = match into {
            Some(into) => into,
            None => &mut self.header[self.have..],
        };
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // Zero would mean "for ever".
            let wait = left.map(|left| left.max(Duration::from_micros(1)));
            let read = self.stream.set_read_timeout(wait).and_then(|()| self.stream.read(into));
            match read {
                Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => return Ok(Some(n)),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                    _ => return Err(self.failed(error)),
                },
            }
        }
    }

    /// Calls off all that is pending, and waits until that is done.
    fn give_up(&mut self) -> Result<(), Fault> {
        let mut asked = 0usize;
        for pending in self.pending.clone() {
            self.sequence = self.sequence.wrapping_add(1);
            let unlink = Command::Unlink { sequence: self.sequence, device: self.device, target: pending.sequence };
            write_both(&mut self.stream, &unlink.encode(), &[]).map_err(|error| self.failed(error))?;
            asked += 1;
        }
        let until = Instant::now().checked_add(REST_WITHIN);
        while asked > 0 {
            match self.answer(&mut [], until)? {
                Some(Answer { of: None, .. }) => asked -= 1,
                Some(_) => {}
                None => return Err(self.failed(io::ErrorKind::TimedOut.into())),
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// Sends bytes, in transfers that follow each other without a gap; on an error says how many bytes went.
    pub(super) fn send(&mut self, endpoint: u8, bytes: &[u8], within: Duration) -> Result<(), (usize, Fault)> {
        let until = Instant::now().checked_add(within);
        let (mut sent, mut done) = (0, 0);
        while done < bytes.len() {
            if sent < bytes.len() && self.pending.len() < MAX_UNDER_WAY {
                let part = &bytes[sent..bytes.len().min(sent + TRANSFER_BYTES)];
                self.submit(Direction::Out, endpoint, [0; 8], part.len(), part).map_err(|fault| (done, fault))?;
                sent += part.len();
                continue;
            }
            let answer = self.answer(&mut [], until).map_err(|fault| (done, fault))?;
            let fault = match answer {
                None => Fault::TimedOut(within),
                Some(Answer { of: None, .. }) => continue,
                Some(Answer { of: Some(pending), status, actual }) => {
                    done += actual.min(pending.bytes);
                    if (status, actual) == (DONE, pending.bytes) {
                        continue;
                    }
                    fault(status)
                }
            };
            return Err((done, self.give_up().err().unwrap_or(fault)));
        }
        Ok(())
    }

    /// Receives one transfer.
    pub(super) fn receive(&mut self, endpoint: u8, into: &mut [u8], within: Duration) -> Result<usize, Fault> {
        let until = Instant::now().checked_add(within);
        self.submit(Direction::In, endpoint, [0; 8], into.len(), &[])?;
        self.only_answer(into, until, within)
    }

    /// The answer to the only transfer that is pending.
    fn only_answer(&mut self, into: &mut [u8], until: Option<Instant>, within: Duration) -> Result<usize, Fault> {
        loop {
            return match self.answer(into, until)? {
                None => {
                    self.give_up()?;
                    Err(Fault::TimedOut(within))
                }
                Some(Answer { of: None, .. }) => continue,
                Some(Answer { status: DONE, actual, .. }) => Ok(actual),
                Some(Answer { status, .. }) => Err(fault(status)),
            };
        }
    }

    /// Sends a report by way of endpoint 0.
    pub(super) fn set_report(&mut self, report: &[u8], within: Duration) -> Result<(), (usize, Fault)> {
        let failed = |fault| (0, fault);
        let until = Instant::now().checked_add(within);
        let id = u16::from(report.first().copied().unwrap_or(0));
        let length = u16::try_from(report.len()).map_err(|_| (0, Fault::Overflow))?;
        let setup = SetupPacket { kind: 0x21, request: 9, value: 0x0200 | id, index: 0, length };
        self.submit(Direction::Out, 0, setup.encode(), report.len(), report).map_err(failed)?;
        match self.only_answer(&mut [], until, within).map_err(failed)? {
            n if n == report.len() => Ok(()),
            n => Err((n, Fault::Stalled)),
        }
    }

    fn descriptor(&mut self, kind: u8, number: u8, language: u16, within: Duration) -> Result<Option<Vec<u8>>, Fault> {
        let until = Instant::now().checked_add(within);
        let mut bytes = vec![0; 255];
        let value = u16::from_be_bytes([kind, number]);
        let setup = SetupPacket { kind: 0x80, request: 6, value, index: language, length: 255 };
        self.submit(Direction::In, 0, setup.encode(), bytes.len(), &[])?;
        match self.only_answer(&mut bytes, until, within) {
            Ok(n) => {
                bytes.truncate(n);
                Ok(Some(bytes))
            }
            Err(Fault::Stalled) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Looks which endpoints there are.
    pub(super) fn learn_endpoints(&mut self, within: Duration) -> Result<(), Fault> {
        let configuration = self.descriptor(2, 0, 0, within)?;
        self.endpoints = Endpoints::read(&configuration.unwrap_or_default());
        Ok(())
    }

    /// A string by its number, in US English.
    pub(super) fn string(&mut self, number: u8, within: Duration) -> Result<Option<String>, Fault> {
        let Some(bytes) = self.descriptor(3, number, 0x0409, within)? else { return Ok(None) };
        let length = bytes.first().map_or(0, |length| usize::from(*length)).min(bytes.len());
        let units = bytes.get(2..length).unwrap_or_default().chunks_exact(2);
        let units: Vec<u16> = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        Ok(Some(String::from_utf16_lossy(&units)))
    }
}

fn fault(status: i32) -> Fault {
    match status {
        STALLED => Fault::Stalled,
        // ENODEV, ESHUTDOWN, EPROTO: what a host controller says of a device that left.
        -19 | -108 | -71 => Fault::Gone,
        other => Fault::Other(format!("the transfer ended with error {other}").into()),
    }
}
