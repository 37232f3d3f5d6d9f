//! Android sparse images: what their headers add up to. The data is stepped over, not read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bmap::sparse::{ChunkHeader, ChunkKind, FileHeader};

/// The most chunks whose headers are read: what lies behind is not looked at.
const MAX_CHUNKS: u32 = 1 << 20;

/// What a sparse image says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Length of the flat image in bytes.
    pub(crate) image_size: u64,
    /// Bytes in a block.
    pub(crate) block_size: u32,
    /// Number of chunks.
    pub(crate) chunks: u32,
    /// Bytes of the flat image in chunks of each kind: data, repeated pattern, left alone.
    pub(crate) raw: u64,
    /// See [`Sparse::raw`].
    pub(crate) fill: u64,
    /// See [`Sparse::raw`].
    pub(crate) dont_care: u64,
    /// Why it cannot be right.
    pub(crate) broken: Option<String>,
}

/// Looks at the headers of a sparse image of `len` bytes.
///
/// # Errors
/// When the file header cannot be read or is none.
pub(crate) fn look(file: &File, len: u64) -> io::Result<Sparse> {
    let mut bytes = [0; 28];
    file.read_exact_at(&mut bytes, 0)?;
    let header = FileHeader::from_bytes(&bytes).map_err(io::Error::other)?;
    let mut sparse = Sparse {
        image_size: u64::from(header.blocks) * header.block_size.bytes(),
        block_size: header.block_size.get(),
        chunks: header.chunks,
        raw: 0,
        fill: 0,
        dont_care: 0,
        broken: None,
    };
    sparse.broken = sparse.walk(file, len, &header).err();
    Ok(sparse)
}

impl Sparse {
    fn walk(&mut self, file: &File, len: u64, header: &FileHeader) -> Result<(), String> {
        let mut at = u64::from(header.header_len);
        let mut blocks = 0_u64;
        for index in 0..header.chunks.min(MAX_CHUNKS) {
            let mut bytes = [0; 12];
            let cut = || format!("it is cut short in chunk {index} of {}, at byte {at}", header.chunks);
            file.read_exact_at(&mut bytes, at).map_err(|_| cut())?;
            let chunk = ChunkHeader::from_bytes(&bytes, header).map_err(|error| format!("chunk {index}: {error}"))?;
            let flat = u64::from(chunk.blocks) * header.block_size.bytes();
            match chunk.kind {
                ChunkKind::Raw => self.raw += flat,
                ChunkKind::Fill => self.fill += flat,
                ChunkKind::DontCare => self.dont_care += flat,
                ChunkKind::Crc32 => {}
            }
            blocks += u64::from(chunk.blocks);
            let end = at + u64::from(chunk.total_len);
            if end > len {
                return Err(cut());
            }
            at = end;
        }
        if header.chunks <= MAX_CHUNKS && blocks != u64::from(header.blocks) {
            return Err(format!("its chunks cover {blocks} blocks, its header says {}", header.blocks));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bmap::BlockSize;
    use std::io::Write as _;

    /// Ten blocks: one of data, two filled, seven left alone.
    fn sample() -> Vec<u8> {
        let block = BlockSize::DEFAULT;
        let mut bytes = FileHeader::new(block, 10, 3).unwrap().to_bytes().to_vec();
        bytes.extend(ChunkHeader::new(ChunkKind::Raw, 1, block).unwrap().to_bytes());
        bytes.extend([7; 4096]);
        bytes.extend(ChunkHeader::new(ChunkKind::Fill, 2, block).unwrap().to_bytes());
        bytes.extend([0; 4]);
        bytes.extend(ChunkHeader::new(ChunkKind::DontCare, 7, block).unwrap().to_bytes());
        bytes
    }

    fn looked(bytes: &[u8]) -> io::Result<Sparse> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        look(&file, u64::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn chunks_are_added_up() {
        let sparse = looked(&sample()).unwrap();
        assert_eq!((sparse.image_size, sparse.block_size, sparse.chunks), (40960, 4096, 3));
        assert_eq!((sparse.raw, sparse.fill, sparse.dont_care), (4096, 8192, 28672));
        assert_eq!(sparse.broken, None);
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = sample();
        for len in [28, 30, 40, 100, whole.len() - 1] {
            assert!(looked(&whole[..len]).unwrap().broken.is_some(), "{len}");
        }
        assert!(looked(&whole[..27]).is_err());
        let mut wrong = whole;
        wrong[16] = 11;
        assert_eq!(looked(&wrong).unwrap().broken.unwrap(), "its chunks cover 10 blocks, its header says 11");
    }
}
