//! Which port which board of a job is driven at, so that two that change places are never both driven through one.
//!
//! A port belongs to a board from when it is found there, all through ROM and loader, where it comes and goes, and then
//! for as long as that U-Boot stays. Whose device it really is, is not known here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use imx_usb::bus::{Device, Port, Visit};

/// The ports in use, by the boards' numbers.
#[derive(Debug, Default)]
pub(super) struct Driven(Mutex<BTreeMap<Port, Holder>>);

#[derive(Debug)]
struct Holder {
    board: usize,
    /// The device that it came to be; none while it is on its way.
    settled: Option<Visit>,
}

impl Driven {
    fn holders(&self) -> MutexGuard<'_, BTreeMap<Port, Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a port belong to another board? `devices` is all that is on the bus now.
    pub(super) fn is_anothers(&self, board: usize, port: &Port, devices: &[Device]) -> bool {
        holds(&self.holders(), board, port, devices)
    }

    /// Takes a port for a board, if it is no other's.
    pub(super) fn take(&self, board: usize, port: &Port, devices: &[Device]) -> bool {
        let mut holders = self.holders();
        let free = !holds(&holders, board, port, devices);
        if free {
            holders.insert(port.clone(), Holder { board, settled: None });
        }
        free
    }

    /// The board has come to its end there: the port is its own for as long as this device stays.
    pub(super) fn settle(&self, board: usize, device: &Device) {
        self.holders().insert(device.port.clone(), Holder { board, settled: Some(device.visit) });
    }

    /// The board is driven nowhere.
    pub(super) fn leave(&self, board: usize) {
        self.holders().retain(|_, holder| holder.board != board);
    }
}

fn holds(holders: &BTreeMap<Port, Holder>, board: usize, port: &Port, devices: &[Device]) -> bool {
    let stays = |visit: Visit| devices.iter().any(|device| device.port == *port && device.visit == visit);
    holders.get(port).is_some_and(|holder| holder.board != board && holder.settled.is_none_or(stays))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(visit: u64) -> Device {
        Device {
            port: port(),
            path: port(),
            visit: Visit(visit),
            vendor: 0x1fc9,
            product: 0x0152,
            release: 1,
            serial: None,
            speed: None,
            interfaces: Vec::new(),
        }
    }

    fn port() -> Port {
        "1-2".parse().unwrap()
    }

    #[test]
    fn a_port_is_one_boards_until_it_leaves_or_its_device_does() {
        let driven = Driven::default();
        assert!(driven.take(0, &port(), &[device(1)]));
        assert!(driven.take(0, &port(), &[device(1)]));
        // On its way it may be gone for a moment, or be another device.
        for devices in [&[device(1)][..], &[], &[device(2)]] {
            assert!(driven.is_anothers(1, &port(), devices) && !driven.take(1, &port(), devices));
        }
        driven.settle(0, &device(2));
        assert!(!driven.take(1, &port(), &[device(2)]));
        assert!(driven.take(1, &port(), &[device(3)]));
        // Who has lost it does not take it away from who has it.
        driven.leave(0);
        assert!(driven.is_anothers(0, &port(), &[device(3)]));
        driven.leave(1);
        assert!(!driven.is_anothers(0, &port(), &[device(3)]));
    }
}
