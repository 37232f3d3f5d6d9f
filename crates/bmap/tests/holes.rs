//! Holes of real files on real filesystems against what was really written.
//!
//! tmpfs and the filesystem of the temporary directory always; ext4, xfs and btrfs on loop devices when root.

// Helpers of tests are not tests to clippy, though they say what they expect in the same way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bmap::holes::{self, HolesError, Support};
use bmap::{BlockSize, ByteRange, xml};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A file to make: its length and what is written into it, as (offset, length).
#[derive(Debug, Clone)]
struct Sparse {
    size: u64,
    written: Vec<(u64, u64)>,
    synced: bool,
}

impl Sparse {
    fn make(&self, path: &Path) -> File {
        let file = File::create_new(path).unwrap();
        file.set_len(self.size).unwrap();
        for (offset, len) in &self.written {
            file.write_all_at(&vec![0xA5; usize::try_from(*len).unwrap()], *offset).unwrap();
        }
        if self.synced {
            file.sync_all().unwrap();
        }
        File::open(path).unwrap()
    }
}

/// Sizes at a block ±1 or a single byte, with writes of 1 byte to three blocks anywhere.
fn sparse() -> impl Strategy<Value = Sparse> {
    let size = prop_oneof![
        1 => Just(1_u64),
        1 => 1_u64..4096,
        6 => (1_u64..2000, -1_i64..=1).prop_map(|(blocks, more)| (blocks * 4096).checked_add_signed(more).unwrap()),
        1 => (1_u64..2000, -1_i64..=1)
            .prop_map(|(blocks, more)| ((5 << 30) + blocks * 4096).checked_add_signed(more).unwrap()),
    ];
    let write = (any::<prop::sample::Index>(), -1_i64..=1, prop_oneof![Just(1_u64), Just(4096), 1_u64..12289]);
    (size, prop::collection::vec(write, 0..12), any::<bool>()).prop_map(|(size, writes, synced)| {
        let blocks = usize::try_from(size.div_ceil(4096)).unwrap();
        let clip = |(place, more, len): (prop::sample::Index, i64, u64)| {
            let start = u64::try_from(place.index(blocks)).unwrap() * 4096;
            let start = start.saturating_add_signed(more).min(size - 1);
            (start, len.min(size - start))
        };
        Sparse { size, written: writes.into_iter().map(clip).collect(), synced }
    })
}

/// Checks one file against the truth; the filesystem may map more only up to its own blocks.
fn check(path: &Path, sparse: &Sparse, block_size: BlockSize) -> Result<(), TestCaseError> {
    let mut file = sparse.make(path);
    file.seek(SeekFrom::Start(sparse.size / 2)).unwrap();
    let scan = holes::scan(&file).unwrap();
    let granule = holes::block_size_of(&file).bytes().max(4096);
    prop_assert_eq!(scan.size, sparse.size);
    prop_assert_eq!(scan.support, Support::Exact);
    prop_assert_eq!(file.stream_position().unwrap(), sparse.size / 2, "the position is put back");
    for pair in scan.data.windows(2) {
        prop_assert!(pair[0].end() < pair[1].start(), "not merged: {} {}", pair[0], pair[1]);
    }
    for (offset, len) in &sparse.written {
        let written = ByteRange::at(*offset, *len).unwrap();
        prop_assert!(scan.data.iter().any(|data| data.contains(written)), "{} is lost in {:?}", written, &scan.data);
    }
    // What the filesystem may call data at most: the blocks that were touched.
    let mut touched: Vec<(u64, u64)> = sparse
        .written
        .iter()
        .map(|(offset, len)| (offset / granule * granule, (offset + len).next_multiple_of(granule).min(sparse.size)))
        .collect();
    touched.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in touched {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = end.max(last.1),
            _ => merged.push((start, end)),
        }
    }
    for data in &scan.data {
        let known = merged.iter().any(|(start, end)| *start <= data.start() && data.end() <= *end);
        prop_assert!(known, "{} was never written: {:?}", data, &merged);
    }
    let map = holes::map(&file, block_size).unwrap();
    for (offset, len) in &sparse.written {
        let written = ByteRange::at(*offset, *len).unwrap();
        // Ranges of a map may touch only where blocks were joined, so one range holds each write.
        prop_assert!(map.mapped().any(|(bytes, _)| bytes.contains(written)));
    }
    prop_assert_eq!(map.image_size(), sparse.size);
    fs::remove_file(path).unwrap();
    Ok(())
}

/// Random files in `dir`.
fn check_directory(dir: &Path, cases: u32) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let path = dir.join("sparse");
    let sizes = prop::sample::select(vec![1_u32, 512, 1000, 4096, 65536, 1 << 20]);
    let result = runner.run(&(sparse(), sizes), |(sparse, block_size)| {
        let _ = fs::remove_file(&path);
        check(&path, &sparse, BlockSize::new(block_size).unwrap())
    });
    result.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    edges(dir);
}

/// What random files do not reach.
fn edges(dir: &Path) {
    let path = dir.join("edge");
    let file = File::create(&path).unwrap();
    assert_eq!(holes::extents(&file).unwrap(), []);
    assert_eq!(holes::map(&file, BlockSize::DEFAULT).unwrap().blocks(), 0);
    file.set_len(1 << 42).unwrap();
    file.write_all_at(b"x", 1 << 41).unwrap();
    let data = holes::extents(&file).unwrap();
    assert_eq!(data.len(), 1, "{data:?}");
    assert!(data[0].contains(ByteRange::at(1 << 41, 1).unwrap()));
    let map = holes::map(&file, BlockSize::DEFAULT).unwrap();
    assert_eq!((map.blocks(), map.mapped_blocks()), (1 << 30, 1));
    fs::remove_file(&path).unwrap();
}

#[test]
fn tmpfs() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        println!("skipped: there is no /dev/shm");
        return;
    }
    let dir = tempfile::tempdir_in(shm).unwrap();
    check_directory(dir.path(), 200);
}

#[test]
fn the_filesystem_of_the_temporary_directory() {
    let dir = tempfile::tempdir().unwrap();
    check_directory(dir.path(), 100);
}

/// A filesystem on a loop device, unmounted when dropped.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    /// `None`, with the reason printed, where this machine cannot do it.
    fn new(mkfs: &str, options: &[&str]) -> Option<Self> {
        let run = |program: &str, args: &[&Path]| -> Result<(), String> {
            let Output { status, stderr, .. } =
                Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
            status.success().then_some(()).ok_or(format!("{program}: {}", String::from_utf8_lossy(&stderr)))
        };
        let dir = tempfile::tempdir().unwrap();
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        File::create(&image).unwrap().set_len(512 << 20).unwrap();
        fs::create_dir(&mount).unwrap();
        let mut args: Vec<PathBuf> = options.iter().map(PathBuf::from).collect();
        args.push(image.clone());
        let args: Vec<&Path> = args.iter().map(PathBuf::as_path).collect();
        let made = run(mkfs, &args).and_then(|()| run("mount", &[Path::new("-o"), Path::new("loop"), &image, &mount]));
        match made {
            Ok(()) => Some(Self { dir }),
            Err(reason) => {
                println!("skipped: {}", reason.trim());
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mount")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn ext4() {
    let Some(mounted) = Mounted::new("mkfs.ext4", &["-q", "-F"]) else { return };
    check_directory(&mounted.path(), 60);
}

#[test]
fn ext4_with_blocks_of_1024() {
    let Some(mounted) = Mounted::new("mkfs.ext4", &["-q", "-F", "-b", "1024"]) else { return };
    let file = tempfile::tempfile_in(mounted.path()).unwrap();
    assert_eq!(holes::block_size_of(&file).get(), 1024);
    file.set_len(8192).unwrap();
    file.write_all_at(b"x", 3 * 1024).unwrap();
    assert_eq!(holes::extents(&file).unwrap(), [ByteRange::at(3 * 1024, 1024).unwrap()]);
}

#[test]
fn xfs() {
    let Some(mounted) = Mounted::new("mkfs.xfs", &["-q", "-f"]) else { return };
    check_directory(&mounted.path(), 60);
}

#[test]
fn btrfs() {
    let Some(mounted) = Mounted::new("mkfs.btrfs", &["-q", "-f"]) else { return };
    check_directory(&mounted.path(), 60);
}

/// FAT has no holes: the kernel fills what was skipped, so all is data and all is allocated.
#[test]
fn fat_maps_everything() {
    let Some(mounted) = Mounted::new("mkfs.vfat", &["-F", "32"]) else { return };
    let file = File::create_new(mounted.path().join("file")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(b"x", 1 << 19).unwrap();
    let scan = holes::scan(&file).unwrap();
    assert_eq!((scan.data, scan.support), (vec![ByteRange::first(1 << 20)], Support::Exact));
}

/// squashfs has no fsync. Older kernels' calls all of a file data, newer ones' knows its holes (6.18 does).
#[test]
fn squashfs_tells_or_is_found_out() {
    let source = tempfile::tempdir().unwrap();
    let sparse = Sparse { size: 1 << 24, written: vec![(1 << 20, 5000)], synced: true };
    sparse.make(&source.path().join("file"));
    let dir = tempfile::tempdir().unwrap();
    let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
    let made = Command::new("mksquashfs").arg(source.path()).arg(&image).output();
    fs::create_dir(&mount).unwrap();
    let mounted = made.and_then(|_| Command::new("mount").args(["-o", "loop,ro"]).arg(&image).arg(&mount).output());
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: mksquashfs is not installed, or mounting is not allowed");
        return;
    }
    let mounted = Mounted { dir };
    let file = File::open(mounted.path().join("file")).unwrap();
    let scan = holes::scan(&file).unwrap();
    assert!(scan.data.iter().any(|data| data.contains(ByteRange::at(1 << 20, 5000).unwrap())), "{:?}", scan.data);
    let all_data = scan.data == [ByteRange::first(1 << 24)];
    assert_eq!(scan.support != Support::Exact, all_data, "{:?}", scan.support);
}

#[test]
fn only_regular_files_have_holes() {
    let dir = File::open("/").unwrap();
    assert!(matches!(holes::scan(&dir), Err(HolesError::NotAFile("a directory"))));
    let null = File::open("/dev/null").unwrap();
    assert!(matches!(holes::scan(&null), Err(HolesError::NotAFile(_))));
    assert_eq!(holes::block_size_of(&null).get() % 512, 0);
}

/// The same file mapped by bmaptool.
#[test]
fn bmaptool_finds_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let sparse = Sparse {
        size: (40 << 20) + 5,
        written: vec![(0, 1), (8191, 2), (1 << 20, 1 << 20), (40 << 20, 5)],
        synced: true,
    };
    let file = sparse.make(&path);
    let Ok(output) = Command::new("bmaptool").arg("create").arg(&path).output() else {
        println!("skipped: bmaptool is not installed");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = xml::parse(&output.stdout).unwrap().map;
    let ours = holes::map(&file, holes::block_size_of(&file)).unwrap();
    assert_eq!((ours.block_size(), ours.image_size()), (theirs.block_size(), theirs.image_size()));
    assert!(ours.mapped().map(|(bytes, _)| bytes).eq(theirs.mapped().map(|(bytes, _)| bytes)));
}
