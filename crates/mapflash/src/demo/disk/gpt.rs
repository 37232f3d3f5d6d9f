//! A GUID partition table with its protective MBR and its second copy at the image's end (UEFI specification 2.10,
//! chapter 5).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::content::Content;
use super::{BLOCK, SECTOR, Store as _};

/// Sectors in a block.
const PER_BLOCK: u64 = 8;
/// Room for 128 entries of 128 bytes.
const ENTRIES_LEN: usize = 128 * 128;
/// Sectors those take.
const ENTRIES_SECTORS: u64 = 32;

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    kind: [u8; 16],
    uuid: [u8; 16],
    first: u64,
    last: u64,
    name: &'static str,
}

impl Partition {
    /// The boot partition: basic data, EBD0A0A2-B9E5-4433-87C0-68B6B72699C7.
    pub(super) fn boot(start: u32, blocks: u32, content: &mut Content) -> Self {
        let kind = [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];
        Self::new(kind, start, blocks, "boot", content)
    }

    /// The root partition: Linux filesystem data, 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
    pub(super) fn root(start: u32, blocks: u32, content: &mut Content) -> Self {
        let kind = [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
        Self::new(kind, start, blocks, "root", content)
    }

    fn new(kind: [u8; 16], start: u32, blocks: u32, name: &'static str, content: &mut Content) -> Self {
        let first = u64::from(start) * PER_BLOCK;
        Self { kind, uuid: content.uuid(), first, last: first + u64::from(blocks) * PER_BLOCK - 1, name }
    }
}

/// Writes the table at the start of an image of `bytes` bytes and its copy at the end.
pub(super) fn write(file: &File, bytes: u64, partitions: &[Partition], content: &mut Content) -> io::Result<()> {
    let last = bytes / u64::from(SECTOR) - 1;
    let mut entries = vec![0; ENTRIES_LEN];
    for (entry, partition) in entries.chunks_exact_mut(128).zip(partitions) {
        entry.bytes(0, &partition.kind);
        entry.bytes(16, &partition.uuid);
        entry.u64(32, partition.first);
        entry.u64(40, partition.last);
        for (at, unit) in (56..).step_by(2).zip(partition.name.encode_utf16()) {
            entry.u16(at, unit);
        }
    }
    let disk = content.uuid();
    let header = |own: u64, other: u64, entries_at: u64| {
        let mut header = vec![0; 512];
        header.bytes(0, b"EFI PART");
        header.u32(8, 0x0001_0000);
        header.u32(12, 92);
        header.u64(24, own);
        header.u64(32, other);
        header.u64(40, 2 + ENTRIES_SECTORS);
        header.u64(48, last - ENTRIES_SECTORS - 1);
        header.bytes(56, &disk);
        header.u64(72, entries_at);
        header.u32(80, 128);
        header.u32(84, 128);
        header.u32(88, crc32(&entries));
        let crc = crc32(&header[..92]);
        header.u32(16, crc);
        header
    };

    // All of it is written, empty entries too: their checksum covers them, so they must not be left to old data.
    let mut head = mbr(last);
    head.extend(header(1, last, 2));
    head.extend(&entries);
    head.resize(head.len().next_multiple_of(usize::try_from(BLOCK).unwrap_or(1)), 0);
    file.write_all_at(&head, 0)?;

    let mut tail = entries.clone();
    tail.extend(header(last, 1, last - ENTRIES_SECTORS));
    file.write_all_at(&tail, (last - ENTRIES_SECTORS) * u64::from(SECTOR))
}

/// One entry of type EE over the whole disk, so that old tools see no free space.
fn mbr(last: u64) -> Vec<u8> {
    let mut mbr = vec![0; 512];
    mbr.bytes(446, &[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    mbr.u32(454, 1);
    mbr.u32(458, u32::try_from(last).unwrap_or(u32::MAX));
    mbr.bytes(510, &[0x55, 0xaa]);
    mbr
}

/// CRC-32 as Ethernet and GPT use it (reflected polynomial EDB88320). A bit at a time: 16 KiB need no table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::crc32;

    /// The check value of the CRC catalogue (CRC-32/ISO-HDLC).
    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
