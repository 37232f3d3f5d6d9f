//! All boards of a job: one reader, some packers, and a thread for each board, also for those that come late.
//!
//! What a thread does with its board is `one`'s.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use image::{Format, Image};

use super::connected::Joiners;
use super::course::{AHEAD, Ground};
use super::error::BoardError;
use super::feed::{Backing, Feed};
use super::job::{FlashJob, Source};
use super::one::one;
use super::options::FlashOptions;
use super::pack::Packer;
use super::result::BoardResult;
use super::turns::Turns;
use super::unnamed::unnamed;
use crate::copy::Reopen;
use crate::error::FlashError;
use crate::event::Event;

/// Bytes of packed pieces that are kept for all boards.
const PACKED: usize = 40 << 20;
/// And so many more for each board, so that those that are behind find them.
const PACKED_EACH: usize = 8 << 20;
/// How often it is looked whether a board has joined.
const LOOK: Duration = Duration::from_millis(200);

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
            return (0..boards)
                .map(|_| BoardResult::failed(BoardError::Source(std::sync::Arc::clone(&error))))
                .collect();
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
    (0..all).map(|board| results.remove(&board).unwrap_or_else(|| BoardResult::failed(BoardError::Panicked))).collect()
}

/// Tells that a board's thread has ended, however it ended.
struct Ending(Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // The job may have been the last to listen.
        let _ = self.0.send(());
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
