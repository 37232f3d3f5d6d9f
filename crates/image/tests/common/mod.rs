//! Images to pack, ways to pack them, and sources to read them from: shared by the tests.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping")]

use std::io::{self, Read, Write};
use std::sync::Arc;

use bmap::ByteRange;
use image::{Format, Image, ImageError, Options, Wanted};

/// Every packing, in the shapes that decode by different paths.
pub(crate) const PACKINGS: &[Packing] = &[
    Packing { name: "raw", format: Format::Raw, pack: |data| data.to_vec() },
    Packing { name: "gzip", format: Format::Gzip, pack: gzip },
    Packing { name: "gzip members", format: Format::Gzip, pack: |data| parts(data, gzip) },
    Packing { name: "zstd", format: Format::Zstd, pack: zstd },
    Packing { name: "zstd frames", format: Format::Zstd, pack: |data| parts(data, zstd_sized) },
    Packing { name: "xz", format: Format::Xz, pack: xz },
    Packing { name: "xz blocks", format: Format::Xz, pack: xz_blocks },
    Packing { name: "xz streams", format: Format::Xz, pack: |data| parts(data, xz_blocks) },
    Packing { name: "bzip2", format: Format::Bzip2, pack: bzip2 },
    Packing { name: "bzip2 streams", format: Format::Bzip2, pack: |data| parts(data, bzip2) },
];

pub(crate) struct Packing {
    pub(crate) name: &'static str,
    pub(crate) format: Format,
    pub(crate) pack: fn(&[u8]) -> Vec<u8>,
}

/// An image with holes, text-like and random parts; its length is no multiple of anything.
pub(crate) fn sample(len: usize) -> Vec<u8> {
    let mut data = vec![0_u8; len];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for (index, part) in data.chunks_mut(10_007).enumerate() {
        for (at, byte) in part.iter_mut().enumerate() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            *byte = match index % 5 {
                0 => seed.to_le_bytes()[0],
                1 => b"block map "[at % 10],
                2 => b'a' + seed.to_le_bytes()[3] % 16,
                _ => 0,
            };
        }
    }
    data
}

/// Packs thirds of the data one by one, and puts them behind one another.
fn parts(data: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    data.chunks(data.len().div_ceil(3).max(1)).flat_map(pack).collect()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// One frame, its length not declared.
pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let mut packed = Vec::new();
    let mut part = vec![0; 1 << 16];
    let mut input = zstd_safe::InBuffer::around(data);
    loop {
        let mut output = zstd_safe::OutBuffer::around(&mut part[..]);
        let end = zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_continue;
        context.compress_stream2(&mut output, &mut input, end).unwrap();
        packed.extend_from_slice(output.as_slice());
        if input.pos() == data.len() {
            break;
        }
    }
    loop {
        let mut output = zstd_safe::OutBuffer::around(&mut part[..]);
        let left = context.end_stream(&mut output).unwrap();
        packed.extend_from_slice(output.as_slice());
        if left == 0 {
            return packed;
        }
    }
}

/// One frame that declares its length.
pub(crate) fn zstd_sized(data: &[u8]) -> Vec<u8> {
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let mut packed = vec![0; zstd_safe::compress_bound(data.len())];
    let len = context.compress2(&mut packed[..], data).unwrap();
    packed.truncate(len);
    packed
}

pub(crate) fn xz(data: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Blocks of 64 KiB, their sizes not in their headers (in the index only).
pub(crate) fn xz_blocks(data: &[u8]) -> Vec<u8> {
    use liblzma::stream::{Action, Check, Status, Stream};
    let mut stream = Stream::new_easy_encoder(0, Check::Crc64).unwrap();
    let mut packed = Vec::new();
    let mut code = |mut input: &[u8], action| loop {
        packed.reserve(1 << 16);
        let before = stream.total_in();
        let status = stream.process_vec(input, &mut packed, action).unwrap();
        input = &input[usize::try_from(stream.total_in() - before).unwrap()..];
        if status == Status::StreamEnd {
            break;
        }
    };
    for block in data.chunks(1 << 16) {
        code(block, Action::FullFlush);
    }
    code(&[], Action::Finish);
    packed
}

/// Blocks of 100 kB, the smallest there are.
pub(crate) fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(1));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// How packed bytes are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    File,
    Stream,
}

pub(crate) const SOURCES: [Source; 2] = [Source::File, Source::Stream];

/// Opens packed bytes as an image.
pub(crate) fn open(packed: &[u8], source: Source, options: &Options) -> Result<Image, ImageError> {
    match source {
        Source::File => {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(packed).unwrap();
            Image::open(file.path(), options)
        }
        Source::Stream => {
            let bytes = io::Cursor::new(packed.to_vec());
            Image::from_reader("standard input", Box::new(Uneven(bytes, 0)), options)
        }
    }
}

/// A reader that gives out uneven portions, as pipes do.
struct Uneven(io::Cursor<Vec<u8>>, usize);

impl Read for Uneven {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 5 + 1;
        let len = into.len().min(self.1 * 1357);
        self.0.read(&mut into[..len])
    }
}

/// Reads an image to its end.
pub(crate) fn read_all(image: Image) -> Result<Vec<u8>, ImageError> {
    let mut reader = image.read(Wanted::All)?;
    let mut data = Vec::new();
    let mut part = vec![0; 70_001];
    loop {
        let count = reader.read(&mut part)?;
        if count == 0 {
            break;
        }
        data.extend_from_slice(&part[..count]);
    }
    assert_eq!(reader.finish()?, u64::try_from(data.len()).unwrap());
    Ok(data)
}

/// Reads ranges of an image, and checks that its length is `len`.
pub(crate) fn read_ranges(image: Image, ranges: &[ByteRange], len: usize) -> Result<Vec<Vec<u8>>, ImageError> {
    let mut reader = image.read(Wanted::Ranges(Arc::from(ranges)))?;
    let mut all = Vec::new();
    for range in ranges {
        reader.skip_to(range.start())?;
        assert_eq!(reader.position(), range.start());
        let mut data = vec![0; usize::try_from(range.len()).unwrap()];
        reader.read_exact(&mut data)?;
        all.push(data);
    }
    assert_eq!(reader.finish()?, u64::try_from(len).unwrap());
    Ok(all)
}

/// A range, for short.
pub(crate) fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}
