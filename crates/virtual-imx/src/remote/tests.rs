use super::connection::Endpoints;
use super::*;
use crate::board::{Board, Setup};
use crate::fault::script;
use crate::model::{Model, Tree};
use crate::timing::{Clock, Timing};
use crate::usbip::Stop;
use crate::usbip::server::Server;

const WITHIN: Duration = Duration::from_secs(10);

fn setup(model: Model, path: &str) -> Setup {
    let timing = Timing { gap: Duration::from_millis(50), ..Timing::default() };
    Setup { path: path.to_owned(), clock: Clock::real(), timing, ..Setup::new(model, Tree::Nxp) }
}

/// Runs `host` on a bus of these boards behind a socket.
fn with_bus(boards: Vec<Board>, address: &str, host: impl FnOnce(&RemoteBus)) {
    let folder = tempfile::tempdir().unwrap();
    let address: Address = address.replace("FOLDER", folder.path().to_str().unwrap()).parse().unwrap();
    let listener = address.listen().unwrap();
    let (server, stop) = (Server::new(boards), Stop::new());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.run(&listener, &stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let bus = RemoteBus::connect(&listener.address().unwrap()).unwrap();
            host(&bus);
            assert_eq!(bus.open_pipes(), 0);
        }));
        stop.set();
        running.join().unwrap().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    assert_eq!(server.given(), 0);
}

fn device(bus: &RemoteBus, port: &str) -> Option<Device> {
    bus.devices().unwrap().into_iter().find(|device| device.port.to_string() == port)
}

fn say(pipe: &mut dyn BulkPipe, line: &str) -> Result<String, Fault> {
    pipe.send(line.as_bytes(), WITHIN).map_err(|error| error.fault)?;
    let mut reply = [0; 64];
    let n = pipe.receive(&mut reply, WITHIN).map_err(|error| error.fault)?;
    Ok(String::from_utf8_lossy(&reply[..n]).into_owned())
}

#[test]
fn a_board_goes_from_its_rom_to_a_flashed_card() {
    for (model, route) in [(Model::Imx8mp, ReportRoute::Endpoint1), (Model::Imx8qxp, ReportRoute::Control)] {
        let board = Board::new(setup(model, "1-4.2"));
        with_bus(vec![board.clone()], "unix:FOLDER/socket", |bus| {
            let rom = device(bus, "1-4.2").unwrap();
            assert_eq!((rom.vendor, rom.serial.as_deref(), rom.speed), (0x1fc9, None, Some(Speed::High)));
            assert_eq!(bus.string(&rom, 4).unwrap().as_deref(), Some("0123456789ABCDEF"));
            assert_eq!(bus.string(&rom, 3).unwrap(), None);
            assert!(matches!(bus.bulk(&rom), Err(OpenError::Lacks { .. })));
            let seen = bus.changes();
            let mut pipe = bus.reports(&rom, route).unwrap();
            assert!(matches!(bus.reports(&rom, route), Err(OpenError::Busy { .. })));
            for piece in crate::sample::flash_bin(model, 1)[..].chunks(model.report_payload()) {
                let mut report = vec![2];
                report.extend(piece);
                report.resize(model.report_payload() + 1, 0);
                if pipe.send_report(&report, WITHIN).is_err() {
                    break;
                }
            }
            drop(pipe);
            bus.wait(seen, WITHIN);
            let until = Instant::now() + WITHIN;
            while bus.devices().unwrap().iter().all(|device| device.visit == rom.visit) {
                assert!(Instant::now() < until);
                bus.wait(bus.changes(), Duration::from_millis(100));
            }
            assert!(matches!(bus.string(&rom, 4), Err(OpenError::Gone { .. })));
            board.start_uboot();
            let until = Instant::now() + WITHIN;
            let uboot = loop {
                if let Some(device) = device(bus, "1-4.2").filter(Device::speaks_fastboot) {
                    break device;
                }
                assert!(Instant::now() < until);
            };
            assert_eq!(uboot.serial.as_deref(), Some("0123456789abcdef"));
            let mut pipe = bus.bulk(&uboot).unwrap();
            // A string of a device that is open, too.
            assert_eq!(bus.string(&uboot, 3).unwrap(), uboot.serial);
            let data = crate::sample::pattern(3_000_000, 5);
            assert_eq!(say(&mut *pipe, "download:002dc6c0").unwrap(), "DATA002dc6c0");
            pipe.send(&data, WITHIN).unwrap();
            assert_eq!(pipe.receive(&mut [0; 64], WITHIN).unwrap(), 4);
            assert_eq!(say(&mut *pipe, "flash:bootloader").unwrap(), "OKAY");
            let stored = board.emmc(|card| card.peek(crate::emmc::Area::Boot0, 0, data.len())).unwrap();
            assert!(stored == data);
            // And back in one transfer.
            assert_eq!(say(&mut *pipe, "upload").unwrap(), "DATA002dc6c0");
            let mut back = vec![0; data.len()];
            assert_eq!(pipe.receive(&mut back, WITHIN).unwrap(), data.len());
            assert!(back == data);
            assert_eq!(pipe.receive(&mut [0; 64], WITHIN).unwrap(), 4);
        });
    }
}

#[test]
fn faults_are_what_a_host_sees() {
    let board = Board::new(setup(Model::Imx8mp, "1-1"));
    board.start_uboot();
    board.add_faults(
        script("uboot cmd 1 getvar stall; uboot cmd 1 UCmd hang; uboot at 3000000 unplug back 50").unwrap(),
    );
    with_bus(vec![board.clone()], "tcp:127.0.0.1:0", |bus| {
        let mut pipe = bus.bulk(&device(bus, "1-1").unwrap()).unwrap();
        assert!(matches!(say(&mut *pipe, "getvar:version"), Err(Fault::Stalled)));
        // A new claim begins anew.
        drop(pipe);
        let mut pipe = bus.bulk(&device(bus, "1-1").unwrap()).unwrap();
        assert_eq!(say(&mut *pipe, "getvar:version").unwrap(), "OKAY0.4");
        assert_eq!(say(&mut *pipe, "download:00400000").unwrap(), "DATA00400000");
        let error = pipe.send(&vec![0; 4 << 20], WITHIN).unwrap_err();
        assert!(error.is_gone() && error.delivered <= 3_000_000, "{error}");
        drop(pipe);
        let until = Instant::now() + WITHIN;
        let back = loop {
            if let Some(device) = device(bus, "1-1") {
                break device;
            }
            assert!(Instant::now() < until);
            bus.wait(bus.changes(), Duration::from_millis(100));
        };
        let mut pipe = bus.bulk(&back).unwrap();
        pipe.send(b"UCmd:true", WITHIN).unwrap();
        for _ in 0..2 {
            let started = Instant::now();
            let error = pipe.receive(&mut [0; 64], Duration::from_millis(60)).unwrap_err();
            assert!(error.is_timeout() && started.elapsed() >= Duration::from_millis(60), "{error}");
        }
        let error = pipe.send(&[0; 100], Duration::from_millis(20)).unwrap_err();
        assert!(error.is_timeout() && error.delivered == 0, "{error}");
        // Late is not never: what was called off is not answered any more, and the next is.
        board.start_uboot();
        assert!(pipe.receive(&mut [0; 64], WITHIN).unwrap_err().is_gone());
    });
}

#[test]
fn a_server_that_ends_takes_its_boards_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("socket"));
    let board = Board::new(setup(Model::Imx93, "1-1"));
    assert!(RemoteBus::connect(&address).is_err());
    let mut first = None;
    for _ in 0..2 {
        let listener = address.listen().unwrap();
        let (server, stop) = (Server::new([board.clone()]), Stop::new());
        std::thread::scope(|scope| {
            // Nobody may be kept waiting by a listener that nobody serves any more.
            let running = scope.spawn(|| server.run(&{ listener }, &stop).unwrap());
            let bus = first.get_or_insert_with(|| RemoteBus::connect(&address).unwrap());
            // After an answer that did not come there is a new one.
            let device = bus.devices().or_else(|_| bus.devices()).map(|mut devices| devices.remove(0));
            let seen = bus.changes();
            stop.set();
            running.join().unwrap();
            assert_eq!(device.unwrap().port.to_string(), "1-1");
            bus.wait(seen, WITHIN);
            assert!(bus.changes() > seen);
            assert!(bus.devices().is_err());
        });
    }
}

#[test]
fn endpoints_are_found_in_descriptors() {
    let fastboot =
        [9, 2, 32, 0, 1, 1, 0, 0, 0, 9, 4, 0, 0, 2, 0xff, 0x42, 3, 0, 7, 5, 0x82, 2, 0, 2, 0, 7, 5, 3, 2, 0, 2, 0];
    let expected = Endpoints { bulk_in: Some(2), bulk_out: Some(3), ..Endpoints::default() };
    assert_eq!(Endpoints::read(&fastboot), expected);
    assert_eq!(Endpoints::read(&fastboot[..26]), Endpoints { bulk_out: None, ..expected });
    for nothing in [&[][..], &[0, 0, 0], &[9, 4], &[1, 1, 1], &[9, 4, 1, 0, 1, 0, 0, 0, 0, 7, 5, 0x81, 2, 0, 2, 0]] {
        assert_eq!(Endpoints::read(nothing), Endpoints::default());
    }
}
