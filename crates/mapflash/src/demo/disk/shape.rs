//! Where an image holds data, scaled down from a real one.

use super::BLOCK;

/// The mapped ranges of the root partition of a real image, first and last block, both included.
///
/// Origin: the block map of a Yocto image for an i.MX8 board, 14 088 667 136 bytes in 3 439 616 blocks of 4096, of
/// which 499 471 (14.5 %) are mapped. Blocks 0–2 hold its partition table, 8–452 the loader, 2048–12079 the boot
/// partition; what follows, from block 24576 on, is listed here.
#[rustfmt::skip]
const REAL_ROOT: &[(u64, u64)] = &[
    (24576, 24902), (24904, 24905), (24920, 26173), (40824, 57345),
    (57656, 122881), (123192, 188417), (188728, 253953), (254264, 319489),
    (319800, 509008), (548864, 548864), (548867, 548867), (660672, 660696),
    (661504, 661569), (661573, 661573), (661577, 661578), (662593, 662596),
    (663552, 663553), (667648, 667649), (671744, 671745), (675840, 675841),
    (679936, 679937), (694272, 694272), (696320, 698368), (712704, 712705),
    (716800, 716801), (727040, 727040), (759808, 759808), (759811, 759811),
    (761856, 761857), (789488, 789503), (790527, 791555), (791571, 791571),
    (791587, 791587), (807971, 807976), (823296, 823298), (888832, 888834),
    (954368, 954370), (1019904, 1019906), (1085440, 1085442), (1314816, 1314816),
    (1609728, 1609730), (1675264, 1675266), (1839104, 1839105), (1871872, 1888255),
    (2363392, 2363392), (2396160, 2396162), (2887680, 2887680), (2887695, 2887695),
    (3411952, 3411967), (3414000, 3414000), (3414016, 3414080), (3414082, 3414084),
    (3414087, 3414087), (3414886, 3414890), (3416064, 3416064), (3420160, 3420160),
    (3424256, 3424256), (3426304, 3427328), (3428352, 3428352), (3432448, 3432448),
    (3439600, 3439615),
];

/// First block of the real image's root partition, and the block after its last one.
const REAL_ROOT_SPAN: (u64, u64) = (24_576, 3_439_616);

/// A real range this long or longer is packed with files, a shorter one is metadata or a directory.
const REAL_DENSE: u64 = 2048;

/// First block of the real image's journal.
const REAL_JOURNAL: u64 = 1_871_872;

/// How large an image is and how it is divided. All numbers are blocks of 4096 bytes unless named otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The whole image.
    pub(crate) blocks: u32,
    /// The loader, from block 8 on.
    pub(crate) loader_blocks: u32,
    /// Where the boot partition begins.
    pub(crate) boot_start: u32,
    /// The boot partition, with what it leaves empty.
    pub(crate) boot_blocks: u32,
    /// The kernel in the boot partition, in bytes.
    pub(crate) kernel_bytes: u32,
    /// A block group of the root filesystem.
    pub(crate) blocks_per_group: u32,
}

impl Shape {
    /// 512 MiB, about 14.5 % mapped: the real image in a twenty-sixth of its size, the loader in its own.
    pub(crate) const DEMO: Self = Self {
        blocks: 131_072,
        loader_blocks: 445,
        boot_start: 2048,
        boot_blocks: 8192,
        kernel_bytes: 3_616_768,
        blocks_per_group: 16_384,
    };

    /// 64 MiB, for boards, and for tests that write it a hundred times.
    pub(crate) const SMALL: Self = Self {
        blocks: 16_384,
        loader_blocks: 96,
        boot_start: 2048,
        boot_blocks: 2048,
        kernel_bytes: 1_204_224,
        blocks_per_group: 4096,
    };

    /// Length of the image in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.blocks) * u64::from(BLOCK)
    }

    /// Where the root partition begins: right behind the boot partition.
    pub(crate) fn root_start(&self) -> u32 {
        self.boot_start + self.boot_blocks
    }

    /// Blocks of the root partition. Behind it lie 1 MiB that hold the second partition table.
    pub(crate) fn root_blocks(&self) -> u32 {
        self.blocks - self.root_start() - 256
    }

    /// Where files may lie in the root partition, counted from its start: ascending runs of (first, count).
    pub(super) fn dense(&self) -> Vec<(u32, u32)> {
        self.scaled(|first, len| len >= REAL_DENSE && first != REAL_JOURNAL)
    }

    /// Where single blocks lie, far from each other: directories, on a real filesystem.
    pub(super) fn scattered(&self) -> Vec<(u32, u32)> {
        self.scaled(|_, len| len < REAL_DENSE)
    }

    /// Where the journal begins.
    pub(super) fn journal_start(&self) -> u32 {
        self.scaled(|first, _| first == REAL_JOURNAL).first().map_or(0, |&(first, _)| first)
    }

    fn scaled(&self, wanted: impl Fn(u64, u64) -> bool) -> Vec<(u32, u32)> {
        let (start, end) = REAL_ROOT_SPAN;
        let scale = |blocks: u64| blocks * u64::from(self.root_blocks()) / (end - start);
        REAL_ROOT
            .iter()
            .map(|&(first, last)| (first, last - first + 1))
            .filter(|&(first, len)| wanted(first, len))
            .filter_map(|(first, len)| {
                let (at, count) = (scale(first - start), scale(len).max(1));
                Some((u32::try_from(at).ok()?, u32::try_from(count).ok()?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_its_origin_describes() {
        let mapped: u64 = REAL_ROOT.iter().map(|(first, last)| last - first + 1).sum();
        // The head, loader and boot partition, which the table leaves out, hold the rest.
        assert_eq!(mapped + 3 + 445 + 10_032, 499_471);
        assert!(REAL_ROOT.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert_eq!(REAL_ROOT.first().unwrap().0, REAL_ROOT_SPAN.0);
        assert_eq!(REAL_ROOT.last().unwrap().1 + 1, REAL_ROOT_SPAN.1);
    }
}
