//! Commands ↔ bytes.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | code, both bytes equal |
//! | 2 | 4 | address, big-endian |
//! | 6 | 1 | access width in bits: 8, 16, 32; otherwise 0 |
//! | 7 | 4 | data count, big-endian |
//! | 11 | 4 | data, big-endian |
//! | 15 | 1 | 0 |

use std::fmt;

/// Length of a command, without the report's identifier.
pub const COMMAND_BYTES: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Read a register.
    ReadRegister,
    /// Write a register.
    WriteRegister,
    /// Take data into memory.
    WriteFile,
    /// Tell the status of the last thing done.
    ErrorStatus,
    /// Take a device configuration data table and carry it out.
    DcdWrite,
    /// Start what lies at an address.
    JumpAddress,
    /// Do not carry out the DCD of the image that is about to be started.
    SkipDcd,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ReadRegister,
        Self::WriteRegister,
        Self::WriteFile,
        Self::ErrorStatus,
        Self::DcdWrite,
        Self::JumpAddress,
        Self::SkipDcd,
    ];

    /// The byte that stands for it, twice.
    pub fn byte(self) -> u8 {
        match self {
            Self::ReadRegister => 0x01,
            Self::WriteRegister => 0x02,
            Self::WriteFile => 0x04,
            Self::ErrorStatus => 0x05,
            Self::DcdWrite => 0x0a,
            Self::JumpAddress => 0x0b,
            Self::SkipDcd => 0x0c,
        }
    }
}

/// How wide a register access is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
}

impl Access {
    /// Width in bits, as it stands in the command.
    pub fn bits(self) -> u8 {
        match self {
            Self::Byte => 8,
            Self::Half => 16,
            Self::Word => 32,
        }
    }

    /// Width in bytes.
    pub fn bytes(self) -> u32 {
        u32::from(self.bits() / 8)
    }
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command {
    /// What is asked for.
    pub code: Code,
    /// Where, in the chip's address space.
    pub address: u32,
    /// Width of a register access; `None` for everything else.
    pub access: Option<Access>,
    /// Bytes of data that follow or are asked for.
    pub count: u32,
    /// The value for a register.
    pub data: u32,
}

/// Bytes that are no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Not 16 bytes.
    #[error("a command has {COMMAND_BYTES} bytes, not {0}")]
    Length(usize),
    /// No command has this code.
    #[error("no command has the code {0:02x?}")]
    Code([u8; 2]),
    /// No access is this wide.
    #[error("no register access is {0} bits wide")]
    Access(u8),
}

impl Command {
    /// A command without data, address or width.
    pub fn bare(code: Code) -> Self {
        Self { code, address: 0, access: None, count: 0, data: 0 }
    }

    /// Read a register.
    pub fn read_register(address: u32, access: Access) -> Self {
        Self { address, access: Some(access), count: access.bytes(), ..Self::bare(Code::ReadRegister) }
    }

    /// Write a register.
    pub fn write_register(address: u32, access: Access, data: u32) -> Self {
        Self { address, access: Some(access), count: access.bytes(), data, ..Self::bare(Code::WriteRegister) }
    }

    /// Take `count` bytes to `address`.
    pub fn write_file(address: u32, count: u32) -> Self {
        Self { address, count, ..Self::bare(Code::WriteFile) }
    }

    /// Take a DCD of `count` bytes, keeping it at `address`, and carry it out.
    pub fn dcd_write(address: u32, count: u32) -> Self {
        Self { address, count, ..Self::bare(Code::DcdWrite) }
    }

    /// Start what lies at `address`.
    pub fn jump(address: u32) -> Self {
        Self { address, ..Self::bare(Code::JumpAddress) }
    }

    /// The command's 16 bytes.
    pub fn encode(&self) -> [u8; COMMAND_BYTES] {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[..2].fill(self.code.byte());
        bytes[2..6].copy_from_slice(&self.address.to_be_bytes());
        bytes[6] = self.access.map_or(0, Access::bits);
        bytes[7..11].copy_from_slice(&self.count.to_be_bytes());
        bytes[11..15].copy_from_slice(&self.data.to_be_bytes());
        bytes
    }

    /// The command that those 16 bytes are. The last byte may be anything.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let Ok(bytes) = <[u8; COMMAND_BYTES]>::try_from(bytes) else { return Err(CommandError::Length(bytes.len())) };
        let [c0, c1, a0, a1, a2, a3, format, n0, n1, n2, n3, d0, d1, d2, d3, _] = bytes;
        let code = Code::ALL.into_iter().find(|code| [c0, c1] == [code.byte(); 2]);
        let access = match format {
            0 => None,
            8 => Some(Access::Byte),
            16 => Some(Access::Half),
            32 => Some(Access::Word),
            _ => return Err(CommandError::Access(format)),
        };
        Ok(Self {
            code: code.ok_or(CommandError::Code([c0, c1]))?,
            address: u32::from_be_bytes([a0, a1, a2, a3]),
            access,
            count: u32::from_be_bytes([n0, n1, n2, n3]),
            data: u32::from_be_bytes([d0, d1, d2, d3]),
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, address, count, data, .. } = *self;
        match code {
            Code::ReadRegister => write!(f, "reading {count} bytes at {address:#010x}"),
            Code::WriteRegister => write!(f, "writing {data:#x} ({count} bytes) at {address:#010x}"),
            Code::WriteFile => write!(f, "sending {count} bytes to {address:#010x}"),
            Code::ErrorStatus => write!(f, "asking for the status"),
            Code::DcdWrite => write!(f, "sending a DCD of {count} bytes by way of {address:#010x}"),
            Code::JumpAddress => write!(f, "starting at {address:#010x}"),
            Code::SkipDcd => write!(f, "skipping the DCD"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Commands that `uuu` 1.5.243 was seen to send.
    #[test]
    fn golden() {
        let golden: [(Command, [u8; 16]); 8] = [
            (Command::dcd_write(0x0091_0000, 12), *b"\x0a\x0a\x00\x91\x00\x00\0\0\0\0\x0c\0\0\0\0\0"),
            (Command::write_file(0x877f_f400, 0x4800), *b"\x04\x04\x87\x7f\xf4\x00\0\0\0\x48\0\0\0\0\0\0"),
            (Command::write_file(0, 0x4_2800), *b"\x04\x04\0\0\0\0\0\0\x04\x28\0\0\0\0\0\0"),
            (Command::jump(0x877f_f400), *b"\x0b\x0b\x87\x7f\xf4\x00\0\0\0\0\0\0\0\0\0\0"),
            (Command::bare(Code::SkipDcd), *b"\x0c\x0c\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            (Command::bare(Code::ErrorStatus), *b"\x05\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            (Command::read_register(0x020c_8000, Access::Word), *b"\x01\x01\x02\x0c\x80\x00\x20\0\0\0\x04\0\0\0\0\0"),
            (
                Command::write_register(0x020c_8000, Access::Word, 0x1234_5678),
                *b"\x02\x02\x02\x0c\x80\x00\x20\0\0\0\x04\x12\x34\x56\x78\0",
            ),
        ];
        for (command, bytes) in golden {
            assert_eq!(command.encode(), bytes, "{command}");
            assert_eq!(Command::decode(&bytes), Ok(command));
        }
    }

    #[test]
    fn what_is_no_command() {
        assert_eq!(Command::decode(&[0; 17]), Err(CommandError::Length(17)));
        assert_eq!(Command::decode(&[0; 16]), Err(CommandError::Code([0, 0])));
        let mut bytes = Command::jump(1).encode();
        bytes[1] = 0x0c;
        assert_eq!(Command::decode(&bytes), Err(CommandError::Code([0x0b, 0x0c])));
        bytes[1] = 0x0b;
        bytes[6] = 7;
        assert_eq!(Command::decode(&bytes), Err(CommandError::Access(7)));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same(code in 0..7usize, mut rest: [u8; 16], format in 0..4u8) {
            rest[..2].fill(Code::ALL[code].byte());
            rest[6] = [0, 8, 16, 32][usize::from(format)];
            rest[15] = 0;
            prop_assert_eq!(Command::decode(&rest).unwrap().encode(), rest);
        }
    }
}
