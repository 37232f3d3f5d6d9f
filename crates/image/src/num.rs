//! Lengths between memory (`usize`) and files (`u64`), without silent cuts.

/// A length in memory as a length in a file. Exact on every machine with pointers of 64 bits or fewer.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The smaller of a file length and a length in memory.
pub(crate) fn narrow(len: u64, most: usize) -> usize {
    usize::try_from(len).map_or(most, |len| len.min(most))
}
