//! What will be done: arguments with defaults filled in and the block map found. Everything behind this file sees
//! jobs, never arguments.

mod flash;
pub(crate) mod stdin;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bmap::BlockSize;
use bmap::xml::{self, BmapFile};
use flasher::plan::HolePolicy;
use flasher::{Cancel, CopyOptions, CreateOptions, PlanOptions};
use image::{Image, ImageError, Kind, Options};

use crate::args::{CopyArgs, CreateArgs, HolesArg, PackArgs, PackWire, VerifyArgs};
use crate::discover::{self, shown};
use crate::error::{AppError, Cause};

pub(crate) use flash::{Flash, not_a_loader};

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard input.
    Stdin,
    /// A file or block device.
    File(PathBuf),
}

/// Which block map goes with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Map {
    /// The user named it.
    Named(PathBuf),
    /// It lies beside the image.
    Found(PathBuf),
    /// There is none.
    Missing,
    /// The user wants none.
    Unwanted,
}

/// `mapflash create`
#[derive(Debug)]
pub(crate) struct Create {
    /// The image.
    pub(crate) image: PathBuf,
    /// Where the map goes; standard output without one.
    pub(crate) output: Option<PathBuf>,
    /// Whether blocks of zeros count as holes.
    pub(crate) detect_zeros: bool,
    /// How to unpack.
    pub(crate) unpack: Options,
    /// How to make the map.
    pub(crate) options: CreateOptions,
}

/// `mapflash copy`
#[derive(Debug)]
pub(crate) struct Copy {
    /// The image.
    pub(crate) source: Source,
    /// Its map.
    pub(crate) map: Map,
    /// Where it goes.
    pub(crate) dest: PathBuf,
    /// How to unpack.
    pub(crate) unpack: Options,
    /// How to plan.
    pub(crate) plan: PlanOptions,
    /// How to write.
    pub(crate) options: CopyOptions,
    /// Whether the question is answered already.
    pub(crate) yes: bool,
    /// Whether to stop once there is a plan.
    pub(crate) dry_run: bool,
}

/// `mapflash pack`
#[derive(Debug)]
pub(crate) struct Pack {
    /// The image.
    pub(crate) image: PathBuf,
    /// Its map.
    pub(crate) map: Map,
    /// Where the pack goes.
    pub(crate) output: PathBuf,
    /// How to unpack.
    pub(crate) unpack: Options,
    /// Level of LZ4.
    pub(crate) level: u32,
    /// Whether the map's digests are checked.
    pub(crate) check_digests: bool,
}

/// `mapflash verify`
#[derive(Debug)]
pub(crate) struct Verify {
    /// An image or a block map.
    pub(crate) expected: PathBuf,
    /// The image's map, should it be an image.
    pub(crate) map: Map,
    /// What is looked at.
    pub(crate) target: PathBuf,
    /// How to unpack.
    pub(crate) unpack: Options,
}

impl Source {
    /// The image as people see it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => shown(path),
        }
    }

    /// Opens the image. Waiting for standard input ends when `cancel` is raised. A block map in its place is told apart from other things that are no image.
    pub(crate) fn open(&self, options: &Options, cancel: &Cancel) -> Result<Image, AppError> {
        let (opened, path) = match self {
            Self::Stdin => {
                let stdin = Box::new(stdin::Stdin::new(cancel));
                (Image::from_reader("standard input", stdin, options), Path::new("-"))
            }
            Self::File(path) => (Image::open(path, options), path.as_path()),
        };
        opened.map_err(|error| match error {
            ImageError::Unsupported { kind: Kind::BmapXml, .. } => Cause::ImageIsBmap(path.to_owned()).into(),
            error => error.into(),
        })
    }
}

impl Map {
    /// Settles which map goes with `image`.
    fn choose(image: &Path, named: Option<PathBuf>, unwanted: bool) -> Self {
        match (named, unwanted) {
            (Some(path), _) => Self::Named(path),
            (None, true) => Self::Unwanted,
            (None, false) => discover::find(image, discover::opens).map_or(Self::Missing, Self::Found),
        }
    }

    /// The map's file, if there is to be one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Named(path) | Self::Found(path) => Some(path),
            Self::Missing | Self::Unwanted => None,
        }
    }

    /// Reads it, unless it is the image itself.
    pub(crate) fn read(&self, image: &Path) -> Result<Option<BmapFile>, AppError> {
        let Some(path) = self.path() else { return Ok(None) };
        if discover::same_path(path, image) {
            return Err(Cause::MapIsImage(path.to_owned()).into());
        }
        xml::read(path).map(Some).map_err(|source| AppError::bmap(path, source))
    }
}

fn unpack(allow_large_windows: bool, threads: Option<usize>) -> Options {
    let mut options = Options { allow_large_windows, ..Options::default() };
    if let Some(threads) = threads.and_then(NonZeroUsize::new) {
        options.threads = threads;
    }
    options
}

impl From<CreateArgs> for Create {
    fn from(args: CreateArgs) -> Self {
        let unpack = unpack(false, args.threads);
        let options = CreateOptions {
            block_size: args.block_size.or_else(|| args.detect_zeros.then_some(BlockSize::DEFAULT)),
            digests: !args.no_checksum,
            threads: unpack.threads,
        };
        Self { image: args.image, output: args.output, detect_zeros: args.detect_zeros, unpack, options }
    }
}

impl From<CopyArgs> for Copy {
    fn from(args: CopyArgs) -> Self {
        let map = Map::choose(&args.image, args.bmap, args.nobmap);
        let source = if args.image.as_os_str() == "-" { Source::Stdin } else { Source::File(args.image) };
        let holes = match args.holes {
            HolesArg::Auto => HolePolicy::Auto,
            HolesArg::Leave => HolePolicy::Leave,
            HolesArg::Zero => HolePolicy::Zero,
        };
        Self {
            source,
            map,
            dest: args.dest,
            unpack: unpack(args.allow_large_windows, args.threads),
            plan: PlanOptions { holes, keep_head: args.keep_head, ..PlanOptions::default() },
            options: CopyOptions {
                prove: args.verify_target,
                check_digests: !args.no_verify,
                ..CopyOptions::default()
            },
            yes: args.yes,
            dry_run: args.dry_run,
        }
    }
}

impl From<PackArgs> for Pack {
    fn from(args: PackArgs) -> Self {
        // There is one form that a pack can keep.
        let PackWire::Lz4 = args.wire;
        Self {
            map: Map::choose(&args.image, args.bmap, args.nobmap),
            image: args.image,
            output: args.output,
            unpack: unpack(args.allow_large_windows, args.threads),
            level: args.level,
            check_digests: !args.no_verify,
        }
    }
}

impl From<VerifyArgs> for Verify {
    fn from(args: VerifyArgs) -> Self {
        Self {
            map: Map::choose(&args.expected, args.bmap, args.nobmap),
            expected: args.expected,
            target: args.target,
            unpack: unpack(args.allow_large_windows, args.threads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    fn copy(args: &[&str]) -> Copy {
        let cli = Cli::try_parse_from(["mapflash", "copy"].iter().chain(args)).unwrap();
        match cli.command {
            Command::Copy(args) => args.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let job = copy(&["no-such.wic", "out"]);
        assert_eq!((job.source, job.map), (Source::File("no-such.wic".into()), Map::Missing));
        assert_eq!(job.plan.holes, HolePolicy::Auto);
        assert!(job.options.check_digests && !job.options.prove);
        assert!(!job.unpack.allow_large_windows && !job.dry_run && !job.yes && !job.plan.keep_head);
    }

    #[test]
    fn what_was_typed_is_what_is_done() {
        let job = copy(&[
            "-",
            "out",
            "--bmap",
            "m.bmap",
            "--no-verify",
            "--verify-target",
            "--holes",
            "zero",
            "--keep-head",
            "--yes",
            "--dry-run",
            "--allow-large-windows",
            "--threads",
            "3",
        ]);
        assert_eq!((job.source, job.map), (Source::Stdin, Map::Named("m.bmap".into())));
        assert_eq!((job.plan.holes, job.unpack.threads.get()), (HolePolicy::Zero, 3));
        assert!(!job.options.check_digests && job.options.prove);
        assert!(job.unpack.allow_large_windows && job.dry_run && job.yes && job.plan.keep_head);
    }

    #[test]
    fn the_map_beside_the_image_is_found_unless_unwanted() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("a.wic.bmap");
        std::fs::write(&map, "").unwrap();
        let image = folder.path().join("a.wic.gz");
        let image = image.to_str().unwrap();
        assert_eq!(copy(&[image, "out"]).map, Map::Found(map));
        assert_eq!(copy(&[image, "out", "--nobmap"]).map, Map::Unwanted);
    }

    #[test]
    fn an_image_is_not_its_own_map() {
        let image = Path::new("x.bmap");
        let error = Map::Found(image.to_owned()).read(image).unwrap_err();
        assert_eq!(error.kind(), "bmap_is_image");
    }
}
