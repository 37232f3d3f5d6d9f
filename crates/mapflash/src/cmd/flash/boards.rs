//! Which boards, and how they are reached.

use flasher::Cancel;
use flasher::board::{Boards, Which};

use crate::board::Hub;
use crate::board::choose::{self, Name};
use crate::error::AppError;
use crate::job::Flash;
use crate::render::Display;

/// The boards that are meant, there by now.
pub(super) fn choose(hub: &Hub, job: &Flash, cancel: &Cancel, display: &Display) -> Result<Vec<Which>, AppError> {
    let (network, usb): (Vec<&Name>, Vec<&Name>) = job.boards.iter().partition(|name| matches!(name, Name::Udp(_)));
    let mut which = Vec::new();
    for name in &network {
        let address = name.to_string().parse();
        which.push(Which::Udp(address.map_err(|_| super::usage(format!("{name} is no address")))?));
    }
    if network.is_empty() || !usb.is_empty() {
        if job.wait {
            display.say("waiting for a board, if none is there");
        }
        let usb: Vec<Name> = usb.into_iter().cloned().collect();
        let cancelled = || cancel.is_cancelled();
        let ports = if job.all {
            choose::every(hub, job.wait, &cancelled)?
        } else {
            choose::ports(hub, &usb, job.wait, &cancelled)?
        };
        which.extend(ports.into_iter().map(Which::Port));
    }
    Ok(which)
}

/// The way to them.
pub(super) fn connect<'h>(hub: &'h Hub, job: &Flash, which: Vec<Which>, cancel: &'h Cancel) -> Boards<'h> {
    let mut boards = Boards::new(&*hub.bus, &hub.table, which, cancel);
    boards.card = job.mmc;
    boards.download = job.download;
    boards
}

/// The names of those that were named or found, for people.
pub(super) fn names(boards: &Boards<'_>) -> Vec<String> {
    (0..boards.which.len()).map(|board| boards.name(board)).collect()
}
