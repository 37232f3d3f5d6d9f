//! Real USB.
//!
//! - [`UsbBus`]: the devices on it, and pipes to them.
//! - [`facts`]: what there is to know about this system's USB when something does not work.
//!
//! Devices are found in sysfs, where the kernel itself keeps the list: it is right in containers and without udevd, and
//! tells which two ports are one connector. libusb, which is given the open device node, does the transfers. It is built
//! in (feature `vendored`), or the system's.
//!
//! Linux only.

mod bulk;
mod deadline;
pub mod facts;
mod fault;
mod list;
mod open;
mod peers;
mod queue;
mod receive;
mod reports;
mod roots;
mod strings;
mod sysfs;
mod transfer;
#[cfg(test)]
pub(crate) mod tree;
mod wait;

use std::time::Duration;

pub use fault::UsbFault;
pub use queue::Queue;
pub use roots::Roots;

use crate::bus::{Bus, BusError, Device, OpenError};
use crate::chips::ReportRoute;
use crate::descriptors;
use crate::pipe::{BulkPipe, ReportPipe, monotonic};
use list::List;
use open::{Failed, PATIENCE, active_settings, claim, open, patiently};

/// The USB of this system. Starts no threads. A pipe lets go of its interface and closes the device when it is dropped; a
/// driver of the kernel that had the interface does not get it back before the board comes again.
///
/// In its process libusb no longer looks for devices by itself, also for other users of libusb there that open theirs
/// later.
#[derive(Debug, Default)]
pub struct UsbBus {
    roots: Roots,
    list: List,
    queue: Queue,
}

impl UsbBus {
    /// This system's. Whether it has any USB shows when its devices are asked for.
    pub fn system() -> Self {
        Self::default()
    }

    /// The one that is seen in these folders.
    pub fn under(roots: Roots) -> Self {
        Self { roots, ..Self::default() }
    }

    /// Uses another number or size of transfers for bulk pipes opened from now on.
    #[must_use]
    pub fn with_queue(self, queue: Queue) -> Self {
        Self { queue, ..self }
    }

    /// The folders it looks into: for [`facts`].
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    fn lacks(device: &Device) -> impl Fn(&'static str) -> Failed {
        let port = device.port.clone();
        move |lacks| Failed::ForGood(OpenError::Lacks { port: port.clone(), lacks })
    }
}

impl Bus for UsbBus {
    fn devices(&self) -> Result<Vec<Device>, BusError> {
        self.list.devices(&self.roots)
    }

    fn changes(&self) -> u64 {
        self.list.changes(&self.roots)
    }

    fn wait(&self, seen: u64, within: Duration) {
        wait::wait(within, || self.changes() != seen);
    }

    fn now(&self) -> Duration {
        monotonic()
    }

    fn reports(&self, device: &Device, route: ReportRoute) -> Result<Box<dyn ReportPipe + Send>, OpenError> {
        patiently(PATIENCE, || {
            let opened = open(self, device)?;
            let settings = active_settings(self, device)?;
            let endpoints = descriptors::report_endpoints(&settings).map_err(Self::lacks(device))?;
            claim(self, device, &opened, endpoints.interface)?;
            let pipe: Box<dyn ReportPipe + Send> = Box::new(reports::Reports::new(opened, endpoints, route));
            Ok(pipe)
        })
    }

    fn bulk(&self, device: &Device) -> Result<Box<dyn BulkPipe + Send>, OpenError> {
        patiently(PATIENCE, || {
            let opened = open(self, device)?;
            let settings = active_settings(self, device)?;
            let pair = descriptors::bulk_pair(&settings).map_err(Self::lacks(device))?;
            claim(self, device, &opened, pair.interface)?;
            let pipe: Box<dyn BulkPipe + Send> = Box::new(bulk::Bulk::new(opened, pair, self.queue));
            Ok(pipe)
        })
    }

    fn string(&self, device: &Device, index: u8) -> Result<Option<String>, OpenError> {
        patiently(PATIENCE, || {
            let opened = open(self, device)?;
            strings::string(opened.handle(), index).map_err(|error| open::libusb_failed(error, device, None))
        })
    }

    fn reset(&self, device: &Device) -> Result<bool, OpenError> {
        // One that is just leaving may have no node any more and be listed still.
        let opened = patiently(PATIENCE, || open(self, device))?;
        patiently(Duration::ZERO, || match opened.handle().reset() {
            Ok(()) => Ok(true),
            // It comes back as another device, or not at all.
            Err(rusb::Error::NotFound) => Err(Failed::ForGood(OpenError::Gone { port: device.port.clone() })),
            Err(error) => Err(open::libusb_failed(error, device, None)),
        })
    }
}
