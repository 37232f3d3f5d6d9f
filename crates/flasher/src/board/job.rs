//! A job: an image, the boards that it goes to, and how. What is done with it is `all`'s.

use bmap::BlockMap;
use image::Image;

use super::connected::{Connect, Joiners};
use super::options::FlashOptions;
use super::packfile::Pack;
use super::place::To;
use crate::cancel::Cancel;
use crate::copy::Reopen;
use crate::event::Event;
use crate::plan::Plan;

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
