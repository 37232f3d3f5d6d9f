//! Stopped by the user at any time: it ends soon, leaves no thread and no pipe, says what is on the card, and the next run
//! ends right.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flasher::board::{Before, BoardError, Form, Wire};
use flasher::event::{Event, Stage};
use virtual_imx::model::Model;

use crate::support::{Run, Scene, assert_good, board};

/// At the nth event of a run.
#[test]
fn at_any_event() {
    let scene = Scene::new(Model::Imx8mp, 61);
    let packed = scene.packed("gz", &scene.gzip());
    for n in [1, 2, 5, 9, 14, 20, 40, 90, 170] {
        let boards = [board(Model::Imx8mp, 0), board(Model::Imx8mp, 1)];
        let mut run = Run::new(&scene, &boards);
        run.options.wire = [Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Auto][n % 3];
        if n % 2 == 0 {
            run.path.clone_from(&packed);
        }
        let seen = AtomicU64::new(0);
        let cancel = run.cancel.clone();
        let start = Instant::now();
        let results = run.watched(&|_: usize, _: &Event| {
            if seen.fetch_add(1, Ordering::SeqCst) == u64::try_from(n).unwrap() {
                cancel.cancel();
            }
        });
        assert!(start.elapsed() < Duration::from_secs(20), "{n}: {:?}", start.elapsed());
        for (result, board) in results.iter().zip(&boards) {
            match &result.error {
                None => assert!(scene.is_on(board), "{n}"),
                Some(BoardError::Cancelled) => scene.assert_no_mix(board, "stopped"),
                other => panic!("{n}: {other:?}"),
            }
        }
        // A ROM that was stopped in the midst of a stream takes what comes next for the rest of it.
        boards.iter().for_each(virtual_imx::board::Board::power_cycle);
        let mut run = Run::new(&scene, &boards);
        run.options.before = Before::Resume;
        for (result, board) in run.go().iter().zip(&boards) {
            assert_good(result, "after a stop");
            assert!(scene.is_on(board));
        }
    }
}

/// While a board that left is waited for, and while one that never was is.
#[test]
fn while_waiting() {
    let scene = Scene::new(Model::Imx8mp, 62);
    let boards = [board(Model::Imx8mp, 0), board(Model::Imx8mp, 1)];
    boards[0].add_faults(virtual_imx::fault::script("uboot at 1000000 unplug never").unwrap());
    let mut run = Run::new(&scene, &boards);
    run.options.return_within = Duration::from_secs(1 << 30);
    let cancel = run.cancel.clone();
    let results = run.watched(&|board: usize, event: &Event| {
        if board == 0 && matches!(event, Event::Lost { .. }) {
            cancel.cancel();
        }
    });
    assert!(matches!(results[0].error, Some(BoardError::Cancelled)), "{:?}", results[0].error);
}

/// A board that comes long after the image was read gets it all the same.
#[test]
fn a_board_that_is_late() {
    let scene = Scene::new(Model::Imx8mp, 63);
    let packed = scene.packed("gz", &scene.gzip());
    for path in [scene.path.clone(), packed] {
        let boards = [board(Model::Imx8mp, 0), board(Model::Imx8mp, 1)];
        let late = boards[1].clone();
        let mut run = Run::new(&scene, &boards);
        run.which = Some(["1-1", "1-2"].map(|port| flasher::board::Which::Port(port.parse().unwrap())).into());
        late.unplug();
        run.path = path;
        run.appear = Duration::from_secs(1 << 30);
        let results = run.watched(&|board: usize, event: &Event| {
            if board == 0 && matches!(event, Event::Stage { stage: Stage::Head, .. }) {
                late.plug("1-2");
            }
        });
        for (result, board) in results.iter().zip(&boards) {
            assert_good(result, "late");
            assert!(scene.is_on(board));
        }
    }
}
