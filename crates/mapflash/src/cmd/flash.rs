//! `mapflash flash`

mod boards;
pub(crate) mod image;
mod judge;
mod loader;
mod plan;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bmap::BlockMap;
use flasher::board::{FlashJob, LoaderJob, Source, flash, flash_loader};
use flasher::plan::Plan;
use flasher::{Cancel, Reopen};

use crate::args::FlashArgs;
use crate::board::Hub;
use crate::board::boot_image::read_boot_image;
use crate::error::{AppError, Cause};
use crate::job::Flash;
use crate::render::Display;
use crate::render::boards::BoardsView;
use crate::signals::Watch;

/// How long a board that left is waited for when nobody asked for more: as long as an unsteady link takes to settle.
const SETTLES: Duration = Duration::from_secs(15);
/// And with `--wait`: as long as somebody takes to find another cable.
const FOR_LONG: Duration = Duration::from_secs(3600);

/// Flashes boards.
pub(crate) fn run(args: FlashArgs, display: &Display) -> Result<(), AppError> {
    let cancel = Cancel::new();
    let watch = Watch::start(&cancel, display).map_err(|error| AppError::io("cannot watch for signals", error))?;
    let done = flash_boards(args, &watch, &cancel, display);
    done.map_err(|error| error.stopped_by(watch.caught()))
}

fn flash_boards(args: FlashArgs, watch: &Watch, cancel: &Cancel, display: &Display) -> Result<(), AppError> {
    let hub = Hub::open(&args.bus)?;
    let mut job = Flash::try_from(args)?;
    if job.is_loader_only() {
        return flash_loaders(&job, &hub, watch, cancel, display);
    }
    if let Some(pack) = image::pack(&mut job)? {
        let made = pack.plan(&job.to, &job.wishes)?;
        let head = pack.front(judge::HEAD).map_err(flasher::FlashError::from)?;
        judge::judge(&job, &head, made.image_size(), display)?;
        return flash_planned(job, &hub, Source::Pack(&pack), pack.map(), &made, watch, cancel, display);
    }
    let map = job.map.read(&job.image)?;
    let map = map.as_ref().map(|file| &file.map);
    let mut opened = image::Opened::open(&job.source, &job.unpack, map, cancel, display)?;
    let made = flasher::board::prepare(&mut opened.image, map, &job.to, &job.wishes, display)?;
    let head = opened.image.head(judge::HEAD)?;
    judge::judge(&job, &head, made.image_size(), display)?;
    let again = opened.again();
    let reopen = again.as_ref().map(|again| move || again.open());
    let reopen: Option<Reopen<'_>> = match &reopen {
        Some(reopen) => Some(reopen),
        None => None,
    };
    let source = Source::Image { image: opened.image, reopen };
    flash_planned(job, &hub, source, map, &made, watch, cancel, display)
}

/// What is known of the image, and everything behind that.
#[expect(clippy::too_many_arguments, reason = "all of it was found out by the two callers")]
fn flash_planned(
    mut job: Flash,
    hub: &Hub,
    source: Source<'_>,
    map: Option<&BlockMap>,
    made: &Plan,
    watch: &Watch,
    cancel: &Cancel,
    display: &Display,
) -> Result<(), AppError> {
    judge::kept(&job, made.image_size(), display);
    let boot = image::boot_image(&job)?;
    if let Source::Image { image, .. } = &source {
        image::tell_map(&job, image, display);
    }
    let which = boards::choose(hub, &job, cancel, display)?;
    let mut boards = boards::connect(hub, &job, which, cancel);
    boards.boot = boot;
    job.options.return_within = if job.wait { FOR_LONG } else { SETTLES };
    job.options.journals = journals();
    if job.options.loader.is_none() && job.boot_partition.is_some() {
        job.options.loader = Some(loader::of(&job, boards.boot.as_ref())?);
    }
    let sight = plan::Sight { job: &job, source: &source, map, plan: made, boards: &boards };
    if job.dry_run {
        return sight.show(display);
    }
    sight.tell(display);
    watch.writing();
    let names = |board| boards.name(board);
    let view = BoardsView::new(display, boards.which.len() > 1 || job.all, &names);
    let started = Instant::now();
    let results = flash(FlashJob {
        source,
        map,
        plan: made,
        boards: boards.which.len(),
        joiners: if job.all { Some(&boards) } else { None },
        to: job.to.clone(),
        connect: &boards,
        options: job.options.clone(),
        observer: &view,
        cancel,
    });
    view.finish();
    let gaps = report::Gaps::of(map, made);
    report::tell(&job, &boards, results, gaps, started.elapsed(), watch, display)
}

/// A loader into a boot partition, and nothing else.
fn flash_loaders(job: &Flash, hub: &Hub, watch: &Watch, cancel: &Cancel, display: &Display) -> Result<(), AppError> {
    let loader = loader::of(job, None)?;
    let which = boards::choose(hub, job, cancel, display)?;
    let mut boards = boards::connect(hub, job, which, cancel);
    boards.boot = Some(match &job.boot {
        Some(path) => read_boot_image(path)?,
        // What is to boot the board from now on boots it this time too.
        None => imx_usb::boot::BootImage::new(std::sync::Arc::clone(&loader.bytes)),
    });
    if job.dry_run {
        return loader::show(job, &boards, &loader, display);
    }
    loader::say(job, &boards, &loader, display);
    watch.writing();
    let names = |board| boards.name(board);
    let view = BoardsView::new(display, boards.which.len() > 1, &names);
    let started = Instant::now();
    let results = flash_loader(&LoaderJob {
        loader,
        boards: boards.which.len(),
        connect: &boards,
        proof: job.options.proof,
        attempts: job.options.attempts,
        then: job.options.then,
        observer: &view,
    });
    view.finish();
    report::tell(job, &boards, results, report::Gaps::default(), started.elapsed(), watch, display)
}

/// Where journals are kept: the XDG base directory for state, else below the home directory; none without either.
fn journals() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| set("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("mapflash"))
}

/// An error of the arguments' combination.
fn usage(text: impl Into<String>) -> AppError {
    Cause::Usage(text.into()).into()
}
