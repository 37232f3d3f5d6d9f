//! Runs of whole jobs, each under a watch: none may hang, or leave a pipe open.

use std::path::PathBuf;
use std::time::Duration;

use bmap::BlockMap;
use flasher::Cancel;
use flasher::board::{
    BoardError, BoardObserver, BoardResult, Boards, Connect, Connected, FlashJob, FlashOptions, Form, Profile, Source,
    To, Which, Wire, Wishes, flash, open_pack, prepare,
};
use flasher::event::{Event, Observer};
use flasher::plan::Plan;
use image::Image;
use imx_usb::boot::BootImage;
use imx_usb::chips::ChipTable;
use virtual_imx::board::Board;
use virtual_imx::host::HostBus;
use virtual_imx::sample::flash_bin;

use super::{BOOT, KIB, MIB, Scene, port_of};

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
    /// In small pieces and downloads, so that much goes back and forth for a small image.
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

    /// In pieces and downloads of usual sizes, without any wish.
    pub(crate) fn plain(scene: &Scene, boards: &[Board]) -> Self {
        Self {
            wishes: Wishes { piece_len: Some(MIB), ..Wishes::default() },
            options: FlashOptions { pause: Duration::ZERO, ..FlashOptions::default() },
            download: Some(16 << 20),
            ..Self::new(scene, boards)
        }
    }

    /// The same with other boards.
    pub(crate) fn on(&mut self, boards: &[Board]) -> &mut Self {
        self.bus = HostBus::new(boards.to_vec());
        self.boards = boards.to_vec();
        self
    }

    pub(crate) fn go(&self) -> Vec<BoardResult> {
        self.watched(&|_: usize, _: &Event| {})
    }

    pub(crate) fn one(&self) -> BoardResult {
        self.go().remove(0)
    }

    pub(crate) fn watched(&self, observer: &dyn BoardObserver) -> Vec<BoardResult> {
        if self.path.extension().is_some_and(|extension| extension == "mfpack") {
            let pack = open_pack(&self.path).unwrap();
            let plan = pack.plan(&self.to, &self.wishes).unwrap();
            return self.flash(Source::Pack(&pack), &plan, observer);
        }
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
        self.flash(Source::Image { image, reopen: Some(open) }, &plan, observer)
    }

    /// The job, with boards that are brought to fastboot so.
    pub(crate) fn by(&self, connect: &BroughtBy<'_>) -> Vec<BoardResult> {
        let open = || Image::open(&self.path, &image::Options::default());
        let mut image = open().unwrap();
        let plan = prepare(&mut image, self.map.as_ref(), &self.to, &self.wishes, &()).unwrap();
        let source = Source::Image { image, reopen: Some(&open) };
        self.flash_by(source, &plan, &|_: usize, _: &Event| {}, connect)
    }

    fn flash(&self, source: Source<'_>, plan: &Plan, observer: &dyn BoardObserver) -> Vec<BoardResult> {
        self.flash_by(source, plan, observer, &|boards| Box::new(changed(boards, self.change)))
    }

    fn flash_by(
        &self,
        source: Source<'_>,
        plan: &Plan,
        observer: &dyn BoardObserver,
        connect: &BroughtBy<'_>,
    ) -> Vec<BoardResult> {
        let table = ChipTable::builtin();
        let ports = || self.boards.iter().map(|board| Which::Port(port_of(board))).collect();
        let which: Vec<_> = self.which.clone().unwrap_or_else(ports);
        let count = which.len();
        let mut boards = Boards::new(&self.bus, &table, which, &self.cancel);
        boards.boot = Some(BootImage::new(self.boot.clone()));
        boards.download = self.download;
        boards.appear = self.appear;
        let connect = connect(boards);
        let job = FlashJob {
            source,
            map: self.map.as_ref(),
            plan,
            boards: count,
            joiners: None,
            to: self.to.clone(),
            connect: &*connect,
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

/// What stands between a job and its boards.
type BroughtBy<'a> = dyn for<'b> Fn(Boards<'b>) -> Box<dyn Connect + 'b> + 'a;

/// These boards, with a profile that is changed on the way.
pub(crate) fn changed(boards: Boards<'_>, change: fn(&mut Profile)) -> Changed<'_> {
    Changed { boards, change }
}

/// See [`changed`].
pub(crate) struct Changed<'a> {
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
