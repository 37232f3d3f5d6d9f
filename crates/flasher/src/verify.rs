//! Comparing what a medium holds with a map's digests, or with an image byte by byte. Nothing is written.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use bmap::{BlockMap, ByteRange};
use image::Image;
use image::buffer::AlignedBuffer;

use crate::cancel::Cancel;
use crate::copy::{CopyOptions, Job, copy};
use crate::error::FlashError;
use crate::event::{Event, Observer, Stage};
use crate::plan::{HolePolicy, Plan};
use crate::prepare::{PlanOptions, prepare};
use crate::ranges;
use crate::target::medium::Medium;
use crate::target::{Geometry, Target, TargetError, Zeroed};

/// What was compared, and found equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Bytes compared.
    pub bytes: u64,
    /// Bytes in mapped ranges that carry no digest and were not compared.
    pub without_digest: u64,
}

/// Compares the medium with the digests of `map`.
///
/// # Errors
/// [`FlashError::Differs`] names every range that differs; [`FlashError::TooSmall`] when the medium ends before the image;
/// [`FlashError::NoDigests`] when there is nothing to compare with.
pub fn verify(
    map: &BlockMap,
    medium: &Medium,
    threads: NonZeroUsize,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Compared, FlashError> {
    fits(medium, map.image_size())?;
    let wanted: Vec<_> = map.mapped().filter_map(|(bytes, digest)| Some((bytes, digest?))).collect();
    if wanted.is_empty() && map.mapped_blocks() > 0 {
        return Err(FlashError::NoDigests);
    }
    let ranges: Vec<_> = wanted.iter().map(|(bytes, digest)| (*bytes, digest.algorithm())).collect();
    let read = |at, into: &mut [u8]| Ok(medium.read_back(at, into)?);
    let found = ranges::digests(&ranges, &read, ranges::MEDIUM_CHUNK, threads, observer, cancel)?;
    let differing: Vec<ByteRange> = wanted
        .iter()
        .zip(found)
        .filter(|((_, expected), found)| expected != found)
        .map(|((bytes, _), _)| *bytes)
        .collect();
    if !differing.is_empty() {
        return Err(FlashError::Differs { target: medium.name().to_owned(), ranges: differing });
    }
    let bytes = ranges.iter().map(|(bytes, _)| bytes.len()).sum();
    Ok(Compared { bytes, without_digest: map.mapped_bytes().saturating_sub(bytes) })
}

/// Compares the medium with an image: what `map` names or, without a map, every byte. The map's digests are checked on
/// the image too.
///
/// # Errors
/// As [`verify`], and whatever is wrong with the image.
pub fn verify_image(
    mut image: Image,
    map: Option<&BlockMap>,
    medium: &Medium,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Compared, FlashError> {
    if let Some(size) = map.map(BlockMap::image_size).or(image.size()) {
        fits(medium, size)?;
    }
    let compare = Compare { medium, differing: Mutex::default(), bytes: Mutex::default() };
    let options = PlanOptions { holes: HolePolicy::Leave, keep_head: true, ..PlanOptions::default() };
    let plan = prepare(&mut image, map, &compare, &options, observer)?;
    // To the user this is one stage of comparing.
    let as_hashing = |event: &Event| match event {
        Event::Stage { stage: Stage::Write, total } => {
            observer.event(&Event::Stage { stage: Stage::Hash, total: *total });
        }
        Event::Progress { stage: Stage::Write, done, position } => {
            observer.event(&Event::Progress { stage: Stage::Hash, done: *done, position: *position });
        }
        Event::Stage { .. } | Event::Progress { .. } => {}
        other => observer.event(other),
    };
    let job = Job {
        image,
        reopen: None,
        map,
        plan: &plan,
        target: &compare,
        options: CopyOptions { prove: false, ..CopyOptions::default() },
        observer: &as_hashing,
        cancel,
    };
    copy(job).map_err(|failure| *failure.error)?;
    let mut ranges = compare.differing.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !ranges.is_empty() {
        ranges.sort_unstable();
        return Err(FlashError::Differs { target: medium.name().to_owned(), ranges });
    }
    let bytes = compare.bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Compared { bytes, without_digest: 0 })
}

fn fits(medium: &Medium, image: u64) -> Result<(), FlashError> {
    if medium.size() < image {
        let target = medium.name().to_owned();
        return Err(FlashError::TooSmall { target, image, capacity: medium.size() });
    }
    Ok(())
}

/// A target that compares where others write.
#[derive(Debug)]
struct Compare<'a> {
    medium: &'a Medium,
    differing: Mutex<Vec<ByteRange>>,
    bytes: Mutex<u64>,
}

impl Target for Compare<'_> {
    fn name(&self) -> String {
        self.medium.name().to_owned()
    }

    fn geometry(&self) -> Geometry {
        // Without a head: order does not matter to a reader.
        Geometry {
            size: Some(self.medium.size()),
            fresh: false,
            partition: true,
            zero_granule: 1 << 20,
            readable: true,
            depth: 2,
        }
    }

    fn begin(&self, _: &Plan, _: &dyn Observer) -> Result<(), TargetError> {
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let mut held = AlignedBuffer::new(bytes.len());
        self.medium.read_back(at, &mut held)?;
        let len = u64::try_from(bytes.len()).unwrap_or(0);
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) += len;
        if *held != *bytes {
            self.differing.lock().unwrap_or_else(PoisonError::into_inner).extend(ByteRange::at(at, len));
        }
        Ok(())
    }

    fn zero(&self, _: ByteRange) -> Result<Zeroed, TargetError> {
        // So that the engine comes back with zeros to compare.
        Ok(Zeroed::Unsupported)
    }

    fn sync(&self) -> Result<(), TargetError> {
        Ok(())
    }

    fn read_back(&self, at: u64, into: &mut [u8]) -> Result<(), TargetError> {
        self.medium.read_back(at, into)
    }

    fn commit(&self, _: u64, _: &dyn Observer) -> Result<(), TargetError> {
        Ok(())
    }
}
