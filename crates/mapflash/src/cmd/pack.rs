//! `mapflash pack`

use std::time::Instant;

use flasher::board::{PackJob, Packed, make_pack};
use flasher::plan::Plan;
use flasher::{Cancel, Failure, FlashError, TargetState};
use image::Image;
use serde_json::json;

use super::whole_file::Partial;
use crate::cmd::copy::same_file;
use crate::cmd::flash::image::Opened;
use crate::discover::shown;
use crate::error::{AppError, Cause};
use crate::exit::Status;
use crate::job::{Map, Pack, Source};
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{rate, ratio, size, span};
use crate::signals::Watch;

/// Packs an image. Nothing has the output's name before it is complete.
pub(crate) fn run(job: Pack, display: &Display) -> Result<(), AppError> {
    let cancel = Cancel::new();
    let watch = Watch::start(&cancel, display).map_err(|error| AppError::io("cannot watch for signals", error))?;
    let done = open_and_pack(&job, &watch, &cancel, display);
    done.map_err(|error| error.stopped_by(watch.caught()))
}

fn open_and_pack(job: &Pack, watch: &Watch, cancel: &Cancel, display: &Display) -> Result<(), AppError> {
    let map = job.map.read(&job.image)?;
    let map = map.as_ref().map(|file| &file.map);
    refuse(job)?;
    let opened = Opened::open(&Source::File(job.image.clone()), &job.unpack, map, cancel, display)?;
    tell_map(job, &opened.image, display);
    let partial = Partial::create(&job.output)?;
    display.object(&Object::Start(json!({
        "command": "pack",
        "image": shown(&job.image),
        "format": opened.image.format().to_string(),
        "map": job.map.path().map(shown),
        "output": shown(&job.output),
        "level": job.level,
    })));
    let started = Instant::now();
    let done = make_pack(PackJob {
        image: opened.image,
        map,
        level: job.level,
        piece_len: Plan::DISK_PIECE,
        threads: job.unpack.threads,
        check_digests: job.check_digests,
        out: partial.file(),
        observer: display,
        cancel,
    });
    display.finish();
    let failed = |error: FlashError| {
        AppError::job(Failure { error: Box::new(error), state: TargetState::Unchanged }, false, watch.caught())
    };
    let packed = done.map_err(failed)?;
    partial.keep()?;
    display.ends(Status::Done);
    tell(job, &packed, started, display);
    Ok(())
}

/// Never onto what is read, and only into files: the beginning is written last.
fn refuse(job: &Pack) -> Result<(), AppError> {
    let read = [(Some(job.image.as_path()), "the image"), (job.map.path(), "its block map")];
    for (path, what) in read {
        if path.is_some_and(|path| same_file(path, &job.output)) {
            return Err(Cause::TargetIsSource { path: job.output.clone(), what }.into());
        }
    }
    match std::fs::metadata(&job.output) {
        Ok(metadata) if !metadata.is_file() => Err(Cause::PackIntoNoFile(job.output.clone()).into()),
        _ => Ok(()),
    }
}

/// Which map is used, or that there is none.
fn tell_map(job: &Pack, image: &Image, display: &Display) {
    let otherwise = if image.file().is_some() { "holes of the file" } else { "blocks of zeros" };
    match &job.map {
        Map::Found(path) => display.say(&format!("block map {} found", shown(path))),
        Map::Missing => display.say(&format!("no block map found: boards will get zeros for {otherwise}")),
        Map::Named(_) | Map::Unwanted => {}
    }
}

fn tell(job: &Pack, packed: &Packed, started: Instant, display: &Display) {
    let time = started.elapsed();
    display.object(&Object::Result(json!({
        "command": "pack",
        "status": 0,
        "image": shown(&job.image),
        "output": shown(&job.output),
        "image_size": packed.image_size,
        "data": packed.data,
        "packed": packed.packed,
        "raw": packed.raw,
        "ratio": ratio(packed.data, packed.packed),
        "pieces": packed.pieces,
        "file_size": packed.file_len,
        "level": job.level,
        "seconds": time.as_secs_f64(),
    })));
    if display.is_json() {
        return;
    }
    let mut line = format!(
        "{}: {} of {} packed to {}",
        shown(&job.output),
        size(packed.data),
        size(packed.image_size),
        size(packed.file_len)
    );
    if let Some(ratio) = ratio(packed.data, packed.packed) {
        line.push_str(&format!(", {ratio:.2} to 1"));
    }
    line.push_str(&format!(", in {}", span(time)));
    if let Some(rate) = rate(packed.data, time) {
        line.push_str(&format!(", {}/s", size(rate)));
    }
    display.say(&line);
}
