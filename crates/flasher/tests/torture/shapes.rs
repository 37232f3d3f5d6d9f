//! Images, maps and U-Boots of odd shapes: none of them may make the reader and a board wait for each other, be sent in
//! larger parts than the board takes, or end with a wrong byte.

use std::net::UdpSocket;
use std::time::Duration;

use flasher::board::{Before, BoardError, Form, Profile, Proof, Sum, To, Which, Wire};
use flasher::{FlashError, TargetState};
use imx_usb::fastboot::udp::Address;
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry};
use virtual_imx::model::{Model, Tree};
use virtual_imx::udp::Service;
use virtual_imx::usbip::Stop;

use crate::support::{KIB, MIB, Run, Scene, assert_good, board, board_of, in_full, old};

const MODEL: Model = Model::Imx8mp;

/// Ranges of `len` bytes, every `step` bytes behind the first mebibyte.
fn ranges(count: u64, step: u64, len: u64) -> Vec<(u64, u64)> {
    std::iter::once((0, 8192)).chain((0..count).map(|n| (MIB + n * step, MIB + n * step + len))).collect()
}

fn large(scene: &Scene, board: &Board) -> Run {
    let mut run = Run::new(scene, std::slice::from_ref(board));
    run.wishes.piece_len = None;
    run.download = None;
    run
}

/// More than what is read ahead, in ranges of a little more than half a piece: their buffers are as large as a piece's,
/// and all of a batch must fit.
#[test]
fn ranges_of_odd_lengths_fit_the_window() {
    let data = ranges(48, 2560 * KIB, 2200 * KIB);
    let scene = Scene::of(MODEL, 41, 125 * MIB, 4096, &data);
    let packed = scene.packed("gz", &scene.gzip());
    for path in [scene.path.clone(), packed] {
        let board = board_of(MODEL, 0, Tree::Nxp, 128 * MIB);
        let mut run = large(&scene, &board);
        run.path = path;
        run.options.wire = Wire::Only(Form::Raw);
        assert_good(&run.one(), "odd ranges");
        assert!(scene.is_on(&board));
        // And once more, with differences here and there: they are held back while more is compared.
        for n in [1, 5, 17, 30, 31, 45] {
            board.emmc(|card| assert!(card.poke(Area::User, MIB + n * 2560 * KIB + 99, b"old")));
        }
        run.options.before = Before::Delta;
        let result = run.one();
        assert_good(&result, "differences");
        assert!(scene.is_on(&board));
        assert!(result.sums.written < 20 * MIB, "{:?}", result.sums);
    }
}

/// Everything differs, and more than one download takes is compared at a time.
#[test]
fn a_download_is_never_longer_than_the_board_takes() {
    let scene = Scene::new(MODEL, 42);
    for (download, piece) in [(256 * KIB, 64 * KIB), (100_000, 64 * KIB), (64 * KIB, 64 * KIB), (40_000, 512 * KIB)] {
        for before in [Before::Send, Before::Delta] {
            for wire in [Wire::Only(Form::Raw), Wire::Only(Form::Lz4)] {
                let board = board(MODEL, 0);
                let mut run = Run::new(&scene, std::slice::from_ref(&board));
                run.download = Some(u32::try_from(download).unwrap());
                run.wishes.piece_len = Some(piece);
                (run.options.before, run.options.wire) = (before, wire);
                let result = run.one();
                let what = format!("{download} {piece} {before:?} {wire:?}");
                assert_good(&result, &what);
                assert!(scene.is_on(&board), "{what}");
                let most = board.largest_download();
                assert!(most <= download, "{what}: {most} bytes at once");
            }
        }
    }
}

/// A thousand ranges of a sector: the map's blocks, and with them all alignment, are of 512 bytes.
#[test]
fn thousands_of_sectors() {
    let data = ranges(2000, 1536, 512);
    let size = 5 * MIB - 100;
    let scene = Scene::of(MODEL, 43, size, 512, &data);
    for wire in [Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip)] {
        let board = board(MODEL, 0);
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.options.wire = wire;
        let result = run.one();
        assert_good(&result, "sectors");
        assert!(scene.is_on(&board));
        // What lies between them is as it was.
        let between = board.emmc(|card| card.peek(Area::User, MIB + 512, 1024).unwrap());
        assert_eq!(between, old(MIB + 512, 1024));
    }
}

/// Lengths that are no multiple of anything, images shorter than a head, and one of a single byte.
#[test]
fn lengths_that_are_no_multiples() {
    for size in [1, 511, 513, 4095, 4097, 70_001, MIB - 1, MIB + 1, MIB + 700] {
        for (block, map) in [(4096, true), (512, true), (4096, false)] {
            let scene = Scene::of(MODEL, 44, size, block, &[(0, size)]);
            let board = board(MODEL, 0);
            let mut run = Run::new(&scene, std::slice::from_ref(&board));
            if !map {
                run.map = None;
            }
            let result = run.one();
            assert_good(&result, &format!("{size} {block} {map}"));
            assert!(scene.is_on(&board), "{size} {block} {map}");
        }
    }
    let scene = Scene::of(MODEL, 44, MIB, 100, &[(0, 700), (900, MIB)]);
    let mut image = image::Image::open(&scene.path, &image::Options::default()).unwrap();
    let run = Run::new(&scene, &[]);
    let error = flasher::board::prepare(&mut image, run.map.as_ref(), &To::Emmc, &run.wishes, &()).unwrap_err();
    assert!(matches!(error, FlashError::Unaligned { .. }), "{error}");
}

/// The old head stays until the new one is written, on request.
#[test]
fn the_head_is_kept_on_request() {
    let scene = Scene::new(MODEL, 45);
    let board = board(MODEL, 0);
    board.add_faults(virtual_imx::fault::script("uboot at 2000000 power never").unwrap());
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    run.wishes.keep_head = true;
    run.options.keep_head = true;
    let result = run.one();
    assert!(matches!(result.state, TargetState::Mixed { written } if written > 0), "{:?}", result.state);
    assert!(board.bootable().is_ok(), "the old loader is there");
    board.plug("1-1");
    board.power_cycle();
    assert_good(&run.one(), "kept");
    assert!(scene.is_on(&board));
}

/// What a U-Boot cannot do is done in another way, or the report says that it cannot be done.
#[test]
fn u_boots_that_lack_something() {
    type Change = fn(&mut Profile);
    let rows: [(&str, Change, Option<Sum>); 12] = [
        ("no crc32", |profile| profile.crc32_verify = false, Some(Sum::Sha256)),
        ("no hash", |profile| profile.sha256 = false, Some(Sum::Crc32)),
        ("no values", |profile| profile.values = false, Some(Sum::Crc32)),
        ("neither", no_sums, Some(Sum::Compare)),
        ("neither, and little scratch", |profile| (no_sums(profile), shrink(profile)).0, Some(Sum::Compare)),
        ("nothing", |profile| (no_sums(profile), profile.compare = false).1, None),
        ("no scratch", |profile| profile.scratch = None, None),
        ("no buffer", |profile| profile.buffer = None, Some(Sum::Crc32)),
        ("no lz4", |profile| profile.unlz4 = false, Some(Sum::Crc32)),
        ("no shell", |profile| profile.shell = None, None),
        ("short lines", |profile| (profile.line, profile.sha256) = (64, false), Some(Sum::Crc32)),
        ("little scratch", |profile| shrink(profile), Some(Sum::Crc32)),
    ];
    let scene = Scene::new(Model::Imx8mm, 46);
    for (what, change, proof) in rows {
        for before in [Before::Send, Before::Delta] {
            let board = board(Model::Imx8mm, 0);
            let mut run = Run::new(&scene, std::slice::from_ref(&board));
            (run.change, run.options.before) = (change, before);
            run.options.wire = Wire::Only(Form::Lz4);
            for _ in 0..2 {
                let result = run.one();
                assert_eq!(result.proof, proof, "{what}");
                match proof {
                    Some(_) => assert_good(&result, what),
                    None => {
                        assert!(matches!(result.error, Some(BoardError::NoProof)), "{what}: {:?}", result.error);
                        assert_eq!(result.state, TargetState::WrittenUnproven, "{what}");
                    }
                }
                assert!(scene.is_on(&board), "{what}");
            }
        }
    }
}

fn no_sums(profile: &mut Profile) {
    (profile.crc32_verify, profile.sha256) = (false, false);
}

fn shrink(profile: &mut Profile) {
    if let Some(scratch) = &mut profile.scratch {
        scratch.end = scratch.start + 80 * KIB;
    }
}

/// Upstream's U-Boot runs commands by `oem run`, which leaves less room in a line.
#[test]
fn upstreams_u_boot() {
    for (proof, before) in [(Proof::Fast, Before::Send), (Proof::Strong, Before::Delta)] {
        let scene = Scene::new(MODEL, 47);
        let board = board_of(MODEL, 0, Tree::Upstream, 8 * MIB);
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        (run.options.proof, run.options.before) = (proof, before);
        run.change = |profile| profile.shell = profile.shell.map(|_| imx_usb::probe::Shell::OemRun);
        run.options.then = flasher::board::Then::Reset;
        let result = run.one();
        assert!(result.error.is_none(), "{}", in_full(result.error.as_ref().unwrap()));
        assert!(scene.is_on(&board));
    }
}

/// A board that leaves over the last command has done it.
#[test]
fn leaving_at_the_end_is_no_loss() {
    let scene = Scene::tiny(MODEL, 48);
    let rows = [
        ("uboot cmd 1 ACmd unplug never", None),
        ("uboot cmd 1 ACmd power back 300", None),
        ("uboot cmd 1 ACmd fail no", Some("does not leave fastboot")),
        ("uboot cmd 1 ACmd hang", Some("does not leave fastboot")),
    ];
    for (faults, told) in rows {
        let board = board(MODEL, 0);
        board.add_faults(virtual_imx::fault::script(faults).unwrap());
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.options.then = flasher::board::Then::Reset;
        run.options.return_within = Duration::from_secs(20);
        let result = run.one();
        assert_eq!(result.state, TargetState::Proven, "{faults}");
        assert_eq!(result.sums.returns, 0, "{faults}");
        match (&result.error, told) {
            (None, None) => {}
            (Some(error), Some(told)) => assert!(in_full(error).contains(told), "{faults}: {}", in_full(error)),
            (error, _) => panic!("{faults}: {error:?}"),
        }
    }
}

/// A board with little memory announces as large a download as any; what is sent at once fits all the same.
#[test]
fn a_board_with_little_memory() {
    let scene = Scene::of(Model::Imx8mm, 49, 90 * MIB, 4096, &[(0, 8192), (MIB, 90 * MIB)]);
    let emmc = Geometry { user_bytes: 96 * MIB, ..Geometry::default() };
    let board = Board::new(Setup { emmc, ram: Some(192 << 20), ..Setup::new(Model::Imx8mm, Tree::Nxp) });
    let mut run = large(&scene, &board);
    run.options.wire = Wire::Only(Form::Raw);
    assert_good(&run.one(), "little memory");
    assert!(scene.is_on(&board));
}

/// Over the network: commands of 64 bytes, and no way to see the board leave.
#[test]
fn a_board_behind_udp() {
    let scene = Scene::new(Model::Imx8mp, 50);
    for wire in [Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip)] {
        let board = board(Model::Imx8mp, 0);
        board.start_uboot();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = Address { host: "127.0.0.1".to_owned(), port: socket.local_addr().unwrap().port() };
        let (service, stop) = (Service::new(board.clone()), Stop::new());
        std::thread::scope(|scope| {
            scope.spawn(|| service.run(&socket, &stop).unwrap());
            let mut run = Run::new(&scene, &[]);
            run.which = Some(vec![Which::Udp(address)]);
            run.options.wire = wire;
            for before in [Before::Send, Before::Delta] {
                run.options.before = before;
                let result = run.one();
                assert_good(&result, "over UDP");
                assert_eq!(result.proof, Some(Sum::Crc32));
                assert!(scene.is_on(&board));
                assert_eq!(result.sums.written == 0, before == Before::Delta);
            }
            stop.set();
        });
    }
}

/// Only the head differs: what of it was right is written again all the same, and counted once.
#[test]
fn sums_of_a_head_that_is_written_again() {
    let scene = Scene::new(Model::Imx8mm, 51);
    let board = board(Model::Imx8mm, 0);
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    assert_good(&run.one(), "first");
    board.emmc(|card| assert!(card.poke(Area::User, 70 * KIB, b"other")));
    run.options.before = Before::Delta;
    let result = run.one();
    assert_good(&result, "again");
    assert!(scene.is_on(&board));
    let sums = result.sums;
    assert!(sums.written > 64 * KIB && sums.skipped > MIB, "{sums:?}");
    assert_eq!((sums.proven, sums.skipped + sums.written), (sums.wanted, sums.wanted), "{sums:?}");
}

/// A card that cannot be selected holds nothing of what another does.
#[test]
fn a_card_that_is_not_there_is_not_compared_with_another() {
    let scene = Scene::new(MODEL, 48);
    let board = board(MODEL, 0);
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    assert_good(&run.one(), "first");
    run.options.before = Before::Delta;
    run.change = |profile| profile.device = 9;
    let result = run.one();
    assert!(result.error.is_some());
    assert_eq!(result.sums.skipped, 0);
}
