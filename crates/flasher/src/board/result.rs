//! What became of a board.

use std::time::Duration;

use super::check::Sum;
use super::erase::Erased;
use super::error::BoardError;
use super::loader::LoaderPlaced;
use super::sums::{Spent, Sums};
use crate::error::TargetState;

/// What became of one board.
#[derive(Debug)]
pub struct BoardResult {
    /// Why it does not hold the image, if it does not.
    pub error: Option<BoardError>,
    /// What it holds.
    pub state: TargetState,
    /// What was moved.
    pub sums: Sums,
    /// Where the time went.
    pub spent: Spent,
    /// From the first look to the end.
    pub time: Duration,
    /// By what it was proven, if it was.
    pub proof: Option<Sum>,
    /// By what it was asked which pieces it held already, if it was.
    pub compared: Option<Sum>,
    /// Its serial number, once it was seen.
    pub serial: Option<String>,
    /// Its chip, once it was seen.
    pub chip: Option<String>,
    /// What was erased, if that was asked for.
    pub erased: Option<Erased>,
    /// The loader that was written, if one was.
    pub loader: Option<LoaderPlaced>,
}

impl BoardResult {
    /// Of a board that nothing is known of but this.
    pub(super) fn failed(error: BoardError) -> Self {
        Self {
            error: Some(error),
            state: TargetState::Unchanged,
            sums: Sums::default(),
            spent: Spent::default(),
            time: Duration::ZERO,
            proof: None,
            compared: None,
            serial: None,
            chip: None,
            erased: None,
            loader: None,
        }
    }
}
