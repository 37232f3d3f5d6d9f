//! A made-up machine with USB: sysfs, device nodes, processes and rules, in files.

use std::os::unix::fs::symlink;

use crate::support::Room;

/// Grows under `root` in a room.
pub(crate) struct Machine {
    pub(crate) room: Room,
}

impl Machine {
    /// Two buses, udevd, and nothing plugged in.
    pub(crate) fn new() -> Self {
        let machine = Self { room: Room::new() };
        for (bus, mbit) in [(1, "480"), (2, "5000")] {
            let name = format!("usb{bus}");
            machine.set(&name, "busnum", &bus.to_string()).set(&name, "devnum", "1").set(&name, "speed", mbit);
            machine.set(&name, "idVendor", "1d6b").set(&name, "idProduct", "0002").set(&name, "product", "xHCI");
        }
        machine.file("run/udev/control", "").file("dev/bus/usb/001/001", "");
        machine.file("sys/module/usbcore/parameters/usbfs_memory_mb", "16\n");
        machine
    }

    pub(crate) fn file(&self, below: &str, text: &str) -> &Self {
        self.room.write(&format!("root/{below}"), text.as_bytes());
        self
    }

    pub(crate) fn set(&self, name: &str, attribute: &str, value: &str) -> &Self {
        self.file(&format!("sys/bus/usb/devices/{name}/{attribute}"), &format!("{value}\n"))
    }

    /// A device with one interface, and its node: a device file, if there are rights to make one, else a plain one.
    pub(crate) fn device(&self, path: &str, address: u8, ids: &str, class: [u8; 3], mbit: &str) -> &Self {
        let (vendor, rest) = ids.split_once(':').unwrap();
        let (product, release) = rest.split_once('@').unwrap_or((rest, "0001"));
        self.set(path, "busnum", "1").set(path, "devnum", &address.to_string()).set(path, "speed", mbit);
        self.set(path, "idVendor", vendor).set(path, "idProduct", product).set(path, "bcdDevice", release);
        let interface = format!("{path}/{path}:1.0");
        self.set(&interface, "bInterfaceNumber", "00");
        for (attribute, value) in ["bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"].iter().zip(class) {
            self.set(&interface, attribute, &format!("{value:02x}"));
        }
        self.file(&format!("dev/bus/usb/001/{address:03}"), "")
    }

    /// A process, and a file it has open.
    pub(crate) fn process(&self, pid: u32, name: &str, open: Option<&str>) -> &Self {
        self.file(&format!("proc/{pid}/comm"), &format!("{name}\n")).file(&format!("proc/{pid}/fd/0"), "");
        if let Some(file) = open {
            // As the program names it: it is told of the folder by a relative path.
            symlink(format!("root/{file}"), self.room.path(&format!("root/proc/{pid}/fd/7"))).unwrap();
        }
        self
    }
}
