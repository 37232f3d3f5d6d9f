//! One decode feeds every board: pieces of an image in order, checked, digested, and kept for those who come later.
//!
//! ```text
//! reader ──► range digests ──► facts of each piece ──► window (memory) ──► boards
//!                                            └────► spill (file) ──────────┘ those behind the window
//! ```
//! A piece is published once its bytes were counted into its range's digest, and the last piece of a range only if
//! that digest is right; so nothing is sent that is known to be wrong. The reader runs ahead of the fastest board by a
//! bounded number of bytes. A board that is slower than that reads from the image itself where that is cheap (a raw
//! file), otherwise from a spill file; where there is neither, there is one board alone and the reader waits for it.
//!
//! Of a pack file everything is known from the start: nothing is read ahead, and boards read what they send.
//!
//! Left out: what becomes of the pieces.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bmap::{Algorithm, BlockMap, ByteRange, Digest, Hasher};
use image::buffer::{AlignedBuffer, BufferPool};
use image::{Image, ImageError, ImageReader, Wanted};

use super::fill::{self, Fill};
use super::packfile::Pack;
use super::zeros::zero_sums;
use crate::cancel::Cancel;
use crate::copy::Reopen;
use crate::error::{FlashError, RangeMismatch};
use crate::plan::{Kind, Phase, Piece, Plan};

/// How long a wait lasts before the flags are looked at again.
const LOOK: Duration = Duration::from_millis(100);
/// How far the reader skips before it looks at the flags again.
const SKIP_STEP: u64 = 64 << 20;

/// What is known of a piece once it has been read.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// CRC-32 (zlib's) of its bytes.
    pub(crate) crc32: u32,
    /// SHA-256 of its bytes.
    pub(crate) sha256: Digest,
    /// Long runs of one word in it, ascending; they need not travel.
    pub(crate) fills: Vec<Fill>,
}

/// Where a piece comes from when it is not in the window any more.
pub(crate) enum Backing<'a> {
    /// The image is a raw file.
    File(File),
    /// What was read is kept here.
    Spill(File),
    /// Nowhere but by decoding again; only for one board, for which the reader waits.
    Again(Option<Reopen<'a>>),
    /// The image is a pack file: nothing has to be read before a piece is needed.
    Pack(&'a Pack),
}

#[derive(Debug, Default)]
struct State {
    window: BTreeMap<usize, Arc<AlignedBuffer>>,
    bytes: u64,
    /// Pieces of the head stay for good: they are written last.
    head: BTreeMap<usize, Arc<AlignedBuffer>>,
    published: usize,
    /// How far each board has come, by number.
    cursors: BTreeMap<usize, usize>,
    /// Pieces in front of this one are waited for: they are read however full the window is.
    asked: usize,
    failed: Option<Arc<FlashError>>,
    ended: bool,
    stopped: bool,
}

/// See the module's description.
pub(crate) struct Feed<'a> {
    plan: &'a Plan,
    pieces: Vec<Piece>,
    facts: Vec<OnceLock<Facts>>,
    state: Mutex<State>,
    moved: Condvar,
    backing: Backing<'a>,
    ahead: u64,
    /// Pieces that may be in use besides those in the window.
    spare: usize,
    cancel: &'a Cancel,
}

impl std::fmt::Debug for Feed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

/// Why no piece came.
#[derive(Debug, Clone)]
pub(crate) enum Dry {
    /// The source failed.
    Failed(Arc<FlashError>),
    /// Somebody asked the job to stop.
    Cancelled,
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn narrow(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl<'a> Feed<'a> {
    /// A feed of what `plan` writes, for so many boards at once. `ahead` bounds the bytes that are kept in memory, the
    /// head's and those that boards hold aside.
    pub(crate) fn new(plan: &'a Plan, backing: Backing<'a>, ahead: u64, boards: usize, cancel: &'a Cancel) -> Self {
        let pieces: Vec<Piece> = plan.pieces().filter(|piece| piece.kind != Kind::DontCare).collect();
        let facts = pieces.iter().map(|_| OnceLock::new()).collect();
        let ahead = ahead.max(plan.piece_len().saturating_mul(2));
        Self {
            plan,
            pieces,
            facts,
            state: Mutex::default(),
            moved: Condvar::new(),
            backing,
            ahead,
            spare: boards.saturating_mul(3).saturating_add(4),
            cancel,
        }
    }

    /// A feed of a pack file: all is known from the start, and pieces are read when they are needed.
    ///
    /// # Errors
    /// [`FlashError::PlanOfAnother`].
    pub(crate) fn of_pack(plan: &'a Plan, pack: &'a Pack, cancel: &'a Cancel) -> Result<Self, FlashError> {
        if !pack.fits(plan) {
            return Err(FlashError::PlanOfAnother { name: pack.name().to_owned() });
        }
        let feed = Self::new(plan, Backing::Pack(pack), 0, 0, cancel);
        let mut zeros = Zeros::default();
        for (piece, slot) in feed.pieces.iter().zip(&feed.facts) {
            let facts = match (piece.kind, pack.entry(piece.extent)) {
                (Kind::Data, Some(entry)) => {
                    Facts { crc32: entry.crc32, sha256: entry.sha256, fills: entry.fills.clone() }
                }
                // Part of a piece, beside what boards keep.
                (Kind::Data, None) => {
                    let mut bytes = vec![0; narrow(piece.extent.len())];
                    pack.bytes(piece.extent, &mut bytes)?;
                    facts_of(piece, &bytes)
                }
                _ => zeros.facts(piece),
            };
            let _ = slot.set(facts);
        }
        {
            let mut state = feed.lock();
            state.published = feed.pieces.len();
            state.ended = true;
        }
        Ok(feed)
    }

    /// The pack file, if the feed is of one.
    pub(crate) fn pack(&self) -> Option<&'a Pack> {
        match &self.backing {
            Backing::Pack(pack) => Some(pack),
            _ => None,
        }
    }

    /// What failed, once nobody else holds it.
    pub(crate) fn into_failure(self) -> Option<FlashError> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).failed.and_then(Arc::into_inner)
    }

    /// Everything that is written, in image order: the head's pieces and the body's.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &'a Plan {
        self.plan
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all waiting: nobody needs pieces any more.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.moved.notify_all();
    }

    /// The source failed, by an error that came before it could be read.
    pub(crate) fn fail(&self, error: FlashError) {
        let mut state = self.lock();
        state.failed.get_or_insert(Arc::new(error));
        drop(state);
        self.cancel.halt(true);
        self.moved.notify_all();
    }

    /// Reads the whole image; returns when it is read, has failed, or is wanted no more.
    pub(crate) fn run(&self, image: Image, map: Option<&BlockMap>) {
        // A reader that panics must not leave everybody waiting.
        let alarm = Alarm(self);
        let result = image.read(self.wanted()).map_err(FlashError::from).and_then(|reader| self.read(reader, map));
        std::mem::forget(alarm);
        match result {
            Ok(ended) => {
                self.lock().ended = ended;
                self.moved.notify_all();
            }
            Err(error) => self.fail(error),
        }
    }

    /// What a reader should be asked for.
    fn wanted(&self) -> Wanted {
        Wanted::Ranges(self.plan.data().collect())
    }

    fn stopping(&self) -> bool {
        self.cancel.is_cancelled() || self.lock().stopped
    }

    fn read(&self, mut reader: Box<dyn ImageReader>, map: Option<&BlockMap>) -> Result<bool, FlashError> {
        let map = map.filter(|map| map.algorithm().is_some());
        let piece_len = self.plan.piece_len();
        // Those in the window, those that boards hold, and the one being filled.
        let count = narrow(self.ahead / piece_len).saturating_add(self.spare);
        let pool = BufferPool::new(count, narrow(piece_len));
        let mut ranges = Ranges { map, current: None };
        let mut zeros = Zeros::default();
        for (index, piece) in self.pieces.iter().enumerate() {
            let facts = match piece.kind {
                Kind::Data => {
                    let Some(mut buffer) = self.buffer(index, piece, &pool) else { return Ok(false) };
                    if !self.skip_to(&mut *reader, piece.extent.start())? {
                        return Ok(false);
                    }
                    let len = narrow(piece.extent.len());
                    let bytes = buffer.get_mut(..len).unwrap_or_default();
                    reader.read_exact(bytes)?;
                    let facts = self.look_at(piece, bytes, &mut ranges)?;
                    self.spill(piece, bytes)?;
                    self.keep(index, piece, buffer);
                    facts
                }
                _ => zeros.facts(piece),
            };
            let _ = self.facts.get(index).map(|slot| slot.set(facts));
            self.lock().published = index + 1;
            self.moved.notify_all();
        }
        // To the very end, so that every check has been made and a length that is wrong is known before the head.
        let Some(size) = self.plan.image_size() else { return Ok(true) };
        if !self.skip_to(&mut *reader, size)? {
            return Ok(false);
        }
        if reader.read(&mut [0])? > 0 {
            return Err(FlashError::LongerThanMap { map: size });
        }
        reader.finish()?;
        Ok(true)
    }

    /// Waits until there is room for another piece; `None` when nobody wants it any more.
    fn buffer(&self, index: usize, piece: &Piece, pool: &BufferPool) -> Option<AlignedBuffer> {
        if piece.phase == Phase::Head {
            return Some(AlignedBuffer::new(narrow(piece.extent.len())));
        }
        let len = narrow(piece.extent.len());
        let mut state = self.lock();
        loop {
            if state.stopped || self.cancel.is_cancelled() {
                return None;
            }
            // The fastest board sets the pace; before there is one, read on until the window is full. What a board waits
            // for comes in any case: it may hold back more than was thought of here, and would wait for ever.
            let front = state.cursors.values().max().copied().unwrap_or(0);
            let asked = index < state.asked;
            let behind = state.window.range(front..).map(|(_, bytes)| wide(bytes.len())).sum::<u64>();
            if asked || behind.saturating_add(piece.extent.len()) <= self.ahead || index <= front {
                self.make_room(&mut state, piece.extent.len(), if asked { index } else { front });
                if asked || state.bytes.saturating_add(piece.extent.len()) <= self.ahead || !self.must_wait() {
                    let pooled =
                        if self.fills_a_buffer(piece) { pool.try_take() } else { Some(AlignedBuffer::new(len)) };
                    match pooled {
                        Some(buffer) => return Some(buffer),
                        None if asked => return Some(AlignedBuffer::new(len)),
                        None => {}
                    }
                }
            }
            state = self.moved.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Is a piece about as long as the longest? Ranges that are shorter must not fill the window with empty space.
    fn fills_a_buffer(&self, piece: &Piece) -> bool {
        piece.extent.len() > self.plan.piece_len() / 8 * 7
    }

    /// What a piece takes of the window, its buffer's edges included.
    pub(crate) fn weight(&self, index: usize) -> u64 {
        let Some(piece) = self.pieces.get(index) else { return 0 };
        if self.fills_a_buffer(piece) { self.plan.piece_len() } else { piece.extent.len().saturating_add(4096) }
    }

    /// Is the window the only place where pieces are?
    pub(crate) fn must_wait(&self) -> bool {
        matches!(self.backing, Backing::Again(_))
    }

    /// Drops from the window what can be had elsewhere, oldest first.
    fn make_room(&self, state: &mut State, len: u64, front: usize) {
        if self.must_wait() {
            return;
        }
        while state.bytes.saturating_add(len) > self.ahead {
            let Some((&oldest, _)) = state.window.iter().next() else { return };
            if oldest >= front {
                return;
            }
            if let Some(bytes) = state.window.remove(&oldest) {
                state.bytes -= wide(bytes.len());
            }
        }
    }

    fn keep(&self, index: usize, piece: &Piece, buffer: AlignedBuffer) {
        let mut state = self.lock();
        if piece.phase == Phase::Head {
            state.head.insert(index, Arc::new(buffer));
        } else {
            state.bytes += wide(buffer.len());
            state.window.insert(index, Arc::new(buffer));
        }
    }

    fn skip_to(&self, reader: &mut dyn ImageReader, to: u64) -> Result<bool, FlashError> {
        while reader.position() < to {
            if self.stopping() {
                return Ok(false);
            }
            reader.skip_to(to.min(reader.position().saturating_add(SKIP_STEP)))?;
        }
        Ok(true)
    }

    fn look_at(&self, piece: &Piece, bytes: &[u8], ranges: &mut Ranges<'_>) -> Result<Facts, FlashError> {
        ranges.count(piece, bytes)?;
        Ok(facts_of(piece, bytes))
    }

    fn spill(&self, piece: &Piece, bytes: &[u8]) -> Result<(), FlashError> {
        let Backing::Spill(file) = &self.backing else { return Ok(()) };
        file.write_all_at(bytes, piece.extent.start()).map_err(|source| FlashError::Spill { source })
    }

    /// `board` needs no piece before `index` any more.
    pub(crate) fn reached(&self, board: usize, index: usize) {
        let mut state = self.lock();
        state.cursors.insert(board, index);
        if self.must_wait() {
            let needed = state.window.split_off(&index);
            state.window = needed;
            state.bytes = state.window.values().map(|bytes| wide(bytes.len())).sum();
        }
        drop(state);
        self.moved.notify_all();
    }

    /// This one piece is needed no more, though earlier ones may be.
    pub(crate) fn passed_over(&self, index: usize) {
        let mut state = self.lock();
        if self.must_wait()
            && let Some(bytes) = state.window.remove(&index)
        {
            state.bytes -= wide(bytes.len());
            drop(state);
            self.moved.notify_all();
        }
    }

    /// `board` is done with the feed: nobody waits for it.
    pub(crate) fn leave(&self, board: usize) {
        self.lock().cursors.remove(&board);
        self.moved.notify_all();
    }

    /// What is known of a piece, after waiting for it.
    pub(crate) fn facts(&self, index: usize) -> Result<&Facts, Dry> {
        let mut state = self.lock();
        loop {
            if let Some(facts) = self.facts.get(index).and_then(OnceLock::get) {
                return Ok(facts);
            }
            if state.asked <= index {
                state.asked = index + 1;
                self.moved.notify_all();
            }
            state = self.wait(state)?;
        }
    }

    /// Can a piece's bytes be had without decoding the image once more, now or later?
    pub(crate) fn is_at_hand(&self, index: usize) -> bool {
        let read = self.facts.get(index).is_some_and(|facts| facts.get().is_some());
        !self.must_wait() || !read || self.lock().window.contains_key(&index)
    }

    /// Waits until the whole image was read and found right.
    pub(crate) fn wait_for_end(&self) -> Result<(), Dry> {
        let mut state = self.lock();
        while !state.ended {
            state = self.wait(state)?;
        }
        Ok(())
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>) -> Result<MutexGuard<'s, State>, Dry> {
        if let Some(error) = &state.failed {
            return Err(Dry::Failed(Arc::clone(error)));
        }
        if state.stopped || self.cancel.is_cancelled() {
            return Err(Dry::Cancelled);
        }
        Ok(self.moved.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// A piece's bytes (the front of the buffer; its length is the extent's), after waiting for it.
    pub(crate) fn bytes(&self, index: usize) -> Result<Arc<AlignedBuffer>, Dry> {
        let crc32 = self.facts(index)?.crc32;
        {
            let state = self.lock();
            if let Some(bytes) = state.window.get(&index).or(state.head.get(&index)) {
                return Ok(Arc::clone(bytes));
            }
        }
        let Some(piece) = self.pieces.get(index) else { return Ok(Arc::new(AlignedBuffer::new(0))) };
        let failed = |error| Dry::Failed(Arc::new(error));
        let mut buffer = AlignedBuffer::new(narrow(piece.extent.len()));
        if piece.kind != Kind::Data {
            return Ok(Arc::new(buffer));
        }
        match &self.backing {
            Backing::File(file) | Backing::Spill(file) => {
                let read = file.read_exact_at(&mut buffer, piece.extent.start());
                read.map_err(|source| failed(FlashError::Spill { source }))?;
            }
            Backing::Again(Some(reopen)) => {
                let wanted = Wanted::Ranges(Arc::from([piece.extent]));
                let mut reader = reopen().and_then(|image| image.read(wanted)).map_err(|error| failed(error.into()))?;
                let read = reader.skip_to(piece.extent.start()).and_then(|()| reader.read_exact(&mut buffer));
                read.map_err(|error| match error {
                    ImageError::TooShort { .. } => failed(FlashError::SourceChanged { extent: piece.extent }),
                    error => failed(error.into()),
                })?;
            }
            Backing::Pack(pack) => {
                // It looks at the CRC-32 itself.
                pack.bytes(piece.extent, &mut buffer).map_err(failed)?;
                return Ok(Arc::new(buffer));
            }
            Backing::Again(None) => return Err(failed(FlashError::SourceGone { extent: piece.extent })),
        }
        if crc32fast::hash(&buffer) != crc32 {
            return Err(failed(FlashError::SourceChanged { extent: piece.extent }));
        }
        Ok(Arc::new(buffer))
    }
}

fn facts_of(piece: &Piece, bytes: &[u8]) -> Facts {
    Facts {
        crc32: crc32fast::hash(bytes),
        sha256: Hasher::digest(Algorithm::Sha256, bytes),
        fills: fill::find(piece.extent, bytes),
    }
}

/// Facts of pieces of zeros, which are mostly of one length.
#[derive(Default)]
struct Zeros(BTreeMap<u64, (u32, Digest)>);

impl Zeros {
    fn facts(&mut self, piece: &Piece) -> Facts {
        let len = piece.extent.len();
        let (crc32, sha256) = *self.0.entry(len).or_insert_with(|| zero_sums(len));
        Facts { crc32, sha256, fills: vec![Fill { extent: piece.extent, word: [0; 4] }] }
    }
}

/// Goes off when it is dropped.
struct Alarm<'f, 'a>(&'f Feed<'a>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        self.0.fail(FlashError::Panicked { thread: "reader" });
    }
}

/// The map's digests over whole ranges, in order.
struct Ranges<'m> {
    map: Option<&'m BlockMap>,
    current: Option<(usize, Hasher)>,
}

impl Ranges<'_> {
    /// Counts a piece's bytes in; at the end of its range compares.
    fn count(&mut self, piece: &Piece, bytes: &[u8]) -> Result<(), FlashError> {
        let Some((map, index)) = self.map.zip(piece.mapped) else { return Ok(()) };
        let Some(range) = map.ranges().get(index) else { return Ok(()) };
        let Some(expected) = range.digest else { return Ok(()) };
        let mut hasher = match self.current.take() {
            Some((of, hasher)) if of == index => hasher,
            _ => Hasher::new(expected.algorithm()),
        };
        hasher.update(bytes);
        let extent: ByteRange = map.bytes_of(range.blocks);
        if piece.extent.end() != extent.end() {
            self.current = Some((index, hasher));
            return Ok(());
        }
        let found = hasher.finish();
        if found == expected {
            return Ok(());
        }
        let mismatch = RangeMismatch { blocks: range.blocks, extent, expected, found };
        Err(FlashError::RangeDigest(Box::new(mismatch)))
    }
}
