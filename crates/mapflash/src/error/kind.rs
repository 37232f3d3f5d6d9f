//! The stable names of errors for machines: `kind` in JSON. `docs/json.md` lists them; scripts rely on them.

use bmap::xml::XmlError;
use flasher::FlashError;
use flasher::board::{BoardError, PackError};
use flasher::target::TargetError;
use image::ImageError;
use imx_usb::boot::Problem;
use imx_usb::bus::BusError;

use super::{AppError, Cause};

impl AppError {
    /// A stable name of the failure for machines.
    pub(crate) fn kind(&self) -> &'static str {
        match &*self.cause {
            Cause::Flash(error) => flash_kind(error),
            Cause::Bmap { source, .. } => match source {
                XmlError::FileChecksum { .. } => "bmap_damaged",
                _ => "bmap_invalid",
            },
            Cause::NoMap(_) => "bmap_unreadable",
            Cause::ImageIsBmap(_) => "image_is_bmap",
            Cause::NotComparable { .. } => "target_refused",
            Cause::MapIsImage(_) => "bmap_is_image",
            Cause::TargetIsSource { .. } | Cause::SameFile(_) => "target_is_source",
            Cause::PackedCreate { .. } => "image_packed",
            Cause::PackIntoNoFile(_) => "not_a_file",
            Cause::Empty(_) => "image_empty",
            Cause::Shorter { .. } => "differs",
            Cause::Declined(_) => "declined",
            Cause::Unfit { .. } => "image_unfit",
            Cause::Bus(BusError::NoUsb { .. }) => "no_usb",
            Cause::Bus(_) => "usb",
            Cause::NoBoard { .. } => "no_board",
            Cause::SeveralBoards(_) => "several_boards",
            Cause::Boot(error) => boot_kind(&error.problem),
            Cause::Board { error, .. } => board_kind(error),
            Cause::Boards { failed, .. } => match failed.as_slice() {
                [only] => only.kind(),
                _ => "boards",
            },
            Cause::Chips { .. } => "chips_invalid",
            Cause::Unwell(_) => "problems",
            Cause::Usage(_) => "usage",
            Cause::Io { .. } => "io",
        }
    }
}

fn flash_kind(error: &FlashError) -> &'static str {
    match error {
        FlashError::Image(error) => match error {
            ImageError::Open { .. } | ImageError::NotAFile { .. } => "image_unreadable",
            ImageError::Unsupported { .. } | ImageError::UnsupportedFeature { .. } => "image_unsupported",
            ImageError::Truncated { .. } | ImageError::TooShort { .. } => "image_truncated",
            ImageError::Corrupt { .. } | ImageError::Junk { .. } => "image_damaged",
            ImageError::LargeWindow { .. } | ImageError::Memory { .. } => "image_memory",
            ImageError::Resized { .. } => "image_changed",
            _ => "image_failed",
        },
        FlashError::Holes(_) => "holes",
        FlashError::Target(error) => match error {
            TargetError::Refused { .. } => "target_refused",
            TargetError::Missing { .. } => "target_missing",
            TargetError::Open { .. } => "target_open",
            TargetError::Unreadable { .. } => "target_unreadable",
            _ => "target_failed",
        },
        FlashError::LengthMismatch { .. } | FlashError::LongerThanMap { .. } => "length_mismatch",
        FlashError::RangeDigest { .. } => "range_digest",
        FlashError::TooSmall { .. } => "target_too_small",
        FlashError::GoesOn { .. } => "image_goes_on",
        FlashError::NotHeld { .. } => "not_held",
        FlashError::SourceChanged { .. } => "image_changed",
        FlashError::Differs { .. } => "differs",
        FlashError::NoDigests => "no_digests",
        FlashError::NoProof { .. } => "no_proof",
        FlashError::PackFile(error) => match &**error {
            PackError::Read { .. } => "pack_unreadable",
            PackError::NotAPack { .. } | PackError::Version { .. } => "pack_unsupported",
            _ => "pack_damaged",
        },
        FlashError::PackWrite { .. } => "io",
        FlashError::LengthUnknown { .. } => "length_unknown",
        FlashError::Cancelled => "cancelled",
        FlashError::Panicked { .. } => "internal",
        _ => "other",
    }
}

fn board_kind(error: &BoardError) -> &'static str {
    match error {
        BoardError::Bus(_) => "usb",
        BoardError::Open(_) => "board_open",
        BoardError::Boot(error) => boot_kind(&error.problem),
        BoardError::NoBootImage { .. } => "no_boot_image",
        BoardError::Refused { .. } => "board_refused",
        BoardError::NotHeld { .. } => "not_held",
        BoardError::Source(error) => flash_kind(error),
        BoardError::Cancelled => "cancelled",
        BoardError::TooSmall { .. } | BoardError::LoaderTooLong { .. } => "too_small",
        BoardError::Unfit(_) => "loader_unfit",
        BoardError::NoPlace { .. } | BoardError::Card(_) => "no_place",
        BoardError::Cannot { .. } => "board_cannot",
        BoardError::NoProof | BoardError::LoaderLeftOut => "no_proof",
        BoardError::Another { .. } => "board_another",
        BoardError::NotThere { .. } => "no_board",
        BoardError::LostAgain { .. } | BoardError::NotBack { .. } => "board_lost",
        BoardError::Silent { .. } => "board_silent",
        BoardError::Stays { .. } => "board_stays",
        _ => "board_failed",
    }
}

fn boot_kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Bus(_) => "usb",
        Problem::Open(_) => "board_open",
        Problem::NoBoard(_) => "no_board",
        Problem::Unknown { .. } | Problem::NoChip => "board_unknown",
        Problem::Image(_) => "boot_image_incomplete",
        Problem::Format { .. } => "boot_image_wrong",
        Problem::Unsigned => "boot_image_unsigned",
        Problem::Refused { .. } => "boot_refused",
        Problem::Stays { .. } => "boot_ignored",
        Problem::Vanished { .. } => "board_vanished",
        Problem::CameBack { .. } => "board_came_back",
        Problem::OtherBoard { .. } => "board_another",
        Problem::Cancelled => "cancelled",
        _ => "board_failed",
    }
}

#[cfg(test)]
mod tests {
    /// Every name that is written in this file is explained in the document.
    #[test]
    fn every_kind_is_documented() {
        let (source, document) = (include_str!("kind.rs"), include_str!("../../../../docs/json.md"));
        let source = source.split("#[cfg(test)]").next().unwrap();
        let kinds: Vec<&str> = source.split('"').skip(1).step_by(2).collect();
        assert!(kinds.len() > 60, "{kinds:?}");
        for kind in kinds {
            assert!(document.contains(&format!("`{kind}`")), "{kind} is not in docs/json.md");
        }
    }
}
