//! Images, boards and runs: small, so that hundreds of runs take seconds.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, Hasher, MappedRange};
use flasher::board::{
    BoardError, BoardObserver, BoardResult, Boards, Connect, Connected, FlashJob, FlashOptions, Form, Profile, Source,
    To, Which, Wire, Wishes, flash, prepare,
};
use flasher::event::{Event, Observer};
use flasher::{Cancel, TargetState};
use image::Image;
use imx_usb::boot::BootImage;
use imx_usb::bus::Port;
use imx_usb::chips::ChipTable;
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry};
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::{flash_bin, pattern};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
/// What the boards were booted with, and what their cards held before, differ from every image's loader.
pub(crate) const BOOT: u8 = 200;
pub(crate) const OLD: u8 = 99;

pub(crate) fn narrow(at: u64) -> usize {
    usize::try_from(at).unwrap()
}

/// Numbers that look random and are the same each time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// An image, as a sparse file and in memory, and where it has data.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mapped: Vec<(u64, u64)>,
    pub(crate) model: Model,
    pub(crate) seed: u8,
    block: u32,
}

impl Scene {
    /// An image of 5 MiB less some bytes, with a loader in it: text, bytes that do not pack, one word over and over.
    pub(crate) fn new(model: Model, seed: u8) -> Self {
        let size = 5 * MIB - 100;
        let data = [(0, 8192), (MIB, 3 * MIB), (3 * MIB + 16 * KIB, 3 * MIB + 20 * KIB), (4 * MIB, size)];
        Self::of(model, seed, size, 4096, &data)
    }

    /// One with next to nothing behind the head.
    pub(crate) fn tiny(model: Model, seed: u8) -> Self {
        let size = MIB + 64 * KIB;
        Self::of(model, seed, size, 4096, &[(0, 8192), (MIB, size)])
    }

    /// One with data in these places, and in that of the loader if it is long enough.
    pub(crate) fn of(model: Model, seed: u8, size: u64, block: u32, data: &[(u64, u64)]) -> Self {
        let mut bytes = vec![0; narrow(size)];
        let mut random = Random::new(u64::from(seed));
        for (n, (start, end)) in data.iter().enumerate() {
            let n = u8::try_from(n % 50).unwrap();
            let place = &mut bytes[narrow(*start)..narrow(*end)];
            place.copy_from_slice(&pattern(place.len(), seed.wrapping_add(n)));
            let (third, len) = (place.len() / 3, place.len());
            place[third..len - third].iter_mut().for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap());
            if len > narrow(512 * KIB) {
                place[len - third..len - narrow(96 * KIB)].fill(0x5a);
            }
        }
        let mut mapped = data.to_vec();
        let (at, flash) = (model.loader_offset(false), flash_bin(model, seed));
        let end = (at + u64::try_from(flash.len()).unwrap()).next_multiple_of(4096);
        if end <= MIB.min(size) && data.iter().all(|range| range.1 <= at / 4096 * 4096 || range.0 >= end) {
            bytes[narrow(at)..narrow(at) + flash.len()].copy_from_slice(&flash);
            mapped.push((at / 4096 * 4096, end));
            mapped.sort_unstable();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.wic");
        let scene = Self { folder, path, bytes, mapped, model, seed, block };
        scene.save();
        scene
    }

    /// Writes the image's file anew, with its holes.
    pub(crate) fn save(&self) {
        let file = File::create(&self.path).unwrap();
        file.set_len(u64::try_from(self.bytes.len()).unwrap()).unwrap();
        for (start, end) in &self.mapped {
            file.write_all_at(&self.bytes[narrow(*start)..narrow(*end)], *start).unwrap();
        }
    }

    pub(crate) fn map(&self) -> BlockMap {
        let block = u64::from(self.block);
        let range = |(start, end): &(u64, u64)| {
            let part = &self.bytes[narrow(*start)..narrow(*end)];
            let digest = Some(Hasher::digest(Algorithm::Sha256, part));
            MappedRange { blocks: BlockRange::new(start / block, end.div_ceil(block) - 1).unwrap(), digest }
        };
        let size = u64::try_from(self.bytes.len()).unwrap();
        BlockMap::new(size, BlockSize::new(self.block).unwrap(), self.mapped.iter().map(range).collect()).unwrap()
    }

    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.mapped.iter().map(|(start, end)| end - start).sum()
    }

    /// Does the card hold the image wherever it has data?
    pub(crate) fn is_on(&self, board: &Board) -> bool {
        board.emmc(|card| {
            self.mapped.iter().all(|(start, end)| {
                let held = card.peek(Area::User, *start, narrow(end - start)).unwrap();
                held == self.bytes[narrow(*start)..narrow(*end)]
            })
        })
    }

    /// What would boot must be the old system's loader, whole, or the new one's with all of the image behind it.
    pub(crate) fn assert_no_mix(&self, board: &Board, what: &str) {
        let Ok(loader) = board.bootable() else { return };
        let whole = |seed| loader.bytes[..] == flash_bin(self.model, seed)[..loader.bytes.len()];
        if !whole(OLD) {
            assert!(whole(self.seed), "{what}: half a loader would boot");
            assert!(self.is_on(board), "{what}: the new loader would boot without all of its image");
        }
    }

    /// Packs the image into a file of another format.
    pub(crate) fn packed(&self, extension: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(format!("disk.wic.{extension}"));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn gzip(&self) -> Vec<u8> {
        flasher::board::pack(flasher::board::Form::Gzip, &self.bytes).unwrap()
    }
}

/// Board `n` at port 1-(n+1), its card full of old data with an old loader in it.
pub(crate) fn board(model: Model, n: u8) -> Board {
    board_of(model, n, Tree::Nxp, 8 * MIB)
}

pub(crate) fn board_of(model: Model, n: u8, tree: Tree, bytes: u64) -> Board {
    let emmc = Geometry { user_bytes: bytes, ..Geometry::default() };
    let setup = Setup { emmc, path: format!("1-{}", n + 1), uid: u64::from(n) + 0x70, ..Setup::new(model, tree) };
    let board = Board::new(setup);
    // Made once: there are hundreds of boards.
    static OLD_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(8 << 20, OLD));
    board.emmc(|card| {
        assert!(card.poke(Area::User, 0, &OLD_BYTES[..OLD_BYTES.len().min(narrow(bytes))]));
        assert!(card.poke(Area::User, model.loader_offset(false), &flash_bin(model, OLD)));
    });
    board
}

/// A job, all of it, on virtual boards.
pub(crate) struct Run {
    pub(crate) path: PathBuf,
    pub(crate) map: Option<BlockMap>,
    pub(crate) to: To,
    pub(crate) wishes: Wishes,
    pub(crate) options: FlashOptions,
    /// The most in one download.
    pub(crate) download: Option<u32>,
    /// The loader that boards are booted with.
    pub(crate) boot: Vec<u8>,
    /// Takes away what U-Boots can do.
    pub(crate) change: fn(&mut Profile),
    pub(crate) which: Option<Vec<Which>>,
    /// How long boards may take to appear.
    pub(crate) appear: Duration,
    pub(crate) bus: HostBus,
    pub(crate) boards: Vec<Board>,
    pub(crate) cancel: Cancel,
    /// Others have boards of this bus open.
    pub(crate) shared: bool,
    /// Real time after which the job counts as hanging.
    pub(crate) patience: Duration,
}

impl Run {
    pub(crate) fn new(scene: &Scene, boards: &[Board]) -> Self {
        let folder = scene.folder.path();
        let options = FlashOptions {
            // Faults are laid at bytes on the bus.
            wire: Wire::Only(Form::Raw),
            pause: Duration::ZERO,
            spill: Some(folder.to_owned()),
            journals: Some(folder.join("journals")),
            ..FlashOptions::default()
        };
        Self {
            path: scene.path.clone(),
            map: Some(scene.map()),
            to: To::Emmc,
            wishes: Wishes { piece_len: Some(64 * KIB), ..Wishes::default() },
            options,
            download: Some(1 << 20),
            boot: flash_bin(scene.model, BOOT),
            change: |_| {},
            which: None,
            appear: Duration::from_secs(5),
            bus: HostBus::new(boards.to_vec()),
            boards: boards.to_vec(),
            cancel: Cancel::new(),
            shared: false,
            patience: Duration::from_secs(60),
        }
    }

    pub(crate) fn go(&self) -> Vec<BoardResult> {
        self.watched(&|_: usize, _: &Event| {})
    }

    pub(crate) fn one(&self) -> BoardResult {
        self.go().remove(0)
    }

    pub(crate) fn watched(&self, observer: &dyn BoardObserver) -> Vec<BoardResult> {
        let open = || Image::open(&self.path, &image::Options::default());
        self.fed(&open, observer)
    }

    /// The job, with an image that is opened so.
    pub(crate) fn fed(
        &self,
        open: &(dyn Fn() -> Result<Image, image::ImageError> + Sync),
        observer: &dyn BoardObserver,
    ) -> Vec<BoardResult> {
        let mut image = open().unwrap();
        let plan = prepare(&mut image, self.map.as_ref(), &self.to, &self.wishes, &()).unwrap();
        let table = ChipTable::builtin();
        let ports = || self.boards.iter().map(|board| Which::Port(port_of(board))).collect();
        let which: Vec<_> = self.which.clone().unwrap_or_else(ports);
        let count = which.len();
        let mut boards = Boards::new(&self.bus, &table, which, &self.cancel);
        boards.boot = Some(BootImage::new(self.boot.clone()));
        boards.download = self.download;
        boards.appear = self.appear;
        let connect = Changed { boards, change: self.change };
        let job = FlashJob {
            source: Source::Image { image, reopen: Some(open) },
            map: self.map.as_ref(),
            plan: &plan,
            boards: count,
            joiners: None,
            to: self.to.clone(),
            connect: &connect,
            options: self.options.clone(),
            observer,
            cancel: &self.cancel,
        };
        let (done, told) = std::sync::mpsc::channel::<()>();
        let results = std::thread::scope(|scope| {
            let hangs = scope.spawn(move || {
                let hangs = matches!(told.recv_timeout(self.patience), Err(std::sync::mpsc::RecvTimeoutError::Timeout));
                if hangs {
                    self.cancel.cancel();
                }
                hangs
            });
            let results = flash(job);
            drop(done);
            assert!(!hangs.join().unwrap(), "the job hangs");
            results
        });
        assert!(self.shared || self.bus.open_pipes() == 0, "a pipe is still open");
        results
    }
}

pub(crate) fn port_of(board: &Board) -> Port {
    board.device().unwrap().connector.parse().unwrap()
}

/// [`Boards`], with a profile that is changed on the way.
struct Changed<'a> {
    boards: Boards<'a>,
    change: fn(&mut Profile),
}

impl Connect for Changed<'_> {
    fn connect(
        &self,
        board: usize,
        to: &To,
        again: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<Connected, BoardError> {
        let mut connected = self.boards.connect(board, to, again, observer)?;
        (self.change)(&mut connected.profile);
        Ok(connected)
    }
}

#[track_caller]
pub(crate) fn assert_good(result: &BoardResult, what: &str) {
    assert!(result.error.is_none(), "{what}: {:?}", result.error);
    assert_eq!(result.state, TargetState::Proven, "{what}");
}

/// An error with all that led to it.
pub(crate) fn in_full(error: &BoardError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
