//! What is on the bus: boards, and what nearly is one.

use imx_usb::boot::{Seen, recognise};
use imx_usb::bus::{BusError, Device, OpenError, Speed};
use imx_usb::chips::{Chip, ChipTable, Protocol};
use imx_usb::sdp::{self, HabState, Settings};
use serde_json::{Value, json};

use super::Hub;
use crate::render::text::printable;

/// Makers of the chips: something of theirs that is not in the table may be a chip that is newer than the table. (Others
/// lend their numbers to any gadget.)
const MAKERS: [u16; 2] = [0x1fc9, 0x15a2];

/// A device worth showing.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The device.
    pub(crate) device: Device,
    /// What it is, if it is a board.
    pub(crate) board: Option<Identified>,
    /// What else there is to say of it.
    pub(crate) notes: Vec<String>,
}

/// A board.
#[derive(Debug, Clone)]
pub(crate) struct Identified {
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The chip or loader.
    pub(crate) chip: Option<Chip>,
    /// Its identifiers are in the table.
    pub(crate) known: bool,
    /// The serial number, from the device descriptor or, of a ROM, from a string that nothing names.
    pub(crate) serial: Option<String>,
    /// Whether the chip takes unsigned images, where its ROM says.
    pub(crate) hab: Option<HabState>,
}

/// Everything on the bus that is a board, or nearly. With `ask`, ROMs are opened for what only they can tell; that
/// changes nothing on them.
pub(crate) fn entries(hub: &Hub, ask: bool) -> Result<Vec<Entry>, BusError> {
    let mut devices = hub.bus.devices()?;
    devices.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(devices.into_iter().filter_map(|device| entry(hub, device, ask)).collect())
}

/// What a device is; `None` if it has nothing to do with boards.
pub(crate) fn entry(hub: &Hub, device: Device, ask: bool) -> Option<Entry> {
    let Some(seen) = recognise(&hub.table, &device) else {
        let notes = vec![near_miss(&hub.table, &device)?];
        return Some(Entry { device, board: None, notes });
    };
    let mut notes = Vec::new();
    if !seen.known {
        notes.push("it speaks fastboot, but its numbers are not known: it may also be a telephone".to_owned());
    }
    let mut board = Identified {
        protocol: seen.protocol,
        chip: seen.chip.cloned(),
        known: seen.known,
        serial: device.serial.clone(),
        hab: None,
    };
    if ask && let Err(error) = ask_rom(hub, &device, seen, &mut board) {
        notes.extend(said(&error));
    }
    Some(Entry { device, board: Some(board), notes })
}

/// Reads the serial number and the HAB state of a ROM. Loaders say "open" whatever the chip, so they are not asked.
fn ask_rom(hub: &Hub, device: &Device, seen: Seen<'_>, board: &mut Identified) -> Result<(), OpenError> {
    let Some(chip) = seen.chip.filter(|_| seen.protocol.is_rom()) else { return Ok(()) };
    if board.serial.is_none()
        && let Some(index) = chip.serial_string
    {
        board.serial = hub.bus.string(device, index)?;
    }
    if seen.protocol == Protocol::Sdp {
        let settings = Settings { deadline: std::time::Duration::from_secs(1), ..Settings::from(chip) };
        let mut session = sdp::Session::new(hub.bus.reports(device, chip.route)?, settings);
        // A ROM that does not answer is shown all the same; booting it says more.
        board.hab = session.error_status().ok().map(|(hab, _)| hab);
    }
    Ok(())
}

fn said(error: &OpenError) -> Option<String> {
    match error {
        OpenError::Gone { .. } => None,
        OpenError::Denied { .. } => Some("no permission to open it; 'mapflash doctor' says why".to_owned()),
        OpenError::Busy { by: Some(by), .. } => Some(printable(&format!("in use by {by}"))),
        OpenError::Busy { .. } => Some("in use by another program".to_owned()),
        error => Some(printable(&error.to_string())),
    }
}

/// Why something that looks like a board is none.
fn near_miss(table: &ChipTable, device: &Device) -> Option<String> {
    let releases: Vec<_> = table.near_misses(device.vendor, device.product).collect();
    let has_fastboot_row = releases.iter().any(|id| id.protocol == Protocol::Fastboot);
    if let Some(id) = releases.first().filter(|_| !has_fastboot_row) {
        let name = table.chip_of(id).map_or(&*id.chip, |chip| &chip.title);
        let known: Vec<_> = releases
            .iter()
            .map(|id| match (id.release.start(), id.release.end()) {
                (first, last) if first == last => format!("{first:04x}"),
                (first, 0xffff) => format!("{first:04x} and later"),
                (first, last) => format!("{first:04x} to {last:04x}"),
            })
            .collect();
        let found = device.release;
        return Some(format!("{name} of release {found:04x}, which is not known; known are {}", known.join(", ")));
    }
    // A fastboot gadget's numbers on something that has no fastboot, or a stranger.
    let is_hub = device.interfaces.iter().any(|interface| interface.class[0] == 9);
    if !MAKERS.contains(&device.vendor) || is_hub || has_fastboot_row {
        return None;
    }
    let hid = device.interfaces.iter().any(|interface| interface.class[0] == 3);
    let what = if hid { "it has a boot ROM's interface" } else { "it has no boot ROM's interface" };
    Some(format!("made by NXP, but not a known board; {what}. A new chip can be told with --chips"))
}

/// Where in its way to Linux a board is, in a word or two.
pub(crate) fn stage(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Sdp | Protocol::Sdps => "boot ROM",
        Protocol::Sdpu | Protocol::Sdpv => "loader",
        Protocol::Fastboot => "fastboot",
        Protocol::Fbk => "initramfs",
    }
}

/// A speed in words.
pub(crate) fn speed(speed: Speed) -> &'static str {
    match speed {
        Speed::Low => "low speed",
        Speed::Full => "full speed",
        Speed::High => "high speed",
        Speed::Super => "SuperSpeed",
    }
}

fn speed_name(speed: Speed) -> &'static str {
    match speed {
        Speed::Low => "low",
        Speed::Full => "full",
        Speed::High => "high",
        Speed::Super => "super",
    }
}

impl Entry {
    /// The chip, in full; a loader and fastboot do not say.
    pub(crate) fn chip_title(&self) -> Option<&str> {
        let board = self.board.as_ref()?;
        board.chip.as_ref().filter(|_| board.protocol.is_rom()).map(|chip| &*chip.title)
    }

    /// Port, chip, stage, numbers and the rest: the cells of a line.
    pub(crate) fn cells(&self) -> [String; 5] {
        let device = &self.device;
        let stage = match &self.board {
            Some(board) => format!("{} ({})", stage(board.protocol), board.protocol),
            None => "not a known board".to_owned(),
        };
        let mut rest = Vec::new();
        if let Some(board) = &self.board {
            rest.extend(board.serial.as_deref().map(|serial| printable(&format!("serial {serial}"))));
            rest.extend(board.hab.map(|hab| format!("HAB {hab}")));
        }
        rest.extend(device.speed.filter(|at| *at != Speed::High).map(|at| speed(at).to_owned()));
        [
            device.port.to_string(),
            self.chip_title().unwrap_or("-").to_owned(),
            stage,
            format!("{:04x}:{:04x}", device.vendor, device.product),
            rest.join(", "),
        ]
    }

    /// For machines.
    pub(crate) fn json(&self) -> Value {
        let device = &self.device;
        let board = self.board.as_ref();
        json!({
            "port": device.port.to_string(),
            "path": device.path.to_string(),
            "vendor": format!("{:04x}", device.vendor),
            "product": format!("{:04x}", device.product),
            "release": format!("{:04x}", device.release),
            "speed": device.speed.map(speed_name),
            "stage": board.map(|board| board.protocol.stage()),
            "protocol": board.map(|board| board.protocol.name()),
            "known": board.is_some_and(|board| board.known),
            "chip": self.chip_title().and(board).and_then(|board| board.chip.as_ref()).map(|chip| &*chip.name),
            "title": self.chip_title(),
            "serial": board.and_then(|board| board.serial.as_deref()),
            "hab": board.and_then(|board| board.hab).map(|hab| hab.to_string()),
            "notes": self.notes,
        })
    }
}

/// Lines of a table; the notes of each entry stand below it.
pub(crate) fn page(entries: &[Entry]) -> String {
    let rows: Vec<[String; 5]> = entries.iter().map(Entry::cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (port, chip, stage, ids) = (width(0), width(1), width(2), width(3));
    let mut page = String::new();
    for (row, entry) in rows.iter().zip(entries) {
        let [a, b, c, d, e] = row;
        let line = format!("{a:port$}  {b:chip$}  {c:stage$}  {d:ids$}  {e}");
        page.push_str(line.trim_end());
        page.push('\n');
        for note in &entry.notes {
            page.push_str(&format!("{:port$}  {note}\n", ""));
        }
    }
    page
}
