use super::*;
use crate::fault::script;
use crate::link::LinkFault;
use crate::rom::image::loader_length;
use crate::sample::flash_bin;

const WITHIN: Duration = Duration::from_secs(10);

fn report(id: u8, bytes: &[u8], payload: usize) -> Vec<u8> {
    let mut report = vec![id];
    report.extend(bytes);
    report.resize(payload + 1, 0);
    report
}

fn command(code: u8, address: u32, count: usize) -> Vec<u8> {
    let mut bytes = vec![code, code];
    bytes.extend(address.to_be_bytes());
    bytes.push(0);
    bytes.extend(u32::try_from(count).unwrap().to_be_bytes());
    report(1, &bytes, 16)
}

fn sdp(link: &Link, address: u32, bytes: &[u8]) {
    link.send(&command(4, address, bytes.len()), WITHIN).unwrap();
    for piece in bytes.chunks(1024) {
        link.send(&report(2, piece, 1024), WITHIN).unwrap();
    }
    assert_eq!(link.receive(65, WITHIN).unwrap().len(), 5);
    assert_eq!(link.receive(65, WITHIN).unwrap()[..5], [4, 0x88, 0x88, 0x88, 0x88]);
    link.send(&command(0xb, address, 0), WITHIN).unwrap();
    assert_eq!(link.receive(65, WITHIN).unwrap()[0], 3);
    // The boot log ends with the device.
    assert_eq!(link.receive(65, WITHIN).unwrap_err().fault, LinkFault::Gone);
}

/// Takes a board from its ROM to fastboot; returns the identifiers met on the way.
fn boot(board: &Board, model: Model) -> Vec<u16> {
    boot_image(board, model, flash_bin(model, 1))
}

fn boot_image(board: &Board, model: Model, image: Vec<u8>) -> Vec<u16> {
    let mut ids = Vec::new();
    let mut last = None;
    let mut rest = image.as_slice();
    loop {
        let device = board.wait_for_device(last, WITHIN).unwrap();
        last = Some(device.address);
        ids.push(device.ids.product);
        let link = board.open().unwrap();
        match board.stage() {
            Stage::Rom if model.rom() == crate::model::RomKind::SdpIvt => {
                sdp(&link, 0x007e_1000, &image[..0x4000]);
                rest = &image[0x4000..];
            }
            Stage::Rom => {
                let length = loader_length(model.rom(), &image, Hab::Open).unwrap().next_multiple_of(0x400);
                let length = length.min(image.len());
                let payload = model.report_payload();
                for piece in image[..length].chunks(payload) {
                    link.send(&report(2, piece, payload), WITHIN).unwrap();
                }
                rest = &image[length..];
                assert_eq!(link.receive(65, WITHIN).unwrap_err().fault, LinkFault::Gone);
            }
            Stage::Loader => sdp(&link, 0, rest),
            Stage::UBoot | Stage::Fbk => return ids,
            Stage::Running => panic!("it boots by itself"),
        }
    }
}

fn say(link: &Link, command: &str) -> String {
    link.send(command.as_bytes(), WITHIN).unwrap();
    let reply = link.receive(64, WITHIN).unwrap();
    String::from_utf8(reply).unwrap()
}

fn fastboot(setup: Setup) -> (Board, Link) {
    let model = setup.model;
    let board = Board::new(setup);
    boot(&board, model);
    let link = board.open().unwrap();
    (board, link)
}

fn nxp() -> Setup {
    Setup::new(Model::Imx8mp, Tree::Nxp)
}

#[test]
fn every_model_reaches_fastboot() {
    let seen: Vec<_> = Model::ALL
        .into_iter()
        .map(|model| {
            let board = Board::new(Setup::new(model, Tree::Nxp));
            let rom = board.device().unwrap();
            assert_eq!((rom.serial, rom.string4.as_deref()), (None, Some("0123456789ABCDEF")));
            let ids = boot(&board, model);
            let uboot = board.device().unwrap();
            assert_eq!(uboot.serial.as_deref(), Some("0123456789abcdef"));
            assert_eq!((uboot.path.as_str(), uboot.class), ("1-1", [0xff, 0x42, 3]));
            assert_eq!(say(&board.open().unwrap(), "getvar:version"), "OKAY0.4");
            ids
        })
        .collect();
    assert_eq!(seen[0], [0x0134, 0x0151, 0x0152]);
    assert_eq!(seen[1], [0x013e, 0x0152]);
    assert_eq!(seen[4], [0x012f, 0x0151, 0x0152]);
    assert_eq!(seen[5], [0x015d, 0x0151, 0x0152]);
    let upstream = Board::new(Setup::new(Model::Imx8mm, Tree::Upstream));
    assert_eq!(boot(&upstream, Model::Imx8mm), [0x0134, 0xb4a4, 0xa4a5]);
}

#[test]
fn a_board_leaves_by_reset_and_by_continue() {
    let (board, link) = fastboot(nxp());
    assert_eq!(say(&link, "reboot:"), "OKAY");
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::Gone);
    let rom = board.wait_for_device(None, WITHIN).unwrap();
    assert_eq!((rom.ids.product, board.stage()), (0x0146, Stage::Rom));
    assert_eq!(link.send(b"getvar:version", WITHIN).unwrap_err().fault, LinkFault::Gone);
    boot(&board, Model::Imx8mp);
    assert_eq!(say(&board.open().unwrap(), "continue"), "OKAY");
    assert_eq!(board.wait_for_device(None, WITHIN), None);
    assert_eq!(board.stage(), Stage::Running);
}

#[test]
fn a_card_with_a_whole_loader_boots() {
    for model in Model::ALL {
        let board = Board::new(Setup { boot: BootMode::Card, ..Setup::new(model, Tree::Nxp) });
        assert_eq!(board.stage(), Stage::Rom);
        assert!(board.bootable().is_err());
        let image = flash_bin(model, 1);
        board.emmc(|card| {
            card.poke(Area::User, model.loader_offset(false), &image);
            card.poke(Area::Boot1, model.loader_offset(true), &image);
        });
        let found = board.bootable().unwrap();
        assert_eq!((found.area, &found.bytes[..]), (Area::User, &image[..found.bytes.len()]), "{model:?}");
        assert!(image.len() - found.bytes.len() < 0x400);
        board.power_cycle();
        assert_eq!((board.stage(), board.device()), (Stage::Running, None));
        // The switch to a boot partition that holds nothing; then to the one that holds it.
        for (boot, there) in [(1, false), (2, true)] {
            board.emmc(|card| card.set_partconf(crate::emmc::PartConf { boot, ..Default::default() })).unwrap();
            assert_eq!(board.bootable().is_ok(), there);
        }
        board.emmc(|card| card.poke(Area::Boot1, model.loader_offset(true), &[0; 512]));
        board.power_cycle();
        assert_eq!(board.stage(), Stage::Rom);
    }
}

#[test]
fn a_closed_board_stays_in_its_rom() {
    let board = Board::new(Setup { hab: Hab::Closed, ..nxp() });
    let link = board.open().unwrap();
    for piece in flash_bin(Model::Imx8mp, 1).chunks(1020) {
        link.send(&report(2, piece, 1020), WITHIN).unwrap();
    }
    assert_eq!(link.receive(65, WITHIN).unwrap_err().fault, LinkFault::TimedOut);
    assert_eq!(board.stage(), Stage::Rom);
}

#[test]
fn a_closed_board_takes_what_is_signed() {
    for model in Model::ALL {
        let board = Board::new(Setup { hab: Hab::Closed, boot: BootMode::Card, ..Setup::new(model, Tree::Nxp) });
        let image = crate::sample::signed_flash_bin(model, 1);
        boot_image(&board, model, image.clone());
        let unsigned = flash_bin(model, 1);
        for (image, boots) in [(unsigned, false), (image, true)] {
            board.emmc(|card| card.poke(Area::User, model.loader_offset(false), &image));
            assert_eq!(board.bootable().is_ok(), boots, "{model:?}");
        }
        board.power_cycle();
        assert_eq!(board.stage(), Stage::Running);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever comes, in whatever stage: no panic, and every transfer ends by its deadline.
    #[test]
    fn a_board_outlives_any_host(
        model in 0usize..6,
        reach_fastboot: bool,
        transfers in proptest::collection::vec((proptest::collection::vec(0u8..16, 0..40), 0usize..5000, proptest::prelude::any::<bool>()), 0..12),
    ) {
        let model = Model::ALL[model];
        let board = Board::new(Setup::new(model, Tree::Nxp));
        if reach_fastboot {
            boot(&board, model);
        }
        for (head, len, listen) in transfers {
            let Some(link) = board.open() else { break };
            let mut bytes = head;
            bytes.resize(bytes.len().max(len), 0x41);
            let start = board.now();
            let _ = link.send(&bytes, WITHIN);
            if listen {
                let _ = link.receive(64, WITHIN);
            }
            proptest::prop_assert!(board.now() - start <= WITHIN * 2);
        }
    }
}

fn download(link: &Link, bytes: &[u8]) -> Result<(), crate::link::LinkError> {
    say(link, &format!("download:{:08x}", bytes.len()));
    link.send(bytes, WITHIN)?;
    assert_eq!(link.receive(64, WITHIN)?, b"OKAY");
    Ok(())
}

#[test]
fn unplugged_in_a_download_it_comes_back_as_told() {
    let (board, link) = fastboot(nxp());
    let address = link.device().address;
    board.add_faults(script("uboot at 100017 unplug back 700 on 1-3.2; uboot enter serial 00000000deadbeef").unwrap());
    let error = download(&link, &[5; 1 << 20]).unwrap_err();
    // 17 bytes were the command.
    assert_eq!((error.done, error.fault), (100_000, LinkFault::Gone));
    assert_eq!(board.device(), None);
    let back = board.wait_for_device(Some(address), WITHIN).unwrap();
    assert_eq!((back.path.as_str(), back.ids.product), ("1-3.2", 0x0152));
    // The server waits for a command again; the power was never gone.
    let link = board.open().unwrap();
    download(&link, &[6; 5000]).unwrap();
    // But it is another board that came back.
    assert_eq!(back.serial.as_deref(), Some("00000000deadbeef"));
    assert_eq!(say(&link, "getvar:serialno"), "OKAY00000000deadbeef");
    assert_eq!(say(&link, "flash:bootloader"), "OKAY");
    assert_eq!(board.emmc(|card| card.peek(Area::Boot0, 4999, 1)), Some(vec![6]));
    board.unplug();
    assert_eq!(board.wait_for_device(None, WITHIN), None);
}

#[test]
fn power_lost_while_writing_leaves_what_was_written() {
    let (board, link) = fastboot(nxp());
    board.add_faults(script("uboot cmd 1 flash:bootloader cut 65536 back 500").unwrap());
    download(&link, &flash_bin(Model::Imx8mp, 9)).unwrap();
    link.send(b"flash:bootloader", WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::Gone);
    let rom = board.wait_for_device(None, WITHIN).unwrap();
    assert_eq!(rom.ids.product, 0x0146);
    let image = flash_bin(Model::Imx8mp, 9);
    board.emmc(|card| {
        assert!(card.peek(Area::Boot0, 0, 65_536).unwrap() == image[..65_536]);
        assert_eq!(card.peek(Area::Boot0, 65_536, 512).unwrap(), [0; 512]);
        card.set_partconf(crate::emmc::PartConf { boot: 1, ..Default::default() }).unwrap();
    });
    assert!(board.bootable().is_err());
}

#[test]
fn a_rom_can_fail_too() {
    let image = flash_bin(Model::Imx8mp, 1);
    for (faults, fault) in [
        ("rom at 50000 stall", LinkFault::Stalled),
        ("rom at 50000 hang", LinkFault::TimedOut),
        ("rom at 50000 power never", LinkFault::Gone),
        ("rom enter hang", LinkFault::TimedOut),
    ] {
        let board = Board::new(nxp());
        board.add_faults(script(faults).unwrap());
        board.power_cycle();
        let link = board.open().unwrap();
        let sent = image.chunks(1020).try_for_each(|piece| link.send(&report(2, piece, 1020), WITHIN));
        assert_eq!(sent.unwrap_err().fault, fault, "{faults}");
    }
    // More than it needs does no harm, for a while.
    let board = Board::new(nxp());
    let link = board.open().unwrap();
    for piece in [image.as_slice(), &[0; 30_000]].concat().chunks(1020) {
        link.send(&report(2, piece, 1020), WITHIN).unwrap();
    }
    assert_eq!(board.wait_for_device(Some(1), WITHIN).unwrap().ids.product, 0x0152);
}

#[test]
fn a_reset_that_is_waited_for_is_never_answered() {
    let sd = Some(Geometry { user_bytes: 1 << 20, ..Geometry::default() });
    let (board, link) = fastboot(Setup { sd, ..nxp() });
    assert_eq!(say(&link, "UCmd:mmc dev 1"), "OKAY");
    assert_eq!(say(&link, "UCmd:mmc dev 1 1"), "FAIL");
    link.send(b"UCmd:reset", WITHIN).unwrap();
    let rom = board.wait_for_device(Some(link.device().address), WITHIN).unwrap();
    assert_eq!(rom.ids.product, 0x0146);
    assert_eq!(board.emmc(|card| card.geometry()), Geometry::default());
}

#[test]
fn faults_of_commands() {
    let (board, link) = fastboot(nxp());
    let faults = "uboot cmd 2 getvar fail no room; uboot cmd 1 download:00000400 size 512; uboot cmd 3 getvar short 2; \
                  uboot cmd 1 erase stall; uboot cmd 1 UCmd hang";
    board.add_faults(script(faults).unwrap());
    assert_eq!(say(&link, "getvar:version"), "OKAY0.4");
    assert_eq!(say(&link, "getvar:version"), "FAILno room");
    assert_eq!(say(&link, "getvar:version"), "OK");
    assert_eq!(say(&link, "download:00000400"), "DATA00000200");
    link.send(&[0; 512], WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap(), b"OKAY");
    link.send(b"erase:x", WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::Stalled);
    assert_eq!(say(&link, "getvar:version"), "OKAY0.4");
    link.send(b"UCmd:true", WITHIN).unwrap();
    let before = board.now();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::TimedOut);
    assert_eq!(board.now() - before, WITHIN);
    assert_eq!(link.send(b"UCmd:true", WITHIN).unwrap_err().fault, LinkFault::TimedOut);
    assert!(board.device().is_some());
}

#[test]
fn a_crash_resets_and_an_overrun_hangs() {
    let (board, link) = fastboot(nxp());
    link.send(b"UCmd:mw 0 0", WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::Gone);
    board.wait_for_device(None, WITHIN).unwrap();
    boot(&board, Model::Imx8mp);
    let link = board.open().unwrap();
    link.send(b"UCmd:mw.b bf000000 0", WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::TimedOut);
}

#[test]
fn slow_boards_and_late_cards() {
    let (board, link) = fastboot(nxp());
    board.add_faults(script("uboot cmd 1 getvar slow 5000; uboot cmd 1 flash late 1").unwrap());
    link.send(b"getvar:version", WITHIN).unwrap();
    let start = board.now();
    assert_eq!(link.receive(64, Duration::from_secs(3)).unwrap_err().fault, LinkFault::TimedOut);
    assert_eq!(link.receive(64, WITHIN).unwrap(), b"OKAY0.4");
    assert_eq!(board.now() - start, Duration::from_secs(5));
    // It fails after U-Boot has waited for a second; the bytes are there, and once more does no harm.
    download(&link, &[9; 4096]).unwrap();
    let start = board.now();
    assert_eq!(say(&link, "flash:bootloader"), "FAILfailed writing to device");
    assert_eq!(board.now() - start, Duration::from_secs(1));
    assert_eq!(board.emmc(|card| card.peek(Area::Boot0, 0, 4096)), Some(vec![9; 4096]));
    assert_eq!(say(&link, "flash:bootloader"), "OKAY");
}

/// What fastboot announces does not go by the memory there is.
#[test]
fn a_download_may_overrun_a_board_with_little_memory() {
    let (_, link) = fastboot(Setup { ram: Some(256 << 20), ..nxp() });
    assert_eq!(say(&link, "getvar:max-download-size"), "OKAY0x40000000");
    let room = (256 - 40 - 64) << 20;
    download(&link, &vec![1; room]).unwrap();
    say(&link, &format!("download:{:08x}", room + 4096));
    link.send(&vec![1; room + 4096], WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::TimedOut);
}

#[test]
fn work_takes_its_time() {
    let timing = Timing { bus: 10 << 20, card_write: 5 << 20, ..Timing::instant() };
    let (board, link) = fastboot(Setup { timing, ..nxp() });
    let start = board.now();
    download(&link, &vec![3; 10 << 20]).unwrap();
    let sent = board.now() - start;
    assert!((Duration::from_secs(1)..Duration::from_millis(1001)).contains(&sent), "{sent:?}");
    assert_eq!(say(&link, "UCmd:mmc dev 2; mmc write 42800000 0 5000"), "OKAY");
    let wrote = board.now() - start - sent;
    assert!((Duration::from_secs(2)..Duration::from_millis(2001)).contains(&wrote), "{wrote:?}");
    // A deadline that is too short says so, and the answer comes later all the same.
    link.send(b"UCmd:mmc write 42800000 0 5000", WITHIN).unwrap();
    let error = link.receive(64, Duration::from_millis(1500)).unwrap_err();
    assert_eq!(error.fault, LinkFault::TimedOut);
    assert_eq!(link.receive(64, WITHIN).unwrap(), b"OKAY");
}
