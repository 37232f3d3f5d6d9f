//! The plan: what will be written where and in which order, before a byte moves.
//!
//! A plan is a pure value. It is made from an image's layout (its map, or where its data lies), the target's geometry
//! and the user's choices; it holds runs of one kind and cuts them into pieces when asked, so that a plan for a
//! terabyte is small. It knows no data and touches no device.

use bmap::{Algorithm, BlockMap, ByteRange, Digest, Hasher};

use crate::target::Geometry;

/// What a block of the target shall hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes of the image.
    Data,
    /// Zeros: a hole of an image without a map, or a hole that the user wants cleared.
    Zero,
    /// Anything: the map leaves it out. Planned only where it may be turned into zeros for free.
    DontCare,
}

/// When a piece is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// First: zeros over what could still start the old system.
    Invalidate,
    /// Then everything behind the head.
    Body,
    /// Last: what lies in front of the first partition.
    Head,
}

/// The unit of writing, proof and retry: aligned, at most [`Plan::piece_len`] bytes, inside one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes, of the image and of the target alike.
    pub extent: ByteRange,
    /// What it shall hold.
    pub kind: Kind,
    /// When it is written.
    pub phase: Phase,
    /// Index of the map's range it belongs to; `None` without a map and for what is not data.
    pub mapped: Option<usize>,
    /// Whether the target keeps what it holds there, as the user wishes: then it is read and checked, but not written.
    pub kept: bool,
}

/// A run of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    extent: ByteRange,
    kind: Kind,
    mapped: Option<usize>,
}

/// What to do with blocks that a map leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum HolePolicy {
    /// Zeros where the target can promise them without writing, and as long as that is quick; otherwise left.
    #[default]
    Auto,
    /// Left as they are.
    Leave,
    /// Zeros, written where they must be, and proven.
    Zero,
}

impl HolePolicy {
    /// The policy's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Leave => "leave",
            Self::Zero => "zero",
        }
    }
}

/// Where an image's data lies.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// In the ranges of a map; all else may hold anything.
    Map(&'a BlockMap),
    /// In these extents, ascending and disjoint; all else is zero.
    Extents(&'a [ByteRange]),
    /// Anywhere: zeros are found while reading.
    Anywhere,
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Length of the image in bytes, where it is known before reading it.
    pub image_size: Option<u64>,
    /// Where its data lies.
    pub content: Content<'a>,
    /// The target.
    pub geometry: Geometry,
    /// Bytes in front of the first partition that are written last. For a partition nothing is written last, but
    /// pieces are cut there all the same.
    pub head: u64,
    /// Where boot loaders begin, in the image or on the target: their first blocks are cleared first.
    pub loaders: &'a [u64],
    /// The old backup partition table's header on the target, cleared first where it would outlive the old table.
    pub old_backup: Option<ByteRange>,
    /// What was found on the target that could start something: the blocks of its table, the first of its loaders.
    pub old_boot: &'a [ByteRange],
    /// What to do with holes.
    pub holes: HolePolicy,
    /// Leave the old head in place until the new one is written.
    pub keep_head: bool,
    /// What the target is to keep whatever the image holds there; ascending and disjoint.
    pub keep: &'a [ByteRange],
    /// Write zeros over holes of the map inside the head, where boot loaders keep their settings.
    pub clear_gap: bool,
    /// The longest piece in bytes: a power of two, 64 KiB to [`Plan::MAX_PIECE`].
    pub piece_len: u64,
}

/// What will be written where, in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    image_size: Option<u64>,
    runs: Vec<Run>,
    invalidate: Vec<ByteRange>,
    survivors: Vec<ByteRange>,
    keep: Vec<ByteRange>,
    head: u64,
    /// Where pieces are cut beside the multiples of their length: at the head's end.
    cut: u64,
    piece_len: u64,
    find_zeros: bool,
    alignment: u64,
}

impl Plan {
    /// The longest piece there may be, 16 MiB.
    pub const MAX_PIECE: u64 = 16 << 20;
    /// The length of pieces for disks, 4 MiB: long enough for an eMMC or SD card to stream, short enough that a handful
    /// of buffers stay small.
    pub const DISK_PIECE: u64 = 4 << 20;
    /// Alignment beyond which nothing gets better: a page, and the largest sector in use.
    const PAGE: u64 = 4096;

    /// Plans.
    #[must_use]
    pub fn new(layout: &Layout<'_>) -> Self {
        let piece_len = layout.piece_len.clamp(64 << 10, Self::MAX_PIECE);
        let piece_len = if piece_len.is_power_of_two() { piece_len } else { Self::DISK_PIECE };
        // Rounded to pages, so that an old-fashioned first partition at sector 63 does not cost direct I/O.
        let cut = layout.head / Self::PAGE * Self::PAGE;
        let head = if layout.geometry.partition { 0 } else { cut };
        let end = layout.image_size.unwrap_or(u64::MAX >> 1);
        let mut plan = Self {
            image_size: layout.image_size,
            runs: Vec::new(),
            invalidate: Vec::new(),
            survivors: Vec::new(),
            keep: layout.keep.to_vec(),
            head,
            cut,
            piece_len,
            find_zeros: !matches!(layout.content, Content::Map(_)),
            alignment: Self::PAGE,
        };
        let fresh = layout.geometry.fresh;
        match layout.content {
            Content::Map(map) => {
                let gap = match layout.holes {
                    // A fresh target reads as zeros wherever nothing is written.
                    _ if fresh => None,
                    HolePolicy::Leave => None,
                    HolePolicy::Auto => Some(Kind::DontCare),
                    HolePolicy::Zero => Some(Kind::Zero),
                };
                let data = map.mapped().enumerate().map(|(index, (extent, _))| (extent, Some(index)));
                // The gap in front of the first partition is left alone: boot loaders keep their settings there.
                plan.fill(data, gap, head, end);
                if layout.clear_gap && !fresh {
                    let gap = map.holes().filter_map(|hole| hole.intersect(ByteRange::first(head.min(end))));
                    let gap = gap.filter(|extent| !extent.is_empty());
                    plan.runs.extend(gap.map(|extent| Run { extent, kind: Kind::Zero, mapped: None }));
                    plan.runs.sort_unstable_by_key(|run| run.extent);
                }
            }
            Content::Extents(extents) => {
                let gap = if fresh { None } else { Some(Kind::Zero) };
                plan.fill(extents.iter().map(|extent| (*extent, None)), gap, 0, end);
            }
            Content::Anywhere => plan.fill(std::iter::once((ByteRange::first(end), None)), None, 0, end),
        }
        plan.alignment = plan.common_alignment(end);
        if head > 0 && !fresh && !layout.keep_head {
            plan.invalidate = plan.what_boots(layout).into_iter().flat_map(|range| plan.but_kept(range)).collect();
        }
        let cleared = |boot: &&ByteRange| !plan.invalidate.iter().any(|range| range.intersect(**boot).is_some());
        plan.survivors = layout.old_boot.iter().filter(cleared).copied().collect();
        plan
    }

    /// Adds the runs of data and, between them from `gap_from` on, runs of `gap`.
    fn fill(
        &mut self,
        data: impl Iterator<Item = (ByteRange, Option<usize>)>,
        gap: Option<Kind>,
        gap_from: u64,
        end: u64,
    ) {
        let mut at = gap_from;
        let add_gap = |runs: &mut Vec<Run>, from: u64, to: u64| {
            if let (Some(kind), Some(extent)) = (gap, ByteRange::new(from, to).filter(|extent| !extent.is_empty())) {
                runs.push(Run { extent, kind, mapped: None });
            }
        };
        for (extent, mapped) in data {
            let Some(extent) = extent.intersect(ByteRange::first(end)) else { continue };
            add_gap(&mut self.runs, at, extent.start());
            self.runs.push(Run { extent, kind: Kind::Data, mapped });
            at = at.max(extent.end());
        }
        add_gap(&mut self.runs, at, end);
    }

    /// What is left of a range without what is kept.
    pub(crate) fn but_kept(&self, range: ByteRange) -> Vec<ByteRange> {
        let mut rest = Vec::new();
        let mut at = range.start();
        for kept in &self.keep {
            rest.extend(ByteRange::new(at, kept.start().clamp(at, range.end())).filter(|part| !part.is_empty()));
            at = at.max(kept.end()).min(range.end());
        }
        rest.extend(ByteRange::new(at, range.end()).filter(|part| !part.is_empty()));
        rest
    }

    /// The largest power of two up to a page that divides every place where a write begins or ends, but for the end.
    fn common_alignment(&self, end: u64) -> u64 {
        let edges = self.runs.iter().flat_map(|run| [run.extent.start(), run.extent.end()]);
        let kept = self.keep.iter().flat_map(|kept| [kept.start(), kept.end()]);
        let bits = edges.chain(kept).filter(|edge| *edge != end).fold(Self::PAGE, |bits, edge| bits | edge);
        1 << bits.trailing_zeros()
    }

    /// What could start the old system and will be written anyway: the table's first blocks and each loader's first,
    /// and the old backup table.
    fn what_boots(&self, layout: &Layout<'_>) -> Vec<ByteRange> {
        // Both headers of a GPT, whatever the sector size, the MBR, and the loader of an i.MX6 at 1 KiB.
        let mut blocks = vec![0, Self::PAGE];
        // i.MX8: 32 KiB, or 33 KiB inside the same page.
        blocks.push(32 << 10);
        blocks.extend(layout.loaders.iter().map(|at| at / Self::PAGE * Self::PAGE));
        blocks.sort_unstable();
        blocks.dedup();
        let head = ByteRange::first(self.head);
        let candidates = blocks.iter().filter_map(|at| ByteRange::at(*at, Self::PAGE)?.intersect(head));
        let mut ranges: Vec<ByteRange> = Vec::new();
        let mut from = 0;
        for candidate in candidates {
            // Both lists ascend: runs in front of this candidate cannot meet the next.
            while self.runs.get(from).is_some_and(|run| run.extent.end() <= candidate.start()) {
                from += 1;
            }
            let meeting = self.runs.iter().skip(from).take_while(|run| run.extent.start() < candidate.end());
            let kept = meeting.filter(|run| run.kind != Kind::DontCare);
            ranges.extend(kept.filter_map(|run| run.extent.intersect(candidate)));
        }
        // The backup dies only together with the primary: a map that leaves the table out keeps both.
        if ranges.first().is_some_and(|range| range.start() == 0) {
            ranges.extend(layout.old_backup);
        }
        ranges
    }

    /// Length of the image in bytes, where it is known.
    #[must_use]
    pub fn image_size(&self) -> Option<u64> {
        self.image_size
    }

    /// Length of the head in bytes; 0 when there is none.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The longest piece in bytes.
    #[must_use]
    pub fn piece_len(&self) -> u64 {
        self.piece_len
    }

    /// Whether zeros are looked for while reading, because no map says where data is.
    #[must_use]
    pub fn find_zeros(&self) -> bool {
        self.find_zeros
    }

    /// Every write begins at a multiple of this many bytes and, but for the image's end, ends at one: 1 to 4096.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// What is overwritten with zeros before anything else.
    #[must_use]
    pub fn invalidate(&self) -> &[ByteRange] {
        &self.invalidate
    }

    /// What was found on the target that could start something and is not cleared first, because the map leaves it out
    /// or because it was asked to stay: an interrupted target may still begin to boot from there.
    #[must_use]
    pub fn survivors(&self) -> &[ByteRange] {
        &self.survivors
    }

    /// Whether the data lies in so many small runs that single transfers would be slow: a thousand and more, 64 KiB or
    /// less on average.
    #[must_use]
    pub fn is_fragmented(&self) -> bool {
        const MANY: u64 = 1000;
        const SMALL: u64 = 64 << 10;
        let data = self.data().fold((0_u64, 0_u64), |(runs, bytes), run| (runs + 1, bytes.saturating_add(run.len())));
        let (runs, bytes) = data;
        runs >= MANY && bytes / runs <= SMALL
    }

    /// How many bytes of one kind there are; `None` when the image's length is not known.
    #[must_use]
    pub fn bytes(&self, kind: Kind) -> Option<u64> {
        self.image_size?;
        Some(self.runs.iter().filter(|run| run.kind == kind).map(|run| run.extent.len()).sum())
    }

    /// How many bytes of data and zeros the body asks for; `None` when the image's length is not known.
    #[must_use]
    pub fn body_bytes(&self) -> Option<u64> {
        let body = ByteRange::new(self.head, self.image_size?.max(self.head))?;
        let asked = self.runs.iter().filter(|run| run.kind != Kind::DontCare);
        Some(asked.filter_map(|run| run.extent.intersect(body)).map(ByteRange::len).sum())
    }

    /// The extents that are read from the image, ascending.
    pub fn data(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.runs.iter().filter(|run| run.kind == Kind::Data).map(|run| run.extent)
    }

    /// Body and head cut into pieces, in image order: the order of reading.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.runs.iter().flat_map(move |run| {
            let mut at = run.extent.start();
            std::iter::from_fn(move || {
                let rest = ByteRange::new(at, run.extent.end()).filter(|rest| !rest.is_empty())?;
                let grid = (at / self.piece_len).saturating_add(1).saturating_mul(self.piece_len);
                let phase = if at < self.head { Phase::Head } else { Phase::Body };
                let cut = if at < self.cut { grid.min(self.cut) } else { grid };
                let (kept, edge) = self.kept_at(at);
                let extent = ByteRange::new(at, rest.end().min(cut).min(edge))?;
                at = extent.end();
                Some(Piece { extent, kind: run.kind, phase, mapped: run.mapped, kept })
            })
        })
    }

    /// Whether the target keeps the byte at an offset, and where that changes.
    fn kept_at(&self, at: u64) -> (bool, u64) {
        match self.keep.iter().find(|kept| kept.end() > at) {
            Some(kept) if kept.start() <= at => (true, kept.end()),
            Some(kept) => (false, kept.start()),
            None => (false, u64::MAX),
        }
    }

    /// Everything that is written, in the order of writing: what boots is cleared, then the body, then the head.
    pub fn steps(&self) -> impl Iterator<Item = Piece> + '_ {
        let clear = |extent: &ByteRange| Piece {
            extent: *extent,
            kind: Kind::Zero,
            phase: Phase::Invalidate,
            mapped: None,
            kept: false,
        };
        let body = self.pieces().filter(|piece| piece.phase == Phase::Body);
        let head = self.pieces().filter(|piece| piece.phase == Phase::Head);
        self.invalidate.iter().map(clear).chain(body).chain(head)
    }

    /// SHA-256 over every step: two plans with the same digest write the same places in the same order.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&self.image_size.unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(&self.head.to_le_bytes());
        if self.cut != self.head {
            hasher.update(&self.cut.to_le_bytes());
        }
        hasher.update(&self.piece_len.to_le_bytes());
        let cleared = self.invalidate.iter().map(|extent| (extent, 0_u8));
        let runs = self.runs.iter().map(|run| {
            let kind = match run.kind {
                Kind::Data => 1,
                Kind::Zero => 2,
                Kind::DontCare => 3,
            };
            (&run.extent, kind)
        });
        let kept = self.keep.iter().map(|extent| (extent, 4));
        for (extent, kind) in cleared.chain(runs).chain(kept) {
            hasher.update(&extent.start().to_le_bytes());
            hasher.update(&extent.end().to_le_bytes());
            hasher.update(&[kind]);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bmap::{BlockRange, BlockSize, MappedRange};
    use proptest::prelude::*;

    fn disk(size: u64) -> Geometry {
        Geometry { size: Some(size), fresh: false, partition: false, zero_granule: 4096, readable: true, depth: 1 }
    }

    fn map(size: u64, block: u32, ranges: &[(u64, u64)]) -> BlockMap {
        let ranges = ranges
            .iter()
            .map(|(first, last)| MappedRange { blocks: BlockRange::new(*first, *last).unwrap(), digest: None });
        BlockMap::new(size, BlockSize::new(block).unwrap(), ranges.collect()).unwrap()
    }

    fn layout<'a>(content: Content<'a>, size: u64) -> Layout<'a> {
        Layout {
            image_size: Some(size),
            content,
            geometry: disk(size * 2),
            head: 1 << 20,
            loaders: &[],
            old_backup: None,
            old_boot: &[],
            holes: HolePolicy::Leave,
            keep_head: false,
            keep: &[],
            clear_gap: false,
            piece_len: 64 << 10,
        }
    }

    #[test]
    fn what_boots_is_cleared_first_and_the_head_comes_last() {
        let map = map(4 << 20, 4096, &[(0, 0), (8, 9), (512, 600)]);
        let backup = ByteRange::at((8 << 20) - 512, 512);
        let plan = Plan::new(&Layout { old_backup: backup, ..layout(Content::Map(&map), 4 << 20) });
        let phases: Vec<Phase> = plan.steps().map(|piece| piece.phase).collect();
        assert!(phases.is_sorted());
        assert_eq!(plan.invalidate(), [ByteRange::first(4096), ByteRange::at(32768, 4096).unwrap(), backup.unwrap()]);
        assert_eq!(phases.iter().filter(|phase| **phase == Phase::Head).count(), 2);
    }

    #[test]
    fn a_table_that_the_map_leaves_out_is_left_alone() {
        let map = map(4 << 20, 4096, &[(8, 9)]);
        let plan =
            Plan::new(&Layout { old_backup: ByteRange::at(8 << 20, 512), ..layout(Content::Map(&map), 4 << 20) });
        assert_eq!(plan.invalidate(), [ByteRange::at(32768, 4096).unwrap()]);
    }

    #[test]
    fn what_survives_is_named() {
        let map = map(4 << 20, 4096, &[(0, 0), (512, 600)]);
        let boot = [ByteRange::first(512), ByteRange::at(33 << 10, 512).unwrap()];
        let plan = Plan::new(&Layout { old_boot: &boot, ..layout(Content::Map(&map), 4 << 20) });
        // The map has no page at 32 KiB, so the old loader there stays.
        assert_eq!(plan.survivors(), &boot[1..]);
        let kept = Plan::new(&Layout { old_boot: &boot, keep_head: true, ..layout(Content::Map(&map), 4 << 20) });
        assert_eq!(kept.survivors(), boot);
    }

    #[test]
    fn partitions_and_kept_heads_are_not_invalidated() {
        let map = map(4 << 20, 4096, &[(0, 1023)]);
        let mut layout = layout(Content::Map(&map), 4 << 20);
        layout.keep_head = true;
        assert!(Plan::new(&layout).invalidate().is_empty());
        layout.keep_head = false;
        layout.geometry.partition = true;
        let plan = Plan::new(&layout);
        assert!(plan.invalidate().is_empty());
        assert_eq!(plan.head(), 0);
        assert!(plan.steps().all(|piece| piece.phase == Phase::Body));
    }

    #[test]
    fn holes_are_handled_as_the_policy_says() {
        let map = map(4 << 20, 4096, &[(0, 0), (512, 600)]);
        let with = |holes| Plan::new(&Layout { holes, ..layout(Content::Map(&map), 4 << 20) });
        assert_eq!(with(HolePolicy::Leave).bytes(Kind::DontCare), Some(0));
        // Holes inside the head are the gap in front of the first partition and stay as they are.
        let hole = (4 << 20) - 89 * 4096 - (1 << 20);
        assert_eq!(with(HolePolicy::Auto).bytes(Kind::DontCare), Some(hole));
        assert_eq!(with(HolePolicy::Zero).bytes(Kind::Zero), Some(hole));
    }

    #[test]
    fn holes_without_a_map_are_zeros() {
        let data = [ByteRange::at(8192, 4096).unwrap()];
        let plan = Plan::new(&layout(Content::Extents(&data), 1 << 20));
        assert_eq!(plan.bytes(Kind::Zero), Some((1 << 20) - 4096));
        assert!(plan.find_zeros());
    }

    #[test]
    fn alignment_is_what_all_edges_share() {
        let odd = map(10_000, 1000, &[(1, 1), (9, 9)]);
        let even = map(10_001, 512, &[(0, 1), (18, 19)]);
        let page = map(10_001, 4096, &[(0, 2)]);
        let of = |map| Plan::new(&Layout { head: 0, ..layout(Content::Map(map), 10_001) }).alignment();
        assert_eq!((of(&odd), of(&even), of(&page)), (8, 1024, 4096));
    }

    #[test]
    fn an_image_of_unknown_length_is_cut_without_end() {
        let plan = Plan::new(&Layout { image_size: None, ..layout(Content::Anywhere, 1) });
        assert_eq!(plan.pieces().take(1000).count(), 1000);
        assert_eq!(plan.bytes(Kind::Data), None);
        assert_eq!(plan.alignment(), 4096);
    }

    proptest! {
        /// Every mapped byte is written exactly once, in a legal order, in pieces that keep their promises.
        #[test]
        fn plans_cover_every_block_once_in_a_legal_order(
            block in prop::sample::select(vec![512_u32, 1000, 4096, 65536, 1 << 20]),
            cuts in prop::collection::btree_set(0_u64..400, 0..40),
            short in 0_u64..512,
            head in prop::sample::select(vec![0_u64, 1 << 20, 8 << 20]),
            holes in prop::sample::select(vec![HolePolicy::Auto, HolePolicy::Leave, HolePolicy::Zero]),
            keep_head: bool,
        ) {
            let size = 400 * u64::from(block) - short;
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let ranges: Vec<(u64, u64)> = cuts.chunks_exact(2).map(|pair| (pair[0], pair[1] - 1)).collect();
            let map = map(size, block, &ranges);
            let plan = Plan::new(&Layout { head, holes, keep_head, ..layout(Content::Map(&map), size) });
            let steps: Vec<Piece> = plan.steps().collect();
            prop_assert!(steps.iter().map(|piece| piece.phase).is_sorted());
            for phase in [Phase::Body, Phase::Head] {
                let of: Vec<&Piece> = steps.iter().filter(|piece| piece.phase == phase).collect();
                prop_assert!(of.windows(2).all(|pair| pair[0].extent.end() <= pair[1].extent.start()));
            }
            let mut data: Vec<Piece> = steps.iter().filter(|piece| piece.kind == Kind::Data).copied().collect();
            data.sort_by_key(|piece| piece.extent.start());
            // Glued together again, the data pieces are the map's ranges.
            let mut glued: Vec<(ByteRange, Option<usize>)> = Vec::new();
            for piece in &data {
                prop_assert!(!piece.extent.is_empty() && piece.extent.len() <= plan.piece_len());
                prop_assert_eq!(piece.phase == Phase::Head, piece.extent.start() < head);
                match glued.last_mut() {
                    Some((last, index)) if *index == piece.mapped && last.end() == piece.extent.start() => {
                        *last = ByteRange::new(last.start(), piece.extent.end()).unwrap();
                    }
                    _ => glued.push((piece.extent, piece.mapped)),
                }
                for edge in [piece.extent.start(), piece.extent.end()] {
                    prop_assert!(edge == size || edge % plan.alignment() == 0);
                }
            }
            let expected: Vec<_> = map.mapped().enumerate().map(|(index, (range, _))| (range, Some(index))).collect();
            prop_assert_eq!(glued, expected);
            // Nothing is cleared that will not be written afterwards.
            for cleared in plan.invalidate() {
                prop_assert!(!keep_head && cleared.end() <= head);
                prop_assert!(map.mapped().any(|(range, _)| range.contains(*cleared)));
            }
            let holes_planned: u64 =
                steps.iter().filter(|p| p.phase != Phase::Invalidate && p.kind != Kind::Data).map(|p| p.extent.len()).sum();
            let holes_there: u64 = map
                .holes()
                .filter_map(|hole| ByteRange::new(hole.start().max(head), hole.end()))
                .map(ByteRange::len)
                .sum();
            prop_assert_eq!(holes_planned, if holes == HolePolicy::Leave { 0 } else { holes_there });
        }
    }
}
