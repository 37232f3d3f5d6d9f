//! What each fuzz target does with its bytes, as plain functions: libFuzzer calls them from `fuzz_targets/`, and the
//! tests here run them over the seeds on any toolchain. Each checks what must hold, beside not panicking.

use std::io::{Seek as _, Write as _};

use bmap::{Algorithm, Hasher};
use flasher::board::packfile::{Index, MAX_INDEX, VERSION};
use flasher::board::{Pack, PackError, To, Wishes};
use flasher::plan::Kind;

/// The index of a pack file, whose payload ends where the first eight bytes say. What parses is written the same.
pub fn pack_index(bytes: &[u8]) {
    let Some((end, bytes)) = bytes.split_first_chunk() else { return };
    match Index::parse(bytes, u64::from_le_bytes(*end)) {
        Ok(index) => {
            assert!(index.to_bytes().expect("it was read") == bytes);
            assert!(index.packed() <= index.data() && index.data() <= index.image_size());
        }
        Err(PackError::Index { .. } | PackError::Map(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A pack file with this payload and index. The header's digest would stop every mutation at the door, so it is made
/// here, by the format's description.
pub fn pack_file(bytes: &[u8]) {
    let Some((len, bytes)) = bytes.split_first_chunk() else { return };
    let len = usize::try_from(u32::from_le_bytes(*len)).expect("64 bits").min(bytes.len());
    let (payload, index) = bytes.split_at(len);
    let wide = |len: usize| u64::try_from(len).expect("64 bits");
    let mut file = b"\x8dMFPACK\n".to_vec();
    file.extend(VERSION.to_le_bytes());
    file.extend([0; 4]);
    file.extend((512 + wide(payload.len())).to_le_bytes());
    file.extend(wide(index.len()).to_le_bytes());
    file.extend(Hasher::digest(Algorithm::Sha256, index).as_bytes());
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file.resize(512, 0);
    file.extend(payload);
    file.extend(index);
    let mut on_disk = tempfile::tempfile().expect("there is room");
    on_disk.write_all(&file).and_then(|()| on_disk.rewind()).expect("there is room");
    assert!(wide(index.len()) <= MAX_INDEX);
    let pack = match Pack::new("fuzzed", on_disk) {
        Ok(pack) => pack,
        Err(PackError::Index { .. } | PackError::Map(_)) => return,
        Err(error) => panic!("{error}"),
    };
    // A plan of what opens wants what is there.
    for to in [To::Emmc, To::Partition("a".to_owned())] {
        let plan = pack.plan(&to, &Wishes::default()).expect("it opened");
        let data = plan.pieces().filter(|piece| piece.kind == Kind::Data).map(|piece| piece.extent);
        assert!(data.eq(pack.index().entries().iter().map(|entry| entry.extent)));
    }
    match pack.front(1 << 20) {
        Ok(front) => {
            let whole = |end: u64| usize::try_from(end).ok().filter(|end| *end <= front.len());
            for entry in pack.index().entries() {
                let (Some(start), Some(end)) = (whole(entry.extent.start()), whole(entry.extent.end())) else { break };
                assert_eq!(crc32fast::hash(&front[start..end]), entry.crc32);
            }
        }
        Err(PackError::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
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
    fn pack_index() {
        seeds("pack_index", super::pack_index);
    }

    #[test]
    fn pack_file() {
        seeds("pack_file", super::pack_file);
    }
}
