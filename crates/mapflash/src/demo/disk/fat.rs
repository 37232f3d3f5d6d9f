//! A FAT16 filesystem with a kernel and a device tree (Microsoft, "FAT: General Overview of On-Disk Format", 1.03).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::content::{Content, Kind};
use super::{BLOCK, SECTOR, Store as _, index, write_at};

/// Entries in the root directory, 32 bytes each: 16 KiB.
const ROOT_ENTRIES: u16 = 512;
/// Sectors before the first FAT; one block, so that all that follows begins on a block.
const RESERVED: u16 = 8;
/// Where the file dates begin: 1 January 2024, in the format of FAT.
const DATE: u16 = ((2024 - 1980) << 9) | (1 << 5) | 1;

/// Writes a filesystem of `blocks` blocks at block `start`.
pub(super) fn write(file: &File, start: u32, blocks: u32, kernel_bytes: u32, content: &mut Content) -> io::Result<()> {
    let sectors = blocks * (BLOCK / SECTOR);
    // About 8192 clusters: FAT16 has between 4085 and 65524.
    let per_cluster = (sectors / 8192).max(1).next_power_of_two().min(64);
    // A whole number of blocks, for the two tables to begin on one.
    let fat_sectors = ((sectors / per_cluster + 2) * 2).div_ceil(SECTOR).next_multiple_of(BLOCK / SECTOR);

    let mut boot = vec![0; index(BLOCK)];
    boot.bytes(0, &[0xeb, 0x3c, 0x90]);
    boot.bytes(3, b"MAPFLASH");
    boot.u16(11, 512);
    boot[13] = u8::try_from(per_cluster).unwrap_or(1);
    boot.u16(14, RESERVED);
    boot[16] = 2;
    boot.u16(17, ROOT_ENTRIES);
    boot.u16(19, u16::try_from(sectors).unwrap_or(0));
    boot[21] = 0xf8;
    boot.u16(22, u16::try_from(fat_sectors).unwrap_or(0));
    boot.u16(24, 32);
    boot.u16(26, 64);
    boot.u32(28, start * (BLOCK / SECTOR));
    boot.u32(32, if u16::try_from(sectors).is_ok() { 0 } else { sectors });
    boot[36] = 0x80;
    boot[38] = 0x29;
    boot.u32(39, content.below(u32::MAX));
    boot.bytes(43, b"BOOT       FAT16   ");
    boot.bytes(510, &[0x55, 0xaa]);
    write_at(file, start, &boot)?;

    let fat_blocks = fat_sectors / (BLOCK / SECTOR);
    let root_block = start + 1 + 2 * fat_blocks;
    let data_block = root_block + u32::from(ROOT_ENTRIES) * 32 / BLOCK;
    let cluster = per_cluster * SECTOR;

    let mut fat = vec![0; index(fat_blocks * BLOCK)];
    fat.u16(0, 0xfff8);
    fat.u16(2, 0xffff);
    let mut root = vec![0; usize::from(ROOT_ENTRIES) * 32];
    root.bytes(0, b"BOOT       ");
    root[11] = 0x08;
    root.u16(24, DATE);

    let files: [(&[u8; 11], Kind, u32); 4] = [
        (b"IMAGE      ", Kind::Code, kernel_bytes),
        (b"IMX8MM  DTB", Kind::Text, 47_213),
        (b"IMX8MM-2DTB", Kind::Text, 49_871),
        (b"BOOT    SCR", Kind::Text, 1_907),
    ];
    let mut next = 2;
    for ((name, kind, bytes), entry) in files.into_iter().zip(root.chunks_exact_mut(32).skip(1)) {
        let clusters = bytes.div_ceil(cluster);
        entry.bytes(0, name);
        entry[11] = 0x20;
        entry.u16(18, DATE);
        entry.u16(24, DATE);
        entry.u16(26, u16::try_from(next).unwrap_or(0));
        entry.u32(28, bytes);
        for number in next..next + clusters {
            let link = if number + 1 == next + clusters { 0xffff } else { u16::try_from(number + 1).unwrap_or(0) };
            fat.u16(index(number) * 2, link);
        }
        let mut data = vec![0; index(bytes)];
        content.fill(kind, &mut data);
        if kind == Kind::Code {
            // The header of a kernel image for arm64: its size and the magic "ARM\x64" (Documentation/arch/arm64/booting).
            data.u64(16, u64::from(bytes));
            data.bytes(56, b"ARM\x64");
        }
        // Clusters may be smaller than a block; the write still begins where the cluster does.
        let at = u64::from(data_block) * u64::from(BLOCK) + u64::from(next - 2) * u64::from(cluster);
        file.write_all_at(&data, at)?;
        next += clusters;
    }
    write_at(file, start + 1, &fat)?;
    write_at(file, start + 1 + fat_blocks, &fat)?;
    write_at(file, root_block, &root)
}
