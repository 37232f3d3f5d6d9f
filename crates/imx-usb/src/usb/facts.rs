//! What there is to know about this system's USB when something does not work, as values: a caller judges them and
//! puts them into words.
//!
//! Nothing here opens a device. What cannot be read is `None` or left out. Devices are named by the port where they are
//! enumerated ([`crate::bus::Device::path`]).

mod processes;
mod rules;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::unistd::{AccessFlags, Gid, Group, Uid, User, access};

pub use processes::{Holders, Process, RIVALS, holders, rivals};
pub use rules::{Grants, LATE_RULES, Rule, rules};

use super::roots::Roots;
use super::sysfs;
use crate::bus::{Port, Speed};

/// Is there USB at all, and who makes its device nodes?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subsystem {
    /// The kernel has USB, and sysfs shows it (`/sys/bus/usb/devices`).
    pub sysfs: bool,
    /// There is a folder of device nodes (`/dev/bus/usb`).
    pub nodes: bool,
    /// udevd runs, so rules have an effect.
    pub udevd: bool,
    /// Number of buses.
    pub buses: usize,
}

/// Looks for the parts of USB.
pub fn subsystem(roots: &Roots) -> Subsystem {
    let entries = sysfs::entries(roots).unwrap_or_default();
    Subsystem {
        sysfs: roots.devices().is_dir(),
        nodes: roots.nodes().is_dir(),
        udevd: roots.run.join("udev/control").exists(),
        buses: entries.iter().filter(|entry| entry.name.starts_with("usb")).count(),
    }
}

/// How much memory all transfers of all programs together may take, in MiB; 0 is without limit.
pub fn usbfs_memory_mb(roots: &Roots) -> Option<u32> {
    sysfs::number(&roots.sys.join("module/usbcore/parameters"), "usbfs_memory_mb")
}

/// The libusb in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libusb {
    /// Its version, as in `1.0.27`.
    pub version: String,
    /// Is it built in, rather than the system's?
    pub vendored: bool,
}

/// Which libusb is it?
pub fn libusb() -> Libusb {
    let version = rusb::version();
    let version = format!("{}.{}.{}", version.major(), version.minor(), version.micro());
    Libusb { version, vendored: cfg!(feature = "vendored") }
}

/// When the kernel lets a device sleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Power {
    /// It may sleep when idle (`power/control` is `auto`). Only a driver that asks for it, or usbfs, matters then: a device
    /// that is open never sleeps.
    pub autosuspend: bool,
    /// After how many milliseconds; negative is never.
    pub delay_ms: Option<i32>,
    /// It sleeps now.
    pub suspended: bool,
}

/// How the power of a device is managed.
pub fn power(roots: &Roots, path: &Port) -> Option<Power> {
    let folder = sysfs::folder(roots, path).join("power");
    Some(Power {
        autosuspend: sysfs::text(&folder, "control")? == "auto",
        delay_ms: sysfs::number(&folder, "autosuspend_delay_ms"),
        suspended: sysfs::text(&folder, "runtime_status").is_some_and(|status| status == "suspended"),
    })
}

/// A device on the way from the root hub to a device, or that device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Its name in sysfs: `usb1`, `1-4`, `1-4.2`.
    pub name: String,
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// What it calls itself: manufacturer and product.
    pub title: Option<String>,
    /// Connected how fast.
    pub speed: Option<Speed>,
    /// The same in Mbit/s; 1.5 is told as 1.
    pub mbit: Option<u32>,
    /// The USB version it speaks, as in `2.10`. From 3.0 on it is connected by SuperSpeed; 2.10 at high speed could
    /// often do more.
    pub version: Option<String>,
}

/// The hubs between the root hub and a device, and the device, from the root on. Those that are not there are left out.
pub fn chain(roots: &Roots, path: &Port) -> Vec<Hop> {
    let mut ports: Vec<_> = std::iter::successors(Some(path.clone()), Port::hub).collect();
    ports.reverse();
    let names = std::iter::once(format!("usb{}", path.bus())).chain(ports.iter().map(Port::to_string));
    names.filter_map(|name| hop(roots, name)).collect()
}

fn hop(roots: &Roots, name: String) -> Option<Hop> {
    let folder = roots.devices().join(&name);
    let titles: Vec<_> = ["manufacturer", "product"].iter().filter_map(|name| sysfs::text(&folder, name)).collect();
    Some(Hop {
        name,
        vendor: sysfs::hex(&folder, "idVendor")?,
        product: sysfs::hex(&folder, "idProduct")?,
        title: (!titles.is_empty()).then(|| titles.join(" ")),
        speed: sysfs::speed(&folder),
        mbit: sysfs::mbit(&folder),
        version: sysfs::text(&folder, "version").map(|version| version.trim().to_owned()),
    })
}

/// A kernel driver that is bound to an interface of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Number of the interface.
    pub interface: u8,
    /// Name of the driver; `usbfs` is a program.
    pub name: String,
}

/// The drivers bound to a device's interfaces.
pub fn drivers(roots: &Roots, path: &Port) -> Vec<Driver> {
    let folders = sysfs::interface_folders(&sysfs::folder(roots, path), path);
    let mut found: Vec<_> = folders
        .filter_map(|folder| {
            let interface = sysfs::hex(&folder, "bInterfaceNumber").and_then(|number| u8::try_from(number).ok())?;
            let driver = fs::read_link(folder.join("driver")).ok()?;
            Some(Driver { interface, name: driver.file_name()?.to_string_lossy().into_owned() })
        })
        .collect();
    found.sort_unstable_by_key(|driver| driver.interface);
    found
}

/// The device node of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it is, or should be.
    pub path: PathBuf,
    /// Who may open it; `None` if there is no such node.
    pub access: Option<Access>,
}

/// Who may open a device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Permission bits, as in `0o664`.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the owner.
    pub owner: Option<String>,
    /// Name of the group.
    pub group: Option<String>,
    /// May this process read and write it, access lists (as `uaccess` makes them) included?
    pub ours: bool,
}

/// The device node of a device; `None` if there is no such device.
pub fn node(roots: &Roots, path: &Port) -> Option<Node> {
    let folder = sysfs::folder(roots, path);
    let path = roots.node(sysfs::number(&folder, "busnum")?, sysfs::number(&folder, "devnum")?);
    let access = fs::metadata(&path).ok().map(|data| Access {
        mode: data.mode() & 0o7777,
        uid: data.uid(),
        gid: data.gid(),
        owner: User::from_uid(Uid::from_raw(data.uid())).ok().flatten().map(|user| user.name),
        group: Group::from_gid(Gid::from_raw(data.gid())).ok().flatten().map(|group| group.name),
        ours: access(&path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok(),
    });
    Some(Node { path, access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usb::tree::Tree;

    fn port(text: &str) -> Port {
        text.parse().unwrap()
    }

    #[test]
    fn a_system_with_and_without_usb() {
        let tree = Tree::new();
        tree.root(1, 480).root(2, 5000);
        let without = Subsystem { sysfs: true, nodes: false, udevd: false, buses: 2 };
        assert_eq!(subsystem(tree.roots()), without);
        tree.file("dev/bus/usb/001/001", "").file("run/udev/control", "");
        assert_eq!(subsystem(tree.roots()), Subsystem { nodes: true, udevd: true, ..without });
        let nothing = Roots::under(&tree.path("nowhere"));
        assert_eq!(subsystem(&nothing), Subsystem { sysfs: false, nodes: false, udevd: false, buses: 0 });
        assert_eq!(usbfs_memory_mb(&nothing), None);
        assert_eq!(
            usbfs_memory_mb(tree.file("sys/module/usbcore/parameters/usbfs_memory_mb", "16\n").roots()),
            Some(16)
        );
    }

    #[test]
    fn the_way_to_a_device() {
        let tree = Tree::new();
        tree.root(1, 480).hub("1-4", 480).device("1-4.2", 12, 0x1fc9, 0x0146);
        tree.set("1-4.2", "manufacturer", "NXP").set("1-4.2", "product", "SE Blank").set("1-4.2", "version", " 2.00");
        let hops = chain(tree.roots(), &port("1-4.2"));
        assert_eq!(hops.iter().map(|hop| &*hop.name).collect::<Vec<_>>(), ["usb1", "1-4", "1-4.2"]);
        assert_eq!(hops[0].title.as_deref(), Some("A root hub"));
        assert_eq!((hops[1].speed, &hops[1].title), (Some(Speed::High), &None));
        let last = Hop {
            name: "1-4.2".to_owned(),
            vendor: 0x1fc9,
            product: 0x0146,
            title: Some("NXP SE Blank".to_owned()),
            speed: Some(Speed::Full),
            mbit: Some(12),
            version: Some("2.00".to_owned()),
        };
        assert_eq!(hops[2], last);
        assert_eq!(chain(tree.roots(), &port("3-1")), []);
    }

    #[test]
    fn power_drivers_and_node() {
        let tree = Tree::new();
        tree.root(1, 480).device("1-1", 480, 0x1fc9, 0x0134).interface("1-1", 0, [3, 0, 0]);
        assert_eq!(power(tree.roots(), &port("1-1")), None);
        tree.set("1-1", "power/control", "auto").set("1-1", "power/autosuspend_delay_ms", -1000);
        tree.set("1-1", "power/runtime_status", "active");
        let sleeps = Power { autosuspend: true, delay_ms: Some(-1000), suspended: false };
        assert_eq!(power(tree.roots(), &port("1-1")), Some(sleeps));

        assert_eq!(drivers(tree.roots(), &port("1-1")), []);
        tree.link("1-1/1-1:1.0/driver", "../../../../bus/usb/drivers/usbhid");
        assert_eq!(drivers(tree.roots(), &port("1-1")), [Driver { interface: 0, name: "usbhid".to_owned() }]);

        let found = node(tree.roots(), &port("1-1")).unwrap();
        assert_eq!(found, Node { path: tree.path("dev/bus/usb/001/002"), access: None });
        tree.file("dev/bus/usb/001/002", "");
        let access = node(tree.roots(), &port("1-1")).unwrap().access.unwrap();
        assert!(access.ours);
        assert_eq!(access.uid, Uid::effective().as_raw());
        assert_eq!(access.mode & !0o664, 0);
        assert_eq!(node(tree.roots(), &port("1-2")), None);
    }

    #[test]
    fn this_system_can_be_asked() {
        let roots = Roots::default();
        assert_eq!(subsystem(&roots).sysfs, roots.devices().exists());
        assert!(libusb().version.starts_with("1.0."));
        assert_eq!(libusb().vendored, cfg!(feature = "vendored"));
    }
}
