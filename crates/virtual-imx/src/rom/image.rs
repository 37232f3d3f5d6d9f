//! What a ROM sees in a boot image: how far the loader reaches, and whether it would start.
//!
//! Sources: imx-mkimage's and U-Boot's headers for IVT and containers; the flattened device tree format for FIT.

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::model::RomKind;

use super::Hab;

/// The largest boot image that is looked at.
pub const MAX_IMAGE: usize = 64 << 20;

/// U-Boot's FIT begins no further than this behind the loader (a limit of ours; it is 300 KiB or so).
const FIT_SEARCH: usize = 1 << 20;

/// Why there is nothing to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotBootable {
    /// More bytes are needed before anything can be said.
    #[error("it ends too early: {0} bytes are needed")]
    Short(usize),
    /// There is no header where one should be.
    #[error("no header at {0:#x}")]
    NoHeader(usize),
    /// A header contradicts itself.
    #[error("the header at {0:#x} makes no sense")]
    Nonsense(usize),
    /// The hash of an image in a container is not that of its bytes.
    #[error("the image at {0:#x} does not match its hash")]
    Hash(usize),
    /// The chip takes signed images only.
    #[error("it is not signed, and the chip is closed")]
    Unsigned,
}

use NotBootable::{Hash, NoHeader, Nonsense, Short, Unsigned};

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// An image vector table, with its boot data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ivt {
    /// Where execution begins.
    pub entry: u32,
    /// Where the table itself belongs.
    pub own: u32,
    /// Address of the signature's command sequence; 0 for none.
    pub csf: u32,
    /// Where the image begins.
    pub start: u32,
    /// Bytes of the image from there.
    pub length: u32,
}

impl Ivt {
    /// Reads the table at the beginning of `bytes`. Its boot data must lie in `bytes` too.
    pub fn read(bytes: &[u8]) -> Result<Self, NotBootable> {
        let head = bytes.get(..32).ok_or(Short(32))?;
        if head[0] != 0xd1 || head[1..3] != [0, 0x20] || head[3] & 0xf0 != 0x40 {
            return Err(NoHeader(0));
        }
        let word = |at| le32(head, at).ok_or(Short(32));
        let (entry, boot_data, own, csf) = (word(4)?, word(16)?, word(20)?, word(24)?);
        let at = size(boot_data.checked_sub(own).filter(|at| *at <= 0x1000).ok_or(Nonsense(0))?);
        let (Some(start), Some(length)) = (le32(bytes, at), le32(bytes, at + 4)) else { return Err(Short(at + 12)) };
        let ivt = Self { entry, own, csf, start, length };
        let end = start.checked_add(length).ok_or(Nonsense(0))?;
        if start > own || end <= own || !(start..end).contains(&entry) {
            return Err(Nonsense(0));
        }
        Ok(ivt)
    }

    /// Bytes from the table to the end of the image.
    pub fn reach(&self) -> usize {
        size(self.start.saturating_add(self.length).saturating_sub(self.own))
    }

    /// May it start on such a chip? A signature shows by its command sequence.
    pub fn allowed(&self, bytes: &[u8], hab: Hab) -> Result<(), NotBootable> {
        let signature = self.csf.checked_sub(self.own).filter(|at| *at > 0).map(size);
        match hab {
            Hab::Closed if signature.and_then(|at| bytes.get(at)) != Some(&0xd4) => Err(Unsigned),
            _ => Ok(()),
        }
    }
}

/// Length of the FIT at the beginning of `bytes`, with the data that lies behind its tree, which may not all be there.
pub fn fit_length(bytes: &[u8]) -> Result<usize, NotBootable> {
    if bytes.len() < 40 {
        return Err(Short(40));
    }
    if be32(bytes, 0) != Some(0xd00d_feed) {
        return Err(NoHeader(0));
    }
    let word = |at| be32(bytes, at).map_or(0, size);
    let (total, tree, strings) = (word(4), word(8), word(12));
    if !(40..=MAX_IMAGE).contains(&total) || tree >= total || strings > total {
        return Err(Nonsense(0));
    }
    let fit = bytes.get(..total).ok_or(Short(total))?;
    let mut length = total;
    let mut at = tree;
    let (mut place, mut bytes_of) = (None, None);
    loop {
        let token = be32(fit, at).ok_or(Nonsense(at))?;
        at += 4;
        match token {
            // A node begins, with its name; what the one before said is complete.
            1 => {
                let name = fit.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
                at = (at + name.ok_or(Nonsense(at))? + 1).next_multiple_of(4);
                (place, bytes_of) = (None, None);
            }
            2 => (place, bytes_of) = (None, None),
            3 => {
                let (len, name) = (be32(fit, at).map_or(MAX_IMAGE, size), be32(fit, at + 4).map_or(MAX_IMAGE, size));
                let value = fit.get(at + 8..).and_then(|rest| rest.get(..len)).ok_or(Nonsense(at))?;
                let name = fit.get(strings.saturating_add(name)..).unwrap_or_default();
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                match name {
                    b"data-position" => place = be32(value, 0).map(size),
                    b"data-offset" => place = be32(value, 0).map(|offset| total.next_multiple_of(4) + size(offset)),
                    b"data-size" => bytes_of = be32(value, 0).map(size),
                    _ => {}
                }
                if let (Some(place), Some(bytes_of)) = (place, bytes_of) {
                    length = length.max(place.saturating_add(bytes_of));
                }
                at = (at + 8 + len).next_multiple_of(4);
            }
            4 => {}
            9 => break,
            _ => return Err(Nonsense(at)),
        }
    }
    if length > MAX_IMAGE { Err(Nonsense(0)) } else { Ok(length) }
}

/// Where the containers at the beginning of `bytes` end, every image against its hash. What follows begins at the next
/// multiple of 1 KiB.
pub fn containers_length(bytes: &[u8], hab: Hab) -> Result<usize, NotBootable> {
    let mut length = 0;
    let step = if le_version(bytes)? >= 2 { 0x4000 } else { 0x400 };
    for index in 0..3 {
        let at = index * step;
        let head = bytes.get(at..at + 16).ok_or(Short(at + 16))?;
        if !matches!(head[3], 0x87 | 0x82) {
            if index == 0 {
                return Err(NoHeader(0));
            }
            break;
        }
        length = length.max(container(bytes, at, hab)?);
    }
    Ok(length)
}

fn le_version(bytes: &[u8]) -> Result<u8, NotBootable> {
    bytes.first().copied().ok_or(Short(16))
}

/// Where the images of the container at `at` end.
fn container(bytes: &[u8], at: usize, hab: Hab) -> Result<usize, NotBootable> {
    let head = &bytes[at..];
    let length = usize::from(le16(head, 1).ok_or(Short(at + 16))?);
    let flags = le32(head, 4).ok_or(Short(at + 16))?;
    let images = usize::from(*head.get(11).ok_or(Short(at + 16))?);
    if length < 16 + images * 128 || images == 0 {
        return Err(Nonsense(at));
    }
    if hab == Hab::Closed && flags & 3 == 0 {
        return Err(Unsigned);
    }
    let mut end = at + length;
    for n in 0..images {
        let entry = head.get(16 + n * 128..16 + (n + 1) * 128).ok_or(Short(at + length))?;
        let (offset, bytes_of) = (le32(entry, 0).map_or(0, size), le32(entry, 4).map_or(0, size));
        if bytes_of == 0 {
            continue;
        }
        let from = at.saturating_add(offset);
        let to = from.saturating_add(bytes_of);
        if offset < length || to > MAX_IMAGE {
            return Err(Nonsense(at));
        }
        let data = bytes.get(from..to).ok_or(Short(to))?;
        let flags = le32(entry, 24).unwrap_or(0);
        let hash = &entry[32..96];
        let right = match (flags >> 8) & 7 {
            _ if hash.iter().all(|byte| *byte == 0) => true,
            0 => hash[..32] == *Sha256::digest(data),
            1 => hash[..48] == *Sha384::digest(data),
            2 => hash[..64] == *Sha512::digest(data),
            _ => return Err(Nonsense(at)),
        };
        if !right {
            return Err(Hash(from));
        }
        end = end.max(to);
    }
    Ok(end)
}

/// Shifts what an error says by where its bytes began.
fn shift<T>(result: Result<T, NotBootable>, by: usize) -> Result<T, NotBootable> {
    result.map_err(|error| match error {
        Short(n) => Short(n.saturating_add(by)),
        NoHeader(at) => NoHeader(at + by),
        Nonsense(at) => Nonsense(at + by),
        Hash(at) => Hash(at + by),
        other => other,
    })
}

/// The first FIT from `from` on, in steps of four: where it begins.
pub(super) fn find_fit(bytes: &[u8], from: usize) -> Option<usize> {
    let magic = 0xd00d_feed_u32.to_be_bytes();
    let words = bytes.get(from..)?.chunks_exact(4);
    words.zip((from..).step_by(4)).find(|(word, _)| *word == magic).map(|(_, at)| at)
}

/// How many bytes of `bytes` are the loader and what the loader fetches through the ROM.
pub fn loader_length(kind: RomKind, bytes: &[u8], hab: Hab) -> Result<usize, NotBootable> {
    match kind {
        RomKind::SdpIvt | RomKind::StreamIvt => {
            let ivt = Ivt::read(bytes)?;
            let reach = ivt.reach();
            if bytes.len() < reach {
                return Err(Short(reach));
            }
            ivt.allowed(bytes, hab)?;
            let from = reach.next_multiple_of(4);
            let window = &bytes[..bytes.len().min(from.saturating_add(FIT_SEARCH))];
            let Some(fit) = find_fit(window, from) else {
                return Err(if window.len() < bytes.len() { NoHeader(from) } else { Short(bytes.len() + 4) });
            };
            let end = fit + shift(fit_length(&bytes[fit..]), fit)?;
            if bytes.len() < end { Err(Short(end)) } else { Ok(end) }
        }
        RomKind::StreamContainer => {
            let first = containers_length(bytes, hab)?.next_multiple_of(0x400);
            let rest = bytes.get(first..).filter(|rest| !rest.is_empty()).ok_or(Short(first + 16))?;
            shift(containers_length(rest, hab), first).map(|length| first + length)
        }
        RomKind::LoaderContainer => containers_length(bytes, hab),
    }
}
