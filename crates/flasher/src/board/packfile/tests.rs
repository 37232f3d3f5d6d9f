use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, ByteRange, Hasher, MappedRange};
use image::Image;
use proptest::prelude::*;

use super::*;
use crate::cancel::Cancel;
use crate::event::{Event, Observer, Stage};
use crate::plan::HolePolicy;

const BLOCK: usize = 4096;
const PIECE: u64 = 64 << 10;

/// How a range of an image looks.
#[derive(Debug, Clone, Copy)]
enum Look {
    Random,
    Text,
    Word([u8; 4]),
    /// A word, and at its end something else.
    Mixed,
}

fn fill(look: Look, seed: u64, into: &mut [u8]) {
    let mut random = seed.wrapping_mul(2).wrapping_add(88_172_645_463_325_251);
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        u8::try_from(random & 0xff).unwrap()
    };
    match look {
        Look::Random => into.iter_mut().for_each(|byte| *byte = next()),
        Look::Text => into.iter_mut().enumerate().for_each(|(n, byte)| *byte = b"flash the mapped "[n * n % 1009 % 17]),
        Look::Word(word) => into.iter_mut().zip(word.iter().cycle()).for_each(|(byte, with)| *byte = *with),
        Look::Mixed => {
            into.fill(7);
            into.iter_mut().rev().take(5000).for_each(|byte| *byte = next());
        }
    }
}

/// An image of so many bytes, with these blocks (first, count) looking like that.
struct Sample {
    bytes: Vec<u8>,
    data: Vec<(usize, usize)>,
}

impl Sample {
    fn new(size: usize, parts: &[(usize, usize, Look)]) -> Self {
        let mut bytes = vec![0; size];
        let mut data = Vec::new();
        for (n, (first, count, look)) in (0_u64..).zip(parts) {
            let end = ((first + count) * BLOCK).min(size);
            fill(*look, n, &mut bytes[first * BLOCK..end]);
            data.push((first * BLOCK, end));
        }
        Self { bytes, data }
    }

    fn map(&self, digests: bool) -> BlockMap {
        let range = |&(start, end): &(usize, usize)| {
            let block = |at: usize| u64::try_from(at).unwrap();
            let blocks = BlockRange::new(block(start / BLOCK), block(end.div_ceil(BLOCK) - 1)).unwrap();
            let digest = digests.then(|| Hasher::digest(Algorithm::Sha256, &self.bytes[start..end]));
            MappedRange { blocks, digest }
        };
        let size = u64::try_from(self.bytes.len()).unwrap();
        BlockMap::new(size, BlockSize::DEFAULT, self.data.iter().map(range).collect()).unwrap()
    }

    /// Writes it, with holes where no data is.
    fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("image");
        let file = File::create(&path).unwrap();
        file.set_len(u64::try_from(self.bytes.len()).unwrap()).unwrap();
        for (start, end) in &self.data {
            file.write_all_at(&self.bytes[*start..*end], u64::try_from(*start).unwrap()).unwrap();
        }
        path
    }

    fn pack(&self, folder: &Path, map: Option<&BlockMap>) -> Result<(PathBuf, Packed), FlashError> {
        self.watched(folder, map, &(), &Cancel::new())
    }

    fn watched(
        &self,
        folder: &Path,
        map: Option<&BlockMap>,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<(PathBuf, Packed), FlashError> {
        let image = Image::open(&self.write(folder), &image::Options::default()).unwrap();
        let path = folder.join("pack");
        let packed = make_pack(PackJob {
            image,
            map,
            level: 9,
            piece_len: PIECE,
            threads: NonZeroUsize::new(3).unwrap(),
            check_digests: true,
            out: &File::create(&path).unwrap(),
            observer,
            cancel,
        })?;
        Ok((path, packed))
    }

    /// What a pack of this holds is this.
    fn assert_in(&self, pack: &Pack) {
        let size = u64::try_from(self.bytes.len()).unwrap();
        assert_eq!(pack.index().image_size(), size);
        for to in [To::Emmc, To::Partition("root".to_owned())] {
            for holes in [HolePolicy::Auto, HolePolicy::Zero] {
                let keep = vec![ByteRange::new(512, 40_960).unwrap()];
                for keep in [vec![], keep] {
                    let wishes = Wishes { holes, keep, piece_len: Some(4 << 20), ..Wishes::default() };
                    let plan = pack.plan(&to, &wishes).unwrap();
                    assert!(pack.fits(&plan), "{to} {wishes:?}");
                    let cut = plan.pieces().filter(|piece| piece.kind == Kind::Data).map(|piece| piece.extent);
                    let stored = pack.index().entries().iter().map(|entry| entry.extent);
                    assert!(!wishes.keep.is_empty() || cut.eq(stored), "{to} {wishes:?}");
                }
            }
        }
        let mut seen = vec![0; self.bytes.len()];
        for entry in pack.index().entries() {
            let range = usize::try_from(entry.extent.start()).unwrap()..usize::try_from(entry.extent.end()).unwrap();
            pack.unpack(entry, &mut seen[range.clone()]).unwrap();
            let bytes = &self.bytes[range];
            assert_eq!(entry.crc32, crc32fast::hash(bytes));
            assert_eq!(entry.sha256, Hasher::digest(Algorithm::Sha256, bytes));
            assert_eq!(entry.fills, crate::board::fill::find(entry.extent, bytes));
            if let Some(frame) = pack.frame(entry).unwrap() {
                // What `unlz4` takes: independent blocks, no checksums, no dictionary.
                assert_eq!(frame[4] & 0b1111_0101, 0b0110_0000);
                let mut back = vec![0; bytes.len()];
                assert!(inflate(&frame, &mut back).is_some() && back == bytes);
                assert!(inflate(&frame, &mut vec![0; bytes.len() + 1]).is_none(), "too short");
                assert!(inflate(&frame, &mut back[1..]).is_none(), "too long");
            }
        }
        assert!(seen == self.bytes);
        let len = self.bytes.len().min(100_000);
        assert!(pack.front(len).unwrap() == self.bytes[..len]);
    }
}

/// Of everything something: table-less, every form, a short last block.
fn sample() -> Sample {
    let parts = [
        (0, 1, Look::Text),
        (8, 3, Look::Random),
        (100, 40, Look::Mixed),
        (160, 32, Look::Word([1, 2, 3, 4])),
        (250, 60, Look::Text),
        (320, 3, Look::Text),
    ];
    Sample::new(323 * BLOCK - 1000, &parts)
}

fn look() -> impl Strategy<Value = Look> {
    prop_oneof![Just(Look::Random), Just(Look::Text), any::<[u8; 4]>().prop_map(Look::Word), Just(Look::Mixed)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_was_packed_is_what_opens(
        parts in prop::collection::vec((0_usize..40, 1_usize..70, look()), 1..8),
        behind in 0_usize..30,
        cut in 0_usize..BLOCK,
        mapped in prop::option::of(any::<bool>()),
    ) {
        let mut at = 0;
        let parts: Vec<_> = parts.into_iter().map(|(gap, count, look)| {
            let first = at + gap;
            at = first + count;
            (first, count, look)
        }).collect();
        let sample = Sample::new((at + behind) * BLOCK - cut, &parts);
        let map = mapped.map(|digests| sample.map(digests));
        let folder = tempfile::tempdir().unwrap();
        let (path, packed) = sample.pack(folder.path(), map.as_ref()).unwrap();
        let pack = open_pack(&path).unwrap();
        prop_assert_eq!(pack.map(), map.as_ref());
        prop_assert_eq!((packed.file_len, packed.data), (pack.file_len(), pack.index().data()));
        prop_assert_eq!((packed.packed, packed.pieces), (pack.index().packed(), pack.index().entries().len()));
        sample.assert_in(&pack);
        let again = pack.index().to_bytes().unwrap();
        let end = pack.file_len() - u64::try_from(again.len()).unwrap();
        prop_assert_eq!(&Index::parse(&again, end).unwrap(), pack.index());
    }
}

#[test]
fn a_file_of_version_1_opens_for_ever() {
    // Made by this program on the day the format was fixed, from `sample` with a map.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1.mfpack");
    let pack = open_pack(&path).unwrap();
    let sample = sample();
    assert_eq!(pack.map(), Some(&sample.map(true)));
    assert_eq!((pack.index().piece_len(), pack.index().level(), pack.index().head()), (PIECE, 9, 1 << 20));
    sample.assert_in(&pack);
    // All three forms are in it.
    let count = |is: fn(&Stored) -> bool| pack.index().entries().iter().filter(|entry| is(&entry.stored)).count();
    let forms = [
        count(|stored| matches!(stored, Stored::Raw { .. })),
        count(|stored| matches!(stored, Stored::Lz4 { .. })),
        count(|stored| matches!(stored, Stored::Word(_))),
    ];
    assert!(forms.iter().all(|count| *count > 0), "{forms:?}");
    // The same image makes the same pack today, but for what LZ4 makes of it.
    let folder = tempfile::tempdir().unwrap();
    let (today, _) = sample.pack(folder.path(), pack.map()).unwrap();
    let today = open_pack(&today).unwrap();
    let facts = |pack: &Pack| {
        let entries = pack.index().entries().iter();
        entries.map(|entry| (entry.extent, entry.crc32, entry.sha256, entry.fills.clone())).collect::<Vec<_>>()
    };
    assert_eq!(facts(&today), facts(&pack));
}

#[test]
fn a_changed_file_is_found_out_before_or_when_it_is_read() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = sample.pack(folder.path(), Some(&sample.map(true))).unwrap();
    let good = std::fs::read(&path).unwrap();
    let end = usize::try_from(u64::from_le_bytes(good[16..24].try_into().unwrap())).unwrap();
    let open = |bytes: &[u8]| {
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(bytes).unwrap();
        use std::io::Seek as _;
        (&file).rewind().unwrap();
        Pack::new("changed", file)
    };
    for at in (0..512).chain((end..good.len()).step_by(37)) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let error = open(&bad).unwrap_err();
        match at {
            0..8 => assert!(matches!(error, PackError::NotAPack { .. }), "{at}: {error}"),
            8..12 => assert!(matches!(error, PackError::Version { .. }), "{at}: {error}"),
            12..512 => assert!(matches!(error, PackError::Header), "{at}: {error}"),
            _ => assert!(matches!(error, PackError::IndexDigest), "{at}: {error}"),
        }
    }
    for len in (0..good.len()).step_by(997).chain([good.len() - 1]) {
        let error = open(&good[..len]).unwrap_err();
        let right = match len {
            0..8 => matches!(error, PackError::NotAPack { .. }),
            8..512 => matches!(error, PackError::Header),
            _ => matches!(error, PackError::Length { .. }),
        };
        assert!(right, "{len}: {error}");
    }
    assert!(matches!(open(&[&good[..], b"x"].concat()), Err(PackError::Length { .. })));
    for entry in open(&good).unwrap().index().entries() {
        let (Stored::Raw { at } | Stored::Lz4 { at, .. }) = entry.stored else { continue };
        let mut bad = good.clone();
        bad[usize::try_from(at).unwrap() + 3] ^= 1;
        let pack = open(&bad).unwrap();
        let mut into = vec![0; usize::try_from(PIECE).unwrap()];
        let error = pack.unpack(entry, &mut into).unwrap_err();
        assert!(matches!(error, PackError::Damaged { extent } if extent == entry.extent), "{error}");
        for other in pack.index().entries().iter().filter(|other| other.extent != entry.extent) {
            pack.unpack(other, &mut into).unwrap();
        }
    }
}

#[test]
fn an_index_that_parses_is_written_the_same_and_others_are_typed_errors() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    for map in [Some(sample.map(true)), Some(sample.map(false)), None] {
        let (path, _) = sample.pack(folder.path(), map.as_ref()).unwrap();
        let pack = open_pack(&path).unwrap();
        let good = pack.index().to_bytes().unwrap();
        let end = pack.file_len() - u64::try_from(good.len()).unwrap();
        let mut taken = 0;
        for at in 0..good.len() {
            for change in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= change;
                match Index::parse(&bytes, end) {
                    Ok(index) => {
                        taken += 1;
                        assert_eq!(index.to_bytes().unwrap(), bytes, "{at}");
                    }
                    Err(PackError::Index { .. } | PackError::Map(_)) => {}
                    Err(error) => panic!("{at}: {error}"),
                }
            }
            assert!(Index::parse(&good[..at], end).is_err());
        }
        // Digests, sums and words are taken as they are.
        assert!(taken > 0);
        assert!(Index::parse(&good, end + 512).is_err() && Index::parse(&good, 0).is_err());
    }
}

#[test]
fn counts_that_no_file_holds_allocate_nothing() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = sample.pack(folder.path(), Some(&sample.map(true))).unwrap();
    let pack = open_pack(&path).unwrap();
    let good = pack.index().to_bytes().unwrap();
    // Loaders, ranges, pieces, runs; and the length of the image, which makes holes to plan.
    for at in [24, 32, 44, 48] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Index::parse(&bytes, 0), Err(PackError::Index { .. })));
    }
    let mut bytes = good.clone();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(Index::parse(&bytes, 0), Err(PackError::Index { .. })));
}

#[test]
fn an_image_that_is_not_its_maps_makes_no_pack() {
    let mut sample = sample();
    let map = sample.map(true);
    sample.bytes[300 * BLOCK] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let error = sample.pack(folder.path(), Some(&map)).unwrap_err();
    assert!(matches!(error, FlashError::RangeDigest(_)), "{error}");
    let error = open_pack(&folder.path().join("pack")).unwrap_err();
    assert!(matches!(error, PackError::NotAPack { .. }), "{error}");
}

#[test]
fn a_job_tells_how_far_it_is_and_stops_when_asked() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    let seen = Mutex::new((None, 0));
    let observer = |event: &Event| match event {
        Event::Stage { stage: Stage::Pack, total } => seen.lock().unwrap().0 = *total,
        Event::Progress { stage: Stage::Pack, done, .. } => {
            let mut seen = seen.lock().unwrap();
            assert!(*done > seen.1);
            seen.1 = *done;
        }
        _ => {}
    };
    let (_, packed) = sample.watched(folder.path(), None, &observer, &Cancel::new()).unwrap();
    assert_eq!(*seen.lock().unwrap(), (Some(packed.data), packed.data));
    assert!(packed.raw > 0 && packed.packed < packed.data);

    let cancel = Cancel::new();
    let stop = |event: &Event| {
        if matches!(event, Event::Progress { .. }) {
            cancel.cancel();
        }
    };
    let error = sample.watched(folder.path(), None, &stop, &cancel).unwrap_err();
    assert!(matches!(error, FlashError::Cancelled), "{error}");
    assert!(open_pack(&folder.path().join("pack")).is_err());
}

#[test]
fn a_plan_of_another_image_is_told() {
    let (one, folder) = (sample(), tempfile::tempdir().unwrap());
    let (path, _) = one.pack(folder.path(), Some(&one.map(false))).unwrap();
    let pack = open_pack(&path).unwrap();
    let other = Sample::new(one.bytes.len(), &[(3, 9, Look::Text)]);
    let (path, _) = other.pack(folder.path(), Some(&other.map(false))).unwrap();
    let plan = open_pack(&path).unwrap().plan(&To::Emmc, &Wishes::default()).unwrap();
    assert!(!pack.fits(&plan));
    assert!(pack.entry(ByteRange::first(BLOCK.try_into().unwrap())).is_some());
    assert!(pack.entry(ByteRange::first(1)).is_none());
}
