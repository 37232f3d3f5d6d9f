//! Messages about transfers ↔ bytes, for both sides.
//!
//! | offset | submit | unlink | submitted | unlinked |
//! |---|---|---|---|---|
//! | 0 | 1 | 2 | 3 | 4 |
//! | 4 | sequence number | the same | of the submit | of the unlink |
//! | 8 | device | device | 0 | 0 |
//! | 12 | 0 out, 1 in | 0 | 0 | 0 |
//! | 16 | endpoint | 0 | 0 | 0 |
//! | 20 | flags | whose number | status | status |
//! | 24 | length | | length done | |
//! | 28 | start frame, packets, interval | | start frame, packets, errors | |
//! | 40 | setup, as on USB | | | |
//!
//! All but the setup is big-endian. Data follows: after a submit that goes out, and after an answer to one that came
//! in. Numbers of packets are passed over: they are for isochronous transfers, and some senders set them for all.

/// Bytes of a message without its data.
pub const HEADER_BYTES: usize = 48;
/// The longest transfer that is taken. The kernel's own limit for user space is 16 MiB in all.
pub const MAX_TRANSFER: u32 = 64 << 20;

/// Done.
pub const DONE: i32 = 0;
/// The endpoint stalled (EPIPE).
pub const STALLED: i32 = -32;
/// Called off (ECONNRESET).
pub const UNLINKED: i32 = -104;
/// Less came than was asked for, and the host would not have that (EREMOTEIO).
pub const SHORT: i32 = -121;

/// Flag of a submit: less than the length is an error.
pub const SHORT_NOT_OK: u32 = 1;

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the device.
    Out,
    /// To the host.
    In,
}

/// A transfer that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Submit {
    /// Its number.
    pub sequence: u32,
    /// Bus number times 65536 plus device number.
    pub device: u32,
    /// Which way.
    pub direction: Direction,
    /// To which endpoint, without the bit for the direction; below 16.
    pub endpoint: u8,
    /// See [`SHORT_NOT_OK`].
    pub flags: u32,
    /// Bytes that follow, or room for an answer.
    pub length: u32,
    /// The control request, on endpoint 0.
    pub setup: [u8; 8],
}

/// From the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Do a transfer.
    Submit(Submit),
    /// Call one off.
    Unlink {
        /// Number of this message.
        sequence: u32,
        /// As in [`Submit`].
        device: u32,
        /// Number of the transfer.
        target: u32,
    },
}

/// From the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reply {
    /// A transfer is over.
    Submitted {
        /// Its number.
        sequence: u32,
        /// 0, or an error of Linux, negative.
        status: i32,
        /// Bytes that went, or that follow.
        actual: u32,
    },
    /// What became of calling off.
    Unlinked {
        /// Number of the message that called off.
        sequence: u32,
        /// [`UNLINKED`], or 0 if there was nothing to call off any more.
        status: i32,
    },
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// An unknown kind.
    #[error("no message is of the kind {0:#x}")]
    Kind(u32),
    /// Neither out nor in.
    #[error("no transfer goes in direction {0:#x}")]
    Direction(u32),
    /// There are 16.
    #[error("no device has an endpoint {0:#x}")]
    Endpoint(u32),
    /// A length that is negative or too much.
    #[error("a transfer of {0:#x} bytes is too long")]
    Length(u32),
}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn header(words: &[u32]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

fn length(bytes: u32) -> Result<u32, WireError> {
    if bytes > MAX_TRANSFER { Err(WireError::Length(bytes)) } else { Ok(bytes) }
}

impl Command {
    /// The bytes, without data.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        match *self {
            Self::Submit(submit) => {
                let direction = u32::from(submit.direction == Direction::In);
                let endpoint = u32::from(submit.endpoint);
                let mut bytes =
                    header(&[1, submit.sequence, submit.device, direction, endpoint, submit.flags, submit.length]);
                bytes[40..].copy_from_slice(&submit.setup);
                bytes
            }
            Self::Unlink { sequence, device, target } => header(&[2, sequence, device, 0, 0, target]),
        }
    }

    /// From the bytes, without data.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let at = |at| word(bytes, at);
        let (sequence, device) = (at(4), at(8));
        match at(0) {
            1 => {
                let direction = match at(12) {
                    0 => Direction::Out,
                    1 => Direction::In,
                    other => return Err(WireError::Direction(other)),
                };
                let endpoint = u8::try_from(at(16)).ok().filter(|number| *number < 16);
                let endpoint = endpoint.ok_or(WireError::Endpoint(at(16)))?;
                let mut setup = [0; 8];
                setup.copy_from_slice(&bytes[40..]);
                let length = length(at(24))?;
                Ok(Self::Submit(Submit { sequence, device, direction, endpoint, flags: at(20), length, setup }))
            }
            2 => Ok(Self::Unlink { sequence, device, target: at(20) }),
            other => Err(WireError::Kind(other)),
        }
    }

    /// Bytes of data that follow it.
    pub fn data_bytes(&self) -> u32 {
        match self {
            Self::Submit(submit) if submit.direction == Direction::Out => submit.length,
            _ => 0,
        }
    }
}

impl Reply {
    /// The bytes, without data.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let number = |status: i32| u32::from_be_bytes(status.to_be_bytes());
        match *self {
            Self::Submitted { sequence, status, actual } => header(&[3, sequence, 0, 0, 0, number(status), actual]),
            Self::Unlinked { sequence, status } => header(&[4, sequence, 0, 0, 0, number(status)]),
        }
    }

    /// From the bytes, without data. Whether data follows only whoever asked knows: it does for what came in.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let at = |at| word(bytes, at);
        let (sequence, status) = (at(4), i32::from_be_bytes(at(20).to_be_bytes()));
        match at(0) {
            3 => Ok(Self::Submitted { sequence, status, actual: length(at(24))? }),
            4 => Ok(Self::Unlinked { sequence, status }),
            other => Err(WireError::Kind(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> [u8; HEADER_BYTES] {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let text = |pair: &[u8]| String::from_utf8(pair.to_vec()).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| u8::from_str_radix(&text(pair), 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }

    /// Written by hand from the kernel's description of the protocol.
    #[test]
    fn golden_bytes() {
        let submit = bytes(
            "00000001 0000000d 0001000f 00000001 00000000 00000200 00000012 00000000 00000000 00000000 8006000100001200",
        );
        let command = Command::Submit(Submit {
            sequence: 0xd,
            device: 0x1_000f,
            direction: Direction::In,
            endpoint: 0,
            flags: 0x200,
            length: 18,
            setup: [0x80, 6, 0, 1, 0, 0, 18, 0],
        });
        assert_eq!((Command::decode(&submit), command.encode()), (Ok(command), submit));
        assert_eq!(command.data_bytes(), 0);
        // Some senders set a number of packets for transfers that have none.
        let out = bytes(
            "00000001 00000007 0001000f 00000000 00000001 00000000 00000400 00000000 ffffffff 00000000 0000000000000000",
        );
        assert_eq!(Command::decode(&out).unwrap().data_bytes(), 1024);
        let unlink = bytes(
            "00000002 0000000e 0001000f 00000000 00000000 0000000d 00000000 00000000 00000000 00000000 0000000000000000",
        );
        let command = Command::Unlink { sequence: 0xe, device: 0x1_000f, target: 0xd };
        assert_eq!((Command::decode(&unlink), command.encode()), (Ok(command), unlink));
        let stalled = bytes(
            "00000003 0000000d 00000000 00000000 00000000 ffffffe0 00000000 00000000 00000000 00000000 0000000000000000",
        );
        let reply = Reply::Submitted { sequence: 0xd, status: STALLED, actual: 0 };
        assert_eq!((Reply::decode(&stalled), reply.encode()), (Ok(reply), stalled));
        let unlinked = bytes(
            "00000004 0000000e 00000000 00000000 00000000 ffffff98 00000000 00000000 00000000 00000000 0000000000000000",
        );
        let reply = Reply::Unlinked { sequence: 0xe, status: UNLINKED };
        assert_eq!((Reply::decode(&unlinked), reply.encode()), (Ok(reply), unlinked));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with = |at: usize, word: u32| {
            let mut bytes = header(&[1, 1, 1, 0, 1]);
            bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            Command::decode(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 3), WireError::Kind(3));
        assert_eq!(with(12, 2), WireError::Direction(2));
        assert_eq!(with(16, 16), WireError::Endpoint(16));
        assert_eq!(with(24, 0xffff_ffff), WireError::Length(0xffff_ffff));
        assert_eq!(Reply::decode(&header(&[1])), Err(WireError::Kind(1)));
        assert!(Reply::decode(&header(&[3, 1, 0, 0, 0, 0, 0x8000_0000])).is_err());
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same(words in proptest::array::uniform6(any::<u32>()), kind in 1u32..5) {
            let bytes = header(&[kind, words[0], words[1], words[2] % 2, words[3] % 16, words[4], words[5] % (64 << 20)]);
            match Command::decode(&bytes) {
                Ok(command) => prop_assert_eq!(Command::decode(&command.encode()), Ok(command)),
                Err(error) => prop_assert_eq!(error, WireError::Kind(kind)),
            }
            if let Ok(reply) = Reply::decode(&bytes) {
                prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            }
        }
    }
}
