//! Boards in this process as a bus of `imx-usb`: the same code that drives libusb drives them.
//!
//! Time: with real clocks waiting is waiting. With simulated ones each board has its own time, which passes while its
//! pipes wait; the bus has the time of whichever is furthest, and boards that nobody has open follow it. A wait on the
//! bus jumps to the next change. So boards may be driven by one thread each, none of them is late because another one's
//! work took long, and a test of minutes ends at once. Times of the bus and of a pipe do not compare.
//!
//! This is the only place where a virtual board meets the traits of `imx-usb`.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use imx_usb::bus::{self, Bus, BusError, Device, Interface, OpenError, Visit};
use imx_usb::chips::ReportRoute;
use imx_usb::pipe::{BulkPipe, Fault, ReportPipe, TransferError};

use crate::board::{self, Board, Kind, Speed};
use crate::link::{Link, LinkError, LinkFault};

/// How long a wait in real time takes to see what somebody did to a board behind the bus's back.
const LOOK: Duration = Duration::from_millis(5);

/// Boards as a bus. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct HostBus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    boards: Vec<Slot>,
    last_visit: u64,
    changes: u64,
    /// Time of the bus when `since` began, or now.
    base: Duration,
    /// Set with real clocks.
    since: Option<Instant>,
    /// Visits that somebody has a pipe to.
    open: BTreeSet<Visit>,
}

#[derive(Debug)]
struct Slot {
    board: Board,
    /// The device that was last seen there: its address and the visit it was given.
    seen: Option<(u32, Visit)>,
}

impl Inner {
    fn now(&self) -> Duration {
        match self.since {
            Some(since) => self.base.saturating_add(since.elapsed()),
            None => self.boards.iter().map(|slot| slot.board.now()).max().unwrap_or_default().max(self.base),
        }
    }

    /// Has somebody a pipe to what is there?
    fn in_use(&self, slot: &Slot) -> bool {
        slot.seen.is_some_and(|(_, visit)| self.open.contains(&visit))
    }

    /// Looks at all boards: numbers those that came and counts what changed.
    fn look(&mut self) {
        if self.since.is_none() {
            self.base = self.now();
            self.boards.iter().filter(|slot| !self.in_use(slot)).for_each(|slot| slot.board.pass_until(self.base));
        }
        for slot in &mut self.boards {
            let there = slot.board.address();
            if there == slot.seen.map(|(address, _)| address) {
                continue;
            }
            self.changes += 1;
            slot.seen = there.map(|address| {
                self.last_visit += 1;
                (address, Visit(self.last_visit))
            });
        }
    }

    fn devices(&mut self) -> Vec<Device> {
        self.look();
        let there = self.boards.iter().filter_map(|slot| {
            let (address, visit) = slot.seen?;
            let device = slot.board.device().filter(|device| device.address == address)?;
            describe(device, visit)
        });
        there.collect()
    }

    /// The next change in simulated time, as time from now.
    fn next_change(&self, of_those_in_use: bool) -> Option<Duration> {
        let slots = self.boards.iter().filter(|slot| self.in_use(slot) == of_those_in_use);
        slots.filter_map(|slot| Some(slot.board.next_change()?.saturating_sub(slot.board.now()))).min()
    }

    /// Lets simulated time pass: for boards that are free, or for those that are not.
    fn pass(&mut self, time: Duration, for_those_in_use: bool) {
        for slot in self.boards.iter().filter(|slot| self.in_use(slot) == for_those_in_use) {
            slot.board.pass_until(slot.board.now().saturating_add(time));
        }
        self.base = self.now().max(self.base.saturating_add(time));
    }
}

/// What `imx-usb` knows of a device; `None` if its port is written wrongly.
fn describe(device: board::Device, visit: Visit) -> Option<Device> {
    Some(Device {
        path: device.path.parse().ok()?,
        port: device.connector.parse().ok()?,
        visit,
        vendor: device.ids.vendor,
        product: device.ids.product,
        release: device.ids.release,
        serial: device.serial,
        speed: Some(match device.speed {
            Speed::High => bus::Speed::High,
            Speed::Super => bus::Speed::Super,
        }),
        interfaces: vec![Interface { number: 0, class: device.class }],
    })
}

impl HostBus {
    /// These boards on a bus. One with the real clock makes it a bus in real time.
    pub fn new(boards: Vec<Board>) -> Self {
        let inner = Inner {
            boards: Vec::new(),
            last_visit: 0,
            changes: 0,
            base: Duration::ZERO,
            since: None,
            open: BTreeSet::new(),
        };
        let bus = Self(Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() }));
        boards.into_iter().for_each(|board| bus.add(board));
        bus
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a board on the bus, at the port it was made for. One whose port is written wrongly is never seen.
    pub fn add(&self, board: Board) {
        let mut inner = self.inner();
        if board.is_real() && inner.since.is_none() {
            inner.base = inner.now();
            inner.since = Some(Instant::now());
        }
        inner.boards.push(Slot { board, seen: None });
        inner.look();
        self.0.changed.notify_all();
    }

    /// Takes a board off the bus: it is unplugged. [`Board::plug`] and [`HostBus::add`] bring it back.
    pub fn remove(&self, board: &Board) {
        board.unplug();
        let mut inner = self.inner();
        inner.look();
        inner.boards.retain(|slot| !slot.board.is_same(board));
        self.0.changed.notify_all();
    }

    /// The boards on it, also those that have left the bus and come back by themselves.
    pub fn boards(&self) -> Vec<Board> {
        self.inner().boards.iter().map(|slot| slot.board.clone()).collect()
    }

    /// How many pipes to devices are open: none, once everybody has cleaned up.
    pub fn open_pipes(&self) -> usize {
        self.inner().open.len()
    }

    fn link(&self, device: &Device) -> Result<Link, OpenError> {
        let mut inner = self.inner();
        inner.look();
        let slot = inner.boards.iter().find(|slot| slot.seen.is_some_and(|(_, visit)| visit == device.visit));
        let link = slot.and_then(|slot| slot.board.open().filter(|link| Some(link.device().address) == slot.address()));
        link.ok_or_else(|| OpenError::Gone { port: device.port.clone() })
    }

    /// A pipe that nobody else has.
    fn claim(&self, device: &Device) -> Result<Pipe, OpenError> {
        let link = self.link(device)?;
        let by = Some("another pipe of this process".to_owned());
        if !self.inner().open.insert(device.visit) {
            return Err(OpenError::Busy { port: device.port.clone(), by });
        }
        Ok(Pipe { link, claim: Claim { bus: self.clone(), visit: device.visit } })
    }
}

impl Slot {
    fn address(&self) -> Option<u32> {
        self.seen.map(|(address, _)| address)
    }
}

impl Bus for HostBus {
    fn devices(&self) -> Result<Vec<Device>, BusError> {
        Ok(self.inner().devices())
    }

    fn changes(&self) -> u64 {
        let mut inner = self.inner();
        inner.look();
        inner.changes
    }

    fn wait(&self, seen: u64, within: Duration) {
        let mut inner = self.inner();
        inner.look();
        if inner.changes != seen {
            return;
        }
        if inner.since.is_some() {
            let until = Instant::now().checked_add(within);
            loop {
                let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return;
                }
                let waited = self.0.changed.wait_timeout(inner, left.min(LOOK));
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                inner.look();
                if inner.changes != seen {
                    return;
                }
            }
        }
        if let Some(next) = inner.next_change(false).filter(|next| *next <= within) {
            inner.pass(next, false);
            return inner.look();
        }
        // Threads that drive other boards, or are about to plug one in, come first.
        let waited = self.0.changed.wait_timeout(inner, Duration::from_millis(1));
        inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        inner.look();
        if inner.changes != seen {
            return;
        }
        match inner.next_change(true).filter(|next| *next <= within) {
            Some(next) => inner.pass(next, true),
            None => inner.pass(within, false),
        }
        inner.look();
    }

    fn now(&self) -> Duration {
        self.inner().now()
    }

    fn reports(&self, device: &Device, route: ReportRoute) -> Result<Box<dyn ReportPipe + Send>, OpenError> {
        let pipe = self.claim(device)?;
        let endpoints = &pipe.link.device().endpoints;
        let lacks = |lacks| Err(OpenError::Lacks { port: device.port.clone(), lacks });
        if !endpoints.iter().any(|endpoint| endpoint.kind == Kind::Interrupt) {
            return lacks("interrupt endpoint");
        }
        if route == ReportRoute::Endpoint1 && !endpoints.iter().any(|endpoint| endpoint.address & 0x80 == 0) {
            return lacks("endpoint 0x01");
        }
        Ok(Box::new(pipe))
    }

    fn bulk(&self, device: &Device) -> Result<Box<dyn BulkPipe + Send>, OpenError> {
        let pipe = self.claim(device)?;
        if pipe.link.device().endpoints.iter().any(|endpoint| endpoint.kind != Kind::Bulk) {
            return Err(OpenError::Lacks { port: device.port.clone(), lacks: "bulk endpoints" });
        }
        Ok(Box::new(pipe))
    }

    fn string(&self, device: &Device, index: u8) -> Result<Option<String>, OpenError> {
        Ok(crate::usb::string(self.link(device)?.device(), index))
    }

    fn reset(&self, device: &Device) -> Result<bool, OpenError> {
        self.link(device)?.reset();
        Ok(true)
    }
}

/// A place among the open pipes, until it is dropped.
#[derive(Debug)]
struct Claim {
    bus: HostBus,
    visit: Visit,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.bus.inner().open.remove(&self.visit);
    }
}

#[derive(Debug)]
struct Pipe {
    link: Link,
    #[expect(dead_code, reason = "held for its drop")]
    claim: Claim,
}

fn fault(error: LinkError, within: Duration) -> Fault {
    match error.fault {
        LinkFault::TimedOut => Fault::TimedOut(within),
        LinkFault::Stalled => Fault::Stalled,
        LinkFault::Gone => Fault::Gone,
    }
}

impl Pipe {
    fn out(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        let sent = self.link.send(bytes, within);
        sent.map_err(|error| TransferError::sending(error.done, bytes.len(), fault(error, within)))
    }

    fn take(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let asked = into.len();
        let got = self.link.receive(asked, within);
        let got = got.map_err(|error| TransferError::receiving(error.done, asked, fault(error, within)))?;
        match into.get_mut(..got.len()) {
            Some(place) => place.copy_from_slice(&got),
            None => return Err(TransferError::receiving(asked, asked, Fault::Overflow)),
        }
        Ok(got.len())
    }
}

impl BulkPipe for Pipe {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        if bytes.is_empty() { Ok(()) } else { self.out(bytes, within) }
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        self.take(into, within)
    }

    fn now(&self) -> Duration {
        self.link.now()
    }
}

impl ReportPipe for Pipe {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        self.out(report, within)
    }

    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        self.take(into, within)
    }

    fn now(&self) -> Duration {
        self.link.now()
    }
}

#[cfg(test)]
mod tests;
