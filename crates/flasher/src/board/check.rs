//! Asking a board what its card holds: `mmc read` into scratch memory, a sum over it, many pieces in one line.
//!
//! U-Boot answers a line with yes or no. A line that fails is asked again in halves until the bad pieces are known by
//! name, unless values come back from the board: then one line marks each piece.

use bmap::{ByteRange, Digest};

use super::BoardError;
use super::batch::Part;
use super::place::{Place, not_by_number};
use super::uboot::{Command, Line, Lines, PREFIX, SECTOR, Sectors, Uboot, join};

/// By what a board judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sum {
    /// CRC-32: finds what goes wrong by itself.
    Crc32,
    /// SHA-256.
    Sha256,
    /// None: what is read back is compared with what was sent, byte by byte, while that is still in the board's memory.
    Compare,
}

impl Sum {
    /// The name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Sha256 => "sha256",
            Self::Compare => "cmp.b",
        }
    }
}

/// What a part of the card should hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    /// Which piece this is about.
    pub(crate) index: usize,
    /// Where in the image.
    pub(crate) extent: ByteRange,
    pub(crate) crc32: u32,
    pub(crate) sha256: Digest,
}

/// The most pieces that one variable can mark: `getvar` answers with 59 characters at most.
const MARKS: usize = 56;

/// The most bytes that one line reads: a board that hangs over it is to be noticed.
const AT_ONCE: u64 = 256 << 20;

impl Claim {
    fn commands(&self, place: &Place, sum: Sum, scratch: u64) -> Result<Vec<Command>, BoardError> {
        let sectors = place.sectors(self.extent).ok_or_else(not_by_number)?;
        let len = self.extent.len();
        let read = Command::Read { to: scratch, sectors };
        Ok(match sum {
            Sum::Crc32 => vec![read, Command::Crc32 { at: scratch, len, crc32: self.crc32 }],
            Sum::Sha256 => vec![read, Command::Sha256 { at: scratch, len, digest: self.sha256 }],
            // Only zeros can be compared with nothing that was sent: with zeros made there, behind what is read.
            Sum::Compare => {
                let zeros = scratch.saturating_add(sectors.count.saturating_mul(SECTOR));
                let make = Command::Zeros { at: zeros, len };
                vec![read, make, Command::Compare { one: scratch, other: zeros, len }]
            }
        })
    }

    fn bytes(&self) -> u64 {
        Sectors::of(self.extent).count.saturating_mul(SECTOR)
    }
}

/// Which claims are false, by their place in `claims`. `done` is told the bytes judged so far, now and
/// then, and may call it off.
pub(crate) fn false_claims(
    uboot: &mut Uboot,
    place: &Place,
    claims: &[Claim],
    sum: Sum,
    done: &mut dyn FnMut(u64) -> Result<(), BoardError>,
) -> Result<Vec<usize>, BoardError> {
    let scratch = uboot.profile.scratch.as_ref().map_or(0, |scratch| scratch.start);
    let select = uboot.select(place.area);
    let limit = uboot.profile.line;
    let mut bad = Vec::new();
    let mut judged = 0;
    // As many as one line takes, one after the other.
    let mut from = 0;
    while from < claims.len() {
        let mut lines = Lines::new(limit, std::slice::from_ref(&select));
        let (mut to, mut bytes) = (from, 0_u64);
        while let Some(claim) = claims.get(to) {
            bytes = bytes.saturating_add(claim.bytes());
            if bytes > AT_ONCE && to > from {
                break;
            }
            let mut more = lines.clone();
            more.add(&claim.commands(place, sum, scratch)?, claim.bytes());
            if more.len() > 1 && to > from {
                break;
            }
            lines = more;
            to += 1;
        }
        let group = claims.get(from..to).unwrap_or_default();
        let all = lines.finish();
        let right = uboot.run_all(&all)?;
        if !right {
            halve(uboot, place, group, from, sum, &mut bad)?;
        }
        judged += group.iter().map(|claim| claim.extent.len()).sum::<u64>();
        done(judged)?;
        from = to;
    }
    Ok(bad)
}

/// Which parts of a download that was just written do not read back as they were sent, by their place among `parts`.
/// Raw parts only: of others the board holds another form.
pub(crate) fn differing(uboot: &mut Uboot, place: &Place, parts: &[Part]) -> Result<Vec<usize>, BoardError> {
    let scratch = uboot.profile.scratch.as_ref().map_or(0, |scratch| scratch.start);
    let buffer = uboot.profile.buffer.unwrap_or(0);
    let mut bad = Vec::new();
    // As much at a time as there is room for.
    let most = (uboot.profile.scratch_bytes() / SECTOR * SECTOR).max(SECTOR);
    for (at, part) in parts.iter().enumerate() {
        let mut done = 0;
        while done < part.item.extent.len() {
            let len = most.min(part.item.extent.len() - done);
            let extent = ByteRange::at(part.item.extent.start().saturating_add(done), len);
            let sectors = place.sectors(extent.unwrap_or(part.item.extent)).ok_or_else(not_by_number)?;
            let other = buffer.saturating_add(part.at).saturating_add(done);
            let commands = [
                uboot.select(place.area),
                Command::Read { to: scratch, sectors },
                Command::Compare { one: scratch, other, len },
            ];
            if !uboot.command(&commands, len)? {
                bad.push(at);
                break;
            }
            done += len;
        }
    }
    Ok(bad)
}

/// Finds the false ones in a group of which one is false.
fn halve(
    uboot: &mut Uboot,
    place: &Place,
    group: &[Claim],
    from: usize,
    sum: Sum,
    bad: &mut Vec<usize>,
) -> Result<(), BoardError> {
    if group.len() <= 1 {
        bad.extend((!group.is_empty()).then_some(from));
        return Ok(());
    }
    let scratch = uboot.profile.scratch.as_ref().map_or(0, |scratch| scratch.start);
    let middle = group.len() / 2;
    for (at, half) in [(0, group.get(..middle)), (middle, group.get(middle..))] {
        let half = half.unwrap_or_default();
        let mut lines = Lines::new(uboot.profile.line, &[uboot.select(place.area)]);
        for claim in half {
            lines.add(&claim.commands(place, sum, scratch)?, claim.bytes());
        }
        if !uboot.run_all(&lines.finish())? {
            halve(uboot, place, half, from + at, sum, bad)?;
        }
    }
    Ok(())
}

/// Which claims are true, each by itself: for comparing, where many may be false. Falls back to [`false_claims`] where
/// no values come back from the board.
pub(crate) fn true_claims(
    uboot: &mut Uboot,
    place: &Place,
    claims: &[Claim],
    sum: Sum,
) -> Result<Vec<bool>, BoardError> {
    let mut marks = vec![true; claims.len()];
    if !uboot.profile.values || uboot.profile.line < 1024 {
        for at in false_claims(uboot, place, claims, sum, &mut |_| Ok(()))? {
            marks.iter_mut().skip(at).take(1).for_each(|mark| *mark = false);
        }
        return Ok(marks);
    }
    let scratch = uboot.profile.scratch.as_ref().map_or(0, |scratch| scratch.start);
    // Without its card nothing is marked, so that nothing is taken for right.
    let begin = format!("setenv m; if {}; then ", uboot.select(place.area));
    let limit = uboot.profile.line.saturating_sub(PREFIX + END.len());
    let mut at = 0;
    while at < claims.len() {
        let mut line = Line { text: begin.clone(), bytes: 0 };
        let mut count = 0;
        for claim in claims.get(at..).unwrap_or_default().iter().take(MARKS) {
            let claim_line = join(&claim.commands(place, sum, scratch)?);
            let part = format!("if {claim_line}; then setenv m ${{m}}1; else setenv m ${{m}}0; fi; ");
            if count > 0 && line.text.len() + part.len() > limit {
                break;
            }
            line.text.push_str(&part);
            line.bytes = line.bytes.saturating_add(claim.bytes());
            count += 1;
        }
        line.text.push_str(END);
        let ran = uboot.run(&line)?;
        let value = if ran { uboot.value("m")?.unwrap_or_default() } else { String::new() };
        for (n, mark) in marks.iter_mut().skip(at).take(count).enumerate() {
            // Whatever is not said to be right is wrong: it is written again, which does no harm.
            *mark = value.len() == count && value.as_bytes().get(n) == Some(&b'1');
        }
        at += count;
    }
    Ok(marks)
}

/// The marks become a value that `getvar` tells.
const END: &str = "fi; setenv fastboot.m ${m}";
