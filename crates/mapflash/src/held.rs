//! What a target holds after a failure, in words, and whether running again can finish the job.

use flasher::board::BoardError;
use flasher::{FlashError, TargetState};
use image::ImageError;

use crate::error::{AppError, Cause};
use crate::render::text::size;

/// The lines that close the report of a failure: what the board holds, or the target. Empty where there was no target
/// yet, and of several boards: each is told of by itself.
pub(crate) fn lines(error: &AppError) -> Vec<String> {
    match (&*error.cause, &error.board) {
        (Cause::Boards { .. }, _) => Vec::new(),
        (_, Some(_)) => vec![line(error, "the board")],
        _ if error.state.changed() => vec![line(error, "the target")],
        _ => Vec::new(),
    }
}

fn line(error: &AppError, what: &str) -> String {
    let mut text = match error.state {
        TargetState::Unchanged => return format!("nothing on {what} was changed"),
        TargetState::NoHead { written: 0 } => format!(
            "{what} holds nothing of the new image, and its old partition table and loader are cleared: it does not boot"
        ),
        TargetState::NoHead { written } => format!(
            "{what} holds {} of the new image and no partition table or loader: it does not boot",
            size(written)
        ),
        TargetState::Mixed { written: 0 } => {
            format!("{what} was being written, and what it held before may not be whole: do not use it")
        }
        TargetState::Mixed { written } => {
            format!("{what} holds {} of the new image among what it held before: do not use it", size(written))
        }
        TargetState::HeadIncomplete => format!(
            "{what} holds the new image but for its head (partition table and loader), which is not whole: do not use it"
        ),
        TargetState::WrittenUnproven => return format!("{what} was written completely but not proven"),
        TargetState::Proven => return format!("{what} holds the image, read back and proven"),
        other => return other.to_string(),
    };
    if let Some(again) = again(&error.cause) {
        text.push_str("; ");
        text.push_str(again);
    }
    text
}

/// What finishes the job, if running again does.
fn again(cause: &Cause) -> Option<&'static str> {
    match cause {
        Cause::Flash(error) => of_flash(error),
        Cause::Board { error, .. } => match error {
            BoardError::Source(error) => of_flash(error),
            BoardError::Cancelled => Some("run again to finish"),
            error if error.may_finish() => Some("run again to finish"),
            _ => None,
        },
        _ => Some("run again to finish"),
    }
}

fn of_flash(error: &FlashError) -> Option<&'static str> {
    const WHOLE: &str = "run again with a whole image";
    match error {
        FlashError::LengthMismatch { .. } | FlashError::LongerThanMap { .. } => {
            Some("run again with the block map of this image, or with the image of this map")
        }
        FlashError::RangeDigest { .. } => Some("run again with a whole image and its own block map"),
        FlashError::Image(
            ImageError::Truncated { .. }
            | ImageError::TooShort { .. }
            | ImageError::Corrupt { .. }
            | ImageError::Junk { .. },
        ) => Some(WHOLE),
        FlashError::PackFile(_) => Some(WHOLE),
        FlashError::NotHeld { .. }
        | FlashError::GoesOn { .. }
        | FlashError::TooSmall { .. }
        | FlashError::Differs { .. }
        | FlashError::NoDigests
        | FlashError::NoProof { .. }
        | FlashError::Unaligned { .. }
        | FlashError::Panicked { .. } => None,
        _ => Some("run again to finish"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn board(error: BoardError, state: TargetState) -> String {
        lines(&AppError::of_board("1-1", error, state, None)).concat()
    }

    #[test]
    fn running_again_is_advised_only_where_it_helps() {
        let part = TargetState::NoHead { written: 9 << 20 };
        let longer = || BoardError::Source(Arc::new(FlashError::LongerThanMap { map: 1 }));
        let line = board(longer(), part);
        assert!(line.contains("holds 9.0 MiB of the new image") && line.ends_with("or with the image of this map"));
        let bad = BoardError::NotHeld { pieces: Vec::new(), attempts: 3 };
        assert!(board(bad, part).ends_with("it does not boot"));
        assert!(board(BoardError::Cancelled, part).ends_with("; run again to finish"));
        assert_eq!(board(longer(), TargetState::Unchanged), "nothing on the board was changed");
        let begun = board(BoardError::Cancelled, TargetState::NoHead { written: 0 });
        assert!(begun.starts_with("the board holds nothing of the new image"), "{begun}");
    }

    #[test]
    fn what_never_had_a_target_says_nothing_of_one() {
        assert!(lines(&Cause::Usage("no".into()).into()).is_empty());
        let disk = AppError::job(
            flasher::Failure { error: Box::new(FlashError::Cancelled), state: TargetState::Mixed { written: 2048 } },
            true,
            None,
        );
        assert_eq!(
            lines(&disk),
            ["the target holds 2.0 KiB of the new image among what it held before: do not use it; run again to finish"]
        );
    }
}
