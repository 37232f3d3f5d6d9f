//! [`Streaming`]: a decoder that goes through the packed bytes once, in order, made into an [`ImageReader`].

use std::fmt;
use std::sync::Arc;

use crate::error::{Context, Fault, ImageError};
use crate::input::Input;
use crate::num::{narrow, wide};
use crate::reader::ImageReader;

/// Skipped bytes are decoded into a scratch buffer of this size and dropped: small enough to stay in a core's
/// second-level cache, so that they never reach memory.
pub(crate) const SCRATCH: usize = 128 << 10;

/// A decoder of one format.
pub(crate) trait Decode: Send {
    /// Decodes into `into`, which is not empty: at least one byte, or 0 at the end once every check has been made.
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault>;

    /// Decodes up to `most` bytes (not 0) that nobody wants; `scratch` is room to put them. Returns how many, 0 at the
    /// checked end.
    fn skip(&mut self, input: &mut Input, most: u64, scratch: &mut [u8]) -> Result<u64, Fault> {
        let len = narrow(most, scratch.len());
        self.decode(input, &mut scratch[..len]).map(wide)
    }
}

/// An [`ImageReader`] over a decoder.
pub(crate) struct Streaming<D> {
    context: Context,
    input: Input,
    decoder: D,
    position: u64,
    scratch: Vec<u8>,
    failed: bool,
}

impl<D> fmt::Debug for Streaming<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming")
            .field("context", &self.context)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<D: Decode> Streaming<D> {
    pub(crate) fn new(context: Context, input: Input, decoder: D) -> Self {
        Self { context, input, decoder, position: 0, scratch: Vec::new(), failed: false }
    }

    /// The input back, for reading it again.
    pub(crate) fn into_input(self) -> Input {
        self.input
    }

    /// Counts what a decoder did, or remembers that it failed.
    fn account(&mut self, result: Result<u64, Fault>) -> Result<u64, ImageError> {
        match result {
            Ok(count) => {
                self.position += count;
                Ok(count)
            }
            Err(fault) => {
                self.failed = true;
                Err(self.context.error(fault, self.position))
            }
        }
    }

    fn check(&self) -> Result<(), ImageError> {
        if self.failed {
            return Err(ImageError::Failed { name: Arc::clone(&self.context.name), unpacked: self.position });
        }
        Ok(())
    }

    fn skip(&mut self, most: u64) -> Result<u64, ImageError> {
        self.scratch.resize(SCRATCH, 0);
        let result = self.decoder.skip(&mut self.input, most, &mut self.scratch);
        self.account(result)
    }
}

impl<D: Decode> ImageReader for Streaming<D> {
    fn name(&self) -> &Arc<str> {
        &self.context.name
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn packed_position(&self) -> u64 {
        self.input.position()
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, ImageError> {
        self.check()?;
        if into.is_empty() {
            return Ok(0);
        }
        let result = self.decoder.decode(&mut self.input, into).map(wide);
        self.account(result).map(|count| narrow(count, into.len()))
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), ImageError> {
        self.check()?;
        check_forward(&self.context, self.position, offset)?;
        while self.position < offset {
            if self.skip(offset - self.position)? == 0 {
                let name = Arc::clone(&self.context.name);
                return Err(ImageError::TooShort { name, len: self.position, wanted: offset });
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, ImageError> {
        self.check()?;
        while self.skip(u64::MAX - self.position)? > 0 {}
        Ok(self.position)
    }
}

/// Refuses to go backwards.
pub(crate) fn check_forward(context: &Context, position: u64, offset: u64) -> Result<(), ImageError> {
    if offset < position {
        let name = Arc::clone(&context.name);
        return Err(ImageError::Unwanted { name, offset, why: "it lies behind what has been read" });
    }
    Ok(())
}
