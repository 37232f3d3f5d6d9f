//! Boards behind one hub take turns on its bus: one receives while the others write.
//!
//! U-Boot receives or writes, never both. Boards that receive at the same time share the bus, end at the same time and
//! then all leave it idle; boards that take turns keep it busy. Where one board alone is slower than the bus, as many
//! receive at once as are needed to fill it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use imx_usb::bus::{Port, Speed};

use crate::cancel::Cancel;

/// What a high-speed bus carries at best, in bytes per second.
const HIGH_SPEED: u64 = 40_000_000;
/// What a SuperSpeed bus carries at best.
const SUPER_SPEED: u64 = 400_000_000;

/// A bus that boards share: the port of the root hub they are all behind, and how fast it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SharedBus {
    root: Option<(u8, u8)>,
    own: usize,
    fast: bool,
}

impl SharedBus {
    /// The bus of a board behind a hub; a board at a port of the root hub has it to itself, as has one over the network.
    pub(crate) fn of(board: usize, port: Option<&Port>, speed: Option<Speed>) -> Self {
        let root = port.filter(|port| port.hops().len() > 1).and_then(|port| Some((port.bus(), *port.hops().first()?)));
        let own = if root.is_some() { 0 } else { board + 1 };
        Self { root, own, fast: speed == Some(Speed::Super) }
    }

    /// How many boards that each receive `rate` bytes a second fill it.
    fn room(&self, rate: Option<u64>) -> usize {
        let bus = if self.fast { SUPER_SPEED } else { HIGH_SPEED };
        // One that is all but full is full: with one more, all would only be slower.
        let room = rate.filter(|rate| *rate > 0).map_or(1, |rate| (bus - bus / 10).div_ceil(rate));
        usize::try_from(room).unwrap_or(1).max(1)
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<u64>,
    receiving: usize,
    /// Who has ever been on it.
    boards: BTreeSet<usize>,
    /// The most bytes a second that a board was seen to receive: those that share the bus receive less.
    best: Option<u64>,
}

impl Queue {
    fn has_room(&mut self, bus: &SharedBus, rate: Option<u64>) -> bool {
        self.best = self.best.max(rate);
        self.receiving < bus.room(self.best)
    }
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    queues: BTreeMap<SharedBus, Queue>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

/// A turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn<'t> {
    turns: &'t Turns,
    bus: SharedBus,
}

impl Turns {
    /// Is there another than this board on `bus`?
    pub(crate) fn has_company(&self, bus: &SharedBus, board: usize) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = state.queues.entry(bus.clone()).or_default();
        queue.boards.insert(board);
        queue.boards.len() > 1
    }

    /// A turn on `bus`, if there is one at once and nobody waits for it.
    pub(crate) fn try_take(&self, bus: &SharedBus, rate: Option<u64>) -> Option<Turn<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = state.queues.entry(bus.clone()).or_default();
        if !queue.waiting.is_empty() || !queue.has_room(bus, rate) {
            return None;
        }
        queue.receiving += 1;
        Some(Turn { turns: self, bus: bus.clone() })
    }

    /// Waits for a turn on `bus`, first come, first served. `rate` is what the board was seen to receive, in bytes a
    /// second.
    pub(crate) fn take(&self, bus: &SharedBus, rate: Option<u64>, cancel: &Cancel) -> Turn<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next;
        state.next += 1;
        state.queues.entry(bus.clone()).or_default().waiting.push_back(ticket);
        loop {
            let queue = state.queues.entry(bus.clone()).or_default();
            let first = queue.waiting.front() == Some(&ticket);
            if (first && queue.has_room(bus, rate)) || cancel.is_cancelled() {
                queue.waiting.retain(|waiting| *waiting != ticket);
                queue.receiving += 1;
                self.changed.notify_all();
                return Turn { turns: self, bus: bus.clone() };
            }
            let look = Duration::from_millis(200);
            state = self.changed.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = state.queues.get_mut(&self.bus) {
            queue.receiving = queue.receiving.saturating_sub(1);
        }
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn at_most(bus: &SharedBus, rate: Option<u64>) -> usize {
        let (turns, now, most, cancel) = (Turns::default(), AtomicUsize::new(0), AtomicUsize::new(0), Cancel::new());
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let turn = turns.take(bus, rate, &cancel);
                    let here = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(here, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(30));
                    now.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        most.into_inner()
    }

    #[test]
    fn a_bus_carries_as_many_as_it_can() {
        let hub = SharedBus::of(0, "1-4.2".parse().ok().as_ref(), Some(Speed::High));
        assert_eq!(hub, SharedBus::of(7, "1-4.1.3".parse().ok().as_ref(), Some(Speed::High)));
        assert_eq!(at_most(&hub, Some(38_000_000)), 1);
        assert_eq!(at_most(&hub, Some(30_000_000)), 2);
        assert_eq!(at_most(&hub, Some(15_000_000)), 3);
        assert_eq!(at_most(&hub, None), 1);
        // At the root hub each has its own.
        let (one, other) = ("1-1".parse().ok(), "1-2".parse().ok());
        assert_ne!(SharedBus::of(0, one.as_ref(), None), SharedBus::of(1, other.as_ref(), None));
    }
}
