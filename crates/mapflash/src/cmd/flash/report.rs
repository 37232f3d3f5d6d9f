//! What became of each board.

use std::time::Duration;

use bmap::{BlockMap, ByteRange};
use flasher::board::{BoardResult, Boards, Then};
use flasher::plan::{HolePolicy, Plan};
use serde_json::{Value, json};

use crate::error::AppError;
use crate::exit::Status;
use crate::job::Flash;
use crate::render::Display;
use crate::render::json::{self, Object};
use crate::render::text::{count, printable, rate, size, span};
use crate::signals::Watch;

/// What the map leaves out, and what became of it on every board: bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gaps {
    /// Behind the head.
    holes: u64,
    /// In front of the first partition.
    gap: u64,
    /// Of the image, but not written, as was asked.
    kept: u64,
}

impl Gaps {
    /// Those of a map under a plan.
    pub(super) fn of(map: Option<&BlockMap>, plan: &Plan) -> Self {
        let head = ByteRange::first(plan.head());
        let kept = plan.pieces().filter(|piece| piece.kept).map(|piece| piece.extent.len()).sum();
        map.into_iter().flat_map(BlockMap::holes).fold(Self { kept, ..Self::default() }, |sum, hole| {
            let gap = hole.intersect(head).map_or(0, ByteRange::len);
            Self { holes: sum.holes + hole.len() - gap, gap: sum.gap + gap, ..sum }
        })
    }

    fn lines(self, job: &Flash) -> Vec<String> {
        let mut lines = Vec::new();
        if self.holes > 0 && !job.options.erase_holes {
            lines.push(match job.wishes.holes {
                HolePolicy::Zero => format!("{} that the map leaves out were set to zero", size(self.holes)),
                _ => format!(
                    "{} that the map leaves out hold what was there before; --holes zero clears them",
                    size(self.holes)
                ),
            });
        }
        if self.gap > 0 {
            lines.push(match job.wishes.clear_gap {
                true => format!("the gap in front of the first partition ({}) was set to zero", size(self.gap)),
                false => format!(
                    "the gap in front of the first partition ({}) was left alone; --clear-env clears it",
                    size(self.gap)
                ),
            });
        }
        if self.kept > 0 {
            lines.push(format!("{} of the image were not written: --keep keeps what was there", size(self.kept)));
        }
        lines
    }
}

/// Says how each board ended; of several that failed the worst counts.
pub(super) fn tell(
    job: &Flash,
    boards: &Boards<'_>,
    results: Vec<BoardResult>,
    gaps: Gaps,
    time: Duration,
    watch: &Watch,
    display: &Display,
) -> Result<(), AppError> {
    let all = results.len();
    let names: Vec<String> = (0..all).map(|board| boards.name(board)).collect();
    let mut objects: Vec<Value> = names.iter().zip(&results).map(|(name, result)| as_json(name, result)).collect();
    for (board, object) in objects.iter_mut().enumerate() {
        object["chip"] = boards.identity(board).and_then(|identity| identity.chip).into();
    }
    let several = all > 1;
    let mut failed = Vec::new();
    let (mut good, mut page) = (Vec::new(), Vec::new());
    for ((name, result), object) in names.iter().zip(results).zip(&mut objects) {
        if result.error.is_none() {
            page.extend(lines(name, &result, several));
        } else if !several {
            page.extend(trouble(&result));
        }
        match result.error {
            None => good.push(name.as_str()),
            Some(error) => {
                let error = AppError::of_board(name, error, result.state, watch.caught());
                json::add_failure(object, &error);
                failed.push((name, error));
            }
        }
    }
    if !good.is_empty() {
        page.extend(gaps.lines(job));
        page.push(then_words(job.options.then, several).to_owned());
    }
    if several {
        page.push(format!("{} of {} hold the image, after {}", good.len(), count(all, "board"), span(time)));
        if !failed.is_empty() {
            let bad: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
            let good = if good.is_empty() { "none".to_owned() } else { good.join(", ") };
            page.push(format!("good: {good}; FAILED: {}", bad.join(", ")));
        }
    }
    let failed: Vec<AppError> = failed.into_iter().map(|(_, error)| error).collect();
    let ended = if failed.is_empty() { Ok(()) } else { Err(AppError::of_boards(failed, all)) };
    let status = ended.as_ref().err().map_or(Status::Done, AppError::status);
    display.ends(status);
    page.iter().for_each(|line| say(display, line));
    display.object(&Object::Result(json!({
        "command": "flash",
        "status": status.code(),
        "boards": objects,
        "holes": gaps.holes,
        "holes_zeroed": job.wishes.holes == HolePolicy::Zero,
        "gap": gaps.gap,
        "kept": gaps.kept,
        "gap_cleared": job.wishes.clear_gap,
        "seconds": time.as_secs_f64(),
    })));
    ended
}

/// A line for people; the result is an object for programs.
fn say(display: &Display, line: &str) {
    if !display.is_json() {
        display.say(line);
    }
}

/// What is said of a board that holds the image; of one of `several` the main thing in one line.
fn lines(name: &str, result: &BoardResult, several: bool) -> Vec<String> {
    let mut who = name.to_owned();
    if let Some(chip) = &result.chip {
        who.push_str(&format!(" ({}", printable(chip)));
        if let Some(serial) = &result.serial {
            who.push_str(&format!(", {}", printable(serial)));
        }
        who.push(')');
    }
    let sums = &result.sums;
    let mut line = match result.proof {
        Some(sum) => format!("{who}: proven by {} in {}", label(sum.name()), span(result.time)),
        None => format!("{who}: written in {}, not proven", span(result.time)),
    };
    line.push_str(&format!(", {} of {} written", size(sums.written), size(sums.wanted)));
    let mut lines = vec![line];
    if sums.sent > 0 && !several {
        lines.push(sent(result));
    }
    if sums.skipped > 0 {
        let by = result.compared.map_or(String::new(), |sum| format!(" by {}", label(sum.name())));
        lines.push(format!("  {} were right already{by}", size(sums.skipped)));
    }
    lines.extend(trouble(result));
    if let Some(erased) = &result.erased {
        let sampled = match erased.zeros {
            Some(true) => "sampled: zeros",
            Some(false) => "sampled: not zeros, the card erases to something else",
            None => "not sampled",
        };
        lines.push(format!(
            "  {} of holes were erased ({sampled}), {} left alone",
            size(erased.bytes),
            size(erased.left)
        ));
    }
    if let Some(loader) = &result.loader {
        lines.push(format!(
            "  a loader of {} is in {} from byte {}, and the board boots from there",
            size(loader.bytes),
            loader.area.name(),
            loader.offset
        ));
        if !loader.ack_kept {
            lines.push(
                "  whether its boot switch had the ack bit cannot be read there: it is now as 'emmc_ack' says, or off"
                    .to_owned(),
            );
        }
    }
    lines
}

/// What went over the bus, and where the time went.
fn sent(result: &BoardResult) -> String {
    let (sums, spent) = (&result.sums, &result.spent);
    let mut line = format!("  sent {}", size(sums.sent));
    if let Some(rate) = rate(sums.sent, spent.bus) {
        line.push_str(&format!(" at {}/s", size(rate)));
    }
    if sums.packed > 0 {
        line.push_str(&format!(", {} of the image packed", size(sums.packed)));
    }
    let parts = [
        ("booting", spent.boot),
        ("bus", spent.bus),
        ("writing", spent.card),
        ("proof", spent.proof),
        ("waiting for the image", spent.source),
        ("waiting for a turn", spent.turn),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(_, time)| *time >= Duration::from_millis(100))
        .map(|(what, time)| format!("{what} {}", span(*time)))
        .collect();
    if !told.is_empty() {
        line.push_str(&format!("; {}", told.join(", ")));
    }
    line
}

/// What did not go at once.
fn trouble(result: &BoardResult) -> Vec<String> {
    let counted = |number: u64, what| count(usize::try_from(number).unwrap_or(usize::MAX), what);
    let mut lines = Vec::new();
    if result.sums.resent > 0 {
        lines.push(format!("  {} had to be sent again", counted(result.sums.resent, "piece")));
    }
    if result.sums.returns > 0 {
        lines.push(format!(
            "  it was lost and came back {}; {} of what it had been sent were still right",
            counted(result.sums.returns.into(), "time"),
            size(result.sums.survived)
        ));
    }
    lines
}

fn then_words(then: Then, several: bool) -> &'static str {
    match (then, several) {
        (Then::Stay, false) => "it stays in fastboot; --then reset starts what was written",
        (Then::Stay, true) => "they stay in fastboot; --then reset starts what was written",
        (Then::Reset, false) => "it was reset",
        (Then::Reset, true) => "they were reset",
        (Then::Continue, false) => "it goes on booting",
        (Then::Continue, true) => "they go on booting",
    }
}

fn label(sum: &str) -> &'static str {
    match sum {
        "sha256" => "SHA-256",
        "cmp.b" => "comparing with what was sent",
        _ => "CRC-32",
    }
}

fn as_json(name: &str, result: &BoardResult) -> Value {
    let (sums, spent) = (&result.sums, &result.spent);
    json!({
        "board": name,
        "chip": null,
        "title": result.chip,
        "serial": result.serial,
        "error": null,
        "status": 0,
        "state": result.state.name(),
        "proof": result.proof.map(|sum| sum.name()),
        "compared": result.compared.map(|sum| sum.name()),
        "wanted": sums.wanted,
        "written": sums.written,
        "skipped": sums.skipped,
        "survived": sums.survived,
        "sent": sums.sent,
        "packed": sums.packed,
        "filled": sums.filled,
        "proven": sums.proven,
        "resent": sums.resent,
        "returns": sums.returns,
        "erased": result.erased.map(|erased| json!({
            "bytes": erased.bytes, "left": erased.left, "zeros": erased.zeros,
        })),
        "loader": result.loader.map(|loader| json!({
            "part": loader.area.name(), "offset": loader.offset, "bytes": loader.bytes, "switch_before": loader.before,
            "ack_kept": loader.ack_kept,
        })),
        "seconds": result.time.as_secs_f64(),
        "spent": {
            "boot": spent.boot.as_secs_f64(),
            "source": spent.source.as_secs_f64(),
            "turn": spent.turn.as_secs_f64(),
            "bus": spent.bus.as_secs_f64(),
            "card": spent.card.as_secs_f64(),
            "proof": spent.proof.as_secs_f64(),
        },
    })
}
