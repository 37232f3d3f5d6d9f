//! Help, version, usage errors, completions and manual pages.

use crate::support::{Room, golden};

const COMMANDS: [&str; 14] = [
    "create",
    "copy",
    "pack",
    "verify",
    "inspect",
    "disks",
    "flash",
    "boards",
    "boot",
    "doctor",
    "udev-rules",
    "demo",
    "completions",
    "man",
];

#[test]
fn help_is_what_it_was() {
    let room = Room::new();
    golden("help.txt", &room.run(&["--help"]).expect(0).stdout);
    for command in COMMANDS {
        let ran = room.run(&[command, "--help"]).expect(0);
        assert_eq!(ran.stderr, "");
        golden(&format!("help-{command}.txt"), &ran.stdout);
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let ran = Room::new().run(&["--version"]).expect(0);
    assert_eq!(ran.stdout, format!("mapflash {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_line_that_makes_no_sense_is_status_2() {
    let room = Room::new();
    for args in [
        &[][..],
        &["fly"],
        &["copy", "image"],
        &["copy", "a", "b", "--bmap", "m", "--nobmap"],
        &["copy", "a", "b", "--holes", "some"],
        &["create", "a", "--block-size", "0"],
        &["copy", "a", "b", "--threads", "0"],
    ] {
        let ran = room.run(args).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{args:?}");
    }
    let object = room.run(&["--json", "fly"]).expect(2).last();
    assert_eq!((&object["event"], &object["kind"], &object["status"]), (&"error".into(), &"usage".into(), &2.into()));
}

#[test]
fn what_prints_files_takes_no_json() {
    let room = Room::new();
    for args in [&["udev-rules"][..], &["completions", "bash"], &["man"]] {
        let object = room.run(&[&["--json"], args].concat()).expect(2).last();
        assert_eq!((&object["event"], &object["kind"]), (&"error".into(), &"usage".into()));
    }
}

#[test]
fn completions_name_every_command() {
    let room = Room::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = room.run(&["completions", shell]).expect(0).stdout;
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
    }
    room.run(&["completions", "tcsh"]).expect(2);
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let room = Room::new();
    let page = room.run(&["man"]).expect(0).stdout;
    assert!(page.contains(".TH mapflash 1") && page.contains("Exit status"), "{page}");
    room.run(&["man", "pages"]).expect(0);
    for command in COMMANDS {
        let page = String::from_utf8(room.read(&format!("pages/mapflash-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH mapflash-{command} 1")), "{page}");
    }
    assert!(room.path("pages/mapflash.1").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let room = Room::new();
    let mut command = room.command(&["completions", "bash"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
