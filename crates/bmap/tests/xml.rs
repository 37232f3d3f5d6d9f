//! bmap XML through the public door: every version, free layout, and everything that must be refused.

// Helpers of tests are not tests to clippy, though they say what they expect in the same way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bmap::xml::{self, BmapFile, Version, XmlError};
use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, ByteRange, Digest, Hasher, MapError, MappedRange};
use proptest::prelude::*;

/// The image that tests/data/make.py describes.
fn image() -> Vec<u8> {
    (0..45057_u32).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A file of version 2.0 with these children and a right checksum.
fn file(children: &str) -> String {
    sealed("2.0", &format!("<ChecksumType>sha256</ChecksumType>{children}"), Algorithm::Sha256, "BmapFileChecksum")
}

/// A file with these children and, as the first child, a right checksum.
fn sealed(version: &str, children: &str, algorithm: Algorithm, element: &str) -> String {
    let zeros = "0".repeat(algorithm.digest_len() * 2);
    let text = format!("<bmap version=\"{version}\"><{element}>{zeros}</{element}>{children}</bmap>");
    let checksum = Hasher::digest(algorithm, text.as_bytes()).to_string();
    text.replacen(&zeros, &checksum, 1)
}

const SIZES: &str = "<ImageSize>40960</ImageSize><BlockSize>4096</BlockSize><BlocksCount>10</BlocksCount>";

/// A whole file of 10 blocks with these ranges.
fn with_ranges(mapped: u64, ranges: &str) -> String {
    file(&format!("{SIZES}<MappedBlocksCount>{mapped}</MappedBlocksCount><BlockMap>{ranges}</BlockMap>"))
}

fn refused(text: impl AsRef<[u8]>) -> XmlError {
    xml::parse(text.as_ref()).expect_err("this must be refused")
}

#[test]
fn every_version_says_the_same_of_the_same_image() {
    let image = image();
    for (name, major, minor, algorithm, has_checksum) in [
        ("1.0.bmap", 1, 0, None, false),
        ("1.2.bmap", 1, 2, Some(Algorithm::Sha1), false),
        ("1.3.bmap", 1, 3, Some(Algorithm::Sha1), true),
        ("1.4.bmap", 1, 4, Some(Algorithm::Sha256), true),
        ("2.0.bmap", 2, 0, Some(Algorithm::Sha256), true),
        ("2.0-no-digests.bmap", 2, 0, None, true),
        ("2.0-sha512.bmap", 2, 0, Some(Algorithm::Sha512), true),
    ] {
        let BmapFile { version, map, checksum } = xml::read(&data(name)).unwrap();
        assert_eq!(version, Version { major, minor }, "{name}");
        assert_eq!(checksum.is_some(), has_checksum, "{name}");
        assert_eq!((map.image_size(), map.block_size().get(), map.blocks()), (45057, 4096, 12), "{name}");
        assert_eq!((map.mapped_blocks(), map.algorithm()), (7, algorithm), "{name}");
        let bytes: Vec<ByteRange> = map.mapped().map(|(bytes, _)| bytes).collect();
        let expected = [(0, 8192), (12288, 16384), (32768, 45057)].map(|(a, b)| ByteRange::new(a, b).unwrap());
        assert_eq!(bytes, expected, "{name}");
        for (bytes, digest) in map.mapped() {
            let slice = &image[usize::try_from(bytes.start()).unwrap()..usize::try_from(bytes.end()).unwrap()];
            assert_eq!(digest, algorithm.map(|algorithm| Hasher::digest(algorithm, slice)), "{name}");
        }
    }
}

#[test]
fn layout_and_order_are_free() {
    let plain = xml::read(&data("2.0.bmap")).unwrap().map;
    let digest = |index: usize| plain.ranges()[index].digest.unwrap().to_string();
    let children = format!(
        "<New x='1'><ImageSize>9</ImageSize>&amp;</New><BlockMap a='b'>text<Other/>\
         <Range chksum='{}'>\n\t000 -\u{a0}1</Range><!-- <Range>5</Range> --><Range chksum=\" {} \">3</Range>\
         <Range note='&lt;' chksum='{}'><![CDATA[8]]>-&#49;<!-- one -->1<note/> </Range></BlockMap>\
         <MappedBlocksCount>7</MappedBlocksCount><ChecksumType> SHA256 </ChecksumType>\
         <BlocksCount>00012</BlocksCount><BlockSize>4096</BlockSize><ImageSize>45057</ImageSize>",
        digest(0).to_uppercase(),
        digest(1),
        digest(2),
    );
    let text = sealed("2.7", &children, Algorithm::Sha256, "BmapFileChecksum");
    let file = xml::parse(text.as_bytes()).unwrap();
    assert_eq!((file.version, file.map), (Version { major: 2, minor: 7 }, plain));
}

#[test]
fn the_file_checksum_may_be_in_upper_case_and_behind_a_byte_order_mark() {
    let algorithm = Algorithm::Sha256;
    let zeros = "0".repeat(64);
    let text = format!(
        "\u{feff}<?xml version='1.0' encoding='utf-8'?>\r\n<bmap version=' 2.0 '>\r\n<BmapFileChecksum>{zeros}\
         </BmapFileChecksum><ChecksumType>sha256</ChecksumType>{SIZES}<MappedBlocksCount>0</MappedBlocksCount>\
         <BlockMap/></bmap>\r\n<!-- end -->"
    );
    let sum = Hasher::digest(algorithm, text.as_bytes()).to_string().to_uppercase();
    let file = xml::parse(text.replacen(&zeros, &sum, 1).as_bytes()).unwrap();
    assert_eq!(file.checksum, Digest::from_hex(algorithm, &sum));
    assert_eq!(file.map.mapped_blocks(), 0);
}

#[test]
fn any_change_of_the_file_fails_its_checksum() {
    for name in ["1.3.bmap", "1.4.bmap", "2.0.bmap", "2.0-sha512.bmap"] {
        let text = std::fs::read_to_string(data(name)).unwrap();
        let sum = xml::parse(text.as_bytes()).unwrap().checksum.unwrap().to_string();
        for changed in [
            text.replace("45057", "45056"),
            text.replace('\n', "\r\n"),
            format!("{text}<!-- -->"),
            text.replace("> 8-11 <", "> 8-x <"),
            text.replace(&sum, &"0".repeat(sum.len())),
        ] {
            assert!(matches!(refused(&changed), XmlError::FileChecksum { .. }), "{name}: {changed}");
        }
        let error = refused(text.replace("45057", "45056"));
        let XmlError::FileChecksum { expected, found } = &error else { panic!("{error}") };
        assert_eq!(expected.to_string(), sum);
        assert!(error.to_string().contains(&found.to_string()));
    }
    // 1.2 has no checksum of its own, but its ranges are kept with theirs.
    let old = std::fs::read_to_string(data("1.2.bmap")).unwrap().replace("A map", "The map");
    assert_eq!(xml::parse(old.as_bytes()).unwrap().map.algorithm(), Some(Algorithm::Sha1));
}

#[test]
fn missing_elements_are_named() {
    let text = std::fs::read_to_string(data("2.0.bmap")).unwrap();
    for name in
        ["ImageSize", "BlockSize", "BlocksCount", "MappedBlocksCount", "ChecksumType", "BmapFileChecksum", "BlockMap"]
    {
        // Renamed rather than removed; the checksum must be right again for the other errors to show.
        let renamed = text.replace(&format!("<{name}>"), "<X>").replace(&format!("</{name}>"), "</X>");
        let error = match xml::parse(renamed.as_bytes()) {
            Err(XmlError::FileChecksum { expected, found }) => {
                refused(renamed.replace(&expected.to_string(), &found.to_string()))
            }
            other => other.expect_err("an element is missing"),
        };
        assert!(matches!(error, XmlError::Missing { element, .. } if element == name), "{name}: {error}");
        assert!(error.to_string().contains(name));
    }
    let text = std::fs::read_to_string(data("1.3.bmap")).unwrap().replace("BmapFileSHA1", "Other");
    assert!(matches!(refused(text), XmlError::Missing { element: "BmapFileSHA1", .. }));
}

#[test]
fn versions_of_another_generation_are_refused() {
    let plain = std::fs::read_to_string(data("1.0.bmap")).unwrap();
    let with = |version: &str| refused(plain.replace("version=\"1.0\">", &format!("version=\"{version}\">")));
    for (text, major, minor) in [("3.0", 3, 0), ("0.9", 0, 9), ("4294967295.1", u32::MAX, 1)] {
        let error = with(text);
        assert!(matches!(error, XmlError::UnsupportedVersion(v) if v == Version { major, minor }), "{error}");
    }
    for text in ["2", "", "abc", "2.", ".0", "2.0.1", "+2.0", "2.x", "4294967296.0", "-1.0", "2 .0"] {
        let error = with(text);
        assert!(matches!(&error, XmlError::Version { found, .. } if found == text), "{text}: {error}");
    }
    assert!(matches!(refused("<bmap/>"), XmlError::Version { .. }));
}

#[test]
fn numbers_are_plain_decimals() {
    for bad in ["+40960", "40_960", "0xA000", "-1", "", " ", "4096 0", "40960.0", "1e4", "18446744073709551616", "٤"] {
        let children = format!(
            "<ImageSize>{bad}</ImageSize><BlockSize>4096</BlockSize><BlocksCount>10</BlocksCount>\
             <MappedBlocksCount>0</MappedBlocksCount><BlockMap/>"
        );
        let error = refused(file(&children));
        assert!(matches!(error, XmlError::Number { element: "ImageSize", .. }), "{bad}: {error}");
    }
}

#[test]
fn contradictions_name_both_numbers() {
    let error = refused(with_ranges(3, "<Range>0-1</Range>"));
    assert!(matches!(error, XmlError::MappedBlocksCount { stated: 3, counted: 2 }), "{error}");
    assert!(error.to_string().contains('3') && error.to_string().contains('2'));
    let wrong = SIZES.replace(">10<", ">11<");
    let error = refused(file(&format!("{wrong}<MappedBlocksCount>0</MappedBlocksCount><BlockMap/>")));
    assert!(matches!(error, XmlError::BlocksCount { stated: 11, computed: 10 }), "{error}");
}

#[test]
fn sizes_at_the_edges() {
    let sizes = |image: u64, block: u64, blocks: u64| {
        format!(
            "<ImageSize>{image}</ImageSize><BlockSize>{block}</BlockSize><BlocksCount>{blocks}</BlocksCount>\
             <MappedBlocksCount>0</MappedBlocksCount><BlockMap/>"
        )
    };
    for block in [0, (1 << 30) + 1, u64::from(u32::MAX) + 4097, u64::MAX] {
        assert!(matches!(refused(file(&sizes(1, block, 1))), XmlError::BlockSize { found } if found == block));
    }
    for (image, block, blocks) in
        [(u64::MAX, 1, u64::MAX), (u64::MAX, 4096, 1 << 52), (u64::MAX, 1 << 30, 1 << 34), (0, 4096, 0), (1000, 7, 143)]
    {
        let map = xml::parse(file(&sizes(image, block, blocks)).as_bytes()).unwrap().map;
        assert_eq!((map.image_size(), map.blocks()), (image, blocks));
    }
}

#[test]
fn bad_ranges_are_refused() {
    for bad in ["", "-", "1-", "-7", "1-2-3", "x", "+1", "1–2", "5-3", "1,2", "1 2", "18446744073709551616"] {
        let error = refused(with_ranges(1, &format!("<Range>0</Range><Range>{bad}</Range>")));
        assert!(matches!(error, XmlError::Range { index: 1, .. }), "{bad}: {error}");
    }
    for (ranges, mapped) in [("<Range>3-4</Range><Range>1</Range>", 3), ("<Range>1-2</Range><Range>2-3</Range>", 4)] {
        let error = refused(with_ranges(mapped, ranges));
        assert!(matches!(error, XmlError::Map(MapError::OutOfOrder { index: 1, .. })), "{error}");
    }
    for range in ["10", "0-10", "0-18446744073709551615", "18446744073709551615"] {
        let error = refused(with_ranges(1, &format!("<Range>{range}</Range>")));
        assert!(matches!(error, XmlError::Map(MapError::OutsideImage { .. })), "{range}: {error}");
    }
}

#[test]
fn bad_digests_are_refused() {
    for bad in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"é".repeat(32)] {
        let error = refused(with_ranges(1, &format!("<Range chksum=\"{bad}\">0</Range>")));
        assert!(matches!(error, XmlError::RangeDigest { index: 0, .. }), "{bad}: {error}");
    }
    let error = refused(with_ranges(1, &format!("<Range chksum=\"{}\">0</Range>", "a".repeat(40))));
    let sha1_for_sha256 =
        matches!(error, XmlError::RangeAlgorithm { index: 0, found: Algorithm::Sha1, expected: Algorithm::Sha256 });
    assert!(sha1_for_sha256, "{error}");
    let md5 = with_ranges(0, "").replace("sha256", "md5");
    assert!(matches!(refused(md5), XmlError::Algorithm { found, .. } if found == "md5"));
    let text = with_ranges(0, "");
    let cut = text.replacen("<BmapFileChecksum>", "<BmapFileChecksum>0", 1);
    assert!(matches!(refused(cut), XmlError::FileChecksumText { element: "BmapFileChecksum", .. }));
    let sum = xml::parse(text.as_bytes()).unwrap().checksum.unwrap().to_string();
    let spelled = text.replacen(&sum, &format!("&#{};{}", u32::from(sum.as_bytes()[0]), &sum[1..]), 1);
    assert!(matches!(refused(spelled), XmlError::FileChecksumText { .. }));
}

/// What is not even a bmap, or made to hurt.
#[test]
fn hostile_input_is_refused_with_the_reason() {
    let whole = with_ranges(1, "<Range>0</Range>");
    let deep = format!("<bmap version=\"2.0\">{}", "<a>".repeat(1_000_000));
    let bomb = "<!DOCTYPE b [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><bmap version=\"2.0\">&b;</bmap>";
    let utf16: Vec<u8> = "<bmap/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    type Check = fn(&XmlError) -> bool;
    let table: Vec<(&str, Vec<u8>, Check)> = vec![
        ("empty", vec![], |e| matches!(e, XmlError::NoElement)),
        ("blank", b" \n".to_vec(), |e| matches!(e, XmlError::NoElement)),
        ("text", b"not found".to_vec(), |e| matches!(e, XmlError::NoElement)),
        ("a comment", b"<!-- -->".to_vec(), |e| matches!(e, XmlError::NoElement)),
        (
            "html",
            b"<html><body>404</body></html>".to_vec(),
            |e| matches!(e, XmlError::NotBmap { found, .. } if found == "html"),
        ),
        ("zeros, as an image begins", vec![0; 4096], |e| matches!(e, XmlError::NoElement)),
        ("utf-16", utf16, |e| matches!(e, XmlError::WideText)),
        ("utf-32", b"\0\0\0<\0\0\0b".to_vec(), |e| matches!(e, XmlError::WideText)),
        ("utf-32 with a mark", b"\0\0\xFE\xFF\0\0\0<".to_vec(), |e| matches!(e, XmlError::WideText)),
        (
            "latin-1",
            b"<bmap>\n\xE9</bmap>".to_vec(),
            |e| matches!(e, XmlError::NotUtf8 { at } if at.line == 2 && at.offset == 7),
        ),
        ("signed", b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n<bmap/>".to_vec(), |e| {
            matches!(e, XmlError::Clearsigned)
        }),
        ("entity bomb", bomb.into(), |e| matches!(e, XmlError::Doctype { .. })),
        (
            "unknown entity",
            whole.replace(">40960<", ">&big;<").into(),
            |e| matches!(e, XmlError::Entity { name, .. } if name == "big"),
        ),
        ("deep", deep.into(), |e| matches!(e, XmlError::TooDeep { .. })),
        ("two roots", format!("{whole}<bmap/>").into(), |e| matches!(e, XmlError::OutsideRoot { .. })),
        ("text behind", format!("{whole}x").into(), |e| matches!(e, XmlError::OutsideRoot { .. })),
        ("wrong end", whole.replace("</BlockMap>", "</Blockmap>").into(), |e| matches!(e, XmlError::Syntax { .. })),
        ("naked ampersand", whole.replace(">40960<", ">4 & 5<").into(), |e| matches!(e, XmlError::Syntax { .. })),
        ("doubled attribute", whole.replace("<Range>", "<Range chksum='' chksum=''>").into(), |e| {
            matches!(e, XmlError::Syntax { .. })
        }),
        ("no char", whole.replace(">40960<", ">&#xD800;<").into(), |e| matches!(e, XmlError::Syntax { .. })),
        ("split value", whole.replace(">40960<", ">4<x/>0960<").into(), |e| matches!(e, XmlError::SplitValue { .. })),
        ("second size", whole.replace(SIZES, &SIZES.repeat(2)).into(), |e| {
            matches!(e, XmlError::Duplicate { element: "ImageSize", .. })
        }),
        ("second map", whole.replace("</bmap>", "<BlockMap/></bmap>").into(), |e| {
            matches!(e, XmlError::Duplicate { element: "BlockMap", .. })
        }),
        ("long number", whole.replace(">40960<", &format!(">{}<", "9".repeat(1 << 20))).into(), |e| {
            matches!(e, XmlError::FileChecksum { .. })
        }),
        ("too long", vec![b' '; usize::try_from(xml::MAX_LEN).unwrap() + 1], |e| matches!(e, XmlError::TooLong { .. })),
    ];
    for (name, bytes, check) in table {
        let error = refused(bytes);
        assert!(check(&error), "{name}: {error:?}");
        assert!(error.to_string().len() < 250, "{name}: {error}");
    }
}

#[test]
fn every_cut_file_is_refused() {
    let whole = std::fs::read(data("2.0.bmap")).unwrap();
    let end = whole.trim_ascii_end().len();
    for len in 0..end {
        let error = refused(&whole[..len]);
        assert!(!matches!(error, XmlError::FileChecksum { .. }), "cut at {len}: {error}");
    }
}

#[test]
fn a_million_ranges_are_taken_and_one_more_is_not() {
    let ranges = |count: usize| {
        let mut text = String::from("<bmap version=\"1.0\"><BlockMap>");
        for block in 0..count {
            write!(text, "<Range>{}</Range>", block * 2).unwrap();
        }
        let blocks = count * 2;
        write!(
            text,
            "</BlockMap><ImageSize>{blocks}</ImageSize><BlockSize>1</BlockSize><BlocksCount>{blocks}</BlocksCount>\
             <MappedBlocksCount>{count}</MappedBlocksCount></bmap>"
        )
        .unwrap();
        text
    };
    let map = xml::parse(ranges(xml::MAX_RANGES).as_bytes()).unwrap().map;
    assert_eq!(map.ranges().len(), xml::MAX_RANGES);
    assert!(matches!(refused(ranges(xml::MAX_RANGES + 1)), XmlError::TooManyRanges));
}

#[test]
fn errors_say_where() {
    let text = "<bmap version=\"1.0\">\n  <ImageSize>1</ImageSize>\n  <BlockMap><Range>x</Range></BlockMap></bmap>";
    let error = refused(text);
    let XmlError::Range { at, .. } = &error else { panic!("{error}") };
    assert_eq!((at.line, &text[at.offset..at.offset + 7]), (3, "<Range>"));
    assert!(error.to_string().contains("line 3"), "{error}");
}

#[test]
fn unreadable_and_oversized_files_are_named() {
    let error = xml::read(Path::new("/nonexistent/x.bmap")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/x.bmap"), "{error}");
    assert!(matches!(xml::read(Path::new("/")), Err(XmlError::Read { .. })));
    let huge = tempfile::NamedTempFile::new().unwrap();
    huge.as_file().set_len(1 << 40).unwrap();
    assert!(matches!(xml::read(huge.path()), Err(XmlError::TooLong { len }) if len == 1 << 40));
}

#[test]
fn bmaps_are_told_by_their_beginning() {
    for name in ["1.0.bmap", "1.3.bmap", "2.0.bmap"] {
        assert!(xml::looks_like_bmap(&std::fs::read(data(name)).unwrap()), "{name}");
    }
    let written = xml::write(&xml::read(&data("2.0.bmap")).unwrap().map);
    assert!(xml::looks_like_bmap(&written.as_bytes()[..written.len().min(4096)]));
    for yes in ["<bmap>", "\u{feff} <!-- a --><bmap\nx", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: A\n\n<bmap >"] {
        assert!(xml::looks_like_bmap(yes.as_bytes()), "{yes}");
    }
    for no in
        ["", "<", "<bmap", "<bmaps>", "<!-- <bmap>", "<html>", "<?xml <bmap>", "-----BEGIN PGP SIGNED MESSAGE-----"]
    {
        assert!(!xml::looks_like_bmap(no.as_bytes()), "{no}");
    }
}

/// Any map, with digests of one kind, of none, or of some ranges.
fn any_map() -> impl Strategy<Value = BlockMap> {
    let runs = prop::collection::vec((1_u64..9, 0_u64..5, any::<Option<u8>>()), 0..20);
    (runs, 1_u32..=70000, 0_u64..70000, 0..6_usize, any::<bool>()).prop_map(|(runs, block, cut, algorithm, huge)| {
        let mut next = if huge { 1 << 45 } else { 0 };
        let mut ranges = Vec::new();
        for (len, gap, seed) in runs {
            let first = next + gap;
            let algorithm = Algorithm::ALL.get(algorithm);
            let digest = algorithm.zip(seed).map(|(algorithm, seed)| Hasher::digest(*algorithm, &[seed]));
            ranges.push(MappedRange { blocks: BlockRange::new(first, first + len - 1).unwrap(), digest });
            next = first + len;
        }
        let block_size = BlockSize::new(block).unwrap();
        let size = next * block_size.bytes() - if next > 0 { cut % block_size.bytes() } else { 0 };
        BlockMap::new(size, block_size, ranges).unwrap()
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(map in any_map()) {
        let file = xml::parse(xml::write(&map).as_bytes()).unwrap();
        prop_assert_eq!(file.version, Version::WRITTEN);
        prop_assert!(file.checksum.is_some());
        prop_assert_eq!(file.map, map);
    }

    #[test]
    fn no_bytes_make_it_panic(change in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = std::fs::read(data("1.2.bmap")).unwrap();
        for (place, byte) in change {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // Version 1.2 has no checksum, so a change may well give another good map: then it must survive writing.
        if let Ok(file) = xml::parse(&bytes) {
            prop_assert_eq!(xml::parse(xml::write(&file.map).as_bytes()).unwrap().map, file.map);
        }
    }
}

/// bmaptool copies under maps we wrote and under our fixtures, and refuses a changed image.
#[test]
fn bmaptool_takes_what_we_write() {
    if Command::new("bmaptool").arg("--version").output().is_err() {
        println!("skipped: bmaptool is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let image = image();
    std::fs::write(path("image"), &image).unwrap();
    let copy = |bmap: &Path| {
        let _ = std::fs::remove_file(path("out"));
        let mut command = Command::new("bmaptool");
        command.arg("copy").arg("--bmap").arg(bmap).arg(path("image")).arg(path("out"));
        command.output().unwrap()
    };
    let mut maps: Vec<PathBuf> = ["1.0", "1.2", "1.3", "1.4", "2.0", "2.0-no-digests", "2.0-sha512"]
        .map(|name| data(&format!("{name}.bmap")))
        .into();
    for name in ["1.0.bmap", "1.3.bmap", "2.0.bmap", "2.0-sha512.bmap"] {
        let ours = path(&format!("ours-{name}"));
        std::fs::write(&ours, xml::write(&xml::read(&data(name)).unwrap().map)).unwrap();
        maps.push(ours);
    }
    for bmap in &maps {
        let output = copy(bmap);
        assert!(output.status.success(), "{}: {}", bmap.display(), String::from_utf8_lossy(&output.stderr));
        let out = std::fs::read(path("out")).unwrap();
        assert_eq!(out.len(), image.len());
        for range in [0..8192, 12288..16384, 32768..45057] {
            assert_eq!(out[range.clone()], image[range]);
        }
    }
    let mut changed = image;
    changed[40000] ^= 1;
    std::fs::write(path("image"), &changed).unwrap();
    assert!(!copy(&path("ours-2.0.bmap")).status.success());
}
