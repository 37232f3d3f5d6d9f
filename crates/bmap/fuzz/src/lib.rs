//! What each fuzz target does with its bytes, as plain functions: libFuzzer calls them from `fuzz_targets/`, and the
//! tests here run them over the seeds on any toolchain. Each checks what must hold, beside not panicking.

use std::io::Cursor;

use bmap::sparse::{self, Content, Extent, ExtentKind, Layout, Parser};
use bmap::{BlockRange, BlockSize, xml};

/// A bmap file that parses says the same again when written and parsed.
///
/// The file checksum would stop nearly every mutation at the door, so the bytes are also tried with the checksum that
/// the parser says is right.
pub fn xml(bytes: &[u8]) {
    match xml::parse(bytes) {
        Ok(file) => same_again(bytes, &file),
        Err(xml::XmlError::FileChecksum { expected, found }) => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            // In the case it stands there in, which is one of two unless it is mixed.
            let expected = [expected.to_string(), expected.to_string().to_uppercase()];
            for stated in expected.iter().filter(|stated| text.contains(stated.as_str())) {
                let mended = text.replacen(stated.as_str(), &found.to_string(), 1);
                if let Ok(file) = xml::parse(mended.as_bytes()) {
                    same_again(mended.as_bytes(), &file);
                }
            }
        }
        Err(error) => assert!(error.to_string().len() < 400, "{error}"),
    }
}

fn same_again(bytes: &[u8], file: &xml::BmapFile) {
    assert!(xml::looks_like_bmap(bytes), "taken, but not recognised");
    let map = &file.map;
    let again = xml::parse(xml::write(map).as_bytes()).expect("what we write, we read");
    assert_eq!(&again.map, map);
    let mapped: u64 = map.mapped().map(|(bytes, _)| bytes.len()).sum();
    let holes: u64 = map.holes().map(|hole| hole.len()).sum();
    assert_eq!(mapped, map.mapped_bytes());
    assert_eq!(mapped.checked_add(holes), Some(map.image_size()));
    if let Ok(layout) = Layout::of_map(map) {
        let limit = 100 + map.block_size().bytes() * 4;
        // A plan can be long without any data: keep to what is quick.
        if map.mapped_blocks() < 1000 {
            let splits = sparse::split(&layout, limit).expect("a block fits");
            assert!(splits.iter().all(|split| split.len() <= limit));
        }
    }
}

/// Chunks come in order, cover exactly the image, and end where the parser says it read to; reading their data or
/// skipping it comes to the same.
pub fn sparse_parse(bytes: &[u8]) {
    let walk = |read: bool| -> Result<(u64, u64), String> {
        let mut parser = Parser::new(bytes).map_err(|error| error.to_string())?;
        let (mut next, mut data) = (0, 0);
        while let Some(chunk) = parser.next_chunk().map_err(|error| error.to_string())? {
            assert_eq!(u64::from(chunk.start), next);
            next += u64::from(chunk.header.blocks);
            if let Content::Raw(len) = chunk.content {
                data += len;
                let mut left = len;
                while read && left > 0 {
                    let mut buffer = [0; 1000];
                    let got = parser.read_data(&mut buffer).map_err(|error| error.to_string())?;
                    assert!(got > 0, "the end came before all data was read");
                    left -= u64::try_from(got).expect("small");
                }
            }
        }
        assert_eq!(next, u64::from(parser.header().blocks));
        assert!(parser.offset() <= u64::try_from(bytes.len()).expect("64 bits"));
        Ok((parser.offset(), data))
    };
    // A skip that fails names the chunk's data as a whole, a read the part: only success must agree.
    match (walk(true), walk(false)) {
        (Ok(read), Ok(skipped)) => assert_eq!(read, skipped),
        (read, skipped) => assert_eq!(read.is_err(), skipped.is_err()),
    }
}

/// A sparse image that applies can be planned anew from its chunks, cut small, and gives the same device.
pub fn sparse_apply(bytes: &[u8]) {
    const MOST: u64 = 1 << 18;
    let mut device = Cursor::new(Vec::new());
    let Ok(applied) = sparse::apply(bytes, &mut device, MOST) else { return };
    let mut device = device.into_inner();
    assert!(applied.written <= applied.size && applied.size <= MOST);
    let size = usize::try_from(applied.size).expect("bounded");
    assert!(device.len() <= size);
    device.resize(size, 0);

    let mut parser = Parser::new(bytes).expect("it was applied");
    let block_size: BlockSize = parser.header().block_size;
    let mut extents = Vec::new();
    while let Some(chunk) = parser.next_chunk().expect("it was applied") {
        let kind = match chunk.content {
            Content::Raw(_) => ExtentKind::Data,
            Content::Fill(pattern) => ExtentKind::Fill(pattern),
            Content::DontCare | Content::Crc32(_) => continue,
        };
        let Some(last) = chunk.header.blocks.checked_sub(1) else { continue };
        let first = u64::from(chunk.start);
        extents.push(Extent { blocks: BlockRange::new(first, first + u64::from(last)).expect("ascends"), kind });
    }
    let layout = Layout::new(applied.size, block_size, extents).expect("chunks are in order and inside the image");
    let limit = 28 + 3 * 12 + block_size.bytes() + 2000;
    let mut again = Cursor::new(vec![0; size]);
    for split in sparse::split(&layout, limit).expect("a block fits") {
        let mut written = Vec::new();
        sparse::write_split(&split, &mut Cursor::new(&device), &mut written).expect("the device is long enough");
        assert_eq!(u64::try_from(written.len()).expect("bounded"), split.len());
        assert!(split.len() <= limit);
        sparse::apply(written.as_slice(), &mut again, MOST).expect("what we write, we read");
    }
    assert!(again.into_inner() == device, "the splits give another device");
}

#[cfg(test)]
mod tests {
    /// Runs a target over its seeds and over each of its files cut and changed in simple ways.
    fn seeds(name: &str, target: fn(&[u8])) {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            let bytes = std::fs::read(file).unwrap();
            target(&bytes);
            for place in 0..bytes.len().min(4096) {
                target(&bytes[..place]);
                let mut changed = bytes.clone();
                for change in [1, 0x80, 0xFF] {
                    changed[place] = bytes[place] ^ change;
                    target(&changed);
                }
            }
        }
    }

    #[test]
    fn xml() {
        seeds("xml", super::xml);
    }

    #[test]
    fn sparse_parse() {
        seeds("sparse_parse", super::sparse_parse);
    }

    #[test]
    fn sparse_apply() {
        seeds("sparse_apply", super::sparse_apply);
    }
}
