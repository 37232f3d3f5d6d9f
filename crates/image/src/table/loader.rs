//! i.MX boot images at the places where boot ROMs look for them.
//!
//! Two formats. The image vector table (IVT) of i.MX6, 7 and 8M: byte D1, length 0x0020 high byte first, version 40,
//! 41 or 43, then 32-bit numbers, low byte first: entry, reserved, DCD, boot data, own address, CSF, reserved. The boot
//! data is start address, size, plug-in flag (i.MX 8M reference manuals, "Program image"). The container of i.MX8 and 9: version u8, length
//! u16, tag 87, flags u32, software version u16, fuse version u8, number of images u8, offset of the signature block
//! u16, reserved u16, then 128 bytes for each image that begin with its offset from the container and its size, both
//! u32; further containers follow in 0x400 steps (imx-mkimage and the AHAB chapters of the reference manuals).

use bmap::ByteRange;

use super::bytes::{has, u16_at, u32_at};

/// Offsets where a boot image may begin: a loader file itself or an eMMC boot partition (0), i.MX6 and 7 (1 KiB),
/// i.MX8MN, 8MP, 8, 8X and 9 (32 KiB), i.MX8MQ and 8MM (33 KiB).
const PLACES: [usize; 4] = [0, 0x400, 0x8000, 0x8400];

/// Containers follow each other in steps of this many bytes.
const CONTAINER_STEP: usize = 0x400;

/// The most containers of one set we count: firmware of the security controller, a second one for V2X, the loader.
const MAX_CONTAINERS: u8 = 8;

const CONTAINER_TAG: u8 = 0x87;
const CONTAINER_HEADER: usize = 16;
const CONTAINER_IMAGE: usize = 128;

/// A boot image found in the head of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loader {
    /// Where it begins, in bytes from the start of the disk.
    pub offset: u64,
    /// Which format.
    pub kind: LoaderKind,
    /// What it covers by its own account, where that makes sense. What it loads later (a FIT image, a further
    /// container) may lie behind.
    pub extent: Option<ByteRange>,
}

/// The format of a boot image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoaderKind {
    /// An image vector table.
    Ivt {
        /// Its version byte: 0x40, 0x41 or 0x43.
        version: u8,
    },
    /// One or more containers.
    Container {
        /// How many follow each other.
        containers: u8,
    },
}

impl Loader {
    /// Which chips' boot ROMs look for such an image at this offset of an SD card or eMMC user area (NXP's and
    /// U-Boot's board documentation); `None` for offset 0, which only loader files and eMMC boot partitions have.
    #[must_use]
    pub fn chips(&self) -> Option<&'static str> {
        Some(match (self.offset, self.kind) {
            (0x400, LoaderKind::Ivt { .. }) => "i.MX6, i.MX7",
            (0x8000, LoaderKind::Ivt { .. }) => "i.MX8MN, i.MX8MP",
            (0x8000, LoaderKind::Container { .. }) => "i.MX8, i.MX8X, i.MX8ULP, i.MX9",
            (0x8400, LoaderKind::Ivt { .. }) => "i.MX8MQ, i.MX8MM",
            (0x8400, LoaderKind::Container { .. }) => "i.MX8, i.MX8X revision A",
            _ => return None,
        })
    }
}

/// Finds boot images in the first bytes of a disk, an eMMC boot partition or a loader file.
#[must_use]
pub fn loaders(head: &[u8]) -> Vec<Loader> {
    let mut found: Vec<Loader> = Vec::new();
    for at in PLACES {
        let Some(bytes) = head.get(at..) else { continue };
        let Ok(offset) = u64::try_from(at) else { continue };
        // The second container of a set that begins at 32 KiB lies at 33 KiB; it is no loader of its own.
        let inside = found.last().is_some_and(|last| match last.kind {
            LoaderKind::Container { containers } => {
                offset < last.offset + u64::from(containers) * u64::try_from(CONTAINER_STEP).unwrap_or(0)
            }
            LoaderKind::Ivt { .. } => false,
        });
        if !inside {
            found.extend(ivt(bytes, offset).or_else(|| container(bytes, offset)));
        }
    }
    found
}

fn ivt(bytes: &[u8], offset: u64) -> Option<Loader> {
    let version = *bytes.get(3)?;
    if !has(bytes, 0, &[0xd1, 0x00, 0x20]) || !matches!(version, 0x40 | 0x41 | 0x43) {
        return None;
    }
    Some(Loader { offset, kind: LoaderKind::Ivt { version }, extent: ivt_extent(bytes, offset) })
}

/// From the IVT to the end of what its boot data says; the part of the image before the IVT is not counted.
fn ivt_extent(bytes: &[u8], offset: u64) -> Option<ByteRange> {
    let (boot_data, own) = (u32_at(bytes, 16)?, u32_at(bytes, 20)?);
    let at = usize::try_from(boot_data.checked_sub(own)?).ok()?;
    let (start, size) = (u32_at(bytes, at)?, u32_at(bytes, at.checked_add(4)?)?);
    let len = size.checked_sub(own.checked_sub(start)?).filter(|len| *len >= 32)?;
    ByteRange::at(offset, u64::from(len))
}

fn container(bytes: &[u8], offset: u64) -> Option<Loader> {
    let mut count = 0_u8;
    let mut end = 0_u64;
    while count < MAX_CONTAINERS {
        let at = usize::from(count).checked_mul(CONTAINER_STEP)?;
        let Some(reach) = bytes.get(at..).and_then(container_reach) else { break };
        end = end.max(u64::try_from(at).ok()?.checked_add(reach)?);
        count += 1;
    }
    (count > 0).then(|| Loader {
        offset,
        kind: LoaderKind::Container { containers: count },
        extent: ByteRange::at(offset, end),
    })
}

/// How far one container and its images reach, in bytes from the container; `None` when none begins here.
fn container_reach(bytes: &[u8]) -> Option<u64> {
    let (version, length, tag) = (*bytes.first()?, usize::from(u16_at(bytes, 1)?), *bytes.get(3)?);
    let (images, signature) = (usize::from(*bytes.get(11)?), usize::from(u16_at(bytes, 12)?));
    let table_end = CONTAINER_HEADER + CONTAINER_IMAGE * images;
    // Two bytes and a tag would match by chance too easily: the lengths must agree as well.
    let sound = matches!(version, 0 | 2)
        && tag == CONTAINER_TAG
        && images > 0
        && table_end <= length
        && (signature == 0 || (table_end <= signature && signature < length));
    if !sound {
        return None;
    }
    let mut reach = u64::try_from(length).ok()?;
    for image in 0..images {
        let at = CONTAINER_HEADER + CONTAINER_IMAGE * image;
        let (image_offset, size) = (u32_at(bytes, at)?, u32_at(bytes, at + 4)?);
        if size > 0 {
            reach = reach.max(u64::from(image_offset) + u64::from(size));
        }
    }
    Some(reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IVT at `at` whose image begins `before` bytes in front of it.
    fn put_ivt(head: &mut [u8], at: usize, version: u8, before: u32, size: u32) {
        let own = 0x007e_1000_u32;
        head[at..at + 4].copy_from_slice(&[0xd1, 0x00, 0x20, version]);
        head[at + 16..at + 20].copy_from_slice(&(own + 0x20).to_le_bytes());
        head[at + 20..at + 24].copy_from_slice(&own.to_le_bytes());
        head[at + 32..at + 36].copy_from_slice(&(own - before).to_le_bytes());
        head[at + 36..at + 40].copy_from_slice(&size.to_le_bytes());
    }

    fn put_container(head: &mut [u8], at: usize, images: u8, image_offset: u32, size: u32) {
        let signature = 16 + 128 * u16::from(images);
        head[at..at + 4].copy_from_slice(&[0, 0, 0, 0x87]);
        head[at + 1..at + 3].copy_from_slice(&(signature + 0x10).to_le_bytes());
        head[at + 11] = images;
        head[at + 12..at + 14].copy_from_slice(&signature.to_le_bytes());
        head[at + 16..at + 20].copy_from_slice(&image_offset.to_le_bytes());
        head[at + 20..at + 24].copy_from_slice(&size.to_le_bytes());
    }

    #[test]
    fn ivts_are_found_where_the_roms_look() {
        for (at, chips) in [
            (0x400, Some("i.MX6, i.MX7")),
            (0x8000, Some("i.MX8MN, i.MX8MP")),
            (0x8400, Some("i.MX8MQ, i.MX8MM")),
            (0, None),
        ] {
            let mut head = vec![0; 0x10000];
            put_ivt(&mut head, at, 0x41, 0x400, 0x3_0400);
            let found = loaders(&head);
            assert_eq!(found.len(), 1, "{at:#x}");
            assert_eq!(found[0].offset, u64::try_from(at).unwrap());
            assert_eq!(found[0].kind, LoaderKind::Ivt { version: 0x41 });
            assert_eq!(found[0].extent.unwrap().len(), 0x3_0000);
            assert_eq!(found[0].chips(), chips);
        }
        let mut head = vec![0; 0x10000];
        put_ivt(&mut head, 0x8404, 0x41, 0, 0x1000);
        assert_eq!(loaders(&head), [], "only exact places count");
    }

    #[test]
    fn containers_are_counted_and_their_reach_is_that_of_the_last_image() {
        let mut head = vec![0; 0x10000];
        put_container(&mut head, 0x8000, 1, 0x1000, 0x2000);
        put_container(&mut head, 0x8400, 2, 0x8000, 0x3_0000);
        let found = loaders(&head);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, LoaderKind::Container { containers: 2 });
        assert_eq!(found[0].extent, ByteRange::at(0x8000, 0x400 + 0x8000 + 0x3_0000));
    }

    #[test]
    fn a_tag_alone_is_no_container_and_bad_addresses_give_no_extent() {
        let mut head = vec![0; 0x10000];
        head[0x8003] = 0x87;
        assert_eq!(loaders(&head), []);
        put_ivt(&mut head, 0x8400, 0x40, 0, 0x1000);
        head[0x8410..0x8414].copy_from_slice(&[0xff; 4]);
        assert_eq!(loaders(&head)[0].extent, None);
    }

    #[test]
    fn any_cut_of_a_head_is_read_without_a_panic() {
        let mut head = vec![0xff; 0x8800];
        put_container(&mut head, 0x8000, 255, u32::MAX, u32::MAX);
        put_ivt(&mut head, 0x400, 0x43, 0x400, u32::MAX);
        for len in (0..head.len()).step_by(7) {
            let _ = loaders(&head[..len]);
        }
    }
}
