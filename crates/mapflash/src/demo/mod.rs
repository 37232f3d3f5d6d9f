//! `mapflash demo`: the whole program on an image of its own, with nothing but the binary.
//!
//! It makes an image and a disk file full of old data, writes one to the other by a block map with the engine that
//! `copy` uses, proves it, lets a damaged image be refused, does the same work once more the plain way to compare, and flashes boards in software.
//! Everything it says is measured in the run that says it.

mod boards;
pub(crate) mod disk;
#[cfg(test)]
mod disk_tests;
mod place;
mod plain;
mod table;

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bmap::BlockMap;
use flasher::event::{Event, Observer};
use flasher::plan::HolePolicy;
use flasher::target::file::FileTarget;
use flasher::{
    Cancel, CopyOptions, CreateOptions, Failure, FlashError, Job, PlanOptions, Report, TargetState, copy, create,
    prepare,
};
use image::{Image, Options};

use crate::error::AppError;
use crate::exit::Status;
use crate::held;
use crate::render::text::{percent, size, span};
use crate::render::{Display, Style, json};
use disk::Shape;
pub(crate) use place::Place;
use plain::Onlooker;
use table::{Row, table};

/// The image's seed: everybody sees the same one.
const SEED: u64 = 1;

/// How much room there must be: the disk file, the image's data, the packed image, and a little.
const NEEDED: u64 = (512 + 80 + 48 + 32) << 20;

/// The files of a demo.
struct Files {
    image: PathBuf,
    packed: PathBuf,
    map: PathBuf,
    disk: PathBuf,
}

/// Makes a folder in `dir`, if there is room for a demo.
///
/// # Errors
/// When there is not, and those of making it.
pub(crate) fn place(dir: &Path, keep: bool) -> Result<Place, AppError> {
    let cannot = |source| AppError::io(format!("cannot run the demo in {}", dir.display()), source);
    let free = place::free_bytes(dir).map_err(cannot)?;
    if free < NEEDED {
        let (needed, free) = (size(NEEDED), size(free));
        let why = format!("it needs {needed} for as long as it runs, and {free} are free; --dir takes another folder");
        return Err(cannot(io::Error::other(why)));
    }
    Place::new(dir, keep).map_err(cannot)
}

/// Runs the demo in a folder made by [`place()`].
///
/// # Errors
/// Those of the engine and of working with files; [`FlashError::Cancelled`] when stopped.
pub(crate) fn run(place: &Place, display: &Display, cancel: &Cancel) -> Result<(), AppError> {
    let files = Files {
        image: place.file("demo.wic"),
        packed: place.file("demo.wic.zst"),
        map: place.file("demo.wic.bmap"),
        disk: place.file("demo.disk"),
    };
    display.say("A disk image is mostly empty. mapflash writes only the blocks that hold data, and proves them.");
    let fate = if place.keeps() { "the files stay there" } else { "the files are removed at the end" };
    display.say(&format!("Working in {}: {} of disk space, {fate}.\n", place.path().display(), size(NEEDED)));

    // The engine's notes are for people with a disk of their own.
    let observer = |event: &Event| {
        if !matches!(event, Event::Note(_)) {
            display.event(event);
        }
    };
    let onlooker = Onlooker { observer: &observer, cancel };
    let map = make(&files, display, onlooker)?;
    let mapped = by_map(&files, &map, display, onlooker)?;
    damaged(&files, &map, display, onlooker)?;
    let plain = plainly(&files, display, onlooker)?;
    display.finish();
    on_boards(place, display, onlooker)?;
    display.finish();

    let rows = [plain, mapped];
    display.ends(Status::Done);
    display.object(&json::Object::Result(table::json(&rows)));
    if !display.is_json() {
        if !matches!(display.style(), Style::Quiet) {
            table::print(&table(&rows));
        }
        display.say("With an image of your own:");
        display.say("  mapflash create disk.wic -o disk.wic.bmap");
        display.say("  mapflash copy disk.wic.zst /dev/sdX --verify-target");
        display.say("  mapflash flash disk.wic.zst --boot flash.bin");
    }
    Ok(())
}

/// Steps 1 to 4: the image, packed, its map, and a disk to write to.
fn make(files: &Files, display: &Display, onlooker: Onlooker<'_>) -> Result<BlockMap, AppError> {
    let step = |number: u32, line: &str| {
        display.finish();
        display.say(&format!("{number}/9 {line}"));
    };
    step(1, "Making an image like those built for i.MX8 boards: GPT, loader, kernel (FAT), root filesystem (ext4)");
    let image = new_file(&files.image)?;
    disk::make(&image, &Shape::DEMO, SEED).map_err(at("write", &files.image))?;
    stop(onlooker.cancel)?;

    step(2, "Mapping it: where is data, and what is its SHA-256");
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = CreateOptions { block_size: None, digests: true, threads };
    let name = files.image.display().to_string();
    let started = Instant::now();
    let map = create(&image, &name, &options, onlooker.observer, onlooker.cancel)?.map;
    std::fs::write(&files.map, bmap::xml::write(&map)).map_err(at("write", &files.map))?;
    display.finish();
    display.say(&format!(
        "    {} long, {} of it data ({}) in {} ranges; {}",
        size(map.image_size()),
        size(map.mapped_bytes()),
        percent(map.mapped_bytes(), map.image_size()),
        map.ranges().len(),
        span(started.elapsed()),
    ));

    step(3, "Packing it as images are shipped");
    let started = Instant::now();
    let packed = new_file(&files.packed)?;
    let len = plain::pack(&image, &packed, onlooker).map_err(stopped_or("pack", &files.image))?;
    display.finish();
    display.say(&format!("    demo.wic.zst has {}; {}", size(len), span(started.elapsed())));

    step(4, "Making a disk full of old data, to write to");
    plain::fill(&new_file(&files.disk)?, map.image_size(), onlooker).map_err(stopped_or("write", &files.disk))?;
    display.finish();
    Ok(map)
}

/// Step 5: the packed image to the disk, by the map, proven.
fn by_map(files: &Files, map: &BlockMap, display: &Display, onlooker: Onlooker<'_>) -> Result<Row, AppError> {
    display.say("5/9 Writing the packed image by its map, and reading it back from the disk");
    let started = Instant::now();
    // From the file, as a user's map comes: its own checksum is verified on the way.
    let read = bmap::xml::read(&files.map).map_err(|error| AppError::bmap(&files.map, error))?.map;
    if read != *map {
        return Err(unexpected("the map that was written is not the map that was read"));
    }
    let report = write(&files.packed, map, &files.disk, onlooker).map_err(|failure| *failure.error)?;
    let row = Row { name: "mapflash", written: report.written, read_back: report.proven, time: started.elapsed() };
    display.finish();
    display.say(&format!("    {} written, {} proven; {}", size(row.written), size(row.read_back), span(row.time)));
    Ok(row)
}

/// Step 6: one byte of the image is changed; the engine must refuse it.
fn damaged(files: &Files, map: &BlockMap, display: &Display, onlooker: Onlooker<'_>) -> Result<(), AppError> {
    display.say("6/9 Trying an image with one wrong byte");
    // In the largest range, where the files of the root filesystem are.
    let largest = map.mapped().map(|(bytes, _)| bytes).max_by_key(|bytes| bytes.len());
    let place = largest.map_or(0, |bytes| bytes.start() + bytes.len() / 2);
    let image = OpenOptions::new().read(true).write(true).open(&files.image).map_err(at("open", &files.image))?;
    let flip = || {
        let mut byte = [0];
        image.read_exact_at(&mut byte, place)?;
        image.write_all_at(&byte.map(|byte| byte ^ 1), place)
    };
    flip().map_err(at("change", &files.image))?;
    let result = write(&files.image, map, &files.disk, onlooker);
    display.finish();
    flip().map_err(at("change", &files.image))?;
    match result {
        Ok(_) => Err(unexpected("a damaged image was written without complaint")),
        Err(failure) if matches!(*failure.error, FlashError::RangeDigest { .. }) => {
            let error = AppError::job(failure, false, None);
            display.say(&format!("    refused, with exit status {}:", error.status().code()));
            display.say(&format!("    | {}", error.sentence()));
            held::lines(&error).iter().for_each(|line| display.say(&format!("    | {line}")));
            Ok(())
        }
        Err(failure) => Err((*failure.error).into()),
    }
}

/// Step 7: the same image once more, every byte of it.
fn plainly(files: &Files, display: &Display, onlooker: Onlooker<'_>) -> Result<Row, AppError> {
    display.say("7/9 Without a map: unpacking and writing every byte, as zstdcat and dd do, and comparing every byte");
    let packed = Image::open(&files.packed, &Options::default())?;
    let image = File::open(&files.image).map_err(at("open", &files.image))?;
    let disk = OpenOptions::new().write(true).open(&files.disk).map_err(at("open", &files.disk))?;
    let target = FileTarget::open_disk(&files.disk).map_err(FlashError::from)?;
    let started = Instant::now();
    let differing =
        plain::write_all(packed, &image, &disk, &target, onlooker).map_err(stopped_or("write", &files.disk))?;
    let time = started.elapsed();
    if !differing.is_empty() {
        return Err(FlashError::Differs { target: files.disk.display().to_string(), ranges: differing }.into());
    }
    Ok(Row { name: "dd and cmp", written: Shape::DEMO.bytes(), read_back: Shape::DEMO.bytes(), time })
}

/// Steps 8 and 9: a smaller image, to boards in software.
fn on_boards(place: &Place, display: &Display, onlooker: Onlooker<'_>) -> Result<(), AppError> {
    let files = [place.file("board.wic"), place.file("board.wic.zst")];
    let [path, packed] = &files;
    let image = new_file(path)?;
    disk::make(&image, &Shape::SMALL, SEED).map_err(at("write", path))?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = CreateOptions { block_size: None, digests: true, threads };
    let map = create(&image, &path.display().to_string(), &options, &(), onlooker.cancel)?.map;
    let quiet = Onlooker { observer: &(), cancel: onlooker.cancel };
    plain::pack(&image, &new_file(packed)?, quiet).map_err(stopped_or("pack", path))?;
    let cargo = boards::Cargo { packed, image: path, map: &map };
    display.say("8/9 Flashing a virtual i.MX8M Mini, paced like a real one: boot ROM, loader, U-Boot, eMMC, proof");
    boards::one(&cargo, display, onlooker.cancel)?;
    display.say("9/9 Flashing four at once from one decode, one of which loses its power on the way");
    boards::four(&cargo, display, onlooker.cancel)
}

/// Writes an image to the disk file by its map and proves it, as `copy --verify-target` does to a disk.
fn write(image: &Path, map: &BlockMap, disk: &Path, onlooker: Onlooker<'_>) -> Result<Report, Failure> {
    let before = |error: FlashError| Failure { error: Box::new(error), state: TargetState::Unchanged };
    let options = Options::default();
    let open = || Image::open(image, &options);
    let mut image = open().map_err(|error| before(error.into()))?;
    let target = FileTarget::open_disk(disk).map_err(|error| before(error.into()))?;
    // What the map leaves out keeps its old data, as on a disk that cannot clear blocks: the filesystems must not mind.
    let choices = PlanOptions { holes: HolePolicy::Leave, ..PlanOptions::default() };
    let plan = prepare(&mut image, Some(map), &target, &choices, onlooker.observer).map_err(before)?;
    copy(Job {
        image,
        reopen: Some(&open),
        map: Some(map),
        plan: &plan,
        target: &target,
        options: CopyOptions { prove: true, ..CopyOptions::default() },
        observer: onlooker.observer,
        cancel: onlooker.cancel,
    })
}

fn new_file(path: &Path) -> Result<File, AppError> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(at("make", path))
}

fn stop(cancel: &Cancel) -> Result<(), AppError> {
    if cancel.is_cancelled() { Err(FlashError::Cancelled.into()) } else { Ok(()) }
}

/// Something that cannot happen unless we made a mistake.
fn unexpected(what: &'static str) -> AppError {
    AppError::io("the demo failed", io::Error::other(what))
}

/// An error of working on a file.
fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AppError {
    let doing = format!("cannot {doing} {}", path.display());
    move |source| AppError::io(doing, source)
}

/// The same for loops that can be stopped, which say so by this kind.
fn stopped_or(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AppError {
    let error = at(doing, path);
    move |source| {
        if source.kind() == io::ErrorKind::Interrupted { FlashError::Cancelled.into() } else { error(source) }
    }
}
