//! DEFLATE (RFC 1951), with one thing no other inflater does: zeros behind zeros are counted, not written.
//!
//! Once the whole window, 32 KiB, is zero, every match copies zeros, whatever its distance. From then on symbols are
//! only read for their lengths until a literal that is not zero comes. In a disk image that is nearly all of what the
//! holes are packed to: four symbols a byte, each of 258 zeros, without touching memory.

use super::bits::{Bits, Rest};
use super::huffman::{
    Distances, LITERAL, Lengths, Literals, MAX_SYMBOLS, SPECIAL, distance_entry, is_end, length_entry, literal_entry,
};
use crate::error::Fault;
use crate::input::Input;
use crate::num::{narrow, wide};

/// How far back a match may reach.
const WINDOW: usize = 32 << 10;
/// Bytes made in one go, behind the window: with the window and the tables this stays in a core's own cache.
const PORTION: usize = 96 << 10;
/// A match, and three literals before it, and what is written too much behind it.
const SLACK: usize = 320;
/// The longest match.
const MAX_MATCH: usize = 258;
/// Zeros are handed over once there are so many.
const MANY_ZEROS: u64 = 256 << 20;
/// The longest header of a block: 17 bits, 19 lengths of 3 bits, 320 lengths of at most 14 bits each.
const MAX_HEADER: usize = 640;
/// A symbol with its extra bits: 15 + 5 + 15 + 13 bits.
const MAX_SYMBOL_BITS: i32 = 48;

/// What has been made by a call of [`Inflate::run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// Bytes, to be had by [`Inflate::bytes`].
    Bytes,
    /// So many zeros.
    Zeros(u64),
    /// The end of the data: nothing has been made, and nothing more will be.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A block's header comes next; or, after the last block, nothing.
    Between {
        last: bool,
    },
    Stored {
        last: bool,
        left: usize,
    },
    Coded {
        last: bool,
        fixed: bool,
    },
}

/// How many code lengths there are at most, for both codes.
const LENGTHS: usize = MAX_SYMBOLS + 32;

/// Code lengths: those of the literals, and behind them those of the distances.
#[derive(PartialEq, Eq)]
struct Described {
    literals: usize,
    distances: usize,
    lengths: [u8; LENGTHS],
}

/// The two codes of a block.
struct Codes {
    literals: Literals,
    distances: Distances,
    /// What they were made from: blocks of zeros are all alike, and their tables would take longer to build than they
    /// take to decode.
    from: Described,
}

impl Codes {
    fn new() -> Self {
        let from = Described { literals: 0, distances: 0, lengths: [0; LENGTHS] };
        Self { literals: Literals::new(), distances: Distances::new(), from }
    }

    /// Builds the tables, unless they are there already.
    fn build(&mut self, from: Described) -> Result<(), &'static str> {
        if self.from == from {
            return Ok(());
        }
        let (literals, distances) = from.lengths.split_at(from.literals);
        // Until both are whole they are made from nothing.
        self.from.literals = 0;
        if !self.literals.build(literals, literal_entry) {
            return Err("a block with an impossible code of literals");
        }
        if !self.distances.build(&distances[..from.distances], distance_entry) {
            return Err("a block with an impossible code of distances");
        }
        self.from = from;
        Ok(())
    }
}

/// An inflater.
pub(crate) struct Inflate {
    state: State,
    /// Bits of the input that have been taken but not used, fewer than eight.
    bits: u64,
    count: i32,
    /// The codes of the block at hand are one of two: described ones, and those that need no description, which pigz
    /// puts between any two blocks of the others.
    described: Codes,
    fixed: Codes,
    lengths: Lengths,
    out: Box<[u8]>,
    /// Where the oldest byte that a match may reach lies in `out`.
    oldest: usize,
    /// Where the bytes lie that were made last.
    start: usize,
    end: usize,
    /// How many zeros have come in matches of full length without a break, and where the last of them ended.
    streak: usize,
    streak_end: usize,
    /// Whether the whole window is zero, so that nothing is written.
    zeros: bool,
}

impl Inflate {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Between { last: false },
            bits: 0,
            count: 0,
            described: Codes::new(),
            fixed: Codes::new(),
            lengths: Lengths::new(),
            out: vec![0; WINDOW + PORTION + SLACK].into_boxed_slice(),
            oldest: 0,
            start: 0,
            end: 0,
            streak: 0,
            streak_end: 0,
            zeros: false,
        }
    }

    /// Makes ready for other data.
    pub(crate) fn reset(&mut self) {
        self.state = State::Between { last: false };
        (self.bits, self.count) = (0, 0);
        (self.oldest, self.start, self.end) = (0, 0, 0);
        (self.streak, self.streak_end, self.zeros) = (0, 0, false);
    }

    /// What the last call made, if it made bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.out[self.start..self.end]
    }

    /// Makes something.
    pub(crate) fn run(&mut self, input: &mut Input) -> Result<Made, Fault> {
        self.start = self.end;
        let mut run = 0_u64;
        loop {
            if !self.zeros && self.end > self.out.len() - SLACK {
                if self.start < self.end {
                    return Ok(Made::Bytes);
                }
                self.slide();
            }
            match self.state {
                State::Between { last: true } => {
                    if let Some(made) = self.made(run) {
                        return Ok(made);
                    }
                    return Ok(Made::End);
                }
                State::Between { last: false } => self.header(input)?,
                State::Stored { last, left: 0 } => self.state = State::Between { last },
                State::Stored { .. } if self.zeros => {
                    // What is stored gets written, even zeros: they are rare.
                    if run > 0 {
                        return Ok(Made::Zeros(run));
                    }
                    self.leave_zeros();
                }
                State::Stored { last, left } => {
                    let room = self.out.len() - self.end;
                    let into = &mut self.out[self.end..self.end + left.min(room)];
                    let count = input.read(into)?;
                    if count == 0 {
                        return Err(Fault::Truncated(input.position()));
                    }
                    self.end += count;
                    self.state = State::Stored { last, left: left - count };
                }
                State::Coded { .. } => {
                    let was_zeros = self.zeros;
                    if was_zeros {
                        self.count_zeros(input, &mut run)?;
                    } else {
                        self.decode(input)?;
                    }
                    // From bytes to zeros or back: what there is has to be handed over first.
                    if (was_zeros != self.zeros || run >= MANY_ZEROS)
                        && let Some(made) = self.made(run)
                    {
                        return Ok(made);
                    }
                }
            }
        }
    }

    /// What there is to hand over.
    fn made(&self, run: u64) -> Option<Made> {
        if run > 0 {
            return Some(Made::Zeros(run));
        }
        (self.start < self.end).then_some(Made::Bytes)
    }

    /// Moves the window to the front of the buffer.
    fn slide(&mut self) {
        let shift = self.end - WINDOW;
        self.out.copy_within(shift..self.end, 0);
        (self.start, self.end) = (WINDOW, WINDOW);
        self.oldest = self.oldest.saturating_sub(shift);
        // Streaks that lie before the window are none; the place is where nothing ends.
        self.streak_end = self.streak_end.checked_sub(shift).unwrap_or(usize::MAX);
    }

    /// Puts a window of zeros where matches will look for it.
    fn leave_zeros(&mut self) {
        self.out[..WINDOW].fill(0);
        (self.oldest, self.start, self.end) = (0, WINDOW, WINDOW);
        (self.streak, self.zeros) = (0, false);
    }

    /// Reads a block's header.
    fn header(&mut self, input: &mut Input) -> Result<(), Fault> {
        let at = input.position();
        let mut bits = Bits::new(input.need(MAX_HEADER)?, self.bits, self.count);
        bits.refill();
        let last = bits.take(1) == 1;
        let kind = bits.take(2);
        self.state = match kind {
            0 => {
                // The rest of the byte is left out. Lengths come in whole bytes, which may be in the bits already.
                bits.take(bits.count & 7);
                let (len, complement) = (bits.take(16), bits.take(16));
                if bits.count >= 0 && len != complement ^ 0xffff {
                    return Err(Fault::corrupt(at, "a stored block whose length contradicts itself"));
                }
                State::Stored { last, left: narrow(len, usize::MAX) }
            }
            1 => {
                self.fixed().map_err(|what| Fault::corrupt(at, what))?;
                State::Coded { last, fixed: true }
            }
            2 => {
                // A header that breaks off reads as zeros, which may be wrong in any way: say first that it breaks off.
                let result = self.dynamic(&mut bits);
                if bits.count >= 0 {
                    result.map_err(|what| Fault::corrupt(at, what))?;
                }
                State::Coded { last, fixed: false }
            }
            _ if bits.count < 0 => self.state,
            _ => return Err(Fault::corrupt(at, "a block of an unknown kind")),
        };
        self.give_back(bits.rest(), input)
    }

    /// The codes that need no description (RFC 1951, 3.2.6).
    fn fixed(&mut self) -> Result<(), &'static str> {
        let mut lengths = [5; LENGTHS];
        lengths[..144].fill(8);
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        lengths[280..288].fill(8);
        self.fixed.build(Described { literals: MAX_SYMBOLS, distances: 32, lengths })
    }

    /// Codes that are described (RFC 1951, 3.2.7).
    fn dynamic(&mut self, bits: &mut Bits<'_>) -> Result<(), &'static str> {
        /// The order in which the code of code lengths is given.
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let literals = narrow(bits.take(5), 31) + 257;
        let distances = narrow(bits.take(5), 31) + 1;
        let count = narrow(bits.take(4), 15) + 4;
        if literals > 286 || distances > 30 {
            return Err("a block with too many symbols");
        }
        let mut lengths = [0; 19];
        for &place in &ORDER[..count] {
            bits.refill();
            lengths[place] = bits.take(3).to_le_bytes()[0];
        }
        let code = &mut self.lengths;
        // Unlike the others this code must be complete, even if it has a single symbol.
        if lengths.iter().filter(|&&len| len > 0).count() < 2 || !code.build(&lengths, length_entry) {
            return Err("a block with an impossible code of code lengths");
        }
        let mut lengths = [0_u8; LENGTHS];
        let total = literals + distances;
        let mut at = 0;
        while at < total {
            bits.refill();
            let entry = code.look(bits.buffer);
            if entry & SPECIAL != 0 {
                return Err("a block with an invalid code length");
            }
            bits.take(i32::try_from(entry & 0x1f).unwrap_or(0));
            let (value, repeat) = match entry >> 16 {
                symbol @ 0..=15 => (symbol.to_le_bytes()[0], 1),
                16 if at == 0 => return Err("a block that repeats a code length before there is one"),
                16 => (lengths[at - 1], bits.take(2) + 3),
                17 => (0, bits.take(3) + 3),
                _ => (0, bits.take(7) + 11),
            };
            let end = at + narrow(repeat, usize::MAX);
            if end > total {
                return Err("a block with too many code lengths");
            }
            lengths[at..end].fill(value);
            at = end;
        }
        if lengths[256] == 0 {
            return Err("a block that cannot end");
        }
        self.described.build(Described { literals, distances, lengths })
    }

    /// Gives whole bytes that were not needed back to the input.
    fn give_back(&mut self, rest: Rest, input: &mut Input) -> Result<(), Fault> {
        let Rest { used, len, buffer, count } = rest;
        if count < 0 {
            return Err(Fault::Truncated(input.position() + wide(len)));
        }
        (self.bits, self.count) = (buffer & ((1 << (count & 7)) - 1), count & 7);
        input.consume(used.saturating_sub(usize::try_from(count / 8).unwrap_or(0)));
        Ok(())
    }

    /// Decodes symbols until there is no more room or input, or the block ends, or all of the window is zero.
    fn decode(&mut self, input: &mut Input) -> Result<(), Fault> {
        let at = input.position();
        let bytes = input.need(1 << 10)?;
        // Fewer bytes than asked for are all there are.
        let whole = bytes.len() >= 1 << 10;
        let mut bits = Bits::new(bytes, self.bits, self.count);
        let State::Coded { last, fixed } = self.state else { return Ok(()) };
        let codes = if fixed { &self.fixed } else { &self.described };
        let limit = self.out.len() - SLACK;
        let out = &mut self.out[..];
        let mut end = self.end;
        let error = loop {
            bits.refill();
            if end > limit || bits.count < MAX_SYMBOL_BITS && (whole || bits.count < 0) {
                break None;
            }
            let mut entry = codes.literals.look(bits.buffer);
            if entry & LITERAL != 0 {
                bits.use_up(entry);
                out[end] = entry.to_le_bytes()[2];
                end += 1;
                entry = codes.literals.look(bits.buffer);
                if entry & LITERAL != 0 {
                    bits.use_up(entry);
                    out[end] = entry.to_le_bytes()[2];
                    end += 1;
                    entry = codes.literals.look(bits.buffer);
                    if entry & LITERAL != 0 {
                        bits.use_up(entry);
                        out[end] = entry.to_le_bytes()[2];
                        end += 1;
                        continue;
                    }
                }
                bits.refill();
            }
            if entry & SPECIAL != 0 {
                if is_end(entry) {
                    bits.use_up(entry);
                    self.state = State::Between { last };
                    break None;
                }
                break Some("an invalid symbol");
            }
            let len = bits.value(entry);
            let entry = codes.distances.look(bits.buffer);
            if entry & SPECIAL != 0 {
                break Some("an invalid distance");
            }
            let distance = bits.value(entry);
            if distance > end - self.oldest {
                break Some("a distance too far back");
            }
            if distance == 1 {
                let byte = out[end - 1];
                out[end..end + len].fill(byte);
                end += len;
                if byte == 0 && len == MAX_MATCH {
                    self.streak = if self.streak_end == end - len { self.streak + len } else { len };
                    self.streak_end = end;
                    if self.streak >= WINDOW {
                        self.zeros = true;
                        break None;
                    }
                }
            } else {
                copy(out, end, distance, len);
                end += len;
            }
        };
        self.end = end;
        // Past the end of the input all bits read as zeros, and any error is one of those.
        if let Some(what) = error.filter(|_| bits.count >= 0) {
            return Err(Fault::corrupt(at + wide(bits.at), what));
        }
        self.give_back(bits.rest(), input)
    }

    /// Decodes symbols that stand for zeros, until one does not, or input or block end.
    fn count_zeros(&mut self, input: &mut Input, run: &mut u64) -> Result<(), Fault> {
        let at = input.position();
        let bytes = input.need(1 << 10)?;
        let whole = bytes.len() >= 1 << 10;
        let mut bits = Bits::new(bytes, self.bits, self.count);
        let State::Coded { last, fixed } = self.state else { return Ok(()) };
        let codes = if fixed { &self.fixed } else { &self.described };
        let mut zeros = *run;
        let mut left = false;
        let error = loop {
            bits.refill();
            if zeros >= MANY_ZEROS || bits.count < MAX_SYMBOL_BITS && (whole || bits.count < 0) {
                break None;
            }
            let entry = codes.literals.look(bits.buffer);
            if entry & LITERAL != 0 {
                if entry.to_le_bytes()[2] != 0 {
                    // The literal is left for the other loop.
                    left = true;
                    break None;
                }
                bits.use_up(entry);
                zeros += 1;
                continue;
            }
            if entry & SPECIAL != 0 {
                if is_end(entry) {
                    bits.use_up(entry);
                    self.state = State::Between { last };
                    break None;
                }
                break Some("an invalid symbol");
            }
            let len = bits.value(entry);
            let entry = codes.distances.look(bits.buffer);
            if entry & SPECIAL != 0 {
                break Some("an invalid distance");
            }
            // No distance is longer than the window, and all of that is zero.
            bits.value(entry);
            zeros += wide(len);
        };
        *run = zeros;
        if left {
            self.leave_zeros();
        }
        if let Some(what) = error.filter(|_| bits.count >= 0) {
            return Err(Fault::corrupt(at + wide(bits.at), what));
        }
        self.give_back(bits.rest(), input)
    }
}

/// Copies a match: `len` bytes to `end` from `distance` before. Up to 15 bytes behind it may be overwritten.
#[inline(always)]
fn copy(out: &mut [u8], end: usize, distance: usize, len: usize) {
    const STEP: usize = 16;
    let from = end - distance;
    if distance >= STEP {
        let mut done = 0;
        while done < len {
            let Some(part) = out[from + done..].first_chunk::<STEP>().copied() else { return };
            let Some(place) = out[end + done..].first_chunk_mut::<STEP>() else { return };
            *place = part;
            done += STEP;
        }
    } else {
        // The bytes repeat after `distance`: each round doubles what can be copied at once.
        let mut done = 0;
        while done < len {
            let count = (distance + done).min(len - done);
            out.copy_within(from..from + count, end + done);
            done += count;
        }
    }
}
