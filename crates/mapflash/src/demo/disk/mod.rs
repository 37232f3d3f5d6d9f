//! A realistic disk image, made from nothing but a seed.
//!
//! It looks like what an embedded Linux build makes: GPT, a boot loader for an i.MX8 in front of the first partition, a
//! FAT partition with a kernel, an ext4 root filesystem with directories and files, and mostly holes, laid out like a
//! real image ([`shape`]). The filesystems are whole: `fsck.fat` and `e2fsck` find nothing to repair, on the image and
//! on a disk full of old data that the mapped blocks were written to.
//!
//! Left out: everything a board would run. The loader, the kernel and the files are noise that compresses like code
//! and text do.

pub(crate) mod content;
mod ext4;
mod fat;
mod gpt;
mod loader;
mod shape;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use content::Content;
pub(crate) use shape::Shape;

/// Bytes in a block: of the map, of the root filesystem, and of every unit the image is written in.
pub(crate) const BLOCK: u32 = 4096;

/// Bytes in a sector, the unit of partition tables and FAT.
const SECTOR: u32 = 512;

/// Makes an image in `file`, which must be empty: what stays unwritten stays a hole. The same shape and seed make the
/// same bytes, always.
///
/// # Errors
/// Those of setting the length and of writing.
pub(crate) fn make(file: &File, shape: &Shape, seed: u64) -> io::Result<()> {
    file.set_len(shape.bytes())?;
    let mut content = Content::new(seed);
    let partitions = [
        gpt::Partition::boot(shape.boot_start, shape.boot_blocks, &mut content),
        gpt::Partition::root(shape.root_start(), shape.root_blocks(), &mut content),
    ];
    loader::write(file, shape.loader_blocks, &mut content)?;
    fat::write(file, shape.boot_start, shape.boot_blocks, shape.kernel_bytes, &mut content)?;
    ext4::write(file, shape, &mut content)?;
    gpt::write(file, shape.bytes(), &partitions, &mut content)
}

/// Writes at the start of a block.
fn write_at(file: &File, block: u32, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, u64::from(block) * u64::from(BLOCK))
}

/// A `u32` as an index. Lossless wherever the program runs: nothing here is 4 GiB long.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Stores little-endian numbers at fixed offsets, as every format here does.
trait Store {
    fn u16(&mut self, at: usize, value: u16);
    fn u32(&mut self, at: usize, value: u32);
    fn u64(&mut self, at: usize, value: u64);
    fn bytes(&mut self, at: usize, value: &[u8]);
}

impl Store for [u8] {
    fn u16(&mut self, at: usize, value: u16) {
        self.bytes(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.bytes(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.bytes(at, &value.to_le_bytes());
    }

    fn bytes(&mut self, at: usize, value: &[u8]) {
        self[at..at + value.len()].copy_from_slice(value);
    }
}
