//! gzip (RFC 1952), one member after the other.
//!
//! # Why not a library
//! A disk image is mostly holes, and holes are what a general inflater is slow at: it writes every zero, and reads it
//! again for the CRC. The inflater here counts them instead (`inflate`, `crc`). Measured in user time on one core
//! of a 2-core x86-64 virtual machine, 2026-11, for an image of 13.1 GiB with 798 MiB of real files, packed by
//! `pigz -6` to 278 MiB:
//!
//! | decoder | whole image | 252 MiB of files alone |
//! | --- | --- | --- |
//! | this one | 2.1 s | 0.58 s |
//! | zlib-rs 0.6.8 (by flate2) | 3.2 s | 0.50 s |
//!
//! zlib-ng would be the fastest of the libraries, but its only build that needs no CMake (libz-sys 1.1.31) compiles all
//! of it with AVX-512 allowed, not only the parts chosen at run time, and the result dies of an illegal instruction on
//! processors without. Parallel inflaters were looked at and left: `rapidgzip` 1.2.1 binds a C++ library, which a C
//! compiler cannot build; `gzippy` 1.0.0 is 135 000 lines, on 961 of which `unsafe` stands, by one author. To begin in
//! the middle of a member they decode without knowing the window and resolve that later, which costs about as much
//! again: with two cores, one of which also hashes and writes, there is little to be won.
//! What is made here is checked by CRC and length in any case, and tests and a fuzz target hold it against zlib-rs.

mod bits;
mod crc;
mod huffman;
mod inflate;

use crate::error::Fault;
use crate::input::Input;
use crate::num::{narrow, wide};
use crate::streaming::Decode;
use inflate::{Inflate, Made};

/// A gzip decoder.
pub(crate) struct Gzip {
    inflate: Inflate,
    state: State,
    members: u64,
    /// What has been made and not been given out: zeros, or bytes of the inflater from `given` on.
    zeros: u64,
    given: usize,
    /// The CRC of the member so far, without `crc_zeros` more zeros behind.
    crc: u32,
    crc_zeros: u64,
    /// Length of the member so far.
    len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Member,
    End,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Inflate::new(),
            state: State::Between,
            members: 0,
            zeros: 0,
            given: 0,
            crc: 0,
            crc_zeros: 0,
            len: 0,
        }
    }

    /// Makes bytes or zeros; false at the end.
    fn advance(&mut self, input: &mut Input) -> Result<bool, Fault> {
        loop {
            if self.zeros > 0 || self.given < self.inflate.bytes().len() {
                return Ok(true);
            }
            match self.state {
                State::End => return Ok(false),
                State::Between => self.header(input)?,
                State::Member => self.make(input)?,
            }
        }
    }

    fn make(&mut self, input: &mut Input) -> Result<(), Fault> {
        match self.inflate.run(input)? {
            Made::Bytes => {
                self.given = 0;
                let bytes = self.inflate.bytes();
                let crc = crc::with_zeros(self.crc, std::mem::take(&mut self.crc_zeros));
                self.crc = crc::with_bytes(crc, bytes);
                self.len = self.len.wrapping_add(wide(bytes.len()));
            }
            Made::Zeros(count) => {
                self.given = self.inflate.bytes().len();
                self.zeros = count;
                self.crc_zeros += count;
                self.len = self.len.wrapping_add(count);
            }
            Made::End => self.trailer(input)?,
        }
        Ok(())
    }

    /// Compares CRC and length with what the member's trailer has.
    fn trailer(&mut self, input: &mut Input) -> Result<(), Fault> {
        let at = input.position();
        let bytes = input.need(8)?;
        let Some(&[c0, c1, c2, c3, l0, l1, l2, l3]) = bytes.first_chunk::<8>() else {
            return Err(Fault::Truncated(at + wide(bytes.len())));
        };
        input.consume(8);
        if crc::with_zeros(self.crc, self.crc_zeros) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(Fault::corrupt(at, "a wrong CRC"));
        }
        if self.len & u64::from(u32::MAX) != u64::from(u32::from_le_bytes([l0, l1, l2, l3])) {
            return Err(Fault::corrupt(at, "a wrong length"));
        }
        self.state = State::Between;
        Ok(())
    }

    /// Starts the next member, or sees that there is none. Zeros up to the end of the file are padding, as gzip has it.
    fn header(&mut self, input: &mut Input) -> Result<(), Fault> {
        let start = input.position();
        let head = input.need(10)?;
        match *head {
            [] if self.members > 0 => {
                self.state = State::End;
                return Ok(());
            }
            [0x1f, 0x8b, 8, flags, ..] if head.len() >= 10 => {
                if flags & 0xe0 != 0 {
                    return Err(Fault::corrupt(start, "a reserved flag"));
                }
                input.consume(10);
                skip_fields(input, flags)?;
            }
            [0x1f, 0x8b, 8, ..] | [0x1f, 0x8b] | [0x1f] | [] => {
                return Err(Fault::Truncated(start + wide(head.len())));
            }
            [0x1f, 0x8b, ..] => return Err(Fault::corrupt(start, "an unknown method")),
            _ => return self.padding(input),
        }
        self.members += 1;
        self.inflate.reset();
        (self.crc, self.crc_zeros, self.len) = (0, 0, 0);
        self.state = State::Member;
        Ok(())
    }

    fn padding(&mut self, input: &mut Input) -> Result<(), Fault> {
        let start = input.position();
        loop {
            let rest = input.fill()?;
            if rest.is_empty() {
                self.state = State::End;
                return Ok(());
            }
            if rest.iter().any(|&byte| byte != 0) {
                return Err(Fault::Junk(start));
            }
            let len = rest.len();
            input.consume(len);
        }
    }
}

/// Passes over the parts of a member's header that its flags announce: extra field, name, comment, header CRC. None of
/// them says anything about the data; the header's CRC is not compared, as gzip does not.
fn skip_fields(input: &mut Input, flags: u8) -> Result<(), Fault> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let discard = |input: &mut Input, len: u64| match input.discard(len)? {
        got if got == len => Ok(()),
        _ => Err(Fault::Truncated(input.position())),
    };
    if flags & EXTRA != 0 {
        let at = input.position();
        let len = input.need(2)?.first_chunk::<2>().copied().ok_or(Fault::Truncated(at))?;
        discard(input, 2 + u64::from(u16::from_le_bytes(len)))?;
    }
    for _ in 0..(flags & (NAME | COMMENT)).count_ones() {
        loop {
            let bytes = input.fill()?;
            let (len, found) = match bytes.iter().position(|&byte| byte == 0) {
                Some(end) => (end + 1, true),
                None => (bytes.len(), false),
            };
            input.consume(len);
            if found {
                break;
            }
            if len == 0 {
                return Err(Fault::Truncated(input.position()));
            }
        }
    }
    if flags & HEADER_CRC != 0 {
        discard(input, 2)?;
    }
    Ok(())
}

impl Decode for Gzip {
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault> {
        if !self.advance(input)? {
            return Ok(0);
        }
        if self.zeros > 0 {
            let count = narrow(self.zeros, into.len());
            into[..count].fill(0);
            self.zeros -= wide(count);
            return Ok(count);
        }
        let bytes = &self.inflate.bytes()[self.given..];
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.given += count;
        Ok(count)
    }

    fn skip(&mut self, input: &mut Input, most: u64, _: &mut [u8]) -> Result<u64, Fault> {
        if !self.advance(input)? {
            return Ok(0);
        }
        if self.zeros > 0 {
            let count = most.min(self.zeros);
            self.zeros -= count;
            return Ok(count);
        }
        let count = narrow(most, self.inflate.bytes().len() - self.given);
        self.given += count;
        Ok(wide(count))
    }
}

impl std::fmt::Debug for Gzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gzip").field("state", &self.state).field("members", &self.members).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Stream;
    use proptest::prelude::*;
    use std::io::{Cursor, Read, Write};

    /// What this decoder makes of packed bytes, skipping now and then: skipped bytes are taken from `data`, so that
    /// the rest must still fit.
    fn unpack(packed: &[u8], skips: bool) -> Result<Vec<u8>, Fault> {
        let mut input = Input::stream(Stream::new(Box::new(Cursor::new(packed.to_vec()))));
        let mut gzip = Gzip::new();
        let mut all = Vec::new();
        let mut part = vec![0; 5000];
        loop {
            let count = if skips && all.len() % 3 == 1 {
                let count = narrow(gzip.skip(&mut input, 777, &mut [])?, 777);
                all.resize(all.len() + count, 0xaa);
                count
            } else {
                let count = gzip.decode(&mut input, &mut part)?;
                all.extend_from_slice(&part[..count]);
                count
            };
            if count == 0 {
                return Ok(all);
            }
        }
    }

    fn pack(data: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// Data with runs of zeros around the window's size, repeats at every distance, text and noise.
    fn data() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            (0_usize..200_000).prop_map(|len| vec![0; len]),
            (32_700_usize..33_300).prop_map(|len| vec![0; len]),
            proptest::collection::vec(any::<u8>(), 0..3000),
            proptest::collection::vec(0_u8..4, 0..3000),
            (1_usize..300, 1_usize..400, any::<u8>()).prop_map(|(period, count, seed)| {
                let period: Vec<u8> =
                    (0..period).map(|at| seed.wrapping_mul(31).wrapping_add(at.to_le_bytes()[0])).collect();
                period.repeat(count)
            }),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn what_another_library_packs_comes_out_again(data in data(), level in 0_u32..10) {
            let packed = pack(&data, level);
            prop_assert!(unpack(&packed, false).unwrap() == data);
            let skipped = unpack(&packed, true).unwrap();
            prop_assert_eq!(skipped.len(), data.len());
            prop_assert!(skipped.iter().zip(&data).all(|(got, is)| got == is || *got == 0xaa));
        }

        #[test]
        fn damage_is_judged_as_by_another_library(data in data(), at in any::<usize>(), flip in 1_u8..) {
            let mut packed = pack(&data, 6);
            let at = 10 + at % (packed.len() - 10);
            packed[at] ^= flip;
            let mut other = Vec::new();
            let sound = flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut other).is_ok();
            match unpack(&packed, false) {
                Ok(all) => prop_assert!(sound && all == other),
                Err(_) => prop_assert!(!sound),
            }
        }
    }

    #[test]
    fn zeros_are_counted_across_blocks_and_after_them_comes_data() {
        let mut data = vec![0; 20_000_000];
        data.extend_from_slice(b"end of the hole");
        data.resize(40_000_000, 0);
        data[33_000_000] = 1;
        for level in [1, 6, 9] {
            assert!(unpack(&pack(&data, level), false).unwrap() == data);
        }
    }

    #[test]
    fn header_fields_are_passed_over() {
        let mut builder = flate2::GzBuilder::new().filename("name").comment("comment").extra(vec![7; 70_000 % 65_536]);
        builder = builder.mtime(1);
        let mut encoder = builder.write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"data").unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(unpack(&packed, false).unwrap(), b"data");
        for cut in 0..packed.len() {
            assert!(matches!(unpack(&packed[..cut], false), Err(Fault::Truncated(at)) if at <= wide(cut)), "{cut}");
        }
        // The same with a header CRC, which flate2 does not write.
        let mut with_crc = packed.clone();
        with_crc[3] |= 2;
        let header = packed.len() - 8 - 6;
        with_crc.splice(header..header, [0, 0]);
        assert_eq!(unpack(&with_crc, false).unwrap(), b"data");
    }
}
