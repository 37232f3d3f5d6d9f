//! The subcommands, one file each.

pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod demo;
pub(crate) mod disks;
pub(crate) mod inspect;
pub(crate) mod man;
mod output;
pub(crate) mod verify;
