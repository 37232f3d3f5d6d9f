//! Telling by its first bytes what a file is.
//!
//! Magic numbers are those of the formats' specifications; the list is of what people hand to an image writer, by
//! intent or by mistake. A partition table is not looked for: anything unknown is a raw image.

use std::fmt;

/// How many first bytes [`sniff`] makes use of. Fewer will do where the file is shorter.
pub const SNIFF_LEN: usize = 4096;

/// What a file seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No bytes at all.
    Empty,
    /// Nothing known: a raw image, as far as its first bytes tell.
    Unknown,
    /// gzip.
    Gzip,
    /// zstd, or a skippable zstd frame.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// An Android sparse image.
    AndroidSparse,
    /// A block map in bmap XML.
    BmapXml,
    /// LZ4, in its frame or legacy form.
    Lz4,
    /// lzop.
    Lzop,
    /// lzip.
    Lzip,
    /// A zip archive.
    Zip,
    /// A 7-Zip archive.
    SevenZip,
    /// A RAR archive.
    Rar,
    /// A tar archive.
    Tar,
    /// A QEMU disk image (qcow, qcow2).
    Qcow2,
    /// A VMware disk image.
    Vmdk,
    /// A Hyper-V disk image.
    Vhdx,
}

impl Kind {
    /// Whether [`Image`](crate::Image) reads it.
    #[must_use]
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Empty | Self::Unknown | Self::Gzip | Self::Zstd | Self::Xz | Self::Bzip2)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Unknown => "a raw image",
            Self::Gzip => "gzip data",
            Self::Zstd => "zstd data",
            Self::Xz => "xz data",
            Self::Bzip2 => "bzip2 data",
            Self::AndroidSparse => "an Android sparse image",
            Self::BmapXml => "a block map (bmap XML)",
            Self::Lz4 => "LZ4 data",
            Self::Lzop => "lzop data",
            Self::Lzip => "lzip data",
            Self::Zip => "a zip archive",
            Self::SevenZip => "a 7-Zip archive",
            Self::Rar => "a RAR archive",
            Self::Tar => "a tar archive",
            Self::Qcow2 => "a qcow2 disk image",
            Self::Vmdk => "a VMware disk image",
            Self::Vhdx => "a Hyper-V disk image",
        })
    }
}

/// Magic numbers at a file's start. gzip, bzip2 and skippable zstd frames are told by fewer bytes than their headers
/// fix, so that a damaged header is an error of that format and not a raw image.
const MAGICS: &[(&[u8], Kind)] = &[
    (b"\x1f\x8b", Kind::Gzip),
    (b"\x28\xb5\x2f\xfd", Kind::Zstd),
    (b"\xfd7zXZ\0", Kind::Xz),
    (b"BZh", Kind::Bzip2),
    (b"\x3a\xff\x26\xed", Kind::AndroidSparse),
    (b"\x04\x22\x4d\x18", Kind::Lz4),
    (b"\x02\x21\x4c\x18", Kind::Lz4),
    (b"\x89LZO\0\r\n\x1a\n", Kind::Lzop),
    (b"LZIP", Kind::Lzip),
    (b"PK\x03\x04", Kind::Zip),
    (b"PK\x05\x06", Kind::Zip),
    (b"7z\xbc\xaf\x27\x1c", Kind::SevenZip),
    (b"Rar!\x1a\x07", Kind::Rar),
    (b"QFI\xfb", Kind::Qcow2),
    (b"KDMV", Kind::Vmdk),
    (b"vhdxfile", Kind::Vhdx),
];

/// Where POSIX tar keeps its magic, and what that is.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// What a file is, told by its first bytes: [`SNIFF_LEN`] of them, or all where it is shorter.
#[must_use]
pub fn sniff(first: &[u8]) -> Kind {
    if first.is_empty() {
        return Kind::Empty;
    }
    if let Some((_, kind)) = MAGICS.iter().find(|(magic, _)| first.starts_with(magic)) {
        return *kind;
    }
    // Sixteen magic numbers, 0x184D2A50 to 0x184D2A5F little-endian, begin a skippable frame (RFC 8878, 3.1.2).
    if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = first {
        return Kind::Zstd;
    }
    if first.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1)) {
        return Kind::Tar;
    }
    if is_bmap(first) { Kind::BmapXml } else { Kind::Unknown }
}

/// Whether this is the beginning of an XML file whose outermost element is `bmap`.
fn is_bmap(first: &[u8]) -> bool {
    let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
    let element = || {
        // The maps that bmaptool writes carry a long comment ahead of nothing but `<bmap `, so look for it anywhere.
        let mut rest = text;
        while let Some(at) = rest.iter().position(|&byte| byte == b'<') {
            rest = &rest[at..];
            if rest
                .strip_prefix(b"<bmap")
                .is_some_and(|rest| rest.first().is_none_or(|next| b" \t\r\n>".contains(next)))
            {
                return true;
            }
            rest = &rest[1..];
        }
        false
    };
    text.starts_with(b"<") && element()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magics_are_told_apart() {
        for (magic, kind) in MAGICS {
            assert_eq!(sniff(magic), *kind);
            assert_eq!(sniff(&[magic, &[0xff; 600][..]].concat()), *kind);
            assert_eq!(sniff(&magic[..1]), Kind::Unknown);
        }
        assert_eq!(sniff(b"\x57\x2a\x4d\x18"), Kind::Zstd);
        assert_eq!(sniff(b""), Kind::Empty);
        assert_eq!(sniff(&[0; 4096]), Kind::Unknown);
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(sniff(&tar), Kind::Tar);
        assert_eq!(sniff(&tar[..261]), Kind::Unknown);
    }

    #[test]
    fn bmap_xml_is_told_from_other_text() {
        assert_eq!(sniff(b"<?xml version=\"1.0\" ?>\n<!-- <a> -->\n<bmap version=\"2.0\">"), Kind::BmapXml);
        assert_eq!(sniff(b"\xef\xbb\xbf \n<bmap>"), Kind::BmapXml);
        assert_eq!(sniff(b"<bmapper>"), Kind::Unknown);
        assert_eq!(sniff(b"<?xml version=\"1.0\" ?><html>"), Kind::Unknown);
        assert_eq!(sniff(b"text <bmap>"), Kind::Unknown);
    }

    #[test]
    fn kinds_read_well_in_a_sentence() {
        assert_eq!(Kind::Zip.to_string(), "a zip archive");
        assert!(Kind::Gzip.is_readable() && !Kind::Tar.is_readable());
    }
}
