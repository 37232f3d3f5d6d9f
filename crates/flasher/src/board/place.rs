//! Where on a board an image goes: as users name it, and as it is found on one board.

use bmap::ByteRange;

use super::error::BoardError;
use super::uboot::{Area, Line, SECTOR, Sectors, Uboot};

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

/// Where on this board the image goes.
pub(super) fn resolve(to: &To, uboot: &mut Uboot) -> Result<Place, BoardError> {
    let profile = uboot.profile.clone();
    let no_place = |why: &str| BoardError::NoPlace { place: to.clone(), why: why.to_owned() };
    match to {
        To::Emmc | To::Sd => {
            let name = profile.whole.ok_or_else(|| no_place("its fastboot has no name for the whole card"))?;
            Ok(Place { area: Area::User, start: Some(0), name: Some(name), size: profile.capacity })
        }
        To::Partition(name) => {
            let size = uboot.session.getvar(&format!("partition-size:{name}"));
            let size = size.map_err(|error| match error.board_says() {
                Some(says) => no_place(&format!("it says {says:?}")),
                None => error.into(),
            })?;
            let size = imx_usb::fastboot::parse_number(&size).filter(|size| *size > 0);
            let start = partition_start(uboot, name)?;
            Ok(Place { area: Area::User, start, name: Some(name.clone()), size })
        }
    }
}

/// Where a partition begins, by U-Boot's own reading of the table; `None` where it does not tell.
fn partition_start(uboot: &mut Uboot, name: &str) -> Result<Option<u64>, BoardError> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if uboot.profile.shell.is_none() || !uboot.profile.values || !plain {
        return Ok(None);
    }
    let text = format!("part start mmc {} {name} fastboot.s", uboot.profile.device);
    if !uboot.run(&Line { text, bytes: 0 })? {
        return Ok(None);
    }
    let sectors = uboot.value("s")?.unwrap_or_default();
    let sectors = u64::from_str_radix(sectors.trim_start_matches("0x"), 16).ok();
    Ok(sectors.and_then(|sectors| sectors.checked_mul(SECTOR)))
}
