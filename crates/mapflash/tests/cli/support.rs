//! A folder and a command for each test, sample images, and texts kept in `tests/golden`.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

/// A folder that goes away with the test; commands run in it, so that messages hold no random names.
pub(crate) struct Room(tempfile::TempDir);

/// What a command did.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Everything in the folder, to see that nothing was left behind.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapflash"));
        command.args(args).current_dir(self.0.path()).env_remove("NO_COLOR").env("COLUMNS", "100");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], bytes: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that refuses before reading closes the pipe; that is for the caller to judge.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        child.wait_with_output().unwrap().into()
    }

    /// An image of `len` bytes with data in the given places, 4096 bytes each unless it ends first; the rest is holes.
    pub(crate) fn image(&self, name: &str, len: u64, places: &[u64]) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).unwrap();
        file.set_len(len).unwrap();
        for place in places {
            let count = usize::try_from((len - place).min(4096)).unwrap();
            let byte = u8::try_from(place / 4096 % 251).unwrap();
            let block: Vec<u8> = (0..count).map(|n| byte ^ u8::try_from(n % 253).unwrap() | 1).collect();
            file.write_all_at(&block, *place).unwrap();
        }
        path
    }

    /// The usual image: 4 MiB and a bit, a few blocks of data, and its map beside it.
    pub(crate) fn sample(&self) -> PathBuf {
        let image = self.image("disk.wic", (4 << 20) + 100, &[0, 4096, 2 << 20, 3 << 20, 4 << 20]);
        self.run(&["create", "disk.wic", "-o", "disk.wic.bmap"]).expect(0);
        image
    }

    /// The same with a partition table in it, and of whole sectors: the image of a card. 16 KiB and a sector of data.
    pub(crate) fn card(&self) -> PathBuf {
        let image = self.image("disk.wic", (4 << 20) + 512, &[0, 4096, 2 << 20, 3 << 20, 4 << 20]);
        let file = File::options().write(true).open(&image).unwrap();
        file.write_all_at(&mbr(2048, 6144), 0).unwrap();
        self.run(&["create", "disk.wic", "-o", "disk.wic.bmap"]).expect(0);
        image
    }

    /// A room with the image of a card, its map, and a boot image for one chip, `flash.bin`.
    pub(crate) fn to_flash(model: Model) -> Self {
        let room = Self::new();
        room.card();
        room.write("flash.bin", &flash_bin(model, 1));
        room
    }

    /// Runs `mapflash flash`; journals stay in the room.
    pub(crate) fn flash(&self, args: &[&str]) -> Ran {
        let mut command = self.command(&[&["flash"], args].concat());
        command.env("XDG_STATE_HOME", self.path("state")).output().unwrap().into()
    }

    /// Packs a file by gzip.
    pub(crate) fn gzip(&self, from: &str, to: &str) -> PathBuf {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&self.read(from)).unwrap();
        self.write(to, &packer.finish().unwrap())
    }
}

/// A partition table of one partition, in sectors.
pub(crate) fn mbr(start: u32, sectors: u32) -> [u8; 512] {
    let mut table = [0; 512];
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    table[446 + 4] = 0x83;
    table[446 + 8..446 + 12].copy_from_slice(&start.to_le_bytes());
    table[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
    table
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The exit status that was to be expected, or everything there is to say about the other one.
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Each line of standard output as a JSON object of version 1.
    pub(crate) fn objects(&self) -> Vec<serde_json::Value> {
        let objects = self.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        let objects: Vec<serde_json::Value> = objects.collect();
        assert!(objects.iter().all(|object| object["v"] == 1 && object["event"].is_string()), "{}", self.stdout);
        objects.iter().for_each(is_documented);
        objects
    }

    /// The last object, which ends every job.
    pub(crate) fn last(&self) -> serde_json::Value {
        self.objects().pop().unwrap()
    }
}

/// Sees to it that the name of an object and each of its keys stand in the document about them.
fn is_documented(object: &serde_json::Value) {
    const DOCUMENT: &str = include_str!("../../../../docs/json.md");
    let told = |word: &str| assert!(DOCUMENT.contains(&format!("`{word}`")), "{word} is not in docs/json.md: {object}");
    told(object["event"].as_str().unwrap());
    let mut left = vec![object];
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::Object(entries) => {
                entries.keys().for_each(|key| told(key));
                left.extend(entries.values());
            }
            serde_json::Value::Array(values) => left.extend(values),
            _ => {}
        }
    }
}

/// Compares with the text kept under that name; `UPDATE_GOLDEN=1 cargo test` keeps a new one.
pub(crate) fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, kept, "{name} is not what is kept; UPDATE_GOLDEN=1 keeps this one");
}

/// Takes numbers that differ from run to run out of a text: times and rates.
pub(crate) fn without_times(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive([' ', '\n']) {
        let unit = matches!(
            word.trim_end().trim_end_matches([',', ';']),
            "ms" | "s" | "MiB/s" | "KiB/s" | "GiB/s" | "bytes/s"
        );
        if unit {
            // The number before the unit.
            let number = out.trim_end().rfind(' ').map_or(0, |at| at + 1);
            out.truncate(number);
            out.push_str("N ");
            let rate = word.contains('/');
            out.push_str(if rate { "RATE" } else { "TIME" });
            out.push_str(&word[word.trim_end().len() - usize::from(word.trim_end().ends_with([',', ';']))..]);
        } else {
            out.push_str(word);
        }
    }
    out
}
