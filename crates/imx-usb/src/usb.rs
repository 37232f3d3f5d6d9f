//! Real USB.
//!
//! - [`UsbBus`]: the devices on it.
//! - [`facts`]: what there is to know about this system's USB when something does not work.
//!
//! Linux only.

pub mod facts;
mod list;
mod peers;
mod roots;
mod sysfs;
#[cfg(test)]
pub(crate) mod tree;
mod wait;

use std::time::Duration;

pub use roots::Roots;

use crate::bus::{BusError, Device};
use list::List;

/// The USB of this system. Starts no threads.
#[derive(Debug, Default)]
pub struct UsbBus {
    roots: Roots,
    list: List,
}

impl UsbBus {
    /// This system's. Whether it has any USB shows when its devices are asked for.
    pub fn system() -> Self {
        Self::default()
    }

    /// The one that is seen in these folders.
    pub fn under(roots: Roots) -> Self {
        Self { roots, list: List::default() }
    }

    /// What is on the bus now.
    ///
    /// # Errors
    /// When there is no USB, or it cannot be listed.
    pub fn devices(&self) -> Result<Vec<Device>, BusError> {
        self.list.devices(&self.roots)
    }

    /// Counts changes of the bus.
    pub fn changes(&self) -> u64 {
        self.list.changes(&self.roots)
    }

    /// Returns when there were changes since `seen`, or after `within`.
    pub fn wait(&self, seen: u64, within: Duration) {
        wait::wait(within, || self.changes() != seen);
    }
}
