//! Images, and what must be on a card that holds one.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, Hasher, MappedRange};
use flasher::Cancel;
use flasher::board::{Form, PackJob, make_pack, pack};
use image::Image;
use virtual_imx::board::Board;
use virtual_imx::emmc::Area;
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::{flash_bin, pattern};

use super::{KIB, MIB, OLD, Random, board_of, narrow, old};

/// The size of [`Scene::large`].
pub(crate) const LARGE: u64 = 40 * MIB - 100;
const _: () = assert!((LARGE - 20_380).is_multiple_of(4096));

/// An image, as a sparse file and in memory, and where it has data.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mapped: Vec<(u64, u64)>,
    pub(crate) model: Model,
    pub(crate) seed: u8,
    block: u32,
}

impl Scene {
    /// An image of 5 MiB less some bytes, with a loader in it: text, bytes that do not pack, one word over and over.
    pub(crate) fn new(model: Model, seed: u8) -> Self {
        let size = 5 * MIB - 100;
        let data = [(0, 8192), (MIB, 3 * MIB), (3 * MIB + 16 * KIB, 3 * MIB + 20 * KIB), (4 * MIB, size)];
        Self::of(model, seed, size, 4096, &data)
    }

    /// One with next to nothing behind the head.
    pub(crate) fn tiny(model: Model, seed: u8) -> Self {
        let size = MIB + 64 * KIB;
        Self::of(model, seed, size, 4096, &[(0, 8192), (MIB, size)])
    }

    /// One of 40 MiB less some bytes, as most images are made: table, gap, loader, and places behind.
    pub(crate) fn large(model: Model, seed: u8) -> Self {
        let data = [
            (0, 8192),
            (16 * KIB, 20 * KIB),
            (MIB, 7 * MIB),
            (9 * MIB, 9 * MIB + 4096),
            (16 * MIB, 30 * MIB),
            // It begins at a block.
            (LARGE - 20_380, LARGE),
        ];
        let mut bytes = vec![0; narrow(LARGE)];
        for (n, (start, end)) in (0_u8..).zip(data) {
            bytes[narrow(start)..narrow(end)].copy_from_slice(&pattern(narrow(end - start), seed.wrapping_add(n)));
        }
        // One word over and over, and bytes that do not pack.
        bytes[2 << 20..3 << 20].fill(0x5a);
        let mut random = Random::new(u64::from(seed));
        bytes[20 << 20..25 << 20].iter_mut().for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap());
        Self::with(model, seed, bytes, 4096, &data)
    }

    /// One with data in these places, and in that of the loader if it is long enough.
    pub(crate) fn of(model: Model, seed: u8, size: u64, block: u32, data: &[(u64, u64)]) -> Self {
        let mut bytes = vec![0; narrow(size)];
        let mut random = Random::new(u64::from(seed));
        for (n, (start, end)) in data.iter().enumerate() {
            let n = u8::try_from(n % 50).unwrap();
            let place = &mut bytes[narrow(*start)..narrow(*end)];
            place.copy_from_slice(&pattern(place.len(), seed.wrapping_add(n)));
            let (third, len) = (place.len() / 3, place.len());
            place[third..len - third].iter_mut().for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap());
            if len > narrow(512 * KIB) {
                place[len - third..len - narrow(96 * KIB)].fill(0x5a);
            }
        }
        Self::with(model, seed, bytes, block, data)
    }

    /// One with these bytes and the loader, where there is room for it.
    fn with(model: Model, seed: u8, mut bytes: Vec<u8>, block: u32, data: &[(u64, u64)]) -> Self {
        let size = u64::try_from(bytes.len()).unwrap();
        let mut mapped = data.to_vec();
        let (at, flash) = (model.loader_offset(false), flash_bin(model, seed));
        let end = (at + u64::try_from(flash.len()).unwrap()).next_multiple_of(4096);
        if end <= MIB.min(size) && data.iter().all(|range| range.1 <= at / 4096 * 4096 || range.0 >= end) {
            bytes[narrow(at)..narrow(at) + flash.len()].copy_from_slice(&flash);
            mapped.push((at / 4096 * 4096, end));
            mapped.sort_unstable();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.wic");
        let scene = Self { folder, path, bytes, mapped, model, seed, block };
        scene.save();
        scene
    }

    /// Board `n`, with room for the largest of these images.
    pub(crate) fn board(&self, n: u8) -> Board {
        board_of(self.model, n, Tree::Nxp, 64 * MIB)
    }

    /// Writes the image's file anew, with its holes.
    pub(crate) fn save(&self) {
        let file = File::create(&self.path).unwrap();
        file.set_len(u64::try_from(self.bytes.len()).unwrap()).unwrap();
        for (start, end) in &self.mapped {
            file.write_all_at(&self.bytes[narrow(*start)..narrow(*end)], *start).unwrap();
        }
    }

    pub(crate) fn map(&self) -> BlockMap {
        let block = u64::from(self.block);
        let range = |(start, end): &(u64, u64)| {
            let part = &self.bytes[narrow(*start)..narrow(*end)];
            let digest = Some(Hasher::digest(Algorithm::Sha256, part));
            MappedRange { blocks: BlockRange::new(start / block, end.div_ceil(block) - 1).unwrap(), digest }
        };
        let size = u64::try_from(self.bytes.len()).unwrap();
        BlockMap::new(size, BlockSize::new(self.block).unwrap(), self.mapped.iter().map(range).collect()).unwrap()
    }

    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.mapped.iter().map(|(start, end)| end - start).sum()
    }

    /// Does the card hold the image wherever it has data?
    pub(crate) fn is_on(&self, board: &Board) -> bool {
        board.emmc(|card| {
            self.mapped.iter().all(|(start, end)| {
                let held = card.peek(Area::User, *start, narrow(end - start)).unwrap();
                held == self.bytes[narrow(*start)..narrow(*end)]
            })
        })
    }

    /// The card holds the image wherever it has data, and behind the head its old bytes elsewhere.
    #[track_caller]
    pub(crate) fn assert_on(&self, board: &Board) {
        let card = board.emmc(|card| card.peek(Area::User, 0, self.bytes.len()).unwrap());
        for (start, end) in &self.mapped {
            let range = narrow(*start)..narrow(*end);
            assert!(card[range.clone()] == self.bytes[range], "{start}..{end}");
        }
        for (hole, end) in self.mapped.windows(2).map(|pair| (pair[0].1, pair[1].0)).filter(|hole| hole.0 > MIB) {
            assert!(card[narrow(hole)..narrow(end)] == old(hole, end - hole), "the hole at {hole} is left alone");
        }
    }

    /// What would boot must be the old system's loader, whole, or the new one's with all of the image behind it.
    pub(crate) fn assert_no_mix(&self, board: &Board, what: &str) {
        let Ok(loader) = board.bootable() else { return };
        let whole = |seed| loader.bytes[..] == flash_bin(self.model, seed)[..loader.bytes.len()];
        if !whole(OLD) {
            assert!(whole(self.seed), "{what}: half a loader would boot");
            assert!(self.is_on(board), "{what}: the new loader would boot without all of its image");
        }
    }

    /// Packs the image into a file of another format.
    pub(crate) fn packed(&self, extension: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(format!("disk.wic.{extension}"));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn gzip(&self) -> Vec<u8> {
        pack(Form::Gzip, &self.bytes).unwrap()
    }

    /// The image's pack, beside it.
    pub(crate) fn pack(&self, map: Option<&BlockMap>) -> PathBuf {
        let path = self.path.with_extension("mfpack");
        make_pack(PackJob {
            image: Image::open(&self.path, &image::Options::default()).unwrap(),
            map,
            level: 9,
            piece_len: MIB,
            threads: NonZeroUsize::MIN,
            check_digests: true,
            out: &File::create(&path).unwrap(),
            observer: &(),
            cancel: &Cancel::new(),
        })
        .unwrap();
        path
    }
}
