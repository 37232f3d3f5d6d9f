//! The seam to a bus: which devices are on it, and pipes to them.
//!
//! A board is known by its [`Port`], not by its address or identifiers: both change each time it comes back as
//! something else. [`Bus`] is implemented over libusb (`usb`, unless that feature is off), and by virtual boards.
//!
//! Left out: what the devices are ([`crate::chips`]) and how a board is followed from stage to stage
//! ([`crate::boot`]).

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::chips::ReportRoute;
use crate::pipe::{BulkPipe, ReportPipe};

/// Where a device is plugged in, as sysfs writes it: the bus, then the port of each hub on the way, as in `1-4.2.10`.
///
/// Ordered by numbers, so that `1-4.2` comes before `1-4.10`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    bus: u8,
    hops: Vec<u8>,
}

/// Text that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no USB port: they are written as in 1-4.2")]
pub struct PortError(String);

impl Port {
    /// USB allows seven tiers: a root hub, five hubs, a device.
    pub const MAX_HOPS: usize = 6;

    /// The port at the end of these hops. `None` without hops, with too many, or with a zero among the numbers.
    pub fn new(bus: u8, hops: &[u8]) -> Option<Self> {
        let right = bus != 0 && !hops.is_empty() && hops.len() <= Self::MAX_HOPS && !hops.contains(&0);
        right.then(|| Self { bus, hops: hops.to_vec() })
    }

    /// Number of the bus.
    pub fn bus(&self) -> u8 {
        self.bus
    }

    /// Port numbers from the root hub on; at least one.
    pub fn hops(&self) -> &[u8] {
        &self.hops
    }

    /// The port of the hub this one belongs to; `None` for a port of the root hub.
    pub fn hub(&self) -> Option<Self> {
        let (_, hops) = self.hops.split_last()?;
        Self::new(self.bus, hops)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.bus)?;
        for (n, hop) in self.hops.iter().enumerate() {
            write!(f, "{}{hop}", if n == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let error = || PortError(text.chars().take(64).collect());
        let number = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse::<u8>().ok().filter(|_| plain).ok_or_else(error)
        };
        let (bus, hops) = text.split_once('-').ok_or_else(error)?;
        let hops = hops.split('.').take(Self::MAX_HOPS + 1).map(number).collect::<Result<Vec<_>, _>>()?;
        Self::new(number(bus)?, &hops).ok_or_else(error)
    }
}

/// Tells one coming of a device from the next: a bus never gives one out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Visit(pub u64);

/// How fast a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speed {
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s and more.
    Super,
}

/// An interface of a device's active configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its number.
    pub number: u8,
    /// Class, subclass and protocol: `[0xff, 0x42, 0x03]` for fastboot, `[0x03, _, _]` for HID.
    pub class: [u8; 3],
}

/// A device on a bus, as its descriptors tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The connector: its high-speed side, where the bus knows which two sides belong together.
    pub port: Port,
    /// Where it was enumerated; differs from `port` on the SuperSpeed side.
    pub path: Port,
    /// Which coming of it this is.
    pub visit: Visit,
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// `bcdDevice`.
    pub release: u16,
    /// The serial number that the device descriptor names, where it could be read without opening the device.
    pub serial: Option<String>,
    /// Connected how fast; `None` if the system does not say.
    pub speed: Option<Speed>,
    /// The interfaces of the active configuration; empty if unknown.
    pub interfaces: Vec<Interface>,
}

/// Class, subclass and protocol of fastboot.
pub const FASTBOOT_CLASS: [u8; 3] = [0xff, 0x42, 0x03];

impl Device {
    /// Has it an interface of fastboot's class?
    pub fn speaks_fastboot(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.class == FASTBOOT_CLASS)
    }
}

/// What was on a bus at a moment, for those who wait for something to come or to leave.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// [`Bus::changes`] from before the look, for [`Bus::wait`].
    pub changes: u64,
    /// [`Bus::now`] from before the look: where it is past a deadline, the look was too.
    pub now: Duration,
    /// The devices.
    pub devices: Vec<Device>,
}

/// Devices, and pipes to them.
///
/// Opening may fail for a moment while the system sets a new device up; implementations retry that for about two
/// seconds before they report it.
pub trait Bus: fmt::Debug + Send + Sync {
    /// What is on the bus now. Devices that cannot be looked at are left out.
    ///
    /// # Errors
    /// When the bus as a whole cannot be listed.
    fn devices(&self) -> Result<Vec<Device>, BusError>;

    /// Counts changes of the bus: take it, then look at the devices, then [`Bus::wait`].
    fn changes(&self) -> u64;

    /// The devices, and what has to be taken before them: who takes the time afterwards, and was kept from running in
    /// between, gives up what has come meanwhile.
    ///
    /// # Errors
    /// When the bus as a whole cannot be listed.
    fn look(&self) -> Result<Snapshot, BusError> {
        let (changes, now) = (self.changes(), self.now());
        Ok(Snapshot { changes, now, devices: self.devices()? })
    }

    /// Returns when there were changes since `seen`, or after `within`; sooner, too, at times.
    fn wait(&self, seen: u64, within: Duration);

    /// Time as this bus has it, since whenever. A virtual bus may run on simulated time.
    fn now(&self) -> Duration;

    /// A pipe for HID reports to interface 0. `route` says which way reports go where the interface has no OUT endpoint.
    ///
    /// # Errors
    /// [`OpenError`].
    fn reports(&self, device: &Device, route: ReportRoute) -> Result<Box<dyn ReportPipe + Send>, OpenError>;

    /// A pipe to the two bulk endpoints of the fastboot interface; of interface 0 if none is of that class.
    ///
    /// # Errors
    /// [`OpenError`].
    fn bulk(&self, device: &Device) -> Result<Box<dyn BulkPipe + Send>, OpenError>;

    /// A string descriptor by its number: boot ROMs keep their serial number in one that nothing names. `None` if there
    /// is none.
    ///
    /// # Errors
    /// [`OpenError`].
    fn string(&self, device: &Device, index: u8) -> Result<Option<String>, OpenError>;

    /// Resets the device where it is: U-Boot's fastboot then forgets a download under way and listens to commands again.
    /// Nobody may have a pipe to it. `false` where this bus cannot do that.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Gone`] if the device left over it.
    fn reset(&self, device: &Device) -> Result<bool, OpenError> {
        let _ = device;
        Ok(false)
    }
}

/// A bus that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The system has no USB.
    #[error("this system has no USB subsystem ({})", missing.display())]
    NoUsb {
        /// What was looked for.
        missing: PathBuf,
    },
    /// Listing failed.
    #[error("cannot list the devices on USB")]
    List(#[source] Box<dyn Error + Send + Sync>),
}

/// A device that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It left in the meantime.
    #[error("the board at {port} is gone")]
    Gone {
        /// Where it was.
        port: Port,
    },
    /// No permission.
    #[error("no permission to open the board at {port}")]
    Denied {
        /// Where it is.
        port: Port,
        /// Its device node, where there is one.
        node: Option<PathBuf>,
    },
    /// The system has no device node for it, as in containers that were not given one.
    #[error("there is no device node {} for the board at {port}", node.display())]
    NoNode {
        /// Where it is.
        port: Port,
        /// What was looked for.
        node: PathBuf,
    },
    /// Another program or a driver has it.
    #[error("the board at {port} is in use by {}", by.as_deref().unwrap_or("another program or a driver"))]
    Busy {
        /// Where it is.
        port: Port,
        /// By whom, where that is known.
        by: Option<String>,
    },
    /// It lacks the interface or endpoints that are needed.
    #[error("the device at {port} has no {lacks}")]
    Lacks {
        /// Where it is.
        port: Port,
        /// What it lacks.
        lacks: &'static str,
    },
    /// Anything else.
    #[error("cannot open the board at {port}")]
    Other {
        /// Where it is.
        port: Port,
        /// What the system said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_sysfs_writes_them() {
        for text in ["1-4", "1-4.2.10", "255-1.2.3.4.5.6"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        for wrong in ["", "1", "1-", "-1", "1-0", "0-1", "1-1.", "1-01", "1-1.256", "1-1.2.3.4.5.6.7", "1-+1", "usb1"] {
            assert_eq!(wrong.parse::<Port>(), Err(PortError(wrong.to_owned())));
        }
        let port: Port = "1-4.2".parse().unwrap();
        assert!(port < "1-4.10".parse().unwrap() && port > "1-4".parse().unwrap());
        assert_eq!(port.hub(), "1-4".parse().ok());
        assert_eq!(port.hub().unwrap().hub(), None);
    }
}
