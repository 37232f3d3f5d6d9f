//! A loader into a boot partition of the eMMC, and the boot switch.
//!
//! Its first block is cleared before anything else of it is written and written last, so that a ROM that looks there in
//! between finds no loader rather than half of one. One that is to be proven and cannot be is left out. Whether it fits
//! is `suits`' to find out beforehand; how the switch is read and turned is `switch`'s.

use std::sync::Arc;

use bmap::{Algorithm, ByteRange, Hasher};

use super::BoardError;
use super::batch::{Item, Part};
use super::check::{Claim, Sum, differing, false_claims};
use super::options::Proof;
use super::pack::Form;
use super::place::{Place, To, not_by_number};
use super::switch;
use super::uboot::{Area, Command, SECTOR, Uboot};
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
    /// Is the switch's ack bit what it was? `false`: it could not be read, and the switch had to be turned.
    pub ack_kept: bool,
    /// By what it was proven.
    pub proof: Option<Sum>,
}

/// The first bytes, which come last: a sector, for power may be lost between any two.
const FRONT: u64 = SECTOR;

/// How a loader is put in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Putting<'l> {
    pub(super) loader: &'l Loader,
    /// Bytes in front of it: where [`check`](super::suits::check) says.
    pub(super) offset: u64,
    pub(super) proof: Proof,
    /// How often it is written again.
    pub(super) attempts: u32,
}

/// Writes a loader, proves it, and turns the switch to it. `begun` is set before anything is written.
///
/// # Errors
/// Among others [`BoardError::LoaderLeftOut`]: then nothing was written.
pub(super) fn put(uboot: &mut Uboot, how: Putting<'_>, begun: &mut bool) -> Result<LoaderPlaced, BoardError> {
    let Putting { loader, offset, .. } = how;
    let cannot = |why| BoardError::Cannot { what: "write a boot partition", why };
    // By what this board can prove a loader: of it, unlike of an image, it is always known where it lies.
    let sum = how.proof.sum(&uboot.profile);
    if how.proof != Proof::Off && sum.is_none() {
        return Err(BoardError::LoaderLeftOut);
    }
    let before = switch::read(uboot)?;
    let area = match (loader.part, before.boot) {
        (BootPart::Of(area), _) => area,
        (BootPart::Active, Some(2)) | (BootPart::Inactive, Some(1)) => Area::Boot1,
        (BootPart::Inactive, None) => return Err(cannot("it does not tell which one is in use")),
        _ => Area::Boot0,
    };
    let result = write(uboot, how, area, sum, begun);
    // Whatever happened, later commands mean the user area.
    let back = uboot.command(&[uboot.select(Area::User)], 0);
    result?;
    back?;
    let ack_kept = switch::turn(uboot, before, area)?;
    let bytes = u64::try_from(loader.bytes.len()).unwrap_or(u64::MAX);
    Ok(LoaderPlaced { area, offset, bytes, before: before.boot, ack_kept, proof: sum })
}

fn write(
    uboot: &mut Uboot,
    how: Putting<'_>,
    area: Area,
    sum: Option<Sum>,
    begun: &mut bool,
) -> Result<(), BoardError> {
    let Putting { loader, offset, attempts, .. } = how;
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
    // As much at a time as there is memory to read it into.
    let most = (uboot.profile.scratch_bytes() / SECTOR * SECTOR).max(SECTOR);
    let claims = |extent: ByteRange| {
        let range = usize::try_from(extent.start()).unwrap_or(0)..usize::try_from(extent.end()).unwrap_or(0);
        let mut at = extent.start();
        let parts = loader.bytes.get(range).unwrap_or_default().chunks(usize::try_from(most).unwrap_or(usize::MAX));
        let claims = parts.filter_map(|bytes| {
            let extent = ByteRange::at(at, u64::try_from(bytes.len()).ok()?)?;
            at = extent.end();
            let sha256 = Hasher::digest(Algorithm::Sha256, bytes);
            Some(Claim { index: 0, extent, crc32: crc32fast::hash(bytes), sha256 })
        });
        claims.collect::<Vec<_>>()
    };
    for attempt in 0..=attempts {
        uboot.session.download_all(&padded)?;
        let write = |from: u64, extent: ByteRange| {
            let sectors = place.sectors(extent).ok_or_else(not_by_number)?;
            Ok::<_, BoardError>(Command::Write { from: from.saturating_add(extent.start()), sectors })
        };
        // From where the zeros are; then from where the loader is.
        let steps =
            [(buffer, first, vec![zero_claim(first)]), (body, rest, claims(rest)), (body, first, claims(first))];
        let mut wrong = None;
        *begun = true;
        for (from, extent, claims) in steps.iter().filter(|(_, extent, _)| !extent.is_empty()) {
            let wrote = uboot.command(&[uboot.select(area), write(*from, *extent)?], extent.len())?;
            let right = match sum {
                Some(Sum::Compare) => {
                    let at = from.saturating_sub(buffer).saturating_add(extent.start());
                    let item = Item { index: 0, extent: *extent };
                    let part = Part { item, form: Form::Raw, at, len: extent.len(), packed: None };
                    differing(uboot, &place, &[part])?.is_empty()
                }
                Some(sum) => false_claims(uboot, &place, claims, sum, &mut |_| Ok(()))?.is_empty(),
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
