//! Queue settings of a block device, changed for the length of a job and put back on every way out.
//!
//! While an image is written, two settings help (observed with bmaptool's users and our own measurements): a share of
//! one per cent of the page cache for the device (`bdi/max_ratio`), so that buffered writes cannot pile up in front of
//! everybody else's, and no I/O scheduler (`queue/scheduler`), for there is one writer that writes in order. A [`Tuning`]
//! is shared by the target, whose end puts back what was there, and by who has to end the process at once: whoever comes
//! second waits until the first has put everything back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{Event, Note, Observer};

/// Settings changed, and what they held before; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tuning(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    changed: Vec<(PathBuf, String)>,
    /// The process ends: nothing is changed any more.
    over: bool,
}

/// The settings, relative to a disk's folder in sysfs, and what they should hold.
const SETTINGS: [(&str, &str); 2] = [("bdi/max_ratio", "1"), ("queue/scheduler", "none")];

impl Tuning {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what can be changed of the disk whose sysfs folder is `disk`; what cannot is a note.
    pub(crate) fn apply(&self, disk: &Path, observer: &dyn Observer) {
        // Held all the while, so that nobody restores in between.
        let mut state = self.state();
        if state.over {
            return;
        }
        for (setting, wanted) in SETTINGS {
            let path = disk.join(setting);
            match change(&path, wanted) {
                Ok(Some(before)) => state.changed.push((path, before)),
                Ok(None) => {}
                // A device without the setting has nothing to tune.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    observer.event(&Event::Note(Note::NotTuned { setting: path, error: Arc::new(error) }));
                }
            }
        }
    }

    /// Puts everything back and tells what could not be.
    pub(crate) fn restore(&self, observer: &dyn Observer) {
        self.state().restore(observer);
    }

    /// Puts everything back, once and for all.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.over = true;
        state.restore(&());
    }
}

impl State {
    fn restore(&mut self, observer: &dyn Observer) {
        for (setting, value) in self.changed.drain(..).rev() {
            if let Err(error) = fs::write(&setting, &value) {
                // A device that is gone took its settings along.
                if error.kind() != io::ErrorKind::NotFound {
                    observer.event(&Event::Note(Note::NotRestored { setting, value, error: Arc::new(error) }));
                }
            }
        }
    }
}

/// Writes `wanted` unless it is there already; returns what was there before.
fn change(path: &Path, wanted: &str) -> io::Result<Option<String>> {
    let text = fs::read_to_string(path)?;
    let before = current(&text).to_owned();
    if before == wanted {
        return Ok(None);
    }
    fs::write(path, wanted)?;
    Ok(Some(before))
}

/// The value in force: the bracketed word of a list of choices, or the whole text.
fn current(text: &str) -> &str {
    let bracketed = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word);
    bracketed.unwrap_or_else(|| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(max_ratio: &str, scheduler: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("bdi")).unwrap();
        fs::create_dir_all(root.path().join("queue")).unwrap();
        fs::write(root.path().join("bdi/max_ratio"), max_ratio).unwrap();
        fs::write(root.path().join("queue/scheduler"), scheduler).unwrap();
        root
    }

    fn held(root: &tempfile::TempDir, setting: &str) -> String {
        fs::read_to_string(root.path().join(setting)).unwrap()
    }

    fn tuned(disk: &Path, observer: &dyn Observer) {
        let tuning = Tuning::default();
        tuning.apply(disk, observer);
        tuning.restore(observer);
    }

    /// Two signals in a row: the job is on its way out and puts settings back when the process is about to end.
    #[test]
    fn who_ends_the_process_waits_for_who_restores_and_nobody_tunes_again() {
        let root = disk("100\n", "[none]\n");
        let tuning = Tuning::default();
        tuning.apply(root.path(), &());
        let restoring = tuning.state();
        let ending = std::thread::spawn({
            let tuning = tuning.clone();
            move || tuning.end()
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!ending.is_finished());
        drop(restoring);
        ending.join().unwrap();
        assert_eq!(held(&root, "bdi/max_ratio"), "100");
        tuning.apply(root.path(), &());
        assert_eq!(held(&root, "bdi/max_ratio"), "100");
    }

    #[test]
    fn what_was_changed_is_put_back() {
        let root = disk("100\n", "none [mq-deadline] kyber\n");
        let tuning = Tuning::default();
        tuning.apply(root.path(), &());
        assert_eq!(held(&root, "bdi/max_ratio"), "1");
        assert_eq!(held(&root, "queue/scheduler"), "none");
        tuning.restore(&());
        assert_eq!(held(&root, "bdi/max_ratio"), "100");
        assert_eq!(held(&root, "queue/scheduler"), "mq-deadline");
    }

    #[test]
    fn what_is_right_already_is_not_touched() {
        let root = disk("1\n", "[none] mq-deadline\n");
        tuned(root.path(), &());
        assert_eq!(held(&root, "bdi/max_ratio"), "1\n");
        assert_eq!(held(&root, "queue/scheduler"), "[none] mq-deadline\n");
    }

    #[test]
    fn a_setting_that_cannot_be_written_is_a_note_and_no_failure() {
        let root = disk("100", "[none]");
        fs::remove_file(root.path().join("bdi/max_ratio")).unwrap();
        fs::create_dir(root.path().join("bdi/max_ratio")).unwrap();
        let notes = Mutex::new(Vec::new());
        let observer = |event: &Event| notes.lock().unwrap().push(format!("{event:?}"));
        tuned(root.path(), &observer);
        assert_eq!(notes.lock().unwrap().len(), 1);
        tuned(Path::new("/nonexistent"), &observer);
        assert_eq!(notes.lock().unwrap().len(), 1);
    }
}
