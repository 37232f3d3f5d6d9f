//! The image: the shape of a real i.MX8 disk image, scaled down, filled with real files.
//!
//! Places and lengths come from `data/wic-13g.ranges`. What lies in front of the first partition stays at its place.
//! Files are taken in a fixed order that mixes them (by the SHA-256 of their paths) and begin at blocks, as in a
//! filesystem; small ones that lie in directories of their own kind would make runs of one ratio.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, Hasher, MappedRange};
use flasher::Cancel;
use flasher::board::{Form, PackJob, lz4_frame, make_pack, pack};
use flasher::plan::Plan;
use image::Image;

use crate::{Problem, float};

const RANGES: &str = include_str!("../../data/wic-13g.ranges");
/// Length of the real image.
pub(crate) const IMAGE_BYTES: u64 = 14_088_667_136;
const BLOCK: u64 = 4096;
/// Where the first partition begins, in blocks.
const FRONT: u64 = 2048;
const MIB: u64 = 1 << 20;

/// The files that a folder holds once the image is made.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) image: PathBuf,
    pub(crate) map: PathBuf,
    pub(crate) pack: PathBuf,
}

impl Files {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let name = |name| folder.join(name);
        Self { image: name("boards.wic"), map: name("boards.wic.bmap"), pack: name("boards.pack") }
    }
}

/// First block and number of blocks of each mapped range, scaled.
fn ranges(scale: u64) -> Vec<(u64, u64)> {
    let lines = RANGES.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?))
    });
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (first, last) in numbers {
        let blocks = (last - first + 1).div_ceil(scale);
        let place = if first < FRONT { first } else { FRONT + (first - FRONT) / scale };
        let end = ranges.last().map_or(0, |(first, blocks)| first + blocks);
        match ranges.last_mut() {
            Some((_, before)) if place <= end => *before += blocks,
            _ => ranges.push((place, blocks)),
        }
    }
    ranges
}

/// All files below a folder, in an order that mixes them.
fn files(tree: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut folders = vec![tree.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let order = Hasher::digest(Algorithm::Sha256, path.as_os_str().as_encoded_bytes());
                found.push((order.as_bytes().to_vec(), path));
            }
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Bytes of files one after the other, each begun at a block.
struct Content {
    files: std::vec::IntoIter<PathBuf>,
    rest: Vec<u8>,
}

impl Content {
    fn fill(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<(), Problem> {
        while out.len() < bytes {
            if self.rest.is_empty() {
                let path = self.files.next().ok_or("the tree has too few files for an image of this size")?;
                // What cannot be read is not missed.
                let Ok(file) = File::open(&path) else { continue };
                if file.take(64 * MIB).read_to_end(&mut self.rest).is_err() {
                    self.rest.clear();
                }
                let whole = self.rest.len().next_multiple_of(usize::try_from(BLOCK)?);
                self.rest.resize(whole, 0);
            }
            let n = self.rest.len().min(bytes - out.len());
            out.extend(self.rest.drain(..n));
        }
        Ok(())
    }
}

/// An MBR with one partition, from the 8th mebibyte to the end.
fn partition_table(image_bytes: u64) -> Result<[u8; 512], Problem> {
    let mut table = [0; 512];
    let first = u32::try_from(FRONT * BLOCK / 512)?;
    let sectors = u32::try_from(image_bytes / 512 - u64::from(first))?;
    table[450] = 0x83;
    table[454..458].copy_from_slice(&first.to_le_bytes());
    table[458..462].copy_from_slice(&sectors.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(table)
}

/// How well the content packs, in sum.
#[derive(Debug, Default)]
struct Ratios {
    plain: u64,
    lz4: u64,
    lz4_high: u64,
    gzip: u64,
}

impl Ratios {
    fn count(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let len = |bytes: Vec<u8>| u64::try_from(bytes.len());
        self.plain += u64::try_from(bytes.len())?;
        self.lz4 += len(lz4_frame(bytes, 1)?)?;
        self.lz4_high += len(lz4_frame(bytes, 9)?)?;
        self.gzip += len(pack(Form::Gzip, bytes)?)?;
        Ok(())
    }
}

/// Makes the image, its map and its pack file.
pub(crate) fn make(folder: &Path, scale: u64, tree: &Path) -> Result<(), Problem> {
    let scale = scale.max(1);
    fs::create_dir_all(folder)?;
    let names = Files::in_folder(folder);
    let ranges = ranges(scale);
    let end = ranges.last().map_or(0, |(first, blocks)| (first + blocks) * BLOCK);
    let image_bytes = (IMAGE_BYTES / scale).max(end).next_multiple_of(MIB);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&names.image)?;
    file.set_len(image_bytes)?;
    let mut content = Content { files: files(tree)?.into_iter(), rest: Vec::new() };
    let (mut mapped, mut ratios, mut piece) = (Vec::new(), Ratios::default(), Vec::new());
    for (n, (first, blocks)) in ranges.iter().enumerate() {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut at, end) = (first * BLOCK, (first + blocks) * BLOCK);
        while at < end {
            piece.clear();
            content.fill(&mut piece, usize::try_from((end - at).min(4 * MIB))?)?;
            if n == 0 && at == 0 {
                piece[..512].copy_from_slice(&partition_table(image_bytes)?);
            }
            hasher.update(&piece);
            // One piece in five is enough to know.
            if (at / (4 * MIB)).is_multiple_of(5) {
                ratios.count(&piece)?;
            }
            file.write_all_at(&piece, at)?;
            at += u64::try_from(piece.len())?;
        }
        let blocks = BlockRange::new(*first, first + blocks - 1).ok_or("an empty range")?;
        mapped.push(MappedRange { blocks, digest: Some(hasher.finish()) });
    }
    let map = BlockMap::new(image_bytes, BlockSize::DEFAULT, mapped)?;
    fs::write(&names.map, bmap::xml::write(&map))?;
    let out = File::options().read(true).write(true).create(true).truncate(true).open(&names.pack)?;
    make_pack(PackJob {
        image: Image::open(&names.image, &image::Options::default())?,
        map: Some(&map),
        level: 9,
        piece_len: Plan::DISK_PIECE,
        threads: std::thread::available_parallelism()?,
        check_digests: true,
        out: &out,
        observer: &(),
        cancel: &Cancel::new(),
    })?;
    let ratio = |packed: u64| float(ratios.plain) / float(packed.max(1));
    println!(
        "{}: {image_bytes} bytes, {} mapped ({:.1} %) in {} ranges; LZ4 level 1 {:.2}:1, level 9 {:.2}:1, gzip -1 {:.2}:1",
        names.image.display(),
        map.mapped_bytes(),
        100.0 * float(map.mapped_bytes()) / float(image_bytes),
        map.ranges().len(),
        ratio(ratios.lz4),
        ratio(ratios.lz4_high),
        ratio(ratios.gzip),
    );
    Ok(())
}
