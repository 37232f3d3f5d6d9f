//! Zstandard: a file by its frames, several at once; a stream, and a file of one frame, in order.

mod frame;
pub(crate) mod frames;
pub(crate) mod index;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use crate::error::Fault;
use crate::input::Input;
use crate::options::Options;
use crate::streaming::Decode;
use frame::{Header, MAX_HEADER};

/// The largest window used unasked, 128 MiB, as the zstd tool has it.
const WINDOW_LIMIT_LOG: u32 = 27;
/// The largest window the format's decoder knows on 64-bit machines, 2 GiB.
const WINDOW_MAX_LOG: u32 = 31;

/// A zstd decoder for frames in order.
pub(crate) struct Zstd {
    context: DCtx<'static>,
    limits: Limits,
    state: State,
    any: bool,
}

/// What a frame may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    allow_large_windows: bool,
    memory: u64,
}

impl Limits {
    pub(crate) fn new(options: &Options) -> Self {
        Self { allow_large_windows: options.allow_large_windows, memory: options.memory }
    }

    /// Refuses a window that needs leave or memory.
    pub(crate) fn check(self, window: u64) -> Result<(), Fault> {
        let limit = 1 << WINDOW_LIMIT_LOG;
        if window > limit {
            return if self.allow_large_windows { Ok(()) } else { Err(Fault::LargeWindow { window, limit }) };
        }
        if window > self.memory {
            return Err(Fault::Memory { needed: Some(window), limit: self.memory });
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Between,
    Frame,
    Skippable(u64),
}

impl Zstd {
    pub(crate) fn new(options: &Options) -> Result<Self, Fault> {
        let limits = Limits::new(options);
        Ok(Self { context: context(limits)?, limits, state: State::Between, any: false })
    }

    /// Makes ready for another input.
    fn begin(&mut self) {
        (self.state, self.any) = (State::Between, false);
    }

    /// Looks at what begins here; false at the end.
    fn next_frame(&mut self, input: &mut Input) -> Result<bool, Fault> {
        let at = input.position();
        let bytes = input.need(MAX_HEADER)?;
        if bytes.is_empty() && self.any {
            return Ok(false);
        }
        match frame::header(bytes, at, self.any)? {
            Header::Skippable { len } => {
                input.consume(frame::SKIPPABLE_HEADER);
                self.state = State::Skippable(len);
            }
            Header::Frame(header) => {
                self.limits.check(header.window)?;
                self.context.reset(ResetDirective::SessionOnly).map_err(|code| zstd_fault(at, code))?;
                self.state = State::Frame;
            }
        }
        self.any = true;
        Ok(true)
    }
}

/// A decoder that takes windows up to what the limits say.
pub(crate) fn context(limits: Limits) -> Result<DCtx<'static>, Fault> {
    let mut context = DCtx::try_create().ok_or(Fault::Memory { needed: None, limit: limits.memory })?;
    let log = if limits.allow_large_windows { WINDOW_MAX_LOG } else { WINDOW_LIMIT_LOG };
    context.set_parameter(DParameter::WindowLogMax(log)).map_err(|code| zstd_fault(0, code))?;
    Ok(context)
}

/// What libzstd says is wrong.
pub(crate) fn zstd_fault(at: u64, code: usize) -> Fault {
    Fault::corrupt(at, get_error_name(code).to_lowercase())
}

impl Decode for Zstd {
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            let at = input.position();
            match self.state {
                State::Between => {
                    if !self.next_frame(input)? {
                        return Ok(0);
                    }
                }
                State::Skippable(len) => {
                    if input.discard(len)? < len {
                        return Err(Fault::Truncated(input.position()));
                    }
                    self.state = State::Between;
                }
                State::Frame => {
                    let mut packed = InBuffer::around(input.fill()?);
                    let ended = packed.src.is_empty();
                    let mut output = OutBuffer::around(into);
                    let left = self
                        .context
                        .decompress_stream(&mut output, &mut packed)
                        .map_err(|code| zstd_fault(at, code))?;
                    let (used, made) = (packed.pos(), output.pos());
                    input.consume(used);
                    if left == 0 {
                        self.state = State::Between;
                    } else if ended && made == 0 {
                        return Err(Fault::Truncated(at));
                    }
                    if made > 0 {
                        return Ok(made);
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").field("state", &self.state).finish_non_exhaustive()
    }
}
