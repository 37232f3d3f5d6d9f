//! `mapflash create`

use std::path::Path;
use std::time::Instant;

use bmap::holes::Support;
use bmap::{BlockMap, xml};
use flasher::{Cancel, Failure, FlashError, TargetState};
use serde_json::json;

use super::{output, whole_file};
use crate::cmd::copy::same_file;
use crate::discover::shown;
use crate::error::{AppError, Cause};
use crate::exit::Status;
use crate::job::{Create, Source};
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{count, percent, size, span};
use crate::signals::Watch;

/// Makes the map of an image. Nothing reaches its output before it is complete.
pub(crate) fn run(job: Create, display: &Display) -> Result<(), AppError> {
    let name = shown(&job.image);
    if let Some(output) = job.output.as_deref().filter(|output| same_file(&job.image, output)) {
        return Err(Cause::TargetIsSource { path: output.to_owned(), what: "the image" }.into());
    }
    let cancel = Cancel::new();
    let watch = Watch::start(&cancel, display).map_err(|error| AppError::io("cannot watch for signals", error))?;
    let image = Source::File(job.image.clone()).open(&job.unpack, &cancel)?;
    if image.size() == Some(0) {
        return Err(Cause::Empty(job.image).into());
    }
    let started = Instant::now();
    let made = if job.detect_zeros {
        display.warn(
            "blocks of zeros are left out of the map: whoever writes the image by it leaves old data in their place",
        );
        flasher::create_by_content(image, &job.options, display, &cancel)
    } else {
        let Some(file) = image.file() else {
            return Err(Cause::PackedCreate { path: job.image, format: image.format() }.into());
        };
        flasher::create(file, &name, &job.options, display, &cancel).map(|created| {
            warn(&created.map, created.support, &name, display);
            created.map
        })
    };
    display.finish();
    let failed = |error: FlashError| {
        AppError::job(Failure { error: Box::new(error), state: TargetState::Unchanged }, false, watch.caught())
    };
    let map = made.map_err(failed)?;
    let text = xml::write(&map);
    match &job.output {
        Some(path) => whole_file::write(path, text.as_bytes())?,
        None if display.is_json() => {}
        None => output::print(text.as_bytes())?,
    }
    display.ends(Status::Done);
    tell(&job, &map, &text, started, display);
    Ok(())
}

/// What makes a map useless without making it wrong.
fn warn(map: &BlockMap, support: Support, name: &str, display: &Display) {
    match support {
        Support::CannotTell { allocated } => display.warn(&format!(
            "the filesystem that holds {name} cannot tell where its holes are ({} are allocated of {}): the map lists \
             everything; --detect-zeros looks for zeros instead",
            size(allocated),
            size(map.image_size())
        )),
        _ if map.mapped_blocks() == map.blocks() => display.warn(&format!(
            "nothing in {name} is a hole, so the map leaves nothing out; was it copied without keeping its holes?"
        )),
        _ => {}
    }
}

fn tell(job: &Create, map: &BlockMap, text: &str, started: Instant, display: &Display) {
    let time = started.elapsed();
    display.object(&Object::Result(json!({
        "command": "create",
        "status": 0,
        "image": shown(&job.image),
        "output": job.output.as_deref().map(shown),
        "bmap": if job.output.is_none() { Some(text) } else { None },
        "image_size": map.image_size(),
        "block_size": map.block_size().get(),
        "mapped_bytes": map.mapped_bytes(),
        "ranges": map.ranges().len(),
        "seconds": time.as_secs_f64(),
    })));
    // With the map on standard output a summary on standard error would only be noise in a pipe.
    if let Some(path) = job.output.as_deref().filter(|_| !display.is_json()) {
        display.say(&summary(map, path, &span(time)));
    }
}

fn summary(map: &BlockMap, path: &Path, time: &str) -> String {
    format!(
        "{}: {} of {} mapped ({}) in {}, {time}",
        shown(path),
        size(map.mapped_bytes()),
        size(map.image_size()),
        percent(map.mapped_bytes(), map.image_size()),
        count(map.ranges().len(), "range"),
    )
}
