//! Zeros: what they sum up to, and the claim that a card holds them.

use bmap::{Algorithm, ByteRange, Hasher};

use super::check::Claim;

/// A claim that an extent holds zeros.
pub(crate) fn zero_claim(extent: ByteRange) -> Claim {
    let (crc32, sha256) = zero_sums(extent.len());
    Claim { index: usize::MAX, extent, crc32, sha256 }
}

/// CRC-32 and SHA-256 of so many zeros.
pub(crate) fn zero_sums(len: u64) -> (u32, bmap::Digest) {
    const ZEROS: [u8; 4096] = [0; 4096];
    let (mut crc32, mut sha256) = (crc32fast::Hasher::new(), Hasher::new(Algorithm::Sha256));
    let mut left = len;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
        let part = ZEROS.get(..count).unwrap_or_default();
        crc32.update(part);
        sha256.update(part);
        left -= u64::try_from(count).unwrap_or(left);
    }
    (crc32.finalize(), sha256.finish())
}
