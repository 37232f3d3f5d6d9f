//! Tables: what each work took, beside what it would take if nothing were ever waited for, and the aims.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Run, whole_uuu};
use crate::works::{CARD_WRITE, COMMAND, Job, Work, compare_time, proof_time, shared_bus};
use crate::{Problem, float};

/// Bytes and counts of the image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) image: u64,
    pub(crate) mapped: u64,
    /// Of it, what lies behind the head.
    pub(crate) body: u64,
    /// Bytes of the pieces that `--delta` finds changed.
    pub(crate) changed: u64,
    pub(crate) pieces: usize,
    pub(crate) changed_pieces: usize,
    /// The longest piece.
    pub(crate) piece: u64,
}

/// Median, least and most.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |n: usize| values.get(n).copied().unwrap_or(f64::NAN);
        let half = values.len() / 2;
        let median =
            if values.len().is_multiple_of(2) && half > 0 { f64::midpoint(at(half - 1), at(half)) } else { at(half) };
        Self { median, least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}

/// All runs, by work.
struct Runs<'a>(&'a [(Work, Vec<Run>)]);

impl Runs<'_> {
    fn of(&self, name: &str, value: impl Fn(&Work, &Run) -> f64) -> Option<Spread> {
        let (work, runs) = self.0.iter().find(|(work, _)| work.name == name)?;
        Some(Spread::of(runs.iter().map(|run| value(work, run))))
    }

    fn seconds(&self, name: &str) -> Option<f64> {
        Some(self.of(name, |_, run| run.outcome.seconds)?.median)
    }

    fn write(&self, name: &str) -> Option<f64> {
        Some(self.of(name, |_, run| run.account.write.seconds)?.median)
    }
}

/// What the write phase would take: bytes by the bus, bytes by what the board does with them, commands.
fn formula(sizes: &Sizes, work: &Work, run: &Run) -> f64 {
    let span = &run.account.write;
    float(span.received) / work.bus_rate() + work.work_time(sizes.body) + span.command_time()
}

/// What `--delta` would take: reading and comparing everything, writing and proving what differs, commands.
fn delta_formula(sizes: &Sizes, work: &Work, run: &Run) -> f64 {
    let changed = float(sizes.changed);
    compare_time(sizes.mapped)
        + changed / work.bus_rate()
        + changed / CARD_WRITE
        + proof_time(sizes.changed)
        + float(run.commands) * COMMAND
}

/// Is the board's own account that of one board that was sent everything?
fn has_phases(work: &Work) -> bool {
    work.boards == 1 && !matches!(work.job, Job::Uuu | Job::Delta)
}

pub(crate) fn report(sizes: &Sizes, works: &[(Work, Vec<Run>)]) -> String {
    let runs = Runs(works);
    let mut text = String::from(
        "| work | bus MB/s | seconds | write phase s | × formula | bytes on the wire / mapped | bus idle | proof s | × formula \
         | processor s | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (work, list) in works {
        let spread = |value: &dyn Fn(&Run) -> f64| Spread::of(list.iter().map(value));
        let whole = match work.job {
            Job::Uuu => spread(&|run| whole_uuu(&run.outcome, sizes.image)),
            _ => spread(&|run| run.outcome.seconds),
        };
        let bus = work.hub.map_or_else(|| work.bus.to_string(), |hub| format!("{}, {hub} shared", work.bus));
        let _ = write!(text, "| {} | {bus} | {whole} |", work.title);
        if has_phases(work) {
            let write = spread(&|run| run.account.write.seconds);
            let ratio = spread(&|run| run.account.write.seconds / formula(sizes, work, run));
            // What auto chose is not known here.
            let ratio = if work.job == Job::Auto { String::new() } else { format!("{:.3}", ratio.median) };
            let wire = spread(&|run| float(run.account.received) / float(sizes.mapped));
            let idle = spread(&|run| run.account.write.idle(work.bus_rate()) / run.account.write.seconds);
            let proof = spread(&|run| run.account.proof.seconds);
            let proven = spread(&|run| run.account.proof.seconds / proof_time(sizes.body));
            let _ = write!(
                text,
                " {write} | {ratio} | {:.4} | {:.1} % | {:.2} | {:.3} |",
                wire.median,
                100.0 * idle.median,
                proof.median,
                proven.median
            );
        } else {
            text.push_str(" | | | | | |");
        }
        let processor = spread(&|run| run.outcome.processor);
        let memory = spread(&|run| run.outcome.memory_mib);
        let _ = writeln!(text, " {:.2} | {:.0} |", processor.median, memory.most);
    }
    text.push('\n');
    text.push_str(&aims(sizes, &runs));
    text
}

/// A line of the aims: what, what was reached, what was aimed at, and whether that is it.
struct Aims(String);

impl Aims {
    fn line(
        &mut self,
        what: &str,
        got: Option<f64>,
        show: impl Fn(f64) -> String,
        aim: &str,
        reached: impl Fn(f64) -> bool,
    ) {
        let Some(got) = got else { return };
        let verdict = if reached(got) { "reached" } else { "missed" };
        let _ = writeln!(self.0, "| {what} | {} | {aim} | {verdict} |", show(got));
    }
}

fn aims(sizes: &Sizes, runs: &Runs<'_>) -> String {
    let mut aims = Aims("| aim | measured | wanted | |\n|---|---|---|---|\n".to_owned());
    let times = |got: f64| format!("{got:.2}×");
    let exact = |got: f64| format!("{got:.4}");
    let percent = |got: f64| format!("{:.1} %", 100.0 * got);
    let median = |name: &str, value: &dyn Fn(&Work, &Run) -> f64| runs.of(name, value).map(|spread| spread.median);
    let mapped = float(sizes.mapped);
    let wire = median("raw-30", &|_, run| float(run.account.received) / mapped);
    aims.line("bytes on the wire, raw / mapped", wire, exact, "≤ 1.001", |got| got <= 1.001);
    for bus in ["30", "15"] {
        let name = |job: &str| format!("{job}-{bus}");
        let ratio = median(&name("raw"), &|work, run| run.account.write.seconds / formula(sizes, work, run));
        aims.line(&format!("raw write phase / formula, {bus} MB/s"), ratio, exact, "≤ 1.03", |got| got <= 1.03);
        let uuu = median(&name("uuu"), &|_, run| whole_uuu(&run.outcome, sizes.image));
        for (job, least, wanted) in [("raw", 5.5, "≥ 5.5×"), ("lz4", 7.0, "≥ 7×")] {
            let ratio = uuu.zip(runs.seconds(&name(job))).map(|(uuu, ours)| uuu / ours);
            aims.line(&format!("{job}, proof included, against uuu, {bus} MB/s"), ratio, times, wanted, |got| {
                got >= least
            });
        }
        let raw = runs.write(&name("raw"));
        let (auto, packed) = if bus == "30" { (1.4, 1.5) } else { (1.65, 1.8) };
        for (job, least) in [("auto", auto), ("packed", packed)] {
            let ratio = raw.zip(runs.write(&name(job))).map(|(raw, ours)| raw / ours);
            let what = format!("{job} against raw, write phase, {bus} MB/s");
            aims.line(&what, ratio, times, &format!("≥ {least}×"), |got| got >= least);
        }
        let fixed =
            ["raw", "lz4", "gzip"].iter().filter_map(|job| runs.write(&name(job))).fold(f64::INFINITY, f64::min);
        let behind = runs.write(&name("auto")).filter(|_| fixed.is_finite()).map(|auto| auto / fixed);
        aims.line(&format!("auto / best fixed choice, write phase, {bus} MB/s"), behind, exact, "≤ 1.03", |got| {
            got <= 1.03
        });
        for job in ["raw", "lz4", "auto", "packed"] {
            let idle =
                median(&name(job), &|work, run| run.account.write.idle(work.bus_rate()) / run.account.write.seconds);
            aims.line(&format!("bus idle, {job}, {bus} MB/s"), idle, percent, "< 2 %", |got| got < 0.02);
        }
    }
    let proof = median("raw-30", &|_, run| run.account.proof.seconds / proof_time(sizes.body));
    aims.line("proof / formula", proof, exact, "≤ 1.05", |got| got <= 1.05);
    let delta = median("delta-30", &|work, run| run.outcome.seconds / delta_formula(sizes, work, run));
    aims.line("delta / formula", delta, exact, "≤ 1.05", |got| got <= 1.05);
    let one = runs.seconds("raw-30");
    let eight = runs.seconds("eight-30").zip(one).map(|(eight, one)| eight / one);
    aims.line("8 boards, a bus each / one", eight, exact, "≤ 1.15", |got| got <= 1.15);
    for name in ["eight-30", "eight-auto-30"] {
        let memory = runs.of(name, |_, run| run.outcome.memory_mib).map(|spread| spread.most);
        let (what, most) = (if name == "eight-30" { "raw" } else { "auto" }, 128.0 + 8.0 * 48.0);
        let show = |got: f64| format!("{got:.0} MiB");
        aims.line(&format!("our memory, 8 boards, {what}"), memory, show, "≤ 512 MiB", |got| got <= most);
    }
    let cores = median("eight-30", &|_, run| run.outcome.processor / run.outcome.seconds);
    aims.line("our cores, 8 boards, raw", cores, |got| format!("{got:.2}"), "≤ 1", |got| got <= 1.0);
    let shared = median("four-40", &|work, run| {
        let hub = work.hub.unwrap_or(work.bus);
        run.outcome.seconds / shared_bus(work.boards, hub, sizes.mapped, sizes.piece)
    });
    aims.line("4 boards on one 40 MB/s bus / best schedule", shared, exact, "≤ 1.1", |got| got <= 1.1);
    aims.0
}

fn said(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The first value of a key in a file of `key : value` lines.
fn value(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_once([':', '=']).map_or("", |(_, value)| value).trim().trim_matches('"').to_owned()
}

/// What the numbers were measured on.
pub(crate) fn machine(sizes: &Sizes, rounds: usize, load: &str, realtime: bool) -> String {
    let scheduled = if realtime { ", boards and measured process scheduled before all others (SCHED_RR)" } else { "" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "- {}, {cores} cores, {} of memory\n- Linux {}, {}; cards on tmpfs\n\
         - load when it began: {load}{scheduled}; mapflash at commit {}\n\
         - timing model of a board: eMMC 60 MB/s to write and 160 MB/s to read, unlz4 300, gunzip 60, crc32 250, sha256 300 MB/s,\n  \
         10 ms a command; it receives or works, never both; real time\n\
         - image: {} bytes, {} mapped ({:.1} %) in {} pieces, {} of them ({} bytes) changed for delta\n\
         - {rounds} rounds, in turns, a new process and new boards for every run, cards full of old bytes before and compared\n  \
         with the image afterwards; median (least to most)\n",
        value("/proc/cpuinfo", "model name"),
        value("/proc/meminfo", "MemTotal"),
        said("uname", &["-r"]),
        value("/etc/os-release", "PRETTY_NAME"),
        said("git", &["describe", "--always", "--dirty", "--exclude=*"]),
        sizes.image,
        sizes.mapped,
        100.0 * float(sizes.mapped) / float(sizes.image),
        sizes.pieces,
        sizes.changed_pieces,
        sizes.changed,
    )
}

/// The load of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Writes a dated file.
pub(crate) fn save(folder: &Path, text: &str) -> Result<PathBuf, Problem> {
    let day = said("date", &["+%Y-%m-%d"]);
    let path = folder.join(format!("{day}-boards-{}-core-vm.md", std::thread::available_parallelism()?));
    fs::create_dir_all(folder)?;
    fs::write(&path, text)?;
    Ok(path)
}
