//! What goes wrong, and when: faults that a test or a script lays out beforehand.
//!
//! As text, one fault a line, or several parted by `;`:
//!
//! ```text
//! uboot at 1048576 unplug back 500      at that byte from the host; back after 500 ms (or "never", "back 500 on 1-3")
//! uboot cmd 2 flash:all fail no room    the second such command (any that begins so) is answered FAIL "no room"
//! uboot cmd 1 download size 4096        … announces another size;  `short 2`: answer cut to two bytes
//! uboot cmd 1 flash hang                … is never answered;  `stall`: the next transfer stalls
//! rom enter power back 100              power lost on entering a stage, and so on
//! uboot enter serial fedcba9876543210   comes with another serial number
//! uboot enter cut 65536 back 100        power is lost after so many bytes have been written to the eMMC
//! uboot enter bad user 100 200 write    blocks 100 to 199 cannot be written (or "read", or writes are "lost")
//! uboot cmd 1 flash:all flip boot0 64 4 bit 2 of stored byte 64 turns over now; the command is carried out
//! uboot enter weak user 64 4 1          … comes out wrong the next time it is written
//! uboot enter slowerase 20              every erase group takes 20 ms
//! uboot cmd 1 flash slow 5000           the command is carried out, and takes 5000 ms longer
//! uboot cmd 1 flash late 2              the card takes too long over two writes: they fail, but are done
//! ```
//!
//! The eMMC's areas are user, boot0 and boot1. Numbers are decimal.

use std::str::FromStr;
use std::time::Duration;

use crate::board::Stage;
use crate::emmc::{Area, Defect};

/// The most faults in a script.
const MAX_FAULTS: usize = 1000;

/// Where a board that left comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// Not at all.
    Never,
    /// Where it was, after so long.
    After(Duration),
    /// At another port, after so long.
    Elsewhere(String, Duration),
}

/// When.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// When the host has sent so many bytes in this stage; what comes after them in a transfer is not seen.
    Byte(u64),
    /// At the nth command, from 1, that begins so (fastboot only).
    Command(u32, String),
    /// When the stage is entered.
    Enter,
}

/// What.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The cable is pulled; the board keeps its power and stays in its stage.
    Unplug(Back),
    /// Power is lost: all but the cards begins anew.
    PowerCut(Back),
    /// Power is lost once so many more bytes are on the eMMC.
    CutAfterWriting(u64, Back),
    /// The next transfer is answered with a stall.
    Stall,
    /// The board stays on the bus and does nothing any more.
    Hang,
    /// This command is not carried out but answered FAIL.
    Fail(String),
    /// The next answer is cut to so many bytes.
    Short(usize),
    /// The next download announces this size.
    DataSize(u32),
    /// The serial number is another one from now on.
    Serial(String),
    /// Blocks of the eMMC go bad: area, first block, the block behind the last, and how.
    Bad(Area, u64, u64, Defect),
    /// Bits of a byte stored in the eMMC turn over: area, byte, which bits.
    Flip(Area, u64, u8),
    /// The same, each of the next so many times the byte is written.
    Weak(Area, u64, u8, u32),
    /// Erasing takes so long for each group.
    SlowErase(Duration),
    /// The board is busy for so much longer.
    Slow(Duration),
    /// So many writes to the eMMC are stored, but after U-Boot has given up waiting for the card.
    Late(u32),
}

/// One fault. It happens once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which stage.
    pub stage: Stage,
    /// When in it.
    pub when: When,
    /// What happens.
    pub what: What,
}

/// A script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault {number}, {text:?}: {problem}")]
pub struct ScriptError {
    /// Which fault, from 1.
    pub number: usize,
    /// How it reads.
    pub text: String,
    /// What is wrong.
    pub problem: &'static str,
}

/// Reads a script. Empty lines and what follows `#` are passed over.
pub fn script(text: &str) -> Result<Vec<Fault>, ScriptError> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let texts = lines.flat_map(|line| line.split(';')).map(str::trim).filter(|text| !text.is_empty());
    let mut faults = Vec::new();
    for (number, text) in (1..).zip(texts) {
        let problem = |problem| ScriptError { number, text: text.to_owned(), problem };
        if number > MAX_FAULTS {
            return Err(problem("too many faults"));
        }
        faults.push(text.parse().map_err(problem)?);
    }
    Ok(faults)
}

fn word<'t>(text: &mut &'t str) -> Option<&'t str> {
    let trimmed = text.trim_start();
    let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
    let (word, rest) = trimmed.split_at(end);
    *text = rest;
    (!word.is_empty()).then_some(word)
}

fn number<T: FromStr>(text: &mut &str) -> Result<T, &'static str> {
    word(text).and_then(|word| word.parse().ok()).ok_or("a number is missing")
}

fn area(text: &mut &str) -> Result<Area, &'static str> {
    match word(text) {
        Some("user") => Ok(Area::User),
        Some("boot0") => Ok(Area::Boot0),
        Some("boot1") => Ok(Area::Boot1),
        _ => Err("the area is user, boot0 or boot1"),
    }
}

fn back(text: &mut &str) -> Result<Back, &'static str> {
    match word(text) {
        Some("never") => Ok(Back::Never),
        Some("back") => {
            let after = Duration::from_millis(number(text)?);
            match word(text) {
                None => Ok(Back::After(after)),
                Some("on") => Ok(Back::Elsewhere(word(text).ok_or("no port after \"on\"")?.to_owned(), after)),
                Some(_) => Err("after a time comes \"on\" and a port, or nothing"),
            }
        }
        _ => Err("\"never\" or \"back\" and milliseconds are missing"),
    }
}

impl FromStr for Fault {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut text = text;
        let stage = match word(&mut text) {
            Some("rom") => Stage::Rom,
            Some("loader") => Stage::Loader,
            Some("uboot") => Stage::UBoot,
            Some("fbk") => Stage::Fbk,
            _ => return Err("it begins with rom, loader, uboot or fbk"),
        };
        let when = match word(&mut text) {
            Some("at") => When::Byte(number(&mut text)?),
            Some("cmd") => When::Command(number(&mut text)?, word(&mut text).ok_or("a command is missing")?.to_owned()),
            Some("enter") => When::Enter,
            _ => return Err("after the stage comes at, cmd or enter"),
        };
        let what = match word(&mut text) {
            Some("unplug") => What::Unplug(back(&mut text)?),
            Some("power") => What::PowerCut(back(&mut text)?),
            Some("cut") => What::CutAfterWriting(number(&mut text)?, back(&mut text)?),
            Some("stall") => What::Stall,
            Some("hang") => What::Hang,
            Some("fail") => What::Fail(std::mem::take(&mut text).trim().to_owned()),
            Some("short") => What::Short(number(&mut text)?),
            Some("size") => What::DataSize(number(&mut text)?),
            Some("serial") => What::Serial(word(&mut text).ok_or("a serial number is missing")?.to_owned()),
            Some("bad") => {
                let (area, first, end) = (area(&mut text)?, number(&mut text)?, number(&mut text)?);
                let defect = match word(&mut text) {
                    Some("write") => Defect::Write,
                    Some("read") => Defect::Read,
                    Some("lost") => Defect::Lost,
                    _ => return Err("blocks are bad for write or read, or writes are lost"),
                };
                What::Bad(area, first, end, defect)
            }
            Some("flip") => What::Flip(area(&mut text)?, number(&mut text)?, number(&mut text)?),
            Some("weak") => What::Weak(area(&mut text)?, number(&mut text)?, number(&mut text)?, number(&mut text)?),
            Some("slow") => What::Slow(Duration::from_millis(number(&mut text)?)),
            Some("late") => What::Late(number(&mut text)?),
            Some("slowerase") => What::SlowErase(Duration::from_millis(number(&mut text)?)),
            _ => return Err("it says not what happens"),
        };
        if text.trim().is_empty() { Ok(Self { stage, when, what }) } else { Err("there is more than a fault") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read() {
        let faults = script(
            "uboot at 1048576 unplug back 500 on 1-3 # comment\n\nuboot cmd 2 flash:all fail no room; rom enter hang\nuboot enter cut 4096 never",
        );
        assert_eq!(
            faults.unwrap(),
            [
                Fault {
                    stage: Stage::UBoot,
                    when: When::Byte(1 << 20),
                    what: What::Unplug(Back::Elsewhere("1-3".to_owned(), Duration::from_millis(500))),
                },
                Fault {
                    stage: Stage::UBoot,
                    when: When::Command(2, "flash:all".to_owned()),
                    what: What::Fail("no room".to_owned()),
                },
                Fault { stage: Stage::Rom, when: When::Enter, what: What::Hang },
                Fault { stage: Stage::UBoot, when: When::Enter, what: What::CutAfterWriting(4096, Back::Never) },
            ]
        );
        for wrong in [
            "spl at 1 hang",
            "uboot at x hang",
            "uboot cmd 1",
            "rom enter unplug",
            "rom enter hang now",
            "rom",
            "uboot enter bad rpmb 1 2 write",
            "uboot enter flip user 1 256",
        ] {
            let error = script(&format!("rom enter stall;{wrong}")).unwrap_err();
            assert_eq!((error.number, error.text.as_str()), (2, wrong));
        }
    }
}
