//! Fastboot over UDP, as U-Boot serves it on port 5554.
//!
//! Stop and wait: each datagram to the board carries a sequence number and is answered by one with the same number.
//! One that is not answered is sent again; the board answers a repetition by repeating its answer, so nothing runs
//! twice. To be told something the host sends an empty datagram. U-Boot carries a command out on the first of those:
//! its answer is as late as the command is long, and repetitions meanwhile do no harm.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | 0 error, 1 query, 2 init, 3 fastboot |
//! | 1 | 1 | 1: to be continued |
//! | 2 | 2 | sequence number, big-endian |
//! | 4 | | data |
//!
//! Sources: AOSP's fastboot README, "UDP Protocol v1"; U-Boot v2026.07 and NXP's 2023.04, read and run.

mod packet;

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

pub use packet::{Address, AddressError, DEFAULT_PORT, HEADER_BYTES, Kind, Packet, PacketError};

use crate::pipe::{BulkPipe, Direction, Fault, TransferError};

/// The largest datagram we take. U-Boot's own limit is 1024.
const MOST: u16 = 8192;
/// The smallest limit a device may have.
const LEAST: u16 = 512;
/// The version of the protocol.
const VERSION: u16 = 1;
/// How long an answer may take before the datagram is sent again.
const RETRANSMIT: Duration = Duration::from_millis(500);

/// Datagrams to one board and back.
pub trait Datagrams {
    /// Sends one. That it arrives is not promised.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Receives one, cut to the length of `into`. `Ok(None)`: none came in time.
    fn receive(&mut self, into: &mut [u8], within: Duration) -> io::Result<Option<usize>>;
}

/// A socket must be connected.
impl Datagrams for UdpSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        match UdpSocket::send(self, datagram) {
            Ok(sent) if sent == datagram.len() => Ok(()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::WriteZero, "the datagram was cut")),
            // Nobody listens yet or any more: a lost datagram as any other.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> io::Result<Option<usize>> {
        let end = Instant::now().checked_add(within);
        loop {
            let left = end.map_or(within, |end| end.saturating_duration_since(Instant::now()));
            // Zero would mean "for ever".
            self.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let error = match self.recv(into) {
                Ok(received) => return Ok(Some(received)),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                // Nobody listens, or a signal: wait all the same, or lost datagrams would be repeated in a rush.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused if left.is_zero() => return Ok(None),
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => {}
                _ => return Err(error),
            }
        }
    }
}

/// Why a board cannot be talked to this way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UdpError {
    /// The name of the host means nothing, or no socket could be had.
    #[error("reaching {host}, port {port}")]
    Socket {
        /// Host as given.
        host: String,
        /// Port.
        port: u16,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No answer, or the network failed.
    #[error("asking the board for fastboot over UDP")]
    Transfer(#[source] TransferError),
    /// An answer to the first questions that is too short or makes no sense.
    #[error("the board's answer {data:02x?} to {question} makes no sense")]
    Handshake {
        /// What it was asked.
        question: &'static str,
        /// Its data.
        data: Vec<u8>,
    },
    /// The board refuses.
    #[error("the board says {0:?}")]
    Board(String),
    /// The board said more while it was being sent something than fits in between.
    #[error("the board interrupts")]
    Interrupted,
}

/// A [`BulkPipe`] over datagrams.
#[derive(Debug)]
pub struct UdpPipe<D> {
    link: D,
    sequence: u16,
    /// Data in one datagram.
    room: usize,
    retransmit: Duration,
    /// What the board said while it was being sent something.
    pending: Option<Vec<u8>>,
}

impl UdpPipe<UdpSocket> {
    /// Looks the host up and begins the conversation.
    pub fn connect(address: &Address, within: Duration) -> Result<Self, UdpError> {
        let Address { host, port } = address;
        let failed = |source| UdpError::Socket { host: host.clone(), port: *port, source };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for target in (host.as_str(), *port).to_socket_addrs().map_err(failed)? {
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            match UdpSocket::bind(any).and_then(|socket| socket.connect(target).map(|()| socket)) {
                Ok(socket) => return Self::open(socket, within),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

impl<D: Datagrams> UdpPipe<D> {
    /// Begins the conversation: asks for the sequence number, then agrees on version and size.
    pub fn open(link: D, within: Duration) -> Result<Self, UdpError> {
        let room = usize::from(LEAST) - HEADER_BYTES;
        let mut pipe = Self { link, sequence: 0, room, retransmit: RETRANSMIT, pending: None };
        let data = pipe.ask(Kind::Query, &[], within)?;
        let [a, b] = data[..] else { return Err(UdpError::Handshake { question: "query", data }) };
        pipe.sequence = u16::from_be_bytes([a, b]);
        let [v0, v1] = VERSION.to_be_bytes();
        let [m0, m1] = MOST.to_be_bytes();
        let data = pipe.ask(Kind::Init, &[v0, v1, m0, m1], within)?;
        pipe.sequence = pipe.sequence.wrapping_add(1);
        let [v0, v1, m0, m1, ..] = data[..] else { return Err(UdpError::Handshake { question: "init", data }) };
        let (version, most) = (u16::from_be_bytes([v0, v1]), u16::from_be_bytes([m0, m1]));
        if version < VERSION || most < LEAST {
            return Err(UdpError::Handshake { question: "init", data });
        }
        pipe.room = usize::from(most.min(MOST)) - HEADER_BYTES;
        Ok(pipe)
    }

    /// How long an answer may take before the datagram is sent again; half a second unless changed.
    pub fn set_retransmit(&mut self, after: Duration) {
        self.retransmit = after;
    }

    /// Most bytes of data in one datagram.
    pub fn room(&self) -> usize {
        self.room
    }

    fn ask(&mut self, kind: Kind, data: &[u8], within: Duration) -> Result<Vec<u8>, UdpError> {
        let end = Instant::now().checked_add(within);
        let packet = Packet { kind, continued: false, sequence: self.sequence, data };
        match self.turn(&packet, end, within) {
            Ok((_, data)) => Ok(data),
            Err(fault) => Err(UdpError::Transfer(TransferError::receiving(0, MOST.into(), fault))),
        }
    }

    /// Sends a packet until it is answered. Returns whether the answer is to be continued, and its data.
    fn turn(&mut self, packet: &Packet<'_>, end: Option<Instant>, within: Duration) -> Result<(bool, Vec<u8>), Fault> {
        let datagram = packet.encode();
        let mut buffer = vec![0; usize::from(MOST) + 1];
        loop {
            self.link.send(&datagram).map_err(|error| Fault::Other(error.into()))?;
            let again = Instant::now().checked_add(self.retransmit);
            loop {
                let now = Instant::now();
                let until = |when: Option<Instant>| when.map_or(within, |when| when.saturating_duration_since(now));
                if until(end).is_zero() {
                    return Err(Fault::TimedOut(within));
                }
                let wait = until(end).min(until(again));
                if wait.is_zero() {
                    break;
                }
                let received = self.link.receive(&mut buffer, wait).map_err(|error| Fault::Other(error.into()))?;
                let Some(received) = received else { break };
                let bytes = &buffer[..received.min(buffer.len())];
                if bytes.len() > usize::from(MOST) {
                    return Err(Fault::Overflow);
                }
                // What is no packet, and late answers to earlier ones, may be anybody's.
                let Ok(answer) = Packet::decode(bytes) else { continue };
                if answer.sequence != packet.sequence {
                    continue;
                }
                if answer.kind == Kind::Error {
                    let words = String::from_utf8_lossy(answer.data).into_owned();
                    return Err(Fault::Other(UdpError::Board(words).into()));
                }
                if answer.kind == packet.kind {
                    return Ok((answer.continued, answer.data.to_vec()));
                }
            }
        }
    }

    /// One turn of fastboot, and on to the next sequence number.
    fn step(
        &mut self,
        data: &[u8],
        continued: bool,
        end: Option<Instant>,
        within: Duration,
    ) -> Result<(bool, Vec<u8>), Fault> {
        let packet = Packet { kind: Kind::Fastboot, continued, sequence: self.sequence, data };
        let answer = self.turn(&packet, end, within)?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(answer)
    }
}

impl<D: Datagrams> BulkPipe for UdpPipe<D> {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        let end = Instant::now().checked_add(within);
        let mut delivered = 0usize;
        for part in bytes.chunks(self.room) {
            let more = delivered.saturating_add(part.len()) < bytes.len();
            let failed = |fault| TransferError::sending(delivered, bytes.len(), fault);
            let (_, said) = self.step(part, more, end, within).map_err(failed)?;
            if !said.is_empty() && self.pending.replace(said).is_some() {
                return Err(failed(Fault::Other(UdpError::Interrupted.into())));
            }
            delivered = delivered.saturating_add(part.len());
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let end = Instant::now().checked_add(within);
        let (mut filled, asked) = (0usize, into.len());
        loop {
            let (continued, data) = match self.pending.take() {
                Some(said) => (false, said),
                None => self.step(&[], false, end, within).map_err(|fault| TransferError {
                    direction: Direction::In,
                    delivered: filled,
                    asked,
                    fault,
                })?,
            };
            let Some(place) = into.get_mut(filled..).and_then(|rest| rest.get_mut(..data.len())) else {
                return Err(TransferError::receiving(filled, asked, Fault::Overflow));
            };
            place.copy_from_slice(&data);
            filled = filled.saturating_add(data.len());
            if !continued || filled == asked {
                return Ok(filled);
            }
        }
    }
}

#[cfg(test)]
mod tests;
