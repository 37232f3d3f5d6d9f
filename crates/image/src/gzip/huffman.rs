//! Huffman codes of DEFLATE (RFC 1951, 3.2.2) as tables to look symbols up in.
//!
//! An entry is found by the next bits of the input. Codes longer than a table's width lead to a second table behind it.
//! Layout of an entry, a `u32`:
//!
//! | bits | literal | length or distance | end, second table, invalid |
//! | --- | --- | --- | --- |
//! | 31 | 1 | 0 | 0 |
//! | 16–30 | the byte | base value, at most 24577 | 0 end, 1 invalid, otherwise start of the second table |
//! | 15 | 0 | 0 | 1 |
//! | 8–12 | 0 | number of extra bits | width of the second table |
//! | 0–4 | bits of the code | bits of the code | bits of the code, or 0 |

/// A literal byte.
pub(crate) const LITERAL: u32 = 1 << 31;
/// Neither literal nor length nor distance.
pub(crate) const SPECIAL: u32 = 1 << 15;
const END: u32 = SPECIAL;
const INVALID: u32 = SPECIAL | 1 << 16;

/// Width of the table for literals and lengths, in bits.
const LITERAL_BITS: u32 = 11;
/// Width of the table for distances.
const DISTANCE_BITS: u32 = 8;
/// Number of entries: more than any code needs (2342 and 402 by zlib's `enough`), and a power of two, so that an index
/// can be masked instead of checked.
const LITERAL_ENTRIES: usize = 4096;
const DISTANCE_ENTRIES: usize = 512;

/// What a code length means: most symbols there are.
pub(crate) const MAX_SYMBOLS: usize = 288;
const MAX_BITS: usize = 15;

/// Code for literals and lengths.
pub(crate) type Literals = Table<LITERAL_ENTRIES, LITERAL_BITS>;
/// Code for distances.
pub(crate) type Distances = Table<DISTANCE_ENTRIES, DISTANCE_BITS>;
/// Code for the lengths of the other codes: 7 bits at most.
pub(crate) type Lengths = Table<128, 7>;

/// A code.
pub(crate) struct Table<const N: usize, const BITS: u32> {
    entries: Box<[u32; N]>,
}

impl<const N: usize, const BITS: u32> Table<N, BITS> {
    pub(crate) fn new() -> Self {
        Self { entries: Box::new([INVALID; N]) }
    }

    /// The entry for the next bits, of which at least 15 should be there.
    #[inline(always)]
    pub(crate) fn look(&self, bits: u64) -> u32 {
        let entry = self.entries[index(bits, BITS) & (N - 1)];
        if entry & SPECIAL == 0 { entry } else { self.second(entry, bits) }
    }

    /// Follows an entry to a second table, if it leads to one.
    #[inline(always)]
    fn second(&self, entry: u32, bits: u64) -> u32 {
        let width = entry >> 8 & 0x1f;
        if width == 0 {
            return entry;
        }
        let [.., low, high] = entry.to_le_bytes();
        let start = usize::from(u16::from_le_bytes([low, high]));
        self.entries[(start + index(bits >> BITS, width)) & (N - 1)]
    }

    /// Builds the table for code lengths in bits, 0 for symbols without a code. `entry` is what a symbol means, without
    /// the length of its code. False if there is no such code: too many codes, or (but for a single one) too few.
    pub(crate) fn build(&mut self, lengths: &[u8], entry: impl Fn(usize) -> u32) -> bool {
        let mut counts = [0_u32; MAX_BITS + 1];
        for &len in lengths {
            counts[usize::from(len) & MAX_BITS] += 1;
        }
        counts[0] = 0;
        let longest = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        let mut left = 1_i64;
        for &count in &counts[1..] {
            left = left * 2 - i64::from(count);
            if left < 0 {
                return false;
            }
        }
        // As zlib has it: a code may be incomplete only if it has a single code of one bit, or none at all. The code of
        // code lengths gets no such grace, but cannot do anything with it either: a missing symbol is invalid there.
        if left > 0 && longest > 1 {
            return false;
        }
        self.entries[..1 << BITS].fill(INVALID);
        // Symbols by code length, then by value: the order in which codes are given out.
        let mut starts = [0_u32; MAX_BITS + 2];
        for len in 1..=MAX_BITS {
            starts[len + 1] = starts[len] + counts[len];
        }
        let mut order = [0_u16; MAX_SYMBOLS];
        for (symbol, &len) in lengths.iter().enumerate().filter(|(_, len)| **len > 0) {
            let start = &mut starts[usize::from(len) & MAX_BITS];
            if let (Some(place), Ok(symbol)) = (order.get_mut(small(*start)), u16::try_from(symbol)) {
                *place = symbol;
            }
            *start += 1;
        }
        let main = 1_usize << BITS;
        let mut next_free = main;
        let mut code = 0_u32;
        let mut given = order.iter();
        // The second table that is being filled: the low bits it is for, its start and its width.
        let mut second: Option<(u32, usize, u32)> = None;
        for len in 1..=longest {
            let bits = u32::try_from(len).unwrap_or(0);
            let mut left_of_len = counts[len];
            code <<= 1;
            while left_of_len > 0 {
                let Some(&symbol) = given.next() else { return false };
                let value = entry(usize::from(symbol)) | bits;
                // Codes are sent with their highest bit first, and looked up with the first bit lowest.
                let reversed = code.reverse_bits() >> (32 - bits);
                if bits <= BITS {
                    let step = 1_usize << bits;
                    self.entries[..main]
                        .iter_mut()
                        .skip(small(reversed))
                        .step_by(step)
                        .for_each(|place| *place = value);
                } else {
                    let low = reversed & ((1 << BITS) - 1);
                    let (start, width) = match second {
                        Some((of, start, width)) if of == low => (start, width),
                        _ => {
                            let width = second_width(&counts, left_of_len, len, BITS);
                            let start = next_free;
                            next_free += 1 << width;
                            let (Ok(at), true) = (u32::try_from(start), next_free <= N) else { return false };
                            self.entries[small(low) & (N - 1)] = SPECIAL | at << 16 | width << 8;
                            second = Some((low, start, width));
                            (start, width)
                        }
                    };
                    let step = 1_usize << (bits - BITS);
                    let table = &mut self.entries[start..start + (1 << width)];
                    table.iter_mut().skip(small(reversed >> BITS)).step_by(step).for_each(|place| *place = value);
                }
                code += 1;
                left_of_len -= 1;
            }
        }
        true
    }
}

/// How wide a second table must be that begins with a code of `len` bits, `left` of which are still to be given out:
/// wide enough for codes to fill it.
fn second_width(counts: &[u32; MAX_BITS + 1], left: u32, len: usize, bits: u32) -> u32 {
    let mut width = u32::try_from(len).unwrap_or(0).saturating_sub(bits);
    let mut room = (1_i64 << width) - i64::from(left);
    for &count in &counts[len + 1..] {
        if room <= 0 {
            break;
        }
        width += 1;
        room = room * 2 - i64::from(count);
    }
    width
}

/// The lowest `width` bits as an index.
#[inline(always)]
fn index(bits: u64, width: u32) -> usize {
    let [a, b, ..] = (bits & ((1 << width) - 1)).to_le_bytes();
    usize::from(u16::from_le_bytes([a, b]))
}

/// A number below 2¹⁶ as an index.
fn small(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// What a symbol of the first code means.
pub(crate) fn literal_entry(symbol: usize) -> u32 {
    let value = u32::try_from(symbol).unwrap_or(0);
    match symbol {
        0..=255 => LITERAL | value << 16,
        256 => END,
        257..=264 => (value - 254) << 16,
        265..=284 => {
            // Four lengths for each number of extra bits.
            let (extra, step) = ((value - 261) / 4, (value - 261) % 4);
            (3 + ((4 + step) << extra)) << 16 | extra << 8
        }
        285 => 258 << 16,
        _ => INVALID,
    }
}

/// What a symbol of the distance code means.
pub(crate) fn distance_entry(symbol: usize) -> u32 {
    let value = u32::try_from(symbol).unwrap_or(0);
    match symbol {
        0..=3 => (value + 1) << 16,
        4..=29 => {
            let (extra, step) = (value / 2 - 1, value % 2);
            (1 + ((2 + step) << extra)) << 16 | extra << 8
        }
        _ => INVALID,
    }
}

/// What a symbol of the code of code lengths means: itself.
pub(crate) fn length_entry(symbol: usize) -> u32 {
    u32::try_from(symbol).unwrap_or(0) << 16
}

/// Whether an entry is the end of a block.
#[inline(always)]
pub(crate) fn is_end(entry: u32) -> bool {
    entry & !0x1f == END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_distances_are_those_of_the_rfc() {
        let length = |symbol| (literal_entry(symbol) >> 16, literal_entry(symbol) >> 8 & 0x1f);
        assert_eq!(
            [257, 264, 265, 268, 269, 284, 285].map(length),
            [(3, 0), (10, 0), (11, 1), (17, 1), (19, 2), (227, 5), (258, 0)]
        );
        let distance = |symbol| (distance_entry(symbol) >> 16, distance_entry(symbol) >> 8 & 0x1f);
        assert_eq!(
            [0, 3, 4, 5, 6, 28, 29].map(distance),
            [(1, 0), (4, 0), (5, 1), (7, 1), (9, 2), (16385, 13), (24577, 13)]
        );
        assert!(is_end(literal_entry(256) | 7) && !is_end(literal_entry(286)) && !is_end(literal_entry(0)));
    }

    /// The example of RFC 1951, 3.2.2: lengths (3, 3, 3, 3, 3, 2, 4, 4) give F the code 00 and H the code 1111.
    #[test]
    fn codes_are_given_out_in_order() {
        let mut table = Lengths::new();
        assert!(table.build(&[3, 3, 3, 3, 3, 2, 4, 4], length_entry));
        let symbol = |bits| (table.look(bits) >> 16, table.look(bits) & 0x1f);
        assert_eq!(symbol(0b00), (5, 2));
        assert_eq!(symbol(0b1111), (7, 4));
        assert_eq!(symbol(0b0111), (6, 4));
        assert_eq!(symbol(0b010), (0, 3));
    }

    #[test]
    fn impossible_codes_are_refused() {
        let mut table = Lengths::new();
        assert!(!table.build(&[1, 1, 1], length_entry));
        assert!(!table.build(&[2, 2, 2], length_entry));
        assert!(!table.build(&[2], length_entry));
        assert!(table.build(&[1], length_entry));
        assert!(table.build(&[0, 0], length_entry));
        assert_eq!(table.look(0) & SPECIAL, SPECIAL);
    }

    #[test]
    fn long_codes_go_through_second_tables() {
        // One code of each length from 1 to 14, two of 15.
        let mut lengths: Vec<u8> = (1..=15).collect();
        lengths.push(15);
        let mut table = Distances::new();
        assert!(table.build(&lengths, distance_entry));
        let mut code = 0_u64;
        for (symbol, &len) in lengths.iter().enumerate() {
            let entry = table.look(code);
            assert_eq!(entry, distance_entry(symbol) | u32::from(len));
            // The next code is one bit longer, with a one in the place of this one's last bit.
            code |= 1 << (len - 1);
        }
    }
}
