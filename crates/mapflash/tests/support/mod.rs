//! What the tests of the program share: running it, images to feed it, packing them, loop devices.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests say what they expect by unwrapping")]

#[path = "../../src/demo/disk/mod.rs"]
pub(crate) mod disk;
pub(crate) mod loops;
pub(crate) mod pack;
pub(crate) mod signal;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub(crate) const MAPFLASH: &str = env!("CARGO_BIN_EXE_mapflash");

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Run {
    /// How it was called, for messages.
    pub(crate) called: String,
    /// Exit status; `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Run {
    /// From a finished process.
    pub(crate) fn of(called: String, output: Output) -> Self {
        Self {
            called,
            status: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails, with all that was said, unless it ended with `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// The objects on standard output under `--json`; every line must be one.
    #[track_caller]
    pub(crate) fn objects(&self) -> Vec<serde_json::Value> {
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{self:#?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The one object of that name under `--json`.
    #[track_caller]
    pub(crate) fn object(&self, event: &str) -> serde_json::Value {
        let mut found = self.objects();
        found.retain(|object| object["event"] == event);
        assert_eq!(found.len(), 1, "objects named {event}: {found:#?}\n{self:#?}");
        found.remove(0)
    }
}

/// The program with these arguments, not yet started; its input is empty.
pub(crate) fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(MAPFLASH);
    command.args(args).stdin(Stdio::null()).env("TERM", "dumb").env_remove("RUST_BACKTRACE");
    command
}

/// Runs the program with these arguments.
pub(crate) fn mapflash<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    let mut command = command(args);
    Run::of(format!("{command:?}"), command.output().unwrap())
}

/// A folder for test files: in memory where that is possible, for nothing here shall wait for a disk.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("mapflash-test-").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Bytes that repeat nowhere near.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk::content::Content::new(seed).fill(disk::content::Kind::Packed, &mut bytes);
    bytes
}

/// Writes a file full of old data: noise that no image holds.
pub(crate) fn old_data(path: &Path, len: u64) {
    let file = File::create(path).unwrap();
    let piece = noise(999, 4 << 20);
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).unwrap().min(piece.len());
        file.write_all_at(&piece[..part], at).unwrap();
        at += u64::try_from(part).unwrap();
    }
}

/// Makes the small realistic image and its map; returns both paths.
pub(crate) fn small_image(folder: &Path) -> (PathBuf, PathBuf) {
    let image = folder.join("small.wic");
    disk::make(&File::create(&image).unwrap(), &disk::Shape::SMALL, 5).unwrap();
    let map = folder.join("small.wic.bmap");
    mapflash([OsStr::new("create"), image.as_os_str(), OsStr::new("-o"), map.as_os_str()]).expect(0);
    (image, map)
}

/// The mapped ranges that a bmap file names, as bytes: (start, end). Read by the plainest means, not by our reader.
pub(crate) fn mapped(map: &Path, image_size: u64) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(map).unwrap();
    text.split("<Range")
        .skip(1)
        .map(|range| {
            let inside = range.split_once('>').unwrap().1.split_once('<').unwrap().0.trim();
            let (first, last) = inside.split_once('-').unwrap_or((inside, inside));
            let number = |text: &str| text.trim().parse::<u64>().unwrap();
            (number(first) * 4096, ((number(last) + 1) * 4096).min(image_size))
        })
        .collect()
}
