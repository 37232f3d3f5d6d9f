use super::*;
use imx_usb::bus::Snapshot;

use crate::board::{Setup, Stage};
use crate::fault::script;
use crate::model::{Model, Tree};
use crate::sample::flash_bin;
use crate::sharing::SharedBus;
use crate::timing::{Clock, Timing};

const WITHIN: Duration = Duration::from_secs(10);

fn setup(path: &str) -> Setup {
    Setup { path: path.to_owned(), ..Setup::new(Model::Imx8mp, Tree::Nxp) }
}

/// Waits on the bus for a device at that port with another visit than `old`.
fn follow(bus: &HostBus, port: &str, old: Option<Visit>, within: Duration) -> Option<Device> {
    let until = bus.now() + within;
    loop {
        let Snapshot { changes, now, devices } = bus.look().unwrap();
        if let Some(device) = devices.into_iter().find(|it| it.port.to_string() == port && Some(it.visit) != old) {
            return Some(device);
        }
        if now >= until {
            return None;
        }
        bus.wait(changes, until - now);
    }
}

/// Streams a boot image to the ROM there and follows the board to fastboot.
fn boot(bus: &HostBus, port: &str) -> Device {
    let rom = follow(bus, port, None, WITHIN).unwrap();
    let mut pipe = bus.reports(&rom, ReportRoute::Endpoint1).unwrap();
    for piece in flash_bin(Model::Imx8mp, 1).chunks(1020) {
        let mut report = vec![2];
        report.extend(piece);
        report.resize(1021, 0);
        pipe.send_report(&report, WITHIN).unwrap();
    }
    drop(pipe);
    let device = follow(bus, port, Some(rom.visit), WITHIN).unwrap();
    assert!(device.speaks_fastboot());
    device
}

fn say(pipe: &mut dyn BulkPipe, line: &str) -> String {
    pipe.send(line.as_bytes(), WITHIN).unwrap();
    let mut reply = [0; 64];
    let n = pipe.receive(&mut reply, WITHIN).unwrap();
    String::from_utf8_lossy(&reply[..n]).into_owned()
}

#[test]
fn a_board_is_followed_in_simulated_time() {
    let board = Board::new(setup("1-4.2"));
    let bus = HostBus::new(vec![board.clone()]);
    let rom = bus.devices().unwrap().remove(0);
    assert_eq!((rom.vendor, rom.product, rom.serial.as_deref()), (0x1fc9, 0x0146, None));
    assert_eq!(bus.string(&rom, 4).unwrap().as_deref(), Some("0123456789ABCDEF"));
    assert_eq!(bus.string(&rom, 3).unwrap(), None);
    let before = bus.now();
    let device = boot(&bus, "1-4.2");
    assert!(bus.now() - before >= Duration::from_millis(300));
    assert_eq!(device.serial.as_deref(), Some("0123456789abcdef"));
    // The old device is not the new one, and one pipe is enough for a board.
    assert!(matches!(bus.string(&rom, 4), Err(OpenError::Gone { .. })));
    let mut pipe = bus.bulk(&device).unwrap();
    assert_eq!(say(&mut *pipe, "getvar:version"), "OKAY0.4");
    assert!(matches!(bus.bulk(&device), Err(OpenError::Busy { .. })));
    assert_eq!(bus.open_pipes(), 1);
    // It leaves although somebody holds it.
    let seen = bus.changes();
    assert_eq!(say(&mut *pipe, "continue"), "OKAY");
    bus.wait(seen, WITHIN);
    assert_ne!(bus.changes(), seen);
    assert!(bus.devices().unwrap().is_empty());
    drop(pipe);
    // Nothing ever comes there.
    let (start, long) = (Instant::now(), Duration::from_secs(60));
    assert_eq!(follow(&bus, "1-9", None, long), None);
    assert!(start.elapsed() < long, "time is simulated");
    assert_eq!((bus.open_pipes(), board.stage()), (0, Stage::Running));
}

#[test]
fn pipes_are_of_the_right_kind() {
    let mm = Board::new(Setup { path: "1-2".to_owned(), ..Setup::new(Model::Imx8mm, Tree::Nxp) });
    let bus = HostBus::new(vec![mm]);
    let rom = bus.devices().unwrap().remove(0);
    assert!(matches!(bus.bulk(&rom), Err(OpenError::Lacks { .. })));
    assert!(matches!(bus.reports(&rom, ReportRoute::Endpoint1), Err(OpenError::Lacks { .. })));
    assert!(bus.reports(&rom, ReportRoute::Control).is_ok());
    assert_eq!(bus.open_pipes(), 0);
}

#[test]
fn boards_come_and_go_and_change_places() {
    let bus = HostBus::new(Vec::new());
    assert_eq!(follow(&bus, "1-1", None, WITHIN), None);
    assert!(bus.now() >= WITHIN);
    let (a, b) = (Board::new(setup("1-1")), Board::new(Setup { uid: 2, ..setup("1-2") }));
    bus.add(a.clone());
    bus.add(b.clone());
    let (first, second) = (boot(&bus, "1-1"), boot(&bus, "1-2"));
    a.unplug();
    b.plug("1-1");
    a.plug("1-2");
    let (one, two) = (follow(&bus, "1-1", None, WITHIN).unwrap(), follow(&bus, "1-2", None, WITHIN).unwrap());
    assert_eq!((&one.serial, &two.serial), (&second.serial, &first.serial));
    assert!(one.visit > second.visit && two.visit > second.visit && one.visit != two.visit);
    bus.remove(&a);
    assert_eq!(bus.devices().unwrap(), [one]);
}

/// One board's long wait is not held against another.
#[test]
fn simulated_times_are_apart() {
    let boards: Vec<_> = (1..=4).map(|n| Board::new(Setup { uid: n, ..setup(&format!("1-{n}")) })).collect();
    let bus = HostBus::new(boards.clone());
    boards[0].add_faults(script("uboot cmd 1 UCmd hang").unwrap());
    // Waiting on the bus goes by the bus's time, which is that of the board furthest ahead: nobody boots any more then.
    let all_booted = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for n in 1..=4 {
            let (bus, board, all_booted) = (&bus, &boards[n - 1], &all_booted);
            scope.spawn(move || {
                let port = format!("1-{n}");
                let device = boot(bus, &port);
                let mut pipe = bus.bulk(&device).unwrap();
                all_booted.wait();
                let before = pipe.now();
                if n == 1 {
                    pipe.send(b"UCmd:true", WITHIN).unwrap();
                    assert!(pipe.receive(&mut [0; 64], Duration::from_secs(600)).unwrap_err().is_timeout());
                    assert!(pipe.now() - before >= Duration::from_secs(600));
                } else {
                    for _ in 0..50 {
                        assert_eq!(say(&mut *pipe, "getvar:serialno"), format!("OKAY{n:016x}"));
                    }
                    assert!(pipe.now() - before < Duration::from_secs(1), "{:?}", pipe.now() - before);
                    drop(pipe);
                    board.add_faults(script("uboot cmd 1 getvar unplug back 500").unwrap());
                    let mut pipe = bus.bulk(&device).unwrap();
                    pipe.send(b"getvar:version", WITHIN).unwrap();
                    assert!(pipe.receive(&mut [0; 64], WITHIN).unwrap_err().is_gone());
                    drop(pipe);
                    assert!(follow(bus, &port, Some(device.visit), WITHIN).is_some());
                }
            });
        }
    });
    assert_eq!(bus.open_pipes(), 0);
}

/// The board receives, then works, never both; each thing it does has a rate of its own.
#[test]
fn a_hundred_megabytes_take_what_the_timing_says() {
    let timing = Timing::plain();
    let board = Board::new(Setup { timing, ..setup("1-1") });
    board.start_uboot();
    let bus = HostBus::new(vec![board]);
    let mut pipe = bus.bulk(&bus.devices().unwrap()[0]).unwrap();
    let (piece, data) = (20_000_256, vec![7; 20_000_256]);
    let rate = |per_second: u64| f64::from(piece) / f64::from(u32::try_from(per_second).unwrap());
    let start = pipe.now();
    for n in 0..5 {
        assert!(say(&mut *pipe, &format!("download:{piece:x}")).starts_with("DATA"));
        pipe.send(&data, WITHIN).unwrap();
        assert_eq!(pipe.receive(&mut [0; 64], WITHIN).unwrap(), 4);
        let (block, count) = (n * piece / 512, piece / 512);
        assert_eq!(say(&mut *pipe, &format!("UCmd:mmc dev 2; mmc write 42800000 {block:x} {count:x}")), "OKAY");
        assert_eq!(say(&mut *pipe, &format!("UCmd:mmc read 60000000 {block:x} {count:x}")), "OKAY");
        assert_eq!(say(&mut *pipe, &format!("UCmd:crc32 60000000 {piece:x}")), "OKAY");
        assert_eq!(say(&mut *pipe, &format!("UCmd:hash sha256 60000000 {piece:x} h")), "OKAY");
    }
    let took = (pipe.now() - start).as_secs_f64();
    let once = rate(timing.bus) + rate(timing.card_write) + rate(timing.card_read) + rate(timing.crc32);
    let model = 5.0 * (once + rate(timing.sha) + 5.0 * 0.010);
    assert!((took / model - 1.0).abs() < 0.001, "{took} s instead of {model} s");
}

#[test]
fn real_time_is_real_and_a_hub_is_shared() {
    const MB: u64 = 1_000_000;
    let hub = SharedBus::new(40 * MB);
    let timing = Timing { bus: 30 * MB, gap: Duration::from_millis(100), ..Timing::default() };
    let boards: Vec<_> = (1..=2)
        .map(|n| Board::new(Setup { timing, clock: Clock::real(), hub: Some(hub.clone()), ..setup(&format!("1-{n}")) }))
        .collect();
    let bus = HostBus::new(boards);
    let devices = [boot(&bus, "1-1"), boot(&bus, "1-2")];
    let download = |device: &Device, bytes: &[u8]| {
        let mut pipe = bus.bulk(device).unwrap();
        assert!(say(&mut *pipe, &format!("download:{:x}", bytes.len())).starts_with("DATA"));
        pipe.send(bytes, WITHIN).unwrap();
        assert_eq!(pipe.receive(&mut [0; 64], WITHIN).unwrap(), 4);
    };
    let bytes = vec![1; 12_000_000];
    let start = Instant::now();
    download(&devices[0], &bytes);
    let alone = start.elapsed();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for device in &devices {
            let (download, bytes) = (&download, &bytes);
            scope.spawn(move || download(device, bytes));
        }
    });
    let together = start.elapsed();
    // At least what the rates make it; how much more is the machine's business.
    assert!(alone >= Duration::from_millis(400), "{alone:?}");
    assert!(together >= Duration::from_millis(595), "{together:?}");
}
