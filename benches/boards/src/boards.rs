//! Virtual boards in a process of their own, their cards in files.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bmap::BlockMap;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Problem;
use crate::works::Work;

/// What each mapped byte of a card is before.
const OLD: u8 = 0xa5;
const STEP: usize = 4 << 20;

/// Boards that run; they stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Boards {
    process: Child,
    folder: PathBuf,
    ports: Vec<String>,
}

/// What is on the cards before.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before<'a> {
    /// Old bytes all over.
    Old,
    /// The image, but for a byte at each of these places.
    Changed(&'a [u64]),
}

/// A program under real-time scheduling of that priority, if so wished: as on a machine that nobody else uses.
pub(crate) fn prioritised(program: &Path, realtime: bool, priority: u32) -> Command {
    if !realtime {
        return Command::new(program);
    }
    let mut command = Command::new("chrt");
    command.arg("--rr").arg(priority.to_string()).arg(program);
    command
}

fn card(folder: &Path, port: &str) -> PathBuf {
    folder.join(format!("{port}.card"))
}

/// Calls `each` with place and length of all mapped bytes, in steps.
fn steps(map: &BlockMap, mut each: impl FnMut(u64, usize) -> Result<(), Problem>) -> Result<(), Problem> {
    for (extent, _) in map.mapped() {
        let mut at = extent.start();
        while at < extent.end() {
            let n = usize::try_from(extent.end() - at)?.min(STEP);
            each(at, n)?;
            at += u64::try_from(n)?;
        }
    }
    Ok(())
}

impl Boards {
    /// Starts the boards of a work, in fastboot, with cards that hold what is said.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        work: &Work,
        image: &File,
        map: &BlockMap,
        before: Before<'_>,
        realtime: bool,
    ) -> Result<Self, Problem> {
        let ports = work.ports();
        let mut command = prioritised(program, realtime, 2);
        command.arg("--listen").arg(format!("unix:{}", folder.join("boards").display()));
        command.arg("--timing").arg(work.timing()).arg("--log").arg(folder.join("log"));
        if let Some(hub) = work.hub {
            command.arg("--hub").arg(format!("{hub}M"));
        }
        for port in &ports {
            let path = card(folder, port);
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
            // As large as the card, or the card would make it so.
            file.set_len(15_758_000_128)?;
            let mut bytes = vec![OLD; STEP];
            steps(map, |at, n| {
                if let Before::Changed(_) = before {
                    image.read_exact_at(&mut bytes[..n], at)?;
                }
                Ok(file.write_all_at(&bytes[..n], at)?)
            })?;
            if let Before::Changed(places) = before {
                for place in places {
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, *place)?;
                    file.write_all_at(&[!byte[0]], *place)?;
                }
            }
            command.arg("--model").arg(format!("imx8mm,stage=uboot,port={port},file={}", path.display()));
        }
        let mut process = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let out = process.stdout.take().ok_or("the boards say nothing")?;
        let boards = Self { process, folder: folder.to_owned(), ports };
        // Each says once that it is ready; what they say at the end fits in the pipe.
        let mut lines = BufReader::new(out).lines();
        for _ in &boards.ports {
            lines.next().ok_or("the boards did not start")??;
        }
        let _ = std::thread::spawn(move || lines.for_each(drop));
        Ok(boards)
    }

    /// Stops them and returns their log.
    pub(crate) fn stop(&mut self) -> Result<String, Problem> {
        kill(Pid::from_raw(i32::try_from(self.process.id())?), Signal::SIGTERM)?;
        let status = self.process.wait()?;
        if !status.success() {
            return Err(format!("the boards ended with {status}").into());
        }
        Ok(std::fs::read_to_string(self.folder.join("log"))?)
    }

    /// Compares what the cards hold with the image. Once they are stopped.
    pub(crate) fn compare(&self, image: &File, map: &BlockMap) -> Result<(), Problem> {
        let (mut want, mut have) = (vec![0; STEP], vec![0; STEP]);
        for port in &self.ports {
            let file = File::open(card(&self.folder, port))?;
            steps(map, |at, n| {
                image.read_exact_at(&mut want[..n], at)?;
                file.read_exact_at(&mut have[..n], at)?;
                if want[..n] != have[..n] {
                    return Err(format!("the board at {port} holds other bytes between {at} and {n} later").into());
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Drop for Boards {
    fn drop(&mut self) {
        // Gone already, as a rule.
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        for port in &self.ports {
            let _ = std::fs::remove_file(card(&self.folder, port));
        }
    }
}
