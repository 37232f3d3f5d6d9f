//! The image, judged before anything is written: what `mapflash inspect` would warn of is said, and what is no image of
//! a whole card is not written over one unless somebody says so.

use std::path::PathBuf;

use image::table::HEAD_WANTED;

use crate::error::{AppError, Cause};
use crate::inspect::{self, Found, card};
use crate::job::{Flash, Source};
use crate::render::Display;

/// Of these the job itself speaks.
const TOLD: [&str; 3] = ["no_map", "no_table", "length_differs"];

/// So much of an image is looked at.
pub(super) const HEAD: usize = HEAD_WANTED;

/// Judges an image of `size` bytes that begins with `head`.
pub(super) fn judge(job: &Flash, head: &[u8], size: Option<u64>, display: &Display) -> Result<(), AppError> {
    let mut filesystem = None;
    if let Source::File(path) = &job.source {
        let report = inspect::look_before_writing(path, job.map.path())?;
        for warning in report.warnings.iter().filter(|warning| !TOLD.contains(&warning.kind)) {
            display.warn(&warning.to_string());
        }
        if let Found::Image(contents) = &report.found {
            let whole = contents.filesystems.iter().find(|(number, _)| *number == inspect::NO_PARTITION);
            filesystem = whole.map(|(_, found)| found.name);
        }
    }
    if job.to.is_part() {
        return Ok(());
    }
    let Some(what) = card::against(head, size, filesystem) else { return Ok(()) };
    if job.allow_no_table {
        display.warn(&format!("{} {what}", job.source.name()));
        return Ok(());
    }
    let path = match &job.source {
        Source::File(path) => path.clone(),
        Source::Stdin => PathBuf::from(job.source.name()),
    };
    let hint = "--to PARTITION writes it into a partition of that name; --allow-no-table writes it over the whole card";
    Err(Cause::Unfit { path, what, hint: hint.to_owned() }.into())
}

/// Says of ranges to be kept that lie where nothing is written.
pub(super) fn kept(job: &Flash, size: Option<u64>, display: &Display) {
    let Some(size) = size else { return };
    for range in job.wishes.keep.iter().filter(|range| range.end() > size) {
        let how = if range.start() >= size { "behind" } else { "partly behind" };
        display.warn(&format!(
            "--keep {}-{}: that is {how} the end of the image, {size} bytes, where nothing is written anyway",
            range.start(),
            range.end()
        ));
    }
}
