//! What sysfs says of the devices on USB, read without opening any of them.
//!
//! A device may leave while it is being read: then attributes are missing, and so is the device from what is returned.
//! Attributes come from the device as often as from the kernel; no more than a limit is taken of any.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::{io, str};

use super::roots::Roots;
use crate::bus::{Interface, Port, Speed};

/// A string descriptor has at most 126 characters; in UTF-8 that is less than this.
const LONGEST: u64 = 1024;

/// A configuration has at most 65535 bytes; few devices have more than one.
const LONGEST_DESCRIPTORS: u64 = 1 << 18;

/// No system has more entries than this; a made-up tree might.
const MOST_ENTRIES: usize = 1 << 16;

/// A name under `bus/usb/devices`, and what tells it from a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) name: String,
    /// The kernel gives each entry of sysfs a number of its own.
    pub(super) inode: u64,
    /// Address on its bus; 0 for interfaces. Differs where inodes are used again.
    pub(super) address: u8,
}

/// Everything that is listed, sorted by name.
pub(super) fn entries(roots: &Roots) -> io::Result<Vec<Entry>> {
    let folder = roots.devices();
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder)?.take(MOST_ENTRIES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let address = if name.contains(':') { None } else { number(&folder.join(&name), "devnum") };
        found.push(Entry { name, inode: entry.ino(), address: address.unwrap_or(0) });
    }
    found.sort_unstable();
    Ok(found)
}

/// A device as its folder in sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) bus: u8,
    pub(super) address: u8,
    pub(super) vendor: u16,
    pub(super) product: u16,
    pub(super) release: u16,
    pub(super) serial: Option<String>,
    pub(super) speed: Option<Speed>,
    pub(super) interfaces: Vec<Interface>,
}

/// The folder of a device.
pub(super) fn folder(roots: &Roots, path: &Port) -> PathBuf {
    roots.devices().join(path.to_string())
}

/// Reads a device; `None` if it is not there, or not completely.
pub(super) fn device(roots: &Roots, path: &Port) -> Option<Shown> {
    let folder = folder(roots, path);
    Some(Shown {
        bus: number(&folder, "busnum")?,
        address: number(&folder, "devnum")?,
        vendor: hex(&folder, "idVendor")?,
        product: hex(&folder, "idProduct")?,
        release: hex(&folder, "bcdDevice")?,
        serial: text(&folder, "serial").filter(|serial| !serial.is_empty()),
        speed: speed(&folder),
        interfaces: interfaces(&folder, path),
    })
}

/// The interfaces of the active configuration, by number.
fn interfaces(folder: &Path, path: &Port) -> Vec<Interface> {
    let mut found: Vec<_> = interface_folders(folder, path)
        .filter_map(|folder| {
            let byte = |name| hex(&folder, name).and_then(|value| u8::try_from(value).ok());
            let class = [byte("bInterfaceClass")?, byte("bInterfaceSubClass")?, byte("bInterfaceProtocol")?];
            Some(Interface { number: byte("bInterfaceNumber")?, class })
        })
        .collect();
    found.sort_unstable_by_key(|interface| interface.number);
    found
}

/// The folders of a device's interfaces: `1-4:1.0` in that of `1-4`.
pub(super) fn interface_folders(folder: &Path, path: &Port) -> impl Iterator<Item = PathBuf> + use<> {
    let start = format!("{path}:");
    let entries = fs::read_dir(folder).into_iter().flatten().take(MOST_ENTRIES).flatten();
    entries
        .filter(move |entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&start)))
        .map(|entry| entry.path())
}

/// Connected how fast, in Mbit/s; 1.5 is told as 1.
pub(super) fn mbit(folder: &Path) -> Option<u32> {
    text(folder, "speed")?.split('.').next()?.parse().ok()
}

/// Connected how fast.
pub(super) fn speed(folder: &Path) -> Option<Speed> {
    match mbit(folder)? {
        1 => Some(Speed::Low),
        12 => Some(Speed::Full),
        480 => Some(Speed::High),
        5000.. => Some(Speed::Super),
        _ => None,
    }
}

/// A decimal attribute.
pub(super) fn number<N: str::FromStr>(folder: &Path, name: &str) -> Option<N> {
    text(folder, name)?.trim().parse().ok()
}

/// A hexadecimal attribute.
pub(super) fn hex(folder: &Path, name: &str) -> Option<u16> {
    u16::from_str_radix(text(folder, name)?.trim(), 16).ok()
}

/// A device's descriptors, as it sent them.
pub(super) fn descriptors(folder: &Path) -> Option<Vec<u8>> {
    read(folder, "descriptors", LONGEST_DESCRIPTORS)
}

/// An attribute without the line's end; what is no UTF-8 in it is replaced.
pub(super) fn text(folder: &Path, name: &str) -> Option<String> {
    let bytes = read(folder, name, LONGEST)?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

fn read(folder: &Path, name: &str, longest: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(folder.join(name)).ok()?.take(longest).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
