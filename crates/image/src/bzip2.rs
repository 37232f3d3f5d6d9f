//! bzip2: block by block, several at once, from files and streams alike; and in order, for an image's head.

pub(crate) mod blocks;
mod scan;

use bzip2::{Decompress, Status};

use crate::error::Fault;
use crate::input::Input;
use crate::num::{narrow, wide};
use crate::streaming::Decode;

/// A bzip2 decoder for streams in order.
#[derive(Default)]
pub(crate) struct Bzip2 {
    stream: Option<Decompress>,
    any: bool,
}

impl Decode for Bzip2 {
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            let at = input.position();
            let Some(stream) = &mut self.stream else {
                let head = input.need(4)?;
                match head {
                    [] if self.any => return Ok(0),
                    [b'B', b'Z', b'h', b'1'..=b'9', ..] => {}
                    _ if b"BZh1".starts_with(head) => return Err(Fault::Truncated(at + wide(head.len()))),
                    _ if self.any => return Err(Fault::Junk(at)),
                    _ => return Err(Fault::corrupt(at, "a wrong header")),
                }
                self.any = true;
                self.stream = Some(Decompress::new(false));
                continue;
            };
            let packed = input.fill()?;
            let ended = packed.is_empty();
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(packed, into).map_err(|_| Fault::corrupt(at, "invalid data"))?;
            let used = narrow(stream.total_in() - before_in, packed.len());
            let made = narrow(stream.total_out() - before_out, into.len());
            input.consume(used);
            if status == Status::StreamEnd {
                self.stream = None;
            } else if ended && made == 0 {
                return Err(Fault::Truncated(at));
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }
}

impl std::fmt::Debug for Bzip2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bzip2").field("any", &self.any).finish_non_exhaustive()
    }
}
