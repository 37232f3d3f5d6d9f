//! Which board is which: boards that change places, come back elsewhere, or are replaced by others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flasher::board::{BoardError, Which};
use flasher::event::{Event, Stage};
use imx_usb::bus::OpenError;
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry};
use virtual_imx::fault::script;
use virtual_imx::model::{Model, Tree};
use virtual_imx::rom::Hab;
use virtual_imx::sample::flash_bin;

use crate::support::{MIB, Run, Scene, assert_good, board, board_of, in_full};

#[test]
fn two_that_change_places_are_each_gone_on_with() {
    for (what, model) in [("power", Model::Imx8mp), ("unplug", Model::Imx8mm), ("power", Model::Imx8mm)] {
        let scene = Scene::new(model, 31);
        let boards = [board(model, 0), board(model, 1)];
        boards[0].add_faults(script(&format!("uboot at 1500000 {what} never")).unwrap());
        boards[1].add_faults(script(&format!("uboot at 1900000 {what} never")).unwrap());
        let mut run = Run::new(&scene, &boards);
        run.options.return_within = Duration::from_secs(20);
        // Both are away before either is back: no connector takes two.
        let lost = AtomicUsize::new(0);
        let results = run.watched(&|_: usize, event: &Event| {
            if matches!(event, Event::Lost { .. }) && lost.fetch_add(1, Ordering::SeqCst) == 1 {
                boards[0].plug("1-2");
                boards[1].plug("1-1");
            }
        });
        for (result, board) in results.iter().zip(&boards) {
            assert_good(result, what);
            assert!(scene.is_on(board), "{what}");
            assert_eq!(result.sums.returns, 1);
        }
    }
}

#[test]
fn one_that_comes_back_elsewhere_is_found() {
    for tree in [Tree::Nxp, Tree::Upstream] {
        let scene = Scene::new(Model::Imx8mp, 32);
        let board = board_of(Model::Imx8mp, 0, tree, 8 * MIB);
        board.add_faults(script("uboot at 1500000 power back 900 on 1-5").unwrap());
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.options.return_within = Duration::from_secs(20);
        let result = run.one();
        assert_good(&result, "elsewhere");
        assert_eq!(result.sums.returns, 1);
        assert!(scene.is_on(&board));
    }
}

/// Only U-Boot's number is known of a board that was in fastboot already.
#[test]
fn one_that_was_in_fastboot_already_is_known_by_what_u_boot_tells() {
    let scene = Scene::new(Model::Imx8mp, 33);
    let board = board(Model::Imx8mp, 0);
    board.start_uboot();
    board.add_faults(script("uboot at 1500000 power back 900").unwrap());
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    run.options.return_within = Duration::from_secs(20);
    assert_good(&run.one(), "in fastboot");
    assert!(scene.is_on(&board));
}

fn blank(board: &Board) -> bool {
    board.emmc(|card| card.counters(Area::User).bytes_written) == 0
}

#[test]
fn another_in_its_place_is_left_alone() {
    let scene = Scene::new(Model::Imx8mp, 34);
    for in_fastboot in [false, true] {
        let (first, second) = (board(Model::Imx8mp, 0), board(Model::Imx8mp, 1));
        second.unplug();
        if in_fastboot {
            second.start_uboot();
            second.unplug();
        }
        first.add_faults(script("uboot at 1500000 unplug never").unwrap());
        let mut run = Run::new(&scene, &[first.clone(), second.clone()]);
        run.which = Some(vec![Which::Port("1-1".parse().unwrap())]);
        run.options.return_within = Duration::from_secs(20);
        let other = second.clone();
        let result = run
            .watched(&move |_: usize, event: &Event| {
                if matches!(event, Event::Lost { .. }) {
                    other.plug("1-1");
                }
            })
            .remove(0);
        let told = in_full(result.error.as_ref().unwrap());
        assert!(told.contains("another"), "{told}");
        assert!(blank(&second), "nothing was written to it");
        scene.assert_no_mix(&first, "the first");
    }
}

/// Two boards of one number: nobody can tell them apart, so what was proven on the first is proven again.
#[test]
fn of_one_number_nothing_is_believed_after_a_loss() {
    let scene = Scene::new(Model::Imx8mm, 35);
    let (first, second) = (board(Model::Imx8mm, 0), board(Model::Imx8mm, 0));
    second.unplug();
    let mut run = Run::new(&scene, &[first.clone(), second.clone()]);
    run.which = Some(vec![Which::Port("1-1".parse().unwrap())]);
    run.options.return_within = Duration::from_secs(20);
    // The first leaves when its body is proven; the second takes its place.
    let (one, other) = (first.clone(), second.clone());
    let gone = AtomicBool::new(false);
    let result = run
        .watched(&|_: usize, event: &Event| match event {
            Event::Stage { stage, .. } if *stage == Stage::Head && !gone.swap(true, Ordering::SeqCst) => one.unplug(),
            Event::Lost { .. } => other.plug("1-1"),
            _ => {}
        })
        .remove(0);
    assert_good(&result, "of one number");
    assert_eq!(result.sums.returns, 1);
    assert!(scene.is_on(&second));
    assert_eq!(result.sums.proven, scene.mapped_bytes());
}

#[test]
fn an_sd_card_where_an_emmc_was_meant_and_the_other_way_round() {
    let scene = Scene::new(Model::Imx8mm, 36);
    let geometry = Geometry { user_bytes: 8 * MIB, ..Geometry::default() };
    for (to, card) in [(flasher::board::To::Sd, None), (flasher::board::To::Sd, Some(geometry))] {
        let there = card.is_some();
        let setup = Setup { emmc: geometry, sd: card, ..Setup::new(Model::Imx8mm, Tree::Nxp) };
        let board = Board::new(setup);
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.to = to;
        let result = run.one();
        assert!(blank(&board), "the eMMC is left alone");
        match result.error {
            None => assert!(there),
            Some(error) => {
                assert!(!there, "{}", in_full(&error));
                assert!(matches!(error, BoardError::Card(_)), "{}", in_full(&error));
            }
        }
    }
}

#[test]
fn a_card_that_is_too_small_is_not_begun_with() {
    let scene = Scene::new(Model::Imx8mm, 37);
    let board = board_of(Model::Imx8mm, 0, Tree::Nxp, 4 * MIB);
    let result = Run::new(&scene, std::slice::from_ref(&board)).one();
    assert!(matches!(result.error, Some(BoardError::TooSmall { .. })), "{:?}", result.error);
    assert!(blank(&board) && board.bootable().is_ok());
}

/// A second run on a board that one is busy with is told so, and disturbs nothing.
#[test]
fn two_runs_on_one_board() {
    let scene = Scene::new(Model::Imx8mp, 38);
    let board = board(Model::Imx8mp, 0);
    let run = Run::new(&scene, std::slice::from_ref(&board));
    let mut second = Run::new(&scene, std::slice::from_ref(&board));
    second.bus = run.bus.clone();
    second.shared = true;
    let begun = AtomicBool::new(false);
    let result = run
        .watched(&|_: usize, event: &Event| {
            let writes = matches!(event, Event::Stage { stage: Stage::Write, .. });
            if writes && !begun.swap(true, Ordering::SeqCst) {
                let error = second.one().error.unwrap();
                assert!(matches!(error, BoardError::Open(OpenError::Busy { .. })), "{}", in_full(&error));
            }
        })
        .remove(0);
    assert!(begun.into_inner());
    assert_good(&result, "the first");
    assert!(scene.is_on(&board));
}

/// A boot image for another chip, and an unsigned one for a closed chip: said before, or as soon as it shows.
#[test]
fn boot_images_that_are_not_for_this_board() {
    for (model, image, hab, told) in [
        (Model::Imx8mm, flash_bin(Model::Imx93, 1), Hab::Open, "the boot image is of containers"),
        (Model::Imx93, flash_bin(Model::Imx8mp, 1), Hab::Open, "the boot image is one with a vector table"),
        (Model::Imx8mm, flash_bin(Model::Imx8mm, 1), Hab::Closed, "the boot image is not signed"),
        (Model::Imx8mp, flash_bin(Model::Imx8mp, 1), Hab::Closed, "the image is not signed"),
        (Model::Imx8mp, vec![7; 100_000], Hab::Open, "is no boot image"),
    ] {
        let scene = Scene::tiny(model, 39);
        let board = Board::new(Setup { hab, ..Setup::new(model, Tree::Nxp) });
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.boot = image;
        let error = run.one().error.unwrap();
        assert!(matches!(error, BoardError::Boot(_)), "{}", in_full(&error));
        assert!(in_full(&error).contains(told), "{}", in_full(&error));
    }
}
