//! The engine's facts in words.

use flasher::event::{Note, Stage};
use serde::Serialize;

use crate::discover::shown;

/// A stage as people read it.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Boot => "booting",
        Stage::Invalidate => "clearing head",
        Stage::Erase => "erasing holes",
        Stage::Compare => "comparing",
        Stage::Write => "writing",
        Stage::Sync => "syncing",
        Stage::Prove => "proving",
        Stage::Head => "writing head",
        Stage::BootPartition => "boot partition",
        Stage::Commit => "finishing",
        Stage::Hash => "hashing",
        Stage::Pack => "packing",
    }
}

/// How a note is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// As a warning, in every style.
    Warning(String),
    /// As a line, unless quiet.
    Say(String),
}

/// A note's name in JSON.
pub(super) fn name(note: &Note) -> &'static str {
    match note {
        Note::NotTuned { .. } => "not_tuned",
        Note::NotRestored { .. } => "not_restored",
        Note::HolesUnknown => "holes_unknown",
        Note::TableNotReread { .. } => "table_not_reread",
        Note::NoJournal { .. } => "no_journal",
        Note::OtherChip { .. } => "other_chip",
        Note::NothingBegun => "nothing_begun",
        Note::BackupTable { cleared: true, .. } => "backup_table_cleared",
        Note::BackupTable { cleared: false, .. } => "backup_table_left",
        _ => "other",
    }
}

/// What a note is about, for machines.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Facts {
    /// The sysfs file.
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<String>,
    /// What it should hold, or what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// What the system said.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What a note is about.
pub(super) fn facts(note: &Note) -> Facts {
    match note {
        Note::NotTuned { setting, error } => {
            Facts { setting: Some(shown(setting)), value: None, error: Some(error.to_string()) }
        }
        Note::NotRestored { setting, value, error } => {
            Facts { setting: Some(shown(setting)), value: Some(value.clone()), error: Some(error.to_string()) }
        }
        Note::NoJournal { folder, error } => {
            Facts { setting: Some(shown(folder)), error: Some(error.to_string()), ..Facts::default() }
        }
        Note::OtherChip { family } => Facts { value: Some(family.clone()), ..Facts::default() },
        Note::TableNotReread { error } => Facts { error: Some(error.to_string()), ..Facts::default() },
        _ => Facts::default(),
    }
}

/// A note in words.
pub(super) fn describe(note: &Note) -> Line {
    match note {
        Note::NotTuned { setting, error } => {
            Line::Say(format!("{} stays as it is, which may be slower: {error}", setting.display()))
        }
        Note::NotRestored { setting, value, error } => {
            Line::Warning(format!("cannot put {} back to {value:?}: {error}", setting.display()))
        }
        Note::HolesUnknown => Line::Warning(
            "the filesystem cannot tell where the image's holes are; everything is read and zeros are found by looking"
                .to_owned(),
        ),
        Note::NoJournal { folder, error } => Line::Warning(format!(
            "no journal can be kept in {} ({error}): --resume will not know where to go on",
            folder.display()
        )),
        Note::OtherChip { family } => Line::Warning(format!("by its load address the boot image is for {family}")),
        Note::NothingBegun => {
            Line::Say("nothing of this image was begun on this board; all is sent (--delta compares)".to_owned())
        }
        Note::TableNotReread { error } => Line::Warning(format!(
            "the kernel did not take the new partition table ({error}); unplug the disk and plug it in again"
        )),
        Note::BackupTable { at, cleared: true } => {
            Line::Say(format!("the old backup partition table at the end of the card is cleared (bytes {at})"))
        }
        Note::BackupTable { at, cleared: false } => Line::Say(format!(
            "whether an old backup partition table is left at the end of the card cannot be seen (bytes {at}): until this is done, a loader elsewhere may start the old system by it"
        )),
        other => Line::Say(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn machines_get_the_facts_too() {
        let error = Arc::new(std::io::Error::other("no"));
        let note = Note::NotRestored { setting: "/sys/x".into(), value: "80".into(), error };
        let json = serde_json::to_value(facts(&note)).unwrap();
        assert_eq!(json, serde_json::json!({ "setting": "/sys/x", "value": "80", "error": "no" }));
        assert_eq!(serde_json::to_value(facts(&Note::HolesUnknown)).unwrap(), serde_json::json!({}));
    }

    /// Every name that [`name`] gives is in the document.
    #[test]
    fn every_note_is_documented() {
        let (source, document) = (include_str!("notes.rs"), include_str!("../../../../docs/json.md"));
        let (_, names) = source.split_once("fn name(").unwrap();
        let (names, _) = names.split_once("_ =>").unwrap();
        let names: Vec<&str> = names.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 8, "{names:?}");
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
        }
    }
}
