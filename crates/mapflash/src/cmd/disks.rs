//! `mapflash disks`

use std::path::Path;

use flasher::disk::{Disk, System};
use serde_json::{Value, json};

use super::output;
use crate::args::DisksArgs;
use crate::error::AppError;
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{printable, size};

/// Lists disks: removable ones, or all of them.
pub(crate) fn run(args: &DisksArgs, display: &Display) -> Result<(), AppError> {
    let system = System::rooted(args.root.as_deref().unwrap_or(Path::new("/")));
    let disks = system.disks().map_err(|error| AppError::io("cannot list the disks of this machine", error))?;
    let shown: Vec<&Disk> = disks.iter().filter(|disk| args.all || (disk.removable && !disk.system)).collect();
    if display.is_json() {
        let disks: Vec<Value> = shown.iter().map(|disk| as_json(disk)).collect();
        display.object(&Object::Result(json!({ "command": "disks", "status": 0, "disks": disks })));
        return Ok(());
    }
    if shown.is_empty() {
        display.say(if args.all { "there are no disks" } else { "there is no removable disk; --all lists the others" });
        return Ok(());
    }
    output::print(page(&shown).as_bytes())
}

/// A table, and below each disk what uses it.
fn page(disks: &[&Disk]) -> String {
    let rows: Vec<[String; 4]> = disks
        .iter()
        .map(|disk| {
            let bus = disk.bus.unwrap_or("-").to_owned();
            [disk.node.display().to_string(), size(disk.size), bus, name(disk)]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (node, len, bus) = (width(0), width(1), width(2));
    let mut page = String::new();
    for (row, disk) in rows.iter().zip(disks) {
        let line = format!("{:node$}  {:>len$}  {:bus$}  {}", row[0], row[1], row[2], row[3]);
        page.push_str(line.trim_end());
        page.push('\n');
        let mut notes: Vec<String> = disk.uses.iter().map(|held| printable(&held.to_string())).collect();
        if disk.system {
            notes.push("the running system lives on it".to_owned());
        }
        if disk.read_only {
            notes.push("it is read-only".to_owned());
        }
        for note in notes {
            page.push_str(&format!("{:node$}  {note}\n", ""));
        }
    }
    page
}

/// Model and serial number, as far as they are known.
pub(super) fn name(disk: &Disk) -> String {
    let model = disk.model.as_deref().unwrap_or("unknown model");
    match &disk.serial {
        Some(serial) => printable(&format!("{model}, serial {serial}")),
        None => printable(model),
    }
}

fn as_json(disk: &Disk) -> Value {
    json!({
        "device": disk.node.display().to_string(),
        "size": disk.size,
        "bus": disk.bus,
        "model": disk.model,
        "serial": disk.serial,
        "removable": disk.removable,
        "read_only": disk.read_only,
        "system": disk.system,
        "partitions": disk.partitions,
        "uses": disk.uses.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
