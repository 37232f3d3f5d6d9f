//! `mapflash boot`, on virtual boards.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use virtual_imx::board::{Board, Setup};
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::flash_bin;
use virtual_imx::timing::Clock;
use virtual_imx::usbip::server::Server;
use virtual_imx::usbip::{Address, Stop};

use crate::signal::{SIGINT, send};
use crate::support::{Ran, Room, golden, without_times};
use crate::usb::Machine;

fn boot(room: &Room, args: &[&str]) -> Ran {
    let all: Vec<&str> = ["boot"].into_iter().chain(args.iter().copied()).collect();
    room.run(&all)
}

/// A room with a boot image for one chip.
fn room(model: Model) -> Room {
    let room = Room::new();
    room.write("flash.bin", &flash_bin(model, 1));
    room
}

#[test]
fn the_only_board_is_booted() {
    let room = room(Model::Imx8mm);
    golden("boot.txt", &without_times(&boot(&room, &["flash.bin", "--virtual", "imx8mm"]).expect(0).stderr));
    let ran = room.run(&["--json", "boot", "flash.bin", "--virtual", "imx8mm"]).expect(0);
    let objects = ran.objects();
    let stages: Vec<_> =
        objects.iter().filter(|one| one["event"] == "board").map(|one| &one["board"]["stage"]).collect();
    assert_eq!(stages, ["rom", "loader", "fastboot"]);
    let board = &ran.last()["boards"][0];
    assert_eq!((&board["port"], &board["chip"], &board["hab"]), (&"1-1.1".into(), &"MX8MM".into(), &"open".into()));
    assert_eq!((&board["rom_serial"], &board["serial"]), (&"0000000000000001".into(), &"0000000000000001".into()));
    assert_eq!(board["protocol"], "FB");
}

#[test]
fn boards_are_named_by_port_or_serial_number() {
    let room = room(Model::Imx8mp);
    let two = ["flash.bin", "--virtual", "imx8mp", "--virtual", "imx8mp"];
    let with = |more: &[&str]| boot(&room, &[&two[..], more].concat());
    golden("boot-several.txt", &with(&[]).expect(2).stderr);
    assert!(with(&["--board", "1-1.2"]).expect(0).stderr.contains("1-1.2: ready in fastboot"));
    assert!(with(&["--board", "0000000000000002"]).expect(0).stderr.contains("1-1.2: ready in fastboot"));
    let both = with(&["--board", "1-1.2", "--board", "1-1.1"]).expect(0).stderr;
    assert!(both.contains("1-1.1: ready") && both.contains("1-1.2: ready"), "{both}");
    let all = room.run(&[&["--json", "boot", "--all"], &two[..]].concat()).expect(0).last();
    assert_eq!(all["boards"].as_array().unwrap().len(), 2);
    assert_eq!((&all["boards"][1]["chip"], &all["boards"][1]["title"]), (&"MX865".into(), &"i.MX8M Plus".into()));
    golden("boot-no-such.txt", &with(&["--board", "feed"]).expect(3).stderr);
    golden("boot-udp.txt", &with(&["--board", "udp:10.0.0.1"]).expect(2).stderr);
}

#[test]
fn what_goes_wrong_is_told_for_each_board() {
    let room = room(Model::Imx8mp);
    golden("boot-wrong.txt", &without_times(&boot(&room, &["flash.bin", "--virtual", "imx93"]).expect(1).stderr));
    let unplugged = ["flash.bin", "--virtual", "imx8mp:rom at 20000 unplug never"];
    golden("boot-unplugged.txt", &boot(&room, &unplugged).expect(4).stderr);
    // One of two: the other is not harmed.
    let args =
        ["flash.bin", "--virtual", "imx8mp", "--virtual", "imx8mp:rom at 20000 stall", "-b", "1-1.1", "-b", "1-1.2"];
    let ran = boot(&room, &args).expect(4);
    assert!(ran.stderr.contains("1-1.1: ready in fastboot"), "{}", ran.stderr);
    assert!(ran.stderr.contains("mapflash: 1 of 2 boards failed\n  the i.MX8M Plus at 1-1.2"), "{}", ran.stderr);
    let error = room.run(&[&["--json", "boot"], &args[..]].concat()).expect(4).last();
    assert_eq!((&error["kind"], &error["target_changed"]), (&"board_failed".into(), &false.into()));
}

#[test]
fn images_that_are_none_and_places_without_boards() {
    let room = room(Model::Imx8mp);
    boot(&room, &["missing.bin", "--virtual", "imx8mp"]).expect(1);
    room.write("empty.bin", b"");
    assert_eq!(boot(&room, &["empty.bin"]).expect(1).stderr, "mapflash: empty.bin is empty\n");
    let huge = std::fs::File::create(room.path("huge.bin")).unwrap();
    huge.set_len(100 << 20).unwrap();
    boot(&room, &["huge.bin", "--virtual", "imx8mp"]).expect(2);
    let machine = Machine::new();
    machine.room.write("flash.bin", &flash_bin(Model::Imx8mp, 1));
    machine.device("1-3", 7, "1fc9:0999", [3, 0, 0], "480");
    golden("boot-no-board.txt", &boot(&machine.room, &["flash.bin", "--root", "root"]).expect(3).stderr);
}

#[test]
fn waiting_ends_with_the_board_or_with_a_signal() {
    let room = room(Model::Imx8mp);
    assert!(
        boot(&room, &["flash.bin", "--virtual", "imx8mp", "--wait"]).expect(0).stderr.contains("ready in fastboot")
    );
    for board in [&[][..], &["--board", "1-9"], &["--board", "feed"]] {
        let machine = Machine::new();
        machine.room.write("flash.bin", &flash_bin(Model::Imx8mp, 1));
        let mut command = machine.room.command(&[&["boot", "flash.bin", "--root", "root", "--wait"], board].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "waiting for a board, if it is not there");
        send(&child, SIGINT);
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    }
}

#[test]
fn a_loader_may_lie_in_a_packed_disk_image() {
    let room = Room::new();
    let mut disk = vec![0; 0x8000];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk.extend(flash_bin(Model::Imx93, 1));
    disk.resize(12 << 20, 0);
    room.write("disk.wic", &disk);
    room.gzip("disk.wic", "disk.wic.gz");
    for image in ["disk.wic", "disk.wic.gz"] {
        assert!(boot(&room, &[image, "--virtual", "imx93"]).expect(0).stderr.contains("ready in fastboot"));
    }
    // U-Boot in a file of its own.
    let whole = flash_bin(Model::Imx8qxp, 1);
    room.write("spl.bin", &whole[..0x5c00]);
    room.write("u-boot.bin", &whole[0x5c00..]);
    golden("boot-spl-only.txt", &without_times(&boot(&room, &["spl.bin", "--virtual", "imx8qxp"]).expect(1).stderr));
    boot(&room, &["spl.bin", "--uboot", "u-boot.bin", "--virtual", "imx8qxp"]).expect(0);
}

#[test]
fn boards_of_another_process_are_booted_too() {
    let room = room(Model::Imx8mm);
    let clock = || Setup { clock: Clock::real(), ..Setup::new(Model::Imx8mm, Tree::Nxp) };
    let boards = [1, 2].map(|n| Board::new(Setup { path: format!("1-{n}"), uid: n, ..clock() }));
    let address = Address::Unix(room.path("boards"));
    let listener = address.listen().unwrap();
    let (server, stop) = (Server::new(boards.clone()), Stop::new());
    std::thread::scope(|scope| {
        scope.spawn(|| server.run(&listener, &stop).unwrap());
        let listed = room.run(&["boards", "--virtual", "unix:boards"]);
        let booted = boot(&room, &["flash.bin", "-b", "1-1", "-b", "1-2", "--virtual", "unix:boards"]);
        let again = room.run(&["boards", "--virtual", "unix:boards"]);
        stop.set();
        let listed = listed.expect(0).stdout;
        assert_eq!(
            listed.lines().next(),
            Some("1-1  i.MX8M Mini  boot ROM (SDP)  1fc9:0134  serial 0000000000000001, HAB open")
        );
        let booted = booted.expect(0).stderr;
        assert!(booted.contains("1-1: ready in fastboot") && booted.contains("1-2: ready in fastboot"), "{booted}");
        assert_eq!(again.expect(0).stdout.matches("fastboot (FB)").count(), 2);
    });
    assert_eq!(boot(&room, &["flash.bin", "--virtual", "unix:nowhere"]).expect(1).stderr.lines().count(), 1);
    boot(&room, &["flash.bin", "--virtual", "tcp:nowhere"]).expect(2);
}
