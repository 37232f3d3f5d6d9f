//! The engine's facts in words.

use flasher::event::{Note, Stage};

/// A stage as people read it.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Invalidate => "clearing head",
        Stage::Write => "writing",
        Stage::Sync => "syncing",
        Stage::Prove => "reading back",
        Stage::Head => "writing head",
        Stage::Commit => "finishing",
        Stage::Hash => "hashing",
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
        _ => "other",
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
        Note::TableNotReread { error } => Line::Warning(format!(
            "the kernel did not take the new partition table ({error}); unplug the disk and plug it in again"
        )),
        other => Line::Say(format!("{other:?}")),
    }
}
