//! What several tests need.

#![allow(clippy::unwrap_used, reason = "in helpers outside of tests too")]

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where the boot images lie.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A boot image of `tests/data`, unpacked.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(data().join(format!("{name}.gz"))).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}
