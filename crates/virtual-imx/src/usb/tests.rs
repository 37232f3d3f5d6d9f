use super::*;
use crate::board::{Board, Kind, Setup};
use crate::model::{Model, Tree};

fn rom(model: Model) -> Device {
    Board::new(Setup::new(model, Tree::Nxp)).device().unwrap()
}

fn fastboot(path: Option<&str>) -> Device {
    let board = Board::new(Setup { super_speed: path.map(str::to_owned), ..Setup::new(Model::Imx8mp, Tree::Nxp) });
    board.start_uboot();
    board.device().unwrap()
}

fn ask(device: &Device, kind: u8, request: u8, value: u16, length: u16) -> Answer {
    Function::default().answer(device, SetupPacket { kind, request, value, index: 0, length })
}

#[test]
fn setup_packets_are_little_endian() {
    let bytes = [0x21, 0x09, 0x02, 0x02, 0x00, 0x00, 0x01, 0x04];
    let setup = SetupPacket { kind: 0x21, request: 9, value: 0x0202, index: 0, length: 0x0401 };
    assert_eq!((SetupPacket::decode(bytes), setup.encode()), (setup, bytes));
}

#[test]
fn a_rom_is_a_hid_device() {
    let mm = rom(Model::Imx8mm);
    let device = [18, 1, 0x00, 0x02, 0, 0, 0, 64, 0xc9, 0x1f, 0x34, 0x01, 0x01, 0x00, 1, 2, 0, 1];
    assert_eq!(ask(&mm, 0x80, 6, 0x0100, 18), Answer::Data(device.to_vec()));
    assert_eq!(ask(&mm, 0x80, 6, 0x0100, 8), Answer::Data(device[..8].to_vec()));
    let report = hid_report(&mm);
    let configuration = [
        9, 2, 34, 0, 1, 1, 0, 0xc0, 50, // Configuration.
        9, 4, 0, 0, 1, 3, 0, 0, 0, // Interface: HID.
        9, 0x21, 0x10, 0x01, 0, 1, 0x22, 51, 0, // HID: a report descriptor of 51 bytes.
        7, 5, 0x81, 3, 64, 0, 4, // Interrupt, to the host.
    ];
    assert_eq!(ask(&mm, 0x80, 6, 0x0200, 255), Answer::Data(configuration.to_vec()));
    assert_eq!(ask(&mm, 0x81, 6, 0x2200, 255), Answer::Data(report.clone()));
    assert_eq!(ask(&mm, 0x81, 6, 0x2100, 255), Answer::Data(configuration[18..27].to_vec()));
    assert_eq!((report.len(), &report[23..32]), (51, &[0x85, 2, 9, 1, 0x96, 0x00, 0x04, 0x91, 2][..]));
    // Another family has an endpoint out, and other reports.
    let mp = rom(Model::Imx8mp);
    assert_eq!(configuration_tail(&mp), [7, 5, 0x81, 3, 64, 0, 4, 7, 5, 0x01, 3, 0x00, 0x04, 4]);
    assert_eq!(hid_report(&mp)[27..30], [0x96, 0xfc, 0x03]);
}

fn configuration_tail(device: &Device) -> Vec<u8> {
    let bytes = configuration(device);
    let fixed = if device.class[0] == 3 { 27 } else { 18 };
    assert_eq!(usize::from(u16::from_le_bytes([bytes[2], bytes[3]])), bytes.len());
    bytes[fixed..].to_vec()
}

#[test]
fn strings_hold_the_serial_of_the_rom_where_nothing_names_it() {
    let mm = rom(Model::Imx8mm);
    let text = |number: u16| match ask(&mm, 0x80, 6, 0x0300 | number, 255) {
        Answer::Data(bytes) => {
            assert_eq!((usize::from(bytes[0]), bytes[1]), (bytes.len(), 3));
            let units: Vec<_> = bytes[2..].chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            Some(String::from_utf16(&units).unwrap())
        }
        _ => None,
    };
    assert_eq!(ask(&mm, 0x80, 6, 0x0300, 255), Answer::Data(vec![4, 3, 9, 4]));
    assert_eq!(text(1).as_deref(), Some("NXP SemiConductor Inc"));
    assert_eq!(text(2).as_deref(), Some("SE Blank ARIK"));
    assert_eq!((text(3), text(4).as_deref(), text(5)), (None, Some("0123456789ABCDEF"), None));
    assert_eq!(text(0xee), None);
}

#[test]
fn fastboot_lists_the_endpoint_in_first() {
    let device = fastboot(None);
    let bytes = configuration(&device);
    assert_eq!(bytes[9..18], [9, 4, 0, 0, 2, 0xff, 0x42, 3, 5]);
    assert_eq!(configuration_tail(&device), [7, 5, 0x81, 2, 0, 2, 0, 7, 5, 0x01, 2, 0, 2, 0]);
    assert_eq!(self::device(&device)[14..], [1, 2, 3, 1]);
    // Its qualifier is answered, what a SuperSpeed device has is not.
    assert!(matches!(ask(&device, 0x80, 6, 0x0600, 10), Answer::Data(bytes) if bytes.len() == 10));
    assert_eq!(ask(&device, 0x80, 6, 0x0f00, 5), Answer::Stall);
    assert_eq!(ask(&device, 0x81, 6, 0x2200, 64), Answer::Stall);
}

#[test]
fn fastboot_on_the_faster_side_has_its_own_descriptors() {
    let device = fastboot(Some("2-1"));
    assert_eq!(device.path, "2-1");
    assert_eq!(self::device(&device)[2..8], [0x00, 0x03, 0, 0, 0, 9]);
    let companion = [6, 0x30, 0, 0, 0, 0];
    let expected = [&[7, 5, 0x81, 2, 0, 4, 0][..], &companion, &[7, 5, 0x01, 2, 0, 4, 0], &companion].concat();
    assert_eq!(configuration_tail(&device), expected);
    assert!(matches!(ask(&device, 0x80, 6, 0x0f00, 255), Answer::Data(bytes) if bytes.len() == 22 && bytes[2] == 22));
    assert_eq!(ask(&device, 0x80, 6, 0x0600, 10), Answer::Stall);
    assert_eq!(ask(&device, 0x00, 0x30, 0, 6), Answer::Data(Vec::new()));
}

#[test]
fn endpoints_halt_until_cleared() {
    let device = fastboot(None);
    let mut function = Function::default();
    let ask = |function: &mut Function, kind, request, value, index, length| {
        function.answer(&device, SetupPacket { kind, request, value, index, length })
    };
    assert_eq!(ask(&mut function, 0x00, 9, 1, 0, 0), Answer::Restarted);
    assert_eq!(ask(&mut function, 0x80, 8, 0, 0, 1), Answer::Data(vec![1]));
    assert_eq!(ask(&mut function, 0x00, 9, 2, 0, 0), Answer::Stall);
    function.halt(0x81);
    assert_eq!(ask(&mut function, 0x82, 0, 0, 0x81, 2), Answer::Data(vec![1, 0]));
    assert_eq!(ask(&mut function, 0x02, 1, 0, 0x01, 0), Answer::Data(Vec::new()));
    assert!(function.is_halted(0x81));
    assert_eq!(ask(&mut function, 0x02, 1, 0, 0x81, 0), Answer::Data(Vec::new()));
    assert!(!function.is_halted(0x81));
    assert_eq!(ask(&mut function, 0x02, 3, 0, 0x01, 0), Answer::Data(Vec::new()));
    assert!(function.is_halted(0x01));
    assert_eq!(ask(&mut function, 0x82, 0, 0, 0x85, 2), Answer::Stall);
    assert_eq!(ask(&mut function, 0x80, 0, 0, 0, 2), Answer::Data(vec![1, 0]));
    assert_eq!(ask(&mut function, 0x21, 9, 0x0202, 0, 1025), Answer::Stall);
    assert_eq!(device.endpoints[0].kind, Kind::Bulk);
}

#[test]
fn hid_reports_are_the_programs_business() {
    let mm = rom(Model::Imx8mm);
    assert_eq!(ask(&mm, 0x21, 9, 0x0201, 17), Answer::Report);
    assert_eq!(ask(&mm, 0x21, 0x0a, 0, 0), Answer::Data(Vec::new()));
    assert_eq!(ask(&mm, 0xa1, 1, 0x0103, 5), Answer::Stall);
    assert_eq!(ask(&mm, 0xc0, 0x20, 4, 255), Answer::Stall);
}
