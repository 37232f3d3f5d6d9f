//! A loader alone, into a boot partition.

use flasher::Cancel;
use flasher::board::{BoardError, Boards, BootPart, Loader, LoaderJob, Proof, Sum, Then, Which, flash_loader};
use flasher::event::Event;
use imx_usb::boot::BootImage;
use imx_usb::chips::ChipTable;
use virtual_imx::emmc::{Area, PartConf};
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

use crate::support::{BOOT, assert_good, board, port_of};

#[test]
fn a_loader_goes_to_the_inactive_boot_partition_and_the_switch_follows() {
    let model = Model::Imx8mp;
    let board = board(model, 0);
    // Its loader is in boot0, as most are.
    board.emmc(|card| {
        assert!(card.poke(Area::Boot0, 0, &flash_bin(model, 1)));
        card.set_partconf(PartConf { ack: true, boot: 1, access: 0 }).unwrap();
    });
    let bus = HostBus::new(vec![board.clone()]);
    let (table, cancel) = (ChipTable::builtin(), Cancel::new());
    let mut boards = Boards::new(&bus, &table, vec![Which::Port(port_of(&board))], &cancel);
    boards.boot = Some(BootImage::new(flash_bin(model, BOOT)));
    let put_that = |bytes: Vec<u8>, part, offset| {
        flash_loader(&LoaderJob {
            loader: Loader { bytes: bytes.into(), part, offset, other_chip: false },
            boards: 1,
            connect: &boards,
            proof: Proof::Fast,
            attempts: 3,
            then: Then::Stay,
            observer: &|_: usize, _: &Event| {},
        })
        .remove(0)
    };
    let put = |seed, part| put_that(flash_bin(model, seed), part, None);
    // What this board would not boot from, or what does not fit, changes nothing on it.
    let conf = board.emmc(|card| card.partconf());
    for (bytes, offset) in [
        (flash_bin(Model::Imx8mm, 2), None),
        (flash_bin(Model::Imx93, 2), None),
        (vec![7; 40_000], None),
        (flash_bin(model, 2), Some(1 << 30)),
    ] {
        let result = put_that(bytes, BootPart::Of(flasher::board::Area::Boot0), offset);
        assert!(
            matches!(result.error, Some(BoardError::Unfit(_) | BoardError::LoaderTooLong { .. })),
            "{:?}",
            result.error
        );
        assert!(!result.state.changed());
        assert_eq!(board.emmc(|card| card.partconf()), conf);
        assert!(board.emmc(|card| card.peek(Area::Boot0, 0, 4096)).unwrap() == flash_bin(model, 1)[..4096]);
    }
    let result = put(2, BootPart::Inactive);
    assert_good(&result, "a loader");
    let placed = result.loader.unwrap();
    assert_eq!((placed.area, placed.before, placed.proof), (flasher::board::Area::Boot1, Some(1), Some(Sum::Crc32)));
    // The ack bit is kept, and what it boots from is the new one, whole; the old one is still there.
    assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: true, boot: 2, access: 0 });
    let found = board.bootable().unwrap();
    assert_eq!((found.area, &found.bytes[..]), (Area::Boot1, &flash_bin(model, 2)[..found.bytes.len()]));
    assert!(board.emmc(|card| card.peek(Area::Boot0, 0, 4096)).unwrap() == flash_bin(model, 1)[..4096]);
    // Again, into the one it boots from.
    let result = put(3, BootPart::Active);
    assert_good(&result, "a loader");
    assert_eq!(result.loader.unwrap().area, flasher::board::Area::Boot1);
    // A card that loses what is written there: the switch stays where it is.
    board.add_faults(script("uboot cmd 1 UCmd bad boot0 0 64 lost").unwrap());
    let result = put(4, BootPart::Inactive);
    assert!(matches!(result.error, Some(BoardError::NotHeld { .. })), "{:?}", result.error);
    assert_eq!(board.emmc(|card| card.partconf().boot), 2);
    assert!(board.one_way().is_empty());
}
