//! Once more: what changed since, what a board had when it was lost, and what an earlier process sent.

use std::time::Duration;

use flasher::board::{Before, BoardError, Form, Which, Wire};
use flasher::event::Event;
use virtual_imx::emmc::Area;
use virtual_imx::fault::script;
use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

use crate::support::{MIB, Run, Scene, assert_good, port_of};

#[test]
fn a_second_flash_sends_what_changed() {
    let mut scene = Scene::large(Model::Imx8mm, 6);
    let board = scene.board(0);
    let mut run = Run::plain(&scene, std::slice::from_ref(&board));
    assert_good(&run.one(), "at first");

    // Nothing changed: nothing is written, and the head stays in place all the while.
    run.options.before = Before::Delta;
    let written = board.emmc(|card| card.counters(Area::User).bytes_written);
    let result = run.one();
    assert_good(&result, "nothing changed");
    assert_eq!((result.sums.written, result.sums.sent, result.sums.skipped), (0, 0, scene.mapped_bytes()));
    assert_eq!(board.emmc(|card| card.counters(Area::User).bytes_written), written);

    // One byte changed: its piece, and the head.
    scene.bytes[17 << 20 | 5] = b'!';
    scene.save();
    run.map = Some(scene.map());
    let result = run.one();
    assert_good(&result, "one byte changed");
    scene.assert_on(&board);
    assert!(result.sums.written < 3 * MIB, "{}", result.sums.written);
    assert!(result.sums.skipped > 19 * MIB, "{}", result.sums.skipped);
}

/// Wherever the cable is pulled or the power lost: what is left does not boot a mix, and plugged in again it ends right.
#[test]
fn unplugged_anywhere_it_goes_on_and_ends_right() {
    let scene = Scene::large(Model::Imx8mm, 10);
    let mut random = 1_u64;
    let mut resumed = 0;
    for n in 0..48_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (random >> 20) % (22 * MIB);
        let what = match n % 3 {
            0 => format!("uboot at {at} unplug back 500"),
            1 => format!("uboot at {at} power back 500"),
            _ => format!("uboot enter cut {at} back 500"),
        };
        let board = scene.board(0);
        board.add_faults(script(&what).unwrap());
        let mut run = Run::plain(&scene, std::slice::from_ref(&board));
        run.options.return_within = Duration::from_secs(20);
        run.options.wire = [Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip), Wire::Auto]
            [usize::try_from(n % 4).unwrap()];
        if n % 5 == 4 {
            run.options.before = Before::Delta;
        }
        let whole = flash_bin(scene.model, scene.seed);
        let mix = std::sync::Mutex::new(None);
        let (watched, mixed) = (board.clone(), &mix);
        let look = move |_: usize, event: &Event| {
            if matches!(event, Event::Lost { .. })
                && let Ok(loader) = watched.bootable()
                && loader.bytes[..] != whole[..loader.bytes.len()]
            {
                *mixed.lock().unwrap() = Some(loader.at);
            }
        };
        let result = run.watched(&look).remove(0);
        assert!(result.error.is_none(), "{what}: {:?}", result.error);
        assert_eq!(mix.lock().unwrap().take(), None, "{what}: a mix would have booted");
        scene.assert_on(&board);
        resumed += result.sums.returns;
    }
    assert!(resumed > 30, "{resumed} of 48 were interrupted");
}

#[test]
fn another_board_in_its_place_is_not_gone_on_with() {
    let scene = Scene::large(Model::Imx8mp, 11);
    let board = scene.board(0);
    board.add_faults(script("uboot at 3000000 power back 500; rom enter serial fedcba9876543210").unwrap());
    let mut run = Run::plain(&scene, std::slice::from_ref(&board));
    run.options.return_within = Duration::from_secs(20);
    let result = run.one();
    assert!(result.error.is_some());
}

#[test]
fn a_new_process_goes_on_by_the_journal_and_trusts_nothing_in_it() {
    let scene = Scene::large(Model::Imx8mp, 12);
    let board = scene.board(0);
    board.add_faults(script("uboot at 18000000 power back 500").unwrap());
    let mut run = Run::plain(&scene, std::slice::from_ref(&board));
    // It is still away when the second run begins.
    run.which = Some(vec![Which::Port(port_of(&board))]);
    run.options.journals = Some(scene.folder.path().join("journals"));
    run.options.wire = Wire::Only(Form::Raw);
    let result = run.one();
    assert!(result.error.as_ref().is_some_and(BoardError::is_lost), "{:?}", result.error);
    // Somebody spoils a piece that the journal names.
    board.emmc(|card| assert!(card.poke(Area::User, 16 * MIB + 3, b"spoilt")));
    run.options.before = Before::Resume;
    let result = run.one();
    assert_good(&result, "resumed");
    assert!(result.sums.skipped > 8 * MIB, "{}", result.sums.skipped);
    scene.assert_on(&board);
}
