//! What U-Boot runs on: memory, cards, variables, a console, and an account of the time that work takes.
//!
//! [`crate::shell`] and [`crate::fastboot`] work on one [`Machine`]. What ends U-Boot in the middle of a command, such
//! as touching memory that is not there, is a [`Halt`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::emmc::{Area, BLOCK_BYTES, Emmc, EmmcError};
use crate::model::{Model, Tree};
use crate::store::{Store, wide};
use crate::timing::{Timing, at_rate};

/// At the top of memory U-Boot keeps itself, its stack and its heap.
pub const RESERVED_BYTES: u64 = 64 << 20;
/// Bytes moved between card and memory at a time.
pub(crate) const PIECE: usize = 1 << 20;
/// How long U-Boot waits for a card that is busy after a write.
const CARD_WAIT: Duration = Duration::from_secs(1);
/// The most the console remembers.
const CONSOLE_BYTES: usize = 1 << 20;
/// The most that all variables may hold.
const ENV_BYTES: usize = 1 << 20;

/// Why U-Boot does not live any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// It touched an address where there is no memory: "Synchronous Abort", then a reset.
    #[error("synchronous abort at {0:#x}")]
    Abort(u64),
    /// It was made to write over itself.
    #[error("U-Boot was overwritten at {0:#x}")]
    Overwritten(u64),
    /// The power went away.
    #[error("power lost")]
    PowerLost,
}

/// What is to happen once the last answer has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Reset the chip.
    Reset,
    /// Leave fastboot and go on booting.
    Continue,
    /// Boot what was downloaded.
    Boot,
    /// Run a shell line.
    Run(String),
}

/// Memory between two addresses.
#[derive(Debug)]
pub struct Ram {
    base: u64,
    store: Store,
}

impl Ram {
    /// `bytes` of zeros from address `base` up.
    pub fn new(base: u64, bytes: u64) -> Self {
        Self { base, store: Store::new(bytes, 0) }
    }

    /// The first address past its end.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.store.len())
    }

    fn offset(&self, address: u64, len: usize) -> Result<u64, Halt> {
        let at = address.checked_sub(self.base).ok_or(Halt::Abort(address))?;
        match self.store.check(at, wide(len)) {
            Ok(()) => Ok(at),
            Err(_) => Err(Halt::Abort(address.max(self.end()))),
        }
    }

    /// Copies bytes out.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Halt> {
        let at = self.offset(address, into.len())?;
        self.store.read(at, into).map_err(|_| Halt::Abort(address))
    }

    /// Copies bytes in. The top of memory belongs to U-Boot.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Halt> {
        let at = self.offset(address, bytes.len())?;
        let own = self.end().saturating_sub(RESERVED_BYTES);
        if address.saturating_add(wide(bytes.len())) > own && !bytes.is_empty() {
            return Err(Halt::Overwritten(address.max(own)));
        }
        self.store.write(at, bytes).map_err(|_| Halt::Abort(address))
    }

    /// Bytes as a vector; the caller caps `len`.
    pub fn bytes(&self, address: u64, len: usize) -> Result<Vec<u8>, Halt> {
        self.offset(address, len)?;
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Calls `each` with these bytes, piece by piece.
    pub fn pieces(&self, address: u64, len: u64, each: &mut dyn FnMut(&[u8])) -> Result<(), Halt> {
        let most = usize::try_from(len).map_err(|_| Halt::Abort(self.end()))?;
        let at = self.offset(address, most)?;
        self.store.look(at, len, each).map_err(|_| Halt::Abort(address))
    }
}

/// U-Boot's surroundings.
#[derive(Debug)]
pub struct Machine {
    /// Which board.
    pub model: Model,
    /// Which U-Boot.
    pub tree: Tree,
    /// Memory.
    pub ram: Ram,
    /// Cards by U-Boot's device number.
    pub cards: BTreeMap<u32, Emmc>,
    /// The card that `mmc` commands go to.
    pub current: Option<u32>,
    /// Has its shell the command `part`?
    pub part: bool,
    /// What is to happen after the last answer.
    pub after: Option<After>,
    /// Commands seen that change the card for ever (`hwpartition`, `rst-function`, `bootpart-resize`), as they were
    /// sent. They are not carried out.
    pub one_way: Vec<String>,
    /// Rates.
    pub timing: Timing,
    /// Output since it was last taken, for a host that listens to the console.
    pub(crate) unheard: String,
    pub(crate) locals: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    env_bytes: usize,
    console: String,
    spent: Duration,
}

impl Machine {
    /// Freshly started, with the variables such a U-Boot starts with.
    pub fn new(model: Model, tree: Tree, cards: BTreeMap<u32, Emmc>, timing: Timing) -> Self {
        let layout = model.layout(tree);
        let mut machine = Self {
            model,
            tree,
            ram: Ram::new(layout.ram, layout.ram_bytes),
            cards,
            current: Some(layout.emmc),
            part: true,
            after: None,
            one_way: Vec::new(),
            timing,
            unheard: String::new(),
            locals: BTreeMap::new(),
            env: BTreeMap::new(),
            env_bytes: 0,
            console: String::new(),
            spent: Duration::ZERO,
        };
        machine.set_env("loadaddr", &format!("0x{:x}", layout.load_address));
        machine.set_env("stdout", "serial");
        machine.set_env("board", model.board());
        machine.set_env("emmc_dev", &layout.emmc.to_string());
        machine.set_env("sd_dev", &layout.sd.to_string());
        machine.set_env("mmcdev", &layout.emmc.to_string());
        machine
    }

    /// With so much memory instead of the model's, from the same address on; what was in it is gone. U-Boot's own part
    /// at the top moves with its end.
    #[must_use]
    pub fn with_ram(mut self, bytes: u64) -> Self {
        self.ram = Ram::new(self.model.layout(self.tree).ram, bytes);
        self
    }

    /// A variable.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// All variables, by name.
    pub fn envs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a variable, or deletes it when `value` is empty. `false` if the name is none or there is no room.
    pub fn set_env(&mut self, name: &str, value: &str) -> bool {
        if name.is_empty() || name.contains('=') {
            return false;
        }
        let old = self.env.get(name).map_or(0, |old| old.len() + name.len());
        let bytes = self.env_bytes - old + value.len() + name.len();
        if value.is_empty() {
            self.env.remove(name);
            self.env_bytes -= old;
        } else if bytes > ENV_BYTES {
            return false;
        } else {
            self.env.insert(name.to_owned(), value.to_owned());
            self.env_bytes = bytes;
        }
        true
    }

    /// A variable that holds a hexadecimal number.
    pub fn env_hex(&self, name: &str) -> Option<u64> {
        self.env(name).map(crate::shell::hex)
    }

    /// Writes to the console.
    pub fn print(&mut self, text: &str) {
        if self.console.len() > CONSOLE_BYTES {
            self.console.clear();
        }
        self.console.push_str(text);
        if self.unheard.len() < CONSOLE_BYTES && self.env("stdout").is_some_and(|out| out.contains("fastboot")) {
            self.unheard.push_str(text);
        }
    }

    /// What the console said so far (of the last MiB or so).
    pub fn console(&self) -> &str {
        &self.console
    }

    /// Is busy for so much longer.
    pub fn spend(&mut self, time: Duration) {
        self.spent = self.spent.saturating_add(time);
    }

    /// Is busy for as long as so many bytes take.
    pub fn spend_bytes(&mut self, bytes: u64, per_second: u64) {
        self.spend(at_rate(bytes, per_second));
    }

    /// The time that work has taken since this was last asked.
    pub fn take_spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }

    /// Reads blocks of a card into memory. `Ok(false)`: the card failed.
    pub fn card_to_ram(&mut self, dev: u32, area: Area, block: u64, count: u64, to: u64) -> Result<bool, Halt> {
        let Some(card) = self.cards.get_mut(&dev) else { return Ok(false) };
        if block.checked_add(count).is_none_or(|end| end > card.blocks(area)) {
            return Ok(false);
        }
        let mut piece = vec![0; PIECE];
        for (block, n) in steps(block, count) {
            let bytes = &mut piece[..usize::try_from(n * BLOCK_BYTES).unwrap_or(PIECE)];
            if card.read(area, block.at, bytes).is_err() {
                return Ok(false);
            }
            self.spent += at_rate(wide(bytes.len()), self.timing.card_read);
            self.ram.write(to.saturating_add(block.done * BLOCK_BYTES), bytes)?;
        }
        Ok(true)
    }

    /// Writes memory to blocks of a card. `Ok(false)`: the card failed; blocks before may have been written.
    pub fn ram_to_card(&mut self, dev: u32, area: Area, block: u64, count: u64, from: u64) -> Result<bool, Halt> {
        let Some(card) = self.cards.get(&dev) else { return Ok(false) };
        if block.checked_add(count).is_none_or(|end| end > card.blocks(area)) {
            return Ok(false);
        }
        let mut piece = vec![0; PIECE];
        for (block, n) in steps(block, count) {
            let bytes = &mut piece[..usize::try_from(n * BLOCK_BYTES).unwrap_or(PIECE)];
            self.ram.read(from.saturating_add(block.done * BLOCK_BYTES), bytes)?;
            if !self.write_card(dev, area, block.at, bytes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes blocks of a card. `Ok(false)`: the card failed, or there is none.
    pub fn write_card(&mut self, dev: u32, area: Area, block: u64, bytes: &[u8]) -> Result<bool, Halt> {
        let Some(card) = self.cards.get_mut(&dev) else { return Ok(false) };
        let done = card.write(area, block, bytes);
        self.spent += self.timing.card_command + at_rate(wide(bytes.len()), self.timing.card_write);
        match done {
            Ok(()) => Ok(true),
            Err(EmmcError::PowerCut { .. }) => Err(Halt::PowerLost),
            Err(error) => {
                if error == EmmcError::Busy {
                    self.spend(CARD_WAIT);
                }
                Ok(false)
            }
        }
    }
}

struct Step {
    at: u64,
    done: u64,
}

/// Cuts blocks into pieces of at most [`PIECE`] bytes.
fn steps(block: u64, count: u64) -> impl Iterator<Item = (Step, u64)> {
    let most = wide(PIECE) / BLOCK_BYTES;
    let mut done = 0;
    std::iter::from_fn(move || {
        let n = (count - done).min(most);
        let step = Step { at: block + done, done };
        done += n;
        (n > 0).then_some((step, n))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_bounds_and_an_owner() {
        let mut ram = Ram::new(0x4000_0000, 128 << 20);
        ram.write(0x4000_0000, &[1, 2]).unwrap();
        assert_eq!(ram.bytes(0x4000_0000, 3).unwrap(), [1, 2, 0]);
        assert_eq!(ram.read(0x3fff_ffff, &mut [0; 2]), Err(Halt::Abort(0x3fff_ffff)));
        assert_eq!(ram.bytes(0x47ff_ffff, 2), Err(Halt::Abort(0x4800_0000)));
        assert_eq!(ram.write(0x43ff_ffff, &[0; 2]), Err(Halt::Overwritten(0x4400_0000)));
        assert!(ram.bytes(u64::MAX, usize::MAX).is_err());
    }

    #[test]
    fn card_and_memory_exchange_blocks_and_time() {
        let timing = Timing { card_write: 1 << 20, card_read: 2 << 20, ..Timing::default() };
        let model = Model::Imx8mm;
        let mut machine = Machine::new(model, Tree::Nxp, [(2, Emmc::new(Default::default()))].into(), timing);
        machine.ram.write(0x4040_0000, &vec![9; 3 << 20]).unwrap();
        assert!(machine.ram_to_card(2, Area::User, 1, 6000, 0x4040_0000).unwrap());
        assert_eq!(machine.take_spent(), at_rate(6000 * 512, 1 << 20));
        assert!(machine.card_to_ram(2, Area::User, 0, 6000, 0x5000_0000).unwrap());
        assert_eq!(machine.ram.bytes(0x5000_01fe, 4).unwrap(), [0, 0, 9, 9]);
        assert!(!machine.card_to_ram(0, Area::User, 0, 1, 0x5000_0000).unwrap());
        assert!(!machine.ram_to_card(2, Area::User, u64::MAX, 2, 0x5000_0000).unwrap());
        machine.cards.get_mut(&2).unwrap().cut_power_after(512);
        assert_eq!(machine.ram_to_card(2, Area::User, 0, 6, 0x4040_0000), Err(Halt::PowerLost));
    }

    #[test]
    fn variables_have_a_limit() {
        let mut machine = Machine::new(Model::Imx93, Tree::Nxp, BTreeMap::new(), Timing::default());
        assert!(!machine.set_env("a=b", "1") && !machine.set_env("", "1"));
        assert!(!machine.set_env("big", &"x".repeat(ENV_BYTES)));
        assert!(machine.set_env("x", "1") && machine.set_env("x", ""));
        assert_eq!(machine.env("x"), None);
    }
}
