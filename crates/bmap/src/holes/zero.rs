//! Whether bytes are all zero, at the speed of memory.

/// Bytes looked at before the next decision: enough for the widest registers, few enough to stop early.
const STEP: usize = 256;

/// Whether all bytes are 0; of no bytes, yes.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Collected with OR and decided once a step, this compiles to vector instructions without any being named.
    let step = |bytes: &[u8]| bytes.iter().fold(0, |seen, byte| seen | byte) == 0;
    let (steps, rest) = bytes.as_chunks::<STEP>();
    steps.iter().all(|bytes| step(bytes)) && step(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_seen() {
        let mut bytes = vec![0; 3 * STEP + 7];
        for len in 0..bytes.len() {
            assert!(is_zero(&bytes[..len]));
        }
        for place in 0..bytes.len() {
            bytes[place] = 1 << (place % 8);
            assert!(!is_zero(&bytes), "{place}");
            assert!(is_zero(&bytes[..place]) && is_zero(&bytes[place + 1..]));
            bytes[place] = 0;
        }
    }
}
