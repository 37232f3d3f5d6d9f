//! Datagrams ↔ bytes, and addresses ↔ text.

use std::fmt;
use std::str::FromStr;

/// Length of a datagram's header.
pub const HEADER_BYTES: usize = 4;
/// The port U-Boot listens on unless configured otherwise.
pub const DEFAULT_PORT: u16 = 5554;

const CONTINUED: u8 = 1;

/// What a datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The board refuses; the data says why.
    Error,
    /// What is the next sequence number?
    Query,
    /// Version and size.
    Init,
    /// Fastboot.
    Fastboot,
}

/// A datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is for.
    pub kind: Kind,
    /// More of the same belongs to it.
    pub continued: bool,
    /// Its number; the answer has the same.
    pub sequence: u16,
    /// Its data.
    pub data: &'a [u8],
}

/// Bytes that are no datagram of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Shorter than a header.
    #[error("a datagram has {HEADER_BYTES} bytes or more, not {0}")]
    Short(usize),
    /// No such kind.
    #[error("no datagram is of the kind {0}")]
    Kind(u8),
}

impl<'a> Packet<'a> {
    /// The datagram's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Error => 0,
            Kind::Query => 1,
            Kind::Init => 2,
            Kind::Fastboot => 3,
        };
        let [high, low] = self.sequence.to_be_bytes();
        let mut bytes = vec![kind, u8::from(self.continued), high, low];
        bytes.extend_from_slice(self.data);
        bytes
    }

    /// The datagram that those bytes are. Flags but "continued" mean nothing.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let Some(([kind, flags, high, low], data)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(PacketError::Short(bytes.len()));
        };
        let kind = match kind {
            0 => Kind::Error,
            1 => Kind::Query,
            2 => Kind::Init,
            3 => Kind::Fastboot,
            other => return Err(PacketError::Kind(*other)),
        };
        let sequence = u16::from_be_bytes([*high, *low]);
        Ok(Self { kind, continued: flags & CONTINUED != 0, sequence, data })
    }
}

/// A board on the network: `udp:HOST[:PORT]`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Name or address of the host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Text that is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no board on the network; one is written udp:HOST, udp:HOST:PORT or udp:[ADDRESS]:PORT")]
pub struct AddressError(pub String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let rest = text.strip_prefix("udp:").ok_or_else(wrong)?;
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) };
                (host, port)
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if host.is_empty() || host.contains(['[', ']', ' ']) || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "udp:[{host}]:{port}") } else { write!(f, "udp:{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        // The examples of AOSP's README, session setup and "getvar:version".
        let golden: [(&[u8], Packet<'_>); 4] = [
            (b"\x01\0\0\0", Packet { kind: Kind::Query, continued: false, sequence: 0, data: b"" }),
            (b"\x01\0\0\0\x55\xaa", Packet { kind: Kind::Query, continued: false, sequence: 0, data: b"\x55\xaa" }),
            (
                b"\x02\0\x55\xaa\0\x01\x08\0",
                Packet { kind: Kind::Init, continued: false, sequence: 0x55aa, data: b"\0\x01\x08\0" },
            ),
            (
                b"\x03\x01\x55\xabgetvar:version",
                Packet { kind: Kind::Fastboot, continued: true, sequence: 0x55ab, data: b"getvar:version" },
            ),
        ];
        for (bytes, packet) in golden {
            assert_eq!(packet.encode(), bytes);
            assert_eq!(Packet::decode(bytes), Ok(packet));
        }
        assert_eq!(Packet::decode(&[3, 0, 0]), Err(PacketError::Short(3)));
        assert_eq!(Packet::decode(&[4, 0, 0, 0]), Err(PacketError::Kind(4)));
    }

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("udp:board.lan", "board.lan", 5554),
            ("udp:192.0.2.7:6000", "192.0.2.7", 6000),
            ("udp:[2001:db8::1]", "2001:db8::1", 5554),
            ("udp:[::1]:7", "::1", 7),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address { host: host.into(), port });
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        for text in [
            "",
            "udp:",
            "udp::5",
            "tcp:a",
            "udp:a:",
            "udp:a:x",
            "udp:a:+5",
            "udp:a:0",
            "udp:a:65536",
            "udp:[::1",
            "udp:[::1]5",
            "udp:::1",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError(text.to_owned())), "{text}");
        }
    }
}
