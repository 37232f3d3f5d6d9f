//! What the virtual boards of `virtual-imx` cannot show: older loaders, plugins, HDMI firmware, fastboot by its class.

use std::sync::Mutex;

use super::*;
use crate::bus::{Bus, BusError, FASTBOOT_CLASS, Interface, OpenError, Visit};
use crate::chips::ReportRoute;
use crate::pipe::script::{Script, Step as Wire, gone, out, reply};
use crate::pipe::{BulkPipe, ReportPipe};
use crate::sdp::{Code, Command};

/// An image of `length` bytes that belongs at `address`.
fn ivt(version: u8, address: u32, length: u32, plugin: u32) -> Vec<u8> {
    let mut bytes = vec![0xd1, 0, 0x20, version];
    for word in [address + 0x40, 0, 0, address + 0x20, address, 0, 0, address, length, plugin] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(usize::try_from(length).unwrap(), 7);
    bytes
}

fn seen<'t>(table: &'t ChipTable, vendor: u16, product: u16, release: u16) -> Seen<'t> {
    let found = table.identify(vendor, product, release).unwrap();
    Seen { protocol: found.id.protocol, chip: found.chip, known: true }
}

fn device(vendor: u16, product: u16, release: u16, class: [u8; 3], visit: u64) -> Device {
    let port: Port = "1-1".parse().unwrap();
    Device {
        path: port.clone(),
        port,
        visit: Visit(visit),
        vendor,
        product,
        release,
        serial: None,
        speed: None,
        interfaces: vec![Interface { number: 0, class }],
    }
}

#[test]
fn fastboot_is_known_by_its_class() {
    let table = ChipTable::builtin();
    let by = |vendor, product, class| recognise(&table, &device(vendor, product, 0, class, 1));
    let fastboot = |known| Some(Seen { protocol: Protocol::Fastboot, chip: None, known });
    assert_eq!(by(0x1fc9, 0x0152, FASTBOOT_CLASS), fastboot(true));
    assert_eq!(by(0x1234, 0x5678, FASTBOOT_CLASS), fastboot(false));
    // A Linux gadget of another kind with the identifiers of one.
    assert_eq!(by(0x1d6b, 0x0104, [2, 2, 1]), None);
    assert_eq!(by(0x1d6b, 0x0104, FASTBOOT_CLASS), fastboot(true));
    assert_eq!(by(0x1234, 0x5678, [3, 0, 0]), None);
    // Not known yet which interfaces it has.
    let mut bare = device(0x1fc9, 0x0152, 0, FASTBOOT_CLASS, 1);
    bare.interfaces.clear();
    assert_eq!(recognise(&table, &bare), fastboot(true));
}

#[test]
fn an_older_loader_is_sent_uboot_from_its_beginning() {
    let table = ChipTable::builtin();
    let (sdpu, sdpv) = (seen(&table, 0x0525, 0xb4a4, 0x0200), seen(&table, 0x0525, 0xb4a4, 0x0500));
    let mut bytes = ivt(0x40, 0x007e_1000, 0x4000, 0);
    bytes.resize(0x6_0000, 0);
    let fixed = |bytes: &[u8]| Action::Hand(bytes).bytes();
    // Nothing is found, so it lies where it is usual; the newer loader takes all behind itself.
    let image = BootImage::new(bytes.clone());
    assert_eq!(next_action(&image, sdpu, None, 0).unwrap().bytes(), fixed(&bytes[0x5_7c00..]));
    assert_eq!(next_action(&image, sdpv, None, 0).unwrap(), Action::Hand(&bytes[0x4000..]));
    // An image in U-Boot's old format elsewhere.
    let mut legacy = vec![0x27, 0x05, 0x19, 0x56];
    legacy.resize(12, 0);
    legacy.extend(100u32.to_be_bytes());
    legacy.resize(64, 0);
    bytes[0x8000..0x8040].copy_from_slice(&legacy);
    let image = BootImage::new(bytes.clone());
    assert_eq!(next_action(&image, sdpu, None, 0).unwrap(), Action::Hand(&bytes[0x8000..]));
    // U-Boot in a file of its own.
    let image = image.with_uboot([1, 2, 3]);
    assert_eq!(next_action(&image, sdpu, None, 0).unwrap(), Action::Hand(&[1, 2, 3]));
    assert_eq!(next_action(&image, sdpv, None, 0).unwrap(), Action::Hand(&[1, 2, 3]));
    // Too short for the usual place.
    let error = next_action(&BootImage::new(ivt(0x40, 0x007e_1000, 0x4000, 0)), sdpu, None, 0).unwrap_err();
    assert!(matches!(error, Problem::Image(crate::bootimage::ImageError::NothingLeft { .. })), "{error:?}");
}

#[test]
fn hdmi_firmware_and_images_to_skip_are_passed_over() {
    let table = ChipTable::builtin();
    let mq = seen(&table, 0x1fc9, 0x012b, 1);
    let mut bytes = ivt(0x41, 0x0091_0000, 0x1000, 0x100);
    bytes.extend(ivt(0x41, 0x007e_1000, 0x2000, 0));
    bytes.extend(ivt(0x41, 0x4020_0000, 0x1000, 0));
    let image = BootImage::new(bytes);
    let address = |image: &BootImage| match next_action(image, mq, None, 0).unwrap() {
        Action::Load { load, .. } => load.address,
        other => panic!("{other:?}"),
    };
    assert_eq!(address(&image), 0x007e_1000);
    assert_eq!(address(&image.skip_images(1)), 0x4020_0000);
    // i.MX8M Quad's own image raises no doubt; on another chip it would.
    let image = BootImage::new(ivt(0x41, 0x007e_1000, 0x2000, 0));
    assert_eq!(action::another_family(&image, mq.chip.unwrap()), None);
    let plus = table.chip("MX865").unwrap();
    assert_eq!(action::another_family(&image, plus), Some(Family::Imx8mQuadOrMini));
}

#[test]
fn barebox_has_a_second_part() {
    let table = ChipTable::builtin();
    let mut bytes = ivt(0x40, 0x007e_1000, 0x4000, 0);
    // Boot data elsewhere, for the name stands where they are here.
    bytes.copy_within(0x20..0x2c, 0x80);
    bytes[16..20].copy_from_slice(&0x007e_1080_u32.to_le_bytes());
    bytes[0x20..0x27].copy_from_slice(b"barebox");
    bytes.extend([5; 100]);
    let image = BootImage::new(bytes.clone());
    let action = next_action(&image, seen(&table, 0x1fc9, 0x012b, 1), None, 0).unwrap();
    match action {
        Action::Load { load, second, plugin: false, signed: false } => {
            assert_eq!((load.bytes, second), (&bytes[..0x4000], Some(&bytes[0x40..])));
        }
        other => panic!("{other:?}"),
    }
    // i.MX7 needs none.
    let action = next_action(&image, seen(&table, 0x15a2, 0x0076, 1), None, 0).unwrap();
    assert!(matches!(action, Action::Load { second: None, .. }));
}

/// Plays one script for each time a pipe is opened; a device leaves when its script has been played.
#[derive(Debug)]
struct Played {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    devices: Vec<(Device, Option<Vec<Wire>>)>,
    at: usize,
    now: Duration,
    /// So many looks from now whoever looks stands still for so long, and what comes next comes meanwhile.
    standstill: Option<(u32, Duration)>,
}

impl Bus for Played {
    fn devices(&self) -> Result<Vec<Device>, BusError> {
        let mut state = self.state.lock().unwrap();
        let seen = state.devices.get(state.at).map(|(device, _)| device.clone());
        match state.standstill.take() {
            Some((0, time)) => {
                state.now += time;
                state.at += 1;
            }
            Some((looks, time)) => state.standstill = Some((looks - 1, time)),
            None => {}
        }
        Ok(seen.into_iter().collect())
    }

    fn changes(&self) -> u64 {
        0
    }

    fn wait(&self, _: u64, within: Duration) {
        let mut state = self.state.lock().unwrap();
        state.now += within;
        // What has been talked to gives way, after a while. What follows may look the same.
        let played = state.devices.get(state.at).is_some_and(|(_, script)| script.is_none());
        if played && state.now.as_millis().is_multiple_of(1000) {
            state.at += 1;
        }
    }

    fn now(&self) -> Duration {
        self.state.lock().unwrap().now
    }

    fn reports(&self, _: &Device, _: ReportRoute) -> Result<Box<dyn ReportPipe + Send>, OpenError> {
        let mut state = self.state.lock().unwrap();
        let at = state.at;
        let script = state.devices[at].1.take().unwrap();
        Ok(Box::new(Script::new(script)))
    }

    fn bulk(&self, device: &Device) -> Result<Box<dyn BulkPipe + Send>, OpenError> {
        Err(OpenError::Gone { port: device.port.clone() })
    }

    fn string(&self, _: &Device, _: u8) -> Result<Option<String>, OpenError> {
        Ok(None)
    }
}

fn command(command: Command) -> Wire {
    let mut report = vec![1];
    report.extend(command.encode());
    out(report)
}

fn answers(status: u32) -> [Wire; 2] {
    let mut report = vec![4];
    report.extend(status.to_le_bytes());
    [reply(b"\x03\x56\x78\x78\x56"), reply(report)]
}

/// The whole of one SDP conversation about an image at `address`.
fn conversation(address: u32, image: &[u8]) -> Vec<Wire> {
    let mut wire = vec![command(Command::bare(Code::ErrorStatus))];
    wire.extend(answers(0));
    wire.push(command(Command::write_file(address, u32::try_from(image.len()).unwrap())));
    for part in image.chunks(1024) {
        let mut report = vec![2];
        report.extend(part);
        report.resize(1025, 0);
        wire.push(out(report));
    }
    wire.extend(answers(0x8888_8888));
    wire.push(command(Command::bare(Code::SkipDcd)));
    wire.extend(answers(0x900d_d009));
    wire.push(command(Command::jump(address)));
    wire.push(gone());
    wire
}

#[test]
fn a_plugin_runs_and_the_next_image_follows() {
    let (first, second) = (ivt(0x40, 0x0090_7000, 0x800, 1), ivt(0x40, 0x8780_0000, 0x1000, 0));
    let image = BootImage::new([first.clone(), second.clone()].concat());
    // It stays on the bus as it is, or leaves and comes back as ROM: both go on with the second image.
    for visit in [1, 2] {
        let rom = |visit, script| (device(0x15a2, 0x0080, 1, [3, 0, 0], visit), Some(script));
        let bus = Played {
            state: Mutex::new(State {
                devices: vec![
                    rom(1, conversation(0x0090_7000, &first)),
                    rom(visit, conversation(0x8780_0000, &second)),
                    (device(0x0525, 0xa4a5, 0x2607, FASTBOOT_CLASS, 3), Some(Vec::new())),
                ],
                at: 0,
                now: Duration::ZERO,
                standstill: None,
            }),
        };
        let port = "1-1".parse().unwrap();
        let (table, options) = (ChipTable::builtin(), BootOptions::default());
        let mut found = 0;
        let booted = boot(&bus, &table, &port, &image, &options, &mut |step| {
            found += usize::from(matches!(step, Step::Found { .. }));
        });
        let booted = booted.unwrap();
        assert_eq!((booted.device.visit, found), (Visit(3), 3));
        assert_eq!(booted.identity.chip.as_deref(), Some("MX6ULL"));
    }
}

#[test]
fn what_comes_while_nobody_can_look_is_found() {
    let hour = Duration::from_secs(3600);
    let mut elsewhere = device(0x1fc9, 0x0152, 0, FASTBOOT_CLASS, 1);
    elsewhere.port = "1-2".parse().unwrap();
    let bus = Played {
        state: Mutex::new(State {
            devices: vec![(elsewhere, Some(Vec::new())), (device(0x1fc9, 0x0152, 0, FASTBOOT_CLASS, 2), None)],
            at: 0,
            now: Duration::ZERO,
            standstill: Some((1, hour)),
        }),
    };
    let (table, options) = (ChipTable::builtin(), BootOptions::default());
    let booted = boot(&bus, &table, &"1-1".parse().unwrap(), &BootImage::new([]), &options, &mut |_| {});
    assert_eq!(booted.unwrap().device.visit, Visit(2));
    assert!(bus.now() >= hour && options.appear < hour);
}
