//! A target in memory that fails on command: for tests, here and in programs built on this crate.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bmap::ByteRange;

use super::{Geometry, Target, TargetError, Zeroed, extent};
use crate::event::Observer;
use crate::plan::Plan;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Writes that touch this byte fail with an I/O error.
    WriteFails {
        /// Offset of the byte.
        at: u64,
    },
    /// The next `times` writes that cover this byte store it with its lowest bit flipped, and say nothing.
    FlipsBit {
        /// Offset of the byte.
        at: u64,
        /// How many times.
        times: u32,
    },
    /// Reading this byte back fails with an I/O error.
    ReadFails {
        /// Offset of the byte.
        at: u64,
    },
    /// Once so many bytes have been written, everything fails: the device was pulled out.
    GoneAfter {
        /// Bytes written until then.
        bytes: u64,
    },
    /// Syncing fails.
    SyncFails,
}

/// What was asked of a target, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Target::begin`].
    Begin,
    /// [`Target::write`] of this extent.
    Write(ByteRange),
    /// [`Target::zero`] of this extent.
    Zero(ByteRange),
    /// [`Target::sync`].
    Sync,
    /// [`Target::commit`].
    Commit,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    faults: Vec<Fault>,
    calls: Vec<Call>,
    written: u64,
}

/// A disk in memory, full of old data.
#[derive(Debug)]
pub struct MemoryTarget {
    state: Mutex<State>,
    geometry: Geometry,
    can_zero: bool,
}

impl MemoryTarget {
    /// A disk that holds `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        let geometry = Geometry {
            size: u64::try_from(bytes.len()).ok(),
            fresh: false,
            partition: false,
            zero_granule: 4096,
            readable: true,
            depth: 2,
        };
        let state = State { bytes, faults: Vec::new(), calls: Vec::new(), written: 0 };
        Self { state: Mutex::new(state), geometry, can_zero: false }
    }

    /// Lets it zero extents for free.
    #[must_use]
    pub fn that_can_zero(mut self) -> Self {
        self.can_zero = true;
        self
    }

    /// Makes it a partition rather than a disk.
    #[must_use]
    pub fn partition(mut self) -> Self {
        self.geometry.partition = true;
        self
    }

    /// Adds a fault.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        self.state().faults.push(fault);
        self
    }

    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// What was asked of it so far, but for reading.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, action: &'static str, extent: ByteRange) -> TargetError {
        TargetError::Io { target: self.name(), action, extent, source: io::Error::from_raw_os_error(nix::libc::EIO) }
    }
}

impl State {
    fn gone(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::GoneAfter { bytes } if self.written >= *bytes))
    }

    fn hit(&self, extent: ByteRange, which: impl Fn(&Fault) -> Option<u64>) -> bool {
        self.faults.iter().filter_map(which).any(|at| extent.start() <= at && at < extent.end())
    }

    fn slice(&mut self, extent: ByteRange) -> Option<&mut [u8]> {
        let (start, end) = (usize::try_from(extent.start()).ok()?, usize::try_from(extent.end()).ok()?);
        self.bytes.get_mut(start..end)
    }
}

impl Target for MemoryTarget {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn begin(&self, _plan: &Plan, _observer: &dyn Observer) -> Result<(), TargetError> {
        self.state().calls.push(Call::Begin);
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let extent = extent(at, bytes.len());
        let mut state = self.state();
        state.calls.push(Call::Write(extent));
        let fails = |fault: &Fault| if let Fault::WriteFails { at } = fault { Some(*at) } else { None };
        if state.gone() || state.hit(extent, fails) {
            return Err(self.fail("write", extent));
        }
        state.slice(extent).ok_or_else(|| self.fail("write", extent))?.copy_from_slice(bytes);
        state.written += extent.len();
        let mut flips = Vec::new();
        for fault in &mut state.faults {
            if let Fault::FlipsBit { at, times } = fault
                && *times > 0
                && (extent.start()..extent.end()).contains(at)
            {
                *times -= 1;
                flips.push(*at);
            }
        }
        for at in flips {
            if let Some([byte]) = ByteRange::at(at, 1).and_then(|byte| state.slice(byte)) {
                *byte ^= 1;
            }
        }
        Ok(())
    }

    fn zero(&self, extent: ByteRange) -> Result<Zeroed, TargetError> {
        let mut state = self.state();
        if !self.can_zero {
            return Ok(Zeroed::Unsupported);
        }
        state.calls.push(Call::Zero(extent));
        if state.gone() {
            return Err(self.fail("zero", extent));
        }
        state.slice(extent).ok_or_else(|| self.fail("zero", extent))?.fill(0);
        Ok(Zeroed::Guaranteed)
    }

    fn sync(&self) -> Result<(), TargetError> {
        let mut state = self.state();
        state.calls.push(Call::Sync);
        if state.gone() || state.faults.contains(&Fault::SyncFails) {
            let source = io::Error::from_raw_os_error(nix::libc::EIO);
            return Err(TargetError::Whole { target: self.name(), action: "sync", source });
        }
        Ok(())
    }

    fn read_back(&self, at: u64, into: &mut [u8]) -> Result<(), TargetError> {
        let extent = extent(at, into.len());
        let mut state = self.state();
        let fails = |fault: &Fault| if let Fault::ReadFails { at } = fault { Some(*at) } else { None };
        if state.gone() || state.hit(extent, fails) {
            return Err(self.fail("read back", extent));
        }
        into.copy_from_slice(state.slice(extent).ok_or_else(|| self.fail("read back", extent))?);
        Ok(())
    }

    fn commit(&self, _length: u64, _observer: &dyn Observer) -> Result<(), TargetError> {
        self.state().calls.push(Call::Commit);
        Ok(())
    }
}
