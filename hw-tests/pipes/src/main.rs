//! Tries the USB pipes of `imx-usb` on devices that go wrong where they are told to, behind the kernel's virtual host
//! controller: needs root and the modules `vhci_hcd` and, for the HID cases, `usbhid`. `hw-tests/try-pipes` runs it in
//! virtual machines of several kinds.
//!
//! ```text
//! pipe-trial                run all cases; the exit status tells whether all went well
//! pipe-trial measure        how fast, by number and size of transfers
//! pipe-trial open PORT      open the bulk pipe at that port, hold it until standard input ends
//! pipe-trial together PORT…  open and close those at these ports again and again, all at once
//! ```

mod gadget;

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use gadget::{Gadget, Kind, SERIAL, Speed, Trouble, UNNAMED};
use imx_usb::bus::{Bus, Device, FASTBOOT_CLASS, OpenError};
use imx_usb::chips::ReportRoute;
use imx_usb::pipe::{BulkPipe, Fault, TransferError};
use imx_usb::usb::{Queue, UsbBus, UsbFault, facts};

type Failure = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), Failure>;
type Case = (&'static str, fn() -> Outcome);

/// Says so when something is not as it should be.
macro_rules! check {
    ($what:expr) => {
        if !$what {
            return Err(format!("line {}: not so: {}", line!(), stringify!($what)).into());
        }
    };
    ($what:expr, $($more:tt)*) => {
        if !$what {
            return Err(format!("line {}: not so: {}: {}", line!(), stringify!($what), format!($($more)*)).into());
        }
    };
}

const FASTBOOT: Kind = Kind::Fastboot { input_first: true };
const WITHIN: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;
/// As long as the queue's transfers are: a part that is called off cannot say how much of it went.
const PART: usize = 512 << 10;

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn bytes(length: usize) -> Vec<u8> {
    let mut word = 0u32;
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The device at a port, once it is there with its interfaces.
fn find(bus: &UsbBus, port: &str) -> Result<Device, Failure> {
    let until = Instant::now() + WITHIN;
    loop {
        let seen = bus.changes();
        let mut devices = bus.devices()?.into_iter();
        if let Some(device) = devices.find(|device| device.path.to_string() == port && !device.interfaces.is_empty()) {
            return Ok(device);
        }
        if Instant::now() > until {
            return Err(format!("nothing comes at {port}").into());
        }
        bus.wait(seen, Duration::from_secs(1));
    }
}

/// A fastboot device with an open pipe.
fn board() -> Result<(Gadget, Box<dyn BulkPipe + Send>), Failure> {
    let gadget = Gadget::plug("1-1", Speed::High, FASTBOOT)?;
    let bus = UsbBus::system();
    let pipe = bus.bulk(&find(&bus, "1-1")?)?;
    Ok((gadget, pipe))
}

fn failed(result: Result<(), TransferError>) -> Result<TransferError, Failure> {
    result.err().ok_or_else(|| "it did not fail".into())
}

fn listed() -> Outcome {
    let bus = UsbBus::system();
    let gadget = Gadget::plug("1-2", Speed::High, Kind::Fastboot { input_first: false })?;
    let device = find(&bus, "1-2")?;
    check!(device.port == device.path);
    check!((device.vendor, device.product, device.release) == (0x1fc9, 0x0152, 0x0001));
    check!(device.serial.as_deref() == Some(SERIAL));
    check!(device.speed == Some(imx_usb::bus::Speed::High));
    check!(device.interfaces.len() == 1 && device.interfaces[0].class == FASTBOOT_CLASS);
    check!(device.speaks_fastboot());
    check!(bus.string(&device, 4)?.as_deref() == Some(UNNAMED));
    check!(bus.string(&device, 9)?.is_none());
    gadget.unplug()?;

    // The other side of the same connector.
    let gadget = Gadget::plug("2-2", Speed::Super, FASTBOOT)?;
    let other = find(&bus, "2-2")?;
    check!(other.port.to_string() == "1-2" && other.path.to_string() == "2-2", "{other:?}");
    check!(other.speed == Some(imx_usb::bus::Speed::Super));
    check!(other.visit != device.visit);
    let mut pipe = bus.bulk(&other)?;
    pipe.send(&bytes(MIB), WITHIN)?;
    check!(gadget.came().0 == bytes(MIB));
    drop(pipe);
    gadget.unplug()
}

fn comes_and_goes() -> Outcome {
    let bus = UsbBus::system();
    let mut visits = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let gadget = Gadget::plug("1-3", Speed::High, FASTBOOT)?;
        let device = find(&bus, "1-3")?;
        let came = start.elapsed();
        visits.push(device.visit);
        let seen = bus.changes();
        let start = Instant::now();
        let waiting = std::thread::spawn(move || gadget.unplug());
        while bus.devices()?.iter().any(|device| device.path.to_string() == "1-3") {
            check!(start.elapsed() < WITHIN);
            bus.wait(seen, WITHIN);
        }
        say(&format!("    came in {came:.0?}, seen to leave in {:.0?}", start.elapsed()));
        waiting.join().map_err(|_| "panicked")??;
        let error = bus.bulk(&device).err().ok_or("opened what left")?;
        check!(matches!(error, OpenError::Gone { .. }), "{error}");
    }
    visits.dedup();
    check!(visits.len() == 3 && visits.is_sorted());
    Ok(())
}

fn large() -> Outcome {
    let (gadget, mut pipe) = board()?;
    let all = bytes(40 * MIB + 12_345);
    pipe.send(&all, WITHIN)?;
    let (came, transfers) = gadget.came();
    check!(came == all);
    check!(transfers.iter().all(|length| *length > 0), "a zero-length packet");
    // Whole packets, and nothing for nothing.
    pipe.send(&all[..512], WITHIN)?;
    pipe.send(&[], WITHIN)?;
    check!(gadget.came() == (all[..512].to_vec(), vec![512]));
    drop(pipe);
    gadget.unplug()
}

fn answers() -> Outcome {
    let (gadget, mut pipe) = board()?;
    let mut into = vec![0; 256];
    gadget.say(b"OKAY");
    check!(pipe.receive(&mut into, WITHIN)? == 4 && into.starts_with(b"OKAY"));
    gadget.say(b"");
    check!(pipe.receive(&mut into, WITHIN)? == 0);
    gadget.say(&[7; 64]);
    check!(pipe.receive(&mut into[..64], WITHIN)? == 64);
    gadget.say(&[7; 65]);
    let error = failed(pipe.receive(&mut into[..64], WITHIN).map(|_| ()))?;
    check!(error.delivered == 64 && matches!(error.fault, Fault::Overflow), "{error:?}");
    let long = bytes(4 * MIB + 3);
    for part in long.chunks(PART) {
        gadget.say(part);
    }
    let mut into = vec![0; 5 * MIB];
    check!(pipe.receive(&mut into, WITHIN)? == long.len() && into.starts_with(&long));
    // One at a time: what comes next is left for the next call.
    gadget.say(b"INFOa");
    gadget.say(b"OKAY");
    check!(pipe.receive(&mut into, WITHIN)? == 5);
    check!(pipe.receive(&mut into, WITHIN)? == 4);
    for within in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(300), Duration::from_millis(250)] {
        let start = Instant::now();
        let error = failed(pipe.receive(&mut into, within).map(|_| ()))?;
        let took = start.elapsed();
        check!(error.is_timeout() && error.delivered == 0, "{error:?}");
        check!(took >= within && took < within + Duration::from_secs(2), "{took:?}");
    }
    check!(gadget.pending() == (0, 0));
    gadget.say(b"OKAY");
    check!(pipe.receive(&mut into, WITHIN)? == 4);
    Ok(())
}

fn stalls() -> Outcome {
    let (gadget, mut pipe) = board()?;
    let all = bytes(5 * MIB);
    for at in [0, 512, PART, 3 * PART + 1024] {
        gadget.goes_wrong(at, Trouble::Stall);
        let error = failed(pipe.send(&all, WITHIN))?;
        check!(matches!(error.fault, Fault::Stalled), "{error:?}");
        check!(error.delivered == at, "{error:?}");
        check!(gadget.came().0 == all[..at]);
        check!(gadget.pending() == (0, 0));
        // The next one clears it.
        pipe.send(&all, WITHIN)?;
        check!(gadget.came().0 == all);
    }
    check!(gadget.cleared() == 4);
    Ok(())
}

fn hangs() -> Outcome {
    let (gadget, mut pipe) = board()?;
    let all = bytes(8 * MIB);
    // What goes before it hangs takes time too.
    for (at, within) in [(0, 200), (3 * PART, 900), (10 * PART, 1500)] {
        gadget.goes_wrong(at, Trouble::Hang);
        let start = Instant::now();
        let error = failed(pipe.send(&all, Duration::from_millis(within)))?;
        let took = start.elapsed();
        check!(error.is_timeout() && error.delivered == at, "{error:?}");
        check!(took < Duration::from_secs(4), "{took:?}");
        check!(gadget.pending() == (0, 0));
        gadget.recovers();
        // The link lives: the rest can be sent.
        pipe.send(&all[at..], WITHIN)?;
        check!(gadget.came().0 == all);
    }
    Ok(())
}

fn resets() -> Outcome {
    let bus = UsbBus::system();
    let (gadget, mut pipe) = board()?;
    let device = find(&bus, "1-1")?;
    let all = bytes(3 * PART);
    gadget.came();
    // In the midst of something: the board takes nothing, and its endpoint stalls.
    for trouble in [Trouble::Hang, Trouble::Stall] {
        gadget.goes_wrong(PART, trouble);
        let error = failed(pipe.send(&all, Duration::from_millis(700)))?;
        check!(error.is_timeout() == (trouble == Trouble::Hang) && error.delivered == PART, "{error:?}");
        drop(pipe);
        let before = gadget.resets();
        check!(bus.reset(&device)?);
        // The system sets it up again, and it is the same one as before.
        check!(gadget.resets() == before + 1 && gadget.pending() == (0, 0));
        check!(find(&bus, "1-1")? == device);
        check!(gadget.came().0 == all[..PART]);
        pipe = bus.bulk(&device)?;
        pipe.send(&all, WITHIN)?;
        check!(gadget.came().0 == all);
        gadget.say(b"OKAY");
        check!(pipe.receive(&mut [0; 64], WITHIN)? == 4);
    }
    // Nobody had to clear anything.
    check!(gadget.cleared() == 0);
    drop(pipe);
    // Again and again, and when nothing is wrong.
    for _ in 0..3 {
        check!(bus.reset(&device)?);
    }
    check!(bus.string(&device, 4)?.as_deref() == Some(UNNAMED));

    // One that is something else afterwards comes back as another device, if the system sees to that at all.
    gadget.becomes(0x0003);
    let error = bus.reset(&device).err().ok_or("it stayed")?;
    check!(matches!(error, OpenError::Gone { .. }), "{error}");
    let until = Instant::now() + WITHIN;
    let other = loop {
        let other = find(&bus, "1-1")?;
        if other.visit != device.visit {
            break other;
        }
        check!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    };
    check!(other.release == 0x0003);
    let mut pipe = bus.bulk(&other)?;
    gadget.came();
    pipe.send(&all, WITHIN)?;
    check!(gadget.came().0 == all);
    drop(pipe);
    check!(matches!(bus.reset(&device), Err(OpenError::Gone { .. })));
    gadget.unplug()?;
    let left = bus.reset(&other);
    check!(matches!(left, Err(OpenError::Gone { .. })), "{left:?}");
    Ok(())
}

fn unplugged() -> Outcome {
    let all = bytes(20 * MIB);
    for at in [0, 512, 5 * PART + 1024, 17 * MIB] {
        let (gadget, mut pipe) = board()?;
        gadget.goes_wrong(at, Trouble::Leave);
        let start = Instant::now();
        let error = failed(pipe.send(&all, WITHIN))?;
        check!(error.is_gone(), "{error:?}");
        check!(start.elapsed() < Duration::from_secs(20));
        // What was in flight was not confirmed: answers on their way are lost with the socket.
        let in_flight = Queue::default().transfers * PART;
        check!(error.delivered <= at && at - error.delivered <= in_flight, "{error:?}");
        let error = failed(pipe.send(&all, WITHIN))?;
        check!(error.is_gone() && error.delivered == 0, "{error:?}");
        let error = failed(pipe.receive(&mut [0; 64], WITHIN).map(|_| ()))?;
        check!(error.is_gone(), "{error:?}");
        drop(pipe);
        gadget.unplug()?;
    }
    // While it waits for an answer.
    let (gadget, mut pipe) = board()?;
    let waiting = std::thread::spawn(move || pipe.receive(&mut [0; 64], WITHIN).err());
    while gadget.pending() != (0, 1) {
        check!(!waiting.is_finished());
        std::thread::sleep(Duration::from_millis(1));
    }
    gadget.unplug()?;
    let error = waiting.join().map_err(|_| "panicked")?.ok_or("received something")?;
    check!(error.is_gone(), "{error:?}");
    Ok(())
}

fn short() -> Outcome {
    let (gadget, mut pipe) = board()?;
    // Nothing behind it: it goes on.
    let all = bytes(PART);
    gadget.goes_wrong(1024, Trouble::Short);
    pipe.send(&all, WITHIN)?;
    check!(gadget.came() == (all.clone(), vec![1024, PART - 1024]));
    // With more behind it the board gets those: that cannot be mended, and is told.
    let all = bytes(4 * MIB);
    gadget.goes_wrong(PART + 1024, Trouble::Short);
    match pipe.send(&all, WITHIN) {
        Ok(()) => check!(gadget.came().0 == all),
        Err(error) => {
            check!(error.delivered == PART + 1024, "{error:?}");
            let hole = match &error.fault {
                Fault::Other(fault) => matches!(fault.downcast_ref(), Some(UsbFault::Hole)),
                _ => false,
            };
            check!(hole, "{error:?}");
        }
    }
    Ok(())
}

fn little_memory() -> Outcome {
    let limit = Path::new("/sys/module/usbcore/parameters/usbfs_memory_mb");
    let before = std::fs::read_to_string(limit)?;
    std::fs::write(limit, "1")?;
    check!(facts::usbfs_memory_mb(UsbBus::system().roots()) == Some(1));
    let result = (|| {
        let bus = UsbBus::system().with_queue(Queue { transfers: 16, bytes: 2 * MIB });
        let gadget = Gadget::plug("1-1", Speed::High, FASTBOOT)?;
        let mut pipe = bus.bulk(&find(&bus, "1-1")?)?;
        let all = bytes(20 * MIB);
        pipe.send(&all, WITHIN)?;
        check!(gadget.came().0 == all);
        gadget.say(&all[..MIB + 1]);
        gadget.say(&[]);
        let mut into = vec![0; 2 * MIB];
        let came = pipe.receive(&mut into, WITHIN)?;
        check!(came >= PART && into[..came] == all[..came]);
        Ok(())
    })();
    std::fs::write(limit, before)?;
    result
}

fn reports() -> Outcome {
    let bus = UsbBus::system();
    let driver = |device: &Device| facts::drivers(bus.roots(), &device.path).first().map(|driver| driver.name.clone());
    let bound = Path::new("/sys/bus/usb/drivers/usbhid").exists();
    for out in [false, true] {
        let gadget = Gadget::plug("1-4", Speed::High, Kind::Rom { out })?;
        let device = find(&bus, "1-4")?;
        check!(device.interfaces[0].class[0] == 3);
        if bound {
            let until = Instant::now() + Duration::from_secs(5);
            while driver(&device).is_none() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
            check!(driver(&device).as_deref() == Some("usbhid"), "{:?}", driver(&device));
        }
        check!(bus.string(&device, 4)?.as_deref() == Some(UNNAMED));
        let mut pipe = bus.reports(&device, ReportRoute::Control)?;
        check!(driver(&device).as_deref() == Some("usbfs"));
        let report = [&[2][..], &bytes(1024)].concat();
        gadget.came();
        for _ in 0..20 {
            pipe.send_report(&report, WITHIN)?;
        }
        if out {
            check!(gadget.came().0 == report.repeat(20) && gadget.set().is_empty());
        } else {
            check!(gadget.set() == vec![(0x0202, 0, report.clone()); 20]);
        }
        let mut into = [0; 65];
        gadget.say(&[3, 0x56, 0x78, 0x78, 0x56]);
        check!(pipe.receive_report(&mut into, WITHIN)? == 5);
        gadget.say(&[4; 65]);
        check!(pipe.receive_report(&mut into, WITHIN)? == 65);
        let error = failed(pipe.receive_report(&mut into, Duration::from_millis(100)).map(|_| ()))?;
        check!(error.is_timeout());
        drop(pipe);
        // The kernel's driver does not ask a ROM things that it cannot answer any more. One that udevd has only just
        // loaded may.
        std::thread::sleep(Duration::from_millis(200));
        check!(!bound || driver(&device).is_none(), "{:?}", driver(&device));
        let mut pipe = bus.reports(&device, ReportRoute::Control)?;
        gadget.unplug()?;
        let error = failed(pipe.send_report(&report, WITHIN))?;
        check!(error.is_gone(), "{error:?}");
    }
    Ok(())
}

/// This program, opening the board at a port as that user.
fn opener(port: &str, user: u32) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["open", port]).uid(user).gid(user).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

fn taken_and_denied() -> Outcome {
    let gadget = Gadget::plug("1-1", Speed::High, FASTBOOT)?;
    let bus = UsbBus::system();
    let device = find(&bus, "1-1")?;
    let node = facts::node(bus.roots(), &device.path).ok_or("no node")?;
    let mut other = opener("1-1", 0)?;
    let mut answer = [0; 4];
    other.stdout.as_mut().ok_or("no output")?.read_exact(&mut answer)?;
    check!(&answer == b"open");
    let holders = facts::holders(bus.roots(), &node.path);
    check!(holders.complete && holders.processes.len() == 1 && holders.processes[0].pid == other.id(), "{holders:?}");
    let start = Instant::now();
    let error = bus.bulk(&device).err().ok_or("both have it")?;
    let expected = format!("(process {})", other.id());
    check!(matches!(&error, OpenError::Busy { by: Some(by), .. } if by.contains(&expected)), "{error}");
    check!(start.elapsed() < Duration::from_secs(5));
    // It lets go while we are still patient.
    let input = other.stdin.take();
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(input);
    });
    let pipe = bus.bulk(&device)?;
    letting_go.join().map_err(|_| "panicked")?;
    other.wait()?;
    drop(pipe);

    let nobody = opener("1-1", 65534)?;
    let said = String::from_utf8(nobody.wait_with_output()?.stdout)?;
    // As this system's rules have it by now.
    let access = facts::node(bus.roots(), &device.path).and_then(|node| node.access).ok_or("no node")?;
    check!(access.ours && access.uid == 0);
    let everybody = access.mode & 0o006 == 0o006;
    let granted = facts::rules(bus.roots(), device.vendor, device.product);
    let granted = granted.iter().any(|rule| rule.certain && rule.grants.mode.is_some_and(|mode| mode & 0o006 == 0o006));
    say(&format!("    mode {:o}, rules give it to everybody: {granted}", access.mode));
    check!(everybody == (granted && facts::subsystem(bus.roots()).udevd));
    let expected = if everybody { "open".to_owned() } else { format!("denied {}", node.path.display()) };
    check!(said.trim() == expected, "{said:?} is not {expected:?}");
    gadget.unplug()
}

fn together() -> Outcome {
    let ports = ["1-1", "1-2", "1-3", "1-4"];
    let plug = |path: &&str| Gadget::plug(path, Speed::High, FASTBOOT);
    let gadgets = ports.iter().map(plug).collect::<Result<Vec<_>, _>>()?;
    // A process that libusb is new to, and where it says what it is not content with.
    let mut others = Command::new(std::env::current_exe()?);
    let output = others.arg("together").args(ports).env("LIBUSB_DEBUG", "1").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    check!(output.status.success() && !said.contains("misuse"), "{}: {said}", output.status);
    gadgets.into_iter().try_for_each(Gadget::unplug)
}

/// Opens and closes devices, each again and again, all at once.
fn open_again_and_again(ports: &[&str]) -> Outcome {
    let bus = UsbBus::system();
    let devices = ports.iter().map(|port| find(&bus, port)).collect::<Result<Vec<_>, _>>()?;
    let open = |device: &Device| -> Outcome {
        for _ in 0..15 {
            check!(bus.string(device, 4)?.as_deref() == Some(UNNAMED));
            drop(bus.bulk(device)?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let opening: Vec<_> = devices.iter().map(|device| scope.spawn(|| open(device))).collect();
        opening.into_iter().try_for_each(|thread| thread.join().map_err(|_| "panicked")?)
    })
}

/// Opens a board and says how that went.
fn open_and_hold(port: &str) -> Outcome {
    let bus = UsbBus::system();
    let device = find(&bus, port)?;
    match bus.bulk(&device) {
        Ok(_pipe) => {
            say("open");
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        Err(OpenError::Denied { node: Some(node), .. }) => say(&format!("denied {}", node.display())),
        Err(error) => say(&format!("{error}")),
    }
    Ok(())
}

fn measure() -> Outcome {
    let bus = UsbBus::system();
    let gadget = Gadget::plug("1-1", Speed::High, FASTBOOT)?;
    let device = find(&bus, "1-1")?;
    for (rate, length) in [(None, 48 * MIB), (Some(10_000_000), 16 * MIB)] {
        let all = bytes(length);
        gadget.pace(rate);
        for (transfers, size) in
            [(1, 64), (1, 256), (1, 512), (1, 1024), (2, 512), (4, 64), (4, 256), (4, 512), (4, 1024)]
        {
            let mut pipe = UsbBus::system().with_queue(Queue { transfers, bytes: size << 10 }).bulk(&device)?;
            let mut times = Vec::new();
            for _ in 0..3 {
                let start = Instant::now();
                pipe.send(&all, Duration::from_secs(120))?;
                times.push(start.elapsed());
                gadget.came();
            }
            times.sort();
            let speed = |time: Duration| f64::from(u32::try_from(length).unwrap_or(0)) / 1e6 / time.as_secs_f64();
            let wire = rate.map_or("as fast as it goes".to_owned(), |rate| format!("{} MB/s", rate / 1_000_000));
            let [best, middle, worst] = [0, 1, 2].map(|n| speed(times[n]));
            say(&format!("{wire}: {transfers} x {size:4} KiB: {middle:6.2} MB/s ({worst:.2} to {best:.2})"));
        }
    }
    gadget.unplug()
}

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).map_or(0, Iterator::count)
}

fn run_all() -> ExitCode {
    let libusb = facts::libusb();
    let subsystem = facts::subsystem(UsbBus::system().roots());
    let hid = Path::new("/sys/bus/usb/drivers/usbhid").exists();
    let kind = if libusb.vendored { "built in" } else { "the system's" };
    say(&format!("libusb {} ({kind}), udevd: {}, usbhid: {hid}", libusb.version, subsystem.udevd));
    let cases: [Case; 13] = [
        ("devices are listed", listed),
        ("they come and go", comes_and_goes),
        ("large amounts go", large),
        ("answers come", answers),
        ("stalls", stalls),
        ("hangs", hangs),
        ("pulled out", unplugged),
        ("short transfers", short),
        ("little memory", little_memory),
        ("reports", reports),
        ("taken by another, and denied", taken_and_denied),
        ("several at once", together),
        ("resets", resets),
    ];
    // What is there once is there for good: libusb's own, and the standard library's.
    let before = (count("task"), count("fd"));
    let mut bad = 0;
    for (name, case) in cases {
        let start = Instant::now();
        let mut result = case();
        let mut left = (count("task"), count("fd"));
        // A thread that was joined is listed for a moment longer.
        for _ in 0..100 {
            if left == before {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            left = (count("task"), count("fd"));
        }
        if result.is_ok() && left != before {
            result = Err(format!("left behind: {left:?} threads and files, there were {before:?}").into());
        }
        match result {
            Ok(()) => say(&format!("ok      {name} ({:.1?})", start.elapsed())),
            Err(error) => {
                bad += 1;
                let mut text = error.to_string();
                let mut source = error.source();
                while let Some(error) = source {
                    text.push_str(&format!(": {error}"));
                    source = error.source();
                }
                say(&format!("FAILED  {name}: {text}"));
            }
        }
    }
    say(&format!("{bad} of {} failed", cases.len()));
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => return run_all(),
        ["measure"] => measure(),
        ["open", port] => open_and_hold(port),
        ["together", ref ports @ ..] => open_again_and_again(ports),
        _ => Err("pipe-trial [measure | open PORT | together PORT…]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("pipe-trial: {error}"));
            ExitCode::FAILURE
        }
    }
}
