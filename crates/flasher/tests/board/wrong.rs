//! What goes wrong on the card, and an image that is not what its map says.

use flasher::TargetState;
use flasher::board::BoardError;
use virtual_imx::fault::script;
use virtual_imx::model::Model;

use crate::support::{MIB, Run, Scene, assert_good};

#[test]
fn a_card_that_was_only_busy_is_asked_again() {
    let scene = Scene::large(Model::Imx8mn, 4);
    let board = scene.board(0);
    board.add_faults(script("uboot cmd 2 flash fail busy").unwrap());
    assert_good(&Run::plain(&scene, std::slice::from_ref(&board)).one(), "busy");
    scene.assert_on(&board);
}

#[test]
fn wrong_bytes_on_the_card_are_found_and_sent_again() {
    let scene = Scene::large(Model::Imx8mp, 5);
    for (times, good) in [(1, true), (9, false)] {
        let board = scene.board(0);
        let at = 17 * MIB + 77;
        board.add_faults(script(&format!("uboot enter weak user {at} 4 {times}")).unwrap());
        let result = Run::plain(&scene, std::slice::from_ref(&board)).one();
        if good {
            assert_good(&result, "wrong once");
            assert_eq!(result.sums.resent, 1);
            scene.assert_on(&board);
        } else {
            match &result.error {
                Some(BoardError::NotHeld { pieces, attempts: 3 }) => {
                    assert!(pieces.len() == 1 && pieces[0].start() <= at && at < pieces[0].end());
                }
                other => panic!("{other:?}"),
            }
            assert!(board.bootable().is_err());
        }
    }
}

#[test]
fn an_image_that_is_not_its_maps_is_never_finished() {
    let mut scene = Scene::large(Model::Imx8mm, 7);
    // In the map, not in the file.
    scene.bytes[(29 << 20) + 9] ^= 1;
    let board = scene.board(0);
    let result = Run::plain(&scene, std::slice::from_ref(&board)).one();
    match &result.error {
        Some(BoardError::Source(error)) => assert!(matches!(**error, flasher::FlashError::RangeDigest(_)), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(result.state, TargetState::NoHead { .. }));
    assert!(board.bootable().is_err());
}
