//! Where the blocks of bzip2 streams lie, found without decoding them.
//!
//! bzip2 (see the format's description in the bzip2 manual and `decompress.c`) writes blocks one after the other with
//! no padding, so that a block begins at any bit. It begins with 48 fixed bits, the digits of pi, and a stream ends
//! with another 48, those of the root of pi. The same bits may also turn up inside a block: about once in 35 TB of
//! packed data, or wherever somebody put them. That is not decided here; see [`super::blocks`].

use std::sync::Arc;

use crate::error::Fault;
use crate::input::Input;
use crate::num::wide;

/// Begins a block.
pub(crate) const BLOCK: u64 = 0x3141_5926_5359;
/// Ends a stream.
pub(crate) const END: u64 = 0x1772_4538_5090;
/// How many bits each of them has.
pub(crate) const MAGIC_BITS: u64 = 48;
/// The magic and the block's CRC: no block is shorter.
const MIN_BLOCK_BITS: u64 = MAGIC_BITS + 32;
/// No block is longer: 900 000 symbols of at most 20 bits, with tables of less than 40 kB before them.
pub(crate) const MAX_SECTION: usize = 3 << 20;

/// The bits from one magic to the next: a block, as far as one can see.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    /// Bytes that hold the bits.
    pub(crate) raw: Arc<[u8]>,
    /// How many bits of the first byte belong to what comes before.
    pub(crate) skip: u32,
    /// How many bits.
    pub(crate) bits: u64,
    /// The digit in the header of its stream, '1' to '9'.
    pub(crate) level: u8,
    /// Packed offset of the first byte.
    pub(crate) at: u64,
    /// The stream's CRC, if the stream ends behind this section.
    pub(crate) end: Option<u32>,
    /// Packed offset behind something that looks like a stream's end but is followed by what cannot follow one.
    pub(crate) junk: Option<u64>,
    /// Whether the file ends here, without an end of the stream.
    pub(crate) cut: bool,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Found {
    Section(Section),
    /// The end of a stream without any block.
    EmptyStream(u32),
    Nothing,
}

/// Goes through the packed bytes in order.
#[derive(Debug)]
pub(crate) struct Scanner {
    input: Input,
    state: State,
    any: bool,
    level: u8,
    /// Bytes of the section that is being looked for, from the one that holds its first bit.
    pending: Vec<u8>,
    /// Packed offset of the section's first bit, in bits.
    start: u64,
    /// The last eight bytes.
    window: u64,
    junk: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A stream's header comes next, or nothing.
    Header,
    /// A block magic is where the section starts.
    Block,
    /// The input has ended in the middle of a stream.
    Cut,
}

/// What `look` says about the bytes behind a possible end of a stream.
enum Behind {
    Nothing,
    Stream,
    Cut,
    Junk,
}

impl Scanner {
    pub(crate) fn new(input: Input) -> Self {
        let (pending, window, junk) = (Vec::new(), 0, None);
        Self { input, state: State::Header, any: false, level: b'9', pending, start: 0, window, junk }
    }

    /// Packed offset up to which the scan has come.
    pub(crate) fn position(&self) -> u64 {
        self.input.position()
    }

    /// The next section.
    pub(crate) fn next(&mut self) -> Result<Found, Fault> {
        match self.state {
            State::Cut => Err(Fault::Truncated(self.input.position())),
            State::Block => self.section(),
            State::Header => self.header(),
        }
    }

    /// Reads a stream's header, and what must begin right behind it.
    fn header(&mut self) -> Result<Found, Fault> {
        let at = self.input.position();
        let bytes = self.input.need(10)?;
        match look(bytes) {
            Behind::Nothing if self.any => return Ok(Found::Nothing),
            Behind::Nothing | Behind::Cut => return Err(Fault::Truncated(at + wide(bytes.len()))),
            Behind::Junk if self.any => return Err(Fault::Junk(at)),
            Behind::Junk => return Err(Fault::corrupt(at, "a wrong header")),
            Behind::Stream => {}
        }
        self.any = true;
        self.level = bytes[3];
        let block = magic(&bytes[4..10]) == BLOCK;
        self.input.consume(4);
        self.start = (at + 4) * 8;
        self.pending.clear();
        if block {
            self.state = State::Block;
            return self.section();
        }
        self.input.consume(6);
        let bytes = self.input.need(4)?;
        let Some(crc) = bytes.first_chunk::<4>().copied() else {
            return Err(Fault::Truncated(at + 10 + wide(bytes.len())));
        };
        self.input.consume(4);
        Ok(Found::EmptyStream(u32::from_be_bytes(crc)))
    }

    /// Looks for the end of the section that has begun.
    fn section(&mut self) -> Result<Found, Fault> {
        let earliest = self.start + MIN_BLOCK_BITS;
        loop {
            let at = self.input.position();
            let bytes = self.input.fill()?;
            if bytes.is_empty() {
                self.state = State::Cut;
                return Ok(self.cut(at * 8, None, true));
            }
            let Some((index, bit, end)) = find(bytes, &mut self.window, at, earliest) else {
                let len = bytes.len();
                self.pending.extend_from_slice(bytes);
                self.input.consume(len);
                if self.pending.len() > MAX_SECTION {
                    return Err(match self.junk {
                        Some(junk) => Fault::Junk(junk),
                        None => Fault::corrupt(self.start / 8, "a block that does not end"),
                    });
                }
                continue;
            };
            self.pending.extend_from_slice(&bytes[..=index]);
            self.input.consume(index + 1);
            if !end {
                return Ok(self.cut(bit, None, false));
            }
            // The stream's CRC and zeros up to a whole byte come behind; then the file ends or another stream begins.
            let seen = self.input.position();
            let behind = (bit + MAGIC_BITS + 32).div_ceil(8);
            let missing = usize::try_from(behind - seen).unwrap_or(0);
            let bytes = self.input.need(missing + 10)?;
            let Some((footer, rest)) = bytes.split_at_checked(missing) else {
                // Too short to be told from a block's bits: let the section go on to the end of the file.
                continue;
            };
            match look(rest) {
                Behind::Junk => self.junk = self.junk.or(Some(behind)),
                _ => {
                    let tail: Vec<u8> = [&self.pending[self.pending.len() - 8..], footer].concat();
                    let crc = crc_at_end(&tail, behind * 8 - (bit + MAGIC_BITS + 32));
                    self.input.consume(missing);
                    self.state = State::Header;
                    return Ok(self.cut(bit, Some(crc), false));
                }
            }
        }
    }

    /// Ends the section at packed bit `end`; the next one, if it follows directly, begins there.
    fn cut(&mut self, end: u64, crc: Option<u32>, cut: bool) -> Found {
        let at = self.start / 8;
        let in_pending = |byte: u64| usize::try_from(byte - at).unwrap_or(usize::MAX).min(self.pending.len());
        let raw = Arc::from(&self.pending[..in_pending(end.div_ceil(8))]);
        let rest = self.pending.split_off(in_pending(end / 8));
        let section = Section {
            raw,
            skip: u32::try_from(self.start % 8).unwrap_or(0),
            bits: end - self.start,
            level: self.level,
            at,
            end: crc,
            junk: self.junk.take(),
            cut,
        };
        (self.pending, self.start) = (rest, end);
        Found::Section(section)
    }
}

/// What begins here: `bytes` are ten or, at the end of the file, fewer.
fn look(bytes: &[u8]) -> Behind {
    let head = bytes.iter().zip(b"BZh").all(|(is, must)| is == must)
        && bytes.get(3).is_none_or(|level| (b'1'..=b'9').contains(level));
    let rest = bytes.get(4..).unwrap_or_default();
    let begins = |magic: u64| rest.iter().zip(&magic.to_be_bytes()[2..]).all(|(is, must)| is == must);
    match bytes.len() {
        0 => Behind::Nothing,
        _ if !head || !(begins(BLOCK) || begins(END)) => Behind::Junk,
        10.. => Behind::Stream,
        _ => Behind::Cut,
    }
}

/// Six bytes as a number.
fn magic(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// The 32 bits that end `padding` bits before the end of `bytes`.
fn crc_at_end(bytes: &[u8], padding: u64) -> u32 {
    let value = bytes.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    u32::try_from(value >> padding & u64::from(u32::MAX)).unwrap_or(0)
}

/// For each byte value a bit for each shift at which a magic has that byte as its last whole one (0), or the one
/// before (1): two looks in a table that tell at most bytes that no magic ends here.
const HINTS: [[u8; 256]; 2] = {
    let mut hints = [[0; 256]; 2];
    let mut shift = 0;
    while shift < 8 {
        let mut which = 0;
        while which < 2 {
            let bytes = ([BLOCK, END][which] << shift).to_le_bytes();
            let (last, before) = (bytes[1], bytes[2]);
            // Lossless; `From` is not const.
            #[allow(clippy::as_conversions)]
            {
                hints[0][last as usize] |= 1 << shift;
                hints[1][before as usize] |= 1 << shift;
            }
            which += 1;
        }
        shift += 1;
    }
    hints
};

/// The first magic that begins at `earliest` or later, in bits: the index of the byte it ends in, the bit it begins
/// with, and whether it is the end of a stream. `at` is the packed offset of `bytes`; `window` carries what came before.
fn find(bytes: &[u8], window: &mut u64, at: u64, earliest: u64) -> Option<(usize, u64, bool)> {
    let mut last = *window;
    for (index, &byte) in bytes.iter().enumerate() {
        last = last << 8 | u64::from(byte);
        let [_, one, two, ..] = last.to_le_bytes();
        let mut shifts = HINTS[0][usize::from(one)] & HINTS[1][usize::from(two)];
        while shifts != 0 {
            let shift = shifts.trailing_zeros();
            shifts &= shifts - 1;
            let value = last >> shift & ((1 << MAGIC_BITS) - 1);
            if value == BLOCK || value == END {
                let end = (at + wide(index) + 1) * 8 - u64::from(shift);
                if let Some(bit) = end.checked_sub(MAGIC_BITS).filter(|&bit| bit >= earliest) {
                    *window = last;
                    return Some((index, bit, value == END));
                }
            }
        }
    }
    *window = last;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magics_are_found_at_every_bit() {
        for magic in [BLOCK, END] {
            for shift in 0..8 {
                let mut bytes = vec![0x55; 100];
                let place = u128::from(magic) << shift;
                bytes[40..56]
                    .copy_from_slice(&(((u128::MAX / 3) & !(((1_u128 << 48) - 1) << shift)) | place).to_be_bytes());
                for split in [1, 48, 53, 54, 55, 56, 99] {
                    let mut window = 0;
                    let found = find(&bytes[..split], &mut window, 1000, 0)
                        .or_else(|| find(&bytes[split..], &mut window, 1000 + wide(split), 0));
                    assert_eq!(found.map(|(_, bit, end)| (bit, end)), Some(((1000 + 50) * 8 - shift, magic == END)));
                }
                assert_eq!(find(&bytes, &mut 0, 1000, 1050 * 8 - shift + 1), None);
            }
        }
    }

    #[test]
    fn what_may_follow_a_stream() {
        assert!(matches!(look(b""), Behind::Nothing));
        assert!(matches!(look(b"BZh91AY&SY"), Behind::Stream));
        assert!(matches!(look(b"BZh1\x17\x72\x45\x38\x50\x90"), Behind::Stream));
        assert!(matches!(look(b"BZh91AY&S"), Behind::Cut));
        assert!(matches!(look(b"B"), Behind::Cut));
        assert!(matches!(look(b"BZh01AY&SY"), Behind::Junk));
        assert!(matches!(look(b"BZh91AY&SX"), Behind::Junk));
        assert!(matches!(look(b"\0"), Behind::Junk));
    }
}
