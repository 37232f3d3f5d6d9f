//! xz: a file by the blocks that its index names, several at once; a stream in order.

pub(crate) mod blocks;
pub(crate) mod index;

use liblzma::stream::{Action, Error, Status, Stream, TELL_UNSUPPORTED_CHECK};

use crate::error::Fault;
use crate::input::Input;
use crate::num::{narrow, wide};
use crate::options::Options;
use crate::streaming::Decode;

/// The first bytes of a stream.
const MAGIC: &[u8] = b"\xfd7zXZ\0";

/// An xz decoder for streams in order.
pub(crate) struct Xz {
    stream: Option<Stream>,
    memory: u64,
    /// What the first block of the stream takes, where its header tells.
    needed: Option<u64>,
    any: bool,
}

impl Xz {
    pub(crate) fn new(options: &Options) -> Self {
        Self { stream: None, memory: options.memory, needed: None, any: false }
    }

    /// Starts the next stream, past padding (zeros, a multiple of four); false at the end.
    fn next_stream(&mut self, input: &mut Input) -> Result<bool, Fault> {
        loop {
            let at = input.position();
            let head = input.need(MAGIC.len())?;
            match head {
                [] if self.any => return Ok(false),
                [0, 0, 0, 0, ..] if self.any => input.consume(4),
                _ if head.starts_with(MAGIC) => break,
                _ if MAGIC.starts_with(head) => return Err(Fault::Truncated(at + wide(head.len()))),
                _ if self.any => return Err(Fault::Junk(at)),
                _ => return Err(Fault::corrupt(at, "no stream begins")),
            }
        }
        self.any = true;
        let first = input.need(index::HEADER + index::BLOCK_HEADER)?.get(index::HEADER..).unwrap_or_default();
        let dictionary = index::block_header(first).and_then(|header| header.dictionary);
        self.needed = dictionary.map(|dictionary| dictionary.saturating_add(blocks::OVERHEAD));
        let memory = self.memory;
        let stream = Stream::new_stream_decoder(memory, TELL_UNSUPPORTED_CHECK);
        self.stream = Some(stream.map_err(|error| lzma_fault(input.position(), error, memory))?);
        Ok(true)
    }
}

impl Xz {
    /// What liblzma says is wrong, with what a refused dictionary would have needed.
    fn fault(&self, at: u64, error: Error) -> Fault {
        match (lzma_fault(at, error, self.memory), self.needed) {
            // A later block may be the one that is too large: then nobody has seen how large.
            (Fault::Memory { limit, .. }, Some(needed)) if needed > limit => {
                Fault::Memory { needed: Some(needed), limit }
            }
            (fault, _) => fault,
        }
    }
}

impl Decode for Xz {
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            let Some(stream) = &mut self.stream else {
                if self.next_stream(input)? {
                    continue;
                }
                return Ok(0);
            };
            let at = input.position();
            let packed = input.fill()?;
            let cut = packed.is_empty();
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let result = stream.process(packed, into, Action::Run);
            let used = narrow(stream.total_in() - before_in, packed.len());
            let made = narrow(stream.total_out() - before_out, into.len());
            input.consume(used);
            match result.map_err(|error| self.fault(at, error))? {
                Status::StreamEnd => self.stream = None,
                _ if cut && made == 0 => return Err(Fault::Truncated(at)),
                _ => {}
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }
}

impl std::fmt::Debug for Xz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Xz").field("any", &self.any).finish_non_exhaustive()
    }
}

/// What liblzma says is wrong.
pub(crate) fn lzma_fault(at: u64, error: Error, limit: u64) -> Fault {
    match error {
        Error::MemLimit => Fault::Memory { needed: None, limit },
        Error::Mem => Fault::Memory { needed: None, limit },
        Error::UnsupportedCheck => Fault::Unsupported(at, "has a check of a kind"),
        Error::Options => Fault::Unsupported(at, "uses filters or options"),
        Error::Format => Fault::corrupt(at, "a wrong stream header"),
        Error::Data => Fault::corrupt(at, "a check failed"),
        error => Fault::corrupt(at, error.to_string()),
    }
}
