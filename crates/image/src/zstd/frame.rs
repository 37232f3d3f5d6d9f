//! Frame and block headers of zstd (RFC 8878, 3.1): bytes to values, nothing more.

use crate::error::Fault;
use crate::num::wide;

/// The longest frame header: magic 4, descriptor 1, window 1, dictionary 4, content size 8.
pub(crate) const MAX_HEADER: usize = 18;
/// Magic number and length of a skippable frame.
pub(crate) const SKIPPABLE_HEADER: usize = 8;
/// A block never unpacks to more than this, whatever the window.
pub(crate) const MAX_BLOCK: u64 = 128 << 10;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What begins at some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// Bytes to pass over: `len` of them after the header.
    Skippable { len: u64 },
    /// A frame with data.
    Frame(FrameHeader),
}

/// The header of a frame with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Length of the header in bytes.
    pub(crate) len: usize,
    /// Window size in bytes; for a single segment, the content size.
    pub(crate) window: u64,
    /// Length of the content, where declared.
    pub(crate) content: Option<u64>,
    /// Whether a checksum of 4 bytes follows the last block.
    pub(crate) checksum: bool,
}

/// Reads the header at packed offset `at`. `bytes` are at least [`MAX_HEADER`] bytes from there, fewer only at the end
/// of the file. `follows` says that a frame came before, so that strange bytes are junk behind it.
pub(crate) fn header(bytes: &[u8], at: u64, follows: bool) -> Result<Header, Fault> {
    let truncated = || Fault::Truncated(at + wide(bytes.len()));
    if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, rest @ ..] = bytes {
        let len = rest.first_chunk::<4>().ok_or_else(truncated)?;
        return Ok(Header::Skippable { len: u64::from(u32::from_le_bytes(*len)) });
    }
    let Some(rest) = bytes.strip_prefix(&MAGIC) else {
        let cut = MAGIC.starts_with(bytes) || (bytes.len() < 4 && matches!(bytes.first(), Some(0x50..=0x5f)));
        return Err(match follows {
            _ if cut => truncated(),
            true => Fault::Junk(at),
            false => Fault::corrupt(at, "no frame begins"),
        });
    };
    let (&descriptor, rest) = rest.split_first().ok_or_else(truncated)?;
    if descriptor & 0b1000 != 0 {
        return Err(Fault::corrupt(at, "a reserved bit is set"));
    }
    let single_segment = descriptor & 0b10_0000 != 0;
    let (window, rest) = if single_segment {
        (None, rest)
    } else {
        let (&byte, rest) = rest.split_first().ok_or_else(truncated)?;
        let base = 1_u64 << (10 + (byte >> 3));
        (Some(base + base / 8 * u64::from(byte & 7)), rest)
    };
    let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (dictionary, rest) = rest.split_at_checked(dictionary_len).ok_or_else(truncated)?;
    if dictionary.iter().any(|&byte| byte != 0) {
        return Err(Fault::Unsupported(at, "needs a dictionary"));
    }
    let content_len = match descriptor >> 6 {
        0 => usize::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let (content, rest) = rest.split_at_checked(content_len).ok_or_else(truncated)?;
    let value = content.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    // Two bytes count from 256 on, since one byte serves for less.
    let value = if content_len == 2 { value + 256 } else { value };
    let window = window.unwrap_or(value);
    // The largest number stands for "unknown" in libzstd (ZSTD_CONTENTSIZE_UNKNOWN), which does not hold a frame to it.
    let content = (content_len > 0 && value != u64::MAX).then_some(value);
    let len = bytes.len() - rest.len();
    Ok(Header::Frame(FrameHeader { len, window, content, checksum: descriptor & 0b100 != 0 }))
}

/// A block's header, 3 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Whether it is the frame's last.
    pub(crate) last: bool,
    /// How many bytes follow the header.
    pub(crate) len: u64,
    /// What it unpacks to; unknown without decoding for a compressed block, which makes [`MAX_BLOCK`] bytes at most.
    pub(crate) unpacked: Option<u64>,
}

/// Length of a block's header.
pub(crate) const BLOCK_HEADER: usize = 3;

/// Reads the block header at packed offset `at`.
pub(crate) fn block(bytes: [u8; BLOCK_HEADER], at: u64) -> Result<Block, Fault> {
    let value = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    let size = u64::from(value >> 3);
    let (len, unpacked) = match value >> 1 & 3 {
        // Raw and compressed blocks carry their size; a run-length block is one byte that repeats.
        0 if size <= MAX_BLOCK => (size, Some(size)),
        1 if size <= MAX_BLOCK => (1, Some(size)),
        2 if size <= MAX_BLOCK => (size, None),
        3 => return Err(Fault::corrupt(at, "a block of a reserved kind")),
        _ => return Err(Fault::corrupt(at, "a block that is too large")),
    };
    Ok(Block { last: value & 1 != 0, len, unpacked })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> FrameHeader {
        match header(bytes, 0, false).unwrap() {
            Header::Frame(frame) => frame,
            Header::Skippable { .. } => panic!("skippable"),
        }
    }

    #[test]
    fn headers_of_every_shape() {
        // Window descriptor 0x88: exponent 17, mantissa 0: 128 MiB. No content size, checksum.
        let long = frame(b"\x28\xb5\x2f\xfd\x04\x88xxxxxxxxxxxx");
        assert_eq!(long, FrameHeader { len: 6, window: 128 << 20, content: None, checksum: true });
        // Single segment, one byte of content size.
        let short = frame(b"\x28\xb5\x2f\xfd\x20\x05");
        assert_eq!(short, FrameHeader { len: 6, window: 5, content: Some(5), checksum: false });
        // Two bytes of content size count from 256.
        assert_eq!(frame(b"\x28\xb5\x2f\xfd\x60\x01\x00").content, Some(257));
        assert_eq!(frame(b"\x28\xb5\x2f\xfd\xa0\x01\x00\x00\x01").content, Some(0x100_0001));
        assert_eq!(frame(b"\x28\xb5\x2f\xfd\xe0\x01\0\0\0\0\0\0\x80").content, Some(1 << 63 | 1));
        // The largest size is none; a single segment still needs a window of that size.
        let unknown = frame(b"\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!((unknown.content, unknown.window), (None, u64::MAX));
        // The largest window: exponent 31, mantissa 7.
        assert_eq!(frame(b"\x28\xb5\x2f\xfd\x00\xff").window, (1 << 41) / 8 * 15);
        assert_eq!(header(b"\x51\x2a\x4d\x18\x01\x02\0\0", 0, false).unwrap(), Header::Skippable { len: 513 });
    }

    #[test]
    fn headers_that_are_wrong() {
        let whole = b"\x28\xb5\x2f\xfd\xe3\0\0\0\0\x01\0\0\0\0\0\0\0";
        for len in 0..whole.len() {
            assert!(
                matches!(header(&whole[..len], 7, true), Err(Fault::Truncated(at)) if at == 7 + wide(len)),
                "{len}"
            );
        }
        assert!(matches!(header(b"\x28\xb5\x2f\xfd\x08\x00", 0, false), Err(Fault::Corrupt(..))));
        assert!(matches!(header(b"\x28\xb5\x2f\xfd\x21\x09\x05", 0, false), Err(Fault::Unsupported(..))));
        assert!(matches!(header(b"junk", 9, true), Err(Fault::Junk(9))));
        assert!(matches!(header(b"junk", 9, false), Err(Fault::Corrupt(9, _))));
    }

    #[test]
    fn blocks() {
        assert_eq!(block([0x2b, 0, 0], 0).unwrap(), Block { last: true, len: 1, unpacked: Some(5) });
        assert_eq!(block([0x28, 0, 0], 0).unwrap(), Block { last: false, len: 5, unpacked: Some(5) });
        assert_eq!(block([0x2c, 0, 0], 0).unwrap(), Block { last: false, len: 5, unpacked: None });
        assert!(block([0x06, 0, 0], 0).is_err());
        assert!(block([0xfc, 0xff, 0xff], 0).is_err());
    }
}
