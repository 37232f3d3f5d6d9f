//! `mapflash copy`

mod ask;
mod place;
mod plan;
mod sources;
mod target;

use std::path::Path;
use std::time::Instant;

use bmap::BlockMap;
use flasher::plan::HolePolicy;
use flasher::{Cancel, Job, Report, TargetState, prepare};
use image::Image;
use image::table::HEAD_WANTED;
use serde_json::json;

use crate::discover::shown;
use crate::error::{AppError, Cause};
use crate::exit::Status;
use crate::inspect::card;
use crate::job::{Copy, Map, Source};
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{rate, size, span};
use crate::signals::Watch;
pub(crate) use sources::same_file;
use target::Opened;

/// Writes an image.
pub(crate) fn run(job: Copy, display: &Display) -> Result<(), AppError> {
    let cancel = Cancel::new();
    let watch = Watch::start(&cancel, display).map_err(|error| AppError::io("cannot watch for signals", error))?;
    let done = open_and_write(job, &watch, &cancel, display);
    done.map_err(|error| error.stopped_by(watch.caught()))
}

fn open_and_write(job: Copy, watch: &Watch, cancel: &Cancel, display: &Display) -> Result<(), AppError> {
    let path = match &job.source {
        Source::Stdin => Path::new("-"),
        Source::File(path) => path,
    };
    let map = job.map.read(path)?;
    let mut image = job.source.open(&job.unpack, cancel)?;
    sources::refuse(&job)?;
    // A download that failed, most likely; with a map the lengths would not agree.
    if map.is_none() && image.head(1)?.is_empty() {
        return Err(Cause::Empty(path.to_owned()).into());
    }
    tell_map(&job, &image, display);

    let target = if job.dry_run { Opened::for_planning(&job.dest)? } else { Opened::open(&job.dest)? };
    watch.before_stopping(target.restore());
    let map = map.as_ref().map(|file| &file.map);
    let done = write(&job, image, map, &target, watch, cancel, display);
    done.inspect_err(|error| {
        if !error.state.changed() {
            target.forget();
        }
    })
}

/// Plans, asks and writes.
fn write(
    job: &Copy,
    mut image: Image,
    map: Option<&BlockMap>,
    target: &Opened,
    watch: &Watch,
    cancel: &Cancel,
    display: &Display,
) -> Result<(), AppError> {
    let device = target.is_device();
    let made = prepare(&mut image, map, target.target(), &job.plan, display);
    let made = made.map_err(|error| AppError::from(error).at_device(device))?;
    // Nothing is refused that bmaptool would write, but it is said.
    if device && !target.target().geometry().partition {
        let head = image.head(HEAD_WANTED)?;
        if let Some(what) = card::against(&head, made.image_size().or(image.size()), None) {
            display.warn(&format!("{} {what}", job.source.name()));
        }
    }
    if job.dry_run {
        return plan::show(job, &image, map, target, &made, display);
    }
    if !job.yes && !ask::may_overwrite(target, cancel)? {
        return Err(Cause::Declined(job.dest.clone()).into());
    }
    watch.writing();
    display.object(&Object::Start(json!({
        "command": "copy",
        "image": job.source.name(),
        "format": image.format().to_string(),
        "map": job.map.path().map(shown),
        "target": shown(&job.dest),
        "plan": made.digest().to_string(),
    })));
    let reopen = || match &job.source {
        Source::File(path) => Image::open(path, &job.unpack),
        // Never called: only files are given a way to be opened again.
        Source::Stdin => Image::open(Path::new("-"), &job.unpack),
    };
    let started = Instant::now();
    let done = flasher::copy(Job {
        image,
        reopen: if job.source == Source::Stdin { None } else { Some(&reopen) },
        map,
        plan: &made,
        target: target.target(),
        options: job.options,
        observer: display,
        cancel,
    });
    display.finish();
    match done {
        Ok(report) => {
            display.ends(Status::Done);
            tell_result(job, &report, started, display);
            Ok(())
        }
        Err(failure) => Err(AppError::job(failure, device, watch.caught())),
    }
}

/// Which map is used, or that there is none.
fn tell_map(job: &Copy, image: &Image, display: &Display) {
    let otherwise = if image.file().is_some() { "the holes of the file are" } else { "blocks of zeros are found and" };
    match &job.map {
        Map::Found(path) => display.say(&format!("block map {} found", shown(path))),
        Map::Missing => display.say(&format!("no block map found: {otherwise} written as zeros")),
        Map::Named(_) | Map::Unwanted => {}
    }
}

fn tell_result(job: &Copy, report: &Report, started: Instant, display: &Display) {
    let time = started.elapsed();
    if display.is_json() {
        let stages =
            report.stages.iter().map(|(stage, time)| json!({ "stage": stage.name(), "seconds": time.as_secs_f64() }));
        display.object(&Object::Result(json!({
            "command": "copy",
            "status": 0,
            "target": shown(&job.dest),
            "target_state": report.state.name(),
            "image_size": report.image_size,
            "data": report.data,
            "zeros": report.zeros,
            "written": report.written,
            "zeroed": report.zeroed,
            "holes_zeroed": report.holes_zeroed,
            "holes_left": report.holes_left,
            "gap_left": report.gap_left,
            "proven": report.proven,
            "rewritten": report.rewritten,
            "seconds": time.as_secs_f64(),
            "stages": stages.collect::<Vec<_>>(),
        })));
        return;
    }
    let mut line = format!(
        "wrote {} of {} to {} in {}",
        size(report.written),
        size(report.image_size),
        shown(&job.dest),
        span(time)
    );
    if let Some(rate) = rate(report.written, time) {
        line.push_str(&format!(", {}/s", size(rate)));
    }
    match report.state {
        TargetState::Proven => line.push_str("; read back and right"),
        _ => line.push_str("; not read back"),
    }
    if report.rewritten > 0 {
        line.push_str(&format!(
            " after writing {} again",
            crate::render::text::count(usize::try_from(report.rewritten).unwrap_or(usize::MAX), "piece")
        ));
    }
    display.say(&line);
    if report.holes_zeroed > 0 {
        let bytes = size(report.holes_zeroed);
        display.say(&format!("{bytes} that the map leaves out were set to zero without writing them"));
    }
    let asked = job.plan.holes == HolePolicy::Zero;
    if report.holes_left > 0 {
        let advice = if asked { "" } else { "; --holes zero clears them" };
        let bytes = size(report.holes_left);
        display.say(&format!("{bytes} that the map leaves out hold what was there before{advice}"));
    }
    if asked && report.gap_left > 0 {
        let bytes = size(report.gap_left);
        display.say(&format!("{bytes} in front of the first partition hold what was there before, as always"));
    }
}
