//! Which frames a zstd file has: read by walking from header to header, without decoding.
//!
//! Every frame's blocks say how long they are, so that a walk touches a few bytes in each 128 KiB of content and finds
//! a file that is cut short or goes on behind its last frame before anything is written. Contents' lengths come from
//! the frames' own headers or, where those are silent, from the seek table that the seekable format keeps in a last
//! skippable frame (contrib/seekable_format/zstd_seekable_compression_format.md of the zstd sources).
//!
//! A declared length decides where everything behind a frame lies in the image, also when the frame itself is left out
//! and nothing holds it to its word. So it is compared with what its blocks can make: raw and run-length blocks say
//! exactly how much, compressed ones make up to 128 KiB each. A lie within those bounds is not seen here; a digest of
//! the image's ranges sees it.

use crate::error::Fault;
use crate::input::{Input, PackedFile};
use crate::num::wide;
use crate::zstd::frame::{self, BLOCK_HEADER, Header, MAX_BLOCK, MAX_HEADER, SKIPPABLE_HEADER};

/// More frames or blocks than this are not kept account of: the file is decoded in order instead. 16 Mi blocks are
/// 2 TiB of content at least in any file made by the zstd library for an image.
const MAX_FRAMES: usize = 1 << 18;
const MAX_BLOCKS: u64 = 1 << 24;

/// A frame with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Packed offset of its header.
    pub(crate) packed: u64,
    /// Packed offset of its end.
    pub(crate) packed_end: u64,
    /// Unpacked offset; 0 where lengths are not known.
    pub(crate) start: u64,
    /// Unpacked length, where declared.
    pub(crate) len: Option<u64>,
    /// Window in bytes; where none is declared but the length, that.
    pub(crate) window: u64,
    /// The least and the most its blocks can unpack to.
    pub(crate) bounds: (u64, u64),
    /// The checksum that the seek table has for it: the low half of the XXH64 of its content, seed 0.
    pub(crate) checksum: Option<u32>,
}

impl Frame {
    /// Whether its blocks can unpack to so many bytes.
    fn may_be(&self, len: u64) -> bool {
        (self.bounds.0..=self.bounds.1).contains(&len)
    }
}

/// The frames of a file in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frames {
    pub(crate) list: Vec<Frame>,
    /// The file's unpacked length, if every frame's is declared somewhere.
    pub(crate) len: Option<u64>,
}

/// The frames of a file; `None` if there are too many to keep account of.
pub(crate) fn read(file: &PackedFile) -> Result<Option<Frames>, Fault> {
    let mut cursor = Cursor { file, buffer: Vec::new(), at: 0 };
    let mut frames: Vec<Frame> = Vec::new();
    let mut table = None;
    let (mut at, mut blocks) = (0, 0_u64);
    while at < file.len {
        match frame::header(cursor.bytes(at, MAX_HEADER)?, at, at > 0)? {
            Header::Skippable { len } => {
                let start = at + wide(SKIPPABLE_HEADER);
                at = within(file, start.saturating_add(len))?;
                // Only the last frame may be a seek table.
                table = (at == file.len).then(|| seek_table(file, start, len)).transpose()?.flatten();
            }
            Header::Frame(header) => {
                let packed = at;
                at += wide(header.len);
                let mut bounds = (0_u64, 0_u64);
                loop {
                    let bytes = cursor.bytes(at, BLOCK_HEADER)?;
                    let Some(bytes) = bytes.first_chunk() else { return Err(Fault::Truncated(file.len)) };
                    let block = frame::block(*bytes, at)?;
                    at = within(file, at + wide(BLOCK_HEADER) + block.len)?;
                    // At most 2^24 blocks of 2^17 bytes: no overflow.
                    bounds.0 += block.unpacked.unwrap_or(0);
                    bounds.1 += block.unpacked.unwrap_or(MAX_BLOCK);
                    blocks += 1;
                    if blocks > MAX_BLOCKS {
                        return Ok(None);
                    }
                    if block.last {
                        break;
                    }
                }
                at = within(file, at + if header.checksum { 4 } else { 0 })?;
                if frames.len() == MAX_FRAMES {
                    return Ok(None);
                }
                let (len, window) = (header.content, header.window);
                let frame = Frame { packed, packed_end: at, start: 0, len, window, bounds, checksum: None };
                if len.is_some_and(|len| !frame.may_be(len)) {
                    return Err(Fault::corrupt(packed, "a frame that cannot be as long as declared"));
                }
                frames.push(frame);
            }
        }
    }
    if let Some(table) = table.filter(|table| agrees(table, &frames)) {
        for (frame, entry) in frames.iter_mut().zip(table) {
            (frame.len, frame.checksum) = (Some(entry.len), entry.checksum);
        }
    }
    let mut unpacked = Some(0_u64);
    for frame in &mut frames {
        let (Some(start), Some(len)) = (unpacked, frame.len) else {
            unpacked = None;
            break;
        };
        frame.start = start;
        let end = start.checked_add(len);
        unpacked = Some(end.ok_or_else(|| Fault::corrupt(frame.packed, "frames whose lengths add up to too much"))?);
    }
    Ok(Some(Frames { list: frames, len: unpacked }))
}

/// An offset that must not lie past the file's end.
fn within(file: &PackedFile, at: u64) -> Result<u64, Fault> {
    if at > file.len { Err(Fault::Truncated(file.len)) } else { Ok(at) }
}

/// Reads small pieces at ascending offsets.
struct Cursor<'a> {
    file: &'a PackedFile,
    buffer: Vec<u8>,
    /// Packed offset of the buffer.
    at: u64,
}

impl Cursor<'_> {
    /// `len` bytes at `at`, fewer at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Fault> {
        /// Headers of blocks of zeros follow one another closely, those of blocks of data do not: a page serves both.
        const PORTION: u64 = 4096;
        let end = at.saturating_add(wide(len)).min(self.file.len);
        if at < self.at || end > self.at + wide(self.buffer.len()) {
            let portion = PORTION.min(self.file.len.saturating_sub(at));
            self.buffer.resize(usize::try_from(portion).unwrap_or(0), 0);
            self.file.read_exact_at(&mut self.buffer, at)?;
            self.at = at;
        }
        let start = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        let end = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        Ok(self.buffer.get(start..end).unwrap_or_default())
    }
}

/// An entry of the seek table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    packed_len: u64,
    len: u64,
    checksum: Option<u32>,
}

/// The seek table in a skippable frame's content, if that is what it is. Layout: entries of compressed size (4 bytes),
/// decompressed size (4) and, if so flagged, a checksum (4); then number of frames (4), descriptor (1), magic (4).
fn seek_table(file: &PackedFile, start: u64, len: u64) -> Result<Option<Vec<Entry>>, Fault> {
    const FOOTER: u64 = 9;
    const MAGIC: u32 = 0x8f92_eab1;
    if len < FOOTER || len > FOOTER + 12 * wide(MAX_FRAMES) {
        return Ok(None);
    }
    let mut table = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut table, start)?;
    let Some((entries, footer)) = table.split_last_chunk::<9>() else { return Ok(None) };
    let [n0, n1, n2, n3, descriptor, m0, m1, m2, m3] = *footer;
    // Bits 2 to 6 are reserved or unused; a table that sets them is not one we know.
    if u32::from_le_bytes([m0, m1, m2, m3]) != MAGIC || descriptor & 0x7c != 0 {
        return Ok(None);
    }
    let entry_len = if descriptor & 0x80 != 0 { 12 } else { 8 };
    let count = usize::try_from(u32::from_le_bytes([n0, n1, n2, n3])).unwrap_or(usize::MAX);
    if count.checked_mul(entry_len) != Some(entries.len()) {
        return Ok(None);
    }
    let entry = |bytes: &[u8]| {
        let (numbers, _) = bytes.as_chunks::<4>();
        let number = |place: usize| numbers.get(place).copied().map(u32::from_le_bytes);
        let size = |place| number(place).map_or(0, u64::from);
        Entry { packed_len: size(0), len: size(1), checksum: number(2) }
    };
    Ok(Some(entries.chunks_exact(entry_len).map(entry).collect()))
}

/// Whether a seek table tells of the very frames that were found. One that does not is no help, and no harm either.
fn agrees(table: &[Entry], frames: &[Frame]) -> bool {
    table.len() == frames.len()
        && table.iter().zip(frames).all(|(entry, frame)| {
            entry.packed_len == frame.packed_end - frame.packed
                && frame.len.is_none_or(|len| len == entry.len)
                && frame.may_be(entry.len)
        })
}

/// The input of one frame.
pub(crate) fn input(file: &PackedFile, frame: &Frame) -> Input {
    Input::file(file.clone(), frame.packed, frame.packed_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    fn file(bytes: &[u8]) -> PackedFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        PackedFile { file: Arc::new(file), len: wide(bytes.len()) }
    }

    /// A frame of one raw block that does not declare its length, window 1 KiB.
    fn undeclared(content: &[u8]) -> Vec<u8> {
        let header = (u32::try_from(content.len()).unwrap() << 3 | 1).to_le_bytes();
        [b"\x28\xb5\x2f\xfd\x00\x00", &header[..3], content].concat()
    }

    fn table(entries: &[(u32, u32)]) -> Vec<u8> {
        let mut content: Vec<u8> =
            entries.iter().flat_map(|(packed, len)| [packed.to_le_bytes(), len.to_le_bytes()].concat()).collect();
        content.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_le_bytes());
        content.push(0);
        content.extend_from_slice(&0x8f92_eab1_u32.to_le_bytes());
        let len = u32::try_from(content.len()).unwrap().to_le_bytes();
        [b"\x5e\x2a\x4d\x18", &len[..], &content].concat()
    }

    /// A frame of one segment that declares `len` bytes and consists of these blocks: kind, size, content.
    fn declared(len: u8, blocks: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut frame = [b"\x28\xb5\x2f\xfd\x20", &[len][..]].concat();
        for (place, (kind, size, content)) in blocks.iter().enumerate() {
            let last = u32::from(place + 1 == blocks.len());
            frame.extend_from_slice(&(size << 3 | kind << 1 | last).to_le_bytes()[..3]);
            frame.extend_from_slice(content);
        }
        frame
    }

    #[test]
    fn a_declared_length_that_blocks_cannot_make_is_refused() {
        let refused = |frame: Vec<u8>| match read(&file(&[undeclared(b"abc"), frame].concat())) {
            Ok(Some(_)) => false,
            Err(Fault::Corrupt(12, what)) => what == "a frame that cannot be as long as declared",
            other => panic!("{other:?}"),
        };
        let (raw, repeated) = ((0, 3, &b"abc"[..]), (1, 9, &b"x"[..]));
        for len in 0..20 {
            assert_eq!(refused(declared(len, &[raw, repeated])), len != 12);
            // A compressed block adds anything up to 128 KiB: only too little can be told.
            assert_eq!(refused(declared(len, &[raw, (2, 2, b"??"), repeated])), len < 12);
        }
    }

    #[test]
    fn a_seek_table_tells_lengths_that_frames_do_not() {
        let frames = [undeclared(b"abc"), undeclared(b"de")].concat();
        assert_eq!(read(&file(&frames)).unwrap().unwrap().len, None);
        let good = [&frames[..], &table(&[(12, 3), (11, 2)])].concat();
        let Frames { list: found, len } = read(&file(&good)).unwrap().unwrap();
        assert_eq!((found.len(), found[1].start, found[1].packed, found[1].packed_end, len), (2, 3, 12, 23, Some(5)));
        // The last one's lengths add up, but are not those of the raw blocks.
        for wrong in [table(&[(12, 3)]), table(&[(12, 3), (12, 2)]), table(&[]), table(&[(12, 2), (11, 3)])] {
            assert_eq!(read(&file(&[&frames[..], &wrong].concat())).unwrap().unwrap().len, None);
        }
        for cut in 1..good.len() {
            // Cut between frames it is a shorter file, and no table tells its lengths.
            let result = read(&file(&good[..cut]));
            assert!(
                matches!(result, Err(Fault::Truncated(at)) if at == wide(cut))
                    || matches!(result, Ok(Some(Frames { len: None, .. }))),
                "{cut}"
            );
        }
        assert!(matches!(read(&file(&[&good[..], b"x"].concat())), Err(Fault::Junk(_))));
    }
}
