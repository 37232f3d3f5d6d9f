//! GUIDs as GPT stores them, and the partition types people meet.

use std::fmt;

/// A GUID, in the byte order of the disk: the first three fields low byte first (UEFI specification 2.10, appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The all-zero GUID, which marks an unused entry.
    pub const ZERO: Guid = Guid([0; 16]);

    /// A common name for a partition type (Discoverable Partitions Specification and the UEFI specification).
    pub(super) fn type_name(self) -> Option<&'static str> {
        let text = self.to_string();
        TYPES.iter().find(|(guid, _)| *guid == text).map(|(_, name)| *name)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guid([a, b, c, d, e, g, h, i, rest @ ..]) = self;
        write!(f, "{d:02x}{c:02x}{b:02x}{a:02x}-{g:02x}{e:02x}-{i:02x}{h:02x}-")?;
        for (place, byte) in rest.iter().enumerate() {
            if place == 2 {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

const TYPES: &[(&str, &str)] = &[
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux filesystem"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (arm64)"),
    ("69dad710-2ce4-4e3c-b16c-21a1d49abed3", "Linux root (arm)"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot"),
    ("8da63339-0007-60c0-c436-083ac8230908", "Linux reserved"),
    ("3de21764-95bd-54bd-a5c3-4abe786f38a8", "U-Boot environment"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_in_the_order_people_write() {
        let guid =
            Guid([0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);
        assert_eq!(guid.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(guid.type_name(), Some("EFI system"));
        assert_eq!(Guid::ZERO.type_name(), None);
    }
}
