//! Would a chip's ROM start this loader from a card? What can be told of that by the loader's bytes alone.
//!
//! Left out: whether it is signed as the chip wants it, and where on the card it lies.

use super::action::{Contents, contents, family_of, fits};
use super::error::format_words;
use crate::bootimage::describe::Family;
use crate::chips::{Chip, ImageFormat};

/// Why a chip's ROM would not start a loader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It is not of the kind that the ROM takes, or no boot image at all.
    #[error("an {chip} starts {}, but the loader is {found}", format_words(*.wanted))]
    Format {
        /// The chip.
        chip: String,
        /// What the ROM takes.
        wanted: ImageFormat,
        /// What lies where the loader should begin.
        found: Contents,
    },
    /// It would be loaded where other chips have their memory. A guess: boards may differ.
    #[error("by its load address the loader is for {family}, and the chip is an {chip}")]
    OtherChip {
        /// The chip.
        chip: String,
        /// What the loader seems to be for.
        family: Family,
    },
}

/// Is the loader in `bytes` one for `chip`? It begins at one of the places `at`, tried in turn.
///
/// # Errors
/// [`Unfit`].
pub fn suits(bytes: &[u8], at: &[usize], chip: &Chip) -> Result<(), Unfit> {
    let name = || chip.title.to_string();
    let mut found = at.iter().map(|at| (*at, contents(bytes, *at)));
    let is_image = |(_, found): &(usize, Contents)| matches!(found, Contents::Ivt | Contents::Container);
    let (at, found) = found.clone().find(is_image).or(found.next_back()).unwrap_or((0, Contents::Unknown));
    let right = match chip.format {
        ImageFormat::Ivt => found == Contents::Ivt,
        ImageFormat::Container => found == Contents::Container,
        // Nothing is known of their inside, or of what the loader will make of it.
        ImageFormat::BootStream => !matches!(found, Contents::Ivt | Contents::Container),
        ImageFormat::Loader => true,
    };
    if !right {
        return Err(Unfit::Format { chip: name(), wanted: chip.format, found });
    }
    match family_of(bytes.get(at..).unwrap_or_default()) {
        Some(family) if !fits(family, chip) => Err(Unfit::OtherChip { chip: name(), family }),
        _ => Ok(()),
    }
}
