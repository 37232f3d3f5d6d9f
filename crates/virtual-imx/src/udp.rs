//! Fastboot over UDP, as U-Boot serves it when it was started by `fastboot udp`.
//!
//! One datagram at a time, and each is answered once. What U-Boot is known for is kept:
//!
//! - a command is carried out on the datagram after the one that brought it, so that one's answer is as late as the
//!   work takes; a longer command than 64 bytes is cut without a word;
//! - a repetition of the last datagram gets the last answer again, any other number none;
//! - datagrams of more than 1024 bytes are lost, and continuations are not put together;
//! - one with nothing in it in the middle of a download ends that, and is a command of no name where none is pending;
//! - a long `flash` or `erase` says INFO every 30 seconds; nothing else does;
//! - what `ACmd` was given is never run.
//!
//! Left out: the network itself (a router that loses datagrams is a test's business), and TCP, by which U-Boot cannot be
//! flashed.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | 0 error, 1 query, 2 init, 3 fastboot |
//! | 1 | 1 | flags, not looked at |
//! | 2 | 2 | sequence number, big-endian |
//! | 4 | | data |

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::board::Board;
use crate::link::Outcome;
use crate::usbip::Stop;

/// The port that U-Boot listens on.
pub const PORT: u16 = 5554;
/// The longest datagram that is taken.
pub const MAX_DATAGRAM: usize = 1024;
/// The longest command.
const MAX_COMMAND: usize = 64;
/// How often work that takes long says so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

const QUERY: u8 = 1;
const INIT: u8 = 2;
const FASTBOOT: u8 = 3;

/// A board's fastboot behind datagrams.
#[derive(Debug)]
pub struct Service {
    board: Board,
    /// The device it talks for; numbers begin anew with the next one.
    address: Option<u32>,
    expected: u16,
    last: Option<(u16, Vec<u8>)>,
    /// A command that came and waits for the next datagram.
    pending: Option<Vec<u8>>,
    /// Signs of life that are still to be given: how often, and in which words.
    signs: (u64, &'static str),
}

impl Service {
    /// Serves the fastboot of `board`, while it is in that stage.
    pub fn new(board: Board) -> Self {
        Self { board, address: None, expected: 0, last: None, pending: None, signs: (0, "") }
    }

    /// Takes a datagram and does what it asks. The answer comes with the time by the board's clock at which it leaves;
    /// `None`: there is none.
    pub fn datagram(&mut self, bytes: &[u8]) -> Option<(Duration, Vec<u8>)> {
        let address = self.board.fastboot_address()?;
        if self.address != Some(address) {
            *self = Self { address: Some(address), ..Self::new(self.board.clone()) };
        }
        let ([kind, _, high, low], data) = bytes.split_first_chunk::<4>().filter(|_| bytes.len() <= MAX_DATAGRAM)?;
        let sequence = u16::from_be_bytes([*high, *low]);
        let answer = |data: &[u8]| [&[*kind, 0, *high, *low], data].concat();
        if *kind == QUERY {
            return Some((self.board.now(), answer(&self.expected.to_be_bytes())));
        }
        if let Some((_, last)) = self.last.as_ref().filter(|(number, _)| *number == sequence) {
            return Some((self.board.now(), last.clone()));
        }
        if sequence != self.expected {
            return None;
        }
        let said = match *kind {
            INIT => {
                // Its own version and size, whatever the host's are.
                let [high, low] = u16::try_from(MAX_DATAGRAM).unwrap_or(u16::MAX).to_be_bytes();
                vec![0, 1, high, low]
            }
            FASTBOOT => self.fastboot(address, data)?,
            _ => return None,
        };
        self.expected = sequence.wrapping_add(1);
        let bytes = answer(&said);
        self.last = Some((sequence, bytes.clone()));
        Some((self.board.now(), bytes))
    }

    fn fastboot(&mut self, address: u32, data: &[u8]) -> Option<Vec<u8>> {
        if self.signs.0 > 0 {
            return self.answer(address);
        }
        if self.board.bytes_wanted(address) > 0 {
            if data.is_empty() {
                self.board.bus_reset(address);
                return Some(b"FAILReceived invalid data length".to_vec());
            }
            self.out(address, data)?;
            return Some(Vec::new());
        }
        if let Some(command) = self.pending.take() {
            if command.is_empty() {
                return Some(b"FAILunrecognized command".to_vec());
            }
            let before = self.board.now();
            self.out(address, &command)?;
            self.board.forget_late(address);
            // Until when it works shows as soon as it is asked for the answer.
            let words = match command.as_slice() {
                [b'f', b'l', b'a', b's', b'h', ..] => "INFOwriting",
                [b'e', b'r', b'a', b's', b'e', ..] => "INFOerasing",
                _ => "",
            };
            let work = self.board.busy_until().saturating_sub(before);
            let signs = if words.is_empty() { 0 } else { work.as_secs() / SIGN_OF_LIFE.as_secs() };
            self.signs = (signs, words);
            return self.answer(address);
        }
        if self.board.has_answer(address) {
            return self.answer(address);
        }
        self.pending = Some(data[..data.len().min(MAX_COMMAND)].to_vec());
        Some(Vec::new())
    }

    fn out(&self, address: u32, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            match self.board.try_out(address, bytes) {
                Outcome::Done(n) => bytes = bytes.get(n..)?,
                Outcome::Wait(Some(when)) => self.board.pass_until(when),
                Outcome::Wait(None) | Outcome::Stalled | Outcome::Gone => return None,
            }
        }
        Some(())
    }

    fn answer(&mut self, address: u32) -> Option<Vec<u8>> {
        loop {
            match self.board.try_in(address, MAX_DATAGRAM - 4) {
                Outcome::Done(reply) => return Some(reply),
                Outcome::Wait(Some(when)) => {
                    let (left, words) = self.signs;
                    let sign = self.board.now().saturating_add(SIGN_OF_LIFE);
                    if left > 0 && sign < when {
                        self.board.pass_until(sign);
                        self.signs.0 -= 1;
                        return Some(words.as_bytes().to_vec());
                    }
                    self.signs.0 = 0;
                    self.board.pass_until(when);
                }
                Outcome::Wait(None) | Outcome::Stalled | Outcome::Gone => return None,
            }
        }
    }

    /// Serves on a socket until `stop` is set.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn run(mut self, socket: &UdpSocket, stop: &Stop) -> io::Result<()> {
        let own = socket.local_addr()?;
        // A datagram from nobody wakes the wait.
        let _waking = stop.when_set(move || wake(own));
        let mut buffer = [0; MAX_DATAGRAM + 1];
        while !stop.is_set() {
            let (n, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                // What an earlier answer met with is no concern of the next.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some((when, answer)) = self.datagram(&buffer[..n]) {
                self.board.pass_until(when);
                match socket.send_to(&answer, from) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn wake(own: SocketAddr) {
    let any: SocketAddr = if own.is_ipv4() { ([127, 0, 0, 1], 0).into() } else { ([0, 0, 0, 0, 0, 0, 0, 1], 0).into() };
    let to = SocketAddr::new(if own.ip().is_unspecified() { any.ip() } else { own.ip() }, own.port());
    // Whether it arrives shows by itself.
    let _ = UdpSocket::bind(any).and_then(|socket| socket.send_to(&[], to));
}

#[cfg(test)]
mod tests;
