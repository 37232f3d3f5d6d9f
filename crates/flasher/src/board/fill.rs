//! Long runs of one 32-bit word inside a piece: they travel as four bytes (a FILL chunk) instead of as they are.
//!
//! Short runs are left alone: to a board a FILL is a write of its own, and on an eMMC many short writes are slow.

use bmap::ByteRange;

/// Runs begin and end at multiples of this many bytes.
pub(crate) const BLOCK: usize = 4096;
/// The shortest run worth a chunk, in blocks.
const LEAST: usize = 16;

/// A run of one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Where in the image.
    pub(crate) extent: ByteRange,
    /// The word, as it lies in memory.
    pub(crate) word: [u8; 4],
}

/// The word that a block consists of, if it is one word over and over.
fn word_of(block: &[u8]) -> Option<[u8; 4]> {
    let word = *block.first_chunk::<4>()?;
    // Equal to itself shifted by a word: the comparison ends at the first difference.
    (block.len() == BLOCK && block.get(..BLOCK - 4) == block.get(4..)).then_some(word)
}

/// The runs in `bytes`, which lie at `extent`; ascending. An extent that does not begin at a block's edge has none.
pub(crate) fn find(extent: ByteRange, bytes: &[u8]) -> Vec<Fill> {
    let mut fills = Vec::new();
    if !extent.start().is_multiple_of(u64::try_from(BLOCK).unwrap_or(1)) {
        return fills;
    }
    let mut run: Option<(usize, usize, [u8; 4])> = None;
    let mut close = |run: Option<(usize, usize, [u8; 4])>| {
        let Some((first, count, word)) = run.filter(|(_, count, _)| *count >= LEAST) else { return };
        let bytes = |blocks: usize| u64::try_from(blocks.saturating_mul(BLOCK)).unwrap_or(u64::MAX);
        let at = extent.start().saturating_add(bytes(first));
        fills.extend(ByteRange::at(at, bytes(count)).map(|extent| Fill { extent, word }));
    };
    for (n, block) in bytes.chunks(BLOCK).enumerate() {
        run = match (run.take(), word_of(block)) {
            (Some((first, count, word)), Some(same)) if same == word => Some((first, count + 1, word)),
            (old, found) => {
                close(old);
                found.map(|word| (n, 1, word))
            }
        };
    }
    close(run);
    fills
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_runs_count() {
        let mut bytes = vec![7; 100 * BLOCK + 10];
        bytes[3] = 1;
        bytes[20 * BLOCK + 1] = 0;
        bytes[30 * BLOCK + 1] = 0;
        bytes[60 * BLOCK..90 * BLOCK]
            .iter_mut()
            .enumerate()
            .for_each(|(n, byte)| *byte = if n % 2 == 0 { 5 } else { 6 });
        let extent = ByteRange::at(1 << 30, u64::try_from(bytes.len()).unwrap()).unwrap();
        let found: Vec<_> = find(extent, &bytes)
            .iter()
            .map(|fill| ((fill.extent.start() - (1 << 30)) / 4096, fill.extent.len() / 4096, fill.word))
            .collect();
        // Blocks 21 to 29 are too few; the last ten bytes are no block.
        assert_eq!(found, [(1, 19, [7; 4]), (31, 29, [7; 4]), (60, 30, [5, 6, 5, 6])]);
        assert!(find(ByteRange::at(512, 100 * 4096).unwrap(), &bytes).is_empty());
    }
}
