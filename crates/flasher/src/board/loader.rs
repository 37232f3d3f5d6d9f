//! A loader into a boot partition of the eMMC, and the boot switch.
//!
//! Its first block is cleared before anything else of it is written and written last, so that a ROM that looks there in
//! between finds no loader rather than half of one. The switch is turned when all of it is proven, keeping its ack bit.

use std::sync::{Arc, Mutex, PoisonError};

use bmap::{Algorithm, ByteRange, Hasher};
use imx_usb::fastboot::Message;

use super::BoardError;
use super::batch::{Item, Part};
use super::check::{Claim, Sum, differing, false_claims};
use super::pack::Form;
use super::place::{Place, To, not_by_number};
use super::uboot::{Area, Command, Line, SECTOR, Uboot};
use super::zeros::zero_claim;

/// Which boot partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BootPart {
    /// The one the board boots from; boot0 if it boots from none.
    #[default]
    Active,
    /// The one it does not boot from; boot0 if it boots from none.
    Inactive,
    /// This one.
    Of(Area),
}

/// A loader to be written.
#[derive(Debug, Clone)]
pub struct Loader {
    /// The boot image (`flash.bin`), as it is to lie in the partition.
    pub bytes: Arc<[u8]>,
    /// Where to.
    pub part: BootPart,
    /// Bytes in front of it in the partition, if it is not what the chip table says.
    pub offset: Option<u64>,
    /// Write it even if by its load address it is for other chips.
    pub other_chip: bool,
}

/// What became of a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderPlaced {
    /// Where it is.
    pub area: Area,
    /// From which byte.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// What the switch said before: 0 none, 1 boot0, 2 boot1, 7 user area; `None` if it did not tell.
    pub before: Option<u8>,
    /// By what it was proven.
    pub proof: Option<Sum>,
}

/// The first bytes, which come last: a sector, for power may be lost between any two.
const FRONT: u64 = SECTOR;

/// The boot switch: which partition, and whether the card acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Switch {
    boot: Option<u8>,
    ack: bool,
}

/// Writes a loader, proves it, and turns the switch to it. `offset` is where [`check`](super::suits::check) says.
pub(super) fn put(
    uboot: &mut Uboot,
    loader: &Loader,
    offset: u64,
    sum: Option<Sum>,
    attempts: u32,
) -> Result<LoaderPlaced, BoardError> {
    let cannot = |why| BoardError::Cannot { what: "write a boot partition", why };
    let switch = read_switch(uboot)?;
    let area = match (loader.part, switch.boot) {
        (BootPart::Of(area), _) => area,
        (BootPart::Active, Some(2)) | (BootPart::Inactive, Some(1)) => Area::Boot1,
        (BootPart::Inactive, None) => return Err(cannot("it does not tell which one is in use")),
        _ => Area::Boot0,
    };
    let result = write(uboot, loader, area, offset, sum, attempts);
    // Whatever happened, later commands mean the user area.
    let back = uboot.command(&[uboot.select(Area::User)], 0);
    result?;
    back?;
    let (device, boot) = (uboot.profile.device, area.number());
    let turned = uboot.command(&[Command::PartConf { device, ack: switch.ack, boot }], 0)?;
    let now = read_switch(uboot)?;
    if !turned || now.boot.is_some_and(|now| now != boot) {
        return Err(cannot("its boot switch does not turn"));
    }
    let bytes = u64::try_from(loader.bytes.len()).unwrap_or(u64::MAX);
    Ok(LoaderPlaced { area, offset, bytes, before: switch.boot, proof: sum })
}

fn write(
    uboot: &mut Uboot,
    loader: &Loader,
    area: Area,
    offset: u64,
    sum: Option<Sum>,
    attempts: u32,
) -> Result<(), BoardError> {
    let len = u64::try_from(loader.bytes.len()).unwrap_or(u64::MAX);
    let no_place = |why: &str| BoardError::NoPlace { place: To::Emmc, why: why.to_owned() };
    if !uboot.command(&[uboot.select(area)], 0)? {
        return Err(no_place("the card has no boot partitions"));
    }
    let place = Place { area, start: Some(offset), name: None, size: None };
    let front = FRONT.min(len);
    let (first, rest) = (ByteRange::first(front), ByteRange::new(front, len).unwrap_or(ByteRange::first(0)));
    let mut padded = vec![0_u8; usize::try_from(front.next_multiple_of(SECTOR)).unwrap_or(0)];
    padded.extend_from_slice(&loader.bytes);
    padded.resize(padded.len().next_multiple_of(512), 0);
    let buffer = uboot.profile.buffer.unwrap_or(0);
    // Zeros for the front lie before the loader in the download.
    let body = buffer.saturating_add(front.next_multiple_of(SECTOR));
    let claim = |extent: ByteRange| {
        let range = usize::try_from(extent.start()).unwrap_or(0)..usize::try_from(extent.end()).unwrap_or(0);
        let bytes = loader.bytes.get(range).unwrap_or_default();
        let sha256 = Hasher::digest(Algorithm::Sha256, bytes);
        Claim { index: 0, extent, crc32: crc32fast::hash(bytes), sha256 }
    };
    for attempt in 0..=attempts {
        uboot.session.download_all(&padded)?;
        let write = |from: u64, extent: ByteRange| {
            let sectors = place.sectors(extent).ok_or_else(not_by_number)?;
            Ok::<_, BoardError>(Command::Write { from: from.saturating_add(extent.start()), sectors })
        };
        // From where the zeros are; then from where the loader is.
        let steps = [(buffer, first, zero_claim(first)), (body, rest, claim(rest)), (body, first, claim(first))];
        let mut wrong = None;
        for (from, extent, claim) in steps.iter().filter(|(_, extent, _)| !extent.is_empty()) {
            let wrote = uboot.command(&[uboot.select(area), write(*from, *extent)?], extent.len())?;
            let right = match sum {
                Some(Sum::Compare) => {
                    let at = from.saturating_sub(buffer).saturating_add(extent.start());
                    let item = Item { index: 0, extent: *extent };
                    let part = Part { item, form: Form::Raw, at, len: extent.len(), packed: None };
                    differing(uboot, &place, &[part])?.is_empty()
                }
                Some(sum) => false_claims(uboot, &place, std::slice::from_ref(claim), sum, &mut |_| Ok(()))?.is_empty(),
                None => true,
            };
            if !wrote || !right {
                wrong = Some((*extent, wrote));
                break;
            }
        }
        match wrong {
            None => return Ok(()),
            Some(_) if attempt < attempts => {}
            Some((extent, true)) => return Err(BoardError::NotHeld { pieces: vec![extent], attempts }),
            Some((extent, false)) => {
                let says = format!("that {} cannot be written", area.name());
                return Err(BoardError::Refused { pieces: vec![extent], says });
            }
        }
    }
    Ok(())
}

/// Does this U-Boot tell what the board boots from?
pub(super) fn tells_switch(uboot: &mut Uboot) -> Result<bool, BoardError> {
    Ok(read_switch(uboot)?.boot.is_some())
}

/// The switch, as far as this U-Boot tells: its ack bit by what the command prints, where the console can be heard.
fn read_switch(uboot: &mut Uboot) -> Result<Switch, BoardError> {
    let device = uboot.profile.device;
    let mut switch = Switch { boot: None, ack: false };
    if uboot.profile.values && uboot.run(&Line { text: format!("mmc partconf {device} fastboot.bp"), bytes: 0 })? {
        switch.boot = uboot.value("bp")?.and_then(|text| text.trim().parse().ok());
    }
    // NXP's tree repeats what is printed while its console goes to fastboot, and only then.
    let heard = Arc::new(Mutex::new(String::new()));
    let ear = Arc::clone(&heard);
    uboot.session.observe(move |message| {
        let (Message::Info(text) | Message::Text(text)) = message;
        let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < 4096 {
            heard.push_str(text);
        }
    });
    let mut run = |text: &str| uboot.run(&Line { text: text.to_owned(), bytes: 0 });
    run("setenv stdout serial,fastboot")?;
    run(&format!("mmc partconf {device}"))?;
    run("setenv stdout serial")?;
    uboot.session.observe(|_| {});
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name: &str| {
        let after = heard.split(name).nth(1)?.trim_start_matches([':', ' ']).trim_start_matches("0x");
        after.chars().next().and_then(|digit| digit.to_digit(16))
    };
    switch.ack = number("BOOT_ACK").is_some_and(|ack| ack != 0);
    let told = number("BOOT_PARTITION_ENABLE").and_then(|boot| u8::try_from(boot).ok());
    switch.boot = switch.boot.or(told);
    Ok(switch)
}
