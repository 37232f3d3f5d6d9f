//! A made-up sysfs, /dev and /proc for tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::roots::Roots;

/// Grows under a temporary folder. Names are those of `bus/usb/devices`; folders there are no links, as the code does
/// not care.
#[derive(Debug)]
pub(crate) struct Tree {
    folder: TempDir,
    roots: Roots,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let roots = Roots::under(folder.path());
        fs::create_dir_all(roots.devices()).unwrap();
        Self { folder, roots }
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// A file anywhere in the tree.
    pub(crate) fn file(&self, below: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// An attribute of a device or interface.
    pub(crate) fn set(&self, name: &str, attribute: &str, value: impl std::fmt::Display) -> &Self {
        self.file(&format!("sys/bus/usb/devices/{name}/{attribute}"), format!("{value}\n"))
    }

    /// A link in `bus/usb/devices`.
    pub(crate) fn link(&self, name: &str, target: impl AsRef<Path>) -> &Self {
        let path = self.roots.devices().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// A bus with that many Mbit/s.
    pub(crate) fn root(&self, bus: u8, mbit: u32) -> &Self {
        let name = format!("usb{bus}");
        self.set(&name, "busnum", bus).set(&name, "devnum", 1).set(&name, "speed", mbit);
        self.set(&name, "idVendor", "1d6b").set(&name, "idProduct", "0002").set(&name, "product", "A root hub")
    }

    /// A device; its address is the number of devices before it, and one.
    pub(crate) fn device(&self, path: &str, mbit: u32, vendor: u16, product: u16) -> &Self {
        let bus = path.split('-').next().unwrap();
        let address = fs::read_dir(self.roots.devices()).unwrap().count() + 1;
        self.set(path, "busnum", bus).set(path, "devnum", address).set(path, "speed", mbit);
        self.set(path, "idVendor", format!("{vendor:04x}")).set(path, "idProduct", format!("{product:04x}"));
        self.set(path, "bcdDevice", "0100")
    }

    /// An interface of a device.
    pub(crate) fn interface(&self, path: &str, number: u8, class: [u8; 3]) -> &Self {
        let name = format!("{path}/{path}:1.{number}");
        self.set(&name, "bInterfaceNumber", format!("{number:02x}"));
        for (attribute, value) in ["bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"].iter().zip(class) {
            self.set(&name, attribute, format!("{value:02x}"));
        }
        self
    }

    pub(crate) fn hub(&self, path: &str, mbit: u32) -> &Self {
        self.device(path, mbit, 0x05e3, 0x0610).interface(path, 0, [9, 0, 0])
    }

    /// The SuperSpeed port `from` is the other side of the high-speed port `to`.
    pub(crate) fn peers(&self, from: &str, to: &str) -> &Self {
        let (hub, interface, hop) = Self::hop(from);
        let (peer, peer_interface, peer_hop) = Self::hop(to);
        let target = format!("../../../{peer}/{peer_interface}/{peer}-port{peer_hop}");
        self.link(&format!("{interface}/{hub}-port{hop}/peer"), target)
    }

    fn hop(port: &str) -> (String, String, &str) {
        match port.rsplit_once('.') {
            Some((hub, hop)) => (hub.to_owned(), format!("{hub}:1.0"), hop),
            None => {
                let (bus, hop) = port.split_once('-').unwrap();
                (format!("usb{bus}"), format!("{bus}-0:1.0"), hop)
            }
        }
    }

    /// It leaves.
    pub(crate) fn unplug(&self, path: &str) {
        fs::remove_dir_all(self.roots.devices().join(path)).unwrap();
    }
}
