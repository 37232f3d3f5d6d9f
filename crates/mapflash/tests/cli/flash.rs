//! `mapflash flash`, on virtual boards.

use imx_usb::bootimage::describe::describe;
use virtual_imx::model::{Model, RomKind};
use virtual_imx::sample::flash_bin;

use crate::support::{Room, golden, mbr, without_times};

#[test]
fn a_bare_board_is_booted_flashed_and_proven() {
    let room = Room::to_flash(Model::Imx8mm);
    // What is measured would differ from run to run.
    let args = ["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--wire", "raw"];
    let ran = room.flash(&args).expect(0);
    golden("flash.txt", &without_times(&ran.stderr));
    // Nothing is left of the journal of a job that ended well.
    assert!(std::fs::read_dir(room.path("state/mapflash")).unwrap().next().is_none());
    let args =
        ["--json", "disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--wire", "raw", "--verify", "sha256"];
    let result = room.flash(&args).expect(0).last();
    let board = &result["boards"][0];
    assert_eq!((&result["event"], &result["status"]), (&"result".into(), &0.into()));
    assert_eq!(
        (&board["board"], &board["chip"], &board["proof"]),
        (&"1-1.1".into(), &"MX8MM".into(), &"sha256".into())
    );
    assert_eq!((&board["written"], &board["state"]), (&board["proven"], &"proven".into()));
}

#[test]
fn the_plan_can_be_seen_first() {
    let room = Room::to_flash(Model::Imx8mm);
    let args = ["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--dry-run"];
    golden("flash-dry-run.txt", &room.flash(&args).expect(0).stdout);
    let plan = room.flash(&[&["--json"], &args[..]].concat()).expect(0).last();
    assert_eq!((&plan["event"], &plan["to"], &plan["data"]), (&"plan".into(), &"emmc".into(), &16_896.into()));
    let args = ["flash.bin", "--virtual", "imx8mm", "--to", "boot1", "--dry-run"];
    golden("flash-loader-dry-run.txt", &room.flash(&args).expect(0).stdout);
}

#[test]
fn several_boards_and_one_that_is_unplugged_meanwhile() {
    let room = Room::to_flash(Model::Imx8mp);
    let args = [
        "disk.wic",
        "--boot",
        "flash.bin",
        "--all",
        "--virtual",
        "imx8mp",
        "--virtual",
        "imx8mp:uboot at 9000 power back 300",
    ];
    let ran = room.flash(&args).expect(0);
    assert!(ran.stderr.contains("2 of 2 boards hold the image"), "{}", ran.stderr);
    let says = "warning: 1-1.2: it was unplugged or lost its power after ";
    assert!(ran.stderr.contains(says) && ran.stderr.contains("(--wait: an hour)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("came back 1 time"), "{}", ran.stderr);
    // One that never comes back: the other is not harmed, and the exit status tells.
    let args = [
        "--json",
        "disk.wic",
        "--boot",
        "flash.bin",
        "--all",
        "--virtual",
        "imx8mp",
        "--virtual",
        "imx8mp:uboot cmd 1 flash fail no; uboot cmd 1 flash fail no",
    ];
    let ran = room.flash(&args).expect(4);
    let objects = ran.objects();
    let result = objects.iter().find(|one| one["event"] == "result").unwrap();
    assert_eq!((&result["boards"][0]["state"], &result["boards"][1]["state"]), (&"proven".into(), &"mixed".into()));
    assert_eq!(ran.last()["kind"], "board_refused");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_written() {
    let room = Room::to_flash(Model::Imx8mm);
    let bare = room.flash(&["disk.wic", "--virtual", "imx8mm"]).expect(1);
    golden("flash-no-boot.txt", &without_times(&bare.stderr));
    let wrong = room.flash(&["disk.wic", "--boot", "flash.bin", "--virtual", "imx93"]).expect(1);
    golden("flash-wrong-boot.txt", &without_times(&wrong.stderr));
    let sd = room.flash(&["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--to", "sd"]).expect(3);
    golden("flash-no-sd.txt", &without_times(&sd.stderr));
    let part = room.flash(&["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--to", "rootfs"]).expect(7);
    golden("flash-no-partition.txt", &without_times(&part.stderr));
    for args in [
        &["disk.wic", "--holes", "erase", "--delta", "--virtual", "imx8mm"][..],
        &["disk.wic", "--to", "sd", "--boot-partition", "boot0", "--boot", "flash.bin", "--virtual", "imx8mm"],
        &["disk.wic", "--keep", "1M-3M", "--keep", "2M+1M", "--virtual", "imx8mm"],
        &["disk.wic", "--boot-partition", "boot7", "--virtual", "imx8mm"],
        &["flash.bin", "--to", "boot0", "--boot-partition", "inactive", "--virtual", "imx8mm"],
    ] {
        let ran = room.flash(args).expect(2);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn a_damaged_image_never_gets_a_head() {
    let room = Room::to_flash(Model::Imx8mm);
    let mut bytes = room.read("disk.wic");
    bytes[3 << 20] ^= 1;
    room.write("disk.wic", &bytes);
    let ran = room.flash(&["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm"]).expect(5);
    golden("flash-damaged.txt", &without_times(&ran.stderr));
}

#[test]
fn a_loader_goes_to_a_boot_partition_by_itself() {
    let room = Room::to_flash(Model::Imx8mp);
    let ran = room.flash(&["flash.bin", "--virtual", "imx8mp"]).expect(0);
    golden("flash-loader.txt", &without_times(&ran.stderr));
    let args = ["--json", "flash.bin", "--virtual", "imx8mp", "--to", "boot1", "--then", "reset"];
    let board = room.flash(&args).expect(0).last()["boards"][0].clone();
    assert_eq!((&board["loader"]["part"], &board["loader"]["offset"]), (&"boot1".into(), &0.into()));
    // And behind an image.
    let args = ["--json", "disk.wic", "--boot", "flash.bin", "--virtual", "imx8mp", "--boot-partition", "inactive"];
    let board = room.flash(&args).expect(0).last()["boards"][0].clone();
    assert_eq!((&board["loader"]["part"], &board["state"]), (&"boot0".into(), &"proven".into()));
}

#[test]
fn packed_images_and_standard_input() {
    let room = Room::to_flash(Model::Imx8mp);
    room.gzip("disk.wic", "packed.gz");
    let with = ["--boot", "flash.bin", "--virtual", "imx8mp"];
    let mapped = room.flash(&[&["packed.gz", "--bmap", "disk.wic.bmap"], &with[..]].concat()).expect(0);
    assert!(!mapped.stderr.contains("unpacked first"), "{}", mapped.stderr);
    let unmapped = room.flash(&[&["packed.gz", "--nobmap"], &with[..]].concat()).expect(0);
    assert!(unmapped.stderr.contains("is unpacked first"), "{}", unmapped.stderr);
    let packed = room.read("packed.gz");
    let args = [&["flash", "-", "--bmap", "disk.wic.bmap"], &with[..]].concat();
    room.run_with_stdin(&args, &packed).expect(0);
    // Cut off: never reported as done.
    room.write("cut.gz", &packed[..packed.len() - 20]);
    room.flash(&[&["cut.gz", "--bmap", "disk.wic.bmap"], &with[..]].concat()).expect(1);
}

#[test]
fn a_pack_is_flashed_as_the_image_would_be() {
    let room = Room::to_flash(Model::Imx8mm);
    room.run(&["-q", "pack", "disk.wic", "-o", "any.name"]).expect(0);
    let with = ["--boot", "flash.bin", "--virtual", "imx8mm"];
    let plan = |image: &str| room.flash(&[&["--json", image, "--dry-run"], &with[..]].concat()).expect(0).last();
    let (image, pack) = (plan("disk.wic"), plan("any.name"));
    for same in ["plan", "data", "clear", "head_length", "image_size"] {
        assert_eq!(image[same], pack[same], "{same}");
    }
    assert_eq!(pack["format"], "packed for boards");
    // Everything is in the pack.
    std::fs::remove_file(room.path("disk.wic")).unwrap();
    std::fs::remove_file(room.path("disk.wic.bmap")).unwrap();
    golden("flash-pack-dry-run.txt", &room.flash(&[&["any.name", "--dry-run"], &with[..]].concat()).expect(0).stdout);
    let ran = room.flash(&[&["any.name", "--wire", "lz4"], &with[..]].concat()).expect(0);
    golden("flash-pack.txt", &without_times(&ran.stderr));
    let args = [&["--json", "any.name", "--keep", "4K+512", "--wire", "raw"], &with[..]].concat();
    let board = room.flash(&args).expect(0).last()["boards"][0].clone();
    assert_eq!((&board["state"], &board["written"]), (&"proven".into(), &(16_896 - 512).into()));

    for args in [["--bmap", "disk.wic.bmap"], ["--nobmap", "--dry-run"]] {
        let ran = room.flash(&[&["any.name"], &args[..], &with[..]].concat()).expect(2);
        assert!(ran.stderr.contains("a pack has its block map in it"), "{}", ran.stderr);
    }
    // Its front is looked at before anything is written.
    let mut bytes = room.read("any.name");
    bytes[512 + 20] ^= 1;
    room.write("rotten", &bytes);
    let ran = room.flash(&[&["rotten"], &with[..]].concat()).expect(1);
    golden("flash-pack-rotten.txt", &without_times(&ran.stderr));
}

#[test]
fn a_pack_boots_a_bare_board_by_the_loader_inside() {
    let room = Room::new();
    let model = Model::Imx8mm;
    let mut disk = vec![0; 4 << 20];
    // One partition, from 2 MiB on.
    disk[..512].copy_from_slice(&mbr(4096, 4096));
    let loader = flash_bin(model, 1);
    let at = usize::try_from(model.loader_offset(false)).unwrap();
    disk[at..at + loader.len()].copy_from_slice(&loader);
    room.write("disk.img", &disk);
    room.run(&["-q", "pack", "disk.img", "-o", "disk.mfpack"]).expect(0);
    let board = room.flash(&["--json", "disk.mfpack", "--virtual", "imx8mm"]).expect(0).last()["boards"][0].clone();
    assert_eq!(board["state"], "proven");
    let inspected = room.run(&["--json", "inspect", "disk.mfpack"]).expect(0).last();
    assert_eq!(inspected["loaders"][0]["offset"], model.loader_offset(false), "{inspected}");
}

/// What a board was told is not asked here: nothing is written where the state is the one before.
fn refused(room: &Room, args: &[&str], status: i32, says: &[&str]) {
    let ran = room.flash(&[&["--json"], args].concat()).expect(status);
    let error = ran.last();
    assert_eq!((&error["event"], &error["target_changed"]), (&"error".into(), &false.into()), "{error}");
    for words in says {
        assert!(ran.stderr.contains(words), "{words:?} is not in {}", ran.stderr);
    }
}

#[test]
fn a_loader_that_the_board_would_not_boot_from_is_refused() {
    let room = Room::to_flash(Model::Imx8mm);
    room.write("mp.bin", &flash_bin(Model::Imx8mp, 1));
    room.write("93.bin", &flash_bin(Model::Imx93, 1));
    room.write("words.txt", b"root:x:0:0:root:/root:/bin/sh\n");
    // By itself, for another chip as far as its load address tells; that can be overruled.
    let args = ["mp.bin", "--boot", "flash.bin", "--virtual", "imx8mm"];
    refused(&room, &args, 7, &["the loader is for i.MX8M Plus", "--allow-other-chip"]);
    room.flash(&[&args[..], &["--allow-other-chip"]].concat()).expect(0);
    // Of the wrong kind, which cannot.
    let args = ["93.bin", "--boot", "flash.bin", "--virtual", "imx8mm", "--allow-other-chip"];
    refused(&room, &args, 7, &["but the loader is of containers (AHAB)"]);
    // Behind an image, and no boot image at all.
    let behind =
        |loader| ["disk.wic", "--boot", "flash.bin", "--boot-partition", "boot0", loader, "--virtual", "imx8mm"];
    refused(&room, &behind("mp.bin"), 7, &["the loader is for i.MX8M Plus"]);
    refused(&room, &behind("93.bin"), 7, &["containers"]);
    refused(&room, &behind("words.txt"), 7, &["words.txt is no boot image"]);
    refused(&room, &["disk.wic", "--to", "boot0", "--virtual", "imx8mm"], 7, &["disk.wic is no boot image"]);
    room.flash(&behind("flash.bin")).expect(0);
    // One that does not fit, by itself and behind an image.
    let far = ["--boot-offset", "4M", "--virtual", "imx8mm"];
    refused(&room, &[&["flash.bin"], &far[..]].concat(), 7, &["would end at byte", "of boot0"]);
    let args = [&["disk.wic", "--boot", "flash.bin", "--boot-partition", "boot1"], &far[..]].concat();
    refused(&room, &args, 7, &["would end at byte", "of boot1"]);
}

fn has_ivt(model: Model) -> bool {
    matches!(model.rom(), RomKind::SdpIvt | RomKind::StreamIvt)
}

#[test]
fn each_chip_takes_its_own_loader_and_no_other_chips() {
    for model in Model::ALL {
        let room = Room::to_flash(model);
        let name = model.board().split('_').next().unwrap();
        // Where an i.MX8QXP looks depends on its revision.
        let place: &[&str] = if model == Model::Imx8qxp { &["--boot-offset", "32K"] } else { &[] };
        let on = |file| [&[file, "--boot", "flash.bin", "--virtual", name], place].concat();
        room.flash(&on("flash.bin")).expect(0);
        for other in Model::ALL.into_iter().filter(|other| *other != model) {
            let loader = flash_bin(other, 1);
            // Of some containers nothing tells the chips.
            if describe(&loader).family().is_none() && !has_ivt(model) && !has_ivt(other) {
                continue;
            }
            room.write("other.bin", &loader);
            refused(&room, &on("other.bin"), 7, &["the loader is"]);
        }
    }
}

#[test]
fn a_loader_is_not_written_over_an_sd_card() {
    let room = Room::to_flash(Model::Imx8mm);
    let says = ["at 33.0 KiB (33792 bytes)", "dd if=flash.bin of=/dev/sdX bs=512 seek=66 conv=fsync"];
    refused(&room, &["flash.bin", "--to", "sd", "--virtual", "imx8mm"], 7, &says);
    let ran = room.flash(&["flash.bin", "--to", "emmc", "--virtual", "imx8mm"]).expect(0);
    assert!(ran.stderr.contains("flash.bin is a boot image: of the eMMC only a boot partition is written"));
}

#[test]
fn what_is_no_image_of_a_card_is_not_written_over_one() {
    let room = Room::to_flash(Model::Imx8mm);
    let with = ["--boot", "flash.bin", "--virtual", "imx8mm"];
    room.write("words.txt", &b"root:x:0:0:root:/root:/bin/sh\n".repeat(100));
    room.gzip("words.txt", "words.gz");
    for image in ["words.txt", "words.gz"] {
        let says =
            [&*format!("{image} has neither a partition table nor a loader"), "--allow-no-table", "--to PARTITION"];
        refused(&room, &[&[image], &with[..]].concat(), 7, &says);
    }
    let ran = room.flash(&[&["words.txt", "--allow-no-table"], &with[..]].concat()).expect(0);
    assert!(ran.stderr.contains("warning: words.txt has neither"), "{}", ran.stderr);
    let stdin = [&["flash", "-", "--dry-run"], &with[..]].concat();
    room.run_with_stdin(&stdin, &room.read("words.txt")).expect(7);
    room.run_with_stdin(&stdin, &room.read("disk.wic")).expect(0);
    // A filesystem is for a partition.
    let mut ext = vec![0; 1 << 20];
    ext[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
    ext[1024..1028].copy_from_slice(&64_u32.to_le_bytes());
    ext[1028..1032].copy_from_slice(&1024_u32.to_le_bytes());
    ext[1024 + 20..1024 + 24].copy_from_slice(&1_u32.to_le_bytes());
    ext[1024 + 32..1024 + 36].copy_from_slice(&8192_u32.to_le_bytes());
    ext[1024 + 40..1024 + 44].copy_from_slice(&64_u32.to_le_bytes());
    room.write("root.ext4", &ext);
    refused(&room, &[&["root.ext4"], &with[..]].concat(), 7, &["root.ext4 is a filesystem (ext"]);
    // What inspect warns of is said.
    let mut disk = room.read("disk.wic");
    disk[..512].copy_from_slice(&mbr(2048, 1 << 20));
    room.write("disk.img", &disk);
    let ran = room.flash(&[&["disk.img", "--dry-run"], &with[..]].concat()).expect(0);
    assert!(ran.stderr.contains("warning: partition 1"), "{}", ran.stderr);
}

#[test]
fn what_is_kept_must_be_a_range_of_the_image() {
    let room = Room::to_flash(Model::Imx8mm);
    let with = ["disk.wic", "--dry-run", "--virtual", "imx8mm", "--keep"];
    let ran = room.flash(&[&with[..], &["900M-901M"]].concat()).expect(0);
    assert!(ran.stderr.contains("warning: --keep 943718400-944766976: that is behind the end"), "{}", ran.stderr);
    let ran = room.flash(&[&with[..], &["5M-1M"]].concat()).expect(2);
    assert!(ran.stderr.contains("the end lies before the start"), "{}", ran.stderr);
    let ran = room.flash(&["disk.wic", "--virtual", "imx8mm", "--download", "1"]).expect(2);
    assert!(ran.stderr.contains("it is 1M at least"), "{}", ran.stderr);
}

#[test]
fn nothing_to_resume_and_a_boot_image_for_another_chip_are_said() {
    let room = Room::to_flash(Model::Imx8mm);
    let args = ["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--resume"];
    let ran = room.flash(&args).expect(0);
    let says = "1-1.1: nothing of this image was begun on this board; all is sent (--delta compares)";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
    let notes = room.flash(&[&["--json"], &args[..]].concat()).expect(0).objects();
    assert!(notes.iter().any(|object| object["event"] == "note" && object["note"] == "nothing_begun"));
    room.write("mp.bin", &flash_bin(Model::Imx8mp, 1));
    let ran = room.flash(&["disk.wic", "--boot", "mp.bin", "--virtual", "imx8mm"]);
    let says = "mapflash: warning: 1-1.1: by its load address the boot image is for i.MX8M Plus";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
}
