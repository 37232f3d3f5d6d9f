//! Boards as the program sees them: which bus, what is on it, which of them is meant.
//!
//! - [`Hub`]: the bus and the table of chips, as the arguments say.
//! - [`look`]: what is on the bus, with serial numbers, and why something is no board.
//! - [`choose`]: the boards that are meant.
//! - [`boot_image`]: what bare boards are booted with.

pub(crate) mod boot_image;
pub(crate) mod choose;
pub(crate) mod look;

use std::fs;
use std::path::Path;

use imx_usb::bus::Bus;
use imx_usb::chips::ChipTable;
use imx_usb::chips::config::read_config;
use imx_usb::usb::{Roots, UsbBus};
use virtual_imx::board::{Board, Setup};
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::remote::RemoteBus;
use virtual_imx::timing::{Clock, Timing};
use virtual_imx::usbip::Address;

use crate::args::BusArgs;
use crate::discover::shown;
use crate::error::{AppError, Cause};

/// A bus, and what is known of chips.
#[derive(Debug)]
pub(crate) struct Hub {
    /// The devices.
    pub(crate) bus: Box<dyn Bus>,
    /// The chips.
    pub(crate) table: ChipTable,
    /// Where the system shows its USB.
    pub(crate) roots: Roots,
}

impl Hub {
    /// The system's USB, or what stands in for it.
    pub(crate) fn open(args: &BusArgs) -> Result<Self, AppError> {
        let roots = Roots::under(args.root.as_deref().unwrap_or(Path::new("/")));
        let bus: Box<dyn Bus> = match args.virtual_boards.as_slice() {
            [] => Box::new(UsbBus::under(roots.clone())),
            [only] if only.starts_with("unix:") || only.starts_with("tcp:") => {
                let address: Address = only.parse().map_err(|problem: &str| Cause::Usage(problem.to_owned()))?;
                let failed = |error| AppError::io(format!("cannot reach the virtual boards at {address}"), error);
                Box::new(RemoteBus::connect(&address).map_err(failed)?)
            }
            boards => Box::new(virtual_bus(boards)?),
        };
        Ok(Self { bus, table: table(args.chips.as_deref())?, roots })
    }
}

/// The built-in table, and what the file adds to it.
pub(crate) fn table(file: Option<&Path>) -> Result<ChipTable, AppError> {
    let mut table = ChipTable::builtin();
    if let Some(path) = file {
        let failed = |error| AppError::io(format!("cannot read {}", shown(path)), error);
        let text = fs::read_to_string(path).map_err(failed)?;
        let result = read_config(&mut table, &text);
        result.map_err(|source| Cause::Chips { path: path.to_owned(), source })?;
    }
    Ok(table)
}

/// Boards in this process, at ports 1-1.1 and so on: `imx8mm`, or `imx8mm:FAULTS`.
fn virtual_bus(boards: &[String]) -> Result<HostBus, AppError> {
    let mut all = Vec::new();
    for (n, text) in (1..).zip(boards) {
        let (name, faults) = text.split_once(':').unwrap_or((text, ""));
        let named = |model: &Model| model.board().split('_').next() == Some(name);
        let known = || Cause::Usage(format!("no virtual board is called {name}"));
        let model = Model::ALL.into_iter().find(named).ok_or_else(known)?;
        let faults = script(faults).map_err(|error| Cause::Usage(error.to_string()))?;
        let setup = Setup {
            path: format!("1-1.{n}"),
            uid: n,
            timing: Timing::imx8m(),
            clock: Clock::real(),
            ..Setup::new(model, Tree::Nxp)
        };
        let board = Board::new(setup);
        board.add_faults(faults);
        all.push(board);
    }
    Ok(HostBus::new(all))
}
