//! Bytes by address, kept in pages: what was never written costs nothing, and neither does a page of one value.
//!
//! Used for memory and for cards. Bounds are this module's; blocks, areas and errors of cards are [`crate::emmc`]'s.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Bytes in a page.
pub const PAGE_BYTES: usize = 4096;
const PAGE: u64 = 4096;

enum Page {
    Constant(u8),
    Bytes(Box<[u8]>),
}

/// Bytes from address 0 up to a length, all of one value at first.
pub struct Store {
    pages: BTreeMap<u64, Page>,
    fill: u8,
    len: u64,
}

/// An address outside a [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {at:#x} are not within {end:#x}")]
pub struct OutOfRange {
    /// The first byte asked for.
    pub at: u64,
    /// How many.
    pub len: u64,
    /// Where the store ends.
    pub end: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("len", &self.len).field("pages", &self.pages.len()).finish_non_exhaustive()
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
    let first = *bytes.first()?;
    bytes.iter().all(|byte| *byte == first).then_some(first)
}

impl Store {
    /// `len` bytes of value `fill`.
    pub fn new(len: u64, fill: u8) -> Self {
        Self { pages: BTreeMap::new(), fill, len }
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
        self.pages.values().filter(|page| matches!(page, Page::Bytes(_))).count()
    }

    /// Are these bytes within?
    pub fn check(&self, at: u64, len: u64) -> Result<(), OutOfRange> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(OutOfRange { at, len, end: self.len }),
        }
    }

    /// Copies bytes out.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.check(at, wide(into.len()))?;
        for part in parts(at, into.len()) {
            let out = &mut into[part.bytes];
            match self.pages.get(&part.page) {
                None => out.fill(self.fill),
                Some(Page::Constant(value)) => out.fill(*value),
                Some(Page::Bytes(bytes)) => out.copy_from_slice(&bytes[part.within]),
            }
        }
        Ok(())
    }

    /// Copies bytes in.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.check(at, wide(bytes.len()))?;
        for part in parts(at, bytes.len()) {
            let from = &bytes[part.bytes];
            if let (PAGE_BYTES, Some(value)) = (from.len(), constant(from)) {
                self.set_page(part.page, value);
                continue;
            }
            let fill = self.fill;
            let page = self.pages.entry(part.page).or_insert(Page::Constant(fill));
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
    pub fn set(&mut self, at: u64, len: u64, value: u8) -> Result<(), OutOfRange> {
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
        if value == self.fill {
            let mut later = self.pages.split_off(&whole.start);
            self.pages.append(&mut later.split_off(&whole.end));
        } else {
            for page in whole {
                self.set_page(page, value);
            }
        }
        Ok(())
    }

    fn set_page(&mut self, page: u64, value: u8) {
        if value == self.fill {
            self.pages.remove(&page);
        } else {
            self.pages.insert(page, Page::Constant(value));
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
        fn it_is_an_array(ops in prop::collection::vec((0u64..20_000, 0usize..9_000, any::<u8>(), any::<bool>()), 0..12)) {
            const LEN: usize = 20_000;
            let mut model = vec![0xff_u8; LEN];
            let mut store = Store::new(wide(LEN), 0xff);
            for (at, len, value, constant) in ops {
                let from = usize::try_from(at).unwrap();
                let fits = from + len <= LEN;
                let bytes: Vec<u8> = (0..len).map(|n| if constant { value } else { value ^ u8::try_from(n % 256).unwrap() }).collect();
                let done = if constant { store.set(at, wide(len), value) } else { store.write(at, &bytes) };
                prop_assert_eq!(done.is_ok(), fits);
                if fits {
                    model[from..from + len].copy_from_slice(&bytes);
                }
            }
            let mut read = vec![0; LEN];
            store.read(0, &mut read).unwrap();
            prop_assert!(read == model);
        }
    }
}
