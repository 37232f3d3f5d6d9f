//! Sparse images: what is planned, written, parsed and applied is the image again, and what is bad is refused.

// Helpers of tests are not tests to clippy, though they say what they expect in the same way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::io::Cursor;
use std::process::Command;

use bmap::sparse::header::HeaderError;
use bmap::sparse::{
    self, Applied, ChunkHeader, ChunkKind, Content, Extent, ExtentKind, FileHeader, Layout, LayoutError, MakeError,
    Parser, Payload, SparseError, Split, SplitError,
};
use bmap::{BlockMap, BlockRange, BlockSize, MappedRange};
use proptest::prelude::*;

fn blocks(first: u64, last: u64) -> BlockRange {
    BlockRange::new(first, last).unwrap()
}

/// Bytes with a period that divides no block size, so that a misplaced block cannot match by luck.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// Any layout of an image of up to some 100 blocks, ending anywhere in its last one.
fn any_layout() -> impl Strategy<Value = Layout> {
    let kind = prop_oneof![3 => Just(ExtentKind::Data), 1 => any::<[u8; 4]>().prop_map(ExtentKind::Fill)];
    let runs = prop::collection::vec((0_u64..4, 1_u64..8, kind), 0..16);
    let block_size = prop::sample::select(vec![4_u32, 12, 512, 1024, 4096]);
    (runs, block_size, 0_u64..4096, 0_u64..3).prop_map(|(runs, block_size, cut, tail)| {
        let mut next = 0;
        let mut extents = Vec::new();
        for (gap, len, kind) in runs {
            extents.push(Extent { blocks: blocks(next + gap, next + gap + len - 1), kind });
            next += gap + len;
        }
        let bytes = u64::from(block_size);
        let image_size = ((next + tail) * bytes).saturating_sub(cut % bytes);
        Layout::new(image_size, BlockSize::new(block_size).unwrap(), extents).unwrap()
    })
}

/// What a device holding 0xEE everywhere should hold after the layout was written, up to whole blocks.
fn expected(layout: &Layout, image: &[u8]) -> Vec<u8> {
    let block = usize::try_from(layout.block_size().get()).unwrap();
    let mut flat = vec![0xEE; image.len().next_multiple_of(block)];
    for extent in layout.extents() {
        let start = usize::try_from(extent.blocks.first()).unwrap() * block;
        let end = usize::try_from(extent.blocks.last() + 1).unwrap() * block;
        for (i, byte) in flat.iter_mut().enumerate().take(end).skip(start) {
            *byte = match extent.kind {
                ExtentKind::Data => image.get(i).copied().unwrap_or(0),
                ExtentKind::Fill(pattern) => pattern[i % 4],
            };
        }
    }
    flat
}

fn written(split: &Split, image: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    sparse::write_split(split, &mut Cursor::new(image), &mut bytes).unwrap();
    bytes
}

/// Applies to a device full of 0xEE.
fn applied<'a>(images: impl IntoIterator<Item = &'a [u8]>, len: usize) -> Vec<u8> {
    let mut device = Cursor::new(vec![0xEE; len]);
    for image in images {
        let Applied { size, checksums_ignored, .. } = sparse::apply(image, &mut device, u64::MAX).unwrap();
        assert_eq!((usize::try_from(size).unwrap(), checksums_ignored), (len, 0));
    }
    device.into_inner()
}

proptest! {
    #[test]
    fn applying_the_splits_gives_the_image(layout in any_layout(), more in 0_u64..20000, backwards in any::<bool>()) {
        let image = pattern(usize::try_from(layout.image_size()).unwrap());
        let limit = 28 + 3 * 12 + layout.block_size().bytes() + more;
        let splits = sparse::split(&layout, limit).unwrap();
        let mut images: Vec<Vec<u8>> = splits.iter().map(|split| written(split, &image)).collect();
        for (split, bytes) in splits.iter().zip(&images) {
            prop_assert_eq!(split.len(), u64::try_from(bytes.len()).unwrap());
            prop_assert!(split.len() <= limit);
            let total: u64 = split.chunks().iter().map(|chunk| u64::from(chunk.header.blocks)).sum();
            prop_assert_eq!(total, layout.image_size().div_ceil(layout.block_size().bytes()));
            prop_assert_eq!(total, u64::from(split.header().blocks));
            prop_assert!(split.chunks().iter().all(|chunk| chunk.header.kind != ChunkKind::Crc32));
            prop_assert!(split.blocks().is_some());
        }
        for pair in splits.windows(2) {
            let slack = 2 * 12 + layout.block_size().bytes() + 12;
            prop_assert!(pair[0].len() + slack > limit, "{} of {limit} used, though more follows", pair[0].len());
            prop_assert!(pair[0].blocks().unwrap().last() < pair[1].blocks().unwrap().first());
        }
        if backwards {
            images.reverse();
        }
        let expected = expected(&layout, &image);
        prop_assert_eq!(applied(images.iter().map(Vec::as_slice), expected.len()), expected);
    }

    #[test]
    fn what_is_written_parses_back(layout in any_layout()) {
        let image = pattern(usize::try_from(layout.image_size()).unwrap());
        let split = sparse::whole(&layout).unwrap();
        let bytes = written(&split, &image);
        let mut parser = Parser::new(bytes.as_slice()).unwrap();
        prop_assert_eq!(parser.header(), split.header());
        let mut start = 0;
        for planned in split.chunks() {
            let chunk = parser.next_chunk().unwrap().unwrap();
            prop_assert_eq!((chunk.header, chunk.start), (planned.header, start));
            start += chunk.header.blocks;
            match (planned.payload, chunk.content) {
                (Payload::Data { bytes, padding }, Content::Raw(len)) => {
                    prop_assert_eq!(bytes.len() + u64::from(padding), len);
                }
                (Payload::Fill(one), Content::Fill(other)) => prop_assert_eq!(one, other),
                (Payload::DontCare, Content::DontCare) => {}
                (planned, read) => prop_assert!(false, "{:?} became {:?}", planned, read),
            }
        }
        prop_assert_eq!(parser.next_chunk().unwrap(), None);
        prop_assert_eq!(parser.offset(), split.len());
    }

    #[test]
    fn a_cut_sparse_image_is_never_a_whole_one(layout in any_layout(), cut in any::<prop::sample::Index>()) {
        let image = pattern(usize::try_from(layout.image_size()).unwrap());
        let bytes = written(&sparse::whole(&layout).unwrap(), &image);
        let cut = &bytes[..cut.index(bytes.len())];
        let error = sparse::apply(cut, &mut Cursor::new(Vec::new()), u64::MAX).unwrap_err();
        prop_assert!(matches!(error, SparseError::Truncated { .. }), "{error}");
    }

    #[test]
    fn headers_survive_print_and_parse(bytes in any::<[u8; 28]>(), chunk in any::<[u8; 12]>(), size in 1_u32..99) {
        let mut bytes = bytes;
        bytes[..6].copy_from_slice(&[0x3A, 0xFF, 0x26, 0xED, 1, 0]);
        bytes[9] |= 1;
        bytes[11] |= 1;
        bytes[12..16].copy_from_slice(&(size * 4).to_le_bytes());
        let header = FileHeader::from_bytes(&bytes).unwrap();
        prop_assert_eq!(header.to_bytes(), bytes);
        for kind in [ChunkKind::Raw, ChunkKind::Fill, ChunkKind::DontCare, ChunkKind::Crc32] {
            let mut bytes = chunk;
            bytes[..4].copy_from_slice(&[kind.code().to_le_bytes(), [0, 0]].concat());
            bytes[6..8].fill(0);
            if kind == ChunkKind::Crc32 {
                bytes[4..6].fill(0);
            }
            let blocks = u32::from(u16::from_le_bytes([bytes[4], bytes[5]]));
            let data = match kind {
                ChunkKind::Raw => blocks * size * 4,
                ChunkKind::DontCare => 0,
                _ => 4,
            };
            bytes[8..].copy_from_slice(&(u32::from(header.chunk_header_len) + data).to_le_bytes());
            prop_assert_eq!(ChunkHeader::from_bytes(&bytes, &header).unwrap().to_bytes(), bytes);
        }
    }
}

#[test]
fn a_map_becomes_one_sparse_image() {
    let range = |first, last| MappedRange { blocks: blocks(first, last), digest: None };
    let map = BlockMap::new(10 * 4096 + 1, BlockSize::DEFAULT, vec![range(2, 3), range(10, 10)]).unwrap();
    let image = pattern(10 * 4096 + 1);
    let mut bytes = Vec::new();
    let layout = Layout::of_map(&map).unwrap();
    let len = sparse::make(&layout, &mut Cursor::new(&image), &mut bytes).unwrap();
    assert_eq!(usize::try_from(len).unwrap(), bytes.len());
    assert!(sparse::looks_like_sparse(&bytes) && !sparse::looks_like_sparse(&image));
    let split = sparse::whole(&layout).unwrap();
    let kinds: Vec<_> = split.chunks().iter().map(|chunk| (chunk.header.kind, chunk.header.blocks)).collect();
    let (raw, skip) = (ChunkKind::Raw, ChunkKind::DontCare);
    assert_eq!(kinds, [(skip, 2), (raw, 2), (skip, 6), (raw, 1)]);
    assert!(matches!(split.chunks()[3].payload, Payload::Data { bytes, padding: 4095 } if bytes.len() == 1));
    assert_eq!(applied([bytes.as_slice()], 11 * 4096), expected(&layout, &image));
}

#[test]
fn an_image_without_data_needs_no_split() {
    let layout = Layout::new(10 * 4096, BlockSize::DEFAULT, vec![]).unwrap();
    assert_eq!(sparse::split(&layout, 1), Ok(vec![]));
    let whole = sparse::whole(&layout).unwrap();
    assert_eq!((whole.len(), whole.chunks().len(), whole.blocks()), (40, 1, None));
    let nothing = sparse::whole(&Layout::new(0, BlockSize::DEFAULT, vec![]).unwrap()).unwrap();
    assert_eq!((nothing.len(), nothing.header().blocks), (28, 0));
    assert_eq!(applied([written(&nothing, &[]).as_slice()], 0), []);
}

#[test]
fn limits_are_exact() {
    let data = |first, last| Extent { blocks: blocks(first, last), kind: ExtentKind::Data };
    let layout = Layout::new(100 * 4096, BlockSize::DEFAULT, vec![data(1, 1), data(50, 60)]).unwrap();
    let least = 28 + 3 * 12 + 4096;
    assert_eq!(sparse::split(&layout, least - 1), Err(SplitError::Limit { limit: least - 1, least }));
    assert!(matches!(sparse::split(&layout, 0), Err(SplitError::Limit { .. })));
    let splits = sparse::split(&layout, least).unwrap();
    assert_eq!(splits.len(), 12);
    assert!(splits.iter().all(|split| split.len() == least));
    let fills = Extent { blocks: blocks(5, 90), kind: ExtentKind::Fill([0; 4]) };
    let layout = Layout::new(100 * 4096, BlockSize::DEFAULT, vec![fills]).unwrap();
    assert_eq!(sparse::split(&layout, 28 + 12 + 16 + 12).unwrap().len(), 1);
    assert!(sparse::split(&layout, 28 + 12 + 15 + 12).is_err());
}

#[test]
fn images_past_4_gib_are_planned_in_64_bits() {
    let size = 13 << 30;
    let last = size / 4096 - 1;
    let all = Extent { blocks: blocks(1, last), kind: ExtentKind::Data };
    let layout = Layout::new(size, BlockSize::DEFAULT, vec![all]).unwrap();
    for limit in [16 << 20, 512 << 20, 4 << 30, u64::MAX] {
        let splits = sparse::split(&layout, limit).unwrap();
        assert!(splits.iter().all(|split| split.len() <= limit));
        let mut next = 4096;
        for chunk in splits.iter().flat_map(Split::chunks) {
            let Payload::Data { bytes, padding: 0 } = chunk.payload else { continue };
            assert_eq!(bytes.start(), next);
            assert_eq!(u64::from(chunk.header.total_len), bytes.len() + 12);
            next = bytes.end();
        }
        assert_eq!(next, size);
    }
    let whole = sparse::whole(&layout).unwrap();
    assert_eq!((whole.chunks().len(), whole.len()), (5, 28 + 5 * 12 + size - 4096));
}

#[test]
fn layouts_that_sparse_headers_cannot_describe_are_refused() {
    let data = |first, last| Extent { blocks: blocks(first, last), kind: ExtentKind::Data };
    let layout = |size, block: u32, extents| Layout::new(size, BlockSize::new(block).unwrap(), extents);
    assert!(matches!(layout(1, 1001, vec![]), Err(LayoutError::BlockSize(_))));
    assert!(layout(u64::from(u32::MAX) * 4, 4, vec![]).is_ok());
    let most = u64::from(u32::MAX) * 4 + 1;
    assert!(matches!(layout(most, 4, vec![]), Err(LayoutError::TooManyBlocks { blocks: 0x1_0000_0000, .. })));
    assert!(matches!(layout(u64::MAX, 4096, vec![]), Err(LayoutError::TooManyBlocks { .. })));
    let unsorted = layout(40960, 4096, vec![data(3, 4), data(4, 5)]);
    assert!(matches!(unsorted, Err(LayoutError::OutOfOrder { index: 1, .. })));
    for extent in [data(9, 10), data(0, u64::MAX), data(u64::MAX, u64::MAX)] {
        assert!(matches!(layout(40960, 4096, vec![extent]), Err(LayoutError::OutsideImage { total: 10, .. })));
    }
}

#[test]
fn a_short_image_is_an_error_and_not_padding() {
    let all = Extent { blocks: blocks(0, 9), kind: ExtentKind::Data };
    let layout = Layout::new(40960, BlockSize::DEFAULT, vec![all]).unwrap();
    let error = sparse::make(&layout, &mut Cursor::new(vec![0; 40959]), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, MakeError::Read { offset: 0, .. }), "{error}");
}

/// A sparse image of 3 blocks of 8 bytes with these chunks, each (type, blocks, total length, data).
fn image(blocks: u32, chunks: &[(u16, u32, u32, &[u8])], header_len: u16, chunk_header_len: u16) -> Vec<u8> {
    let count = u32::try_from(chunks.len()).unwrap();
    let mut header = FileHeader::new(BlockSize::new(8).unwrap(), blocks, count).unwrap();
    (header.header_len, header.chunk_header_len) = (header_len, chunk_header_len);
    let mut bytes = header.to_bytes().to_vec();
    bytes.resize(usize::from(header_len), 0x55);
    for (kind, blocks, len, data) in chunks {
        bytes.extend([&kind.to_le_bytes()[..], &[9, 9], &blocks.to_le_bytes(), &len.to_le_bytes()].concat());
        bytes.resize(bytes.len() + usize::from(chunk_header_len) - 12, 0x55);
        bytes.extend_from_slice(data);
    }
    bytes
}

#[test]
fn longer_headers_are_passed_over() {
    let chunks: [(u16, u32, u32, &[u8]); 4] =
        [(0xCAC1, 1, 28, b"12345678"), (0xCAC2, 1, 24, b"abcd"), (0xCAC4, 0, 24, b"\0\0\0\0"), (0xCAC3, 1, 20, b"")];
    let bytes = image(3, &chunks, 50, 20);
    let mut device = Cursor::new(Vec::new());
    let applied = sparse::apply(bytes.as_slice(), &mut device, 24).unwrap();
    assert_eq!(applied, Applied { size: 24, written: 16, checksums_ignored: 1 });
    assert_eq!(device.into_inner(), b"12345678abcdabcd");
}

#[test]
fn bad_sparse_images_are_refused_with_the_place() {
    type Check = fn(&SparseError) -> bool;
    let raw = (0xCAC1, 1, 20, &b"12345678"[..]);
    let none: &[u8] = b"";
    let table: Vec<(&str, Vec<u8>, Check)> = vec![
        ("empty", vec![], |e| matches!(e, SparseError::Truncated { offset: 0, .. })),
        ("zeros", vec![0; 64], |e| {
            matches!(e, SparseError::Header { offset: 0, source: HeaderError::Magic { found: 0 } })
        }),
        ("header cut in its extension", image(0, &[], 99, 12)[..60].to_vec(), |e| {
            matches!(e, SparseError::Truncated { offset: 28, .. })
        }),
        ("no chunks for 3 blocks", image(3, &[], 28, 12), |e| {
            matches!(e, SparseError::BlockCount { stated: 3, counted: 0 })
        }),
        ("too few blocks", image(3, &[raw], 28, 12), |e| {
            matches!(e, SparseError::BlockCount { stated: 3, counted: 1 })
        }),
        ("too many blocks", image(1, &[raw, raw], 28, 12), |e| {
            matches!(e, SparseError::PastEnd { offset: 48, start: 1, blocks: 1, total: 1 })
        }),
        ("blocks past 32 bits", image(u32::MAX, &[raw, (0xCAC3, u32::MAX, 12, none)], 28, 12), |e| {
            matches!(e, SparseError::PastEnd { start: 1, blocks: u32::MAX, .. })
        }),
        ("unknown type", image(3, &[(0xCAC0, 3, 12, none)], 28, 12), |e| {
            matches!(e, SparseError::Header { offset: 28, source: HeaderError::ChunkType { found: 0xCAC0 } })
        }),
        ("raw that lies about its length", image(3, &[(0xCAC1, 3, 12, none)], 28, 12), |e| {
            matches!(e, SparseError::Header { offset: 28, source: HeaderError::ChunkLen { expected: 36, .. } })
        }),
        ("cut data", image(1, &[raw], 28, 12)[..47].to_vec(), |e| {
            matches!(e, SparseError::Truncated { offset: 40, .. })
        }),
        ("a byte behind the last chunk", [image(1, &[raw], 28, 12), vec![0]].concat(), |e| {
            matches!(e, SparseError::Trailing { offset: 48 })
        }),
        ("a chunk more than the header says", [image(1, &[raw], 28, 12), image(1, &[raw], 28, 12)].concat(), |e| {
            matches!(e, SparseError::Trailing { offset: 48 })
        }),
        ("a missing chunk", image(1, &[raw, raw], 28, 12)[..48].to_vec(), |e| {
            matches!(e, SparseError::Truncated { offset: 48, inside: "a chunk header" })
        }),
    ];
    for (name, bytes, check) in table {
        let error = sparse::apply(bytes.as_slice(), &mut Cursor::new(Vec::new()), 1 << 40).unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
    }
    let bomb = image(u32::MAX, &[(0xCAC2, u32::MAX, 16, b"\0\0\0\0")], 28, 12);
    let error = sparse::apply(bomb.as_slice(), &mut Cursor::new(Vec::new()), 1 << 20).unwrap_err();
    assert!(matches!(error, SparseError::TooLarge { size: 0x7_FFFF_FFF8, most: 0x10_0000 }), "{error}");
}

#[test]
fn checksums_are_counted() {
    let crc = (0xCAC4, 0, 16, &b"\x01\x02\x03\x04"[..]);
    let mut bytes = image(1, &[(0xCAC1, 1, 20, b"12345678"), crc, crc], 28, 12);
    let count = |bytes: &[u8]| sparse::apply(bytes, &mut Cursor::new(Vec::new()), 8).unwrap().checksums_ignored;
    assert_eq!(count(&bytes), 2);
    bytes[24] = 1;
    assert_eq!(count(&bytes), 3);
}

#[test]
fn finishing_passes_over_what_is_left_and_finds_what_follows() {
    let raw = (0xCAC1, 1, 20, &b"12345678"[..]);
    let bytes = image(2, &[raw, raw], 28, 12);
    let mut parser = Parser::new(bytes.as_slice()).unwrap();
    parser.next_chunk().unwrap();
    parser.read_data(&mut [0; 3]).unwrap();
    parser.finish().unwrap();
    parser.finish().unwrap();
    assert_eq!(parser.offset(), 68);
    let mut parser = Parser::new(&bytes[..60]).unwrap();
    assert!(matches!(parser.finish(), Err(SparseError::Truncated { offset: 60, .. })));
    let longer = [&bytes[..], b"x"].concat();
    let mut parser = Parser::new(longer.as_slice()).unwrap();
    assert!(matches!(parser.finish(), Err(SparseError::Trailing { offset: 68 })));
    assert!(matches!(parser.finish(), Err(SparseError::AfterError)));
}

#[test]
fn after_an_error_there_is_no_end() {
    let bytes = image(3, &[(0xCAC0, 3, 12, b"")], 28, 12);
    let mut parser = Parser::new(bytes.as_slice()).unwrap();
    assert!(parser.next_chunk().is_err());
    assert!(matches!(parser.next_chunk(), Err(SparseError::AfterError)));
    assert!(matches!(parser.read_data(&mut [0; 8]), Err(SparseError::AfterError)));
}

#[test]
fn data_may_be_read_in_part_or_not_at_all() {
    let raw = (0xCAC1, 1, 20, &b"12345678"[..]);
    let bytes = image(3, &[raw, raw, (0xCAC3, 1, 12, b"")], 28, 12);
    let mut parser = Parser::new(bytes.as_slice()).unwrap();
    assert_eq!(parser.next_chunk().unwrap().unwrap().content, Content::Raw(8));
    let mut buffer = [0; 5];
    assert_eq!(parser.read_data(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer, b"12345");
    assert_eq!(parser.read_data(&mut buffer).unwrap(), 3);
    assert_eq!(parser.read_data(&mut buffer).unwrap(), 0);
    assert_eq!(parser.next_chunk().unwrap().unwrap().start, 1);
    assert_eq!(parser.next_chunk().unwrap().unwrap().content, Content::DontCare);
    assert_eq!(parser.next_chunk().unwrap(), None);
    assert_eq!(parser.read_data(&mut buffer).unwrap(), 0);
}

/// simg2img puts our splits together, and we take apart what img2simg makes.
#[test]
fn the_tools_of_android_agree() {
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    if Command::new("simg2img").output().is_err() || Command::new("img2simg").output().is_err() {
        println!("skipped: simg2img and img2simg are not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let extent = |first, last, kind| Extent { blocks: blocks(first, last), kind };
    let extents = vec![
        extent(1, 2, ExtentKind::Data),
        extent(5, 7, ExtentKind::Fill([1, 2, 3, 4])),
        extent(8, 20, ExtentKind::Data),
        extent(99, 99, ExtentKind::Data),
    ];
    let layout = Layout::new(99 * 4096 + 5, BlockSize::DEFAULT, extents).unwrap();
    let image = pattern(99 * 4096 + 5);
    let mut command = Command::new("simg2img");
    for (i, split) in sparse::split(&layout, 20000).unwrap().iter().enumerate() {
        let name = path(&format!("split-{i}"));
        fs::write(&name, written(split, &image)).unwrap();
        command.arg(name);
    }
    assert!(command.get_args().count() > 3);
    run(command.arg(path("flat")));
    let mut wanted = expected(&layout, &image);
    for (block, bytes) in wanted.chunks_mut(4096).enumerate() {
        let block = u64::try_from(block).unwrap();
        if !layout.extents().iter().any(|extent| (extent.blocks.first()..=extent.blocks.last()).contains(&block)) {
            bytes.fill(0);
        }
    }
    assert!(fs::read(path("flat")).unwrap() == wanted);
    // The other way: raw, fill and skipped blocks by their own choice.
    run(Command::new("img2simg").args([&path("flat"), &path("sparse")]).arg("4096"));
    let theirs = fs::read(path("sparse")).unwrap();
    assert!(theirs.len() < wanted.len());
    let mut ours = Cursor::new(vec![0; wanted.len()]);
    sparse::apply(theirs.as_slice(), &mut ours, 1 << 30).unwrap();
    assert!(ours.into_inner() == wanted);
}
