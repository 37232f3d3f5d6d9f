//! The board: ROM, loader, U-Boot, and what happens in between.
//!
//! ```text
//!          power on ── card holds a loader, switches say card ──> Running
//!             └─> Rom ──> Loader (i.MX8MM, 8QXP, 95) ──> UBoot ──> Running, or Fbk
//!                  └──────── (8MN, 8MP, 93) ──────────────┘ └─ reset: power on, with the cards as they are
//! ```
//!
//! Between two stages the board leaves the bus and comes back with another address. [`Board`] is passive: it does its
//! work when something is sent and tells until when it is busy. [`crate::link`] makes waiting transfers of that.

mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::emmc::{Area, Emmc, Geometry};
use crate::fault::Fault;
use crate::link::{Link, Outcome};
use crate::model::{Ids, Model, Tree};
use crate::record::{Event, Recorder, Traffic};
use crate::rom::Hab;
use crate::rom::image::{NotBootable, loader_length};
use crate::sharing::SharedBus;
use crate::timing::{Clock, Timing};

use state::State;

/// What runs on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The boot ROM, in serial download.
    Rom,
    /// SPL, waiting for U-Boot (SDPV).
    Loader,
    /// U-Boot's fastboot.
    UBoot,
    /// The daemon `ufb` of an initramfs (FBK).
    Fbk,
    /// Something that is not on the bus: a booted system.
    Running,
}

/// Where the boot switches point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BootMode {
    /// Serial download, whatever is on the card.
    #[default]
    Serial,
    /// The eMMC; serial download if there is no loader.
    Card,
}

/// A board to be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which one.
    pub model: Model,
    /// Whose U-Boot it will be given.
    pub tree: Tree,
    /// Does it take unsigned images?
    pub hab: Hab,
    /// The chip's unique number, in its fuses.
    pub uid: u64,
    /// Where it is plugged in, as sysfs writes ports.
    pub path: String,
    /// Its eMMC.
    pub emmc: Geometry,
    /// The card in its SD slot, if there is one; it has no boot partitions whatever is said here.
    pub sd: Option<Geometry>,
    /// Bytes of its memory, where they are not the model's. What fastboot announces does not go by it, as in U-Boot.
    pub ram: Option<u64>,
    /// Has its U-Boot the command `part` (CONFIG_CMD_PART)? Some have not.
    pub part: bool,
    /// Variables that its U-Boot starts with, besides its usual ones.
    pub variables: Vec<(String, String)>,
    /// Where its switches point.
    pub boot: BootMode,
    /// How long things take.
    pub timing: Timing,
    /// By which clock.
    pub clock: Clock,
    /// The SuperSpeed side of its connector, as sysfs writes ports; U-Boot's fastboot then comes up there.
    pub super_speed: Option<String>,
    /// What U-Boot boots (`booti`, `bootm`, `boot`) is an initramfs with the daemon `ufb`: the board comes back as that.
    pub fbk: bool,
    /// The hub it is on, if it shares the bus with other boards.
    pub hub: Option<SharedBus>,
}

impl Setup {
    /// An open board in serial download on port 1-1, in simulated time, at once.
    pub fn new(model: Model, tree: Tree) -> Self {
        Self {
            model,
            tree,
            hab: Hab::Open,
            uid: 0x0123_4567_89ab_cdef,
            path: "1-1".to_owned(),
            emmc: Geometry::default(),
            sd: None,
            ram: None,
            part: true,
            variables: Vec::new(),
            boot: BootMode::Serial,
            timing: Timing::instant(),
            clock: Clock::simulated(),
            super_speed: None,
            fbk: false,
            hub: None,
        }
    }
}

/// How fast a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speed {
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s.
    Super,
}

/// How an endpoint moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bulk.
    Bulk,
    /// Interrupt.
    Interrupt,
}

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its address; bit 7 is set if it goes to the host.
    pub address: u8,
    /// How it moves data.
    pub kind: Kind,
    /// Most bytes in a packet.
    pub packet: u16,
}

/// What the host sees on the bus. There is one interface, number 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Address on the bus; a new one each time it comes.
    pub address: u32,
    /// Port path, as sysfs writes it: of the connector's faster side for a device at [`Speed::Super`].
    pub path: String,
    /// Port path of the connector: its high-speed side.
    pub connector: String,
    /// How fast.
    pub speed: Speed,
    /// Bytes of a data report, without its identifier, where it takes any.
    pub report_payload: u16,
    /// Vendor, product and release.
    pub ids: Ids,
    /// The serial number that the device descriptor names.
    pub serial: Option<String>,
    /// String 4, which no descriptor names: the ROM's serial number.
    pub string4: Option<String>,
    /// Manufacturer and product.
    pub strings: [&'static str; 2],
    /// Class, subclass and protocol of the interface.
    pub class: [u8; 3],
    /// Its endpoints, in order.
    pub endpoints: Vec<Endpoint>,
}

impl Device {
    /// Are so many bytes from a bulk endpoint whole packets, so that they do not end a transfer with room for more?
    pub(crate) fn is_whole_packets(&self, bytes: usize) -> bool {
        let input = self.endpoints.iter().find(|endpoint| endpoint.address & 0x80 != 0 && endpoint.kind == Kind::Bulk);
        input.is_some_and(|endpoint| bytes > 0 && bytes.is_multiple_of(usize::from(endpoint.packet.max(1))))
    }
}

/// What a ROM would find on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootable {
    /// Where: the boot partition that the switch names, or the user area.
    pub area: Area,
    /// From which byte.
    pub at: u64,
    /// The loader and what it fetches, as it is on the card.
    pub bytes: Vec<u8>,
}

/// Looks for a loader as the ROM of `model` does, following the boot switch (0 and 7 mean the user area).
///
/// What is not whole, or does not match its hashes where it has any, is not found. Images with an IVT have none: whether
/// such a loader is of one piece only its bytes tell.
pub fn find_loader(model: Model, card: &Emmc, hab: Hab) -> Result<Bootable, NotBootable> {
    let area = match card.partconf().boot {
        1 => Area::Boot0,
        2 => Area::Boot1,
        _ => Area::User,
    };
    let at = model.loader_offset(area != Area::User);
    let room = card.blocks(area).saturating_mul(512).saturating_sub(at).min(8 << 20);
    // The card boots with U-Boot behind the loader, so all of it must be there, not the loader's container alone.
    let kind = match model.rom() {
        crate::model::RomKind::LoaderContainer => crate::model::RomKind::StreamContainer,
        kind => kind,
    };
    let mut bytes = card.peek(area, at, usize::try_from(room).unwrap_or(0)).unwrap_or_default();
    let length = loader_length(kind, &bytes, hab)?;
    bytes.truncate(length);
    Ok(Bootable { area, at, bytes })
}

/// A handle to a board; clones are the same board.
#[derive(Clone)]
pub struct Board(Arc<Mutex<State>>);

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Board").field("stage", &state.stage).field("path", &state.path).finish_non_exhaustive()
    }
}

impl Board {
    /// A board, plugged in and switched on.
    pub fn new(setup: Setup) -> Self {
        let board = Self::switched_off(setup);
        board.power_cycle();
        board
    }

    /// A board that [`Board::power_cycle`] switches on, so that its cards and faults can be laid out before.
    pub fn switched_off(setup: Setup) -> Self {
        Self(Arc::new(Mutex::new(State::new(setup))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread leaves a board that is as good as any that crashed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays out what will go wrong.
    pub fn add_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// What went over the bus so far.
    pub fn traffic(&self) -> Traffic {
        self.state().traffic
    }

    /// Tells each event from now on.
    pub fn record(&self, recorder: Recorder) {
        self.state().recorder = Some(recorder);
    }

    /// A transfer was over.
    pub(crate) fn note(&self, event: &Event) {
        self.state().record(event);
    }

    /// The board's model.
    pub fn model(&self) -> Model {
        self.state().setup.model
    }

    /// What runs now.
    pub fn stage(&self) -> Stage {
        let mut state = self.state();
        state.poll();
        state.stage
    }

    /// What is on the bus now, if anything is.
    pub fn device(&self) -> Option<Device> {
        let mut state = self.state();
        state.poll();
        state.device()
    }

    /// The address of what is on the bus now.
    pub(crate) fn address(&self) -> Option<u32> {
        let mut state = self.state();
        state.poll();
        state.address()
    }

    /// The address while U-Boot's fastboot runs.
    pub(crate) fn fastboot_address(&self) -> Option<u32> {
        let mut state = self.state();
        state.poll();
        state.address().filter(|_| state.stage == Stage::UBoot)
    }

    /// Bytes of a download that the device with that address waits for.
    pub(crate) fn bytes_wanted(&self, address: u32) -> u64 {
        self.state().bytes_wanted(address)
    }

    /// Has the device with that address something to say?
    pub(crate) fn has_answer(&self, address: u32) -> bool {
        self.state().has_answer(address)
    }

    /// Forgets the line that was to run once the answer has left.
    pub(crate) fn forget_late(&self, address: u32) {
        self.state().forget_late(address);
    }

    /// Until when it is busy.
    pub(crate) fn busy_until(&self) -> Duration {
        self.state().busy_until
    }

    /// Opens what is on the bus now. The link is to this device: once the board leaves, it is dead.
    pub fn open(&self) -> Option<Link> {
        let device = self.device()?;
        Some(Link::new(self.clone(), device))
    }

    /// Waits until a device with another address than `other` is on the bus, for so long at most.
    pub fn wait_for_device(&self, other: Option<u32>, within: Duration) -> Option<Device> {
        let until = self.now().saturating_add(within);
        loop {
            match self.device() {
                Some(device) if Some(device.address) != other => return Some(device),
                _ => {}
            }
            let next = self.next_change();
            let now = self.now();
            if now >= until || (next.is_none() && !self.is_real()) {
                self.pass_until(until);
                return None;
            }
            self.pass_until(next.unwrap_or(now + Duration::from_millis(10)).clamp(now, until));
        }
    }

    /// The board's time.
    pub fn now(&self) -> Duration {
        self.state().clock.now()
    }

    pub(crate) fn is_real(&self) -> bool {
        self.state().clock.is_real()
    }

    /// Lets time pass: sleeps, if it is the real one.
    pub fn pass_until(&self, until: Duration) {
        let now = {
            let mut state = self.state();
            state.clock.advance_to(until);
            state.clock.now()
        };
        if let Some(left) = until.checked_sub(now).filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
    }

    /// Looks at, or changes, the eMMC.
    pub fn emmc<T>(&self, look: impl FnOnce(&mut Emmc) -> T) -> T {
        look(self.state().emmc())
    }

    /// What the ROM would find on the eMMC.
    pub fn bootable(&self) -> Result<Bootable, NotBootable> {
        let mut state = self.state();
        let (model, hab) = (state.setup.model, state.setup.hab);
        find_loader(model, state.emmc(), hab)
    }

    /// What U-Boot's console said, while U-Boot runs.
    pub fn console(&self) -> Option<String> {
        self.state().machine().map(|machine| machine.console().to_owned())
    }

    /// Commands that would have changed the card for ever.
    pub fn one_way(&self) -> Vec<String> {
        self.state().machine().map(|machine| machine.one_way.clone()).unwrap_or_default()
    }

    /// Bytes of the largest download that this U-Boot was sent.
    pub fn largest_download(&self) -> u64 {
        self.state().largest_download()
    }

    /// Moves the boot switches; they are read at the next power-on or reset.
    pub fn set_boot_mode(&self, boot: BootMode) {
        self.state().setup.boot = boot;
    }

    /// Starts U-Boot as if it had been booted, without anything having been sent. For work on what comes after.
    pub fn start_uboot(&self) {
        self.state().start(Stage::UBoot);
    }

    /// Starts the initramfs with the daemon `ufb`, as if U-Boot had booted it.
    pub fn start_fbk(&self) {
        self.state().start(Stage::Fbk);
    }

    /// A file of the initramfs, while it runs.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.state().daemon().and_then(|daemon| daemon.file(path).map(<[u8]>::to_vec))
    }

    /// What a reset of the bus, or a new configuration, makes the device with that address forget.
    pub(crate) fn bus_reset(&self, address: u32) {
        self.state().bus_reset(address);
    }

    /// Takes the power away and gives it back: everything but the cards begins anew.
    pub fn power_cycle(&self) {
        self.state().power_on();
    }

    /// Pulls the plug, until [`Board::plug`]. The board keeps its power and stays in its stage.
    pub fn unplug(&self) {
        self.state().leave_for_good();
    }

    /// Plugs the board in there, now: it comes as a new device, wherever it was before.
    pub fn plug(&self, path: &str) {
        self.state().come_to(path);
    }

    /// When something changes by itself next, if nobody does anything.
    pub(crate) fn next_change(&self) -> Option<Duration> {
        self.state().next_change()
    }

    /// Are these handles to the same board?
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends to the device with that address, if it is still there. Some of the bytes may be taken now and the rest
    /// later: `Done` says how many.
    pub fn try_out(&self, address: u32, bytes: &[u8]) -> Outcome<usize> {
        self.state().try_out(address, bytes)
    }

    /// Receives from the device with that address, at most `most` bytes.
    pub fn try_in(&self, address: u32, most: usize) -> Outcome<Vec<u8>> {
        self.state().try_in(address, most)
    }
}

#[cfg(test)]
mod tests;
