//! `mapflash disks`, on a machine made of files.

use std::os::unix::fs::symlink;

use crate::support::{Room, golden};

fn machine() -> Room {
    let room = Room::new();
    let stick = "root/sys/devices/pci0000:00/usb1/1-4/1-4:1.0/host3/3:0:0:0/block/sdb";
    for (path, text) in [
        (format!("{stick}/dev"), "8:16\n"),
        (format!("{stick}/size"), "62333952\n"),
        (format!("{stick}/removable"), "1\n"),
        (format!("{stick}/ro"), "0\n"),
        (format!("{stick}/sdb1/dev"), "8:17\n"),
        (format!("{stick}/sdb1/partition"), "1\n"),
        ("root/sys/devices/pci0000:00/usb1/1-4/idVendor".into(), "1234\n"),
        ("root/sys/devices/pci0000:00/usb1/1-4/serial".into(), "ABC123\n"),
        ("root/sys/devices/pci0000:00/usb1/1-4/1-4:1.0/host3/3:0:0:0/vendor".into(), "Generic\n"),
        ("root/sys/devices/pci0000:00/usb1/1-4/1-4:1.0/host3/3:0:0:0/model".into(), "Card Reader\n"),
        ("root/sys/devices/pci0000:00/ata1/host0/block/sda/dev".into(), "8:0\n"),
        ("root/sys/devices/pci0000:00/ata1/host0/block/sda/size".into(), "4096\n"),
        (
            "root/proc/self/mountinfo".into(),
            "20 1 8:0 / / rw - ext4 /dev/sda rw\n21 20 8:17 / /media/stick rw - vfat /dev/sdb1 rw\n",
        ),
        ("root/proc/swaps".into(), "Filename Type Size Used Priority\n"),
    ] {
        room.write(&path, text.as_bytes());
    }
    for (link, number, folder) in
        [("sda", "8:0", "root/sys/devices/pci0000:00/ata1/host0/block/sda"), ("sdb", "8:16", stick)]
    {
        for at in [format!("root/sys/block/{link}"), format!("root/sys/dev/block/{number}")] {
            std::fs::create_dir_all(room.path(&at).parent().unwrap()).unwrap();
            symlink(room.path(folder), room.path(&at)).unwrap();
        }
    }
    symlink(room.path(stick).join("../.."), room.path(stick).join("device")).unwrap();
    room
}

#[test]
fn removable_disks_are_listed_with_what_uses_them() {
    let room = machine();
    golden("disks.txt", &room.run(&["disks", "--root", "root"]).expect(0).stdout);
    golden("disks-all.txt", &room.run(&["disks", "--all", "--root", "root"]).expect(0).stdout);
}

#[test]
fn json_lists_them_too() {
    let room = machine();
    let result = room.run(&["--json", "disks", "--all", "--root", "root"]).expect(0).last();
    let disks = result["disks"].as_array().unwrap();
    assert_eq!((&disks[0]["device"], &disks[0]["system"]), (&"/dev/sda".into(), &true.into()));
    assert_eq!((&disks[1]["serial"], &disks[1]["removable"]), (&"ABC123".into(), &true.into()));
    assert_eq!(disks[1]["uses"][0], "/dev/sdb1 is mounted at /media/stick");
}

#[test]
fn a_machine_without_disks_says_so() {
    let room = Room::new();
    std::fs::create_dir_all(room.path("root/sys/block")).unwrap();
    let ran = room.run(&["disks", "--root", "root"]).expect(0);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("", "there is no removable disk; --all lists the others\n")
    );
    room.run(&["disks", "--root", "no-such"]).expect(1);
}
