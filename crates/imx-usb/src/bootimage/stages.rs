//! What of a file goes to a board over USB, in which order: to its ROM first, then to the loader that this started.
//!
//! For saying so before there is a board. What a board is really sent follows from what is on the port.

use std::fmt;
use std::ops::Range;

use super::describe::{Description, Family};
use super::ivt;
use super::part::{Start, after_spl, for_stream};
use super::read::offset;
use super::{ImageError, marks};
use crate::chips::{Chip, ChipTable, Protocol, StreamExtent};

const SECTOR: u64 = 512;
/// More plugins than any image has.
const MOST_PLUGINS: usize = 8;

/// A part of the file and how it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// By which protocol.
    pub protocol: Protocol,
    /// Which bytes of the file.
    pub bytes: Range<usize>,
}

/// What goes to a board, first to last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages {
    /// The chips this is for.
    pub family: Family,
    /// One part if the loader fetches what it needs by itself, or needs nothing; else that for the loader too. Plugins
    /// go to the ROM one by one, and the image they are for last.
    pub parts: Vec<Stage>,
}

/// How the boot image in `bytes` would be sent, of which `description` is. `None` if there is no loader in it, or one
/// for chips that are not known.
pub fn stages(bytes: &[u8], description: &Description) -> Option<Result<Stages, ImageError>> {
    let family = description.family()?;
    let at = description.loader_at()?;
    let table = ChipTable::builtin();
    let chip = family.chips().iter().find_map(|name| table.chip(name))?;
    let protocol = table.ids().iter().find(|id| id.chip == chip.name).map(|id| id.protocol)?;
    // A disk image goes on behind its loader; the tag says where that ends, or else what was found.
    let end = match marks::tagged_loader(bytes) {
        Ok(range) => range.end,
        Err(_) => offset(description.end().next_multiple_of(SECTOR)),
    };
    let file = bytes.get(..end).filter(|_| marks::is_disk_image(bytes)).unwrap_or(bytes);
    Some(parts(file, at, chip, protocol).map(|parts| Stages { family, parts }))
}

fn parts(file: &[u8], at: usize, chip: &Chip, protocol: Protocol) -> Result<Vec<Stage>, ImageError> {
    let start = Start { offset: at, ..Start::default() };
    if protocol == Protocol::Sdps {
        let first = for_stream(file, start, chip.stream)?;
        let whole = chip.stream == StreamExtent::WholeFile || first.end >= file.len();
        let mut parts = vec![Stage { protocol, bytes: first }];
        if !whole {
            parts.push(Stage { protocol: Protocol::Sdpv, bytes: after_spl(file, start)? });
        }
        return Ok(parts);
    }
    let image = file.get(at..).unwrap_or_default();
    let mut parts = Vec::new();
    // After a plugin the ROM takes the next image.
    for skip in 0..MOST_PLUGINS {
        let ivt = match ivt::find(image, skip) {
            Err(ImageError::NoIvt(_)) if skip > 0 => break,
            ivt => ivt?,
        };
        let first = at.saturating_add(ivt.at);
        let length = ivt.load(image)?.bytes.len();
        parts.push(Stage { protocol, bytes: first..first.saturating_add(length) });
        if !ivt.is_plugin() {
            break;
        }
    }
    // A loader that is U-Boot itself has nothing behind it, or padding.
    if let (1, Ok(rest)) = (parts.len(), after_spl(file, start))
        && file.get(rest.clone()).is_some_and(|rest| rest.iter().any(|byte| *byte != 0))
    {
        parts.push(Stage { protocol: Protocol::Sdpv, bytes: rest });
    }
    Ok(parts)
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Stage { protocol, bytes }) in self.parts.iter().enumerate() {
            let to = match (n, protocol.is_rom()) {
                (0, _) => "to the ROM",
                (_, false) => ", then to the loader",
                (_, true) => ", then to the ROM",
            };
            write!(f, "{to} {} bytes from {:#x} by {protocol}", bytes.len(), bytes.start)?;
        }
        Ok(())
    }
}
