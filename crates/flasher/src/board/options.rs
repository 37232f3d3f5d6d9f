//! How boards are flashed: what a user may choose, and what holds where nothing was chosen.

use std::path::PathBuf;
use std::time::Duration;

use super::check::Sum;
use super::loader::Loader;
use super::profile::Profile;
use super::then::Then;
use super::wire::Wire;

/// How proof is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By CRC-32 where the board has it, otherwise by SHA-256, otherwise by comparing with what was sent.
    Fast,
    /// By SHA-256.
    Strong,
    /// Not at all.
    Off,
}

impl Proof {
    /// The sum that a U-Boot can judge by, as asked for.
    pub(super) fn sum(self, profile: &Profile) -> Option<Sum> {
        if !profile.can_judge() {
            return None;
        }
        match self {
            Self::Off => None,
            Self::Fast if profile.crc32_verify => Some(Sum::Crc32),
            Self::Fast | Self::Strong if profile.sha256 => Some(Sum::Sha256),
            Self::Strong => None,
            Self::Fast => profile.can_compare().then_some(Sum::Compare),
        }
    }
}

/// What is compared before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Before {
    /// Nothing: everything is sent.
    #[default]
    Send,
    /// What an earlier, interrupted job sent.
    Resume,
    /// Everything.
    Delta,
}

/// How boards are flashed.
#[derive(Debug, Clone)]
pub struct FlashOptions {
    /// In which form bytes go over the bus.
    pub wire: Wire,
    /// How they are proven.
    pub proof: Proof,
    /// What is compared first.
    pub before: Before,
    /// Let CRC-32 decide that a piece need not be sent; SHA-256 otherwise.
    pub compare_by_crc: bool,
    /// How often bad pieces are sent again.
    pub attempts: u32,
    /// How long a card that refused is left alone before it is asked once more.
    pub pause: Duration,
    /// How long a board that left is waited for; zero for not at all.
    pub return_within: Duration,
    /// Where journals are kept; none without it.
    pub journals: Option<PathBuf>,
    /// Where pieces are kept for slower boards when the image is not a raw file.
    pub spill: Option<PathBuf>,
    /// Check the digests of the map's ranges while reading.
    pub check_digests: bool,
    /// The old head stays until the new one is written.
    pub keep_head: bool,
    /// Erase the map's holes behind the head. Never with a comparison beforehand.
    pub erase_holes: bool,
    /// A loader for a boot partition, written once the image is proven.
    pub loader: Option<Loader>,
    /// What to do at the end.
    pub then: Then,
}

impl Default for FlashOptions {
    /// Auto, proven by CRC-32, everything is sent, three attempts, no waiting for boards that leave.
    fn default() -> Self {
        Self {
            wire: Wire::Auto,
            proof: Proof::Fast,
            before: Before::Send,
            compare_by_crc: false,
            attempts: 3,
            pause: Duration::from_secs(2),
            return_within: Duration::ZERO,
            journals: None,
            spill: None,
            check_digests: true,
            keep_head: false,
            erase_holes: false,
            loader: None,
            then: Then::Stay,
        }
    }
}
