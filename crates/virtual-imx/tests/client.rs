//! The project's own client against the virtual board: every chip family from its ROM to a flashed card.
//!
//! Parsers on both sides were written apart from each other, so agreement here means something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

use std::time::Duration;

use imx_usb::bus::Bus;
use imx_usb::chips::{Chip, ChipTable, Protocol, StreamExtent};
use imx_usb::fastboot::{self, FastbootError, Limits};
use imx_usb::pipe::BulkPipe;
use imx_usb::sdp::{self, Jump, Load, Settings};
use imx_usb::sdps;
use virtual_imx::board::{Board, BootMode, Setup, Stage};
use virtual_imx::emmc::{Area, PartConf};
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::rom::Hab;
use virtual_imx::sample::{fbk_bin, flash_bin, pattern};

const WITHIN: Duration = Duration::from_secs(10);

/// Where U-Boot begins in a sample image that is sent in two parts.
fn split(model: Model) -> usize {
    if model == Model::Imx8mm { 0x4000 } else { 0x5c00 }
}

/// What is on the bus of a single board.
fn device(bus: &HostBus) -> imx_usb::bus::Device {
    bus.devices().unwrap().remove(0)
}

/// Walks a board to fastboot by what the client's table says of it; the protocols on the way.
fn boot(board: &Board, image: &[u8], model: Model) -> Vec<Protocol> {
    let table = ChipTable::builtin();
    let bus = HostBus::new(vec![board.clone()]);
    let mut protocols = Vec::new();
    loop {
        let seen = bus.changes();
        let device = device(&bus);
        let found = table.identify(device.vendor, device.product, device.release).expect("a known device");
        protocols.push(found.id.protocol);
        let pipe = |chip: &Chip| bus.reports(&device, chip.route).unwrap();
        match (found.id.protocol, found.chip) {
            (Protocol::Sdp, Some(chip)) => {
                let load = Load { address: 0x007e_1000, bytes: &image[..split(model)], dcd: None };
                let mut session = sdp::Session::new(pipe(chip), Settings::from(chip));
                assert_eq!(session.boot(&load, &mut |_| {}).unwrap(), Jump::Silent);
            }
            (Protocol::Sdps, Some(chip)) => {
                let bytes = match chip.stream {
                    StreamExtent::WholeFile => image,
                    StreamExtent::LoaderContainer => &image[..split(model)],
                };
                sdps::stream(&mut pipe(chip), chip, bytes, WITHIN, &mut |_| {}).unwrap();
            }
            (Protocol::Sdpv, Some(chip)) => {
                let mut session = sdp::Session::new(pipe(chip), Settings::from(chip));
                session.write_file(0, &image[split(model)..], &mut |_| {}).unwrap();
                assert_eq!(session.jump(0).unwrap(), Jump::Silent);
            }
            (Protocol::Fastboot | Protocol::Fbk, _) => return protocols,
            other => panic!("not expected on the way: {other:?}"),
        }
        // It leaves, and comes back.
        bus.wait(seen, WITHIN);
        bus.wait(bus.changes(), WITHIN);
    }
}

fn session(board: &Board) -> fastboot::Session<Box<dyn BulkPipe + Send>> {
    let bus = HostBus::new(vec![board.clone()]);
    fastboot::Session::new(bus.bulk(&device(&bus)).unwrap(), Limits::USB)
}

fn ready(model: Model, tree: Tree) -> (Board, fastboot::Session<Box<dyn BulkPipe + Send>>) {
    let board = Board::new(Setup::new(model, tree));
    boot(&board, &flash_bin(model, 1), model);
    let session = session(&board);
    (board, session)
}

/// A sparse image of these pieces: blocks of 4096 left alone, then bytes.
fn sparse(pieces: &[(u32, &[u8])]) -> Vec<u8> {
    let (mut chunks, mut total, mut count) = (Vec::new(), 0, 0u32);
    for (gap, bytes) in pieces {
        let blocks = u32::try_from(bytes.len() / 4096).unwrap();
        for (kind, blocks, bytes) in [(0xcac3_u32, *gap, &[][..]), (0xcac1, blocks, bytes)] {
            if blocks > 0 {
                let length = u32::try_from(12 + bytes.len()).unwrap();
                [kind, blocks, length].iter().for_each(|word| chunks.extend(word.to_le_bytes()));
                chunks.extend(bytes);
                (total, count) = (total + blocks, count + 1);
            }
        }
    }
    let header = [0xed26_ff3a, 1, 28 | 12 << 16, 4096, total, count, 0];
    let mut image: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    image.extend(chunks);
    image
}

#[test]
fn every_family_is_booted_and_flashed() {
    for model in Model::ALL {
        let board = Board::new(Setup { boot: BootMode::Card, ..Setup::new(model, Tree::Nxp) });
        let image = flash_bin(model, 1);
        let way = boot(&board, &image, model);
        let expected: &[Protocol] = match model {
            Model::Imx8mm => &[Protocol::Sdp, Protocol::Sdpv, Protocol::Fastboot],
            Model::Imx8qxp | Model::Imx95 => &[Protocol::Sdps, Protocol::Sdpv, Protocol::Fastboot],
            _ => &[Protocol::Sdps, Protocol::Fastboot],
        };
        assert_eq!(way, expected, "{model:?}");

        let mut session = session(&board);
        assert_eq!(session.getvar("max-download-size").unwrap().get(..2), Some("0x"));
        // As uuu's built-in script for a loader and a whole image does.
        for line in ["setenv fastboot_dev mmc", "setenv mmcdev ${emmc_dev}", "mmc dev ${emmc_dev}"] {
            session.ucmd(line).unwrap();
        }
        let data = pattern(1 << 20, 7);
        session.download_all(&sparse(&[(16, &data), (4, &data[..4096])])).unwrap();
        session.flash("all").unwrap();
        session.download_all(&image).unwrap();
        session.flash("bootloader").unwrap();
        assert!(board.bootable().is_err(), "the switch is not yet there");
        session.ucmd("if env exists emmc_ack; then ; else setenv emmc_ack 0; fi;").unwrap();
        session.ucmd("mmc partconf ${emmc_dev} ${emmc_ack} 1 0").unwrap();
        assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: false, boot: 1, access: 0 });
        board.emmc(|card| {
            assert!(card.peek(Area::User, 65_536, data.len()).unwrap() == data);
            assert!(card.peek(Area::User, 65_536 + (1 << 20) + 16_384, 4096).unwrap() == data[..4096]);
        });

        // Proof on the board, then away from USB.
        let crc = crc32fast::hash(&data);
        let line = format!("mmc dev ${{emmc_dev}} 0; mmc read $loadaddr 80 800; crc32 -v $loadaddr 100000 {crc:08x}");
        session.ucmd(&line).unwrap();
        assert!(matches!(session.ucmd("crc32 -v $loadaddr 100000 00000001"), Err(FastbootError::Fail { .. })));
        session.acmd("reset").unwrap();
        assert_eq!(board.wait_for_device(None, WITHIN), None, "{model:?} boots from its card");
        assert_eq!(board.stage(), Stage::Running);
    }
}

#[test]
fn four_boards_at_once() {
    let setups = [Model::Imx8mm, Model::Imx8mp, Model::Imx93, Model::Imx8qxp];
    std::thread::scope(|scope| {
        for (n, model) in (1..).zip(setups) {
            scope.spawn(move || {
                let path = format!("1-1.{n}");
                let board = Board::new(Setup { path: path.clone(), uid: n, ..Setup::new(model, Tree::Nxp) });
                boot(&board, &flash_bin(model, 1), model);
                assert_eq!(board.device().unwrap().path, path);
                let mut session = session(&board);
                assert_eq!(session.getvar("serialno").unwrap(), format!("{n:016x}"));
                session.download_all(&vec![5; 4 << 20]).unwrap();
            });
        }
    });
}

#[test]
fn upstream_takes_names_and_commands_of_its_own() {
    let (board, mut session) = ready(Model::Imx8mp, Tree::Upstream);
    assert_eq!(session.getvar("partition-size:mmc0").unwrap(), "0x00000003ab400000".to_owned());
    let error = session.getvar("logical-block-size").unwrap_err();
    assert_eq!(error.board_says(), Some("Variable not implemented"));
    session.download_all(&pattern(5000, 3)).unwrap();
    session.flash("mmc0boot1").unwrap();
    assert!(board.emmc(|card| card.peek(Area::Boot1, 0, 5000)).unwrap() == pattern(5000, 3));
    session.ucmd("mmc dev 2 2; mmc read 40480000 0 a; hash sha256 40480000 1388 fastboot.h").unwrap();
    assert_eq!(session.getvar("h").unwrap().len(), 59);
}

#[test]
fn faults_are_typed_errors() {
    let (board, mut session) = ready(Model::Imx8mp, Tree::Nxp);
    board.add_faults(script("uboot cmd 1 flash fail no room; uboot cmd 2 download size 16").unwrap());
    session.download_all(&[1; 4096]).unwrap();
    assert_eq!(session.flash("bootloader").unwrap_err().board_says(), Some("no room"));
    let error = session.download(64).err().unwrap();
    assert!(matches!(error, FastbootError::DataSize { expected: 64, found: 16, .. }), "{error}");
    assert!(session.is_out_of_step());

    let (board, mut session) = ready(Model::Imx8mp, Tree::Nxp);
    board.add_faults(script("uboot at 100000 unplug back 500").unwrap());
    let error = session.download_all(&[1; 1 << 20]).unwrap_err();
    assert!(matches!(&error, FastbootError::Transfer { source, .. } if source.is_gone()), "{error}");

    let (board, mut session) = ready(Model::Imx8mp, Tree::Nxp);
    board.add_faults(script("uboot cmd 1 UCmd hang").unwrap());
    let error = session.ucmd("true").unwrap_err();
    assert!(matches!(&error, FastbootError::Transfer { source, .. } if source.is_timeout()), "{error}");

    // NXP's silence when there is no device: a timeout, and not for ever.
    let (_, mut session) = ready(Model::Imx8mp, Tree::Nxp);
    session.ucmd("setenv target_ubootdev 7").unwrap();
    session.download_all(&[1; 512]).unwrap();
    let error = session.flash("all").unwrap_err();
    assert!(matches!(&error, FastbootError::Transfer { source, .. } if source.is_timeout()), "{error}");

    let (board, mut session) = ready(Model::Imx8mp, Tree::Nxp);
    board.add_faults(script("uboot cmd 1 flash bad user 100 200 write; uboot cmd 1 erase fail not now").unwrap());
    session.download_all(&sparse(&[(0, &pattern(1 << 20, 1))])).unwrap();
    assert_eq!(session.flash("all").unwrap_err().board_says(), Some("flash write failure"));
}

/// What a card does wrong shows by reading it back, and only by that.
#[test]
fn bits_that_flip_are_found_by_proof() {
    let (board, mut session) = ready(Model::Imx8mp, Tree::Nxp);
    board.add_faults(script("uboot cmd 1 flash weak user 70000 4 1; uboot cmd 3 UCmd flip user 9 1").unwrap());
    let data = pattern(1 << 20, 1);
    let proof =
        format!("mmc dev 2 0; mmc read $loadaddr 0 800; crc32 -v $loadaddr 100000 {:08x}", crc32fast::hash(&data));
    for right in [false, true, false] {
        session.download_all(&sparse(&[(0, &data)])).unwrap();
        session.flash("all").unwrap();
        assert_eq!(session.ucmd(&proof).is_ok(), right);
    }
    // Each erase group was written three times over.
    assert_eq!(board.emmc(|card| card.most_wear(Area::User)), 3);
    // An erase that takes more than a second for all its groups in one command fails on upstream only.
    let (board, mut session) = ready(Model::Imx8mp, Tree::Upstream);
    board.add_faults(script("uboot cmd 1 UCmd slowerase 20").unwrap());
    assert!(session.ucmd("mmc dev 2; mmc erase 0 10000").is_err());
}

#[test]
fn a_download_that_is_dropped_leaves_the_board_listening() {
    let (_, mut session) = ready(Model::Imx8mp, Tree::Nxp);
    let mut download = session.download(100_000).unwrap();
    download.write(&[1; 12_345]).unwrap();
    drop(download);
    assert_eq!(session.getvar("version").unwrap(), "0.4");
    assert!(matches!(session.flash("all"), Err(FastbootError::NotStaged { .. })));
    let mut uploaded = Vec::new();
    session.download_all(&pattern(10_000, 2)).unwrap();
    assert_eq!(session.upload(None, 1 << 20, &mut uploaded).unwrap(), 10_000);
    assert!(uploaded == pattern(10_000, 2));
}

#[test]
fn a_closed_rom_refuses_what_is_not_signed() {
    let board = Board::new(Setup { hab: Hab::Closed, ..Setup::new(Model::Imx8mm, Tree::Nxp) });
    let table = ChipTable::builtin();
    let chip = table.chip("MX8MM").or(table.chip("MX8MQ")).unwrap();
    let bus = HostBus::new(vec![board.clone()]);
    let mut session = sdp::Session::new(bus.reports(&device(&bus), chip.route).unwrap(), Settings::from(chip));
    assert_eq!(session.error_status().unwrap().0, sdp::HabState::Closed);
    let image = flash_bin(Model::Imx8mm, 1);
    let load = Load { address: 0x007e_1000, bytes: &image[..0x4000], dcd: None };
    assert_eq!(session.boot(&load, &mut |_| {}).unwrap(), Jump::Status(0x000a_0533));
    assert_eq!(board.stage(), Stage::Rom);
}

#[test]
fn the_daemon_of_an_initramfs_takes_files_and_streams() {
    for model in [Model::Imx8mm, Model::Imx8mp, Model::Imx8qxp] {
        let board = Board::new(Setup::new(model, Tree::Nxp));
        let way = boot(&board, &fbk_bin(model, 1), model);
        assert_eq!((way.last(), board.stage()), (Some(&Protocol::Fbk), Stage::Fbk), "{model:?}");
        let bus = HostBus::new(vec![board.clone()]);
        let mut session = imx_usb::fbk::Session::new(bus.bulk(&device(&bus)).unwrap());
        let data = pattern(300_000, 8);
        let mut file = session.create("/tmp/image").unwrap();
        file.write(&data).unwrap();
        assert_eq!(file.close().unwrap(), 300_000);
        assert!(matches!(session.create("/tmp"), Err(imx_usb::fbk::FbkError::Directory { .. })));
        let mut back = Vec::new();
        assert_eq!(session.read_file("/tmp/image", 1 << 20, &mut back).unwrap(), 300_000);
        assert!(back == data);
        let number = model.layout(Tree::Nxp).emmc;
        session.acmd(&format!("dd of=/dev/mmcblk{number} bs=64k seek=1")).unwrap();
        let mut stream = session.create("-").unwrap();
        stream.write(&data).unwrap();
        stream.close().unwrap();
        session.sync().unwrap();
        assert!(session.ucmd("false").is_err());
        assert!(board.emmc(|card| card.peek(Area::User, 64 << 10, data.len())).unwrap() == data);
    }
}
