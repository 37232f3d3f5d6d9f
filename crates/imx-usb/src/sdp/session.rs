//! The conversation: what is sent, what must come back.

use std::time::Duration;

use super::reply::{DONE_DCD, DONE_FILE, DONE_JUMP, HabState, REPORT_IN_BYTES, ReplyError, hab_report, status_report};
use super::{Access, COMMAND_BYTES, Code, Command, REPORT_COMMAND, data_report};
use crate::chips::Chip;
use crate::pipe::{ReportPipe, TransferError};

/// How a ROM or loader wants to be talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of data in a report 2.
    pub report_payload: u16,
    /// Where a DCD may lie on its way; 0 where it is not needed.
    pub free_address: u32,
    /// Does it know the command to skip the DCD?
    pub skip_dcd: bool,
    /// Most bytes in one file write; `None` for no limit.
    pub write_limit: Option<u32>,
    /// How long one report may take.
    pub deadline: Duration,
    /// How long a board that was told to start may take to say so. Most never do: they are gone by then.
    pub jump_deadline: Duration,
}

impl From<&Chip> for Settings {
    fn from(chip: &Chip) -> Self {
        Self {
            report_payload: chip.report_payload,
            free_address: chip.free_address.unwrap_or(0),
            skip_dcd: chip.skip_dcd,
            write_limit: chip.write_limit,
            deadline: Duration::from_secs(10),
            jump_deadline: Duration::from_secs(2),
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// A report did not get through.
    #[error("{command}")]
    Transfer {
        /// During which command.
        command: Command,
        /// What happened.
        #[source]
        source: TransferError,
    },
    /// The board sent something else than the report that was due.
    #[error("{command}")]
    Reply {
        /// After which command.
        command: Command,
        /// What it sent.
        #[source]
        source: ReplyError,
    },
    /// The board did what was asked with another status than success. On a closed chip that is often a signature.
    #[error("{command}: the board says {status:#010x} instead of {expected:#010x} (HAB {hab})")]
    Refused {
        /// Which command.
        command: Command,
        /// The status of success.
        expected: u32,
        /// The status.
        status: u32,
        /// The HAB state that came with it.
        hab: HabState,
    },
    /// A file ends beyond the chip's address space.
    #[error("{length} bytes from {address:#010x} end beyond the chip's address space")]
    AddressSpace {
        /// Where the file would begin.
        address: u32,
        /// Its length in bytes.
        length: usize,
    },
}

/// A register's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The value; only as many low bits as the access is wide.
    pub value: u32,
    /// The HAB state that came with it.
    pub hab: HabState,
}

/// What came back after a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// Nothing: the board has left for what it was told to start.
    Silent,
    /// A status. [`DONE_JUMP`] means it is about to start; anything else is worth showing.
    Status(u32),
}

/// An image with an IVT, taken apart: what a ROM must be given to start it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load<'a> {
    /// Where the image's IVT belongs.
    pub address: u32,
    /// The image from its IVT on.
    pub bytes: &'a [u8],
    /// Device configuration data to be carried out first.
    pub dcd: Option<&'a [u8]>,
}

/// What a board wrote while it was starting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootLog {
    /// The bytes, one from each report.
    pub bytes: Vec<u8>,
    /// Did it stop because it got too long, rather than because nothing came any more?
    pub cut: bool,
}

/// Length of the part of an image that is sent again with its DCD pointer cleared.
const IVT_REWRITE_BYTES: usize = 1024;
/// Where in the IVT the pointer to the DCD stands.
const IVT_DCD: std::ops::Range<usize> = 12..16;

/// A ROM or loader on the other side of a pipe.
#[derive(Debug)]
pub struct Session<P> {
    pipe: P,
    settings: Settings,
    report: Vec<u8>,
    hab: Option<HabState>,
}

impl<P: ReportPipe> Session<P> {
    /// A session on that pipe.
    pub fn new(pipe: P, settings: Settings) -> Self {
        Self { pipe, settings, report: Vec::new(), hab: None }
    }

    /// The HAB state the board last told; `None` until it has answered a command.
    pub fn hab(&self) -> Option<HabState> {
        self.hab
    }

    /// How the board is talked to.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Ends the session and hands back the pipe.
    pub fn into_pipe(self) -> P {
        self.pipe
    }

    /// Reads a register.
    pub fn read_register(&mut self, address: u32, access: Access) -> Result<Reading, SdpError> {
        let command = Command::read_register(address, access);
        self.command(command)?;
        let (hab, value) = self.answer(command)?;
        // The ROM repeats a narrow value in the upper bits.
        let value = match access {
            Access::Byte => value & 0xff,
            Access::Half => value & 0xffff,
            Access::Word => value,
        };
        Ok(Reading { value, hab })
    }

    /// Writes a register. U-Boot's SPL does not answer this, which is a timeout here.
    pub fn write_register(&mut self, address: u32, access: Access, value: u32) -> Result<HabState, SdpError> {
        let command = Command::write_register(address, access, value);
        self.command(command)?;
        self.success(command, DONE_DCD)
    }

    /// Asks for the HAB state and the status of the last thing done.
    pub fn error_status(&mut self) -> Result<(HabState, u32), SdpError> {
        let command = Command::bare(Code::ErrorStatus);
        self.command(command)?;
        self.answer(command)
    }

    /// Puts `bytes` at `address`, in as many writes as the board wants. `sent` is told how many bytes the board has
    /// been given so far, after each report.
    pub fn write_file(
        &mut self,
        address: u32,
        bytes: &[u8],
        sent: &mut dyn FnMut(usize),
    ) -> Result<Option<HabState>, SdpError> {
        let limit = self.settings.write_limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let too_far = || SdpError::AddressSpace { address, length: bytes.len() };
        let length = u32::try_from(bytes.len()).map_err(|_| too_far())?;
        // The byte after the last may have the address 2^32, so the last one is what counts.
        if length.checked_sub(1).is_some_and(|last| address.checked_add(last).is_none()) {
            return Err(too_far());
        }
        let (mut at, mut done) = (address, 0usize);
        for part in bytes.chunks(limit.unwrap_or(usize::MAX)) {
            let count = u32::try_from(part.len()).map_err(|_| too_far())?;
            let command = Command::write_file(at, count);
            self.command(command)?;
            self.data(command, part, &mut |n| sent(done.saturating_add(n)))?;
            self.success(command, DONE_FILE)?;
            at = at.wrapping_add(count);
            done = done.saturating_add(part.len());
        }
        Ok(self.hab)
    }

    /// Has a DCD carried out.
    pub fn write_dcd(&mut self, dcd: &[u8]) -> Result<HabState, SdpError> {
        let address = self.settings.free_address;
        let count = u32::try_from(dcd.len()).map_err(|_| SdpError::AddressSpace { address, length: dcd.len() })?;
        let command = Command::dcd_write(address, count);
        self.command(command)?;
        self.data(command, dcd, &mut |_| {})?;
        self.success(command, DONE_DCD)
    }

    /// Has the ROM not carry out the DCD of the image about to be started.
    pub fn skip_dcd(&mut self) -> Result<HabState, SdpError> {
        let command = Command::bare(Code::SkipDcd);
        self.command(command)?;
        self.success(command, DONE_JUMP)
    }

    /// Starts what lies at `address`. Whether it really started shows only when the board comes back as something else.
    pub fn jump(&mut self, address: u32) -> Result<Jump, SdpError> {
        let command = Command::jump(address);
        self.command(command)?;
        match self.answer_within(command, self.settings.jump_deadline) {
            Ok((_, status)) => Ok(Jump::Status(status)),
            // Gone, stalled or silent: that is how a board looks which does as it was told.
            Err(SdpError::Transfer { .. }) => Ok(Jump::Silent),
            Err(error) => Err(error),
        }
    }

    /// Starts an image by its IVT: DCD, image, and a jump that keeps the ROM from carrying out the DCD once more.
    pub fn boot(&mut self, load: &Load<'_>, sent: &mut dyn FnMut(usize)) -> Result<Jump, SdpError> {
        if let Some(dcd) = load.dcd {
            self.write_dcd(dcd)?;
        }
        self.write_file(load.address, load.bytes, sent)?;
        if self.settings.skip_dcd {
            self.skip_dcd()?;
        } else {
            self.clear_dcd(load)?;
        }
        self.jump(load.address)
    }

    /// Sends the image's first bytes again, with a DCD pointer of 0: for ROMs that cannot skip a DCD.
    pub fn clear_dcd(&mut self, load: &Load<'_>) -> Result<(), SdpError> {
        let mut head = load.bytes[..load.bytes.len().min(IVT_REWRITE_BYTES)].to_vec();
        if let Some(pointer) = head.get_mut(IVT_DCD) {
            pointer.fill(0);
        }
        self.write_file(load.address, &head, &mut |_| {})?;
        Ok(())
    }

    /// Sends `bytes` to `address` and waits for no answer: the second part of a barebox image, which the first part
    /// takes at address 0 without answering.
    pub fn write_file_unanswered(
        &mut self,
        address: u32,
        bytes: &[u8],
        sent: &mut dyn FnMut(usize),
    ) -> Result<(), SdpError> {
        let count = u32::try_from(bytes.len()).map_err(|_| SdpError::AddressSpace { address, length: bytes.len() })?;
        let command = Command::write_file(address, count);
        self.command(command)?;
        self.data(command, bytes, sent)
    }

    /// Collects what a starting board writes, one byte a report, until nothing comes within `silence`, the board is
    /// gone, or there are `most` bytes.
    pub fn boot_log(&mut self, silence: Duration, most: usize) -> BootLog {
        let mut log = BootLog::default();
        let mut report = [0; REPORT_IN_BYTES];
        while log.bytes.len() < most {
            match self.pipe.receive_report(&mut report, silence) {
                Ok(length) if length > 4 => log.bytes.push(report[4]),
                Ok(_) | Err(_) => return log,
            }
        }
        log.cut = true;
        log
    }

    fn command(&mut self, command: Command) -> Result<(), SdpError> {
        let mut report = [REPORT_COMMAND; 1 + COMMAND_BYTES];
        report[1..].copy_from_slice(&command.encode());
        self.pipe.send_report(&report, self.settings.deadline).map_err(|source| SdpError::Transfer { command, source })
    }

    fn data(&mut self, command: Command, bytes: &[u8], sent: &mut dyn FnMut(usize)) -> Result<(), SdpError> {
        let payload = usize::from(self.settings.report_payload).max(1);
        let mut done = 0usize;
        for part in bytes.chunks(payload) {
            data_report(&mut self.report, payload, part);
            self.pipe
                .send_report(&self.report, self.settings.deadline)
                .map_err(|source| SdpError::Transfer { command, source })?;
            done = done.saturating_add(part.len());
            sent(done);
        }
        Ok(())
    }

    fn success(&mut self, command: Command, expected: u32) -> Result<HabState, SdpError> {
        let (hab, status) = self.answer(command)?;
        if status == expected { Ok(hab) } else { Err(SdpError::Refused { command, expected, status, hab }) }
    }

    fn answer(&mut self, command: Command) -> Result<(HabState, u32), SdpError> {
        self.answer_within(command, self.settings.deadline)
    }

    fn answer_within(&mut self, command: Command, within: Duration) -> Result<(HabState, u32), SdpError> {
        let mut report = [0; REPORT_IN_BYTES];
        let mut next = |pipe: &mut P| {
            let length =
                pipe.receive_report(&mut report, within).map_err(|source| SdpError::Transfer { command, source })?;
            Ok(report[..length.min(REPORT_IN_BYTES)].to_vec())
        };
        let hab = hab_report(&next(&mut self.pipe)?).map_err(|source| SdpError::Reply { command, source })?;
        self.hab = Some(hab);
        let status = status_report(&next(&mut self.pipe)?).map_err(|source| SdpError::Reply { command, source })?;
        Ok((hab, status))
    }
}

#[cfg(test)]
mod tests;
