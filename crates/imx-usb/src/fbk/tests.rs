//! Command texts as `uuu` 1.5.243 sends them, answers as `ufb.c` gives them.

use std::sync::{Arc, Mutex};

use super::*;
use crate::pipe::script::{Script, Step, gone, out, reply};

fn session(steps: impl IntoIterator<Item = Step>) -> Session<Script> {
    Session::new(Script::new(steps))
}

#[test]
fn streaming_into_a_program() {
    let data: Vec<u8> = (0..0x4001u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut board = session([
        out("ACmd:tar -x -C /mnt"),
        reply("OKAY"),
        out("WOpen:-"),
        reply("OKAY"),
        out("donwload:00004000"),
        reply("DATA00004000"),
        out(&data[..0x4000]),
        reply("INFO"),
        reply("OKAY"),
        out("donwload:00000001"),
        reply("DATA00000001"),
        out(&data[0x4000..]),
        reply("OKAY"),
        out("Close"),
        reply("OKAY"),
        out("Sync:"),
        reply("INFOx"),
        reply("OKAY"),
        out("UCmd:sync"),
        reply("OKAY"),
    ]);
    let said = Arc::new(Mutex::new(String::new()));
    let log = said.clone();
    board.observe(move |message| {
        let (Message::Info(text) | Message::Text(text)) = message;
        log.lock().unwrap().push_str(text);
    });
    board.acmd("tar -x -C /mnt").unwrap();
    let mut file = board.create("-").unwrap();
    file.write(&data).unwrap();
    assert_eq!(file.close().unwrap(), 0x4001);
    board.sync().unwrap();
    board.ucmd("sync").unwrap();
    assert_eq!(*said.lock().unwrap(), "x");
    board.into_pipe().finish();
}

#[test]
fn a_program_that_ends_early() {
    let mut board = session([
        out("WOpen:-"),
        reply("OKAY"),
        out("donwload:00000002"),
        reply("DATA00000002"),
        out([1, 2]),
        reply("OKAY"),
        out("donwload:00000001"),
        reply("DATA00000001"),
        out([3]),
        reply("FAILEPIPE"),
        out("Close"),
        reply("OKAY"),
    ]);
    let mut file = board.create("-").unwrap();
    file.write(&[1, 2]).unwrap();
    let error = file.write(&[3]).unwrap_err();
    assert!(matches!(error, FbkError::PipeClosed { taken: 2 }), "{error}");
    drop(file);
    board.into_pipe().finish();
}

#[test]
fn a_directory_is_no_file() {
    let mut board = session([out("WOpen:/tmp"), reply("FAILDIR"), out("WOpen:/x"), reply("FAIL")]);
    let error = board.create("/tmp").unwrap_err();
    assert_eq!(error.to_string(), "/tmp on the board is a directory");
    let error = board.create("/x").unwrap_err();
    assert_eq!(error.to_string(), "WOpen:/x: the board says FAIL, and no reason");
    board.into_pipe().finish();
}

#[test]
fn taking_a_file_and_a_stream() {
    let mut board = session([
        out("ROpen:/etc/x"),
        reply("OKAY0000000000000005"),
        out("upload"),
        reply("DATA00000003"),
        reply("abc"),
        reply("OKAY"),
        out("upload"),
        reply("DATA00000002"),
        reply("de"),
        reply("OKAY"),
        out("Close"),
        reply("OKAY"),
        out("ROpen:-"),
        reply("OKAY0000000000000000"),
        out("upload"),
        reply("DATA00000001"),
        reply("z"),
        reply("OKAY"),
        out("upload"),
        reply("DATA00000000"),
        reply("OKAY"),
        out("Close"),
        reply("OKAY"),
    ]);
    let mut taken = Vec::new();
    assert_eq!(board.read_file("/etc/x", 100, &mut taken).unwrap(), 5);
    assert_eq!(board.read_file("-", 100, &mut taken).unwrap(), 1);
    assert_eq!(taken, b"abcdez");
    board.into_pipe().finish();
}

#[test]
fn a_file_that_is_not_what_it_said() {
    let opened = |size: &str| [out("ROpen:f"), reply(format!("OKAY{size}"))];
    let close = || [out("Close"), reply("OKAY")];

    let mut steps = Vec::from(opened("0000000000000005"));
    steps.extend([out("upload"), reply("DATA00000000"), reply("OKAY")]);
    steps.extend(close());
    let mut board = session(steps);
    let error = board.read_file("f", 100, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "f on the board ended after 0 of 5 bytes");
    board.into_pipe().finish();

    let mut steps = Vec::from(opened("ffffffffffffffff"));
    steps.extend(close());
    let mut board = session(steps);
    let error = board.read_file("f", 100, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "f on the board has more than 100 bytes");
    board.into_pipe().finish();

    let mut steps = Vec::from(opened("five"));
    steps.extend(close());
    let mut board = session(steps);
    let error = board.read_file("f", 100, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, FbkError::Size { .. }), "{error}");
    board.into_pipe().finish();

    // More than is left of the file: what follows cannot be told from answers.
    let mut board = session(opened("0000000000000002").into_iter().chain([out("upload"), reply("DATA00000003")]));
    let error = board.read_file("f", 100, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, FbkError::Long { .. }), "{error}");
    assert!(matches!(board.ucmd("x"), Err(FbkError::Fastboot(FastbootError::OutOfStep { .. }))));

    let mut board = session(opened("0000000000000002").into_iter().chain([out("upload"), gone()]));
    let error = board.read_file("f", 100, &mut Vec::new()).unwrap_err();
    assert!(matches!(&error, FbkError::Fastboot(FastbootError::Transfer { source, .. }) if source.is_gone()));
}
