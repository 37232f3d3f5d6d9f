//! What a board was sent, kept on the host so that an interrupted job can go on: a hint where to look, never evidence.
//!
//! A text file: a first line that names the plan and the board, then a line for each piece that was sent or proven,
//! appended as the job goes. What it names is compared with the board before it is skipped. A file of another plan, or
//! that cannot be read, hints at nothing.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bmap::Digest;

/// No job has more pieces than fit here; a longer file is not ours.
const MOST_BYTES: u64 = 64 << 20;

/// The journal of one board; one without a file remembers nothing.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    file: Option<File>,
    path: Option<PathBuf>,
    hints: BTreeSet<usize>,
    pending: String,
}

impl Journal {
    /// None.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// The journal in `folder` for a plan and a board; what an earlier job left there are its hints if `resume`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn open(folder: &Path, plan: &Digest, board: &str, resume: bool) -> io::Result<Self> {
        let path = folder.join(format!("{}.journal", name_of(board)));
        let title = format!("mapflash journal 1, plan {plan}, board {}", name_of(board));
        let hints = if resume { hints(&path, &title).unwrap_or_default() } else { BTreeSet::new() };
        std::fs::create_dir_all(folder)?;
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
        writeln!(file, "{title}")?;
        let mut journal = Self { file: Some(file), path: Some(path), hints, pending: String::new() };
        // Kept for the next time, should this one be interrupted before it comes as far.
        let kept: Vec<usize> = journal.hints.iter().copied().collect();
        kept.iter().for_each(|index| journal.note("sent", *index));
        journal.flush();
        Ok(journal)
    }

    /// Pieces that may be there.
    pub(crate) fn hints(&self) -> &BTreeSet<usize> {
        &self.hints
    }

    /// A piece was sent.
    pub(crate) fn sent(&mut self, index: usize) {
        self.note("sent", index);
    }

    /// A piece was proven.
    pub(crate) fn proven(&mut self, index: usize) {
        self.note("proven", index);
    }

    fn note(&mut self, what: &str, index: usize) {
        if self.file.is_some() {
            self.pending.push_str(&format!("{what} {index}\n"));
        }
    }

    /// Puts what was noted into the file. A file that fails is given up: it was only a hint.
    pub(crate) fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if let Some(file) = &mut self.file
            && file.write_all(pending.as_bytes()).is_err()
        {
            self.file = None;
        }
    }

    /// The job is done: nothing is left to go on with.
    pub(crate) fn remove(&mut self) {
        self.file = None;
        if let Some(path) = self.path.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A board's name as part of a file's: serial numbers are letters and digits.
fn name_of(board: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    board.chars().take(100).map(plain).collect()
}

fn hints(path: &Path, title: &str) -> io::Result<BTreeSet<usize>> {
    let mut lines = BufReader::new(File::open(path)?.take(MOST_BYTES)).lines();
    if lines.next().transpose()?.as_deref() != Some(title) {
        return Ok(BTreeSet::new());
    }
    let mut hints = BTreeSet::new();
    for line in lines {
        // The last line of an interrupted job may be cut.
        if let Some((_, index)) = line?.split_once(' ')
            && let Ok(index) = index.parse()
        {
            hints.insert(index);
        }
    }
    Ok(hints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bmap::{Algorithm, Hasher};

    #[test]
    fn an_interrupted_job_leaves_hints_for_the_same_plan_and_board_only() {
        let folder = tempfile::tempdir().unwrap();
        let (plan, other) = (Hasher::digest(Algorithm::Sha256, b"a"), Hasher::digest(Algorithm::Sha256, b"b"));
        let mut journal = Journal::open(folder.path(), &plan, "01/ab", false).unwrap();
        journal.sent(3);
        journal.proven(3);
        journal.sent(7);
        journal.flush();
        drop(journal);
        let path = folder.path().join("01_ab.journal");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"sent 9x\nsen").unwrap();
        let again = Journal::open(folder.path(), &plan, "01/ab", true).unwrap();
        assert_eq!(again.hints().iter().copied().collect::<Vec<_>>(), [3, 7]);
        drop(again);
        // They are kept until the job is done, and are no hints for another plan.
        assert_eq!(Journal::open(folder.path(), &plan, "01/ab", true).unwrap().hints().len(), 2);
        assert!(Journal::open(folder.path(), &other, "01/ab", true).unwrap().hints().is_empty());
        Journal::open(folder.path(), &plan, "01/ab", true).unwrap().remove();
        assert!(!path.exists());
        assert!(Journal::open(Path::new("/proc/nothing"), &plan, "x", true).is_err());
    }
}
