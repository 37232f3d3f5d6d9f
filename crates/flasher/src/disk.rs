//! What the kernel says about the machine's disks, and what uses them: read from sysfs and procfs, never guessed.
//!
//! Sources: `Documentation/ABI/stable/sysfs-block`, `proc_pid_mountinfo(5)`, `/proc/swaps`. A [`System`] may be rooted
//! elsewhere than `/`, so that tests bring their own trees. Nothing here opens a device.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// A device's number, as sysfs writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
}

impl DeviceNumber {
    /// From what `stat` calls `st_rdev` or `st_dev`.
    #[must_use]
    pub fn from_raw(raw: u64) -> Self {
        Self { major: nix::sys::stat::major(raw), minor: nix::sys::stat::minor(raw) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What uses a disk or one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// A filesystem on `device` is mounted.
    Mounted {
        /// The disk or partition, such as `/dev/sdb1`.
        device: PathBuf,
        /// Where.
        at: PathBuf,
    },
    /// `device` is swap.
    Swap {
        /// The disk or partition.
        device: PathBuf,
    },
    /// Another block device is built on `device`: device mapper, MD RAID, loop.
    Held {
        /// The disk or partition.
        device: PathBuf,
        /// The device built on it, such as `/dev/dm-0`.
        by: PathBuf,
    },
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mounted { device, at } => write!(f, "{} is mounted at {}", device.display(), at.display()),
            Self::Swap { device } => write!(f, "{} is swap space", device.display()),
            Self::Held { device, by } => write!(f, "{} is held by {}", device.display(), by.display()),
        }
    }
}

/// A disk, or a partition of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `sdb` or `mmcblk0p1`.
    pub name: String,
    /// Its node, such as `/dev/sdb`.
    pub node: PathBuf,
    /// Its number.
    pub number: DeviceNumber,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the kernel calls its medium removable, or it sits on USB or in a card slot.
    pub removable: bool,
    /// Whether the kernel holds it read-only.
    pub read_only: bool,
    /// How it is connected: `usb`, `mmc`, `nvme`, `virtio`, `ata`, `scsi`, `loop`; `None` where sysfs does not tell.
    pub bus: Option<&'static str>,
    /// The maker's name for it, vendor and model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// For a partition: the disk it is on.
    pub partition_of: Option<String>,
    /// Names of its partitions.
    pub partitions: Vec<String>,
    /// Everything that uses it or, for a disk, one of its partitions.
    pub uses: Vec<Use>,
    /// Whether the running system lives on it: `/`, `/usr`, `/boot` or `/boot/efi` is mounted from it, also through
    /// devices built on it.
    pub system: bool,
}

/// Where to look: the machine itself, or a tree that looks like one.
#[derive(Debug, Clone)]
pub struct System {
    sys: PathBuf,
    proc: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self::rooted(Path::new("/"))
    }
}

struct Mount {
    device: Option<DeviceNumber>,
    source: PathBuf,
    at: PathBuf,
}

impl System {
    /// A tree with `sys` and `proc` below `root`.
    #[must_use]
    pub fn rooted(root: &Path) -> Self {
        Self { sys: root.join("sys"), proc: root.join("proc") }
    }

    /// Every disk, by name; loop, RAM and zram devices without a backing are left out.
    ///
    /// # Errors
    /// When `/sys/block` cannot be read.
    pub fn disks(&self) -> io::Result<Vec<Disk>> {
        let mut names: Vec<String> = self.list(&self.sys.join("block"))?;
        names.sort();
        let disks = names.iter().filter_map(|name| self.disk_named(name).ok());
        Ok(disks.filter(|disk| disk.size > 0).collect())
    }

    /// The disk or partition of that number.
    ///
    /// # Errors
    /// When sysfs does not know it.
    pub fn disk(&self, number: DeviceNumber) -> io::Result<Disk> {
        let link = self.sys.join("dev/block").join(number.to_string());
        let folder = fs::canonicalize(&link)?;
        let name = folder.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        self.describe(&folder, name)
    }

    fn disk_named(&self, name: &str) -> io::Result<Disk> {
        let folder = fs::canonicalize(self.sys.join("block").join(name))?;
        self.describe(&folder, name.to_owned())
    }

    /// The folder in which a device's queue settings live: its own or, for a partition, its disk's.
    ///
    /// # Errors
    /// When sysfs does not know the device.
    pub fn queue_folder(&self, number: DeviceNumber) -> io::Result<PathBuf> {
        let folder = fs::canonicalize(self.sys.join("dev/block").join(number.to_string()))?;
        Ok(if folder.join("partition").exists() { folder.parent().unwrap_or(&folder).to_owned() } else { folder })
    }

    fn describe(&self, folder: &Path, name: String) -> io::Result<Disk> {
        let number = read(&folder.join("dev")).and_then(|text| DeviceNumber::parse(&text));
        let number = number.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let sectors: u64 = read(&folder.join("size")).and_then(|text| text.parse().ok()).unwrap_or(0);
        let is_partition = folder.join("partition").exists();
        let disk_folder = if is_partition { folder.parent().unwrap_or(folder) } else { folder };
        let partition_of =
            if is_partition { disk_folder.file_name().and_then(|name| name.to_str()).map(str::to_owned) } else { None };
        let mut partitions: Vec<String> = self.list(folder)?;
        partitions.retain(|entry| folder.join(entry).join("partition").exists());
        partitions.sort();

        let device = disk_folder.join("device");
        let bus = bus_of(disk_folder, &name);
        let removable = read(&disk_folder.join("removable")).as_deref() == Some("1")
            || matches!(bus, Some("usb"))
            || (bus == Some("mmc") && read(&device.join("type")).as_deref() == Some("SD"));
        let model = match (read(&device.join("vendor")), read(&device.join("model")).or(read(&device.join("name")))) {
            // NVMe and virtio put a PCI number there, which is no name.
            (Some(vendor), Some(model)) if !vendor.starts_with("0x") => Some(format!("{vendor} {model}")),
            (_, model) => model,
        };
        let serial = read(&device.join("serial"))
            .or(read(&disk_folder.join("serial")))
            .or_else(|| usb_serial(&device))
            .filter(|serial| !serial.is_empty());

        let mut own = vec![(name.clone(), number)];
        for partition in &partitions {
            if let Some(number) = read(&folder.join(partition).join("dev")).and_then(|text| DeviceNumber::parse(&text))
            {
                own.push((partition.clone(), number));
            }
        }
        let uses = self.uses_of(&own);
        let system = self.is_system(&own);
        Ok(Disk {
            node: node(&name),
            number,
            size: sectors.saturating_mul(512),
            removable,
            read_only: read(&folder.join("ro")).as_deref() == Some("1"),
            bus,
            model,
            serial,
            partition_of,
            partitions,
            uses,
            system,
            name,
        })
    }

    fn uses_of(&self, own: &[(String, DeviceNumber)]) -> Vec<Use> {
        let mut uses = Vec::new();
        let mounts = self.mounts();
        let swaps = self.swaps();
        for (name, number) in own {
            let device = node(name);
            let here = |mount: &&Mount| mount.device == Some(*number) || mount.source == device;
            let at = mounts.iter().filter(here).map(|mount| mount.at.clone());
            uses.extend(at.map(|at| Use::Mounted { device: device.clone(), at }));
            if swaps.contains(&device) {
                uses.push(Use::Swap { device: device.clone() });
            }
            let built = self.built_on(&device, *number);
            uses.extend(built.iter().map(|name| Use::Held { device: device.clone(), by: node(name) }));
        }
        uses
    }

    /// Whether `/` or a system folder is mounted from one of these devices, or from one built on them.
    fn is_system(&self, own: &[(String, DeviceNumber)]) -> bool {
        const FOLDERS: [&str; 4] = ["/", "/usr", "/boot", "/boot/efi"];
        let mut family: BTreeSet<DeviceNumber> = own.iter().map(|(_, number)| *number).collect();
        let mut names: BTreeSet<PathBuf> = own.iter().map(|(name, _)| node(name)).collect();
        let mut open: Vec<DeviceNumber> = family.iter().copied().collect();
        while let Some(number) = open.pop() {
            let device = read(&self.sys.join("dev/block").join(number.to_string()).join("uevent"));
            let device = device.and_then(|text| text.lines().find_map(|line| line.strip_prefix("DEVNAME=").map(node)));
            for holder in self.built_on(&device.unwrap_or_default(), number) {
                names.insert(node(&holder));
                let dev = read(&self.sys.join("class/block").join(&holder).join("dev"));
                if let Some(number) = dev.and_then(|text| DeviceNumber::parse(&text))
                    && family.insert(number)
                {
                    open.push(number);
                }
            }
        }
        self.mounts().iter().any(|mount| {
            FOLDERS.iter().any(|folder| mount.at == Path::new(folder))
                && (mount.device.is_some_and(|number| family.contains(&number)) || names.contains(&mount.source))
        })
    }

    /// Names of the devices built on a device: its holders, and loop devices, which are no holders to the kernel.
    fn built_on(&self, device: &Path, number: DeviceNumber) -> Vec<String> {
        let mut built =
            self.list(&self.sys.join("dev/block").join(number.to_string()).join("holders")).unwrap_or_default();
        built.extend(self.loops().into_iter().filter_map(|(name, backing)| {
            let same = fs::metadata(&backing).is_ok_and(|metadata| {
                metadata.file_type().is_block_device() && DeviceNumber::from_raw(metadata.rdev()) == number
            });
            (backing == device || same).then_some(name)
        }));
        built.sort();
        built
    }

    /// The loop device whose backing is the regular file with this device and inode number.
    #[must_use]
    pub fn loop_on(&self, file: (u64, u64)) -> Option<PathBuf> {
        self.loops().into_iter().find_map(|(name, backing)| {
            let metadata = fs::metadata(backing).ok()?;
            ((metadata.dev(), metadata.ino()) == file && metadata.is_file()).then(|| node(&name))
        })
    }

    /// Loop devices in use, with the file or device behind each.
    fn loops(&self) -> Vec<(String, PathBuf)> {
        let names = self.list(&self.sys.join("block")).unwrap_or_default();
        let backing = |name: &String| read(&self.sys.join("block").join(name).join("loop/backing_file"));
        names.into_iter().filter_map(|name| backing(&name).map(|path| (name, PathBuf::from(path)))).collect()
    }

    fn mounts(&self) -> Vec<Mount> {
        // `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, blanks inside a field as
        // octal escapes: proc_pid_mountinfo(5).
        let text = fs::read(self.proc.join("self/mountinfo")).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| {
                let line = String::from_utf8_lossy(line);
                let (front, back) = line.split_once(" - ")?;
                let mut front = front.split(' ');
                let device = DeviceNumber::parse(front.nth(2)?);
                let at = unescape(front.nth(1)?);
                let source = unescape(back.split(' ').nth(1)?);
                Some(Mount { device, source: PathBuf::from(source), at: PathBuf::from(at) })
            })
            .collect()
    }

    fn swaps(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.proc.join("swaps")).unwrap_or_default();
        let first = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        first.map(|path| PathBuf::from(unescape(path))).collect()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        Ok(fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }
}

/// sysfs writes `!` where a device's name holds a slash (`cciss!c0d0`).
fn node(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn bus_of(folder: &Path, name: &str) -> Option<&'static str> {
    if name.starts_with("loop") {
        return Some("loop");
    }
    let has = |part: &str| folder.components().any(|c| c.as_os_str().to_str().is_some_and(|c| c.starts_with(part)));
    // The path of the device names every bus on the way; the one nearest to people wins.
    [("usb", "usb"), ("mmc_host", "mmc"), ("nvme", "nvme"), ("ata", "ata"), ("virtio", "virtio"), ("host", "scsi")]
        .into_iter()
        .find_map(|(part, bus)| has(part).then_some(bus))
}

/// The serial number of the USB device above a disk.
fn usb_serial(device: &Path) -> Option<String> {
    let device = fs::canonicalize(device).ok()?;
    device
        .ancestors()
        .take(12)
        .find(|folder| folder.join("idVendor").exists())
        .and_then(|usb| read(&usb.join("serial")))
}

fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine with a system disk under LVM, and a USB stick with one mounted partition and one swap.
    fn machine() -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let stick = "sys/devices/pci0000:00/usb1/1-4/1-4:1.0/host3/target3:0:0/3:0:0:0/block/sdb";
        write(&format!("{stick}/dev"), "8:16\n");
        write(&format!("{stick}/size"), "2048\n");
        write(&format!("{stick}/removable"), "1\n");
        write(&format!("{stick}/ro"), "1\n");
        write(&format!("{stick}/sdb1/dev"), "8:17\n");
        write(&format!("{stick}/sdb1/size"), "1024\n");
        write(&format!("{stick}/sdb1/partition"), "1\n");
        write(&format!("{stick}/sdb2/dev"), "8:18\n");
        write(&format!("{stick}/sdb2/partition"), "2\n");
        write("sys/devices/pci0000:00/usb1/1-4/idVendor", "1234\n");
        write("sys/devices/pci0000:00/usb1/1-4/serial", "ABC123\n");
        write("sys/devices/pci0000:00/usb1/1-4/1-4:1.0/host3/target3:0:0/3:0:0:0/vendor", "Generic \n");
        write("sys/devices/pci0000:00/usb1/1-4/1-4:1.0/host3/target3:0:0/3:0:0:0/model", "Reader\n");
        let disk = "sys/devices/pci0000:00/ata1/host0/block/sda";
        write(&format!("{disk}/dev"), "8:0\n");
        write(&format!("{disk}/size"), "4096\n");
        write(&format!("{disk}/holders/dm-0/dev"), "253:0\n");
        write("sys/devices/virtual/block/dm-0/dev", "253:0\n");
        write("sys/devices/virtual/block/dm-0/size", "64\n");
        fs::create_dir_all(root.path().join("sys/block")).unwrap();
        fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
        fs::create_dir_all(root.path().join("sys/class/block")).unwrap();
        let at = |path: &str| root.path().join(path);
        symlink(at("sys/devices/virtual/block/dm-0"), at("sys/class/block/dm-0")).unwrap();
        for (name, folder, number) in [
            ("sdb", stick.to_owned(), "8:16"),
            ("sda", disk.to_owned(), "8:0"),
            ("dm-0", "sys/devices/virtual/block/dm-0".to_owned(), "253:0"),
        ] {
            symlink(at(&folder), at("sys/block").join(name)).unwrap();
            symlink(at(&folder), at("sys/dev/block").join(number)).unwrap();
        }
        symlink(at(stick).join("sdb1"), at("sys/dev/block/8:17")).unwrap();
        write("sys/devices/virtual/block/loop3/loop/backing_file", "/dev/sdc\n");
        symlink(at("sys/devices/virtual/block/loop3"), at("sys/block/loop3")).unwrap();
        write("sys/devices/virtual/block/sdc/dev", "8:32\n");
        symlink(at("sys/devices/virtual/block/sdc"), at("sys/dev/block/8:32")).unwrap();
        symlink(at("sys/devices/pci0000:00/usb1/1-4/1-4:1.0/host3/target3:0:0/3:0:0:0"), at(stick).join("device"))
            .unwrap();
        write(
            "proc/self/mountinfo",
            "20 1 253:0 / / rw - ext4 /dev/mapper/root rw\n21 20 8:17 / /media/my\\040stick rw,nosuid shared:1 - vfat /dev/sdb1 rw\n",
        );
        write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sdb2 partition 1 0 -2\n");
        let system = System::rooted(root.path());
        (root, system)
    }

    #[test]
    fn a_stick_and_what_uses_it() {
        let (_root, system) = machine();
        let stick = system.disk(DeviceNumber { major: 8, minor: 16 }).unwrap();
        assert_eq!(stick.model.as_deref(), Some("Generic Reader"));
        assert_eq!(stick.serial.as_deref(), Some("ABC123"));
        assert_eq!((stick.size, stick.bus, stick.removable, stick.read_only), (1 << 20, Some("usb"), true, true));
        assert_eq!(stick.partitions, ["sdb1", "sdb2"]);
        assert!(!stick.system);
        let uses: Vec<String> = stick.uses.iter().map(ToString::to_string).collect();
        assert_eq!(uses, ["/dev/sdb1 is mounted at /media/my stick", "/dev/sdb2 is swap space"]);
    }

    #[test]
    fn the_system_disk_is_found_through_what_is_built_on_it() {
        let (_root, system) = machine();
        let disk = system.disk(DeviceNumber { major: 8, minor: 0 }).unwrap();
        assert!(disk.system);
        assert_eq!(disk.uses, [Use::Held { device: "/dev/sda".into(), by: "/dev/dm-0".into() }]);
    }

    #[test]
    fn a_partition_knows_its_disk() {
        let (_root, system) = machine();
        let partition = system.disk(DeviceNumber { major: 8, minor: 17 }).unwrap();
        assert_eq!(partition.partition_of.as_deref(), Some("sdb"));
        assert!(partition.removable);
        assert_eq!(partition.uses.len(), 1);
        let queue = system.queue_folder(DeviceNumber { major: 8, minor: 17 }).unwrap();
        assert!(queue.ends_with("sdb"));
    }

    #[test]
    fn a_loop_device_holds_what_it_lies_on() {
        let (_root, system) = machine();
        let disk = system.disk(DeviceNumber { major: 8, minor: 32 }).unwrap();
        assert_eq!(disk.uses, [Use::Held { device: "/dev/sdc".into(), by: "/dev/loop3".into() }]);
    }

    #[test]
    fn all_disks_are_listed_by_name() {
        let (_root, system) = machine();
        let names: Vec<String> = system.disks().unwrap().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["dm-0", "sda", "sdb"]);
    }

    #[test]
    fn escapes_in_paths() {
        assert_eq!(unescape("a\\040b\\134"), "a b\\");
        assert_eq!(unescape("tail\\04"), "tail\\04");
    }
}
