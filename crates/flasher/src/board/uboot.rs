//! U-Boot on the other side of a fastboot session: typed commands, and shell lines of them.
//!
//! Only what is in [`Command`] is ever sent as a shell line, with every number resolved: no variable of the board's can
//! change what a line does. Numbers are hexadecimal where U-Boot reads them so. Never sent: fuses, hwpartition,
//! rst-function, bootpart-resize, write protection, saveenv.

use std::fmt;
use std::time::Duration;

use bmap::Digest;
use imx_usb::fastboot::{FastbootError, Pace, Session};
use imx_usb::pipe::BulkPipe;

use super::profile::Profile;

/// A sector, the unit of `mmc` commands.
pub(crate) const SECTOR: u64 = 512;

/// How long a shell line may take: a base, and its bytes at the worst rate of a card that still works.
const SHELL: Pace = Pace::new(30, 2_000_000);

/// A pipe of whatever kind.
pub(crate) type Pipe = Box<dyn BulkPipe + Send>;

/// An area of an eMMC, by U-Boot's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// The user area.
    User,
    /// Boot partition 1 (`boot0`).
    Boot0,
    /// Boot partition 2 (`boot1`).
    Boot1,
}

impl Area {
    /// U-Boot's number of it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::User => 0,
            Self::Boot0 => 1,
            Self::Boot1 => 2,
        }
    }

    /// The name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user area",
            Self::Boot0 => "boot0",
            Self::Boot1 => "boot1",
        }
    }
}

/// Sectors of the selected area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sectors {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Sectors {
    /// The sectors of an extent, rounded outwards.
    pub(crate) fn of(extent: bmap::ByteRange) -> Self {
        let first = extent.start() / SECTOR;
        Self { first, count: extent.end().div_ceil(SECTOR).saturating_sub(first) }
    }
}

/// A command of U-Boot's shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Selects device and area.
    Select { device: u32, area: Area },
    /// Card to memory.
    Read { to: u64, sectors: Sectors },
    /// Memory to card.
    Write { from: u64, sectors: Sectors },
    /// Erases sectors.
    Erase { sectors: Sectors },
    /// Fails unless memory has that CRC-32.
    Crc32 { at: u64, len: u64, crc32: u32 },
    /// Fails unless memory has that SHA-256.
    Sha256 { at: u64, len: u64, digest: Digest },
    /// Fails unless two places of memory are the same.
    Compare { one: u64, other: u64, len: u64 },
    /// Makes zeros in memory.
    Zeros { at: u64, len: u64 },
    /// Inflates an LZ4 frame in memory.
    Unlz4 { from: u64, to: u64, most: u64 },
    /// Inflates a gzip member to the card: bytes at a byte offset.
    GzWrite { device: u32, from: u64, len: u64, offset: u64, out: u64 },
    /// The boot switch of an eMMC.
    PartConf { device: u32, ack: bool, boot: u8 },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select { device, area } => write!(f, "mmc dev {device} {}", area.number()),
            Self::Read { to, sectors } => write!(f, "mmc read {to:x} {:x} {:x}", sectors.first, sectors.count),
            Self::Write { from, sectors } => write!(f, "mmc write {from:x} {:x} {:x}", sectors.first, sectors.count),
            Self::Erase { sectors } => write!(f, "mmc erase {:x} {:x}", sectors.first, sectors.count),
            Self::Crc32 { at, len, crc32 } => write!(f, "crc32 -v {at:x} {len:x} {crc32:08x}"),
            Self::Sha256 { at, len, digest } => {
                write!(f, "hash sha256 {at:x} {len:x} h && test \"$h\" = {}", Hex(digest.as_bytes()))
            }
            Self::Compare { one, other, len } => write!(f, "cmp.b {one:x} {other:x} {len:x}"),
            Self::Zeros { at, len } => write!(f, "mw.b {at:x} 0 {len:x}"),
            Self::Unlz4 { from, to, most } => write!(f, "unlz4 {from:x} {to:x} {most:x}"),
            Self::GzWrite { device, from, len, offset, out } => {
                // The work buffer of 4 MiB is what ran fastest; it is U-Boot's own to allocate.
                write!(f, "gzwrite mmc {device} {from:x} {len:x} 400000 {offset:x} {out:x}")
            }
            Self::PartConf { device, ack, boot } => write!(f, "mmc partconf {device} {} {boot} 0", u8::from(*ack)),
        }
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A shell line and the bytes it works on, by which its deadline is reckoned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) bytes: u64,
}

/// Commands joined to lines that a board takes; a line stops at the first command that fails.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    limit: usize,
    /// What every line begins with.
    begin: String,
    lines: Vec<Line>,
}

/// What a line costs besides its text: `UCmd:`, or more.
pub(crate) const PREFIX: usize = "oem run:".len();
const JOIN: &str = " && ";

impl Lines {
    /// Lines of at most `limit` bytes with their command, each of which begins with `begin`.
    pub(crate) fn new(limit: usize, begin: &[Command]) -> Self {
        let begin = join(begin);
        Self { limit: limit.saturating_sub(PREFIX), begin, lines: Vec::new() }
    }

    /// Adds commands that belong together; where one line cannot hold them, each gets its own. `bytes` is what they work
    /// on.
    pub(crate) fn add(&mut self, commands: &[Command], bytes: u64) {
        let text = join(commands);
        let begun = if self.begin.is_empty() { text.clone() } else { format!("{}{JOIN}{text}", self.begin) };
        match self.lines.last_mut() {
            Some(line) if line.text.len() + JOIN.len() + text.len() <= self.limit => {
                line.text.push_str(JOIN);
                line.text.push_str(&text);
                line.bytes = line.bytes.saturating_add(bytes);
            }
            _ if begun.len() <= self.limit => self.lines.push(Line { text: begun, bytes }),
            // Over UDP, where a command has 64 bytes: one at a time.
            _ => {
                if self.lines.is_empty() && !self.begin.is_empty() {
                    self.lines.push(Line { text: self.begin.clone(), bytes: 0 });
                }
                self.lines.extend(commands.iter().map(|command| Line { text: command.to_string(), bytes }));
            }
        }
    }

    /// How many lines there are so far.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The lines.
    pub(crate) fn finish(self) -> Vec<Line> {
        self.lines
    }
}

/// Commands as one line, which stops at the first that fails.
pub(crate) fn join(commands: &[Command]) -> String {
    commands.iter().map(ToString::to_string).collect::<Vec<_>>().join(JOIN)
}

/// A session, and what is known of the U-Boot behind it.
pub(crate) struct Uboot {
    pub(crate) session: Session<Pipe>,
    pub(crate) profile: Profile,
}

impl Uboot {
    pub(crate) fn new(session: Session<Pipe>, profile: Profile) -> Self {
        Self { session, profile }
    }

    /// The board's time.
    pub(crate) fn now(&self) -> Duration {
        self.session.now()
    }

    /// Runs a line. `Ok(false)`: a command in it failed. One that is too long for the transport is an error, for the board
    /// has not been asked.
    pub(crate) fn run(&mut self, line: &Line) -> Result<bool, FastbootError> {
        self.session.deadlines.run = SHELL.time_for(line.bytes);
        let Some(shell) = self.profile.shell else { return Ok(false) };
        match self.session.run(&shell.command(&line.text)) {
            Ok(_) => Ok(true),
            Err(FastbootError::Fail { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs a line that asks for something the board need not know. No, too, if it is too long for the transport.
    pub(crate) fn try_run(&mut self, text: String) -> Result<bool, FastbootError> {
        match self.run(&Line { text, bytes: 0 }) {
            Err(FastbootError::CommandTooLong { .. }) => Ok(false),
            result => result,
        }
    }

    /// Runs lines until a command fails.
    pub(crate) fn run_all(&mut self, lines: &[Line]) -> Result<bool, FastbootError> {
        for line in lines {
            if !self.run(line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A variable of fastboot's; `None` if the board does not tell it.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>, FastbootError> {
        match self.session.getvar(name) {
            Ok(value) => Ok(Some(value)),
            Err(FastbootError::Fail { .. } | FastbootError::CommandTooLong { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs commands one after the other, in one line where that holds them, until one fails.
    pub(crate) fn command(&mut self, commands: &[Command], bytes: u64) -> Result<bool, FastbootError> {
        let mut lines = Lines::new(self.profile.line, &[]);
        lines.add(commands, bytes);
        self.run_all(&lines.finish())
    }

    /// What is selected before every raw command: the device, and an area of it.
    pub(crate) fn select(&self, area: Area) -> Command {
        Command::Select { device: self.profile.device, area }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bmap::{Algorithm, ByteRange, Hasher};

    #[test]
    fn commands_are_written_as_u_boot_reads_them() {
        let sectors = Sectors::of(ByteRange::new(4096, 10_000).unwrap());
        assert_eq!(sectors, Sectors { first: 8, count: 12 });
        let digest = Hasher::digest(Algorithm::Sha256, b"abc");
        let cases = [
            (Command::Select { device: 2, area: Area::Boot1 }, "mmc dev 2 2".to_owned()),
            (Command::Read { to: 0x4040_0000, sectors }, "mmc read 40400000 8 c".to_owned()),
            (Command::Crc32 { at: 16, len: 4096, crc32: 0xab }, "crc32 -v 10 1000 000000ab".to_owned()),
            (
                Command::Sha256 { at: 16, len: 3, digest },
                "hash sha256 10 3 h && test \"$h\" = ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
                    .to_owned(),
            ),
            (
                Command::GzWrite { device: 2, from: 1, len: 2, offset: 512, out: 3 },
                "gzwrite mmc 2 1 2 400000 200 3".to_owned(),
            ),
            (Command::PartConf { device: 2, ack: true, boot: 1 }, "mmc partconf 2 1 1 0".to_owned()),
        ];
        for (command, text) in cases {
            assert_eq!(command.to_string(), text);
        }
    }

    #[test]
    fn lines_are_no_longer_than_a_board_takes() {
        let mut lines = Lines::new(64, &[Command::Select { device: 0, area: Area::User }]);
        for n in 0..3 {
            let sectors = Sectors { first: n, count: 1 };
            lines.add(&[Command::Write { from: 0x4280_0000, sectors }], 512);
        }
        let lines = lines.finish();
        assert!(lines.iter().all(|line| line.text.len() + PREFIX <= 64 && line.text.starts_with("mmc dev 0 0 && mmc")));
        assert_eq!(lines.iter().map(|line| line.bytes).collect::<Vec<_>>(), [512, 512, 512]);

        let mut lines = Lines::new(64, &[Command::Select { device: 0, area: Area::User }]);
        let sectors = Sectors { first: 0x1234_5678, count: 8192 };
        let read = Command::Read { to: 0x4280_0000, sectors };
        lines.add(&[read, Command::Crc32 { at: 0x4280_0000, len: 4 << 20, crc32: 1 }], 4 << 20);
        let texts: Vec<_> = lines.finish().into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["mmc dev 0 0", "mmc read 42800000 12345678 2000", "crc32 -v 42800000 400000 00000001"]);
    }
}
