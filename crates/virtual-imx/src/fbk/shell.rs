//! The few programs of an initramfs that flashing scripts run, and enough of a shell to join them.
//!
//! Programs: `true false exit echo cat dd sync sleep test [ rm mkdir sha256sum head kill reboot`. Joined by `;`, `&&`, `||` and
//! `|`; quotes; `>`, `>>` and `<`. Anything else is "not found" (127). There are no variables and no loops.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::machine::Halt;
use crate::store::wide;

use super::System;
use super::files::{self, MAX_BYTES, Place};

const NOT_FOUND: i32 = 127;
/// Most programs in a line.
const MAX_PROGRAMS: usize = 100;
/// The longest sleep.
const MAX_SLEEP: u64 = 24 * 3600;
const PIECE: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Always,
    And,
    Or,
    Pipe,
}

#[derive(Debug)]
struct Stage {
    join: Join,
    words: Vec<String>,
}

/// Cuts a line into programs; `None` if it is none.
fn parse(line: &str) -> Option<Vec<Stage>> {
    let mut stages = vec![Stage { join: Join::Always, words: Vec::new() }];
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let join = match c {
            '\'' | '"' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => text.push(chars.next()?),
                        other => text.push(other),
                    }
                }
                continue;
            }
            '\\' => {
                word.get_or_insert_default().push(chars.next()?);
                continue;
            }
            ';' | '\n' => Join::Always,
            '&' => (chars.next()? == '&').then_some(Join::And)?,
            '|' => match chars.next_if_eq(&'|') {
                Some(_) => Join::Or,
                None => Join::Pipe,
            },
            '>' | '<' => {
                let words = &mut stages.last_mut()?.words;
                words.extend(word.take());
                let twice = c == '>' && chars.next_if_eq(&'>').is_some();
                words.push(if twice { "\0>>".to_owned() } else { format!("\0{c}") });
                continue;
            }
            c if c.is_whitespace() => {
                stages.last_mut()?.words.extend(word.take());
                continue;
            }
            c => {
                word.get_or_insert_default().push(c);
                continue;
            }
        };
        stages.last_mut()?.words.extend(word.take());
        stages.push(Stage { join, words: Vec::new() });
        if stages.len() > MAX_PROGRAMS {
            return None;
        }
    }
    stages.last_mut()?.words.extend(word);
    Some(stages)
}

/// Runs a line with that input: its exit status as the daemon sees it, and what it said.
pub(super) fn run(system: &mut System, line: &str, input: &[u8]) -> Result<(i32, Vec<u8>), Halt> {
    let Some(stages) = parse(line) else { return Ok((2, Vec::new())) };
    let (mut status, mut said, mut ran) = (0, Vec::new(), true);
    let mut piped: Option<Vec<u8>> = None;
    for (n, stage) in stages.iter().enumerate() {
        if stage.words.is_empty() {
            continue;
        }
        let goes = match stage.join {
            Join::Always => true,
            Join::And => status == 0,
            Join::Or => status != 0,
            // What does not run has nothing to say to the next one either.
            Join::Pipe => ran,
        };
        ran = goes;
        if !goes {
            continue;
        }
        let words: Vec<&str> = stage.words.iter().map(String::as_str).collect();
        let from = if stage.join == Join::Pipe { piped.take().unwrap_or_default() } else { input.to_vec() };
        let ended = one(system, &words, &from)?;
        let into_pipe = stages.get(n + 1).is_some_and(|next| next.join == Join::Pipe);
        if into_pipe {
            piped = Some(ended.output);
        } else if said.len() + ended.output.len() <= MAX_BYTES {
            said.extend(ended.output);
        }
        status = ended.status;
        if ended.exits && !into_pipe {
            break;
        }
    }
    Ok((status, said))
}

struct Ended {
    status: i32,
    output: Vec<u8>,
    /// The whole line ends with it.
    exits: bool,
}

fn ended(status: i32) -> Ended {
    Ended { status, output: Vec::new(), exits: false }
}

/// Runs one program with its redirections.
fn one(system: &mut System, words: &[&str], input: &[u8]) -> Result<Ended, Halt> {
    let (mut arguments, mut to, mut from) = (Vec::new(), None, None);
    let mut rest = words.iter().copied();
    while let Some(word) = rest.next() {
        match word {
            "\0>" | "\0>>" => to = Some((word == "\0>>", rest.next().unwrap_or_default())),
            "\0<" => from = rest.next(),
            word => arguments.push(word),
        }
    }
    let read;
    let input = match from {
        None => input,
        Some(path) => match whole(system, path) {
            Some(bytes) => {
                read = bytes;
                &read[..]
            }
            None => return Ok(ended(1)),
        },
    };
    let place = match to {
        None => None,
        Some((append, path)) => {
            let place = system.files.writable(&system.cards, path).filter(|place| *place != Place::Directory);
            let Some(place) = place else { return Ok(ended(1)) };
            if !append {
                system.files.cut(&place);
            }
            Some((system.files.size(&place), place))
        }
    };
    let mut result = program(system, &arguments, input)?;
    if let Some((at, place)) = place {
        let output = std::mem::take(&mut result.output);
        if !files::write(system, &place, at, &output)? {
            result.status = 1;
        }
    }
    Ok(result)
}

/// All of a file or device.
fn whole(system: &mut System, path: &str) -> Option<Vec<u8>> {
    let place = system.files.readable(&system.cards, path)?;
    let mut bytes = Vec::new();
    loop {
        let piece = files::read(system, &place, wide(bytes.len()), PIECE)?;
        if piece.is_empty() {
            return Some(bytes);
        }
        if bytes.len() + piece.len() > MAX_BYTES {
            return None;
        }
        bytes.extend(piece);
    }
}

fn program(system: &mut System, words: &[&str], input: &[u8]) -> Result<Ended, Halt> {
    let Some((name, arguments)) = words.split_first() else { return Ok(ended(0)) };
    let output = |output: Option<Vec<u8>>| match output {
        Some(output) => Ended { output, ..ended(0) },
        None => ended(1),
    };
    Ok(match (*name, arguments) {
        ("true" | "sync" | ":", _) => ended(0),
        ("false", _) => ended(1),
        ("exit", arguments) => {
            let status = arguments.first().and_then(|status| status.parse().ok()).unwrap_or(0);
            Ended { exits: true, ..ended(status) }
        }
        // The daemon looks at the exit status of a program that has none.
        ("reboot", _) => {
            system.reboots = true;
            ended(0)
        }
        ("kill", [.., "$$"]) => Ended { exits: true, ..ended(0) },
        ("echo", ["-n", rest @ ..]) => output(Some(rest.join(" ").into_bytes())),
        ("echo", words) => output(Some(format!("{}\n", words.join(" ")).into_bytes())),
        ("cat", [] | ["-"]) => output(Some(input.to_vec())),
        ("cat", paths) => {
            let all: Option<Vec<_>> = paths.iter().map(|path| whole(system, path)).collect();
            output(all.map(|all| all.concat()))
        }
        ("head", ["-c", count]) => {
            let count = count.parse().unwrap_or(0).min(input.len());
            output(Some(input[..count].to_vec()))
        }
        ("sleep", [seconds]) => match seconds.parse::<u64>() {
            Ok(seconds) => {
                system.spend(Duration::from_secs(seconds.min(MAX_SLEEP)));
                ended(0)
            }
            Err(_) => ended(1),
        },
        ("[", [test @ .., "]"]) | ("test", test) => ended(i32::from(!holds(system, test))),
        ("rm", ["-f", paths @ ..]) => {
            for path in paths {
                system.files.remove(path);
            }
            ended(0)
        }
        ("rm", paths) => ended(i32::from(!paths.iter().all(|path| system.files.remove(path)))),
        ("mkdir", ["-p", path] | [path]) => ended(i32::from(!system.files.make_directory(path))),
        ("sha256sum", paths) => {
            let mut said = Vec::new();
            for path in if paths.is_empty() { &["-"] } else { paths } {
                let bytes = if *path == "-" { Some(input.to_vec()) } else { whole(system, path) };
                let Some(bytes) = bytes else { return Ok(ended(1)) };
                let digest = Sha256::digest(&bytes);
                said.extend(digest.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
                said.extend(format!("  {path}\n").into_bytes());
            }
            output(Some(said))
        }
        ("dd", operands) => return dd(system, operands, input),
        _ => ended(NOT_FOUND),
    })
}

fn holds(system: &System, test: &[&str]) -> bool {
    let there = |path: &str| system.files.readable(&system.cards, path);
    match test {
        ["!", rest @ ..] => !holds(system, rest),
        ["-e", path] => there(path).is_some(),
        ["-f", path] => matches!(there(path), Some(Place::File(_))),
        ["-d", path] => there(path) == Some(Place::Directory),
        ["-b", path] => matches!(there(path), Some(Place::Card(..))),
        ["-n", text] | [text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [a, "=", b] => a == b,
        [a, "!=", b] => a != b,
        _ => false,
    }
}

/// What `dd` was told.
struct Dd<'l> {
    from: Option<&'l str>,
    to: Option<&'l str>,
    block: u64,
    count: Option<u64>,
    skip: u64,
    seek: u64,
    cuts: bool,
}

fn size(text: &str) -> Option<u64> {
    let unit = |suffix, shift: u32| text.strip_suffix(suffix).map(|digits| (digits, shift));
    let (digits, shift) = unit('k', 10).or_else(|| unit('K', 10)).or_else(|| unit('M', 20)).unwrap_or((text, 0));
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl<'l> Dd<'l> {
    fn read(operands: &[&'l str]) -> Option<Self> {
        let mut dd = Self { from: None, to: None, block: 512, count: None, skip: 0, seek: 0, cuts: true };
        for operand in operands {
            match operand.split_once('=')? {
                ("if", path) => dd.from = Some(path),
                ("of", path) => dd.to = Some(path),
                ("bs" | "obs", bytes) => dd.block = size(bytes).filter(|block| *block > 0)?,
                ("count", blocks) => dd.count = Some(size(blocks)?),
                ("skip", blocks) => dd.skip = size(blocks)?,
                ("seek", blocks) => dd.seek = size(blocks)?,
                ("conv", flags) => dd.cuts = !flags.split(',').any(|flag| flag == "notrunc"),
                ("iflag" | "oflag" | "status", _) => {}
                _ => return None,
            }
        }
        Some(dd)
    }

    fn at(&self) -> u64 {
        self.seek.saturating_mul(self.block)
    }

    fn most(&self) -> u64 {
        self.count.map_or(u64::MAX, |count| count.saturating_mul(self.block))
    }

    fn target(&self, system: &mut System) -> Option<Place> {
        let place = system.files.writable(&system.cards, self.to?).filter(|place| *place != Place::Directory)?;
        if self.cuts && self.seek == 0 {
            system.files.cut(&place);
        }
        Some(place)
    }
}

fn dd(system: &mut System, operands: &[&str], input: &[u8]) -> Result<Ended, Halt> {
    let Some(dd) = Dd::read(operands) else { return Ok(ended(1)) };
    let target = match dd.to {
        Some(_) => match dd.target(system) {
            Some(place) => Some(place),
            None => return Ok(ended(1)),
        },
        None => None,
    };
    let source = match dd.from.map(|path| system.files.readable(&system.cards, path)) {
        Some(None | Some(Place::Directory)) => return Ok(ended(1)),
        Some(place) => place,
        None => None,
    };
    let skip = dd.skip.saturating_mul(dd.block);
    let (mut done, mut output) = (0u64, Vec::new());
    while done < dd.most() {
        let most = usize::try_from(dd.most() - done).unwrap_or(PIECE).min(PIECE);
        let from = skip.saturating_add(done);
        let piece = match &source {
            Some(place) => files::read(system, place, from, most),
            None => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(input.len());
                Some(input[from..input.len().min(from.saturating_add(most))].to_vec())
            }
        };
        let Some(piece) = piece else { return Ok(ended(1)) };
        if piece.is_empty() {
            break;
        }
        match &target {
            Some(place) => {
                if !files::write(system, place, dd.at().saturating_add(done), &piece)? {
                    return Ok(ended(1));
                }
            }
            None if output.len() + piece.len() > MAX_BYTES => return Ok(ended(1)),
            None => output.extend_from_slice(&piece),
        }
        done = done.saturating_add(wide(piece.len()));
        // Endless input to where nothing ends.
        if matches!((&source, &target), (Some(Place::Zero), None | Some(Place::Null | Place::Zero)))
            && dd.count.is_none()
        {
            return Ok(ended(1));
        }
    }
    Ok(Ended { output, ..ended(0) })
}

/// Where a line that only copies its input puts it: the place, from which byte on, and how many bytes at most.
pub(super) fn copying(system: &mut System, line: &str) -> Option<(Place, u64, u64)> {
    let stages = parse(line)?;
    let [stage] = &stages[..] else { return None };
    let words: Vec<&str> = stage.words.iter().map(String::as_str).collect();
    match &words[..] {
        ["dd", operands @ ..] => {
            let dd = Dd::read(operands).filter(|dd| dd.from.is_none() && dd.skip == 0)?;
            Some((dd.target(system)?, dd.at(), dd.most()))
        }
        ["cat", "\0>", path] => {
            let place = system.files.writable(&system.cards, path).filter(|place| *place != Place::Directory)?;
            system.files.cut(&place);
            Some((place, 0, u64::MAX))
        }
        _ => None,
    }
}

/// Has a line a program at its beginning that reads what it is given?
pub(super) fn reads_input(line: &str) -> bool {
    let Some(stages) = parse(line) else { return false };
    let first = stages.first().map(|stage| stage.words.iter().map(String::as_str).collect::<Vec<_>>());
    match first.as_deref() {
        Some(["cat"] | ["cat", "-"] | ["head", ..] | ["sha256sum"] | ["sha256sum", "-"]) => true,
        Some(["cat", "\0>" | "\0>>", _]) => true,
        Some(["dd", operands @ ..]) => Dd::read(operands).is_some_and(|dd| dd.from.is_none()) && stages.len() > 1,
        _ => false,
    }
}
