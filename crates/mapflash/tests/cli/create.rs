//! `mapflash create`

use crate::support::{Room, golden, without_times};

#[test]
fn a_map_names_the_data_and_reads_back() {
    let room = Room::new();
    room.image("disk.wic", (1 << 20) + 100, &[4096, 8192, 1 << 20]);
    let ran = room.run(&["create", "disk.wic"]).expect(0);
    let map = bmap::xml::parse(ran.stdout.as_bytes()).unwrap().map;
    let ranges: Vec<_> = map.mapped().map(|(bytes, _)| (bytes.start(), bytes.end())).collect();
    assert_eq!(ranges, [(4096, 12288), (1 << 20, (1 << 20) + 100)]);
    assert_eq!(map.algorithm(), Some(bmap::Algorithm::Sha256));

    room.run(&["create", "disk.wic", "-o", "out.bmap"]).expect(0);
    assert_eq!(room.read("out.bmap"), ran.stdout.as_bytes());
    assert_eq!(room.names(), ["disk.wic", "out.bmap"]);

    let plain = room.run(&["create", "disk.wic", "--no-checksum", "--block-size", "64k"]).expect(0).stdout;
    let map = bmap::xml::parse(plain.as_bytes()).unwrap().map;
    assert_eq!((map.algorithm(), map.block_size().get()), (None, 65536));
}

#[test]
fn json_carries_the_map_or_names_its_file() {
    let room = Room::new();
    room.image("disk.wic", 1 << 20, &[4096]);
    let result = room.run(&["--json", "create", "disk.wic"]).expect(0).last();
    assert!(bmap::xml::parse(result["bmap"].as_str().unwrap().as_bytes()).is_ok());
    let result = room.run(&["--json", "create", "disk.wic", "-o", "o"]).expect(0).last();
    assert_eq!((&result["event"], &result["output"], &result["bmap"]), (&"result".into(), &"o".into(), &().into()));
    assert_eq!(result["mapped_bytes"], 4096);
}

#[test]
fn an_image_without_holes_is_mapped_with_a_warning() {
    let room = Room::new();
    room.write("full.img", &[7; 8192]);
    let ran = room.run(&["--quiet", "create", "full.img", "-o", "m"]).expect(0);
    golden("create-full.txt", &ran.stderr);
}

#[test]
fn packed_images_are_refused_unless_zeros_are_looked_for() {
    let room = Room::new();
    room.image("disk.wic", 1 << 20, &[4096, 65536]);
    room.gzip("disk.wic", "disk.wic.gz");
    let ran = room.run(&["create", "disk.wic.gz", "-o", "m"]).expect(1);
    golden("create-packed.txt", &ran.stderr);
    assert!(!room.path("m").exists());

    let ran = room.run(&["create", "disk.wic.gz", "--detect-zeros"]).expect(0);
    golden("create-detect-zeros.txt", &without_times(&ran.stderr));
    let by_content = bmap::xml::parse(ran.stdout.as_bytes()).unwrap().map;
    let by_holes = room.run(&["create", "disk.wic"]).expect(0).stdout;
    assert_eq!(by_content, bmap::xml::parse(by_holes.as_bytes()).unwrap().map);
}

#[test]
fn what_cannot_be_mapped_is_said_and_leaves_nothing() {
    let room = Room::new();
    room.write("empty.img", b"");
    room.sample();
    let before = room.names();
    for (name, args, status) in [
        ("missing", &["create", "no-such.img", "-o", "m"][..], 1),
        ("empty", &["create", "empty.img", "-o", "m"], 1),
        ("folder", &["create", ".", "-o", "m"], 1),
        ("bmap", &["create", "disk.wic.bmap", "-o", "m"], 1),
        ("onto-itself", &["create", "disk.wic", "-o", "./disk.wic"], 7),
        ("no-folder", &["create", "disk.wic", "-o", "missing/m"], 1),
    ] {
        let ran = room.run(&[&["-q"], args].concat()).expect(status);
        assert_eq!(ran.stdout, "");
        golden(&format!("create-{name}.txt"), &ran.stderr);
        assert_eq!(room.names(), before);
    }
}
