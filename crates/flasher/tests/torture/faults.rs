//! Every fault, at every stage, on one board of three: it ends in time with an error that says what happened, or goes
//! on and ends right; the other two never notice; and once it is switched off and on the next run ends right.

use std::time::Duration;

use flasher::TargetState;
use flasher::board::{Before, Which};
use virtual_imx::fault::script;
use virtual_imx::model::Model;

use crate::support::{Run, Scene, assert_good, board, in_full};

/// The longest that any one fault may take: a board's own time.
const DEADLINE: Duration = Duration::from_secs(240);

fn table(model: Model, rows: &[(&str, &str)]) {
    let scene = Scene::new(model, 1);
    for (faults, expected) in rows {
        let boards = [board(model, 0), board(model, 1), board(model, 2)];
        boards[1].add_faults(script(faults).unwrap());
        if faults.starts_with("rom enter") {
            boards[1].power_cycle();
        }
        let mut run = Run::new(&scene, &boards);
        run.which = Some(["1-1", "1-2", "1-3"].map(|port| Which::Port(port.parse().unwrap())).into());
        let before = boards[1].now();
        let results = run.go();
        let took = boards[1].now().saturating_sub(before);
        for n in [0, 2] {
            assert_good(&results[n], faults);
            assert!(scene.is_on(&boards[n]), "{faults}");
        }
        scene.assert_no_mix(&boards[1], faults);
        let told = results[1].error.as_ref().map_or_else(String::new, in_full);
        assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{faults}: {told}");
        assert!(took < DEADLINE, "{faults}: {took:?}");
        if results[1].error.is_some() {
            assert_ne!(results[1].state, TargetState::Proven, "{faults}");
        } else {
            assert!(scene.is_on(&boards[1]), "{faults}");
        }
        boards[1].emmc(virtual_imx::emmc::Emmc::repair);
        boards[1].plug("1-2");
        boards[1].power_cycle();
        run.options.before = Before::Resume;
        for result in run.go() {
            assert_good(&result, faults);
        }
        assert!(scene.is_on(&boards[1]), "{faults}");
    }
}

#[test]
fn in_u_boot() {
    table(
        Model::Imx8mp,
        &[
            ("uboot enter hang", "does not answer any more"),
            ("uboot at 300000 hang", "does not answer any more"),
            ("uboot at 300000 stall", ""),
            ("uboot at 300000 unplug never", "the board is gone"),
            ("uboot at 300000 power never", "the board is gone"),
            ("uboot enter cut 400000 never", "the board is gone"),
            ("uboot cmd 1 getvar hang", "does not answer any more"),
            ("uboot cmd 1 getvar fail no", ""),
            ("uboot cmd 1 getvar short 2", ""),
            ("uboot cmd 1 getvar stall", ""),
            ("uboot cmd 2 download hang", "does not answer any more"),
            ("uboot cmd 2 download fail no", "the board says FAIL"),
            ("uboot cmd 2 download size 4096", ""),
            ("uboot cmd 2 download size 99999999", ""),
            ("uboot cmd 2 download short 2", ""),
            ("uboot cmd 2 download stall", ""),
            ("uboot cmd 2 flash hang", "does not answer any more"),
            ("uboot cmd 2 flash fail no", ""),
            ("uboot cmd 2 flash fail no; uboot cmd 2 flash fail no", "could not write"),
            ("uboot cmd 2 flash short 3", ""),
            ("uboot cmd 2 flash stall", ""),
            ("uboot cmd 5 UCmd hang", "does not answer any more"),
            ("uboot cmd 5 UCmd fail no", ""),
            ("uboot cmd 5 UCmd short 1", ""),
            ("uboot cmd 5 UCmd stall", ""),
            ("uboot cmd 20 UCmd hang", "does not answer any more"),
            ("uboot cmd 30 UCmd hang", "does not answer any more"),
            ("uboot cmd 36 UCmd hang", "does not answer any more"),
            ("uboot cmd 36 UCmd fail no", ""),
            ("uboot cmd 36 UCmd short 1", ""),
            ("uboot cmd 36 UCmd stall", ""),
            ("uboot cmd 40 UCmd hang", "does not answer any more"),
            ("uboot cmd 2 flash slow 45000", ""),
            ("uboot cmd 2 flash slow 400000", "does not answer any more"),
            ("uboot cmd 36 UCmd slow 20000", ""),
            ("uboot cmd 2 flash late 1", ""),
            ("uboot enter bad user 2100 2101 write", "could not write"),
            ("uboot enter bad user 2100 2101 read", "does not hold"),
            ("uboot enter bad user 2100 2101 lost", "does not hold"),
            ("uboot enter bad user 0 8 write", "could not write"),
            ("uboot enter bad user 66 67 write", "could not write"),
            ("uboot enter weak user 1080000 4 2", ""),
            ("uboot enter weak user 1080000 4 9", "does not hold"),
            ("uboot enter weak user 36000 4 1", ""),
        ],
    );
}

/// Boot ROM and loader. What is told is where and in what it failed; the card is as it was.
#[test]
fn on_the_way_to_u_boot() {
    let rows = [
        ("rom enter hang", "no progress within"),
        ("rom at 9000 hang", "no progress within"),
        ("rom at 9000 stall", "the board refused (stall)"),
        ("rom at 9000 unplug never", "the board is gone"),
        ("rom at 9000 power never", "the board is gone"),
        ("rom enter unplug never", "no board 1-2 appeared"),
    ];
    table(Model::Imx8mm, &rows);
    table(Model::Imx8mp, &rows);
    table(
        Model::Imx8mm,
        &[
            ("rom enter short 3", "the board sent 3 bytes"),
            ("loader enter hang", "no progress within"),
            ("loader at 9000 hang", "no progress within"),
            ("loader at 9000 stall", "the board refused (stall)"),
            ("loader at 9000 unplug never", "the board is gone"),
            ("loader at 9000 power never", "the board is gone"),
            ("loader enter short 3", "the board sent 3 bytes"),
            ("loader enter unplug never", "did not come back"),
            ("loader enter power back 300", "it came back in"),
        ],
    );
}
