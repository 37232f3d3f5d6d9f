//! Digests of many ranges, spread over the cores.
//!
//! A digest goes through a range in order, so a range is one thread's work; the longest come first, so that no thread is
//! left alone with a long one at the end.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use bmap::{Algorithm, ByteRange, Digest, Hasher};
use image::buffer::AlignedBuffer;

use crate::cancel::Cancel;
use crate::error::FlashError;
use crate::event::{Event, Observer, Stage};

/// How much is read at once: large enough for direct I/O, small enough to stay in a core's cache between reading and
/// hashing.
const CHUNK: usize = 1 << 20;

/// How much is done between two progress events.
const STEP: u64 = 16 << 20;

/// Fills a buffer from an offset; called from several threads at once.
pub(crate) type ReadAt<'a> = &'a (dyn Fn(u64, &mut [u8]) -> Result<(), FlashError> + Sync);

/// The digest of each range, in the order given, reading `chunk` bytes at once.
pub(crate) fn digests(
    ranges: &[(ByteRange, Algorithm)],
    read: ReadAt<'_>,
    chunk: usize,
    threads: NonZeroUsize,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Vec<Digest>, FlashError> {
    let total = ranges.iter().map(|(range, _)| range.len()).sum();
    observer.event(&Event::Stage { stage: Stage::Hash, total: Some(total) });
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(ranges.get(*index).map_or(0, |(range, _)| range.len())));
    let (next, done, told) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let found: Mutex<Vec<(usize, Digest)>> = Mutex::new(Vec::with_capacity(ranges.len()));
    let failed: Mutex<Option<FlashError>> = Mutex::new(None);
    let fail = |error| {
        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        next.store(usize::MAX / 2, Ordering::Relaxed);
    };
    let digest = |range: ByteRange, algorithm, buffer: &mut AlignedBuffer| {
        let mut hasher = Hasher::new(algorithm);
        let mut at = range.start();
        while at < range.end() {
            if cancel.is_cancelled() {
                return Err(FlashError::Cancelled);
            }
            let len = usize::try_from(range.end() - at).map_or(buffer.len(), |rest| rest.min(buffer.len()));
            let bytes = buffer.get_mut(..len).unwrap_or_default();
            read(at, bytes)?;
            hasher.update(bytes);
            let len = u64::try_from(len).unwrap_or(u64::MAX);
            at = at.saturating_add(len);
            let now = done.fetch_add(len, Ordering::Relaxed) + len;
            let last = told.load(Ordering::Relaxed);
            if now >= last + STEP && told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                observer.event(&Event::Progress { stage: Stage::Hash, done: now, position: 0 });
            }
        }
        Ok(hasher.finish())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.get().min(ranges.len().max(1)))
            .map(|_| {
                scope.spawn(|| {
                    let mut buffer = AlignedBuffer::new(chunk);
                    while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let Some((range, algorithm)) = ranges.get(*index) else { return };
                        match digest(*range, *algorithm, &mut buffer) {
                            Ok(digest) => {
                                found.lock().unwrap_or_else(PoisonError::into_inner).push((*index, digest));
                            }
                            Err(error) => return fail(error),
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap_or_else(|_| fail(FlashError::Panicked { thread: "hashing" }));
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    observer.event(&Event::Progress { stage: Stage::Hash, done: done.into_inner(), position: 0 });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, digest)| digest).collect())
}

/// How much to read at once from a file through the page cache.
pub(crate) const FILE_CHUNK: usize = CHUNK / 4;

/// How much to read at once from a medium directly.
pub(crate) const MEDIUM_CHUNK: usize = CHUNK * 4;
