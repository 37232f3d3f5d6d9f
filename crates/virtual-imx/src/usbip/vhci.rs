//! The kernel's virtual host controller (`vhci_hcd`), through sysfs: attaching boards to ports of it.
//!
//! The kernel is handed one end of a pair of sockets and drives the device through it; no network, no `usbip` tool.
//! When a board leaves the bus its socket is closed, the port becomes free, and the next stage is attached to the same
//! port, so that the port path stays as on real hardware. Needs root, and the module `vhci_hcd`.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::board::{Board, Device, Speed};

use super::serve::{Ended, serve};
use super::{Stop, Stream};

/// Where the kernel has it.
pub const SYSFS: &str = "/sys/devices/platform";
/// How long a port may take to become free.
const FREE_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// What is wrong with the virtual host controller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VhciError {
    /// It is not there.
    #[error("there is no virtual host controller at {}: is the module vhci_hcd loaded?", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file of it cannot be used.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A board's port is none of the controller's.
    #[error("{0} is no port of the virtual host controller at this speed; there are {1}")]
    NoPort(String, String),
    /// The port does not become free.
    #[error("port {0} of the virtual host controller is in use")]
    InUse(u32),
}

/// A port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its number, as `attach` and `detach` take it.
    pub number: u32,
    /// The path of a device there, as in `1-3`.
    pub path: String,
    /// The speed it is for.
    pub speed: Speed,
    /// 4: free; 5: attached; 6: in use; 7: in error.
    pub state: u32,
}

impl Port {
    /// Can something be attached?
    pub fn is_free(&self) -> bool {
        self.state == 4
    }
}

/// The controller.
#[derive(Debug, Clone)]
pub struct Vhci {
    /// `…/vhci_hcd.0`, which has the files for all of them.
    folder: PathBuf,
    root: PathBuf,
}

impl Vhci {
    /// Opens the one under `root`, usually [`SYSFS`].
    ///
    /// # Errors
    /// [`VhciError::Missing`].
    pub fn open(root: &Path) -> Result<Self, VhciError> {
        let folder = root.join("vhci_hcd.0");
        if folder.join("status").is_file() {
            Ok(Self { folder, root: root.to_owned() })
        } else {
            Err(VhciError::Missing { path: folder })
        }
    }

    fn read(path: PathBuf) -> Result<String, VhciError> {
        fs::read_to_string(&path).map_err(|source| VhciError::File { path, source })
    }

    /// All its ports, in the order of their numbers.
    ///
    /// # Errors
    /// [`VhciError::File`].
    pub fn ports(&self) -> Result<Vec<Port>, VhciError> {
        let mut ports = Vec::new();
        for controller in 0..u32::MAX {
            let name = if controller == 0 { "status".to_owned() } else { format!("status.{controller}") };
            let path = self.folder.join(name);
            if !path.is_file() {
                break;
            }
            let buses = self.buses(controller)?;
            ports.extend(read_status(&Self::read(path)?, &buses));
        }
        ports.sort_by_key(|port| port.number);
        Ok(ports)
    }

    /// The buses of a controller: their numbers by speed.
    fn buses(&self, controller: u32) -> Result<Vec<(Speed, u32)>, VhciError> {
        let folder = self.root.join(format!("vhci_hcd.{controller}"));
        let failed = |source| VhciError::File { path: folder.clone(), source };
        let mut buses = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_prefix("usb")?.parse().ok()) else { continue };
            let speed = match Self::read(entry.path().join("speed"))?.trim() {
                "480" => Speed::High,
                _ => Speed::Super,
            };
            buses.push((speed, number));
        }
        Ok(buses)
    }

    /// The port at which a device of that speed would have this path.
    ///
    /// # Errors
    /// [`VhciError::NoPort`], naming some that there are; [`VhciError::File`].
    pub fn port(&self, path: &str, speed: Speed) -> Result<Port, VhciError> {
        let mut ports = self.ports()?;
        ports.retain(|port| port.speed == speed);
        match ports.iter().find(|port| port.path == path) {
            Some(port) => Ok(port.clone()),
            None => {
                let first = ports.first().map_or("none", |port| port.path.as_str());
                let last = ports.last().map_or("none", |port| port.path.as_str());
                Err(VhciError::NoPort(path.to_owned(), format!("{first} to {last}")))
            }
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), VhciError> {
        let path = self.folder.join(file);
        fs::write(&path, text).map_err(|source| VhciError::File { path, source })
    }

    /// Attaches a device to a port once that is free, and returns the end of the socket that the device has.
    ///
    /// # Errors
    /// [`VhciError::InUse`] when it is not free within ten seconds or `stop` is set; [`VhciError::File`].
    pub fn attach(&self, device: &Device, stop: &Stop) -> Result<Stream, VhciError> {
        let until = Instant::now() + FREE_WITHIN;
        loop {
            let port = self.port(&device.path, device.speed)?;
            if port.is_free() {
                match self.attach_to(&port, device) {
                    // Between looking and writing somebody else was faster, or the kernel was not ready yet.
                    Err(VhciError::File { source, .. })
                        if source.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {}
                    other => return other,
                }
            } else if Instant::now() >= until || stop.is_set() {
                return Err(VhciError::InUse(port.number));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn attach_to(&self, port: &Port, device: &Device) -> Result<Stream, VhciError> {
        let failed = |source| VhciError::File { path: "a pair of sockets".into(), source };
        let (ours, kernels) = UnixStream::pair().map_err(failed)?;
        let speed = match device.speed {
            Speed::High => 3,
            Speed::Super => 5,
        };
        let line = format!("{} {} {} {speed}", port.number, kernels.as_raw_fd(), device_number(device));
        self.write("attach", &line)?;
        // The kernel has its own handle to the socket now.
        Ok(Stream::Unix(ours))
    }

    /// Unplugs what is at a port.
    ///
    /// # Errors
    /// [`VhciError::File`].
    pub fn detach(&self, port: u32) -> Result<(), VhciError> {
        self.write("detach", &port.to_string())
    }

    /// Keeps a board on its port, stage after stage, until `stop` is set. The boards' clock should be the real one.
    ///
    /// # Errors
    /// When the board cannot be attached.
    pub fn keep(&self, board: &Board, stop: &Stop) -> Result<(), VhciError> {
        let mut last = None;
        while !stop.is_set() {
            let Some(device) = board.wait_for_device(last, Duration::from_millis(100)) else { continue };
            let stream = self.attach(&device, stop)?;
            let address = device.address;
            let watched = stream.try_clone().map_err(|source| VhciError::File { path: "socket".into(), source })?;
            let waking = stop.when_set(move || watched.close());
            let ended = serve(board, device, stream);
            drop(waking);
            last = match ended {
                // Somebody detached it, or the kernel gave up: it is plugged in again as what it is.
                Ok(Ended::Host | Ended::Broken(_)) => None,
                _ => Some(address),
            };
        }
        Ok(())
    }
}

/// What the kernel calls the device: any number but 0.
fn device_number(device: &Device) -> u32 {
    1 << 16 | (device.address % 0xfffe + 1)
}

/// Reads one of the `status` files. Lines that are none are passed over.
fn read_status(text: &str, buses: &[(Speed, u32)]) -> Vec<Port> {
    let mut seen = [0; 2];
    let ports = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let speed = match words.next()? {
            "hs" => Speed::High,
            "ss" => Speed::Super,
            _ => return None,
        };
        let number = words.next()?.parse().ok()?;
        let state = words.next()?.parse().ok()?;
        let count = &mut seen[usize::from(speed == Speed::Super)];
        *count += 1;
        let bus = buses.iter().find(|(of, _)| *of == speed).map(|(_, bus)| *bus)?;
        Some(Port { number, path: format!("{bus}-{count}"), speed, state })
    });
    ports.collect()
}

#[cfg(test)]
mod tests;
