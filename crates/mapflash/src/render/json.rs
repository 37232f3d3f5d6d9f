//! One JSON object per line on standard output.
//!
//! Every object has `v`, the version of this schema, and `event`, which names the object. Version 1: keys may be added
//! to an object and objects may be added; nothing is taken away, renamed or given another meaning. Sizes and offsets
//! are in bytes, times in seconds.

use std::io;
use std::time::{Duration, Instant};

use bmap::ByteRange;
use flasher::event::Event;
use serde::Serialize;

use super::notes;
use super::state::{Ended, State};
use crate::error::AppError;
use crate::hints::hints;

/// The version of the schema.
const VERSION: u32 = 1;

/// A progress object at most this often.
const EVERY: Duration = Duration::from_millis(500);

/// Adds to the object of one board why it failed, in the keys of [`Object::Error`]; `error` is the sentence.
pub(crate) fn add_failure(board: &mut serde_json::Value, error: &AppError) {
    let cause = error.chain();
    board["error"] = error.sentence().into();
    if board["error"] != cause.as_str() {
        board["cause"] = cause.into();
    }
    board["kind"] = error.kind().into();
    board["status"] = error.status().code().into();
    board["target_changed"] = error.state.changed().into();
    board["state"] = error.state.name().into();
    board["hints"] = hints(error).into();
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Object<'a> {
    /// A job is about to begin: what was found out about it.
    Start(serde_json::Value),
    /// A stage began.
    Stage { stage: &'a str, total: Option<u64> },
    /// The stage went on.
    Progress { stage: &'a str, done: u64, total: Option<u64>, position: u64, rate: Option<u64>, eta: Option<f64> },
    /// The stage is over.
    StageDone { stage: &'a str, bytes: u64, seconds: f64 },
    /// A piece is written again.
    Retry { start: u64, end: u64, attempt: u32 },
    /// The engine noticed something.
    Note {
        /// A stable name.
        note: &'a str,
        #[serde(flatten)]
        facts: notes::Facts,
    },
    /// A board comes along on its way to fastboot.
    Booting {
        /// What it is given or has become, a stable name.
        step: &'a str,
        /// The same in words.
        what: &'a str,
        /// Bytes sent so far, while something is sent.
        sent: Option<u64>,
        /// Of how many.
        of: Option<u64>,
    },
    /// A board was lost and is waited for.
    Lost {
        /// In which way: `gone` or `silent`.
        loss: &'a str,
        /// What failed, in words.
        why: &'a str,
        /// Bytes of the image that it held by then.
        done: u64,
        /// Of how many.
        wanted: u64,
        /// For how many seconds it is waited for.
        within: f64,
    },
    /// A board that was lost came back at another port.
    Moved {
        /// Where it was.
        from: &'a str,
        /// Where it is.
        to: &'a str,
    },
    /// A line for people.
    Message { message: &'a str },
    /// A warning for people.
    Warning { message: &'a str },
    /// A board came or went, or was found.
    Board {
        /// `here` or `gone`.
        change: &'a str,
        board: serde_json::Value,
    },
    /// Something the doctor found out.
    Finding { level: &'a str, name: &'a str, message: &'a str, fix: Option<&'a str> },
    /// What `--dry-run` found out.
    Plan(serde_json::Value),
    /// The job is done; what it did.
    Result(serde_json::Value),
    /// The job failed.
    Error {
        /// What kind of failure, a stable name.
        kind: &'a str,
        /// The sentence people read.
        message: &'a str,
        /// The same with what is behind it, down to the protocol, where that is more.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'a str>,
        /// The exit status.
        status: u8,
        /// Whether any byte of the target was changed.
        target_changed: bool,
        /// What the target holds now, a stable name.
        target_state: &'a str,
        /// What might help.
        hints: &'a [String],
        #[serde(flatten)]
        ranges: Option<Ranges>,
    },
}

/// Where a target is not as it should be.
#[derive(Debug, Serialize)]
pub(crate) struct Ranges {
    /// First byte of each and the byte behind it; no more than [`RANGES`].
    ranges: Vec<[u64; 2]>,
    /// How many there are in all.
    ranges_total: usize,
}

/// How many ranges an error lists: as many as fit in one line that programs still like to read.
const RANGES: usize = 1000;

impl Ranges {
    /// The first of these.
    pub(crate) fn of(ranges: &[ByteRange]) -> Self {
        let listed = ranges.iter().take(RANGES).map(|range| [range.start(), range.end()]);
        Self { ranges: listed.collect(), ranges_total: ranges.len() }
    }
}

#[derive(Debug, Serialize)]
struct Versioned<'a> {
    v: u32,
    /// Which board it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    board: Option<&'a str>,
    #[serde(flatten)]
    object: &'a Object<'a>,
}

/// Prints objects.
#[derive(Debug)]
pub(super) struct Json {
    progress: bool,
    last: Option<Instant>,
    /// Whether nobody reads any more: a broken pipe ends the printing, not the job.
    closed: bool,
    /// The board that all objects are about.
    board: Option<String>,
}

impl Json {
    pub(super) fn new(progress: bool) -> Self {
        Self { progress, last: None, closed: false, board: None }
    }

    /// The same for one of several boards.
    pub(super) fn of_board(self, board: &str) -> Self {
        Self { board: Some(board.to_owned()), ..self }
    }

    /// Is progress told?
    pub(super) fn tells_progress(&self) -> bool {
        self.progress
    }

    pub(super) fn object(&mut self, object: &Object<'_>) {
        if !self.closed {
            self.closed = write_of(&mut io::stdout().lock(), self.board.as_deref(), object).is_err();
        }
    }

    pub(super) fn event(&mut self, now: Instant, state: &State, event: &Event, ended: Option<&Ended>) {
        self.ended(ended);
        match event {
            Event::Stage { stage, total } if self.progress => {
                self.last = Some(now);
                self.object(&Object::Stage { stage: stage.name(), total: *total });
            }
            Event::Progress { .. } if self.progress => {
                let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
                if let Some(running) = state.running().filter(|_| due) {
                    self.last = Some(now);
                    self.object(&Object::Progress {
                        stage: running.stage.name(),
                        done: running.done,
                        total: running.total,
                        position: running.position,
                        rate: running.rate(now),
                        eta: running.eta(now).map(|eta| eta.as_secs_f64()),
                    });
                }
            }
            Event::Retry { extent, attempt } => {
                self.object(&Object::Retry { start: extent.start(), end: extent.end(), attempt: *attempt });
            }
            Event::Booting { step, what, sent } if self.progress => {
                let (sent, of) = sent.unzip();
                self.object(&Object::Booting { step, what, sent, of });
            }
            Event::Lost { loss, why, done, wanted, within } => self.object(&Object::Lost {
                loss: loss.name(),
                why,
                done: *done,
                wanted: *wanted,
                within: within.as_secs_f64(),
            }),
            Event::Moved { from, to } => self.object(&Object::Moved { from, to }),
            Event::Note(note) => {
                self.object(&Object::Note { note: notes::name(note), facts: notes::facts(note) });
            }
            _ => {}
        }
    }

    pub(super) fn ended(&mut self, ended: Option<&Ended>) {
        if let Some(Ended { stage, bytes, time }) = ended.filter(|_| self.progress) {
            let seconds = time.as_secs_f64();
            self.object(&Object::StageDone { stage: stage.name(), bytes: *bytes, seconds });
        }
    }
}

/// Writes one object as a line.
pub(super) fn write(out: &mut impl io::Write, object: &Object<'_>) -> io::Result<()> {
    write_of(out, None, object)
}

fn write_of(out: &mut impl io::Write, board: Option<&str>, object: &Object<'_>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Versioned { v: VERSION, board, object }).map_err(io::Error::other)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(object: &Object<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, object).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_object_is_one_versioned_line() {
        let stage = Object::Stage { stage: "write", total: Some(7) };
        assert_eq!(line(&stage), "{\"v\":1,\"event\":\"stage\",\"stage\":\"write\",\"total\":7}\n");
        let result = Object::Result(serde_json::json!({"status": 0}));
        assert_eq!(line(&result), "{\"v\":1,\"event\":\"result\",\"status\":0}\n");
        let error = |ranges| Object::Error {
            kind: "differs",
            message: "m",
            cause: None,
            status: 6,
            target_changed: false,
            target_state: "unchanged",
            hints: &[],
            ranges,
        };
        assert!(!line(&error(None)).contains("ranges"));
        let many = vec![ByteRange::first(5); RANGES + 1];
        let parsed: serde_json::Value = serde_json::from_str(&line(&error(Some(Ranges::of(&many))))).unwrap();
        assert_eq!(parsed["ranges"].as_array().unwrap().len(), RANGES);
        assert_eq!((&parsed["ranges"][0], &parsed["ranges_total"]), (&serde_json::json!([0, 5]), &(RANGES + 1).into()));
        let message = Object::Message { message: "two\nlines" };
        assert_eq!(line(&message).lines().count(), 1);
    }
}
