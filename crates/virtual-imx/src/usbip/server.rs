//! A listener that gives boards away: to the stock `usbip` tool, and to this project's own client.
//!
//! A device is named by its port path, is given to one host at a time, and has another number each time it comes. More
//! is told in the record's path, as `KEY=VALUE` between slashes: `connector` and `serial`.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::board::{Board, Device, Speed};

use super::operation::{BUSY, NO_DEVICE, Record, Request, imported, listed};
use super::serve::serve;
use super::{Listener, Stop, Stream};

/// Boards that are given away. Clones give the same ones away.
#[derive(Debug, Clone)]
pub struct Server(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    boards: Vec<Slot>,
    last_number: u32,
    /// Numbers of devices that somebody has.
    given: BTreeSet<u32>,
}

#[derive(Debug)]
struct Slot {
    board: Board,
    /// The device that was last seen there: its address, and the number it was given.
    seen: Option<(u32, u32)>,
}

impl Inner {
    /// The devices that are there, with their numbers.
    fn devices(&mut self) -> Vec<(Board, Device, u32)> {
        let mut there = Vec::new();
        for slot in &mut self.boards {
            if !slot.board.is_real() {
                // Nobody waits here whose waiting would let simulated time pass.
                let next = slot.board.next_change();
                next.into_iter().for_each(|next| slot.board.pass_until(next));
            }
            let Some(device) = slot.board.device() else {
                slot.seen = None;
                continue;
            };
            let number = match slot.seen {
                Some((address, number)) if address == device.address => number,
                _ => {
                    self.last_number = self.last_number.wrapping_add(1);
                    self.last_number
                }
            };
            slot.seen = Some((device.address, number));
            there.push((slot.board.clone(), device, number));
        }
        there
    }
}

impl Server {
    /// Gives these boards away. Boards on the same port hide each other.
    pub fn new(boards: impl IntoIterator<Item = Board>) -> Self {
        let boards = boards.into_iter().map(|board| Slot { board, seen: None }).collect();
        Self(Arc::new(Mutex::new(Inner { boards, last_number: 0, given: BTreeSet::new() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves whoever connects, each by threads of its own, until `stop` is set. Returns when all of them have ended.
    ///
    /// # Errors
    /// When nobody can be waited for.
    pub fn run(&self, listener: &Listener, stop: &Stop) -> io::Result<()> {
        let address = listener.address()?;
        // A connection of our own wakes the wait for others.
        let waking = stop.when_set(move || drop(address.connect()));
        let result = std::thread::scope(|scope| {
            while !stop.is_set() {
                let stream = match listener.accept() {
                    Ok(stream) => stream,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => {
                        // Or the others would never end, nor this.
                        stop.set();
                        return Err(error);
                    }
                };
                if !stop.is_set() {
                    scope.spawn(|| {
                        // What a connection ended with is its host's business.
                        let _ = self.one(stream, stop);
                    });
                }
            }
            Ok(())
        });
        drop(waking);
        result
    }

    /// One connection: questions, then the transfers of a device.
    fn one(&self, mut stream: Stream, stop: &Stop) -> io::Result<()> {
        let closing = stream.try_clone()?;
        let _waking = stop.when_set(move || closing.close());
        loop {
            match Request::read(&mut stream)? {
                Request::List => {
                    let devices = self.inner().devices();
                    let records: Vec<_> = devices.iter().map(|(_, device, number)| record(device, *number)).collect();
                    io::Write::write_all(&mut stream, &listed(&records))?;
                }
                Request::Import(name) => match self.claim(&name) {
                    Ok((board, device, given)) => {
                        let answer = imported(Ok(&record(&device, given.number)));
                        io::Write::write_all(&mut stream, &answer)?;
                        serve(&board, device, stream)?;
                        return Ok(());
                    }
                    Err(status) => io::Write::write_all(&mut stream, &imported(Err(status)))?,
                },
            }
        }
    }

    fn claim(&self, name: &str) -> Result<(Board, Device, Given), u32> {
        let mut inner = self.inner();
        let found = inner.devices().into_iter().find(|(_, device, _)| device.path == name);
        let (board, device, number) = found.ok_or(NO_DEVICE)?;
        if !inner.given.insert(number) {
            return Err(BUSY);
        }
        Ok((board, device, Given { server: self.clone(), number }))
    }

    /// How many devices somebody has.
    pub fn given(&self) -> usize {
        self.inner().given.len()
    }
}

/// A place among the devices that were given away, until it is dropped.
#[derive(Debug)]
struct Given {
    server: Server,
    number: u32,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.server.inner().given.remove(&self.number);
    }
}

fn record(device: &Device, number: u32) -> Record {
    let mut path = format!("/virtual-imx/connector={}", device.connector);
    if let Some(serial) = &device.serial {
        path.push_str("/serial=");
        path.push_str(serial);
    }
    let bus = device.path.split('-').next().and_then(|bus| bus.parse().ok()).unwrap_or(1);
    Record {
        path,
        name: device.path.clone(),
        bus,
        number,
        speed: match device.speed {
            Speed::High => 3,
            Speed::Super => 5,
        },
        ids: [device.ids.vendor, device.ids.product, device.ids.release],
        class: [0; 3],
        configuration: 1,
        configurations: 1,
        interfaces: vec![device.class],
    }
}

#[cfg(test)]
mod tests;
