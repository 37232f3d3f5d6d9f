//! Blocks of an .xz file decoded side by side, unwanted ones left out.

use liblzma::stream::{Action, Status, Stream, TELL_UNSUPPORTED_CHECK};

use super::index::{self, BLOCK_HEADER, Block};
use super::lzma_fault;
use crate::crew::{Crew, Sink, Size, Stop, Work};
use crate::error::Fault;
use crate::input::{Input, PackedFile};
use crate::merge::{Plan, Step};
use crate::num::{narrow, wide};
use crate::options::{Options, Wanted};
use bmap::ByteRange;

/// What liblzma takes beside a dictionary: its probability tables and buffers, and our input buffer.
pub(crate) const OVERHEAD: u64 = 1 << 20;

/// Decodes a block as a stream of its own: header, block, an index of one record, footer. That way liblzma verifies the
/// block's header, its sizes and its check, and no unsafe call into its block decoder is needed.
pub(crate) struct BlockWork {
    file: PackedFile,
    wanted: Wanted,
    memory: u64,
}

impl Work for BlockWork {
    type Job = Block;
    type Done = ();

    fn run(&mut self, block: Block, sink: &mut Sink<()>) -> Result<(), Stop> {
        let limit = self.memory;
        let fault = |error| lzma_fault(block.packed, error, limit);
        let too_long = || Stop::from(Fault::corrupt(block.packed, "a block that is longer than the index says"));
        let mut stream = Stream::new_stream_decoder(limit, TELL_UNSUPPORTED_CHECK).map_err(fault)?;
        let header = index::stream_header(block.flags);
        let end = index::stream_end(&block);
        let mut input = Input::file(self.file.clone(), block.packed, block.packed.saturating_add(block.padded()));
        let (mut header, mut end) = (&header[..], &end[..]);
        let mut buffer = sink.buffer();
        let mut filled = 0;
        let mut at = block.start;
        loop {
            let in_block = header.is_empty();
            let packed = if in_block { input.fill()? } else { header };
            let (packed, from_end) = if packed.is_empty() { (end, true) } else { (packed, false) };
            let before_in = stream.total_in();
            let before_out = stream.total_out();
            let status = stream.process(packed, &mut buffer[filled..], Action::Run).map_err(fault)?;
            let used = narrow(stream.total_in() - before_in, packed.len());
            filled += narrow(stream.total_out() - before_out, buffer.len() - filled);
            // Ahead of handing anything over: what is too much would lie where the next block belongs.
            if at + wide(filled) > block.start + block.len {
                return Err(too_long());
            }
            match (in_block, from_end) {
                (false, _) => header = &header[used..],
                (true, false) => input.consume(used),
                (true, true) => end = &end[used..],
            }
            let ended = status == Status::StreamEnd;
            if filled == buffer.len() || ended {
                let range = ByteRange::at(at, wide(filled));
                at += wide(filled);
                if range.is_some_and(|range| self.wanted.touches(range)) {
                    sink.data(buffer, filled)?;
                    buffer = sink.buffer();
                } else {
                    sink.gap(wide(filled))?;
                }
                filled = 0;
            }
            if ended {
                break;
            }
            if status == Status::MemNeeded || (end.is_empty() && filled < buffer.len()) {
                return Err(too_long());
            }
        }
        if !end.is_empty() || at != block.start + block.len {
            return Err(Fault::corrupt(block.packed, "a block that is shorter than the index says").into());
        }
        Ok(())
    }
}

/// The blocks of a file, wanted ones to be decoded.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: std::vec::IntoIter<Block>,
    wanted: Wanted,
}

impl Blocks {
    /// A plan for these blocks, and workers for it.
    pub(crate) fn start(
        file: &PackedFile,
        blocks: Vec<Block>,
        wanted: Wanted,
        options: &Options,
    ) -> Result<(Self, Crew<Block, ()>), Fault> {
        let (mut count, mut part, mut dictionary) = (0, 0, 0);
        for block in &blocks {
            let mut header = [0; BLOCK_HEADER];
            let header = &mut header[..narrow(block.padded(), BLOCK_HEADER)];
            file.read_exact_at(header, block.packed)?;
            let header = index::block_header(header).unwrap_or_default();
            // Where nothing but the index counts the bytes of a part left out, whatever follows would be misplaced.
            if header.contradicts(block) {
                return Err(Fault::corrupt(block.packed, "a block whose header and index contradict each other"));
            }
            if is_wanted(block, &wanted) {
                count += 1;
                part = part.max(block.len);
                dictionary = dictionary.max(header.dictionary.unwrap_or(0));
            }
        }
        let fixed = dictionary.saturating_add(OVERHEAD);
        if fixed > options.memory {
            return Err(Fault::Memory { needed: Some(fixed), limit: options.memory });
        }
        let size = Size::new(options, count, fixed, part);
        let memory = options.memory / wide(size.workers);
        let crew = Crew::start(size, || Ok(BlockWork { file: file.clone(), wanted: wanted.clone(), memory }))?;
        Ok((Self { blocks: blocks.into_iter(), wanted }, crew))
    }
}

/// Whether any byte of a block will be read.
fn is_wanted(block: &Block, wanted: &Wanted) -> bool {
    // A block without bytes is decoded as well where everything is wanted: it has a check of its own.
    match wanted {
        Wanted::All => true,
        Wanted::Ranges(_) => ByteRange::at(block.start, block.len).is_some_and(|range| wanted.touches(range)),
    }
}

impl Plan for Blocks {
    type Work = BlockWork;
    type Memo = Block;

    fn next(&mut self) -> Result<Step<Block, Block>, Fault> {
        Ok(match self.blocks.next() {
            None => Step::End,
            Some(block) if is_wanted(&block, &self.wanted) => Step::Part(block, block),
            Some(block) => Step::Gap(block.len),
        })
    }

    fn done(&mut self, _: &Block, (): ()) -> Result<(), Fault> {
        Ok(())
    }

    fn packed(&self, block: &Block) -> u64 {
        block.packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Context;
    use crate::merge::Merge;
    use crate::options::Format;
    use crate::reader::ImageReader;
    use std::io::Write;
    use std::sync::Arc;

    fn file(bytes: &[u8]) -> PackedFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        PackedFile { file: Arc::new(file), len: wide(bytes.len()) }
    }

    /// A file of one block, and that block.
    fn one_block(data: &[u8]) -> (PackedFile, Block) {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(data).unwrap();
        let file = file(&encoder.finish().unwrap());
        let (blocks, len) = index::read(&file).unwrap().unwrap();
        assert_eq!((blocks.len(), len), (1, wide(data.len())));
        (file, blocks[0])
    }

    #[test]
    fn no_byte_of_a_block_past_its_record_is_handed_over() {
        let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
        let (file, block) = one_block(&data);
        for len in [0, 1, 262_143, 262_144, 262_145, 300_000, 999_999] {
            let lying = vec![Block { len, ..block }];
            let (plan, crew) = Blocks::start(&file, lying, Wanted::All, &Options::default()).unwrap();
            let context = Context { name: "lying.xz".into(), format: Format::Xz };
            let mut reader = Merge::new(context, plan, crew);
            let mut all = Vec::new();
            let mut part = [0; 10_000];
            let error = loop {
                match reader.read(&mut part) {
                    Ok(0) => panic!("the end"),
                    Ok(count) => all.extend_from_slice(&part[..count]),
                    Err(error) => break error,
                }
            };
            assert!(error.to_string().contains("longer than the index says"), "{error}");
            assert!(wide(all.len()) <= len && data.starts_with(&all), "{len}: {}", all.len());
        }
    }
}
