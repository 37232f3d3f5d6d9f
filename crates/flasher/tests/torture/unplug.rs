//! Boards that leave at any moment: the cable pulled, the power lost, power lost in the midst of a write. Whatever the
//! bytes travel as, and whether the same run goes on or a new one: nothing but a whole image ever boots, and it ends right.
//! 205 losses in all.

use std::sync::Mutex;
use std::time::Duration;

use flasher::board::{Before, BoardError, Form, Wire};
use flasher::event::Event;
use virtual_imx::fault::script;
use virtual_imx::model::Model;

use crate::support::{MIB, Random, Run, Scene, assert_good, board, in_full};

/// How a board leaves, and when: bytes from the host, or bytes on the card.
fn leaves(random: &mut Random, bytes: u64, back: &str) -> String {
    match random.below(5) {
        0 => format!("uboot at {} unplug {back}", random.below(bytes)),
        1 => format!("uboot at {} power {back}", random.below(bytes)),
        2 => format!("uboot cmd {} UCmd power {back}", 1 + random.below(80)),
        _ => format!("uboot enter cut {} {back}", random.below(bytes)),
    }
}

/// Board after board, each with a script of its own, until boards were lost so many times: not every script comes to pass.
fn torment(model: Model, wire: Wire, before: Before, seed: u8, losses: u32) {
    let scene = Scene::new(model, seed);
    let mut random = Random::new(u64::from(seed));
    let mut lost = 0;
    for n in 0.. {
        if lost >= losses {
            return;
        }
        assert!(n < 4 * u64::from(losses), "{lost} losses in {n} runs");
        let board = board(model, 0);
        let same_run = n % 2 == 0;
        let mut faults = leaves(&mut random, scene.mapped_bytes(), if same_run { "back 500" } else { "never" });
        if same_run && n % 4 == 0 {
            // Once more, when it is back.
            faults = format!("{faults}; {}", leaves(&mut random, scene.mapped_bytes(), "back 700 on 1-7"));
        }
        board.add_faults(script(&faults).unwrap());
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.options.wire = wire;
        run.options.before = before;
        run.options.return_within = if same_run { Duration::from_secs(20) } else { Duration::ZERO };
        let mixed = Mutex::new(Vec::new());
        let look = |_: usize, event: &Event| {
            if let Event::Lost { .. } = event {
                let look = std::panic::AssertUnwindSafe(|| scene.assert_no_mix(&board, &faults));
                mixed.lock().unwrap().extend(std::panic::catch_unwind(look).err());
            }
        };
        let mut result = run.watched(&look).remove(0);
        assert!(mixed.lock().unwrap().is_empty(), "{faults}: a mix would have booted");
        lost += result.sums.returns;
        if let Some(error) = result.error.take() {
            assert!(!same_run, "{faults}: {}", in_full(&error));
            assert!(error.is_lost() || matches!(error, BoardError::NotBack { .. }), "{faults}: {}", in_full(&error));
            scene.assert_no_mix(&board, &faults);
            lost += 1;
            board.plug("1-1");
            board.power_cycle();
            run.options.before = if n % 3 == 0 { Before::Delta } else { Before::Resume };
            result = run.one();
        }
        assert_good(&result, &faults);
        assert!(scene.is_on(&board), "{faults}");
        scene.assert_no_mix(&board, &faults);
        assert!(board.one_way().is_empty());
    }
}

#[test]
fn raw() {
    torment(Model::Imx8mm, Wire::Only(Form::Raw), Before::Send, 11, 50);
}

#[test]
fn lz4() {
    torment(Model::Imx8mp, Wire::Only(Form::Lz4), Before::Send, 12, 50);
}

#[test]
fn gzip() {
    torment(Model::Imx8mn, Wire::Only(Form::Gzip), Before::Send, 13, 40);
}

#[test]
fn auto() {
    torment(Model::Imx8mm, Wire::Auto, Before::Send, 14, 30);
}

#[test]
fn delta() {
    torment(Model::Imx8mp, Wire::Auto, Before::Delta, 15, 35);
}

/// What the journal says was proven is not believed: the card was spoilt meanwhile, and another image's journal is none.
#[test]
fn a_new_run_compares_what_the_journal_names() {
    let scene = Scene::new(Model::Imx8mp, 16);
    let board = board(Model::Imx8mp, 0);
    board.add_faults(script("uboot at 2500000 power never").unwrap());
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    run.options.wire = Wire::Only(Form::Raw);
    assert!(run.one().error.is_some_and(|error| error.is_lost()));
    board.emmc(|card| assert!(card.poke(virtual_imx::emmc::Area::User, 2 * MIB + 7, b"spoilt")));
    board.plug("1-1");
    board.power_cycle();
    run.options.before = Before::Resume;
    let result = run.one();
    assert_good(&result, "resumed");
    assert!(result.sums.skipped > MIB, "{:?}", result.sums);
    assert!(scene.is_on(&board));
    // The job is done, and so is its journal.
    let journals = std::fs::read_dir(scene.folder.path().join("journals")).unwrap().count();
    assert_eq!(journals, 0);
}
