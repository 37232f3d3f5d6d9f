//! Erasing the holes of a map, on request: inside the image only, rounded inwards to the card's erase groups, in
//! commands small enough for their deadline. Groups are counted from the card's first byte, wherever the image begins.
//!
//! What an erased block reads as is the card's choice, so a few blocks are looked at afterwards: the report says
//! "erased, sampled", never "zero".

use bmap::ByteRange;

use super::BoardError;
use super::check::{Sum, false_claims};
use super::place::{Place, not_by_number};
use super::uboot::{Area, Command, Uboot};
use super::zeros::zero_claim;

/// Erased by one command at most: U-Boot waits one second for each group, or for all of them together.
const STEP: u64 = 32 << 20;
/// The group where the board does not tell: what most eMMCs have.
const GROUP: u64 = 512 << 10;
/// Bytes looked at of each end.
const SAMPLE: u64 = 4096;

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Bytes erased.
    pub bytes: u64,
    /// Bytes of holes left alone: too small, the card refused, or U-Boot cannot erase there.
    pub left: u64,
    /// Did every sample read as zeros? `None` if nothing could be looked at.
    pub zeros: Option<bool>,
}

/// Erases what lies inside `holes`; the card's user area must be what `place` means, which begins at byte `start` of it.
pub(super) fn erase(
    uboot: &mut Uboot,
    place: &Place,
    start: u64,
    holes: &[ByteRange],
    sum: Option<Sum>,
) -> Result<Erased, BoardError> {
    let mut erased = Erased::default();
    let group = uboot.session.getvar("erase-block-size").ok();
    let group = group
        .and_then(|text| imx_usb::fastboot::parse_number(&text))
        .filter(|group| *group > 0 && group.is_multiple_of(512));
    let group = group.unwrap_or(GROUP);
    for hole in holes {
        let Some(inside) = whole_groups(*hole, start, group) else {
            erased.left = erased.left.saturating_add(hole.len());
            continue;
        };
        let mut at = inside.start();
        while at < inside.end() {
            let step = ByteRange::new(at, inside.end().min(at.saturating_add(STEP.max(group))));
            let Some(step) = step else { break };
            let sectors = place.sectors(step).ok_or_else(not_by_number)?;
            let commands = [uboot.select(Area::User), Command::Erase { sectors }];
            if !uboot.command(&commands, step.len())? {
                break;
            }
            at = step.end();
        }
        let done = at - inside.start();
        erased.bytes = erased.bytes.saturating_add(done);
        erased.left = erased.left.saturating_add(hole.len() - done);
        if let Some(sum) = sum
            && done > 0
        {
            let ends = [inside.start(), at.saturating_sub(SAMPLE)];
            let claims: Vec<_> = ends.iter().filter_map(|at| ByteRange::at(*at, SAMPLE)).map(zero_claim).collect();
            let zeros = false_claims(uboot, place, &claims, sum, &mut |_| Ok(()))?.is_empty();
            erased.zeros = Some(erased.zeros.unwrap_or(true) && zeros);
        }
    }
    Ok(erased)
}

/// The part of a hole that is whole groups of the card, for an image that begins at byte `start` of it.
fn whole_groups(hole: ByteRange, start: u64, group: u64) -> Option<ByteRange> {
    let first = start.checked_add(hole.start())?.checked_next_multiple_of(group)?;
    let end = start.checked_add(hole.end())? / group * group;
    ByteRange::new(first.checked_sub(start)?, end.checked_sub(start)?).filter(|inside| !inside.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_the_cards() {
        let whole = |from, to, start| {
            let inside = whole_groups(ByteRange::new(from, to).unwrap(), start, 1000)?;
            Some((inside.start(), inside.end()))
        };
        assert_eq!(whole(0, 3000, 0), Some((0, 3000)));
        assert_eq!(whole(1, 2999, 0), Some((1000, 2000)));
        assert_eq!(whole(0, 3000, 500), Some((500, 2500)));
        assert_eq!(whole(100, 1400, 500), None);
        assert_eq!(whole(0, u64::MAX, 500), None);
    }
}
