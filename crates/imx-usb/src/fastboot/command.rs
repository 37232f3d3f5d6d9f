//! Commands ↔ text.

use std::borrow::Cow;
use std::fmt;

/// A command to U-Boot.
///
/// Text goes out exactly as it is: no quotes are added or taken away, nothing is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// `getvar:NAME`
    GetVar(Cow<'a, str>),
    /// `download:%08x`: that many bytes follow.
    Download(u32),
    /// `upload` or `upload:NAME`: the board sends what was downloaded last, or what goes by that name.
    Upload(Option<Cow<'a, str>>),
    /// `flash:PARTITION`
    Flash(Cow<'a, str>),
    /// `erase:PARTITION`
    Erase(Cow<'a, str>),
    /// `oem TEXT`
    Oem(Cow<'a, str>),
    /// `UCmd:TEXT`: run a line of U-Boot's shell, then answer.
    UCmd(Cow<'a, str>),
    /// `ACmd:TEXT`: answer, then run a line of U-Boot's shell.
    ACmd(Cow<'a, str>),
    /// `boot:`: start what was downloaded.
    Boot,
    /// `continue:`: leave fastboot and go on booting.
    Continue,
    /// `reboot:` and where to; empty for a plain reset.
    Reboot(Cow<'a, str>),
    /// `reboot-WHERE`: as U-Boot itself has it, `bootloader`, `fastboot` or `recovery`.
    RebootTo(Cow<'a, str>),
    /// `set_active:SLOT`
    SetActive(Cow<'a, str>),
    /// `flashing:TEXT`: lock, unlock and the like. `uuu` has the colon; AOSP a space.
    Flashing(Cow<'a, str>),
    /// `create-logical-partition:NAME:%08x`
    CreateLogicalPartition(Cow<'a, str>, u32),
    /// `resize-logical-partition:NAME:%08x`
    ResizeLogicalPartition(Cow<'a, str>, u32),
    /// `delete-logical-partition:NAME`
    DeleteLogicalPartition(Cow<'a, str>),
    /// `update-super:PARTITION:OPTION`
    UpdateSuper(Cow<'a, str>, Cow<'a, str>),
}

/// Bytes that are no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Not UTF-8.
    #[error("a command is text")]
    Text,
    /// None that is known.
    #[error("no command is called {0:?}")]
    Unknown(String),
    /// A number that is not hexadecimal or does not fit 32 bits.
    #[error("{0:?} is no size in hexadecimal digits")]
    Size(String),
}

impl<'a> Command<'a> {
    /// The command's bytes, without anything before or behind.
    pub fn encode(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// The command that those bytes are, as this crate writes it. Names are told apart by case.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CommandError::Text)?;
        if let Some(line) = text.strip_prefix("oem ") {
            return Ok(Self::Oem(line.into()));
        }
        if let Some(to) = text.strip_prefix("reboot-") {
            return Ok(Self::RebootTo(to.into()));
        }
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        let argument = Cow::Borrowed(rest.unwrap_or_default());
        let pair = |text: Cow<'a, str>| match text {
            Cow::Borrowed(text) => text.rsplit_once(':').ok_or_else(|| CommandError::Size(text.to_owned())),
            Cow::Owned(text) => Err(CommandError::Size(text)),
        };
        Ok(match name {
            "getvar" => Self::GetVar(argument),
            "download" => Self::Download(size(&argument)?),
            "upload" => Self::Upload(rest.map(Cow::Borrowed)),
            "flash" => Self::Flash(argument),
            "erase" => Self::Erase(argument),
            "UCmd" => Self::UCmd(argument),
            "ACmd" => Self::ACmd(argument),
            "boot" => Self::Boot,
            "continue" => Self::Continue,
            "reboot" => Self::Reboot(argument),
            "set_active" => Self::SetActive(argument),
            "flashing" => Self::Flashing(argument),
            "create-logical-partition" => {
                let (partition, bytes) = pair(argument)?;
                Self::CreateLogicalPartition(partition.into(), size(bytes)?)
            }
            "resize-logical-partition" => {
                let (partition, bytes) = pair(argument)?;
                Self::ResizeLogicalPartition(partition.into(), size(bytes)?)
            }
            "delete-logical-partition" => Self::DeleteLogicalPartition(argument),
            "update-super" => {
                let (partition, option) = pair(argument)?;
                Self::UpdateSuper(partition.into(), option.into())
            }
            _ => return Err(CommandError::Unknown(text.chars().take(64).collect())),
        })
    }
}

fn size(digits: &str) -> Result<u32, CommandError> {
    hex32(digits).ok_or_else(|| CommandError::Size(digits.chars().take(64).collect()))
}

/// Hexadecimal digits alone: no sign, no prefix.
pub(crate) fn hex32(digits: &str) -> Option<u32> {
    if digits.bytes().all(|b| b.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None }
}

/// A number in an answer: hexadecimal after `0x`, else decimal. U-Boot's sizes have the prefix.
pub fn parse_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    if digits.bytes().all(|b| b.is_ascii_alphanumeric()) { u64::from_str_radix(digits, radix).ok() } else { None }
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GetVar(name) => write!(f, "getvar:{name}"),
            Self::Download(bytes) => write!(f, "download:{bytes:08x}"),
            Self::Upload(None) => write!(f, "upload"),
            Self::Upload(Some(name)) => write!(f, "upload:{name}"),
            Self::Flash(partition) => write!(f, "flash:{partition}"),
            Self::Erase(partition) => write!(f, "erase:{partition}"),
            Self::Oem(line) => write!(f, "oem {line}"),
            Self::UCmd(line) => write!(f, "UCmd:{line}"),
            Self::ACmd(line) => write!(f, "ACmd:{line}"),
            Self::Boot => write!(f, "boot:"),
            Self::Continue => write!(f, "continue:"),
            Self::Reboot(to) => write!(f, "reboot:{to}"),
            Self::RebootTo(to) => write!(f, "reboot-{to}"),
            Self::SetActive(slot) => write!(f, "set_active:{slot}"),
            Self::Flashing(line) => write!(f, "flashing:{line}"),
            Self::CreateLogicalPartition(name, bytes) => write!(f, "create-logical-partition:{name}:{bytes:08x}"),
            Self::ResizeLogicalPartition(name, bytes) => write!(f, "resize-logical-partition:{name}:{bytes:08x}"),
            Self::DeleteLogicalPartition(name) => write!(f, "delete-logical-partition:{name}"),
            Self::UpdateSuper(partition, option) => write!(f, "update-super:{partition}:{option}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `uuu` 1.5.243 was seen to send them; `reboot-bootloader` is AOSP's.
    #[test]
    fn golden() {
        let golden: [(Command<'_>, &str); 20] = [
            (Command::GetVar("max-download-size".into()), "getvar:max-download-size"),
            (Command::Download(0x3028), "download:00003028"),
            (Command::Download(0xffff_ffff), "download:ffffffff"),
            (Command::Upload(None), "upload"),
            (Command::Upload(Some("ddr".into())), "upload:ddr"),
            (Command::Flash("all".into()), "flash:all"),
            (Command::Erase("0:1".into()), "erase:0:1"),
            (Command::Oem("run:mmc dev 0".into()), "oem run:mmc dev 0"),
            (Command::UCmd("mmc dev ${emmc_dev}".into()), "UCmd:mmc dev ${emmc_dev}"),
            (Command::UCmd(" setenv a \"b:c\"".into()), "UCmd: setenv a \"b:c\""),
            (Command::ACmd("reset".into()), "ACmd:reset"),
            (Command::Boot, "boot:"),
            (Command::Continue, "continue:"),
            (Command::Reboot("".into()), "reboot:"),
            (Command::RebootTo("bootloader".into()), "reboot-bootloader"),
            (Command::SetActive("a".into()), "set_active:a"),
            (Command::Flashing("unlock".into()), "flashing:unlock"),
            (Command::CreateLogicalPartition("p:q".into(), 0x1000), "create-logical-partition:p:q:00001000"),
            (Command::DeleteLogicalPartition("p".into()), "delete-logical-partition:p"),
            (Command::UpdateSuper("super".into(), "wipe".into()), "update-super:super:wipe"),
        ];
        for (command, text) in golden {
            assert_eq!(command.encode(), text.as_bytes());
            assert_eq!(Command::decode(text.as_bytes()), Ok(command), "{text}");
        }
    }

    #[test]
    fn what_is_no_command() {
        assert_eq!(Command::decode(b"\xff"), Err(CommandError::Text));
        assert_eq!(Command::decode(b"ucmd:x"), Err(CommandError::Unknown("ucmd:x".into())));
        assert_eq!(Command::decode(b"download:+1"), Err(CommandError::Size("+1".into())));
        assert_eq!(Command::decode(b"download:100000000"), Err(CommandError::Size("100000000".into())));
        assert_eq!(Command::decode(b"update-super:x"), Err(CommandError::Size("x".into())));
    }

    #[test]
    fn numbers_in_answers() {
        assert_eq!(parse_number("0x20000000"), Some(0x2000_0000));
        assert_eq!(parse_number(" 512\n"), Some(512));
        assert_eq!(parse_number("010"), Some(10));
        for garbled in ["", "0x", "+5", "0x+5", "1e3", "20000000h", "0x10000000000000000"] {
            assert_eq!(parse_number(garbled), None, "{garbled}");
        }
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_itself_again(text in "[a-z]{1,8}[:-]?[ -~]{0,40}") {
            if let Ok(command) = Command::decode(text.as_bytes()) {
                let bytes = command.encode();
                prop_assert_eq!(Command::decode(&bytes), Ok(command.clone()));
            }
        }
    }
}
