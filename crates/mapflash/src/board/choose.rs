//! Which boards are meant.

use std::str::FromStr;
use std::time::Duration;

use imx_usb::bus::Port;

use super::Hub;
use super::look::{self, Entry};
use crate::error::{AppError, Cause};

/// A board as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// By where it is plugged in: `1-4.2`.
    Port(Port),
    /// By its serial number, as its ROM or U-Boot tells it.
    Serial(String),
    /// By its address: `udp:HOST[:PORT]`.
    Udp(String),
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(address) = text.strip_prefix("udp:") {
            let is_address = !address.is_empty() && !address.contains(char::is_whitespace);
            return if is_address { Ok(Self::Udp(address.to_owned())) } else { Err("udp: and no host".to_owned()) };
        }
        match text.parse() {
            Ok(port) => Ok(Self::Port(port)),
            Err(_) if text.is_empty() => Err("a board is a port (1-4.2), a serial number or udp:HOST".to_owned()),
            Err(_) => Ok(Self::Serial(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Serial(serial) => f.write_str(serial),
            Self::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

/// How long is waited at a time before somebody may call it off.
const SLICE: Duration = Duration::from_millis(200);

/// The ports of the boards that are meant: those named, or without names the only one there is. With `wait`, waits
/// until they are there or `cancelled` says so.
pub(crate) fn ports(
    hub: &Hub,
    names: &[Name],
    wait: bool,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Port>, AppError> {
    loop {
        let changes = hub.bus.changes();
        // Serial numbers are asked for only if they matter.
        let ask = names.iter().any(|name| matches!(name, Name::Serial(_)));
        let entries = look::entries(hub, ask).map_err(Cause::Bus)?;
        match choose(&entries, names) {
            Err(Cause::NoBoard { .. }) if wait => {}
            chosen => return Ok(chosen?),
        }
        if cancelled() {
            return Err(Cause::Flash(flasher::FlashError::Cancelled).into());
        }
        hub.bus.wait(changes, SLICE);
    }
}

/// Every board there is; with `wait`, once there is one.
pub(crate) fn every(hub: &Hub, wait: bool, cancelled: &dyn Fn() -> bool) -> Result<Vec<Port>, AppError> {
    loop {
        let changes = hub.bus.changes();
        let entries = look::entries(hub, false).map_err(Cause::Bus)?;
        let known = entries.iter().filter(|entry| entry.board.as_ref().is_some_and(|board| board.known));
        let mut ports: Vec<_> = known.map(|entry| entry.device.port.clone()).collect();
        ports.sort();
        ports.dedup();
        if !ports.is_empty() {
            return Ok(ports);
        }
        if !wait {
            return Err(Cause::NoBoard { name: None, nearly: Vec::new() }.into());
        }
        if cancelled() {
            return Err(Cause::Flash(flasher::FlashError::Cancelled).into());
        }
        hub.bus.wait(changes, SLICE);
    }
}

fn choose(entries: &[Entry], names: &[Name]) -> Result<Vec<Port>, Cause> {
    let notes = || {
        let nearly = entries.iter().filter(|entry| entry.board.as_ref().is_none_or(|board| !board.known));
        nearly.flat_map(|entry| entry.notes.iter().map(|note| format!("{}: {note}", entry.device.port))).collect()
    };
    if names.is_empty() {
        let known = |entry: &&Entry| entry.board.as_ref().is_some_and(|board| board.known);
        let mut boards: Vec<&Port> = entries.iter().filter(known).map(|entry| &entry.device.port).collect();
        boards.dedup();
        return match boards.as_slice() {
            [] => Err(Cause::NoBoard { name: None, nearly: notes() }),
            [port] => Ok(vec![(*port).clone()]),
            several => Err(Cause::SeveralBoards(several.iter().map(|port| (*port).clone()).collect())),
        };
    }
    let mut chosen: Vec<Port> = Vec::new();
    for name in names {
        let is_it = |entry: &&Entry| match (name, &entry.board) {
            (Name::Port(port), Some(_)) => *port == entry.device.port || *port == entry.device.path,
            (Name::Serial(serial), Some(board)) => {
                board.serial.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(serial))
            }
            _ => false,
        };
        let mut found = entries.iter().filter(is_it).map(|entry| &entry.device.port);
        let Some(port) = found.next() else {
            return Err(Cause::NoBoard { name: Some(name.to_string()), nearly: notes() });
        };
        if let Some(other) = found.find(|other| *other != port) {
            return Err(Cause::SeveralBoards(vec![port.clone(), other.clone()]));
        }
        if !chosen.contains(port) {
            chosen.push(port.clone());
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_have_three_kinds_of_names() {
        assert_eq!("1-4.2".parse(), Ok(Name::Port("1-4.2".parse().unwrap())));
        assert_eq!("0123456789ABCDEF".parse(), Ok(Name::Serial("0123456789ABCDEF".into())));
        assert_eq!("udp:10.0.0.2:5554".parse(), Ok(Name::Udp("10.0.0.2:5554".into())));
        for wrong in ["", "udp:", "udp:a b"] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
        for text in ["1-4.2", "feed", "udp:board.local"] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
        }
    }
}
