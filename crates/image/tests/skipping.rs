//! What nobody wants is left out, not decoded and dropped: damage in it goes unnoticed. And what the sizes of parts left
//! out say is held against whatever else the file tells of them.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping")]

mod common;

use common::{Source, open, range, read_all, read_ranges, sample, xz_blocks, zstd_sized};
use image::{ImageError, Options, Wanted};

/// The image, its packed bytes with the part from 131,072 to 196,608 damaged, and what the parts are called.
fn damaged_inside() -> [(&'static str, Vec<u8>, Vec<u8>); 2] {
    // Noise everywhere: packed, it is as long as before, and so any byte in the middle of a part is content.
    let mut data = sample(200_000);
    let mut seed = 1_u32;
    for byte in &mut data {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte ^= seed.to_le_bytes()[3] & 0x1f;
    }
    // The index begins with a zero byte where the next block would begin with another.
    let same = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let mut xz = xz_blocks(&data);
    let ends = [131_072, 196_608].map(|len| same(&xz, &xz_blocks(&data[..len])));
    xz[ends[0] + 40..ends[1] - 40].fill(0x5a);
    let mut frames = [0..131_072, 131_072..196_608, 196_608..data.len()].map(|part| zstd_sized(&data[part]));
    let end = frames[1].len() - 10;
    frames[1][30..end].fill(0x5a);
    [("xz", data.clone(), xz), ("zstd", data, frames.concat())]
}

#[test]
fn unwanted_parts_are_not_decoded() {
    for (name, data, packed) in damaged_inside() {
        for threads in [1, 3] {
            let options = Options { threads: threads.try_into().unwrap(), ..Options::default() };
            let image = || open(&packed, Source::File, &options).unwrap();
            let parts = read_ranges(image(), &[range(100, 131_072), range(196_608, 200_000)], data.len()).unwrap();
            assert!(parts[0] == data[100..131_072] && parts[1] == data[196_608..], "{name}");
            // Whoever does want them is told.
            let error = read_all(image()).unwrap_err();
            assert!(matches!(error, ImageError::Corrupt { .. }), "{name}: {error}");
            let error = read_ranges(image(), &[range(0, 1), range(196_607, 196_609)], data.len()).unwrap_err();
            assert!(matches!(error, ImageError::Corrupt { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn reading_what_was_left_out_is_refused() {
    for (name, _, packed) in damaged_inside() {
        let image = open(&packed, Source::File, &Options::default()).unwrap();
        let mut reader = image.read(Wanted::Ranges([range(0, 10), range(199_000, 200_000)].into())).unwrap();
        reader.skip_to(150_000).unwrap();
        let error = reader.read(&mut [0; 10]).unwrap_err();
        assert!(matches!(error, ImageError::Unwanted { offset: 150_000, .. }), "{name}: {error}");
        // It was a wrong question, not a bad image: reading goes on where it may.
        reader.skip_to(199_000).unwrap();
        reader.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(reader.finish().unwrap(), 200_000);
    }
}

/// Frames, and a seek table with the checksums that libzstd put behind their contents, one bit changed in the second.
fn seekable(frames: &[Vec<u8>], lens: &[u32], change: u8) -> Vec<u8> {
    let mut content = Vec::new();
    for (place, (frame, len)) in frames.iter().zip(lens).enumerate() {
        content.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
        content.extend_from_slice(&len.to_le_bytes());
        let mut checksum = *frame.last_chunk::<4>().unwrap();
        if place == 1 {
            checksum[2] ^= change;
        }
        content.extend_from_slice(&checksum);
    }
    content.extend_from_slice(&u32::try_from(frames.len()).unwrap().to_le_bytes());
    content.push(0x80);
    content.extend_from_slice(&0x8f92_eab1_u32.to_le_bytes());
    let len = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&frames.concat()[..], b"\x5e\x2a\x4d\x18", &len, &content].concat()
}

#[test]
fn checksums_in_a_seek_table_are_verified() {
    let data = sample(900_000);
    // A frame's own checksum is made of the same bits of the same hash as the table's.
    let frames: Vec<_> = data.chunks(300_000).map(zstd_sized).collect();
    let image = |change| {
        let packed = seekable(&frames, &[300_000; 3], change);
        open(&packed, Source::File, &Options::default()).unwrap()
    };
    assert!(read_all(image(0)).unwrap() == data);
    assert!(read_all(image(1)).unwrap_err().to_string().contains("checksum in the seek table"));
    // Wanted in part, a frame is decoded and checked as a whole; not wanted, it is not.
    assert!(read_ranges(image(1), &[range(300_000, 300_001)], data.len()).is_err());
    assert!(read_ranges(image(1), &[range(0, 300_000), range(600_000, 900_000)], data.len()).is_ok());
}

/// The file of five blocks that xz made, their sizes in their headers, and where its index is.
fn sized_blocks() -> (Vec<u8>, std::ops::Range<usize>) {
    let packed = include_bytes!("data/packed/xz-blocks.xz").to_vec();
    let footer = packed.len() - 12;
    let backward = u32::from_le_bytes(*packed[footer + 4..].first_chunk().unwrap());
    let len = (usize::try_from(backward).unwrap() + 1) * 4;
    (packed, footer - len..footer)
}

#[test]
fn an_xz_index_that_contradicts_the_headers_of_unwanted_blocks_is_refused() {
    let (packed, index) = sized_blocks();
    // What the index says of the third block, as integers of the format: 16 + 84 + 8 bytes for 65,536.
    let third = [108, 0x80, 0x80, 0x04];
    let at = (index.start..index.end).filter(|&at| packed[at..].starts_with(&third)).nth(1).unwrap();
    let ranges = [range(0, 100), range(280_000, 285_000)];
    for (offset, bytes, lie) in [(0, &[107][..], false), (1, &[0xff, 0xff, 0x03], true)] {
        let mut lying = packed.clone();
        lying[at + offset..][..bytes.len()].copy_from_slice(bytes);
        let crc = crc32fast::hash(&lying[index.start..index.end - 4]);
        lying[index.end - 4..index.end].copy_from_slice(&crc.to_le_bytes());
        let image = open(&lying, Source::File, &Options::default()).unwrap();
        assert_eq!(image.size(), Some(285_107 - u64::from(lie)));
        let error = image.read(Wanted::Ranges(ranges.into())).unwrap_err();
        assert!(error.to_string().contains("header and index contradict each other"), "{error}");
    }
    read_ranges(open(&packed, Source::File, &Options::default()).unwrap(), &ranges, 285_107).unwrap();
}
