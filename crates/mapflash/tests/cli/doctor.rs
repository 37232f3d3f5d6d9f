//! `mapflash doctor`, on made-up machines. The tests run as root or as anybody, so what root may do is left out.

use crate::support::{Ran, golden};
use crate::usb::Machine;

const HID: [u8; 3] = [3, 0, 0];

fn doctor(machine: &Machine) -> Ran {
    machine.room.run(&["doctor", "--root", "root"])
}

/// The lines of one kind.
fn lines<'r>(ran: &'r Ran, level: &str) -> Vec<&'r str> {
    ran.stdout.lines().filter(|line| line.starts_with(level)).collect()
}

/// Libusb's version is none of ours.
fn without_version(text: &str) -> String {
    let line =
        |line: &str| if line.contains("libusb") { "ok       libusb VERSION\n".to_owned() } else { format!("{line}\n") };
    text.lines().map(line).collect()
}

#[test]
fn a_machine_where_all_is_well() {
    let machine = Machine::new();
    machine.device("1-4", 2, "05e3:0610", [9, 0, 0], "480").set("1-4", "product", "USB2.1 Hub");
    machine.device("1-4.2", 3, "1fc9:0146", HID, "480").set("1-4.2", "manufacturer", "NXP");
    let rules = machine.room.run(&["udev-rules"]).expect(0).stdout;
    machine.file("etc/udev/rules.d/70-mapflash.rules", &rules);
    let ran = doctor(&machine).expect(0);
    golden("doctor.txt", &without_version(&ran.stdout));
    let ran = machine.room.run(&["--json", "doctor", "--root", "root"]).expect(0);
    let findings = ran.objects().into_iter().filter(|object| object["event"] == "finding").count();
    assert_eq!((findings, &ran.last()["problems"]), (5, &0.into()));
}

#[test]
fn what_is_in_the_way_is_named_with_what_mends_it() {
    let machine = Machine::new();
    machine.device("1-1", 2, "1fc9:0134", HID, "12");
    machine.set("1-1", "power/control", "auto").set("1-1", "power/runtime_status", "suspended");
    machine.set("1-1", "power/autosuspend_delay_ms", "2000");
    machine.process(41, "uuu", Some("dev/bus/usb/001/002")).process(40, "ModemManager", None);
    machine.file("sys/module/usbcore/parameters/usbfs_memory_mb", "0\n");
    for n in 1..5_u8 {
        machine.device(&format!("1-2.{n}"), 10 + n, "1fc9:013e", HID, "480");
    }
    machine.device("1-3", 20, "1fc9:0999", HID, "480");
    let ran = doctor(&machine).expect(1);
    let rules =
        lines(&ran, "warning").into_iter().chain(lines(&ran, "note")).filter(|line| line.contains("rules")).count();
    assert_eq!(rules, 1, "{}", ran.stdout);
    // Root needs no rules, and may open everything.
    let text: String = without_version(&ran.stdout)
        .lines()
        .filter(|line| !line.contains("rules"))
        .fold(String::new(), |text, line| text + line + "\n");
    golden("doctor-ill.txt", &text);
    assert_eq!(ran.stderr, "mapflash: 1 problem is in the way\n");
    let error = machine.room.run(&["--json", "doctor", "--root", "root"]).expect(1).last();
    assert_eq!((&error["event"], &error["kind"], &error["status"]), (&"error".into(), &"problems".into(), &1.into()));
}

#[test]
fn containers_and_machines_without_usb() {
    let machine = Machine::new();
    std::fs::remove_dir_all(machine.room.path("root/dev")).unwrap();
    std::fs::remove_file(machine.room.path("root/run/udev/control")).unwrap();
    let ran = doctor(&machine).expect(1);
    golden("doctor-container.txt", &without_version(&ran.stdout));
    // Each thing that lacks has a command that mends it.
    let ran = machine.room.run(&["doctor", "--root", "nowhere"]).expect(1);
    golden("doctor-no-usb.txt", &without_version(&ran.stdout));
    let ran = machine.room.run(&["--json", "doctor", "--root", "nowhere"]).expect(1);
    let fixed = |object: &serde_json::Value| object["level"] == "problem" && object["fix"].is_string();
    assert_eq!(ran.objects().iter().filter(|object| fixed(object)).count(), 2, "{}", ran.stdout);
}

#[test]
fn an_empty_bus_is_no_problem() {
    let ran = doctor(&Machine::new()).expect(0);
    assert!(lines(&ran, "note").iter().any(|line| line.contains("no board is on the bus")), "{}", ran.stdout);
}
