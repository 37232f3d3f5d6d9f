//! A map as a bmap file of version 2.0.

use std::fmt::{self, Write as _};

use super::Version;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::map::BlockMap;

/// What stands at the top of every file we write. XML forbids two hyphens in a row here.
const ABOUT: &str = "\
    A block map, or bmap: it tells which blocks of a disk image hold data. A
    program that writes the image needs to carry only those blocks to the
    device; the others were never written when the image was made.

    How to use it: for each Range, copy those blocks (first and last included,
    counted from 0) from the image to the same place on the device, and compare
    the digest of what was read with the one given. What lies between the ranges
    may be left as it is. The last block ends where the image ends.

    The version is MAJOR.MINOR. A reader that knows the major number can use the
    file, whatever the minor one; with a greater major number it must not try.

    Comments are for people. Programs pass over them.";

/// The bmap file of a map, version 2.0, with its own checksum filled in.
///
/// Digests are of the map's own kind, as `ChecksumType` says; without any, the file's checksum is SHA-256. What this
/// returns reads back as the same map ([`super::parse`]), and bmaptool 3.6 takes it too.
#[must_use]
pub fn write(map: &BlockMap) -> String {
    let algorithm = map.algorithm().unwrap_or(Algorithm::Sha256);
    let zeros = "0".repeat(algorithm.digest_len() * 2);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let field = print(&mut text, map, algorithm, &zeros).unwrap_or(0);
    let checksum = Hasher::digest(algorithm, text.as_bytes());
    text.replace_range(field..field + zeros.len(), &checksum.to_string());
    text
}

/// Prints the file with `checksum` in its place, and returns where that is.
fn print(text: &mut String, map: &BlockMap, algorithm: Algorithm, checksum: &str) -> Result<usize, fmt::Error> {
    let mapped = share(map.mapped_blocks(), map.blocks());
    writeln!(text, "<?xml version=\"1.0\" ?>\n<!--\n{ABOUT}\n-->\n")?;
    writeln!(text, "<bmap version=\"{}\">", Version::WRITTEN)?;
    writeln!(text, "    <!-- Length of the image in bytes: {} -->", Human(map.image_size()))?;
    writeln!(text, "    <ImageSize> {} </ImageSize>\n", map.image_size())?;
    writeln!(text, "    <!-- Length of a block in bytes -->")?;
    writeln!(text, "    <BlockSize> {} </BlockSize>\n", map.block_size())?;
    writeln!(text, "    <!-- Blocks in the image; the last one may be cut short -->")?;
    writeln!(text, "    <BlocksCount> {} </BlocksCount>\n", map.blocks())?;
    writeln!(text, "    <!-- Blocks in all ranges together: {}, {mapped} -->", Human(map.mapped_bytes()))?;
    writeln!(text, "    <MappedBlocksCount> {} </MappedBlocksCount>\n", map.mapped_blocks())?;
    writeln!(text, "    <!-- The hash that makes every digest in this file -->")?;
    writeln!(text, "    <ChecksumType> {algorithm} </ChecksumType>\n")?;
    writeln!(text, "    <!-- Digest of this file, made while this field was all zeros (\"0\") -->")?;
    write!(text, "    <BmapFileChecksum> ")?;
    let field = text.len();
    writeln!(text, "{checksum} </BmapFileChecksum>\n")?;
    writeln!(text, "    <!-- The blocks that hold data: single ones, or first and last. \"chksum\" is the digest of")?;
    writeln!(text, "         their bytes in the image. -->")?;
    writeln!(text, "    <BlockMap>")?;
    for range in map.ranges() {
        match range.digest {
            Some(digest) => range_with(text, range.blocks, &digest)?,
            None => writeln!(text, "        <Range> {} </Range>", range.blocks)?,
        }
    }
    writeln!(text, "    </BlockMap>\n</bmap>")?;
    Ok(field)
}

fn range_with(text: &mut String, blocks: crate::units::BlockRange, digest: &Digest) -> fmt::Result {
    writeln!(text, "        <Range chksum=\"{digest}\"> {blocks} </Range>")
}

/// `part` of `whole` in per cent with one decimal, rounded down.
fn share(part: u64, whole: u64) -> String {
    let per_mille = (u128::from(part) * 1000).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

/// A number of bytes for people: one decimal and a binary unit, rounded down.
struct Human(u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut tenths = u128::from(self.0) * 10;
        let mut unit = "bytes";
        for next in units {
            if tenths < 10240 {
                break;
            }
            tenths /= 1024;
            unit = next;
        }
        if unit == "bytes" {
            write!(f, "{} bytes", self.0)
        } else {
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 31, "2.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Human(bytes).to_string(), text);
        }
        assert_eq!(share(335, 2048), "16.3 %");
        assert_eq!(share(0, 0), "0.0 %");
    }
}
