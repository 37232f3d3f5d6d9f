//! Programs that have a device, or may want it.

use std::fs;
use std::path::Path;

use crate::usb::roots::Roots;

/// Programs that are known to take boards, or to talk to what they think are modems, phones or devices with firmware.
pub const RIVALS: [&str; 10] =
    ["uuu", "fastboot", "adb", "ModemManager", "fwupd", "usbmuxd", "sdphost", "sdpshost", "blhost", "imx_usb"];

/// More processes than any system has.
const MOST: usize = 1 << 22;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, as the kernel has it: at most 15 bytes.
    pub name: String,
}

/// Who has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// The processes that were seen to, this one left out.
    pub processes: Vec<Process>,
    /// Could all processes be looked at? Only root may look at those of others.
    pub complete: bool,
}

/// Which processes have the device node `node` open?
pub fn holders(roots: &Roots, node: &Path) -> Holders {
    let mut found = Holders { processes: Vec::new(), complete: true };
    for process in processes(roots).filter(|process| process.pid != std::process::id()) {
        let Ok(files) = fs::read_dir(roots.proc.join(process.pid.to_string()).join("fd")) else {
            // It may have ended by now, which is nothing to complain of.
            found.complete &= !roots.proc.join(process.pid.to_string()).exists();
            continue;
        };
        if files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == node)) {
            found.processes.push(process);
        }
    }
    found
}

/// Which of [`RIVALS`] are running?
pub fn rivals(roots: &Roots) -> Vec<Process> {
    processes(roots).filter(|process| RIVALS.contains(&&*process.name)).collect()
}

/// All processes, by number.
fn processes(roots: &Roots) -> impl Iterator<Item = Process> + use<'_> {
    let entries = fs::read_dir(&roots.proc).into_iter().flatten().take(MOST).flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(|pid| {
        let name = crate::usb::sysfs::text(&roots.proc.join(pid.to_string()), "comm")?;
        Some(Process { pid, name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usb::tree::Tree;
    use std::os::unix::fs::symlink;

    #[test]
    fn who_holds_a_node_and_who_might() {
        let tree = Tree::new();
        tree.file("proc/1/comm", "systemd\n").file("proc/20/comm", "uuu\n").file("proc/3/comm", "ModemManager\n");
        tree.file("proc/meminfo", "").file("proc/20/fd/0", "");
        let node = tree.path("dev/bus/usb/001/002");
        symlink(&node, tree.path("proc/20/fd/7")).unwrap();
        let uuu = Process { pid: 20, name: "uuu".to_owned() };
        let manager = Process { pid: 3, name: "ModemManager".to_owned() };
        // Processes 1 and 3 cannot be looked at.
        let found = holders(tree.roots(), &node);
        assert_eq!(found, Holders { processes: vec![uuu.clone()], complete: false });
        assert_eq!(rivals(tree.roots()), [manager, uuu]);

        for pid in [1, 3] {
            fs::create_dir(tree.path(&format!("proc/{pid}/fd"))).unwrap();
        }
        assert!(holders(tree.roots(), &node).complete);
        assert_eq!(holders(tree.roots(), &tree.path("dev/bus/usb/001/003")).processes, []);
    }
}
