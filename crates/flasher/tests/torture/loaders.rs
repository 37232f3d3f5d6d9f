//! A loader for a boot partition: what would break the one that works, or the switch, is not done.

use flasher::TargetState;
use flasher::board::{
    BoardError, BoardResult, Boards, BootPart, Loader, LoaderJob, Profile, Proof, Sum, Then, To, Which, flash_loader,
};
use flasher::event::Event;
use imx_usb::bus::Bus as _;
use imx_usb::chips::ChipTable;
use imx_usb::fastboot::{Limits, Session};
use imx_usb::pipe::BulkPipe;
use virtual_imx::board::Board;
use virtual_imx::emmc::{Area, PartConf};
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::{flash_bin, gpt, pattern};

use crate::support::{MIB, OLD, Run, Scene, assert_good, board_of, changed};

const MODEL: Model = Model::Imx8mp;
/// What the switch says before: boot0, and the card acknowledges.
const BEFORE: PartConf = PartConf { ack: true, boot: 1, access: 0 };

/// A board that boots from boot0, in fastboot.
fn booting(tree: Tree) -> Board {
    let board = board_of(MODEL, 0, tree, 8 * MIB);
    board.emmc(|card| {
        assert!(card.poke(Area::Boot0, 0, &flash_bin(MODEL, OLD)));
        card.set_partconf(BEFORE).unwrap();
    });
    board.start_uboot();
    board
}

fn put(board: &Board, bytes: Vec<u8>, part: BootPart, change: fn(&mut Profile)) -> BoardResult {
    let (bus, table, cancel) = (HostBus::new(vec![board.clone()]), ChipTable::builtin(), flasher::Cancel::new());
    let boards = Boards::new(&bus, &table, vec![Which::Port("1-1".parse().unwrap())], &cancel);
    flash_loader(&LoaderJob {
        loader: Loader { bytes: bytes.into(), part, offset: None, other_chip: false },
        boards: 1,
        connect: &changed(boards, change),
        proof: Proof::Fast,
        attempts: 1,
        then: Then::Stay,
        observer: &|_: usize, _: &Event| {},
    })
    .remove(0)
}

/// Talks to the board as somebody else.
fn talk<T>(board: &Board, say: impl FnOnce(&mut Session<Box<dyn BulkPipe + Send>>) -> T) -> T {
    let bus = HostBus::new(vec![board.clone()]);
    let device = bus.devices().unwrap().remove(0);
    say(&mut Session::new(bus.bulk(&device).unwrap(), Limits::USB))
}

fn assert_untouched(board: &Board) {
    assert_eq!(board.emmc(|card| card.partconf()), BEFORE);
    assert_eq!(board.emmc(|card| card.counters(Area::Boot0).writes + card.counters(Area::Boot1).writes), 0);
    assert!(board.emmc(|card| card.peek(Area::Boot0, 0, 4096)).unwrap() == flash_bin(MODEL, OLD)[..4096]);
}

#[test]
fn one_that_is_too_long_touches_nothing() {
    for tree in [Tree::Nxp, Tree::Upstream] {
        let board = booting(tree);
        let mut long = flash_bin(MODEL, 2);
        long.extend(pattern(5 << 20, 3));
        let len = u64::try_from(long.len()).unwrap();
        let result = put(&board, long.clone(), BootPart::Active, |_| {});
        match &result.error {
            Some(BoardError::LoaderTooLong { end, .. }) => assert_eq!(*end, len),
            other => panic!("{other:?}"),
        }
        assert_eq!(result.state, TargetState::Unchanged);
        assert_untouched(&board);
        // One that fits to the last sector goes there.
        long.truncate(4 << 20);
        assert_good(&put(&board, long, BootPart::Active, |_| {}), "fits");
    }
}

#[test]
fn one_that_is_longer_than_the_memory_it_is_read_into_is_proven_in_parts() {
    let board = booting(Tree::Nxp);
    let mut long = flash_bin(MODEL, 2);
    long.resize(3 << 20, 0x11);
    let result = put(&board, long.clone(), BootPart::Inactive, |profile| {
        // What is read beyond it lies in what was downloaded.
        let buffer = profile.buffer.unwrap();
        profile.scratch = Some(buffer - (1 << 20)..buffer);
    });
    assert_good(&result, "little scratch");
    assert!(board.emmc(|card| card.peek(Area::Boot1, 0, long.len())).unwrap() == long);
}

/// Upstream's console is not heard, so that nobody can tell the bit.
#[test]
fn the_switch_keeps_its_ack_bit_where_that_can_be() {
    // It points there already: it is left alone.
    let board = booting(Tree::Upstream);
    let result = put(&board, flash_bin(MODEL, 2), BootPart::Active, |_| {});
    assert_good(&result, "active");
    assert!(result.loader.unwrap().ack_kept);
    assert_eq!(board.emmc(|card| card.partconf()), BEFORE);
    // It must be turned: the report says that the bit is lost.
    let result = put(&board, flash_bin(MODEL, 3), BootPart::Inactive, |_| {});
    assert_good(&result, "inactive");
    assert!(!result.loader.unwrap().ack_kept);
    assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: false, boot: 2, access: 0 });
    // The board's own variable for it counts.
    let board = booting(Tree::Upstream);
    talk(&board, |session| session.run(&line_of("setenv emmc_ack 1")).unwrap());
    let result = put(&board, flash_bin(MODEL, 3), BootPart::Inactive, |_| {});
    assert_good(&result, "variable");
    assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: true, boot: 2, access: 0 });
    // NXP's is heard.
    let board = booting(Tree::Nxp);
    let result = put(&board, flash_bin(MODEL, 3), BootPart::Inactive, |_| {});
    assert_good(&result, "heard");
    assert!(result.loader.unwrap().ack_kept);
    assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: true, boot: 2, access: 0 });
}

fn line_of(line: &str) -> imx_usb::fastboot::Command<'_> {
    imx_usb::fastboot::Command::Oem(format!("run:{line}").into())
}

#[test]
fn the_console_goes_where_it_went() {
    let board = booting(Tree::Nxp);
    talk(&board, |session| session.ucmd("setenv stdout serial,vidconsole").unwrap());
    assert_good(&put(&board, flash_bin(MODEL, 3), BootPart::Inactive, |_| {}), "console");
    let now = talk(&board, |session| {
        session.ucmd("setenv fastboot.o ${stdout}").unwrap();
        session.getvar("o").unwrap()
    });
    assert_eq!(now, "serial,vidconsole");
}

#[test]
fn one_that_cannot_be_proven_is_left_out() {
    let board = booting(Tree::Nxp);
    let nothing = |profile: &mut Profile| {
        (profile.crc32_verify, profile.sha256, profile.compare) = (false, false, false);
    };
    let result = put(&board, flash_bin(MODEL, 2), BootPart::Inactive, nothing);
    assert!(matches!(result.error, Some(BoardError::LoaderLeftOut)), "{:?}", result.error);
    assert_eq!(result.state, TargetState::Unchanged);
    assert_untouched(&board);
    // The image is written, and the switch stays where it is.
    let scene = Scene::tiny(MODEL, 60);
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    run.options.loader =
        Some(Loader { bytes: flash_bin(MODEL, 2).into(), part: BootPart::Inactive, offset: None, other_chip: false });
    run.options.proof = Proof::Strong;
    run.change = |profile| profile.sha256 = false;
    let result = run.one();
    assert!(matches!(result.error, Some(BoardError::LoaderLeftOut)), "{:?}", result.error);
    assert_eq!(result.state, TargetState::WrittenUnproven);
    assert!(scene.is_on(&board) && result.loader.is_none());
    assert_untouched(&board);
    // Nobody asked for a proof.
    run.options.proof = Proof::Off;
    let result = run.one();
    assert!(result.error.is_none() && result.loader.is_some(), "{:?}", result.error);
    assert_eq!(board.emmc(|card| card.partconf().boot), 2);
}

/// Where a partition begins may be told by no one, so that its image cannot be proven: a loader is all the same.
#[test]
fn a_loader_is_proven_by_itself() {
    let board = booting(Tree::Nxp);
    board.emmc(|card| assert!(card.poke(Area::User, 0, &gpt(16_384, &[("data", 2048, 2048)]))));
    board.start_uboot();
    let scene = Scene::of(MODEL, 61, MIB / 2, 4096, &[(0, MIB / 2)]);
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    run.to = To::Partition("data".to_owned());
    run.change = |profile| profile.values = false;
    run.options.loader =
        Some(Loader { bytes: flash_bin(MODEL, 2).into(), part: BootPart::Inactive, offset: None, other_chip: false });
    let result = run.one();
    assert!(matches!(result.error, Some(BoardError::NoProof)), "{:?}", result.error);
    assert_eq!((result.state, result.proof), (TargetState::WrittenUnproven, None));
    assert!(board.emmc(|card| card.peek(Area::User, MIB, scene.bytes.len())).unwrap() == scene.bytes);
    assert_eq!(result.loader.unwrap().proof, Some(Sum::Crc32));
    assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: true, boot: 2, access: 0 });
}
