//! Where the system shows its USB: in `/sys`, `/dev` and so on, or in a made-up tree.

use std::path::{Path, PathBuf};

/// The folders that are looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// sysfs.
    pub sys: PathBuf,
    /// Device nodes.
    pub dev: PathBuf,
    /// procfs.
    pub proc: PathBuf,
    /// Runtime state of daemons.
    pub run: PathBuf,
    /// Folders of udev rules. A file hides those of its name in later folders.
    pub rules: Vec<PathBuf>,
}

impl Default for Roots {
    /// This system's.
    fn default() -> Self {
        Self::under(Path::new("/"))
    }
}

impl Roots {
    /// The usual places under `root`.
    pub fn under(root: &Path) -> Self {
        let rules = [
            "etc/udev/rules.d",
            "run/udev/rules.d",
            "usr/local/lib/udev/rules.d",
            "usr/lib/udev/rules.d",
            "lib/udev/rules.d",
        ];
        Self {
            sys: root.join("sys"),
            dev: root.join("dev"),
            proc: root.join("proc"),
            run: root.join("run"),
            rules: rules.iter().map(|folder| root.join(folder)).collect(),
        }
    }

    /// Where sysfs lists the devices on USB.
    pub fn devices(&self) -> PathBuf {
        self.sys.join("bus/usb/devices")
    }

    /// The device nodes of USB.
    pub fn nodes(&self) -> PathBuf {
        self.dev.join("bus/usb")
    }

    /// The node of the device with that address.
    pub fn node(&self, bus: u8, address: u8) -> PathBuf {
        self.nodes().join(format!("{bus:03}/{address:03}"))
    }
}
