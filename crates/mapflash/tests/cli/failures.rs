//! What is said when flashing fails: what the board holds, what helps, and the same for programs.

use serde_json::Value;
use virtual_imx::model::Model;

use crate::support::{Ran, Room};

fn flash(room: &Room, args: &[&str]) -> Ran {
    room.flash(&[&["--boot", "flash.bin"], args].concat())
}

fn of_event(ran: &Ran, event: &str) -> Value {
    ran.objects().into_iter().find(|one| one["event"] == event).unwrap()
}

#[test]
fn of_several_boards_each_is_told_and_the_worst_state_counts() {
    let room = Room::to_flash(Model::Imx8mm);
    let boards = [
        "--all",
        "--virtual",
        "imx8mm",
        "--virtual",
        "imx8mm:uboot enter bad user 6144 6200 lost",
        "--virtual",
        "imx93",
    ];
    let ran = flash(&room, &[&["--json", "disk.wic"], &boards[..]].concat()).expect(6);
    let (result, error) = (of_event(&ran, "result"), ran.last());
    let said = |board: usize| {
        let board = &result["boards"][board];
        (board["status"].clone(), board["state"].clone(), board["kind"].clone())
    };
    assert_eq!(said(0), (0.into(), "proven".into(), Value::Null));
    assert_eq!(said(1), (6.into(), "no_head".into(), "not_held".into()));
    assert_eq!((said(2).1, said(2).2), ("unchanged".into(), "boot_image_wrong".into()));
    assert!(result["boards"][1]["error"].as_str().unwrap().contains("does not hold what was written"));
    assert!(!result["boards"][1]["hints"].as_array().unwrap().is_empty());
    assert_eq!(
        (&error["kind"], &error["target_changed"], &error["target_state"]),
        (&"boards".into(), &true.into(), &"no_head".into())
    );
    let ran = flash(&room, &[&["disk.wic"], &boards[..]].concat()).expect(6);
    assert!(ran.stderr.contains("\n  the board holds "), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n  nothing on the board was changed\n"), "{}", ran.stderr);
}

#[test]
fn nothing_is_changed_before_the_first_command_to_write() {
    let room = Room::to_flash(Model::Imx8mm);
    let board = "imx8mm:uboot cmd 2 download fail no room";
    let ran = flash(&room, &["disk.wic", "--wire", "raw", "--virtual", board]).expect(4);
    assert!(ran.stderr.contains("no room") && ran.stderr.contains("\nmapflash: nothing on the board was changed\n"));
    let error = flash(&room, &["--json", "disk.wic", "--wire", "raw", "--virtual", board]).expect(4).last();
    assert_eq!((&error["target_changed"], &error["target_state"]), (&false.into(), &"unchanged".into()));
}

#[test]
fn advice_is_true_for_the_failure() {
    let room = Room::to_flash(Model::Imx8mm);
    let with = ["--virtual", "imx8mm"];
    // Cut off: not "run again to finish".
    room.gzip("disk.wic", "disk.wic.gz");
    let packed = room.read("disk.wic.gz");
    room.write("disk.wic.gz", &packed[..packed.len() - 20]);
    std::fs::remove_file(room.path("disk.wic")).unwrap();
    let ran = flash(&room, &[&["disk.wic.gz"], &with[..]].concat()).expect(1);
    assert!(ran.stderr.contains("; run again with a whole image\n"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("(0 bytes)"), "{}", ran.stderr);
    // A map in the image's place.
    let ran = flash(&room, &[&["disk.wic.bmap"], &with[..]].concat());
    assert!(ran.stderr.contains("hint: give the image itself"), "{}", ran.stderr);
    // What cannot be opened is said before a map is talked of.
    room.card();
    let mut command = room.command(&["flash", "disk.wic", "--boot", "none.bin", "--virtual", "imx8mm"]);
    let ran = Ran::from(command.output().unwrap()).expect(1);
    assert!(!ran.stderr.contains("block map"), "{}", ran.stderr);
    let ran = room.run_with_stdin(&["flash", "-", "--virtual", "imx8mm"], b"").expect(1);
    assert!(ran.stderr.contains("standard input is empty"), "{}", ran.stderr);
}

#[test]
fn a_board_that_leaves_for_good_is_told_of_without_its_protocol() {
    let room = Room::to_flash(Model::Imx8mm);
    let board = "imx8mm:uboot at 9000 unplug never";
    let ran = flash(&room, &["--json", "disk.wic", "--wire", "raw", "--virtual", board]).expect(4);
    let lost = of_event(&ran, "lost");
    assert_eq!((&lost["loss"], &lost["within"]), (&"gone".into(), &15.0.into()));
    let error = ran.last();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("was unplugged or lost its power, and did not come back within 15 s"), "{message}");
    assert!(!message.contains("download:") && error["cause"].as_str().unwrap().contains("download:"), "{error}");
    let hints = error["hints"].to_string();
    assert!(hints.contains("--wait") && hints.contains("--resume"), "{hints}");
    // It comes back elsewhere.
    let board = "imx8mm:uboot at 9000 unplug back 300 on 1-1.4";
    let ran = flash(&room, &["disk.wic", "--wire", "raw", "--virtual", board]).expect(0);
    assert!(ran.stderr.contains("1-1.1: it came back at 1-1.4\n"), "{}", ran.stderr);
}
