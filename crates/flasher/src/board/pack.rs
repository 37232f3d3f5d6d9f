//! Pieces packed for the wire: each once, for all boards that get the same bytes, on threads of their own.
//!
//! What is packed ahead of time, while boards are busy, is packed well; a board that has to wait for a piece packs it
//! fast. So a host with time to spare sends less, and one without does not keep boards waiting.
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

/// The level of LZ4 that takes the least time.
const FAST: u32 = 1;
/// The level at which LZ4 begins to look for the better of two matches: several times slower than the fast one, and still
/// faster than boards of one bus take.
const WELL: u32 = 3;

/// Packs bytes, fast. Raw bytes are copied.
///
/// # Errors
/// When the compressor fails, which it does not for want of anything but memory.
pub fn pack(form: Form, bytes: &[u8]) -> io::Result<Vec<u8>> {
    pack_at(form, bytes, FAST)
}

fn pack_at(form: Form, bytes: &[u8], level: u32) -> io::Result<Vec<u8>> {
    match form {
        Form::Raw => Ok(bytes.to_vec()),
        Form::Lz4 => lz4_frame(bytes, level),
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

/// A piece must become so much smaller to be worth packing.
const WORTH: f64 = 0.98;
/// How much of a piece is packed to see how well it packs.
const SAMPLE: usize = 128 << 10;

/// A piece in a form.
type Key = (usize, Form);

#[derive(Debug)]
enum Slot {
    Busy,
    /// Its bytes, and when they were last asked for.
    Ready(Arc<Vec<u8>>, u64),
    /// It hardly becomes smaller.
    Poor,
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<Key, Slot>,
    bytes: usize,
    /// Counts what is asked for.
    clock: u64,
}

impl State {
    /// Keeps a packed piece, and of all of them no more than `most` bytes: those go that were not asked for the longest.
    /// A board that is far behind others finds what it has just had packed, too.
    fn keep(&mut self, key: Key, packed: Arc<Vec<u8>>, most: usize) {
        self.clock += 1;
        self.bytes += packed.len();
        self.slots.insert(key, Slot::Ready(packed, self.clock));
        while self.bytes > most {
            let kept = self.slots.iter().filter_map(|(key, slot)| match slot {
                Slot::Ready(packed, asked) => Some((*asked, *key, packed.len())),
                Slot::Busy | Slot::Poor => None,
            });
            let Some((_, key, len)) = kept.min_by_key(|(asked, ..)| *asked) else { return };
            self.slots.remove(&key);
            self.bytes -= len;
        }
    }

    /// A packed piece, if it is kept.
    fn kept(&mut self, key: Key) -> Option<Arc<Vec<u8>>> {
        let Some(Slot::Ready(packed, asked)) = self.slots.get_mut(&key) else { return None };
        self.clock += 1;
        *asked = self.clock;
        Some(Arc::clone(packed))
    }
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
            // What somebody else is at is not waited for.
            if self.begin(index, form) {
                // A source that runs dry is told to the board that asks.
                let _ = self.finish(index, form, WELL);
            }
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

    /// A piece in a packed form, after waiting for it or packing it here; `None` if it hardly becomes smaller.
    pub(crate) fn get(&self, index: usize, form: Form) -> Result<Option<Arc<Vec<u8>>>, Dry> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(packed) = state.kept((index, form)) {
                return Ok(Some(packed));
            }
            match state.slots.get(&(index, form)) {
                Some(Slot::Poor) => return Ok(None),
                Some(Slot::Busy) => state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Slot::Ready(..)) | None => break,
            }
        }
        state.slots.insert((index, form), Slot::Busy);
        drop(state);
        self.finish(index, form, FAST)
    }

    /// Takes a piece on; `false` if somebody has.
    fn begin(&self, index: usize, form: Form) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.slots.contains_key(&(index, form)) {
            return false;
        }
        state.slots.insert((index, form), Slot::Busy);
        true
    }

    /// Packs a piece that was taken on.
    fn finish(&self, index: usize, form: Form, level: u32) -> Result<Option<Arc<Vec<u8>>>, Dry> {
        let busy = Busy { packer: self, key: (index, form) };
        let packed = self.make(index, form, level);
        std::mem::forget(busy);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &packed {
            Ok(Some(packed)) => {
                state.keep((index, form), Arc::clone(packed), self.keep);
            }
            Ok(None) => {
                state.slots.insert((index, form), Slot::Poor);
            }
            Err(_) => {
                state.slots.remove(&(index, form));
            }
        }
        drop(state);
        self.ready.notify_all();
        packed
    }

    /// What a pack file has of a piece.
    fn entry(&self, index: usize) -> Option<&'a Entry> {
        let piece = self.feed.pieces().get(index)?;
        self.feed.pack()?.entry(piece.extent).filter(|_| piece.kind == Kind::Data)
    }

    fn make(&self, index: usize, form: Form, level: u32) -> Result<Option<Arc<Vec<u8>>>, Dry> {
        if let Some((pack, entry)) = self.feed.pack().zip(self.entry(index)).filter(|_| form == Form::Lz4) {
            if let Some(frame) = pack.frame(entry).map_err(|error| Dry::Failed(Arc::new(error.into())))? {
                return Ok(Some(Arc::new(frame)));
            }
            if matches!(entry.stored, Stored::Raw { .. }) {
                return Ok(None);
            }
        }
        let packed = self.with_bytes(index, |bytes| (bytes.len(), pack_at(form, bytes, level)))?;
        let (len, packed) = packed;
        let mut packed = packed.map_err(|source| Dry::Failed(Arc::new(FlashError::Pack { source })))?;
        if !is_worth(len, packed.len()) {
            return Ok(None);
        }
        packed.shrink_to_fit();
        Ok(Some(Arc::new(packed)))
    }

    fn with_bytes<T>(&self, index: usize, look: impl FnOnce(&[u8]) -> T) -> Result<T, Dry> {
        let buffer = self.feed.bytes(index)?;
        let len = self.feed.pieces().get(index).map_or(0, |piece| piece.extent.len());
        Ok(look(usize::try_from(len).ok().and_then(|len| buffer.get(..len)).unwrap_or_default()))
    }

    /// Bytes of a piece, or of some of it, and how many of them are left when they are packed.
    pub(crate) fn sample(&self, index: usize, form: Form) -> Result<(usize, usize), Dry> {
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let len = self.feed.pieces().get(index).map_or(0, |piece| piece.extent.len());
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            match self.entry(index).map(|entry| entry.stored) {
                Some(Stored::Lz4 { len: packed, .. }) if form == Form::Lz4 => {
                    return Ok((len, usize::try_from(packed).unwrap_or(len)));
                }
                Some(Stored::Raw { .. }) => return Ok((len, len)),
                _ => {}
            }
            match state.slots.get(&(index, form)) {
                Some(Slot::Ready(packed, _)) => return Ok((len, packed.len())),
                Some(Slot::Poor) => return Ok((len, len)),
                _ => {}
            }
        }
        let (len, packed) = self.with_bytes(index, |bytes| {
            let from = bytes.len().saturating_sub(SAMPLE) / 2;
            let part = bytes.get(from..bytes.len().min(from + SAMPLE)).unwrap_or_default();
            (part.len(), pack(form, part))
        })?;
        let packed = packed.map_err(|source| Dry::Failed(Arc::new(FlashError::Pack { source })))?;
        Ok((len, packed.len()))
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

/// Does packing to so many bytes gain enough?
fn is_worth(len: usize, packed: usize) -> bool {
    #[expect(clippy::as_conversions, reason = "there is no other way from usize to f64")]
    let (len, packed) = (len as f64, packed as f64);
    packed < len * WORTH
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
    fn what_was_not_asked_for_the_longest_goes_first() {
        let mut state = State::default();
        let piece = || Arc::new(vec![0; 100]);
        state.slots.insert((0, Form::Lz4), Slot::Busy);
        state.slots.insert((1, Form::Lz4), Slot::Poor);
        for index in [8, 9, 7] {
            state.keep((index, Form::Lz4), piece(), 300);
        }
        assert!(state.kept((8, Form::Lz4)).is_some());
        // A board far behind has an early piece packed: it is still there when the next board comes to it.
        state.keep((2, Form::Lz4), piece(), 300);
        assert!(state.kept((2, Form::Lz4)).is_some() && state.kept((9, Form::Lz4)).is_none());
        state.keep((3, Form::Lz4), piece(), 300);
        let there: Vec<usize> = (0..10).filter(|index| state.kept((*index, Form::Lz4)).is_some()).collect();
        assert_eq!((there, state.bytes), (vec![2, 3, 8], 300));
        // One that is longer than all that is kept stays with who has it alone.
        state.keep((4, Form::Lz4), Arc::new(vec![0; 301]), 300);
        assert_eq!((state.bytes, state.slots.len()), (0, 2));
    }

    #[test]
    fn a_member_is_whole() {
        let packed = pack(Form::Gzip, &[9; 100_000]).unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == [9; 100_000]);
    }
}
