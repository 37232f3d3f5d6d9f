//! Several boards at once: one shows like any other job; of several each has a bar, or lines, or objects of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flasher::board::BoardObserver;
use flasher::event::{Event, Observer as _, Stage};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::json::Json;
use super::lines::Lines;
use super::lost;
use super::notes::{self, stage_name};
use super::retries::Retries;
use super::state::State;
use super::{Display, Style, columns, print_line, text};

/// Redraws a second, of all bars together.
const REDRAWS: u8 = 8;

/// What is shown of one board.
#[derive(Debug)]
struct Row {
    name: String,
    state: State,
    retries: Retries,
    lines: Lines,
    json: Json,
    bar: Option<ProgressBar>,
    /// What was last said of its way to fastboot, so that it is said once.
    booting: String,
}

/// See the module's description.
pub(crate) struct BoardsView<'d> {
    display: &'d Display,
    /// Whether each board is shown by itself; else there is one, which shows as the display's own job.
    several: bool,
    names: &'d (dyn Fn(usize) -> String + Sync),
    /// By number, as they are first heard of.
    rows: Mutex<BTreeMap<usize, Arc<Mutex<Row>>>>,
    bars: Option<MultiProgress>,
}

impl std::fmt::Debug for BoardsView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoardsView").field("several", &self.several).finish_non_exhaustive()
    }
}

impl<'d> BoardsView<'d> {
    /// A view of boards, `several` or one; `names` gives their names by number.
    pub(crate) fn new(display: &'d Display, several: bool, names: &'d (dyn Fn(usize) -> String + Sync)) -> Self {
        let drawn = several && matches!(display.style(), Style::Bar { .. });
        let bars = drawn.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS)));
        Self { display, several, names, rows: Mutex::default(), bars }
    }

    fn row(&self, board: usize) -> Arc<Mutex<Row>> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        // Bars stand in the boards' order, whoever is heard of first.
        let before = rows.range(..board).count();
        let row = rows.entry(board).or_insert_with(|| {
            let name = (self.names)(board);
            // Ticking begins where it is drawn: on its own it would leave a line behind.
            let bar = self.bars.as_ref().map(|bars| bars.insert(before, bar(&name)));
            bar.iter().for_each(|bar| bar.enable_steady_tick(Duration::from_millis(250)));
            let json = Json::new(self.display.tells_progress()).of_board(&name);
            let lines = Lines::of_board(self.several.then_some(&name));
            let (state, retries) = (State::default(), Retries::default());
            Arc::new(Mutex::new(Row { name, state, retries, lines, json, bar, booting: String::new() }))
        });
        Arc::clone(row)
    }

    /// Clears the bars. Call before results are printed.
    pub(crate) fn finish(&self) {
        let now = Instant::now();
        for row in self.rows.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let mut row = lock(row);
            if let Some(rest) = row.retries.end() {
                self.warn(&row.name, &rest);
            }
            let ended = row.state.end_stage(now);
            if let Some(bar) = &row.bar {
                bar.finish_and_clear();
            } else if self.display.is_json() {
                row.json.ended(ended.as_ref());
            } else if self.several && self.display.style() == Style::Lines {
                row.lines.ended(ended.as_ref());
            }
        }
        if !self.several && !self.display.is_json() {
            self.display.finish();
        }
    }

    fn say(&self, name: &str, line: &str) {
        let line = format!("{name}: {line}");
        match &self.bars {
            Some(bars) => above(bars, &line),
            None => self.display.say(&line),
        }
    }

    fn warn(&self, name: &str, line: &str) {
        match &self.bars {
            Some(bars) => above(bars, &format!("mapflash: warning: {name}: {line}")),
            None if self.display.is_json() => print_line(&format!("mapflash: warning: {name}: {line}")),
            None => self.display.warn(&format!("{name}: {line}")),
        }
    }

    /// Words about one event that are no progress.
    fn words(&self, row: &mut Row, event: &Event) {
        let name = row.name.clone();
        match event {
            Event::Booting { what, sent, .. } if sent.is_none() && row.booting != *what => {
                row.booting.clone_from(what);
                // A bar of its own says it itself.
                if !self.display.is_json() && self.bars.is_none() {
                    self.say(&name, what);
                }
            }
            Event::Lost { loss, done, wanted, within, .. } => {
                row.booting.clear();
                self.warn(&name, &lost::words(*loss, *done, *wanted, *within));
            }
            Event::Moved { to, .. } if !self.display.is_json() => self.say(&name, &format!("it came back at {to}")),
            Event::Retry { extent, attempt } => {
                for line in row.retries.piece(*extent, *attempt) {
                    self.warn(&name, &line);
                }
            }
            Event::Note(note) if !self.display.is_json() => match notes::describe(note) {
                notes::Line::Warning(line) => self.warn(&name, &line),
                notes::Line::Say(line) => self.say(&name, &line),
            },
            _ => {}
        }
    }
}

/// Prints a line above the bars.
fn above(bars: &MultiProgress, line: &str) {
    // One that cannot be printed is lost, as anywhere.
    drop(bars.println(columns().map_or_else(|| line.to_owned(), |columns| text::wrapped(line, columns))));
}

fn lock(row: &Mutex<Row>) -> MutexGuard<'_, Row> {
    row.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10} [{bar:20}] {wide_msg}");
    // Drawn only once it is one of several.
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::hidden());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("#>-"));
    bar.set_prefix(name.to_owned());
    bar
}

impl BoardObserver for BoardsView<'_> {
    fn event(&self, board: usize, event: &Event) {
        let now = Instant::now();
        let row = self.row(board);
        let mut row = lock(&row);
        self.words(&mut row, event);
        let Row { state, lines, json, bar, booting, .. } = &mut *row;
        if self.display.is_json() {
            let ended = state.fold(now, event);
            json.event(now, state, event, ended.as_ref());
        } else if let Some(bar) = bar {
            state.fold(now, event);
            let Some(running) = state.running() else {
                bar.finish_with_message("done");
                return;
            };
            bar.set_position(running.permille().unwrap_or(0));
            let stage = stage_name(running.stage);
            let room = columns().map_or(usize::MAX, |columns| columns.saturating_sub(37 + stage.len()));
            let words = if running.stage == Stage::Boot { booting.clone() } else { running.line_within(now, room) };
            bar.set_message(if words.is_empty() { stage.to_owned() } else { format!("{stage}: {words}") });
        } else if !self.several {
            // A single board's progress is the display's own.
            if matches!(event, Event::Stage { .. } | Event::Progress { .. }) {
                self.display.event(event);
            }
        } else if self.display.style() == Style::Lines {
            let ended = state.fold(now, event);
            lines.event(now, state, ended.as_ref());
        }
    }
}
