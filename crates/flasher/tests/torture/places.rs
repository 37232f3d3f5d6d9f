//! Images that go to a partition: wherever fastboot says it is, and however little a U-Boot tells of that, not a byte
//! beside it changes.

use std::net::UdpSocket;

use flasher::TargetState;
use flasher::board::{Before, BoardError, BoardResult, Form, Profile, Sum, To, Which, Wire};
use flasher::event::{Event, Note};
use imx_usb::fastboot::udp::Address;
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry};
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::{gpt, pattern};
use virtual_imx::udp::Service;
use virtual_imx::usbip::Stop;

use crate::support::{KIB, MIB, OLD, Run, Scene, assert_good, narrow};

const MODEL: Model = Model::Imx8mp;
const CARD: u64 = 8 * MIB;
const SECTOR: u64 = 512;
/// The partitions: name, first sector, sectors. The second begins at no erase group and in no block of 4 KiB.
const PARTS: [(&str, u64, u64); 4] = [
    ("first", 2048, 2049),
    ("data", 4097, 3072),
    ("my data", 7169, 3072),
    ("a-name-that-is-long-for-so-few-data", 10241, 3072),
];

/// A board whose card is full of old data, with these partitions.
pub(crate) fn board(tree: Tree, part: bool, parts: &[(&str, u64, u64)]) -> Board {
    of(Setup { part, ..Setup::new(MODEL, tree) }, parts)
}

fn of(setup: Setup, parts: &[(&str, u64, u64)]) -> Board {
    let emmc = Geometry { user_bytes: CARD, ..Geometry::default() };
    let board = Board::new(Setup { emmc, ..setup });
    let card = before(parts);
    board.emmc(|emmc| assert!(emmc.poke(Area::User, 0, &card)));
    board
}

/// The whole card as it is before.
fn before(parts: &[(&str, u64, u64)]) -> Vec<u8> {
    let mut card = pattern(narrow(CARD), OLD);
    let table = gpt(CARD / SECTOR, parts);
    card[..table.len()].copy_from_slice(&table);
    card
}

fn card(board: &Board) -> Vec<u8> {
    board.emmc(|card| card.peek(Area::User, 0, narrow(CARD)).unwrap())
}

/// The card with the image at a partition.
fn with(scene: &Scene, parts: &[(&str, u64, u64)], name: &str) -> Vec<u8> {
    let (_, first, _) = parts.iter().find(|part| part.0 == name).unwrap();
    let mut card = before(parts);
    for (start, end) in &scene.mapped {
        let at = narrow(first * SECTOR + start);
        card[at..at + narrow(end - start)].copy_from_slice(&scene.bytes[narrow(*start)..narrow(*end)]);
    }
    card
}

fn scene(seed: u8) -> Scene {
    Scene::of(
        MODEL,
        seed,
        MIB + 300 * KIB,
        4096,
        &[(0, 400 * KIB), (600 * KIB, MIB), (MIB + 200 * KIB, MIB + 300 * KIB)],
    )
}

fn assert_same(held: &[u8], wanted: &[u8], what: &str) {
    let at = held.iter().zip(wanted).position(|(held, wanted)| held != wanted);
    assert_eq!(at, None, "{what}: the first byte that is wrong");
}

const WIRES: [Wire; 4] = [Wire::Auto, Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip)];

/// It was written and could not be proven: where the partition lies is not known.
#[track_caller]
fn assert_unproven(result: &BoardResult, what: &str) {
    assert!(matches!(result.error, Some(BoardError::NoProof)), "{what}: {:?}", result.error);
    assert_eq!(result.state, TargetState::WrittenUnproven, "{what}");
}

#[test]
fn a_partition_and_nothing_beside_it() {
    type Change = fn(&mut Profile);
    let keep: Change = |_| {};
    // Where it begins is told by `part`, where there is that, and by values that come back.
    let rows: [(&str, Tree, bool, Change, bool); 9] = [
        ("data", Tree::Nxp, true, keep, true),
        ("data", Tree::Upstream, true, keep, true),
        ("my data", Tree::Nxp, true, keep, false),
        ("data", Tree::Nxp, false, keep, false),
        ("data", Tree::Upstream, false, keep, false),
        ("2:2", Tree::Upstream, true, keep, false),
        ("data", Tree::Nxp, true, |profile| profile.values = false, false),
        ("data", Tree::Nxp, true, |profile| profile.shell = None, false),
        ("data", Tree::Nxp, true, |profile| profile.buffer = None, true),
    ];
    let scene = scene(61);
    for (name, tree, part, change, known) in rows {
        for wire in WIRES {
            for before in [Before::Send, Before::Delta] {
                let what = format!("{name:?} {tree:?} part {part} {wire:?} {before:?}");
                let board = board(tree, part, &PARTS);
                let mut run = Run::new(&scene, std::slice::from_ref(&board));
                run.to = To::Partition(name.to_owned());
                (run.options.wire, run.options.before, run.change) = (wire, before, change);
                let result = run.one();
                if known {
                    assert_good(&result, &what)
                } else {
                    assert_unproven(&result, &what)
                }
                let name = if name == "2:2" { "data" } else { name };
                assert_same(&card(&board), &with(&scene, &PARTS, name), &what);
            }
        }
    }
}

/// Names that mean something else to fastboot than to the table: only fastboot finds those places.
#[test]
fn a_name_that_stands_for_another_place() {
    let scene = scene(62);
    let twins = [("first", 2048, 3072), ("data", 6000, 3072)];
    for wire in WIRES {
        for (variable, value) in
            [("fastboot_partition_alias_data", "first"), ("fastboot_raw_partition_data", "0x801 0xc00")]
        {
            let variables = vec![(variable.to_owned(), value.to_owned())];
            let board = of(Setup { variables, ..Setup::new(MODEL, Tree::Upstream) }, &twins);
            let mut run = Run::new(&scene, std::slice::from_ref(&board));
            run.to = To::Partition("data".to_owned());
            run.options.wire = wire;
            let what = format!("{variable} {wire:?}");
            assert_unproven(&run.one(), &what);
            let first = if value == "first" { 2048 } else { 2049 };
            let parts = [("first", first, 3072), ("data", 6000, 3072)];
            let mut wanted = with(&scene, &parts, "first");
            let table = gpt(CARD / SECTOR, &twins);
            wanted[..table.len()].copy_from_slice(&table);
            assert_same(&card(&board), &wanted, &what);
        }
    }
}

/// Over UDP a command has 64 bytes: a long name leaves no room to ask where the partition begins.
#[test]
fn a_partition_over_udp() {
    let scene = scene(63);
    for (name, known) in [("data", true), ("a-name-that-is-long-for-so-few-data", false)] {
        for wire in WIRES {
            let board = board(Tree::Nxp, true, &PARTS);
            board.start_uboot();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = Address { host: "127.0.0.1".to_owned(), port: socket.local_addr().unwrap().port() };
            let (service, stop) = (Service::new(board.clone()), Stop::new());
            std::thread::scope(|scope| {
                scope.spawn(|| service.run(&socket, &stop).unwrap());
                let mut run = Run::new(&scene, &[]);
                run.which = Some(vec![Which::Udp(address)]);
                run.to = To::Partition(name.to_owned());
                run.options.wire = wire;
                let result = run.one();
                stop.set();
                let what = format!("{name} {wire:?}");
                if known {
                    assert_good(&result, &what);
                    assert_eq!(result.proof, Some(Sum::Crc32));
                } else {
                    assert_unproven(&result, &what);
                }
                assert_same(&card(&board), &with(&scene, &PARTS, name), &what);
            });
        }
    }
}

/// Erase groups lie on the card, not in the image, and NXP's U-Boot rounds outwards to them.
#[test]
fn holes_of_a_partition_are_erased_inside_it() {
    let hole = MIB + 200 * KIB;
    let data = [(64 * KIB, 68 * KIB), (hole, MIB + 300 * KIB)];
    let scene = Scene::of(MODEL, 64, MIB + 300 * KIB, 4096, &data);
    for (tree, part, erased) in [(Tree::Nxp, true, 512 * KIB), (Tree::Upstream, true, 512 * KIB), (Tree::Nxp, false, 0)]
    {
        let board = board(tree, part, &PARTS);
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.to = To::Partition("data".to_owned());
        run.options.erase_holes = true;
        let result = run.one();
        let what = format!("{tree:?} {part}");
        if part {
            assert_good(&result, &what)
        } else {
            assert_unproven(&result, &what)
        }
        // Sectors 5120 to 6143 are the only whole groups of the hole.
        let mut wanted = with(&scene, &PARTS, "data");
        wanted[5120 * 512..5120 * 512 + narrow(erased)].fill(0);
        assert_same(&card(&board), &wanted, &what);
        let told = result.erased.unwrap();
        assert_eq!((told.bytes, told.left), (erased, hole - 4 * KIB - erased), "{what}");
        assert_eq!(told.zeros, part.then_some(true), "{what}");
    }
}

/// What is to be kept is no hole.
#[test]
fn what_is_kept_is_not_erased() {
    let scene = Scene::of(MODEL, 65, 7 * MIB, 4096, &[(0, 8192), (6 * MIB, 7 * MIB)]);
    let board = board(Tree::Nxp, true, &[]);
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    run.options.erase_holes = true;
    let kept = bmap::ByteRange::at(3 * MIB + 100 * KIB, 4096).unwrap();
    run.wishes.keep = vec![kept];
    let result = run.one();
    assert_good(&result, "kept");
    let mut wanted = with(&scene, &[("all", 0, 0)], "all");
    let head = narrow(MIB);
    wanted[..head].copy_from_slice(&card(&board)[..head]);
    wanted[narrow(MIB)..narrow(3 * MIB)].fill(0);
    wanted[narrow(3 * MIB + 512 * KIB)..narrow(6 * MIB)].fill(0);
    assert_same(&card(&board), &wanted, "kept");
    let told = result.erased.unwrap();
    assert_eq!((told.bytes, told.left), (4 * MIB + 512 * KIB, 508 * KIB));
}

/// NXP's fastboot stores a sparse image in partitions of some names as it comes.
#[test]
fn names_that_take_no_sparse_image() {
    let scene = scene(66);
    for name in ["boot", "boot_a", "misc", "bootloader-2"] {
        let parts = [("data", 2048, 2049), (name, 4097, 3072)];
        for wire in WIRES {
            for tree in [Tree::Nxp, Tree::Upstream] {
                let board = board(tree, true, &parts);
                let mut run = Run::new(&scene, std::slice::from_ref(&board));
                run.to = To::Partition(name.to_owned());
                run.options.wire = wire;
                let what = format!("{name} {wire:?} {tree:?}");
                assert_good(&run.one(), &what);
                assert_same(&card(&board), &with(&scene, &parts, name), &what);
            }
        }
        let board = board(Tree::Nxp, false, &parts);
        let mut run = Run::new(&scene, std::slice::from_ref(&board));
        run.to = To::Partition(name.to_owned());
        let result = run.one();
        assert!(matches!(result.error, Some(BoardError::Cannot { .. })), "{name}: {:?}", result.error);
        assert_eq!(result.state, TargetState::Unchanged);
        assert_same(&card(&board), &before(&parts), name);
    }
}

/// The partition ends where no block of a sparse image does.
#[test]
fn an_image_as_long_as_its_partition() {
    for size in [2049 * SECTOR, 2049 * SECTOR - 100] {
        let scene = Scene::of(MODEL, 67, size, 4096, &[(0, 8192), (16 * KIB, size)]);
        for part in [true, false] {
            for wire in [Wire::Only(Form::Raw), Wire::Only(Form::Lz4)] {
                let board = board(Tree::Nxp, part, &PARTS);
                let mut run = Run::new(&scene, std::slice::from_ref(&board));
                run.to = To::Partition("first".to_owned());
                run.options.wire = wire;
                let result = run.one();
                let what = format!("{size} {part} {wire:?}");
                if part {
                    assert_good(&result, &what)
                } else {
                    assert_unproven(&result, &what)
                }
                let (first, end) = (narrow(2048 * SECTOR), narrow(2048 * SECTOR + size));
                let (held, wanted) = (card(&board), with(&scene, &PARTS, "first"));
                assert_same(&held[..end], &wanted[..end], &what);
                // What is behind the image in its last sector is nobody's.
                let next = first + narrow(2049 * SECTOR);
                assert_same(&held[next..], &wanted[next..], &what);
            }
        }
    }
}

/// Without the table in front, a loader in a boot partition would find the old system by the backup at the card's end.
#[test]
fn the_old_backup_table_goes_with_the_table() {
    type Change = fn(&mut Profile);
    let rows: [(Change, bool); 4] = [
        (|_| {}, true),
        (|profile| profile.crc32_verify = false, true),
        (|profile| profile.buffer = None, true),
        (|profile| profile.shell = None, false),
    ];
    let scene = Scene::new(MODEL, 68);
    let (last, len) = (CARD - SECTOR, narrow(SECTOR));
    let mut header = pattern(len, 7);
    header[..8].copy_from_slice(b"EFI PART");
    for (change, seen) in rows {
        for (there, keep, cut) in
            [(true, false, false), (true, false, true), (true, true, false), (false, false, false)]
        {
            let what = format!("seen {seen} there {there} keep {keep} cut {cut}");
            let board = board(Tree::Nxp, true, &PARTS);
            let old = if there { header.clone() } else { pattern(len, 8) };
            board.emmc(|card| assert!(card.poke(Area::User, last, &old)));
            if cut {
                board.add_faults(virtual_imx::fault::script("uboot at 1500000 power never").unwrap());
            }
            let mut run = Run::new(&scene, std::slice::from_ref(&board));
            run.change = change;
            run.wishes.keep.extend(bmap::ByteRange::at(last, SECTOR).filter(|_| keep));
            let told = std::sync::Mutex::new(Vec::new());
            let result = run.watched(&|_: usize, event: &Event| {
                if let Event::Note(Note::BackupTable { at, cleared }) = event {
                    told.lock().unwrap().push((at.start(), *cleared));
                }
            });
            assert_eq!(result[0].error.is_some(), cut || !seen, "{what}: {:?}", result[0].error);
            let cleared = there && !keep && seen;
            let held = board.emmc(|card| card.peek(Area::User, last, len).unwrap());
            assert_eq!(held == vec![0; len], cleared, "{what}");
            assert_eq!(held == old, !cleared, "{what}");
            let expected = match () {
                () if keep => vec![],
                () if !seen => vec![(last, false)],
                () if there => vec![(last, true)],
                () => vec![],
            };
            assert_eq!(told.into_inner().unwrap(), expected, "{what}");
        }
    }
}
