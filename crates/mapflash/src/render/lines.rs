//! A line now and then, for logs and pipes.

use std::time::{Duration, Instant};

use flasher::event::Stage;

use super::notes::stage_name;
use super::state::{Ended, State};
use super::{print_line, text};

/// A line at least this often while something moves.
const EVERY: Duration = Duration::from_secs(10);

/// A line at each tenth of a stage, but not more often than this.
const AT_MOST: Duration = Duration::from_secs(2);

/// Stages shorter than this are not worth a line of their own, but for those that handle all of the data.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Decides when a line is due.
#[derive(Debug, Default)]
pub(super) struct Lines {
    last: Option<Instant>,
    tenth: u64,
    /// What every line begins with.
    prefix: String,
}

impl Lines {
    /// Lines about one of several boards.
    pub(super) fn of_board(name: Option<&String>) -> Self {
        Self { prefix: name.map(|name| format!("{name}: ")).unwrap_or_default(), ..Self::default() }
    }

    pub(super) fn event(&mut self, now: Instant, state: &State, ended: Option<&Ended>) {
        self.ended(ended);
        if let Some(line) = self.due(now, state) {
            print_line(&format!("{}{line}", self.prefix));
        }
    }

    /// A line about a stage that is over.
    pub(super) fn ended(&mut self, ended: Option<&Ended>) {
        if let Some(ended) = ended {
            (self.last, self.tenth) = (None, 0);
            if let Some(line) = last_line(ended) {
                print_line(&format!("{}{line}", self.prefix));
            }
        }
    }

    /// The line to print now, if one is due.
    fn due(&mut self, now: Instant, state: &State) -> Option<String> {
        let running = state.running()?;
        let last = *self.last.get_or_insert(now);
        let since = now.saturating_duration_since(last);
        let tenth = running.permille().unwrap_or(0) / 100;
        if since < AT_MOST || (since < EVERY && tenth <= self.tenth) {
            return None;
        }
        (self.last, self.tenth) = (Some(now), tenth);
        Some(format!("{}: {}", stage_name(running.stage), running.line(now)))
    }
}

fn last_line(ended: &Ended) -> Option<String> {
    let Ended { stage, bytes, time } = ended;
    let main = matches!(stage, Stage::Compare | Stage::Write | Stage::Prove | Stage::Hash | Stage::Pack);
    if *time < WORTH_A_LINE && (!main || *bytes == 0) {
        return None;
    }
    if *bytes == 0 {
        return Some(format!("{}: {}", stage_name(*stage), text::span(*time)));
    }
    let rate = text::rate(*bytes, *time).map_or(String::new(), |rate| format!(", {}/s", text::size(rate)));
    Some(format!("{}: {} in {}{rate}", stage_name(*stage), text::size(*bytes), text::span(*time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flasher::event::Event;

    #[test]
    fn a_line_at_each_tenth_and_every_ten_seconds() {
        let start = Instant::now();
        let mut state = State::default();
        let mut lines = Lines::default();
        state.fold(start, &Event::Stage { stage: Stage::Write, total: Some(1000) });
        assert_eq!(lines.due(start, &state), None);
        let mut printed = Vec::new();
        // A byte each 50 ms: a tenth each 5 s, 50 s in all.
        for step in 1..=1000_u64 {
            let now = start + Duration::from_millis(step * 50);
            state.fold(now, &Event::Progress { stage: Stage::Write, done: step, position: 0 });
            printed.extend(lines.due(now, &state));
        }
        assert_eq!(printed.len(), 10, "{printed:#?}");
        assert!(printed[0].starts_with("writing: 100 bytes of 1000 bytes, 10.0 %"), "{}", printed[0]);
        // Without progress the ten seconds count.
        let stalled = |seconds: u64| start + Duration::from_secs(50 + seconds);
        assert_eq!(lines.due(stalled(9), &state), None);
        assert!(lines.due(stalled(10), &state).is_some());
    }

    #[test]
    fn stages_that_moved_data_or_took_long_get_a_last_line() {
        let line = |stage, bytes, millis| last_line(&Ended { stage, bytes, time: Duration::from_millis(millis) });
        assert_eq!(line(Stage::Sync, 0, 100), None);
        assert_eq!(line(Stage::Head, 4096, 100), None);
        assert_eq!(line(Stage::Sync, 0, 1500).unwrap(), "syncing: 1.5 s");
        assert_eq!(line(Stage::Write, 2048, 500).unwrap(), "writing: 2.0 KiB in 500 ms, 4.0 KiB/s");
    }
}
