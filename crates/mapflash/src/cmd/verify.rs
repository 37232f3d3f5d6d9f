//! `mapflash verify`

use std::path::Path;
use std::time::Instant;

use bmap::xml;
use flasher::target::TargetError;
use flasher::target::medium::Medium;
use flasher::{Cancel, Compared, Failure, FlashError, TargetState};
use serde_json::json;

use crate::cmd::copy::same_file;
use crate::discover::shown;
use crate::error::{AppError, Cause};
use crate::exit::Status;
use crate::job::{Map, Source, Verify};
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{size, span};
use crate::signals::Watch;

/// Compares a target with what it should hold. A difference is exit status 6, not a failure to compare.
pub(crate) fn run(job: Verify, display: &Display) -> Result<(), AppError> {
    let device = is_device(&job.target);
    let cancel = Cancel::new();
    let watch = Watch::start(&cancel, display).map_err(|error| AppError::io("cannot watch for signals", error))?;
    let started = Instant::now();
    let compared = compare(&job, device, &watch, &cancel, display);
    display.finish();
    let compared = compared.map_err(|error| error.stopped_by(watch.caught()))?;
    display.ends(Status::Done);
    tell(&job, compared, started, display);
    Ok(())
}

fn compare(
    job: &Verify,
    device: bool,
    watch: &Watch,
    cancel: &Cancel,
    display: &Display,
) -> Result<Compared, AppError> {
    let failed = |error: FlashError| {
        let (path, state) = (job.target.clone(), TargetState::Unchanged);
        match error {
            // No matter of safety here: nothing is written, the target just does not hold the image.
            FlashError::TooSmall { image, capacity, .. } => Cause::Shorter { path, has: capacity, needs: image }.into(),
            FlashError::Target(TargetError::Refused { refusal, .. }) => Cause::NotComparable { path, refusal }.into(),
            error => AppError::job(Failure { error: Box::new(error), state }, device, watch.caught()),
        }
    };
    let source = Source::File(job.expected.clone());
    let image = match source.open(&job.unpack, cancel) {
        Err(error) if matches!(*error.cause, Cause::ImageIsBmap(_)) => {
            let file = xml::read(&job.expected).map_err(|source| AppError::bmap(&job.expected, source))?;
            let medium = Medium::open(&job.target).map_err(|error| failed(error.into()))?;
            return flasher::verify(&file.map, &medium, job.unpack.threads, display, cancel).map_err(failed);
        }
        image => image?,
    };
    let map = job.map.read(&job.expected)?;
    if same_file(&job.expected, &job.target) {
        return Err(Cause::SameFile(job.target.clone()).into());
    }
    match &job.map {
        Map::Found(path) => display.say(&format!("block map {} found: comparing what it lists", shown(path))),
        Map::Missing => display.say("no block map found: comparing every byte"),
        Map::Named(_) | Map::Unwanted => {}
    }
    let medium = Medium::open(&job.target).map_err(|error| failed(error.into()))?;
    let map = map.as_ref().map(|file| &file.map);
    flasher::verify_image(image, map, &medium, display, cancel).map_err(failed)
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

fn tell(job: &Verify, compared: Compared, started: Instant, display: &Display) {
    let time = started.elapsed();
    if compared.without_digest > 0 {
        display.warn(&format!("{} have no digest in the map and were not compared", size(compared.without_digest)));
    }
    if display.is_json() {
        display.object(&Object::Result(json!({
            "command": "verify",
            "status": 0,
            "target": shown(&job.target),
            "bytes": compared.bytes,
            "without_digest": compared.without_digest,
            "seconds": time.as_secs_f64(),
        })));
        return;
    }
    display.say(&format!(
        "{} holds what {} says: {} compared in {}",
        shown(&job.target),
        shown(&job.expected),
        size(compared.bytes),
        span(time)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageError, Kind};

    #[test]
    fn a_map_is_told_from_an_image_by_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\"></bmap>").unwrap();
        let opened = image::Image::open(file.path(), &image::Options::default());
        assert!(matches!(opened, Err(ImageError::Unsupported { kind: Kind::BmapXml, .. })));
        let error = Source::File(file.path().to_owned()).open(&image::Options::default(), &Cancel::new()).unwrap_err();
        assert!(matches!(*error.cause, Cause::ImageIsBmap(_)));
    }
}
