//! The index of an .xz file (.xz file format 1.2.1, sections 2 to 4), read from its end: which blocks there are, where
//! each lies and what it unpacks to.
//!
//! Nothing here is taken on trust alone: a block is decoded as a stream of its own with an index made from the record
//! read here, so that liblzma compares the two. A block that is left out is held to the sizes in its own header, where
//! it has them: `xz` writes them with more than one thread. Where it has none, a record that lies about it moves all
//! that lies behind in the image; a digest of the image's ranges sees that.

use crate::error::Fault;
use crate::input::PackedFile;
use crate::num::wide;

/// Length of a stream's header and of its footer.
pub(crate) const HEADER: usize = 12;
const MAGIC: [u8; 6] = *b"\xfd7zXZ\0";
const FOOTER_MAGIC: [u8; 2] = *b"YZ";
/// More blocks than this are not kept account of: the file is decoded in order instead. At 24 MiB a block, what
/// `xz -6 -T0` makes, this many are 6 TiB; kept, they take 12 MiB.
pub(crate) const MAX_BLOCKS: usize = 1 << 18;
/// A record is at most two integers of nine bytes, and around the records are 16 bytes at most.
const MAX_INDEX: u64 = 18 * (1 << 18) + 16;

/// One block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Packed offset of its header.
    pub(crate) packed: u64,
    /// Length without the padding to a multiple of 4.
    pub(crate) unpadded: u64,
    /// Unpacked offset.
    pub(crate) start: u64,
    /// Unpacked length.
    pub(crate) len: u64,
    /// The flags of its stream, which say how it is checked.
    pub(crate) flags: [u8; 2],
}

impl Block {
    /// Length in the file.
    pub(crate) fn padded(&self) -> u64 {
        self.unpadded.next_multiple_of(4)
    }
}

/// The blocks of a file in order, and its unpacked length. `None` if there are too many to keep.
pub(crate) fn read(file: &PackedFile) -> Result<Option<(Vec<Block>, u64)>, Fault> {
    let mut end = file.len;
    // From the last stream to the first; offsets of their unpacked bytes come afterwards.
    let mut streams: Vec<Vec<Block>> = Vec::new();
    let mut count = 0_usize;
    while end > 0 {
        let stream_end = skip_padding(file, end)?;
        let Some((blocks, start)) = read_stream(file, stream_end, MAX_BLOCKS - count)? else { return Ok(None) };
        count += blocks.len();
        // A file of countless empty streams is possible as well.
        if streams.len() >= MAX_BLOCKS {
            return Ok(None);
        }
        streams.push(blocks);
        end = start;
    }
    let mut unpacked = 0_u64;
    let mut all = Vec::with_capacity(count);
    for mut block in streams.into_iter().rev().flatten() {
        block.start = unpacked;
        unpacked = unpacked
            .checked_add(block.len)
            .filter(|&len| len <= VLI_MAX)
            .ok_or_else(|| Fault::corrupt(block.packed, "an index whose sizes add up to too much"))?;
        all.push(block);
    }
    Ok(Some((all, unpacked)))
}

/// The end of the stream that lies before the stream padding (zeros, a multiple of four) that ends at `end`.
fn skip_padding(file: &PackedFile, end: u64) -> Result<u64, Fault> {
    let mut end = end;
    let mut part = [0; 4096];
    loop {
        let len = usize::try_from(end.min(wide(part.len()))).unwrap_or(part.len());
        let part = &mut part[..len];
        file.read_exact_at(part, end - wide(len))?;
        let zeros = part.iter().rev().take_while(|&&byte| byte == 0).count();
        // A footer ends in a byte that is not zero, so padding is cut in fours from the end.
        let padding = if zeros == len { zeros } else { zeros / 4 * 4 };
        end -= wide(padding);
        if padding < len || end == 0 {
            break;
        }
    }
    if end == 0 {
        return Err(Fault::corrupt(0, "nothing but padding"));
    }
    Ok(end)
}

/// The blocks of the stream that ends at `end`, and where it starts.
fn read_stream(file: &PackedFile, end: u64, room: usize) -> Result<Option<(Vec<Block>, u64)>, Fault> {
    let no_footer = |at| Fault::corrupt(at, "no end of a stream (the file is cut short, or other bytes follow)");
    // Header, an index without records, footer: the shortest stream.
    let footer_at = end.checked_sub(wide(HEADER)).filter(|&at| at >= 20).ok_or_else(|| no_footer(end))?;
    let mut footer = [0; HEADER];
    file.read_exact_at(&mut footer, footer_at)?;
    let Footer { index_len, flags } = parse_footer(footer).ok_or_else(|| no_footer(footer_at))?;
    let outside = || Fault::corrupt(footer_at, "a stream whose parts are longer than the file");
    let index_at = footer_at.checked_sub(index_len).ok_or_else(outside)?;
    if index_len > MAX_INDEX {
        return Ok(None);
    }
    let mut index = vec![0; usize::try_from(index_len).map_err(|_| outside())?];
    file.read_exact_at(&mut index, index_at)?;
    let Some(records) = parse_index(&index, room).map_err(|what| Fault::corrupt(index_at, what))? else {
        return Ok(None);
    };
    let blocks_len = records.iter().try_fold(0_u64, |sum, record| sum.checked_add(record.unpadded.next_multiple_of(4)));
    let blocks_at = blocks_len.and_then(|len| index_at.checked_sub(len)).ok_or_else(outside)?;
    let header_at = blocks_at.checked_sub(wide(HEADER)).ok_or_else(outside)?;
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, header_at)?;
    if header != stream_header(flags) {
        return Err(Fault::corrupt(header_at, "a stream header that does not fit its footer"));
    }
    let mut packed = blocks_at;
    let blocks = records.into_iter().map(|Record { unpadded, len }| {
        let block = Block { packed, unpadded, start: 0, len, flags };
        packed += block.padded();
        block
    });
    Ok(Some((blocks.collect(), header_at)))
}

/// A record of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) unpadded: u64,
    pub(crate) len: u64,
}

struct Footer {
    index_len: u64,
    flags: [u8; 2],
}

fn parse_footer(bytes: [u8; HEADER]) -> Option<Footer> {
    let [c0, c1, c2, c3, b0, b1, b2, b3, f0, f1, m0, m1] = bytes;
    let sound = [m0, m1] == FOOTER_MAGIC && u32::from_le_bytes([c0, c1, c2, c3]) == crc32fast::hash(&bytes[4..10]);
    let flags = [f0, f1];
    let index_len = (u64::from(u32::from_le_bytes([b0, b1, b2, b3])) + 1) * 4;
    (sound && valid_flags(flags)).then_some(Footer { index_len, flags })
}

/// The first byte is zero; the second says how blocks are checked, in four bits.
fn valid_flags(flags: [u8; 2]) -> bool {
    flags[0] == 0 && flags[1] < 16
}

/// The header of a stream with these flags.
pub(crate) fn stream_header(flags: [u8; 2]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&MAGIC);
    header[6..8].copy_from_slice(&flags);
    header[8..].copy_from_slice(&crc32fast::hash(&flags).to_le_bytes());
    header
}

/// The index and the footer of a stream of one block.
pub(crate) fn stream_end(block: &Block) -> Vec<u8> {
    let mut end = vec![0, 1];
    push_vli(&mut end, block.unpadded);
    push_vli(&mut end, block.len);
    end.resize(end.len().next_multiple_of(4), 0);
    let crc = crc32fast::hash(&end);
    end.extend_from_slice(&crc.to_le_bytes());
    // At most two integers of nine bytes: the length in fours, less one, is a single byte.
    let backward = u32::try_from(end.len() / 4 - 1).unwrap_or(0);
    let mut footer = [0; HEADER];
    footer[4..8].copy_from_slice(&backward.to_le_bytes());
    footer[8..10].copy_from_slice(&block.flags);
    footer[10..].copy_from_slice(&FOOTER_MAGIC);
    let crc = crc32fast::hash(&footer[4..10]);
    footer[..4].copy_from_slice(&crc.to_le_bytes());
    end.extend_from_slice(&footer);
    end
}

/// The records of an index; `None` if there are more than `room`.
pub(crate) fn parse_index(bytes: &[u8], room: usize) -> Result<Option<Vec<Record>>, &'static str> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or("an index that is too short")?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return Err("an index with a wrong CRC");
    }
    let cut = "an index that ends in the middle of a record";
    let mut rest = body.strip_prefix(&[0]).ok_or("no index where the footer points")?;
    let count = take_vli(&mut rest).ok_or(cut)?;
    // Each record takes two bytes at least, so this also bounds what is allocated.
    let count = usize::try_from(count).ok().filter(|&count| count <= rest.len() / 2).ok_or(cut)?;
    if count > room {
        return Ok(None);
    }
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let unpadded = take_vli(&mut rest).ok_or(cut)?;
        let len = take_vli(&mut rest).ok_or(cut)?;
        // A block has a header of 8 bytes at least (the format's own lower bound is 5).
        if !(5..=VLI_MAX - 3).contains(&unpadded) {
            return Err("a block of an impossible size in the index");
        }
        records.push(Record { unpadded, len });
    }
    if rest.len() > 3 || rest.iter().any(|&byte| byte != 0) || !bytes.len().is_multiple_of(4) {
        return Err("an index that is longer than its records");
    }
    Ok(Some(records))
}

/// The largest integer the format has.
const VLI_MAX: u64 = u64::MAX / 2;

/// An integer in 7-bit groups, the lowest first (.xz file format, 1.2): nine bytes at most, and no byte too many.
pub(crate) fn take_vli(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return (byte != 0 || index == 0).then_some(value);
        }
    }
    None
}

fn push_vli(bytes: &mut Vec<u8>, mut value: u64) {
    while let [low, ..] = value.to_le_bytes()
        && value >= 0x80
    {
        bytes.push(low | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// What a block's header says (section 3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// Length of the header in bytes, its CRC included.
    len: u64,
    /// Length of the packed data alone, where stated.
    packed: Option<u64>,
    /// Unpacked length, where stated.
    unpacked: Option<u64>,
    /// The dictionary that LZMA2 needs (section 5.3.1), if that is the filter.
    pub(crate) dictionary: Option<u64>,
}

impl BlockHeader {
    /// Whether the index says something else about this block.
    pub(crate) fn contradicts(&self, block: &Block) -> bool {
        /// Length of the check behind a block by its kind (section 2.1.1.2).
        const CHECKS: [u64; 16] = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
        let check = CHECKS[usize::from(block.flags[1] & 15)];
        let unpadded = self.packed.map(|packed| packed.saturating_add(self.len + check));
        unpadded.is_some_and(|unpadded| unpadded != block.unpadded) || self.unpacked.is_some_and(|len| len != block.len)
    }
}

/// Reads a block's header; `None` if it is damaged or not of the usual make, in which case liblzma is the judge.
/// `bytes` are the block's first ones, [`BLOCK_HEADER`] or fewer.
pub(crate) fn block_header(bytes: &[u8]) -> Option<BlockHeader> {
    let len = (usize::from(*bytes.first()?) + 1) * 4;
    let (body, crc) = bytes.get(..len)?.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return None;
    }
    let (&flags, mut rest) = body.get(1..)?.split_first()?;
    let mut header = BlockHeader { len: wide(len), ..BlockHeader::default() };
    if flags & 0x40 != 0 {
        header.packed = Some(take_vli(&mut rest)?);
    }
    if flags & 0x80 != 0 {
        header.unpacked = Some(take_vli(&mut rest)?);
    }
    for _ in 0..=(flags & 3) {
        let filter = take_vli(&mut rest)?;
        let len = usize::try_from(take_vli(&mut rest)?).ok()?;
        let (properties, behind) = rest.split_at_checked(len)?;
        // LZMA2 is always the last: mantissa 2 or 3, in steps of two from 4 KiB up.
        if let (0x21, &[bits]) = (filter, properties) {
            header.dictionary = match bits {
                0..40 => Some((2 | u64::from(bits & 1)) << (bits / 2 + 11)),
                40 => Some(u64::from(u32::MAX)),
                _ => return None,
            };
        }
        rest = behind;
    }
    Some(header)
}

/// How many bytes of a block's header [`block_header`] looks at: all filters there can be fit.
pub(crate) const BLOCK_HEADER: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_and_odd_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, 1 << 35, VLI_MAX] {
            let mut bytes = Vec::new();
            push_vli(&mut bytes, value);
            assert_eq!(take_vli(&mut &bytes[..]), Some(value));
            assert_eq!(take_vli(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_vli(&mut &[0x80, 0][..]), None);
        assert_eq!(take_vli(&mut &[0xff; 12][..]), None);
    }

    #[test]
    fn an_index_is_checked() {
        let block = Block { packed: 12, unpadded: 1234, start: 0, len: 1 << 40, flags: [0, 4] };
        let end = stream_end(&block);
        let index = &end[..end.len() - HEADER];
        let records = parse_index(index, 10).unwrap().unwrap();
        assert_eq!(records, [Record { unpadded: 1234, len: 1 << 40 }]);
        assert_eq!(parse_index(index, 0), Ok(None));
        for at in 0..index.len() {
            let mut index = index.to_vec();
            index[at] ^= 4;
            assert!(parse_index(&index, 10).is_err());
            assert!(parse_index(&index[..at], 10).is_err());
        }
        let footer = end.last_chunk::<HEADER>().unwrap();
        assert_eq!(parse_footer(*footer).unwrap().index_len, wide(index.len()));
    }

    #[test]
    fn block_headers_are_read() {
        let read = |body: &[u8]| block_header(&[body, &crc32fast::hash(body).to_le_bytes()].concat());
        // As `xz -6` writes it: no sizes, one filter, LZMA2 with 8 MiB.
        let plain = [2, 0, 0x21, 1, 0x16, 0, 0, 0, 0x74, 0x2f, 0xe5, 0xa3];
        let bare = BlockHeader { len: 12, packed: None, unpacked: None, dictionary: Some(8 << 20) };
        assert_eq!(block_header(&plain), Some(bare));
        assert_eq!(block_header(&[&plain[..], &[9; 52]].concat()), Some(bare));
        // x86 filter first, both sizes present.
        let sized = read(&[3, 0xc1, 0x80, 1, 5, 4, 0, 0x21, 1, 40, 0, 0]).unwrap();
        let all = BlockHeader { len: 16, packed: Some(128), unpacked: Some(5), dictionary: Some(u64::from(u32::MAX)) };
        assert_eq!(sized, all);
        let block = Block { packed: 12, unpadded: 16 + 128 + 8, start: 0, len: 5, flags: [0, 4] };
        assert!(!sized.contradicts(&block) && !bare.contradicts(&block));
        for wrong in [Block { len: 6, ..block }, Block { unpadded: 151, ..block }, Block { flags: [0, 1], ..block }] {
            assert!(sized.contradicts(&wrong));
        }
        assert_eq!(read(&[2, 0, 0x21, 1, 41, 0, 0, 0]), None);
        for at in 0..plain.len() {
            let mut damaged = plain;
            damaged[at] ^= 1;
            assert_eq!((block_header(&damaged), block_header(&plain[..at])), (None, None));
        }
    }
}
