//! A loader for a boot partition: which bytes, and what is said of it beforehand.

use std::sync::Arc;

use flasher::board::{Boards, BootPart, Loader};
use imx_usb::boot::BootImage;
use imx_usb::bootimage::describe::{Family, describe};
use imx_usb::bootimage::{SCAN_BYTES, marks};
use imx_usb::chips::ChipTable;
use serde_json::json;

use super::boards::names;
use crate::board::boot_image::{begins_with_loader, boot_bytes};
use crate::cmd::output;
use crate::discover::shown;
use crate::error::AppError;
use crate::job::{Flash, not_a_loader};
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{exact, size};

/// The loader that a job writes into a boot partition: named there, or the image itself, or what boots the board.
pub(super) fn of(job: &Flash, boot: Option<&BootImage>) -> Result<Loader, AppError> {
    let bytes: Arc<[u8]> = match (&job.loader, boot) {
        (Some(path), _) => boot_bytes(path)?,
        (None, Some(boot)) => boot.bytes().into(),
        (None, None) => {
            return Err(super::usage("--boot-partition needs a loader: name it there, or give --boot"));
        }
    };
    // Of a disk image only the loader inside of it.
    let bytes = match marks::is_disk_image(&bytes) {
        true => {
            let range = marks::tagged_loader(&bytes).map_err(|error| super::usage(error.to_string()))?;
            bytes.get(range).unwrap_or_default().into()
        }
        false => bytes,
    };
    if !begins_with_loader(&bytes) {
        let path = job.loader.as_ref().or(job.boot.as_ref()).unwrap_or(&job.image);
        return Err(not_a_loader(path, "is no boot image: no board would boot from it"));
    }
    Ok(Loader {
        bytes,
        part: job.boot_partition.unwrap_or_default(),
        offset: job.boot_offset,
        other_chip: job.allow_other_chip,
    })
}

/// Where it goes, in words.
fn place(part: BootPart) -> &'static str {
    match part {
        BootPart::Active => "the boot partition it boots from",
        BootPart::Inactive => "the boot partition it does not boot from",
        BootPart::Of(area) => area.name(),
    }
}

/// The file that it is of.
pub(super) fn file(job: &Flash) -> String {
    let path = job.loader.as_ref().or(job.boot.as_ref()).unwrap_or(&job.image);
    shown(path)
}

/// The chips that it seems to be for.
fn family(loader: &Loader) -> Option<Family> {
    describe(loader.bytes.get(..SCAN_BYTES).unwrap_or(&loader.bytes)).family()
}

/// From which byte of the partition, as far as that is known before the board is.
fn from(loader: &Loader) -> String {
    if let Some(offset) = loader.offset {
        return format!("from byte {offset}, as asked");
    }
    let chips = ChipTable::builtin();
    let names = family(loader).map(Family::chips).unwrap_or_default();
    let mut offsets: Vec<u32> = names.iter().filter_map(|name| chips.chip(name)?.loader_offset?.boot).collect();
    offsets.dedup();
    match offsets.as_slice() {
        [offset] => format!("from byte {offset}, where its ROM looks"),
        _ => "from the byte where its ROM looks".to_owned(),
    }
}

/// A loader and where it goes, behind an image or by itself.
pub(super) fn words(job: &Flash, loader: &Loader) -> String {
    let len = u64::try_from(loader.bytes.len()).unwrap_or(u64::MAX);
    let chips = family(loader).map(|family| format!(", for {family}")).unwrap_or_default();
    let (file, place, from) = (file(job), place(loader.part), from(loader));
    format!("{file} ({}{chips}) to {place}, {from}; proven, then the boot switch", size(len))
}

/// What a bare board is booted with.
fn boot_words(job: &Flash) -> String {
    match &job.boot {
        Some(path) => format!("a bare board is booted with {}", shown(path)),
        None => format!("a bare board is booted with {} itself", file(job)),
    }
}

/// Says what will be done.
pub(super) fn say(job: &Flash, boards: &Boards<'_>, loader: &Loader, display: &Display) {
    display.say(&format!("{} is a boot image: of the eMMC only a boot partition is written", file(job)));
    display.say(&format!("{}: {}", names(boards).join(", "), words(job, loader)));
}

/// The plan, for `--dry-run`.
pub(super) fn show(job: &Flash, boards: &Boards<'_>, loader: &Loader, display: &Display) -> Result<(), AppError> {
    if display.is_json() {
        display.object(&Object::Plan(json!({
            "command": "flash",
            "status": 0,
            "boards": names(boards),
            "loader": job.loader.as_deref().map(shown),
            "bytes": loader.bytes.len(),
            "family": family(loader).map(|family| family.to_string()),
            "boot": job.boot.as_deref().or(job.loader.as_deref()).map(shown),
            "boot_partition": place(loader.part),
            "offset": loader.offset,
        })));
        return Ok(());
    }
    let len = u64::try_from(loader.bytes.len()).unwrap_or(u64::MAX);
    let chips = family(loader).map(|family| format!(", by its load address for {family}")).unwrap_or_default();
    let page = format!(
        "loader     {}, {}{chips}\nboards     {}\nto         {} of the eMMC, {}\nboot       {}\n\
         then       the boot switch is turned to it\nstays      the rest of the eMMC\ndry run: nothing was written\n",
        file(job),
        exact(len),
        names(boards).join(", "),
        place(loader.part),
        from(loader),
        boot_words(job),
    );
    output::print(page.as_bytes())
}
