//! What could keep boards from being reached, looked for in the order in which it would matter: facts first, then
//! judgement, each with the one thing that mends it. Changes nothing and opens no board.

mod access;

use std::collections::BTreeMap;

use imx_usb::bus::{BusError, Speed};
use imx_usb::chips::Protocol;
use imx_usb::usb::facts::{self, Hop, Process};
use nix::unistd::geteuid;

use crate::board::Hub;
use crate::board::look::{self, Entry};
use crate::render::text::{count, printable};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// It may get in the way.
    Warning,
    /// It is in the way.
    Problem,
}

impl Level {
    /// A word for people and machines.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Something that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) level: Level,
    /// A stable name.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) text: String,
    /// What mends it.
    pub(crate) fix: Option<String>,
}

impl Finding {
    fn new(level: Level, name: &'static str, text: impl Into<String>) -> Self {
        Self { level, name, text: text.into(), fix: None }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Boards in the ROM of i.MX8M Nano that one host controller is known to carry at once.
const MOST_NANOS: usize = 3;
/// What a board takes of the memory for USB transfers, in MiB.
const MB_A_BOARD: usize = 1;

/// Looks at everything.
///
/// # Errors
/// When the devices on USB cannot be listed.
pub(crate) fn examine(hub: &Hub) -> Result<Vec<Finding>, BusError> {
    let entries = match look::entries(hub, false) {
        // What lacks, and what mends it, follows from the facts.
        Err(BusError::NoUsb { .. }) => Vec::new(),
        entries => entries?,
    };
    let mut found = vec![libusb()];
    let subsystem = facts::subsystem(&hub.roots);
    found.extend(system(&subsystem));
    found.extend(access::rules(hub, &subsystem, geteuid().is_root()));
    found.extend(memory(hub, entries.iter().filter(|entry| entry.board.is_some()).count()));
    found.extend(facts::rivals(&hub.roots).iter().map(rival));
    if subsystem.buses > 0 && entries.iter().all(|entry| entry.board.is_none()) {
        found.push(
            Finding::new(Level::Note, "no_board", "no board is on the bus")
                .fix("set its switches to serial download, use the USB connector meant for that, and switch it on; 'mapflash boards --watch' shows what comes"),
        );
    }
    for entry in &entries {
        found.extend(board(hub, entry, &subsystem));
    }
    found.extend(nanos(&entries));
    Ok(found)
}

fn libusb() -> Finding {
    let libusb = facts::libusb();
    let from = if libusb.vendored { "built in" } else { "the system's" };
    Finding::new(Level::Good, "libusb", format!("libusb {}, {from}", libusb.version))
}

fn system(subsystem: &facts::Subsystem) -> Vec<Finding> {
    let mut found = Vec::new();
    if subsystem.buses == 0 {
        found.push(Finding::new(Level::Problem, "no_bus", "there is no USB host controller").fix(
            "in a virtual machine, give it one with the board on it; otherwise load its driver: sudo modprobe xhci_pci",
        ));
    } else {
        let buses = if subsystem.buses == 1 { "1 bus".to_owned() } else { format!("{} buses", subsystem.buses) };
        found.push(Finding::new(Level::Good, "usb", format!("the kernel has USB, with {buses}")));
    }
    if !subsystem.nodes {
        found.push(Finding::new(Level::Problem, "no_nodes", "there are no device nodes: /dev/bus/usb is missing").fix(
            "in a container, hand them in: docker run -v /dev/bus/usb:/dev/bus/usb --device-cgroup-rule 'c 189:* rmw'",
        ));
    }
    if !subsystem.udevd {
        found.push(Finding::new(
            Level::Note,
            "no_udevd",
            "udevd does not run here (as in most containers): rules have no effect, and boards are found by looking",
        ));
    }
    found
}

fn memory(hub: &Hub, boards: usize) -> Option<Finding> {
    let limit = usize::try_from(facts::usbfs_memory_mb(&hub.roots)?).ok()?;
    let name = "usbfs_memory";
    if limit == 0 {
        return Some(Finding::new(Level::Good, name, "memory for USB transfers: without limit"));
    }
    let text = format!("memory for USB transfers: {limit} MiB for all programs");
    if boards.saturating_mul(MB_A_BOARD) <= limit {
        return Some(Finding::new(Level::Good, name, text));
    }
    let few = format!("{text}, too few for {}", count(boards, "board"));
    let fix = "echo 256 | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb";
    Some(Finding::new(Level::Warning, name, few).fix(fix))
}

fn rival(process: &Process) -> Finding {
    let Process { pid, name } = process;
    let text = format!("{} (process {pid}) is running, and may take a board", printable(name));
    let fix = match &**name {
        "ModemManager" => "sudo systemctl stop ModemManager".to_owned(),
        "fwupd" => "sudo systemctl stop fwupd".to_owned(),
        "usbmuxd" => "sudo systemctl stop usbmuxd".to_owned(),
        "adb" => "adb kill-server".to_owned(),
        _ => format!("kill {pid}"),
    };
    Finding::new(Level::Warning, "rival", text).fix(fix)
}

/// What there is to say of one device.
fn board(hub: &Hub, entry: &Entry, subsystem: &facts::Subsystem) -> Vec<Finding> {
    let (device, port) = (&entry.device, &entry.device.port);
    let [_, chip, stage, ids, _] = entry.cells();
    let mut found = Vec::new();
    if entry.board.is_none() {
        let text = format!("{port}: {ids} is no known board: {}", entry.notes.join("; "));
        return vec![Finding::new(Level::Note, "not_known", text)];
    }
    let chip = if chip == "-" { String::new() } else { format!("{chip}, ") };
    let chain = facts::chain(&hub.roots, &device.path);
    let speed = device.speed.map_or("unknown speed", look::speed);
    let text = format!("{port}: {chip}{stage}, {speed}, by {}", way(&chain));
    if matches!(device.speed, Some(Speed::Low | Speed::Full)) {
        let fix = "take another cable or connector, or leave out the hub; USB 2.0 has forty times that speed";
        found.push(Finding::new(Level::Warning, "slow", text).fix(fix));
    } else {
        found.push(Finding::new(Level::Good, "board", text));
    }
    found.extend(access::board(hub, entry, subsystem));
    if let Some(power) = facts::power(&hub.roots, &device.path).filter(|power| power.suspended) {
        let delay = power.delay_ms.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
        let text = format!("{port}: it is asleep; the kernel lets it sleep when idle{delay}");
        let fix = format!("echo on | sudo tee /sys/bus/usb/devices/{}/power/control", device.path);
        found.push(Finding::new(Level::Note, "autosuspend", text).fix(fix));
    }
    found
}

/// From the root hub to the device.
fn way(chain: &[Hop]) -> String {
    let hop = |hop: &Hop| match &hop.title {
        Some(title) => printable(&format!("{} ({title})", hop.name)),
        None => hop.name.clone(),
    };
    if chain.is_empty() { "an unknown way".to_owned() } else { chain.iter().map(hop).collect::<Vec<_>>().join(" > ") }
}

fn nanos(entries: &[Entry]) -> Vec<Finding> {
    let mut by_bus: BTreeMap<u8, usize> = BTreeMap::new();
    for entry in entries {
        let is_nano = |board: &look::Identified| {
            board.protocol == Protocol::Sdps && board.chip.as_ref().is_some_and(|chip| chip.name == "MX815")
        };
        if entry.board.as_ref().is_some_and(is_nano) {
            *by_bus.entry(entry.device.path.bus()).or_default() += 1;
        }
    }
    let many = by_bus.into_iter().filter(|(_, boards)| *boards > MOST_NANOS);
    many.map(|(bus, boards)| {
        let text = format!(
            "bus {bus}: {boards} i.MX8M Nano in their ROMs; more than {MOST_NANOS} on one host controller are known to fail"
        );
        Finding::new(Level::Warning, "nanos", text).fix("boot them three at a time, or use another host controller")
    })
    .collect()
}
