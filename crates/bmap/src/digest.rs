//! Digests of ranges and files: SHA-1 for old maps, the SHA-2 family for all others.

use std::fmt;

use sha2::Digest as _;

/// A hash that bmap files name in `ChecksumType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-1, 20 bytes: maps of version 1.2 and 1.3.
    Sha1,
    /// SHA-224, 28 bytes.
    Sha224,
    /// SHA-256, 32 bytes: what is written today.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Every algorithm we know.
    pub const ALL: [Algorithm; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name as bmap files spell it, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of that name, in either case; `None` for one we do not know.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest and the algorithm that made it. Prints as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// The digest, zero-filled behind its length, so that equality may be derived.
    bytes: [u8; 64],
}

impl Digest {
    /// A digest from its bytes; `None` unless there are exactly as many as `algorithm` makes.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, digest: &[u8]) -> Option<Self> {
        if digest.len() != algorithm.digest_len() {
            return None;
        }
        let mut bytes = [0; 64];
        bytes.get_mut(..digest.len())?.copy_from_slice(digest);
        Some(Self { algorithm, bytes })
    }

    /// A digest from hex in either case; `None` unless it has exactly the right number of hex digits.
    #[must_use]
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        if hex.len() != algorithm.digest_len() * 2 {
            return None;
        }
        let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(Self { algorithm, bytes })
    }

    /// What made it.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes, [`Algorithm::digest_len`] of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.algorithm)
    }
}

/// Digests bytes given in order.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha1(sha1::Sha1),
    Sha224(sha2::Sha224),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A fresh hasher.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            Algorithm::Sha224 => State::Sha224(sha2::Sha224::new()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => State::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha1(state) => state.update(bytes),
            State::Sha224(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Digest {
        fn filled(algorithm: Algorithm, digest: &[u8]) -> Digest {
            let mut bytes = [0; 64];
            for (byte, from) in bytes.iter_mut().zip(digest) {
                *byte = *from;
            }
            Digest { algorithm, bytes }
        }
        match self.0 {
            State::Sha1(state) => filled(Algorithm::Sha1, &state.finalize()),
            State::Sha224(state) => filled(Algorithm::Sha224, &state.finalize()),
            State::Sha256(state) => filled(Algorithm::Sha256, &state.finalize()),
            State::Sha384(state) => filled(Algorithm::Sha384, &state.finalize()),
            State::Sha512(state) => filled(Algorithm::Sha512, &state.finalize()),
        }
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests of "abc", FIPS 180-4 example values.
    #[test]
    fn known_answers() {
        for (algorithm, hex) in [
            (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(Hasher::digest(algorithm, b"abc").to_string(), hex);
            assert_eq!(Digest::from_hex(algorithm, &hex.to_uppercase()), Some(Hasher::digest(algorithm, b"abc")));
        }
        assert!(Hasher::digest(Algorithm::Sha384, b"abc").to_string().starts_with("cb00753f45a35e8b"));
        assert!(Hasher::digest(Algorithm::Sha512, b"abc").to_string().starts_with("ddaf35a193617aba"));
    }

    #[test]
    fn hex_of_the_wrong_length_or_alphabet_is_refused() {
        assert_eq!(Digest::from_hex(Algorithm::Sha1, "a9"), None);
        assert_eq!(Digest::from_hex(Algorithm::Sha1, &"g".repeat(40)), None);
        assert_eq!(Digest::from_hex(Algorithm::Sha1, &"+1".repeat(20)), None);
        assert_eq!(Digest::from_hex(Algorithm::Sha1, &"é".repeat(20)), None);
    }

    #[test]
    fn names_are_read_in_either_case() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(&algorithm.name().to_uppercase()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_name("md5"), None);
    }
}
