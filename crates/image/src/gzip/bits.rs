//! Bits of the input for [`super::inflate`]: many at a time, and how many were really there.
//!
//! Past the end of the input bits read as zeros, and the count of what is left goes below zero. So a decoder need not
//! look after every step whether there was enough: it looks at the count before it believes anything.

/// Bits of the input, the lowest of a byte first.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte.
    pub(crate) at: usize,
    pub(crate) buffer: u64,
    /// How many bits of the buffer count. Below 0: more have been taken than there were; they read as zeros.
    pub(crate) count: i32,
}

/// What a [`Bits`] leaves.
pub(crate) struct Rest {
    /// How many bytes it took into its buffer, of how many.
    pub(crate) used: usize,
    pub(crate) len: usize,
    pub(crate) buffer: u64,
    pub(crate) count: i32,
}

impl<'a> Bits<'a> {
    /// What is left.
    pub(crate) fn rest(&self) -> Rest {
        Rest { used: self.at, len: self.bytes.len(), buffer: self.buffer, count: self.count }
    }

    /// Bits of `bytes`, behind `count` that are in `buffer` already.
    pub(crate) fn new(bytes: &'a [u8], buffer: u64, count: i32) -> Self {
        Self { bytes, at: 0, buffer, count }
    }

    /// Makes 56 bits available, fewer only at the end of the bytes.
    #[inline(always)]
    pub(crate) fn refill(&mut self) {
        if let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>())
            && self.count >= 0
        {
            self.buffer |= u64::from_le_bytes(*word) << self.count;
            self.at += usize::try_from((63 - self.count) >> 3).unwrap_or(0);
            self.count |= 56;
        } else {
            self.refill_slowly();
        }
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while (0..56).contains(&self.count)
            && let Some(&byte) = self.bytes.get(self.at)
        {
            self.buffer |= u64::from(byte) << self.count;
            self.count += 8;
            self.at += 1;
        }
    }

    /// Takes up to 16 bits; zeros where there are none.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: i32) -> u64 {
        let value = self.buffer & ((1 << count) - 1);
        self.buffer >>= count;
        self.count -= count;
        value
    }

    /// Takes the bits of an entry's code.
    #[inline(always)]
    pub(crate) fn use_up(&mut self, entry: u32) {
        let count = entry & 0x1f;
        self.buffer >>= count;
        self.count -= i32::from(count.to_le_bytes()[0]);
    }

    /// Takes the bits of an entry's code and its extra bits; the value they stand for.
    #[inline(always)]
    pub(crate) fn value(&mut self, entry: u32) -> usize {
        let [code, extra, ..] = entry.to_le_bytes();
        let (code, extra) = (code & 0x1f, extra & 0x1f);
        let [a, b, ..] = (self.buffer >> code & ((1 << extra) - 1)).to_le_bytes();
        self.buffer >>= code + extra;
        self.count -= i32::from(code + extra);
        let [.., c, d] = entry.to_le_bytes();
        usize::from(u16::from_le_bytes([a, b])) + usize::from(u16::from_le_bytes([c, d]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_lowest_first_and_run_out_into_zeros() {
        let bytes: Vec<u8> = (1..=20).collect();
        for len in 0..bytes.len() {
            let mut bits = Bits::new(&bytes[..len], 0b101, 3);
            assert_eq!(bits.take(3), 0b101);
            for &byte in &bytes[..len] {
                bits.refill();
                assert_eq!(bits.take(8), u64::from(byte));
            }
            bits.refill();
            assert_eq!((bits.count, bits.take(5), bits.count), (0, 0, -5));
            bits.refill();
            assert_eq!(bits.count, -5);
        }
    }

    #[test]
    fn an_entry_takes_its_code_and_its_extra_bits() {
        // Base 100, four extra bits, code of three.
        let mut bits = Bits::new(&[0b0101_1110], 0, 0);
        bits.refill();
        assert_eq!(bits.value(100 << 16 | 4 << 8 | 3), 100 + 0b1011);
        assert_eq!(bits.count, 1);
    }
}
