//! The program: boards in a process of their own.

#![cfg(all(unix, feature = "program"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use virtual_imx::usbip::operation::{Request, read_imported, read_listed};
use virtual_imx::usbip::{Address, Stream};

struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-imx"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Ends it as a service manager does; what it still says.
    fn end(&mut self) -> Vec<Value> {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It is gone already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list(stream: &mut Stream) -> Vec<String> {
    stream.write_all(&Request::List.encode()).unwrap();
    read_listed(stream).unwrap().into_iter().map(|record| record.name).collect()
}

#[test]
fn boards_are_served_until_it_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (listen, file, log) = (format!("unix:{}", path("socket")), path("card.img"), path("log"));
    let mut loader = vec![0; 0x8000];
    loader.extend(virtual_imx::sample::flash_bin(virtual_imx::model::Model::Imx8mp, 1));
    fs::write(&file, loader).unwrap();
    let boards = [
        format!("imx8mp,emmc=64M,boot=card,file={file}"),
        "imx8mm,port=1-7,uid=ff".to_owned(),
        "imx93,port=1-8,stage=uboot,tree=upstream,emmc=64M".to_owned(),
    ];
    let dump = path("dump");
    let mut arguments = vec!["--listen", &listen, "--dump-emmc", &dump, "--log", &log, "--timing", "imx8m,gap=1ms"];
    boards.iter().for_each(|board| arguments.extend(["--model", board]));
    arguments.extend(["--faults", "1-7=rom enter power back 50"]);
    let mut program = Program::start(&arguments);
    let ready: Vec<_> = (0..3).map(|_| program.line()).collect();
    // The first boots from its card.
    assert_eq!((&ready[0]["port"], &ready[0]["stage"]), (&"1-1".into(), &"running".into()));
    assert_eq!((&ready[2]["model"], &ready[2]["stage"]), (&"imx93".into(), &"uboot".into()));

    let mut stream = listen.parse::<Address>().unwrap().connect().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while list(&mut stream) != ["1-7", "1-8"] {
        assert!(std::time::Instant::now() < until, "the board whose power failed comes back");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    stream.write_all(&Request::Import("1-8".to_owned()).encode()).unwrap();
    assert!(read_imported(&mut stream).unwrap().is_ok());

    let summaries = program.end();
    assert_eq!(summaries.len(), 3);
    assert_eq!((&summaries[0]["bootable"], &summaries[1]["bootable"]), (&true.into(), &false.into()));
    assert_eq!((&summaries[1]["visits"], &summaries[2]["commands"]), (&2.into(), &0.into()));
    assert_eq!(fs::metadata(&file).unwrap().len(), 64 << 20);
    for (name, length) in [("1-8.user", 64 << 20), ("1-8.boot0", 4 << 20), ("1-7.boot1", 4 << 20)] {
        assert_eq!(fs::metadata(folder.path().join("dump").join(name)).unwrap().len(), length, "{name}");
    }
    assert!(fs::read(path("dump/1-1.user")).unwrap() == fs::read(&file).unwrap());
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.lines().any(|line| line.contains("\"left\"") && line.contains("1-7")), "{log}");
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (arguments, status) in [
        (&["--model", "imx6", "--vhci"][..], 2),
        (&["--model", "imx93"], 1),
        (&["--model", "imx93", "--vhci", "--sysfs", "/nowhere"], 1),
        (&["--model", "imx93", "--listen", "unix:/nowhere/at/all"], 1),
        (&["--model", "imx93", "--vhci", "--faults", "rom"], 2),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_virtual-imx")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
