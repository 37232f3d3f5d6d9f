//! More rows for a [`ChipTable`]: the `CFG:` lines of `uuu` scripts, and configuration files.
//!
//! A configuration file is text of such lines, with empty lines and comments (`#` to the end of a line):
//!
//! ```text
//! CFG: PROTOCOL: -vid N -pid N [-chip NAME] [-compatible NAME] [-bcdversion N | -bcdmin N -bcdmax N]
//! CHIP: NAME -compatible NAME [-title TEXT] [-payload N] [-route control|ep1] [-free N] [-skipdcd yes|no]
//!       [-stream whole|container] [-format ivt|container|loader] [-useroffset N] [-bootoffset N] [-next FB,SDPV]
//!       [-loadaddr N -buffer N -buffersize N] [-emmc N -sd N]
//! ```
//!
//! (A `CHIP:` line is one line; it is broken here to fit.) `CFG:` lines are those of `uuu`; `CHIP:` is ours and starts
//! from a chip that the table knows. Numbers are decimal, or hexadecimal after `0x`. Words of a `CFG:` line that mean
//! nothing are handed back, as `uuu` passes over them; in a `CHIP:` line they are an error.

use std::borrow::Cow;

use super::{Cards, Chip, ChipTable, ImageFormat, LoaderOffset, Memory, Protocol, ReportRoute, StreamExtent, UsbId};

/// The longest configuration that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// A line that cannot be used. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct ConfigError {
    /// Which line.
    pub line: usize,
    /// Where in it the problem begins.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is longer than any real configuration.
    #[error("the configuration has {0} bytes; at most {MAX_CONFIG_BYTES} are read")]
    TooLong(usize),
    /// Neither `CFG:` nor `CHIP:`.
    #[error("a line begins with \"CFG:\" or \"CHIP:\", not {0:?}")]
    Keyword(String),
    /// A protocol that is not known, or no colon after it.
    #[error("{0:?} is no protocol; known are SDP:, SDPS:, SDPU:, SDPV:, FB: and FBK:")]
    Protocol(String),
    /// Not a number, or not one that fits.
    #[error("{option} wants a number from 0 to {most:#x}, not {found:?}")]
    Number {
        /// The option it belongs to.
        option: String,
        /// The largest number it takes.
        most: u64,
        /// What stands there.
        found: String,
    },
    /// A word that is not among those an option takes.
    #[error("{option} wants one of {wanted}, not {found:?}")]
    Choice {
        /// The option it belongs to.
        option: String,
        /// What it takes.
        wanted: &'static str,
        /// What stands there.
        found: String,
    },
    /// The line ends where a value should be.
    #[error("{0} wants a value")]
    NoValue(String),
    /// Something that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A `CHIP:` line has a word that means nothing.
    #[error("{0:?} is no option of a CHIP: line")]
    Unknown(String),
    /// A `CHIP:` line names a chip the table does not know.
    #[error("no chip is called {0:?}")]
    NoChip(String),
    /// Releases from more to less.
    #[error("-bcdmin {min:#06x} is above -bcdmax {max:#06x}")]
    Backwards {
        /// The first release.
        min: u16,
        /// The last.
        max: u16,
    },
    /// A report or buffer of a size that cannot work.
    #[error("{0} cannot be {1:#x}")]
    Size(&'static str, u64),
}

/// A word of a `CFG:` line that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Which line, from 1.
    pub line: usize,
    /// Which column, from 1.
    pub column: usize,
    /// The word, or its beginning.
    pub word: String,
}

/// A word and its column.
#[derive(Clone, Copy)]
struct Word<'l> {
    column: usize,
    text: &'l str,
}

/// A word for a message: nobody wants to read a mebibyte of it.
fn quote(word: &str) -> String {
    word.chars().take(64).collect()
}

/// The words of one line, in order.
struct Words<'l> {
    line: usize,
    end: usize,
    words: std::vec::IntoIter<Word<'l>>,
}

impl<'l> Words<'l> {
    fn new(line: usize, text: &'l str) -> Self {
        let mut words = Vec::new();
        let (mut start, mut columns) = (None, 0);
        for (at, c) in text.char_indices() {
            columns += 1;
            match (c.is_whitespace(), start) {
                (true, Some((from, column))) => {
                    words.push(Word { column, text: &text[from..at] });
                    start = None;
                }
                (false, None) => start = Some((at, columns)),
                _ => {}
            }
        }
        if let Some((from, column)) = start {
            words.push(Word { column, text: &text[from..] });
        }
        Self { line, end: columns + 1, words: words.into_iter() }
    }

    fn error(&self, column: usize, problem: Problem) -> ConfigError {
        ConfigError { line: self.line, column, problem }
    }

    fn missing(&self, what: &'static str) -> ConfigError {
        self.error(self.end, Problem::Missing(what))
    }

    fn value(&mut self, option: Word<'l>) -> Result<Word<'l>, ConfigError> {
        match self.words.next() {
            Some(word) => Ok(word),
            None => Err(self.error(self.end, Problem::NoValue(quote(option.text)))),
        }
    }

    fn number(&mut self, option: Word<'l>, most: u64) -> Result<u64, ConfigError> {
        let word = self.value(option)?;
        match number(word.text) {
            Some(n) if n <= most => Ok(n),
            _ => {
                let problem = Problem::Number { option: quote(option.text), most, found: quote(word.text) };
                Err(self.error(word.column, problem))
            }
        }
    }

    fn number16(&mut self, option: Word<'l>) -> Result<u16, ConfigError> {
        // Checked by `number` already.
        self.number(option, u16::MAX.into()).map(|n| u16::try_from(n).unwrap_or(u16::MAX))
    }

    fn number32(&mut self, option: Word<'l>) -> Result<u32, ConfigError> {
        self.number(option, u32::MAX.into()).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    fn choice<T: Copy>(
        &mut self,
        option: Word<'l>,
        wanted: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let word = self.value(option)?;
        match choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.text)) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let problem = Problem::Choice { option: quote(option.text), wanted, found: quote(word.text) };
                Err(self.error(word.column, problem))
            }
        }
    }
}

/// Decimal, or hexadecimal after `0x`.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // Rust's own parser would take a sign.
    if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// Adds every line of a configuration file to `table`. If one line is wrong, `table` stays as it was.
///
/// Returns the words of `CFG:` lines that mean nothing.
pub fn read_config(table: &mut ChipTable, text: &str) -> Result<Vec<Ignored>, ConfigError> {
    if text.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError { line: 1, column: 1, problem: Problem::TooLong(text.len()) });
    }
    let mut new = table.clone();
    let mut ignored = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default();
        let mut words = Words::new(line, text);
        let Some(keyword) = words.words.next() else { continue };
        if keyword.text.eq_ignore_ascii_case("CFG:") {
            let id = cfg(&mut words, &mut ignored)?;
            new.add_id(id);
        } else if keyword.text.eq_ignore_ascii_case("CHIP:") {
            let chip = chip(&mut words, &new)?;
            new.add_chip(chip);
        } else {
            return Err(words.error(keyword.column, Problem::Keyword(quote(keyword.text))));
        }
    }
    *table = new;
    Ok(ignored)
}

/// Reads what follows `CFG:` in a script: `SDP: -vid 0x1fc9 -pid 0x0134 -chip MX8MM`. The row is not yet in any table.
///
/// `line` and `column` say where `text` begins, for messages and for the words that are handed back.
pub fn read_cfg(text: &str, line: usize, column: usize) -> Result<(UsbId, Vec<Ignored>), ConfigError> {
    let shift = column.saturating_sub(1);
    if text.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError { line, column, problem: Problem::TooLong(text.len()) });
    }
    let mut ignored = Vec::new();
    let id = cfg(&mut Words::new(line, text), &mut ignored)
        .map_err(|error| ConfigError { column: error.column.saturating_add(shift), ..error })?;
    for word in &mut ignored {
        word.column = word.column.saturating_add(shift);
    }
    Ok((id, ignored))
}

fn cfg(words: &mut Words<'_>, ignored: &mut Vec<Ignored>) -> Result<UsbId, ConfigError> {
    let Some(word) = words.words.next() else { return Err(words.missing("the protocol")) };
    let protocol = word.text.strip_suffix(':').and_then(Protocol::from_name);
    let Some(protocol) = protocol else {
        return Err(words.error(word.column, Problem::Protocol(quote(word.text))));
    };
    let (mut vendor, mut product) = (None, None);
    let (mut chip, mut compatible) = (None, None);
    let (mut min, mut max) = (0, 0xffff);
    while let Some(option) = words.words.next() {
        match option.text.to_ascii_lowercase().as_str() {
            "-vid" => vendor = Some(words.number16(option)?),
            "-pid" => product = Some(words.number16(option)?),
            "-chip" => chip = Some(words.value(option)?.text.to_owned()),
            "-compatible" => compatible = Some(Cow::Owned(words.value(option)?.text.to_owned())),
            "-bcdversion" => {
                min = words.number16(option)?;
                max = min;
            }
            "-bcdmin" => min = words.number16(option)?,
            "-bcdmax" => max = words.number16(option)?,
            _ => {
                ignored.push(Ignored { line: words.line, column: option.column, word: quote(option.text) });
            }
        }
    }
    let vendor = vendor.ok_or_else(|| words.missing("-vid"))?;
    let product = product.ok_or_else(|| words.missing("-pid"))?;
    if min > max {
        return Err(words.error(words.end, Problem::Backwards { min, max }));
    }
    let chip = Cow::Owned(chip.unwrap_or_default());
    Ok(UsbId { protocol, chip, compatible, vendor, product, release: min..=max })
}

fn chip(words: &mut Words<'_>, table: &ChipTable) -> Result<Chip, ConfigError> {
    let Some(name) = words.words.next() else { return Err(words.missing("the chip's name")) };
    let options: Vec<Word<'_>> = words.words.as_slice().to_vec();
    // The row to start from may stand anywhere in the line, so it is looked up before the rest is read.
    let base = options.windows(2).find(|pair| pair[0].text.eq_ignore_ascii_case("-compatible"));
    let Some([_, base]) = base else { return Err(words.missing("-compatible")) };
    let Some(known) = table.chip(base.text) else {
        return Err(words.error(base.column, Problem::NoChip(quote(base.text))));
    };
    let mut chip = Chip { name: Cow::Owned(name.text.to_owned()), ..known.clone() };
    let (mut load, mut buffer, mut buffer_bytes) = (None, None, None);
    let (mut emmc, mut sd) = (None, None);
    while let Some(option) = words.words.next() {
        match option.text.to_ascii_lowercase().as_str() {
            "-compatible" => drop(words.value(option)?),
            "-title" => chip.title = Cow::Owned(words.value(option)?.text.to_owned()),
            "-payload" => {
                chip.report_payload = words.number16(option)?;
                if !(1..=1024).contains(&chip.report_payload) {
                    let problem = Problem::Size("-payload", chip.report_payload.into());
                    return Err(words.error(option.column, problem));
                }
            }
            "-route" => {
                let routes = [("control", ReportRoute::Control), ("ep1", ReportRoute::Endpoint1)];
                chip.route = words.choice(option, "control and ep1", &routes)?;
            }
            "-free" => chip.free_address = Some(words.number32(option)?),
            "-skipdcd" => chip.skip_dcd = words.choice(option, "yes and no", &[("yes", true), ("no", false)])?,
            "-stream" => {
                let extents = [("whole", StreamExtent::WholeFile), ("container", StreamExtent::LoaderContainer)];
                chip.stream = words.choice(option, "whole and container", &extents)?;
            }
            "-format" => {
                let formats =
                    [("ivt", ImageFormat::Ivt), ("container", ImageFormat::Container), ("loader", ImageFormat::Loader)];
                chip.format = words.choice(option, "ivt, container and loader", &formats)?;
            }
            "-useroffset" => {
                let user = words.number32(option)?;
                chip.loader_offset = Some(LoaderOffset { user, boot: chip.loader_offset.and_then(|at| at.boot) });
            }
            "-bootoffset" => {
                let boot = Some(words.number32(option)?);
                let Some(offset) = chip.loader_offset else {
                    return Err(words.error(option.column, Problem::Missing("-useroffset (before -bootoffset)")));
                };
                chip.loader_offset = Some(LoaderOffset { boot, ..offset });
            }
            "-next" => {
                let word = words.value(option)?;
                let next: Option<Vec<_>> = word.text.split(',').map(Protocol::from_name).collect();
                let Some(next) = next else {
                    return Err(words.error(word.column, Problem::Protocol(quote(word.text))));
                };
                chip.next = Cow::Owned(next);
            }
            "-loadaddr" => load = Some((option.column, words.number(option, u64::MAX)?)),
            "-buffer" => buffer = Some((option.column, words.number(option, u64::MAX)?)),
            "-buffersize" => buffer_bytes = Some((option.column, words.number(option, u64::MAX)?)),
            "-emmc" => emmc = Some(words.number32(option)?),
            "-sd" => sd = Some(words.number32(option)?),
            _ => return Err(words.error(option.column, Problem::Unknown(quote(option.text)))),
        }
    }
    match (emmc, sd) {
        (None, None) => {}
        (Some(emmc), Some(sd)) => chip.cards = Some(Cards { emmc, sd }),
        _ => return Err(words.missing("one of -emmc and -sd (both or none)")),
    }
    match (load, buffer, buffer_bytes) {
        (None, None, None) => {}
        (Some((_, load_address)), Some((column, fastboot_buffer)), Some((_, fastboot_buffer_bytes))) => {
            if fastboot_buffer < load_address || fastboot_buffer.checked_add(fastboot_buffer_bytes).is_none() {
                return Err(words.error(column, Problem::Size("-buffer", fastboot_buffer)));
            }
            chip.memory = Some(Memory { load_address, fastboot_buffer, fastboot_buffer_bytes });
        }
        _ => return Err(words.missing("one of -loadaddr, -buffer and -buffersize (all or none)")),
    }
    Ok(chip)
}
