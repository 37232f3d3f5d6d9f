//! Boot images: where in a file the loader lies, which part of it a board is sent, and what it seems to be.
//!
//! - [`ivt`]: images with an image vector table (HAB), for i.MX6, 7, 8M and RT.
//! - [`container`]: AHAB containers, versions 1 and 2, for i.MX8/8X, 8ULP and 9.
//! - [`marks`]: FlexSPI headers, barebox, FIT, U-Boot's older images, and the tag that ends the loader inside a disk image.
//! - [`part`]: which bytes go to which protocol.
//! - [`describe`]: all of it in words.
//! - [`stages`]: what of it goes to a board over USB, in which order.
//!
//! Everything works on bytes in memory; a caller with a disk image hands over its first [`SCAN_BYTES`]. Any bytes
//! may be handed over: nothing outside of them is read, whatever they say.
//!
//! Sources: the image chapters of the i.MX6, i.MX8M and i.MX8QXP reference manuals; U-Boot's `mkimage`; what `uuu`
//! 1.5.243 sends of which file.

pub mod container;
pub mod describe;
mod fit;
pub mod ivt;
pub mod marks;
pub mod part;
mod read;
pub mod stages;

/// How much of a file is worth looking through: as much as `uuu`'s own scripts do.
pub const SCAN_BYTES: usize = 0x80_0000;

/// What is wrong with an image. Offsets are in bytes from the start of what was handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There is no image vector table.
    #[error("there is no image vector table in {0:#x} bytes")]
    NoIvt(usize),
    /// A part of the image would lie outside of the file.
    #[error("{what} at {at:#x} should have {length:#x} bytes, but the file ends at {end:#x}")]
    Truncated {
        /// What.
        what: &'static str,
        /// Where it begins; may itself be outside.
        at: u64,
        /// Its length.
        length: u64,
        /// Length of the file.
        end: u64,
    },
    /// A pointer to something that is not in the file.
    #[error("the {what} pointer {address:#010x} of the image at {at:#x} leads out of the file")]
    Pointer {
        /// Of what.
        what: &'static str,
        /// The pointer.
        address: u32,
        /// Where the image begins.
        at: usize,
    },
    /// The wrong byte where a tag should be.
    #[error("the {what} at {at:#x} begins with {found:#04x} instead of {expected:#04x}")]
    Tag {
        /// Of what.
        what: &'static str,
        /// Where.
        at: usize,
        /// What belongs there.
        expected: u8,
        /// What is there.
        found: u8,
    },
    /// The image begins after its own table.
    #[error("the image at {at:#x} begins at {start:#010x}, after its table at {address:#010x}, or ends before it")]
    Start {
        /// Where the table lies in the file.
        at: usize,
        /// Where the image begins in memory.
        start: u32,
        /// Where the table belongs in memory.
        address: u32,
    },
    /// A container whose parts do not fit into it.
    #[error("the container at {at:#x} has {length:#x} bytes, too few for {images} images")]
    ContainerLength {
        /// Where.
        at: usize,
        /// Its length field.
        length: u16,
        /// Its number of images.
        images: u8,
    },
    /// The firmware that goes ahead of a loader, without one.
    #[error("only NXP's own firmware is at {at:#x}, and no container with a loader at {next:#x}")]
    OnlyFirmware {
        /// Where the firmware begins.
        at: usize,
        /// Where the next container should.
        next: usize,
    },
    /// A container whose signature block is not in it.
    #[error("the signature block of the container at {at:#x} should be {offset:#x} bytes into it, which is outside")]
    SignatureBlock {
        /// Where the container begins.
        at: usize,
        /// Where it says the block is.
        offset: u16,
    },
    /// An image that is not what was hashed: damaged, or changed without making the container anew.
    #[error("image {image} of the container at {container:#x}, which lies at {at:#x}, does not match its hash")]
    Hash {
        /// Where the container begins.
        container: usize,
        /// Which of its images; the first is 0.
        image: usize,
        /// Where that lies.
        at: u64,
    },
    /// A part that begins behind the end of the file.
    #[error("nothing is left of the file at {at:#x}: it has {end:#x} bytes")]
    NothingLeft {
        /// Where the part should begin.
        at: u64,
        /// Length of the file.
        end: usize,
    },
    /// A disk image without the tag that says where its loader is.
    #[error("the disk image has no loader tag in its first {0:#x} bytes, so where its loader ends cannot be told")]
    NoTag(usize),
    /// A tag with a length that cannot be.
    #[error("the loader tag at {at:#x} gives a length of {length:?}, which does not fit before it")]
    TagLength {
        /// Where.
        at: usize,
        /// The digits after it.
        length: String,
    },
}
