//! `mapflash copy`

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::process::Stdio;

use crate::support::{Ran, Room, golden, without_times};

#[test]
fn the_map_beside_the_image_is_used_and_the_copy_is_the_image() {
    let room = Room::new();
    room.sample();
    room.gzip("disk.wic", "disk.wic.gz");
    for image in ["disk.wic", "disk.wic.gz"] {
        let ran = room.run(&["copy", image, "out", "--verify-target"]).expect(0);
        assert_eq!(ran.stdout, "");
        golden("copy.txt", &without_times(&ran.stderr));
        assert!(room.read("out") == room.read("disk.wic"));
        // Holes stay holes: five blocks of data, and what the filesystem keeps about them.
        assert!(fs::metadata(room.path("out")).unwrap().blocks() * 512 <= 16 * 4096);
    }
}

#[test]
fn without_a_map_every_byte_counts() {
    let room = Room::new();
    room.sample();
    room.gzip("disk.wic", "other.gz");
    let ran = room.run(&["copy", "other.gz", "out"]).expect(0);
    assert!(ran.stderr.contains("no block map found"), "{}", ran.stderr);
    assert!(room.read("out") == room.read("disk.wic"));
    // An old file is replaced, not written over.
    room.write("out", &[0xee; 9 << 20]);
    room.run(&["copy", "disk.wic", "out", "--nobmap"]).expect(0);
    assert!(room.read("out") == room.read("disk.wic"));
}

#[test]
fn standard_input_is_an_image_too() {
    let room = Room::new();
    room.sample();
    room.gzip("disk.wic", "disk.wic.gz");
    for file in ["disk.wic", "disk.wic.gz"] {
        room.run_with_stdin(&["copy", "-", "out"], &room.read(file)).expect(0);
        assert!(room.read("out") == room.read("disk.wic"), "{file}");
    }
    room.run_with_stdin(&["copy", "-", "out", "--bmap", "disk.wic.bmap"], &room.read("disk.wic.gz")).expect(0);
    assert!(room.read("out") == room.read("disk.wic"));
}

#[test]
fn quiet_says_nothing_when_all_is_well() {
    let room = Room::new();
    room.sample();
    let ran = room.run(&["-q", "copy", "disk.wic", "out"]).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

#[test]
fn json_tells_stages_and_result() {
    let room = Room::new();
    room.sample();
    let ran = room.run(&["--json", "copy", "disk.wic", "out", "--verify-target"]).expect(0);
    assert_eq!(ran.stderr, "");
    let objects = ran.objects();
    let of = |event: &str| objects.iter().filter(|object| object["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("start")[0]["map"], "disk.wic.bmap");
    let stages: Vec<_> = of("stage").iter().map(|object| object["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["write", "sync", "prove", "head", "commit"]);
    assert_eq!(of("stage_done").len(), stages.len());
    let result = ran.last();
    assert_eq!(
        (&result["event"], &result["status"], &result["target_state"]),
        (&"result".into(), &0.into(), &"proven".into())
    );
    assert_eq!(result["proven"], result["data"]);

    let ran = room.run(&["--json", "--quiet", "copy", "disk.wic", "out"]).expect(0);
    assert!(ran.objects().iter().all(|object| object["event"] != "stage" && object["event"] != "progress"));
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let room = Room::new();
    room.sample();
    let before = room.names();
    let ran = room.run(&["copy", "disk.wic", "out", "--dry-run", "--verify-target"]).expect(0);
    golden("copy-dry-run.txt", &ran.stdout);
    assert_eq!(room.names(), before);
    room.write("out", b"old");
    let ran = room.run(&["copy", "disk.wic", "out", "--dry-run", "--nobmap"]).expect(0);
    golden("copy-dry-run-nobmap.txt", &ran.stdout);
    assert_eq!(room.read("out"), b"old");
    let plan = room.run(&["--json", "copy", "disk.wic", "out", "--dry-run"]).expect(0).last();
    assert_eq!((&plan["event"], &plan["image_size"]), (&"plan".into(), &((4 << 20) + 100).into()));
    assert_eq!(room.read("out"), b"old");
}

#[test]
fn one_wrong_byte_is_status_5_and_named() {
    let room = Room::new();
    let image = room.sample();
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(&[0xff], 3 << 20).unwrap();
    let ran = room.run(&["-q", "copy", "disk.wic", "out"]).expect(5);
    assert!(ran.stderr.contains("block 768 "), "{}", ran.stderr);
    assert!(ran.stderr.contains("; run again with a whole image and its own block map"), "{}", ran.stderr);
    let error = room.run(&["--json", "copy", "disk.wic", "out"]).expect(5).last();
    assert_eq!((&error["kind"], &error["status"]), (&"range_digest".into(), &5.into()));
    assert_eq!((&error["target_changed"], &error["target_state"]), (&true.into(), &"no_head".into()));
    // Switched off by name, it is written.
    room.run(&["copy", "disk.wic", "out", "--no-verify"]).expect(0);
    assert!(room.read("out") == room.read("disk.wic"));
}

#[test]
fn refusals_leave_the_target_as_it_was() {
    let room = Room::new();
    room.sample();
    room.image("short.wic", 1 << 20, &[0]);
    room.write("damaged.bmap", String::from_utf8(room.read("disk.wic.bmap")).unwrap().replace("0-1", "0-2").as_bytes());
    room.write("junk.bmap", b"<html><body>404 Not Found</body></html>");
    room.write("out", b"old");
    symlink("disk.wic", room.path("link")).unwrap();
    symlink("/dev/mapflash-no-such-disk", room.path("to-no-disk")).unwrap();
    let before = room.names();
    for (name, args, status) in [
        ("missing-image", &["no-such.wic", "out"][..], 1),
        ("url-image", &["https://example.org/disk.wic", "out"], 1),
        ("missing-map", &["disk.wic", "out", "--bmap", "no-such.bmap"], 1),
        ("folder-image", &[".", "out"], 1),
        ("map-of-another", &["short.wic", "out", "--bmap", "disk.wic.bmap"], 5),
        ("damaged-map", &["disk.wic", "out", "--bmap", "damaged.bmap"], 5),
        ("junk-map", &["disk.wic", "out", "--bmap", "junk.bmap"], 1),
        ("image-is-map", &["disk.wic.bmap", "out", "--nobmap"], 1),
        ("map-is-image", &["disk.wic", "out", "--bmap", "disk.wic"], 1),
        ("onto-itself", &["disk.wic", "link"], 7),
        ("onto-its-map", &["disk.wic", "disk.wic.bmap"], 7),
        ("onto-a-folder", &["disk.wic", "."], 7),
        ("no-device", &["disk.wic", "/dev/mapflash-no-such-disk"], 3),
        ("no-device-by-id", &["disk.wic", "/dev/mapflash-no-such-folder/by-id/usb-disk"], 3),
        ("no-device-link", &["disk.wic", "to-no-disk"], 3),
        ("no-folder", &["disk.wic", "missing/out"], 1),
    ] {
        let ran = room.run(&[&["-q", "copy"], args].concat()).expect(status);
        assert_eq!(ran.stdout, "");
        golden(&format!("copy-{name}.txt"), &ran.stderr);
        assert_eq!((room.names(), room.read("out")), (before.clone(), b"old".to_vec()), "{name}");
        let error = room.run(&[&["--json", "copy"], args].concat()).expect(status).last();
        assert_eq!((&error["status"], &error["target_changed"]), (&status.into(), &false.into()), "{name}");
    }
}

#[test]
fn a_refusal_makes_no_new_file() {
    let room = Room::new();
    room.sample();
    room.image("short.wic", 1 << 20, &[0]);
    room.run(&["copy", "short.wic", "new", "--bmap", "disk.wic.bmap"]).expect(5);
    room.run(&["copy", "no-such.wic", "new"]).expect(1);
    assert!(!room.path("new").exists());
    // A link that led nowhere leads nowhere again, and is still there.
    symlink("new", room.path("dangling")).unwrap();
    room.run(&["copy", "short.wic", "dangling", "--bmap", "disk.wic.bmap"]).expect(5);
    assert!(!room.path("new").exists());
    assert_eq!(fs::read_link(room.path("dangling")).unwrap().to_str(), Some("new"));
}

#[test]
fn a_missing_device_does_not_become_a_file_in_memory() {
    let room = Room::new();
    room.sample();
    let image = room.path("disk.wic");
    let mut command = room.command(&["--json", "copy", image.to_str().unwrap(), "mapflash-no-such-disk"]);
    let ran: Ran = command.current_dir("/dev").output().unwrap().into();
    assert_eq!(ran.expect(3).last()["kind"], "target_missing");
    assert!(!fs::exists("/dev/mapflash-no-such-disk").unwrap());
    let planned = room.run(&["--json", "copy", "disk.wic", "/dev/../dev/mapflash-no-such-disk", "--dry-run"]);
    assert_eq!(planned.expect(3).last()["kind"], "target_missing");
}

#[test]
fn cut_and_damaged_packed_images_are_failures_with_and_without_a_map() {
    let room = Room::new();
    room.sample();
    let whole = fs::read(room.gzip("disk.wic", "disk.wic.gz")).unwrap();
    let mut bent = whole.clone();
    let last = bent.len() - 6;
    bent[last] ^= 1;
    let mut junk = whole.clone();
    junk.extend(b"junk behind the end");
    for (name, bytes) in [
        ("cut in the middle", &whole[..whole.len() / 2]),
        ("cut before the trailer", &whole[..whole.len() - 9]),
        ("cut in the trailer", &whole[..whole.len() - 3]),
        ("wrong checksum", &bent[..]),
        ("junk behind", &junk[..]),
    ] {
        room.write("disk.wic.gz", bytes);
        for map in [&[][..], &["--nobmap"]] {
            let ran = room.run(&[&["-q", "copy", "disk.wic.gz", "out"], map].concat()).expect(1);
            assert!(ran.stderr.starts_with("mapflash: disk.wic.gz "), "{name}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_full_device_fails_and_says_what_is_there() {
    let room = Room::new();
    room.sample();
    let ran = room.run(&["-q", "copy", "disk.wic", "/dev/full"]).expect(1);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hint:"), "{}", ran.stderr);
}

#[test]
fn a_target_that_failed_waits_for_no_more_input() {
    let room = Room::new();
    let mut command = room.command(&["--json", "copy", "-", "/dev/full"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // It may stop reading before all of it is there; what matters is that the pipe stays open.
    let _ = input.write_all(&vec![7; 24 << 20]);
    let ran: Ran = child.wait_with_output().unwrap().into();
    drop(input);
    let error = ran.expect(1).last();
    assert_eq!(error["kind"], "target_failed", "{error}");
}

#[test]
fn what_cannot_be_proven_is_status_8() {
    let room = Room::new();
    room.sample();
    room.run(&["copy", "disk.wic", "/dev/null"]).expect(0);
    let error = room.run(&["--json", "copy", "disk.wic", "/dev/null", "--verify-target"]).expect(8).last();
    assert_eq!((&error["kind"], &error["target_state"]), (&"no_proof".into(), &"written_unproven".into()));
}
