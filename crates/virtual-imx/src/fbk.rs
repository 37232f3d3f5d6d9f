//! FBK: the daemon `ufb` of an initramfs, the device's side.
//!
//! It speaks something like fastboot: commands of at most 511 bytes, answers in frames of 4 bytes and at most 60 more.
//! Kept of it, because hosts must live with it:
//!
//! - `donwload` is spelled so; a file is opened to write without being cut, and nothing is ever synced;
//! - output of `UCmd` comes as INFO, errors do not; while it runs an empty INFO comes every 50 ms;
//! - `ACmd` says OKAY if the program lives after 50 ms or ended well, and its data goes to `-`;
//! - a program that was killed by a signal ended well; of a pipeline the last program counts;
//! - a size of 0 may be an empty file, a stream, or a device; an unknown command gets no answer.
//!
//! Beneath it is not Linux but a few files in memory, the cards as `/dev/mmcblkN`, and the handful of
//! programs that flashing scripts run.
//!
//! Sources: what is known of `ufb.c` of NXP's imx-uuc, and what `uuu` sends. Its descriptors' texts are not on record.

mod files;
mod shell;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::emmc::Emmc;
use crate::machine::Halt;
use crate::store::wide;
use crate::timing::Timing;

use files::{Files, Place};

pub use files::MAX_BYTES;

/// Most bytes of a command.
pub const COMMAND_BYTES: usize = 511;
/// Most bytes of an answer's text.
const TEXT_BYTES: usize = 60;
/// Most bytes of an upload's piece.
const PIECE: usize = 64 << 10;
/// Most bytes of a `donwload`, which the daemon keeps in memory.
const MAX_DATA: u64 = 256 << 20;
/// How often a running program is said to be running.
const RUNNING: Duration = Duration::from_millis(50);
/// How often writing is said to go on.
const WRITING: Duration = Duration::from_millis(100);

/// What the daemon runs on.
#[derive(Debug)]
pub(crate) struct System {
    files: Files,
    pub(crate) cards: BTreeMap<u32, Emmc>,
    pub(crate) timing: Timing,
    spent: Duration,
    /// It was told to reboot.
    pub(crate) reboots: bool,
}

impl System {
    fn spend(&mut self, time: Duration) {
        self.spent = self.spent.saturating_add(time);
    }
}

/// Where a `donwload` goes.
#[derive(Debug)]
enum Target {
    Place {
        place: Place,
        at: u64,
    },
    /// The input of the program that was started.
    Program,
}

/// Where an `upload` comes from.
#[derive(Debug)]
enum Source {
    Place { place: Place, at: u64 },
    Program,
}

/// What `ACmd` started.
#[derive(Debug)]
enum Program {
    /// Copies its input somewhere, so many bytes at most.
    Copies { place: Place, at: u64, left: u64 },
    /// Its line is run once its input is complete.
    Waits { line: String, input: Vec<u8> },
    /// It has ended; what it said.
    Ended { status: i32, output: Vec<u8> },
}

#[derive(Debug)]
enum State {
    Command,
    Data { left: u64, bytes: Vec<u8> },
}

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) system: System,
    state: State,
    /// Answers, and from when on they can be had.
    replies: VecDeque<(Duration, Vec<u8>)>,
    /// Bytes of an upload that come after the first answer.
    upload: Option<Vec<u8>>,
    target: Option<Target>,
    source: Option<Source>,
    program: Option<Program>,
    /// For the next `donwload`: announce this many bytes instead of those asked for.
    pub(crate) wrong_size: Option<u32>,
}

impl Daemon {
    /// Freshly booted.
    pub(crate) fn new(cards: BTreeMap<u32, Emmc>, timing: Timing) -> Self {
        let system = System { files: Files::new(&cards), cards, timing, spent: Duration::ZERO, reboots: false };
        let (state, replies) = (State::Command, VecDeque::new());
        Self { system, state, replies, upload: None, target: None, source: None, program: None, wrong_size: None }
    }

    /// Bytes of a `donwload` that have still to come.
    pub fn bytes_wanted(&self) -> u64 {
        match self.state {
            State::Command => 0,
            State::Data { left, .. } => left,
        }
    }

    /// Until when it works at what it was told.
    pub(crate) fn works_until(&self) -> Duration {
        self.replies.back().map_or(Duration::ZERO, |(when, _)| *when)
    }

    /// Answers FAIL with a reason.
    pub(crate) fn fail(&mut self, now: Duration, text: &str) {
        self.say(now, "FAIL", text.as_bytes());
    }

    /// Forgets what is under way, as a reset of the bus does.
    pub(crate) fn bus_reset(&mut self) {
        self.state = State::Command;
        self.replies.clear();
        self.upload = None;
    }

    /// A file's bytes, for whoever looks from outside.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.system.files.file(path)
    }

    /// Is there nothing more to send?
    pub fn is_quiet(&self) -> bool {
        self.replies.is_empty() && self.upload.is_none()
    }

    /// The next answer at that time, at most `most` bytes; `Err` says when there will be one, if there will.
    pub(crate) fn reply(&mut self, now: Duration, most: usize) -> Result<Vec<u8>, Option<Duration>> {
        if self.replies.len() <= 1
            && let Some(mut bytes) = self.upload.take()
        {
            if bytes.len() > most {
                self.upload = Some(bytes.split_off(most));
            }
            return Ok(bytes);
        }
        match self.replies.front() {
            None => Err(None),
            Some((when, _)) if *when > now => Err(Some(*when)),
            Some(_) => {
                let (_, mut reply) = self.replies.pop_front().unwrap_or_default();
                if reply.len() > most {
                    self.replies.push_front((now, reply.split_off(most)));
                }
                Ok(reply)
            }
        }
    }

    fn say(&mut self, when: Duration, tag: &str, text: &[u8]) {
        let text = &text[..text.len().min(TEXT_BYTES)];
        self.replies.push_back((when, [tag.as_bytes(), text].concat()));
    }

    /// Takes one transfer: a command, or data.
    pub(crate) fn request(&mut self, now: Duration, bytes: &[u8]) -> Result<(), Halt> {
        if let State::Data { left, bytes: have } = &mut self.state {
            let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            have.extend_from_slice(&bytes[..n]);
            *left -= wide(n);
            if *left == 0 {
                let data = std::mem::take(have);
                self.state = State::Command;
                return self.store(now, &data);
            }
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(COMMAND_BYTES)]).into_owned();
        let text = text.trim_end_matches('\0');
        let (name, argument) = text.split_once(':').unwrap_or((text, ""));
        self.system.spend(self.system.timing.command);
        let answer = match name {
            "UCmd" => return self.run(now, argument),
            "ACmd" => self.start(argument)?,
            "Sync" => return self.sync(now),
            "WOpen" => self.open_writable(argument),
            "ROpen" => self.open_readable(argument),
            "donwload" => self.announce(argument),
            "upload" => self.give()?,
            "Close" => self.close(),
            // No answer at all.
            _ => return Ok(()),
        };
        let when = now.saturating_add(std::mem::take(&mut self.system.spent));
        for (tag, text) in answer {
            self.say(when, tag, text.as_bytes());
        }
        Ok(())
    }

    /// Signs of life from now until the work is done; when that is.
    fn signs_of_life(&mut self, now: Duration, every: Duration) -> Duration {
        let end = now.saturating_add(std::mem::take(&mut self.system.spent));
        let mut sign = now.saturating_add(every);
        // Enough for days; a host that waits longer gets none.
        while sign < end && self.replies.len() < 1 << 16 {
            self.say(sign, "INFO", b"");
            sign = sign.saturating_add(every);
        }
        end
    }

    fn run(&mut self, now: Duration, line: &str) -> Result<(), Halt> {
        let (status, output) = shell::run(&mut self.system, line, &[])?;
        let end = self.signs_of_life(now, RUNNING);
        for frame in output.chunks(TEXT_BYTES) {
            self.say(end, "INFO", frame);
        }
        self.say(end, if status == 0 { "OKAY" } else { "FAIL" }, b"");
        Ok(())
    }

    fn start(&mut self, line: &str) -> Result<Vec<Answer>, Halt> {
        self.target.take_if(|target| matches!(target, Target::Program));
        let program = match shell::copying(&mut self.system, line) {
            Some((place, at, left)) => Program::Copies { place, at, left },
            None if shell::reads_input(line) => Program::Waits { line: line.to_owned(), input: Vec::new() },
            None => {
                let (status, output) = shell::run(&mut self.system, line, &[])?;
                Program::Ended { status, output }
            }
        };
        self.system.spend(RUNNING);
        let failed = matches!(program, Program::Ended { status, .. } if status != 0);
        self.program = Some(program);
        Ok(vec![(if failed { "FAIL" } else { "OKAY" }, String::new())])
    }

    fn sync(&mut self, now: Duration) -> Result<(), Halt> {
        let (status, output) = match self.program.take() {
            None => (1, Vec::new()),
            Some(Program::Copies { .. }) => (0, Vec::new()),
            Some(Program::Waits { line, input }) => shell::run(&mut self.system, &line, &input)?,
            Some(Program::Ended { status, output }) => (status, output),
        };
        let end = self.signs_of_life(now, RUNNING);
        for frame in output.chunks(TEXT_BYTES) {
            self.say(end, "INFO", frame);
        }
        self.say(end, if status == 0 { "OKAY" } else { "FAIL" }, b"");
        Ok(())
    }

    fn open_writable(&mut self, path: &str) -> Vec<Answer> {
        self.target = None;
        if path == "-" {
            if self.program.is_none() {
                return fail("");
            }
            self.target = Some(Target::Program);
            return okay();
        }
        match self.system.files.writable(&self.system.cards, path) {
            Some(Place::Directory) => fail("DIR"),
            Some(place) => {
                self.target = Some(Target::Place { place, at: 0 });
                okay()
            }
            None => fail(""),
        }
    }

    fn open_readable(&mut self, path: &str) -> Vec<Answer> {
        self.source = None;
        if path == "-" {
            self.source = Some(Source::Program);
            return okay();
        }
        match self.system.files.readable(&self.system.cards, path) {
            Some(place) if place != Place::Directory => {
                let size = self.system.files.size(&place);
                self.source = Some(Source::Place { place, at: 0 });
                vec![("OKAY", format!("{size:016X}"))]
            }
            _ => fail(""),
        }
    }

    fn announce(&mut self, digits: &str) -> Vec<Answer> {
        let size = u64::from_str_radix(digits.trim(), 16).unwrap_or(0);
        if self.target.is_none() || size > MAX_DATA {
            return fail("");
        }
        if matches!((&self.target, &self.program), (Some(Target::Program), Some(Program::Ended { .. }) | None)) {
            return fail("EPIPE");
        }
        let size = self.wrong_size.take().map_or(size, u64::from);
        self.state = State::Data { left: size, bytes: Vec::new() };
        if size == 0 {
            self.state = State::Command;
            return vec![("DATA", format!("{size:08X}")), ("OKAY", String::new())];
        }
        vec![("DATA", format!("{size:08X}"))]
    }

    fn store(&mut self, now: Duration, data: &[u8]) -> Result<(), Halt> {
        let system = &mut self.system;
        let result = match (&mut self.target, &mut self.program) {
            (Some(Target::Place { place, at }), _) => {
                let written = files::write(system, place, *at, data)?;
                *at = at.saturating_add(wide(data.len()));
                if written { Ok(()) } else { Err("") }
            }
            (Some(Target::Program), Some(Program::Copies { place, at, left })) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                let written = files::write(system, place, *at, &data[..n])?;
                *at = at.saturating_add(wide(n));
                *left -= wide(n);
                let status = i32::from(!written);
                if *left == 0 || !written {
                    self.program = Some(Program::Ended { status, output: Vec::new() });
                }
                if written && n == data.len() { Ok(()) } else { Err("EPIPE") }
            }
            (Some(Target::Program), Some(Program::Waits { input, .. })) => {
                if input.len() + data.len() > MAX_BYTES {
                    Err("")
                } else {
                    input.extend_from_slice(data);
                    Ok(())
                }
            }
            (Some(Target::Program), _) => Err("EPIPE"),
            (None, _) => Err(""),
        };
        let end = self.signs_of_life(now, WRITING);
        match result {
            Ok(()) => self.say(end, "OKAY", b""),
            Err(text) => self.say(end, "FAIL", text.as_bytes()),
        }
        Ok(())
    }

    fn give(&mut self) -> Result<Vec<Answer>, Halt> {
        let bytes = match (&mut self.source, &mut self.program) {
            (Some(Source::Place { place, at }), _) => {
                let Some(bytes) = files::read(&mut self.system, place, *at, PIECE) else { return Ok(fail("")) };
                *at = at.saturating_add(wide(bytes.len()));
                bytes
            }
            (Some(Source::Program), Some(Program::Ended { output, .. })) => {
                let n = output.len().min(PIECE);
                output.drain(..n).collect()
            }
            (Some(Source::Program), _) => Vec::new(),
            (None, _) => return Ok(fail("")),
        };
        let answer = vec![("DATA", format!("{:08X}", bytes.len())), ("OKAY", String::new())];
        self.upload = Some(bytes).filter(|bytes| !bytes.is_empty());
        Ok(answer)
    }

    fn close(&mut self) -> Vec<Answer> {
        (self.target, self.source) = (None, None);
        okay()
    }
}

type Answer = (&'static str, String);

fn okay() -> Vec<Answer> {
    vec![("OKAY", String::new())]
}

fn fail(text: &str) -> Vec<Answer> {
    vec![("FAIL", text.to_owned())]
}

#[cfg(test)]
mod tests;
