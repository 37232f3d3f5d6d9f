//! Signals in the middle of a job.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use crate::support::Room;

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
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let room = Room::new();
        let (mut child, mut out) = waiting(&room);
        send(&child, signal);
        // Standard input stays open: nothing but the signal may end it.
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
