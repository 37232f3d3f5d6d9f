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
const OVERHEAD: u64 = 1 << 20;

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
            let too_long = at + wide(filled) > block.start + block.len;
            if too_long || status == Status::MemNeeded || (end.is_empty() && filled < buffer.len()) {
                return Err(Fault::corrupt(block.packed, "a block that is longer than the index says").into());
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
        for block in blocks.iter().filter(|block| is_wanted(block, &wanted)) {
            count += 1;
            part = part.max(block.len);
            let mut header = [0; BLOCK_HEADER];
            let header = &mut header[..narrow(block.padded(), BLOCK_HEADER)];
            file.read_exact_at(header, block.packed)?;
            dictionary = dictionary.max(index::dictionary(header).unwrap_or(0));
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
