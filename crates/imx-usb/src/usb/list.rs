//! Which devices are there, and which comings of them: sysfs looked at again and again.
//!
//! sysfs is right in containers and without udevd too, where libusb's own list is not kept up to date.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::peers::canonical;
use super::roots::Roots;
use super::sysfs::{self, Entry};
use crate::bus::{BusError, Device, Port, Visit};

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct List {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    entries: Vec<Entry>,
    visits: HashMap<String, (Entry, Visit)>,
    /// Visits given out so far.
    given: u64,
    changes: u64,
}

impl List {
    /// Counts the times that what is listed was found to differ from what had been listed before.
    pub(super) fn changes(&self, roots: &Roots) -> u64 {
        let mut seen = self.lock();
        // A list that cannot be read has no devices on it.
        seen.update(sysfs::entries(roots).unwrap_or_default());
        seen.changes
    }

    /// All devices that can be looked at.
    pub(super) fn devices(&self, roots: &Roots) -> Result<Vec<Device>, BusError> {
        let mut seen = self.lock();
        seen.update(sysfs::entries(roots).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BusError::NoUsb { missing: roots.devices() },
            _ => BusError::List(error.into()),
        })?);
        let mut devices: Vec<_> =
            seen.visits.values().filter_map(|(entry, visit)| look(roots, entry, *visit)).collect();
        devices.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(devices)
    }

    /// Is a device still the one it was?
    pub(super) fn is_there(&self, roots: &Roots, device: &Device) -> bool {
        let mut seen = self.lock();
        seen.update(sysfs::entries(roots).unwrap_or_default());
        seen.visits.get(&device.path.to_string()).is_some_and(|(_, visit)| *visit == device.visit)
    }

    /// Taken before sysfs is looked at: of two that look at once, the one with the older view must not come last.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn update(&mut self, entries: Vec<Entry>) {
        if entries == self.entries {
            return;
        }
        let mut before = std::mem::take(&mut self.visits);
        for entry in entries.iter().filter(|entry| entry.name.parse::<Port>().is_ok()) {
            let visit = match before.remove(&entry.name) {
                Some((same, visit)) if same == *entry => visit,
                _ => {
                    self.given = self.given.saturating_add(1);
                    Visit(self.given)
                }
            };
            self.visits.insert(entry.name.clone(), (entry.clone(), visit));
        }
        self.entries = entries;
        self.changes = self.changes.wrapping_add(1);
    }
}

/// Reads a device, unless it has left or another has taken its place since it was listed.
fn look(roots: &Roots, entry: &Entry, visit: Visit) -> Option<Device> {
    let path: Port = entry.name.parse().ok()?;
    let shown = sysfs::device(roots, &path)?;
    (shown.address == entry.address).then(|| Device {
        port: canonical(roots, &path),
        path,
        visit,
        vendor: shown.vendor,
        product: shown.product,
        release: shown.release,
        serial: shown.serial,
        speed: shown.speed,
        interfaces: shown.interfaces,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{FASTBOOT_CLASS, Interface, Speed};
    use crate::usb::tree::Tree;

    #[test]
    fn a_device_as_sysfs_shows_it() {
        let tree = Tree::new();
        tree.root(1, 480).root(2, 5000).peers("2-1", "1-5").device("2-1", 5000, 0x1fc9, 0x0152);
        tree.set("2-1", "serial", "0123 é").interface("2-1", 1, [3, 1, 2]).interface("2-1", 0, FASTBOOT_CLASS);
        let devices = List::default().devices(tree.roots()).unwrap();
        let board = Device {
            port: "1-5".parse().unwrap(),
            path: "2-1".parse().unwrap(),
            visit: Visit(1),
            vendor: 0x1fc9,
            product: 0x0152,
            release: 0x0100,
            serial: Some("0123 é".to_owned()),
            speed: Some(Speed::Super),
            interfaces: vec![Interface { number: 0, class: FASTBOOT_CLASS }, Interface { number: 1, class: [3, 1, 2] }],
        };
        assert!(board.speaks_fastboot());
        assert_eq!(devices, [board]);
    }

    #[test]
    fn comings_and_goings() {
        let tree = Tree::new();
        let list = List::default();
        tree.root(1, 480).device("1-10", 480, 0x1fc9, 0x0134).device("1-9", 12, 1, 2);
        let start = list.changes(tree.roots());
        assert_eq!(list.changes(tree.roots()), start);
        let before = list.devices(tree.roots()).unwrap();
        assert_eq!(before.iter().map(|device| device.path.to_string()).collect::<Vec<_>>(), ["1-9", "1-10"]);
        assert_eq!(list.changes(tree.roots()), start);
        assert!(list.is_there(tree.roots(), &before[1]));

        tree.unplug("1-10");
        assert!(!list.is_there(tree.roots(), &before[1]) && list.is_there(tree.roots(), &before[0]));
        assert_ne!(list.changes(tree.roots()), start);
        // It comes back with another address while nobody looks.
        tree.device("1-10", 480, 0x1fc9, 0x0134).set("1-10", "devnum", 77);
        let after = list.devices(tree.roots()).unwrap();
        assert_eq!(after[0], before[0]);
        assert!(after[1].visit > before[1].visit && after[1].visit > before[0].visit);
        assert!(!list.is_there(tree.roots(), &before[1]) && list.is_there(tree.roots(), &after[1]));

        // Interfaces come later than the device, and are a change.
        let seen = list.changes(tree.roots());
        tree.set("1-10:1.0", "bInterfaceNumber", "00");
        assert_ne!(list.changes(tree.roots()), seen);
        assert_eq!(list.devices(tree.roots()).unwrap(), after);
    }

    #[test]
    fn several_may_look_at_once() {
        let tree = Tree::new();
        let list = List::default();
        tree.root(1, 480).device("1-1", 480, 1, 2);
        let first = list.devices(tree.roots()).unwrap()[0].visit;
        std::thread::scope(|scope| {
            let looking: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..200).all(|_| list.devices(tree.roots()).unwrap()[0].visit == first)))
                .collect();
            for number in 2..40 {
                tree.device(&format!("1-{number}"), 480, 1, 2);
            }
            assert!(looking.into_iter().all(|thread| thread.join().unwrap()));
        });
        let devices = list.devices(tree.roots()).unwrap();
        assert_eq!(devices.len(), 39);
        assert_eq!(list.devices(tree.roots()).unwrap(), devices);
    }

    #[test]
    fn what_cannot_be_looked_at_is_left_out() {
        let tree = Tree::new();
        let list = List::default();
        tree.root(1, 480).device("1-1", 480, 1, 2).device("1-2", 480, 1, 2).device("1-3", 480, 1, 2);
        tree.set("1-1", "idVendor", "no number").set("1-2", "devnum", 999).set("1-x", "devnum", 3);
        std::fs::write(tree.path("sys/bus/usb/devices/1-3/serial"), b"\xff\xfe").unwrap();
        let devices = list.devices(tree.roots()).unwrap();
        assert_eq!(devices.iter().map(|device| device.path.to_string()).collect::<Vec<_>>(), ["1-3"]);
        assert_eq!(devices[0].serial.as_deref(), Some("\u{fffd}\u{fffd}"));
        // A serial without an end is cut.
        tree.set("1-3", "serial", "x".repeat(5000));
        assert_eq!(list.devices(tree.roots()).unwrap()[0].serial.as_ref().unwrap().len(), 1024);
    }

    #[test]
    fn a_system_without_usb() {
        let tree = Tree::new();
        let roots = Roots::under(&tree.path("nowhere"));
        let list = List::default();
        let error = list.devices(&roots).unwrap_err();
        assert!(matches!(&error, BusError::NoUsb { missing } if *missing == roots.devices()), "{error}");
        assert_eq!(list.changes(&roots), list.changes(&roots));
        std::fs::create_dir_all(roots.sys.join("bus/usb")).unwrap();
        std::fs::write(roots.devices(), "no folder").unwrap();
        assert!(matches!(list.devices(&roots), Err(BusError::List(_))));
    }
}
