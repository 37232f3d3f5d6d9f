//! What was packed comes out again: whole, in ranges, from files and from streams.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping")]

mod common;

use common::{PACKINGS, SOURCES, Source, open, range, read_all, read_ranges, sample};
use image::{ImageError, MAX_HEAD, Options, Wanted};
use proptest::prelude::*;
use std::num::NonZeroUsize;
use std::sync::LazyLock;

fn threads(count: usize) -> Options {
    Options { threads: NonZeroUsize::new(count).unwrap(), ..Options::default() }
}

#[test]
fn every_packing_gives_back_the_image() {
    for len in [0, 1, 9_999, 1_234_567] {
        let data = sample(len);
        for packing in PACKINGS {
            let packed = (packing.pack)(&data);
            for source in SOURCES {
                for options in [threads(1), threads(3)] {
                    let image = open(&packed, source, &options).unwrap();
                    // Without data some shapes are no bytes at all.
                    if !packed.is_empty() {
                        assert_eq!(image.format(), packing.format, "{} {source:?}", packing.name);
                    }
                    if let Some(size) = image.size() {
                        assert_eq!(size, u64::try_from(len).unwrap(), "{} {source:?}", packing.name);
                    }
                    assert!(read_all(image).unwrap() == data, "{} {source:?} {len}", packing.name);
                }
            }
        }
    }
}

#[test]
fn the_head_can_be_had_first_and_reading_still_begins_at_the_start() {
    let data = sample(1_500_000);
    for packing in PACKINGS {
        let packed = (packing.pack)(&data);
        for source in SOURCES {
            let mut image = open(&packed, source, &Options::default()).unwrap();
            assert_eq!(image.head(1000).unwrap(), data[..1000], "{} {source:?}", packing.name);
            assert!(image.head(usize::MAX).unwrap() == data[..MAX_HEAD], "{} {source:?}", packing.name);
            assert!(read_all(image).unwrap() == data, "{} {source:?}", packing.name);
        }
        let mut short = open(&(packing.pack)(b"short"), Source::Stream, &Options::default()).unwrap();
        assert_eq!(short.head(100).unwrap(), b"short");
        assert_eq!(read_all(short).unwrap(), b"short");
    }
}

#[test]
fn an_image_that_is_too_short_says_where_it_ends() {
    let data = sample(300_000);
    for packing in PACKINGS {
        for source in SOURCES {
            let image = || open(&(packing.pack)(&data), source, &Options::default()).unwrap();
            let too_short = |ranges: &[_], end| {
                let error = read_ranges(image(), ranges, 0).unwrap_err();
                matches!(error, ImageError::TooShort { len: 300_000, wanted, .. } if wanted == end)
            };
            assert!(too_short(&[range(5, 10), range(200_000, 300_001)], 300_001), "{} {source:?}", packing.name);
            assert!(too_short(&[range(400_000, 400_001)], 400_000), "{} {source:?}", packing.name);
            // The end itself can be reached.
            let mut reader = image().read(Wanted::Ranges([range(0, 1)].into())).unwrap();
            reader.skip_to(300_000).unwrap();
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "{} {source:?}", packing.name);
            // Neither going back nor going too far is the image's fault: the reader stays good.
            assert!(matches!(reader.skip_to(299_999), Err(ImageError::Unwanted { offset: 299_999, .. })));
            assert!(matches!(reader.skip_to(300_001), Err(ImageError::TooShort { len: 300_000, wanted: 300_001, .. })));
            assert_eq!(reader.finish().unwrap(), 300_000);
        }
    }
}

/// The image of the property below, and all its packings: made once.
static PACKED: LazyLock<(Vec<u8>, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let data = sample(600_000);
    let packed = PACKINGS.iter().map(|packing| (packing.pack)(&data)).collect();
    (data, packed)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_ranges_give_what_slicing_gives(
        cuts in proptest::collection::btree_set(0_u64..600_000, 0..12),
        threads_wanted in 1_usize..4,
    ) {
        let (data, packed) = &*PACKED;
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let ranges: Vec<_> = cuts.chunks_exact(2).map(|pair| range(pair[0], pair[1])).collect();
        for (packing, packed) in PACKINGS.iter().zip(packed) {
            for source in SOURCES {
                let image = open(packed, source, &threads(threads_wanted)).unwrap();
                let parts = read_ranges(image, &ranges, data.len()).unwrap();
                for (range, part) in ranges.iter().zip(parts) {
                    let slice = usize::try_from(range.start()).unwrap()..usize::try_from(range.end()).unwrap();
                    prop_assert!(part == data[slice], "{} {:?} {}", packing.name, source, range);
                }
            }
        }
    }
}

#[test]
fn raw_files_that_change_length_are_noticed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(10_000).unwrap();
    let open = || image::Image::open(file.path(), &Options::default()).unwrap().read(Wanted::All).unwrap();
    let mut shrinking = open();
    let mut growing = open();
    shrinking.read_exact(&mut [0; 4000]).unwrap();
    file.as_file().set_len(5000).unwrap();
    let error = shrinking.read_exact(&mut [0; 4000]).unwrap_err();
    assert!(matches!(error, ImageError::Resized { was: 10_000, now: 5000, .. }), "{error}");
    // Also when the bytes come back: they need not be those of the image.
    file.as_file().set_len(10_000).unwrap();
    assert!(matches!(shrinking.read(&mut [0; 10]), Err(ImageError::Failed { unpacked: 5000, .. })));
    assert!(matches!(shrinking.skip_to(6000), Err(ImageError::Failed { .. })));
    assert!(matches!(shrinking.finish(), Err(ImageError::Failed { .. })));
    file.as_file().set_len(10_001).unwrap();
    growing.read_exact(&mut [0; 10_000]).unwrap();
    assert!(matches!(growing.finish(), Err(ImageError::Resized { was: 10_000, now: 10_001, .. })));
    assert!(matches!(growing.finish(), Err(ImageError::Failed { .. })));
}
