//! Descriptors of a board's stages.

use crate::board::{Device, Endpoint, Kind, Speed};

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const QUALIFIER: u8 = 6;
const BOS: u8 = 0x0f;
const HID: u8 = 0x21;
const HID_REPORT: u8 = 0x22;
const SUPER_COMPANION: u8 = 0x30;

/// The string that the interface of fastboot names.
const INTERFACE_STRING: u8 = 5;

fn is_super(device: &Device) -> bool {
    device.speed == Speed::Super
}

/// The device descriptor, 18 bytes. The ROM's serial number is in string 4, which nothing names.
pub fn device(device: &Device) -> Vec<u8> {
    let (version, packet): (u16, u8) = if is_super(device) { (0x0300, 9) } else { (0x0200, 64) };
    let ids = device.ids;
    let serial = if device.serial.is_some() { 3 } else { 0 };
    let mut bytes = vec![18, DEVICE];
    bytes.extend(version.to_le_bytes());
    bytes.extend([0, 0, 0, packet]);
    for word in [ids.vendor, ids.product, ids.release] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([1, 2, serial, 1]);
    bytes
}

/// The configuration descriptor with all that belongs to it: one interface and its endpoints, in the device's order.
pub fn configuration(device: &Device) -> Vec<u8> {
    let [class, subclass, protocol] = device.class;
    let hid = class == 3;
    let count = u8::try_from(device.endpoints.len()).unwrap_or(u8::MAX);
    let name = if hid { 0 } else { INTERFACE_STRING };
    let mut bytes = vec![9, CONFIGURATION, 0, 0, 1, 1, 0, 0xc0, 50];
    bytes.extend([9, INTERFACE, 0, 0, count, class, subclass, protocol, name]);
    if hid {
        bytes.extend(hid_descriptor(device));
    }
    for endpoint in &device.endpoints {
        bytes.extend(endpoint_descriptor(*endpoint));
        if is_super(device) {
            bytes.extend([6, SUPER_COMPANION, 0, 0, 0, 0]);
        }
    }
    let total = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes();
    bytes[2..4].copy_from_slice(&total);
    bytes
}

fn endpoint_descriptor(endpoint: Endpoint) -> [u8; 7] {
    let [low, high] = endpoint.packet.to_le_bytes();
    let (kind, interval) = match endpoint.kind {
        Kind::Bulk => (2, 0),
        // 2^(4-1) microframes: a millisecond.
        Kind::Interrupt => (3, 4),
    };
    [7, ENDPOINT, endpoint.address, kind, low, high, interval]
}

fn hid_descriptor(device: &Device) -> Vec<u8> {
    let [low, high] = u16::try_from(hid_report(device).len()).unwrap_or(u16::MAX).to_le_bytes();
    vec![9, HID, 0x10, 0x01, 0, 1, HID_REPORT, low, high]
}

/// The HID report descriptor: reports 1 (a command) and 2 (data) out, 3 (open or closed) and 4 (an answer) in.
pub fn hid_report(device: &Device) -> Vec<u8> {
    let [low, high] = device.report_payload.to_le_bytes();
    let mut bytes = vec![0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08];
    for (id, count, main) in [(1, [16, 0], 0x91), (2, [low, high], 0x91), (3, [4, 0], 0x81), (4, [64, 0], 0x81)] {
        let [low, high] = count;
        // Identifier, a usage, how many bytes, out or in.
        bytes.extend([0x85, id, 0x09, 0x01, 0x96, low, high, main, 0x02]);
    }
    bytes.push(0xc0);
    bytes
}

/// A device's answer to GET_DESCRIPTOR of these kind and number, `None` to refuse.
pub(super) fn standard(device: &Device, value: u16) -> Option<Vec<u8>> {
    let [number, kind] = value.to_le_bytes();
    match (kind, number) {
        (DEVICE, 0) => Some(self::device(device)),
        (CONFIGURATION, 0) => Some(configuration(device)),
        (STRING, 0) => Some(vec![4, STRING, 0x09, 0x04]),
        (STRING, number) => string(device, number).map(|text| string_descriptor(&text)),
        (QUALIFIER, 0) if !is_super(device) => Some(vec![10, QUALIFIER, 0x00, 0x02, 0, 0, 0, 64, 1, 0]),
        (BOS, 0) if is_super(device) => Some(bos()),
        _ => None,
    }
}

/// What a HID interface answers to GET_DESCRIPTOR.
pub(super) fn of_hid(device: &Device, value: u16) -> Option<Vec<u8>> {
    match value.to_be_bytes() {
        [HID, 0] => Some(hid_descriptor(device)),
        [HID_REPORT, 0] => Some(hid_report(device)),
        _ => None,
    }
}

/// The text of a string by its number.
pub(crate) fn string(device: &Device, number: u8) -> Option<String> {
    match number {
        1 => device.strings.first().map(|&text| text.to_owned()),
        2 => device.strings.get(1).map(|&text| text.to_owned()),
        3 => device.serial.clone(),
        4 => device.string4.clone(),
        INTERFACE_STRING if device.class[0] != 3 => Some("Android Fastboot".to_owned()),
        _ => None,
    }
}

fn string_descriptor(text: &str) -> Vec<u8> {
    // A descriptor's length is one byte.
    let units: Vec<u8> = text.encode_utf16().take(126).flat_map(u16::to_le_bytes).collect();
    let mut bytes = vec![u8::try_from(units.len() + 2).unwrap_or(u8::MAX), STRING];
    bytes.extend(units);
    bytes
}

/// Capabilities: LPM in USB 2.0, and speeds from 480 Mbit/s to 5 Gbit/s.
fn bos() -> Vec<u8> {
    let mut bytes = vec![5, BOS, 22, 0, 2];
    bytes.extend([7, 0x10, 0x02, 0x02, 0, 0, 0]);
    bytes.extend([10, 0x10, 0x03, 0, 0x0c, 0, 2, 10, 0x20, 0]);
    bytes
}
