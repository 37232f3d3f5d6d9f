//! Traces of `uuu` 1.5.243: the client sends them byte for byte, and the virtual board takes them and answers as the real
//! one did. Only the padding of a last report differs: zeros here, what was left in a buffer there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in helpers outside of tests too")]

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imx_usb::bootimage::part::{Start, after_spl, for_stream};
use imx_usb::bootimage::{container, ivt};
use imx_usb::bus::Bus;
use imx_usb::chips::{ChipTable, StreamExtent};
use imx_usb::fastboot::{self, Limits};
use imx_usb::pipe::{BulkPipe, Fault, ReportPipe, TransferError};
use imx_usb::sdp::{self, Access, HabState, Jump, Settings};
use imx_usb::sdps;
use virtual_imx::board::{Board, BootMode, Setup, Stage};
use virtual_imx::emmc::{Area, PartConf};
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::rom::sdp::Sdp;
use virtual_imx::rom::{Hab, Verdict};
use virtual_imx::sample::{flash_bin, pattern};

const WITHIN: Duration = Duration::from_secs(10);

/// What went over a pipe: `true` for what was sent.
type Log = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// A pipe that is listened to.
struct Tap<P>(P, Log);

impl<P: ReportPipe> ReportPipe for Tap<P> {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        self.1.lock().unwrap().push((true, report.to_vec()));
        self.0.send_report(report, within)
    }
    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let length = self.0.receive_report(into, within)?;
        self.1.lock().unwrap().push((false, into[..length].to_vec()));
        Ok(length)
    }
}

impl<P: BulkPipe> BulkPipe for Tap<P> {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        self.1.lock().unwrap().push((true, bytes.to_vec()));
        self.0.send(bytes, within)
    }
    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let length = self.0.receive(into, within)?;
        self.1.lock().unwrap().push((false, into[..length].to_vec()));
        Ok(length)
    }
}

/// A ROM or loader without a bus around it.
struct Bare {
    sdp: Sdp,
    started: bool,
}

impl ReportPipe for Bare {
    fn send_report(&mut self, report: &[u8], _: Duration) -> Result<(), TransferError> {
        self.started |= self.sdp.report(report) == Verdict::Starts;
        Ok(())
    }
    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let fault = if self.started { Fault::Gone } else { Fault::TimedOut(within) };
        let report = self.sdp.reply().ok_or(TransferError::receiving(0, into.len(), fault))?;
        into[..report.len()].copy_from_slice(&report);
        Ok(report.len())
    }
}

/// A trace as lines: `>` what is sent, `<` what is received, both in hex and cut to what tells something; runs of
/// data reports as their number and length.
fn lines(log: &Log) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut run = 0;
    let log = log.lock().unwrap();
    for (n, (sent, bytes)) in log.iter().enumerate() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        match (sent, bytes.first()) {
            (true, Some(2)) => {
                run += 1;
                let next = log.get(n + 1);
                if next.is_none_or(|(sent, next)| !sent || next.first() != Some(&2) || next.len() != bytes.len()) {
                    lines.push(format!("> 02 x{run} len {}", bytes.len()));
                    run = 0;
                }
            }
            (true, _) => lines.push(format!("> {}", hex(bytes))),
            (false, _) => lines.push(format!("< {}", hex(&bytes[..5]))),
        }
    }
    lines
}

/// The bytes of all data reports, padding included.
fn data(log: &Log) -> Vec<u8> {
    let log = log.lock().unwrap();
    log.iter().filter(|(sent, bytes)| *sent && bytes[0] == 2).flat_map(|(_, bytes)| bytes[1..].to_vec()).collect()
}

/// The image of the traces: table at 0x400 of the image, 0x4c00 bytes, a DCD of 12 bytes.
fn imx6_image() -> Vec<u8> {
    let mut file = vec![0; 0x400];
    let own = 0x877f_f400_u32;
    file.extend(0x4020_00d1_u32.to_le_bytes());
    for word in [own + 0xc00, 0, own + 0x2c, own + 0x20, own, 0, 0, own - 0x400, 0x4c00, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0xd2, 0, 12, 0x40, 0xcc, 0, 8, 4, 0, 0, 0, 0]);
    let rest = 0x4c00 - file.len();
    file.extend(pattern(rest, 3));
    file
}

fn boot_by_sdp(chip: &str) -> (Vec<String>, Vec<u8>, bool) {
    let file = imx6_image();
    let load = ivt::find(&file, 0).unwrap();
    let load = load.load(&file).unwrap();
    let log = Log::default();
    // The board's memory as a loader would have set it up: that of i.MX6 and 7 is not this model's.
    let bare = Bare { sdp: Sdp::loader(0, 0x8800_0000, 0), started: false };
    let settings: Settings = ChipTable::builtin().chip(chip).unwrap().into();
    let mut session = sdp::Session::new(Tap(bare, log.clone()), settings);
    assert_eq!(session.boot(&load, &mut |_| {}).unwrap(), Jump::Silent);
    assert_eq!(session.hab(), Some(HabState::Open));
    let started = session.into_pipe().0.started;
    (lines(&log), data(&log), started)
}

#[test]
fn imx6q() {
    let (lines, data, started) = boot_by_sdp("MX6Q");
    let expected = [
        "> 010A0A00910000000000000C0000000000",
        "> 02 x1 len 1025",
        "< 0356787856",
        "< 04128A8A12",
        "> 010404877FF40000000048000000000000",
        "> 02 x18 len 1025",
        "< 0356787856",
        "< 0488888888",
        "> 010404877FF40000000004000000000000",
        "> 02 x1 len 1025",
        "< 0356787856",
        "< 0488888888",
        "> 010B0B877FF40000000000000000000000",
        "< 0356787856",
    ];
    assert_eq!(lines, expected);
    assert!(started);
    let image = imx6_image();
    assert_eq!(data[..12], image[0x42c..0x438]);
    assert!(data[1024..1024 + 0x4800] == image[0x400..]);
    // The table again, with its pointer to the DCD taken out.
    let mut cleared = image[0x400..0x800].to_vec();
    cleared[12..16].fill(0);
    assert!(data[1024 + 0x4800..] == cleared);
}

#[test]
fn imx7d() {
    let (lines, _, started) = boot_by_sdp("MX7D");
    let expected = [
        "> 010A0A00911000000000000C0000000000",
        "> 02 x1 len 1025",
        "< 0356787856",
        "< 04128A8A12",
        "> 010404877FF40000000048000000000000",
        "> 02 x18 len 1025",
        "< 0356787856",
        "< 0488888888",
        "> 010C0C0000000000000000000000000000",
        "< 0356787856",
        "< 0409D00D90",
        "> 010B0B877FF40000000000000000000000",
        "< 0356787856",
    ];
    assert_eq!(lines, expected);
    assert!(started);
}

#[test]
fn registers_and_status() {
    let board = Board::new(Setup::new(Model::Imx8mm, Tree::Nxp));
    let bus = HostBus::new(vec![board]);
    let table = ChipTable::builtin();
    let chip = table.chip("MX8MM").unwrap();
    let log = Log::default();
    let pipe = bus.reports(&bus.devices().unwrap()[0], chip.route).unwrap();
    let mut session = sdp::Session::new(Tap(pipe, log.clone()), Settings::from(chip));
    session.read_register(0x020c_8000, Access::Word).unwrap();
    session.write_register(0x020c_8000, Access::Word, 0x1234_5678).unwrap();
    assert_eq!(session.error_status().unwrap(), (HabState::Open, 0x128a_8a12));
    let lines = lines(&log);
    let sent: Vec<_> = lines.iter().filter(|line| line.starts_with('>')).collect();
    assert_eq!(
        sent,
        [
            "> 010101020C800020000000040000000000",
            "> 010202020C800020000000041234567800",
            "> 0105050000000000000000000000000000"
        ]
    );
    assert_eq!(lines[4..6], ["< 0356787856", "< 04128A8A12"]);
}

/// Two containers of version `version`, the loader's last image at 0xd000 with 0x10123 bytes; U-Boot's container behind,
/// 0x60000 bytes in all.
fn containers(version: u8) -> Vec<u8> {
    let mut file = vec![0; 0x6_0000];
    let step = if version >= 2 { 0x4000 } else { 0x400 };
    // The same end from the start of the file as with steps of 0x400.
    let last = u32::try_from(0xd400 - step).unwrap();
    for (at, kind, offset, length) in [(0, 6, 0xd000, 0x200), (step, 3, last, 0x1_0123), (0x1_d800, 3, 0x2000, 0x1000)]
    {
        let header = [version, 0xa0, 0, 0x87, 0, 0, 0, 0, 0, 0, 0, 1, 0x90, 0, 0, 0];
        file[at..at + 16].copy_from_slice(&header);
        file[at + 16..at + 20].copy_from_slice(&u32::to_le_bytes(offset));
        file[at + 20..at + 24].copy_from_slice(&u32::to_le_bytes(length));
        file[at + 16 + 24] = kind;
        file[at + 0x90..at + 0x94].copy_from_slice(&[0, 16, 0, 0x90]);
    }
    file
}

/// What a model that is streamed to is sent, and then its loader; the board must be in fastboot at the end.
fn stream(model: Model, chip: &str, file: &[u8]) -> [Log; 2] {
    let board = Board::new(Setup::new(model, Tree::Nxp));
    let bus = HostBus::new(vec![board.clone()]);
    let table = ChipTable::builtin();
    let logs = [Log::default(), Log::default()];
    let mut seen = bus.changes();
    let rom = table.chip(chip).unwrap();
    let range = for_stream(file, Start::default(), rom.stream).unwrap();
    let mut pipe = Tap(bus.reports(&bus.devices().unwrap()[0], rom.route).unwrap(), logs[0].clone());
    sdps::stream(&mut pipe, rom, &file[range], WITHIN, &mut |_| {}).unwrap();
    let mut arrives = |stage| {
        for _ in 0..4 {
            if board.stage() == stage && !bus.devices().unwrap().is_empty() {
                return;
            }
            bus.wait(seen, WITHIN);
            seen = bus.changes();
        }
        panic!("{model:?} is in {:?}", board.stage());
    };
    if rom.stream == StreamExtent::LoaderContainer {
        arrives(Stage::Loader);
        let spl = table.chip("SPL1").unwrap();
        let pipe = Tap(bus.reports(&bus.devices().unwrap()[0], spl.route).unwrap(), logs[1].clone());
        let mut session = sdp::Session::new(pipe, Settings::from(spl));
        session.write_file(0, &file[after_spl(file, Start::default()).unwrap()], &mut |_| {}).unwrap();
        assert_eq!(session.jump(0).unwrap(), Jump::Silent);
    }
    arrives(Stage::UBoot);
    logs
}

#[test]
fn imx8qxp_and_its_loader() {
    let file = containers(0);
    let [rom, spl] = stream(Model::Imx8qxp, "MX8QXP", &file);
    assert_eq!(lines(&rom), ["> 02 x118 len 1025"]);
    assert!(data(&rom) == file[..0x1_d800]);
    let expected = [
        "> 0104040000000000000428000000000000",
        "> 02 x266 len 1025",
        "< 0356787856",
        "< 0488888888",
        "> 010B0B0000000000000000000000000000",
        "< 0356787856",
    ];
    assert_eq!(lines(&spl), expected);
    assert!(data(&spl) == file[0x1_d800..]);
}

#[test]
fn imx8mp() {
    let mut file = flash_bin(Model::Imx8mp, 1);
    file.resize(0x6_0000, 0);
    let [rom, _] = stream(Model::Imx8mp, "MX865", &file);
    assert_eq!(lines(&rom), ["> 02 x386 len 1021"]);
    assert!(data(&rom)[..0x6_0000] == file);
}

#[test]
fn imx95() {
    for version in [0, 2] {
        let file = containers(version);
        assert_eq!(container::loader_span(&file, 0, container::FcbCopy::Leave), Ok(0x1_d800));
        let [rom, _] = stream(Model::Imx95, "MX95", &file);
        assert_eq!(lines(&rom), ["> 02 x119 len 1021"]);
        assert!(data(&rom)[..0x1_d800] == file[..0x1_d800]);
    }
}

/// Boot images by NXP's SPSDK, with its hashes and layouts, start the virtual boards.
#[test]
fn images_by_other_tools() {
    for (model, chip, name) in [(Model::Imx93, "MX93", "imx93-flash.bin"), (Model::Imx95, "MX95", "imx95-flash.bin")] {
        let path = format!("{}/../imx-usb/tests/data/{name}.gz", env!("CARGO_MANIFEST_DIR"));
        let mut file = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut file).unwrap();
        stream(model, chip, &file);
    }
}

fn uboot() -> (Board, fastboot::Session<Tap<Box<dyn BulkPipe + Send>>>, Log) {
    let board = Board::new(Setup { boot: BootMode::Serial, ..Setup::new(Model::Imx8mp, Tree::Nxp) });
    board.start_uboot();
    let bus = HostBus::new(vec![board.clone()]);
    board.wait_for_device(None, WITHIN).unwrap();
    let log = Log::default();
    let pipe = Tap(bus.bulk(&bus.devices().unwrap()[0]).unwrap(), log.clone());
    (board, fastboot::Session::new(pipe, Limits::USB), log)
}

/// Commands, as text, and lengths of what was downloaded.
fn commands(log: &Log) -> Vec<String> {
    let log = log.lock().unwrap();
    let sent = log.iter().filter(|(sent, _)| *sent).map(|(_, bytes)| match std::str::from_utf8(bytes) {
        Ok(text) if text.len() < 200 && !text.contains('\0') => text.to_owned(),
        _ => format!("{} bytes", bytes.len()),
    });
    sent.collect()
}

/// A sparse image of a DONT_CARE chunk, if `before` is not 0, and one of data.
fn sparse(before: u32, data: &[u8]) -> Vec<u8> {
    let blocks = u32::try_from(data.len() / 4096).unwrap();
    let header = [0xed26_ff3a, 1, 0x000c_001c, 4096, before + blocks, 1 + u32::from(before > 0), 0];
    let mut image: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    let mut chunk = |kind: u32, blocks: u32, length: u32| {
        image.extend([kind, blocks, 12 + length].iter().flat_map(|word| word.to_le_bytes()));
    };
    if before > 0 {
        chunk(0xcac3, before, 0);
    }
    chunk(0xcac1, blocks, blocks * 4096);
    image.extend(data);
    image
}

#[test]
fn a_small_file_as_sparse() {
    let (board, mut session, log) = uboot();
    let mut file = pattern(10_000, 5);
    assert_eq!(session.getvar("max-download-size").unwrap().get(..2), Some("0x"));
    assert_eq!(session.getvar("logical-block-size").unwrap(), "0x200");
    file.resize(12_288, 0);
    session.download_all(&sparse(0, &file)).unwrap();
    session.flash("all").unwrap();
    let expected =
        ["getvar:max-download-size", "getvar:logical-block-size", "download:00003028", "12328 bytes", "flash:all"];
    assert_eq!(commands(&log), expected);
    let answers: Vec<_> =
        log.lock().unwrap().iter().filter(|(sent, _)| !sent).map(|(_, bytes)| bytes.clone()).collect();
    assert!(answers.contains(&b"DATA00003028".to_vec()));
    assert!(board.emmc(|card| card.peek(Area::User, 0, 12_288).unwrap() == file));
}

/// The lengths that `uuu` cuts 40 MB into, by default and with `-S 0x2000000`: a header of 28 bytes, one of 12 for each
/// chunk, and as many blocks as it takes.
#[test]
fn forty_megabytes_as_sparse() {
    for (pieces, expected) in [
        ([4094, 4094, 1578].as_slice(), ["download:00ffe028", "download:00ffe034", "download:0062a034"].as_slice()),
        (&[8190, 1576], &["download:01ffe028", "download:00628034"]),
    ] {
        let (board, mut session, log) = uboot();
        let file = pattern(9766 * 4096, 9);
        let mut first = 0_usize;
        for blocks in pieces {
            let part = &file[first * 4096..(first + blocks) * 4096];
            session.download_all(&sparse(u32::try_from(first).unwrap(), part)).unwrap();
            session.flash("all").unwrap();
            first += blocks;
        }
        let commands = commands(&log);
        let downloads: Vec<_> = commands.iter().filter(|line| line.starts_with("download:")).collect();
        assert_eq!(downloads, expected);
        assert!(board.emmc(|card| card.peek(Area::User, 0, file.len()).unwrap() == file));
    }
}

#[test]
fn a_loader_by_fastboot() {
    let (board, mut session, log) = uboot();
    let loader = flash_bin(Model::Imx8mp, 4);
    for line in ["setenv fastboot_dev mmc", "setenv mmcdev ${emmc_dev}", "mmc dev ${emmc_dev}"] {
        session.ucmd(line).unwrap();
    }
    session.getvar("max-download-size").unwrap();
    session.download_all(&loader).unwrap();
    session.flash("bootloader").unwrap();
    session.ucmd("if env exists emmc_ack; then ; else setenv emmc_ack 0; fi;").unwrap();
    session.ucmd("mmc partconf ${emmc_dev} ${emmc_ack} 1 0").unwrap();
    let download = format!("download:{:08x}", loader.len());
    let data = format!("{} bytes", loader.len());
    let expected = [
        "UCmd:setenv fastboot_dev mmc",
        "UCmd:setenv mmcdev ${emmc_dev}",
        "UCmd:mmc dev ${emmc_dev}",
        "getvar:max-download-size",
        &download,
        &data,
        "flash:bootloader",
        "UCmd:if env exists emmc_ack; then ; else setenv emmc_ack 0; fi;",
        "UCmd:mmc partconf ${emmc_dev} ${emmc_ack} 1 0",
    ];
    assert_eq!(commands(&log), expected);
    assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: false, boot: 1, access: 0 });
    assert!(board.bootable().is_ok());
}

/// What a closed board says in report 3.
#[test]
fn a_closed_board_says_so() {
    let board = Board::new(Setup { hab: Hab::Closed, ..Setup::new(Model::Imx8mm, Tree::Nxp) });
    let bus = HostBus::new(vec![board]);
    let table = ChipTable::builtin();
    let chip = table.chip("MX8MM").unwrap();
    let log = Log::default();
    let pipe = bus.reports(&bus.devices().unwrap()[0], chip.route).unwrap();
    let mut session = sdp::Session::new(Tap(pipe, log.clone()), Settings::from(chip));
    // HAB's word for success, too.
    assert_eq!(session.error_status().unwrap(), (HabState::Closed, 0xf0f0_f0f0));
    assert_eq!(lines(&log)[1..], ["< 0312343412", "< 04F0F0F0F0"]);
}
