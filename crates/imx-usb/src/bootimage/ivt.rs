//! Images with an image vector table.
//!
//! | offset | field (u32 little-endian unless said otherwise) |
//! |---|---|
//! | 0 | tag 0xD1, length 0x0020 big-endian, version 0x40 or 0x41 |
//! | 4 | entry |
//! | 8 | 0 |
//! | 12 | DCD, 0 for none |
//! | 16 | boot data: start of the image, its length, plugin flag |
//! | 20 | the table itself |
//! | 24 | CSF (signature), 0 for none |
//! | 28 | 0 |
//!
//! All are addresses in the chip's memory; those inside the image become offsets by way of the table's own.

use super::read::{len64, offset, u8_at, u16_be, u32_le};
use super::{ImageError, SCAN_BYTES};
use crate::sdp::Load;

/// Length of a table.
pub const IVT_BYTES: usize = 32;

const VERSION_40: [u8; 4] = [0xd1, 0x00, 0x20, 0x40];
const VERSION_41: [u8; 4] = [0xd1, 0x00, 0x20, 0x41];
const DCD_TAG: u8 = 0xd2;
const CSF_TAG: u8 = 0xd4;
/// More tables than any image has; a file full of them is not worth listing further.
const MOST: usize = 64;
/// Tools round the length of an image up to this, and not all of them write the padding.
const ROUNDED: u64 = 0x1000;

/// Boot data of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootData {
    /// Where in memory the image begins; the table need not be its first.
    pub start: u32,
    /// Length of the image from there.
    pub length: u32,
    /// Bit 0: the image is a plugin that the ROM calls. Other bits: it is no image of ours.
    pub plugin: u32,
}

/// An image vector table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ivt {
    /// Where in the file.
    pub at: usize,
    /// 0x40 or 0x41.
    pub version: u8,
    /// Where in memory the image is entered.
    pub entry: u32,
    /// Where in memory its DCD lies; 0 for none.
    pub dcd: u32,
    /// Where in memory its boot data lie.
    pub boot_data: u32,
    /// Where in memory the table itself belongs.
    pub address: u32,
    /// Where in memory its signature lies; 0 for none.
    pub csf: u32,
    /// Its boot data, if they are in the file.
    pub boot: Option<BootData>,
}

/// Is an image signed?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signature {
    /// No room for a signature.
    None,
    /// Room for a signature, but none there.
    Room,
    /// There is one. Whether it is good is for the chip to say.
    Present,
}

impl Ivt {
    /// The table at that offset.
    pub fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let tag: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
        if tag != VERSION_40 && tag != VERSION_41 {
            return None;
        }
        let table = bytes.get(at..at.checked_add(IVT_BYTES)?)?;
        let mut ivt = Self {
            at,
            version: tag[3],
            entry: u32_le(table, 4)?,
            dcd: u32_le(table, 12)?,
            boot_data: u32_le(table, 16)?,
            address: u32_le(table, 20)?,
            csf: u32_le(table, 24)?,
            boot: None,
        };
        ivt.boot = ivt.read_boot_data(bytes);
        Some(ivt)
    }

    fn read_boot_data(&self, bytes: &[u8]) -> Option<BootData> {
        if self.boot_data == 0 {
            return None;
        }
        let at = self.offset_of(self.boot_data)?;
        let word = |n: usize| u32_le(bytes, at.checked_add(n)?);
        Some(BootData { start: word(0)?, length: word(4)?, plugin: word(8)? })
    }

    /// Where in the file an address of the image lies; `None` if before the file. It may be behind its end.
    pub fn offset_of(&self, address: u32) -> Option<usize> {
        let at = i64::try_from(self.at).ok()?;
        let shift = i64::from(address) - i64::from(self.address);
        usize::try_from(at.checked_add(shift)?).ok()
    }

    /// Is this the firmware for the HDMI controller that stands before an i.MX8M Quad's loader?
    pub fn is_hdmi_firmware(&self) -> bool {
        self.version == VERSION_41[3] && self.boot.is_some_and(|boot| boot.plugin & !1 != 0)
    }

    /// Is this a plugin, which the ROM calls before it takes the next image?
    pub fn is_plugin(&self) -> bool {
        self.boot.is_some_and(|boot| boot.plugin & 1 != 0)
    }

    /// Length of the image from the table on, as its boot data say.
    pub fn length(&self) -> Result<u32, ImageError> {
        let Some(boot) = self.boot else {
            return Err(ImageError::Pointer { what: "boot data", address: self.boot_data, at: self.at });
        };
        let before = self.address.checked_sub(boot.start);
        let wrong = ImageError::Start { at: self.at, start: boot.start, address: self.address };
        before.and_then(|before| boot.length.checked_sub(before)).filter(|length| *length > 0).ok_or(wrong)
    }

    /// Where in the file the image should end. Behind the end of the file if that was cut, or its padding left out.
    pub fn end(&self) -> Result<u64, ImageError> {
        Ok(u64::try_from(self.at).unwrap_or(u64::MAX).saturating_add(self.length()?.into()))
    }

    /// Where in the file the image ends at the earliest: at its signature, since an unsigned image with room for one
    /// often ends there, or else before the padding that rounds its length up to 4 KiB.
    pub fn least_end(&self) -> Result<u64, ImageError> {
        let end = self.end()?;
        let csf = if self.csf == 0 { None } else { self.offset_of(self.csf).and_then(|at| u64::try_from(at).ok()) };
        Ok(match csf {
            Some(csf) if csf < end => csf,
            _ => end.saturating_sub(ROUNDED - 1),
        })
    }

    /// The image's DCD.
    pub fn dcd_bytes<'b>(&self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, ImageError> {
        if self.dcd == 0 {
            return Ok(None);
        }
        let pointer = ImageError::Pointer { what: "DCD", address: self.dcd, at: self.at };
        let Some(at) = self.offset_of(self.dcd) else { return Err(pointer) };
        let Some(found) = u8_at(bytes, at) else { return Err(pointer) };
        if found != DCD_TAG {
            return Err(ImageError::Tag { what: "DCD", at, expected: DCD_TAG, found });
        }
        let length = at.checked_add(1).and_then(|at| u16_be(bytes, at)).unwrap_or(u16::MAX);
        let end = at.checked_add(usize::from(length));
        let dcd = end.and_then(|end| bytes.get(at..end)).ok_or_else(|| ImageError::Truncated {
            what: "the DCD",
            at: u64::try_from(at).unwrap_or(u64::MAX),
            length: length.into(),
            end: len64(bytes),
        })?;
        // Even an empty one has its header.
        if length < 4 {
            return Err(ImageError::Truncated {
                what: "the DCD",
                at: u64::try_from(at).unwrap_or(u64::MAX),
                length: 4,
                end: u64::try_from(at).unwrap_or(u64::MAX).saturating_add(length.into()),
            });
        }
        Ok(Some(dcd))
    }

    /// Is the image signed?
    pub fn signature(&self, bytes: &[u8]) -> Signature {
        if self.csf == 0 {
            return Signature::None;
        }
        match self.offset_of(self.csf).and_then(|at| u8_at(bytes, at)) {
            Some(CSF_TAG) => Signature::Present,
            _ => Signature::Room,
        }
    }

    /// What a boot ROM is sent to start the image.
    ///
    /// Of an image that the file does not hold whole, what there is, if that is as much as [`Ivt::least_end`] asks for.
    pub fn load<'b>(&self, bytes: &'b [u8]) -> Result<Load<'b>, ImageError> {
        let (end, have) = (self.end()?, len64(bytes));
        if self.least_end()? > have {
            let at = u64::try_from(self.at).unwrap_or(u64::MAX);
            return Err(ImageError::Truncated { what: "the image", at, length: end.saturating_sub(at), end: have });
        }
        let image = bytes.get(self.at..offset(end.min(have))).unwrap_or_default();
        Ok(Load { address: self.address, bytes: image, dcd: self.dcd_bytes(bytes)? })
    }
}

/// The tables in `bytes`, at offsets divisible by 4, HDMI firmware included; looks no further than [`SCAN_BYTES`] and
/// lists no more than 64.
pub fn tables(bytes: &[u8]) -> impl Iterator<Item = Ivt> + '_ {
    let end = bytes.len().min(SCAN_BYTES);
    let mut next = 0usize;
    std::iter::from_fn(move || {
        while next < end {
            let at = next;
            next = at.saturating_add(4);
            if let Some(ivt) = Ivt::read(bytes, at) {
                // As `uuu` goes on: behind a table it takes, but at the next word after one that it passes over.
                next = at.saturating_add(if ivt.is_hdmi_firmware() { 4 } else { IVT_BYTES });
                return Some(ivt);
            }
        }
        None
    })
    .take(MOST)
}

/// The image a ROM is to be sent: the one after `skip` others, HDMI firmware not counted.
pub fn find(bytes: &[u8], skip: usize) -> Result<Ivt, ImageError> {
    tables(bytes).filter(|ivt| !ivt.is_hdmi_firmware()).nth(skip).ok_or(ImageError::NoIvt(bytes.len()))
}
