//! bmap files: XML of version 1.0 to 2.x in, 2.0 out.
//!
//! [`parse`] turns the bytes of a bmap file into a [`BlockMap`] that cannot be wrong, or says what is wrong with it and
//! where. The file's own checksum is verified whenever the version has one; there is no way to switch that off.
//! Signatures and the search for the right bmap are left to others, and so is reading the image.
//!
//! # The format
//! A root element `bmap` with an attribute `version="MAJOR.MINOR"`. Its children, in any order, unknown ones ignored:
//!
//! | element | content | versions |
//! | --- | --- | --- |
//! | `ImageSize` | bytes in the image | all |
//! | `BlockSize` | bytes in a block | all |
//! | `BlocksCount` | blocks in the image, the last perhaps partly filled | all |
//! | `MappedBlocksCount` | blocks in all ranges together | all |
//! | `ChecksumType` | name of the hash | 1.4, 2.x |
//! | `BmapFileChecksum` | hash of the file with this text replaced by as many `0` | 1.4, 2.x |
//! | `BmapFileSHA1` | the same in SHA-1 | 1.3 |
//! | `BlockMap` | elements `Range`: `N` or `FIRST-LAST`, both blocks included | all |
//!
//! A `Range` may carry the digest of its bytes in an attribute: `sha1` before 1.4, `chksum` (by `ChecksumType`) since.
//! Numbers are decimal; white space around any value means nothing. Version 1.4 is 2.0 under a mistaken number.
//! Source: files written by bmaptool 1.0 to 3.9, and how 3.6 and 3.9 behave when given changed ones.
//!
//! # Where we are stricter than bmaptool, and where more careful
//! Refused here and taken there: numbers such as `+5` and `1_000`; ranges that overlap or descend (a stream could
//! not follow them) or reach past the image; an element given twice; a root element of another name. Verified here
//! and ignored there: the `sha1` attributes of version 1.2. Taken here and refused there: hex in upper case.

mod scan;
mod write;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::map::{BlockMap, MapError};
use crate::units::BlockSize;
use scan::{Element, Field, Scanned};

pub use write::write;

/// The largest bmap file we read, in bytes: room for [`MAX_RANGES`] with the longest digests.
pub const MAX_LEN: u64 = 256 << 20;

/// The most ranges we take from one file, a thousand times what real images need. They cost 88 bytes each in memory.
pub const MAX_RANGES: usize = 1 << 20;

/// How deep elements may be nested; the format itself needs 3.
pub const MAX_DEPTH: usize = 32;

const CLEARSIGNED: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The version of a bmap file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Before the dot; another one means another format.
    pub major: u32,
    /// Behind the dot.
    pub minor: u32,
}

impl Version {
    /// What [`write()`] makes.
    pub const WRITTEN: Version = Version { major: 2, minor: 0 };

    /// A version from text such as `2.0`: two decimal numbers and one dot.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        let number = |text: &str| decimal(text).and_then(|number| u32::try_from(number).ok());
        Some(Self { major: number(major)?, minor: number(minor)? })
    }

    /// Whether we read it: 1.x and 2.x.
    fn is_known(self) -> bool {
        matches!(self.major, 1 | 2)
    }

    /// Whether elements have their names of 1.4 and later, with a hash of the file's choice.
    fn names_its_hash(self) -> bool {
        self >= Self { major: 1, minor: 4 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a bmap file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmapFile {
    /// The version it was written in.
    pub version: Version,
    /// The map.
    pub map: BlockMap,
    /// The file's own checksum, already verified; `None` for versions before 1.3, which have none.
    pub checksum: Option<Digest>,
}

/// A place in a bmap file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line, counted from 1.
    pub line: usize,
    /// The byte, counted from 0.
    pub offset: usize,
}

impl Place {
    fn of(bytes: &[u8], offset: usize) -> Self {
        let before = bytes.get(..offset).unwrap_or(bytes);
        Self { line: before.iter().filter(|byte| **byte == b'\n').count() + 1, offset }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {})", self.line, self.offset)
    }
}

/// Why bytes are no bmap file, or a damaged or contradictory one. Quotes are shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// The file could not be opened or read.
    #[error("cannot read the bmap file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than [`MAX_LEN`] bytes.
    #[error("a bmap file of {len} bytes or more: we read no more than {MAX_LEN}")]
    TooLong {
        /// How long it is at least.
        len: u64,
    },
    /// A clearsigned file: the signature must be checked and taken off first.
    #[error("this bmap is wrapped in an OpenPGP clear signature, which must be checked and taken off first")]
    Clearsigned,
    /// Bytes that are UTF-16 or UTF-32.
    #[error("the bmap is encoded as UTF-16 or UTF-32; bmap files are UTF-8")]
    WideText,
    /// Bytes that are not UTF-8.
    #[error("the bmap is not UTF-8 text at {at}")]
    NotUtf8 {
        /// The first byte that does not belong.
        at: Place,
    },
    /// No element at all, or something else before it.
    #[error("this is no bmap: it does not begin with an XML element")]
    NoElement,
    /// The root element is another one.
    #[error("this is no bmap: the root element is <{found}> at {at}, not <bmap>")]
    NotBmap {
        /// Its name.
        found: String,
        /// Where it begins.
        at: Place,
    },
    /// Not well-formed XML.
    #[error("the bmap is not well-formed XML at {at}")]
    Syntax {
        /// Where reading stopped.
        at: Place,
        /// What the XML parser says.
        source: quick_xml::Error,
    },
    /// The file ends inside an element.
    #[error("the bmap ends too early, inside <{inside}>, after {len} bytes")]
    Truncated {
        /// The innermost open element.
        inside: String,
        /// Length of the file in bytes.
        len: usize,
    },
    /// Text or another element outside the root element.
    #[error("the bmap has something outside its root element at {at}")]
    OutsideRoot {
        /// Where.
        at: Place,
    },
    /// A document type, which could define entities; no bmap has one.
    #[error("the bmap has a document type declaration at {at}; these are not taken")]
    Doctype {
        /// Where.
        at: Place,
    },
    /// An entity that XML does not define by itself.
    #[error("the bmap uses an entity \"{name}\" that XML does not know, at {at}")]
    Entity {
        /// Its name.
        name: String,
        /// Where.
        at: Place,
    },
    /// Elements nested deeper than [`MAX_DEPTH`].
    #[error("the bmap nests elements more than {MAX_DEPTH} deep at {at}")]
    TooDeep {
        /// Where.
        at: Place,
    },
    /// More ranges than [`MAX_RANGES`].
    #[error("the bmap has more than {MAX_RANGES} ranges")]
    TooManyRanges,
    /// The `version` attribute is missing or no version.
    #[error("the bmap's version is \"{found}\" at {at}, where two numbers and a dot belong")]
    Version {
        /// What stands there; empty when there is none.
        found: String,
        /// Where the root element begins.
        at: Place,
    },
    /// A version made for another generation of readers.
    #[error("the bmap has version {0}; we read 1.x and 2.x")]
    UnsupportedVersion(Version),
    /// An element that the version must have.
    #[error("the bmap has no element {element}, which version {version} must have")]
    Missing {
        /// Its name.
        element: &'static str,
        /// The file's version.
        version: Version,
    },
    /// An element that stands there twice.
    #[error("the bmap has a second {element} at {at}")]
    Duplicate {
        /// Its name.
        element: &'static str,
        /// Where the second one begins.
        at: Place,
    },
    /// A value with another element in its middle, which readers could understand differently.
    #[error("the value at {at} continues behind an element inside it")]
    SplitValue {
        /// Where it continues.
        at: Place,
    },
    /// A value that is no number, or one past 64 bits.
    #[error("{element} is \"{found}\" at {at}, where a whole number below 2^64 belongs")]
    Number {
        /// The element.
        element: &'static str,
        /// What stands there.
        found: String,
        /// Where.
        at: Place,
    },
    /// A block size of 0 or above [`BlockSize::MAX`].
    #[error("BlockSize is {found}; it must be 1 to {}", BlockSize::MAX)]
    BlockSize {
        /// The size in bytes.
        found: u64,
    },
    /// A `Range` that is none.
    #[error(
        "range {index} is \"{found}\" at {at}, where a block number or two with a \"-\" belong, the smaller one first"
    )]
    Range {
        /// Place in the list, counted from 0.
        index: usize,
        /// What stands there.
        found: String,
        /// Where.
        at: Place,
    },
    /// A digest attribute that is no digest.
    #[error("range {index} carries \"{found}\" at {at}, which is no digest in hex that the bmap could mean")]
    RangeDigest {
        /// Place in the list, counted from 0.
        index: usize,
        /// What stands there.
        found: String,
        /// Where.
        at: Place,
    },
    /// A digest whose length belongs to another hash than `ChecksumType`.
    #[error("range {index} carries a digest as long as {found} makes them, but ChecksumType is {expected}")]
    RangeAlgorithm {
        /// Place in the list, counted from 0.
        index: usize,
        /// What its length fits.
        found: Algorithm,
        /// What the file names.
        expected: Algorithm,
    },
    /// A hash that we do not know.
    #[error("ChecksumType is \"{found}\" at {at}; we know sha1, sha224, sha256, sha384 and sha512")]
    Algorithm {
        /// Its name.
        found: String,
        /// Where.
        at: Place,
    },
    /// The file checksum is no digest of the right length, or stands there in a way that no hash can cover.
    #[error("{element} at {at} is \"{found}\", which is no {algorithm} digest in hex")]
    FileChecksumText {
        /// The element.
        element: &'static str,
        /// What stands there.
        found: String,
        /// What it should be.
        algorithm: Algorithm,
        /// Where.
        at: Place,
    },
    /// The file is not the one that was written: changed by hand, by a transfer, or damaged.
    #[error("the bmap file is damaged or was changed: its {} is {found}, but it says {expected}", .expected.algorithm())]
    FileChecksum {
        /// What the file says.
        expected: Box<Digest>,
        /// What its bytes give.
        found: Box<Digest>,
    },
    /// `BlocksCount` contradicts the sizes.
    #[error("the bmap contradicts itself: BlocksCount is {stated}, but its sizes make {computed} blocks")]
    BlocksCount {
        /// What the file says.
        stated: u64,
        /// What image size and block size make.
        computed: u64,
    },
    /// `MappedBlocksCount` contradicts the ranges.
    #[error("the bmap contradicts itself: MappedBlocksCount is {stated}, but its ranges have {counted} blocks")]
    MappedBlocksCount {
        /// What the file says.
        stated: u64,
        /// What the ranges add up to.
        counted: u64,
    },
    /// Ranges that make no map.
    #[error("the bmap's ranges make no map")]
    Map(#[from] MapError),
}

/// Reads the bmap file at `path`.
///
/// # Errors
/// [`XmlError::Read`], [`XmlError::TooLong`] before anything is allocated, and all that [`parse`] finds.
pub fn read(path: &Path) -> Result<BmapFile, XmlError> {
    let failed = |source| XmlError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if len > MAX_LEN {
        return Err(XmlError::TooLong { len });
    }
    // The length is 0 for a pipe and may change while we read: what counts is what arrives.
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes)
}

/// Parses the bytes of a bmap file.
///
/// # Errors
/// [`XmlError`] says what is wrong and where. When the file checksum is wrong, that is said rather than what the
/// damage did to the numbers.
pub fn parse(bytes: &[u8]) -> Result<BmapFile, XmlError> {
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if len > MAX_LEN {
        return Err(XmlError::TooLong { len });
    }
    if bytes.starts_with(CLEARSIGNED) {
        return Err(XmlError::Clearsigned);
    }
    if is_wide(bytes) {
        return Err(XmlError::WideText);
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| XmlError::NotUtf8 { at: Place::of(bytes, error.valid_up_to()) })?;
    let mut scanned = scan::scan(text)?;
    let algorithm = algorithm(&scanned)?;
    let checksum = verify(text, &scanned, algorithm)?;
    if let Some(error) = scanned.range_error.take() {
        return Err(error);
    }
    let version = scanned.version;
    let map = map(scanned, algorithm)?;
    Ok(BmapFile { version, map, checksum })
}

/// Whether a file that begins with these bytes is a bmap, clearsigned or not: what comes before a root element `bmap`
/// may only be white space, comments and processing instructions. Give 4 KiB: bmaptool writes a long comment first.
#[must_use]
pub fn looks_like_bmap(first_bytes: &[u8]) -> bool {
    let mut rest = first_bytes.strip_prefix(BOM).unwrap_or(first_bytes);
    if rest.starts_with(CLEARSIGNED) {
        // Armour headers end at the first empty line (RFC 9580, 7.1).
        let after = |gap: &[u8]| find(rest, gap).map(|at| &rest[at + gap.len()..]);
        let Some(message) = after(b"\n\n").or_else(|| after(b"\n\r\n")) else { return false };
        rest = message;
    }
    loop {
        rest = rest.trim_ascii_start();
        let (start, end): (&[u8], &[u8]) = match rest {
            [b'<', b'?', ..] => (b"<?", b"?>"),
            [b'<', b'!', b'-', b'-', ..] => (b"<!--", b"-->"),
            [b'<', b'b', b'm', b'a', b'p', after, ..] => {
                return after.is_ascii_whitespace() || matches!(after, b'>' | b'/');
            }
            _ => return false,
        };
        let inside = rest.get(start.len()..).unwrap_or_default();
        let Some(at) = find(inside, end) else { return false };
        rest = &inside[at + end.len()..];
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Whether the bytes begin with the mark of UTF-16 or UTF-32, or with a `<` that is wider than one byte.
fn is_wide(bytes: &[u8]) -> bool {
    // Zeros alone are no text: an image begins so.
    let utf32 = matches!(bytes, [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, b'<', ..]);
    utf32 || matches!(bytes, [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] | [0, b'<', ..] | [b'<', 0, ..])
}

/// What the file's digests are made with, if it has any.
fn algorithm(scanned: &Scanned) -> Result<Algorithm, XmlError> {
    if !scanned.version.names_its_hash() {
        return Ok(Algorithm::Sha1);
    }
    let name = scanned.required(Element::ChecksumType)?;
    let unknown = || XmlError::Algorithm { found: shortened(&name.text), at: name.at };
    Algorithm::from_name(&name.text).ok_or_else(unknown)
}

/// Verifies the file's own checksum, when its version has one.
fn verify(text: &str, scanned: &Scanned, algorithm: Algorithm) -> Result<Option<Digest>, XmlError> {
    let element = if scanned.version.names_its_hash() { Element::BmapFileChecksum } else { Element::BmapFileSha1 };
    let must_be_there = scanned.version >= Version { major: 1, minor: 3 };
    let field = if must_be_there { Some(scanned.required(element)?) } else { scanned.field(element) };
    let Some(field) = field else { return Ok(None) };
    // The text is looked for as it stands in the file; one spelled with character references is not there.
    let place = text.find(&field.text).filter(|_| !field.text.is_empty());
    let (Some(expected), Some(start)) = (Digest::from_hex(algorithm, &field.text), place) else {
        let (element, found) = (element.name(), shortened(&field.text));
        return Err(XmlError::FileChecksumText { element, found, algorithm, at: field.at });
    };
    let (before, after) = (&text[..start], &text[start + field.text.len()..]);
    let mut hasher = Hasher::new(algorithm);
    hasher.update(before.as_bytes());
    hasher.update(&[b'0'; 128][..algorithm.digest_len() * 2]);
    hasher.update(after.as_bytes());
    let found = hasher.finish();
    if found != expected {
        return Err(XmlError::FileChecksum { expected: Box::new(expected), found: Box::new(found) });
    }
    Ok(Some(expected))
}

fn map(scanned: Scanned, expected: Algorithm) -> Result<BlockMap, XmlError> {
    let number = |element: Element| -> Result<u64, XmlError> {
        let Field { text, at } = scanned.required(element)?;
        decimal(text).ok_or_else(|| XmlError::Number { element: element.name(), found: shortened(text), at: *at })
    };
    let image_size = number(Element::ImageSize)?;
    let block_size = number(Element::BlockSize)?;
    let (stated, stated_mapped) = (number(Element::BlocksCount)?, number(Element::MappedBlocksCount)?);
    if !scanned.has_block_map {
        return Err(XmlError::Missing { element: "BlockMap", version: scanned.version });
    }
    let block_size =
        u32::try_from(block_size).ok().and_then(BlockSize::new).ok_or(XmlError::BlockSize { found: block_size })?;
    let computed = block_size.blocks_for(image_size);
    if stated != computed {
        return Err(XmlError::BlocksCount { stated, computed });
    }
    for (index, range) in scanned.ranges.iter().enumerate() {
        if let Some(found) = range.digest.map(|digest| digest.algorithm()).filter(|found| *found != expected) {
            return Err(XmlError::RangeAlgorithm { index, found, expected });
        }
    }
    let map = BlockMap::new(image_size, block_size, scanned.ranges)?;
    if stated_mapped != map.mapped_blocks() {
        return Err(XmlError::MappedBlocksCount { stated: stated_mapped, counted: map.mapped_blocks() });
    }
    Ok(map)
}

/// A number in decimal digits and nothing else; `None` past 64 bits.
fn decimal(text: &str) -> Option<u64> {
    // `parse` alone would take a leading "+".
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What somebody wrote, fit for a message: short, and without control characters.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    let mut short: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}
