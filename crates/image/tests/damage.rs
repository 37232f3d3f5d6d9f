//! Damaged images, in every packing and from every kind of source: an error or the right bytes, never wrong ones.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping")]

mod common;

use common::{PACKINGS, Packing, SOURCES, Source, open, range, read_all, read_ranges, sample};
use image::{Format, Image, ImageError, Options, Wanted};

fn packed() -> impl Iterator<Item = (&'static Packing, Vec<u8>)> {
    PACKINGS
        .iter()
        .filter(|packing| packing.format != Format::Raw)
        .map(|packing| (packing, (packing.pack)(&sample(150_000))))
}

/// What becomes of packed bytes: whole, and once more by ranges.
fn decode(packed: &[u8], source: Source) -> Result<Vec<u8>, ImageError> {
    let all = open(packed, source, &Options::default()).and_then(read_all);
    if let Some(all) = all.as_ref().ok().filter(|all| all.len() > 100_100) {
        let ranges = [range(10, 20), range(100_000, 100_100)];
        let parts = read_ranges(open(packed, source, &Options::default()).unwrap(), &ranges, all.len()).unwrap();
        assert_eq!(parts, [&all[10..20], &all[100_000..100_100]]);
    }
    all
}

#[test]
fn a_file_that_is_cut_short_is_never_whole() {
    for (packing, packed) in packed() {
        // Every length near the ends, and some between.
        let step = packed.len() / 60;
        let near = |len: &usize| *len < 60 || *len > packed.len() - 60 || len.is_multiple_of(step);
        for len in (1..packed.len()).filter(near) {
            for source in SOURCES {
                let cut = &packed[..len];
                match decode(cut, source) {
                    // Cut between two streams or frames, what is left is a whole file of a shorter image.
                    Ok(data) => assert!(
                        packing.name.ends_with('s')
                            && data == sample(150_000)[..data.len()]
                            && data.len() % 50_000 == 0,
                        "{} {source:?} cut at {len}",
                        packing.name
                    ),
                    Err(ImageError::Truncated { packed, .. }) => assert!(packed <= u64::try_from(len).unwrap()),
                    Err(ImageError::Corrupt { .. }) => {}
                    Err(error) => panic!("{} {source:?} cut at {len}: {error}", packing.name),
                }
            }
        }
    }
}

#[test]
fn a_file_cut_short_is_called_so() {
    for (packing, packed) in packed() {
        for source in SOURCES {
            let error = decode(&packed[..packed.len() - packed.len() / 7], source).unwrap_err();
            // From its end an xz file that is cut short looks like any file that does not end in a footer.
            let by_index = packing.format == Format::Xz && source == Source::File;
            let text = error.to_string();
            assert!(text.contains("cut short"), "{} {source:?}: {text}", packing.name);
            assert_eq!(matches!(error, ImageError::Corrupt { .. }), by_index, "{} {source:?}: {text}", packing.name);
        }
    }
}

#[test]
fn any_changed_byte_is_found() {
    for (packing, packed) in packed() {
        let data = sample(150_000);
        let step = packed.len() / 150;
        let near = |at: &usize| *at < 40 || *at > packed.len() - 60 || at.is_multiple_of(step);
        for at in (0..packed.len()).filter(near) {
            let mut damaged = packed.clone();
            damaged[at] ^= [0x01, 0x80, 0xff][at % 3];
            for source in SOURCES {
                let image = open(&damaged, source, &Options::default());
                // Without its magic number a file is what its bytes are: a raw image or something not read here.
                if image.as_ref().is_ok_and(|image| image.format() == Format::Raw) {
                    assert!(at < 6);
                    continue;
                }
                match image.and_then(read_all) {
                    // Some bits of headers mean nothing to the data: times and names, a level that is too high.
                    Ok(all) => assert!(all == data, "{} {source:?} changed at {at}", packing.name),
                    Err(error) => assert!(
                        matches!(
                            error,
                            ImageError::Corrupt { .. }
                                | ImageError::Truncated { .. }
                                | ImageError::Junk { .. }
                                | ImageError::Unsupported { .. }
                                | ImageError::UnsupportedFeature { .. }
                                | ImageError::LargeWindow { .. }
                                | ImageError::Memory { .. }
                        ),
                        "{} {source:?} changed at {at}: {error}",
                        packing.name
                    ),
                }
            }
        }
    }
}

#[test]
fn other_bytes_behind_the_end_are_named() {
    for (packing, packed) in packed() {
        for source in SOURCES {
            for junk in [&b"x"[..], b"\0\0\0\0\0\0\0\0x", &[0xff; 100], b"junk behind the data"] {
                let error = decode(&[&packed, junk].concat(), source).unwrap_err();
                match error {
                    ImageError::Junk { packed: at, .. } => {
                        // In xz, fours of zeros are padding, and the junk begins behind them.
                        let padding = if packing.format == Format::Xz && junk[0] == 0 { 8 } else { 0 };
                        assert_eq!(at, u64::try_from(packed.len() + padding).unwrap());
                    }
                    // An xz file is read from its end, where there must be a footer.
                    ImageError::Corrupt { .. } if packing.format == Format::Xz => {}
                    error => panic!("{} {source:?} {junk:?}: {error}", packing.name),
                }
            }
        }
    }
}

#[test]
fn zeros_may_pad_gzip_and_xz() {
    for (packing, packed) in packed() {
        for source in SOURCES {
            let padded = decode(&[&packed[..], &[0; 512]].concat(), source);
            match packing.format {
                Format::Gzip | Format::Xz => assert!(padded.unwrap() == sample(150_000)),
                _ => assert!(matches!(padded, Err(ImageError::Junk { .. }))),
            }
        }
    }
}

#[test]
fn after_an_error_there_is_only_error() {
    for (packing, packed) in packed() {
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 8].fill(0x5a);
        for source in SOURCES {
            let Ok(image) = open(&damaged, source, &Options::default()) else { continue };
            let mut reader = image.read(Wanted::All).unwrap();
            reader.finish().unwrap_err();
            for _ in 0..3 {
                let error = reader.read(&mut [0; 10]).unwrap_err();
                assert!(matches!(error, ImageError::Failed { .. }), "{} {source:?}: {error}", packing.name);
                assert!(reader.finish().is_err() && reader.skip_to(reader.position()).is_err());
            }
        }
    }
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let zip = open(b"PK\x03\x04 and so on", Source::File, &Options::default()).unwrap_err();
    assert!(zip.to_string().ends_with("is a zip archive, which is not read as an image"), "{zip}");
    for first in [
        &b"\x04\x22\x4d\x18...."[..],
        b"\x89LZO\0\r\n\x1a\n",
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!\x1a\x07\x01\0",
        b"QFI\xfb",
        b"LRZI\0\x06",
        b"conectix\0\0\0\x02\0\x01\0\0",
        b"# Disk DescriptorFile\nversion=1\n",
        b"\x1f\x9d\x90\x62\xc2",
        b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x20\x10",
    ] {
        for source in SOURCES {
            assert!(matches!(open(first, source, &Options::default()), Err(ImageError::Unsupported { .. })));
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let error = Image::open(directory.path(), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("is a directory, not a file or block device"), "{error}");
    let error = Image::open("/dev/null".as_ref(), &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "/dev/null is a character device, not a file or block device");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(Image::open(&pipe, &Options::default()), Err(ImageError::NotAFile { what: "a pipe", .. })));
    let error = Image::open(&directory.path().join("missing"), &Options::default()).unwrap_err();
    assert!(error.to_string().starts_with("cannot open /"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("No such file"));
}

#[test]
fn large_windows_need_leave() {
    // A frame with a window of 256 MiB and one empty raw block.
    let frame = b"\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00";
    for source in SOURCES {
        let error = open(frame, source, &Options::default()).and_then(read_all).unwrap_err();
        assert!(matches!(error, ImageError::LargeWindow { window, .. } if window == 256 << 20), "{error}");
        let options = Options { allow_large_windows: true, ..Options::default() };
        assert_eq!(open(frame, source, &options).and_then(read_all).unwrap(), b"");
        // Leave for large windows is none to pass the limit on memory with others.
        let small = b"\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00";
        let options = Options { memory: 100 << 20, ..options };
        let error = open(small, source, &options).and_then(read_all).unwrap_err();
        assert!(matches!(error, ImageError::Memory { needed: Some(0x800_0000), .. }), "{error}");
    }
}

#[test]
fn too_little_memory_is_said() {
    let data = sample(300_000);
    for packing in PACKINGS.iter().filter(|packing| packing.format == Format::Xz) {
        for source in SOURCES {
            let options = Options { memory: 200_000, ..Options::default() };
            let error = open(&(packing.pack)(&data), source, &options).and_then(read_all).unwrap_err();
            let ImageError::Memory { needed: Some(needed), limit: 200_000, .. } = error else {
                panic!("{} {source:?}: {error}", packing.name)
            };
            // A dictionary of 256 KiB (-0) or 1 MiB (-1), and the decoder around it.
            assert!((256 << 10..3 << 20).contains(&needed), "{needed}");
        }
    }
}
