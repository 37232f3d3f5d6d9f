//! Pieces packed for the wire: each once, for all boards that get the same bytes, on as many threads as there are cores.
//!
//! LZ4 frames have independent blocks and no checksums, for U-Boot's `unlz4` takes no others and looks at none; a gzip
//! member is one piece, for `gzwrite` takes one.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::feed::{Dry, Feed};
use super::packfile::{Entry, Stored};
use crate::error::FlashError;
use crate::plan::Kind;

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// As they are.
    Raw,
    /// As an LZ4 frame.
    Lz4,
    /// As a gzip member.
    Gzip,
}

impl Form {
    /// The form's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
        }
    }
}

/// Packs bytes. Raw bytes are copied.
///
/// # Errors
/// When the compressor fails, which it does not for want of anything but memory.
pub fn pack(form: Form, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match form {
        Form::Raw => Ok(bytes.to_vec()),
        Form::Lz4 => lz4_frame(bytes, 1),
        Form::Gzip => {
            let packed = Vec::with_capacity(bytes.len() / 2);
            let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
    }
}

/// An LZ4 frame as `unlz4` takes it, at a level of the `lz4` tool: 1 is fast, 3 to 12 take longer and pack better.
///
/// # Errors
/// As [`pack`].
pub fn lz4_frame(bytes: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut encoder = lz4::EncoderBuilder::new()
        .level(level)
        .block_mode(lz4::BlockMode::Independent)
        .block_size(lz4::BlockSize::Max4MB)
        .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .build(Vec::with_capacity(bytes.len() / 2))?;
    encoder.write_all(bytes)?;
    let (packed, result) = encoder.finish();
    result.map(|()| packed)
}

#[derive(Debug)]
enum Slot {
    Busy,
    Ready(Arc<Vec<u8>>),
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<(usize, Form), Slot>,
    bytes: usize,
}

/// See the module's description.
pub(crate) struct Packer<'a> {
    feed: &'a Feed<'a>,
    state: Mutex<State>,
    ready: Condvar,
    jobs: Mutex<Option<Sender<(usize, Form)>>>,
    work: Receiver<(usize, Form)>,
    /// Bytes of packed pieces that are kept.
    keep: usize,
}

impl std::fmt::Debug for Packer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl<'a> Packer<'a> {
    pub(crate) fn new(feed: &'a Feed<'a>, keep: usize) -> Self {
        let (jobs, work) = unbounded();
        Self { feed, state: Mutex::default(), ready: Condvar::new(), jobs: Mutex::new(Some(jobs)), work, keep }
    }

    /// A worker: packs what is wanted until [`Packer::stop`].
    pub(crate) fn work(&self) {
        for (index, form) in &self.work {
            // One that has been sent meanwhile may have to be unpacked from the image's beginning.
            if !self.feed.is_at_hand(index) {
                continue;
            }
            // A source that runs dry is told to the board that asks.
            let _ = self.get(index, form);
        }
    }

    /// Ends the workers.
    pub(crate) fn stop(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        while self.work.try_recv().is_ok() {}
    }

    /// These pieces will be wanted soon.
    pub(crate) fn want(&self, pieces: impl Iterator<Item = usize>, form: Form) {
        if form == Form::Raw {
            return;
        }
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*jobs {
            // Nobody listens any more once the job ends.
            pieces.for_each(|index| {
                let _ = jobs.send((index, form));
            });
        }
    }

    /// A piece in a packed form, after waiting for it or packing it here.
    pub(crate) fn get(&self, index: usize, form: Form) -> Result<Arc<Vec<u8>>, Dry> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match state.slots.get(&(index, form)) {
                Some(Slot::Ready(packed)) => return Ok(Arc::clone(packed)),
                Some(Slot::Busy) => state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                None => break,
            }
        }
        state.slots.insert((index, form), Slot::Busy);
        drop(state);
        let busy = Busy { packer: self, key: (index, form) };
        let packed = self.make(index, form);
        std::mem::forget(busy);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &packed {
            Ok(packed) => {
                state.slots.insert((index, form), Slot::Ready(Arc::clone(packed)));
                state.bytes += packed.len();
                self.forget(&mut state);
            }
            Err(_) => {
                state.slots.remove(&(index, form));
            }
        }
        drop(state);
        self.ready.notify_all();
        packed
    }

    /// How many bytes a piece has in a packed form; `None` if it is known not to pack. Of a pack file this is known
    /// without reading it.
    pub(crate) fn len(&self, index: usize, form: Form) -> Result<Option<u64>, Dry> {
        match self.entry(index).map(|entry| entry.stored) {
            Some(Stored::Lz4 { len, .. }) if form == Form::Lz4 => return Ok(Some(u64::from(len))),
            Some(Stored::Raw { .. }) if form != Form::Raw => return Ok(None),
            _ => {}
        }
        Ok(Some(u64::try_from(self.get(index, form)?.len()).unwrap_or(u64::MAX)))
    }

    /// What a pack file has of a piece.
    fn entry(&self, index: usize) -> Option<&'a Entry> {
        let piece = self.feed.pieces().get(index)?;
        self.feed.pack()?.entry(piece.extent).filter(|_| piece.kind == Kind::Data)
    }

    fn make(&self, index: usize, form: Form) -> Result<Arc<Vec<u8>>, Dry> {
        if let Some((pack, entry)) = self.feed.pack().zip(self.entry(index)).filter(|_| form == Form::Lz4) {
            let frame = pack.frame(entry).map_err(|error| Dry::Failed(Arc::new(error.into())))?;
            if let Some(frame) = frame {
                return Ok(Arc::new(frame));
            }
        }
        let buffer = self.feed.bytes(index)?;
        let len = self.feed.pieces().get(index).map_or(0, |piece| piece.extent.len());
        let bytes = usize::try_from(len).ok().and_then(|len| buffer.get(..len)).unwrap_or_default();
        let packed = pack(form, bytes).map_err(|source| Dry::Failed(Arc::new(FlashError::Pack { source })))?;
        Ok(Arc::new(packed))
    }

    /// Drops the oldest, beyond what is kept.
    fn forget(&self, state: &mut State) {
        while state.bytes > self.keep {
            let oldest = state.slots.iter().find_map(|(key, slot)| match slot {
                Slot::Ready(packed) => Some((*key, packed.len())),
                Slot::Busy => None,
            });
            let Some((key, len)) = oldest else { return };
            state.slots.remove(&key);
            state.bytes -= len;
        }
    }
}

/// A piece that is being packed. Dropped when that panics: whoever waits for it packs it, and finds out.
struct Busy<'p, 'a> {
    packer: &'p Packer<'a>,
    key: (usize, Form),
}

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        self.packer.state.lock().unwrap_or_else(PoisonError::into_inner).slots.remove(&self.key);
        self.packer.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn frames_have_independent_blocks() {
        let bytes: Vec<u8> = (0..6_u32 << 20).map(|n| u8::try_from(n / 1000 % 251).unwrap()).collect();
        for level in [1, 9] {
            let frame = lz4_frame(&bytes, level).unwrap();
            // Magic, version 1, and the flag for independent blocks; no checksums, no dictionary.
            assert_eq!(frame[..4], [0x04, 0x22, 0x4d, 0x18]);
            assert_eq!(frame[4] & 0b1111_0101, 0b0110_0000, "{:08b}", frame[4]);
            let mut back = Vec::new();
            lz4::Decoder::new(frame.as_slice()).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == bytes);
        }
    }

    #[test]
    fn a_member_is_whole() {
        let packed = pack(Form::Gzip, &[9; 100_000]).unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == [9; 100_000]);
    }
}
