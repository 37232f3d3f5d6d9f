//! `mapflash verify`

use std::fs;
use std::os::unix::fs::FileExt as _;

use crate::support::{Room, golden, without_times};

#[test]
fn what_was_copied_holds() {
    let room = Room::new();
    room.sample();
    room.gzip("disk.wic", "disk.wic.gz");
    room.run(&["copy", "disk.wic", "out"]).expect(0);
    let ran = room.run(&["verify", "disk.wic.gz", "out"]).expect(0);
    golden("verify.txt", &without_times(&ran.stderr));
    room.run(&["verify", "disk.wic.bmap", "out"]).expect(0);
    room.run(&["verify", "disk.wic", "out", "--nobmap"]).expect(0);
    let result = room.run(&["--json", "verify", "disk.wic.bmap", "out"]).expect(0).last();
    assert_eq!((&result["event"], &result["bytes"]), (&"result".into(), &(4 * 4096 + 100).into()));
}

#[test]
fn a_difference_is_status_6_and_named() {
    let room = Room::new();
    room.sample();
    room.run(&["copy", "disk.wic", "out"]).expect(0);
    let file = fs::OpenOptions::new().write(true).open(room.path("out")).unwrap();
    file.write_all_at(&[0xff], (2 << 20) + 5).unwrap();
    for expected in ["disk.wic", "disk.wic.bmap"] {
        let ran = room.run(&["-q", "verify", expected, "out"]).expect(6);
        assert!(ran.stderr.contains("bytes 2097152..2101248"), "{}", ran.stderr);
        let error = room.run(&["--json", "verify", expected, "out"]).expect(6).last();
        assert_eq!(error["ranges"], serde_json::json!([[2_097_152, 2_101_248]]));
        assert_eq!(error["ranges_total"], 1);
    }
    // A byte in a hole is nobody's business with a map, and everybody's without.
    room.run(&["copy", "disk.wic", "out"]).expect(0);
    file.write_all_at(&[0xff], 1 << 20).unwrap();
    room.run(&["verify", "disk.wic.bmap", "out"]).expect(0);
    room.run(&["verify", "disk.wic", "out"]).expect(0);
    room.run(&["verify", "disk.wic", "out", "--nobmap"]).expect(6);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let room = Room::new();
    room.sample();
    room.run(&["create", "disk.wic", "--no-checksum", "-o", "plain.bmap"]).expect(0);
    room.run(&["copy", "disk.wic", "out"]).expect(0);
    room.write("short", &[0; 5000]);
    for (name, args, status) in [
        ("no-digests", ["plain.bmap", "out"], 8),
        ("short", ["disk.wic.bmap", "short"], 6),
        ("short-image", ["disk.wic", "short"], 6),
        ("missing", ["disk.wic", "no-such"], 3),
        ("folder", ["disk.wic", "."], 7),
        ("itself", ["disk.wic", "disk.wic"], 7),
    ] {
        let ran = room.run(&[&["-q", "verify"], &args[..]].concat()).expect(status);
        golden(&format!("verify-{name}.txt"), &ran.stderr);
    }
}
