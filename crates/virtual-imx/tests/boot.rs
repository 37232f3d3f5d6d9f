//! The way from ROM to fastboot, on virtual boards: every family, every start, and what can go wrong at each stage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

use std::cell::Cell;
use std::time::Duration;

use imx_usb::boot::{BootError, BootImage, BootOptions, Booted, Contents, Identity, Problem, Step, boot};
use imx_usb::bootimage::ImageError;
use imx_usb::bootimage::describe::Family;
use imx_usb::bootimage::marks::LOADER_TAG;
use imx_usb::bus::{Bus, Port};
use imx_usb::chips::{ChipTable, ImageFormat, Protocol};
use imx_usb::pipe::Fault;
use imx_usb::sdp::HabState;
use virtual_imx::board::{Board, Setup, Stage};
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::rom::Hab;
use virtual_imx::sample::{flash_bin, signed_flash_bin};

fn port() -> Port {
    "1-1".parse().unwrap()
}

/// A board by itself on a bus.
fn alone(setup: Setup) -> (Board, HostBus) {
    let board = Board::new(setup);
    (board.clone(), HostBus::new(vec![board]))
}

fn open_board(model: Model) -> (Board, HostBus) {
    alone(Setup::new(model, Tree::Nxp))
}

/// What was seen on the way, and how it ended.
#[derive(Debug, Default)]
struct Log {
    way: Vec<Protocol>,
    sent: Vec<(usize, usize)>,
    hab: Option<HabState>,
}

fn walk_with(bus: &HostBus, image: &[u8], options: &BootOptions<'_>) -> (Result<Booted, BootError>, Log) {
    let mut log = Log::default();
    let result = boot(bus, &ChipTable::builtin(), &port(), &BootImage::new(image), options, &mut |step| match step {
        Step::Found { seen, .. } => log.way.push(seen.protocol),
        Step::Sending { sent, of } => log.sent.push((sent, of)),
        Step::Hab(hab) => log.hab = Some(hab),
        _ => {}
    });
    assert_eq!(bus.open_pipes(), 0);
    (result, log)
}

fn walk(bus: &HostBus, image: &[u8]) -> (Result<Booted, BootError>, Log) {
    walk_with(bus, image, &BootOptions::default())
}

fn way(model: Model) -> &'static [Protocol] {
    match model {
        Model::Imx8mm => &[Protocol::Sdp, Protocol::Sdpv, Protocol::Fastboot],
        Model::Imx8qxp | Model::Imx95 => &[Protocol::Sdps, Protocol::Sdpv, Protocol::Fastboot],
        _ => &[Protocol::Sdps, Protocol::Fastboot],
    }
}

#[test]
fn every_family_arrives_under_both_trees() {
    for (model, tree) in Model::ALL.into_iter().flat_map(|model| [(model, Tree::Nxp), (model, Tree::Upstream)]) {
        let (board, bus) = alone(Setup::new(model, tree));
        let (booted, log) = walk(&bus, &flash_bin(model, 1));
        let booted = booted.unwrap();
        assert_eq!((log.way.as_slice(), board.stage()), (way(model), Stage::UBoot), "{model:?} {tree:?}");
        assert_eq!(booted.protocol, Protocol::Fastboot);
        assert_eq!(log.hab, (model == Model::Imx8mm).then_some(HabState::Open));
        assert!(log.sent.iter().all(|(sent, of)| sent <= of));
        // The ROM's number and U-Boot's are tied together.
        assert_eq!(booted.identity.chip.as_deref(), Some(model.chip()));
        assert_eq!(booted.identity.rom_serial.as_deref(), Some("0123456789ABCDEF"));
        assert_eq!(booted.identity.uboot_serial, booted.device.serial);
        assert!(booted.identity.has_serial("0123456789abcdef"));
        // Once more: it is there already, and is left alone.
        let (again, log) = walk(&bus, &flash_bin(model, 1));
        assert_eq!(again.unwrap().device.visit, booted.device.visit);
        assert!(log.sent.is_empty());
    }
}

#[test]
fn a_board_in_its_loader_goes_on_from_there() {
    for model in [Model::Imx8mm, Model::Imx8qxp, Model::Imx95] {
        let (board, bus) = open_board(model);
        let found = Cell::new(0);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let cancelled = || stop.load(std::sync::atomic::Ordering::Relaxed);
        let options = BootOptions { cancelled: &cancelled, ..BootOptions::default() };
        let image = BootImage::new(flash_bin(model, 1));
        let error = boot(&bus, &ChipTable::builtin(), &port(), &image, &options, &mut |step| {
            if let Step::Found { .. } = step {
                found.set(found.get() + 1);
                stop.store(found.get() == 2, std::sync::atomic::Ordering::Relaxed);
            }
        });
        assert!(matches!(*error.unwrap_err().problem, Problem::Cancelled));
        assert_eq!((board.stage(), bus.open_pipes()), (Stage::Loader, 0));
        let (booted, log) = walk(&bus, image.bytes());
        assert_eq!(log.way, [Protocol::Sdpv, Protocol::Fastboot]);
        // It was not seen in its ROM this time.
        let identity = booted.unwrap().identity;
        assert_eq!((identity.chip, identity.rom_serial), (None, None));
    }
}

#[test]
fn calling_off_works_in_mid_transfer() {
    for model in [Model::Imx8mm, Model::Imx8mp] {
        let (board, bus) = open_board(model);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let cancelled = || stop.load(std::sync::atomic::Ordering::Relaxed);
        let options = BootOptions { cancelled: &cancelled, ..BootOptions::default() };
        let image = BootImage::new(flash_bin(model, 1));
        let error = boot(&bus, &ChipTable::builtin(), &port(), &image, &options, &mut |step| {
            if let Step::Sending { sent, .. } = step {
                stop.store(sent > 8000, std::sync::atomic::Ordering::Relaxed);
            }
        });
        let error = error.unwrap_err();
        assert!(matches!(*error.problem, Problem::Cancelled), "{error:?}");
        assert!(error.sent > 8000 && error.sent < 10_000);
        assert_eq!((board.stage(), bus.open_pipes()), (Stage::Rom, 0));
    }
}

#[test]
fn an_image_of_the_wrong_kind_is_not_sent() {
    let cases = [
        (Model::Imx8mm, flash_bin(Model::Imx93, 1), ImageFormat::Ivt, Contents::Container),
        (Model::Imx8mp, flash_bin(Model::Imx95, 1), ImageFormat::Ivt, Contents::Container),
        (Model::Imx93, flash_bin(Model::Imx8mp, 1), ImageFormat::Container, Contents::Ivt),
        (Model::Imx8qxp, flash_bin(Model::Imx8mm, 1), ImageFormat::Container, Contents::Ivt),
        (Model::Imx95, vec![7; 100_000], ImageFormat::Container, Contents::Unknown),
        (Model::Imx8mm, vec![7; 100_000], ImageFormat::Ivt, Contents::Unknown),
    ];
    for (model, image, wanted, found) in cases {
        let (board, bus) = open_board(model);
        let (result, log) = walk(&bus, &image);
        let error = result.unwrap_err();
        match *error.problem {
            Problem::Format { wanted: w, found: f } => assert_eq!((w, f), (wanted, found), "{model:?}"),
            ref other => panic!("{model:?}: {other:?}"),
        }
        assert!(log.sent.is_empty());
        // Nothing happened to it: the right image still boots.
        assert_eq!(board.stage(), Stage::Rom);
        walk(&bus, &flash_bin(model, 1)).0.unwrap();
    }
    let (_, bus) = open_board(Model::Imx8mm);
    let error = walk(&bus, &flash_bin(Model::Imx93, 1)).0.unwrap_err();
    assert_eq!(error.to_string(), "the i.MX8M Mini at 1-1, in its boot ROM (SDP)");
    assert_eq!(
        error.problem.to_string(),
        "the chip takes images with a vector table (IVT), but the boot image is of containers (AHAB)"
    );
}

#[test]
fn an_image_for_another_chip_of_the_kind_raises_doubt() {
    for (model, image, doubt) in [
        (Model::Imx8mp, Model::Imx8mp, None),
        (Model::Imx8mn, Model::Imx8mn, None),
        (Model::Imx8mm, Model::Imx8mm, None),
        (Model::Imx8mp, Model::Imx8mm, Some(Family::Imx8mQuadOrMini)),
        (Model::Imx8mn, Model::Imx8mp, Some(Family::Imx8mPlus)),
    ] {
        let (_, bus) = open_board(model);
        let (table, image, mut found) = (ChipTable::builtin(), BootImage::new(flash_bin(image, 1)), None);
        // It is a guess, so the image is sent; what this board makes of it is not the matter here.
        let _ = boot(&bus, &table, &port(), &image, &BootOptions::default(), &mut |step| {
            if let Step::LooksLike(family) = step {
                found = Some(family);
            }
        });
        assert_eq!(found, doubt, "{model:?}");
    }
}

#[test]
fn an_image_that_was_cut_says_what_lacks() {
    let (_, bus) = open_board(Model::Imx8mm);
    let error = walk(&bus, &flash_bin(Model::Imx8mm, 1)[..0x1000]).0.unwrap_err();
    assert!(matches!(*error.problem, Problem::Image(ImageError::Truncated { .. })), "{error:?}");
    // The loader alone: the board gets as far as that.
    let (board, bus) = open_board(Model::Imx8mm);
    let error = walk(&bus, &flash_bin(Model::Imx8mm, 1)[..0x4000]).0.unwrap_err();
    assert!(matches!(*error.problem, Problem::Image(ImageError::NothingLeft { .. })), "{error:?}");
    assert_eq!((error.stage.unwrap().protocol, board.stage()), (Protocol::Sdpv, Stage::Loader));
}

#[test]
fn closed_boards_take_signed_images() {
    for model in Model::ALL {
        let closed = || alone(Setup { hab: Hab::Closed, ..Setup::new(model, Tree::Nxp) });
        let (board, bus) = closed();
        let (result, log) = walk(&bus, &signed_flash_bin(model, 1));
        assert_eq!(result.unwrap().identity.hab, (model == Model::Imx8mm).then_some(HabState::Closed), "{model:?}");
        assert_eq!((log.way.as_slice(), board.stage()), (way(model), Stage::UBoot));

        let (board, bus) = closed();
        let (result, log) = walk(&bus, &flash_bin(model, 1));
        let error = result.unwrap_err();
        assert_eq!(board.stage(), Stage::Rom);
        if model == Model::Imx8mm {
            // Its ROM says that it is closed, so nothing is sent.
            assert!(matches!(*error.problem, Problem::Unsigned), "{error:?}");
            assert!(log.sent.is_empty());
        } else {
            // The others say nothing, and do nothing.
            assert!(matches!(*error.problem, Problem::Stays { signed: Some(false), .. }), "{model:?} {error:?}");
        }
    }
    let (board, bus) = alone(Setup { hab: Hab::Closed, ..Setup::new(Model::Imx8mm, Tree::Nxp) });
    let options = BootOptions { send_unsigned: true, ..BootOptions::default() };
    let error = walk_with(&bus, &flash_bin(Model::Imx8mm, 1), &options).0.unwrap_err();
    match *error.problem {
        Problem::Refused { status: 0x000a_0533, hab: Some(HabState::Closed), signed: Some(false) } => {}
        ref other => panic!("{other:?}"),
    }
    assert_eq!(board.stage(), Stage::Rom);
}

/// What a fault must lead to.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Gone,
    Stalled,
    TimedOut,
    Vanished,
    CameBack(Protocol),
    Arrives,
}

fn check(model: Model, faults: &str, stage: Protocol, ends: Ends) {
    let (_, bus) = open_board(model);
    // Faults on entering the ROM are for the next time.
    bus.boards()[0].add_faults(script(faults).unwrap());
    bus.boards()[0].power_cycle();
    let begin = bus.now();
    let (result, _) = walk(&bus, &flash_bin(model, 1));
    let took = bus.now() - begin;
    let what = format!("{model:?}, {faults}: {result:?}");
    assert!(took < Duration::from_secs(60), "{took:?} for {what}");
    let (error, ends) = match (result, ends) {
        (Ok(_), Ends::Arrives) => return,
        (Err(error), ends) => (error, ends),
        _ => panic!("{what}"),
    };
    assert_eq!((error.stage.as_ref().unwrap().protocol, &error.port), (stage, &port()), "{what}");
    match (ends, &*error.problem, error.problem.fault()) {
        (Ends::Gone, _, Some(Fault::Gone))
        | (Ends::Stalled, _, Some(Fault::Stalled))
        | (Ends::TimedOut, _, Some(Fault::TimedOut(_)))
        | (Ends::Vanished, Problem::Vanished { .. }, _) => {}
        (Ends::CameBack(protocol), Problem::CameBack { found, .. }, _) if found.protocol == protocol => {}
        _ => panic!("{what}"),
    }
}

#[test]
fn each_fault_at_each_stage_has_its_error() {
    for model in Model::ALL {
        let rom = way(model)[0];
        check(model, "rom at 9000 unplug never", rom, Ends::Gone);
        check(model, "rom at 9000 unplug back 500", rom, Ends::Gone);
        check(model, "rom at 9000 power back 500", rom, Ends::Gone);
        check(model, "rom at 9000 stall", rom, Ends::Stalled);
        check(model, "rom at 9000 hang", rom, Ends::TimedOut);
        check(model, "rom enter hang", rom, Ends::TimedOut);
        check(model, "rom enter stall", rom, Ends::Stalled);
        check(model, "uboot enter unplug never", way(model)[way(model).len() - 2], Ends::Vanished);
        check(model, "uboot enter unplug back 3000", rom, Ends::Arrives);
        // It is there, which is all that is asked for here.
        check(model, "uboot enter hang", rom, Ends::Arrives);
        if way(model).len() == 3 {
            check(model, "loader at 9000 unplug never", Protocol::Sdpv, Ends::Gone);
            check(model, "loader at 9000 power back 500", Protocol::Sdpv, Ends::Gone);
            check(model, "loader at 9000 stall", Protocol::Sdpv, Ends::Stalled);
            check(model, "loader at 9000 hang", Protocol::Sdpv, Ends::TimedOut);
            check(model, "loader enter hang", Protocol::Sdpv, Ends::TimedOut);
            check(model, "loader enter stall", Protocol::Sdpv, Ends::Stalled);
            check(model, "loader enter unplug never", rom, Ends::Vanished);
            check(model, "loader enter power back 500", rom, Ends::CameBack(rom));
            check(model, "loader enter unplug back 4000", rom, Ends::Arrives);
        }
        check(model, "uboot enter power back 500", way(model)[way(model).len() - 2], Ends::CameBack(rom));
    }
}

#[test]
fn an_error_says_how_much_had_gone() {
    for model in Model::ALL {
        let (_, bus) = open_board(model);
        bus.boards()[0].add_faults(script("rom at 12000 unplug never").unwrap());
        let error = walk(&bus, &flash_bin(model, 1)).0.unwrap_err();
        assert!((9_000..12_000).contains(&error.sent), "{model:?}: {}", error.sent);
        assert!(error.of > error.sent);
    }
}

#[test]
fn a_board_that_moved_is_named() {
    let (board, bus) = open_board(Model::Imx8mp);
    let serial = walk(&bus, &flash_bin(Model::Imx8mp, 1)).0.unwrap().identity;
    board.power_cycle();
    board.add_faults(script("uboot enter unplug back 500 on 1-3").unwrap());
    let options = BootOptions { expect: Some(&serial), ..BootOptions::default() };
    let error = walk_with(&bus, &flash_bin(Model::Imx8mp, 1), &options).0.unwrap_err();
    match &*error.problem {
        Problem::Vanished { elsewhere: Some(port), .. } => assert_eq!(port.to_string(), "1-3"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_board_at_the_port_is_noticed() {
    for (faults, what) in [("rom enter serial FEED", "ROM's"), ("uboot enter serial feed", "U-Boot's")] {
        let (board, bus) = open_board(Model::Imx8mm);
        let before = walk(&bus, &flash_bin(Model::Imx8mm, 1)).0.unwrap().identity;
        board.add_faults(script(faults).unwrap());
        board.power_cycle();
        let options = BootOptions { expect: Some(&before), ..BootOptions::default() };
        let error = walk_with(&bus, &flash_bin(Model::Imx8mm, 1), &options).0.unwrap_err();
        match &*error.problem {
            Problem::OtherBoard { what: found, found: serial, .. } => {
                assert!(found.starts_with(what) && serial.eq_ignore_ascii_case("feed"), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
        // Without an expectation it is a board like any.
        walk(&bus, &flash_bin(Model::Imx8mm, 1)).0.unwrap();
    }
}

#[test]
fn an_empty_port_and_a_strange_device() {
    let (board, bus) = open_board(Model::Imx8mm);
    board.unplug();
    let begin = bus.now();
    let error = walk(&bus, &flash_bin(Model::Imx8mm, 1)).0.unwrap_err();
    assert!(matches!(*error.problem, Problem::NoBoard(_)) && error.stage.is_none());
    assert!(bus.now() - begin < Duration::from_secs(3));
    // A table that knows nothing of it.
    let (_, bus) = open_board(Model::Imx8mm);
    let mut table = ChipTable::builtin();
    imx_usb::chips::config::read_config(&mut table, "CFG: SDP: -vid 0x1fc9 -pid 0x0134 -bcdmin 0x9000").unwrap();
    let image = BootImage::new(flash_bin(Model::Imx8mm, 1));
    let error = boot(&bus, &table, &port(), &image, &BootOptions::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(*error.problem, Problem::Unknown { product: 0x0134, .. }), "{error:?}");
}

/// A disk image with a partition table, `loader` where the ROM looks, and maybe the tag behind it.
fn disk(model: Model, loader: &[u8], tag: bool) -> Vec<u8> {
    let at = usize::try_from(model.loader_offset(false)).unwrap();
    let mut bytes = vec![0; at];
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes.extend(loader);
    if tag {
        bytes.extend(LOADER_TAG);
        bytes.extend(loader.len().to_string().bytes());
    }
    bytes.resize(bytes.len() + 300_000, 0);
    bytes
}

#[test]
fn the_loader_inside_a_disk_image_is_found() {
    for (model, tag) in Model::ALL.into_iter().flat_map(|model| [(model, true), (model, false)]) {
        let (board, bus) = open_board(model);
        let (result, log) = walk(&bus, &disk(model, &flash_bin(model, 1), tag));
        result.unwrap_or_else(|error| panic!("{model:?}, tag {tag}: {error:?}"));
        assert_eq!((log.way.as_slice(), board.stage()), (way(model), Stage::UBoot));
    }
    let (_, bus) = open_board(Model::Imx8mp);
    let error = walk(&bus, &disk(Model::Imx8mp, &[0; 5000], false)).0.unwrap_err();
    assert!(matches!(*error.problem, Problem::Image(ImageError::NoTag(_))), "{error:?}");
}

#[test]
fn what_stands_before_an_image_is_passed_over() {
    for model in [Model::Imx8mp, Model::Imx93, Model::Imx8qxp] {
        let (board, bus) = open_board(model);
        let mut image = vec![0; 0x1000];
        image[0x400..0x404].copy_from_slice(b"FCFB");
        image.extend(flash_bin(model, 1));
        walk(&bus, &image).0.unwrap();
        assert_eq!(board.stage(), Stage::UBoot);
    }
    // Barebox for a streaming ROM begins 32 KiB into its file.
    let (board, bus) = open_board(Model::Imx8mp);
    let mut image = vec![0; 0x8000];
    image.extend(flash_bin(Model::Imx8mp, 1));
    walk(&bus, &image).0.unwrap();
    assert_eq!(board.stage(), Stage::UBoot);
}

#[test]
fn four_boards_on_one_bus() {
    let models = [Model::Imx8mm, Model::Imx8mp, Model::Imx93, Model::Imx8qxp];
    let boards: Vec<_> = (1..)
        .zip(models)
        .map(|(n, model)| Board::new(Setup { path: format!("1-2.{n}"), uid: n, ..Setup::new(model, Tree::Nxp) }))
        .collect();
    // One of them hangs; that is nobody else's business.
    boards[2].add_faults(script("rom at 9000 hang").unwrap());
    let bus = HostBus::new(boards.clone());
    let table = ChipTable::builtin();
    std::thread::scope(|scope| {
        for (n, model) in (1..).zip(models) {
            let (bus, table) = (&bus, &table);
            scope.spawn(move || {
                let port: Port = format!("1-2.{n}").parse().unwrap();
                let image = BootImage::new(flash_bin(model, 1));
                let result = boot(bus, table, &port, &image, &BootOptions::default(), &mut |_| {});
                match result {
                    Ok(booted) => {
                        assert!(n != 3);
                        assert_eq!(booted.device.serial, Some(format!("{n:016x}")));
                        assert_eq!(booted.identity, Identity { hab: booted.identity.hab, ..tied(&port, model, n) });
                    }
                    Err(error) => {
                        assert!(n == 3 && matches!(error.problem.fault(), Some(Fault::TimedOut(_))), "{n}: {error:?}");
                    }
                }
            });
        }
    });
    assert_eq!(bus.open_pipes(), 0);
}

fn tied(port: &Port, model: Model, uid: u64) -> Identity {
    Identity {
        chip: Some(model.chip().into()),
        rom_serial: Some(format!("{uid:016X}")),
        uboot_serial: Some(format!("{uid:016x}")),
        ..Identity::at(port.clone())
    }
}
