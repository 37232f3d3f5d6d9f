//! In whatever form it travels and whatever U-Boot can do: the image is on the card, or it is said what is missing.

use flasher::TargetState;
use flasher::board::{BoardError, Form, Profile, Sum, Wire};
use virtual_imx::board::Board;
use virtual_imx::emmc::Area;
use virtual_imx::fault::script;
use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

use crate::support::{LARGE, MIB, Run, Scene, assert_good};

#[test]
fn every_form_puts_the_image_on_the_card() {
    let scene = Scene::large(Model::Imx8mm, 1);
    for wire in [Wire::Auto, Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip)] {
        let board = scene.board(0);
        let mut run = Run::plain(&scene, std::slice::from_ref(&board));
        run.options.wire = wire;
        let result = run.one();
        assert_good(&result, &format!("{wire:?}"));
        assert_eq!(result.proof, Some(Sum::Crc32));
        scene.assert_on(&board);
        assert!(board.one_way().is_empty());
        let sums = result.sums;
        assert_eq!(sums.proven, scene.mapped_bytes());
        assert_eq!(sums.wanted, scene.mapped_bytes());
        let packed = matches!(wire, Wire::Only(Form::Lz4 | Form::Gzip));
        // Auto tries whether packing pays.
        assert!(wire == Wire::Auto || (sums.packed > 0) == packed, "{wire:?}");
        // A fill of a mebibyte does not travel raw; everything else does, and little more.
        if wire == Wire::Only(Form::Raw) {
            assert!(sums.sent < scene.mapped_bytes() - MIB + 40_000, "{}", sums.sent);
        }
        // What it boots from now is the loader of the image, whole.
        let loader = board.bootable().unwrap();
        assert_eq!(loader.bytes[..], flash_bin(scene.model, scene.seed)[..loader.bytes.len()]);
    }
}

#[test]
fn without_a_map_holes_are_zeros_on_the_board() {
    let scene = Scene::large(Model::Imx8mp, 2);
    let board = scene.board(0);
    let mut run = Run::plain(&scene, std::slice::from_ref(&board));
    run.map = None;
    let result = run.one();
    assert_good(&result, "without a map");
    assert!(board.emmc(|card| card.peek(Area::User, 0, scene.bytes.len()).unwrap()) == scene.bytes);
    assert!(result.sums.sent < 22 * MIB, "zeros do not travel: {}", result.sums.sent);
}

#[test]
fn what_a_u_boot_cannot_do_is_done_without_or_said() {
    let scene = Scene::large(Model::Imx8mm, 8);
    let on = |board: &Board, change: fn(&mut Profile)| {
        let mut run = Run::plain(&scene, std::slice::from_ref(board));
        run.change = change;
        run.one()
    };
    // No shell at all: written, not proven.
    let plain = scene.board(0);
    let result = on(&plain, |profile| profile.shell = None);
    assert!(matches!(result.error, Some(BoardError::NoProof)), "{:?}", result.error);
    assert_eq!(result.state, TargetState::WrittenUnproven);
    scene.assert_on(&plain);
    // No CRC-32: by SHA-256.
    let hashing = scene.board(0);
    let result = on(&hashing, |profile| profile.crc32_verify = false);
    assert_good(&result, "no CRC-32");
    assert_eq!(result.proof, Some(Sum::Sha256));
    // No sums at all: compared with what was sent, and written again where it differs.
    let comparing = scene.board(0);
    comparing.add_faults(script(&format!("uboot enter weak user {} 4 1", 17 * MIB + 9)).unwrap());
    let result = on(&comparing, |profile| (profile.crc32_verify, profile.sha256) = (false, false));
    assert_good(&result, "no sums");
    assert_eq!((result.proof, result.sums.resent), (Some(Sum::Compare), 1));
    scene.assert_on(&comparing);
    // Too small.
    let result = on(&hashing, |profile| profile.capacity = Some(LARGE - 1));
    assert!(matches!(result.error, Some(BoardError::TooSmall { .. })));
    assert_eq!(result.state, TargetState::Unchanged);
}
