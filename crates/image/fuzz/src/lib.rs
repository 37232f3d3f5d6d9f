//! What each fuzz target does with its bytes, as plain functions: libFuzzer calls them from `fuzz_targets/`, and the
//! tests here run them over the seeds on any toolchain. Each checks what must hold, beside not panicking.

use std::io::{Cursor, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use bmap::ByteRange;
use image::{Image, ImageError, Options, Wanted};

/// No more than this is unpacked: a few bytes may stand for gigabytes.
const MOST: usize = 4 << 20;

fn options() -> Options {
    Options { threads: NonZeroUsize::new(2).expect("two"), memory: 16 << 20, ..Options::default() }
}

fn from_file(bytes: &[u8]) -> Result<Image, ImageError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    Image::open(file.path(), &options())
}

fn from_stream(bytes: &[u8]) -> Result<Image, ImageError> {
    Image::from_reader("stream", Box::new(Cursor::new(bytes.to_vec())), &options())
}

/// The image's bytes, or its first [`MOST`] if it has more: then the second value is false.
fn read(image: Image) -> Result<(Vec<u8>, bool), ImageError> {
    let mut reader = image.read(Wanted::All)?;
    let mut all = Vec::new();
    let mut part = vec![0; 100_000];
    while all.len() < MOST {
        let count = reader.read(&mut part)?;
        if count == 0 {
            assert_eq!(reader.finish()?, u64::try_from(all.len()).expect("bounded"));
            return Ok((all, true));
        }
        all.extend_from_slice(&part[..count]);
        assert_eq!(reader.position(), u64::try_from(all.len()).expect("bounded"));
    }
    all.truncate(MOST);
    Ok((all, false))
}

/// A file and a stream of the same bytes give the same image; so do its head and any part of it.
fn same_from_everywhere(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let file = from_file(bytes).and_then(read);
    let stream = from_stream(bytes).and_then(read);
    for error in [&file, &stream].into_iter().filter_map(|result| result.as_ref().err()) {
        assert!(error.to_string().len() < 400, "{error}");
    }
    let (all, whole) = match (file, stream) {
        (Ok(file), Ok(stream)) => {
            assert!(file == stream, "the stream gives something else");
            file
        }
        // A file's index is looked at first, and tells of damage that a stream's first bytes do not.
        (Err(_), Ok((_, false)) | Err(_)) => return None,
        (Ok((_, false)), Err(_)) => return None,
        (file, stream) => panic!("file {:?}, stream {:?}", file.err(), stream.err()),
    };
    let mut image = from_stream(bytes).expect("it was read");
    if let Ok(head) = image.head(1000) {
        assert_eq!(head, all[..all.len().min(1000)]);
    }
    if let (true, Ok(image)) = (whole, from_file(bytes)) {
        assert!(image.size().is_none_or(|size| size == u64::try_from(all.len()).expect("bounded")));
        let ends = [all.len() / 5, all.len() / 4, all.len() / 3, all.len() / 2];
        let at = |index: usize| u64::try_from(ends[index]).expect("bounded");
        let range = |index| ByteRange::new(at(index), at(index + 1)).expect("in order");
        let mut reader = image.read(Wanted::Ranges(Arc::new([range(0), range(2)]))).expect("it was read");
        for index in [0, 2] {
            let mut part = vec![0; ends[index + 1] - ends[index]];
            reader.skip_to(at(index)).expect("it was read");
            reader.read_exact(&mut part).expect("it was read");
            assert!(part == all[ends[index]..ends[index + 1]]);
        }
        reader.finish().expect("it was read");
    }
    Some((all, whole))
}

/// gzip.
pub fn gzip(bytes: &[u8]) {
    same_from_everywhere(&[b"\x1f\x8b", bytes].concat());
}

/// zstd.
pub fn zstd(bytes: &[u8]) {
    same_from_everywhere(&[b"\x28\xb5\x2f\xfd", bytes].concat());
}

/// xz.
pub fn xz(bytes: &[u8]) {
    same_from_everywhere(&[b"\xfd7zXZ\0", bytes].concat());
}

/// An xz stream with any bytes for blocks and index, all its CRCs right. The first byte says how many are the index.
pub fn xz_index(bytes: &[u8]) {
    let Some((&split, bytes)) = bytes.split_first() else { return };
    let split = bytes.len().saturating_sub(usize::from(split));
    let flags = [0, 1];
    let crc = |bytes: &[u8]| crc32fast::hash(bytes).to_le_bytes();
    let mut file = [b"\xfd7zXZ\0", &flags[..], &crc(&flags), &bytes[..split]].concat();
    file.resize(file.len().next_multiple_of(4), 0);
    let mut index = bytes[split..].to_vec();
    index.resize(index.len().next_multiple_of(4), 0);
    let backward = u32::try_from(index.len() / 4).expect("small");
    file.extend_from_slice(&index);
    file.extend_from_slice(&crc(&index));
    let footer = [&backward.to_le_bytes()[..], &flags].concat();
    file.extend_from_slice(&crc(&footer));
    file.extend_from_slice(&footer);
    file.extend_from_slice(b"YZ");
    same_from_everywhere(&file);
}

/// bzip2: what is read, another library reads as well, and the same.
pub fn bzip2(bytes: &[u8]) {
    let bytes = [b"BZh", bytes].concat();
    let Some((all, true)) = same_from_everywhere(&bytes) else { return };
    let mut other = Vec::new();
    bzip2::read::MultiBzDecoder::new(&bytes[..]).read_to_end(&mut other).expect("we read it");
    assert!(other == all);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs a target over its seeds, whole, cut, and with bytes changed.
    fn over_seeds(name: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("seeds") {
            let bytes = std::fs::read(entry.expect("a seed").path()).expect("readable");
            target(&bytes);
            let step = bytes.len() / 40 + 1;
            for at in (0..bytes.len()).step_by(step) {
                target(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                target(&changed);
            }
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn gzip() {
        over_seeds("gzip", super::gzip);
    }

    #[test]
    fn zstd() {
        over_seeds("zstd", super::zstd);
    }

    #[test]
    fn xz() {
        over_seeds("xz", super::xz);
    }

    #[test]
    fn xz_index() {
        over_seeds("xz_index", super::xz_index);
    }

    #[test]
    fn bzip2() {
        over_seeds("bzip2", super::bzip2);
    }
}
