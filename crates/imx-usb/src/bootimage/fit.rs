//! Flattened image trees: U-Boot proper and what belongs to it.
//!
//! A FIT is a flattened device tree (version 17 of its format, all numbers big-endian) with a node "images". The images
//! themselves are in the tree, or lie behind it: `data-position` counts from the tree's start, `data-offset` from its
//! end rounded up to 4, and `data-size` is their length. Sources: the device tree specification 0.4, chapter 5; U-Boot's
//! `doc/usage/fit/source_file_format.rst`.

use super::read::{offset, u32_be};

const MAGIC: u32 = 0xd00d_feed;
const HEADER_BYTES: u32 = 40;
/// Versions of flattened trees that are in use.
const VERSIONS: std::ops::RangeInclusive<u32> = 16..=17;
/// The oldest they say they can be read as: 16 by a device tree compiler, 2 by `mkimage -f auto`.
const OLDEST: std::ops::RangeInclusive<u32> = 2..=16;
/// A node begins, and is called "images": what a FIT has and a plain device tree has not.
const IMAGES_NODE: &[u8] = b"\0\0\0\x01images\0\0";

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;

/// A flattened image tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Where in the file.
    pub at: usize,
    /// Length of the tree.
    pub length: u32,
    /// Length of the tree and the images behind it, as far as the tree can be read.
    pub whole: u64,
}

/// The first FIT in `bytes` at or after `from`, at offsets divisible by 4. Its tree must have sound offsets and a node
/// "images", so that neither a device tree nor the magic number in U-Boot's own code is taken for one; a tree that the
/// file does not hold whole need not show the node.
pub fn find_fit(bytes: &[u8], from: usize) -> Option<Fit> {
    let end = bytes.len().min(super::SCAN_BYTES);
    (from.checked_next_multiple_of(4)?..end).step_by(4).find_map(|at| fit_at(bytes, at))
}

fn fit_at(bytes: &[u8], at: usize) -> Option<Fit> {
    let tree = bytes.get(at..)?;
    if u32_be(tree, 0)? != MAGIC {
        return None;
    }
    let [length, structure, strings, reserved] =
        [u32_be(tree, 4)?, u32_be(tree, 8)?, u32_be(tree, 12)?, u32_be(tree, 16)?];
    let [version, oldest, nodes] = [u32_be(tree, 20)?, u32_be(tree, 24)?, u32_be(tree, 36)?];
    let inside = |offset: u32| (HEADER_BYTES..=length).contains(&offset);
    let sound = VERSIONS.contains(&version)
        && OLDEST.contains(&oldest)
        && [structure, strings, reserved].into_iter().all(inside)
        && structure.checked_add(nodes).is_some_and(inside);
    if !sound {
        return None;
    }
    let structure = offset(structure.into());
    let Some(nodes) = tree.get(structure..structure.checked_add(offset(nodes.into()))?) else {
        return Some(Fit { at, length, whole: length.into() });
    };
    if !nodes.windows(IMAGES_NODE.len()).step_by(4).any(|window| window == IMAGES_NODE) {
        return None;
    }
    let strings = tree.get(offset(strings.into())..).unwrap_or_default();
    let behind = external_end(nodes, strings, u64::from(length).next_multiple_of(4)).unwrap_or(0);
    Some(Fit { at, length, whole: behind.max(length.into()) })
}

/// Where the last image behind the tree ends, from the tree's start. `tree` is the tree's length, rounded up. `None` if
/// the nodes make no sense.
fn external_end(nodes: &[u8], strings: &[u8], tree: u64) -> Option<u64> {
    let mut furthest = 0;
    // Of the node that is being read; its properties come before the nodes in it.
    let (mut start, mut size) = (None, 0);
    let mut at = 0usize;
    while let Some(token) = u32_be(nodes, at) {
        at = at.checked_add(4)?;
        match token {
            BEGIN_NODE => {
                let name = nodes.get(at..)?.iter().position(|byte| *byte == 0)?;
                at = at.checked_add(name)?.checked_add(1)?.checked_next_multiple_of(4)?;
                (start, size) = (None, 0);
            }
            PROPERTY => {
                let (length, name) =
                    (offset(u32_be(nodes, at)?.into()), offset(u32_be(nodes, at.checked_add(4)?)?.into()));
                let value_at = at.checked_add(8)?;
                let named = |wanted: &[u8]| strings.get(name..).is_some_and(|name| name.starts_with(wanted));
                let value = u32_be(nodes, value_at).filter(|_| length == 4).map(u64::from);
                match value {
                    Some(value) if named(b"data-position\0") => start = Some(value),
                    Some(value) if named(b"data-offset\0") => start = tree.checked_add(value),
                    Some(value) if named(b"data-size\0") => size = value,
                    _ => {}
                }
                furthest = start.and_then(|start| start.checked_add(size)).map_or(furthest, |end| furthest.max(end));
                at = value_at.checked_add(length)?.checked_next_multiple_of(4)?;
            }
            END_NODE => (start, size) = (None, 0),
            NOP => {}
            _ => break,
        }
    }
    Some(furthest)
}
