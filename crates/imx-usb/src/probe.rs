//! What a U-Boot in fastboot can do, found out by asking.
//!
//! There is no list of a U-Boot's commands to be had, and a command that is there fails like one that is not when its
//! arguments are wrong. So each is asked something whose answer is known, in memory that belongs to nobody: it must
//! give the right answer, and where a wrong one could be taken for it, must refuse the wrong one too.
//!
//! | what | how |
//! |---|---|
//! | shell | `true` and `false`, as `UCmd` or `oem run` |
//! | values | `setenv fastboot.mf 1f2e`, then `getvar:mf` |
//! | addresses | the chip table; without a chip, what the board says of itself; at last `loadaddr` |
//! | download buffer | on NXP's tree it is set; then a small download must be seen there |
//! | CRC-32 | `mw.l`, `crc32 -v` with the right sum and with a wrong one |
//! | SHA-256 | `hash sha256` of four bytes, compared by `test`, or read back |
//! | comparing | `cmp.b` of equal and of different bytes |
//! | gzip, LZ4 | `unzip` and `unlz4` of the small download (`gzwrite` comes with `unzip`: same option, same source file) |
//!
//! Nothing is written to a card, and no variable is left behind but `fastboot_buffer` on NXP's tree. Where no address is
//! known, commands that need one count as not usable.
//!
//! - [`probe`]: all of the above.
//! - [`card::find`]: which card is the eMMC or the SD card, by what name fastboot writes to it, and how large it is.
//!
//! Sources: U-Boot v2026.07 as run, NXP's 2023.04 as read.

pub mod card;
mod memory;
mod talk;

use std::ops::Range;

use crate::chips::{Chip, ChipTable};
use crate::fastboot::{Command, FastbootError, Session, parse_number};
use crate::pipe::BulkPipe;

use talk::Talk;

pub use talk::variable;

/// The most that is downloaded at once unless somebody asks for more: U-Boot announces more than many boards have.
pub const MODEST_DOWNLOAD: u32 = 64 << 20;

/// Whose U-Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tree {
    /// NXP's fork.
    Nxp,
    /// Upstream, or what follows it.
    Upstream,
}

/// How a line of U-Boot's shell is run and waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shell {
    /// `UCmd:LINE`
    UCmd,
    /// `oem run:LINE`
    OemRun,
}

impl Shell {
    /// The fastboot command that runs `line`.
    pub fn command(self, line: &str) -> Command<'_> {
        match self {
            Self::UCmd => Command::UCmd(line.into()),
            Self::OemRun => Command::Oem(format!("run:{line}").into()),
        }
    }
}

/// How addresses came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The chip was known, and the table has its memory.
    Table,
    /// The board named its chip or kit in a variable; the table has the memory.
    Named,
    /// Only from `loadaddr`, which is where a kernel may be loaded: 32 MiB from there on.
    LoadAddress,
}

/// Where things are in the board's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Memory that commands may use for themselves.
    pub scratch: Range<u64>,
    /// Where a download lies; it was seen there. `None` if it was not found.
    pub buffer: Option<u64>,
    /// How this is known.
    pub source: Source,
}

/// What U-Boot can do. What needs an address is `false` without [`Capabilities::space`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a command that is there or not")]
pub struct Capabilities {
    /// Whose it is; `None` if it is like neither.
    pub tree: Option<Tree>,
    /// How commands are run; `None` if it runs none.
    pub shell: Option<Shell>,
    /// Can values be read back, through variables called `fastboot.NAME`?
    pub values: bool,
    /// The board, in U-Boot's words.
    pub product: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// U-Boot's version.
    pub version: Option<String>,
    /// Short name of the chip, if it was given or the board names it.
    pub chip: Option<String>,
    /// The largest download as U-Boot announces it.
    pub max_download: Option<u32>,
    /// The largest download that is safe.
    pub download: u32,
    /// Where things are in memory; `None` if no address is known.
    pub space: Option<Space>,
    /// `crc32 -v`.
    pub crc32: bool,
    /// `hash crc32` into a variable.
    pub hash_crc32: bool,
    /// `hash sha256` into a variable. Whether it is compared there by `test` or read back is the caller's choice, if
    /// [`Capabilities::values`].
    pub sha256: bool,
    /// `cmp.b`.
    pub cmp: bool,
    /// `unzip`, and with it `gzwrite`.
    pub gzip: bool,
    /// `unlz4`.
    pub lz4: bool,
}

/// What a probe is told beforehand.
#[derive(Debug, Clone, Copy)]
pub struct ProbeOptions<'t> {
    /// Chips by name, for boards that name theirs.
    pub table: &'t ChipTable,
    /// The chip, if the board was seen in its ROM.
    pub chip: Option<&'t Chip>,
    /// The largest download wanted; [`MODEST_DOWNLOAD`] unless said otherwise. Never more than the board announces or
    /// the chip table allows.
    pub download: Option<u32>,
}

/// A probe that could not go on. That U-Boot says FAIL is no such thing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The link failed, or the board sent something that is no answer.
    #[error("asking the board what it can do")]
    Link(#[source] FastbootError),
}

/// Finds out what U-Boot can do. Takes some twenty commands and one small download.
///
/// # Errors
/// When the link fails; U-Boot is then out of step, as [`Session`] says.
pub fn probe<P: BulkPipe>(session: &mut Session<P>, options: &ProbeOptions<'_>) -> Result<Capabilities, ProbeError> {
    let mut talk = Talk::new(session);
    let tree = tree(&mut talk)?;
    let max_download = match talk.getvar("max-download-size")? {
        Some(text) => Some(text),
        None => talk.getvar("downloadsize")?,
    };
    let max_download = max_download.and_then(|text| size(&text));
    let modest = options.download.unwrap_or(MODEST_DOWNLOAD);
    let mut found = Capabilities {
        tree,
        shell: None,
        values: false,
        product: talk.getvar("product")?,
        serial: talk.getvar("serialno")?,
        version: talk.getvar("version-bootloader")?,
        chip: options.chip.map(|chip| chip.name.to_string()),
        max_download,
        download: max_download.map_or(modest, |most| most.min(modest)),
        space: None,
        crc32: false,
        hash_crc32: false,
        sha256: false,
        cmp: false,
        gzip: false,
        lz4: false,
    };
    if let Some(shell) = shell(&mut talk)? {
        talk.shell = Some(shell);
        found.shell = Some(shell);
        found.values = values(&mut talk)?;
        talk.values = found.values;
        memory::find(&mut talk, &mut found, options)?;
        if let Some(space) = found.space.clone() {
            checks(&mut talk, &mut found, &space)?;
            inflating(&mut talk, &mut found, &space)?;
        }
    }
    Ok(found)
}

/// Which tree, by a variable that only one knows and by the name of the whole card.
fn tree<P: BulkPipe>(talk: &mut Talk<'_, P>) -> Result<Option<Tree>, ProbeError> {
    if talk.getvar("logical-block-size")?.is_some() && talk.getvar("partition-size:all")?.is_some() {
        return Ok(Some(Tree::Nxp));
    }
    // Upstream has a sentence for each variable it lacks; others have other sentences.
    Ok(match talk.refusal("logical-block-size")?.as_deref() {
        Some("Variable not implemented") => Some(Tree::Upstream),
        _ => None,
    })
}

/// A size as boards write it: with prefix, decimal, or hexadecimal without a prefix. One of more than 32 bits is as
/// good as the largest, for that is all that a download can be.
fn size(text: &str) -> Option<u32> {
    let text = text.trim();
    let number =
        parse_number(text).or_else(|| u64::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+')))?;
    u32::try_from(number).ok().or(Some(u32::MAX)).filter(|size| *size > 0)
}

fn shell<P: BulkPipe>(talk: &mut Talk<'_, P>) -> Result<Option<Shell>, ProbeError> {
    for shell in [Shell::UCmd, Shell::OemRun] {
        talk.shell = Some(shell);
        if talk.run("true")? && !talk.run("false")? {
            return Ok(Some(shell));
        }
    }
    Ok(None)
}

fn values<P: BulkPipe>(talk: &mut Talk<'_, P>) -> Result<bool, ProbeError> {
    talk.run("setenv fastboot.mf 1f2e")?;
    let there = talk.getvar("mf")?.as_deref() == Some("1f2e");
    talk.run("setenv fastboot.mf")?;
    Ok(there)
}

/// "1234" as a word, and its sums.
const WORD: &str = "34333231";
const WORD_CRC32: &str = "9be3e0a3";
const WORD_SHA256: &str = "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4";
/// So many digits of a value come back at least: answers have 64 bytes.
const ANSWER_DIGITS: usize = 59;

fn checks<P: BulkPipe>(talk: &mut Talk<'_, P>, found: &mut Capabilities, space: &Space) -> Result<(), ProbeError> {
    let at = space.scratch.start;
    let other = at.saturating_add(8);
    found.crc32 = talk.run(&format!("mw.l {at:x} {WORD};crc32 -v {at:x} 4 {WORD_CRC32}"))?
        && !talk.run(&format!("crc32 -v {at:x} 4 9be3e0a4"))?;
    found.cmp = talk.run(&format!("mw.l {at:x} {WORD};mw.l {other:x} {WORD}"))?
        && talk.run(&format!("cmp.b {at:x} {other:x} 4"))?
        && !talk.run(&format!("mw.l {other:x} 0;cmp.b {at:x} {other:x} 4"))?;
    talk.run(&format!("mw.l {at:x} {WORD}"))?;
    let mut hash = |name: &str, right: &str| -> Result<bool, ProbeError> {
        if talk.values {
            talk.run("setenv fastboot.mf")?;
            talk.run(&format!("hash {name} {at:x} 4 fastboot.mf"))?;
            let value = talk.getvar("mf")?.unwrap_or_default();
            talk.run("setenv fastboot.mf")?;
            let enough = value.len() >= right.len().min(ANSWER_DIGITS);
            return Ok(enough && right.starts_with(&value.to_ascii_lowercase()));
        }
        // The last digit changed is another sum.
        let (head, _) = right.split_at(right.len().saturating_sub(1));
        let line = |sum: &str| format!("hash {name} {at:x} 4 mf;test \"$mf\" = {sum}");
        let answer = talk.run(&line(right))? && !talk.run(&line(&format!("{head}x")))?;
        talk.run("setenv mf")?;
        Ok(answer)
    };
    found.hash_crc32 = hash("crc32", WORD_CRC32)?;
    found.sha256 = hash("sha256", WORD_SHA256)?;
    Ok(())
}

fn inflating<P: BulkPipe>(talk: &mut Talk<'_, P>, found: &mut Capabilities, space: &Space) -> Result<(), ProbeError> {
    let Some(buffer) = space.buffer else { return Ok(()) };
    let to = space.scratch.start;
    let lz4 = buffer.saturating_add(memory::LZ4_AT);
    let word = memory::INFLATED;
    talk.run(&format!("mw.l {to:x} 0"))?;
    found.gzip =
        talk.run(&format!("unzip {buffer:x} {to:x} 1000"))? && talk.run(&format!("itest.l *{to:x} == {word}"))?;
    talk.run(&format!("mw.l {to:x} 0"))?;
    found.lz4 = talk.run(&format!("unlz4 {lz4:x} {to:x} 1000"))? && talk.run(&format!("itest.l *{to:x} == {word}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_loosely() {
        let cases = [
            ("0x40000000", Some(0x4000_0000)),
            ("0X20000000", Some(0x2000_0000)),
            (" 536870912 ", Some(536_870_912)),
            ("1f000000", Some(0x1f00_0000)),
            ("0x100000000", Some(u32::MAX)),
            ("0", None),
            ("", None),
            ("+1f", None),
            ("much", None),
        ];
        for (text, size) in cases {
            assert_eq!(super::size(text), size, "{text:?}");
        }
    }

    #[test]
    fn lines_go_out_by_either_command() {
        assert_eq!(Shell::UCmd.command("mmc dev 0").to_string(), "UCmd:mmc dev 0");
        assert_eq!(Shell::OemRun.command("mmc dev 0").to_string(), "oem run:mmc dev 0");
    }
}
