//! The bar on a terminal. It shows one stage at a time and leaves nothing behind.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::columns;
use super::notes::stage_name;
use super::state::State;

/// Redraws a second: enough to look alive, few enough for a serial console.
const REDRAWS: u8 = 8;

pub(super) struct Bar {
    bar: ProgressBar,
    known: ProgressStyle,
    open: ProgressStyle,
    /// Whether the stage shown has a total, to change the style only when that changes.
    total: Option<u64>,
    shown: bool,
}

impl std::fmt::Debug for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bar").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl Bar {
    pub(super) fn new(colour: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("#>-")
        };
        let known =
            if colour { "{prefix:>13} [{bar:24.cyan}] {wide_msg}" } else { "{prefix:>13} [{bar:24}] {wide_msg}" };
        Self { bar, known: style(known), open: style("{prefix:>13} {spinner} {wide_msg}"), total: None, shown: false }
    }

    pub(super) fn event(&mut self, now: Instant, state: &State) {
        let Some(running) = state.running() else { return };
        let total = running.total.filter(|total| *total > 0);
        if !self.shown {
            // A bar that was cleared is finished and would stay dark: a command may have several jobs.
            self.bar.set_message(String::new());
            self.bar.reset();
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
            self.bar.enable_steady_tick(Duration::from_millis(250));
            self.bar.set_style(self.open.clone());
            self.shown = true;
        }
        if self.total != total {
            self.total = total;
            self.bar.set_style(if total.is_some() { self.known.clone() } else { self.open.clone() });
            self.bar.set_length(total.unwrap_or(0));
        }
        self.bar.set_prefix(stage_name(running.stage));
        self.bar.set_position(running.done);
        let room =
            columns().map_or(usize::MAX, |columns| columns.saturating_sub(if total.is_some() { 42 } else { 17 }));
        self.bar.set_message(running.line_within(now, room));
    }

    /// Prints with the bar out of the way.
    pub(super) fn suspended(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    pub(super) fn clear(&mut self) {
        self.bar.finish_and_clear();
        // Else waking it for the next job would draw it once more, where nothing clears it any more.
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
        (self.shown, self.total) = (false, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flasher::event::{Event, Stage};

    #[test]
    fn a_second_job_has_a_bar_too() {
        let now = Instant::now();
        let (mut bar, mut state) = (Bar::new(false), State::default());
        for _ in 0..2 {
            state.fold(now, &Event::Stage { stage: Stage::Write, total: Some(9) });
            bar.event(now, &state);
            assert!(!bar.bar.is_finished());
            assert_eq!((bar.bar.length(), bar.total), (Some(9), Some(9)));
            bar.clear();
            assert!(bar.bar.is_finished());
        }
    }
}
