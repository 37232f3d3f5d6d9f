//! Rounds: in each, every work takes its turn, on new boards and in a new process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bmap::BlockMap;
use clap::Args;
use flasher::board::{To, Wishes, prepare};
use flasher::plan::{Phase, Piece};
use image::Image;

use crate::account::{self, Account};
use crate::boards::{Before, Boards, prioritised};
use crate::client::Outcome;
use crate::report::{self, Sizes};
use crate::shape::Files;
use crate::works::{Job, WORKS, Work};
use crate::{Problem, float};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the image is.
    pub(crate) folder: PathBuf,
    /// How many rounds.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Only these works, parted by commas.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// The program that runs virtual boards; beside this one unless said otherwise.
    #[arg(long)]
    pub(crate) virtual_imx: Option<PathBuf>,
    /// Where cards and logs are kept meanwhile: in RAM.
    #[arg(long, default_value = "/dev/shm")]
    pub(crate) ram: PathBuf,
    /// How many pieces of 16 MiB uuu sends; the rest of its time is reckoned from them.
    #[arg(long, default_value_t = 12)]
    pub(crate) uuu_pieces: u64,
    /// Keep the boards' logs there.
    #[arg(long)]
    pub(crate) logs: Option<PathBuf>,
    /// Schedule the boards and the measured process before all others (chrt, needs root): for a machine that is not quiet.
    #[arg(long)]
    pub(crate) realtime: bool,
    /// Only see that the cards hold the image: no tables.
    #[arg(long)]
    pub(crate) check: bool,
    /// Write the tables to a dated file in this folder.
    #[arg(long)]
    pub(crate) save: Option<PathBuf>,
}

/// One run of one work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    /// Of the first board.
    pub(crate) account: Account,
    /// Commands that the first board was sent.
    pub(crate) commands: u64,
}

/// What is the same for all runs.
struct Ground<'a> {
    options: &'a Options,
    program: PathBuf,
    image: File,
    map: BlockMap,
    /// A byte of each piece that `--delta` is to find changed.
    changed: Vec<u64>,
}

/// Every twentieth piece of those that hold as much as a piece can, but for the head's.
fn changed(pieces: &[Piece], longest: u64) -> Vec<Piece> {
    let whole = pieces.iter().filter(|piece| piece.phase == Phase::Body && piece.extent.len() == longest);
    let count = pieces.len().div_ceil(20);
    let whole: Vec<&Piece> = whole.collect();
    let step = (whole.len() / count.max(1)).max(1);
    whole.into_iter().step_by(step).take(count).copied().collect()
}

pub(crate) fn run(options: &Options) -> Result<(), Problem> {
    let beside = std::env::current_exe()?.with_file_name("virtual-imx");
    let program = options.virtual_imx.clone().unwrap_or(beside);
    if !program.exists() {
        return Err(format!("{} is missing: cargo build --release -p virtual-imx", program.display()).into());
    }
    let load = report::load();
    let files = Files::in_folder(&options.folder);
    let map = bmap::xml::read(&files.map)?.map;
    let mut opened = Image::open(&files.image, &image::Options::default())?;
    let plan = prepare(&mut opened, Some(&map), &To::Emmc, &Wishes::default(), &())?;
    let pieces: Vec<Piece> = plan.pieces().collect();
    let changed = changed(&pieces, plan.piece_len());
    let body = pieces.iter().filter(|piece| piece.phase == Phase::Body);
    let sizes = Sizes {
        image: map.image_size(),
        mapped: map.mapped_bytes(),
        body: body.map(|piece| piece.extent.len()).sum(),
        changed: changed.iter().map(|piece| piece.extent.len()).sum(),
        pieces: pieces.len(),
        changed_pieces: changed.len(),
        piece: plan.piece_len(),
    };
    let changed = changed.iter().map(|piece| piece.extent.start() + piece.extent.len() / 2).collect();
    let ground = Ground { options, program, image: File::open(&files.image)?, map, changed };
    let chosen =
        WORKS.iter().filter(|work| options.only.is_empty() || options.only.iter().any(|name| name == work.name));
    let chosen: Vec<Work> = chosen.copied().collect();
    let mut runs: Vec<(Work, Vec<Run>)> = chosen.iter().map(|work| (*work, Vec::new())).collect();
    for round in 1..=options.rounds {
        for (work, runs) in &mut runs {
            if work.job == Job::Packed && !files.pack.exists() {
                continue;
            }
            let run = one(&ground, work).map_err(|error| format!("{}: {error}", work.name))?;
            let Outcome { seconds, write, processor, memory_mib, .. } = run.outcome;
            eprintln!(
                "round {round}, {}: {seconds:.2} s, write phase {write:.2} s, {processor:.2} processor s, \
                 {memory_mib:.0} MiB, idle {:.2} s, waited for the source {:.2} s, for turns {:.2} s",
                work.name,
                run.account.write.idle(work.bus_rate()),
                run.outcome.source,
                run.outcome.turn
            );
            runs.push(run);
        }
    }
    runs.retain(|(_, runs)| !runs.is_empty());
    if options.check {
        println!("{} works, and every card holds the image", runs.len());
        return Ok(());
    }
    let machine = report::machine(&sizes, options.rounds, &load, options.realtime);
    let text = format!("# Flashing boards\n\n{machine}\n{}", report::report(&sizes, &runs));
    println!("{text}");
    if let Some(folder) = &options.save {
        println!("written: {}", report::save(folder, &text)?.display());
    }
    Ok(())
}

fn one(ground: &Ground<'_>, work: &Work) -> Result<Run, Problem> {
    let options = ground.options;
    let folder = tempfile::Builder::new().prefix("mapflash-bench-").tempdir_in(&options.ram)?;
    let before = if work.job == Job::Delta { Before::Changed(&ground.changed) } else { Before::Old };
    let mut boards =
        Boards::start(&ground.program, folder.path(), work, &ground.image, &ground.map, before, options.realtime)?;
    let outcome = client(options, work, folder.path())?;
    let log = boards.stop()?;
    if let Some(folder) = &options.logs {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{}.log", work.name)), &log)?;
    }
    if work.job != Job::Uuu {
        boards.compare(&ground.image, &ground.map)?;
    }
    let first = work.ports().into_iter().next().unwrap_or_default();
    let account = account::read(&log, &first)?;
    Ok(Run { outcome, account, commands: account.commands })
}

/// Runs the measured process.
fn client(options: &Options, work: &Work, folder: &Path) -> Result<Outcome, Problem> {
    let mut command = prioritised(&std::env::current_exe()?, options.realtime, 1);
    command.arg("client").arg(work.name).arg(&options.folder);
    command.arg(format!("unix:{}", folder.join("boards").display()));
    command.arg("--uuu-pieces").arg(options.uuu_pieces.to_string());
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(format!("the measured process ended with {}", done.status).into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// The time that uuu would take for the whole image, by what it took for some of it.
pub(crate) fn whole_uuu(outcome: &Outcome, image: u64) -> f64 {
    outcome.seconds / float(outcome.image_bytes.max(1)) * float(image)
}
