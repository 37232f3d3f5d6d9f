//! A USB device that does what it is told, and goes wrong where it is told to.
//!
//! It is the other end of a socket of the kernel's virtual host controller. Two kinds: fastboot's (class ff/42/03, bulk)
//! and a boot ROM's (HID).

use std::collections::VecDeque;
use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use virtual_imx::usbip::vhci::{SYSFS, Vhci};
use virtual_imx::usbip::wire::{Command, Direction, HEADER_BYTES, Reply, STALLED, Submit, UNLINKED};

pub(crate) use virtual_imx::board::Speed;

type Failure = Box<dyn Error + Send + Sync>;

/// What kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bulk; is the IN endpoint listed first?
    Fastboot { input_first: bool },
    /// HID; has it an OUT endpoint?
    Rom { out: bool },
}

/// What goes wrong when so many bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The endpoint stalls.
    Stall,
    /// Nothing is taken any more.
    Hang,
    /// The transfer ends well there.
    Short,
    /// It leaves the bus.
    Leave,
}

#[derive(Debug)]
struct State {
    kind: Kind,
    speed: Speed,
    stream: UnixStream,
    /// What came in, by bulk or interrupt transfers.
    came: Vec<u8>,
    /// Sizes of the transfers in which it came.
    transfers: Vec<usize>,
    /// Reports that came by the control pipe: wValue, wIndex, data.
    set: Vec<(u16, u16, Vec<u8>)>,
    says: VecDeque<Vec<u8>>,
    trouble: Option<(usize, Trouble)>,
    halted: bool,
    cleared: usize,
    /// How often the host set it up.
    configured: usize,
    /// `bcdDevice`, and what it is after the next reset.
    release: u16,
    becomes: Option<u16>,
    out: VecDeque<(u32, Vec<u8>)>,
    input: VecDeque<(u32, usize)>,
    unlinked: usize,
    /// Bytes a second it takes, if it is not as fast as it can be.
    rate: Option<u32>,
    busy_until: Instant,
}

/// A device that is plugged in.
#[derive(Debug)]
pub(crate) struct Gadget {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
    port: u32,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serial number that is named.
pub(crate) const SERIAL: &str = "pipe-trial-1";
/// The string that nothing names.
pub(crate) const UNNAMED: &str = "0123456789ABCDEF";

impl Gadget {
    /// Plugs one in at that path.
    pub(crate) fn plug(path: &str, speed: Speed, kind: Kind) -> Result<Self, Failure> {
        let vhci = Vhci::open(Path::new(SYSFS))?;
        let until = Instant::now() + Duration::from_secs(10);
        let port = loop {
            let port = vhci.port(path, speed)?;
            if port.is_free() {
                break port.number;
            }
            if Instant::now() > until {
                return Err(format!("port {path} does not become free").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (stream, kernels) = UnixStream::pair()?;
        let number = if speed == Speed::High { 3 } else { 5 };
        let line = format!("{port} {} {} {number}", kernels.as_raw_fd(), 0x1_0001);
        std::fs::write(Path::new(SYSFS).join("vhci_hcd.0/attach"), line)?;
        let reading = stream.try_clone()?;
        let state = Arc::new(Mutex::new(State {
            kind,
            speed,
            stream,
            came: Vec::new(),
            transfers: Vec::new(),
            set: Vec::new(),
            says: VecDeque::new(),
            trouble: None,
            halted: false,
            cleared: 0,
            configured: 0,
            release: 1,
            becomes: None,
            out: VecDeque::new(),
            input: VecDeque::new(),
            unlinked: 0,
            rate: None,
            busy_until: Instant::now(),
        }));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || serve(&shared, reading));
        Ok(Self { state, thread: Some(thread), port })
    }

    /// From now on, after so many bytes more.
    pub(crate) fn goes_wrong(&self, after: usize, trouble: Trouble) {
        let mut state = lock(&self.state);
        let at = state.came.len() + after;
        state.trouble = Some((at, trouble));
    }

    /// Nothing is wrong any more, and what hung goes on.
    pub(crate) fn recovers(&self) {
        let mut state = lock(&self.state);
        state.trouble = None;
        state.pump();
    }

    /// Sends a transfer.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.says.push_back(bytes.to_vec());
        state.pump();
    }

    /// Takes no more than so many bytes a second.
    pub(crate) fn pace(&self, rate: Option<u32>) {
        lock(&self.state).rate = rate;
    }

    /// What came since this was asked last, and in transfers of which sizes.
    pub(crate) fn came(&self) -> (Vec<u8>, Vec<usize>) {
        let mut state = lock(&self.state);
        (std::mem::take(&mut state.came), std::mem::take(&mut state.transfers))
    }

    /// Reports that came by the control pipe.
    pub(crate) fn set(&self) -> Vec<(u16, u16, Vec<u8>)> {
        std::mem::take(&mut lock(&self.state).set)
    }

    /// How often a stall was cleared.
    pub(crate) fn cleared(&self) -> usize {
        lock(&self.state).cleared
    }

    /// How often the host reset it.
    pub(crate) fn resets(&self) -> usize {
        lock(&self.state).configured.saturating_sub(1)
    }

    /// Comes out of the next reset with another release number.
    pub(crate) fn becomes(&self, release: u16) {
        lock(&self.state).becomes = Some(release);
    }

    /// Transfers that the host has pending: out and in.
    pub(crate) fn pending(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.out.len(), state.input.len())
    }

    /// Pulls it out, and waits until the port is free.
    pub(crate) fn unplug(mut self) -> Result<(), Failure> {
        self.leave();
        let vhci = Vhci::open(Path::new(SYSFS))?;
        for _ in 0..1000 {
            if vhci.ports()?.iter().any(|port| port.number == self.port && port.is_free()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the port does not become free".into())
    }

    fn leave(&mut self) {
        let _ = lock(&self.state).stream.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Gadget {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Takes what the host asks for, in a thread of its own as a controller does, and does it in this one.
fn serve(state: &Mutex<State>, stream: UnixStream) {
    let Ok(mut reading) = stream.try_clone() else { return };
    std::thread::scope(|scope| {
        let (asked, asks) = std::sync::mpsc::channel();
        scope.spawn(move || {
            while let Some(ask) = read(&mut reading) {
                if asked.send(ask).is_err() {
                    break;
                }
            }
        });
        for (arrived, command, data) in asks {
            // The time that the bytes take on a wire passes while nobody waits for the lock.
            let until = lock(state).pass(arrived, data.len());
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            lock(state).take(command, data);
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
}

/// The next thing that the host asks for, and when it did.
fn read(stream: &mut UnixStream) -> Option<(Instant, Command, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).ok()?;
    let command = Command::decode(&header).ok()?;
    let mut data = vec![0; usize::try_from(command.data_bytes()).ok()?];
    stream.read_exact(&mut data).ok()?;
    Some((Instant::now(), command, data))
}

impl State {
    /// Until when the wire is busy with so many bytes, that were there at `arrived`.
    fn pass(&mut self, arrived: Instant, bytes: usize) -> Instant {
        let nanos = self.rate.map_or(0, |rate| u64::try_from(bytes).unwrap_or(0) * 1_000_000_000 / u64::from(rate));
        self.busy_until = self.busy_until.max(arrived) + Duration::from_nanos(nanos);
        self.busy_until
    }

    fn reply(&mut self, reply: Reply, data: &[u8]) {
        let mut bytes = reply.encode().to_vec();
        bytes.extend_from_slice(data);
        let _ = self.stream.write_all(&bytes);
    }

    fn done(&mut self, sequence: u32, status: i32, actual: usize) {
        let actual = u32::try_from(actual).unwrap_or(0);
        self.reply(Reply::Submitted { sequence, status, actual }, &[]);
    }

    fn answer(&mut self, sequence: u32, data: &[u8]) {
        let actual = u32::try_from(data.len()).unwrap_or(0);
        self.reply(Reply::Submitted { sequence, status: 0, actual }, data);
    }

    fn take(&mut self, command: Command, data: Vec<u8>) {
        match command {
            Command::Submit(submit) if submit.endpoint == 0 => self.control(submit, &data),
            Command::Submit(submit) if submit.direction == Direction::Out => {
                self.out.push_back((submit.sequence, data));
            }
            Command::Submit(submit) => {
                let room = usize::try_from(submit.length).unwrap_or(0);
                self.input.push_back((submit.sequence, room));
            }
            Command::Unlink { sequence, target, .. } => {
                let before = self.out.len() + self.input.len();
                self.out.retain(|(pending, _)| *pending != target);
                self.input.retain(|(pending, _)| *pending != target);
                let found = self.out.len() + self.input.len() < before;
                self.unlinked += usize::from(found);
                self.reply(Reply::Unlinked { sequence, status: if found { UNLINKED } else { 0 } }, &[]);
            }
        }
        self.pump();
    }

    /// Does what can be done.
    fn pump(&mut self) {
        while let Some((sequence, data)) = self.out.pop_front() {
            if self.halted {
                self.done(sequence, STALLED, 0);
                continue;
            }
            let room = self.trouble.map(|(at, trouble)| (at.saturating_sub(self.came.len()), trouble));
            match room.filter(|(room, _)| *room < data.len()) {
                None => {
                    self.transfers.push(data.len());
                    self.came.extend_from_slice(&data);
                    self.done(sequence, 0, data.len());
                }
                Some((room, Trouble::Hang)) => {
                    assert!(room == 0, "transfers that are called off cannot say how many bytes went");
                    self.out.push_front((sequence, data));
                    break;
                }
                Some((room, Trouble::Leave)) => {
                    self.came.extend_from_slice(&data[..room]);
                    let _ = self.stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
                Some((room, trouble)) => {
                    self.transfers.push(room);
                    self.came.extend_from_slice(&data[..room]);
                    self.trouble = None;
                    self.halted = trouble == Trouble::Stall;
                    self.done(sequence, if self.halted { STALLED } else { 0 }, room);
                }
            }
        }
        while let Some((sequence, room)) = self.input.front().copied() {
            let Some(mut says) = self.says.pop_front() else { return };
            self.input.pop_front();
            if says.len() > room {
                self.says.push_front(says.split_off(room));
            }
            self.answer(sequence, &says);
        }
    }

    fn control(&mut self, submit: Submit, data: &[u8]) {
        let [kind, request, v0, v1, i0, i1, ..] = submit.setup;
        let sequence = submit.sequence;
        let room = usize::try_from(submit.length).unwrap_or(0);
        let (value, index) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([i0, i1]));
        let answer = match (kind, request) {
            (0x80 | 0x81, 6) => match (v1, v0) {
                (1, _) => {
                    self.release = self.becomes.take().unwrap_or(self.release);
                    Some(self.device())
                }
                (2, _) => Some(self.configuration()),
                (3, number) => string(number),
                (0x0f, _) if self.speed == Speed::Super => {
                    Some(vec![5, 0x0f, 22, 0, 2, 7, 0x10, 2, 2, 0, 0, 0, 10, 0x10, 3, 0, 0x0e, 0, 1, 10, 0xff, 7])
                }
                (0x22, _) => Some(REPORT_DESCRIPTOR.to_vec()),
                _ => None,
            },
            (0x80..=0x82, 0) => Some(vec![0, 0]),
            (0x80, 8) => Some(vec![1]),
            // The controller keeps a reset to itself; that the host sets it up anew tells.
            (0x00, 9) => {
                self.configured += 1;
                self.halted = false;
                self.trouble = None;
                Some(Vec::new())
            }
            (0x01, 11) | (0x21, 0x0a) => Some(Vec::new()),
            (0x02, 1) => {
                self.halted = false;
                self.cleared += 1;
                Some(Vec::new())
            }
            (0x21, 9) => {
                self.set.push((value, index, data.to_vec()));
                return self.done(sequence, 0, data.len());
            }
            _ => None,
        };
        match answer {
            Some(answer) => self.answer(sequence, &answer[..answer.len().min(room)]),
            None => self.done(sequence, STALLED, 0),
        }
    }

    fn device(&self) -> Vec<u8> {
        let product = if matches!(self.kind, Kind::Fastboot { .. }) { 0x52 } else { 0x34 };
        let (version, packet) = if self.speed == Speed::Super { (3, 9) } else { (2, 64) };
        let [low, high] = self.release.to_le_bytes();
        vec![18, 1, 0, version, 0, 0, 0, packet, 0xc9, 0x1f, product, 0x01, low, high, 1, 2, 3, 1]
    }

    fn configuration(&self) -> Vec<u8> {
        let fast = self.speed == Speed::Super;
        let endpoint = |address: u8, attributes: u8, packet: u16| {
            let [low, high] = packet.to_le_bytes();
            let mut bytes = vec![7, 5, address, attributes, low, high, u8::from(attributes == 3) * 4];
            if fast {
                bytes.extend([6, 0x30, 0, 0, 0, 0]);
            }
            bytes
        };
        let bulk = if fast { 1024 } else { 512 };
        let body = match self.kind {
            Kind::Fastboot { input_first } => {
                let mut endpoints = [endpoint(0x81, 2, bulk), endpoint(0x02, 2, bulk)];
                if !input_first {
                    endpoints.reverse();
                }
                [vec![9, 4, 0, 0, 2, 0xff, 0x42, 3, 0], endpoints.concat()].concat()
            }
            Kind::Rom { out } => {
                let [low, high] = u16::try_from(REPORT_DESCRIPTOR.len()).unwrap_or(0).to_le_bytes();
                let hid = vec![9, 0x21, 0x10, 1, 0, 1, 0x22, low, high];
                let more = if out { endpoint(0x01, 3, 64) } else { Vec::new() };
                let interface = vec![9, 4, 0, 0, 1 + u8::from(out), 3, 0, 0, 0];
                [interface, hid, endpoint(0x81, 3, 64), more].concat()
            }
        };
        let [low, high] = u16::try_from(9 + body.len()).unwrap_or(0).to_le_bytes();
        [vec![9, 2, low, high, 1, 1, 0, 0xc0, 5], body].concat()
    }
}

/// Reports 1 and 2 out, 3 and 4 in, as boot ROMs have them.
const REPORT_DESCRIPTOR: &[u8] = &[
    0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, // vendor's own
    0x85, 1, 0x19, 1, 0x29, 1, 0x15, 0, 0x26, 0xff, 0, 0x75, 8, 0x95, 16, 0x91, 2, // 1: out, 16 bytes
    0x85, 2, 0x96, 0x00, 0x04, 0x91, 2, 0x09, 1, // 2: out, 1024
    0x85, 3, 0x19, 1, 0x95, 4, 0x81, 2, // 3: in, 4
    0x85, 4, 0x19, 1, 0x95, 64, 0x81, 2, // 4: in, 64
    0xc0,
];

fn string(number: u8) -> Option<Vec<u8>> {
    let text = match number {
        0 => return Some(vec![4, 3, 9, 4]),
        1 => "mapflash",
        2 => "Trial",
        3 => SERIAL,
        4 => UNNAMED,
        _ => return None,
    };
    let mut bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = u8::try_from(bytes.len() + 2).ok()?;
    bytes.splice(0..0, [length, 3]);
    Some(bytes)
}
