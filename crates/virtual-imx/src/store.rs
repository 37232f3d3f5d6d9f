//! Bytes by address: in memory, in pages, where what was never written costs nothing and neither does a page of one
//! value; or in a file, where what was never written is a hole.
//!
//! Used for memory and for cards. Bounds are this module's; blocks, areas and errors of cards are [`crate::emmc`]'s.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;

/// Bytes in a page: large enough that finding pages costs little beside copying them.
pub const PAGE_BYTES: usize = 64 << 10;
const PAGE: u64 = 64 << 10;

enum Page {
    Constant(u8),
    Bytes(Box<[u8]>),
}

enum Backing {
    Memory(BTreeMap<u64, Page>),
    File(File),
}

/// Bytes from address 0 up to a length, all of one value at first.
pub struct Store {
    backing: Backing,
    fill: u8,
    len: u64,
}

/// Why bytes cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An address outside.
    #[error("{len} bytes at {at:#x} are not within {end:#x}")]
    OutOfRange {
        /// The first byte asked for.
        at: u64,
        /// How many.
        len: u64,
        /// Where the store ends.
        end: u64,
    },
    /// The file fails.
    #[error("the file behind it: {0}")]
    File(io::ErrorKind),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::File(error.kind())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("len", &self.len).field("pages", &self.pages_held()).finish_non_exhaustive()
    }
}

/// Length as `u64`; no target of ours has a wider `usize`.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// One page's part of a transfer.
struct Part {
    page: u64,
    within: Range<usize>,
    bytes: Range<usize>,
}

/// Cuts `len` bytes at `at` where pages end. Both were checked before.
fn parts(at: u64, len: usize) -> impl Iterator<Item = Part> {
    let (mut at, mut done) = (at, 0usize);
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let from = usize::try_from(at % PAGE).unwrap_or(0);
        let n = (PAGE_BYTES - from).min(len - done);
        let part = Part { page: at / PAGE, within: from..from + n, bytes: done..done + n };
        at = at.saturating_add(wide(n));
        done += n;
        Some(part)
    })
}

fn constant(bytes: &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    // Each byte is the one before: a comparison of memory, which is fast.
    (rest == &bytes[..rest.len()]).then_some(*first)
}

impl Store {
    /// `len` bytes of value `fill`.
    pub fn new(len: u64, fill: u8) -> Self {
        Self { backing: Backing::Memory(BTreeMap::new()), fill, len }
    }

    /// `len` bytes kept in a file, which is cut or extended to that length; `fill` is what clearing writes.
    ///
    /// # Errors
    /// What the system says.
    pub fn on_file(file: File, len: u64, fill: u8) -> io::Result<Self> {
        file.set_len(len)?;
        Ok(Self { backing: Backing::File(file), fill, len })
    }

    /// Where it ends, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Does it hold nothing at all?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages that hold something other than one value: what this costs in memory.
    pub fn pages_held(&self) -> usize {
        match &self.backing {
            Backing::Memory(pages) => pages.values().filter(|page| matches!(page, Page::Bytes(_))).count(),
            Backing::File(_) => 0,
        }
    }

    /// Where pages hold something else than what nothing was ever written to holds, and what: whole pages, in order.
    /// Of a file: all of it.
    pub fn written(&self) -> impl Iterator<Item = Range<u64>> {
        let (pages, all) = match &self.backing {
            Backing::Memory(pages) => (Some(pages.keys()), None),
            Backing::File(_) => (None, Some(0..self.len)),
        };
        let len = self.len;
        pages.into_iter().flatten().map(move |page| page * PAGE..((page + 1) * PAGE).min(len)).chain(all)
    }

    /// Are these bytes within?
    pub fn check(&self, at: u64, len: u64) -> Result<(), StoreError> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(StoreError::OutOfRange { at, len, end: self.len }),
        }
    }

    /// Copies bytes out.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.check(at, wide(into.len()))?;
        let pages = match &self.backing {
            Backing::Memory(pages) => pages,
            Backing::File(file) => return Ok(at_place::read(file, at, into)?),
        };
        for part in parts(at, into.len()) {
            let out = &mut into[part.bytes];
            match pages.get(&part.page) {
                None => out.fill(self.fill),
                Some(Page::Constant(value)) => out.fill(*value),
                Some(Page::Bytes(bytes)) => out.copy_from_slice(&bytes[part.within]),
            }
        }
        Ok(())
    }

    /// Calls `each` with the bytes, part by part, without copying them where that can be.
    pub fn look(&self, at: u64, len: u64, each: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        self.check(at, len)?;
        let mut buffer = Vec::new();
        let (mut at, mut left) = (at, len);
        while left > 0 {
            let within = usize::try_from(at % PAGE).unwrap_or(0);
            let n = (PAGE_BYTES - within).min(usize::try_from(left).unwrap_or(PAGE_BYTES));
            match &self.backing {
                Backing::Memory(pages) => match pages.get(&(at / PAGE)) {
                    Some(Page::Bytes(bytes)) => each(&bytes[within..within + n]),
                    page => {
                        let value = if let Some(Page::Constant(value)) = page { *value } else { self.fill };
                        buffer.clear();
                        buffer.resize(n, value);
                        each(&buffer);
                    }
                },
                Backing::File(_) => {
                    buffer.resize(n, 0);
                    self.read(at, &mut buffer)?;
                    each(&buffer);
                }
            }
            at = at.saturating_add(wide(n));
            left -= wide(n);
        }
        Ok(())
    }

    /// Copies bytes in.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.check(at, wide(bytes.len()))?;
        let pages = match &mut self.backing {
            Backing::Memory(pages) => pages,
            Backing::File(file) => return Ok(at_place::write(file, at, bytes)?),
        };
        for part in parts(at, bytes.len()) {
            let from = &bytes[part.bytes];
            if from.len() == PAGE_BYTES {
                match constant(from) {
                    Some(value) if value == self.fill => drop(pages.remove(&part.page)),
                    Some(value) => drop(pages.insert(part.page, Page::Constant(value))),
                    None => match pages.get_mut(&part.page) {
                        Some(Page::Bytes(held)) => held.copy_from_slice(from),
                        _ => drop(pages.insert(part.page, Page::Bytes(from.into()))),
                    },
                }
                continue;
            }
            let page = pages.entry(part.page).or_insert(Page::Constant(self.fill));
            if let Page::Constant(value) = *page {
                *page = Page::Bytes(vec![value; PAGE_BYTES].into_boxed_slice());
            }
            if let Page::Bytes(held) = page {
                held[part.within].copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Sets `len` bytes to one value.
    pub fn set(&mut self, at: u64, len: u64, value: u8) -> Result<(), StoreError> {
        self.check(at, len)?;
        let end = at.saturating_add(len);
        let whole = at.div_ceil(PAGE)..end / PAGE;
        if whole.start >= whole.end {
            let n = usize::try_from(len).unwrap_or(0);
            return self.write(at, &vec![value; n]);
        }
        let head = usize::try_from(whole.start * PAGE - at).unwrap_or(0);
        self.write(at, &vec![value; head])?;
        let tail = usize::try_from(end - whole.end * PAGE).unwrap_or(0);
        self.write(whole.end * PAGE, &vec![value; tail])?;
        match &mut self.backing {
            Backing::Memory(pages) if value == self.fill => {
                let mut later = pages.split_off(&whole.start);
                pages.append(&mut later.split_off(&whole.end));
            }
            Backing::Memory(pages) => pages.extend(whole.map(|page| (page, Page::Constant(value)))),
            Backing::File(file) => at_place::fill(file, whole.start * PAGE..whole.end * PAGE, value)?,
        }
        Ok(())
    }
}

/// Reading and writing a file at a place.
mod at_place {
    use std::fs::File;
    use std::io;
    use std::ops::Range;

    #[cfg(unix)]
    pub(super) fn read(file: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, into, at)
    }

    #[cfg(unix)]
    pub(super) fn write(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
    }

    #[cfg(not(unix))]
    pub(super) fn read(mut file: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
        io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
        io::Read::read_exact(&mut file, into)
    }

    #[cfg(not(unix))]
    pub(super) fn write(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
        io::Write::write_all(&mut file, bytes)
    }

    /// Sets bytes to one value; zeros become a hole where the system can do that.
    pub(super) fn fill(file: &File, bytes: Range<u64>, value: u8) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if value == 0 && punch(file, &bytes) {
            return Ok(());
        }
        let piece = vec![value; super::PAGE_BYTES];
        let mut at = bytes.start;
        while at < bytes.end {
            let n = usize::try_from(bytes.end - at).unwrap_or(piece.len()).min(piece.len());
            write(file, at, &piece[..n])?;
            at += super::wide(n);
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn punch(file: &File, bytes: &Range<u64>) -> bool {
        use nix::fcntl::{FallocateFlags, fallocate};
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match (i64::try_from(bytes.start), i64::try_from(bytes.end - bytes.start)) {
            (Ok(at), Ok(len)) => fallocate(file, mode, at, len).is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_hold_even_at_the_end_of_numbers() {
        let mut store = Store::new(100, 0);
        assert!(store.write(96, &[1; 4]).is_ok());
        assert!(store.write(97, &[1; 4]).is_err());
        assert!(store.read(u64::MAX, &mut [0; 4]).is_err());
        assert!(store.set(1, u64::MAX, 0).is_err());
        assert!(store.read(100, &mut []).is_ok());
    }

    #[test]
    fn a_terabyte_costs_nothing_until_written() {
        let mut store = Store::new(1 << 40, 0xff);
        store.set(0, 1 << 40, 0xff).unwrap();
        store.write((1 << 40) - 3, &[1, 2, 3]).unwrap();
        assert_eq!(store.pages_held(), 1);
        store.set(1 << 39, 1 << 39, 0xff).unwrap();
        assert_eq!(store.pages_held(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_an_array(ops in prop::collection::vec((0u64..400_000, 0usize..200_000, any::<u8>(), any::<bool>()), 0..12)) {
            const LEN: usize = 400_000;
            let mut model = vec![0xff_u8; LEN];
            let mut store = Store::new(wide(LEN), 0xff);
            let file = tempfile::tempfile().unwrap();
            let mut on_file = Store::on_file(file, wide(LEN), 0).unwrap();
            on_file.set(0, wide(LEN), 0xff).unwrap();
            for (at, len, value, constant) in ops {
                let from = usize::try_from(at).unwrap();
                let fits = from + len <= LEN;
                let bytes: Vec<u8> = (0..len).map(|n| if constant { value } else { value ^ u8::try_from(n % 256).unwrap() }).collect();
                let done = if constant { store.set(at, wide(len), value) } else { store.write(at, &bytes) };
                prop_assert_eq!(done.is_ok(), fits);
                let same = if constant { on_file.set(at, wide(len), value) } else { on_file.write(at, &bytes) };
                prop_assert_eq!(same, done);
                if fits {
                    model[from..from + len].copy_from_slice(&bytes);
                }
            }
            let mut read = vec![0; LEN];
            store.read(0, &mut read).unwrap();
            prop_assert!(read == model);
            for store in [&store, &on_file] {
                let mut looked: Vec<u8> = Vec::new();
                store.look(1, wide(LEN) - 1, &mut |bytes| looked.extend(bytes)).unwrap();
                prop_assert!(looked == model[1..]);
            }
            // What was written, and nothing else, differs from the fill.
            let mut rest = vec![0xff; LEN];
            for range in store.written() {
                let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                rest[range.clone()].copy_from_slice(&model[range]);
            }
            prop_assert!(rest == model);
        }
    }
}
