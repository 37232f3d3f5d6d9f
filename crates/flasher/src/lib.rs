//! The engine: it writes an image to a target by its plan, proves what it wrote, and says what the target holds.
//!
//! - [`prepare`] looks at image, map and target and makes a [`plan::Plan`]; [`copy`] carries it out.
//! - [`create`] makes a block map of an image file, [`verify`] compares a target with a map or an image.
//! - [`board`] flashes i.MX boards, one or many.
//! - [`target`] is the one seam that every kind of device fills.
//!
//! The engine reports [`event`]s and typed errors. It never prints, asks, exits or reads the environment.

pub mod board;
mod cancel;
mod copy;
mod create;
pub mod disk;
pub mod error;
pub mod event;
pub mod plan;
mod prepare;
mod queue;
mod ranges;
mod sys;
pub mod target;
mod verify;

pub use cancel::Cancel;
pub use copy::{CopyOptions, Job, Reopen, Report, copy};
pub use create::{CreateOptions, Created, create, create_by_content};
pub use error::{Failure, FlashError, TargetState};
pub use prepare::{PlanOptions, prepare};
pub use verify::{Compared, verify, verify_image};
