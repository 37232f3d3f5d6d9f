//! `mapflash boards` and `mapflash udev-rules`, on made-up machines and virtual boards.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use imx_usb::chips::ChipTable;
use imx_usb::usb::Roots;
use imx_usb::usb::facts::rules;

use crate::support::{Room, golden};
use crate::usb::Machine;

const HID: [u8; 3] = [3, 0, 0];
const FASTBOOT: [u8; 3] = [0xff, 0x42, 3];

/// Boards, near misses, and things that have nothing to do with boards.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.device("1-1", 2, "05e3:0610", [9, 0, 0], "480");
    machine.device("1-1.1", 3, "0525:b4a4@0500", HID, "480");
    machine.device("1-1.2", 4, "1fc9:0152@0200", FASTBOOT, "480").set("1-1.2", "serial", "0011223344556677");
    machine.device("1-1.10", 5, "1fc9:0153", [0xff, 0, 0], "12");
    machine.device("1-2", 6, "1fc9:012f@0001", HID, "480");
    machine.device("1-3", 7, "1fc9:0999", HID, "480");
    machine.device("1-4", 8, "18d1:4ee0", FASTBOOT, "480").set("1-4", "serial", "PHONE\u{1b}[2J");
    machine.device("1-5", 9, "1d6b:0104", [2, 2, 1], "480");
    machine.device("1-6", 10, "046d:c077", [3, 1, 2], "1.5");
    machine.device("1-7", 11, "1fc9:0132", [9, 0, 0], "480");
    machine
}

#[test]
fn boards_are_listed_and_near_misses_explained() {
    let machine = machine();
    golden("boards.txt", &machine.room.run(&["boards", "--root", "root"]).expect(0).stdout);
    let result = machine.room.run(&["--json", "boards", "--root", "root"]).expect(0).last();
    let boards = result["boards"].as_array().unwrap();
    assert_eq!(boards.len(), 6);
    assert_eq!((&boards[1]["port"], &boards[1]["serial"]), (&"1-1.2".into(), &"0011223344556677".into()));
    assert_eq!((&boards[1]["protocol"], &boards[1]["stage"]), (&"FB".into(), &"fastboot".into()));
    assert_eq!((&boards[3]["port"], &boards[3]["protocol"]), (&"1-2".into(), &serde_json::Value::Null));
    assert!(boards[3]["notes"][0].as_str().unwrap().contains("release 0001"));
    // A table of one's own makes boards of strangers.
    machine.room.write("chips.conf", b"CFG: SDPS: -vid 0x1fc9 -pid 0x0999 -chip MX93 # a new one\n");
    let ran = machine.room.run(&["boards", "--root", "root", "--chips", "chips.conf"]).expect(0);
    assert!(ran.stdout.contains("1-3     i.MX93  boot ROM (SDPS)"), "{}", ran.stdout);
    machine.room.write("chips.conf", b"CFG: SDPS: -vid 0x1fc9\n");
    golden("boards-bad-chips.txt", &machine.room.run(&["boards", "--chips", "chips.conf"]).expect(1).stderr);
}

#[test]
fn no_board_and_no_usb() {
    let machine = Machine::new();
    let ran = machine.room.run(&["boards", "--root", "root"]).expect(0);
    assert_eq!(ran.stderr, "there is no board; 'mapflash doctor' says what could be in the way\n");
    let room = Room::new();
    let ran = room.run(&["boards", "--root", "nowhere"]).expect(3);
    golden("boards-no-usb.txt", &ran.stderr);
    let error = room.run(&["--json", "boards", "--root", "nowhere"]).expect(3).last();
    assert_eq!((&error["kind"], &error["status"]), (&"no_usb".into(), &3.into()));
}

#[test]
fn roms_are_asked_for_serial_and_hab_state() {
    let room = Room::new();
    let args = ["boards", "--virtual", "imx8mm", "--virtual", "imx8qxp", "--virtual", "imx93:rom at 0 hang"];
    golden("boards-virtual.txt", &room.run(&args).expect(0).stdout);
    let error = room.run(&["boards", "--virtual", "imx99"]).expect(2);
    assert_eq!(error.stderr, "mapflash: no virtual board is called imx99\n");
}

#[test]
fn watching_shows_what_comes_and_goes() {
    let machine = Machine::new();
    machine.device("1-1", 2, "1fc9:0152", FASTBOOT, "480");
    let mut command = machine.room.command(&["boards", "--watch", "--root", "root"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+ 1-1  -  fastboot (FB)  1fc9:0152");
    // In one step, as in sysfs: a device is there whole or not at all.
    let devices = machine.room.path("root/sys/bus/usb/devices");
    fs::rename(devices.join("1-1"), machine.room.path("away")).unwrap();
    assert_eq!(lines.next().unwrap(), "- 1-1  -  fastboot (FB)  1fc9:0152");
    fs::rename(machine.room.path("away"), devices.join("1-1")).unwrap();
    assert_eq!(lines.next().unwrap(), "+ 1-1  -  fastboot (FB)  1fc9:0152");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn udev_rules_are_those_that_are_packaged() {
    let room = Room::new();
    let made = room.run(&["udev-rules"]).expect(0).stdout;
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/udev/70-mapflash.rules");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&kept, &made).unwrap();
    }
    assert_eq!(made, fs::read_to_string(&kept).unwrap(), "UPDATE_GOLDEN=1 keeps these");
    let group = room.run(&["udev-rules", "--group", "plugdev"]).expect(0).stdout;
    golden("udev-rules-group.txt", &group);
    for wrong in ["", "a b", "a\"b", "-x"] {
        room.run(&["udev-rules", &format!("--group={wrong}")]).expect(2);
    }
    // As the doctor reads them, they are for every board that is known, and in effect.
    for (name, text) in [("70-mapflash.rules", &made), ("70-mapflash.rules", &group)] {
        room.write(&format!("root/etc/udev/rules.d/{name}"), text.as_bytes());
        for id in ChipTable::builtin().ids() {
            let found = rules(&Roots::under(&room.path("root")), id.vendor, id.product);
            let [rule] = found.as_slice() else { panic!("{found:?} for {id:?}") };
            assert!(rule.named && rule.certain && !rule.is_late(), "{rule:?}");
            assert!(rule.grants.uaccess != (rule.grants.mode == Some(0o660) && rule.grants.group.is_some()));
        }
    }
}
