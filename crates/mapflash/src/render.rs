//! What people and programs see of a running job.
//!
//! [`Display`] takes the engine's events, folds them into one [`state::State`] and hands both to one of four
//! renderers: a bar on a terminal, a line now and then elsewhere, JSON objects, or nothing. It also prints warnings, so
//! that a line never lands in the middle of a bar. Results go to standard output; all that people read while waiting
//! goes to standard error.

mod bar;
pub(crate) mod boards;
pub(crate) mod json;
mod lines;
mod lost;
mod notes;
mod retries;
pub(crate) mod state;
pub(crate) mod text;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use flasher::event::{Event, Observer};

use crate::ending::Ending;
use crate::exit::Status;

use bar::Bar;
use json::Json;
use lines::Lines;
use retries::Retries;
use state::State;

/// How a job is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A bar that is drawn over and over; `colour` when the terminal and the user want it.
    Bar {
        /// Whether to colour it.
        colour: bool,
    },
    /// A line now and then.
    Lines,
    /// JSON on standard output.
    Json,
    /// Warnings and errors only.
    Quiet,
}

impl Style {
    /// Chooses by what was typed and by what standard error is. `NO_COLOR` (no-color.org) takes colours away,
    /// `TERM=dumb` the bar as well.
    pub(crate) fn choose(json: bool, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match (json, quiet) {
            (true, _) => Self::Json,
            (false, true) => Self::Quiet,
            (false, false) if io::stderr().is_terminal() && !dumb => Self::Bar { colour: !no_colour },
            (false, false) => Self::Lines,
        }
    }
}

#[derive(Debug)]
enum Renderer {
    Bar(Box<Bar>),
    Lines(Lines),
    Json(Json),
    Quiet,
}

#[derive(Debug)]
struct Inner {
    state: State,
    retries: Retries,
    renderer: Renderer,
}

/// The one place that prints.
#[derive(Debug)]
pub(crate) struct Display {
    style: Style,
    inner: Mutex<Inner>,
    ending: Arc<Ending>,
}

impl Display {
    /// Shows in `style`. With `progress` off, in JSON, only results and errors are printed.
    pub(crate) fn new(style: Style, progress: bool) -> Self {
        let renderer = match style {
            Style::Bar { colour } => Renderer::Bar(Box::new(Bar::new(colour))),
            Style::Lines => Renderer::Lines(Lines::default()),
            Style::Json => Renderer::Json(Json::new(progress)),
            Style::Quiet => Renderer::Quiet,
        };
        let inner = Inner { state: State::default(), retries: Retries::default(), renderer };
        Self { style, inner: Mutex::new(inner), ending: Arc::default() }
    }

    /// Who tells how it ended.
    pub(crate) fn ending(&self) -> Arc<Ending> {
        self.ending.clone()
    }

    /// Call before the result is told, with the status that the process will end with: from then on no signal says
    /// otherwise. Does not return when one has.
    pub(crate) fn ends(&self, status: Status) {
        self.ending.by_job(status);
    }

    /// How it shows.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Whether progress is told in JSON.
    fn tells_progress(&self) -> bool {
        matches!(&self.lock().renderer, Renderer::Json(json) if json.tells_progress())
    }

    /// Whether results are JSON objects.
    pub(crate) fn is_json(&self) -> bool {
        self.style == Style::Json
    }

    /// A line for people that is no warning; not shown when quiet. In JSON, a `message` object.
    pub(crate) fn say(&self, line: &str) {
        let mut inner = self.lock();
        match &mut inner.renderer {
            Renderer::Bar(bar) => bar.suspended(|| print_line(line)),
            Renderer::Lines(_) => print_line(line),
            Renderer::Json(json) => json.object(&json::Object::Message { message: line }),
            Renderer::Quiet => {}
        }
    }

    /// A warning: shown in every style.
    pub(crate) fn warn(&self, line: &str) {
        let mut inner = self.lock();
        let warning = format!("mapflash: warning: {line}");
        match &mut inner.renderer {
            Renderer::Bar(bar) => bar.suspended(|| print_line(&warning)),
            Renderer::Lines(_) | Renderer::Quiet => print_line(&warning),
            Renderer::Json(json) => {
                json.object(&json::Object::Warning { message: line });
                print_line(&warning);
            }
        }
    }

    /// A JSON object; nothing in the other styles.
    pub(crate) fn object(&self, object: &json::Object<'_>) {
        if let Renderer::Json(json) = &mut self.lock().renderer {
            json.object(object);
        }
    }

    /// Ends the bar and, in the other styles, the last stage. Call before the result is printed.
    pub(crate) fn finish(&self) {
        let now = Instant::now();
        self.end_retries();
        let mut inner = self.lock();
        let Inner { state, renderer, .. } = &mut *inner;
        let ended = state.end_stage(now);
        match renderer {
            Renderer::Bar(bar) => bar.clear(),
            Renderer::Lines(lines) => lines.ended(ended.as_ref()),
            Renderer::Json(json) => json.ended(ended.as_ref()),
            Renderer::Quiet => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while printing must not silence everything that follows.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Display {
    fn event(&self, event: &Event) {
        let now = Instant::now();
        if !matches!(event, Event::Retry { .. }) {
            self.end_retries();
        }
        {
            let mut inner = self.lock();
            let Inner { state, renderer, .. } = &mut *inner;
            let ended = state.fold(now, event);
            match renderer {
                Renderer::Bar(bar) => bar.event(now, state),
                Renderer::Lines(lines) => lines.event(now, state, ended.as_ref()),
                Renderer::Json(json) => json.event(now, state, event, ended.as_ref()),
                Renderer::Quiet => {}
            }
        }
        match event {
            Event::Note(note) => match notes::describe(note) {
                notes::Line::Warning(line) => self.warn_people(&line),
                notes::Line::Say(line) => self.say_people(&line),
            },
            Event::Retry { extent, attempt } => {
                let lines = self.lock().retries.piece(*extent, *attempt);
                lines.iter().for_each(|line| self.warn_people(line));
            }
            _ => {}
        }
    }
}

impl Display {
    /// Says how many pieces were written again without being named.
    fn end_retries(&self) {
        let rest = self.lock().retries.end();
        if let Some(line) = rest {
            self.warn_people(&line);
        }
    }

    /// Like [`Display::say`], for what JSON readers get as an object of its own.
    fn say_people(&self, line: &str) {
        if !self.is_json() {
            self.say(line);
        }
    }

    /// Like [`Display::warn`], for what JSON readers get as an object of its own.
    fn warn_people(&self, line: &str) {
        if !self.is_json() {
            self.warn(line);
        }
    }
}

/// Prints a JSON object past the display, for who cannot wait for it. Nobody can be told when that fails.
pub(crate) fn print_object(object: &json::Object<'_>) {
    let _ = json::write(&mut io::stdout().lock(), object);
}

/// Prints a line to standard error, on a terminal broken between words. Nobody can be told when that fails.
pub(crate) fn print_line(line: &str) {
    let _ = match columns() {
        Some(columns) => writeln!(io::stderr().lock(), "{}", text::wrapped(line, columns)),
        None => writeln!(io::stderr().lock(), "{line}"),
    };
}

/// How many columns the terminal has that standard error is, if it is one and tells.
fn columns() -> Option<usize> {
    let (_, columns) = console::Term::stderr().size_checked()?;
    Some(usize::from(columns))
}
