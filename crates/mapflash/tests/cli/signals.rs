//! Signals in the middle of a job.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Ran, Room};

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
}

/// A copy from standard input that has begun to write and waits for more, and its standard output behind that point.
fn waiting(room: &Room) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = room.command(&["--json", "copy", "-", "out"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&vec![7; 24 << 20]).unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"stage\":\"write\"") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it never began to write");
    }
    (child, out)
}

#[test]
fn a_stopped_job_ends_with_128_and_the_signal_and_says_what_the_target_holds() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131)] {
        let room = Room::new();
        let (mut child, mut out) = waiting(&room);
        send(&child, signal);
        // Held open, which waiting would not: nothing but the signal may end it.
        let _input = child.stdin.take();
        let code = child.wait().unwrap().code();
        let (mut objects, mut said) = (String::new(), String::new());
        out.read_to_string(&mut objects).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(code, Some(status), "{said}");
        let error: serde_json::Value = serde_json::from_str(objects.lines().last().unwrap()).unwrap();
        assert_eq!((&error["kind"], &error["status"]), (&"cancelled".into(), &status.into()), "{objects}");
        assert!(said.contains("stopped on request"), "{said}");
    }
}

/// Starts a copy whose standard input stays open without a byte, and waits until its signals are watched.
fn idle(room: &Room, before: &[&str]) -> Child {
    let mut command = room.command(&["--json", "copy", "-", "out"]);
    if let Some((program, args)) = before.split_first() {
        let inner = command;
        command = Command::new(program);
        command
            .args(args)
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(inner.get_current_dir().unwrap());
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // SIGTERM is watched when its bit is set in the mask of caught signals.
    let status = format!("/proc/{}/status", child.id());
    let watched = || {
        let text = std::fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0
    };
    let start = Instant::now();
    while !watched() {
        assert!(start.elapsed() < Duration::from_secs(10), "signals are not watched");
        thread::sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn a_job_stopped_before_it_began_says_so_and_leaves_nothing() {
    let room = Room::new();
    let mut child = idle(&room, &[]);
    send(&child, "TERM");
    // Held open: the end of the input must not be what ends it.
    let _input = child.stdin.take();
    let ran: Ran = child.wait_with_output().unwrap().into();
    let ran = ran.expect(143);
    let error = ran.last();
    assert_eq!((&error["kind"], &error["target_changed"]), (&"cancelled".into(), &false.into()));
    assert!(ran.stderr.contains("stopped on request"), "{}", ran.stderr);
    assert!(room.names().is_empty(), "{:?}", room.names());
}

#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let room = Room::new();
    let mut child = idle(&room, &["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    send(&child, "HUP");
    let image = vec![7; 1 << 20];
    thread::sleep(Duration::from_millis(300));
    child.stdin.take().unwrap().write_all(&image).unwrap();
    Ran::from(child.wait_with_output().unwrap()).expect(0);
    assert!(room.read("out") == image);
}

#[test]
fn the_second_signal_ends_with_an_error_object() {
    // On a busy machine a job may end by itself before it sees the second signal, well and rightly; not time and again.
    let stopped_at_once = (0..10).any(|_| {
        let room = Room::new();
        let (mut child, mut out) = waiting(&room);
        // Held while both are sent.
        send(&child, "STOP");
        send(&child, "INT");
        send(&child, "TERM");
        send(&child, "CONT");
        let _input = child.stdin.take();
        let code = child.wait().unwrap().code().unwrap();
        let mut objects = String::new();
        out.read_to_string(&mut objects).unwrap();
        let error: serde_json::Value = serde_json::from_str(objects.lines().last().unwrap()).unwrap();
        assert_eq!((&error["event"], &error["kind"]), (&"error".into(), &"cancelled".into()), "{objects}");
        assert_eq!((&error["status"], &error["target_changed"]), (&code.into(), &true.into()), "{objects}");
        error["message"].as_str().unwrap().starts_with("stopped at once")
    });
    assert!(stopped_at_once);
}
