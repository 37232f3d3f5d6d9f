//! What a job leaves behind in this process: nothing. In a program of its own, for other tests have threads too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

mod support;

use flasher::board::{Form, Wire};
use flasher::event::{Event, Stage};
use support::{Run, Scene, board};
use virtual_imx::fault::script;
use virtual_imx::model::Model;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_threads_no_files_and_no_pipes() {
    let scene = Scene::new(Model::Imx8mp, 71);
    let packed = scene.packed("gz", &scene.gzip());
    let before = (threads(), files());
    // All goes well; a board fails; the job is stopped; a thread panics.
    for way in 0..4 {
        let boards = [board(Model::Imx8mp, 0), board(Model::Imx8mp, 1)];
        let mut run = Run::new(&scene, &boards);
        run.path.clone_from(&packed);
        run.options.wire = Wire::Only(Form::Lz4);
        if way == 1 {
            boards[0].add_faults(script("uboot at 1000000 power never").unwrap());
        }
        let cancel = run.cancel.clone();
        let results = run.watched(&|board: usize, event: &Event| {
            if matches!(event, Event::Stage { stage: Stage::Write, .. }) && board == 1 {
                match way {
                    2 => cancel.cancel(),
                    3 => panic!("on purpose"),
                    _ => {}
                }
            }
        });
        // The other one may be done by the time that the job is stopped.
        let failed = results.iter().filter(|result| result.error.is_some()).count();
        assert!([0..=0, 1..=1, 1..=2, 1..=1][way].contains(&failed), "{way}: {failed}");
        drop(run);
        assert_eq!((threads(), files()), before, "{way}");
    }
}
