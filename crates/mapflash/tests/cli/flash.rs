//! `mapflash flash`, on virtual boards.

use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

use crate::support::{Ran, Room, golden, without_times};

/// A room with an image, its map, and a boot image for one chip.
fn room(model: Model) -> Room {
    let room = Room::new();
    room.sample();
    room.write("flash.bin", &flash_bin(model, 1));
    room
}

fn flash(room: &Room, args: &[&str]) -> Ran {
    let mut command = room.command(&[&["flash"], args].concat());
    command.env("XDG_STATE_HOME", room.path("state")).output().unwrap().into()
}

#[test]
fn a_bare_board_is_booted_flashed_and_proven() {
    let room = room(Model::Imx8mm);
    // What is measured would differ from run to run.
    let args = ["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--wire", "raw"];
    let ran = flash(&room, &args).expect(0);
    golden("flash.txt", &without_times(&ran.stderr));
    // Nothing is left of the journal of a job that ended well.
    assert!(std::fs::read_dir(room.path("state/mapflash")).unwrap().next().is_none());
    let args =
        ["--json", "disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--wire", "raw", "--verify", "sha256"];
    let result = flash(&room, &args).expect(0).last();
    let board = &result["boards"][0];
    assert_eq!((&result["event"], &result["status"]), (&"result".into(), &0.into()));
    assert_eq!(
        (&board["board"], &board["chip"], &board["proof"]),
        (&"1-1.1".into(), &"i.MX8M Mini".into(), &"sha256".into())
    );
    assert_eq!((&board["written"], &board["state"]), (&board["proven"], &"proven".into()));
}

#[test]
fn the_plan_can_be_seen_first() {
    let room = room(Model::Imx8mm);
    let args = ["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--dry-run"];
    golden("flash-dry-run.txt", &flash(&room, &args).expect(0).stdout);
    let plan = flash(&room, &[&["--json"], &args[..]].concat()).expect(0).last();
    assert_eq!((&plan["event"], &plan["to"], &plan["data"]), (&"plan".into(), &"eMMC".into(), &16_484.into()));
    let args = ["flash.bin", "--virtual", "imx8mm", "--to", "boot1", "--dry-run"];
    golden("flash-loader-dry-run.txt", &flash(&room, &args).expect(0).stdout);
}

#[test]
fn several_boards_and_one_that_is_unplugged_meanwhile() {
    let room = room(Model::Imx8mp);
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
    let ran = flash(&room, &args).expect(0);
    assert!(ran.stderr.contains("2 of 2 boards hold the image"), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: 1-1.2: lost (") && ran.stderr.contains("came back 1 time"), "{}", ran.stderr);
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
    let ran = flash(&room, &args).expect(4);
    let objects = ran.objects();
    let result = objects.iter().find(|one| one["event"] == "result").unwrap();
    assert_eq!((&result["boards"][0]["state"], &result["boards"][1]["state"]), (&"proven".into(), &"mixed".into()));
    assert_eq!(ran.last()["kind"], "board_refused");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_written() {
    let room = room(Model::Imx8mm);
    let bare = flash(&room, &["disk.wic", "--virtual", "imx8mm"]).expect(1);
    golden("flash-no-boot.txt", &without_times(&bare.stderr));
    let wrong = flash(&room, &["disk.wic", "--boot", "flash.bin", "--virtual", "imx93"]).expect(1);
    golden("flash-wrong-boot.txt", &without_times(&wrong.stderr));
    let sd = flash(&room, &["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--to", "sd"]).expect(7);
    golden("flash-no-sd.txt", &without_times(&sd.stderr));
    let part = flash(&room, &["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm", "--to", "rootfs"]).expect(7);
    golden("flash-no-partition.txt", &without_times(&part.stderr));
    for args in [
        &["disk.wic", "--to", "boot0", "--virtual", "imx8mm"][..],
        &["disk.wic", "--holes", "erase", "--delta", "--virtual", "imx8mm"],
        &["disk.wic", "--keep", "1M-3M", "--keep", "2M+1M", "--virtual", "imx8mm"],
        &["disk.wic", "--boot-partition", "boot7", "--virtual", "imx8mm"],
        &["flash.bin", "--to", "boot0", "--boot-partition", "inactive", "--virtual", "imx8mm"],
    ] {
        let ran = flash(&room, args).expect(2);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn a_damaged_image_never_gets_a_head() {
    let room = room(Model::Imx8mm);
    let mut bytes = room.read("disk.wic");
    bytes[3 << 20] ^= 1;
    room.write("disk.wic", &bytes);
    let ran = flash(&room, &["disk.wic", "--boot", "flash.bin", "--virtual", "imx8mm"]).expect(5);
    golden("flash-damaged.txt", &without_times(&ran.stderr));
}

#[test]
fn a_loader_goes_to_a_boot_partition_by_itself() {
    let room = room(Model::Imx8mp);
    let ran = flash(&room, &["flash.bin", "--virtual", "imx8mp"]).expect(0);
    golden("flash-loader.txt", &without_times(&ran.stderr));
    let args = ["--json", "flash.bin", "--virtual", "imx8mp", "--to", "boot1", "--then", "reset"];
    let board = flash(&room, &args).expect(0).last()["boards"][0].clone();
    assert_eq!((&board["loader"]["part"], &board["loader"]["offset"]), (&"boot1".into(), &0.into()));
    // And behind an image.
    let args = ["--json", "disk.wic", "--boot", "flash.bin", "--virtual", "imx8mp", "--boot-partition", "inactive"];
    let board = flash(&room, &args).expect(0).last()["boards"][0].clone();
    assert_eq!((&board["loader"]["part"], &board["state"]), (&"boot0".into(), &"proven".into()));
}

#[test]
fn packed_images_and_standard_input() {
    let room = room(Model::Imx8mp);
    room.gzip("disk.wic", "packed.gz");
    let with = ["--boot", "flash.bin", "--virtual", "imx8mp"];
    let mapped = flash(&room, &[&["packed.gz", "--bmap", "disk.wic.bmap"], &with[..]].concat()).expect(0);
    assert!(!mapped.stderr.contains("unpacked first"), "{}", mapped.stderr);
    let unmapped = flash(&room, &[&["packed.gz", "--nobmap"], &with[..]].concat()).expect(0);
    assert!(unmapped.stderr.contains("is unpacked first"), "{}", unmapped.stderr);
    let packed = room.read("packed.gz");
    let args = [&["flash", "-", "--bmap", "disk.wic.bmap"], &with[..]].concat();
    room.run_with_stdin(&args, &packed).expect(0);
    // Cut off: never reported as done.
    room.write("cut.gz", &packed[..packed.len() - 20]);
    flash(&room, &[&["cut.gz", "--bmap", "disk.wic.bmap"], &with[..]].concat()).expect(1);
}

#[test]
fn a_pack_is_flashed_as_the_image_would_be() {
    let room = room(Model::Imx8mm);
    room.run(&["-q", "pack", "disk.wic", "-o", "any.name"]).expect(0);
    let with = ["--boot", "flash.bin", "--virtual", "imx8mm"];
    let plan = |image: &str| flash(&room, &[&["--json", image, "--dry-run"], &with[..]].concat()).expect(0).last();
    let (image, pack) = (plan("disk.wic"), plan("any.name"));
    for same in ["plan", "data", "clear", "head_length", "image_size"] {
        assert_eq!(image[same], pack[same], "{same}");
    }
    assert_eq!(pack["format"], "packed for boards");
    // Everything is in the pack.
    std::fs::remove_file(room.path("disk.wic")).unwrap();
    std::fs::remove_file(room.path("disk.wic.bmap")).unwrap();
    golden("flash-pack-dry-run.txt", &flash(&room, &[&["any.name", "--dry-run"], &with[..]].concat()).expect(0).stdout);
    let ran = flash(&room, &[&["any.name", "--wire", "lz4"], &with[..]].concat()).expect(0);
    golden("flash-pack.txt", &without_times(&ran.stderr));
    let args = [&["--json", "any.name", "--keep", "4K+512", "--wire", "raw"], &with[..]].concat();
    let board = flash(&room, &args).expect(0).last()["boards"][0].clone();
    assert_eq!((&board["state"], &board["written"]), (&"proven".into(), &(16_484 - 512).into()));

    for args in [["--bmap", "disk.wic.bmap"], ["--nobmap", "--dry-run"]] {
        let ran = flash(&room, &[&["any.name"], &args[..], &with[..]].concat()).expect(2);
        assert!(ran.stderr.contains("a pack has its block map in it"), "{}", ran.stderr);
    }
    let mut bytes = room.read("any.name");
    bytes[512 + 20] ^= 1;
    room.write("rotten", &bytes);
    let ran = flash(&room, &[&["rotten"], &with[..]].concat()).expect(1);
    golden("flash-pack-rotten.txt", &without_times(&ran.stderr));
}

#[test]
fn a_pack_boots_a_bare_board_by_the_loader_inside() {
    let room = Room::new();
    let model = Model::Imx8mm;
    let mut disk = vec![0; 4 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    // One partition, from 2 MiB on.
    disk[446 + 4] = 0x83;
    disk[446 + 8..446 + 12].copy_from_slice(&4096_u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&4096_u32.to_le_bytes());
    let loader = flash_bin(model, 1);
    let at = usize::try_from(model.loader_offset(false)).unwrap();
    disk[at..at + loader.len()].copy_from_slice(&loader);
    room.write("disk.img", &disk);
    room.run(&["-q", "pack", "disk.img", "-o", "disk.mfpack"]).expect(0);
    let board = flash(&room, &["--json", "disk.mfpack", "--virtual", "imx8mm"]).expect(0).last()["boards"][0].clone();
    assert_eq!(board["state"], "proven");
    let inspected = room.run(&["--json", "inspect", "disk.mfpack"]).expect(0).last();
    assert_eq!(inspected["loaders"][0]["offset"], model.loader_offset(false), "{inspected}");
}
