//! Buffers that direct I/O can use, and a pool that hands them round.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What every [`AlignedBuffer`] is aligned to, in bytes: a page, and no less than any disk's logical block.
pub const ALIGNMENT: usize = 4096;

/// Bytes whose first one lies at a multiple of [`ALIGNMENT`] in memory.
///
/// A vector with some room to spare and an offset into it: no unsafe code, at the price of less than a page.
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    offset: usize,
    len: usize,
    home: Option<Arc<Shelf>>,
}

impl AlignedBuffer {
    /// `len` zero bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len.saturating_add(ALIGNMENT)];
        // `align_offset` may decline to answer by usize::MAX; then the buffer is whole but not aligned, which direct
        // I/O answers with an error. On real machines it always answers.
        let offset = match bytes.as_ptr().align_offset(ALIGNMENT) {
            offset if offset <= ALIGNMENT => offset,
            _ => 0,
        };
        Self { bytes, offset, len, home: None }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.offset..self.offset + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + self.len]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer").field("len", &self.len).field("pooled", &self.home.is_some()).finish()
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.lock().free.push((std::mem::take(&mut self.bytes), self.offset));
            home.returned.notify_one();
        }
    }
}

#[derive(Debug)]
struct Shelf {
    state: Mutex<State>,
    returned: Condvar,
    len: usize,
}

#[derive(Debug)]
struct State {
    /// Buffers at home, with the offset of their aligned part.
    free: Vec<(Vec<u8>, usize)>,
    /// How many more may still be made.
    unmade: usize,
}

impl Shelf {
    /// A poisoned lock is as good as any: pushing and popping leave no half-done state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, state: &mut State) -> Option<AlignedBuffer> {
        let home = Some(Arc::clone(self));
        if let Some((bytes, offset)) = state.free.pop() {
            return Some(AlignedBuffer { bytes, offset, len: self.len, home });
        }
        state.unmade = state.unmade.checked_sub(1)?;
        let mut buffer = AlignedBuffer::new(self.len);
        buffer.home = home;
        Some(buffer)
    }
}

/// A bounded number of equal buffers, made when first needed. A buffer comes back by being dropped, with whatever it
/// held still in it.
#[derive(Debug, Clone)]
pub struct BufferPool {
    shelf: Arc<Shelf>,
}

impl BufferPool {
    /// A pool of at most `count` buffers of `len` bytes. With a `count` of 0, [`take`](Self::take) waits for ever.
    #[must_use]
    pub fn new(count: usize, len: usize) -> Self {
        let state = Mutex::new(State { free: Vec::new(), unmade: count });
        Self { shelf: Arc::new(Shelf { state, returned: Condvar::new(), len }) }
    }

    /// Length of each buffer in bytes.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.shelf.len
    }

    /// A buffer, after waiting for one to come back if need be.
    #[must_use]
    pub fn take(&self) -> AlignedBuffer {
        let mut state = self.shelf.lock();
        loop {
            if let Some(buffer) = self.shelf.take(&mut state) {
                return buffer;
            }
            state = self.shelf.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A buffer, if one can be had at once.
    #[must_use]
    pub fn try_take(&self) -> Option<AlignedBuffer> {
        self.shelf.take(&mut self.shelf.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 511, 4096, 1 << 20] {
            let buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().align_offset(ALIGNMENT), 0);
            assert!(buffer.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_pool_is_bounded_and_recycles() {
        let pool = BufferPool::new(2, 4096);
        let mut one = pool.take();
        one[0] = 7;
        let place = one.as_ptr();
        let two = pool.take();
        assert!(pool.try_take().is_none());
        drop(one);
        let again = pool.try_take().unwrap();
        assert_eq!((again.as_ptr(), again[0]), (place, 7));
        drop((two, again));
    }

    #[test]
    fn taking_waits_for_a_buffer_to_come_home() {
        let pool = BufferPool::new(1, 16);
        let held = pool.take();
        let waiter = std::thread::spawn({
            let pool = pool.clone();
            move || pool.take().len()
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        drop(held);
        assert_eq!(waiter.join().unwrap(), 16);
    }

    #[test]
    fn a_buffer_may_outlive_its_pool() {
        let pool = BufferPool::new(1, 16);
        let held = pool.take();
        drop(pool);
        assert_eq!(held.len(), 16);
    }
}
