//! The process that is measured: it flashes, or does what uuu does, and says what that took of time and memory.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use clap::Args;
use flasher::Cancel;
use flasher::board::{
    Before, Boards, FlashJob, FlashOptions, Form, Proof, Source, To, Which, Wire, Wishes, flash, open_pack, prepare,
};
use flasher::event::{Event, Stage};
use image::Image;
use imx_usb::bus::Bus as _;
use imx_usb::chips::ChipTable;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};
use virtual_imx::remote::RemoteBus;
use virtual_imx::usbip::Address;

use crate::shape::Files;
use crate::works::{Job, Work};
use crate::{Problem, uuu};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which work.
    work: String,
    /// Where image, map and pack file are.
    folder: PathBuf,
    /// Where the boards listen.
    boards: Address,
    /// How many pieces uuu sends.
    #[arg(long, default_value_t = 12)]
    uuu_pieces: u64,
}

/// What a run came to, over all boards.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From the first look at a board to the end of the last, in seconds.
    pub(crate) seconds: f64,
    /// The first board's time from the beginning of the write phase to that of the proof.
    pub(crate) write: f64,
    /// Bytes of the image that uuu sent.
    pub(crate) image_bytes: u64,
    /// What the first board was sent, headers and all.
    pub(crate) sent: u64,
    /// Of it, bytes of the image that travelled packed.
    pub(crate) packed: u64,
    /// Processor seconds of this process.
    pub(crate) processor: f64,
    /// Its peak memory in MiB.
    pub(crate) memory_mib: f64,
    /// Where the first board's time went.
    pub(crate) source: f64,
    pub(crate) turn: f64,
    pub(crate) bus: f64,
    pub(crate) card: f64,
    pub(crate) proof: f64,
}

/// Peak memory of this process alone: what it was before `exec` is not counted.
fn peak_memory() -> Result<f64, Problem> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(crate::float(kib) / 1024.0)
}

pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    let work = Work::by_name(&options.work).ok_or("there is no such work")?;
    let bus = RemoteBus::connect(&options.boards)?;
    let files = Files::in_folder(&options.folder);
    let mut outcome = match work.job {
        Job::Uuu => like_uuu(&bus, &files, options.uuu_pieces)?,
        _ => with_engine(&bus, &files, &work)?,
    };
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    outcome.processor = crate::float(u64::try_from(micros)?) / 1e6;
    outcome.memory_mib = peak_memory()?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn like_uuu(bus: &RemoteBus, files: &Files, pieces: u64) -> Result<Outcome, Problem> {
    let device = bus.devices()?.into_iter().next().ok_or("there is no board")?;
    let mut pipe = bus.bulk(&device)?;
    let (image_bytes, time) = uuu::flash(&mut *pipe, &File::open(&files.image)?, pieces)?;
    Ok(Outcome { seconds: time.as_secs_f64(), image_bytes, ..Outcome::default() })
}

fn with_engine(bus: &RemoteBus, files: &Files, work: &Work) -> Result<Outcome, Problem> {
    let map = bmap::xml::read(&files.map)?.map;
    let mut image = Image::open(&files.image, &image::Options::default())?;
    let pack = if work.job == Job::Packed { Some(open_pack(&files.pack)?) } else { None };
    let plan = match &pack {
        Some(pack) => pack.plan(&To::Emmc, &Wishes::default())?,
        None => prepare(&mut image, Some(&map), &To::Emmc, &Wishes::default(), &())?,
    };
    let (cancel, table) = (Cancel::new(), ChipTable::builtin());
    let which = work.ports().iter().map(|port| port.parse().map(Which::Port)).collect::<Result<_, _>>()?;
    let boards = Boards::new(bus, &table, which, &cancel);
    let wire = match work.job {
        Job::Lz4 => Wire::Only(Form::Lz4),
        Job::Gzip => Wire::Only(Form::Gzip),
        Job::Auto | Job::Packed => Wire::Auto,
        Job::Raw | Job::Delta | Job::Uuu => Wire::Only(Form::Raw),
    };
    let before = if work.job == Job::Delta { Before::Delta } else { Before::Send };
    let options = FlashOptions { wire, before, proof: Proof::Fast, ..FlashOptions::default() };
    let stages = Mutex::new((None, None));
    let observer = |board: usize, event: &Event| {
        if let (0, Event::Stage { stage, .. }, Ok(mut stages)) = (board, event, stages.lock()) {
            match stage {
                Stage::Write => stages.0 = stages.0.or_else(|| Some(Instant::now())),
                Stage::Prove => stages.1 = stages.1.or_else(|| Some(Instant::now())),
                _ => {}
            }
        }
    };
    let start = Instant::now();
    let results = flash(FlashJob {
        source: pack.as_ref().map_or(Source::Image { image, reopen: None }, Source::Pack),
        map: Some(&map),
        plan: &plan,
        boards: work.ports().len(),
        to: To::Emmc,
        connect: &boards,
        joiners: None,
        options,
        observer: &observer,
        cancel: &cancel,
    });
    let seconds = start.elapsed().as_secs_f64();
    for result in &results {
        if let Some(error) = &result.error {
            return Err(format!("{error}: {error:?}").into());
        }
        if result.sums.proven != map.mapped_bytes() {
            return Err("not all of it was proven".into());
        }
    }
    let first = results.first().ok_or("no board")?;
    let write = match stages.into_inner() {
        Ok((Some(from), Some(to))) => (to - from).as_secs_f64(),
        _ => 0.0,
    };
    let spent = &first.spent;
    Ok(Outcome {
        seconds,
        write,
        sent: first.sums.sent,
        packed: first.sums.packed,
        source: spent.source.as_secs_f64(),
        turn: spent.turn.as_secs_f64(),
        bus: spent.bus.as_secs_f64(),
        card: spent.card.as_secs_f64(),
        proof: spent.proof.as_secs_f64(),
        ..Outcome::default()
    })
}
