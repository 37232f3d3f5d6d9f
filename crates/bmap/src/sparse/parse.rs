//! A sparse image as a stream of chunks. Nothing is allocated for its contents, however long it says it is.

use std::io::{self, Read};

use super::header::{ChunkHeader, ChunkKind, FileHeader, HeaderError};

/// A chunk, its header checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its header.
    pub header: ChunkHeader,
    /// The first block it covers.
    pub start: u32,
    /// What it does there.
    pub content: Content,
}

/// What a chunk does to its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// So many bytes follow: read them with [`Parser::read_data`], or leave them to be skipped.
    Raw(u64),
    /// These bytes repeat.
    Fill([u8; 4]),
    /// They stay as they are.
    DontCare,
    /// The CRC-32 of the image so far. Not verified: see [the format](super#checksums).
    Crc32(u32),
}

/// Why a sparse image could not be read or applied. Offsets are in the sparse image, in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SparseError {
    /// Reading failed.
    #[error("cannot read the sparse image at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// It ends too early.
    #[error("the sparse image ends too early: at byte {offset}, inside {inside}")]
    Truncated {
        /// Where the part begins that is not all there.
        offset: u64,
        /// Which part.
        inside: &'static str,
    },
    /// A header that makes no sense.
    #[error("the sparse image has a bad header at byte {offset}")]
    Header {
        /// Where the header begins.
        offset: u64,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// A chunk that reaches past the image.
    #[error("the chunk at byte {offset} covers {blocks} blocks from block {start} on, but the image has only {total}")]
    PastEnd {
        /// Where the chunk begins.
        offset: u64,
        /// Its first block.
        start: u32,
        /// Its blocks.
        blocks: u32,
        /// Blocks in the image.
        total: u32,
    },
    /// Chunks that do not add up.
    #[error("the sparse image says it has {stated} blocks, but its chunks have {counted}")]
    BlockCount {
        /// What the file header says.
        stated: u32,
        /// What the chunks cover.
        counted: u32,
    },
    /// Something else behind the last chunk.
    #[error("the sparse image has other bytes behind its last chunk, from byte {offset} on")]
    Trailing {
        /// Where the first of them is.
        offset: u64,
    },
    /// A read after an error, which could only give nonsense.
    #[error("the sparse image was already found to be bad")]
    AfterError,
    /// A flat image greater than wanted.
    #[error("the flat image would have {size} bytes; the most allowed is {most}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The most allowed.
        most: u64,
    },
    /// Writing the flat image failed.
    #[error("cannot write the flat image at byte {offset}")]
    Write {
        /// Where in the flat image.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// Reads a sparse image chunk by chunk.
#[derive(Debug)]
pub struct Parser<R> {
    reader: R,
    header: FileHeader,
    /// Bytes read.
    offset: u64,
    chunks_left: u32,
    /// Blocks covered by the chunks so far.
    block: u32,
    /// Bytes of the last RAW chunk that were not read yet.
    unread: u64,
    failed: bool,
}

impl<R: Read> Parser<R> {
    /// Reads the file header. `reader` should be buffered: headers are read by themselves.
    ///
    /// # Errors
    /// [`SparseError`] when it cannot be read or is not that of a sparse image.
    pub fn new(mut reader: R) -> Result<Self, SparseError> {
        let mut bytes = [0; 28];
        read_exact(&mut reader, &mut bytes, 0, "the file header")?;
        let header = FileHeader::from_bytes(&bytes).map_err(|source| SparseError::Header { offset: 0, source })?;
        let offset = u64::from(FileHeader::LEN);
        let mut parser =
            Self { reader, header, offset, chunks_left: header.chunks, block: 0, unread: 0, failed: false };
        parser.skip(u64::from(header.header_len - FileHeader::LEN), "the file header")?;
        Ok(parser)
    }

    /// The file header.
    #[must_use]
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Size of the flat image in bytes.
    #[must_use]
    pub fn image_size(&self) -> u64 {
        u64::from(self.header.blocks) * self.header.block_size.bytes()
    }

    /// Bytes of the sparse image read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next chunk; `None` behind the last one, when all blocks are accounted for. Data of the chunk before that
    /// nobody read is passed over. What lies behind the last chunk is not read: that is for [`Parser::finish`].
    ///
    /// # Errors
    /// [`SparseError`] when the image is truncated or contradicts itself; from then on, every call fails.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, SparseError> {
        self.guarded(Self::advance)
    }

    /// Reads on in the data of a RAW chunk, up to all of `buffer`; 0 when it is all read. Short only at its end.
    ///
    /// # Errors
    /// [`SparseError`] when reading fails or the image ends inside the chunk; from then on, every call fails.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, SparseError> {
        self.guarded(|parser| {
            let len = usize::try_from(parser.unread).unwrap_or(usize::MAX).min(buffer.len());
            let Some(part) = buffer.get_mut(..len) else { return Ok(0) };
            parser.read(part, "the data of a RAW chunk")?;
            parser.unread -= u64::try_from(len).unwrap_or(parser.unread);
            Ok(len)
        })
    }

    /// Goes to the end: passes over the chunks that are left, and makes sure that nothing lies behind the last one.
    ///
    /// # Errors
    /// [`SparseError::Trailing`] when the reader has more bytes, and the errors of [`Parser::next_chunk`].
    pub fn finish(&mut self) -> Result<(), SparseError> {
        while self.next_chunk()?.is_some() {}
        self.guarded(|parser| {
            let offset = parser.offset;
            let more = io::copy(&mut parser.reader.by_ref().take(1), &mut io::sink());
            match more.map_err(|source| SparseError::Read { offset, source })? {
                0 => Ok(()),
                _ => Err(SparseError::Trailing { offset }),
            }
        })
    }

    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, SparseError>) -> Result<T, SparseError> {
        if self.failed {
            return Err(SparseError::AfterError);
        }
        let result = act(self);
        self.failed = result.is_err();
        result
    }

    fn advance(&mut self) -> Result<Option<Chunk>, SparseError> {
        let unread = std::mem::take(&mut self.unread);
        self.skip(unread, "the data of a RAW chunk")?;
        if self.chunks_left == 0 {
            let (stated, counted) = (self.header.blocks, self.block);
            return if stated == counted { Ok(None) } else { Err(SparseError::BlockCount { stated, counted }) };
        }
        let offset = self.offset;
        let mut bytes = [0; 12];
        self.read(&mut bytes, "a chunk header")?;
        let header = ChunkHeader::from_bytes(&bytes, &self.header);
        let header = header.map_err(|source| SparseError::Header { offset, source })?;
        self.skip(u64::from(self.header.chunk_header_len - ChunkHeader::LEN), "a chunk header")?;
        let (start, blocks, total) = (self.block, header.blocks, self.header.blocks);
        let end = start.checked_add(blocks).filter(|end| *end <= total);
        let Some(end) = end else { return Err(SparseError::PastEnd { offset, start, blocks, total }) };
        let content = match header.kind {
            ChunkKind::Raw => {
                self.unread = u64::from(blocks) * self.header.block_size.bytes();
                Content::Raw(self.unread)
            }
            ChunkKind::Fill => Content::Fill(self.four_bytes("the data of a FILL chunk")?),
            ChunkKind::DontCare => Content::DontCare,
            ChunkKind::Crc32 => Content::Crc32(u32::from_le_bytes(self.four_bytes("the data of a CRC32 chunk")?)),
        };
        self.block = end;
        self.chunks_left -= 1;
        Ok(Some(Chunk { header, start, content }))
    }

    fn four_bytes(&mut self, inside: &'static str) -> Result<[u8; 4], SparseError> {
        let mut bytes = [0; 4];
        self.read(&mut bytes, inside)?;
        Ok(bytes)
    }

    fn read(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<(), SparseError> {
        read_exact(&mut self.reader, buffer, self.offset, inside)?;
        self.offset = self.offset.saturating_add(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn skip(&mut self, len: u64, inside: &'static str) -> Result<(), SparseError> {
        let offset = self.offset;
        let skipped = io::copy(&mut self.reader.by_ref().take(len), &mut io::sink())
            .map_err(|source| SparseError::Read { offset, source })?;
        self.offset = offset.saturating_add(skipped);
        if skipped == len { Ok(()) } else { Err(SparseError::Truncated { offset, inside }) }
    }
}

fn read_exact(reader: &mut impl Read, buffer: &mut [u8], offset: u64, inside: &'static str) -> Result<(), SparseError> {
    reader.read_exact(buffer).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => SparseError::Truncated { offset, inside },
        _ => SparseError::Read { offset, source },
    })
}
