//! Loop devices, which need root and a kernel that has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device over a file; let go of when dropped.
#[derive(Debug)]
pub(crate) struct Loop {
    /// Such as `/dev/loop0`.
    pub(crate) device: PathBuf,
}

/// Runs a program that must succeed; returns what it printed.
#[track_caller]
pub(crate) fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether this process may make loop devices. Where not, says that the test is skipped, or fails if
/// `MAPFLASH_REQUIRE_ROOT_TESTS=1` demands it.
pub(crate) fn available(test: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let made = Command::new("losetup").args(["-f", "--show"]).arg(file.path()).output();
    let why = match made {
        Ok(output) if output.status.success() => {
            let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let detached = Command::new("losetup").args(["-d", &device]).status();
            assert!(detached.unwrap().success());
            return true;
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    skip(test, &why);
    false
}

/// Says that a test is skipped and why, or fails if skipping is forbidden.
pub(crate) fn skip(test: &str, why: &str) {
    let required = std::env::var_os("MAPFLASH_REQUIRE_ROOT_TESTS").is_some_and(|value| value == "1");
    assert!(!required, "{test} cannot run: {why}");
    eprintln!("skipped: {test}: {why}");
}

impl Loop {
    /// A device over all of `file`.
    pub(crate) fn over(file: &Path) -> Self {
        Self::with(&[], file)
    }

    /// A device that the kernel holds read-only.
    pub(crate) fn read_only(file: &Path) -> Self {
        Self::with(&["-r"], file)
    }

    /// A device whose partitions the kernel looks for.
    pub(crate) fn partitioned(file: &Path) -> Self {
        Self::with(&["-P"], file)
    }

    /// A device over the part of `file` from byte `offset` on.
    pub(crate) fn at(file: &Path, offset: u64) -> Self {
        Self::with(&["-o", &offset.to_string()], file)
    }

    fn with(options: &[&str], file: &Path) -> Self {
        let mut args = vec!["-f", "--show"];
        args.extend(options);
        args.push(file.to_str().unwrap());
        Self { device: tool("losetup", &args).into() }
    }

    /// The name of its folder in sysfs: `loop0`.
    pub(crate) fn name(&self) -> String {
        self.device.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// A file below its folder in sysfs.
    pub(crate) fn sysfs(&self, file: &str) -> PathBuf {
        Path::new("/sys/block").join(self.name()).join(file)
    }

    /// What a setting of its queue holds: the word in brackets, or all of it.
    pub(crate) fn setting(&self, file: &str) -> String {
        let text = fs::read_to_string(self.sysfs(file)).unwrap();
        let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word);
        chosen.unwrap_or(text.trim()).to_owned()
    }

    /// Changes a setting.
    pub(crate) fn set(&self, file: &str, value: &str) {
        fs::write(self.sysfs(file), value).unwrap();
    }

    /// The path as text.
    pub(crate) fn text(&self) -> &str {
        self.device.to_str().unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// A filesystem that is mounted; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Where.
    pub(crate) at: PathBuf,
}

impl Mount {
    /// Mounts `what` of kind `kind` at a folder made for it.
    pub(crate) fn new(kind: &str, options: &str, what: &Path, at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        tool("mount", &["-t", kind, "-o", options, what.to_str().unwrap(), at.to_str().unwrap()]);
        Self { at: at.to_owned() }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}
