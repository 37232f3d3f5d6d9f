//! Sparse to flat: what a device should end up with. The oracle of the tests, and the way to read such an image.

use std::io::{Read, Seek, SeekFrom, Write};

use super::parse::{Content, Parser, SparseError};

/// Bytes handled at once.
const STEP: usize = 1 << 18;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Size of the flat image in bytes. When it ends in DONT_CARE, the output may be shorter: setting its length is for
    /// the caller, who knows whether it is a file.
    pub size: u64,
    /// Bytes written, by RAW and FILL together.
    pub written: u64,
    /// How many checksums there are: CRC32 chunks, and the one of the file header where it is not 0. None was verified:
    /// see [the format](super#checksums).
    pub checksums_ignored: u32,
}

/// Writes the flat image of a sparse one to `output`, from its position 0 on. Blocks of DONT_CARE chunks are passed over.
/// `most` bounds the flat image in bytes: a FILL chunk of 16 bytes can make terabytes.
///
/// # Errors
/// [`SparseError`], also for bytes behind the last chunk. What came before the bad place was written already.
pub fn apply(input: impl Read, output: &mut (impl Write + Seek), most: u64) -> Result<Applied, SparseError> {
    let mut parser = Parser::new(input)?;
    let (size, block_size) = (parser.image_size(), parser.header().block_size);
    if size > most {
        return Err(SparseError::TooLarge { size, most });
    }
    let mut applied = Applied { size, written: 0, checksums_ignored: u32::from(parser.header().checksum != 0) };
    let mut buffer = vec![0; STEP];
    while let Some(chunk) = parser.next_chunk()? {
        let start = u64::from(chunk.start) * block_size.bytes();
        let len = u64::from(chunk.header.blocks) * block_size.bytes();
        match chunk.content {
            Content::DontCare => continue,
            Content::Crc32(_) => {
                applied.checksums_ignored = applied.checksums_ignored.saturating_add(1);
                continue;
            }
            Content::Raw(_) | Content::Fill(_) => {}
        }
        if let Content::Fill(pattern) = chunk.content {
            buffer.as_chunks_mut().0.fill(pattern);
        }
        output.seek(SeekFrom::Start(start)).map_err(|source| SparseError::Write { offset: start, source })?;
        let mut done = 0;
        while done < len {
            let step = usize::try_from(len - done).unwrap_or(usize::MAX).min(STEP);
            let Some(part) = buffer.get_mut(..step) else { break };
            if matches!(chunk.content, Content::Raw(_)) {
                parser.read_data(part)?;
            }
            output.write_all(part).map_err(|source| SparseError::Write { offset: start + done, source })?;
            done += u64::try_from(step).unwrap_or(len);
        }
        applied.written += len;
    }
    parser.finish()?;
    Ok(applied)
}
