//! Frames of a zstd file decoded side by side; unwanted ones left out, if it is known what they unpack to.

use std::hash::Hasher;

use bmap::ByteRange;
use twox_hash::XxHash64;

use super::frame::MAX_BLOCK;
use super::index::{self, Frame};
use super::{Limits, Zstd};
use crate::crew::{Crew, Sink, Size, Stop, Work};
use crate::error::Fault;
use crate::input::PackedFile;
use crate::merge::{Plan, Step};
use crate::num::wide;
use crate::options::{Options, Wanted};
use crate::streaming::Decode;

/// What a frame's decoder takes beside its window: its state, room for a block in and out, and our input buffer.
const OVERHEAD: u64 = 1 << 20;

/// What a frame may unpack to when it does not say: pzstd makes frames of 32 MiB at its usual levels.
const PART: u64 = 32 << 20;

/// Decodes a frame.
pub(crate) struct FrameWork {
    file: PackedFile,
    wanted: Wanted,
    decoder: Zstd,
}

impl Work for FrameWork {
    type Job = Frame;
    type Done = ();

    fn run(&mut self, frame: Frame, sink: &mut Sink<()>) -> Result<(), Stop> {
        let mut input = index::input(&self.file, &frame);
        self.decoder.begin();
        let mut at = frame.start;
        let mut hash = frame.checksum.map(|_| XxHash64::with_seed(0));
        let mut buffer = sink.buffer();
        loop {
            let mut filled = 0;
            let mut ended = false;
            while filled < buffer.len() && !ended {
                let count = self.decoder.decode(&mut input, &mut buffer[filled..])?;
                filled += count;
                ended = count == 0;
            }
            let range = ByteRange::at(at, wide(filled));
            at = at.saturating_add(wide(filled));
            // libzstd holds a frame to the length in its header; a length from a seek table has to be held to here.
            let made = at - frame.start;
            if frame.len.is_some_and(|len| made > len || (ended && made != len)) {
                return Err(Fault::corrupt(frame.packed, "a frame that is not as long as declared").into());
            }
            if let Some(hash) = &mut hash {
                hash.write(&buffer[..filled]);
            }
            let low_half = |hash: &XxHash64| u32::try_from(hash.finish() & u64::from(u32::MAX)).ok();
            if ended && hash.as_ref().is_some_and(|hash| low_half(hash) != frame.checksum) {
                return Err(
                    Fault::corrupt(frame.packed, "a frame that does not have its checksum in the seek table").into()
                );
            }
            if range.is_some_and(|range| self.wanted.touches(range)) {
                sink.data(std::mem::take(&mut buffer), filled)?;
            } else {
                sink.gap(wide(filled))?;
            }
            if ended {
                return Ok(());
            }
            if buffer.is_empty() {
                buffer = sink.buffer();
            }
        }
    }
}

/// The frames of a file, wanted ones to be decoded.
#[derive(Debug)]
pub(crate) struct Frames {
    frames: std::vec::IntoIter<Frame>,
    wanted: Wanted,
}

impl Frames {
    /// A plan for these frames, and workers for it.
    pub(crate) fn start(
        file: &PackedFile,
        frames: index::Frames,
        wanted: Wanted,
        options: &Options,
    ) -> Result<(Self, Crew<Frame, ()>), Fault> {
        let limits = Limits::new(options);
        // Without lengths nobody can tell which frames hold the wanted bytes.
        let wanted = if frames.len.is_some() { wanted } else { Wanted::All };
        let frames = frames.list;
        let (mut count, mut part, mut window) = (0, 0, 0);
        for frame in frames.iter().filter(|frame| is_wanted(frame, &wanted)) {
            limits.check(frame.window)?;
            count += 1;
            part = part.max(frame.len.unwrap_or(PART));
            window = window.max(frame.window);
        }
        // libzstd keeps the window and a block more.
        let size = Size::new(options, count, window.saturating_add(MAX_BLOCK + OVERHEAD), part);
        let work = || Ok(FrameWork { file: file.clone(), wanted: wanted.clone(), decoder: Zstd::new(options)? });
        let crew = Crew::start(size, work)?;
        Ok((Self { frames: frames.into_iter(), wanted }, crew))
    }
}

/// Whether any byte of a frame will be read; empty ones are decoded where everything is, since they may be wrong.
fn is_wanted(frame: &Frame, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::All => true,
        Wanted::Ranges(_) => {
            frame.len.and_then(|len| ByteRange::at(frame.start, len)).is_some_and(|range| wanted.touches(range))
        }
    }
}

impl Plan for Frames {
    type Work = FrameWork;
    type Memo = Frame;

    fn next(&mut self) -> Result<Step<Frame, Frame>, Fault> {
        Ok(match self.frames.next() {
            None => Step::End,
            Some(frame) if is_wanted(&frame, &self.wanted) => Step::Part(frame, frame),
            Some(frame) => Step::Gap(frame.len.unwrap_or(0)),
        })
    }

    fn done(&mut self, _: &Frame, (): ()) -> Result<(), Fault> {
        Ok(())
    }

    fn packed(&self, frame: &Frame) -> u64 {
        frame.packed
    }
}
