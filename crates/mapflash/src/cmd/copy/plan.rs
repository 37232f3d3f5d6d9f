//! `--dry-run`: the plan in words, or as JSON.

use bmap::{BlockMap, ByteRange};
use flasher::plan::{HolePolicy, Kind, Phase, Plan};
use image::Image;
use serde_json::{Value, json};

use super::target::Opened;
use crate::cmd::{disks, output};
use crate::discover::shown;
use crate::error::AppError;
use crate::job::{Copy, Map};
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{count, exact, percent, printable, size};

/// Pieces of one phase and kind.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    pieces: usize,
    bytes: u64,
}

/// Prints the plan; nothing was written.
pub(super) fn show(
    job: &Copy,
    image: &Image,
    map: Option<&BlockMap>,
    target: &Opened,
    plan: &Plan,
    display: &Display,
) -> Result<(), AppError> {
    if display.is_json() {
        display.object(&Object::Plan(as_json(job, image, target, plan)));
        return Ok(());
    }
    let mut page = String::new();
    let mut line = |key: &str, value: &str| page.push_str(&format!("{key:>9}  {value}\n"));
    line("image", &image_line(job, image, plan));
    line("block map", &map_line(job, map));
    line("target", &target_line(target));
    if !plan.invalidate().is_empty() {
        let places: Vec<String> = plan.invalidate().iter().map(ByteRange::to_string).collect();
        line("clear", &format!("what could start the old system: {}", places.join(", ")));
    }
    if !plan.survivors().is_empty() {
        let places: Vec<String> = plan.survivors().iter().map(ByteRange::to_string).collect();
        line("stays", &format!("a table or loader that may start while this runs: {}", places.join(", ")));
    }
    for (phase, name) in [(Phase::Body, "write"), (Phase::Head, "then head")] {
        for (kind, what) in [(Kind::Data, "data"), (Kind::Zero, "zeros"), (Kind::DontCare, "holes, if zeroing is free")]
        {
            let Some(sum) = sum(plan, phase, kind) else { continue };
            if sum.pieces > 0 {
                line(name, &format!("{} of {what} in {}", exact(sum.bytes), count(sum.pieces, "piece")));
            }
        }
    }
    if plan.image_size().is_none() {
        line("write", "all data that comes; blocks of zeros are found while reading");
    }
    if let Some(map) = map {
        line("holes", holes_words(job.plan.holes, target, map));
    }
    line("prove", if job.options.prove { "read everything back and compare" } else { "nothing is read back" });
    line("plan", &plan.digest().to_string());
    line("", "dry run: nothing was written");
    output::print(page.as_bytes())
}

/// `None` when the image's length is not known, so that there is no end to count to.
fn sum(plan: &Plan, phase: Phase, kind: Kind) -> Option<Sum> {
    plan.image_size()?;
    let pieces = plan.pieces().filter(|piece| piece.phase == phase && piece.kind == kind);
    Some(pieces.fold(Sum::default(), |sum, piece| Sum {
        pieces: sum.pieces + 1,
        bytes: sum.bytes.saturating_add(piece.extent.len()),
    }))
}

fn image_line(job: &Copy, image: &Image, plan: &Plan) -> String {
    let len = plan.image_size().map_or("length not known before it is unpacked".to_owned(), exact);
    format!("{}, {}, {len}", job.source.name(), image.format())
}

fn map_line(job: &Copy, map: Option<&BlockMap>) -> String {
    match (job.map.path(), map) {
        (Some(path), Some(map)) => {
            let digests = map.algorithm().map_or("no digests".to_owned(), |name| format!("{name} digests"));
            format!(
                "{}: {} mapped ({}) in {}, {digests}",
                shown(path),
                size(map.mapped_bytes()),
                percent(map.mapped_bytes(), map.image_size()),
                count(map.ranges().len(), "range"),
            )
        }
        _ if job.map == Map::Unwanted => "none, as asked".to_owned(),
        _ => "none found".to_owned(),
    }
}

fn target_line(target: &Opened) -> String {
    let name = printable(&target.target().name());
    match target {
        Opened::Block(block) => {
            let disk = block.disk();
            format!("{name}, {}, {}", disks::name(disk), exact(disk.size))
        }
        Opened::File { .. } => format!("{name}, a file whose contents are replaced"),
        Opened::Absent(_) => format!("{name}, a new file"),
    }
}

fn holes_words(policy: HolePolicy, target: &Opened, map: &BlockMap) -> &'static str {
    if map.holes().next().is_none() {
        return "there are none";
    }
    match policy {
        _ if target.target().geometry().fresh => "stay holes of the file and read as zeros",
        HolePolicy::Leave => "keep what the target holds",
        HolePolicy::Zero => "are set to zero, and proven like data",
        HolePolicy::Auto => "are set to zero where that needs no writing, otherwise they keep what the target holds",
    }
}

fn as_json(job: &Copy, image: &Image, target: &Opened, plan: &Plan) -> Value {
    let ranges =
        |ranges: &[ByteRange]| ranges.iter().map(|range| json!([range.start(), range.end()])).collect::<Vec<_>>();
    let phase = |phase| {
        let of = |kind| sum(plan, phase, kind).map(|sum| json!({ "pieces": sum.pieces, "bytes": sum.bytes }));
        json!({ "data": of(Kind::Data), "zero": of(Kind::Zero), "dont_care": of(Kind::DontCare) })
    };
    json!({
        "command": "copy",
        "status": 0,
        "image": job.source.name(),
        "format": image.format().to_string(),
        "image_size": plan.image_size(),
        "map": job.map.path().map(shown),
        "target": printable(&target.target().name()),
        "device": target.is_device(),
        "holes": job.plan.holes.name(),
        "prove": job.options.prove,
        "clear": ranges(plan.invalidate()),
        "stays": ranges(plan.survivors()),
        "body": phase(Phase::Body),
        "head": phase(Phase::Head),
        "head_length": plan.head(),
        "digest": plan.digest().to_string(),
    })
}
