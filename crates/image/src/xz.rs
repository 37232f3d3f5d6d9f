//! xz: a file by the blocks that its index names, several at once; a stream in order.

pub(crate) mod blocks;
pub(crate) mod index;

use liblzma::stream::{Action, CONCATENATED, Error, Status, Stream, TELL_UNSUPPORTED_CHECK};

use crate::error::Fault;
use crate::input::Input;
use crate::num::narrow;
use crate::options::Options;
use crate::streaming::Decode;

/// An xz decoder for streams in order.
pub(crate) struct Xz {
    stream: Stream,
    memory: u64,
    ended: bool,
}

impl Xz {
    pub(crate) fn new(options: &Options) -> Result<Self, Fault> {
        let memory = options.memory;
        let flags = CONCATENATED | TELL_UNSUPPORTED_CHECK;
        let stream = Stream::new_stream_decoder(memory, flags).map_err(|error| lzma_fault(0, error, memory))?;
        Ok(Self { stream, memory, ended: false })
    }
}

impl Decode for Xz {
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault> {
        while !self.ended {
            let at = input.position();
            let packed = input.fill()?;
            // With concatenated streams only the end of the input tells where the last one ends.
            let action = if packed.is_empty() { Action::Finish } else { Action::Run };
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let result = self.stream.process(packed, into, action);
            let used = narrow(self.stream.total_in() - before_in, packed.len());
            let made = narrow(self.stream.total_out() - before_out, into.len());
            let ended = packed.is_empty();
            input.consume(used);
            match result.map_err(|error| lzma_fault(at, error, self.memory))? {
                Status::StreamEnd => self.ended = true,
                Status::MemNeeded if ended && made == 0 => return Err(Fault::Truncated(at)),
                _ => {}
            }
            if made > 0 {
                return Ok(made);
            }
        }
        Ok(0)
    }
}

impl std::fmt::Debug for Xz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Xz").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What liblzma says is wrong.
pub(crate) fn lzma_fault(at: u64, error: Error, limit: u64) -> Fault {
    match error {
        Error::MemLimit => Fault::Memory { needed: None, limit },
        Error::Mem => Fault::Memory { needed: None, limit },
        Error::UnsupportedCheck => Fault::Unsupported(at, "has a check of a kind"),
        Error::Options => Fault::Unsupported(at, "uses filters or options"),
        Error::Format => Fault::Junk(at),
        Error::Data => Fault::corrupt(at, "a check failed"),
        error => Fault::corrupt(at, error.to_string()),
    }
}
