//! Queue settings of a block device, changed for the length of a job and put back on every way out.
//!
//! While an image is written, two settings help (observed with bmaptool's users and our own measurements): a share of
//! one per cent of the page cache for the device (`bdi/max_ratio`), so that buffered writes cannot pile up in front of
//! everybody else's, and no I/O scheduler (`queue/scheduler`), for there is one writer that writes in order. Dropping a
//! [`Tuning`] puts back what was there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::{Event, Note, Observer};

/// Settings changed, and what they held before.
#[derive(Debug, Default)]
pub(crate) struct Tuning {
    changed: Vec<(PathBuf, String)>,
}

/// The settings, relative to a disk's folder in sysfs, and what they should hold.
const SETTINGS: [(&str, &str); 2] = [("bdi/max_ratio", "1"), ("queue/scheduler", "none")];

impl Tuning {
    /// Changes what can be changed of the disk whose sysfs folder is `disk`; what cannot is a note.
    pub(crate) fn apply(disk: &Path, observer: &dyn Observer) -> Self {
        let mut tuning = Self::default();
        for (setting, wanted) in SETTINGS {
            let path = disk.join(setting);
            match change(&path, wanted) {
                Ok(Some(before)) => tuning.changed.push((path, before)),
                Ok(None) => {}
                // A device without the setting has nothing to tune.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    observer.event(&Event::Note(Note::NotTuned { setting: path, error: Arc::new(error) }));
                }
            }
        }
        tuning
    }

    /// Puts everything back and tells what could not be.
    pub(crate) fn restore(&mut self, observer: &dyn Observer) {
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

impl Drop for Tuning {
    fn drop(&mut self) {
        self.restore(&());
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
    use std::sync::Mutex;

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

    #[test]
    fn what_was_changed_is_put_back() {
        let root = disk("100\n", "none [mq-deadline] kyber\n");
        let tuning = Tuning::apply(root.path(), &());
        assert_eq!(held(&root, "bdi/max_ratio"), "1");
        assert_eq!(held(&root, "queue/scheduler"), "none");
        drop(tuning);
        assert_eq!(held(&root, "bdi/max_ratio"), "100");
        assert_eq!(held(&root, "queue/scheduler"), "mq-deadline");
    }

    #[test]
    fn what_is_right_already_is_not_touched() {
        let root = disk("1\n", "[none] mq-deadline\n");
        drop(Tuning::apply(root.path(), &()));
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
        drop(Tuning::apply(root.path(), &observer));
        assert_eq!(notes.lock().unwrap().len(), 1);
        drop(Tuning::apply(Path::new("/nonexistent"), &observer));
        assert_eq!(notes.lock().unwrap().len(), 1);
    }
}
