//! Writing to block devices: loop devices, which need root. What must be refused is refused with the place named, queue
//! settings come back on every way out, proof finds what a medium does wrong, and filesystems survive on disks that
//! were full of old data.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests say what they expect by unwrapping")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::disk::Shape;
use support::loops::{Loop, Mount, available, skip, tool};
use support::signal::{SIGCONT, SIGHUP, SIGINT, SIGSTOP, SIGTERM, send};
use support::{Run, command, folder, mapflash, mapped, old_data, small_image};

const DEVICE_FAILED: i32 = 4;
const WRONG_IMAGE: i32 = 5;
const NOT_HELD: i32 = 6;
const REFUSED: i32 = 7;

/// The settings that are tuned, and what they hold before in these tests.
const SETTINGS: [(&str, &str); 2] = [("bdi/max_ratio", "80"), ("queue/scheduler", "mq-deadline")];

/// An image, its map, and a disk of the same size full of old data.
struct Bench {
    dir: tempfile::TempDir,
    image: PathBuf,
    map: PathBuf,
    backing: PathBuf,
    disk: Loop,
}

impl Bench {
    fn new() -> Self {
        let dir = folder();
        let (image, map) = small_image(dir.path());
        let backing = dir.path().join("disk");
        old_data(&backing, Shape::SMALL.bytes());
        let disk = Loop::over(&backing);
        for (setting, value) in SETTINGS {
            disk.set(setting, value);
        }
        Self { dir, image, map, backing, disk }
    }

    fn args<'a>(&'a self, image: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["--json", "copy", "--bmap", self.map.to_str().unwrap(), image, self.disk.text()];
        args.extend(more);
        args
    }

    fn copy(&self, more: &[&str]) -> Run {
        mapflash(self.args(self.image.to_str().unwrap(), more))
    }

    /// What the disk holds.
    fn held(&self) -> Vec<u8> {
        read_disk(&self.disk.device)
    }

    #[track_caller]
    fn settings_are_as_before(&self) {
        for (setting, value) in SETTINGS {
            assert_eq!(self.disk.setting(setting), value, "{setting}");
        }
    }

    /// Starts a copy whose image comes through a pipe, by the map; returns it and the image's bytes.
    fn start_piped(&self, more: &[&str]) -> (Child, Vec<u8>) {
        let mut program = command(self.args("-", more));
        let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        (program.spawn().unwrap(), fs::read(&self.image).unwrap())
    }
}

/// All bytes of a device, past its cache.
fn read_disk(device: &Path) -> Vec<u8> {
    tool("blockdev", &["--flushbufs", device.to_str().unwrap()]);
    fs::read(device).unwrap()
}

#[track_caller]
fn error(run: &Run, status: i32) -> serde_json::Value {
    assert_eq!(run.status, Some(status), "{run:#?}");
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
    run.object("error")
}

/// A refusal that names `place`, and leaves the disk as it was.
#[track_caller]
fn refused(bench: &Bench, place: &str) {
    let before = fs::read(&bench.backing).unwrap();
    let run = bench.copy(&["--yes"]);
    let error = error(&run, REFUSED);
    assert_eq!(error["target_changed"], false);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(place) && message.contains("/dev/loop"), "{place}: {message}");
    assert!(before == fs::read(&bench.backing).unwrap(), "a refused disk was written to");
    bench.settings_are_as_before();
}

#[test]
fn a_mounted_disk() {
    if !available("a_mounted_disk") {
        return;
    }
    let bench = Bench::new();
    let root = u64::from(Shape::SMALL.root_start()) * 4096;
    let bytes = fs::read(&bench.image).unwrap();
    // The root filesystem alone fills this disk.
    let disk = OpenOptions::new().write(true).open(&bench.backing).unwrap();
    disk.write_all_at(&bytes[usize::try_from(root).unwrap()..], 0).unwrap();
    let at = bench.dir.path().join("a mount");
    let mount = Mount::new("ext4", "ro,noload", &bench.disk.device, &at);
    refused(&bench, at.to_str().unwrap());
    drop(mount);
    bench.copy(&["--yes"]).expect(0);
}

#[test]
fn what_is_no_image_of_a_disk_is_written_with_a_warning() {
    if !available("what_is_no_image_of_a_disk_is_written_with_a_warning") {
        return;
    }
    let bench = Bench::new();
    let words = bench.dir.path().join("words");
    fs::write(&words, b"no image at all ".repeat(256)).unwrap();
    let run = mapflash(["--json", "copy", "--yes", words.to_str().unwrap(), bench.disk.text()]).expect(0);
    assert!(
        run.object("warning")["message"].as_str().unwrap().contains("neither a partition table nor a loader"),
        "{run:#?}"
    );
    let run = bench.copy(&["--yes"]).expect(0);
    assert!(!run.stderr.contains("whole card"), "{run:#?}");
}

#[test]
fn a_disk_with_a_mounted_partition() {
    if !available("a_disk_with_a_mounted_partition") {
        return;
    }
    let bench = Bench::new();
    bench.copy(&["--verify-target"]).expect(0);
    // The kernel here may know no partition tables, so it is told where the partition lies.
    let (start, len) = (Shape::SMALL.root_start() * 8, Shape::SMALL.root_blocks() * 8);
    let told = Command::new("addpart").args([bench.disk.text(), "2", &start.to_string(), &len.to_string()]).output();
    if !told.as_ref().is_ok_and(|output| output.status.success()) {
        return skip("a_disk_with_a_mounted_partition", &format!("no partitions on loop devices: {told:?}"));
    }
    let partition = PathBuf::from(format!("{}p2", bench.disk.text()));
    let at = bench.dir.path().join("root");
    let mount = Mount::new("ext4", "ro,noload", &partition, &at);
    refused(&bench, at.to_str().unwrap());
    drop(mount);
    tool("delpart", &[bench.disk.text(), "2"]);
    bench.copy(&[]).expect(0);
}

/// The kernel does not call a loop device a holder of the disk it lies on.
#[test]
fn a_disk_below_a_mounted_loop_device() {
    if !available("a_disk_below_a_mounted_loop_device") {
        return;
    }
    let bench = Bench::new();
    bench.copy(&["--verify-target"]).expect(0);
    let above = Loop::at(&bench.disk.device, u64::from(Shape::SMALL.root_start()) * 4096);
    let mount = Mount::new("ext4", "ro,noload", &above.device, &bench.dir.path().join("root"));
    refused(&bench, above.text());
    drop(mount);
    drop(above);
    wait_for("the loop device to go", || bench.copy(&[]).status == Some(0));
}

#[test]
fn swap_space() {
    if !available("swap_space") {
        return;
    }
    let bench = Bench::new();
    tool("mkswap", &[bench.disk.text()]);
    // What is still in the kernel's cache would look like something written later.
    tool("blockdev", &["--flushbufs", bench.disk.text()]);
    let on = Command::new("swapon").arg(bench.disk.text()).output().unwrap();
    if !on.status.success() {
        return skip("swap_space", &String::from_utf8_lossy(&on.stderr));
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| refused(&bench, "swap")));
    tool("swapoff", &[bench.disk.text()]);
    result.unwrap();
}

#[test]
fn a_disk_that_somebody_has_open_for_himself() {
    if !available("a_disk_that_somebody_has_open_for_himself") {
        return;
    }
    let bench = Bench::new();
    let mine = OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL).open(&bench.disk.device).unwrap();
    refused(&bench, "open");
    drop(mine);
}

#[test]
fn a_read_only_disk() {
    if !available("a_read_only_disk") {
        return;
    }
    let bench = Bench::new();
    tool("blockdev", &["--setro", bench.disk.text()]);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| refused(&bench, "read-only")));
    tool("blockdev", &["--setrw", bench.disk.text()]);
    result.unwrap();

    let file = bench.dir.path().join("other");
    old_data(&file, Shape::SMALL.bytes());
    let disk = Loop::read_only(&file);
    let run = mapflash(["--json", "copy", "--nobmap", bench.image.to_str().unwrap(), disk.text()]);
    assert!(error(&run, REFUSED)["message"].as_str().unwrap().contains("read-only"));
}

#[test]
fn a_disk_that_is_too_small() {
    if !available("a_disk_that_is_too_small") {
        return;
    }
    let bench = Bench::new();
    let file = bench.dir.path().join("small disk");
    let size = Shape::SMALL.bytes() - 512;
    old_data(&file, size);
    let before = fs::read(&file).unwrap();
    let disk = Loop::over(&file);
    for more in [vec!["--bmap", bench.map.to_str().unwrap()], vec!["--nobmap"]] {
        let mut args = vec!["--json", "copy", bench.image.to_str().unwrap(), disk.text()];
        args.extend(more);
        let run = mapflash(args);
        let message = error(&run, REFUSED)["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&size.to_string()) && message.contains("67108864"), "{message}");
        assert!(fs::read(&file).unwrap() == before);
    }
}

/// The length of a packed image is known only when it has come to its end: the disk is full of its beginning by then,
/// and has no head.
#[test]
fn a_disk_that_is_too_small_for_a_stream() {
    if !available("a_disk_that_is_too_small_for_a_stream") {
        return;
    }
    let bench = Bench::new();
    let file = bench.dir.path().join("small disk");
    old_data(&file, Shape::SMALL.bytes() - 4096);
    let disk = Loop::over(&file);
    let mut program = command(["--json", "copy", "--nobmap", "-", disk.text()]);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // It stops reading where the disk ends.
    let _ = input.write_all(&fs::read(&bench.image).unwrap());
    drop(input);
    let run = Run::of("copy".to_owned(), child.wait_with_output().unwrap());
    let error = error(&run, DEVICE_FAILED);
    assert_eq!((&error["kind"], &error["target_changed"]), (&"image_goes_on".into(), &true.into()), "{run:#?}");
    no_head(&read_disk(&disk.device));
}

#[test]
fn a_disk_that_is_the_image() {
    if !available("a_disk_that_is_the_image") {
        return;
    }
    let bench = Bench::new();
    let run = mapflash(["--json", "copy", "--nobmap", bench.disk.text(), bench.disk.text()]);
    error(&run, REFUSED);
}

/// The image lies on the disk, or the other way round, by other names.
#[test]
fn a_disk_that_shares_bytes_with_the_image() {
    if !available("a_disk_that_shares_bytes_with_the_image") {
        return;
    }
    let bench = Bench::new();
    let before = fs::read(&bench.backing).unwrap();
    let backing = bench.backing.to_str().unwrap();
    let above = Loop::over(&bench.disk.device);
    let mut pairs = vec![
        // What is written to a loop device is written to the file behind it.
        (backing, bench.disk.text(), "part of"),
        (bench.disk.text(), backing, "what the image is on"),
        (backing, above.text(), "part of"),
        (above.text(), bench.disk.text(), "what the image is on"),
    ];
    let partition = format!("{}p2", bench.disk.text());
    let (start, len) = (Shape::SMALL.root_start() * 8, Shape::SMALL.root_blocks() * 8);
    let told = Command::new("addpart").args([bench.disk.text(), "2", &start.to_string(), &len.to_string()]).output();
    let partitions = told.as_ref().is_ok_and(|output| output.status.success());
    if partitions {
        pairs.push((&partition, bench.disk.text(), "what the image is on"));
        pairs.push((bench.disk.text(), &partition, "part of"));
        pairs.push((&partition, backing, "what the image is on"));
    } else {
        println!("no partitions on loop devices: {told:?}");
    }
    for (image, target, why) in pairs {
        let run = mapflash(["--json", "copy", "--nobmap", image, target]);
        let error = error(&run, REFUSED);
        assert_eq!((&error["kind"], &error["target_changed"]), (&"target_is_source".into(), &false.into()));
        assert!(error["message"].as_str().unwrap().contains(why), "{image} onto {target}: {error}");
    }
    assert!(before == fs::read(&bench.backing).unwrap(), "a refused disk was written to");
    if partitions {
        tool("delpart", &[bench.disk.text(), "2"]);
    }
}

/// Waits until `ready`, or fails after ten seconds.
#[track_caller]
fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within ten seconds");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn settings_are_tuned_and_come_back_after_success() {
    if !available("settings_are_tuned_and_come_back_after_success") {
        return;
    }
    let bench = Bench::new();
    let (mut child, image) = bench.start_piped(&[]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(&image[..24 << 20]).unwrap();
    wait_for("tuning", || {
        bench.disk.setting("bdi/max_ratio") == "1" && bench.disk.setting("queue/scheduler") == "none"
    });
    input.write_all(&image[24 << 20..]).unwrap();
    drop(input);
    Run::of("copy".to_owned(), child.wait_with_output().unwrap()).expect(0);
    bench.settings_are_as_before();
}

#[test]
fn settings_come_back_after_a_failure() {
    if !available("settings_come_back_after_a_failure") {
        return;
    }
    let bench = Bench::new();
    let (mut child, mut image) = bench.start_piped(&[]);
    image[24 << 20..].fill(7);
    let mut input = child.stdin.take().unwrap();
    input.write_all(&image[..24 << 20]).unwrap();
    wait_for("tuning", || bench.disk.setting("bdi/max_ratio") == "1");
    // It may stop reading once it knows.
    let _ = input.write_all(&image[24 << 20..]);
    drop(input);
    let run = Run::of("copy".to_owned(), child.wait_with_output().unwrap());
    let error = error(&run, WRONG_IMAGE);
    assert_eq!(error["target_state"], "no_head");
    no_head(&bench.held());
    bench.settings_are_as_before();
}

/// What starts a disk is gone: partition table, its copies, and the loader.
#[track_caller]
fn no_head(held: &[u8]) {
    assert!(held[510..512] != [0x55, 0xaa], "an MBR");
    assert!(!held[512..].starts_with(b"EFI PART"), "a partition table");
    assert!(!held[33 << 10..].starts_with(&[0xd1, 0x00, 0x20]), "a loader");
}

/// Stops a copy that waits for its image, in the middle of the body.
fn stopped_by(signal: i32) {
    let bench = Bench::new();
    let (mut child, image) = bench.start_piped(&[]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(&image[..24 << 20]).unwrap();
    wait_for("tuning", || bench.disk.setting("bdi/max_ratio") == "1");
    thread::sleep(Duration::from_millis(100));
    send(&child, signal);
    wait_for("the end", || child.try_wait().unwrap().is_some());
    drop(input);
    let run = Run::of(format!("copy, signal {signal}"), child.wait_with_output().unwrap());
    let error = error(&run, 128 + signal);
    assert_eq!((&error["kind"], &error["target_state"]), (&"cancelled".into(), &"no_head".into()), "{run:#?}");
    assert!(run.stderr.contains("does not boot"), "{run:#?}");
    no_head(&bench.held());
    bench.settings_are_as_before();
    bench.copy(&["--verify-target"]).expect(0);
    holds_the_image(&bench, &bench.held());
}

#[test]
fn stopped_by_sigint() {
    if available("stopped_by_sigint") {
        stopped_by(SIGINT);
    }
}

#[test]
fn stopped_by_sigterm() {
    if available("stopped_by_sigterm") {
        stopped_by(SIGTERM);
    }
}

/// The second signal does not wait for the job: here the job waits for an image that does not come.
#[test]
fn stopped_at_once_by_the_second_signal() {
    if !available("stopped_at_once_by_the_second_signal") {
        return;
    }
    let bench = Bench::new();
    for round in 0..8 {
        let (mut child, image) = bench.start_piped(&[]);
        let mut input = child.stdin.take().unwrap();
        input.write_all(&image[..24 << 20]).unwrap();
        wait_for("tuning", || bench.disk.setting("bdi/max_ratio") == "1");
        // Both are there when it goes on. The job may end by the first at that moment: either way there is one end.
        for signal in [SIGSTOP, SIGINT, SIGTERM, SIGCONT] {
            send(&child, signal);
        }
        wait_for("the end", || child.try_wait().unwrap().is_some());
        drop(input);
        let run = Run::of(format!("copy, two signals, round {round}"), child.wait_with_output().unwrap());
        bench.settings_are_as_before();
        assert!(matches!(run.status, Some(130 | 143)), "{run:#?}");
        let error = run.object("error");
        assert_eq!((&error["kind"], &error["target_changed"]), (&"cancelled".into(), &true.into()), "{run:#?}");
        assert_eq!(error["status"], run.status.unwrap(), "{run:#?}");
        no_head(&bench.held());
    }
}

#[test]
fn stopped_by_sighup() {
    if available("stopped_by_sighup") {
        stopped_by(SIGHUP);
    }
}

/// At any moment of the job, not only while it waits: the settings come back and the status says which signal.
#[test]
fn stopped_at_any_moment() {
    if !available("stopped_at_any_moment") {
        return;
    }
    let bench = Bench::new();
    let started = Instant::now();
    bench.copy(&["--verify-target"]).expect(0);
    let whole = started.elapsed();
    let mut stopped = 0;
    for round in 0..24 {
        let mut program = command(bench.args(bench.image.to_str().unwrap(), &["--verify-target"]));
        let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(whole * round / 24);
        send(&child, SIGTERM);
        let run = Run::of(format!("copy stopped in round {round}"), child.wait_with_output().unwrap());
        bench.settings_are_as_before();
        assert!(!run.stderr.contains("panicked"), "{run:#?}");
        match (run.status, run.signal) {
            // Too early for a handler, when nothing has been touched, or too late to matter.
            (None, Some(15)) | (Some(0), None) => {}
            (Some(143), None) => {
                stopped += 1;
                assert_eq!(run.object("error")["kind"], "cancelled");
            }
            _ => panic!("{run:#?}"),
        }
    }
    println!("{stopped} of 24 stopped on the way");
    assert!(stopped > 0);
}

/// A medium that changes one byte each time it has been written, `times` times; the byte lies in the body.
struct Forgetful {
    thread: Option<thread::JoinHandle<()>>,
    stop: std::sync::Arc<(AtomicBool, AtomicU32)>,
}

/// Lets this thread run before all others, so that a busy machine cannot make the medium miss a write.
fn go_first() {
    let task = fs::read_link("/proc/thread-self").unwrap();
    let task = task.file_name().unwrap().to_str().unwrap().to_owned();
    tool("chrt", &["--fifo", "--pid", "1", &task]);
}

impl Forgetful {
    fn new(bench: &Bench, at: u64, times: u32) -> Self {
        let right = fs::read(&bench.image).unwrap()[usize::try_from(at).unwrap()];
        let file = OpenOptions::new().read(true).write(true).open(&bench.backing).unwrap();
        let stop = std::sync::Arc::<(AtomicBool, AtomicU32)>::default();
        let inner = std::sync::Arc::clone(&stop);
        let thread = thread::spawn(move || {
            go_first();
            while !inner.0.load(Ordering::SeqCst) && inner.1.load(Ordering::SeqCst) < times {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                if byte[0] == right {
                    file.write_all_at(&[right ^ 0xff], at).unwrap();
                    inner.1.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { thread: Some(thread), stop }
    }

    fn forgot(&self) -> u32 {
        self.stop.1.load(Ordering::SeqCst)
    }
}

impl Drop for Forgetful {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

/// An offset in the body whose byte is not what the old data has there, early enough to be written long before proof.
fn early_in_the_body(bench: &Bench) -> u64 {
    let (image, disk) = (fs::read(&bench.image).unwrap(), fs::read(&bench.backing).unwrap());
    let root = usize::try_from(Shape::SMALL.root_start()).unwrap() * 4096;
    let at = (root + 1024..).find(|&at| image[at] != disk[at] && image[at] != 0).unwrap();
    u64::try_from(at).unwrap()
}

/// Copies to a medium that forgets a byte so many times; the byte is returned too. The medium is a thread that watches
/// its file, and may look too late to change what is read back: then once more.
fn copy_to_forgetful(times: u32, in_time: impl Fn(&Run) -> bool) -> (Bench, u64, Run) {
    for attempt in 1.. {
        let bench = Bench::new();
        let at = early_in_the_body(&bench);
        let medium = Forgetful::new(&bench, at, times);
        let run = bench.copy(&["--verify-target"]);
        let forgot = medium.forgot();
        drop(medium);
        if in_time(&run) {
            assert!(forgot >= times.min(4), "written and written again three times, not {forgot}");
            return (bench, at, run);
        }
        assert!(attempt < 20, "{run:#?}");
        println!("the medium forgot {forgot} times, but too late: again");
    }
    unreachable!()
}

#[test]
fn proof_mends_what_a_medium_lost_once() {
    if !available("proof_mends_what_a_medium_lost_once") {
        return;
    }
    let (bench, _, run) = copy_to_forgetful(1, |run| run.objects().iter().any(|object| object["event"] == "retry"));
    let run = run.expect(0);
    assert_eq!(run.object("result")["rewritten"], 1, "{run:#?}");
    assert_eq!(run.object("retry")["attempt"], 1);
    holds_the_image(&bench, &bench.held());
}

#[test]
fn proof_names_what_a_medium_cannot_hold() {
    if !available("proof_names_what_a_medium_cannot_hold") {
        return;
    }
    let (bench, at, run) = copy_to_forgetful(u32::MAX, |run| run.status != Some(0));
    let error = error(&run, NOT_HELD);
    let message = error["message"].as_str().unwrap();
    // The piece is named, and the byte lies in it.
    let extent = message.split("bytes ").nth(1).and_then(|rest| rest.split([' ', ',', ':']).next()).unwrap();
    let (start, end) = extent.split_once("..").unwrap();
    assert!((start.parse().unwrap()..end.parse().unwrap()).contains(&at), "{message}");
    assert_eq!(run.objects().iter().filter(|object| object["event"] == "retry").count(), 3);
    no_head(&bench.held());
    bench.settings_are_as_before();
}

/// Without proof nobody notices; `verify` does afterwards.
#[test]
fn verify_finds_what_was_lost_later() {
    if !available("verify_finds_what_was_lost_later") {
        return;
    }
    let bench = Bench::new();
    let run = bench.copy(&[]).expect(0);
    assert_eq!(run.object("result")["target_state"], "written_unproven");
    let verify = || mapflash(["--json", "verify", bench.map.to_str().unwrap(), bench.disk.text()]);
    verify().expect(0);
    let at = early_in_the_body(&Bench::new());
    OpenOptions::new().write(true).open(&bench.backing).unwrap().write_all_at(b"?", at).unwrap();
    error(&verify(), NOT_HELD);
}

#[track_caller]
fn holds_the_image(bench: &Bench, held: &[u8]) {
    let image = fs::read(&bench.image).unwrap();
    for (start, end) in mapped(&bench.map, Shape::SMALL.bytes()) {
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        assert!(image[range.clone()] == held[range], "bytes {start}..{end} differ");
    }
}

/// Every file of both filesystems is on the disk as in the image, and checkers find nothing.
#[track_caller]
fn filesystems_are_whole(bench: &Bench) {
    let root = u64::from(Shape::SMALL.root_start()) * 4096;
    let boot = u64::from(Shape::SMALL.boot_start) * 4096;
    let of_disk = Loop::at(&bench.backing, root);
    let of_image = Loop::at(&bench.image, root);
    tool("e2fsck", &["-fn", of_disk.text()]);
    let (one, other) = (bench.dir.path().join("on the disk"), bench.dir.path().join("in the image"));
    let _mounts = (
        Mount::new("ext4", "ro,noload", &of_disk.device, &one),
        Mount::new("ext4", "ro,noload", &of_image.device, &other),
    );
    let mut compared = 0;
    for folder in fs::read_dir(&other).unwrap() {
        let name = folder.unwrap().file_name();
        let names = |at: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(at.join(&name)).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&one), names(&other));
        for file in names(&other) {
            let read = |at: &Path| fs::read(at.join(&name).join(&file)).unwrap();
            assert!(read(&one) == read(&other), "{name:?}/{file:?}");
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} files");

    let of_disk = Loop::at(&bench.backing, boot);
    match Command::new("fsck.fat").args(["-n", of_disk.text()]).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => println!("fsck.fat was not run: {error}"),
    }
}

#[test]
fn holes_on_a_disk_full_of_old_data() {
    if !available("holes_on_a_disk_full_of_old_data") {
        return;
    }
    for holes in ["auto", "leave", "zero"] {
        let bench = Bench::new();
        let before = fs::read(&bench.backing).unwrap();
        let run = bench.copy(&["--holes", holes, "--verify-target"]).expect(0);
        let (result, held) = (run.object("result"), bench.held());
        holds_the_image(&bench, &held);

        // What the program says about the holes is what the disk says.
        let ranges = mapped(&bench.map, Shape::SMALL.bytes());
        let ends = std::iter::once(0).chain(ranges.iter().map(|range| range.1));
        let starts = ranges.iter().map(|range| range.0).chain([Shape::SMALL.bytes()]);
        let (mut left, mut zero) = (0, 0);
        for (start, end) in ends.zip(starts) {
            for block in (start..end).step_by(4096) {
                let at = usize::try_from(block).unwrap();
                let len = usize::try_from((end - block).min(4096)).unwrap();
                let bytes = &held[at..at + len];
                if bytes == &before[at..at + len] {
                    left += len;
                } else {
                    assert!(bytes.iter().all(|byte| *byte == 0), "block at {block} is neither old nor zero");
                    zero += len;
                }
            }
        }
        println!("{holes}: {left} bytes left, {zero} zero; {result}");
        let said_left = result["holes_left"].as_u64().unwrap() + result["gap_left"].as_u64().unwrap();
        assert_eq!(said_left, u64::try_from(left).unwrap(), "{holes}");
        let zeroed = result["holes_zeroed"].as_u64().unwrap() + result["zeros"].as_u64().unwrap();
        assert_eq!(zeroed, u64::try_from(zero).unwrap(), "{holes}");
        // Only the gap in front of the first partition is never touched.
        let gap = ranges.iter().zip(&ranges[1..]).map(|(one, next)| (one.1, next.0));
        let head = u64::from(Shape::SMALL.boot_start) * 4096;
        let in_the_head: u64 = gap.filter(|gap| gap.0 < head).map(|gap| gap.1.min(head) - gap.0).sum();
        assert_eq!(result["gap_left"], in_the_head, "{holes}");
        match holes {
            "leave" => assert_eq!(zero, 0),
            "zero" => assert_eq!(u64::try_from(left).unwrap(), in_the_head),
            _ => {}
        }
        filesystems_are_whole(&bench);
    }
}

/// Holes of a file without a map are zeros of the image: the disk must read as the image does, everywhere.
#[test]
fn without_a_map_every_byte_counts() {
    if !available("without_a_map_every_byte_counts") {
        return;
    }
    let bench = Bench::new();
    let copy = |image: &str| {
        let run = mapflash(["--json", "copy", "--nobmap", "--verify-target", image, bench.disk.text()]).expect(0);
        assert_eq!(run.object("result")["target_state"], "proven");
        assert!(bench.held() == fs::read(&bench.image).unwrap(), "the disk does not read as the image");
    };
    copy(bench.image.to_str().unwrap());
    // The same from a stream, where zeros are found by looking.
    old_data(&bench.backing, Shape::SMALL.bytes());
    let packed = bench.dir.path().join("small.wic.gz");
    fs::write(&packed, (support::pack::PACKINGS[0].pack)(&fs::read(&bench.image).unwrap())).unwrap();
    copy(packed.to_str().unwrap());
}

/// A disk that stops taking data in the middle: here its backing store is full, which the kernel reports as an error of
/// the device.
#[test]
fn a_disk_that_fails_in_the_middle() {
    if !available("a_disk_that_fails_in_the_middle") {
        return;
    }
    let bench = Bench::new();
    let store = bench.dir.path().join("store");
    let _mount = Mount::new("tmpfs", "size=6m", Path::new("tmpfs"), &store);
    let backing = store.join("disk");
    File::create(&backing).unwrap().set_len(Shape::SMALL.bytes()).unwrap();
    let disk = Loop::over(&backing);
    for (setting, value) in SETTINGS {
        disk.set(setting, value);
    }
    let (map, image) = (bench.map.to_str().unwrap(), bench.image.to_str().unwrap());
    for more in [&[][..], &["--verify-target"]] {
        let mut args = vec!["--json", "copy", "--bmap", map, image, disk.text()];
        args.extend(more);
        let run = mapflash(args);
        let error = error(&run, DEVICE_FAILED);
        assert_eq!(error["target_state"], "no_head", "{run:#?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("bytes ") && message.contains(disk.text()), "{message}");
        for (setting, value) in SETTINGS {
            assert_eq!(disk.setting(setting), value, "{setting}");
        }
    }
}

/// Progress is told while it happens, not after: the bytes reported as written are on the device by then, or on their
/// way by direct I/O.
#[test]
fn progress_follows_the_device() {
    if !available("progress_follows_the_device") {
        return;
    }
    let bench = Bench::new();
    let (mut child, image) = bench.start_piped(&["--verify-target"]);
    let mut input = child.stdin.take().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let feeder = thread::spawn(move || {
        input.write_all(&image[..24 << 20]).unwrap();
        thread::sleep(Duration::from_millis(1200));
        input.write_all(&image[24 << 20..]).unwrap();
    });
    let mut stages = Vec::new();
    let mut early = 0;
    for line in output.lines() {
        let object: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        match object["event"].as_str().unwrap() {
            "stage" => stages.push(object["stage"].as_str().unwrap().to_owned()),
            "progress" if !feeder.is_finished() => early = early.max(object["done"].as_u64().unwrap()),
            _ => {}
        }
    }
    feeder.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(stages, ["invalidate", "write", "sync", "prove", "head", "commit"]);
    assert!(early > 0, "nothing was reported while the image was still on its way");
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
}
