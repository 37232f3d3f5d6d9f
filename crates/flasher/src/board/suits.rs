//! A loader for a boot partition, held against the board before anything is written: is it one for its chip, does this
//! U-Boot get it there, and does it fit.

use bmap::ByteRange;
use imx_usb::boot::{Unfit, suits};
use imx_usb::chips::Chip;

use super::BoardError;
use super::loader::{BootPart, Loader};
use super::place::To;
use super::switch;
use super::uboot::{Area, Command, SECTOR, Sectors, Uboot};

/// Where in the boot partition the loader goes; `chip` is what is known of the board's.
///
/// A loader of the wrong kind is refused. One that by its load address is for other chips is refused unless
/// [`Loader::other_chip`] says otherwise, for that is a guess, if one that is hardly ever wrong. Nothing is written.
pub(super) fn check(uboot: &mut Uboot, loader: &Loader, chip: Option<&Chip>) -> Result<u64, BoardError> {
    let cannot = |why| BoardError::Cannot { what: "write a boot partition", why };
    let no_place = |why: &str| BoardError::NoPlace { place: To::Emmc, why: why.to_owned() };
    let due = chip.and_then(|chip| chip.loader_offset?.boot).map(u64::from);
    if let Some(chip) = chip {
        // Some images are made for the beginning of a card, with nothing up to where the ROM looks.
        let within = due.and_then(|due| usize::try_from(due.checked_sub(loader.offset?)?).ok());
        match suits(&loader.bytes, &[within.unwrap_or(0), 0], chip) {
            Err(Unfit::OtherChip { .. }) if loader.other_chip => {}
            result => result?,
        }
    }
    if !uboot.profile.can_place() {
        return Err(cannot("it runs no shell commands, or where it keeps downloads is not known"));
    }
    let offset = loader.offset.or(due).ok_or_else(|| {
        cannot("where its ROM looks for the loader in a boot partition is not known; say it by --boot-offset")
    })?;
    let len = u64::try_from(loader.bytes.len()).unwrap_or(u64::MAX);
    // Zeros for its front go before it, and its last sector is filled up.
    if len == 0 || len.saturating_add(2 * SECTOR) > uboot.profile.download || !offset.is_multiple_of(SECTOR) {
        return Err(no_place("the loader is empty or too long, or its offset is not at a sector"));
    }
    let area = match loader.part {
        BootPart::Of(area) => area,
        // Both are of one size.
        BootPart::Active | BootPart::Inactive => Area::Boot0,
    };
    let end = offset.saturating_add(len);
    let fits = room(uboot, area, end);
    // Whatever was found, later commands mean the user area.
    let back = uboot.command(&[uboot.select(Area::User)], 0);
    match fits? {
        Room::None => return Err(no_place("the card has no boot partitions")),
        Room::Short => return Err(BoardError::LoaderTooLong { area, end }),
        Room::Enough => {}
    }
    back?;
    if loader.part == BootPart::Inactive && switch::read(uboot)?.boot.is_none() {
        return Err(cannot("it does not tell which one is in use"));
    }
    Ok(offset)
}

/// What a card has for a loader.
enum Room {
    /// No boot partitions.
    None,
    /// Not so many bytes.
    Short,
    /// Enough, for all that can be told.
    Enough,
}

/// Has `area` a byte before `end`? It is read.
fn room(uboot: &mut Uboot, area: Area, end: u64) -> Result<Room, BoardError> {
    if !uboot.command(&[uboot.select(area)], 0)? {
        return Ok(Room::None);
    }
    let scratch = uboot.profile.scratch.clone().filter(|scratch| scratch.end.saturating_sub(scratch.start) >= SECTOR);
    let Some(scratch) = scratch else { return Ok(Room::Enough) };
    let last = ByteRange::at(end.saturating_sub(1) / SECTOR * SECTOR, SECTOR).unwrap_or(ByteRange::first(SECTOR));
    let commands = [uboot.select(area), Command::Read { to: scratch.start, sectors: Sectors::of(last) }];
    // A card that was busy refuses once.
    let read = uboot.command(&commands, SECTOR)? || uboot.command(&commands, SECTOR)?;
    Ok(if read { Room::Enough } else { Room::Short })
}
