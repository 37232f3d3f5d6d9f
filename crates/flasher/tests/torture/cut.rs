//! Power lost between any two sectors of what makes a card boot: the clearing of the old head and the writing of the
//! new one. A ROM must find no loader, or a whole one with the whole image behind it.

use flasher::board::{Profile, Proof};
use virtual_imx::emmc::Area;
use virtual_imx::fault::script;
use virtual_imx::model::Model;

use crate::support::{Random, Run, Scene, assert_good, board};

fn cuts(model: Model, change: fn(&mut Profile), proof: Proof) {
    let scene = Scene::tiny(model, 21);
    let run = |cut: Option<u64>| {
        let board = board(model, 0);
        if let Some(cut) = cut {
            board.add_faults(script(&format!("uboot enter cut {cut} never")).unwrap());
        }
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        (run.change, run.options.proof) = (change, proof);
        let result = run.one();
        (board, result)
    };
    let (good, result) = run(None);
    if proof != Proof::Off {
        assert_good(&result, "whole");
    }
    assert!(scene.is_on(&good) && good.bootable().unwrap().bytes.len() > 4096);
    let written = good.emmc(|card| card.counters(Area::User).bytes_written);
    // Each sector of the clearing and of the end, and some of what lies between.
    let mut random = Random::new(21);
    let sectors = written / 512;
    let between: Vec<u64> = (0..6).map(|_| 30 + random.below(sectors - 60)).collect();
    let (mut dead, mut alive) = (0, 0);
    for sector in (0..26).chain(between).chain(sectors - 26..=sectors) {
        let (board, _) = run(Some(sector * 512));
        let what = format!("{model:?}, {sector} of {sectors} sectors");
        scene.assert_no_mix(&board, &what);
        match board.bootable() {
            Ok(_) => alive += 1,
            Err(_) => dead += 1,
        }
    }
    assert!(dead > 25 && alive > 1, "{model:?}: {dead} dead, {alive} alive");
}

#[test]
fn with_a_shell() {
    for model in [Model::Imx8mm, Model::Imx8mp, Model::Imx93, Model::Imx8mn] {
        cuts(model, |_| {}, Proof::Fast);
    }
}

#[test]
fn without_a_shell() {
    for model in [Model::Imx8mm, Model::Imx8mp] {
        cuts(model, |profile| profile.shell = None, Proof::Off);
    }
}
