//! Boards on a bus, and over the network: found, booted, asked what they can do, and found again when they were away.
//!
//! A board that was lost may come back at its port or at another one. Where it was seen before, its serial number
//! decides; a board with another number that stands where it was is not taken for it. Two boards are never driven
//! through one port.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use imx_usb::boot::{BootImage, BootOptions, Identity, Problem, Step, boot, recognise};
use imx_usb::bus::{Bus, Device, Port, Snapshot, Visit};
use imx_usb::chips::{Chip, ChipTable, Protocol};
use imx_usb::fastboot::udp::{Address, UdpError, UdpPipe};
use imx_usb::fastboot::{Limits, Session};
use imx_usb::pipe::BulkPipe;
use imx_usb::probe::card::{Kind, find};
use imx_usb::probe::{Capabilities, ProbeOptions, probe};

use super::again;
use super::driven::Driven;
use super::place::To;
use super::profile::Profile;
use super::{BoardError, Connect, Connected, Joiners};
use crate::cancel::Cancel;
use crate::event::{Event, Note, Observer, Stage};

/// How long one wait for the bus is, so that the flag is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Which board is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one plugged in there.
    Port(Port),
    /// The one with this serial number.
    Serial(String),
    /// The one that answers there, in fastboot over UDP.
    Udp(Address),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Serial(serial) => f.write_str(serial),
            Self::Udp(address) => write!(f, "{address}"),
        }
    }
}

/// Boards that are to be flashed, by number.
pub struct Boards<'a> {
    /// Where they are.
    pub bus: &'a dyn Bus,
    /// What is known of chips.
    pub table: &'a ChipTable,
    /// Which they are.
    pub which: Vec<Which>,
    /// What a bare one is booted with.
    pub boot: Option<BootImage>,
    /// Send an unsigned image to a closed chip all the same.
    pub send_unsigned: bool,
    /// The number of the card, if it is not to be found out.
    pub card: Option<u32>,
    /// The most bytes in one download, if not the safe default.
    pub download: Option<u32>,
    /// How long a board may take to appear at first.
    pub appear: Duration,
    /// Calls all waiting off.
    pub cancel: &'a Cancel,
    /// Those that came late.
    late: Mutex<Vec<Which>>,
    /// Who they turned out to be, and where.
    known: Mutex<BTreeMap<usize, Identity>>,
    /// The last coming of each that was talked to in fastboot.
    talked: Mutex<BTreeMap<usize, Visit>>,
    /// The ports that are in use.
    driven: Driven,
}

impl std::fmt::Debug for Boards<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boards").field("which", &self.which).finish_non_exhaustive()
    }
}

impl<'a> Boards<'a> {
    /// These boards, with everything else as usual.
    #[must_use]
    pub fn new(bus: &'a dyn Bus, table: &'a ChipTable, which: Vec<Which>, cancel: &'a Cancel) -> Self {
        Self {
            bus,
            table,
            which,
            boot: None,
            send_unsigned: false,
            card: None,
            download: None,
            appear: Duration::from_secs(5),
            cancel,
            late: Mutex::default(),
            known: Mutex::default(),
            talked: Mutex::default(),
            driven: Driven::default(),
        }
    }

    /// How a board was named, or where it was first seen if it came late.
    #[must_use]
    pub fn named(&self, board: usize) -> Option<Which> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        self.which.get(board).or_else(|| late.get(board.checked_sub(self.which.len())?)).cloned()
    }

    /// What is known of a board so far.
    #[must_use]
    pub fn identity(&self, board: usize) -> Option<Identity> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&board).cloned()
    }

    fn remember(&self, board: usize, identity: Identity) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(board, identity);
    }

    /// Does another board of this job stand there, for all that is known? `serial` is what the device there tells: where
    /// two have changed places it is not the other's.
    fn taken(&self, board: usize, port: &Port, serial: Option<&str>) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let own = known.get(&board);
        let is_own = serial.is_some_and(|serial| own.is_some_and(|own| own.has_serial(serial)));
        known.iter().any(|(other, identity)| {
            let is_others = serial.is_none_or(|serial| identity.has_serial(serial));
            *other != board && identity.port == *port && (!is_own || is_others)
        })
    }

    /// The serial number that a device tells without being booted: its own, or its ROM's.
    fn serial(&self, device: &Device) -> Option<String> {
        if device.serial.is_some() {
            return device.serial.clone();
        }
        let seen = recognise(self.table, device)?;
        let index = seen.chip.and_then(|chip| chip.serial_string).filter(|index| *index != 0)?;
        // A device that cannot be opened now is looked at again soon.
        self.bus.string(device, index).ok().flatten()
    }

    /// Where the board is, waiting for it.
    fn port(&self, board: usize, within: Duration) -> Result<Port, BoardError> {
        let which = self.named(board);
        let which = which.as_ref();
        let known = self.identity(board);
        let end = self.bus.now().saturating_add(within);
        let mut other: Option<(Port, String)> = None;
        loop {
            let Snapshot { changes, now, devices } = self.bus.look()?;
            let ours = devices.iter().filter(|device| recognise(self.table, device).is_some());
            // Where another one is driven nobody else looks.
            let free = ours.filter(|device| !self.driven.is_anothers(board, &device.port, &devices));
            let take = |device: &Device| self.driven.take(board, &device.port, &devices);
            for device in free {
                match (&known, which) {
                    (Some(known), _) => {
                        let here = device.port == known.port;
                        let told = known.rom_serial.is_some() || known.uboot_serial.is_some();
                        let serial = self.serial(device);
                        if !here && self.taken(board, &device.port, serial.as_deref()) {
                            continue;
                        }
                        match serial {
                            Some(serial) if told && known.has_serial(&serial) && take(device) => {
                                return Ok(device.port.clone());
                            }
                            // A ROM tells another number than U-Boot does, and only one of them may be known.
                            Some(serial) if told && here && known_stage(self.table, known, device) => {
                                other = Some((device.port.clone(), serial));
                            }
                            _ if here && take(device) => return Ok(device.port.clone()),
                            _ => {}
                        }
                    }
                    (None, Some(Which::Port(port)))
                        if (device.port == *port || device.path == *port) && take(device) =>
                    {
                        return Ok(device.port.clone());
                    }
                    (None, Some(Which::Serial(wanted))) => {
                        let serial = self.serial(device);
                        if serial.is_some_and(|serial| serial.eq_ignore_ascii_case(wanted)) && take(device) {
                            return Ok(device.port.clone());
                        }
                    }
                    _ => {}
                }
            }
            if self.cancel.is_cancelled() {
                return Err(BoardError::Cancelled);
            }
            if now >= end {
                return Err(match (other, known) {
                    (Some((port, found)), Some(known)) => {
                        let expected = known.uboot_serial.or(known.rom_serial).unwrap_or_default();
                        BoardError::Another { port, expected, found }
                    }
                    (_, known) => BoardError::NotThere {
                        which: known.map_or_else(|| self.name(board), |known| known.port.to_string()),
                        waited: within,
                    },
                });
            }
            self.bus.wait(changes, LOOK.min(end.saturating_sub(now)));
        }
    }

    /// The same in words.
    #[must_use]
    pub fn name(&self, board: usize) -> String {
        self.named(board).map(|which| which.to_string()).unwrap_or_default()
    }

    /// Finds the board and brings it to fastboot. What stands where it was may turn out to be another one only on the
    /// way, for a device that somebody else has open tells no serial number: then ours is still waited for.
    fn on_the_bus(
        &self,
        board: usize,
        again: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<(Device, Identity), BoardError> {
        let known = self.identity(board);
        let within = again.unwrap_or(self.appear);
        let end = self.bus.now().saturating_add(within);
        loop {
            let left = end.saturating_sub(self.bus.now());
            self.driven.leave(board);
            let found = self.boot_at_its_port(board, left.max(LOOK), observer);
            match &found {
                Ok((device, _)) => self.driven.settle(board, device),
                Err(_) => self.driven.leave(board),
            }
            match (&found, &known) {
                (Err(BoardError::Boot(error)), Some(known))
                    if matches!(*error.problem, Problem::OtherBoard { .. })
                        && !left.is_zero()
                        && !self.cancel.is_cancelled() =>
                {
                    self.remember(board, known.clone());
                    self.bus.wait(self.bus.changes(), LOOK);
                }
                _ => return found,
            }
        }
    }

    fn boot_at_its_port(
        &self,
        board: usize,
        within: Duration,
        observer: &dyn Observer,
    ) -> Result<(Device, Identity), BoardError> {
        let port = self.port(board, within)?;
        let known = self.identity(board);
        // The place counts as taken from here on.
        let mut at = known.clone().unwrap_or_else(|| Identity::at(port.clone()));
        if at.port != port {
            observer.event(&Event::Moved { from: at.port.to_string(), to: port.to_string() });
        }
        at.port = port.clone();
        self.remember(board, at);
        // What is seen on the way is kept at once: a board may be lost before it has come to the end.
        let with_known = |identity: &Identity| {
            let mut identity = identity.clone();
            if let Some(known) = &known {
                identity.rom_serial = identity.rom_serial.or(known.rom_serial.clone());
                identity.chip = identity.chip.or(known.chip.clone());
                identity.uboot_serial = identity.uboot_serial.or(known.uboot_serial.clone());
            }
            identity
        };
        let halted = || self.cancel.is_cancelled();
        let options = BootOptions {
            appear: within,
            send_unsigned: self.send_unsigned,
            expect: known.as_ref(),
            cancelled: &halted,
            ..BootOptions::default()
        };
        let mut told = 0_usize;
        let mut watch = |step: Step<'_>| {
            let event = match step {
                Step::Found { seen, identity, .. } => {
                    self.remember(board, with_known(identity));
                    told = 0;
                    let chip = seen.chip.map_or_else(|| "a board".to_owned(), |chip| chip.title.to_string());
                    Event::Booting { step: seen.protocol.stage(), what: stage_words(seen.protocol, &chip), sent: None }
                }
                Step::Sending { sent, of } if sent >= told.saturating_add(64 << 10) || sent == of => {
                    told = sent;
                    let wide = |len| u64::try_from(len).unwrap_or(u64::MAX);
                    let sent = Some((wide(sent), wide(of)));
                    Event::Booting { step: "sending", what: "sending the boot image".to_owned(), sent }
                }
                Step::LooksLike(family) => Event::Note(Note::OtherChip { family: family.to_string() }),
                _ => return,
            };
            observer.event(&event);
        };
        let none = BootImage::new(Vec::new());
        let booted = match &self.boot {
            Some(image) => boot(self.bus, self.table, &port, image, &options, &mut watch),
            None => {
                if let Some(chip) = self.needs_boot(&port)? {
                    return Err(BoardError::NoBootImage { port, chip });
                }
                boot(self.bus, self.table, &port, &none, &options, &mut watch)
            }
        };
        let booted = booted.map_err(|error| match &*error.problem {
            Problem::Cancelled => BoardError::Cancelled,
            _ => BoardError::Boot(error),
        })?;
        if booted.protocol != Protocol::Fastboot {
            return Err(BoardError::Cannot { what: "be flashed", why: "it came up as a Linux stage, not in fastboot" });
        }
        let identity = with_known(&booted.identity);
        self.remember(board, identity.clone());
        Ok((booted.device, identity))
    }

    /// A pipe to a board in fastboot. One that has not left since something went wrong must first be in step again.
    fn pipe(&self, board: usize, device: &Device) -> Result<Box<dyn BulkPipe + Send>, BoardError> {
        let talked = || self.talked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pipe = self.bus.bulk(device)?;
        if talked().get(&board) == Some(&device.visit) && !again::in_step(&mut *pipe) {
            drop(pipe);
            let silent = || BoardError::Silent { port: device.port.clone() };
            if !self.bus.reset(device)? {
                return Err(silent());
            }
            pipe = self.bus.bulk(device)?;
            if !again::in_step(&mut *pipe) {
                return Err(silent());
            }
        }
        talked().insert(board, device.visit);
        Ok(pipe)
    }

    /// The chip at a port that is still in its ROM, or its loader: it needs a boot image.
    fn needs_boot(&self, port: &Port) -> Result<Option<String>, BoardError> {
        let devices = self.bus.devices()?;
        let seen =
            devices.iter().filter(|device| device.port == *port).find_map(|device| recognise(self.table, device));
        let bare = seen.filter(|seen| !matches!(seen.protocol, Protocol::Fastboot | Protocol::Fbk));
        Ok(bare.map(|seen| seen.chip.map_or_else(|| seen.protocol.name().to_owned(), |chip| chip.title.to_string())))
    }

    /// Asks a U-Boot what it can do and where the image goes.
    fn ask(
        &self,
        session: &mut Session<Box<dyn BulkPipe + Send>>,
        chip: Option<&Chip>,
        to: &To,
    ) -> Result<(Profile, Capabilities), BoardError> {
        let options = ProbeOptions { table: self.table, chip, download: self.download };
        let can = probe(session, &options).map_err(|error| BoardError::Probe(Box::new(error)))?;
        let chip = chip.or_else(|| self.table.chip(can.chip.as_deref()?));
        let wanted = if *to == To::Sd { Kind::Sd } else { Kind::Emmc };
        let card = find(session, &can, chip, wanted, self.card).map_err(|error| BoardError::Card(Box::new(error)))?;
        let line = session.limits().command;
        let profile = Profile {
            shell: can.shell.filter(|_| card.number.is_some()),
            device: card.number.unwrap_or(0),
            whole: Some(card.name),
            capacity: card.bytes,
            download: can.download.into(),
            buffer: can.space.as_ref().and_then(|space| space.buffer),
            scratch: can.space.as_ref().map(|space| space.scratch.clone()),
            crc32_verify: can.crc32,
            // A digest has 64 characters by itself.
            sha256: can.sha256 && line >= 256,
            compare: can.cmp,
            values: can.values,
            unlz4: can.lz4,
            gzwrite: can.gzip,
            line,
        };
        Ok((profile, can))
    }
}

/// Is a device in a stage in which the board's serial number is known?
fn known_stage(table: &ChipTable, known: &Identity, device: &Device) -> bool {
    match recognise(table, device).map(|seen| seen.protocol) {
        Some(Protocol::Fastboot) => known.uboot_serial.is_some(),
        Some(protocol) if protocol.is_rom() => known.rom_serial.is_some(),
        _ => false,
    }
}

/// Where in its way to Linux a board is, in words.
fn stage_words(protocol: Protocol, chip: &str) -> String {
    match protocol {
        Protocol::Sdp | Protocol::Sdps => format!("{chip}, boot ROM ({protocol})"),
        Protocol::Sdpu | Protocol::Sdpv => format!("loader ({protocol})"),
        Protocol::Fastboot => format!("fastboot ({protocol})"),
        Protocol::Fbk => format!("initramfs ({protocol})"),
    }
}

impl Connect for Boards<'_> {
    fn connect(
        &self,
        board: usize,
        to: &To,
        again: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<Connected, BoardError> {
        observer.event(&Event::Stage { stage: Stage::Boot, total: None });
        if let Some(Which::Udp(address)) = &self.named(board) {
            // One that only failed to answer may still be busy.
            let within = again.map_or(self.appear, |within| within.max(again::PATIENCE));
            let pipe = UdpPipe::connect(address, within).and_then(|mut pipe| {
                // Whoever talked to it before may have broken off: us, or a process that was killed.
                again::into_step(&mut pipe).map_err(UdpError::Transfer)?;
                Ok(pipe)
            });
            let pipe = pipe.map_err(|error| BoardError::Network(Box::new(error)))?;
            let pipe: Box<dyn BulkPipe + Send> = Box::new(pipe);
            let mut session = Session::new(pipe, Limits::UDP);
            let (profile, can) = self.ask(&mut session, None, to)?;
            let chip = can.chip.as_deref().and_then(|name| self.table.chip(name));
            return Ok(Connected {
                session,
                profile,
                serial: can.serial,
                port: None,
                speed: None,
                chip: chip.map(|chip| chip.title.to_string()),
                row: chip.cloned(),
            });
        }
        let (device, mut identity) = self.on_the_bus(board, again, observer)?;
        let mut session = Session::new(self.pipe(board, &device)?, Limits::USB);
        let chip = identity.chip.clone();
        let chip = chip.as_deref().and_then(|name| self.table.chip(name));
        let (profile, can) = self.ask(&mut session, chip, to)?;
        identity.uboot_serial = identity.uboot_serial.or(can.serial.clone());
        identity.chip = identity.chip.or(can.chip.map(Into::into));
        let serial = can.serial.or(identity.uboot_serial.clone());
        let chip = identity.chip.as_deref().and_then(|name| self.table.chip(name));
        let (title, row) = (chip.map(|chip| chip.title.to_string()), chip.cloned());
        self.remember(board, identity);
        Ok(Connected {
            session,
            profile,
            serial,
            port: Some(device.port.clone()),
            speed: device.speed,
            chip: title,
            row,
        })
    }
}

impl Joiners for Boards<'_> {
    fn joined(&self) -> Option<usize> {
        let devices = self.bus.devices().ok()?;
        let known: Vec<Identity> =
            self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |port: &Port| Which::Port(port.clone());
        let is_new = |device: &&Device| {
            let named =
                self.which.iter().chain(&*late).any(|which| *which == at(&device.port) || *which == at(&device.path));
            !named && !known.iter().any(|known| known.port == device.port) && recognise(self.table, device).is_some()
        };
        // One of ours that is away may be what has come back elsewhere.
        let away = known.iter().any(|known| !devices.iter().any(|device| device.port == known.port));
        let stranger = |device: &&Device| match self.serial(device) {
            Some(serial) => !known.iter().any(|known| known.has_serial(&serial)),
            None => !away,
        };
        // Its serial number tells only in a stage in which those of ours are known.
        let sure = |device: &&Device| !away || known.iter().all(|known| known_stage(self.table, known, device));
        let device = devices.iter().filter(is_new).filter(sure).find(stranger)?;
        late.push(at(&device.port));
        Some(self.which.len() + late.len() - 1)
    }
}
