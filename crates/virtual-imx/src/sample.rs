//! Small boot images that the virtual ROMs accept: headers are right, code is a pattern. For tests.

use sha2::{Digest, Sha256};

use crate::model::{Model, RomKind};

/// Where U-Boot's FIT lies in an image with an IVT: 0x60000 on the card, less where the image begins.
fn fit_offset(model: Model) -> usize {
    0x6_0000 - usize::try_from(model.loader_offset(false)).unwrap_or(0)
}

/// Where the table of an image belongs: before the place where U-Boot links its SPL.
fn ivt_address(model: Model) -> u32 {
    match model {
        Model::Imx8mn => 0x0091_1fc0,
        Model::Imx8mp => 0x0091_ffc0,
        _ => 0x007e_1000,
    }
}

/// Where U-Boot's container begins in an image of containers.
const UBOOT_CONTAINER: usize = 0x5c00;

/// What marks the U-Boot of a sample image that boots on by itself, into an initramfs with the daemon `ufb`.
pub const FBK_MARK: &[u8] = b"virtual-imx: boots to FBK";

/// A whole boot image (`flash.bin`) for a board: loader and U-Boot. `seed` makes images differ.
pub fn flash_bin(model: Model, seed: u8) -> Vec<u8> {
    build(model, seed, b"")
}

/// The same with a U-Boot that does not stop in fastboot but boots on: the board comes back as FBK.
pub fn fbk_bin(model: Model, seed: u8) -> Vec<u8> {
    build(model, seed, FBK_MARK)
}

/// The front of a card of so many blocks, with a GPT of these partitions: name, first block, how many.
pub fn gpt(blocks: u64, partitions: &[(&str, u64, u64)]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut disk = vec![0; 34 * BLOCK];
    // The protective MBR: one partition of type EE over everything.
    disk[446 + 4] = 0xee;
    disk[446 + 8..446 + 12].copy_from_slice(&1u32.to_le_bytes());
    let all = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    disk[446 + 12..446 + 16].copy_from_slice(&all.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    for (n, (name, first, count)) in partitions.iter().take(128).enumerate() {
        let entry = &mut disk[2 * BLOCK + n * 128..][..128];
        // Linux filesystem data, and any identifier.
        entry[..16].copy_from_slice(&0xe47d_4793_693d_848e_7247_8483_0fc6_3daf_u128.to_le_bytes());
        entry[16] = u8::try_from(n).unwrap_or(0) + 1;
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&(first + count.max(&1) - 1).to_le_bytes());
        for (at, unit) in name.encode_utf16().take(36).enumerate() {
            entry[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let entries = crc32fast::hash(&disk[2 * BLOCK..]);
    let header = &mut disk[BLOCK..2 * BLOCK];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    let numbers = [(24, 1), (32, blocks.saturating_sub(1)), (40, 34), (48, blocks.saturating_sub(34)), (72, 2)];
    for (at, number) in numbers {
        header[at..at + 8].copy_from_slice(&u64::to_le_bytes(number));
    }
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&entries.to_le_bytes());
    let sum = crc32fast::hash(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    disk
}

/// `mark` is what U-Boot begins with.
fn build(model: Model, seed: u8, mark: &[u8]) -> Vec<u8> {
    match model.rom() {
        RomKind::SdpIvt | RomKind::StreamIvt => {
            let mut bytes = ivt(ivt_address(model), 0x4000, seed);
            bytes.resize(fit_offset(model), 0);
            bytes.extend(fit(0x5000, seed, mark));
            bytes
        }
        RomKind::StreamContainer | RomKind::LoaderContainer => {
            let mut bytes = container(0x2000, &pattern(0x900, seed));
            let spl = container(0x2c00 - 0x400, &pattern(0x3000, seed.wrapping_add(1)));
            bytes[0x400..0x400 + 144].copy_from_slice(&spl[..144]);
            bytes.resize(0x2c00, 0);
            bytes.extend(&spl[0x2c00 - 0x400..]);
            bytes.resize(bytes.len().next_multiple_of(0x400), 0);
            let uboot = container(0x400, &marked(0x5000, seed.wrapping_add(2), mark));
            bytes.extend(uboot);
            bytes.resize(bytes.len().next_multiple_of(0x400), 0);
            bytes
        }
    }
}

/// The same with signs of a signature, which is all that a closed board here looks for.
pub fn signed_flash_bin(model: Model, seed: u8) -> Vec<u8> {
    let mut bytes = flash_bin(model, seed);
    match model.rom() {
        RomKind::SdpIvt | RomKind::StreamIvt => {
            // A command sequence at 0x3000 of the loader, and the table's pointer to it.
            bytes[24..28].copy_from_slice(&(ivt_address(model) + 0x3000).to_le_bytes());
            bytes[0x3000] = 0xd4;
        }
        // "Signed by the maker of the board", in each container's flags.
        RomKind::StreamContainer | RomKind::LoaderContainer => {
            for container in [0, 0x400, UBOOT_CONTAINER] {
                bytes[container + 4] = 2;
            }
        }
    }
    bytes
}

/// `len` bytes that differ by seed: odd numbers below 0x80, so that no header is found in them by chance.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let at = |n: usize| u8::try_from((n / 7 + usize::from(seed) * 13) % 0x40).unwrap_or(0) * 2 + 1;
    (0..len).map(at).collect()
}

fn marked(len: usize, seed: u8, mark: &[u8]) -> Vec<u8> {
    let mut bytes = mark.to_vec();
    bytes.extend(pattern(len.saturating_sub(mark.len()), seed));
    bytes
}

/// A loader of `len` bytes in all that belongs at `address`, with a table and boot data at its beginning.
fn ivt(address: u32, len: u32, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0xd1, 0x00, 0x20, 0x41];
    for word in [address + 0x40, 0, 0, address + 0x20, address, 0, 0, address, len, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(0x40, 0);
    bytes.extend(pattern(usize::try_from(len).unwrap_or(0).saturating_sub(0x40), seed));
    bytes
}

/// A FIT with one image of `len` bytes behind its tree, as `mkimage -E` makes.
fn fit(len: u32, seed: u8, mark: &[u8]) -> Vec<u8> {
    let mut tree = Vec::new();
    let mut word = |words: &[u32]| words.iter().for_each(|word| tree.extend(word.to_be_bytes()));
    // The root node, in it one image with data-offset 0 (name at 0) and data-size (name at 12), the end.
    word(&[1, 0, 1, u32::from_be_bytes(*b"spl\0"), 3, 4, 0, 0, 3, 4, 12, len, 2, 2, 9]);
    let strings = b"data-offset\0data-size\0\0\0";
    let (tree_len, strings_len) = (60, 24);
    let total = 56 + tree_len + strings_len;
    let mut bytes = Vec::new();
    for word in [0xd00d_feed, total, 56, 56 + tree_len, 40, 17, 16, 0, strings_len, tree_len, 0, 0, 0, 0] {
        bytes.extend(u32::to_be_bytes(word));
    }
    bytes.extend(tree);
    bytes.extend(strings);
    bytes.extend(marked(usize::try_from(len).unwrap_or(0), seed, mark));
    bytes
}

/// A container of one image at `offset` from its beginning.
fn container(offset: usize, image: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 144, 0, 0x87, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let number = |n: usize| u32::try_from(n).unwrap_or(0).to_le_bytes();
    bytes.extend(number(offset));
    bytes.extend(number(image.len()));
    bytes.extend([0; 16]);
    bytes.extend([3, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(Sha256::digest(image));
    bytes.resize(offset, 0);
    bytes.extend(image);
    bytes
}
