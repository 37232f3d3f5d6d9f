//! What a caller may choose, and how a choice is spelled.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bmap::ByteRange;

/// How an image is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Not packed: the bytes are the image.
    Raw,
    /// gzip (RFC 1952), one member or several.
    Gzip,
    /// Zstandard (RFC 8878), one frame or several, skippable ones included.
    Zstd,
    /// xz (.xz file format 1.2.1), one stream or several.
    Xz,
    /// bzip2, one stream or several.
    Bzip2,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// How to decode.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether zstd frames may ask for a window above 128 MiB, which is then not counted against
    /// [`memory`](Self::memory). The zstd tool has the same limit and calls its lifting `--long=31`.
    pub allow_large_windows: bool,
    /// How many threads may decode at once. A container that cannot be cut uses one, whatever this says.
    pub threads: NonZeroUsize,
    /// Bytes that decoders may use for dictionaries, windows and decoded bytes waiting to be read. Fewer threads are
    /// used where more would not fit; an xz dictionary or a zstd window that is larger than all of it is refused.
    ///
    /// What does not depend on the file comes on top, however little is allowed here: about 1 MiB of buffers, for
    /// bzip2 8 MiB, and up to 1 MiB of decoded bytes so that decoding goes on while others write. So does a window let
    /// in by [`allow_large_windows`](Self::allow_large_windows), and the list of a file's parts, 32 MiB at most.
    pub memory: u64,
}

impl Options {
    /// The default of [`memory`](Self::memory), 160 MiB: room for the largest window zstd uses unasked, 128 MiB, and
    /// for two threads on the blocks that `xz -6` makes.
    pub const DEFAULT_MEMORY: u64 = 160 << 20;
}

impl Default for Options {
    /// No large windows, a thread for each core this process may use, and [`Options::DEFAULT_MEMORY`].
    fn default() -> Self {
        Self {
            allow_large_windows: false,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory: Self::DEFAULT_MEMORY,
        }
    }
}

/// Which bytes will be read: a promise by the caller, so that a container with an index need not decode the rest.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Every byte, in order.
    All,
    /// Only these bytes, ascending and disjoint; they may touch. [`skip_to`](crate::ImageReader::skip_to) passes over
    /// what lies between. Ranges may reach past the image: reading there says that it is too short.
    Ranges(Arc<[ByteRange]>),
}

impl Wanted {
    /// The place of the first range that breaks the order, if there is one.
    pub(crate) fn disorder(&self) -> Option<usize> {
        let Self::Ranges(ranges) = self else { return None };
        ranges.windows(2).position(|pair| pair[1].start() < pair[0].end()).map(|index| index + 1)
    }

    /// Whether any byte of `range` is wanted.
    pub(crate) fn touches(&self, range: ByteRange) -> bool {
        match self {
            Self::All => true,
            Self::Ranges(ranges) => {
                let first = ranges.partition_point(|wanted| wanted.end() <= range.start());
                ranges[first..]
                    .iter()
                    .find(|wanted| !wanted.is_empty())
                    .is_some_and(|wanted| wanted.start() < range.end())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Wanted {
        Wanted::Ranges(list.iter().map(|&(start, end)| ByteRange::new(start, end).unwrap()).collect())
    }

    #[test]
    fn disorder_is_found() {
        assert_eq!(ranges(&[(0, 5), (5, 6), (9, 10)]).disorder(), None);
        assert_eq!(ranges(&[(0, 5), (4, 6)]).disorder(), Some(1));
        assert_eq!(Wanted::All.disorder(), None);
    }

    #[test]
    fn touching_counts_bytes_not_borders() {
        let wanted = ranges(&[(10, 20), (25, 25), (30, 40)]);
        let touches = |start, end| wanted.touches(ByteRange::new(start, end).unwrap());
        assert!(!touches(0, 10) && touches(0, 11) && touches(19, 30));
        assert!(!touches(20, 30) && touches(39, 50) && !touches(40, 50));
    }
}
