//! What the usual tools pack comes out right: files kept beside this test, their origin in the README there.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping")]

mod common;

use std::path::Path;

use bmap::{Algorithm, Hasher};
use common::{SOURCES, Source, open, range, read_all, read_ranges};
use image::Options;

/// Each file and the length that is known before decoding.
const FILES: &[(&str, Option<u64>)] = &[
    ("gzip.gz", None),
    ("gzip-members.gz", None),
    ("pigz.gz", None),
    ("pigz-independent.gz", None),
    ("zstd.zst", Some(LEN)),
    ("zstd-frames.zst", None),
    ("zstd-long.zst", Some(LEN)),
    ("pzstd.zst", None),
    ("xz.xz", Some(LEN)),
    ("xz-blocks.xz", Some(LEN)),
    ("xz-streams.xz", Some(LEN)),
    ("xz-unchecked.xz", Some(LEN)),
    ("bzip2.bz2", None),
    ("bzip2-small-blocks.bz2", None),
    ("pbzip2.bz2", None),
];

const LEN: u64 = 285_107;
const SHA256: &str = "e156de0f4c4c30b6bc2366e65f75d2500c2547f4c79e923ece2c40cf5bab5f47";

#[test]
fn files_made_by_the_tools() {
    for &(name, size) in FILES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/packed").join(name);
        let packed = std::fs::read(path).unwrap();
        for source in SOURCES {
            let image = || open(&packed, source, &Options::default()).unwrap();
            assert_eq!(image().size(), size.filter(|_| source == Source::File), "{name}");
            let all = read_all(image()).unwrap();
            assert_eq!(Hasher::digest(Algorithm::Sha256, &all).to_string(), SHA256, "{name} {source:?}");
            let ranges = [range(4000, 6000), range(99_990, 100_010), range(LEN - 7, LEN)];
            let parts = read_ranges(image(), &ranges, all.len()).unwrap();
            assert_eq!(parts, [&all[4000..6000], &all[99_990..100_010], b"the end"], "{name} {source:?}");
        }
    }
}
