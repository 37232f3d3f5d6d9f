//! Serial download by commands: the ROM of i.MX8M Mini, and U-Boot's SPL.
//!
//! | report | direction | content |
//! |---|---|---|
//! | 1 | out | command: code u16, address u32, format u8, count u32, data u32 (all big-endian), reserved u8 |
//! | 2 | out | data, padded |
//! | 3 | in | HAB state, 4 bytes |
//! | 4 | in | status or register values, 64 bytes |
//!
//! Sources: the i.MX reference manuals' "Serial Downloader", U-Boot's f_sdp.

use std::collections::VecDeque;
use std::ops::Range;

use crate::store::{Store, wide};

use super::image::{self, Ivt};
use super::{Hab, Verdict};

const FILE_DONE: u32 = 0x8888_8888;
const DCD_DONE: u32 = 0x128a_8a12;
const SKIPPED: u32 = 0x900d_d009;
const BAD_HEADER: u32 = 0x000a_0533;
/// HAB's word for success: what a ROM that has nothing to complain of says of itself (SPSDK's table of values).
const NO_ERROR: u32 = 0xf0f0_f0f0;
/// A DCD is no longer than this (i.MX8M's ROM: 1768 bytes).
const MAX_DCD: u32 = 1768;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Rom,
    Loader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Command,
    File { at: u32, left: u32 },
    Dcd { left: u32, first: bool },
    Dead,
}

/// A ROM or loader that waits for commands.
#[derive(Debug)]
pub struct Sdp {
    role: Role,
    hab: Hab,
    base: u32,
    memory: Store,
    state: State,
    status: u32,
    /// What was written, as far as it hangs together.
    written: Vec<Range<u32>>,
    last: Range<u32>,
    load_address: u32,
    replies: VecDeque<Vec<u8>>,
}

impl Sdp {
    /// The ROM of i.MX8M Mini: only memory on the chip is there (0x7e0000 to 0x95ffff here).
    pub fn rom(hab: Hab) -> Self {
        Self::new(Role::Rom, hab, 0x007e_0000, 0x0018_0000, 0)
    }

    /// SPL: memory is set up; address 0 means `load_address`.
    pub fn loader(base: u32, bytes: u32, load_address: u32) -> Self {
        Self::new(Role::Loader, Hab::Open, base, bytes, load_address)
    }

    fn new(role: Role, hab: Hab, base: u32, bytes: u32, load_address: u32) -> Self {
        let memory = Store::new(bytes.into(), 0);
        let (state, replies) = (State::Command, VecDeque::new());
        let status = if role == Role::Rom { NO_ERROR } else { 0 };
        Self { role, hab, base, memory, state, status, written: Vec::new(), last: 0..0, load_address, replies }
    }

    /// The next report to send.
    pub fn reply(&mut self) -> Option<Vec<u8>> {
        self.replies.pop_front()
    }

    /// Is there nothing more to send?
    pub fn is_quiet(&self) -> bool {
        self.replies.is_empty()
    }

    /// Takes a report, its identifier first.
    pub fn report(&mut self, report: &[u8]) -> Verdict {
        match (report.split_first(), self.state) {
            (_, State::Dead) => Verdict::Stuck,
            (Some((1, command)), _) if command.len() >= 16 => self.command(command),
            (Some((2, data)), State::File { at, left }) => {
                self.file(data, at, left);
                Verdict::Waiting
            }
            (Some((2, data)), State::Dcd { left, first }) => {
                self.dcd(data, left, first);
                Verdict::Waiting
            }
            _ => Verdict::Waiting,
        }
    }

    fn say_hab(&mut self) {
        self.replies.push_back([[3].as_slice(), &self.hab.word().to_le_bytes()].concat());
    }

    fn say(&mut self, values: &[u8]) {
        let mut report = vec![4];
        report.extend(&values[..values.len().min(64)]);
        report.resize(65, 0);
        self.replies.push_back(report);
    }

    fn acknowledge(&mut self, status: u32) {
        self.status = status;
        self.say_hab();
        self.say(&status.to_le_bytes());
    }

    fn offset(&self, address: u32, len: u32) -> Option<u64> {
        let at = u64::from(address.checked_sub(self.base)?);
        self.memory.check(at, len.into()).ok().map(|()| at)
    }

    fn command(&mut self, bytes: &[u8]) -> Verdict {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (address, format, count, data) = (word(2), bytes[6], word(7), word(11));
        self.state = State::Command;
        match (bytes[0], bytes[1]) {
            (1, 1) => self.read_register(address, count),
            (2, 2) if self.role == Role::Rom => {
                let width = usize::from(format / 8).clamp(1, 4);
                if let Some(at) = self.offset(address, 4) {
                    // The offset was just checked.
                    let _ = self.memory.write(at, &data.to_le_bytes()[..width]);
                }
                self.acknowledge(DCD_DONE);
            }
            (4, 4) => {
                let at = if address == 0 && self.role == Role::Loader { self.load_address } else { address };
                self.last = at..at.saturating_add(count);
                self.state = State::File { at, left: count };
                if count == 0 {
                    self.file(&[], at, 0);
                }
            }
            (5, 5) => self.acknowledge(self.status),
            (0xa, 0xa) if count <= MAX_DCD => self.state = State::Dcd { left: count, first: true },
            (0xb, 0xb) => return self.jump(address),
            (0xc, 0xc) => self.acknowledge(SKIPPED),
            // Unknown: SPL says nothing. What a ROM says is not on record; likewise here.
            _ => {}
        }
        Verdict::Waiting
    }

    fn read_register(&mut self, address: u32, count: u32) {
        let count = count.min(0x1_0000);
        self.say_hab();
        let mut bytes = vec![0; usize::try_from(count.max(4)).unwrap_or(4)];
        if let Some(at) = self.offset(address, count.max(4)) {
            let _ = self.memory.read(at, &mut bytes);
        }
        for piece in bytes.chunks(64) {
            self.say(piece);
        }
    }

    /// The last report is padded; only what is missing of the count is kept.
    fn file(&mut self, data: &[u8], at: u32, left: u32) {
        let n = u32::try_from(data.len()).unwrap_or(u32::MAX).min(left);
        let Some(offset) = self.offset(at, n) else {
            self.state = State::Command;
            self.acknowledge(BAD_HEADER);
            return;
        };
        let _ = self.memory.write(offset, &data[..usize::try_from(n).unwrap_or(0)]);
        self.note(at..at.saturating_add(n));
        let left = left - n;
        self.state = State::File { at: at.saturating_add(n), left };
        if left == 0 {
            self.state = State::Command;
            self.acknowledge(FILE_DONE);
        }
    }

    fn note(&mut self, range: Range<u32>) {
        let room = self.written.len() < 1000;
        match self.written.iter_mut().find(|old| (old.start..=old.end).contains(&range.start)) {
            Some(old) => old.end = old.end.max(range.end),
            None if room => self.written.push(range),
            None => {}
        }
    }

    fn dcd(&mut self, data: &[u8], left: u32, first: bool) {
        let n = u32::try_from(data.len()).unwrap_or(u32::MAX).min(left);
        if first && data.first() != Some(&0xd2) {
            self.state = State::Command;
            self.acknowledge(BAD_HEADER);
            return;
        }
        self.state = State::Dcd { left: left - n, first: false };
        if left == n {
            self.state = State::Command;
            self.acknowledge(DCD_DONE);
        }
    }

    /// What came with the last write of a file.
    pub(crate) fn last_file(&self) -> Vec<u8> {
        let len = usize::try_from(self.last.end.saturating_sub(self.last.start)).unwrap_or(0);
        let mut bytes = self.written_from(self.last.start);
        bytes.truncate(len);
        bytes
    }

    /// What was written from `address` on, as far as it hangs together.
    fn written_from(&self, address: u32) -> Vec<u8> {
        let end = self.written.iter().find(|range| range.contains(&address)).map_or(address, |range| range.end);
        let len = end.saturating_sub(address);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0).min(image::MAX_IMAGE)];
        match self.offset(address, u32::try_from(bytes.len()).unwrap_or(u32::MAX)) {
            Some(at) => {
                let _ = self.memory.read(at, &mut bytes);
                bytes
            }
            None => Vec::new(),
        }
    }

    fn jump(&mut self, address: u32) -> Verdict {
        self.say_hab();
        let address = if address == 0 && self.role == Role::Loader { self.load_address } else { address };
        let bytes = self.written_from(address);
        let starts = match (self.role, Ivt::read(&bytes)) {
            // All that the table speaks of must have come.
            (_, Ok(ivt)) if ivt.own == address => {
                wide(bytes.len()) >= wide(ivt.reach()) && ivt.allowed(&bytes, self.hab).is_ok()
            }
            (Role::Loader, _) => self.search(&bytes),
            _ => false,
        };
        if starts {
            return Verdict::Starts;
        }
        match self.role {
            Role::Rom => {
                self.status = BAD_HEADER;
                self.say(&BAD_HEADER.to_le_bytes());
                Verdict::Waiting
            }
            Role::Loader => {
                self.state = State::Dead;
                Verdict::Stuck
            }
        }
    }

    /// SPL looks for a FIT or a container in steps of four, through what came last.
    fn search(&self, bytes: &[u8]) -> bool {
        let len = usize::try_from(self.last.end.saturating_sub(self.last.start)).unwrap_or(0);
        let bytes = &bytes[..bytes.len().min(len)];
        let fit = image::find_fit(bytes, 0);
        let container = bytes.chunks_exact(4).position(|word| word[3] == 0x87).map(|word| word * 4);
        match (fit, container) {
            (Some(fit), container) if container.is_none_or(|container| fit < container) => {
                image::fit_length(&bytes[fit..]).is_ok_and(|length| fit + length <= bytes.len())
            }
            (_, Some(container)) => image::containers_length(&bytes[container..], Hab::Open).is_ok(),
            _ => false,
        }
    }
}
