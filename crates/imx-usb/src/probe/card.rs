//! Which card is meant, and by what name fastboot writes to it.
//!
//! U-Boot numbers its cards by board, so a number alone says little. It comes from the user, from a variable of the
//! board (`emmc_dev`, `sd_dev`) or from the chip table, in that order, and is then checked: an eMMC has a boot switch
//! (`mmc partconf N` succeeds), an SD card has none. The name that fastboot has for the whole card must be of the size
//! of that card. Nothing is written.

use std::fmt;

use super::talk::Talk;
use super::{Capabilities, ProbeError, Tree};
use crate::chips::Chip;
use crate::fastboot::{Session, parse_number};
use crate::pipe::BulkPipe;

/// No board has more.
const MOST_CARDS: u32 = 4;
const BLOCK_BYTES: u64 = 512;

/// What kind of card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Soldered to the board, with boot partitions.
    Emmc,
    /// In a slot.
    Sd,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emmc => "eMMC",
            Self::Sd => "SD card",
        })
    }
}

/// Where a card's number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numbered {
    /// The user gave it.
    Given,
    /// A variable of the board.
    Variable,
    /// The chip table: NXP's kits have it so.
    Table,
    /// It is the only one of its kind on the board.
    Only,
}

/// A card to be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// U-Boot's number; `None` if U-Boot runs no commands and none was given.
    pub number: Option<u32>,
    /// Where the number comes from.
    pub numbered: Option<Numbered>,
    /// Its kind as checked; `None` if it could not be.
    pub kind: Option<Kind>,
    /// What fastboot calls the whole of it.
    pub name: String,
    /// Its size. `None` if fastboot does not tell.
    pub bytes: Option<u64>,
    /// Was it checked that the name means the card of that number, by its last block?
    pub checked: bool,
}

/// No card that could be written to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The link failed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// No number is known.
    #[error("which of U-Boot's cards is the {wanted} is not known (there are: {})", List(.there))]
    NoNumber {
        /// What is looked for.
        wanted: Kind,
        /// The cards on the board.
        there: Vec<(u32, Kind)>,
    },
    /// There is no card of that kind.
    #[error("{} (U-Boot knows: {})", absent(*.wanted), Known(.there))]
    Absent {
        /// What is looked for.
        wanted: Kind,
        /// The cards on the board.
        there: Vec<(u32, Kind)>,
    },
    /// The card of that number is not there.
    #[error("there is no card {number} on the board (there are: {})", List(.there))]
    NotThere {
        /// Which.
        number: u32,
        /// The cards on the board.
        there: Vec<(u32, Kind)>,
    },
    /// The card of that number is of another kind.
    #[error("card {number} is an {found}, not an {wanted} (there are: {})", List(.there))]
    WrongKind {
        /// Which.
        number: u32,
        /// As asked for.
        wanted: Kind,
        /// As it is.
        found: Kind,
        /// The cards on the board.
        there: Vec<(u32, Kind)>,
    },
    /// Fastboot has no name for all of it.
    #[error("U-Boot's fastboot has no name for the whole card")]
    NoName,
    /// The name means another card than the number.
    #[error("fastboot's {name:?} has {bytes} bytes, and card {number} has not: it is another card")]
    AnotherCard {
        /// The number.
        number: u32,
        /// The name.
        name: String,
        /// The size that belongs to the name.
        bytes: u64,
    },
}

impl CardError {
    /// Is there no such card, for all that U-Boot knows?
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::NotThere { .. })
    }
}

fn absent(wanted: Kind) -> &'static str {
    match wanted {
        Kind::Emmc => "there is no eMMC on the board",
        Kind::Sd => "there is no SD card in the slot",
    }
}

/// Cards as U-Boot names them.
struct Known<'a>(&'a [(u32, Kind)]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (n, (number, kind)) in self.0.iter().enumerate() {
            write!(f, "{}mmc {number}, an {kind}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

struct List<'a>(&'a [(u32, Kind)]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (n, (number, kind)) in self.0.iter().enumerate() {
            write!(f, "{}{number} {kind}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Finds the card of that kind, or the one that was given if it is of that kind.
///
/// On NXP's tree this sets `fastboot_dev`, `mmcdev` and `target_ubootdev`, so that fastboot's `all` means that card, and
/// makes it current with its user area selected.
///
/// # Errors
/// [`CardError`].
pub fn find<P: BulkPipe>(
    session: &mut Session<P>,
    capabilities: &Capabilities,
    chip: Option<&Chip>,
    wanted: Kind,
    given: Option<u32>,
) -> Result<Card, CardError> {
    let mut talk = Talk::new(session);
    (talk.shell, talk.values) = (capabilities.shell, capabilities.values);
    if talk.shell.is_none() {
        return without_commands(&mut talk, capabilities, given);
    }
    let (number, numbered) = number(&mut talk, chip, wanted, given)?;
    if capabilities.tree == Some(Tree::Nxp) {
        talk.run(&format!("setenv fastboot_dev mmc;setenv mmcdev {number}"))?;
        talk.run(&format!("setenv target_ubootdev {number}"))?;
    }
    talk.run(&format!("mmc dev {number} 0"))?;
    let name = name(&mut talk, capabilities, Some(number))?;
    let bytes = bytes(&mut talk, &name)?;
    let mut checked = false;
    if let (Some(space), Some(bytes)) = (&capabilities.space, bytes) {
        // The last block is there and the one behind it is not.
        let (to, blocks) = (space.scratch.start, bytes / BLOCK_BYTES);
        let last = blocks.saturating_sub(1);
        let mut read = |block: u64| talk.run(&format!("mmc read {to:x} {block:x} 1"));
        // A card that was busy refuses once.
        checked = (read(last)? || read(last)?) && !read(blocks)?;
        if !checked {
            return Err(CardError::AnotherCard { number, name, bytes });
        }
    }
    Ok(Card { number: Some(number), numbered: Some(numbered), kind: Some(wanted), name, bytes, checked })
}

/// U-Boot runs no commands, so it cannot be asked which card it writes to.
fn without_commands<P: BulkPipe>(
    talk: &mut Talk<'_, P>,
    capabilities: &Capabilities,
    given: Option<u32>,
) -> Result<Card, CardError> {
    let name = name(talk, capabilities, given)?;
    let bytes = bytes(talk, &name)?;
    let numbered = given.map(|_| Numbered::Given);
    Ok(Card { number: given, numbered, kind: None, name, bytes, checked: false })
}

fn number<P: BulkPipe>(
    talk: &mut Talk<'_, P>,
    chip: Option<&Chip>,
    wanted: Kind,
    given: Option<u32>,
) -> Result<(u32, Numbered), CardError> {
    let variable = match wanted {
        Kind::Emmc => "emmc_dev",
        Kind::Sd => "sd_dev",
    };
    let cards = chip.and_then(|chip| chip.cards);
    let table = cards.map(|cards| if wanted == Kind::Emmc { cards.emmc } else { cards.sd });
    let candidate = match given {
        Some(number) => Some((number, Numbered::Given)),
        None => {
            let variable = talk.env(variable)?.and_then(|text| text.trim().parse().ok());
            let variable = variable.filter(|number| *number < MOST_CARDS);
            variable.map(|number| (number, Numbered::Variable)).or(table.map(|number| (number, Numbered::Table)))
        }
    };
    let kind = match candidate {
        Some((number, _)) => kind_of(talk, number)?,
        None => None,
    };
    if let Some(candidate) = candidate
        && kind == Some(wanted)
    {
        return Ok(candidate);
    }
    let mut there = Vec::new();
    for number in 0..MOST_CARDS {
        there.extend(kind_of(talk, number)?.map(|kind| (number, kind)));
    }
    let mut of_the_kind = there.iter().filter(|(_, kind)| *kind == wanted);
    match (candidate, of_the_kind.next(), of_the_kind.next()) {
        // Somebody who gives a number means it; a number from elsewhere may be for another board.
        (Some((_, Numbered::Variable | Numbered::Table)) | None, Some((number, _)), None) => {
            Ok((*number, Numbered::Only))
        }
        (Some((_, Numbered::Variable | Numbered::Table)) | None, None, _) => Err(CardError::Absent { wanted, there }),
        (Some((number, _)), ..) => Err(match kind {
            Some(found) => CardError::WrongKind { number, wanted, found, there },
            None => CardError::NotThere { number, there },
        }),
        (None, ..) => Err(CardError::NoNumber { wanted, there }),
    }
}

/// What kind of card has that number; `None` if there is none. Leaves its user area selected.
fn kind_of<P: BulkPipe>(talk: &mut Talk<'_, P>, number: u32) -> Result<Option<Kind>, ProbeError> {
    if !talk.run(&format!("mmc dev {number} 0"))? {
        return Ok(None);
    }
    // A U-Boot without that command still has boot partitions to select, if the card has them.
    if talk.run(&format!("mmc partconf {number}"))? {
        return Ok(Some(Kind::Emmc));
    }
    let boots = talk.run(&format!("mmc dev {number} 1"))?;
    talk.run(&format!("mmc dev {number} 0"))?;
    Ok(Some(if boots { Kind::Emmc } else { Kind::Sd }))
}

/// What fastboot calls the whole card.
fn name<P: BulkPipe>(
    talk: &mut Talk<'_, P>,
    capabilities: &Capabilities,
    number: Option<u32>,
) -> Result<String, CardError> {
    let number = number.map(|number| number.to_string());
    let names = match capabilities.tree {
        Some(Tree::Nxp) => vec!["all".to_owned()],
        // A number is a certain card; `mmc0` is whichever the configuration says.
        Some(Tree::Upstream) => number.into_iter().chain(["mmc0".to_owned()]).collect(),
        None => ["all".to_owned()].into_iter().chain(number).chain(["mmc0".to_owned()]).collect(),
    };
    for name in names {
        if bytes(talk, &name)?.is_some() {
            return Ok(name);
        }
    }
    Err(CardError::NoName)
}

fn bytes<P: BulkPipe>(talk: &mut Talk<'_, P>, name: &str) -> Result<Option<u64>, ProbeError> {
    let text = talk.getvar(&format!("partition-size:{name}"))?;
    Ok(text.and_then(|text| parse_number(&text)).filter(|bytes| *bytes > 0))
}
