//! Opening a device, with the patience that a system takes which has only just seen it: its node may be missing for a
//! moment, belong to root until udev has looked at it, or be held by a program that looks at everything new.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use super::UsbBus;
use super::facts;
use super::fault::{NodeFault, node_fault};
use super::sysfs;
use super::transfer::Opened;
use crate::bus::{Device, OpenError, Port};
use crate::descriptors::{Setting, settings};

/// How long opening is tried.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Time between tries.
const PAUSE: Duration = Duration::from_millis(25);

/// A try that failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// It may work in a moment.
    Now(OpenError),
    /// It will not.
    ForGood(OpenError),
}

/// Tries until it works, fails for good, or `patience` is over.
pub(super) fn patiently<T>(patience: Duration, mut attempt: impl FnMut() -> Result<T, Failed>) -> Result<T, OpenError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(opened) => return Ok(opened),
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::Now(error)) if start.elapsed() >= patience => return Err(error),
            Err(Failed::Now(_)) => thread::sleep(PAUSE),
        }
    }
}

/// Opens the node of a device; claims nothing.
pub(super) fn open(bus: &UsbBus, device: &Device) -> Result<Arc<Opened>, Failed> {
    let port = || device.port.clone();
    if !bus.list.is_there(&bus.roots, device) {
        return Err(Failed::ForGood(OpenError::Gone { port: port() }));
    }
    let Some(shown) = sysfs::device(&bus.roots, &device.path) else {
        return Err(Failed::Now(OpenError::Gone { port: port() }));
    };
    let path = bus.roots.node(shown.bus, shown.address);
    let node = File::options().read(true).write(true).open(&path).map_err(|error| {
        let fault = node_fault(&error);
        let error = node_error(fault, port(), &path, error);
        if fault == NodeFault::Other { Failed::ForGood(error) } else { Failed::Now(error) }
    })?;
    // The device may have left since, and another have taken its address.
    if !bus.list.is_there(&bus.roots, device) {
        return Err(Failed::ForGood(OpenError::Gone { port: port() }));
    }
    Opened::new(node).map(Arc::new).map_err(|error| libusb_failed(error, device, None))
}

/// What a node that cannot be opened is to a caller.
fn node_error(fault: NodeFault, port: Port, path: &Path, source: io::Error) -> OpenError {
    match fault {
        NodeFault::Denied => OpenError::Denied { port, node: Some(path.to_owned()) },
        NodeFault::Missing => OpenError::NoNode { port, node: path.to_owned() },
        NodeFault::Gone => OpenError::Gone { port },
        NodeFault::Other => OpenError::Other { port, source: source.into() },
    }
}

/// What a failure of libusb is to a caller.
pub(super) fn libusb_failed(error: rusb::Error, device: &Device, by: Option<String>) -> Failed {
    let port = device.port.clone();
    match error {
        rusb::Error::NoDevice => Failed::Now(OpenError::Gone { port }),
        rusb::Error::Access => Failed::Now(OpenError::Denied { port, node: None }),
        rusb::Error::Busy => Failed::Now(OpenError::Busy { port, by }),
        error => Failed::Now(OpenError::Other { port, source: error.into() }),
    }
}

/// The settings of a device's active configuration. A device has none until the kernel chose a configuration.
pub(super) fn active_settings(bus: &UsbBus, device: &Device) -> Result<Vec<Setting>, Failed> {
    let folder = sysfs::folder(&bus.roots, &device.path);
    let lacks = |lacks| Failed::Now(OpenError::Lacks { port: device.port.clone(), lacks });
    let active = sysfs::number(&folder, "bConfigurationValue").ok_or_else(|| lacks("active configuration"))?;
    let descriptors = sysfs::descriptors(&folder).ok_or_else(|| lacks("readable descriptors"))?;
    Ok(settings(&descriptors, active))
}

/// Takes an interface for this process, from the kernel's driver if one has it.
///
/// The driver does not get it back: it would ask the device things at once, and a boot ROM that was just told to start
/// something else answers none of them, which keeps the kernel from seeing it leave.
pub(super) fn claim(bus: &UsbBus, device: &Device, opened: &Opened, interface: u8) -> Result<(), Failed> {
    let handle = opened.handle();
    // Taken from a driver in one step. Where the system cannot do that, claiming tells whether there is one.
    let _ = handle.set_auto_detach_kernel_driver(true);
    let claimed = handle.claim_interface(interface);
    // Libusb gives back what it took only if it is still told to when it lets go.
    let _ = handle.set_auto_detach_kernel_driver(false);
    claimed.map_err(|error| match error {
        rusb::Error::Busy => libusb_failed(error, device, holder(bus, device, interface)),
        rusb::Error::NotFound => Failed::Now(OpenError::Lacks { port: device.port.clone(), lacks: "such interface" }),
        error => libusb_failed(error, device, None),
    })
}

/// Who has the interface, in words.
fn holder(bus: &UsbBus, device: &Device, interface: u8) -> Option<String> {
    let node = facts::node(&bus.roots, &device.path)?;
    let programs = facts::holders(&bus.roots, &node.path).processes;
    if !programs.is_empty() {
        let programs = programs.iter().map(|process| format!("{} (process {})", process.name, process.pid));
        return Some(programs.collect::<Vec<_>>().join(", "));
    }
    let drivers = facts::drivers(&bus.roots, &device.path);
    let driver = drivers.into_iter().find(|driver| driver.interface == interface && driver.name != "usbfs")?;
    Some(format!("the kernel's driver {}", driver.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Bus, FASTBOOT_CLASS};
    use crate::chips::ReportRoute;
    use crate::usb::tree::Tree;

    fn failed(lacks: &'static str) -> OpenError {
        OpenError::Lacks { port: Port::new(1, &[1]).unwrap(), lacks }
    }

    #[test]
    fn patience_ends() {
        let mut tries = 0;
        let result = patiently(Duration::from_millis(60), || -> Result<(), _> {
            tries += 1;
            Err(Failed::Now(failed("luck")))
        });
        assert!(matches!(result, Err(OpenError::Lacks { lacks: "luck", .. })));
        assert!(tries > 1, "{tries}");
        let mut tries = 0;
        let result = patiently(PATIENCE, || {
            tries += 1;
            if tries == 2 { Ok(7) } else { Err(Failed::Now(failed("luck"))) }
        });
        assert_eq!(result.unwrap(), 7);
        let result = patiently(Duration::MAX, || -> Result<(), _> { Err(Failed::ForGood(failed("hope"))) });
        assert!(matches!(result, Err(OpenError::Lacks { lacks: "hope", .. })));
    }

    fn board() -> Tree {
        let tree = Tree::new();
        tree.root(1, 480).device("1-1", 480, 0x1fc9, 0x0152).interface("1-1", 0, FASTBOOT_CLASS);
        tree
    }

    #[test]
    fn a_device_that_left_is_gone_at_once() {
        let tree = board();
        let bus = UsbBus::under(tree.roots().clone());
        let device = bus.devices().unwrap().remove(0);
        tree.unplug("1-1");
        assert!(matches!(open(&bus, &device), Err(Failed::ForGood(OpenError::Gone { .. }))));
        let start = Instant::now();
        assert!(matches!(bus.bulk(&device), Err(OpenError::Gone { .. })));
        assert!(start.elapsed() < PATIENCE);
        let start = Instant::now();
        assert!(matches!(bus.string(&device, 4), Err(OpenError::Gone { .. })));
        assert!(start.elapsed() < PATIENCE);
        // Another in its place is not it.
        tree.device("1-1", 480, 0x1fc9, 0x0152).set("1-1", "devnum", 99);
        assert!(matches!(bus.reports(&device, ReportRoute::Control), Err(OpenError::Gone { .. })));
    }

    #[test]
    fn nodes_that_are_missing_or_no_devices() {
        let tree = board();
        let bus = UsbBus::under(tree.roots().clone());
        let device = bus.devices().unwrap().remove(0);
        let node = tree.path("dev/bus/usb/001/002");
        let start = Instant::now();
        let error = bus.bulk(&device).err().unwrap();
        assert!(matches!(&error, OpenError::NoNode { node: missing, .. } if *missing == node), "{error}");
        assert!(start.elapsed() >= PATIENCE);
        tree.file("dev/bus/usb/001/002", "no device");
        assert!(matches!(open(&bus, &device), Err(Failed::Now(OpenError::Other { .. }))));
    }

    #[test]
    fn what_a_node_says_is_kept() {
        let port = || Port::new(1, &[1]).unwrap();
        let node = Path::new("/dev/bus/usb/001/002");
        let error = |fault| node_error(fault, port(), node, io::Error::other("why"));
        assert!(matches!(error(NodeFault::Denied), OpenError::Denied { node: Some(at), .. } if at == node));
        assert!(matches!(error(NodeFault::Missing), OpenError::NoNode { node: at, .. } if at == node));
        assert!(matches!(error(NodeFault::Gone), OpenError::Gone { .. }));
        let error = error(NodeFault::Other);
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "why");
    }

    #[test]
    fn who_holds_a_board() {
        let tree = board();
        let bus = UsbBus::under(tree.roots().clone());
        let device = bus.devices().unwrap().remove(0);
        assert_eq!(holder(&bus, &device, 0), None);
        tree.link("1-1/1-1:1.0/driver", "../../drivers/usbhid");
        assert_eq!(holder(&bus, &device, 0).as_deref(), Some("the kernel's driver usbhid"));
        assert_eq!(holder(&bus, &device, 1), None);
        tree.file("proc/20/comm", "uuu\n").file("proc/20/fd/0", "");
        std::os::unix::fs::symlink(tree.path("dev/bus/usb/001/002"), tree.path("proc/20/fd/7")).unwrap();
        assert_eq!(holder(&bus, &device, 0).as_deref(), Some("uuu (process 20)"));
    }

    #[test]
    fn settings_come_with_a_configuration() {
        let tree = board();
        let bus = UsbBus::under(tree.roots().clone());
        let device = bus.devices().unwrap().remove(0);
        let lacks = |result| match result {
            Err(Failed::Now(OpenError::Lacks { lacks, .. })) => lacks,
            other => panic!("{other:?}"),
        };
        // As sysfs shows it before the kernel chose one.
        tree.set("1-1", "bConfigurationValue", "");
        assert_eq!(lacks(active_settings(&bus, &device)), "active configuration");
        tree.set("1-1", "bConfigurationValue", 1);
        assert_eq!(lacks(active_settings(&bus, &device)), "readable descriptors");
        let bytes = [9, 2, 18, 0, 1, 1, 0, 0x80, 50, 9, 4, 0, 0, 0, 0xff, 0x42, 3, 0];
        tree.file("sys/bus/usb/devices/1-1/descriptors", bytes);
        assert_eq!(active_settings(&bus, &device).unwrap()[0].class, FASTBOOT_CLASS);
    }
}
