//! The demo's boards: virtual ones, in real time, flashed by the engine that `flash` uses.
//!
//! Their ROM, loader, U-Boot and eMMC are software, paced as an i.MX8M over USB 2.0; nothing leaves the process. What
//! is on their eMMCs afterwards is compared with the image here, beside the proof that the boards gave.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bmap::{BlockMap, ByteRange};
use flasher::board::{BoardResult, Boards, FlashJob, FlashOptions, Source, To, Which, Wishes, flash, prepare};
use flasher::event::Event;
use image::{Image, Options};
use imx_usb::boot::BootImage;
use imx_usb::chips::ChipTable;
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry};
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::flash_bin;
use virtual_imx::timing::{Clock, Timing};

use super::unexpected;
use crate::error::AppError;
use crate::render::Display;
use crate::render::text::{size, span};
use flasher::Cancel;

const MODEL: Model = Model::Imx8mm;

/// What is flashed.
pub(super) struct Cargo<'a> {
    /// The packed image.
    pub(super) packed: &'a Path,
    /// The same unpacked, to compare with.
    pub(super) image: &'a Path,
    /// Its map.
    pub(super) map: &'a BlockMap,
}

fn board(number: u64, faults: &str) -> Result<Board, AppError> {
    let setup = Setup {
        path: format!("1-{number}"),
        uid: number,
        emmc: Geometry { user_bytes: 256 << 20, ..Geometry::default() },
        timing: Timing::imx8m(),
        clock: Clock::real(),
        ..Setup::new(MODEL, Tree::Nxp)
    };
    let board = Board::new(setup);
    board.add_faults(script(faults).map_err(|_| unexpected("the demo's script of faults is no script"))?);
    Ok(board)
}

/// One board, from its ROM.
pub(super) fn one(cargo: &Cargo<'_>, display: &Display, cancel: &Cancel) -> Result<(), AppError> {
    let started = Instant::now();
    let boards = [board(1, "")?];
    let results = run(cargo, &boards, cancel, &|_, _| {})?;
    if let Some(result) = results.first() {
        display.finish();
        display.say(&format!(
            "    {} sent, {} proven by the board; {}, of which {} to boot it",
            size(result.sums.sent),
            size(result.sums.proven),
            span(started.elapsed()),
            span(result.spent.boot),
        ));
    }
    Ok(())
}

/// Four at once, one of which loses its power on the way.
pub(super) fn four(cargo: &Cargo<'_>, display: &Display, cancel: &Cancel) -> Result<(), AppError> {
    let started = Instant::now();
    let late = cargo.map.mapped_bytes() / 4 * 3;
    let boards = [board(1, "")?, board(2, "")?, board(3, &format!("uboot enter cut {late} back 700"))?, board(4, "")?];
    let was_lost = AtomicBool::new(false);
    let results = run(cargo, &boards, cancel, &|number, event| {
        if let Event::Lost { .. } = event {
            was_lost.store(true, Ordering::Relaxed);
            display.say(&format!("    board {} lost its power; the others go on", number + 1));
        }
    })?;
    display.finish();
    if !was_lost.into_inner() {
        return Err(unexpected("the board that should lose its power did not"));
    }
    let kept: u64 = results.iter().map(|result| result.sums.survived).sum();
    display.say(&format!(
        "    4 of 4 proven; {} that the lost one had been sent were still right; {}",
        size(kept),
        span(started.elapsed())
    ));
    Ok(())
}

fn run(
    cargo: &Cargo<'_>,
    boards: &[Board],
    cancel: &Cancel,
    observer: &(dyn Fn(usize, &Event) + Sync),
) -> Result<Vec<BoardResult>, AppError> {
    let bus = HostBus::new(boards.to_vec());
    let table = ChipTable::builtin();
    let ports = boards.iter().filter_map(|board| board.device()?.path.parse().ok());
    let mut connect = Boards::new(&bus, &table, ports.map(Which::Port).collect(), cancel);
    connect.boot = Some(BootImage::new(flash_bin(MODEL, 1)));
    // Small downloads, so that a small image takes several.
    connect.download = Some(1 << 20);
    let open = || Image::open(cargo.packed, &Options::default());
    let mut image = open()?;
    let plan = prepare(&mut image, Some(cargo.map), &To::Emmc, &Wishes::default(), &())?;
    let results = flash(FlashJob {
        source: Source::Image { image, reopen: Some(&open) },
        map: Some(cargo.map),
        plan: &plan,
        boards: boards.len(),
        joiners: None,
        to: To::Emmc,
        connect: &connect,
        options: FlashOptions { return_within: Duration::from_secs(30), ..FlashOptions::default() },
        observer: &observer,
        cancel,
    });
    let mut good = Vec::new();
    for (board, result) in boards.iter().zip(results) {
        let BoardResult { error, state, .. } = result;
        if let Some(error) = error {
            return Err(AppError::of_board("the virtual board", error, state, None));
        }
        compare(cargo, board)?;
        good.push(BoardResult { error: None, state, ..result });
    }
    Ok(good)
}

/// What the board says is one thing; what is on its card another.
fn compare(cargo: &Cargo<'_>, board: &Board) -> Result<(), AppError> {
    let image = std::fs::File::open(cargo.image).map_err(super::at("open", cargo.image))?;
    for (extent, _) in cargo.map.mapped() {
        let len = usize::try_from(extent.len()).unwrap_or(0);
        let mut bytes = vec![0; len];
        let read = std::os::unix::fs::FileExt::read_exact_at(&image, &mut bytes, extent.start());
        read.map_err(super::at("read", cargo.image))?;
        if !holds(board, extent, &bytes) {
            return Err(unexpected("the virtual board proved what it does not hold"));
        }
    }
    Ok(())
}

fn holds(board: &Board, extent: ByteRange, bytes: &[u8]) -> bool {
    board.emmc(|card| card.peek(Area::User, extent.start(), bytes.len())).is_some_and(|card| card == bytes)
}
