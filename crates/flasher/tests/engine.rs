//! The engine over targets in memory and files: what is written, in which order, and what is said when things fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bmap::{BlockMap, BlockSize, ByteRange};
use flasher::event::{Event, Observer, Stage};
use flasher::plan::{HolePolicy, Phase, Plan};
use flasher::target::file::FileTarget;
use flasher::target::medium::Medium;
use flasher::target::memory::{Call, Fault, MemoryTarget};
use flasher::target::{Target, TargetError};
use flasher::{
    Cancel, CopyOptions, CreateOptions, Failure, FlashError, Job, PlanOptions, Report, TargetState, copy, create,
    prepare, verify, verify_image,
};
use image::Image;

const SIZE: u64 = 12 << 20;
/// Where the image has data: the front, the gap, and some places behind, the last one to the image's odd end.
const DATA: [(u64, u64); 5] =
    [(0, 8192), (32 << 10, 100 << 10), (1 << 20, 5 << 20), (7 << 20, (7 << 20) + 4096), (SIZE - 20_480, SIZE - 100)];

fn byte(at: u64) -> u8 {
    // A period that is prime and no zero, so that a misplaced sector cannot match by luck.
    u8::try_from(at % 251).unwrap() + 1
}

/// A sparse image file of `SIZE - 100` bytes.
fn image_file(folder: &Path) -> PathBuf {
    let path = folder.join("disk.img");
    let file = File::create(&path).unwrap();
    file.set_len(SIZE - 100).unwrap();
    for (start, end) in DATA {
        let bytes: Vec<u8> = (start..end).map(byte).collect();
        file.write_all_at(&bytes, start).unwrap();
    }
    path
}

fn flat() -> Vec<u8> {
    let mut image = vec![0; usize::try_from(SIZE - 100).unwrap()];
    for (start, end) in DATA {
        for at in start..end {
            image[usize::try_from(at).unwrap()] = byte(at);
        }
    }
    image
}

fn old() -> Vec<u8> {
    vec![0xEE; usize::try_from(SIZE + (1 << 20)).unwrap()]
}

fn map_of(path: &Path) -> BlockMap {
    let options =
        CreateOptions { block_size: Some(BlockSize::DEFAULT), digests: true, threads: NonZeroUsize::new(2).unwrap() };
    create(&File::open(path).unwrap(), "disk.img", &options, &(), &Cancel::new()).unwrap().map
}

fn open(path: &Path) -> Image {
    Image::open(path, &image::Options::default()).unwrap()
}

struct Setting<'a> {
    path: &'a Path,
    map: Option<&'a BlockMap>,
    target: &'a dyn Target,
    plan: PlanOptions,
    options: CopyOptions,
    reopen: bool,
}

impl<'a> Setting<'a> {
    fn new(path: &'a Path, map: Option<&'a BlockMap>, target: &'a dyn Target) -> Self {
        let plan = PlanOptions { piece_len: 64 << 10, ..PlanOptions::default() };
        let options = CopyOptions { prove: true, ..CopyOptions::default() };
        Self { path, map, target, plan, options, reopen: true }
    }

    fn plan(&self) -> Result<Plan, FlashError> {
        prepare(&mut open(self.path), self.map, self.target, &self.plan, &())
    }

    fn run(&self) -> Result<Report, Failure> {
        self.run_with(&(), &Cancel::new())
    }

    fn run_with(&self, observer: &dyn Observer, cancel: &Cancel) -> Result<Report, Failure> {
        let plan = self.plan().unwrap();
        let again = || Image::open(self.path, &image::Options::default());
        copy(Job {
            image: open(self.path),
            reopen: if self.reopen { Some(&again) } else { None },
            map: self.map,
            plan: &plan,
            target: self.target,
            options: self.options,
            observer,
            cancel,
        })
    }
}

/// The image over the old bytes: mapped bytes new, all else old.
fn overlaid(map: &BlockMap) -> Vec<u8> {
    let (mut expected, new) = (old(), flat());
    for (range, _) in map.mapped() {
        let range = usize::try_from(range.start()).unwrap()..usize::try_from(range.end()).unwrap();
        expected[range.clone()].copy_from_slice(&new[range]);
    }
    expected
}

fn at(bytes: &[u8], range: std::ops::Range<u64>) -> &[u8] {
    &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

#[test]
fn a_mapped_image_lands_and_holes_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let target = MemoryTarget::new(old());
    let report = Setting::new(&path, Some(&map), &target).run().unwrap();
    assert!(target.bytes() == overlaid(&map));
    assert_eq!(report.state, TargetState::Proven);
    assert_eq!(
        (report.data, report.written, report.proven),
        (map.mapped_bytes(), map.mapped_bytes(), map.mapped_bytes())
    );
    assert_eq!(report.holes_left + report.gap_left, map.image_size() - map.mapped_bytes());
    assert_eq!(report.gap_left, (1 << 20) - 8192 - (68 << 10));
    assert_eq!(report.rewritten, 0);
}

#[test]
fn a_table_is_written_last_even_where_a_partition_begins_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    // An MBR whose one partition begins at sector 1.
    let mut mbr = [0_u8; 512];
    mbr[446..462].copy_from_slice(&[0x80, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0, 0x40, 0, 0]);
    mbr[510..].copy_from_slice(&[0x55, 0xAA]);
    File::options().write(true).open(&path).unwrap().write_all_at(&mbr, 0).unwrap();
    let map = map_of(&path);
    let target = MemoryTarget::new(old());
    let setting = Setting::new(&path, Some(&map), &target);
    let steps: Vec<_> = setting.plan().unwrap().steps().collect();
    assert_eq!((steps[0].phase, steps[0].extent.start()), (Phase::Invalidate, 0));
    let last = steps.last().unwrap();
    assert_eq!((last.phase, last.extent), (Phase::Head, ByteRange::first(4096)));
    setting.run().unwrap();
}

#[test]
fn a_loader_that_the_map_leaves_out_is_not_said_to_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    // Without the page at 32 KiB, where an old loader lies.
    let ranges = map.ranges().iter().filter(|range| range.blocks.first() != 8).copied().collect();
    let map = BlockMap::new(map.image_size(), map.block_size(), ranges).unwrap();
    let mut content = old();
    content[33 << 10..(33 << 10) + 4].copy_from_slice(&[0xD1, 0, 0x20, 0x41]);
    let target = MemoryTarget::new(content).with(Fault::WriteFails { at: 2 << 20 });
    let setting = Setting::new(&path, Some(&map), &target);
    let survivors = setting.plan().unwrap().survivors().to_vec();
    assert_eq!(survivors.iter().map(|range| range.start()).collect::<Vec<_>>(), [33 << 10]);
    let failure = setting.run().unwrap_err();
    assert!(matches!(failure.state, TargetState::Mixed { .. }), "{}", failure.state);
}

#[test]
fn the_head_is_cleared_first_and_written_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let target = MemoryTarget::new(old());
    Setting::new(&path, Some(&map), &target).run().unwrap();
    let calls = target.calls();
    assert_eq!(calls.first(), Some(&Call::Begin));
    assert_eq!(calls.last(), Some(&Call::Commit));
    let writes: Vec<ByteRange> =
        calls.iter().filter_map(|call| if let Call::Write(extent) = call { Some(*extent) } else { None }).collect();
    let head = 1 << 20;
    // Cleared: the first two pages and the loader's first, in front of everything else, and synced.
    assert_eq!(writes[..3].iter().map(|extent| extent.start()).collect::<Vec<_>>(), [0, 4096, 32 << 10]);
    assert_eq!(calls[4], Call::Sync);
    let rest = &writes[3..];
    let first_head = rest.iter().position(|extent| extent.start() < head).unwrap();
    assert!(rest[..first_head].iter().all(|extent| extent.start() >= head));
    assert!(rest[first_head..].iter().all(|extent| extent.end() <= head));
    // Between body and head there is a sync: nothing of the head is on its way before the body is safe.
    let last_body = calls.iter().rposition(|c| matches!(c, Call::Write(e) if e.start() >= head)).unwrap();
    let new_head = calls.iter().rposition(|c| matches!(c, Call::Write(e) if e.start() == 0)).unwrap();
    assert!(calls[last_body..new_head].contains(&Call::Sync));
}

#[test]
fn an_interrupted_target_has_no_bootable_head_wherever_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let all = map.mapped_bytes();
    for written in (1..all + 20_000).step_by(300_007) {
        let target = MemoryTarget::new(old()).with(Fault::GoneAfter { bytes: written });
        let result = Setting::new(&path, Some(&map), &target).run();
        let bytes = target.bytes();
        let (new, old_head) = (at(&flat(), 0..4096) == at(&bytes, 0..4096), at(&bytes, 0..4096) == at(&old(), 0..4096));
        let failure = result.unwrap_err();
        assert!(failure.state.changed(), "{failure}: {}", failure.state);
        match failure.state {
            TargetState::Mixed { written: 0 } => assert!(old_head || at(&bytes, 0..512).iter().all(|b| *b == 0)),
            TargetState::NoHead { .. } => assert!(at(&bytes, 0..4096).iter().all(|byte| *byte == 0)),
            TargetState::HeadIncomplete => {
                // The whole body is there.
                assert!(at(&bytes, 1 << 20..SIZE - 100) == at(&overlaid(&map), 1 << 20..SIZE - 100));
                let _ = new;
            }
            other => panic!("{other:?}"),
        }
        // Running again ends right.
        let again = MemoryTarget::new(bytes);
        Setting::new(&path, Some(&map), &again).run().unwrap();
        assert!(again.bytes() == overlaid(&map));
    }
}

#[test]
fn holes_become_zeros_by_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let zeroed = |target: &MemoryTarget| {
        let bytes = target.bytes();
        let gap = at(&bytes, 8192..32 << 10).iter().all(|byte| *byte == 0xEE);
        let behind = at(&bytes, 5 << 20..7 << 20).iter().all(|byte| *byte == 0);
        assert!(at(&bytes, SIZE..SIZE + (1 << 20)).iter().all(|byte| *byte == 0xEE), "past the image");
        assert!(gap, "the gap in front of the first partition was touched");
        behind
    };
    for (policy, can, expected) in [
        (HolePolicy::Auto, true, true),
        (HolePolicy::Auto, false, false),
        (HolePolicy::Leave, true, false),
        (HolePolicy::Zero, true, true),
        (HolePolicy::Zero, false, true),
    ] {
        let target = MemoryTarget::new(old());
        let target = if can { target.that_can_zero() } else { target };
        let mut setting = Setting::new(&path, Some(&map), &target);
        setting.plan.holes = policy;
        let report = setting.run().unwrap();
        assert_eq!(zeroed(&target), expected, "{policy:?} {can}");
        let holes = report.holes_zeroed + report.holes_left + report.gap_left + report.zeros;
        assert_eq!(holes, map.image_size() - map.mapped_bytes(), "{policy:?} {can} {report:?}");
    }
}

#[test]
fn without_a_map_holes_are_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    for can in [false, true] {
        let target = MemoryTarget::new(old());
        let target = if can { target.that_can_zero() } else { target };
        let report = Setting::new(&path, None, &target).run().unwrap();
        let bytes = target.bytes();
        assert!(at(&bytes, 0..SIZE - 100) == flat());
        assert!(at(&bytes, SIZE - 100..SIZE).iter().all(|byte| *byte == 0xEE));
        assert_eq!(report.proven, SIZE - 100);
        assert_eq!(report.zeroed > 0, can);
    }
}

#[test]
fn a_stream_of_unknown_length_lands() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let target = MemoryTarget::new(old());
    let stream =
        |path: &Path| Image::from_reader("-", Box::new(File::open(path).unwrap()), &image::Options::default()).unwrap();
    let plan = prepare(&mut stream(&path), None, &target, &PlanOptions::default(), &()).unwrap();
    assert_eq!(plan.image_size(), None);
    let cancel = Cancel::new();
    let options = CopyOptions { prove: true, ..CopyOptions::default() };
    let job = |target| Job {
        image: stream(&path),
        reopen: None,
        map: None,
        plan: &plan,
        target,
        options,
        observer: &(),
        cancel: &cancel,
    };
    let report = copy(job(&target)).unwrap();
    assert_eq!((report.image_size, report.proven), (SIZE - 100, SIZE - 100));
    assert!(at(&target.bytes(), 0..SIZE - 100) == flat());
    // It does not fit here, which only shows on the way.
    let small = MemoryTarget::new(vec![0xEE; 6 << 20]);
    let failure = copy(job(&small)).unwrap_err();
    assert!(matches!(*failure.error, FlashError::GoesOn { capacity: 6_291_456, .. }), "{failure}");
    assert!(failure.state.changed());
    // And what went wrong on a pipe cannot be mended.
    let flaky = MemoryTarget::new(old()).with(Fault::FlipsBit { at: 2 << 20, times: 1 });
    let failure = copy(job(&flaky)).unwrap_err();
    assert!(matches!(&*failure.error, FlashError::NotHeld { rewritable: false, .. }), "{failure}");
}

#[test]
fn bad_pieces_are_written_again_up_to_three_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    for (place, times, mended) in [(2 << 20, 1, true), (2 << 20, 3, true), (2 << 20, 4, false), (4 << 10, 2, true)] {
        let target = MemoryTarget::new(old()).with(Fault::FlipsBit { at: place, times });
        let retries = Mutex::new(Vec::new());
        let observer = |event: &Event| {
            if let Event::Retry { extent, attempt } = event {
                retries.lock().unwrap().push((*extent, *attempt));
            }
        };
        let result = Setting::new(&path, Some(&map), &target).run_with(&observer, &Cancel::new());
        assert_eq!(result.is_ok(), mended, "{place} {times}");
        let retries = retries.into_inner().unwrap();
        assert!(retries.iter().all(|(extent, _)| extent.start() <= place && place < extent.end()), "{retries:?}");
        match result {
            Ok(report) => {
                assert!(target.bytes() == overlaid(&map));
                // What boots is cleared before anything is a piece: repeating that is told but not counted.
                let cleared = if place < 1 << 20 { 2 } else { 0 };
                assert_eq!(report.rewritten + cleared, u64::try_from(retries.len()).unwrap());
            }
            Err(failure) => {
                assert_eq!(retries.len(), 3);
                let FlashError::NotHeld { pieces, attempts: 3, .. } = &*failure.error else { panic!("{failure}") };
                assert_eq!(pieces.len(), 1);
                assert!(matches!(failure.state, TargetState::NoHead { .. }));
                assert!(at(&target.bytes(), 0..4096).iter().all(|byte| *byte == 0));
            }
        }
    }
}

#[test]
fn without_proof_a_flipped_bit_goes_unseen_and_nothing_claims_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let target = MemoryTarget::new(old()).with(Fault::FlipsBit { at: 2 << 20, times: 1 });
    let mut setting = Setting::new(&path, Some(&map), &target);
    setting.options.prove = false;
    let report = setting.run().unwrap();
    assert_eq!((report.state, report.proven), (TargetState::WrittenUnproven, 0));
}

#[test]
fn faults_of_the_target_say_where_and_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    for fault in [Fault::WriteFails { at: 2 << 20 }, Fault::ReadFails { at: 2 << 20 }, Fault::SyncFails] {
        let target = MemoryTarget::new(old()).with(fault);
        let failure = Setting::new(&path, Some(&map), &target).run().unwrap_err();
        match (fault, &*failure.error) {
            (Fault::WriteFails { at }, FlashError::Target(TargetError::Io { extent, .. })) => {
                assert!(extent.start() <= at && at < extent.end());
            }
            (Fault::ReadFails { .. }, FlashError::NotHeld { pieces, source: Some(_), .. }) => {
                assert_eq!(pieces.len(), 1)
            }
            (Fault::SyncFails, FlashError::Target(TargetError::Whole { .. })) => {}
            (fault, error) => panic!("{fault:?}: {error}"),
        }
        assert!(failure.state.changed());
        assert!(target.bytes()[..4096] != flat()[..4096]);
    }
}

#[test]
fn a_wrong_range_digest_stops_before_the_range_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    for place in [100, 3 << 20, (7 << 20) + 5] {
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0], place).unwrap();
        let target = MemoryTarget::new(old());
        let failure = Setting::new(&path, Some(&map), &target).run().unwrap_err();
        let FlashError::RangeDigest(mismatch) = &*failure.error else { panic!("{failure}") };
        assert!(mismatch.extent.start() <= place && place < mismatch.extent.end());
        assert!(matches!(failure.state, TargetState::NoHead { .. } | TargetState::Mixed { .. }));
        assert!(target.bytes()[..512] != flat()[..512]);
        let mut unchecked = Setting::new(&path, Some(&map), &target);
        unchecked.options.check_digests = false;
        unchecked.run().unwrap();
        file.write_all_at(&[byte(place)], place).unwrap();
    }
}

#[test]
fn a_map_of_another_image_and_a_small_target_are_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let other = BlockMap::new(SIZE, BlockSize::DEFAULT, vec![]).unwrap();
    let target = MemoryTarget::new(old());
    let refused = Setting::new(&path, Some(&other), &target).plan();
    assert!(matches!(refused, Err(FlashError::LengthMismatch { .. })));
    let small = MemoryTarget::new(vec![0; 4096]);
    assert!(matches!(Setting::new(&path, None, &small).plan(), Err(FlashError::TooSmall { capacity: 4096, .. })));
    assert!(small.calls().is_empty() && target.calls().is_empty());
}

#[test]
fn packed_images_longer_or_shorter_than_their_map_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    for difference in [-1_i64, 1] {
        let mut content = flat();
        content.resize(usize::try_from(i64::try_from(content.len()).unwrap() + difference).unwrap(), 9);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&content).unwrap();
        let packed_path = folder.path().join("disk.img.gz");
        std::fs::write(&packed_path, packed.finish().unwrap()).unwrap();
        let target = MemoryTarget::new(old());
        let failure = Setting::new(&packed_path, Some(&map), &target).run().unwrap_err();
        match &*failure.error {
            FlashError::LengthMismatch { image, .. } if difference < 0 => {
                assert_eq!(*image, u64::try_from(content.len()).unwrap());
            }
            FlashError::LongerThanMap { map } if difference > 0 => assert_eq!(*map, SIZE - 100),
            other => panic!("{other}"),
        }
        assert!(target.bytes()[..4096].iter().all(|byte| *byte == 0), "the head was written");
    }
}

#[test]
fn stopping_leaves_no_head_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    for stop_in in [Stage::Invalidate, Stage::Write, Stage::Sync, Stage::Prove, Stage::Head] {
        let target = MemoryTarget::new(old());
        let cancel = Cancel::new();
        let observer = |event: &Event| {
            if matches!(event, Event::Stage { stage, .. } if *stage == stop_in) {
                cancel.cancel();
            }
        };
        let failure = Setting::new(&path, Some(&map), &target).run_with(&observer, &cancel).unwrap_err();
        assert!(matches!(*failure.error, FlashError::Cancelled), "{stop_in:?}: {failure}");
        assert!(failure.state.changed(), "{stop_in:?}");
        assert!(target.bytes()[..512] != flat()[..512], "{stop_in:?}");
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let target = MemoryTarget::new(old());
    let failure = Setting::new(&path, Some(&map), &target).run_with(&(), &cancel).unwrap_err();
    assert_eq!(failure.state, TargetState::Unchanged);
    assert!(target.bytes() == old());
}

#[test]
fn stages_come_in_order_and_progress_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let target = MemoryTarget::new(old());
    let seen = Mutex::new(Vec::new());
    let observer = |event: &Event| seen.lock().unwrap().push(event.clone());
    Setting::new(&path, Some(&map), &target).run_with(&observer, &Cancel::new()).unwrap();
    let seen = seen.into_inner().unwrap();
    let stages: Vec<Stage> =
        seen.iter().filter_map(|e| if let Event::Stage { stage, .. } = e { Some(*stage) } else { None }).collect();
    assert_eq!(stages, [Stage::Invalidate, Stage::Write, Stage::Sync, Stage::Prove, Stage::Head, Stage::Commit]);
    let done = |of: Stage| {
        let of_stage = |e: &Event| match e {
            Event::Progress { stage, done, .. } if *stage == of => Some(*done),
            _ => None,
        };
        seen.iter().filter_map(of_stage).max().unwrap()
    };
    let body: u64 = map.mapped().filter(|(range, _)| range.start() >= 1 << 20).map(|(range, _)| range.len()).sum();
    assert_eq!((done(Stage::Write), done(Stage::Prove)), (body, body));
    let announced = seen.iter().find_map(|e| match e {
        Event::Stage { stage: Stage::Write, total } => *total,
        _ => None,
    });
    assert_eq!(announced, Some(body));
}

#[test]
fn a_file_gets_its_length_and_its_holes() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    for (map, name) in [(Some(&map), "mapped"), (None, "unmapped")] {
        let to = folder.path().join(name);
        std::fs::write(&to, old()).unwrap();
        let target = FileTarget::open(&to).unwrap();
        let report = Setting::new(&path, map, &target).run().unwrap();
        assert_eq!(report.state, TargetState::Proven);
        assert!(std::fs::read(&to).unwrap() == flat(), "{name}");
        let blocks = |path: &Path| std::fs::metadata(path).unwrap().blocks();
        assert!(blocks(&to) <= blocks(&path) + 16, "{name} is not sparse: {} and {}", blocks(&to), blocks(&path));
    }
}

#[test]
fn a_stream_that_ends_in_zeros_makes_a_sparse_file_of_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let mut content: Vec<u8> = (0..3 << 20).map(byte).collect();
    content.resize(23 << 20, 0);
    let to = folder.path().join("out");
    let target = FileTarget::open(&to).unwrap();
    let stream =
        || Image::from_reader("-", Box::new(std::io::Cursor::new(content.clone())), &image::Options::default());
    let plan = prepare(&mut stream().unwrap(), None, &target, &PlanOptions::default(), &()).unwrap();
    let cancel = Cancel::new();
    let report = copy(Job {
        image: stream().unwrap(),
        reopen: None,
        map: None,
        plan: &plan,
        target: &target,
        options: CopyOptions { prove: true, ..CopyOptions::default() },
        observer: &(),
        cancel: &cancel,
    })
    .unwrap();
    assert_eq!((report.rewritten, report.proven), (0, 23 << 20));
    assert!(std::fs::read(&to).unwrap() == content);
    assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 4 << 20);
}

#[test]
fn a_file_used_as_a_disk_keeps_what_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let to = folder.path().join("disk");
    std::fs::write(&to, old()).unwrap();
    let target = FileTarget::open_disk(&to).unwrap();
    let mut setting = Setting::new(&path, Some(&map), &target);
    setting.plan.holes = HolePolicy::Leave;
    setting.run().unwrap();
    assert!(std::fs::read(&to).unwrap() == overlaid(&map));
    assert!(setting.plan().unwrap().steps().any(|piece| piece.phase == Phase::Invalidate));
}

#[test]
fn proof_on_a_device_without_memory_is_impossible_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let target = FileTarget::open(Path::new("/dev/null")).unwrap();
    let failure = Setting::new(&path, None, &target).run().unwrap_err();
    assert!(matches!(*failure.error, FlashError::NoProof { .. }), "{failure}");
    let target = FileTarget::open(Path::new("/dev/full")).unwrap();
    let failure = Setting::new(&path, None, &target).run().unwrap_err();
    assert!(matches!(*failure.error, FlashError::Target(TargetError::Io { .. })), "{failure}");
}

#[test]
fn wrong_kinds_of_target_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = FileTarget::open(folder.path());
    assert!(matches!(refused, Err(TargetError::Refused { .. })));
    assert!(matches!(FileTarget::open_disk(&folder.path().join("none")), Err(TargetError::Missing { .. })));
    assert!(matches!(FileTarget::open(&folder.path().join("no/such/folder")), Err(TargetError::Open { .. })));
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(FileTarget::open(&fifo), Err(TargetError::Refused { .. })));
}

#[test]
fn verifying_finds_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let map = map_of(&path);
    let to = folder.path().join("disk");
    let mut content = overlaid(&map);
    std::fs::write(&to, &content).unwrap();
    let threads = NonZeroUsize::new(2).unwrap();
    let by_map = |map: &BlockMap| verify(map, &Medium::open(&to).unwrap(), threads, &(), &Cancel::new());
    let by_image = |map| verify_image(open(&path), map, &Medium::open(&to).unwrap(), &(), &Cancel::new());
    assert_eq!(by_map(&map).unwrap().bytes, map.mapped_bytes());
    assert_eq!(by_image(Some(&map)).unwrap().bytes, map.mapped_bytes());
    // Without the map the holes must be zero, and here they are old data.
    assert!(matches!(by_image(None), Err(FlashError::Differs { .. })));
    for place in [0_usize, 3 << 20, usize::try_from(SIZE).unwrap() - 101] {
        content[place] ^= 1;
        std::fs::write(&to, &content).unwrap();
        for result in [by_map(&map), by_image(Some(&map))] {
            let Err(FlashError::Differs { ranges, .. }) = result else { panic!("{place}: {result:?}") };
            let place = u64::try_from(place).unwrap();
            assert!(ranges.len() == 1 && ranges[0].start() <= place && place < ranges[0].end());
        }
        content[place] ^= 1;
    }
    // What lies behind the image is nobody's business.
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&to, &content).unwrap();
    by_map(&map).unwrap();
    content.truncate(4096);
    std::fs::write(&to, &content).unwrap();
    assert!(matches!(by_map(&map), Err(FlashError::TooSmall { .. })));
    let bare = BlockMap::new(map.image_size(), map.block_size(), {
        map.ranges().iter().map(|range| bmap::MappedRange { digest: None, ..*range }).collect()
    });
    assert!(matches!(by_map(&bare.unwrap()), Err(FlashError::TooSmall { .. })));
}

#[test]
fn maps_by_holes_and_by_content_agree_where_the_holes_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let path = image_file(folder.path());
    let options =
        CreateOptions { block_size: Some(BlockSize::DEFAULT), digests: true, threads: NonZeroUsize::new(2).unwrap() };
    let by_holes = map_of(&path);
    let by_content = flasher::create_by_content(open(&path), &options, &(), &Cancel::new()).unwrap();
    assert_eq!(by_holes, by_content);
    for (range, digest) in by_holes.mapped() {
        let bytes = bmap::Hasher::digest(bmap::Algorithm::Sha256, at(&flat(), range.start()..range.end()));
        assert_eq!(digest, Some(bytes));
    }
}
