//! Boot images that were damaged: what is said of each damage, and that nothing is said of a byte that nobody reads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in helpers outside of tests too")]

mod support;

use imx_usb::bootimage::container::Container;
use imx_usb::bootimage::describe::{Finding, describe};
use imx_usb::bootimage::stages::stages;
use imx_usb::bootimage::{ImageError, marks};
use support::{data, fixture};

fn names() -> Vec<String> {
    let names = std::fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| name.strip_suffix(".gz").map(str::to_owned)).collect();
    names.sort();
    assert!(names.len() > 40);
    names
}

fn containers(bytes: &[u8]) -> Vec<Container> {
    let findings = describe(bytes).findings.into_iter();
    findings
        .filter_map(|finding| match finding {
            Finding::Container(container) | Finding::UBoot(container) => Some(container),
            _ => None,
        })
        .collect()
}

/// Fixture, place, what is put there, and the first thing that is said to be wrong then.
const TABLE: &[(&str, usize, &[u8], &str)] = &[
    ("imx6.imx", 12, &[0, 0, 0x81, 0x27], "the DCD pointer 0x27810000 of the image at 0x0 leads out of the file"),
    ("imx6.imx", 0x2c, &[0xd3], "the DCD at 0x2c begins with 0xd3 instead of 0xd2"),
    ("imx6.imx", 0x2d, &[0xff, 0xff], "the DCD at 0x2c should have 0xffff bytes, but the file ends at 0x2c00"),
    ("imx6.imx", 16, &[0; 4], "the boot data pointer 0x00000000 of the image at 0x0 leads out of the file"),
    (
        "imx6.imx",
        0x20,
        &[0, 0, 0x80],
        "the image at 0x0 begins at 0x27800000, after its table at 0x277ff400, or ends before it",
    ),
    ("imx6.imx", 0x24, &[0, 0, 0x10], "the image at 0x0 should have 0xffc00 bytes, but the file ends at 0x2c00"),
    ("imx8qxp.bin", 1, &[0x20, 0], "the container at 0x0 has 0x20 bytes, too few for 3 images"),
    ("imx8qxp.bin", 11, &[200], "the container at 0x0 has 0x1a0 bytes, too few for 200 images"),
    (
        "imx8qxp.bin",
        12,
        &[0, 2],
        "the signature block of the container at 0x0 should be 0x200 bytes into it, which is outside",
    ),
    ("imx8qxp.bin", 0x193, &[0x91], "the signature block at 0x190 begins with 0x91 instead of 0x90"),
    (
        "imx8qxp.bin",
        0x10,
        &[0, 0, 1],
        "an image of a container at 0x10000 should have 0x800 bytes, but the file ends at 0x3400",
    ),
    (
        "imx8qxp.bin",
        0x14,
        &[0, 0, 1],
        "an image of a container at 0x2000 should have 0x10000 bytes, but the file ends at 0x3400",
    ),
    (
        "imx93-flash.bin",
        0x2400,
        &[1],
        "image 0 of the container at 0x400, which lies at 0x2400, does not match its hash",
    ),
    (
        "imx93-flash.bin",
        0x4c00,
        &[1],
        "image 1 of the container at 0x2800, which lies at 0x4c00, does not match its hash",
    ),
    ("imx95-flash.bin", 0x8003, &[0x86], "only NXP's own firmware is at 0x0, and no container with a loader at 0x8000"),
    ("u-boot.itb", 4, &[0, 1, 0, 0], "the FIT at 0x0 should have 0x10000 bytes, but the file ends at"),
    (
        "u-boot.img",
        12,
        &[0, 0, 0x20, 0],
        "the U-Boot image at 0x0 should have 0x2040 bytes, but the file ends at 0x13c8",
    ),
];

#[test]
fn each_damage_is_named() {
    let mut others = Vec::new();
    for (name, at, bytes, expected) in TABLE {
        let mut image = fixture(name);
        image[*at..*at + bytes.len()].copy_from_slice(bytes);
        let problems = describe(&image).problems;
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        if !first.starts_with(expected) {
            others.push(format!("{name} {at:#x}: {problems:?}"));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

/// Every image that has a hash, changed in one bit at its beginning, middle and end.
#[test]
fn a_changed_byte_of_an_image_is_found() {
    let mut images = 0;
    for name in names() {
        let whole = fixture(&name);
        for container in containers(&whole) {
            for (n, entry) in container.entries.iter().enumerate().filter(|(_, entry)| entry.length > 0) {
                assert_eq!(container.matches_hash(entry, &whole), Some(true), "{name}");
                let start = container.at + usize::try_from(entry.offset).unwrap();
                let length = usize::try_from(entry.length).unwrap();
                for place in [start, start + length / 2, start + length - 1] {
                    let mut changed = whole.clone();
                    changed[place] ^= 0x10;
                    let problems = describe(&changed).problems;
                    let wanted = |error: &ImageError| matches!(error, ImageError::Hash { container: at, image, .. } if (*at, *image) == (container.at, n));
                    assert!(problems.iter().any(wanted), "{name} {place:#x}: {problems:?}");
                }
                images += 1;
            }
        }
    }
    assert!(images > 30, "{images}");
}

/// Where the last thing ends that was found.
fn needed(bytes: &[u8]) -> usize {
    let ends = describe(bytes).findings.into_iter().filter_map(|finding| match finding {
        Finding::Container(container) | Finding::UBoot(container) => Some(container.end()),
        Finding::Ivt { ivt, .. } => ivt.least_end().ok(),
        Finding::Fit(fit) => u64::try_from(fit.at).ok()?.checked_add(fit.whole),
        Finding::Legacy(legacy) => u64::try_from(legacy.at).ok()?.checked_add(u64::from(legacy.length) + 64),
        _ => None,
    });
    usize::try_from(ends.max().unwrap()).unwrap()
}

/// A file that was cut is either said to be, or there is less to be seen in it.
#[test]
fn a_cut_file_is_noticed() {
    for name in names() {
        let whole = fixture(&name);
        let (all, end) = (describe(&whole).findings.len(), needed(&whole));
        assert!(end <= whole.len(), "{name}");
        let near = (0..end.min(0x600)).chain(end.saturating_sub(0x40)..end);
        let far = (0..end).step_by((end / 97).max(1));
        for cut in near.chain(far) {
            let description = describe(&whole[..cut]);
            let noticed = !description.problems.is_empty() || description.findings.len() < all;
            assert!(noticed, "{name} at {cut:#x} of {end:#x}: {description}");
        }
        assert_eq!(describe(&whole[..end]).problems, [], "{name} at {end:#x}");
    }
}

/// Any byte of the structures, set to anything: there are no panics, and what would be sent lies in the file.
#[test]
fn no_byte_breaks_the_readers() {
    for name in names() {
        let whole = fixture(&name);
        // Where structures lie: vector tables, containers and marks.
        let mut places: Vec<usize> = (0..0x60).chain(0x1f0..0x200).collect();
        for finding in describe(&whole).findings {
            match finding {
                Finding::Container(container) | Finding::UBoot(container) => {
                    places.extend(container.at..container.at + 16 + 128 * container.entries.len());
                }
                Finding::Ivt { ivt, .. } => places.extend(ivt.at..ivt.at + 0x30),
                Finding::Fit(fit) => places.extend(fit.at..fit.at + 40),
                Finding::Legacy(legacy) => places.extend(legacy.at..legacy.at + 64),
                _ => {}
            }
        }
        let length = whole.len().min(0xe000);
        let mut image = whole[..length].to_vec();
        for place in places.into_iter().filter(|place| *place < length) {
            let before = image[place];
            for value in [0, 0x7f, 0xff, before ^ 1] {
                image[place] = value;
                let description = describe(&image);
                assert!(description.to_string().len() < 80 * 300);
                let errors = description.problems.iter().map(|error| error.to_string().len());
                assert!(errors.max().unwrap_or(0) < 300 && description.problems.len() < 2000);
                if let Some(Ok(found)) = stages(&image, &description) {
                    assert!(
                        found.parts.iter().all(|part| !part.bytes.is_empty() && part.bytes.end <= length),
                        "{name}"
                    );
                }
            }
            image[place] = before;
        }
    }
}

/// The tag behind a loader with another length, or cut off, is an error and not a shorter loader.
#[test]
fn a_disk_image_with_a_damaged_tag() {
    let loader = fixture("imx8mm.bin");
    let mut disk = vec![0; 0x8400];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk.extend(&loader);
    let tag = disk.len();
    disk.extend(marks::LOADER_TAG);
    disk.extend(format!("{}\n", loader.len()).as_bytes());
    disk.resize(0x2_0000, 0);
    assert_eq!(marks::tagged_loader(&disk), Ok(0x8400..tag));
    let found = stages(&disk, &describe(&disk)).unwrap().unwrap();
    assert_eq!((found.parts.len(), &found.parts[0].bytes), (1, &(0x8400..tag)));
    disk[tag + 3] = b'?';
    assert_eq!(marks::tagged_loader(&disk), Err(ImageError::NoTag(0x2_0000)));
    // The loader is still where a ROM looks for it.
    assert_eq!(describe(&disk).loader_at(), Some(0x8400));
}
