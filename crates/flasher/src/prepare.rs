//! From an image, its map and a target to a plan: the looks that have to be taken before anything is decided.

use bmap::{BlockMap, ByteRange};
use image::buffer::AlignedBuffer;
use image::{Image, table};

use crate::error::FlashError;
use crate::event::{Event, Note, Observer};
use crate::plan::{Content, HolePolicy, Layout, Plan};
use crate::target::Target;

/// What a user may choose about a plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions {
    /// What to do with holes.
    pub holes: HolePolicy,
    /// Leave the old head in place until the new one is written.
    pub keep_head: bool,
    /// The longest piece in bytes.
    pub piece_len: u64,
}

impl Default for PlanOptions {
    /// Holes by [`HolePolicy::Auto`], pieces of [`Plan::DISK_PIECE`].
    fn default() -> Self {
        Self { holes: HolePolicy::Auto, keep_head: false, piece_len: Plan::DISK_PIECE }
    }
}

/// The header of a GPT begins so (UEFI specification, GPT header).
const GPT_SIGNATURE: &[u8] = b"EFI PART";

/// The last two bytes of an MBR.
const MBR_SIGNATURE: [u8; 2] = [0x55, 0xAA];

/// The smallest sector there is.
const SECTOR: u64 = 512;

/// The least that is written last on a whole disk.
pub(crate) const PAGE: u64 = 4096;

/// How much of an image's or disk's front is looked at: table and loaders.
pub(crate) const LOOK: usize = 256 << 10;

/// Plans how `image` gets to `target`. Reads the image's first bytes, its holes when it is a plain file without a map,
/// and the first and last bytes of the target; changes nothing.
///
/// # Errors
/// [`FlashError::LengthMismatch`] when image and map are of different lengths, [`FlashError::TooSmall`] when the target
/// cannot hold the image, and errors of reading.
pub fn prepare(
    image: &mut Image,
    map: Option<&BlockMap>,
    target: &dyn Target,
    options: &PlanOptions,
    observer: &dyn Observer,
) -> Result<Plan, FlashError> {
    let geometry = target.geometry();
    check_lengths(image, map)?;
    let image_size = map.map(BlockMap::image_size).or(image.size());
    if let (Some(image), Some(capacity)) = (image_size, geometry.size)
        && image > capacity
    {
        return Err(FlashError::TooSmall { target: target.name(), image, capacity });
    }
    let whole_disk = !geometry.partition;
    let mut loaders = Vec::new();
    let mut head = 0;
    let mut old_backup = None;
    let mut old_boot = Vec::new();
    if whole_disk {
        let front = image.head(LOOK)?;
        // A table that cannot be trusted still says that this is a disk image.
        let new = table::read(&front, image_size, None).ok().flatten();
        // A first partition that begins inside the first page is written with the head: the table goes last, always.
        head = table::head_len(new.as_ref()).max(PAGE);
        loaders.extend(table::loaders(&front).iter().map(|loader| loader.offset));
        if !geometry.fresh && geometry.readable {
            let size = geometry.size.unwrap_or(0);
            let old = read_part(target, ByteRange::first(size.min(LOOK.try_into().unwrap_or(0))))?;
            let found = table::loaders(&old);
            loaders.extend(found.iter().map(|loader| loader.offset));
            old_boot.extend(found.iter().filter_map(|loader| ByteRange::at(loader.offset, SECTOR)));
            if old.get(510..512) == Some(&MBR_SIGNATURE) {
                old_boot.push(ByteRange::first(SECTOR));
            }
            for at in [512_usize, 4096] {
                if old.get(at..).is_some_and(|sector| sector.starts_with(GPT_SIGNATURE)) {
                    old_boot.extend(u64::try_from(at).ok().and_then(|at| ByteRange::at(at, SECTOR)));
                }
            }
            old_backup = backup_header(target, size)?;
            old_boot.extend(old_backup);
        }
    }
    let mut extents = Vec::new();
    let content = content(image, map, &mut extents, observer)?;
    Ok(Plan::new(&Layout {
        image_size,
        content,
        geometry,
        head,
        loaders: &loaders,
        old_backup,
        old_boot: &old_boot,
        holes: options.holes,
        keep_head: options.keep_head,
        keep: &[],
        clear_gap: false,
        piece_len: options.piece_len,
    }))
}

/// That image and map are of one length, as far as it is known.
pub(crate) fn check_lengths(image: &Image, map: Option<&BlockMap>) -> Result<(), FlashError> {
    match (map, image.size()) {
        (Some(map), Some(size)) if map.image_size() != size => {
            Err(FlashError::LengthMismatch { image: size, map: map.image_size() })
        }
        _ => Ok(()),
    }
}

/// Where an image's data lies: by its map, else by the holes of its file.
pub(crate) fn content<'a>(
    image: &Image,
    map: Option<&'a BlockMap>,
    extents: &'a mut Vec<ByteRange>,
    observer: &dyn Observer,
) -> Result<Content<'a>, FlashError> {
    // A device used as an image has no holes to ask for.
    let file = image.file().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
    match (map, file) {
        (Some(map), _) => Ok(Content::Map(map)),
        (None, Some(file)) => {
            let scan = bmap::holes::scan(file)?;
            if matches!(scan.support, bmap::holes::Support::CannotTell { .. }) {
                observer.event(&Event::Note(Note::HolesUnknown));
                return Ok(Content::Anywhere);
            }
            *extents = scan.data;
            Ok(Content::Extents(extents))
        }
        (None, None) => Ok(Content::Anywhere),
    }
}

fn read_part(target: &dyn Target, extent: ByteRange) -> Result<AlignedBuffer, FlashError> {
    let mut part = AlignedBuffer::new(usize::try_from(extent.len()).unwrap_or(0));
    target.read_back(extent.start(), &mut part)?;
    Ok(part)
}

/// The sector of a backup GPT's header at the end of the target, if one is there.
fn backup_header(target: &dyn Target, size: u64) -> Result<Option<ByteRange>, FlashError> {
    for sector in [512_u64, 4096] {
        let last = size.checked_sub(sector).filter(|at| *at >= sector).and_then(|at| ByteRange::at(at, sector));
        let Some(last) = last.filter(|_| size.is_multiple_of(sector)) else { continue };
        if read_part(target, last)?.starts_with(GPT_SIGNATURE) {
            return Ok(Some(last));
        }
    }
    Ok(None)
}
