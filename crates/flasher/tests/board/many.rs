//! Many boards, from one decode: one's failure is its own, and one that comes late joins in.

use std::time::Duration;

use flasher::Cancel;
use flasher::board::{BoardError, Boards, FlashJob, FlashOptions, Source, To, Which, Wishes, flash, prepare};
use flasher::event::{Event, Stage};
use image::Image;
use imx_usb::boot::BootImage;
use imx_usb::chips::ChipTable;
use virtual_imx::board::Board;
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

use crate::support::{BOOT, MIB, Run, Scene, assert_good, port_of};

#[test]
fn one_decode_feeds_four_boards_and_one_failure_is_one() {
    let scene = Scene::large(Model::Imx8mn, 3);
    // Packed, so that slower boards need the spill.
    let packed = scene.packed("gz", &scene.gzip());
    let boards: Vec<Board> = (0..4).map(|n| scene.board(n)).collect();
    boards[2].add_faults(script("uboot cmd 2 flash fail no; uboot cmd 2 flash fail no").unwrap());
    let mut run = Run::plain(&scene, &boards);
    run.path = packed;
    run.options.spill = Some(scene.folder.path().to_owned());
    let results = run.go();
    for n in [0, 1, 3] {
        assert_good(&results[n], "another");
        scene.assert_on(&boards[n]);
    }
    assert!(matches!(results[2].error, Some(BoardError::Refused { .. })), "{:?}", results[2].error);
    assert!(boards[2].bootable().is_err(), "what was interrupted does not boot");
}

#[test]
fn a_board_that_comes_late_joins_and_the_first_is_not_taken_twice() {
    let scene = Scene::large(Model::Imx8mm, 15);
    let packed = scene.packed("gz", &scene.gzip());
    // The first is slow, so that there is time to come: it is lost once, and comes back elsewhere.
    let (first, late) = (scene.board(0), scene.board(1));
    first.add_faults(script("uboot at 9000000 power back 500 on 1-7").unwrap());
    let bus = HostBus::new(vec![first.clone()]);
    let (cancel, table) = (Cancel::new(), ChipTable::builtin());
    let mut boards = Boards::new(&bus, &table, vec![Which::Port(port_of(&first))], &cancel);
    boards.boot = Some(BootImage::new(flash_bin(scene.model, BOOT)));
    boards.download = Some(4 << 20);
    let open = || Image::open(&packed, &image::Options::default());
    let mut image = open().unwrap();
    let wishes = Wishes { piece_len: Some(MIB), ..Wishes::default() };
    let map = scene.map();
    let plan = prepare(&mut image, Some(&map), &To::Emmc, &wishes, &()).unwrap();
    let came = std::sync::Once::new();
    let observer = |board: usize, event: &Event| {
        if board == 0 && matches!(event, Event::Stage { stage: Stage::Write, .. }) {
            came.call_once(|| bus.add(late.clone()));
            // In simulated time a board is done before anybody could look.
            std::thread::sleep(Duration::from_millis(500));
        }
    };
    let results = flash(FlashJob {
        source: Source::Image { image, reopen: Some(&open) },
        map: Some(&map),
        plan: &plan,
        boards: 1,
        joiners: Some(&boards),
        to: To::Emmc,
        connect: &boards,
        options: FlashOptions {
            return_within: Duration::from_secs(20),
            spill: Some(scene.folder.path().to_owned()),
            ..FlashOptions::default()
        },
        observer: &observer,
        cancel: &cancel,
    });
    assert_eq!(results.len(), 2, "{results:?}");
    results.iter().for_each(|result| assert_good(result, "both"));
    assert_eq!((boards.name(1), results[0].sums.returns), ("1-2".to_owned(), 1));
    scene.assert_on(&first);
    scene.assert_on(&late);
}
