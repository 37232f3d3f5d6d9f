//! A loader for a boot partition: which bytes, and what is said of it beforehand.

use std::sync::Arc;

use flasher::board::{Boards, BootPart, Loader};
use imx_usb::boot::BootImage;
use imx_usb::bootimage::marks;
use serde_json::json;

use super::boards::names;
use crate::board::boot_image::boot_bytes;
use crate::cmd::output;
use crate::discover::shown;
use crate::error::AppError;
use crate::job::Flash;
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::exact;

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
    Ok(Loader { bytes, part: job.boot_partition.unwrap_or_default(), offset: job.boot_offset })
}

fn place(part: BootPart) -> &'static str {
    match part {
        BootPart::Active => "the boot partition it boots from",
        BootPart::Inactive => "the boot partition it does not boot from",
        BootPart::Of(area) => area.name(),
    }
}

fn words(loader: &Loader) -> String {
    let len = u64::try_from(loader.bytes.len()).unwrap_or(u64::MAX);
    format!("a loader of {} to {}, proven, then the boot switch", exact(len), place(loader.part))
}

/// Says what will be done.
pub(super) fn say(boards: &Boards<'_>, loader: &Loader, display: &Display) {
    display.say(&format!("{}: {}", names(boards).join(", "), words(loader)));
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
            "boot_partition": place(loader.part),
            "offset": loader.offset,
        })));
        return Ok(());
    }
    let page = format!(
        "boards     {}\nwrite      {}\ndry run: nothing was written\n",
        names(boards).join(", "),
        words(loader)
    );
    output::print(page.as_bytes())
}
