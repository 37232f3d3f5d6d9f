//! Advice, chosen from the error and printed apart from it. Only what is likely to help: no guess at causes.

use std::io;
use std::os::unix::fs::FileTypeExt as _;

use bmap::xml::XmlError;
use flasher::FlashError;
use flasher::board::{BoardError, PackError};
use flasher::disk::Use;
use flasher::target::{Refusal, TargetError};
use image::{ImageError, Kind};
use imx_usb::boot::{Problem, Unfit};
use imx_usb::bootimage;
use imx_usb::bus::{BusError, OpenError};

use crate::error::{AppError, Cause};

/// What might help; empty when nothing is known to.
pub(crate) fn hints(error: &AppError) -> Vec<String> {
    match &*error.cause {
        Cause::Flash(flash) => of_flash(flash, error.device),
        Cause::Bmap { source, .. } => match source {
            XmlError::FileChecksum { .. } => one(
                "the bmap file was edited or damaged on its way; fetch it again, or make a new one with 'mapflash create'",
            ),
            _ => one("--nobmap takes the image without a map"),
        },
        Cause::ImageIsBmap(_) => one("give the image; its block map is found beside it, or named with --bmap"),
        Cause::MapIsImage(_) => one("give the image itself; should this be the image, --nobmap takes it without a map"),
        Cause::PackedCreate { .. } => one(
            "unpack it first, or use --detect-zeros, which maps blocks that are not zero; make maps before packing, \
             they fit the packed image as well",
        ),
        Cause::Io { source, .. } => of_io(source),
        Cause::Bus(BusError::NoUsb { .. }) => one("'mapflash doctor' says what mends that, by the command"),
        Cause::NoBoard { nearly, .. } => {
            let mut hints = nearly.clone();
            hints.extend(one(
                "'mapflash boards' lists boards, --wait waits for one, 'mapflash doctor' says what is in the way",
            ));
            hints
        }
        Cause::SeveralBoards(_) => one(
            "--board names the one that is meant, and may be repeated; --all takes all of them; 'mapflash boards' lists them",
        ),
        Cause::Boot(error) => of_boot(&error.problem),
        Cause::Board { error: BoardError::Cancelled, .. } if error.state.changed() => {
            one("the same command with --resume goes on where it was")
        }
        Cause::Board { error, .. } => of_board(error),
        Cause::Boards { failed, .. } => failed.iter().flat_map(hints).collect(),
        Cause::Unfit { hint, .. } => one(hint),
        Cause::Chips { .. } | Cause::Usage(_) | Cause::Bus(_) | Cause::Unwell(_) => Vec::new(),
        Cause::TargetIsSource { .. }
        | Cause::PackIntoNoFile(_)
        | Cause::SameFile(_)
        | Cause::NotComparable { .. }
        | Cause::NoMap(_)
        | Cause::Empty(_)
        | Cause::Shorter { .. }
        | Cause::Declined(_) => Vec::new(),
    }
}

fn of_board(error: &BoardError) -> Vec<String> {
    match error {
        BoardError::Boot(error) => of_boot(&error.problem),
        BoardError::NoBootImage { .. } => one("give the boot image for this board: --boot FLASH.BIN"),
        BoardError::Open(OpenError::Denied { .. }) => one("'mapflash doctor' says what gives you access"),
        BoardError::Open(OpenError::Busy { .. }) => one("'mapflash doctor' says which program has it"),
        BoardError::NotThere { .. } => one("'mapflash boards' lists boards, --wait waits for one"),
        BoardError::NotHeld { .. } => {
            one("its eMMC may be worn out: try another board with the same cable, then replace it")
        }
        // It is U-Boot that refuses, not the card.
        BoardError::Refused { says, .. } if says.contains("exceed") || says.contains("too large") => Vec::new(),
        BoardError::Refused { .. } => one("its eMMC refuses to write there: it may be write-protected or worn out"),
        BoardError::Unfit(Unfit::OtherChip { .. }) => one(
            "build the loader for this chip; if you know that it is right, --allow-other-chip writes it all the same",
        ),
        BoardError::Unfit(_) => one("build the loader for this chip; 'mapflash inspect' says what an image is for"),
        BoardError::LoaderTooLong { .. } => one("--boot-offset says where in the boot partition it begins"),
        BoardError::Card(error) if error.is_absent() => {
            one("put a card in and begin again; --mmc N names a card by U-Boot's number")
        }
        BoardError::Card(_) if !error.is_lost() => {
            one("--mmc N names the card by U-Boot's number; --to sd means the SD card")
        }
        BoardError::NoProof | BoardError::LoaderLeftOut => {
            one("use a U-Boot with 'crc32 -v' or 'hash sha256' and UCmd to have it proven, or --verify none")
        }
        BoardError::Network(_) => {
            one("is that its address, is its cable plugged in, and was 'fastboot udp' run in its U-Boot?")
        }
        BoardError::NotBack { lost, .. } if lost.is_gone() => one(
            "plug it in again and run the same with --resume: what it holds is not sent again; with --wait a board that leaves is waited for",
        ),
        BoardError::LostAgain { .. } => one(
            "try another cable, port or power supply, and run the same with --resume: what it holds is not sent again",
        ),
        BoardError::Another { .. } => one("plug the first board in again, or begin anew with the one that is there"),
        error if error.is_lost() || matches!(error, BoardError::NotBack { .. } | BoardError::Silent { .. }) => one(
            "switch the board off and on, and run it again with --resume; if that keeps happening try another cable or port",
        ),
        _ => Vec::new(),
    }
}

fn of_boot(problem: &Problem) -> Vec<String> {
    match problem {
        Problem::Open(OpenError::Denied { .. }) => one("'mapflash doctor' says what gives you access"),
        Problem::Open(OpenError::Busy { .. }) => one("'mapflash doctor' says which program has it"),
        Problem::Format { .. } => {
            one("build the boot image for this chip; 'mapflash inspect' says what an image is for")
        }
        Problem::Image(bootimage::ImageError::NothingLeft { .. }) => {
            one("the boot image holds no U-Boot behind its loader; a file of its own is given with --uboot")
        }
        Problem::Image(bootimage::ImageError::NoTag(_)) => {
            one("give the boot image itself (flash.bin) instead of the disk image")
        }
        Problem::Unsigned | Problem::Refused { .. } => {
            one("sign the boot image with the keys whose digests are in this chip's fuses")
        }
        Problem::Stays { .. } | Problem::CameBack { .. } => {
            one("'mapflash inspect' says what the image is for; its serial console says more")
        }
        Problem::Vanished { elsewhere: None, .. } => {
            one("its U-Boot may not start fastboot by itself; its serial console says how far it got")
        }
        Problem::Vanished { elsewhere: Some(_), .. } => one("leave it plugged in where it is, and run this again"),
        problem if problem.fault().is_some() => {
            one("switch the board off and on, and run this again; if that keeps happening try another cable or port")
        }
        _ => Vec::new(),
    }
}

fn one(hint: &str) -> Vec<String> {
    vec![hint.to_owned()]
}

fn of_flash(error: &FlashError, device: bool) -> Vec<String> {
    match error {
        FlashError::Target(error) => of_target(error, device),
        FlashError::Image(error) => of_image(error),
        FlashError::LengthMismatch { .. } | FlashError::LongerThanMap { .. } => {
            one("the map may be of another build; name the right one with --bmap, or write every byte with --nobmap")
        }
        FlashError::RangeDigest { .. } => {
            one("the image is damaged, or the map is of another build; fetch or build both again")
        }
        FlashError::NotHeld { .. } => {
            one("try another card, reader or cable; media that forget what was written are worn out or counterfeit")
        }
        FlashError::SourceChanged { .. } => one("something writes to the image file; wait until it is finished"),
        FlashError::GoesOn { .. } => {
            one("take a larger disk; of an image that is a file and not packed the length is known before writing")
        }
        FlashError::TooManyRanges { .. } => one("--block-size 65536, or more, makes larger blocks"),
        FlashError::PackWrite { source } => of_io(source),
        FlashError::PackFile(error) => match &**error {
            PackError::Read { .. } | PackError::NotAPack { .. } | PackError::Version { .. } => Vec::new(),
            _ => one("copy the pack again from where it came, or pack the image again"),
        },
        FlashError::Panicked { .. } => one("please report this with the command you ran"),
        FlashError::NoProof { .. } => one("leave --verify-target out for targets like this"),
        _ => Vec::new(),
    }
}

fn of_image(error: &ImageError) -> Vec<String> {
    match error {
        ImageError::Unsupported { kind: Kind::Pack, .. } => {
            one("packs are files for 'mapflash flash'; for anything else take the image it was made of")
        }
        ImageError::LargeWindow { .. } => one("--allow-large-windows lets it have the memory"),
        ImageError::Truncated { .. } | ImageError::Corrupt { .. } => {
            one("fetch the image again, and compare its checksum with the one it was published with")
        }
        ImageError::Open { name, .. } if is_url(name) => one(
            "images are not fetched from the network; fetch it first, or pipe it: 'curl -fL URL | mapflash flash -' to a board, '... | mapflash copy - DEST' to a disk",
        ),
        ImageError::Open { source, .. } => of_io(source),
        _ => Vec::new(),
    }
}

fn of_target(error: &TargetError, device: bool) -> Vec<String> {
    match error {
        TargetError::Refused { refusal, .. } => match refusal {
            Refusal::InUse(uses) => uses.iter().filter_map(release).collect(),
            Refusal::Busy => one("close the program that uses it; 'fuser -v DEVICE' names it"),
            Refusal::ReadOnly if device => one("look for a lock switch on the card or adapter"),
            Refusal::SystemDisk => one("'mapflash disks' lists the disks one could write to"),
            _ => Vec::new(),
        },
        TargetError::Missing { target, .. } if target.starts_with("/dev/") => {
            one("'mapflash disks' lists the disks that are there")
        }
        TargetError::Open { source, .. } if device && source.kind() == io::ErrorKind::PermissionDenied => {
            one("run it with sudo, or get write access to the device by a udev rule or group")
        }
        // Nothing can be done about a device that is full.
        TargetError::Io { target, .. } if device || is_character_device(target) => Vec::new(),
        TargetError::Open { source, .. } | TargetError::Io { source, .. } | TargetError::Whole { source, .. } => {
            of_io(source)
        }
        _ => Vec::new(),
    }
}

fn is_url(name: &str) -> bool {
    name.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    })
}

/// Such as `/dev/full`.
fn is_character_device(target: &str) -> bool {
    std::fs::metadata(target).is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// How to make a device free.
fn release(held: &Use) -> Option<String> {
    match held {
        Use::Mounted { at, .. } => Some(format!("umount {}", quoted(&at.display().to_string()))),
        Use::Swap { device } => Some(format!("swapoff {}", quoted(&device.display().to_string()))),
        _ => None,
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn of_io(source: &io::Error) -> Vec<String> {
    match source.kind() {
        io::ErrorKind::StorageFull => one("make room where the target lies, and run it again"),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_stick_is_told_how_to_be_freed() {
        let uses = vec![
            Use::Mounted { device: "/dev/sdb1".into(), at: "/media/my stick".into() },
            Use::Swap { device: "/dev/sdb2".into() },
        ];
        let refused = TargetError::Refused { target: "/dev/sdb".into(), refusal: Refusal::InUse(uses) };
        assert_eq!(hints(&refused.into()), ["umount '/media/my stick'", "swapoff /dev/sdb2"]);
    }

    #[test]
    fn only_a_url_is_a_url() {
        assert!(is_url("https://example.org/a.wic.gz") && is_url("git+ssh://x"));
        assert!(!is_url("a.wic") && !is_url("://x") && !is_url("my image://x") && !is_url("/a/b"));
    }

    #[test]
    fn only_where_files_lie_room_can_be_made() {
        let full = |target: &str| {
            let source = io::ErrorKind::StorageFull.into();
            let extent = bmap::ByteRange::first(1);
            AppError::from(TargetError::Io { target: target.into(), action: "write", extent, source })
        };
        assert_eq!(hints(&full("a.wic")).len(), 1);
        assert!(hints(&full("/dev/full")).is_empty());
        assert!(hints(&full("/dev/sdx").at_device(true)).is_empty());
    }

    #[test]
    fn a_device_without_permission_is_another_matter_than_a_file() {
        let denied = || TargetError::Open { target: "t".into(), source: io::ErrorKind::PermissionDenied.into() };
        assert_eq!(hints(&AppError::from(denied()).at_device(true)).len(), 1);
        assert!(hints(&AppError::from(denied())).is_empty());
    }
}
