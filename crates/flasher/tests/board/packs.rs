//! Pack files: they do for an image, feed many, and are told from damaged ones.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use flasher::FlashError;
use flasher::board::{Before, BoardError, Form, PackError, Wire, open_pack};
use virtual_imx::board::Board;
use virtual_imx::emmc::Area;
use virtual_imx::model::Model;

use crate::support::{Run, Scene, assert_good};

#[test]
fn a_pack_puts_the_image_on_the_card_without_the_image() {
    let scene = Scene::large(Model::Imx8mm, 20);
    let pack = scene.pack(Some(&scene.map()));
    let mut run = Run::plain(&scene, &[scene.board(0)]);
    run.options.wire = Wire::Only(Form::Lz4);
    let from_image = run.one().sums;
    std::fs::remove_file(&scene.path).unwrap();
    run.path = pack;
    run.map = None;
    for wire in [Wire::Auto, Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip)] {
        let board = scene.board(0);
        run.on(std::slice::from_ref(&board));
        run.options.wire = wire;
        run.options.before = Before::Send;
        let result = run.one();
        assert_good(&result, &format!("{wire:?}"));
        scene.assert_on(&board);
        assert_eq!(result.sums.proven, scene.mapped_bytes());
        let packed = matches!(wire, Wire::Only(Form::Lz4 | Form::Gzip));
        assert!(wire == Wire::Auto || (result.sums.packed > 0) == packed, "{wire:?}");
        if wire == Wire::Only(Form::Lz4) {
            // The same pieces go packed, and take no more for having been packed with more care.
            assert_eq!(result.sums.packed, from_image.packed);
            assert!(result.sums.sent <= from_image.sent, "{} {}", result.sums.sent, from_image.sent);
        }
        // By the index alone: nothing is sent.
        run.options.before = Before::Delta;
        let result = run.one();
        assert_good(&result, &format!("{wire:?}"));
        assert_eq!((result.sums.sent, result.sums.skipped), (0, scene.mapped_bytes()));
    }
}

#[test]
fn a_pack_without_a_map_makes_zeros_of_holes_and_feeds_many() {
    let scene = Scene::large(Model::Imx8mp, 21);
    let boards: Vec<Board> = (0..3).map(|n| scene.board(n)).collect();
    let mut run = Run::plain(&scene, &boards);
    (run.path, run.map) = (scene.pack(None), None);
    run.options.wire = Wire::Only(Form::Lz4);
    for (board, result) in boards.iter().zip(&run.go()) {
        assert_good(result, "one of many");
        assert!(board.emmc(|card| card.peek(Area::User, 0, scene.bytes.len()).unwrap()) == scene.bytes);
    }
}

#[test]
fn a_damaged_pack_is_told_and_nothing_of_it_boots() {
    let scene = Scene::large(Model::Imx8mm, 22);
    let path = scene.pack(Some(&scene.map()));
    // In the middle lie bytes that do not pack.
    let middle = open_pack(&path).unwrap().file_len() / 2;
    File::options().write(true).open(&path).unwrap().write_all_at(b"rotten", middle).unwrap();
    for wire in [Form::Raw, Form::Lz4] {
        let board = scene.board(0);
        let mut run = Run::plain(&scene, std::slice::from_ref(&board));
        (run.path, run.map) = (path.clone(), None);
        run.options.wire = Wire::Only(wire);
        let result = run.one();
        let Some(BoardError::Source(error)) = &result.error else { panic!("{:?}", result.error) };
        let damaged = |error: &PackError| matches!(error, PackError::Damaged { .. });
        assert!(matches!(&**error, FlashError::PackFile(error) if damaged(error)), "{error}");
        assert!(board.bootable().is_err());
    }
}
