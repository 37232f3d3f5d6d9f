//! Telling by its first bytes what a file is.
//!
//! Magic numbers are those of the formats' specifications; the list is of what people hand to an image writer, by
//! intent or by mistake. Anything unknown is a raw image: a boot sector is looked for only to stop weak evidence of
//! something else from outweighing it.
//!
//! Left out: bare zlib streams, whose two bytes and a checksum modulo 31 would take too many raw images for packed ones,
//! and which nobody ships images in; and disk images whose bytes are raw with a trailer behind them (fixed VHD), which
//! no first byte tells.

use std::fmt;

use crate::options::Format;

/// How many first bytes [`sniff`] makes use of. Fewer will do where the file is shorter.
pub const SNIFF_LEN: usize = 4096;

/// The first bytes of a pack file, in any version.
pub const PACK_MAGIC: &[u8; 8] = b"\x8dMFPACK\n";

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
    /// lrzip.
    Lrzip,
    /// LZMA in its old container, `.lzma`.
    Lzma,
    /// What `compress` makes, `.Z`.
    Compress,
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
    /// A Virtual PC disk image that is not of fixed size.
    Vhd,
    /// A VirtualBox disk image.
    Vdi,
    /// An image packed for boards by `mapflash pack`.
    Pack,
}

impl Kind {
    /// Whether [`Image`](crate::Image) reads it.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.format().is_some()
    }

    /// How an image of this kind is packed, if it is read.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Self::Empty | Self::Unknown => Some(Format::Raw),
            Self::Gzip => Some(Format::Gzip),
            Self::Zstd => Some(Format::Zstd),
            Self::Xz => Some(Format::Xz),
            Self::Bzip2 => Some(Format::Bzip2),
            _ => None,
        }
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
            Self::Lrzip => "lrzip data",
            Self::Lzma => "LZMA data (.lzma)",
            Self::Compress => "compress data (.Z)",
            Self::Zip => "a zip archive",
            Self::SevenZip => "a 7-Zip archive",
            Self::Rar => "a RAR archive",
            Self::Tar => "a tar archive",
            Self::Qcow2 => "a qcow2 disk image",
            Self::Vmdk => "a VMware disk image",
            Self::Vhdx => "a Hyper-V disk image",
            Self::Vhd => "a Virtual PC disk image (VHD)",
            Self::Vdi => "a VirtualBox disk image",
            Self::Pack => "an image packed for boards (mapflash pack)",
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
    (b"LRZI", Kind::Lrzip),
    (b"PK\x03\x04", Kind::Zip),
    (b"PK\x05\x06", Kind::Zip),
    (b"7z\xbc\xaf\x27\x1c", Kind::SevenZip),
    (b"Rar!\x1a\x07", Kind::Rar),
    (b"QFI\xfb", Kind::Qcow2),
    (b"KDMV", Kind::Vmdk),
    (b"# Disk DescriptorFile", Kind::Vmdk),
    (b"vhdxfile", Kind::Vhdx),
    (b"conectix", Kind::Vhd),
    (PACK_MAGIC, Kind::Pack),
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
    if is_bmap(first) {
        return Kind::BmapXml;
    }
    if is_vdi(first) {
        return Kind::Vdi;
    }
    // A few bytes that could be anything: whatever has the mark of a boot sector is a disk.
    let boot_sector = first.get(510..512) == Some(&[0x55, 0xaa]);
    match first {
        _ if boot_sector => Kind::Unknown,
        _ if is_lzma(first) => Kind::Lzma,
        _ if is_compress(first) => Kind::Compress,
        _ => Kind::Unknown,
    }
}

/// The packing of a whole file that stops inside the magic number of one that is read here.
pub(crate) fn cut_magic(whole: &[u8]) -> Option<Format> {
    let formats = MAGICS.iter().filter_map(|(magic, kind)| kind.format().map(|format| (*magic, format)));
    let skippable = (0x50..=0x5f).map(|first| [first, 0x2a, 0x4d, 0x18]);
    let cut = |magic: &[u8]| !whole.is_empty() && whole.len() < magic.len() && magic.starts_with(whole);
    formats
        .filter(|(magic, _)| cut(magic))
        .map(|(_, format)| format)
        .chain(skippable.filter(|magic| cut(magic)).map(|_| Format::Zstd))
        .next()
}

/// Whether this is VirtualBox's header: a line of text in angle brackets, which each maker words in its own way, and at
/// byte 64 the signature 0xBEDA107F (VDI.h of VirtualBox, block/vdi.c of QEMU).
fn is_vdi(first: &[u8]) -> bool {
    first.starts_with(b"<<<") && first.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe])
}

/// Whether this is the header of an `.lzma` file, which has no magic number (lzma-file-format.txt of XZ Utils): the
/// properties byte, a dictionary size (4 bytes), the unpacked size (8) and a first packed byte that is always 0. Taken
/// are the properties every packer uses unless told otherwise, and sizes that liblzma takes as well: a dictionary of
/// 2^n or 2^n + 2^(n-1) bytes, and an unpacked size that is unknown or less than 256 GiB.
fn is_lzma(first: &[u8]) -> bool {
    let &[0x5d, d0, d1, d2, d3, s0, s1, s2, s3, s4, s5, s6, s7, 0, _, ..] = first else { return false };
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let size = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let bits = dictionary >> dictionary.trailing_zeros().min(31);
    let usual = matches!(bits, 1 | 3) || dictionary == u32::MAX;
    dictionary >= 4096 && usual && (size == u64::MAX || (1..1 << 38).contains(&size))
}

/// Whether this is the header of a `.Z` file: the magic number 1F 9D, and a byte with the most bits a code may have, 9
/// to 16, a flag, and two bits that are 0 (compress.h of ncompress).
fn is_compress(first: &[u8]) -> bool {
    matches!(first, [0x1f, 0x9d, flags, ..] if flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)))
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

    /// As `xz --format=lzma` begins: 8 MiB of dictionary, size unknown.
    const LZMA: &[u8] = b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x20\x10";

    #[test]
    fn headers_without_a_magic_number_are_told_by_all_their_fields() {
        assert_eq!(sniff(LZMA), Kind::Lzma);
        // As LZMA Utils' own encoder: the size is stated.
        assert_eq!(sniff(b"\x5d\0\0\x01\0\x70\x11\x01\0\0\0\0\0\0\x20"), Kind::Lzma);
        assert_eq!(sniff(b"\x5d\0\0\x18\0\x70\x11\x01\0\0\0\0\0\0\x20"), Kind::Lzma);
        for (at, byte) in [(0, 0x5c), (1, 1), (3, 0x81), (5, 0), (12, 0x7f), (13, 1)] {
            let mut other = LZMA.to_vec();
            other[at] = byte;
            assert_eq!(sniff(&other), Kind::Unknown, "{at}");
        }
        assert_eq!(sniff(b"\x1f\x9d\x90\x62"), Kind::Compress);
        for flags in [0x88, 0x91, 0xb0, 0xd0] {
            assert_eq!(sniff(&[0x1f, 0x9d, flags, 0]), Kind::Unknown);
        }
        let mut vdi = b"<<< Oracle VM VirtualBox Disk Image >>>\n".to_vec();
        vdi.resize(64, 0);
        assert_eq!(sniff(&vdi), Kind::Unknown);
        vdi.extend_from_slice(&0xbeda_107f_u32.to_le_bytes());
        assert_eq!(sniff(&vdi), Kind::Vdi);
    }

    #[test]
    fn boot_sectors_are_raw_whatever_they_begin_with() {
        for first in [LZMA, b"\x1f\x9d\x90", b"\x78\x01", b"\x78\x9c", b"\xeb\x63\x90", b"\xfa\xb8", b"\x33\xc0"] {
            let mut sector = first.to_vec();
            sector.resize(4096, 0);
            sector[510..512].copy_from_slice(&[0x55, 0xaa]);
            assert_eq!(sniff(&sector), Kind::Unknown, "{first:x?}");
        }
    }

    #[test]
    fn a_file_that_stops_inside_its_magic_number_is_cut() {
        for (whole, format) in [
            (&b"\x1f"[..], Format::Gzip),
            (b"\x28\xb5\x2f", Format::Zstd),
            (b"\x5e\x2a", Format::Zstd),
            (b"\xfd7zXZ", Format::Xz),
            (b"BZ", Format::Bzip2),
        ] {
            assert_eq!((sniff(whole), cut_magic(whole)), (Kind::Unknown, Some(format)));
        }
        for whole in [&b""[..], b"\x1f\x8b", b"\0", b"\xfd7zXY", b"\x1f\x8b\x08", b"BZi"] {
            assert_eq!(cut_magic(whole), None, "{whole:x?}");
        }
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
