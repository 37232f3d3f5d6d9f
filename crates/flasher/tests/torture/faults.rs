//! Every fault, at every stage, on one board of three: it ends in time with an error that says what happened, or goes
//! on and ends right; the other two never notice; and once it is switched off and on the next run ends right.

use std::time::Duration;

use flasher::TargetState;
use flasher::board::{Before, BoardError, Profile, Which};
use flasher::event::{Event, Stage};
use virtual_imx::emmc::Area;
use virtual_imx::fault::script;
use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

use crate::support::{OLD, Run, Scene, assert_good, board, in_full};

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

/// What a loader fetches is stored wrong: the loader is not left to be found, and what is told is true.
#[test]
fn a_head_that_is_not_held_does_not_start() {
    type Change = fn(&mut Profile);
    let changes: [(Change, bool); 3] = [
        (|_| {}, true),
        (|profile| profile.crc32_verify = false, true),
        (|profile| (profile.crc32_verify, profile.sha256) = (false, false), false),
    ];
    let model = Model::Imx8mm;
    let scene = Scene::new(model, 1);
    // Sectors of the loader's body, beside its first, of the table, and the one where it is looked for.
    for bad in ["80 81", "67 68", "1 2", "66 67"] {
        for (change, sums) in changes {
            // The zeros in front are there already, and stay when they are written: only the image's bytes are lost.
            let what = format!("{bad} {sums}");
            let board = board(model, 0);
            let mut run = Run::new(&scene, std::slice::from_ref(&board));
            run.change = change;
            let (watched, laid) = (board.clone(), std::sync::Once::new());
            let faults = format!("uboot cmd 1 download bad user {bad} lost");
            let mixed = std::sync::Mutex::new(None);
            let look = |_: usize, event: &Event| {
                if matches!(event, Event::Stage { stage: Stage::Head, .. }) {
                    laid.call_once(|| watched.add_faults(script(&faults).unwrap()));
                }
                if let Ok(loader) = watched.bootable()
                    && loader.bytes[..] != flash_bin(model, 1)[..loader.bytes.len()]
                    && loader.bytes[..] != flash_bin(model, OLD)[..loader.bytes.len()]
                {
                    *mixed.lock().unwrap() = Some(format!("{event:?}"));
                }
            };
            let result = run.watched(&look).remove(0);
            assert!(matches!(result.error, Some(BoardError::NotHeld { .. })), "{what}: {:?}", result.error);
            assert!(matches!(result.state, TargetState::NoHead { .. }), "{what}: {:?}", result.state);
            assert!(board.bootable().is_err(), "{what}: it would start");
            assert!(
                board.emmc(|card| card.peek(Area::User, 0, 4096).unwrap()) == [0; 4096],
                "{what}: no table is left"
            );
            assert_eq!(mixed.lock().unwrap().take(), None, "{what}: a mix would have started");
            // The first of them is written right the next time.
            board.emmc(virtual_imx::emmc::Emmc::repair);
            assert_good(&run.one(), &what);
            assert!(scene.is_on(&board));
        }
    }
}

/// Pulled while something of the head is sent again.
#[test]
fn unplugged_while_the_head_is_mended() {
    let model = Model::Imx8mm;
    let scene = Scene::new(model, 1);
    // Not in the very last sector: until it is written nothing can be known of it.
    for at in [100, 512, 33 * 1024 + 600, 36_000] {
        for n in 1..=12 {
            let what = format!("byte {at}, download {n} of the head");
            let board = board(model, 0);
            let mut run = Run::new(&scene, std::slice::from_ref(&board));
            run.options.before = Before::Resume;
            let (watched, laid) = (board.clone(), std::sync::Once::new());
            let faults = format!("uboot cmd 1 download weak user {at} 4 1; uboot cmd {n} UCmd unplug never");
            let look = |_: usize, event: &Event| {
                if matches!(event, Event::Stage { stage: Stage::Head, .. }) {
                    laid.call_once(|| watched.add_faults(script(&faults).unwrap()));
                }
            };
            let result = run.watched(&look).remove(0);
            scene.assert_no_mix(&board, &what);
            if result.error.is_none() {
                assert!(scene.is_on(&board), "{what}");
                continue;
            }
            board.plug("1-1");
            board.power_cycle();
            assert_good(&run.one(), &what);
            assert!(scene.is_on(&board), "{what}");
        }
    }
}
