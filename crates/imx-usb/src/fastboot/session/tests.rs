use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::fastboot::{Pace, ReplyError};
use crate::pipe::script::{Script, Step, gone, out, reply, silence};

fn session(steps: impl IntoIterator<Item = Step>) -> Session<Script> {
    Session::new(Script::new(steps), Limits::USB)
}

/// What `uuu -b emmc` was seen to send (version 1.5.243), and what an NXP U-Boot answers.
#[test]
fn flashing_a_loader() {
    let loader = [0x5a; 3000];
    let mut steps = Vec::new();
    for line in ["setenv fastboot_dev mmc", "setenv mmcdev ${emmc_dev}", "mmc dev ${emmc_dev}"] {
        steps.extend([out(format!("UCmd:{line}")), reply("OKAY")]);
    }
    steps.extend([out("getvar:max-download-size"), reply("OKAY0x20000000")]);
    steps.extend([out("download:00000bb8"), reply("DATA00000bb8"), out(loader), reply("OKAY")]);
    steps.extend([out("flash:bootloader"), reply("INFOwriting"), reply("OKAY")]);
    let ack = "if env exists emmc_ack; then ; else setenv emmc_ack 0; fi;";
    for line in [ack, "mmc partconf ${emmc_dev} ${emmc_ack} 1 0"] {
        steps.extend([out(format!("UCmd:{line}")), reply("OKAY")]);
    }

    let mut board = session(steps);
    let said = Arc::new(Mutex::new(Vec::new()));
    let log = said.clone();
    board.observe(move |message| log.lock().unwrap().push(format!("{message:?}")));
    for line in ["setenv fastboot_dev mmc", "setenv mmcdev ${emmc_dev}", "mmc dev ${emmc_dev}"] {
        board.ucmd(line).unwrap();
    }
    assert_eq!(board.getvar("max-download-size").unwrap(), "0x20000000");
    assert_eq!(board.download_all(&loader).unwrap().bytes, 3000);
    board.flash("bootloader").unwrap();
    board.ucmd(ack).unwrap();
    board.ucmd("mmc partconf ${emmc_dev} ${emmc_ack} 1 0").unwrap();
    assert_eq!(*said.lock().unwrap(), ["Info(\"writing\")"]);
    board.into_pipe().finish();
}

#[test]
fn a_download_takes_exactly_what_was_announced() {
    let mut board = session([
        out("download:00000004"),
        reply("DATA00000004"),
        out([1, 2, 3]),
        out([4]),
        reply("OKAY"),
        out("flash:all"),
        reply("OKAY"),
    ]);
    let mut download = board.download(4).unwrap();
    download.write(&[1, 2, 3]).unwrap();
    let error = download.write(&[4, 5]).unwrap_err();
    assert_eq!(error.to_string(), "1 bytes too many: the download was announced with 4 bytes, 3 were sent");
    assert_eq!(download.remaining(), 1);
    download.write(&[]).unwrap();
    download.write(&[4]).unwrap();
    download.finish().unwrap();
    board.flash("all").unwrap();
    board.into_pipe().finish();
}

#[test]
fn a_dropped_download_is_filled_up_and_not_flashed() {
    let zeros = vec![0; 65536];
    let mut board = session([
        out("download:00020001"),
        reply("DATA00020001"),
        out([9; 2]),
        out(&zeros),
        out(&zeros[..65535]),
        reply("OKAY"),
        out("getvar:product"),
        reply("OKAYimx8mp"),
        out("download:00000001"),
        reply("DATA00000001"),
        out([1]),
        reply("OKAY"),
        out("flash:all"),
        reply("OKAY"),
    ]);
    let mut download = board.download(0x2_0001).unwrap();
    download.write(&[9; 2]).unwrap();
    drop(download);
    let error = board.flash("all").unwrap_err();
    assert!(matches!(error, FastbootError::NotStaged { .. }), "{error}");
    assert!(matches!(board.run(&Command::Boot), Err(FastbootError::NotStaged { .. })));
    // The board listens again, and a whole download mends it.
    assert_eq!(board.getvar("product").unwrap(), "imx8mp");
    board.download_all(&[1]).unwrap();
    board.flash("all").unwrap();
    board.into_pipe().finish();
}

#[test]
fn too_few_bytes_are_no_download() {
    let mut board = session([out("download:00000003"), reply("DATA00000003"), out([0; 3]), reply("OKAY")]);
    let error = board.download(3).unwrap().finish().unwrap_err();
    assert_eq!(error.to_string(), "the download was announced with 3 bytes, but 0 were given");
    assert_eq!(board.staged_bytes(), None);
    board.into_pipe().finish();
}

#[test]
fn a_link_that_breaks_is_not_filled_up() {
    let mut board =
        session([out("download:00000003"), reply("DATA00000003"), Step::Fail(1, || crate::pipe::Fault::Gone)]);
    let mut download = board.download(3).unwrap();
    let error = download.write(&[1, 2, 3]).unwrap_err();
    let FastbootError::Transfer { command, source } = &error else { panic!("{error}") };
    assert_eq!((command.as_str(), source.delivered, source.asked), ("download:00000003", 1, 3));
    drop(download);
    assert!(board.is_out_of_step());
    assert!(matches!(board.getvar("x"), Err(FastbootError::OutOfStep { .. })));
    board.into_pipe().finish();
}

#[test]
fn the_board_must_want_what_it_was_told() {
    let mut board = session([out("download:00000010"), reply("DATA00000008")]);
    let error = board.download(16).unwrap_err();
    assert_eq!(error.to_string(), "download:00000010: the board is ready for 8 bytes instead of 16");
    assert!(board.is_out_of_step());

    let mut board = session([out("download:20000000"), reply("FAIL20000000"), out("getvar:a"), reply("OKAYb")]);
    let error = board.download(0x2000_0000).unwrap_err();
    assert_eq!(error.board_says(), Some("20000000"));
    assert_eq!(board.getvar("a").unwrap(), "b");
    board.into_pipe().finish();

    let mut board = session([out("getvar:a"), reply("DATA00000008")]);
    let error = board.getvar("a").unwrap_err();
    assert_eq!(error.to_string(), "getvar:a: the board answers DATA for 8 bytes where OKAY belongs");
    assert!(board.is_out_of_step());
}

#[test]
fn failures_are_told_apart() {
    let mut board = session([
        out("flash:x"),
        reply("FAIL"),
        out("erase:x"),
        reply("FAILpartition does not exist"),
        out("oem format"),
        reply(""),
        reply("what?"),
    ]);
    board.stage(Ok(1));
    assert_eq!(board.flash("x").unwrap_err().to_string(), "flash:x: the board says FAIL, and no reason");
    let error = board.erase("x").unwrap_err();
    assert_eq!(error.to_string(), "erase:x: the board says FAIL \"partition does not exist\"");
    let error = board.run(&Command::Oem("format".into())).unwrap_err();
    assert!(matches!(error, FastbootError::Reply { source: ReplyError::Tag { length: 5, .. }, .. }));
    board.into_pipe().finish();

    // An NXP U-Boot that finds no device may not answer at all.
    let mut board = session([out("flash:x"), silence()]);
    board.stage(Ok(1));
    let error = board.flash("x").unwrap_err();
    assert!(matches!(&error, FastbootError::Transfer { source, .. } if source.is_timeout()), "{error}");
}

#[test]
fn commands_are_bounded_before_they_are_sent() {
    let mut board = Session::new(Script::new([out("UCmd:".to_owned() + &"x".repeat(59)), reply("OKAY")]), Limits::UDP);
    board.ucmd(&"x".repeat(59)).unwrap();
    let error = board.ucmd(&"x".repeat(60)).unwrap_err();
    assert!(matches!(error, FastbootError::CommandTooLong { length: 65, limit: 64, .. }), "{error}");
    assert!(matches!(board.ucmd("a\0b"), Err(FastbootError::CommandText { .. })));
    assert!(!board.is_out_of_step());
    board.into_pipe().finish();
}

#[test]
fn an_upload_is_taken_to_its_end() {
    let data: Vec<u8> = (0..70_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let steps = || {
        [
            out("upload:ddr"),
            reply("DATA00011170"),
            reply(&data[..4096]),
            reply(&data[4096..65536]),
            reply(&data[65536..]),
            reply("OKAY"),
        ]
    };
    let mut board = session(steps());
    let mut taken = Vec::new();
    assert_eq!(board.upload(Some("ddr"), 1 << 20, &mut taken).unwrap(), 70_000);
    assert_eq!(taken, data);
    board.into_pipe().finish();

    // A full disk on this side leaves the two in step.
    let mut board = session(steps());
    let mut small = [0; 10];
    let error = board.upload(Some("ddr"), 1 << 20, &mut small.as_mut_slice()).unwrap_err();
    assert!(matches!(error, FastbootError::Store(_)));
    assert!(!board.is_out_of_step());
    board.into_pipe().finish();

    let mut board = session([out("upload"), reply("DATAffffffff")]);
    let error = board.upload(None, 1 << 20, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, FastbootError::UploadTooLong { offered: 0xffff_ffff, .. }));

    let mut board = session([out("upload"), reply("DATA00000008"), reply([1; 3]), gone()]);
    let error = board.upload(None, 1 << 20, &mut Vec::new()).unwrap_err();
    let FastbootError::Transfer { source, .. } = error else { panic!("{error}") };
    assert_eq!((source.delivered, source.asked), (3, 8));
}

#[test]
fn deadlines_go_with_the_command() {
    let mut board = session([
        out("download:00000008"),
        reply("DATA00000008"),
        out([0; 8]),
        reply("OKAY"),
        out("flash:all"),
        reply("OKAY"),
    ]);
    board.deadlines.question = Duration::from_secs(3);
    board.deadlines.transfer = Pace::new(20, 1);
    board.deadlines.flash = Pace::new(100, 2);
    board.download_all(&[0; 8]).unwrap();
    board.flash("all").unwrap();
    let given = board.into_pipe().deadlines;
    // Out and back again by turns; an answer has what is left of the same deadline.
    let full = [3, 28, 104].map(Duration::from_secs);
    assert_eq!([given[0], given[2], given[4]], full);
    assert!(given[1] <= full[0] && given[3] <= Duration::from_secs(20) && given[5] <= full[2]);
}
