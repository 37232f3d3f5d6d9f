//! `mapflash flash`: what the arguments come to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flasher::board::{Area, Before, BootPart, FlashOptions, Form, Proof, Then, To, Wire, Wishes};
use flasher::plan::HolePolicy;
use image::Options;
use imx_usb::bootimage::SCAN_BYTES;

use super::{Map, Source, unpack};
use crate::args::{DeltaArg, FlashArgs, FlashHolesArg, ThenArg, VerifyArg, WireArg};
use crate::board::boot_image::{front, is_loader};
use crate::board::choose::Name;
use crate::discover::shown;
use crate::error::{AppError, Cause};
use crate::inspect::boot::look;
use crate::render::text::exact;

/// `mapflash flash`
#[derive(Debug)]
pub(crate) struct Flash {
    /// The image as it was typed.
    pub(crate) image: PathBuf,
    /// The image.
    pub(crate) source: Source,
    /// Its map.
    pub(crate) map: Map,
    /// How to unpack.
    pub(crate) unpack: Options,
    /// What a bare board is booted with, if not the loader inside the image.
    pub(crate) boot: Option<PathBuf>,
    /// Where the image goes.
    pub(crate) to: To,
    /// The boards that were named.
    pub(crate) boards: Vec<Name>,
    /// All there are.
    pub(crate) all: bool,
    /// Whether to wait for boards.
    pub(crate) wait: bool,
    /// How to plan.
    pub(crate) wishes: Wishes,
    /// How to flash.
    pub(crate) options: FlashOptions,
    /// Into which boot partition a loader goes, if one does.
    pub(crate) boot_partition: Option<BootPart>,
    /// That loader, if it is a file of its own.
    pub(crate) loader: Option<PathBuf>,
    /// Where in the partition, if not by the chip.
    pub(crate) boot_offset: Option<u64>,
    /// Whether a loader is written that seems to be for another chip.
    pub(crate) allow_other_chip: bool,
    /// Whether an image with neither table nor loader is written over a whole card.
    pub(crate) allow_no_table: bool,
    /// U-Boot's number of the card.
    pub(crate) mmc: Option<u32>,
    /// The most that is sent at once.
    pub(crate) download: Option<u32>,
    /// Whether to stop once there is a plan.
    pub(crate) dry_run: bool,
    /// Whether the image is a loader, and all that is written.
    loader_only: bool,
}

impl Flash {
    /// Is a boot partition all that is written?
    pub(crate) fn is_loader_only(&self) -> bool {
        self.loader_only
    }
}

fn usage(text: &str) -> AppError {
    Cause::Usage(text.to_owned()).into()
}

/// A file that is to be a loader and is none.
pub(crate) fn not_a_loader(path: &Path, what: &str) -> AppError {
    let hint = "'mapflash inspect' says what a file is".to_owned();
    Cause::Unfit { path: path.to_owned(), what: what.to_owned(), hint }.into()
}

/// A loader for the whole of an SD card: it would lie where no ROM looks, in the place of the partition table.
fn loader_over_card(path: &Path) -> AppError {
    let place = front(path, SCAN_BYTES).ok().and_then(|front| {
        let length = u64::try_from(front.len()).ok();
        look(&front, length, None)?.belongs().first().map(|place| u64::from(place.user))
    });
    let (at, seek) = match place {
        Some(place) => (exact(place), (place / 512).to_string()),
        None => ("the place that its chip's ROM looks at".to_owned(), "PLACE".to_owned()),
    };
    Cause::Unfit {
        path: path.to_owned(),
        what: format!(
            "is a boot image: on an SD card it belongs behind the partition table, at {at}, not over all of it"
        ),
        hint: format!(
            "put the card into a reader, then: dd if={} of=/dev/sdX bs=512 seek={seek} conv=fsync",
            shown(path)
        ),
    }
    .into()
}

fn part(name: &str) -> Result<BootPart, AppError> {
    match name {
        "boot0" => Ok(BootPart::Of(Area::Boot0)),
        "boot1" => Ok(BootPart::Of(Area::Boot1)),
        "active" => Ok(BootPart::Active),
        "inactive" => Ok(BootPart::Inactive),
        _ => Err(usage("--boot-partition is boot0, boot1, active or inactive, then the loader's file")),
    }
}

impl TryFrom<FlashArgs> for Flash {
    type Error = AppError;

    fn try_from(args: FlashArgs) -> Result<Self, AppError> {
        let mut boot_partition = None;
        let mut loader = None;
        if let Some(words) = &args.boot_partition {
            boot_partition = words.first().map(|word| part(word)).transpose()?;
            loader = words.get(1).map(PathBuf::from);
        }
        let loader_image = args.image.as_os_str() != "-" && is_loader(&args.image);
        let named = args.to.as_deref();
        let to = match named.unwrap_or("emmc") {
            "emmc" => To::Emmc,
            "sd" => To::Sd,
            place @ ("boot0" | "boot1") if !loader_image => {
                return Err(not_a_loader(&args.image, &format!("is no boot image, and {place} takes one")));
            }
            "boot0" | "boot1" => To::Emmc,
            "all" => return Err(usage("--to all is no partition: --to emmc or --to sd is the whole card")),
            name @ ("gpt" | "mbr") => {
                return Err(usage(&format!(
                    "--to {name} is no partition: the image of a whole disk brings its table along to --to emmc or --to sd"
                )));
            }
            name => To::Partition(name.to_owned()),
        };
        if loader_image && to == To::Sd {
            return Err(loader_over_card(&args.image));
        }
        let loader_only = loader_image && to == To::Emmc;
        if loader_only {
            if loader.is_some() {
                return Err(usage("the image is a loader itself: name no other one behind --boot-partition"));
            }
            if let Some(place @ ("boot0" | "boot1")) = named {
                if boot_partition.is_some() {
                    return Err(usage("--to and --boot-partition name two places for one loader"));
                }
                boot_partition = Some(part(place)?);
            }
            loader = Some(args.image.clone());
        }
        let before = match (args.delta, args.resume) {
            (Some(_), _) => Before::Delta,
            (None, true) => Before::Resume,
            (None, false) => Before::Send,
        };
        let erase_holes = args.holes == FlashHolesArg::Erase;
        if erase_holes && before != Before::Send {
            return Err(usage("--holes erase does not go with --delta or --resume: what is right would be erased"));
        }
        let mut keep = args.keep;
        keep.sort_unstable();
        if keep.windows(2).any(|pair| matches!(pair, [one, other] if one.end() > other.start())) {
            return Err(usage("the ranges of --keep overlap"));
        }
        if to == To::Sd && boot_partition.is_some() {
            return Err(usage("an SD card has no boot partitions: --boot-partition does not go with --to sd"));
        }
        let wishes = Wishes {
            holes: if args.holes == FlashHolesArg::Zero { HolePolicy::Zero } else { HolePolicy::Leave },
            keep_head: args.keep_head,
            keep,
            clear_gap: args.clear_env,
            piece_len: None,
        };
        let options = FlashOptions {
            wire: match args.wire {
                WireArg::Auto => Wire::Auto,
                WireArg::Raw => Wire::Only(Form::Raw),
                WireArg::Lz4 => Wire::Only(Form::Lz4),
                WireArg::Gzip => Wire::Only(Form::Gzip),
            },
            proof: match args.verify {
                VerifyArg::Crc32 => Proof::Fast,
                VerifyArg::Sha256 => Proof::Strong,
                VerifyArg::None => Proof::Off,
            },
            before,
            compare_by_crc: args.delta == Some(DeltaArg::Crc),
            return_within: Duration::ZERO,
            check_digests: !args.no_verify,
            keep_head: args.keep_head,
            erase_holes,
            then: match args.then {
                ThenArg::Stay => Then::Stay,
                ThenArg::Reset => Then::Reset,
                ThenArg::Continue => Then::Continue,
            },
            ..FlashOptions::default()
        };
        let source = if args.image.as_os_str() == "-" { Source::Stdin } else { Source::File(args.image.clone()) };
        Ok(Self {
            map: Map::choose(&args.image, args.bmap, args.nobmap),
            image: args.image,
            source,
            unpack: unpack(args.allow_large_windows, args.threads),
            boot: args.boot,
            to,
            boards: args.board,
            all: args.all,
            wait: args.wait,
            wishes,
            options,
            boot_partition,
            loader,
            boot_offset: args.boot_offset,
            allow_other_chip: args.allow_other_chip,
            allow_no_table: args.allow_no_table,
            mmc: args.mmc,
            download: args.download,
            dry_run: args.dry_run,
            loader_only,
        })
    }
}
