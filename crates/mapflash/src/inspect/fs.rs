//! Filesystems, as far as a block map must cover them.
//!
//! Every block that a filesystem reads without having written it since it was made must be in the map, or hold zeros
//! by other means: where a target keeps old bytes there, allocation bitmaps and FATs come out wrong. This reads just
//! enough of ext2/3/4 and FAT to list those blocks. Anything else is not recognised, which is not an error.

use std::io;

use bmap::ByteRange;

/// Reads bytes of the image: fills the buffer from the offset or fails.
pub(crate) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// The most block groups whose bitmaps are looked up, 16384: 2 TiB of ext4 with its usual groups.
const MAX_GROUPS: u64 = 1 << 14;

/// A filesystem that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filesystem {
    /// Its name: `ext4`, `FAT32`.
    pub(crate) name: &'static str,
    /// Its label, if it has one. Text from the image: escape it before printing.
    pub(crate) label: String,
    /// Its size in bytes by its own account.
    pub(crate) size: u64,
    /// What a map must cover, in bytes of the image, with what it is.
    pub(crate) metadata: Vec<(&'static str, ByteRange)>,
}

/// Looks at what lies in `extent` of the image; `None` when it is nothing known or makes no sense.
///
/// # Errors
/// When the image cannot be read there.
pub(crate) fn look(extent: ByteRange, read: &mut ReadAt<'_>) -> io::Result<Option<Filesystem>> {
    let mut start = vec![0; 4096];
    let Ok(len) = usize::try_from(extent.len().min(4096)) else { return Ok(None) };
    start.truncate(len);
    read(extent.start(), &mut start)?;
    if let Some(ext) = Ext::parse(&start) {
        return ext.look(extent, read).map(Some);
    }
    Ok(fat(&start, extent))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 2)?.try_into().ok().map(|bytes| u64::from(u16::from_le_bytes(bytes)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 4)?.try_into().ok().map(|bytes| u64::from(u32::from_le_bytes(bytes)))
}

fn text(bytes: Option<&[u8]>) -> String {
    let bytes = bytes.unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).trim_end().to_owned()
}

/// What we need of an ext superblock, which lies 1024 bytes into the filesystem (kernel documentation, "ext4: Super
/// Block"): 4 blocks, 18 log2 of block size / 1024, 20 first data block, 32 blocks per group, 56 magic EF53, 92/96/100
/// features, 120 label, 254 descriptor size, 336 high half of blocks.
#[derive(Debug)]
struct Ext {
    name: &'static str,
    label: String,
    block: u64,
    blocks: u64,
    first: u64,
    per_group: u64,
    descriptor: u64,
    meta_bg: bool,
    checksummed: bool,
}

impl Ext {
    fn parse(start: &[u8]) -> Option<Self> {
        let sb = start.get(1024..2048)?;
        if u16_at(sb, 56)? != 0xef53 {
            return None;
        }
        let log = u32_at(sb, 24)?;
        let (compat, incompat, ro) = (u32_at(sb, 92)?, u32_at(sb, 96)?, u32_at(sb, 100)?);
        let wide = incompat & 0x80 != 0;
        let high = if wide { u32_at(sb, 336)? } else { 0 };
        let ext = Self {
            // Extents or 64 bits make it ext4, a journal ext3.
            name: if incompat & 0xc0 != 0 {
                "ext4"
            } else if compat & 4 != 0 {
                "ext3"
            } else {
                "ext2"
            },
            label: text(sb.get(120..136)),
            block: if log <= 6 { 1024 << log } else { return None },
            blocks: high << 32 | u32_at(sb, 4)?,
            first: u32_at(sb, 20)?,
            per_group: u32_at(sb, 32)?,
            descriptor: if wide { u16_at(sb, 254)?.max(32) } else { 32 },
            meta_bg: incompat & 0x10 != 0,
            // uninit_bg or metadata_csum: only then do the "not initialised" flags of groups count.
            checksummed: ro & 0x410 != 0,
        };
        let sane = ext.per_group > 0 && ext.first < ext.blocks && ext.descriptor <= 1024;
        sane.then_some(ext)
    }

    fn look(self, extent: ByteRange, read: &mut ReadAt<'_>) -> io::Result<Filesystem> {
        let size = self.blocks.saturating_mul(self.block);
        let mut metadata = Vec::new();
        let mut add = |what, from: u64, len: u64| {
            let place = extent.start().checked_add(from).and_then(|start| ByteRange::at(start, len));
            metadata.extend(place.and_then(|place| place.intersect(extent)).map(|place| (what, place)));
        };
        add("superblock", 1024, 1024);
        let groups = (self.blocks - self.first).div_ceil(self.per_group);
        if groups <= MAX_GROUPS && !self.meta_bg {
            // The descriptors follow the superblock's block: at most 16 MiB of them, 1024 bytes for each group.
            let at = (self.first + 1) * self.block;
            let len = groups * self.descriptor;
            add("group descriptors", at, len);
            let mut table = vec![0; usize::try_from(len).unwrap_or(0)];
            let place = extent.start().checked_add(at).and_then(|start| ByteRange::at(start, len));
            if let Some(place) = place.filter(|place| extent.contains(*place)) {
                read(place.start(), &mut table)?;
                let step = usize::try_from(self.descriptor).unwrap_or(32);
                for group in table.chunks_exact(step) {
                    for (what, block) in self.bitmaps(group) {
                        if let Some(from) = block.checked_mul(self.block) {
                            add(what, from, self.block);
                        }
                    }
                }
            }
        }
        Ok(Filesystem { name: self.name, label: self.label, size, metadata })
    }

    /// Bitmaps of a group that are on disk: 0 block bitmap, 4 inode bitmap, 18 flags, 32 and 36 their high halves.
    fn bitmaps(&self, group: &[u8]) -> Vec<(&'static str, u64)> {
        let flags = if self.checksummed { u16_at(group, 18).unwrap_or(0) } else { 0 };
        let block = |low: usize, high: usize| {
            let high = if self.descriptor >= 64 { u32_at(group, high)? } else { 0 };
            Some(high << 32 | u32_at(group, low)?)
        };
        let mut found = Vec::new();
        if flags & 2 == 0 {
            found.extend(block(0, 32).map(|block| ("block bitmaps", block)));
        }
        if flags & 1 == 0 {
            found.extend(block(4, 36).map(|block| ("inode bitmaps", block)));
        }
        found
    }
}

/// FAT by its boot sector (Microsoft, "FAT32 File System Specification"): 11 bytes per sector, 13 sectors per cluster,
/// 14 reserved sectors, 16 number of FATs, 17 root entries, 19 and 32 sectors in all, 22 and 36 sectors per FAT.
fn fat(start: &[u8], extent: ByteRange) -> Option<Filesystem> {
    let jump = matches!(start, [0xeb, _, 0x90, ..] | [0xe9, ..]);
    if !jump || start.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let (sector, cluster) = (u16_at(start, 11)?, u64::from(*start.get(13)?));
    let (reserved, fats) = (u16_at(start, 14)?, u64::from(*start.get(16)?));
    let root_entries = u16_at(start, 17)?;
    let sectors = Some(u16_at(start, 19)?).filter(|count| *count > 0).or(u32_at(start, 32))?;
    let small = u16_at(start, 22)?;
    let per_fat = if small > 0 { small } else { u32_at(start, 36)? };
    let sane = matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && reserved > 0
        && matches!(fats, 1 | 2)
        && per_fat > 0
        && sectors > reserved;
    if !sane {
        return None;
    }
    let root = (root_entries * 32).div_ceil(sector);
    let data = reserved + fats * per_fat + root;
    let clusters = sectors.checked_sub(data)? / cluster;
    // The number of clusters decides, as the specification insists.
    let name = match clusters {
        0..4085 => "FAT12",
        4085..65525 => "FAT16",
        _ => "FAT32",
    };
    let label = text(start.get(if small > 0 { 43..54 } else { 71..82 }));
    let mut metadata = Vec::new();
    let mut add = |what, from: u64, count: u64| {
        let place = extent.start().checked_add(from * sector).and_then(|start| ByteRange::at(start, count * sector));
        metadata.extend(place.and_then(|place| place.intersect(extent)).map(|place| (what, place)));
    };
    add("boot sector", 0, 1);
    add("file allocation tables", reserved, fats * per_fat);
    if root > 0 {
        add("root directory", reserved + fats * per_fat, root);
    } else if let Some(first) = u32_at(start, 44).and_then(|first| first.checked_sub(2)) {
        add("root directory", data + first * cluster, cluster);
    }
    let label = if label == "NO NAME" { String::new() } else { label };
    Some(Filesystem { name, label, size: sectors * sector, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::process::Command;

    fn read(file: &File) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> + '_ {
        |at, into| file.read_exact_at(into, at)
    }

    /// Makes a filesystem with a tool of the system; `None` aloud where it is not installed.
    fn made(size: u64, program: &str, args: &[&str]) -> Option<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        match Command::new(program).args(args).arg(file.path()).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("skipped: {program} is not installed");
                None
            }
            output => {
                assert!(output.unwrap().status.success());
                Some(file)
            }
        }
    }

    #[test]
    fn ext4_lists_what_mkfs_wrote() {
        let Some(file) = made(200 << 20, "mkfs.ext4", &["-q", "-L", "rootfs", "-b", "4096"]) else { return };
        let whole = ByteRange::first(200 << 20);
        let found = look(whole, &mut read(file.as_file())).unwrap().unwrap();
        assert_eq!((found.name, found.label.as_str(), found.size), ("ext4", "rootfs", 200 << 20));
        let of = |what| found.metadata.iter().filter(move |(name, _)| *name == what).map(|(_, place)| *place);
        assert_eq!(of("superblock").next(), ByteRange::at(1024, 1024));
        // Two groups of 128 MiB; each block bitmap that is listed has its first bits set, being where metadata lies.
        let bitmaps: Vec<ByteRange> = of("block bitmaps").collect();
        assert!(!bitmaps.is_empty() && bitmaps.len() <= 2);
        for place in bitmaps {
            let mut byte = [0];
            file.as_file().read_exact_at(&mut byte, place.start()).unwrap();
            assert_ne!(byte, [0], "{place}");
        }
    }

    #[test]
    fn fat_lists_its_tables() {
        for (args, name, size) in [
            (&["-F", "32", "-n", "BOOT"][..], "FAT32", 100_u64 << 20),
            (&["-F", "16", "-n", "BOOT"], "FAT16", 20 << 20),
        ] {
            let Some(file) = made(size, "mkfs.vfat", args) else { return };
            let found = look(ByteRange::first(size), &mut read(file.as_file())).unwrap().unwrap();
            assert_eq!((found.name, found.label.as_str(), found.size), (name, "BOOT", size));
            let names: Vec<&str> = found.metadata.iter().map(|(what, _)| *what).collect();
            assert_eq!(names, ["boot sector", "file allocation tables", "root directory"]);
            // A FAT begins with the media byte F8.
            let mut byte = [0];
            file.as_file().read_exact_at(&mut byte, found.metadata[1].1.start()).unwrap();
            assert_eq!(byte, [0xf8]);
        }
    }

    #[test]
    fn anything_else_is_nothing() {
        let mut nothing = |_: u64, into: &mut [u8]| {
            into.fill(0);
            Ok(())
        };
        assert_eq!(look(ByteRange::first(1 << 20), &mut nothing).unwrap(), None);
        assert_eq!(look(ByteRange::first(100), &mut nothing).unwrap(), None);
        assert_eq!(look(ByteRange::first(0), &mut nothing).unwrap(), None);
        let mut failing = |_: u64, _: &mut [u8]| Err(io::ErrorKind::UnexpectedEof.into());
        assert!(look(ByteRange::first(4096), &mut failing).is_err());
    }

    #[test]
    fn bytes_at_random_never_panic() {
        // Knuth's linear congruential generator: the same bytes on every run.
        let mut state = 7_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        for round in 0..3000 {
            let mut noise: Vec<u8> = (0..4096).map(|_| next()).collect();
            if round % 2 == 0 {
                noise[1080..1082].copy_from_slice(&[0x53, 0xef]);
                noise[1048] %= 8;
                noise[1049..1052].fill(0);
            } else {
                noise[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
                noise[510..512].copy_from_slice(&[0x55, 0xaa]);
                let cluster = 1 << (noise[13] % 8);
                noise[11..17].copy_from_slice(&[0, 2, cluster, 1, 0, 2]);
            }
            let start = u64::from(next()) << 40;
            let mut read = |_: u64, into: &mut [u8]| {
                for (to, from) in into.iter_mut().zip(noise.iter().cycle()) {
                    *to = *from;
                }
                Ok(())
            };
            let _ = look(ByteRange::at(start, 1 << 40).unwrap(), &mut read);
        }
    }
}
