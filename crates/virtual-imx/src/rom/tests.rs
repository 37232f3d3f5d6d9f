use super::image::{NotBootable, fit_length, loader_length};
use super::sdp::Sdp;
use super::stream::Stream;
use super::*;
use crate::model::{Model, RomKind};
use crate::sample::{self, flash_bin};

#[test]
fn sample_images_are_whole_and_cut_ones_are_not() {
    for model in Model::ALL {
        let image = flash_bin(model, 1);
        let length = loader_length(model.rom(), &image, Hab::Open).unwrap();
        let whole = model.rom() != RomKind::LoaderContainer;
        assert_eq!(whole, length.next_multiple_of(0x400) == image.len().next_multiple_of(0x400), "{model:?}");
        for cut in [0, 1, 15, 0x100, length / 2, length - 1] {
            let error = loader_length(model.rom(), &image[..cut], Hab::Open).unwrap_err();
            assert!(matches!(error, NotBootable::Short(n) if n > cut), "{model:?} cut at {cut}: {error}");
        }
        assert_eq!(loader_length(model.rom(), &image, Hab::Closed), Err(NotBootable::Unsigned));
        assert_ne!(image, flash_bin(model, 2));
    }
}

#[test]
fn a_mix_of_two_images_does_not_match_its_hashes() {
    let (a, b) = (flash_bin(Model::Imx93, 1), flash_bin(Model::Imx93, 2));
    for cut in [0x500, 0x2100, 0x3000, a.len() - 0x1000] {
        let mix = [&a[..cut], &b[cut..]].concat();
        assert!(
            matches!(loader_length(RomKind::StreamContainer, &mix, Hab::Open), Err(NotBootable::Hash(_))),
            "{cut:#x}"
        );
    }
}

/// A command report: code, address, count.
fn command(code: u8, address: u32, count: u32) -> Vec<u8> {
    let mut report = vec![1, code, code];
    report.extend(address.to_be_bytes());
    report.push(0);
    report.extend(count.to_be_bytes());
    report.extend([0; 5]);
    report
}

fn replies(sdp: &mut Sdp) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| sdp.reply()).map(|reply| reply[..5].to_vec()).collect()
}

fn write(sdp: &mut Sdp, address: u32, bytes: &[u8]) {
    sdp.report(&command(4, address, u32::try_from(bytes.len()).unwrap()));
    for piece in bytes.chunks(1024) {
        let mut report = vec![2];
        report.extend(piece);
        report.resize(1025, 0xee);
        assert_eq!(sdp.report(&report), Verdict::Waiting);
    }
}

/// The words on the wire are those of traces of uuu with real ROMs' answers.
#[test]
fn a_rom_answers_commands() {
    let mut rom = Sdp::rom(Hab::Open);
    let open = vec![3, 0x56, 0x78, 0x78, 0x56];
    let image = flash_bin(Model::Imx8mm, 1);
    write(&mut rom, 0x007e_1000, &image[..0x4000]);
    assert_eq!(replies(&mut rom), [open.clone(), vec![4, 0x88, 0x88, 0x88, 0x88]]);
    rom.report(&command(0x0c, 0, 0));
    assert_eq!(replies(&mut rom), [open.clone(), vec![4, 0x09, 0xd0, 0x0d, 0x90]]);
    rom.report(&command(1, 0x007e_1000, 4));
    assert_eq!(replies(&mut rom), [open.clone(), vec![4, 0xd1, 0x00, 0x20, 0x41]]);
    rom.report(&command(0x0a, 0x0091_0000, 12));
    rom.report(&[2, 0xd2, 0, 12, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(replies(&mut rom), [open.clone(), vec![4, 0x12, 0x8a, 0x8a, 0x12]]);
    assert_eq!(rom.report(&command(0x0b, 0x007e_1004, 0)), Verdict::Waiting);
    assert_eq!(replies(&mut rom).len(), 2);
    assert_eq!(rom.report(&command(0x0b, 0x007e_1000, 0)), Verdict::Starts);
    assert_eq!(replies(&mut rom), [open]);
    let mut closed = Sdp::rom(Hab::Closed);
    write(&mut closed, 0x007e_1000, &image[..0x4000]);
    assert_eq!(replies(&mut closed)[0], [3, 0x12, 0x34, 0x34, 0x12]);
    assert_eq!(closed.report(&command(0x0b, 0x007e_1000, 0)), Verdict::Waiting);
}

#[test]
fn a_loader_that_lacks_bytes_does_not_start() {
    let image = flash_bin(Model::Imx8mm, 1);
    let mut rom = Sdp::rom(Hab::Open);
    write(&mut rom, 0x007e_1000, &image[..0x3fff]);
    assert_eq!(rom.report(&command(0x0b, 0x007e_1000, 0)), Verdict::Waiting);
    for (rest, verdict) in [
        (&image[0x4000..], Verdict::Starts),
        (&image[0x4000..image.len() - 1], Verdict::Stuck),
        (&[0; 4096], Verdict::Stuck),
    ] {
        let mut loader = Sdp::loader(0x4000_0000, 1 << 30, 0x4040_0000);
        write(&mut loader, 0, rest);
        assert_eq!(loader.report(&command(0x0b, 0, 0)), verdict);
    }
    write(&mut rom, 0x4000_0000, &[1]);
    assert_eq!(replies(&mut rom).last().unwrap()[..], [4, 0x33, 0x05, 0x0a, 0x00]);
}

#[test]
fn streams_start_when_all_is_there() {
    for model in [Model::Imx8mn, Model::Imx8mp, Model::Imx93, Model::Imx8qxp, Model::Imx95] {
        let image = flash_bin(model, 3);
        let length = loader_length(model.rom(), &image, Hab::Open).unwrap();
        let payload = model.report_payload();
        let mut rom = Stream::new(model.rom(), Hab::Open, payload);
        let mut sent = 0;
        let verdict = loop {
            let mut report = vec![2];
            report.extend(&image[sent..(sent + payload).min(image.len())]);
            report.resize(payload + 1, 0);
            sent += payload;
            match rom.report(&report) {
                Verdict::Waiting => {}
                verdict => break verdict,
            }
        };
        assert_eq!(verdict, Verdict::Starts, "{model:?}");
        assert!(sent >= length && sent < length + payload, "{model:?}: {sent} of {length}");
        let mut rom = Stream::new(model.rom(), Hab::Open, payload);
        assert_eq!(rom.report(&[&[2], sample::pattern(payload, 1).as_slice()].concat()), Verdict::Stuck);
        assert_eq!(rom.refused(), Some(NotBootable::NoHeader(0)));
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(at in 0usize..0x5c00, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), n in 0usize..6, report in proptest::collection::vec(0u8..14, 0..40)) {
        let model = Model::ALL[n];
        let mut image = flash_bin(model, 0);
        let at = if at % 2 == 0 { at % 0x100 } else { at };
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        let _ = loader_length(model.rom(), &image, Hab::Open);
        let fit = 0x5_8000 + at % 0x90;
        if let Some(part) = image.get_mut(fit..fit + bytes.len()) {
            part.copy_from_slice(&bytes);
            let _ = fit_length(&image[0x5_8000..]);
        }
        let mut rom = Sdp::rom(Hab::Open);
        for report in report.chunks(18) {
            rom.report(report);
            rom.report(&[&[2], report].concat());
        }
    }
}
