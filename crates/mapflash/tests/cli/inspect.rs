//! `mapflash inspect`

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use crate::support::{Room, golden};

/// A 16 MiB disk with a GPT made by sgdisk; `tests/data/tables/README.md` of the image crate says how.
fn disk(room: &Room) -> fs::File {
    let runs: &[u8] = include_bytes!("../../../image/tests/data/tables/gpt-512.sectors");
    let path = room.path("disk.wic");
    let file = fs::File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    file.set_len(16 << 20).unwrap();
    for (run, at) in runs.chunks_exact(512).zip([0, 512, 1024, 16_760_320, 16_776_704]) {
        file.write_all_at(run, at).unwrap();
    }
    // A loader where an i.MX8MP looks for one.
    file.write_all_at(&boot_image("imx8mp.bin"), 32 << 10).unwrap();
    file
}

/// A boot image of the imx-usb crate; its `tests/data/README.md` says how they were made.
fn boot_image(name: &str) -> Vec<u8> {
    let path = format!("{}/../imx-usb/tests/data/{name}.gz", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The kinds of the warnings about a file.
fn warnings(room: &Room, name: &str) -> Vec<String> {
    let result = room.run(&["--json", "inspect", name]).expect(0).last();
    let warnings = result["warnings"].as_array().unwrap().clone();
    warnings.iter().map(|warning| warning["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn boot_images_are_described() {
    let room = Room::new();
    for (name, format) in [
        ("imx8mq-hdmi-fit.bin", "ivt"),
        ("imx8qxp-seco.bin", "container"),
        ("imx95-flash.bin", "container"),
        ("imx91-flexspi.bin", "container"),
        ("imx93-encrypted.bin", "container"),
        ("imx6-plugin.imx", "ivt"),
        ("u-boot.itb", "fit"),
        ("u-boot.img", "legacy"),
    ] {
        room.write(name, &boot_image(name));
        let golden_name = format!("inspect-{}.txt", name.replace('.', "-"));
        golden(&golden_name, &room.run(&["inspect", name]).expect(0).stdout);
        let result = room.run(&["--json", "inspect", name]).expect(0).last();
        assert_eq!((&result["loaders"][0]["kind"], &result["warnings"]), (&format.into(), &serde_json::json!([])));
    }
    let result = room.run(&["--json", "inspect", "imx95-flash.bin"]).expect(0).last();
    let usb = &result["loaders"][0]["usb"];
    assert_eq!(usb[0], serde_json::json!({ "protocol": "SDPS", "offset": 0, "size": 0xd800 }));
    assert_eq!(usb[1], serde_json::json!({ "protocol": "SDPV", "offset": 0xd800, "size": 105_348 - 0xd800 }));
    assert_eq!(result["loaders"][0]["signed"], false);
    // Packed ones too.
    room.gzip("imx95-flash.bin", "imx95-flash.bin.gz");
    let result = room.run(&["--json", "inspect", "imx95-flash.bin.gz"]).expect(0).last();
    assert_eq!(result["loaders"][0]["family"], "i.MX95 or later");
}

#[test]
fn damage_to_boot_images_is_a_warning() {
    let room = Room::new();
    let mut image = boot_image("imx93-flash.bin");
    room.write("cut.bin", &image[..15_000]);
    golden("inspect-cut-loader.txt", &room.run(&["inspect", "cut.bin"]).expect(0).stdout);
    image[0x2400] ^= 1;
    room.write("changed.bin", &image);
    let ran = room.run(&["inspect", "changed.bin"]).expect(0);
    assert!(ran.stdout.contains("image 0 of the container at 0x400, which lies at 0x2400, does not match its hash"));
    assert_eq!(warnings(&room, "changed.bin"), ["loader_damaged"]);
    // Firmware alone starts nothing.
    room.write("firmware.bin", &image[..0x400]);
    assert_eq!(warnings(&room, "firmware.bin"), ["loader_damaged", "loader_damaged"]);
}

#[test]
fn a_loader_where_no_rom_of_its_chip_looks_is_a_warning() {
    let room = Room::new();
    let file = disk(&room);
    assert_eq!(warnings(&room, "disk.wic"), Vec::<String>::new());
    file.write_all_at(&boot_image("imx8mm.bin"), 32 << 10).unwrap();
    let ran = room.run(&["inspect", "disk.wic"]).expect(0);
    assert!(ran.stdout.contains("i.MX8M Quad or Mini, whose ROM looks for it at byte 33792; it lies at byte 32768"));
    assert_eq!(warnings(&room, "disk.wic"), ["loader_misplaced"]);
    // Files in partitions are no business of the ROM's.
    file.write_all_at(&[0; 11264], 32 << 10).unwrap();
    file.write_all_at(&boot_image("imx8mm.bin"), (8 << 20) - 0x8000 + 0x1_0000).unwrap();
    let result = room.run(&["--json", "inspect", "disk.wic"]).expect(0).last();
    assert_eq!(result["loaders"], serde_json::json!([]));
    // The tag behind a loader tells where it begins, wherever that is.
    let mut tagged = boot_image("imx8mm.bin");
    let length = tagged.len();
    tagged.extend(format!("UUUBURNXXOEUZX7+A-XY5601QQWWZ{length}\n").as_bytes());
    file.write_all_at(&tagged, 33 << 10).unwrap();
    let ran = room.run(&["inspect", "disk.wic"]).expect(0);
    assert!(ran.stdout.contains("over USB  to the ROM 11264 bytes from 0x8400 by SDP\n"), "{}", ran.stdout);
    // U-Boot's FIT may lie a good way behind, in a packed image too.
    let fit = boot_image("u-boot-position.itb");
    file.write_all_at(&fit, 3 << 20).unwrap();
    let tag = (3 << 20) + u64::try_from(fit.len()).unwrap();
    file.write_all_at(&[0; 64], (33 << 10) + 11264).unwrap();
    let text = format!("UUUBURNXXOEUZX7+A-XY5601QQWWZ{}\n", tag - (33 << 10));
    file.write_all_at(text.as_bytes(), tag).unwrap();
    room.gzip("disk.wic", "disk.wic.gz");
    for name in ["disk.wic", "disk.wic.gz"] {
        let ran = room.run(&["inspect", name]).expect(0);
        assert!(ran.stdout.contains("0x300000: FIT, tree of 604 bytes, 7048 bytes with the images"), "{}", ran.stdout);
        assert!(ran.stdout.contains(", then to the loader "), "{}", ran.stdout);
    }
}

#[test]
fn a_disk_image_is_described() {
    let room = Room::new();
    disk(&room);
    golden("inspect-disk.txt", &room.run(&["inspect", "disk.wic"]).expect(0).stdout);
    room.gzip("disk.wic", "disk.wic.gz");
    let ran = room.run(&["inspect", "disk.wic.gz"]).expect(0);
    let stored = fs::metadata(room.path("disk.wic.gz")).unwrap().len();
    let found = ran.stdout.lines().filter(|line| !line.contains(&stored.to_string())).collect::<Vec<_>>().join("\n");
    golden("inspect-packed.txt", &(found + "\n"));
}

#[test]
fn json_has_the_same_facts() {
    let room = Room::new();
    disk(&room);
    let result = room.run(&["--json", "inspect", "disk.wic"]).expect(0).last();
    assert_eq!((&result["kind"], &result["format"]), (&"image".into(), &"raw".into()));
    assert_eq!(result["table"]["partitions"][1]["name"], "rootfs");
    assert_eq!(result["table"]["backup"], "sound");
    assert_eq!(result["loaders"][0]["offset"], 32768);
    assert_eq!(result["warnings"], serde_json::json!([]));
}

#[test]
fn a_backup_in_the_wrong_place_or_gone_is_a_warning() {
    let room = Room::new();
    let file = disk(&room);
    file.set_len(20 << 20).unwrap();
    let kinds = |room: &Room| {
        let result = room.run(&["--json", "inspect", "disk.wic"]).expect(0).last();
        let warnings = result["warnings"].as_array().unwrap().clone();
        warnings.iter().map(|warning| warning["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&room), ["backup_not_at_end"]);
    file.set_len(15 << 20).unwrap();
    assert_eq!(kinds(&room), ["backup_outside"]);
    file.set_len(16 << 20).unwrap();
    assert_eq!(kinds(&room), ["backup_missing"]);
    file.write_all_at(&[0xff], 520).unwrap();
    assert_eq!(kinds(&room), ["table_unusable"]);
}

#[test]
fn a_map_that_leaves_out_what_matters_is_a_warning() {
    let room = Room::new();
    disk(&room);
    room.run(&["create", "disk.wic", "--block-size", "512", "-o", "disk.wic.bmap"]).expect(0);
    let ran = room.run(&["inspect", "disk.wic"]).expect(0);
    golden("inspect-unmapped.txt", &ran.stdout);
    // Of another image: one clear warning instead of many that follow from it.
    room.image("other.wic", 1 << 20, &[0]);
    room.run(&["create", "other.wic", "-o", "other.bmap"]).expect(0);
    let ran = room.run(&["inspect", "disk.wic", "--bmap", "other.bmap"]).expect(0);
    assert!(ran.stdout.contains("they do not belong together"), "{}", ran.stdout);
}

#[test]
fn filesystem_metadata_that_is_a_hole_is_a_warning() {
    let room = Room::new();
    // A FAT12 of 64 KiB in sectors of 512 bytes; its two tables of 4 sectors and its root directory are holes.
    let mut boot = [0; 512];
    boot[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
    boot[11..24].copy_from_slice(&[0, 2, 1, 8, 0, 2, 16, 0, 128, 0, 0xf8, 4, 0]);
    boot[54..57].copy_from_slice(b"FAT");
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    let path = room.path("boot.vfat");
    let file = fs::File::options().create(true).truncate(true).write(true).open(path).unwrap();
    file.set_len(64 << 10).unwrap();
    file.write_all_at(&boot, 0).unwrap();
    room.run(&["create", "boot.vfat", "-o", "boot.bmap"]).expect(0);
    let result = room.run(&["--json", "inspect", "boot.vfat"]).expect(0).last();
    assert_eq!(result["filesystem"]["type"], "FAT12");
    let warnings = result["warnings"].as_array().unwrap();
    assert!(warnings.iter().all(|warning| warning["kind"] == "metadata_unmapped"), "{warnings:?}");
    let texts: Vec<_> = warnings.iter().map(|warning| warning["text"].as_str().unwrap()).collect();
    assert!(texts[0].contains("4096 bytes of the file allocation tables of the FAT12"), "{texts:?}");
    assert!(texts[1].contains("512 bytes of the root directory"), "{texts:?}");
    assert_eq!((texts.len(), &result["map"]["metadata_left_out"]), (2, &4608.into()));
}

#[test]
fn maps_and_other_files_are_told_apart() {
    let room = Room::new();
    room.sample();
    golden("inspect-map.txt", &without_path_sizes(&room.run(&["inspect", "disk.wic.bmap"]).expect(0).stdout));
    room.write("a.zip", b"PK\x03\x04rest");
    let ran = room.run(&["inspect", "a.zip"]).expect(0);
    assert!(ran.stdout.contains("a zip archive") && ran.stdout.contains("WARNING"), "{}", ran.stdout);
    room.write("empty", b"");
    assert!(room.run(&["inspect", "empty"]).expect(0).stdout.contains("the file is empty"));
    let ran = room.run(&["inspect", "no-such"]).expect(1);
    assert_eq!(ran.stderr, "mapflash: cannot read no-such: No such file or directory\n");
    room.run(&["inspect", "."]).expect(1);
    room.run(&["inspect", "/dev/null"]).expect(1);
}

#[test]
fn a_sparse_image_is_described() {
    let room = Room::new();
    let block = bmap::BlockSize::DEFAULT;
    let mut bytes = bmap::sparse::FileHeader::new(block, 4, 1).unwrap().to_bytes().to_vec();
    bytes.extend(bmap::sparse::ChunkHeader::new(bmap::sparse::ChunkKind::DontCare, 4, block).unwrap().to_bytes());
    room.write("system.simg", &bytes);
    golden("inspect-sparse.txt", &room.run(&["inspect", "system.simg"]).expect(0).stdout);
    let result = room.run(&["--json", "inspect", "system.simg"]).expect(0).last();
    assert_eq!(result["sparse"]["dont_care"], 16384);
}

/// The stored size of a map changes with its comments.
fn without_path_sizes(text: &str) -> String {
    text.lines().filter(|line| !line.contains("stored")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn names_from_an_image_cannot_drive_the_terminal() {
    let room = Room::new();
    let file = disk(&room);
    // The first name of the entries, and the checksums that cover it.
    let mut entries = vec![0; 128 * 128];
    file.read_exact_at(&mut entries, 1024).unwrap();
    entries[56] = 0x1b;
    let mut header = vec![0; 92];
    file.read_exact_at(&mut header, 512).unwrap();
    header[88..92].copy_from_slice(&crc(&entries).to_le_bytes());
    header[16..20].fill(0);
    let sum = crc(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    file.write_all_at(&entries, 1024).unwrap();
    file.write_all_at(&header, 512).unwrap();
    let ran = room.run(&["inspect", "disk.wic"]).expect(0);
    assert!(ran.stdout.contains("\\u{1b}oot"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'));
}

/// CRC-32 (IEEE), bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    })
}
