//! Boards whose cards are full of old data, an old loader among it.

use std::sync::LazyLock;

use imx_usb::bus::Port;
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry};
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::{flash_bin, pattern};

use super::{MIB, OLD, narrow};

/// What cards are full of, over and over. Made once: there are hundreds of boards.
static OLD_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(narrow(MIB), OLD));

/// Board `n` at port 1-(n+1), its card full of old data with an old loader in it.
pub(crate) fn board(model: Model, n: u8) -> Board {
    board_of(model, n, Tree::Nxp, 8 * MIB)
}

pub(crate) fn board_of(model: Model, n: u8, tree: Tree, bytes: u64) -> Board {
    let emmc = Geometry { user_bytes: bytes, ..Geometry::default() };
    let setup = Setup { emmc, path: format!("1-{}", n + 1), uid: u64::from(n) + 0x70, ..Setup::new(model, tree) };
    let board = Board::new(setup);
    board.emmc(|card| {
        for at in (0..bytes).step_by(narrow(MIB)) {
            assert!(card.poke(Area::User, at, &OLD_BYTES));
        }
        assert!(card.poke(Area::User, model.loader_offset(false), &flash_bin(model, OLD)));
    });
    board
}

/// What a card held before at these bytes, but for the loader.
pub(crate) fn old(at: u64, len: u64) -> Vec<u8> {
    let mut bytes = OLD_BYTES[narrow(at % MIB)..].to_vec();
    while bytes.len() < narrow(len) {
        bytes.extend_from_slice(&OLD_BYTES);
    }
    bytes.truncate(narrow(len));
    bytes
}

pub(crate) fn port_of(board: &Board) -> Port {
    board.device().unwrap().connector.parse().unwrap()
}
