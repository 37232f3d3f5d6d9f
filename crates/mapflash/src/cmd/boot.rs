//! `mapflash boot`

use std::thread;
use std::time::{Duration, Instant};

use flasher::{Cancel, FlashError};
use imx_usb::boot::{self, BootImage, BootOptions, Booted, Step};
use imx_usb::bus::Port;
use serde_json::{Value, json};

use crate::args::BootArgs;
use crate::board::boot_image::{boot_bytes, read_boot_image};
use crate::board::choose::{self, Name};
use crate::board::{Hub, look};
use crate::error::{AppError, Cause};
use crate::exit::Status;
use crate::render::Display;
use crate::render::json::{self, Object};
use crate::render::text::{printable, size, span};
use crate::signals::Watch;

/// A board that is named and waited for may take a long time to be plugged in.
const FOR_LONG: Duration = Duration::from_secs(365 * 24 * 3600);

/// Carries a boot image to one board or several.
pub(crate) fn run(args: &BootArgs, display: &Display) -> Result<(), AppError> {
    if let Some(name @ Name::Udp(_)) = args.board.iter().find(|name| matches!(name, Name::Udp(_))) {
        return Err(Cause::Usage(format!("{name} is a U-Boot on the network: it has booted already")).into());
    }
    let cancel = Cancel::new();
    let watch = Watch::start(&cancel, display).map_err(|error| AppError::io("cannot watch for signals", error))?;
    let image = read_boot_image(&args.image)?;
    let image = match &args.uboot {
        Some(path) => image.with_uboot(boot_bytes(path)?),
        None => image,
    };
    let hub = Hub::open(&args.bus)?;
    let named: Option<Vec<Port>> = args
        .board
        .iter()
        .map(|name| match name {
            Name::Port(port) => Some(port.clone()),
            _ => None,
        })
        .collect();
    // Ports may be waited for one by one; anything else must be seen first.
    if args.wait {
        display.say("waiting for a board, if it is not there");
    }
    let ports = match named.filter(|ports| args.wait && !ports.is_empty()) {
        Some(ports) => ports,
        None if args.all => choose::every(&hub, args.wait, &|| cancel.is_cancelled())?,
        None => {
            let found = choose::ports(&hub, &args.board, args.wait, &|| cancel.is_cancelled());
            found.map_err(|error| error.stopped_by(watch.caught()))?
        }
    };
    let results: Vec<Result<Booted, AppError>> = thread::scope(|scope| {
        let one = |port| {
            let (hub, image, cancel) = (&hub, &image, &cancel);
            scope.spawn(move || walk(hub, port, image, args.wait, cancel, display))
        };
        let threads: Vec<_> = ports.iter().map(one).collect();
        let died = |_| Err(Cause::Flash(FlashError::Cancelled).into());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(died)).collect()
    });
    report(&hub, &ports, results, &watch, display)
}

/// One board's way, told as it goes.
fn walk(
    hub: &Hub,
    port: &Port,
    image: &BootImage,
    wait: bool,
    cancel: &Cancel,
    display: &Display,
) -> Result<Booted, AppError> {
    let cancelled = || cancel.is_cancelled();
    let mut options = BootOptions { cancelled: &cancelled, ..BootOptions::default() };
    if wait {
        options.appear = FOR_LONG;
    }
    let mut begin = None;
    let mut told = |step: Step<'_>| match step {
        Step::Found { device, seen, .. } => {
            begin = None;
            if let Some(entry) = look::entry(hub, device.clone(), false) {
                display.object(&Object::Board { change: "here", board: entry.json() });
            }
            let chip = seen.chip.filter(|_| seen.protocol.is_rom()).map(|chip| format!("{}, ", chip.title));
            let stage = look::stage(seen.protocol);
            say(display, &format!("{port}: {}{stage} ({})", chip.unwrap_or_default(), seen.protocol));
        }
        Step::Hab(hab) => say(display, &format!("{port}: HAB {hab}")),
        Step::LooksLike(family) => {
            display.warn(&format!("{port}: by its load address the boot image is for {family}"));
        }
        Step::Sending { sent, of } => {
            let begin: Instant = *begin.get_or_insert_with(Instant::now);
            if sent == of {
                let sent = u64::try_from(sent).unwrap_or(u64::MAX);
                say(display, &format!("{port}: sent {} in {}", size(sent), span(begin.elapsed())));
            }
        }
        _ => {}
    };
    boot::boot(&*hub.bus, &hub.table, port, image, &options, &mut told).map_err(|error| match *error.problem {
        boot::Problem::Cancelled => Cause::Flash(FlashError::Cancelled).into(),
        _ => Cause::Boot(error).into(),
    })
}

/// A line for people alone: programs are told by objects.
fn say(display: &Display, line: &str) {
    if !display.is_json() {
        display.say(line);
    }
}

/// Says how it ended for each board. Of several that failed the worst status counts.
fn report(
    hub: &Hub,
    ports: &[Port],
    results: Vec<Result<Booted, AppError>>,
    watch: &Watch,
    display: &Display,
) -> Result<(), AppError> {
    let (mut boards, mut failed, mut page) = (Vec::new(), Vec::new(), Vec::new());
    for (port, result) in ports.iter().zip(results) {
        match result {
            Ok(booted) => {
                let serial = booted.device.serial.as_deref();
                let serial = serial.map(|serial| printable(&format!(", serial {serial}"))).unwrap_or_default();
                page.push(format!("{port}: ready in {}{serial}", look::stage(booted.protocol)));
                boards.push(as_json(hub, &booted));
            }
            Err(error) => {
                let error = error.stopped_by(watch.caught());
                let mut board = json!({ "port": port.to_string() });
                json::add_failure(&mut board, &error);
                boards.push(board);
                failed.push(error);
            }
        }
    }
    let ended = if failed.is_empty() { Ok(()) } else { Err(AppError::of_boards(failed, ports.len())) };
    let status = ended.as_ref().err().map_or(Status::Done, AppError::status);
    display.ends(status);
    page.iter().for_each(|line| say(display, line));
    display.object(&Object::Result(json!({ "command": "boot", "status": status.code(), "boards": boards })));
    ended
}

fn as_json(hub: &Hub, booted: &Booted) -> Value {
    let identity = &booted.identity;
    let chip = identity.chip.as_deref().and_then(|name| hub.table.chip(name));
    json!({
        "port": booted.device.port.to_string(),
        "path": booted.device.path.to_string(),
        "protocol": booted.protocol.name(),
        "chip": identity.chip,
        "title": chip.map(|chip| &*chip.title),
        "error": null,
        "status": 0,
        "rom_serial": identity.rom_serial,
        "serial": identity.uboot_serial,
        "hab": identity.hab.map(|hab| hab.to_string()),
    })
}
