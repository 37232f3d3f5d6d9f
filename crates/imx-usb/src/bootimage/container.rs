//! AHAB containers.
//!
//! | offset | size | field (little-endian) |
//! |---|---|---|
//! | 0 | 1 | version: 0, or 2 with post-quantum signatures |
//! | 1 | 2 | length of header, image entries and signature block |
//! | 3 | 1 | tag 0x87; 0x82 for a container of version 0 among those of version 2, where V2X firmware comes in one |
//! | 4 | 4 | flags; bits 0 and 1: 0 unsigned, 1 signed by NXP, 2 by the maker of the device |
//! | 8 | 2 | software version |
//! | 10 | 1 | fuse version |
//! | 11 | 1 | number of images |
//! | 12 | 2 | offset of the signature block |
//! | 14 | 2 | 0 |
//!
//! Then an entry of 128 bytes for each image: offset from the container u32, length u32, load address u64, entry u64,
//! flags u32 (bits 0 to 3 type, 4 to 7 core, from 8 on which hash, and whether it is encrypted), metadata u32, hash of
//! 64 bytes, IV of 32.
//!
//! Containers follow each other at steps of 0x400 bytes, or 0x4000 from version 2 or tag 0x82 on. The signature block
//! begins with version u8, length u16, tag 0x90, unsigned containers have one too.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::ImageError;
use super::read::{len64, offset, u8_at, u16_le, u32_le, u64_le};

/// First byte but three of a container.
pub const TAG: u8 = 0x87;
/// The same of a container of version 0 in an image of version 2: V2X firmware.
pub const TAG_V2X: u8 = 0x82;

const SIGNATURE_TAG: u8 = 0x90;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 128;
const TYPE_FCB: u8 = 0x8;
const TYPE_V2X: u8 = 0xb;

/// Who has signed a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signer {
    /// Nobody.
    Nobody,
    /// NXP: firmware of the chip's own security controller.
    Nxp,
    /// The maker of the device.
    Oem,
    /// A value that has no meaning.
    Unknown,
}

/// An image in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Offset from the container's start.
    pub offset: u32,
    /// Length; 0 for entries that are only instructions.
    pub length: u32,
    /// Where it is loaded.
    pub load: u64,
    /// Where it is entered.
    pub entry: u64,
    /// Type, core and more.
    pub flags: u32,
    /// Hash of the image as it is stored, filled up with zeros.
    pub hash: [u8; 64],
}

impl Entry {
    /// Its type: 3 executable, 4 data, 5 DCD, 6 SECO or ELE firmware, 8 copy of a FlexSPI header, 0xB V2X firmware.
    pub fn kind(&self) -> u8 {
        u8::try_from(self.flags & 0xf).unwrap_or(0)
    }

    /// The core it runs on; numbers differ between chips.
    pub fn core(&self) -> u8 {
        u8::try_from(self.flags >> 4 & 0xf).unwrap_or(0)
    }
}

/// A container's header and entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Where in the file.
    pub at: usize,
    /// Its version.
    pub version: u8,
    /// Length of header, entries and signature block.
    pub length: u16,
    /// [`TAG`] or [`TAG_V2X`].
    pub tag: u8,
    /// Flags.
    pub flags: u32,
    /// Software version, for protection against older software.
    pub software_version: u16,
    /// Fuse version, for the same.
    pub fuse_version: u8,
    /// Where its signature block begins, from its start.
    pub signature_block: u16,
    /// Its images.
    pub entries: Vec<Entry>,
}

impl Container {
    /// The container at that offset: its header must be right, its entries inside the file. The images themselves
    /// may be missing.
    pub fn read(bytes: &[u8], at: usize) -> Result<Self, ImageError> {
        let truncated = |length: usize| ImageError::Truncated {
            what: "a container",
            at: u64::try_from(at).unwrap_or(u64::MAX),
            length: u64::try_from(length).unwrap_or(u64::MAX),
            end: len64(bytes),
        };
        let header =
            bytes.get(at..).and_then(|rest| rest.get(..HEADER_BYTES)).ok_or_else(|| truncated(HEADER_BYTES))?;
        // In range: the header has 16 bytes.
        let byte = |n| u8_at(header, n).unwrap_or_default();
        let half = |n| u16_le(header, n).unwrap_or_default();
        let (tag, length, images) = (byte(3), half(1), byte(11));
        if tag != TAG && tag != TAG_V2X {
            return Err(ImageError::Tag { what: "container", at, expected: TAG, found: tag });
        }
        let needed = HEADER_BYTES + ENTRY_BYTES * usize::from(images);
        if usize::from(length) < needed {
            return Err(ImageError::ContainerLength { at, length, images });
        }
        let table = bytes.get(at..).and_then(|rest| rest.get(..needed)).ok_or_else(|| truncated(needed))?;
        let entries = table[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).filter_map(entry).collect();
        Ok(Self {
            at,
            version: byte(0),
            length,
            tag,
            flags: u32_le(header, 4).unwrap_or_default(),
            software_version: half(8),
            fuse_version: byte(10),
            signature_block: half(12),
            entries,
        })
    }

    /// Who has signed it.
    pub fn signer(&self) -> Signer {
        match self.flags & 3 {
            0 => Signer::Nobody,
            1 => Signer::Nxp,
            2 => Signer::Oem,
            _ => Signer::Unknown,
        }
    }

    /// Is the image of an entry encrypted?
    pub fn is_encrypted(&self, entry: &Entry) -> bool {
        let bit = if self.version >= 2 { 12 } else { 11 };
        entry.flags >> bit & 1 != 0
    }

    /// Does the image of an entry have the hash that the entry gives? `None` if that cannot be told: the file does not
    /// hold it whole, there is no hash, or one of a kind that is not known here (SM3, SHA-3).
    pub fn matches_hash(&self, entry: &Entry, bytes: &[u8]) -> Option<bool> {
        let start = offset(u64::try_from(self.at).ok()?.checked_add(entry.offset.into())?);
        let image = bytes.get(start..offset(self.end_of(entry)))?;
        if image.is_empty() || entry.hash == [0; 64] {
            return None;
        }
        let kinds = if self.version >= 2 { 0xf } else { 0x7 };
        let is = |hash: &[u8]| entry.hash.starts_with(hash) && entry.hash[hash.len()..].iter().all(|byte| *byte == 0);
        match entry.flags >> 8 & kinds {
            0 => Some(is(&Sha256::digest(image))),
            1 => Some(is(&Sha384::digest(image))),
            2 => Some(is(&Sha512::digest(image))),
            _ => None,
        }
    }

    /// Looks for what a chip would refuse, beside signatures: a signature block that is not there, images that end
    /// behind the file or do not match their hashes.
    pub fn check(&self, bytes: &[u8]) -> Vec<ImageError> {
        let mut wrong = Vec::new();
        let block = self.at.saturating_add(self.signature_block.into());
        let needed = HEADER_BYTES + ENTRY_BYTES * self.entries.len();
        let inside = (needed..usize::from(self.length)).contains(&usize::from(self.signature_block));
        match u8_at(bytes, block.saturating_add(3)) {
            Some(SIGNATURE_TAG) if inside => {}
            Some(found) if inside => {
                wrong.push(ImageError::Tag { what: "signature block", at: block, expected: SIGNATURE_TAG, found })
            }
            _ => wrong.push(ImageError::SignatureBlock { at: self.at, offset: self.signature_block }),
        }
        for (n, entry) in self.entries.iter().enumerate() {
            if self.end_of(entry) > len64(bytes) {
                wrong.push(ImageError::Truncated {
                    what: "an image of a container",
                    at: self.end_of(entry).saturating_sub(entry.length.into()),
                    length: entry.length.into(),
                    end: len64(bytes),
                });
            } else if self.matches_hash(entry, bytes) == Some(false) {
                let at = self.end_of(entry).saturating_sub(entry.length.into());
                wrong.push(ImageError::Hash { container: self.at, image: n, at });
            }
        }
        wrong
    }

    /// Where in the file the image of an entry ends.
    pub fn end_of(&self, entry: &Entry) -> u64 {
        u64::try_from(self.at)
            .unwrap_or(u64::MAX)
            .saturating_add(entry.offset.into())
            .saturating_add(entry.length.into())
    }

    /// Where in the file the last byte of the container and its images lies, plus one.
    pub fn end(&self) -> u64 {
        let own = u64::try_from(self.at).unwrap_or(u64::MAX).saturating_add(self.length.into());
        self.entries.iter().map(|entry| self.end_of(entry)).fold(own, u64::max)
    }

    /// Bytes from one container to the next.
    pub fn step(&self) -> usize {
        if self.version >= 2 || self.tag == TAG_V2X { 0x4000 } else { 0x400 }
    }
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    Some(Entry {
        offset: u32_le(bytes, 0)?,
        length: u32_le(bytes, 4)?,
        load: u64_le(bytes, 8)?,
        entry: u64_le(bytes, 16)?,
        flags: u32_le(bytes, 24)?,
        hash: *bytes.get(32..)?.first_chunk()?,
    })
}

/// The containers that follow each other from `at` on, at most four (firmware, V2X, loader, and one to be sure).
pub fn sequence(bytes: &[u8], at: usize) -> Vec<Container> {
    let mut all = Vec::new();
    let mut next = at;
    while all.len() < 4 {
        let Ok(container) = Container::read(bytes, next) else { break };
        next = next.saturating_add(container.step());
        all.push(container);
    }
    all
}

/// Which copy of the FlexSPI header counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FcbCopy {
    /// It belongs to what lies behind: the span ends before it.
    Leave,
    /// It belongs to the span.
    Take,
}

/// How many bytes from `at` on a ROM takes that wants the loader's containers only.
///
/// The loader's container is the second, or the third if the second is V2X firmware. The span ends with its last
/// image, rounded up to 0x400 from the first container. A file without a container's tag where one is looked for is
/// taken whole: that decision is `uuu`'s, and images for some boards depend on it. Containers that contradict
/// themselves and a last image that ends behind the file are errors.
pub fn loader_span(bytes: &[u8], at: usize, fcb: FcbCopy) -> Result<usize, ImageError> {
    let file = bytes.get(at..).unwrap_or_default();
    let whole = file.len();
    let tagged = |place: usize| u8_at(bytes, at.saturating_add(place).saturating_add(3)) == Some(TAG);
    if !tagged(0) {
        return Ok(whole);
    }
    let first = Container::read(bytes, at)?;
    let step = first.step();
    let second_is_v2x = if first.version >= 2 {
        u8_at(file, step.saturating_add(3)) == Some(TAG_V2X)
    } else if tagged(step) {
        let second = Container::read(bytes, at.saturating_add(step))?;
        second.entries.first().is_some_and(|entry| entry.kind() == TYPE_V2X)
    } else {
        return Ok(whole);
    };
    let index = if second_is_v2x { 2 } else { 1 };
    let place = step.saturating_mul(index);
    if !tagged(place) {
        return Ok(whole);
    }
    let loader = Container::read(bytes, at.saturating_add(place))?;
    let mut entries = loader.entries.iter().rev();
    let mut last = entries.next();
    if fcb == FcbCopy::Leave && last.is_some_and(|entry| entry.kind() == TYPE_FCB) {
        last = entries.next();
    }
    let Some(last) = last else { return Ok(whole) };
    let end = loader.end_of(last);
    if end > len64(bytes) {
        return Err(ImageError::Truncated {
            what: "the loader's last image",
            at: end.saturating_sub(last.length.into()),
            length: last.length.into(),
            end: len64(bytes),
        });
    }
    let span = end.saturating_sub(u64::try_from(at).unwrap_or(u64::MAX));
    Ok(offset(span.next_multiple_of(0x400)).min(whole))
}
