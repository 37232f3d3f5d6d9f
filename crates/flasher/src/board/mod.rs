//! Boards: an image to the eMMC of one or many, from one decode, each proven by the board itself.
//!
//! - [`flash`] runs the whole job, [`flash_loader`] one of a loader alone; [`Connect`] brings a board to fastboot and says
//!   what its U-Boot can do: [`Boards`] on a bus, or over the network.
//! - `feed` reads, checks and digests the image once for all; `pack` packs pieces once for all. [`make_pack`] does both
//!   beforehand, once for many jobs.
//! - `all` is a job's boards together, `one` is each of them from its first sight to its end, however often it is lost.
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
mod all;
mod batch;
mod check;
mod connect;
mod connected;
mod course;
mod driven;
mod erase;
mod error;
mod feed;
mod fill;
mod job;
mod journal;
mod loader;
mod loader_job;
mod one;
mod options;
mod pack;
pub mod packfile;
mod place;
mod prepare;
mod profile;
mod result;
mod suits;
mod sums;
mod switch;
mod then;
mod turns;
mod uboot;
mod unnamed;
mod wire;
mod zeros;

pub use all::flash;
pub use check::Sum;
pub use connect::{Boards, Which};
pub use connected::{Connect, Connected, Joiners};
pub use erase::Erased;
pub use error::BoardError;
pub use job::{BoardObserver, FlashJob, Source};
pub use loader::{BootPart, Loader, LoaderPlaced};
pub use loader_job::{LoaderJob, flash_loader};
pub use options::{Before, FlashOptions, Proof};
pub use pack::{Form, lz4_frame, pack};
pub use packfile::{Pack, PackError, PackJob, Packed, make_pack, open_pack};
pub use place::To;
pub use prepare::{Wishes, prepare};
pub use profile::Profile;
pub use result::BoardResult;
pub use sums::{Spent, Sums};
pub use then::Then;
pub use uboot::Area;
pub use wire::Wire;
