//! The two headers of a sparse image and their bytes. Whether chunks add up is for [`super::parse`].

use crate::units::BlockSize;

/// The first four bytes of a sparse image, as a little-endian number: `3A FF 26 ED`.
pub const MAGIC: u32 = 0xED26_FF3A;

/// The only major version there is.
pub const MAJOR: u16 = 1;

/// The header of a sparse image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Minor version; anything is taken.
    pub minor: u16,
    /// Length of this header in bytes, at least [`FileHeader::LEN`].
    pub header_len: u16,
    /// Length of each chunk header in bytes, at least [`ChunkHeader::LEN`].
    pub chunk_header_len: u16,
    /// Size of a block, a multiple of 4.
    pub block_size: BlockSize,
    /// Blocks in the flat image.
    pub blocks: u32,
    /// Chunks in this file.
    pub chunks: u32,
    /// CRC-32 of the flat image; 0 when nobody computed it. We write 0 and do not verify it: see
    /// [the format](super#checksums).
    pub checksum: u32,
}

/// Why bytes are no header of a sparse image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Other first bytes.
    #[error("this is no Android sparse image: it begins with {found:#010x}, not {MAGIC:#010x}")]
    Magic {
        /// The first four bytes as a little-endian number.
        found: u32,
    },
    /// Another major version.
    #[error("the sparse image has version {major}.{minor}; we read 1.x")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A header shorter than its fields.
    #[error("the sparse image says that its {which} header has {found} bytes; it needs {least}")]
    HeaderLen {
        /// "file" or "chunk".
        which: &'static str,
        /// The length stated.
        found: u16,
        /// The length of the fields.
        least: u16,
    },
    /// A block size that is 0, too great or no multiple of 4.
    #[error("the sparse image has blocks of {found} bytes; they must be a multiple of 4, up to {}", BlockSize::MAX)]
    BlockSize {
        /// The size stated.
        found: u32,
    },
    /// A chunk of a type that is not defined.
    #[error("unknown chunk type {found:#06x}")]
    ChunkType {
        /// The type stated.
        found: u16,
    },
    /// A chunk whose length in bytes contradicts its type and blocks.
    #[error("a {kind:?} chunk of {blocks} blocks says it has {stated} bytes, but it must have {expected}")]
    ChunkLen {
        /// Its type.
        kind: ChunkKind,
        /// Its blocks.
        blocks: u32,
        /// Its length as stated, header included.
        stated: u32,
        /// The length that follows from the rest.
        expected: u64,
    },
    /// A CRC32 chunk that claims blocks.
    #[error("a Crc32 chunk claims {blocks} blocks; it has none")]
    ChecksumBlocks {
        /// The blocks stated.
        blocks: u32,
    },
}

/// The little-endian numbers of a header, in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *field
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.next())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.next())
    }
}

impl FileHeader {
    /// Length of the fields in bytes, and of the header we write.
    pub const LEN: u16 = 28;

    /// A header as we write it, with the usual lengths and without checksum; `None` for a block size that sparse images
    /// cannot have.
    #[must_use]
    pub fn new(block_size: BlockSize, blocks: u32, chunks: u32) -> Option<Self> {
        let (header_len, chunk_header_len) = (Self::LEN, ChunkHeader::LEN);
        let header = Self { minor: 0, header_len, chunk_header_len, block_size, blocks, chunks, checksum: 0 };
        block_size.get().is_multiple_of(4).then_some(header)
    }

    /// A header from its first 28 bytes.
    ///
    /// # Errors
    /// [`HeaderError`] for other magic, version, lengths too small, or an impossible block size.
    pub fn from_bytes(bytes: &[u8; 28]) -> Result<Self, HeaderError> {
        let mut fields = Fields(bytes);
        let magic = fields.u32();
        if magic != MAGIC {
            return Err(HeaderError::Magic { found: magic });
        }
        let (major, minor) = (fields.u16(), fields.u16());
        if major != MAJOR {
            return Err(HeaderError::Version { major, minor });
        }
        let (header_len, chunk_header_len) = (fields.u16(), fields.u16());
        for (which, found, least) in [("file", header_len, Self::LEN), ("chunk", chunk_header_len, ChunkHeader::LEN)] {
            if found < least {
                return Err(HeaderError::HeaderLen { which, found, least });
            }
        }
        let found = fields.u32();
        let block_size = BlockSize::new(found).filter(|size| size.get().is_multiple_of(4));
        let block_size = block_size.ok_or(HeaderError::BlockSize { found })?;
        let (blocks, chunks, checksum) = (fields.u32(), fields.u32(), fields.u32());
        Ok(Self { minor, header_len, chunk_header_len, block_size, blocks, chunks, checksum })
    }

    /// The fields as bytes; a header with a greater `header_len` goes on behind them.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        let halves = [MAJOR, self.minor, self.header_len, self.chunk_header_len];
        let words = [self.block_size.get(), self.blocks, self.chunks, self.checksum];
        let fields = MAGIC.to_le_bytes().into_iter();
        let fields = fields.chain(halves.into_iter().flat_map(u16::to_le_bytes));
        let fields = fields.chain(words.into_iter().flat_map(u32::to_le_bytes));
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }
}

/// What a chunk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// Its bytes are the blocks' bytes.
    Raw,
    /// Four bytes repeat through its blocks.
    Fill,
    /// Its blocks stay as they are.
    DontCare,
    /// The CRC-32 of the flat image so far.
    Crc32,
}

impl ChunkKind {
    /// The number of the type.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Raw => 0xCAC1,
            Self::Fill => 0xCAC2,
            Self::DontCare => 0xCAC3,
            Self::Crc32 => 0xCAC4,
        }
    }

    /// Bytes of data behind the header, for so many blocks.
    fn data_len(self, blocks: u32, block_size: BlockSize) -> u64 {
        match self {
            Self::Raw => u64::from(blocks) * block_size.bytes(),
            Self::Fill | Self::Crc32 => 4,
            Self::DontCare => 0,
        }
    }
}

/// The header of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Its type.
    pub kind: ChunkKind,
    /// Blocks of the flat image that it covers.
    pub blocks: u32,
    /// Bytes in the file, header included.
    pub total_len: u32,
}

impl ChunkHeader {
    /// Length of the fields in bytes, and of the header we write.
    pub const LEN: u16 = 12;

    /// A header as we write it; `None` when the chunk would not fit 32 bits.
    #[must_use]
    pub fn new(kind: ChunkKind, blocks: u32, block_size: BlockSize) -> Option<Self> {
        let total_len = u64::from(Self::LEN) + kind.data_len(blocks, block_size);
        Some(Self { kind, blocks, total_len: u32::try_from(total_len).ok()? })
    }

    /// A chunk header from its first 12 bytes, in an image with that file header. The reserved field is not looked at.
    ///
    /// # Errors
    /// [`HeaderError`] for an unknown type, or a length that does not follow from type and blocks.
    pub fn from_bytes(bytes: &[u8; 12], file: &FileHeader) -> Result<Self, HeaderError> {
        let mut fields = Fields(bytes);
        let (code, _reserved) = (fields.u16(), fields.u16());
        let (blocks, total_len) = (fields.u32(), fields.u32());
        let kinds = [ChunkKind::Raw, ChunkKind::Fill, ChunkKind::DontCare, ChunkKind::Crc32];
        let kind = kinds.into_iter().find(|kind| kind.code() == code).ok_or(HeaderError::ChunkType { found: code })?;
        if kind == ChunkKind::Crc32 && blocks != 0 {
            return Err(HeaderError::ChecksumBlocks { blocks });
        }
        let expected = u64::from(file.chunk_header_len) + kind.data_len(blocks, file.block_size);
        if u64::from(total_len) != expected {
            return Err(HeaderError::ChunkLen { kind, blocks, stated: total_len, expected });
        }
        Ok(Self { kind, blocks, total_len })
    }

    /// The fields as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let fields = self.kind.code().to_le_bytes().into_iter().chain([0, 0]);
        let fields = fields.chain([self.blocks, self.total_len].into_iter().flat_map(u32::to_le_bytes));
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes that img2simg 29.0.6 writes for an image of 10 blocks with data in the third.
    const GOLDEN: [u8; 28] =
        [0x3A, 0xFF, 0x26, 0xED, 1, 0, 0, 0, 28, 0, 12, 0, 0, 0x10, 0, 0, 10, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn golden_file_header() {
        let header = FileHeader::new(BlockSize::DEFAULT, 10, 3).unwrap();
        assert_eq!(header.to_bytes(), GOLDEN);
        assert_eq!(FileHeader::from_bytes(&GOLDEN), Ok(header));
    }

    #[test]
    fn golden_chunk_headers() {
        let file = FileHeader::new(BlockSize::DEFAULT, 10, 3).unwrap();
        for (kind, blocks, bytes) in [
            (ChunkKind::Raw, 1, [0xC1, 0xCA, 0, 0, 1, 0, 0, 0, 0x0C, 0x10, 0, 0]),
            (ChunkKind::Fill, 2, [0xC2, 0xCA, 0, 0, 2, 0, 0, 0, 0x10, 0, 0, 0]),
            (ChunkKind::DontCare, u32::MAX, [0xC3, 0xCA, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0C, 0, 0, 0]),
            (ChunkKind::Crc32, 0, [0xC4, 0xCA, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]),
        ] {
            let chunk = ChunkHeader::new(kind, blocks, BlockSize::DEFAULT).unwrap();
            assert_eq!(chunk.to_bytes(), bytes);
            assert_eq!(ChunkHeader::from_bytes(&bytes, &file), Ok(chunk));
        }
    }

    #[test]
    fn wrong_fields_are_refused() {
        let with = |place: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[place] = byte;
            FileHeader::from_bytes(&bytes)
        };
        assert!(matches!(with(0, 0), Err(HeaderError::Magic { found: 0xED26_FF00 })));
        assert_eq!(with(4, 2), Err(HeaderError::Version { major: 2, minor: 0 }));
        assert_eq!(with(8, 27), Err(HeaderError::HeaderLen { which: "file", found: 27, least: 28 }));
        assert_eq!(with(10, 11), Err(HeaderError::HeaderLen { which: "chunk", found: 11, least: 12 }));
        assert_eq!(with(12, 2), Err(HeaderError::BlockSize { found: 4098 }));
        assert_eq!(with(13, 0), Err(HeaderError::BlockSize { found: 0 }));
        assert_eq!(with(15, 0x80), Err(HeaderError::BlockSize { found: 0x8000_1000 }));
        assert_eq!(with(6, 9).map(|header| header.minor), Ok(9));
        assert_eq!(with(8, 40).map(|header| header.header_len), Ok(40));
        assert!(FileHeader::new(BlockSize::new(1001).unwrap(), 1, 1).is_none());
    }

    #[test]
    fn wrong_chunks_are_refused() {
        let mut file = FileHeader::new(BlockSize::DEFAULT, 10, 3).unwrap();
        let with = |file: &FileHeader, code: u16, blocks: u32, len: u32| {
            let [a, b] = code.to_le_bytes();
            let ([c, d, e, f], [g, h, i, j]) = (blocks.to_le_bytes(), len.to_le_bytes());
            ChunkHeader::from_bytes(&[a, b, 0, 0, c, d, e, f, g, h, i, j], file)
        };
        assert_eq!(with(&file, 0xCAC5, 1, 12), Err(HeaderError::ChunkType { found: 0xCAC5 }));
        assert_eq!(with(&file, 0xCAC4, 1, 16), Err(HeaderError::ChecksumBlocks { blocks: 1 }));
        for (code, blocks, len) in [(0xCAC1, 1, 4096), (0xCAC1, 1 << 20, 12), (0xCAC2, 1, 12), (0xCAC3, 1, 16)] {
            assert!(
                matches!(with(&file, code, blocks, len), Err(HeaderError::ChunkLen { stated, .. }) if stated == len)
            );
        }
        // The product does not wrap at 32 bits: 2^20 blocks of 4096 are 4 GiB, not 0.
        assert!(ChunkHeader::new(ChunkKind::Raw, 1 << 20, BlockSize::DEFAULT).is_none());
        file.chunk_header_len = 20;
        assert!(with(&file, 0xCAC2, 1, 24).is_ok() && with(&file, 0xCAC2, 1, 16).is_err());
    }
}
