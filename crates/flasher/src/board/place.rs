//! Where on a board an image goes.

use bmap::ByteRange;

use super::uboot::{Area, SECTOR, Sectors};

/// What a user may name as the place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum To {
    /// The whole eMMC (its user area).
    #[default]
    Emmc,
    /// The whole SD card.
    Sd,
    /// A partition, by the name in the table that is on the card.
    Partition(String),
}

impl To {
    /// Is it a place that has no head of its own?
    #[must_use]
    pub fn is_part(&self) -> bool {
        matches!(self, Self::Partition(_))
    }
}

impl std::fmt::Display for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Emmc => f.write_str("eMMC"),
            Self::Sd => f.write_str("SD card"),
            Self::Partition(name) => write!(f, "partition {name}"),
        }
    }
}

/// A place, resolved on one board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The area of the card.
    pub(crate) area: Area,
    /// Its first byte there; `None` where only fastboot knows: then nothing can be read back.
    pub(crate) start: Option<u64>,
    /// Its fastboot name, which takes sparse images.
    pub(crate) name: Option<String>,
    /// Its length in bytes, where it is known.
    pub(crate) size: Option<u64>,
}

impl Place {
    /// The sectors of the card that hold an extent of the image. Whole sectors, rounded outwards.
    pub(crate) fn sectors(&self, extent: ByteRange) -> Sectors {
        let sectors = Sectors::of(extent);
        Sectors { first: sectors.first.saturating_add(self.start.unwrap_or(0) / SECTOR), ..sectors }
    }
}
