//! One board of a job: brought to fastboot, looked at, sent on its course, and let go; again whenever it was lost.
//!
//! What a course is, is `course`'s; when a board is back, `connect`'s.

use super::check::Sum;
use super::connected::{Connect, Connected};
use super::course::{Course, Ground, How};
use super::error::{BoardError, chain};
use super::journal::Journal;
use super::loader::{self, Putting};
use super::options::{Before, FlashOptions, Proof};
use super::pack::Form;
use super::place::{Place, To, resolve};
use super::result::BoardResult;
use super::suits;
use super::then::farewell;
use super::turns::SharedBus;
use super::uboot::Uboot;
use super::wire::Wire;
use crate::event::{Event, Loss, Note, Observer, Stage};
use crate::plan::Plan;

/// How often a board may be lost without getting any further.
const FRUITLESS: u32 = 3;

/// One board, from its first sight to its end, through however many losses.
pub(super) fn one(
    board: usize,
    ground: Ground<'_>,
    connect: &dyn Connect,
    to: &To,
    options: &FlashOptions,
    observer: &dyn Observer,
) -> BoardResult {
    let started = imx_usb::pipe::monotonic();
    let mut run = One {
        board,
        ground,
        connect,
        to,
        options,
        observer,
        course: None,
        result: BoardResult::failed(BoardError::Panicked),
    };
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
                (Err(then), Some(lost)) if then.is_absence() => {
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
            let (done, wanted) = self.course.as_ref().map_or((0, 0), |course| course.sums.held());
            if let Some(course) = &mut self.course {
                course.lost();
            }
            let loss = if error.is_gone() { Loss::Gone } else { Loss::Silent };
            let (why, within) = (chain(&error), self.options.return_within);
            self.observer.event(&Event::Lost { loss, why, done, wanted, within });
            lost = Some(error);
        }
    }

    /// From wherever the board is to the end, if nothing comes between.
    fn once(&mut self, again: bool) -> Result<(), BoardError> {
        let start = imx_usb::pipe::monotonic();
        let wait = again.then_some(self.options.return_within);
        let connected = self.connect.connect(self.board, self.to, wait, self.observer)?;
        let Connected { session, profile, serial, port, speed, chip, row } = connected;
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
        // Before anything is written: it would be too late to find out behind the image.
        let loader = match &self.options.loader {
            Some(loader) => Some((loader, suits::check(&mut uboot, loader, row.as_ref())?)),
            None => None,
        };
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
        self.result.compared = course.compared;
        if let Some((loader, offset)) = loader {
            self.observer.event(&Event::Stage { stage: Stage::BootPartition, total: None });
            let FlashOptions { attempts, proof, .. } = *self.options;
            let how = Putting { loader, offset, proof, attempts };
            let placed = loader::put(&mut uboot, how, &mut false);
            if matches!(placed, Err(BoardError::LoaderLeftOut)) {
                // Of the image nothing is left to do.
                course.journal.remove();
            }
            self.result.loader = Some(placed?);
        }
        course.journal.remove();
        if self.options.proof != Proof::Off && proof.is_none() {
            return Err(BoardError::NoProof);
        }
        farewell(&mut uboot, self.options.then)
    }

    /// By what this board can prove.
    fn proof(&self, uboot: &Uboot, place: &Place) -> Option<Sum> {
        place.start.and_then(|_| self.options.proof.sum(&uboot.profile))
    }
}

/// The journal, or none where it cannot be kept: it is only a hint.
fn journal(options: &FlashOptions, plan: &Plan, serial: Option<&str>, observer: &dyn Observer) -> Journal {
    let (Some(folder), Some(serial)) = (&options.journals, serial) else { return Journal::none() };
    match Journal::open(folder, &plan.digest(), serial, options.before != Before::Send) {
        Ok(journal) => {
            if options.before == Before::Resume && journal.hints().is_empty() {
                crate::target::note(observer, Note::NothingBegun);
            }
            journal
        }
        Err(error) => {
            let error = std::sync::Arc::new(error);
            crate::target::note(observer, Note::NoJournal { folder: folder.clone(), error });
            Journal::none()
        }
    }
}
