//! String descriptors.

use std::time::Duration;

use rusb::{Context, DeviceHandle};

use super::deadline::millis;

/// GET_DESCRIPTOR from the device, of the type "string". Source: USB 2.0, 9.4.3 and 9.6.7.
const REQUEST_TYPE: u8 = 0x80;
const GET_DESCRIPTOR: u8 = 6;
const STRING: u8 = 3;

/// What a device speaks that does not say what it speaks: American English.
const ENGLISH: u16 = 0x0409;

/// Longest string descriptor.
const LONGEST: usize = 255;

/// How long a device may take for one.
const WITHIN: Duration = Duration::from_secs(1);

/// The string of that number in the device's first language; `None` if it has none.
pub(super) fn string(handle: &DeviceHandle<Context>, index: u8) -> rusb::Result<Option<String>> {
    if index == 0 {
        return Ok(None);
    }
    let languages = descriptor(handle, 0, 0)?;
    let language = languages.and_then(|bytes| content(&bytes).next()).unwrap_or(ENGLISH);
    Ok(descriptor(handle, index, language)?.map(|bytes| decode(&bytes)).filter(|text| !text.is_empty()))
}

/// `None` if the device refuses.
fn descriptor(handle: &DeviceHandle<Context>, index: u8, language: u16) -> rusb::Result<Option<Vec<u8>>> {
    let mut bytes = [0; LONGEST];
    let value = u16::from_be_bytes([STRING, index]);
    let time = millis(WITHIN);
    match handle.read_control(REQUEST_TYPE, GET_DESCRIPTOR, value, language, &mut bytes, time) {
        Ok(length) => Ok(Some(bytes[..length.min(LONGEST)].to_vec())),
        Err(rusb::Error::Pipe) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The 16-bit values of a string descriptor; none if it is no such descriptor.
fn content(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let content = match *bytes {
        [length, STRING, ..] => bytes.get(2..bytes.len().min(usize::from(length))).unwrap_or(&[]),
        _ => &[],
    };
    content.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

/// The text of a string descriptor, without zeros at its end.
fn decode(bytes: &[u8]) -> String {
    let text: String = char::decode_utf16(content(bytes)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_decoded_whatever_comes() {
        assert_eq!(decode(&[8, 3, b'N', 0, b'X', 0, 0xe9, 0]), "NXé");
        assert_eq!(decode(&[8, 3, b'N', 0, 0, 0, 0, 0]), "N");
        // Cut, longer than it says, shorter than it says, of another type, not paired.
        assert_eq!(decode(&[8, 3, b'N', 0, b'X']), "N");
        assert_eq!(decode(&[4, 3, b'N', 0, b'X', 0]), "N");
        assert_eq!(decode(&[200, 3, b'N', 0]), "N");
        assert_eq!(decode(&[4, 1, b'N', 0]), "");
        assert_eq!(decode(&[4, 3, 0, 0xd8]), "\u{fffd}");
        for bytes in [&[][..], &[0], &[0, 3], &[1, 3, 5], &[255]] {
            assert_eq!(decode(bytes), "");
        }
        assert_eq!(content(&[4, 3, 9, 4]).next(), Some(ENGLISH));
    }
}
