//! Little-endian numbers out of bytes, by offset; `None` past the end.

/// `N` bytes from `at` on.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A 16-bit number, low byte first.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// A 32-bit number, low byte first.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// A 64-bit number, low byte first.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// Whether `needle` stands at `at`.
pub(super) fn has(bytes: &[u8], at: usize, needle: &[u8]) -> bool {
    at.checked_add(needle.len()).and_then(|end| bytes.get(at..end)) == Some(needle)
}
