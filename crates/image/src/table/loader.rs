//! Whether i.MX boot images lie at the places where boot ROMs look for them: what must not start while it is written.
//!
//! Two formats. The image vector table (IVT) of i.MX6, 7 and 8M: byte D1, length 0x0020 high byte first, version 40,
//! 41 or 43 (i.MX 8M reference manuals, "Program image"). The container of i.MX8 and 9: version u8, length u16, tag 87,
//! flags u32, software version u16, fuse version u8, number of images u8, offset of the signature block u16, reserved
//! u16, then 128 bytes for each image; further containers follow in steps of 0x400 bytes, from version 2 on of 0x4000
//! (imx-mkimage and the AHAB chapters of the reference manuals). What a boot image holds is not looked at.

use super::bytes::{has, u16_at};

/// Offsets where a boot image may begin: a loader file itself or an eMMC boot partition (0), i.MX6 and 7 (1 KiB),
/// i.MX8MN, 8MP, 8, 8X and 9 (32 KiB), i.MX8MQ and 8MM (33 KiB).
const PLACES: [usize; 4] = [0, 0x400, 0x8000, 0x8400];

/// The most containers of one set we count: firmware of the security controller, a second one for V2X, the loader.
const MAX_CONTAINERS: usize = 8;

const CONTAINER_TAG: u8 = 0x87;
const CONTAINER_HEADER: usize = 16;
const CONTAINER_IMAGE: usize = 128;

/// A boot image found in the head of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loader {
    /// Where it begins, in bytes from the start of the disk.
    pub offset: u64,
}

/// Finds boot images in the first bytes of a disk, an eMMC boot partition or a loader file.
#[must_use]
pub fn loaders(head: &[u8]) -> Vec<Loader> {
    let mut found = Vec::new();
    // The second container of a set that begins at 32 KiB lies at 33 KiB; it is no loader of its own.
    let mut set_end = 0;
    for at in PLACES {
        let (Some(bytes), Ok(offset)) = (head.get(at..), u64::try_from(at)) else { continue };
        if at < set_end {
            continue;
        }
        let set = containers(bytes);
        set_end = at.saturating_add(set);
        if set > 0 || is_ivt(bytes) {
            found.push(Loader { offset });
        }
    }
    found
}

fn is_ivt(bytes: &[u8]) -> bool {
    has(bytes, 0, &[0xd1, 0x00, 0x20]) && matches!(bytes.get(3), Some(0x40 | 0x41 | 0x43))
}

/// How many bytes the headers of the containers take that follow each other; 0 when none begins here.
fn containers(bytes: &[u8]) -> usize {
    let mut end = 0_usize;
    for _ in 0..MAX_CONTAINERS {
        let Some(step) = bytes.get(end..).and_then(container_step) else { break };
        end = end.saturating_add(step);
    }
    end
}

/// How far behind a container the next one lies; `None` when none begins here.
fn container_step(bytes: &[u8]) -> Option<usize> {
    let (version, length, tag) = (*bytes.first()?, usize::from(u16_at(bytes, 1)?), *bytes.get(3)?);
    let (images, signature) = (usize::from(*bytes.get(11)?), usize::from(u16_at(bytes, 12)?));
    let table_end = CONTAINER_HEADER + CONTAINER_IMAGE * images;
    // Two bytes and a tag would match by chance too easily: the lengths must agree as well.
    let sound = tag == CONTAINER_TAG
        && images > 0
        && table_end <= length
        && (signature == 0 || (table_end <= signature && signature < length));
    match version {
        0 if sound => Some(0x400),
        2 if sound => Some(0x4000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(head: &[u8]) -> Vec<u64> {
        loaders(head).iter().map(|loader| loader.offset).collect()
    }

    fn put_ivt(head: &mut [u8], at: usize, version: u8) {
        head[at..at + 4].copy_from_slice(&[0xd1, 0x00, 0x20, version]);
    }

    fn put_container(head: &mut [u8], at: usize, version: u8, images: u8) {
        let signature = 16 + 128 * u16::from(images);
        head[at..at + 4].copy_from_slice(&[version, 0, 0, 0x87]);
        head[at + 1..at + 3].copy_from_slice(&(signature + 0x10).to_le_bytes());
        head[at + 11] = images;
        head[at + 12..at + 14].copy_from_slice(&signature.to_le_bytes());
    }

    #[test]
    fn ivts_are_found_where_the_roms_look() {
        for at in [0x400, 0x8000, 0x8400, 0] {
            let mut head = vec![0; 0x10000];
            put_ivt(&mut head, at, 0x41);
            assert_eq!(offsets(&head), [u64::try_from(at).unwrap()]);
        }
        let mut head = vec![0; 0x10000];
        put_ivt(&mut head, 0x8404, 0x41);
        assert!(offsets(&head).is_empty(), "only exact places count");
    }

    #[test]
    fn containers_of_one_set_are_one_loader() {
        let mut head = vec![0; 0x10000];
        put_container(&mut head, 0x8000, 0, 1);
        put_container(&mut head, 0x8400, 0, 2);
        assert_eq!(offsets(&head), [0x8000]);
        // In version 2 what lies at 33 KiB is inside the first container, whatever it looks like.
        put_container(&mut head, 0x8000, 2, 1);
        assert_eq!(offsets(&head), [0x8000]);
    }

    #[test]
    fn a_tag_alone_is_no_container() {
        let mut head = vec![0; 0x10000];
        head[0x8003] = 0x87;
        assert!(offsets(&head).is_empty());
    }

    #[test]
    fn any_cut_of_a_head_is_read_without_a_panic() {
        let mut head = vec![0xff; 0x8800];
        put_container(&mut head, 0x8000, 0, 255);
        put_ivt(&mut head, 0x400, 0x43);
        for len in (0..head.len()).step_by(7) {
            let _ = loaders(&head[..len]);
        }
    }
}
