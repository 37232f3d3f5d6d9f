//! Which part of a file a board is sent.

use std::ops::Range;

use super::container::{FcbCopy, loader_span};
use super::ivt::{self, Ivt};
use super::read::offset;
use super::{ImageError, marks};
use crate::chips::StreamExtent;

/// How far an IVT is looked for where U-Boot proper is to be found.
const SPL_IVT_WITHIN: usize = 0x10_0000;
/// Where in a barebox image for streaming ROMs its IVT lies.
const BAREBOX_IVT: usize = 0x8000;
/// Where U-Boot proper lies in the images that an older SPL takes: 0x60000 on the card, less the 33 KiB before the
/// loader.
pub const SDPU_OFFSET: usize = 0x5_7c00;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    /// So many bytes into the file.
    pub offset: usize,
    /// Pass over a FlexSPI header if there is one.
    pub skip_flexspi: bool,
    /// If the file is a disk image, take the loader that its tag tells instead; `offset` then does not count.
    pub by_tag: bool,
}

impl Start {
    /// The part of the file this means.
    pub fn range(&self, bytes: &[u8]) -> Result<Range<usize>, ImageError> {
        if self.by_tag && marks::is_disk_image(bytes) {
            return marks::tagged_loader(bytes);
        }
        let mut start = self.offset;
        if self.skip_flexspi && marks::is_flexspi(bytes, start) {
            start = start.saturating_add(marks::FLEXSPI_BYTES);
        }
        rest(bytes, u64::try_from(start).unwrap_or(u64::MAX), bytes.len())
    }
}

fn rest(bytes: &[u8], start: u64, end: usize) -> Result<Range<usize>, ImageError> {
    let range = offset(start)..end.min(bytes.len());
    if range.is_empty() {
        return Err(ImageError::NothingLeft { at: start, end: range.end });
    }
    Ok(range)
}

/// What a streaming ROM is sent.
pub fn for_stream(bytes: &[u8], start: Start, extent: StreamExtent) -> Result<Range<usize>, ImageError> {
    let mut range = start.range(bytes)?;
    let part = bytes.get(..range.end).unwrap_or_default();
    let shifted = range.start.saturating_add(BAREBOX_IVT);
    if Ivt::read(part, range.start).is_none() && Ivt::read(part, shifted).is_some() {
        range.start = shifted;
    }
    if extent == StreamExtent::LoaderContainer {
        let span = loader_span(part, range.start, FcbCopy::Leave)?;
        range.end = range.end.min(range.start.saturating_add(span));
    }
    Ok(range)
}

/// What an SPL is sent that looks for U-Boot proper itself (SDPV): everything behind the SPL.
pub fn after_spl(bytes: &[u8], start: Start) -> Result<Range<usize>, ImageError> {
    let range = start.range(bytes)?;
    let part = bytes.get(range.clone()).unwrap_or_default();
    let head = part.get(..part.len().min(SPL_IVT_WITHIN)).unwrap_or_default();
    let spl = match ivt::find(head, 0) {
        Ok(ivt) if ivt.boot_data != 0 => ivt.end()?,
        _ => {
            let span = loader_span(part, 0, FcbCopy::Take)?;
            u64::try_from(span).unwrap_or(u64::MAX)
        }
    };
    let begin = u64::try_from(range.start).unwrap_or(u64::MAX).saturating_add(spl);
    rest(bytes, begin, range.end)
}

/// The second part of a barebox image on i.MX8M Quad and Mini: it goes to address 0 and is not answered. `None` if the
/// file is no barebox.
pub fn barebox_second(bytes: &[u8], ivt: &Ivt) -> Result<Option<Range<usize>>, ImageError> {
    if !marks::is_barebox(bytes) || ivt.version != 0x40 {
        return Ok(None);
    }
    let Some(start) = ivt.entry.checked_sub(ivt.address) else {
        return Err(ImageError::Pointer { what: "entry", address: ivt.entry, at: ivt.at });
    };
    rest(bytes, start.into(), bytes.len()).map(Some)
}
