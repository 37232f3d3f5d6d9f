//! Where the image has no data: left alone, zeroed, erased, cleared or kept, as asked for.

use bmap::ByteRange;
use flasher::board::Proof;
use flasher::plan::HolePolicy;
use virtual_imx::emmc::Area;
use virtual_imx::model::Model;

use crate::support::{KIB, MIB, Run, Scene, assert_good, old};

#[test]
fn holes_are_zeroed_on_request_and_proven() {
    let scene = Scene::large(Model::Imx8mm, 9);
    let board = scene.board(0);
    let mut run = Run::plain(&scene, std::slice::from_ref(&board));
    run.wishes.holes = HolePolicy::Zero;
    run.options.proof = Proof::Strong;
    let result = run.one();
    assert_good(&result, "holes");
    let card = board.emmc(|card| card.peek(Area::User, 0, scene.bytes.len()).unwrap());
    // All but the gap in front of the first partition.
    assert!(card[1 << 20..] == scene.bytes[1 << 20..]);
}

#[test]
fn holes_are_erased_inwards_on_request() {
    let scene = Scene::large(Model::Imx8mm, 13);
    let board = scene.board(0);
    let mut run = Run::plain(&scene, std::slice::from_ref(&board));
    run.options.erase_holes = true;
    let result = run.one();
    assert_good(&result, "holes");
    let erased = result.erased.unwrap();
    assert!(erased.bytes > 10 * MIB && erased.zeros == Some(true), "{erased:?}");
    let card = board.emmc(|card| card.peek(Area::User, 0, 64 << 20).unwrap());
    assert!(scene.is_on(&board));
    assert!(card[12 << 20..13 << 20].iter().all(|byte| *byte == 0), "a hole");
    assert!(card[50 << 20..51 << 20] == old(50 * MIB, MIB), "behind the image nothing is erased");
}

#[test]
fn what_is_to_be_kept_stays_and_the_gap_is_cleared_on_request() {
    let scene = Scene::large(Model::Imx8mm, 14);
    for path in [scene.path.clone(), scene.pack(Some(&scene.map()))] {
        let board = scene.board(0);
        let mut run = Run::plain(&scene, std::slice::from_ref(&board));
        run.path = path;
        run.wishes.keep =
            vec![ByteRange::new(17 * MIB, 17 * MIB + 512).unwrap(), ByteRange::at(512 * KIB, 4096).unwrap()];
        run.wishes.keep.sort();
        run.wishes.clear_gap = true;
        let result = run.one();
        assert_good(&result, "kept");
        let card = board.emmc(|card| card.peek(Area::User, 0, scene.bytes.len()).unwrap());
        assert!(card[17 << 20..(17 << 20) + 512] == old(17 * MIB, 512));
        assert!(card[(17 << 20) + 512..18 << 20] == scene.bytes[(17 << 20) + 512..18 << 20]);
        let mut front = scene.bytes[..1 << 20].to_vec();
        front[512 << 10..(512 << 10) + 4096].copy_from_slice(&old(512 * KIB, 4096));
        assert!(card[..1 << 20] == front[..], "the gap is zeros but for what is kept");
    }
}
