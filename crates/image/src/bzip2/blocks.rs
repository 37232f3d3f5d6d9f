//! bzip2 blocks decoded side by side.
//!
//! Each section between two magics is wrapped into a stream of its own: header, the section's bits moved to a whole
//! byte, end magic, CRC. The decoder then checks the block's CRC and that the block ends exactly where the section does.
//! What a section turns out to be:
//!
//! - a block: its bytes are handed over, its CRC is folded into that of its stream;
//! - only the first part of a block, because the magic behind it is a chance hit: the decoder gives no byte before it
//!   has read a whole block, so nothing has been handed over, and the section is tried again with the next ones
//!   attached;
//! - neither: the file is damaged.
//!
//! Holes cost next to nothing: packed zeros are a few dozen bytes that are the same time and again, so a worker keeps
//! the last section that became nothing but zeros and does not decode it twice.

use std::sync::Arc;

use bzip2::{Decompress, Status};

use super::scan::{END, Found, MAX_SECTION, Scanner, Section};
use crate::crew::{CHUNK, Crew, Sink, Size, Stop, Work};
use crate::error::Fault;
use crate::input::Input;
use crate::merge::{Part, Plan, Recovery, Step};
use crate::num::{narrow, wide};
use crate::options::Options;

/// What a worker needs: 3.6 MB to decode a block of the largest size, and sections.
const FIXED: u64 = 8 << 20;
/// How far a worker may run ahead. A block is 900 kB and somewhat more, unless it is nearly all zeros.
const AHEAD: u64 = 4 << 20;
/// Sections up to this size are remembered if they are zeros: 46 MB of them pack to less than 50 bytes.
const MAX_REMEMBERED: usize = 256;

/// A section made into a stream of its own.
fn wrap(section: &Section, stream: &mut Vec<u8>) {
    const HEADER: usize = 4;
    stream.clear();
    stream.extend_from_slice(b"BZh");
    stream.push(section.level);
    let skip = section.skip;
    let whole = narrow(section.bits / 8, section.raw.len());
    if skip == 0 {
        stream.extend_from_slice(&section.raw[..whole]);
    } else {
        stream.extend(section.raw.windows(2).take(whole).map(|pair| pair[0] << skip | pair[1] >> (8 - skip)));
    }
    // The bits that are left, fewer than eight, begin the byte that the end magic goes on with.
    let left = u32::try_from(section.bits % 8).unwrap_or(0);
    let pair = [whole, whole + 1].map(|at| section.raw.get(at).copied().unwrap_or(0));
    let next = (u16::from_be_bytes(pair) << skip).to_be_bytes()[0];
    let crc = stream
        .get(HEADER + 6..HEADER + 10)
        .map_or(0, |crc| crc.iter().fold(0, |crc, &byte| crc << 8 | u128::from(byte)));
    let tail = u128::from(next & !(0xff_u8.checked_shr(left).unwrap_or(0))) << 120
        | (u128::from(END) << 32 | crc) << (48 - left);
    let len = usize::try_from((left + 80).div_ceil(8)).unwrap_or(0);
    stream.extend_from_slice(&tail.to_be_bytes()[..len]);
}

/// A wrapped section on its way through the decoder.
struct Block {
    decoder: Decompress,
    stream: Vec<u8>,
    used: usize,
    ended: bool,
}

impl Block {
    fn new(stream: Vec<u8>) -> Self {
        Self { decoder: Decompress::new(false), stream, used: 0, ended: false }
    }

    /// At least one byte into `into`; 0 at the checked end. The error says no more than that something is wrong.
    fn decode(&mut self, into: &mut [u8]) -> Result<usize, ()> {
        if self.ended {
            return Ok(0);
        }
        let (before_in, before_out) = (self.decoder.total_in(), self.decoder.total_out());
        let rest = &self.stream[self.used..];
        let status = self.decoder.decompress(rest, into).map_err(drop)?;
        self.used += narrow(self.decoder.total_in() - before_in, rest.len());
        let made = narrow(self.decoder.total_out() - before_out, into.len());
        match status {
            Status::StreamEnd if self.used == self.stream.len() => self.ended = true,
            // The block ends before the section does.
            Status::StreamEnd => return Err(()),
            // All of the stream has been given, so a decoder that wants more has been misled.
            _ if made == 0 => return Err(()),
            _ => {}
        }
        Ok(made)
    }
}

/// Decodes sections.
#[derive(Default)]
pub(crate) struct SectionWork {
    /// A wrapped section that is all zeros, and how many.
    zeros: Option<(Vec<u8>, u64)>,
    stream: Vec<u8>,
}

impl Work for SectionWork {
    type Job = Section;
    type Done = ();

    fn run(&mut self, section: Section, sink: &mut Sink<()>) -> Result<(), Stop> {
        wrap(&section, &mut self.stream);
        if let Some((stream, len)) = &self.zeros
            && *stream == self.stream
        {
            return sink.zeros(*len);
        }
        let mut block = Block::new(std::mem::take(&mut self.stream));
        let mut remember = block.stream.len() <= MAX_REMEMBERED;
        let mut total = 0_u64;
        loop {
            let mut buffer = sink.buffer();
            let mut filled = 0;
            let mut ended = false;
            while filled < buffer.len() && !ended {
                match block.decode(&mut buffer[filled..]) {
                    Ok(count) => filled += count,
                    Err(()) => {
                        if filled > 0 {
                            sink.data(buffer, filled)?;
                        }
                        return Err(fault(&section).into());
                    }
                }
                ended = block.ended;
            }
            total += wide(filled);
            remember &= buffer[..filled].iter().all(|&byte| byte == 0);
            if filled > 0 {
                sink.data(buffer, filled)?;
            }
            if ended {
                break;
            }
        }
        if remember {
            self.zeros = Some((block.stream, total));
        } else {
            self.stream = block.stream;
        }
        Ok(())
    }
}

/// What to say of a section that cannot be decoded.
fn fault(section: &Section) -> Fault {
    match section.junk {
        Some(junk) => Fault::Junk(junk),
        None if section.cut => Fault::Truncated(section.at + wide(section.raw.len())),
        None => Fault::corrupt(section.at, "a block that does not decode"),
    }
}

/// Sections in order, and the CRC of the stream they are in.
pub(crate) struct Sections {
    scanner: Scanner,
    crc: u32,
}

impl Sections {
    /// A plan for a file or stream, and workers for it.
    pub(crate) fn start(input: Input, options: &Options) -> Result<(Self, Crew<Section, ()>), Fault> {
        let size = Size::new(options, usize::MAX, FIXED, AHEAD);
        let crew = Crew::start(size, || Ok(SectionWork::default()))?;
        Ok((Self { scanner: Scanner::new(input), crc: 0 }, crew))
    }

    /// Folds a decoded block's CRC into its stream's, and compares that at the stream's end. `crc` is as stored; the
    /// block was found to have it.
    fn fold(&mut self, crc: u32, at: u64, end: Option<u32>) -> Result<(), Fault> {
        self.crc = self.crc.rotate_left(1) ^ crc;
        let Some(end) = end else { return Ok(()) };
        if std::mem::take(&mut self.crc) != end {
            return Err(Fault::corrupt(at, "a stream with a wrong CRC"));
        }
        Ok(())
    }
}

/// The CRC that a block's header gives, bits 48 to 79.
fn stored_crc(section: &Section) -> u32 {
    let value = section.raw.iter().skip(6).take(5).fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    // Five bytes hold it, whatever the shift; a section of the least size has only four, and then no shift.
    let bytes = section.raw.len().saturating_sub(6).min(5);
    let bits = u32::try_from(bytes * 8).unwrap_or(0);
    let value = value >> bits.saturating_sub(32 + section.skip);
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

/// Two sections that follow each other as one.
fn join(first: &Section, second: &Section) -> Section {
    // They share a byte unless the second begins with a whole one.
    let shared = usize::from(second.skip != 0);
    Section {
        raw: first.raw.iter().chain(second.raw.iter().skip(shared)).copied().collect::<Arc<[u8]>>(),
        bits: first.bits + second.bits,
        end: second.end,
        junk: first.junk.or(second.junk),
        cut: second.cut,
        ..first.clone()
    }
}

impl Plan for Sections {
    type Work = SectionWork;
    type Memo = Section;

    fn next(&mut self) -> Result<Step<Section, Section>, Fault> {
        loop {
            match self.scanner.next()? {
                Found::Section(section) => return Ok(Step::Part(section.clone(), section)),
                Found::EmptyStream(0) => {}
                Found::EmptyStream(_) => {
                    return Err(Fault::corrupt(self.scanner.position(), "a stream with a wrong CRC"));
                }
                Found::Nothing => return Ok(Step::End),
            }
        }
    }

    fn done(&mut self, section: &Section, (): ()) -> Result<(), Fault> {
        self.fold(stored_crc(section), section.at, section.end)
    }

    fn recover(&mut self, section: Section, ahead: &[&Section], fault: Fault) -> Result<Recovery, Fault> {
        let mut joined = section;
        for (index, next) in ahead.iter().enumerate() {
            if joined.end.is_some() || joined.cut || joined.raw.len() + next.raw.len() > MAX_SECTION {
                break;
            }
            joined = join(&joined, next);
            let mut stream = Vec::new();
            wrap(&joined, &mut stream);
            let mut block = Block::new(stream);
            let mut first = vec![0; CHUNK];
            if let Ok(count) = block.decode(&mut first) {
                first.truncate(count);
                self.fold(stored_crc(&joined), joined.at, joined.end)?;
                let part = Box::new(Joined { section: joined, block, first, given: 0 });
                return Ok(Recovery { part, absorbed: index + 1 });
            }
        }
        Err(fault)
    }

    fn packed(&self, section: &Section) -> u64 {
        section.at
    }
}

/// A block of several sections, decoded where it is collected.
struct Joined {
    section: Section,
    block: Block,
    /// What came first when it was tried, and how much of that has been given on.
    first: Vec<u8>,
    given: usize,
}

impl Part for Joined {
    fn decode(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        if self.given < self.first.len() {
            let count = into.len().min(self.first.len() - self.given);
            into[..count].copy_from_slice(&self.first[self.given..self.given + count]);
            self.given += count;
            return Ok(count);
        }
        self.block.decode(into).map_err(|()| fault(&self.section))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Read, Write};

    use crate::error::{Context, ImageError};
    use crate::input::Stream;
    use crate::merge::Merge;
    use crate::options::Format;
    use crate::reader::ImageReader;

    fn pack(data: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(level));
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0] % 90
        };
        (0..len).map(|_| next()).collect()
    }

    fn sections(packed: &[u8]) -> Vec<Section> {
        let mut scanner = Scanner::new(Input::stream(Stream::new(Box::new(io::Cursor::new(packed.to_vec())))));
        let mut all = Vec::new();
        while let Found::Section(section) = scanner.next().unwrap() {
            all.push(section);
        }
        all
    }

    /// Cuts what the scanner finds once more at a given place, as a chance hit would.
    struct Halved(Sections, Vec<Section>);

    impl Plan for Halved {
        type Work = SectionWork;
        type Memo = Section;

        fn next(&mut self) -> Result<Step<Section, Section>, Fault> {
            if let Some(second) = self.1.pop() {
                return Ok(Step::Part(second.clone(), second));
            }
            let Step::Part(whole, _) = self.0.next()? else { return Ok(Step::End) };
            let bits = whole.bits / 5 * 3;
            let cut = u64::from(whole.skip) + bits;
            let byte = usize::try_from(cut / 8).unwrap();
            let first = Section {
                raw: Arc::from(&whole.raw[..usize::try_from(cut.div_ceil(8)).unwrap()]),
                bits,
                end: None,
                ..whole.clone()
            };
            let second = Section {
                raw: Arc::from(&whole.raw[byte..]),
                skip: u32::try_from(cut % 8).unwrap(),
                bits: whole.bits - bits,
                at: whole.at + wide(byte),
                ..whole
            };
            self.1.push(second);
            Ok(Step::Part(first.clone(), first))
        }

        fn done(&mut self, section: &Section, (): ()) -> Result<(), Fault> {
            self.0.done(section, ())
        }

        fn recover(&mut self, section: Section, ahead: &[&Section], fault: Fault) -> Result<Recovery, Fault> {
            self.0.recover(section, ahead, fault)
        }

        fn packed(&self, section: &Section) -> u64 {
            section.at
        }
    }

    fn context() -> Context {
        Context { name: "test".into(), format: Format::Bzip2 }
    }

    #[test]
    fn sections_become_streams_that_any_decoder_reads() {
        let data = noise(350_000);
        let packed = pack(&data, 1);
        let sections = sections(&packed);
        assert_eq!(sections.len(), 4);
        assert!(sections.iter().any(|section| section.skip != 0));
        let mut all = Vec::new();
        for section in &sections {
            let mut stream = Vec::new();
            wrap(section, &mut stream);
            bzip2::read::BzDecoder::new(&stream[..]).read_to_end(&mut all).unwrap();
        }
        assert!(all == data);
    }

    #[test]
    fn blocks_cut_by_chance_are_joined_again() {
        let data = noise(1_234_567);
        let packed = [pack(&data, 1), pack(&data[..777], 9)].concat();
        for threads in 1..4 {
            let threads = std::num::NonZeroUsize::new(threads).unwrap();
            let options = Options { threads, ..Options::default() };
            let input = Input::stream(Stream::new(Box::new(io::Cursor::new(packed.clone()))));
            let (plan, crew) = Sections::start(input, &options).unwrap();
            let mut reader = Merge::new(context(), Halved(plan, Vec::new()), crew);
            let mut all = vec![0; data.len()];
            reader.read_exact(&mut all).unwrap();
            assert!(all == data);
            assert_eq!(reader.finish().unwrap(), wide(data.len() + 777));
        }
    }

    #[test]
    fn a_wrong_stream_crc_is_found() {
        let mut packed = pack(&noise(250_000), 1);
        let last = packed.len() - 2;
        packed[last] ^= 0x10;
        let input = Input::stream(Stream::new(Box::new(io::Cursor::new(packed))));
        let (plan, crew) = Sections::start(input, &Options::default()).unwrap();
        let error = Merge::new(context(), plan, crew).finish().unwrap_err();
        assert!(matches!(&error, ImageError::Corrupt { what, .. } if what.contains("stream")), "{error}");
    }
}
