//! `kill -9` at a hundred random points of writing to a disk that held another bootable system. Whenever it comes, the
//! disk never holds half an image that starts: either the old head or the new one is whole with what belongs to it, or
//! there is none. Running again ends right. Needs root, for loop devices.
//!
//! A killed process leaves what it wrote in the kernel's hands, so this says nothing about power cuts: there the order
//! rests on the syncs between the phases.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests say what they expect by unwrapping")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use support::disk::{self, Shape};
use support::loops::{Loop, available, tool};
use support::{command, folder, mapflash, mapped, noise, old_data, small_image};

/// How often.
const ROUNDS: u32 = 100;

/// Where on the disk something lies that a board or a PC would start from: the MBR, the GPT's header and first entries,
/// its copy at the end, the loader's first block.
const STARTS: [(&str, usize, usize); 4] = [
    ("the MBR", 0, 512),
    ("the GPT header", 512, 512),
    ("the loader", 33 << 10, 3 << 10),
    ("the GPT's copy", (64 << 20) - 512, 512),
];

/// What a disk held before and what it should hold, and where.
struct Contents {
    old: Vec<u8>,
    new: Vec<u8>,
    head: usize,
    mapped: Vec<std::ops::Range<usize>>,
}

/// What was found after a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// As before.
    Untouched,
    /// Something that starts was cleared, nothing of the new image is there.
    Cleared,
    /// Part of the body.
    Body,
    /// All of the body, part of the head.
    Head,
    /// Everything.
    Complete,
}

impl Contents {
    fn body(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let head = self.head;
        self.mapped.iter().filter(move |range| range.end > head).map(move |range| range.start.max(head)..range.end)
    }

    /// Says what a disk holds; fails if it could start with half an image.
    #[track_caller]
    fn look(&self, held: &[u8], round: &str) -> Found {
        let old = |name: &(&str, usize, usize)| held[name.1..name.1 + name.2] == self.old[name.1..name.1 + name.2];
        let new = |name: &(&str, usize, usize)| held[name.1..name.1 + name.2] == self.new[name.1..name.1 + name.2];
        // The copy of the table at the end is part of the body, and nobody starts from it alone.
        let starts = &STARTS[..3];
        let body_is_old = self.body().all(|range| held[range.clone()] == self.old[range]);
        let body_is_new = self.body().all(|range| held[range.clone()] == self.new[range]);
        let head_is_new = self.mapped.iter().all(|range| held[range.clone()] == self.new[range.clone()]);
        if !body_is_old {
            let left: Vec<_> = STARTS.iter().filter(|start| old(start)).collect();
            assert!(left.is_empty(), "{round}: the body has begun, and of the old system there is still {left:?}");
        }
        if !body_is_new {
            let early: Vec<_> = starts.iter().filter(|start| new(start)).collect();
            assert!(early.is_empty(), "{round}: the body is not complete, and of the new head there is {early:?}");
        }
        if !body_is_old && !body_is_new {
            assert!(held[510..512] != [0x55, 0xaa], "{round}: an MBR");
            assert!(!held[512..].starts_with(b"EFI PART"), "{round}: a GPT");
            assert!(held[33 << 10] != 0xd1, "{round}: a loader");
        }
        match () {
            () if head_is_new && body_is_new => Found::Complete,
            () if body_is_new => Found::Head,
            () if !body_is_old => Found::Body,
            () if held == self.old => Found::Untouched,
            () => Found::Cleared,
        }
    }
}

fn write_disk(path: &Path, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, 0).unwrap();
}

/// Numbers from the clock; printed, so that a failure can be told from another.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn no_kill_leaves_half_an_image_that_starts() {
    if !available("no_kill_leaves_half_an_image_that_starts") {
        return;
    }
    let dir = folder();
    let (image, map) = small_image(dir.path());
    // The system that was there before: another bootable image, old data wherever that has holes.
    let backing = dir.path().join("disk");
    old_data(&backing, Shape::SMALL.bytes());
    let before = dir.path().join("old.wic");
    let made = File::create(&before).unwrap();
    disk::make(&made, &Shape::SMALL, 66).unwrap();
    // Protective MBRs of disks of one size are all the same; this one has code in it.
    made.write_all_at(&noise(9, 440), 0).unwrap();
    let before_map = dir.path().join("old.wic.bmap");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    mapflash(["create", &text(&before), "-o", &text(&before_map)]).expect(0);
    let device = Loop::over(&backing);
    mapflash(["copy", "--holes", "leave", &text(&before), device.text()]).expect(0);

    let ranges = mapped(&map, Shape::SMALL.bytes()).into_iter();
    let contents = Contents {
        old: fs::read(&backing).unwrap(),
        new: fs::read(&image).unwrap(),
        head: usize::try_from(Shape::SMALL.boot_start).unwrap() * 4096,
        mapped: ranges.map(|(start, end)| usize::try_from(start).unwrap()..usize::try_from(end).unwrap()).collect(),
    };
    for start in STARTS {
        let (old, new) = (&contents.old[start.1..start.1 + start.2], &contents.new[start.1..start.1 + start.2]);
        assert!(old != new && old.iter().any(|byte| *byte != 0), "{} tells nothing", start.0);
    }

    let args =
        ["copy", "--verify-target", "--holes", "leave", "--quiet", "--bmap", &text(&map), &text(&image), device.text()]
            .map(str::to_owned);
    let started = Instant::now();
    mapflash(&args).expect(0);
    let whole = started.elapsed();

    let mut state = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into();
    state |= 1;
    println!("seed {state}, a whole run takes {whole:?}");
    let mut seen = std::collections::BTreeMap::<Found, u32>::new();
    let mut longest = whole;
    for round in 0..ROUNDS {
        write_disk(&backing, &contents.old);
        tool("blockdev", &["--flushbufs", device.text()]);
        let delay = Duration::from_micros(random(&mut state) % u64::try_from(longest.as_micros()).unwrap());
        let mut child = command(&args).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(delay);
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        tool("blockdev", &["--flushbufs", device.text()]);
        let held = fs::read(&backing).unwrap();
        let found = contents.look(&held, &format!("round {round}, after {delay:?}"));
        *seen.entry(found).or_default() += 1;

        let started = Instant::now();
        mapflash(&args).expect(0);
        longest = longest.min(started.elapsed() * 2);
        tool("blockdev", &["--flushbufs", device.text()]);
        let held = fs::read(&backing).unwrap();
        assert_eq!(contents.look(&held, "run again"), Found::Complete, "round {round}");
    }
    println!("{seen:?}");
    std::io::stdout().flush().unwrap();
    let inside: u32 =
        seen.iter().filter(|(found, _)| !matches!(found, Found::Untouched | Found::Complete)).map(|(_, n)| n).sum();
    assert!(inside >= ROUNDS / 10, "too few kills hit the job itself: {seen:?}");
}
