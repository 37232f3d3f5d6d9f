//! Boards: an image to the eMMC of one or many, from one decode, each proven by the board itself.
//!
//! - [`flash`] runs the whole job; [`Connect`] brings a board to fastboot and says what its U-Boot can do: [`Boards`]
//!   on a bus, or over the network.
//! - `feed` reads, checks and digests the image once for all; `pack` packs pieces once for all. [`make_pack`] does both
//!   beforehand, once for many jobs.
//! - `course` is one board's way: clear what boots, body, proof, head, proof. It survives the board's loss.
//! - `batch` is what goes in one download, `wire` decides in which form, `uboot` what it is told to do with it,
//!   `check` asks what it holds.
//! - `again` gets a board that failed without leaving back in step, or finds that it does not answer.
//! - `turns` lets boards behind one hub take turns on the bus; `journal` lets an interrupted job go on.
//!
//! Unlike disks, boards are not a [`crate::target::Target`]: they take many pieces at a time and answer yes or no
//! instead of reading back, and what they do is the sum of what they receive and write. Plan, pieces, policies and events
//! are the same.

mod again;
mod batch;
mod check;
mod connect;
mod course;
mod erase;
mod error;
mod feed;
mod fill;
mod journal;
mod loader;
mod pack;
pub mod packfile;
mod place;
mod prepare;
mod profile;
mod sums;
mod turns;
mod uboot;
mod wire;
mod zeros;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bmap::BlockMap;
use crossbeam_channel::{Sender, unbounded};
use image::{Format, Image};
use imx_usb::bus::{Port, Speed};
use imx_usb::fastboot::{Command as Fastboot, FastbootError, Session};
use imx_usb::pipe::BulkPipe;
use imx_usb::probe::Shell;

use crate::cancel::Cancel;
use crate::copy::Reopen;
use crate::error::{FlashError, TargetState};
use crate::event::{Event, Observer, Stage};
use crate::plan::Plan;

pub use check::Sum;
pub use connect::{Boards, Which};
pub use erase::Erased;
pub use error::BoardError;
pub use loader::{BootPart, Loader, LoaderPlaced};
pub use pack::{Form, lz4_frame, pack};
pub use packfile::{Pack, PackError, PackJob, Packed, make_pack, open_pack};
pub use place::To;
pub use prepare::{Wishes, prepare};
pub use profile::Profile;
pub use sums::{Spent, Sums};
pub use uboot::Area;
pub use wire::Wire;

use course::{Course, Ground, How};
use feed::{Backing, Feed};
use journal::Journal;
use pack::Packer;
use place::Place;
use turns::{SharedBus, Turns};
use uboot::Uboot;

/// Bytes of the image that are read ahead of the fastest board, for all boards together: a batch and what is read while
/// it is written.
const AHEAD: u64 = course::BATCH + (16 << 20);
/// Bytes of packed pieces that are kept for all boards.
const PACKED: usize = 40 << 20;
/// And so many more for each board, so that those that are behind find them.
const PACKED_EACH: usize = 8 << 20;
/// How often a board may be lost without getting any further.
const FRUITLESS: u32 = 3;

/// What to do when all is written and proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// Stay in fastboot.
    #[default]
    Stay,
    /// Reset the board.
    Reset,
    /// Leave fastboot and go on booting.
    Continue,
}

/// How proof is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By CRC-32 where the board has it, otherwise by SHA-256, otherwise by comparing with what was sent.
    Fast,
    /// By SHA-256.
    Strong,
    /// Not at all.
    Off,
}

/// What is compared before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Before {
    /// Nothing: everything is sent.
    #[default]
    Send,
    /// What an earlier, interrupted job sent.
    Resume,
    /// Everything.
    Delta,
}

/// How boards are flashed.
#[derive(Debug, Clone)]
pub struct FlashOptions {
    /// In which form bytes go over the bus.
    pub wire: Wire,
    /// How they are proven.
    pub proof: Proof,
    /// What is compared first.
    pub before: Before,
    /// Let CRC-32 decide that a piece need not be sent; SHA-256 otherwise.
    pub compare_by_crc: bool,
    /// How often bad pieces are sent again.
    pub attempts: u32,
    /// How long a card that refused is left alone before it is asked once more.
    pub pause: Duration,
    /// How long a board that left is waited for; zero for not at all.
    pub return_within: Duration,
    /// Where journals are kept; none without it.
    pub journals: Option<PathBuf>,
    /// Where pieces are kept for slower boards when the image is not a raw file.
    pub spill: Option<PathBuf>,
    /// Check the digests of the map's ranges while reading.
    pub check_digests: bool,
    /// The old head stays until the new one is written.
    pub keep_head: bool,
    /// Erase the map's holes behind the head. Never with a comparison beforehand.
    pub erase_holes: bool,
    /// A loader for a boot partition, written once the image is proven.
    pub loader: Option<Loader>,
    /// What to do at the end.
    pub then: Then,
}

impl Default for FlashOptions {
    /// Auto, proven by CRC-32, everything is sent, three attempts, no waiting for boards that leave.
    fn default() -> Self {
        Self {
            wire: Wire::Auto,
            proof: Proof::Fast,
            before: Before::Send,
            compare_by_crc: false,
            attempts: 3,
            pause: Duration::from_secs(2),
            return_within: Duration::ZERO,
            journals: None,
            spill: None,
            check_digests: true,
            keep_head: false,
            erase_holes: false,
            loader: None,
            then: Then::Stay,
        }
    }
}

/// A board in fastboot.
pub struct Connected {
    /// The session.
    pub session: Session<Box<dyn BulkPipe + Send>>,
    /// What its U-Boot can do.
    pub profile: Profile,
    /// Its serial number: what tells it from others when it comes back.
    pub serial: Option<String>,
    /// Where it is plugged in; `None` over the network.
    pub port: Option<Port>,
    /// How fast it is connected.
    pub speed: Option<Speed>,
    /// Its chip, where that is known.
    pub chip: Option<String>,
    /// Where its ROM looks for the loader in a boot partition, where that is known.
    pub loader_offset: Option<u64>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("serial", &self.serial).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Brings boards to fastboot. Called once for each board, and again whenever it was lost.
pub trait Connect: Sync {
    /// Brings board number `board` to fastboot, for an image that goes to `to`. `again`: it was there before and is
    /// waited for, for so long.
    ///
    /// # Errors
    /// [`BoardError`]; [`BoardError::Another`] if another board came back in its place.
    fn connect(
        &self,
        board: usize,
        to: &To,
        again: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<Connected, BoardError>;
}

/// Tells of boards that come late.
pub trait Joiners: Sync {
    /// The number of a board that has come since this was last asked: the next one that was not given to any. [`Connect`]
    /// knows it from then on.
    fn joined(&self) -> Option<usize>;
}

/// Tells which board an event is about.
pub trait BoardObserver: Sync {
    /// Takes an event of board number `board`.
    fn event(&self, board: usize, event: &Event);
}

impl<F: Fn(usize, &Event) + Sync> BoardObserver for F {
    fn event(&self, board: usize, event: &Event) {
        self(board, event);
    }
}

/// Where an image comes from.
pub enum Source<'a> {
    /// The image itself. Its length must be known.
    Image {
        /// It.
        image: Image,
        /// Opens it again, where that is possible.
        reopen: Option<Reopen<'a>>,
    },
    /// A pack file; the plan must be of [`Pack::plan`].
    Pack(&'a Pack),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image { image, .. } => f.debug_tuple("Image").field(&image.name()).finish(),
            Self::Pack(pack) => f.debug_tuple("Pack").field(&pack.name()).finish(),
        }
    }
}

/// An image, the boards it goes to, and how.
pub struct FlashJob<'a> {
    /// The image, or its pack.
    pub source: Source<'a>,
    /// The image's map: the plan was made with it. A pack has its own.
    pub map: Option<&'a BlockMap>,
    /// What is written.
    pub plan: &'a Plan,
    /// How many boards there are at first; they are known by their numbers from 0.
    pub boards: usize,
    /// Tells of boards that come while others are still being flashed, if they are to be flashed too.
    pub joiners: Option<&'a dyn Joiners>,
    /// Where on each the image goes.
    pub to: To,
    /// Brings them to fastboot.
    pub connect: &'a dyn Connect,
    /// How.
    pub options: FlashOptions,
    /// Is told what happens.
    pub observer: &'a dyn BoardObserver,
    /// Stops the job.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for FlashJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlashJob").field("boards", &self.boards).field("options", &self.options).finish_non_exhaustive()
    }
}

/// What became of one board.
#[derive(Debug)]
pub struct BoardResult {
    /// Why it does not hold the image, if it does not.
    pub error: Option<BoardError>,
    /// What it holds.
    pub state: TargetState,
    /// What was moved.
    pub sums: Sums,
    /// Where the time went.
    pub spent: Spent,
    /// From the first look to the end.
    pub time: Duration,
    /// By what it was proven, if it was.
    pub proof: Option<Sum>,
    /// Its serial number, once it was seen.
    pub serial: Option<String>,
    /// Its chip, once it was seen.
    pub chip: Option<String>,
    /// What was erased, if that was asked for.
    pub erased: Option<Erased>,
    /// The loader that was written, if one was.
    pub loader: Option<LoaderPlaced>,
}

/// Flashes boards; returns what became of each, in order. One's trouble is not another's.
#[must_use]
pub fn flash(job: FlashJob<'_>) -> Vec<BoardResult> {
    let FlashJob { source, map, plan, boards, joiners, to, connect, options, observer, cancel } = job;
    cancel.halt(false);
    let (feed, map) = match &source {
        Source::Image { image, reopen } => {
            // One that joins late needs what the first has long been sent.
            let many = if joiners.is_some() { boards.max(2) } else { boards };
            let backing = backing(image, *reopen, many, &options);
            (backing.map(|backing| Feed::new(plan, backing, AHEAD, boards, cancel)), map)
        }
        Source::Pack(pack) => (Feed::of_pack(plan, pack, cancel), pack.map()),
    };
    let feed = match feed {
        Ok(feed) => feed,
        Err(error) => {
            let error = std::sync::Arc::new(error);
            return (0..boards).map(|_| failed(BoardError::Source(std::sync::Arc::clone(&error)))).collect();
        }
    };
    let packer = Packer::new(&feed, PACKED.saturating_add(PACKED_EACH.saturating_mul(boards)));
    let turns = Turns::default();
    let ground = Ground { feed: &feed, packer: &packer, turns: &turns, cancel, map };
    let checked = map.filter(|_| options.check_digests);
    let results: Mutex<BTreeMap<usize, BoardResult>> = Mutex::default();
    let mut all = boards;
    thread::scope(|scope| {
        let reader = match source {
            Source::Image { image, .. } => {
                let feed = &feed;
                Some(scope.spawn(move || feed.run(image, checked)))
            }
            Source::Pack(_) => None,
        };
        // One core is left to those who read, and who talk to boards.
        let packers = thread::available_parallelism().map_or(1, |cores| cores.get() - 1).clamp(1, 4);
        let packers: Vec<_> = (0..packers).map(|_| scope.spawn(|| packer.work())).collect();
        let (ends, ended) = unbounded();
        let begin = |board: usize| {
            let (options, to, results, end) = (&options, &to, &results, Ending(ends.clone()));
            scope.spawn(move || {
                let _end = end;
                let observer = |event: &Event| observer.event(board, event);
                let result = one(board, ground, connect, to, options, &observer);
                ground.feed.leave(board);
                observer(&Event::BoardDone);
                results.lock().unwrap_or_else(PoisonError::into_inner).insert(board, result);
            })
        };
        let mut workers: Vec<_> = (0..boards).map(begin).collect();
        let mut running = boards;
        while running > 0 {
            let end = if joiners.is_some() { ended.recv_timeout(LOOK).is_ok() } else { ended.recv().is_ok() };
            running -= usize::from(end);
            let joined = joiners.filter(|_| running > 0 && !cancel.is_cancelled()).and_then(Joiners::joined);
            if let Some(board) = joined.filter(|board| *board == all) {
                all += 1;
                running += 1;
                workers.push(begin(board));
            }
        }
        // A panic leaves no result.
        workers.into_iter().for_each(|worker| drop(worker.join()));
        feed.stop();
        packer.stop();
        // One of these that panicked has been heard of by the boards that needed it.
        drop(reader.map(thread::ScopedJoinHandle::join));
        packers.into_iter().for_each(|packer| drop(packer.join()));
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    (0..all).map(|board| results.remove(&board).unwrap_or_else(|| failed(BoardError::Panicked))).collect()
}

/// How often it is looked whether a board has joined.
const LOOK: Duration = Duration::from_millis(200);

/// Tells that a board's thread has ended, however it ended.
struct Ending(Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // The job may have been the last to listen.
        let _ = self.0.send(());
    }
}

fn failed(error: BoardError) -> BoardResult {
    BoardResult {
        error: Some(error),
        state: TargetState::Unchanged,
        sums: Sums::default(),
        spent: Spent::default(),
        time: Duration::ZERO,
        proof: None,
        serial: None,
        chip: None,
        erased: None,
        loader: None,
    }
}

/// Where pieces come from for those who are late, or need them twice.
fn backing<'a>(
    image: &Image,
    reopen: Option<Reopen<'a>>,
    boards: usize,
    options: &FlashOptions,
) -> Result<Backing<'a>, FlashError> {
    if let Some(file) = image.file().filter(|_| image.format() == Format::Raw) {
        return file.try_clone().map(Backing::File).map_err(|source| FlashError::Spill { source });
    }
    if boards == 1 && reopen.is_some() {
        return Ok(Backing::Again(reopen));
    }
    let folder = options.spill.clone().unwrap_or_else(|| PathBuf::from("/var/tmp"));
    unnamed(&folder).map(Backing::Spill).map_err(|source| FlashError::Spill { source })
}

/// A file that is gone when it is closed.
fn unnamed(folder: &std::path::Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = nix::libc::O_TMPFILE;
    std::fs::OpenOptions::new().read(true).write(true).custom_flags(mode).mode(0o600).open(folder)
}

/// One board, from its first sight to its end, through however many losses.
fn one(
    board: usize,
    ground: Ground<'_>,
    connect: &dyn Connect,
    to: &To,
    options: &FlashOptions,
    observer: &dyn Observer,
) -> BoardResult {
    let started = imx_usb::pipe::monotonic();
    let mut run =
        One { board, ground, connect, to, options, observer, course: None, result: failed(BoardError::Panicked) };
    let error = run.all_the_way().err();
    let time = imx_usb::pipe::monotonic().saturating_sub(started);
    let mut result = BoardResult { time, ..run.result };
    if let Some(course) = run.course {
        result.state = course.state;
        result.sums = course.sums;
        result.spent = course.spent;
    }
    result.error = error;
    result
}

struct One<'a> {
    board: usize,
    ground: Ground<'a>,
    connect: &'a dyn Connect,
    to: &'a To,
    options: &'a FlashOptions,
    observer: &'a dyn Observer,
    course: Option<Course<'a>>,
    /// What is known so far.
    result: BoardResult,
}

impl One<'_> {
    fn all_the_way(&mut self) -> Result<(), BoardError> {
        let mut lost: Option<BoardError> = None;
        let (mut fruitless, mut best) = (0, 0);
        loop {
            let error = match (self.once(lost.is_some()), lost.take()) {
                (Ok(()), _) => return Ok(()),
                // What happened first is what has to be seen to.
                (Err(then @ (BoardError::NotThere { .. } | BoardError::Silent { .. })), Some(lost)) => {
                    return Err(BoardError::NotBack { then: Box::new(then), lost: Box::new(lost) });
                }
                (Err(error), _) => error,
            };
            // Nobody waits for a board that leaves unless asked to; one that only failed to answer may answer again.
            let again = !self.options.return_within.is_zero() || error.may_be_there();
            if !error.is_lost() || !again || self.ground.cancel.is_cancelled() {
                return Err(error);
            }
            let reached = self.course.as_ref().map_or(0, Course::progress);
            fruitless = if reached > best { 0 } else { fruitless + 1 };
            best = best.max(reached);
            if fruitless >= FRUITLESS {
                return Err(BoardError::LostAgain { times: fruitless, source: Box::new(error) });
            }
            if let Some(course) = &mut self.course {
                course.lost();
            }
            self.observer.event(&Event::Lost { why: error::chain(&error) });
            lost = Some(error);
        }
    }

    /// From wherever the board is to the end, if nothing comes between.
    fn once(&mut self, again: bool) -> Result<(), BoardError> {
        let start = imx_usb::pipe::monotonic();
        let wait = again.then_some(self.options.return_within);
        let connected = self.connect.connect(self.board, self.to, wait, self.observer)?;
        let Connected { session, profile, serial, port, speed, chip, loader_offset } = connected;
        if let (Some(expected), Some(found)) = (&self.result.serial, &serial)
            && expected != found
        {
            let (expected, found) = (expected.clone(), found.clone());
            return Err(match port {
                Some(port) => BoardError::Another { port, expected, found },
                None => BoardError::Cannot { what: "go on", why: "another board answers at that address" },
            });
        }
        self.result.serial = serial.or(self.result.serial.take());
        self.result.chip = chip.or(self.result.chip.take());
        let mut uboot = Uboot::new(session, profile);
        let place = resolve(self.to, &mut uboot)?;
        let proof = self.proof(&uboot, &place);
        self.result.proof = proof;
        let bus = SharedBus::of(self.board, port.as_ref(), speed);
        let how = How {
            // What is inflated is not in the board's memory any more, to be compared with.
            wire: if proof == Some(Sum::Compare) { Wire::Only(Form::Raw) } else { self.options.wire },
            proof,
            compare: if self.options.compare_by_crc { Sum::Crc32 } else { Sum::Sha256 },
            attempts: self.options.attempts,
            pause: self.options.pause,
            keep_head: self.options.keep_head,
            erase: self.options.erase_holes && self.options.before == Before::Send,
        };
        let course = match &mut self.course {
            Some(course) => {
                course.reconnected(how, bus);
                course
            }
            none => {
                let journal =
                    journal(self.options, self.ground.feed.plan(), self.result.serial.as_deref(), self.observer);
                let delta = self.options.before == Before::Delta;
                let (ground, observer) = (self.ground, self.observer);
                none.insert(Course::new(self.board, ground, how, bus, delta, journal, observer))
            }
        };
        course.spent.boot = course.spent.boot.saturating_add(imx_usb::pipe::monotonic().saturating_sub(start));
        course.go(&mut uboot, &place, self.to)?;
        self.result.erased = course.erased;
        if let Some(loader) = &self.options.loader {
            self.observer.event(&Event::Stage { stage: Stage::BootPartition, total: None });
            let attempts = self.options.attempts;
            self.result.loader = Some(loader::put(&mut uboot, loader, loader_offset, proof, attempts)?);
        }
        course.journal.remove();
        if self.options.proof != Proof::Off && proof.is_none() {
            return Err(BoardError::NoProof);
        }
        farewell(&mut uboot, self.options.then)
    }

    /// By what this board can prove.
    fn proof(&self, uboot: &Uboot, place: &Place) -> Option<Sum> {
        place.start.and_then(|_| sum_for(self.options.proof, &uboot.profile))
    }
}

/// The sum that a U-Boot can judge by, as asked for.
fn sum_for(proof: Proof, profile: &Profile) -> Option<Sum> {
    if !profile.can_judge() {
        return None;
    }
    match proof {
        Proof::Off => None,
        Proof::Fast if profile.crc32_verify => Some(Sum::Crc32),
        Proof::Fast | Proof::Strong if profile.sha256 => Some(Sum::Sha256),
        Proof::Strong => None,
        Proof::Fast => profile.can_compare().then_some(Sum::Compare),
    }
}

/// The last command. What is on the card is proven by now: that the board leaves before it has answered is no failure.
fn farewell(uboot: &mut Uboot, then: Then) -> Result<(), BoardError> {
    let said = match (then, uboot.profile.shell) {
        (Then::Stay, _) => return Ok(()),
        // Only that shell answers before it resets; over UDP, where lines are short, it is not run at all.
        (Then::Reset, Some(Shell::UCmd)) if uboot.profile.line > 64 => uboot.session.acmd("reset"),
        (Then::Reset, _) => uboot.session.run(&Fastboot::Reboot("".into())),
        (Then::Continue, _) => uboot.session.run(&Fastboot::Continue),
    };
    match said {
        Ok(_) => Ok(()),
        Err(FastbootError::Transfer { source, .. }) if source.is_gone() => Ok(()),
        Err(error) => Err(BoardError::Stays { source: error }),
    }
}

/// The journal, or none where it cannot be kept: it is only a hint.
fn journal(options: &FlashOptions, plan: &Plan, serial: Option<&str>, observer: &dyn Observer) -> Journal {
    let (Some(folder), Some(serial)) = (&options.journals, serial) else { return Journal::none() };
    match Journal::open(folder, &plan.digest(), serial, options.before != Before::Send) {
        Ok(journal) => journal,
        Err(error) => {
            let error = std::sync::Arc::new(error);
            crate::target::note(observer, crate::event::Note::NoJournal { folder: folder.clone(), error });
            Journal::none()
        }
    }
}

/// Where on this board the image goes.
fn resolve(to: &To, uboot: &mut Uboot) -> Result<Place, BoardError> {
    let profile = uboot.profile.clone();
    let no_place = |why: &str| BoardError::NoPlace { place: to.clone(), why: why.to_owned() };
    match to {
        To::Emmc | To::Sd => {
            let name = profile.whole.ok_or_else(|| no_place("its fastboot has no name for the whole card"))?;
            Ok(Place { area: Area::User, start: Some(0), name: Some(name), size: profile.capacity })
        }
        To::Partition(name) => {
            let size = uboot.session.getvar(&format!("partition-size:{name}"));
            let size = size.map_err(|error| match error.board_says() {
                Some(says) => no_place(&format!("it says {says:?}")),
                None => error.into(),
            })?;
            let size = imx_usb::fastboot::parse_number(&size).filter(|size| *size > 0);
            let start = partition_start(uboot, name)?;
            Ok(Place { area: Area::User, start, name: Some(name.clone()), size })
        }
    }
}

/// Where a partition begins, by U-Boot's own reading of the table; `None` where it does not tell.
fn partition_start(uboot: &mut Uboot, name: &str) -> Result<Option<u64>, BoardError> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if uboot.profile.shell.is_none() || !uboot.profile.values || !plain {
        return Ok(None);
    }
    let text = format!("part start mmc {} {name} fastboot.s", uboot.profile.device);
    if !uboot.run(&uboot::Line { text, bytes: 0 })? {
        return Ok(None);
    }
    let sectors = uboot.value("s")?.unwrap_or_default();
    let sectors = u64::from_str_radix(sectors.trim_start_matches("0x"), 16).ok();
    Ok(sectors.and_then(|sectors| sectors.checked_mul(uboot::SECTOR)))
}

/// A loader, the boards it goes to, and how: no image, only a boot partition.
pub struct LoaderJob<'a> {
    /// The loader.
    pub loader: Loader,
    /// How many boards there are.
    pub boards: usize,
    /// Brings them to fastboot.
    pub connect: &'a dyn Connect,
    /// How they are proven.
    pub proof: Proof,
    /// How often it is written again.
    pub attempts: u32,
    /// What to do at the end.
    pub then: Then,
    /// Is told what happens.
    pub observer: &'a dyn BoardObserver,
}

impl std::fmt::Debug for LoaderJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoaderJob").field("boards", &self.boards).finish_non_exhaustive()
    }
}

/// Writes a loader into a boot partition of each board; returns what became of each, in order.
#[must_use]
pub fn flash_loader(job: &LoaderJob<'_>) -> Vec<BoardResult> {
    let results: Vec<Mutex<Option<BoardResult>>> = (0..job.boards).map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for (board, slot) in results.iter().enumerate() {
            scope.spawn(move || {
                let result = one_loader(job, board);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            });
        }
    });
    let take = |slot: Mutex<Option<BoardResult>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|slot| take(slot).unwrap_or_else(|| failed(BoardError::Panicked))).collect()
}

fn one_loader(job: &LoaderJob<'_>, board: usize) -> BoardResult {
    let started = imx_usb::pipe::monotonic();
    let observer = |event: &Event| job.observer.event(board, event);
    let mut result = failed(BoardError::Panicked);
    let done = (|| {
        let connected = job.connect.connect(board, &To::Emmc, None, &observer)?;
        result.spent.boot = imx_usb::pipe::monotonic().saturating_sub(started);
        let Connected { session, profile, serial, chip, loader_offset, .. } = connected;
        (result.serial, result.chip) = (serial, chip);
        let mut uboot = Uboot::new(session, profile);
        let sum = sum_for(job.proof, &uboot.profile);
        observer(&Event::Stage { stage: Stage::BootPartition, total: None });
        result.state = TargetState::Mixed { written: 0 };
        let placed = loader::put(&mut uboot, &job.loader, loader_offset, sum, job.attempts)?;
        result.state = if sum.is_some() { TargetState::Proven } else { TargetState::WrittenUnproven };
        result.sums = Sums { wanted: placed.bytes, written: placed.bytes, sent: placed.bytes, ..Sums::default() };
        (result.proof, result.loader) = (sum, Some(placed));
        if job.proof != Proof::Off && sum.is_none() {
            return Err(BoardError::NoProof);
        }
        result.sums.proven = if sum.is_some() { placed.bytes } else { 0 };
        farewell(&mut uboot, job.then)
    })();
    observer(&Event::BoardDone);
    result.error = done.err();
    result.time = imx_usb::pipe::monotonic().saturating_sub(started);
    result
}
