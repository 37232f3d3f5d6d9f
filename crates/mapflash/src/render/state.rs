//! Where a job stands, folded from its events. Pure: the time comes in as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flasher::event::{Event, Stage};

use super::text;

/// How far back the rate looks: long enough to hide the bursts of a cache, short enough to show a stall.
const WINDOW: Duration = Duration::from_secs(5);

/// The shortest time between two samples of the rate.
const SAMPLE: Duration = Duration::from_millis(100);

/// A stage under way.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// Which.
    pub(crate) stage: Stage,
    /// Bytes it will handle, where that is known.
    pub(crate) total: Option<u64>,
    /// Bytes handled so far.
    pub(crate) done: u64,
    /// How far into the unpacked image the reader is.
    pub(crate) position: u64,
    started: Instant,
    samples: VecDeque<(Instant, u64)>,
}

/// A stage that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Which.
    pub(crate) stage: Stage,
    /// Bytes handled.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) time: Duration,
}

/// Where a job stands.
#[derive(Debug, Default)]
pub(crate) struct State {
    running: Option<Running>,
}

impl State {
    /// Takes one event in. A stage that begins ends the one before, which is returned.
    pub(crate) fn fold(&mut self, now: Instant, event: &Event) -> Option<Ended> {
        match *event {
            Event::Stage { stage, total } => {
                let ended = self.end_stage(now);
                let samples = VecDeque::from([(now, 0)]);
                self.running = Some(Running { stage, total, done: 0, position: 0, started: now, samples });
                ended
            }
            Event::Progress { stage, done, position } => {
                if let Some(running) = self.running.as_mut().filter(|running| running.stage == stage) {
                    running.progress(now, done, position);
                }
                None
            }
            Event::BoardDone => self.end_stage(now),
            _ => None,
        }
    }

    /// Ends the stage under way, if there is one.
    pub(crate) fn end_stage(&mut self, now: Instant) -> Option<Ended> {
        let running = self.running.take()?;
        let time = now.saturating_duration_since(running.started);
        Some(Ended { stage: running.stage, bytes: running.done, time })
    }

    /// The stage under way.
    pub(crate) fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }
}

impl Running {
    fn progress(&mut self, now: Instant, done: u64, position: u64) {
        // Events of several threads may come out of order: never go back.
        self.done = self.done.max(done);
        self.position = self.position.max(position);
        let due = self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= SAMPLE);
        if due {
            self.samples.push_back((now, self.done));
            while self.samples.len() > 2
                && self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
            {
                self.samples.pop_front();
            }
        }
    }

    /// Bytes a second over the last seconds; `None` before there is anything to say.
    pub(crate) fn rate(&self, now: Instant) -> Option<u64> {
        let (since, from) = *self.samples.front()?;
        let within = now.saturating_duration_since(since);
        if within < SAMPLE { None } else { text::rate(self.done.saturating_sub(from), within) }
    }

    /// How long this stage will go on at the present rate.
    pub(crate) fn eta(&self, now: Instant) -> Option<Duration> {
        let rest = self.total?.saturating_sub(self.done);
        let rate = self.rate(now).filter(|rate| *rate > 0)?;
        let millis = u128::from(rest) * 1000 / u128::from(rate);
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// How much is done, in tenths of a percent, 0 to 1000.
    pub(crate) fn permille(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        let permille = u128::from(self.done.min(total)) * 1000 / u128::from(total);
        u64::try_from(permille).ok()
    }

    /// `412.3 MiB of 795.0 MiB, 51.9 %, 345.0 MiB/s, 1.1 s left`, with what is known.
    pub(crate) fn line(&self, now: Instant) -> String {
        self.line_within(now, usize::MAX)
    }

    /// The same in no more than `columns`, if leaving out what matters least gets it there: first the percentage, then
    /// the bytes.
    pub(crate) fn line_within(&self, now: Instant, columns: usize) -> String {
        let total = self.total.filter(|total| *total > 0);
        let bytes = match total {
            Some(total) => Some(format!("{} of {}", text::size(self.done), text::size(total))),
            None => Some(text::size(self.done)).filter(|_| self.done > 0),
        };
        let percent = total.map(|total| text::percent(self.done.min(total), total));
        let position = self.total.is_none() && self.position > self.done;
        let position = position.then(|| format!("{} into the image", text::size(self.position)));
        // What has no bytes has no rate: booting.
        let rate =
            self.rate(now).filter(|_| total.is_some() || self.done > 0).map(|rate| format!("{}/s", text::size(rate)));
        let eta = self.eta(now).map(|eta| format!("{} left", text::span(eta)));
        let parts = [&bytes, &percent, &position, &rate, &eta];
        let choices: [&[usize]; 3] = [&[0, 1, 2, 3, 4], &[0, 2, 3, 4], &[1, 3, 4]];
        let mut line = String::new();
        for choice in choices {
            let chosen = choice.iter().filter_map(|part| parts.get(*part).copied()?.as_deref());
            line = chosen.collect::<Vec<_>>().join(", ");
            if line.chars().count() <= columns {
                break;
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn stage(total: Option<u64>) -> Event {
        Event::Stage { stage: Stage::Write, total }
    }

    fn progress(done: u64) -> Event {
        Event::Progress { stage: Stage::Write, done, position: done * 2 }
    }

    #[test]
    fn rate_and_eta_follow_the_last_seconds() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut state = State::default();
        state.fold(start, &stage(Some(100 * MIB)));
        assert_eq!(state.running().unwrap().rate(start), None);
        for second in 1..=4 {
            state.fold(at(second), &progress(second * 10 * MIB));
        }
        let running = state.running().unwrap();
        assert_eq!(running.rate(at(4)), Some(10 * MIB));
        assert_eq!(running.eta(at(4)), Some(Duration::from_secs(6)));
        assert_eq!(running.line(at(4)), "40.0 MiB of 100.0 MiB, 40.0 %, 10.0 MiB/s, 6.0 s left");
        // It stalls: what was fast long ago no longer counts.
        for second in 5..=20 {
            state.fold(at(second), &progress(40 * MIB));
        }
        let running = state.running().unwrap();
        assert_eq!((running.rate(at(20)), running.eta(at(20))), (Some(0), None));
        assert!(running.samples.len() < 10);
    }

    #[test]
    fn the_next_stage_ends_the_one_before() {
        let start = Instant::now();
        let mut state = State::default();
        assert_eq!(state.fold(start, &stage(Some(5))), None);
        state.fold(start, &progress(5));
        let later = start + Duration::from_secs(2);
        let ended = state.fold(later, &Event::Stage { stage: Stage::Sync, total: None });
        assert_eq!(ended, Some(Ended { stage: Stage::Write, bytes: 5, time: Duration::from_secs(2) }));
        assert_eq!(state.running().unwrap().stage, Stage::Sync);
        // A late event of the old stage changes nothing.
        state.fold(later, &progress(9));
        assert_eq!(state.running().unwrap().done, 0);
        assert_eq!(state.end_stage(later).unwrap().stage, Stage::Sync);
        assert_eq!(state.end_stage(later), None);
    }

    #[test]
    fn progress_never_goes_back_and_needs_no_total() {
        let start = Instant::now();
        let mut state = State::default();
        state.fold(start, &stage(None));
        state.fold(start, &progress(3 * MIB));
        state.fold(start, &progress(2 * MIB));
        let running = state.running().unwrap();
        assert_eq!((running.done, running.permille(), running.eta(start)), (3 * MIB, None, None));
        assert_eq!(running.line(start), "3.0 MiB, 6.0 MiB into the image");
    }

    #[test]
    fn what_does_not_fit_is_said_in_fewer_words() {
        let start = Instant::now();
        let mut state = State::default();
        state.fold(start, &stage(Some(100 * MIB)));
        state.fold(start + Duration::from_secs(1), &progress(10 * MIB));
        let running = state.running().unwrap();
        let line = |columns| running.line_within(start + Duration::from_secs(1), columns);
        assert_eq!(line(80), "10.0 MiB of 100.0 MiB, 10.0 %, 10.0 MiB/s, 9.0 s left");
        assert_eq!(line(50), "10.0 MiB of 100.0 MiB, 10.0 MiB/s, 9.0 s left");
        assert_eq!(line(40), "10.0 %, 10.0 MiB/s, 9.0 s left");
        assert_eq!(line(4), "10.0 %, 10.0 MiB/s, 9.0 s left");
    }

    #[test]
    fn more_than_promised_is_no_more_than_all() {
        let start = Instant::now();
        let mut state = State::default();
        state.fold(start, &stage(Some(10)));
        state.fold(start, &progress(20));
        assert_eq!(state.running().unwrap().permille(), Some(1000));
    }
}
