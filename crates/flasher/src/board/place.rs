//! Where on a board an image goes: as users name it, and as it is found on one board.

use bmap::ByteRange;

use super::error::BoardError;
use super::profile::Profile;
use super::uboot::{Area, Line, PREFIX, SECTOR, Sectors, Uboot};

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
    /// Its fastboot name, if that takes sparse images; without one all is written by number.
    pub(crate) name: Option<String>,
    /// Its length in bytes, where it is known.
    pub(crate) size: Option<u64>,
}

impl Place {
    /// The sectors of the card that hold an extent of the image. Whole sectors, rounded outwards. `None` where it is not
    /// known where the place begins, or for what would reach past its end: nothing may be read or written by number then.
    pub(crate) fn sectors(&self, extent: ByteRange) -> Option<Sectors> {
        let start = self.start.filter(|start| start.is_multiple_of(SECTOR))?;
        let end = extent.end().checked_next_multiple_of(SECTOR)?;
        if self.size.is_some_and(|size| end > size) {
            return None;
        }
        let sectors = Sectors::of(extent);
        Some(Sectors { first: sectors.first.checked_add(start / SECTOR)?, ..sectors })
    }

    /// Can this U-Boot write parts of a download here by number? Otherwise only fastboot finds the place, by its name.
    pub(crate) fn takes_parts(&self, profile: &Profile) -> bool {
        self.start.is_some() && profile.can_place()
    }
}

/// Why nothing is done to a place by numbers of sectors.
pub(crate) fn not_by_number() -> BoardError {
    BoardError::Cannot { what: "read or write there by number", why: "where the place lies on the card is not known" }
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
            let start = partition_start(uboot, name, size)?;
            let place = Place { area: Area::User, start, name: Some(name.clone()), size };
            if !(uboot.profile.is_nxp() && VERBATIM.iter().any(|begin| name.starts_with(begin))) {
                return Ok(place);
            }
            if !place.takes_parts(&uboot.profile) {
                return Err(BoardError::Cannot {
                    what: "write an image to a partition of that name",
                    why: "its fastboot would store the sparse image itself there, and where the partition lies on the card is not known",
                });
            }
            Ok(Place { name: None, ..place })
        }
    }
}

/// To partitions whose names begin so NXP's fastboot writes what it is sent as it comes, also a sparse image.
const VERBATIM: [&str; 2] = ["boot", "misc"];

/// Where a partition begins, by U-Boot's own reading of the table; `None` where it does not tell, or where its fastboot
/// may mean something else by that name: what has another length, a window or a partition that the name stands for.
fn partition_start(uboot: &mut Uboot, name: &str, size: Option<u64>) -> Result<Option<u64>, BoardError> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    // To `part` what begins with a digit may be a partition's number.
    let number = name.starts_with(|c: char| c.is_ascii_digit());
    if uboot.profile.shell.is_none() || !uboot.profile.values || !plain || number {
        return Ok(None);
    }
    // NXP's fastboot has fixed names that no table can change, and no others that stand for something.
    if uboot.profile.is_nxp() {
        if NXP_NAMES.contains(&name) {
            return Ok(None);
        }
    } else {
        for kind in ["fastboot_partition_alias", "fastboot_raw_partition"] {
            let text = format!("env exists {kind}_{name}");
            if text.len() + PREFIX > uboot.profile.line || uboot.run(&Line { text, bytes: 0 })? {
                return Ok(None);
            }
        }
    }
    let mut told = |what: &str, variable: &str| -> Result<Option<u64>, BoardError> {
        // What an earlier command left in the variable is no answer.
        if !uboot.try_run(format!("setenv fastboot.{variable}"))? {
            return Ok(None);
        }
        let text = format!("part {what} mmc {} {name} fastboot.{variable}", uboot.profile.device);
        if !uboot.try_run(text)? {
            return Ok(None);
        }
        let sectors = uboot.value(variable)?.unwrap_or_default();
        let sectors = u64::from_str_radix(sectors.trim().trim_start_matches("0x"), 16).ok();
        Ok(sectors.and_then(|sectors| sectors.checked_mul(SECTOR)))
    };
    let (start, len) = (told("start", "s")?, told("size", "n")?);
    // At sector 0 there is a table, and no partition.
    Ok(start.filter(|start| *start > 0 && len.is_some() && len == size))
}

/// What NXP's fastboot calls places that are none of the table's.
const NXP_NAMES: [&str; 6] = ["all", "bootloader", "bootloader0", "gpt", "mcu_os", "tos"];
