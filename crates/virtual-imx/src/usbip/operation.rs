//! The questions that come before transfers ↔ bytes, for both sides: which devices there are, and to have one of them.
//!
//! Every message begins with version 0x0111, a code and a status. All numbers are big-endian.

use std::io::{self, Read};

/// Bytes of a device's record without its interfaces.
pub const RECORD_BYTES: usize = 312;
/// Bytes of the name of a device.
pub const NAME_BYTES: usize = 32;
const PATH_BYTES: usize = 256;
const VERSION: u16 = 0x0111;
/// The most devices in a list.
const MAX_DEVICES: u32 = 1024;

const LIST: u16 = 0x8005;
const LISTED: u16 = 0x0005;
const IMPORT: u16 = 0x8003;
const IMPORTED: u16 = 0x0003;

/// Given away.
pub const OK: u32 = 0;
/// In use by somebody.
pub const BUSY: u32 = 2;
/// Not there.
pub const NO_DEVICE: u32 = 4;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Which devices are there?
    List,
    /// Give me that one.
    Import(String),
}

/// What is said of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Where its system has it; this project's boards tell more here ([`Record::note`]).
    pub path: String,
    /// Its name, such as `1-1`.
    pub name: String,
    /// Number of its bus.
    pub bus: u32,
    /// Its number there.
    pub number: u32,
    /// 3: 480 Mbit/s; 5: 5 Gbit/s.
    pub speed: u32,
    /// `idVendor`, `idProduct`, `bcdDevice`.
    pub ids: [u16; 3],
    /// Class, subclass and protocol of the device.
    pub class: [u8; 3],
    /// The active configuration.
    pub configuration: u8,
    /// How many configurations.
    pub configurations: u8,
    /// Class, subclass and protocol of each interface.
    pub interfaces: Vec<[u8; 3]>,
}

impl Record {
    /// One of the notes `KEY=VALUE` that the path holds between slashes.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.path.split('/').find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
    }
}

fn head(code: u16, status: u32) -> Vec<u8> {
    let mut bytes = VERSION.to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(status.to_be_bytes());
    bytes
}

/// Text in a field of a fixed length, with at least one zero behind it.
fn field(text: &str, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = text.bytes().take(length - 1).collect();
    bytes.resize(length, 0);
    bytes
}

/// What stands before the first NUL; the last byte of a field is one, whatever it holds.
fn text(field: &[u8]) -> String {
    let field = field.split_last().map_or(field, |(_, text)| text);
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    // Names are ASCII; a byte that is none stays one byte, so that nothing grows out of its field.
    text.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect()
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn read<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Code and status of a message.
fn read_head(from: &mut impl Read) -> io::Result<(u16, u32)> {
    let [v0, v1, c0, c1, s0, s1, s2, s3] = read(from)?;
    if u16::from_be_bytes([v0, v1]) != VERSION {
        return Err(invalid("another version of USB/IP"));
    }
    Ok((u16::from_be_bytes([c0, c1]), u32::from_be_bytes([s0, s1, s2, s3])))
}

impl Request {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::List => head(LIST, 0),
            Self::Import(name) => [head(IMPORT, 0), field(name, NAME_BYTES)].concat(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// What the reader says, and [`io::ErrorKind::InvalidData`] for what is no question.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        match read_head(from)?.0 {
            LIST => Ok(Self::List),
            IMPORT => Ok(Self::Import(text(&read::<NAME_BYTES>(from)?))),
            _ => Err(invalid("no question of USB/IP")),
        }
    }
}

impl Record {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = field(&self.path, PATH_BYTES);
        bytes.extend(field(&self.name, NAME_BYTES));
        for word in [self.bus, self.number, self.speed] {
            bytes.extend(word.to_be_bytes());
        }
        for word in self.ids {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(self.class);
        let interfaces = u8::try_from(self.interfaces.len()).unwrap_or(u8::MAX);
        bytes.extend([self.configuration, self.configurations, interfaces]);
        bytes
    }

    /// Reads one; how many interfaces follow it is the second value.
    fn read(from: &mut impl Read) -> io::Result<(Self, u8)> {
        let bytes: [u8; RECORD_BYTES] = read(from)?;
        let (texts, rest) = bytes.split_at(PATH_BYTES + NAME_BYTES);
        let word = |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let half = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
        let record = Self {
            path: text(&texts[..PATH_BYTES]),
            name: text(&texts[PATH_BYTES..]),
            bus: word(0),
            number: word(4),
            speed: word(8),
            ids: [half(12), half(14), half(16)],
            class: [rest[18], rest[19], rest[20]],
            configuration: rest[21],
            configurations: rest[22],
            interfaces: Vec::new(),
        };
        Ok((record, rest[23]))
    }
}

/// The answer to [`Request::List`].
pub fn listed(records: &[Record]) -> Vec<u8> {
    let mut bytes = head(LISTED, OK);
    bytes.extend(u32::try_from(records.len()).unwrap_or(u32::MAX).to_be_bytes());
    for record in records {
        bytes.extend(record.encode());
        for [class, subclass, protocol] in record.interfaces.iter().take(255) {
            bytes.extend([*class, *subclass, *protocol, 0]);
        }
    }
    bytes
}

/// Reads the answer to [`Request::List`].
///
/// # Errors
/// What the reader says, and [`io::ErrorKind::InvalidData`] for what is no such answer.
pub fn read_listed(from: &mut impl Read) -> io::Result<Vec<Record>> {
    if read_head(from)? != (LISTED, OK) {
        return Err(invalid("no list of devices"));
    }
    let count = u32::from_be_bytes(read(from)?);
    if count > MAX_DEVICES {
        return Err(invalid("too many devices in the list"));
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let (mut record, interfaces) = Record::read(from)?;
        for _ in 0..interfaces {
            let [class, subclass, protocol, _] = read(from)?;
            record.interfaces.push([class, subclass, protocol]);
        }
        records.push(record);
    }
    Ok(records)
}

/// The answer to [`Request::Import`]: a record, or a status that is not [`OK`].
pub fn imported(record: Result<&Record, u32>) -> Vec<u8> {
    match record {
        Ok(record) => [head(IMPORTED, OK), record.encode()].concat(),
        Err(status) => head(IMPORTED, status),
    }
}

/// Reads the answer to [`Request::Import`].
///
/// # Errors
/// What the reader says, and [`io::ErrorKind::InvalidData`] for what is no such answer.
pub fn read_imported(from: &mut impl Read) -> io::Result<Result<Record, u32>> {
    match read_head(from)? {
        (IMPORTED, OK) => Ok(Ok(Record::read(from)?.0)),
        (IMPORTED, status) => Ok(Err(status)),
        _ => Err(invalid("no answer to an import")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            path: "/virtual-imx/serial=0123/connector=1-4.2".to_owned(),
            name: "1-4.2".to_owned(),
            bus: 1,
            number: 9,
            speed: 3,
            ids: [0x1fc9, 0x0152, 0x0200],
            class: [0; 3],
            configuration: 1,
            configurations: 1,
            interfaces: vec![[0xff, 0x42, 3]],
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(Request::List.encode(), [1, 0x11, 0x80, 5, 0, 0, 0, 0]);
        let import = Request::Import("1-4.2".to_owned());
        let bytes = import.encode();
        assert_eq!((bytes.len(), &bytes[..13]), (40, &b"\x01\x11\x80\x03\0\0\0\x001-4.2"[..]));
        assert_eq!(Request::read(&mut bytes.as_slice()).unwrap(), import);

        let list = listed(&[record()]);
        assert_eq!(list.len(), 8 + 4 + 312 + 4);
        assert_eq!(list[..12], [1, 0x11, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(&list[12 + 256..12 + 262], b"1-4.2\0");
        let tail = [0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 3, 0x1f, 0xc9, 1, 0x52, 2, 0, 0, 0, 0, 1, 1, 1, 0xff, 0x42, 3, 0];
        assert_eq!(list[12 + 288..], tail);
        assert_eq!(read_listed(&mut list.as_slice()).unwrap(), [record()]);

        let given = imported(Ok(&record()));
        assert_eq!((given.len(), &given[..8]), (320, &[1, 0x11, 0, 3, 0, 0, 0, 0][..]));
        assert_eq!(read_imported(&mut given.as_slice()).unwrap().unwrap().name, "1-4.2");
        assert_eq!(imported(Err(NO_DEVICE)), [1, 0x11, 0, 3, 0, 0, 0, 4]);
        assert_eq!(read_imported(&mut imported(Err(BUSY)).as_slice()).unwrap(), Err(BUSY));
    }

    #[test]
    fn notes_are_in_the_path() {
        let record = record();
        assert_eq!((record.note("serial"), record.note("connector")), (Some("0123"), Some("1-4.2")));
        assert_eq!(record.note("ser"), None);
    }

    #[test]
    fn other_messages_are_refused() {
        for bytes in [&[1, 0, 0x80, 5, 0, 0, 0, 0][..], &[1, 0x11, 0x80, 4, 0, 0, 0, 0], &[1, 0x11]] {
            assert!(Request::read(&mut &*bytes).is_err());
            assert!(read_listed(&mut &*bytes).is_err() && read_imported(&mut &*bytes).is_err());
        }
        let many = [head(LISTED, OK), vec![0xff; 4]].concat();
        assert!(read_listed(&mut many.as_slice()).is_err());
        let long = Record { name: "x".repeat(99), ..record() };
        assert_eq!(long.encode().len(), RECORD_BYTES);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..700), code in 0usize..4) {
            let code = [LIST, LISTED, IMPORT, IMPORTED][code];
            let bytes = [head(code, 0), bytes].concat();
            let _ = Request::read(&mut bytes.as_slice());
            let _ = read_imported(&mut bytes.as_slice());
            let _ = read_listed(&mut bytes.as_slice());
        }
    }
}
