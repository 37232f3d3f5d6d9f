//! Writing planned sparse images: the dumb loop over a plan.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::split::{Layout, Payload, Split, SplitError, whole};

/// Bytes copied at once.
const STEP: usize = 1 << 18;

/// Why a sparse image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// Reading the image failed, or it is shorter than the plan says (`UnexpectedEof`).
    #[error("cannot read the image at byte {offset}")]
    Read {
        /// Where in the image.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Writing the sparse image failed.
    #[error("cannot write the sparse image")]
    Write(#[source] io::Error),
    /// There is no plan for it.
    #[error("the image does not fit one sparse image")]
    Split(#[from] SplitError),
}

/// Writes all of a layout as one sparse image, however long, with the data of `image`. Gives its length in bytes.
///
/// # Errors
/// [`MakeError`]. What was written before is no complete sparse image.
pub fn make(layout: &Layout, image: &mut (impl Read + Seek), out: &mut impl Write) -> Result<u64, MakeError> {
    let split = whole(layout)?;
    write_split(&split, image, out)?;
    Ok(split.len())
}

/// Writes one split, exactly [`Split::len`] bytes, with the data of `image`.
///
/// # Errors
/// [`MakeError`]. What was written before is no complete sparse image.
pub fn write_split(split: &Split, image: &mut (impl Read + Seek), out: &mut impl Write) -> Result<(), MakeError> {
    let mut buffer = vec![0; STEP];
    out.write_all(&split.header().to_bytes()).map_err(MakeError::Write)?;
    for chunk in split.chunks() {
        out.write_all(&chunk.header.to_bytes()).map_err(MakeError::Write)?;
        match chunk.payload {
            Payload::DontCare => {}
            Payload::Fill(pattern) => out.write_all(&pattern).map_err(MakeError::Write)?,
            Payload::Data { bytes, padding } => {
                let at = |offset| move |source| MakeError::Read { offset, source };
                image.seek(SeekFrom::Start(bytes.start())).map_err(at(bytes.start()))?;
                let mut offset = bytes.start();
                while offset < bytes.end() {
                    let step = usize::try_from(bytes.end() - offset).unwrap_or(usize::MAX).min(STEP);
                    let Some(part) = buffer.get_mut(..step) else { break };
                    image.read_exact(part).map_err(at(offset))?;
                    out.write_all(part).map_err(MakeError::Write)?;
                    offset += u64::try_from(step).unwrap_or(bytes.len());
                }
                io::copy(&mut io::repeat(0).take(u64::from(padding)), out).map_err(MakeError::Write)?;
            }
        }
    }
    Ok(())
}
