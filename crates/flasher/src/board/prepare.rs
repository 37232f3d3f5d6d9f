//! From an image and its map to a plan for boards. It is the same for all of them: nothing of a board is looked at.

use bmap::{BlockMap, ByteRange};
use image::{Image, table};

use super::place::To;
use crate::error::FlashError;
use crate::event::Observer;
use crate::plan::{Content, HolePolicy, Layout, Plan};
use crate::prepare::{LOOK, PAGE, check_lengths, content};
use crate::target::Geometry;

/// What a user may choose about a plan for boards.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// What to do with holes. Erasing is no matter of the plan.
    pub holes: HolePolicy,
    /// Leave the old head in place until the new one is written.
    pub keep_head: bool,
    /// What boards are to keep, whatever the image holds there: ascending, disjoint, whole sectors.
    pub keep: Vec<ByteRange>,
    /// Write zeros over the gap in front of the first partition, where U-Boot keeps its environment.
    pub clear_gap: bool,
    /// The longest piece in bytes; [`Plan::DISK_PIECE`] unless it says otherwise.
    pub piece_len: Option<u64>,
}

/// Plans how `image` gets to boards. Reads the image's first bytes, and its holes when it is a plain file without a map.
///
/// Holes are left alone unless they are to be zero: no board can clear them for free.
///
/// # Errors
/// [`FlashError::LengthMismatch`] when image and map are of different lengths, [`FlashError::LengthUnknown`] for an
/// image that must be unpacked before its length is known, [`FlashError::Unaligned`] for a map of blocks smaller than
/// sectors, and errors of reading.
pub fn prepare(
    image: &mut Image,
    map: Option<&BlockMap>,
    to: &To,
    wishes: &Wishes,
    observer: &dyn Observer,
) -> Result<Plan, FlashError> {
    let mut extents = Vec::new();
    Outline::of(image, map, !to.is_part(), &mut extents, observer)?.plan(to, wishes)
}

/// What a plan is made from: all that is known of an image before it is read.
#[derive(Debug, Clone)]
pub(crate) struct Outline<'a> {
    /// Its length in bytes.
    pub(crate) image_size: u64,
    /// Where it has data.
    pub(crate) content: Content<'a>,
    /// Bytes in front of the first partition.
    pub(crate) head: u64,
    /// Where loaders begin in it.
    pub(crate) loaders: Vec<u64>,
}

impl<'a> Outline<'a> {
    /// Looks at an image; at its front only if it is that of a whole disk. `extents` keeps what was found of its holes.
    ///
    /// # Errors
    /// As [`prepare`].
    pub(crate) fn of(
        image: &mut Image,
        map: Option<&'a BlockMap>,
        whole_disk: bool,
        extents: &'a mut Vec<ByteRange>,
        observer: &dyn Observer,
    ) -> Result<Self, FlashError> {
        check_lengths(image, map)?;
        let image_size = map.map(BlockMap::image_size).or(image.size());
        let Some(size) = image_size else { return Err(FlashError::LengthUnknown { name: image.name().to_owned() }) };
        let (mut head, mut loaders) = (0, Vec::new());
        if whole_disk {
            let front = image.head(LOOK)?;
            let table = table::read(&front, image_size, None).ok().flatten();
            head = table::head_len(table.as_ref()).max(PAGE).min(size);
            loaders.extend(table::loaders(&front).iter().map(|loader| loader.offset));
        }
        Ok(Self { image_size: size, content: content(image, map, extents, observer)?, head, loaders })
    }

    /// The plan for boards.
    ///
    /// # Errors
    /// [`FlashError::Unaligned`].
    pub(crate) fn plan(&self, to: &To, wishes: &Wishes) -> Result<Plan, FlashError> {
        let geometry = Geometry {
            size: None,
            fresh: false,
            partition: to.is_part(),
            zero_granule: PAGE,
            readable: false,
            depth: 1,
        };
        let holes = match wishes.holes {
            HolePolicy::Auto => HolePolicy::Leave,
            policy => policy,
        };
        let plan = Plan::new(&Layout {
            image_size: Some(self.image_size),
            content: self.content,
            geometry,
            head: self.head,
            loaders: &self.loaders,
            old_backup: None,
            old_boot: &[],
            holes,
            keep_head: wishes.keep_head,
            keep: &wishes.keep,
            clear_gap: wishes.clear_gap,
            piece_len: wishes.piece_len.unwrap_or(Plan::DISK_PIECE),
        });
        if super::batch::block_size(plan.alignment()).is_none() {
            return Err(FlashError::Unaligned { alignment: plan.alignment() });
        }
        Ok(plan)
    }
}
