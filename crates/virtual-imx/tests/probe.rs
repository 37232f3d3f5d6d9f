//! What a U-Boot can do, asked of virtual boards of every family under both trees.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

use std::time::Duration;

use imx_usb::boot::{BootImage, BootOptions, boot};
use imx_usb::bus::Bus;
use imx_usb::chips::{Chip, ChipTable};
use imx_usb::fastboot::{FastbootError, Limits, Session};
use imx_usb::pipe::{BulkPipe, Fault};
use imx_usb::probe::card::{self, CardError, Kind, Numbered};
use imx_usb::probe::{self, Capabilities, ProbeError, ProbeOptions, Shell, Source, variable};
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry};
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::flash_bin;

type Pipe = Box<dyn BulkPipe + Send>;

/// A board that has been booted, and a session with its fastboot.
fn ready(setup: Setup) -> (Board, HostBus, Session<Pipe>) {
    let model = setup.model;
    let board = Board::new(setup);
    let bus = HostBus::new(vec![board.clone()]);
    let image = BootImage::new(flash_bin(model, 1));
    let port = "1-1".parse().unwrap();
    let booted = boot(&bus, &ChipTable::builtin(), &port, &image, &BootOptions::default(), &mut |_| {}).unwrap();
    let pipe = bus.bulk(&booted.device).unwrap();
    (board, bus, Session::new(pipe, Limits::USB))
}

fn plain(model: Model, tree: Tree) -> (Board, HostBus, Session<Pipe>) {
    ready(Setup::new(model, tree))
}

fn ask(session: &mut Session<Pipe>, table: &ChipTable, chip: Option<&Chip>) -> Capabilities {
    probe::probe(session, &ProbeOptions { table, chip, download: None }).unwrap()
}

#[test]
fn every_family_is_known_under_both_trees() {
    let table = ChipTable::builtin();
    for (model, tree) in Model::ALL.into_iter().flat_map(|model| [(model, Tree::Nxp), (model, Tree::Upstream)]) {
        let (board, _bus, mut session) = plain(model, tree);
        let (nxp, layout) = (tree == Tree::Nxp, model.layout(tree));
        let found = ask(&mut session, &table, table.chip(model.chip()));
        let what = format!("{model:?} {tree:?}: {found:?}");
        assert_eq!(found.tree, Some(if nxp { probe::Tree::Nxp } else { probe::Tree::Upstream }), "{what}");
        assert_eq!((found.shell, found.values), (Some(Shell::UCmd), true), "{what}");
        assert_eq!(found.chip.as_deref(), Some(model.chip()));
        assert_eq!(found.max_download, Some(layout.buffer_bytes));
        assert_eq!(found.product.as_deref(), Some(model.board()));
        // Upstream has a serial number only where the board sets one.
        assert_eq!((found.serial.is_some(), found.version.is_some()), (nxp, true));
        // Upstream's configurations leave `crc32` out.
        assert_eq!(found.crc32, nxp, "{what}");
        assert!(found.hash_crc32 && found.sha256 && found.cmp, "{what}");
        let space = found.space.clone().unwrap();
        if model == Model::Imx95 {
            // Its memory is in no table: all that is known is where a kernel would go.
            assert_eq!(space.source, Source::LoadAddress);
            // Upstream's buffer is elsewhere and cannot be moved, so what needs it is not usable.
            assert_eq!(space.buffer, nxp.then_some(layout.load_address), "{what}");
            assert_eq!((found.gzip, found.lz4), (nxp, nxp), "{what}");
            assert_eq!(found.download, if nxp { 16 << 20 } else { 64 << 20 });
        } else {
            assert_eq!((space.source, space.buffer), (Source::Table, Some(layout.buffer)), "{what}");
            assert!(found.gzip && found.lz4, "{what}");
            assert_eq!(found.download, 64 << 20);
        }
        // Scratch memory is in memory, and neither U-Boot's nor the download's.
        assert!(space.scratch.start >= layout.ram && space.scratch.end <= layout.ram + layout.ram_bytes / 2);
        if let Some(buffer) = space.buffer {
            assert!(
                !space.scratch.contains(&buffer) && !space.scratch.contains(&(buffer + u64::from(found.download) - 1))
            );
        }
        // Nothing was written to the card, and nothing is left behind.
        assert_eq!(board.emmc(|card| card.counters(Area::User).bytes_written), 0);
        assert!(session.getvar("mf").is_err() && !session.is_out_of_step());
        session.ucmd("if env exists mf; then false; else true; fi").unwrap();
    }
}

#[test]
fn a_board_found_in_fastboot_names_itself() {
    let table = ChipTable::builtin();
    for model in Model::ALL {
        let (_, _bus, mut session) = plain(model, Tree::Nxp);
        let found = ask(&mut session, &table, None);
        let source = if model == Model::Imx95 { Source::LoadAddress } else { Source::Named };
        assert_eq!((found.chip.as_deref(), found.space.map(|space| space.source)), (Some(model.chip()), Some(source)));
    }
    // One that does not: `loadaddr` is all there is.
    let (_, _bus, mut session) = plain(Model::Imx8mp, Tree::Upstream);
    session.ucmd("setenv board mystery").unwrap();
    let found = ask(&mut session, &table, None);
    assert_eq!((found.chip, found.crc32, found.sha256), (None, false, true));
    let space = found.space.unwrap();
    assert_eq!((space.source, space.scratch, space.buffer), (Source::LoadAddress, 0x4048_0000..0x4248_0000, None));
    // Not even that: no address is guessed.
    session.ucmd("setenv loadaddr").unwrap();
    let found = ask(&mut session, &table, None);
    assert_eq!((found.space, found.sha256, found.cmp, found.gzip), (None, false, false, false));
    assert_eq!((found.shell, found.values, found.download), (Some(Shell::UCmd), true, 64 << 20));
}

#[test]
fn downloads_are_modest_unless_told() {
    let table = ChipTable::builtin();
    let chip = table.chip("MX93");
    let (_, _bus, mut session) = plain(Model::Imx93, Tree::Nxp);
    for (wanted, safe) in [(None, 64 << 20), (Some(16 << 20), 16 << 20), (Some(u32::MAX), 0x2000_0000)] {
        let options = ProbeOptions { table: &table, chip, download: wanted };
        assert_eq!(probe::probe(&mut session, &options).unwrap().download, safe);
    }
}

#[test]
fn a_uboot_without_commands_is_no_failure() {
    let table = ChipTable::builtin();
    let (board, _bus, mut session) = plain(Model::Imx8mp, Tree::Nxp);
    board.add_faults(script("uboot cmd 1 UCmd fail unrecognized command").unwrap());
    let found = ask(&mut session, &table, table.chip("MX865"));
    assert_eq!((found.shell, found.space.is_some(), found.sha256, found.lz4), (None, false, false, false));
    assert_eq!((found.tree, found.max_download), (Some(probe::Tree::Nxp), Some(0x4000_0000)));
    let card = card::find(&mut session, &found, table.chip("MX865"), Kind::Emmc, None).unwrap();
    assert_eq!((card.name.as_str(), card.number, card.kind, card.checked), ("all", None, None, false));
    assert_eq!(card.bytes, Some(Geometry::default().user_bytes));
    // Upstream's other way.
    let (board, _bus, mut session) = plain(Model::Imx8mp, Tree::Upstream);
    board.add_faults(script("uboot cmd 1 UCmd fail unrecognized command").unwrap());
    let found = ask(&mut session, &table, table.chip("MX865"));
    assert_eq!((found.shell, found.sha256, found.lz4), (Some(Shell::OemRun), true, true));
    assert_eq!(variable(&mut session, Shell::OemRun, "emmc_dev").unwrap().as_deref(), Some("2"));
    assert_eq!(variable(&mut session, Shell::OemRun, "nothing").unwrap(), None);
    assert_eq!(variable(&mut session, Shell::OemRun, "a;reset").unwrap(), None);
}

#[test]
fn a_link_that_fails_is_an_error_in_time() {
    let table = ChipTable::builtin();
    for (faults, timeout) in [
        ("uboot cmd 1 getvar hang", true),
        ("uboot cmd 4 UCmd hang", true),
        ("uboot cmd 9 UCmd unplug never", false),
        ("uboot cmd 1 download unplug never", false),
        ("uboot cmd 12 UCmd stall", false),
    ] {
        let (board, bus, mut session) = plain(Model::Imx8mm, Tree::Nxp);
        board.add_faults(script(faults).unwrap());
        let begin = session.now();
        let deadlines = session.deadlines.clone();
        let options = ProbeOptions { table: &table, chip: table.chip("MX8MM"), download: None };
        let error = probe::probe(&mut session, &options).unwrap_err();
        let ProbeError::Link(FastbootError::Transfer { source, .. }) = error else { panic!("{error:?}") };
        assert_eq!(matches!(source.fault, Fault::TimedOut(_)), timeout, "{faults}: {source:?}");
        assert!(session.now() - begin < Duration::from_secs(15));
        assert!(session.is_out_of_step() && session.deadlines == deadlines);
        drop(session);
        assert_eq!(bus.open_pipes(), 0);
    }
}

#[test]
fn the_card_asked_for_is_found_and_checked() {
    let table = ChipTable::builtin();
    let sd = Geometry { user_bytes: 8 << 30, ..Geometry::default() };
    for (model, tree) in Model::ALL.into_iter().flat_map(|model| [(model, Tree::Nxp), (model, Tree::Upstream)]) {
        let (board, _bus, mut session) = ready(Setup { sd: Some(sd), ..Setup::new(model, tree) });
        let chip = table.chip(model.chip());
        let found = ask(&mut session, &table, chip);
        let layout = model.layout(tree);
        let mut find = |kind, given| card::find(&mut session, &found, chip, kind, given);
        let emmc = find(Kind::Emmc, None).unwrap();
        assert_eq!((emmc.number, emmc.numbered), (Some(layout.emmc), Some(Numbered::Variable)));
        assert_eq!(emmc.bytes, Some(Geometry::default().user_bytes));
        assert!(emmc.checked);
        let card = find(Kind::Sd, None).unwrap();
        assert_eq!((card.number, card.bytes, card.checked), (Some(layout.sd), Some(8 << 30), true));
        assert_eq!(card.name, if tree == Tree::Nxp { "all".to_owned() } else { layout.sd.to_string() });
        // And back again.
        assert_eq!(find(Kind::Emmc, Some(layout.emmc)).unwrap().numbered, Some(Numbered::Given));
        match find(Kind::Emmc, Some(layout.sd)).unwrap_err() {
            CardError::WrongKind { number, wanted: Kind::Emmc, found: Kind::Sd, there } => {
                assert_eq!((number, there.len()), (layout.sd, 2));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(find(Kind::Emmc, Some(3)), Err(CardError::NotThere { number: 3, .. })));
        assert_eq!(board.emmc(|card| card.counters(Area::User).bytes_written), 0);
        assert!(board.one_way().is_empty());
    }
}

#[test]
fn a_number_for_another_board_is_seen_through() {
    let table = ChipTable::builtin();
    let (_, _bus, mut session) = plain(Model::Imx8mm, Tree::Nxp);
    let chip = table.chip("MX8MM");
    let found = ask(&mut session, &table, chip);
    // An unset variable: the table has it.
    session.ucmd("setenv emmc_dev").unwrap();
    let card = card::find(&mut session, &found, chip, Kind::Emmc, None).unwrap();
    assert_eq!((card.number, card.numbered), (Some(2), Some(Numbered::Table)));
    // A wrong one: there is only one eMMC.
    session.ucmd("setenv emmc_dev 0").unwrap();
    let card = card::find(&mut session, &found, chip, Kind::Emmc, None).unwrap();
    assert_eq!((card.number, card.numbered), (Some(2), Some(Numbered::Only)));
    let error = card::find(&mut session, &found, chip, Kind::Sd, None).unwrap_err();
    assert_eq!(error.to_string(), "there is no SD card in the slot (U-Boot knows: mmc 2, an eMMC)");
    let error = card::find(&mut session, &found, None, Kind::Sd, Some(2)).unwrap_err();
    assert_eq!(error.to_string(), "card 2 is an eMMC, not an SD card (there are: 2 eMMC)");
}

#[test]
fn commands_too_long_for_udp_are_not_needed() {
    let table = ChipTable::builtin();
    let (_, bus, session) = plain(Model::Imx8mm, Tree::Nxp);
    let pipe = session.into_pipe();
    let mut session = Session::new(pipe, Limits { command: 64, ..Limits::USB });
    let found = ask(&mut session, &table, table.chip("MX8MM"));
    assert!(found.crc32 && found.sha256 && found.cmp && found.gzip && found.lz4, "{found:?}");
    let card = card::find(&mut session, &found, table.chip("MX8MM"), Kind::Emmc, None).unwrap();
    assert!(card.checked);
    drop((session, bus));
}
