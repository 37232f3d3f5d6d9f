//! [`ImageError`], and the [`Fault`]s of decoders that become one once name and place are known.

use std::io;
use std::sync::Arc;

use crate::options::Format;
use crate::sniff::Kind;

/// Why an image's bytes could not be had. Offsets are in bytes; "packed" ones count in the file as it is stored,
/// "unpacked" ones in the image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be opened.
    #[error("cannot open {name}")]
    Open {
        /// The image's name.
        name: Arc<str>,
        /// Why.
        source: io::Error,
    },
    /// The name leads to something that cannot hold an image.
    #[error("{name} is {what}, not a file or block device")]
    NotAFile {
        /// The image's name.
        name: Arc<str>,
        /// What it is, with its article.
        what: &'static str,
    },
    /// The bytes are of a kind that is not read here.
    #[error("{name} is {kind}, which is not read as an image")]
    Unsupported {
        /// The image's name.
        name: Arc<str>,
        /// What it is.
        kind: Kind,
    },
    /// The container is known, but uses something that is not decoded here.
    #[error("{name}: the {format} data at byte {packed} {what}, which is not supported")]
    UnsupportedFeature {
        /// The image's name.
        name: Arc<str>,
        /// How it is packed.
        format: Format,
        /// Packed offset.
        packed: u64,
        /// What it does.
        what: &'static str,
    },
    /// Reading failed.
    #[error("cannot read {name} at byte {packed}")]
    Read {
        /// The image's name.
        name: Arc<str>,
        /// Packed offset.
        packed: u64,
        /// Why.
        source: io::Error,
    },
    /// The file changed its length while it was read.
    #[error("{name} changed while it was being read: it had {was} bytes, now it has {now}")]
    Resized {
        /// The image's name.
        name: Arc<str>,
        /// Length when opened.
        was: u64,
        /// Length now.
        now: u64,
    },
    /// The packed data stops in the middle.
    #[error("{name} is cut short: its {format} data breaks off at byte {packed}, {unpacked} bytes into the image")]
    Truncated {
        /// The image's name.
        name: Arc<str>,
        /// How it is packed.
        format: Format,
        /// Packed offset of the end.
        packed: u64,
        /// Unpacked offset up to which there was data.
        unpacked: u64,
    },
    /// The packed data contradicts itself.
    #[error("{name} is damaged: {what} in its {format} data near byte {packed}, {unpacked} bytes into the image")]
    Corrupt {
        /// The image's name.
        name: Arc<str>,
        /// How it is packed.
        format: Format,
        /// Packed offset, of the block or of the place that was being decoded.
        packed: u64,
        /// Unpacked offset.
        unpacked: u64,
        /// What is wrong.
        what: String,
    },
    /// Something else follows the packed data.
    #[error("{name} has other bytes behind the end of its {format} data, from byte {packed} on")]
    Junk {
        /// The image's name.
        name: Arc<str>,
        /// How it is packed.
        format: Format,
        /// Packed offset of the first such byte.
        packed: u64,
    },
    /// A zstd frame needs a window that must be allowed first.
    #[error(
        "{name} needs {window} bytes of memory to unpack (its zstd window); more than {limit} are used only when \
         large windows are allowed"
    )]
    LargeWindow {
        /// The image's name.
        name: Arc<str>,
        /// The window in bytes.
        window: u64,
        /// The most that is used unasked.
        limit: u64,
    },
    /// The decoder needs more memory than the options give it.
    #[error("{name} needs {} to unpack, and decoders may use {limit} bytes", match needed {
        Some(needed) => format!("{needed} bytes of memory"),
        None => "more memory".to_owned(),
    })]
    Memory {
        /// The image's name.
        name: Arc<str>,
        /// Bytes needed, where known.
        needed: Option<u64>,
        /// Bytes allowed.
        limit: u64,
    },
    /// The image ends before the bytes that were asked for.
    #[error("{name} is too short: it has {len} bytes, and {wanted} were wanted")]
    TooShort {
        /// The image's name.
        name: Arc<str>,
        /// Its unpacked length.
        len: u64,
        /// The length it would have to have: the end of what was to be read, or the offset that was to be reached.
        wanted: u64,
    },
    /// The first bytes of the image lie so deep in the packed data that they cannot be had ahead of reading.
    #[error("{name}: the first bytes of the image are not within the first {limit} bytes of its {format} data")]
    NoHead {
        /// The image's name.
        name: Arc<str>,
        /// How it is packed.
        format: Format,
        /// How many packed bytes are kept.
        limit: u64,
    },
    /// The caller's list of wanted ranges is out of order.
    #[error("the list of ranges to read from {name} is out of order at place {index}, counted from 0")]
    Disorder {
        /// The image's name.
        name: Arc<str>,
        /// Place in the list.
        index: usize,
    },
    /// The caller asks for bytes that it did not promise to want, or that lie behind.
    #[error("byte {offset} of {name} cannot be read: {why}")]
    Unwanted {
        /// The image's name.
        name: Arc<str>,
        /// Unpacked offset.
        offset: u64,
        /// Why.
        why: &'static str,
    },
    /// A thread of the decoder ended without a word.
    #[error("a decoding thread for {name} stopped at {packed} bytes into the file")]
    Thread {
        /// The image's name.
        name: Arc<str>,
        /// Packed offset of what it was decoding.
        packed: u64,
        /// Why, where the system said so.
        source: Option<io::Error>,
    },
    /// Reading went on after an error.
    #[error("reading {name} failed before, at byte {unpacked} of the image")]
    Failed {
        /// The image's name.
        name: Arc<str>,
        /// Unpacked offset.
        unpacked: u64,
    },
}

/// What goes wrong inside a decoder, which knows neither the image's name nor how far its reader got.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Reading failed at a packed offset.
    Read(u64, io::Error),
    /// The file shrank or grew.
    Resized { was: u64, now: u64 },
    /// The packed data ends too early, at this offset.
    Truncated(u64),
    /// The packed data near this offset is wrong.
    Corrupt(u64, String),
    /// Other bytes follow from this offset on.
    Junk(u64),
    /// A zstd window above the limit.
    LargeWindow { window: u64, limit: u64 },
    /// Too little memory.
    Memory { needed: Option<u64>, limit: u64 },
    /// Something valid that is not decoded here.
    Unsupported(u64, &'static str),
    /// A worker's thread is gone.
    Thread(u64, Option<io::Error>),
    /// More packed bytes were asked for than are kept for looking ahead.
    Lookahead { limit: u64 },
}

impl Fault {
    /// A fault at a packed offset, described by a few words.
    pub(crate) fn corrupt(packed: u64, what: impl Into<String>) -> Self {
        Self::Corrupt(packed, what.into())
    }
}

/// Whose faults they are: turns a [`Fault`] into an [`ImageError`].
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) name: Arc<str>,
    pub(crate) format: Format,
}

impl Context {
    /// The error for a fault that hit when `unpacked` bytes of the image had been decoded.
    pub(crate) fn error(&self, fault: Fault, unpacked: u64) -> ImageError {
        let (name, format) = (Arc::clone(&self.name), self.format);
        match fault {
            Fault::Read(packed, source) => ImageError::Read { name, packed, source },
            Fault::Resized { was, now } => ImageError::Resized { name, was, now },
            Fault::Truncated(packed) => ImageError::Truncated { name, format, packed, unpacked },
            Fault::Corrupt(packed, what) => ImageError::Corrupt { name, format, packed, unpacked, what },
            Fault::Junk(packed) => ImageError::Junk { name, format, packed },
            Fault::LargeWindow { window, limit } => ImageError::LargeWindow { name, window, limit },
            Fault::Memory { needed, limit } => ImageError::Memory { name, needed, limit },
            Fault::Unsupported(packed, what) => ImageError::UnsupportedFeature { name, format, packed, what },
            Fault::Thread(packed, source) => ImageError::Thread { name, packed, source },
            Fault::Lookahead { limit } => ImageError::NoHead { name, format, limit },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    fn name() -> Arc<str> {
        "disk.img".into()
    }

    #[test]
    fn every_error_is_a_clear_sentence() {
        let io = || io::Error::other("the disk is gone");
        let cases = [
            (ImageError::Open { name: name(), source: io() }, "cannot open disk.img"),
            (
                ImageError::NotAFile { name: name(), what: "a directory" },
                "disk.img is a directory, not a file or block device",
            ),
            (
                ImageError::Unsupported { name: name(), kind: Kind::AndroidSparse },
                "disk.img is an Android sparse image, which is not read as an image",
            ),
            (
                ImageError::Disorder { name: name(), index: 3 },
                "the list of ranges to read from disk.img is out of order at place 3, counted from 0",
            ),
            (
                ImageError::Unwanted { name: name(), offset: 9, why: "it lies behind what has been read" },
                "byte 9 of disk.img cannot be read: it lies behind what has been read",
            ),
            (
                ImageError::TooShort { name: name(), len: 5, wanted: 9 },
                "disk.img is too short: it has 5 bytes, and 9 were wanted",
            ),
            (
                ImageError::Failed { name: name(), unpacked: 7 },
                "reading disk.img failed before, at byte 7 of the image",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn every_fault_becomes_one() {
        let context = Context { name: name(), format: Format::Zstd };
        let io = || io::Error::other("the disk is gone");
        let cases = [
            (Fault::Read(7, io()), "cannot read disk.img at byte 7"),
            (
                Fault::Resized { was: 10, now: 4 },
                "disk.img changed while it was being read: it had 10 bytes, now it has 4",
            ),
            (
                Fault::Truncated(7),
                "disk.img is cut short: its zstd data breaks off at byte 7, 100 bytes into the image",
            ),
            (
                Fault::corrupt(7, "a wrong CRC"),
                "disk.img is damaged: a wrong CRC in its zstd data near byte 7, 100 bytes into the image",
            ),
            (Fault::Junk(7), "disk.img has other bytes behind the end of its zstd data, from byte 7 on"),
            (
                Fault::LargeWindow { window: 1 << 28, limit: 1 << 27 },
                "disk.img needs 268435456 bytes of memory to unpack (its zstd window); more than 134217728 are used \
                 only when large windows are allowed",
            ),
            (
                Fault::Memory { needed: Some(9), limit: 5 },
                "disk.img needs 9 bytes of memory to unpack, and decoders may use 5 bytes",
            ),
            (
                Fault::Memory { needed: None, limit: 5 },
                "disk.img needs more memory to unpack, and decoders may use 5 bytes",
            ),
            (
                Fault::Unsupported(7, "needs a dictionary"),
                "disk.img: the zstd data at byte 7 needs a dictionary, which is not supported",
            ),
            (Fault::Thread(7, None), "a decoding thread for disk.img stopped at 7 bytes into the file"),
            (
                Fault::Lookahead { limit: 4096 },
                "disk.img: the first bytes of the image are not within the first 4096 bytes of its zstd data",
            ),
        ];
        for (fault, text) in cases {
            assert_eq!(context.error(fault, 100).to_string(), text);
        }
        let kept = context.error(Fault::Read(7, io()), 0);
        assert_eq!(kept.source().unwrap().to_string(), "the disk is gone");
    }
}
