//! Pack files: an image cut, digested and packed for the wire beforehand, for a line that flashes it a thousand times.
//!
//! Flashing one reads its index and then nothing but what it sends: no decoding, no digests, no compression. The block
//! map and its digests are in the index; they were checked while packing.
//!
//! # Format
//! Numbers are little-endian. The file is, from its first byte to its last:
//!
//! | bytes | what |
//! | --- | --- |
//! | 512 | the header |
//! | … | payload: pieces in image order, each at the next multiple of 512, zeros between them |
//! | … | the index |
//!
//! Header: 8 bytes of magic, 8D 4D 46 50 41 43 4B 0A; the version, 1, in 4 bytes; 4 zeros; where the index begins (8);
//! its length (8), at most 256 MiB; its SHA-256 (32); CRC-32 (zlib's) of the 64 bytes before (4); zeros.
//!
//! Index:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | length of the image |
//! | 8 | length of its head, which is written last: a multiple of 4096 |
//! | 4 | the longest piece: a power of two, 64 KiB to 16 MiB; an image has at most 2^22 of them |
//! | 4 | level of LZ4, for people |
//! | 4 | count of loaders, at most 16 |
//! | 4 | where there is data: 0 anywhere, 1 in extents (all else is zero), 2 in the ranges of a map (all else is free) |
//! | 4 | count of extents or ranges |
//! | 4 | bytes in a block of the map; 0 without one |
//! | 4 | digests of ranges: 0 none, 1 SHA-1, 2 SHA-224, 3 SHA-256, 4 SHA-384, 5 SHA-512 |
//! | 4, 4, 4 | count of pieces, count of runs, 0 |
//! | 8 each | loaders: where each begins in the image |
//! | 16 each | extents: first byte, and the byte behind the last |
//! | 16 … each | ranges: first and last block; where there are digests, 4 bytes that are 1 if this range has one, and it |
//! | 72 each | pieces |
//! | 12 each | runs: those of the first piece, of the second, … |
//!
//! Pieces are extents or ranges cut at multiples of the longest piece and at the head's end. A piece: its first byte in
//! the image (8); where it lies in the file (8); its length (4), that in the file (4); CRC-32 of it (4), of what lies in
//! the file (4); its form (4); count of its runs (4); its SHA-256 (32). Forms: 0 raw; 1 an LZ4 frame of independent
//! blocks, shorter than the piece; 2 nothing in the file, for one run is all of it.
//!
//! Runs are of one 32-bit word over and over, 64 KiB and longer: the first 4096-byte block in the piece (4), count of
//! blocks (4), the word (4). They travel as four bytes.

mod error;
mod index;
mod make;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bmap::{Algorithm, BlockMap, ByteRange, Hasher};
use image::PACK_MAGIC;

pub use error::PackError;
pub use index::{Contents, Entry, Index, Stored};
pub use make::{PackJob, Packed, make_pack};

use super::place::To;
use super::prepare::Wishes;
use crate::error::FlashError;
use crate::plan::{Kind, Plan};

/// The version that is read and written.
pub const VERSION: u32 = 1;
/// Bytes of the header.
const HEADER: u64 = 512;
/// The longest index that is read, and written.
pub const MAX_INDEX: u64 = 256 << 20;

/// A pack file, its index read and checked.
#[derive(Debug)]
pub struct Pack {
    name: String,
    file: File,
    len: u64,
    index: Index,
}

/// Opens a pack file: reads its header and index, and nothing of its payload.
///
/// # Errors
/// [`PackError`]; [`PackError::NotAPack`] for any other file.
pub fn open_pack(path: &Path) -> Result<Pack, PackError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => Pack::new(&name, file),
        Err(source) => Err(PackError::Read { name, source }),
    }
}

/// What a header says.
struct Header {
    at: u64,
    len: u64,
    sha256: [u8; 32],
}

impl Header {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = PACK_MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.at.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(self.sha256);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(usize::try_from(HEADER).unwrap_or(0), 0);
        bytes
    }

    /// `None` if it is damaged.
    fn parse(bytes: &[u8]) -> Result<Self, PackError> {
        let array = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).copied();
        let word = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied();
        // Before anything else: another version may have another header.
        let found = word(8).map(u32::from_le_bytes).ok_or(PackError::Header)?;
        if found != VERSION {
            return Err(PackError::Version { found });
        }
        let header = || {
            let (at, len) = (u64::from_le_bytes(array(16)?), u64::from_le_bytes(array(24)?));
            Some(Self { at, len, sha256: *bytes.get(32..)?.first_chunk()? })
        };
        // What is written is what is read: spare bytes are zero.
        header().filter(|header| header.to_bytes() == bytes).ok_or(PackError::Header)
    }
}

impl Pack {
    /// A pack in an open file, called `name`.
    ///
    /// # Errors
    /// As [`open_pack`].
    pub fn new(name: &str, file: File) -> Result<Self, PackError> {
        let failed = |source| PackError::Read { name: name.to_owned(), source };
        let len = file.metadata().map_err(failed)?.len();
        let mut first = Vec::new();
        (&file).take(HEADER).read_to_end(&mut first).map_err(failed)?;
        if !first.starts_with(PACK_MAGIC) {
            return Err(PackError::NotAPack { name: name.to_owned() });
        }
        let header = Header::parse(&first)?;
        if header.len > MAX_INDEX {
            return Err(PackError::IndexTooLong { found: header.len });
        }
        let expected = header.at.saturating_add(header.len);
        if expected != len {
            return Err(PackError::Length { expected, found: len });
        }
        let mut bytes = vec![0; usize::try_from(header.len).unwrap_or(0)];
        file.read_exact_at(&mut bytes, header.at).map_err(failed)?;
        if Hasher::digest(Algorithm::Sha256, &bytes).as_bytes() != header.sha256 {
            return Err(PackError::IndexDigest);
        }
        let index = Index::parse(&bytes, header.at)?;
        Ok(Self { name: name.to_owned(), file, len, index })
    }

    /// The file's name, as it was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// What is in it.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The block map of the image, if it had one.
    #[must_use]
    pub fn map(&self) -> Option<&BlockMap> {
        self.index.map()
    }

    /// Plans how the image gets to boards; as [`super::prepare`] does it for one that is not packed, but the length of
    /// pieces is that of the pack.
    ///
    /// # Errors
    /// None that a pack which opens could give.
    pub fn plan(&self, to: &To, wishes: &Wishes) -> Result<Plan, FlashError> {
        self.index.outline().plan(to, &Wishes { piece_len: Some(self.index.piece_len()), ..wishes.clone() })
    }

    /// Does the plan want of this image what is here? True of what [`Pack::plan`] makes.
    pub(crate) fn fits(&self, plan: &Plan) -> bool {
        let mut data = plan.pieces().filter(|piece| piece.kind == Kind::Data);
        plan.image_size() == Some(self.index.image_size) && data.all(|piece| self.around(piece.extent).is_some())
    }

    /// The piece that is this extent.
    pub(crate) fn entry(&self, extent: ByteRange) -> Option<&Entry> {
        self.around(extent).filter(|entry| entry.extent == extent)
    }

    /// The piece in which all of an extent lies: ranges that boards keep cut pieces in parts.
    pub(crate) fn around(&self, extent: ByteRange) -> Option<&Entry> {
        let entries = &self.index.entries;
        let at = entries.partition_point(|entry| entry.extent.end() <= extent.start());
        entries.get(at).filter(|entry| entry.extent.contains(extent))
    }

    /// The LZ4 frame of a piece that is kept as one; it is what was packed.
    pub(crate) fn frame(&self, entry: &Entry) -> Result<Option<Vec<u8>>, PackError> {
        let Stored::Lz4 { at, len, crc32 } = entry.stored else { return Ok(None) };
        let mut frame = vec![0; usize::try_from(len).unwrap_or(0)];
        self.read(&mut frame, at)?;
        if crc32fast::hash(&frame) == crc32 { Ok(Some(frame)) } else { Err(damaged(entry)) }
    }

    /// The bytes of an extent that lies in one piece, at the front of `into`; they are what was packed.
    pub(crate) fn bytes(&self, extent: ByteRange, into: &mut [u8]) -> Result<(), FlashError> {
        let gone = FlashError::SourceGone { extent };
        let Some(entry) = self.around(extent) else { return Err(gone) };
        if entry.extent == extent {
            return Ok(self.unpack(entry, into)?);
        }
        let place = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
        let mut whole = vec![0; place(entry.extent.len())];
        self.unpack(entry, &mut whole)?;
        let from = place(extent.start().saturating_sub(entry.extent.start()));
        let part = whole.get(from..).and_then(|rest| rest.get(..place(extent.len())));
        let (Some(part), Some(into)) = (part, into.get_mut(..place(extent.len()))) else { return Err(gone) };
        into.copy_from_slice(part);
        Ok(())
    }

    /// The bytes of a piece, at the front of `into`; they are what was packed.
    pub(crate) fn unpack(&self, entry: &Entry, into: &mut [u8]) -> Result<(), PackError> {
        let len = usize::try_from(entry.extent.len()).unwrap_or(usize::MAX);
        let into = into.get_mut(..len).ok_or_else(|| damaged(entry))?;
        match entry.stored {
            Stored::Raw { at } => self.read(into, at)?,
            Stored::Word(word) => into.iter_mut().zip(word.iter().cycle()).for_each(|(byte, with)| *byte = *with),
            Stored::Lz4 { .. } => {
                let frame = self.frame(entry)?.unwrap_or_default();
                inflate(&frame, into).ok_or_else(|| damaged(entry))?;
            }
        }
        if crc32fast::hash(into) == entry.crc32 { Ok(()) } else { Err(damaged(entry)) }
    }

    /// The image's bytes from its start on, as many as `len` if it has so many. What the image leaves free is zeros.
    ///
    /// # Errors
    /// [`PackError::Read`] and [`PackError::Damaged`].
    pub fn front(&self, len: usize) -> Result<Vec<u8>, PackError> {
        let wide = u64::try_from(len).unwrap_or(u64::MAX).min(self.index.image_size);
        let wanted = ByteRange::first(wide);
        let mut front = vec![0; usize::try_from(wide).unwrap_or(0)];
        for entry in self.index.entries.iter().take_while(|entry| entry.extent.start() < wide) {
            let mut piece = vec![0; usize::try_from(entry.extent.len()).unwrap_or(0)];
            self.unpack(entry, &mut piece)?;
            let Some(part) = entry.extent.intersect(wanted) else { continue };
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let from = piece.get(..place(part.len())).unwrap_or_default();
            if let Some(into) = front.get_mut(place(part.start())..place(part.end())) {
                into.copy_from_slice(from);
            }
        }
        Ok(front)
    }

    fn read(&self, into: &mut [u8], at: u64) -> Result<(), PackError> {
        let failed = |source| PackError::Read { name: self.name.clone(), source };
        self.file.read_exact_at(into, at).map_err(failed)
    }
}

fn damaged(entry: &Entry) -> PackError {
    PackError::Damaged { extent: entry.extent }
}

/// Unpacks one LZ4 frame, which must fill `into` and no more.
#[must_use]
pub fn inflate(frame: &[u8], into: &mut [u8]) -> Option<()> {
    let mut decoder = lz4::Decoder::new(frame).ok()?;
    decoder.read_exact(into).ok()?;
    let ended = decoder.read(&mut [0]).ok()? == 0;
    let (rest, result) = decoder.finish();
    (ended && rest.is_empty() && result.is_ok()).then_some(())
}
