//! `mapflash pack`, and what the others say of a pack.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use flasher::board::open_pack;

use crate::signal::{SIGINT, send};
use crate::support::{Room, golden, without_times};

#[test]
fn an_image_is_packed_with_its_map_and_inspect_says_what_is_in_it() {
    let room = Room::new();
    room.sample();
    let ran = room.run(&["pack", "disk.wic", "-o", "disk.mfpack"]).expect(0);
    golden("pack.txt", &without_times(&ran.stderr));
    assert_eq!(room.names(), ["disk.mfpack", "disk.wic", "disk.wic.bmap"]);
    let pack = open_pack(&room.path("disk.mfpack")).unwrap();
    let map = bmap::xml::read(&room.path("disk.wic.bmap")).unwrap().map;
    assert_eq!((pack.map(), pack.index().level(), pack.index().data()), (Some(&map), 9, map.mapped_bytes()));
    // The image is not needed any more, and neither is the name.
    room.write("any.name", &room.read("disk.mfpack"));
    let ran = room.run(&["inspect", "any.name"]).expect(0);
    golden("inspect-pack.txt", &ran.stdout);
    let result = room.run(&["--json", "inspect", "any.name"]).expect(0).last();
    assert_eq!((&result["kind"], &result["pack"]["data"]), (&"pack".into(), &map.mapped_bytes().into()));
}

#[test]
fn json_tells_stages_and_the_ratio() {
    let room = Room::new();
    room.write("full.img", &b"one line after the other\n".repeat(400_000));
    let ran = room.run(&["--json", "pack", "full.img", "-o", "p", "--level", "3", "--threads", "2"]).expect(0);
    let objects = ran.objects();
    let of = |event: &str| objects.iter().filter(|object| object["event"] == event).count();
    assert_eq!((of("start"), of("stage"), of("stage_done"), of("result")), (1, 1, 1, 1), "{}", ran.stdout);
    let result = ran.last();
    assert_eq!((&result["data"], &result["level"]), (&10_000_000.into(), &3.into()));
    assert!(result["ratio"].as_f64().unwrap() > 50.0, "{result}");
    let len = std::fs::metadata(room.path("p")).unwrap().len();
    assert_eq!(result["file_size"], len);
}

#[test]
fn packed_images_and_levels_make_the_same_image() {
    let room = Room::new();
    room.sample();
    room.gzip("disk.wic", "disk.wic.gz");
    for args in [&["disk.wic.gz"][..], &["disk.wic", "--level", "1"], &["disk.wic", "--wire", "lz4", "--level", "12"]] {
        let args = [&["-q", "pack", "-o", "p"], args].concat();
        assert_eq!(room.run(&args).expect(0).stderr, "");
        let front = open_pack(&room.path("p")).unwrap().front(usize::MAX).unwrap();
        assert!(front == room.read("disk.wic"));
    }
    // Without a map the length of a gzip image is not known: it is unpacked first.
    let ran = room.run(&["pack", "disk.wic.gz", "--nobmap", "-o", "p"]).expect(0);
    assert!(ran.stderr.contains("is unpacked first"), "{}", ran.stderr);
    let pack = open_pack(&room.path("p")).unwrap();
    assert!(pack.map().is_none() && pack.front(usize::MAX).unwrap() == room.read("disk.wic"));
}

#[test]
fn what_cannot_be_packed_is_said_and_leaves_nothing() {
    let room = Room::new();
    room.sample();
    room.image("other.wic", (4 << 20) + 100, &[0, 8192]);
    room.write("empty.img", b"");
    room.run(&["-q", "pack", "disk.wic", "-o", "disk.mfpack"]).expect(0);
    let (before, pack) = (room.names(), room.read("disk.mfpack"));
    for (name, args, status) in [
        ("onto-itself", &["disk.wic", "-o", "./disk.wic"][..], 7),
        ("onto-its-map", &["disk.wic", "-o", "disk.wic.bmap"], 7),
        ("map-of-another", &["other.wic", "--bmap", "disk.wic.bmap", "-o", "disk.mfpack"], 5),
        ("empty", &["empty.img", "-o", "p"], 1),
        ("twice", &["disk.mfpack", "-o", "p"], 1),
        ("no-folder", &["disk.wic", "-o", "missing/p"], 1),
        ("no-file", &["disk.wic", "-o", "/dev/null"], 1),
    ] {
        let ran = room.run(&[&["-q", "pack"], args].concat()).expect(status);
        golden(&format!("pack-{name}.txt"), &ran.stderr);
        assert_eq!(room.names(), before, "{name}");
        assert!(room.read("disk.mfpack") == pack, "{name}");
    }
    for args in [&["--wire", "gzip"][..], &["--level", "0"], &["--level", "13"], &[]] {
        room.run(&[&["pack", "disk.wic"], args].concat()).expect(2);
    }
}

#[test]
fn a_pack_is_for_boards_and_a_damaged_one_is_told() {
    let room = Room::new();
    room.sample();
    room.run(&["-q", "pack", "disk.wic", "-o", "disk.mfpack"]).expect(0);
    golden("copy-pack.txt", &room.run(&["copy", "disk.mfpack", "out"]).expect(1).stderr);
    assert!(!room.path("out").exists());
    let pack = room.read("disk.mfpack");
    let mut damaged = pack.clone();
    damaged[20] ^= 1;
    room.write("damaged", &damaged);
    golden("inspect-pack-damaged.txt", &room.run(&["inspect", "damaged"]).expect(1).stderr);
    room.write("cut", &pack[..pack.len() - 1]);
    golden("inspect-pack-cut.txt", &room.run(&["inspect", "cut"]).expect(1).stderr);
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let room = Room::new();
    // Long enough to be in the middle of it whatever the machine.
    let mut seed = 1_u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0] & 0x3f
    };
    let bytes: Vec<u8> = (0..96 << 20).map(|_| next()).collect();
    room.write("big.img", &bytes);
    let mut command = room.command(&["--json", "pack", "big.img", "-o", "p", "--level", "12", "--threads", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"stage\":\"pack\"")));
    send(&child, SIGINT);
    let last = lines.last().unwrap().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{last}");
    assert!(last.contains("\"kind\":\"cancelled\""), "{last}");
    assert_eq!(room.names(), ["big.img"]);
}
