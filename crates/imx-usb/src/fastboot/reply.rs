//! Answers ↔ bytes: four letters, then text, or the eight digits of DATA.

use super::command::hex32;

/// The longest answer U-Boot sends, tag included; also that of `ufb`.
pub const REPLY_BYTES: usize = 64;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done. The text is the value asked for, if any.
    Okay(String),
    /// Not done. The text is the board's own, and often empty.
    Fail(String),
    /// That many bytes are to follow.
    Data(u32),
    /// Something for people, more to come.
    Info(String),
    /// A part of a longer message, more to come. U-Boot never sends it.
    Text(String),
}

/// Bytes that are no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// No known tag in front.
    #[error("the board sent {length} bytes that are no answer: {head:?}")]
    Tag {
        /// How many bytes.
        length: usize,
        /// The first of them.
        head: String,
    },
    /// DATA without eight hexadecimal digits behind it, but this (its first characters).
    #[error("the board sent DATA with a size of {0:?}, which is not eight hexadecimal digits")]
    Size(String),
}

impl Reply {
    /// The answer that those bytes are.
    ///
    /// Text is taken as UTF-8; bytes that are not are replaced. NULs at its end are dropped: some gadgets send whole
    /// buffers.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReplyError> {
        let Some((tag, rest)) = bytes.split_first_chunk::<4>() else { return Err(no_tag(bytes)) };
        let end = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let text = || String::from_utf8_lossy(&rest[..end]).into_owned();
        match tag {
            b"OKAY" => Ok(Self::Okay(text())),
            b"FAIL" => Ok(Self::Fail(text())),
            b"INFO" => Ok(Self::Info(text())),
            b"TEXT" => Ok(Self::Text(text())),
            b"DATA" => {
                let digits = text();
                let size = (digits.len() == 8).then(|| hex32(&digits)).flatten();
                size.map(Self::Data).ok_or_else(|| ReplyError::Size(digits.chars().take(16).collect()))
            }
            _ => Err(no_tag(bytes)),
        }
    }

    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Self::Okay(text) => ("OKAY", text),
            Self::Fail(text) => ("FAIL", text),
            Self::Info(text) => ("INFO", text),
            Self::Text(text) => ("TEXT", text),
            Self::Data(bytes) => return format!("DATA{bytes:08x}").into_bytes(),
        };
        [tag.as_bytes(), text.as_bytes()].concat()
    }
}

fn no_tag(bytes: &[u8]) -> ReplyError {
    let head = bytes.iter().take(16).map(|b| std::ascii::escape_default(*b).to_string()).collect();
    ReplyError::Tag { length: bytes.len(), head }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From U-Boot v2026.07 and NXP's 2023.04 as run or read, and from `ufb` (upper-case digits).
    #[test]
    fn golden() {
        let golden: [(&[u8], Reply); 8] = [
            (b"OKAY", Reply::Okay(String::new())),
            (b"OKAY0x20000000", Reply::Okay("0x20000000".into())),
            (b"FAIL", Reply::Fail(String::new())),
            (b"FAILsparse image write failure", Reply::Fail("sparse image write failure".into())),
            (b"FAILFAILunknown variable:x", Reply::Fail("FAILunknown variable:x".into())),
            (b"INFO", Reply::Info(String::new())),
            (b"TEXTpart", Reply::Text("part".into())),
            (b"DATA00ffe028", Reply::Data(0xff_e028)),
        ];
        for (bytes, reply) in golden {
            assert_eq!(Reply::decode(bytes), Ok(reply.clone()));
            assert_eq!(reply.encode(), bytes);
        }
        assert_eq!(Reply::decode(b"DATA00FFE028"), Ok(Reply::Data(0xff_e028)));
        assert_eq!(Reply::decode(b"DATA00000010\0"), Ok(Reply::Data(0x10)));
        assert_eq!(Reply::decode(b"OKAYa\0\0\0"), Ok(Reply::Okay("a".into())));
        assert_eq!(Reply::decode(b"INFO\xff"), Ok(Reply::Info("\u{fffd}".into())));
    }

    #[test]
    fn what_is_no_answer() {
        let long = Reply::decode(format!("DATA{}", "1".repeat(1000)).as_bytes());
        assert_eq!(long, Err(ReplyError::Size("1".repeat(16))));
        assert_eq!(
            Reply::decode(b"okay\nxyzxyzxyzxyz").unwrap_err().to_string(),
            r#"the board sent 17 bytes that are no answer: "okay\\nxyzxyzxyzxy""#
        );
        assert_eq!(Reply::decode(b"OK"), Err(ReplyError::Tag { length: 2, head: "OK".into() }));
        for digits in ["", "10", "0000001g", "+0000010", "000000010"] {
            let bytes = format!("DATA{digits}");
            assert_eq!(Reply::decode(bytes.as_bytes()), Err(ReplyError::Size(digits.into())));
        }
    }
}
