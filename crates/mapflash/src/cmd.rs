//! The subcommands, one file each.

pub(crate) mod boards;
pub(crate) mod boot;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod demo;
pub(crate) mod disks;
pub(crate) mod doctor;
pub(crate) mod flash;
pub(crate) mod inspect;
pub(crate) mod man;
mod output;
pub(crate) mod pack;
pub(crate) mod udev_rules;
pub(crate) mod verify;
mod whole_file;
