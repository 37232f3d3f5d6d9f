//! What can go wrong in the program: the layers' errors and a few of our own, and the sentences about them. The exit
//! status is in [`status`], the name for machines in [`kind`].

mod kind;
mod status;

use std::io;
use std::path::{Path, PathBuf};

use bmap::ByteRange;
use bmap::holes::HolesError;
use bmap::xml::XmlError;
use flasher::board::BoardError;
use flasher::target::{Refusal, TargetError};
use flasher::{Failure, FlashError, TargetState};
use image::{Format, ImageError};
use imx_usb::boot::BootError;
use imx_usb::bus::{BusError, Port};
use imx_usb::chips::config::ConfigError;

use crate::discover::shown;
use crate::render::text;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// The engine.
    #[error(transparent)]
    Flash(FlashError),
    /// A block map that cannot be used.
    #[error("cannot use the block map {}", shown(path))]
    Bmap {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: XmlError,
    },
    /// A block map that cannot be read at all; the error names the file.
    #[error(transparent)]
    NoMap(XmlError),
    /// The image is a block map.
    #[error("{} is a block map, not an image", shown(.0))]
    ImageIsBmap(PathBuf),
    /// Image and block map are the same file.
    #[error("{} is given as the image and as its block map", shown(.0))]
    MapIsImage(PathBuf),
    /// The target is a file we read.
    #[error("{} is {what}: it would be overwritten while it is read", shown(path))]
    TargetIsSource {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is nothing to compare.
    #[error("{} is given as the image and as the target", shown(.0))]
    SameFile(PathBuf),
    /// A map of holes was asked for where there are none.
    #[error("{} is packed by {format}, and a packed image has no holes to map", shown(path))]
    PackedCreate {
        /// The image.
        path: PathBuf,
        /// How it is packed.
        format: Format,
    },
    /// A pack cannot go through a pipe.
    #[error("{} is no file, and a pack is written into a file: its beginning comes last", shown(.0))]
    PackIntoNoFile(PathBuf),
    /// There is no data to map or to write.
    #[error("{} is empty", source_name(.0))]
    Empty(PathBuf),
    /// A target to compare ends before the image does.
    #[error("{} ends after {has} bytes, before the {needs} bytes that it should hold", shown(path))]
    Shorter {
        /// The target.
        path: PathBuf,
        /// Bytes it has.
        has: u64,
        /// Bytes of the image.
        needs: u64,
    },
    /// A target that is nothing one could compare with an image.
    #[error("cannot compare {}: {refusal}", shown(path))]
    NotComparable {
        /// The target.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
    /// What is to be written is not what belongs there.
    #[error("{} {what}", shown(path))]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// The user said no.
    #[error("{} was not written: the question was not answered with yes", shown(.0))]
    Declined(PathBuf),
    /// The bus cannot be looked at.
    #[error(transparent)]
    Bus(BusError),
    /// No board, or not the one that was named.
    #[error("{}", no_board(.name.as_deref()))]
    NoBoard {
        /// As it was named.
        name: Option<String>,
        /// What is there and is no board.
        nearly: Vec<String>,
    },
    /// More than one board where one is meant.
    #[error("there are several boards: {}", ports(.0))]
    SeveralBoards(Vec<Port>),
    /// A board could not be booted.
    #[error(transparent)]
    Boot(BootError),
    /// A board does not hold what it should.
    #[error("{name}")]
    Board {
        /// Which.
        name: String,
        /// Why.
        #[source]
        error: BoardError,
    },
    /// Several boards, of which some failed; what of each, in order.
    #[error("{} of {of} boards failed: {}", .failed.len(), sentences(.failed))]
    Boards {
        /// Those that failed.
        failed: Vec<AppError>,
        /// How many there were.
        of: usize,
    },
    /// A table of chips that cannot be used.
    #[error("cannot use the table of chips {}", shown(path))]
    Chips {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
    /// The doctor found something.
    #[error("{}", in_the_way(*.0))]
    Unwell(usize),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something the program itself tried.
    #[error("{doing}")]
    Io {
        /// "cannot …"
        doing: String,
        /// Why.
        source: io::Error,
    },
}

/// A failed command: why, what the target holds, and whether that is a device.
#[derive(Debug)]
pub(crate) struct AppError {
    /// Why.
    pub(crate) cause: Box<Cause>,
    /// What the target holds now.
    pub(crate) state: TargetState,
    /// Whether the target is a device, so that a failed transfer is the device's.
    pub(crate) device: bool,
    /// The name of the board, if the target is one.
    pub(crate) board: Option<String>,
    /// The signal that stopped the job, if one did.
    pub(crate) signal: Option<u8>,
}

fn source_name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { shown(path) }
}

fn no_board(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("there is no board {name}"),
        None => "there is no board".to_owned(),
    }
}

fn ports(ports: &[Port]) -> String {
    ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ")
}

fn sentences(errors: &[AppError]) -> String {
    errors.iter().map(AppError::sentence).collect::<Vec<_>>().join("; ")
}

fn in_the_way(problems: usize) -> String {
    if problems == 1 { "1 problem is in the way".to_owned() } else { format!("{problems} problems are in the way") }
}

impl<E: Into<Cause>> From<E> for AppError {
    fn from(cause: E) -> Self {
        Self { cause: Box::new(cause.into()), state: TargetState::Unchanged, device: false, board: None, signal: None }
    }
}

impl From<FlashError> for Cause {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

impl From<ImageError> for Cause {
    fn from(error: ImageError) -> Self {
        FlashError::from(error).into()
    }
}

impl From<TargetError> for Cause {
    fn from(error: TargetError) -> Self {
        FlashError::from(error).into()
    }
}

impl From<HolesError> for Cause {
    fn from(error: HolesError) -> Self {
        FlashError::from(error).into()
    }
}

impl AppError {
    /// A failure of the program's own reading or writing; `doing` begins with "cannot".
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Cause::Io { doing: doing.into(), source }.into()
    }

    /// A block map that cannot be used.
    pub(crate) fn bmap(path: &Path, source: XmlError) -> Self {
        match source {
            XmlError::Read { .. } => Cause::NoMap(source).into(),
            source => Cause::Bmap { path: path.to_owned(), source }.into(),
        }
    }

    /// A job that failed, on a device or not, perhaps because of a signal.
    pub(crate) fn job(failure: Failure, device: bool, signal: Option<u8>) -> Self {
        let Failure { error, state } = failure;
        // A job that failed by itself failed, whatever came in at that moment.
        let error = *error;
        let signal = signal.filter(|_| matches!(error, FlashError::Cancelled));
        Self { cause: Box::new(Cause::Flash(error)), state, device, board: None, signal }
    }

    /// A board that failed, perhaps because of a signal.
    pub(crate) fn of_board(name: &str, error: BoardError, state: TargetState, signal: Option<u8>) -> Self {
        let signal = signal.filter(|_| matches!(error, BoardError::Cancelled));
        let cause = match error {
            // What is wrong with the image is no board's matter.
            BoardError::Source(error) => match std::sync::Arc::try_unwrap(error) {
                Ok(error) => Cause::Flash(error),
                Err(error) => Cause::Board { name: name.to_owned(), error: BoardError::Source(error) },
            },
            error => Cause::Board { name: name.to_owned(), error },
        };
        Self { cause: Box::new(cause), state, device: true, board: Some(name.to_owned()), signal }
    }

    /// Boards that failed, out of so many. One alone is that failure. Of several the state that is worst counts: those
    /// that are not among them hold the image.
    pub(crate) fn of_boards(mut failed: Vec<Self>, of: usize) -> Self {
        match failed.pop() {
            Some(only) if of == 1 => only,
            last => {
                failed.extend(last);
                // A signal is what stops all of them.
                let signal = failed.iter().find_map(|error| error.signal);
                let flashed = failed.iter().any(|error| error.board.is_some());
                let good = (flashed && failed.len() < of).then_some(TargetState::Proven);
                let states = failed.iter().map(|error| error.state).chain(good);
                let state = states.max_by_key(|state| harm(*state)).unwrap_or(TargetState::Unchanged);
                Self { state, signal, ..Cause::Boards { failed, of }.into() }
            }
        }
    }

    /// The same, but for what failed only because a signal asked the job to stop before anything was written: reading
    /// the image, waiting for an answer.
    pub(crate) fn stopped_by(mut self, signal: Option<u8>) -> Self {
        let cut_short = matches!(&*self.cause, Cause::Flash(FlashError::Image(_) | FlashError::Cancelled));
        if signal.is_some() && cut_short && !self.state.changed() {
            self.cause = Box::new(Cause::Flash(FlashError::Cancelled));
            self.signal = signal;
        }
        self
    }

    /// The same, at a device.
    pub(crate) fn at_device(mut self, device: bool) -> Self {
        self.device = device;
        self
    }

    /// Where the target is not as it should be, if that is what failed.
    pub(crate) fn ranges(&self) -> Option<&[ByteRange]> {
        match &*self.cause {
            Cause::Flash(FlashError::NotHeld { pieces: ranges, .. } | FlashError::Differs { ranges, .. }) => {
                Some(ranges)
            }
            _ => None,
        }
    }

    /// What people read, in one sentence. How exactly a board that did not come back was lost is left out.
    pub(crate) fn sentence(&self) -> String {
        self.words(false)
    }

    /// The whole chain in one sentence.
    pub(crate) fn chain(&self) -> String {
        self.words(true)
    }

    fn words(&self, whole: bool) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&*self.cause);
        while let Some(error) = next {
            let said = plain(&error.to_string());
            match words.last() {
                // A wrapper that only repeats what it wraps adds nothing.
                Some(last) if last.ends_with(&said) => {}
                // Nor does a board's name in front of a sentence that names the board.
                Some(name) if self.board.as_ref() == Some(name) && names(&said, name) => {
                    words.pop();
                    words.push(said);
                }
                _ => words.push(said),
            }
            let board = error.downcast_ref::<BoardError>();
            if !whole && matches!(board, Some(BoardError::NotBack { .. } | BoardError::LostAgain { .. })) {
                break;
            }
            next = error.source();
        }
        text::printable(&words.join(": "))
    }
}

/// Does a sentence have this name in it, as a word of its own?
fn names(said: &str, name: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '-'));
    said.match_indices(name).any(|(at, _)| {
        let (before, behind) = said.split_at(at);
        ends(before.chars().next_back()) && ends(behind.strip_prefix(name).and_then(|behind| behind.chars().next()))
    })
}

/// How much harm is done in a state: of several targets the worst is told.
fn harm(state: TargetState) -> u8 {
    match state {
        TargetState::Unchanged => 0,
        TargetState::Proven => 1,
        TargetState::WrittenUnproven => 2,
        TargetState::NoHead { .. } => 3,
        TargetState::Mixed { .. } => 4,
        _ => 5,
    }
}

/// An error of the system without its number, which tells people nothing that the words do not.
fn plain(said: &str) -> String {
    match said.rsplit_once(" (os error ") {
        Some((words, number)) if number.strip_suffix(')').is_some_and(|n| n.parse::<i32>().is_ok()) => words.to_owned(),
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(refusal: Refusal) -> AppError {
        TargetError::Refused { target: "/dev/sdx".into(), refusal }.into()
    }

    #[test]
    fn a_chain_is_one_sentence_without_numbers_or_repetition() {
        let source = io::Error::from_raw_os_error(13);
        let error = AppError::from(TargetError::Open { target: "/dev/sdx".into(), source });
        assert_eq!(error.sentence(), "cannot open /dev/sdx: Permission denied");
        let error = refused(Refusal::ReadOnly);
        assert_eq!(error.sentence(), "refusing to write to /dev/sdx: it is read-only");
        let error = AppError::io("cannot write \u{1b}[2J", io::Error::other("full"));
        assert_eq!(error.sentence(), "cannot write \\u{1b}[2J: full");
    }

    #[test]
    fn of_several_boards_the_worst_state_is_told() {
        let board = |name: &str, state| AppError::of_board(name, BoardError::Panicked, state, None);
        let unplugged = || board("1-1", TargetState::Unchanged);
        let half = board("1-2", TargetState::NoHead { written: 9 });
        let several = AppError::of_boards(vec![half, unplugged()], 3);
        assert_eq!((several.state.name(), several.state.changed()), ("no_head", true));
        // The third holds the image.
        assert_eq!(AppError::of_boards(vec![unplugged(), unplugged()], 3).state, TargetState::Proven);
        assert!(!AppError::of_boards(vec![unplugged(), unplugged()], 2).state.changed());
    }

    #[test]
    fn a_board_is_named_once_and_how_it_was_lost_is_for_machines() {
        let not_there = |which: &str| {
            let waited = std::time::Duration::from_secs(15);
            BoardError::NotThere { which: which.to_owned(), waited }
        };
        let error = AppError::of_board("1-1.1", not_there("1-1.1"), TargetState::Unchanged, None);
        assert_eq!(error.sentence(), "no board 1-1.1 appeared within 15 s");
        let error = AppError::of_board("1-1.1", not_there("1-1.10"), TargetState::Unchanged, None);
        assert_eq!(error.sentence(), "1-1.1: no board 1-1.10 appeared within 15 s");
        let not_back = BoardError::NotBack { then: Box::new(not_there("1-1.1")), lost: Box::new(not_there("x")) };
        let error = AppError::of_board("1-1.1", not_back, TargetState::Unchanged, None);
        let said = "1-1.1: the board was unplugged or lost its power, and did not come back within 15 s";
        assert_eq!(error.sentence(), said);
        assert_eq!(error.chain(), format!("{said}: no board x appeared within 15 s"));
    }
}
