//! `mapflash boards`

use std::collections::BTreeMap;
use std::time::Duration;

use imx_usb::bus::{Snapshot, Visit};
use serde_json::{Value, json};

use super::output;
use crate::args::BoardsArgs;
use crate::board::Hub;
use crate::board::look::{self, Entry, page};
use crate::error::{AppError, Cause};
use crate::render::Display;
use crate::render::json::Object;

/// How long a look at an unchanged bus lasts at most.
const LOOK: Duration = Duration::from_secs(1);

/// Lists boards, or shows how they come and go.
pub(crate) fn run(args: &BoardsArgs, display: &Display) -> Result<(), AppError> {
    let hub = Hub::open(&args.bus)?;
    if args.watch {
        return watch(&hub, display);
    }
    let entries = look::entries(&hub, true).map_err(Cause::Bus)?;
    if display.is_json() {
        let boards: Vec<Value> = entries.iter().map(Entry::json).collect();
        display.object(&Object::Result(json!({ "command": "boards", "status": 0, "boards": boards })));
        return Ok(());
    }
    if entries.is_empty() {
        display.say("there is no board; 'mapflash doctor' says what could be in the way");
        return Ok(());
    }
    output::print(page(&entries).as_bytes())
}

/// Prints what comes and goes, until somebody stops it.
fn watch(hub: &Hub, display: &Display) -> Result<(), AppError> {
    let mut shown: BTreeMap<Visit, Entry> = BTreeMap::new();
    loop {
        let Snapshot { changes, devices, .. } = hub.bus.look().map_err(Cause::Bus)?;
        let gone: Vec<Visit> =
            shown.keys().copied().filter(|visit| devices.iter().all(|device| device.visit != *visit)).collect();
        for entry in gone.iter().filter_map(|visit| shown.remove(visit)) {
            tell("gone", '-', &entry, display)?;
        }
        for device in devices {
            let visit = device.visit;
            if shown.contains_key(&visit) {
                continue;
            }
            // Once for each coming: a board that is being booted by somebody is left alone.
            let Some(entry) = look::entry(hub, device, true) else { continue };
            tell("here", '+', &entry, display)?;
            shown.insert(visit, entry);
        }
        hub.bus.wait(changes, LOOK);
    }
}

fn tell(change: &str, sign: char, entry: &Entry, display: &Display) -> Result<(), AppError> {
    if display.is_json() {
        display.object(&Object::Board { change, board: entry.json() });
        return Ok(());
    }
    let lines: String = page(std::slice::from_ref(entry))
        .lines()
        .enumerate()
        .map(|(n, line)| format!("{} {line}\n", if n == 0 { sign } else { ' ' }))
        .collect();
    output::print(lines.as_bytes())
}
