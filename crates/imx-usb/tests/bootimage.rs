//! Boot images: those in `data/` (see its README), and some put together here for what no tool at hand makes.

#![allow(clippy::unwrap_used)] // in helpers outside of tests too

mod support;

use std::sync::LazyLock;

use imx_usb::bootimage::container::{Container, FcbCopy, Signer, loader_span, sequence};
use imx_usb::bootimage::describe::{Family, describe};
use imx_usb::bootimage::ivt::{self, Signature};
use imx_usb::bootimage::part::{Start, after_spl, barebox_second, for_stream};
use imx_usb::bootimage::{ImageError, SCAN_BYTES, marks};
use imx_usb::chips::StreamExtent;
use support::fixture;

static IMX6: LazyLock<&[u8]> = LazyLock::new(|| fixture("imx6.imx").leak());
static IMX8MM: LazyLock<&[u8]> = LazyLock::new(|| fixture("imx8mm.bin").leak());
static IMX8MP: LazyLock<&[u8]> = LazyLock::new(|| fixture("imx8mp.bin").leak());
static IMX8QXP: LazyLock<&[u8]> = LazyLock::new(|| fixture("imx8qxp.bin").leak());
static IMX93: LazyLock<&[u8]> = LazyLock::new(|| fixture("imx93.bin").leak());
static IMX93_SIGNED: LazyLock<&[u8]> = LazyLock::new(|| fixture("imx93-signed.bin").leak());
static IMX95: LazyLock<&[u8]> = LazyLock::new(|| fixture("imx95.bin").leak());

fn put(bytes: &mut [u8], at: usize, words: &[u32]) {
    for (n, word) in words.iter().enumerate() {
        bytes[at + 4 * n..at + 4 * n + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// A table at `at`, its boot data behind it.
fn put_ivt(bytes: &mut [u8], at: usize, version: u8, address: u32, length: u32, plugin: u32) {
    let tag = u32::from_le_bytes([0xd1, 0, 0x20, version]);
    put(bytes, at, &[tag, address + 0x40, 0, 0, address + 32, address, 0, 0, address, length, plugin]);
}

/// A container at `at` with images given by (offset, length, type).
fn put_container(bytes: &mut [u8], at: usize, version: u8, tag: u8, flags: u32, images: &[(u32, u32, u32)]) {
    let length = u16::try_from(16 + 128 * images.len() + 16).unwrap().to_le_bytes();
    bytes[at..at + 4].copy_from_slice(&[version, length[0], length[1], tag]);
    put(bytes, at + 4, &[flags]);
    bytes[at + 11] = u8::try_from(images.len()).unwrap();
    for (n, (offset, size, kind)) in images.iter().enumerate() {
        put(bytes, at + 16 + 128 * n, &[*offset, *size, 0x10_0000, 0, 0x10_0000, 0, *kind]);
    }
}

#[test]
fn mkimage_for_imx6() {
    let ivt = ivt::find(&IMX6, 0).unwrap();
    assert_eq!((ivt.at, ivt.address, ivt.entry), (0, 0x277f_f400, 0x2780_0000));
    assert_eq!(ivt.signature(&IMX6), Signature::None);
    let load = ivt.load(&IMX6).unwrap();
    assert_eq!((load.address, load.bytes.len()), (0x277f_f400, 11264));
    // Two writes of a register, as in the configuration.
    let dcd = b"\xd2\x00\x18\x40\xcc\x00\x14\x04\x02\x0c\x40\x68\x00\xc0\x3f\x3f\x02\x0c\x40\x6c\x00\x30\xfc\x03";
    assert_eq!(load.dcd, Some(dcd.as_slice()));
    assert_eq!(
        describe(&IMX6).to_string(),
        "0x0: image with vector table, for 0x277ff400, entered at 0x27800000, with DCD, unsigned, 11264 bytes\n\
         probably for i.MX6\nloader of 11264 bytes\nnot signed"
    );
}

#[test]
fn mkimage_for_imx8m() {
    for (image, address, family) in
        [(*IMX8MM, 0x007e_0fc0, Family::Imx8mQuadOrMini), (*IMX8MP, 0x0091_ffc0, Family::Imx8mPlus)]
    {
        let ivt = ivt::find(image, 0).unwrap();
        assert_eq!((ivt.version, ivt.address, ivt.is_hdmi_firmware()), (0x41, address, false));
        assert_eq!(ivt.signature(image), Signature::Room);
        assert_eq!(ivt.load(image).unwrap().bytes.len(), image.len());
        let description = describe(image);
        assert_eq!(description.family(), Some(family));
        assert_eq!(description.loader_bytes(), Some(11264));
        assert_eq!(description.is_signed(), Some(false));
    }
    // What may lack: padding, and room for a signature.
    let lacks = |image: &[u8]| {
        let missing = describe(image).missing_bytes();
        assert_eq!(missing > 0, ivt::find(image, 0).unwrap().load(image).is_err());
        missing
    };
    assert_eq!((lacks(&IMX6[..0x1c01]), lacks(&IMX6[..0x1c00])), (0, 1));
    assert_eq!((lacks(&IMX8MM[..0xc00]), lacks(&IMX8MM[..0xbf0])), (0, 16));
    let mut signed = IMX8MM.to_vec();
    signed[0xc00] = 0xd4;
    assert_eq!(describe(&signed).is_signed(), Some(true));
}

#[test]
fn mkimage_for_imx8qxp() {
    let container = Container::read(&IMX8QXP, 0).unwrap();
    assert_eq!((container.version, container.length, container.signature_block), (0, 0x1a0, 0x190));
    assert_eq!(container.signer(), Signer::Nobody);
    let images: Vec<_> = container.entries.iter().map(|e| (e.offset, e.length, e.load, e.kind())).collect();
    assert_eq!(images[0], (0x2000, 0x800, 0x1ffe_0000, 3));
    assert_eq!(images[2], (0x2800, 0xc00, 0x0010_0000, 3));
    let description = describe(&IMX8QXP);
    assert_eq!(description.family(), Some(Family::Imx8));
    assert_eq!(description.loader_bytes(), Some(0x3400));
    // One container alone is not what a ROM for two is given: everything goes.
    assert_eq!(loader_span(&IMX8QXP, 0, FcbCopy::Leave), Ok(IMX8QXP.len()));
}

#[test]
fn spsdk_containers() {
    let all = sequence(&IMX93, 0);
    assert_eq!(all.iter().map(|c| c.at).collect::<Vec<_>>(), [0, 0x400]);
    assert_eq!((all[0].fuse_version, all[0].software_version, all[0].signature_block), (1, 2, 0x90));
    assert_eq!((all[1].entries[0].offset, all[1].entries[0].length), (0x2000, 900));
    assert_eq!((all[1].entries[0].load, all[1].entries[0].core()), (0x2049_a000, 2));
    assert_eq!(describe(&IMX93).family(), Some(Family::Imx9));
    // 0x400 + 0x2000 + 900, rounded up, and the file ends before that.
    assert_eq!(loader_span(&IMX93, 0, FcbCopy::Leave), Ok(IMX93.len()));

    let all = sequence(&IMX95, 0);
    assert_eq!(all.iter().map(|c| (c.at, c.version)).collect::<Vec<_>>(), [(0, 2), (0x4000, 2)]);
    assert_eq!((all[1].entries[0].offset, all[1].entries[0].length), (0x8400, 900));
    assert_eq!(describe(&IMX95).family(), Some(Family::Imx95));
    assert_eq!(
        describe(&IMX95).to_string(),
        "0x0: container of version 2, unsigned, 1 image\n0x4000: container of version 2, unsigned, 1 image\n\
         probably for i.MX95 or later\nloader of 51076 bytes\nnot signed"
    );
    let mut longer = IMX95.to_vec();
    longer.resize(0x10000, 7);
    assert_eq!(loader_span(&longer, 0, FcbCopy::Leave), Ok(0xc800));
    let range = for_stream(&longer, Start::default(), StreamExtent::LoaderContainer).unwrap();
    assert_eq!(range, 0..0xc800);
    assert_eq!(after_spl(&longer, Start::default()), Ok(0xc800..0x10000));
}

#[test]
fn a_container_signed_by_spsdk() {
    let container = Container::read(&IMX93_SIGNED, 0).unwrap();
    assert_eq!(container.signer(), Signer::Oem);
    assert!(container.length > container.signature_block);
    assert_eq!(describe(&IMX93_SIGNED).is_signed(), Some(true));
    // With an unsigned one behind it, it is not enough.
    let mut both = IMX93_SIGNED.to_vec();
    put_container(&mut both, 0x400, 0, 0x87, 0, &[(0x1000, 0x10, 3)]);
    assert_eq!(describe(&both).is_signed(), Some(false));
    assert!(describe(&both).to_string().ends_with("signed in part only"));
}

#[test]
fn an_old_image_of_u_boot() {
    let mut file = IMX6.to_vec();
    let at = file.len();
    // As Debian's u-boot.img for i.MX6 boards begins.
    file.extend(b"\x27\x05\x19\x56\xf8\xda\x33\x60\x6a\x38\xf4\x6f\x00\x00\x00\x20\x17\x80\x00\x00\x17\x80\x00\x00");
    file.extend(b"\xda\x41\x16\xf2\x11\x02\x05\x00");
    file.extend(b"U-Boot 2023.01 for some board\0\0\0");
    file.extend([7; 0x20]);
    let found = marks::find_legacy(&file, 0).unwrap();
    assert_eq!((found.at, found.length, found.name.as_str()), (at, 0x20, "U-Boot 2023.01 for some board"));
    assert!(describe(&file).to_string().contains("0x2c00: U-Boot image \"U-Boot 2023.01 for some board\", 32 bytes"));
    assert_eq!(describe(&file[..file.len() - 1]).missing_bytes(), 1);
    file[at + 40] = 0;
    assert_eq!(marks::find_legacy(&file, 0), None);
}

/// The layout of which `uuu` 1.5.243 was seen to send 0x1d800 bytes to an i.MX8QXP, and the rest of 0x60000 to its SPL.
#[test]
fn the_span_of_two_containers() {
    let mut file = vec![0; 0x6_0000];
    put_container(&mut file, 0, 0, 0x87, 1, &[(0x2000, 0x1000, 6)]);
    put_container(&mut file, 0x400, 0, 0x87, 0, &[(0x3000, 0x8000, 3), (0xd000, 0x1_0123, 3)]);
    assert_eq!(for_stream(&file, Start::default(), StreamExtent::LoaderContainer), Ok(0..0x1_d800));
    assert_eq!(after_spl(&file, Start::default()), Ok(0x1_d800..0x6_0000));
    assert_eq!(for_stream(&file, Start::default(), StreamExtent::WholeFile), Ok(0..0x6_0000));
    // NXP's own firmware is always signed and says nothing about the loader.
    assert_eq!(describe(&file).is_signed(), Some(false));

    // Cut inside the loader: not sent as if it were whole.
    let cut = &file[..0x1_d000];
    let error = for_stream(cut, Start::default(), StreamExtent::LoaderContainer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the loader's last image at 0xd400 should have 0x10123 bytes, but the file ends at 0x1d000"
    );
    assert!(describe(cut).to_string().contains("1315 of them beyond the end of the file"), "{}", describe(cut));

    assert_eq!((describe(cut).missing_bytes(), describe(&file).missing_bytes()), (0x523, 0));

    // A copy of the FlexSPI header at the end belongs to what comes later, but not to the SPL's container.
    put_container(&mut file, 0x400, 0, 0x87, 0, &[(0x3000, 0x8000, 3), (0xd000, 0x200, 8)]);
    assert_eq!(loader_span(&file, 0, FcbCopy::Leave), Ok(0xb400));
    assert_eq!(loader_span(&file, 0, FcbCopy::Take), Ok(0xd800));

    // V2X firmware comes between, in either version.
    put_container(&mut file, 0x400, 0, 0x87, 1, &[(0x3000, 0x8000, 0xb)]);
    put_container(&mut file, 0x800, 0, 0x87, 0, &[(0x1_0000, 0x10, 3)]);
    assert_eq!(loader_span(&file, 0, FcbCopy::Leave), Ok(0x1_0c00));
    let mut file = vec![0; 0x6_0000];
    put_container(&mut file, 0, 2, 0x87, 1, &[(0xc000, 0x1000, 6)]);
    put_container(&mut file, 0x4000, 2, 0x82, 1, &[(0xc000, 0x1000, 0xb)]);
    put_container(&mut file, 0x8000, 2, 0x87, 2, &[(0x1_0000, 0x10, 3)]);
    assert_eq!(loader_span(&file, 0, FcbCopy::Leave), Ok(0x1_8400));
    assert_eq!(describe(&file).findings.len(), 3);
}

#[test]
fn hdmi_firmware_is_passed_over_and_plugins_are_not() {
    let mut file = vec![0; 0x8000];
    put_ivt(&mut file, 0, 0x41, 0x0091_0000, 0x4000, 0x0001_0000);
    put_ivt(&mut file, 0x4000, 0x40, 0x007e_0fc0, 0x1000, 1);
    put_ivt(&mut file, 0x5000, 0x40, 0x4020_0000, 0x2000, 0);
    let found = |n| ivt::find(&file, n).map(|ivt| ivt.at);
    assert_eq!((found(0), found(1)), (Ok(0x4000), Ok(0x5000)));
    assert_eq!(found(2), Err(ImageError::NoIvt(0x8000)));
    assert!(ivt::find(&file, 0).unwrap().is_plugin());
    let description = describe(&file);
    let text = description.to_string();
    assert!(text.contains("0x0: HDMI firmware") && text.contains("0x4000: plugin image"), "{text}");
    assert_eq!(description.family(), Some(Family::Imx8mQuadOrMini));
    // Behind the first image that is one, as SPL takes it.
    assert_eq!(after_spl(&file, Start::default()), Ok(0x5000..0x8000));
}

#[test]
fn flexspi_barebox_and_fit() {
    let mut file = vec![0; 0x1_0000];
    file[0x400..0x404].copy_from_slice(b"FCFB");
    let start = Start { skip_flexspi: true, ..Start::default() };
    assert_eq!(start.range(&file), Ok(0x1000..0x1_0000));
    assert_eq!(Start::default().range(&file), Ok(0..0x1_0000));
    assert_eq!(start.range(&file[..0x1000]), Err(ImageError::NothingLeft { at: 0x1000, end: 0x1000 }));
    file[0x400] = 0;
    file[0x1fc..0x200].copy_from_slice(&0xc0ff_ee01u32.to_le_bytes());
    assert!(marks::is_flexspi(&file, 0));

    let mut file = vec![0; 0x1_0000];
    file[0x20..0x27].copy_from_slice(b"barebox");
    put_ivt(&mut file, 0x8000, 0x40, 0x0092_0000, 0x1000, 0);
    assert_eq!(for_stream(&file, Start::default(), StreamExtent::WholeFile), Ok(0x8000..0x1_0000));
    let ivt = ivt::find(&file, 0).unwrap();
    assert_eq!(barebox_second(&file, &ivt), Ok(Some(0x40..0x1_0000)));
    assert_eq!(barebox_second(&IMX6, &ivt::find(&IMX6, 0).unwrap()), Ok(None));
}

/// A flattened tree at `at`: header, then nodes.
fn put_tree(bytes: &mut [u8], at: usize, length: u32, nodes: &[u8]) {
    let size = u32::try_from(nodes.len()).unwrap();
    let header = [0xd00d_feed, length, 56, 56 + size, 40, 17, 16, 0, 0, size].map(u32::to_be_bytes).concat();
    bytes[at..at + 40].copy_from_slice(&header);
    bytes[at + 56..at + 56 + nodes.len()].copy_from_slice(nodes);
}

#[test]
fn a_fit_is_told_from_other_trees() {
    const FIT: &[u8] = b"\0\0\0\x01\0\0\0\0\0\0\0\x01images\0\0\0\0\0\x02\0\0\0\x02\0\0\0\x09";
    const DTB: &[u8] = b"\0\0\0\x01\0\0\0\0\0\0\0\x01cpus\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0\x09";
    let mut file = vec![0; 0x4000];
    // U-Boot's code has the number in it; its device tree is no FIT either.
    file[0x100..0x104].copy_from_slice(&0xd00d_feedu32.to_be_bytes());
    put_tree(&mut file, 0x1000, 0x200, DTB);
    assert_eq!(marks::find_fit(&file, 0), None);
    put_tree(&mut file, 0x2000, 0x3000, FIT);
    assert_eq!(marks::find_fit(&file, 0), Some(marks::Fit { at: 0x2000, length: 0x3000, whole: 0x3000 }));
    let text = describe(&file).to_string();
    assert_eq!(text, "0x2000: FIT, tree of 12288 bytes (4096 of them beyond the end of the file)");
    // Cut in the nodes: what is left looks like one. Cut in the header: nothing does.
    assert!(marks::find_fit(&file[..0x2040], 0).is_some());
    assert!(marks::find_fit(&file[..0x2020], 0).is_none());
}

#[test]
fn the_loader_in_a_disk_image() {
    let mut file = vec![0; 0x2_0000];
    file[510..512].copy_from_slice(&[0x55, 0xaa]);
    file[0x8400..0x8400 + IMX8MM.len()].copy_from_slice(&IMX8MM);
    let end = 0x8400 + IMX8MM.len();
    let start = Start { by_tag: true, offset: 99, ..Start::default() };
    assert_eq!(start.range(&file), Err(ImageError::NoTag(0x2_0000)));
    let tag = [marks::LOADER_TAG, b"11264\n"].concat();
    file[end..end + tag.len()].copy_from_slice(&tag);
    assert_eq!(start.range(&file), Ok(0x8400..end));
    assert_eq!(describe(&file).family(), Some(Family::Imx8mQuadOrMini));
    assert_eq!(ivt::find(&file, 0).unwrap().load(&file).unwrap().bytes, *IMX8MM);
    // Too long, none, and more digits than any length has.
    for digits in ["999999\n", "0\n", "x", "99999999999999999999999999"] {
        file[end + marks::LOADER_TAG.len()..][..digits.len()].copy_from_slice(digits.as_bytes());
        assert!(matches!(start.range(&file), Err(ImageError::TagLength { .. })), "{digits}");
    }
    // Without a partition table the tag counts for nothing.
    assert_eq!(start.range(&file[512..]), Ok(99..0x2_0000 - 512));
}

#[test]
fn mangled_images_say_what_is_wrong() {
    let mangle = |at: usize, words: &[u32]| {
        let mut image = IMX6.to_vec();
        put(&mut image, at, words);
        let ivt = ivt::find(&image, 0).unwrap();
        ivt.load(&image).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(mangle(12, &[0x2781_0000]), "the DCD pointer 0x27810000 of the image at 0x0 leads out of the file");
    assert_eq!(mangle(12, &[0x277f_f000]), "the DCD pointer 0x277ff000 of the image at 0x0 leads out of the file");
    assert_eq!(mangle(12, &[0x277f_f430]), "the DCD at 0x30 begins with 0xcc instead of 0xd2");
    assert_eq!(mangle(0x2c, &[0x40ff_ffd2]), "the DCD at 0x2c should have 0xffff bytes, but the file ends at 0x2c00");
    assert_eq!(mangle(16, &[0]), "the boot data pointer 0x00000000 of the image at 0x0 leads out of the file");
    assert_eq!(
        mangle(0x20, &[0x2780_0000]),
        "the image at 0x0 begins at 0x27800000, after its table at 0x277ff400, or ends before it"
    );
    assert_eq!(mangle(0x24, &[0x10_0000]), "the image at 0x0 should have 0xffc00 bytes, but the file ends at 0x2c00");
    assert!(matches!(ivt::find(&IMX6[..31], 0), Err(ImageError::NoIvt(31))));

    assert_eq!(
        Container::read(&IMX8QXP[..100], 0).unwrap_err().to_string(),
        "a container at 0x0 should have 0x190 bytes, but the file ends at 0x64"
    );
    assert!(describe(&IMX8QXP[..100]).to_string().starts_with("a container at 0x0 should have"));
    let mut image = IMX8QXP.to_vec();
    image[11] = 200;
    let error = Container::read(&image, 0).unwrap_err();
    assert_eq!(error.to_string(), "the container at 0x0 has 0x1a0 bytes, too few for 200 images");
    image[3] = 0x86;
    let error = Container::read(&image, 0).unwrap_err();
    assert_eq!(error.to_string(), "the container at 0x0 begins with 0x86 instead of 0x87");
    assert_eq!(describe(&[0; 100]).to_string(), "no boot image is recognised in 100 bytes");
}

/// Every fixture cut at every length near its structures, and whole: nothing panics, and no part lies outside.
#[test]
fn cut_anywhere() {
    for image in [*IMX6, *IMX8MM, *IMX8QXP, *IMX93, *IMX95] {
        for cut in (0..0x600.min(image.len())).chain([image.len()]) {
            let bytes = &image[..cut];
            let _ = describe(bytes).to_string();
            for start in [Start::default(), Start { skip_flexspi: true, by_tag: true, offset: 4 }] {
                for extent in [StreamExtent::WholeFile, StreamExtent::LoaderContainer] {
                    if let Ok(range) = for_stream(bytes, start, extent) {
                        assert!(range.start < range.end && range.end <= cut);
                    }
                }
                if let Ok(range) = after_spl(bytes, start) {
                    assert!(range.start < range.end && range.end <= cut);
                }
            }
        }
    }
}

#[test]
fn a_file_full_of_tables_is_not_listed_for_ever() {
    let file = [0xd1, 0x00, 0x20, 0x40].repeat(SCAN_BYTES / 16);
    assert_eq!(ivt::tables(&file).count(), 64);
}
