//! An ext4 filesystem with a journal, directories and files (Linux, Documentation/filesystems/ext4).
//!
//! Plain on purpose: block groups with their own bitmaps and inode tables, written in full, no checksums of metadata,
//! no 64-bit blocks. What the kernel or `e2fsck` would read is written; only unused data blocks stay holes, so the
//! filesystem is whole on a disk full of old data too.

use std::fs::File;
use std::io;

use super::content::{Content, Kind};
use super::shape::Shape;
use super::{BLOCK, Store as _, index, write_at};

/// Inodes of a group.
const INODES_PER_GROUP: u32 = 512;
/// Bytes of an inode.
const INODE_SIZE: u32 = 256;
/// Blocks of a group's inode table.
const TABLE_BLOCKS: u32 = INODES_PER_GROUP * INODE_SIZE / BLOCK;
/// Blocks of the journal, the fewest the format allows.
const JOURNAL_BLOCKS: u32 = 1024;
/// The root directory's inode, the journal's, and the first one free for files.
const ROOT_INODE: u32 = 2;
const JOURNAL_INODE: u32 = 8;
const FIRST_INODE: u32 = 11;
/// Extents that fit into an inode.
const EXTENTS: usize = 4;
/// Noon of 1 January 2024, UTC: every time stamp.
const TIME: u32 = 1_704_110_400;
/// Top-level directories; the first is where repairs put what they find.
const DIRECTORIES: [&str; 12] =
    ["lost+found", "bin", "boot", "etc", "home", "lib", "opt", "root", "sbin", "srv", "usr", "var"];
/// Most files in a directory: its entries must fit one block.
const FILES_PER_DIRECTORY: usize = 120;

/// A run of blocks: the first and how many.
type Run = (u32, u32);

/// Something with an inode.
struct Node {
    mode: u16,
    links: u16,
    bytes: u32,
    runs: Vec<Run>,
    /// Directory entries name it by this.
    name: String,
}

/// The filesystem being laid out; block numbers count from the partition's start.
struct Layout<'a> {
    shape: &'a Shape,
    used: Vec<bool>,
}

impl Layout<'_> {
    fn blocks(&self) -> u32 {
        self.shape.root_blocks()
    }

    fn group_len(&self) -> u32 {
        self.shape.blocks_per_group
    }

    fn groups(&self) -> u32 {
        self.blocks().div_ceil(self.group_len())
    }

    /// Whether the group keeps a copy of the superblock: 0, 1 and powers of 3, 5 and 7 (feature sparse_super).
    fn has_super(group: u32) -> bool {
        let power_of = |base: u32| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }

    /// Where a group's block bitmap lies: behind the superblock and the descriptors, if it has them. The inode bitmap and
    /// the inode table follow.
    fn bitmaps(&self, group: u32) -> u32 {
        group * self.group_len() + if Self::has_super(group) { 2 } else { 0 }
    }

    fn take(&mut self, run: Run) {
        self.used[index(run.0)..index(run.0 + run.1)].fill(true);
    }

    /// The blocks of these runs that are free, in order, as single blocks.
    fn free_in(&self, runs: &[Run]) -> Vec<u32> {
        runs.iter()
            .flat_map(|&(first, count)| first..(first + count).min(self.blocks()))
            .filter(|&block| !self.used[index(block)])
            .collect()
    }
}

/// Joins blocks that follow each other into at most `EXTENTS` runs; says how many blocks those hold.
fn join(blocks: &[u32]) -> (Vec<Run>, usize) {
    let mut runs: Vec<Run> = Vec::new();
    for (taken, &block) in blocks.iter().enumerate() {
        let full = runs.len() == EXTENTS;
        match runs.last_mut() {
            Some((first, count)) if *first + *count == block => *count += 1,
            _ if full => return (runs, taken),
            _ => runs.push((block, 1)),
        }
    }
    (runs, blocks.len())
}

/// Writes the filesystem into the root partition of `shape`.
pub(super) fn write(file: &File, shape: &Shape, content: &mut Content) -> io::Result<()> {
    let mut layout = Layout { shape, used: vec![false; index(shape.root_blocks())] };
    for group in 0..layout.groups() {
        let bitmaps = layout.bitmaps(group);
        layout.take((group * layout.group_len(), bitmaps - group * layout.group_len()));
        layout.take((bitmaps, 2 + TABLE_BLOCKS));
    }

    // The journal first: it has one place; then directories, far apart; then files, packed.
    let around = [(shape.journal_start(), JOURNAL_BLOCKS + 8 * (TABLE_BLOCKS + 4))];
    let mut journal_blocks = layout.free_in(&around);
    journal_blocks.truncate(index(JOURNAL_BLOCKS));
    let (runs, _) = join(&journal_blocks);
    runs.iter().for_each(|&run| layout.take(run));
    let journal = Node { mode: 0o100_600, links: 1, bytes: JOURNAL_BLOCKS * BLOCK, runs, name: String::new() };

    let dense = layout.free_in(&shape.dense());
    let mut apart = layout.free_in(&shape.scattered());
    apart.retain(|block| !dense.contains(block));
    apart.dedup();
    let (directory_blocks, file_blocks) =
        if apart.len() > DIRECTORIES.len() { (apart, dense) } else { (dense[..13].to_vec(), dense[13..].to_vec()) };
    let stride = directory_blocks.len() / (DIRECTORIES.len() + 1);
    let directory = |place: usize, name: &str, links: usize| Node {
        mode: 0o040_755,
        links: u16::try_from(links).unwrap_or(u16::MAX),
        bytes: BLOCK,
        runs: vec![(directory_blocks[place * stride], 1)],
        name: name.to_owned(),
    };
    let root = directory(0, "", 2 + DIRECTORIES.len());
    let mut nodes: Vec<Node> =
        DIRECTORIES.iter().enumerate().map(|(place, name)| directory(place + 1, name, 2)).collect();
    let files = write_files(file, shape.root_start(), &file_blocks, content)?;
    nodes.extend(files);
    for node in nodes.iter().chain([&root]) {
        node.runs.iter().for_each(|&run| layout.take(run));
    }

    write_directories(file, shape.root_start(), &root, &nodes)?;
    let uuid = content.uuid();
    write_journal(file, shape.root_start(), &journal, &uuid)?;
    write_metadata(file, &layout, &root, &journal, &nodes, &uuid)
}

/// Fills the blocks with files of many sizes; as many as the directories hold.
fn write_files(file: &File, start: u32, blocks: &[u32], content: &mut Content) -> io::Result<Vec<Node>> {
    let most = (DIRECTORIES.len() - 1) * FILES_PER_DIRECTORY;
    let mut files = Vec::new();
    let mut rest = blocks;
    let mut buffer = vec![0; 1 << 20];
    while !rest.is_empty() && files.len() < most {
        // Sizes from 1 block to 1 MiB, small ones more common; the last file takes what is left.
        let wanted =
            if files.len() + 1 == most { rest.len() } else { index(1 + (content.below(255) >> content.below(8))) };
        let (runs, taken) = join(&rest[..wanted.min(rest.len())]);
        rest = &rest[taken..];
        // Of a root filesystem about six tenths are code, three text and tables, one packed.
        let kind = match content.below(100) {
            0..58 => Kind::Code,
            58..91 => Kind::Text,
            _ => Kind::Packed,
        };
        let mut bytes = u32::try_from(taken).unwrap_or(0) * BLOCK;
        for &(first, count) in &runs {
            for piece in (0..count).step_by(256) {
                let len = index((count - piece).min(256) * BLOCK);
                content.fill(kind, &mut buffer[..len]);
                write_at(file, start + first + piece, &buffer[..len])?;
            }
        }
        // The file ends somewhere in its last block.
        bytes -= content.below(BLOCK);
        let suffix = match kind {
            Kind::Code => "so",
            Kind::Text => "txt",
            Kind::Packed => "gz",
        };
        let name = format!("{:04}.{suffix}", files.len());
        files.push(Node { mode: 0o100_644, links: 1, bytes, runs, name });
    }
    Ok(files)
}

/// The inode of the node at `place`; the first is "lost+found", which has the first free inode.
fn inode_of(place: usize) -> u32 {
    FIRST_INODE + u32::try_from(place).unwrap_or(0)
}

/// Writes the root directory and those in it; files are dealt out to all but the first.
fn write_directories(file: &File, start: u32, root: &Node, nodes: &[Node]) -> io::Result<()> {
    let named = |place: usize| (inode_of(place), nodes[place].mode, nodes[place].name.as_str());
    let top = (0..DIRECTORIES.len()).map(named);
    write_at(file, start + root.runs[0].0, &directory_block(ROOT_INODE, ROOT_INODE, top))?;
    for (place, directory) in nodes.iter().enumerate().take(DIRECTORIES.len()) {
        let inside = (DIRECTORIES.len()..nodes.len())
            .filter(|file| place > 0 && file % (DIRECTORIES.len() - 1) == place - 1)
            .map(named);
        write_at(file, start + directory.runs[0].0, &directory_block(inode_of(place), ROOT_INODE, inside))?;
    }
    Ok(())
}

/// One block of directory entries: inode, entry length, name length, type, name. The last entry takes the rest.
fn directory_block<'a>(own: u32, parent: u32, named: impl Iterator<Item = (u32, u16, &'a str)>) -> Vec<u8> {
    let mut block = vec![0; index(BLOCK)];
    let dots = [(own, 0o040_755, "."), (parent, 0o040_755, "..")];
    let (mut at, mut last) = (0, 0);
    for (inode, mode, name) in dots.into_iter().chain(named) {
        let len = (8 + name.len()).next_multiple_of(4);
        block.u32(at, inode);
        block.u16(at + 4, u16::try_from(len).unwrap_or(0));
        block[at + 6] = u8::try_from(name.len()).unwrap_or(0);
        block[at + 7] = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        block.bytes(at + 8, name.as_bytes());
        last = at;
        at += len;
    }
    block.u16(last + 4, u16::try_from(index(BLOCK) - last).unwrap_or(0));
    block
}

/// An empty journal: its superblock (big endian, as all of JBD2), and zeros, written.
fn write_journal(file: &File, start: u32, journal: &Node, uuid: &[u8; 16]) -> io::Result<()> {
    for &(first, count) in &journal.runs {
        write_at(file, start + first, &vec![0; index(count * BLOCK)])?;
    }
    let mut block = vec![0; index(BLOCK)];
    // Magic, block type "superblock, version 2", sequence; block size, blocks, first block of the log, first sequence.
    let numbers = [0xc03b_3998, 4, 0, BLOCK, JOURNAL_BLOCKS, 1, 1];
    for (slot, number) in block.chunks_exact_mut(4).zip(numbers) {
        slot.copy_from_slice(&number.to_be_bytes());
    }
    block.bytes(48, uuid);
    block.bytes(64, &1_u32.to_be_bytes());
    write_at(file, start + journal.runs[0].0, &block)
}

/// The fields of an inode that its content decides; the others are the same everywhere.
fn inode(node: &Node) -> Vec<u8> {
    let mut inode = vec![0; index(INODE_SIZE)];
    inode.u16(0, node.mode);
    inode.u32(4, node.bytes);
    [8, 12, 16, 144].iter().for_each(|&at| inode.u32(at, TIME));
    inode.u16(26, node.links);
    inode.u32(28, node.runs.iter().map(|run| run.1).sum::<u32>() * (BLOCK / 512));
    // Uses extents.
    inode.u32(32, 0x0008_0000);
    inode.u16(128, 32);
    let extents = &mut inode[40..100];
    extents.u16(0, 0xf30a);
    extents.u16(2, u16::try_from(node.runs.len()).unwrap_or(0));
    extents.u16(4, 4);
    let mut logical = 0;
    for (slot, &(first, count)) in extents.chunks_exact_mut(12).skip(1).zip(&node.runs) {
        slot.u32(0, logical);
        slot.u16(4, u16::try_from(count).unwrap_or(0));
        slot.u32(8, first);
        logical += count;
    }
    inode
}

/// Superblocks, group descriptors, bitmaps and inode tables.
fn write_metadata(
    file: &File,
    layout: &Layout<'_>,
    root: &Node,
    journal: &Node,
    nodes: &[Node],
    uuid: &[u8; 16],
) -> io::Result<()> {
    let start = layout.shape.root_start();
    let inodes = layout.groups() * INODES_PER_GROUP;
    let used_inodes = FIRST_INODE - 1 + u32::try_from(nodes.len()).unwrap_or(0);
    let mut tables = vec![0; index(inodes * INODE_SIZE)];
    let numbered = nodes.iter().enumerate().map(|(place, node)| (inode_of(place), node));
    for (number, node) in numbered.chain([(ROOT_INODE, root), (JOURNAL_INODE, journal)]) {
        tables.bytes(index((number - 1) * INODE_SIZE), &inode(node));
    }

    let mut descriptors = vec![0; index(BLOCK)];
    let (mut free_blocks, mut free_inodes) = (0, 0);
    for group in 0..layout.groups() {
        let first = group * layout.group_len();
        let end = (first + layout.group_len()).min(layout.blocks());
        let bitmaps = layout.bitmaps(group);
        let taken = &layout.used[index(first)..index(end)];
        // Bits past the group's end count as taken.
        let block_bitmap = bitmap(taken.iter().copied());
        let inodes_taken = used_inodes.saturating_sub(group * INODES_PER_GROUP).min(INODES_PER_GROUP);
        let inode_bitmap = bitmap((0..INODES_PER_GROUP).map(|inode| inode < inodes_taken));
        write_at(file, start + bitmaps, &block_bitmap)?;
        write_at(file, start + bitmaps + 1, &inode_bitmap)?;
        let table = index(group * INODES_PER_GROUP * INODE_SIZE);
        write_at(file, start + bitmaps + 2, &tables[table..table + index(TABLE_BLOCKS * BLOCK)])?;

        let free = end - first - u32::try_from(taken.iter().filter(|taken| **taken).count()).unwrap_or(0);
        let directories = if group == 0 { 1 + DIRECTORIES.len() } else { 0 };
        let slot = &mut descriptors[index(group) * 32..][..32];
        slot.u32(0, bitmaps);
        slot.u32(4, bitmaps + 1);
        slot.u32(8, bitmaps + 2);
        slot.u16(12, u16::try_from(free).unwrap_or(0));
        slot.u16(14, u16::try_from(INODES_PER_GROUP - inodes_taken).unwrap_or(0));
        slot.u16(16, u16::try_from(directories).unwrap_or(0));
        free_blocks += free;
        free_inodes += INODES_PER_GROUP - inodes_taken;
    }

    let mut superblock = superblock(layout, journal, uuid, [inodes, free_blocks, free_inodes]);
    for group in (0..layout.groups()).filter(|&group| Layout::has_super(group)) {
        let first = start + group * layout.group_len();
        superblock.u16(90, u16::try_from(group).unwrap_or(0));
        let mut block = vec![0; index(BLOCK)];
        // The first 1024 bytes of a disk belong to whoever boots it.
        block.bytes(if group == 0 { 1024 } else { 0 }, &superblock);
        write_at(file, first, &block)?;
        write_at(file, first + 1, &descriptors)?;
    }
    Ok(())
}

/// A block of bits, the lowest first; what is not given counts as taken.
fn bitmap(bits: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut block = vec![0xff; index(BLOCK)];
    for (place, _) in bits.enumerate().filter(|(_, taken)| !taken) {
        block[place / 8] &= !(1 << (place % 8));
    }
    block
}

/// The 1024 bytes of the superblock.
fn superblock(layout: &Layout<'_>, journal: &Node, uuid: &[u8; 16], counts: [u32; 3]) -> Vec<u8> {
    let [inodes, free_blocks, free_inodes] = counts;
    let mut block = vec![0; 1024];
    block.u32(0, inodes);
    block.u32(4, layout.blocks());
    block.u32(12, free_blocks);
    block.u32(16, free_inodes);
    // Block size and cluster size: 1024 << 2.
    block.u32(24, 2);
    block.u32(28, 2);
    block.u32(32, layout.group_len());
    block.u32(36, layout.group_len());
    block.u32(40, INODES_PER_GROUP);
    block.u32(48, TIME);
    block.u16(54, u16::MAX);
    block.u16(56, 0xef53);
    // Clean; go on after errors.
    block.u16(58, 1);
    block.u16(60, 1);
    block.u32(64, TIME);
    block.u32(76, 1);
    block.u32(84, FIRST_INODE);
    block.u16(88, u16::try_from(INODE_SIZE).unwrap_or(0));
    // has_journal; filetype, extents; sparse_super, large_file, extra_isize.
    block.u32(92, 0x0004);
    block.u32(96, 0x0042);
    block.u32(100, 0x0043);
    block.bytes(104, uuid);
    block.bytes(120, b"root");
    block.u32(224, JOURNAL_INODE);
    block.bytes(236, uuid);
    // Half MD4 for names.
    block[252] = 1;
    // A copy of the journal's inode: the 15 words of its extents, the upper and the lower half of its size.
    block[253] = 1;
    block.u32(264, TIME);
    let inode = inode(journal);
    block.bytes(268, &inode[40..100]);
    block.u32(268 + 64, journal.bytes);
    block.u16(348, 32);
    block.u16(350, 32);
    // Signed directory hash.
    block.u32(352, 1);
    block
}
