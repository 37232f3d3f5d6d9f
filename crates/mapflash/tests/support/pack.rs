//! Packs bytes in every format the program reads, as usual tools would.

use std::io::Write as _;

/// A format and how it is made.
pub(crate) struct Packing {
    /// Name and file extension.
    pub(crate) name: &'static str,
    /// Packs.
    pub(crate) pack: fn(&[u8]) -> Vec<u8>,
}

/// Every packed format; several members, streams, frames or blocks where the format has them.
pub(crate) const PACKINGS: [Packing; 8] = [
    Packing { name: "gz", pack: gzip },
    Packing { name: "members.gz", pack: |bytes| in_parts(bytes, gzip) },
    Packing { name: "zst", pack: zstd },
    Packing { name: "frames.zst", pack: |bytes| in_parts(bytes, zstd) },
    Packing { name: "xz", pack: xz },
    Packing { name: "streams.xz", pack: |bytes| in_parts(bytes, xz) },
    Packing { name: "bz2", pack: bzip2 },
    Packing { name: "streams.bz2", pack: |bytes| in_parts(bytes, bzip2) },
];

fn in_parts(bytes: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    bytes.chunks(bytes.len() / 3 + 1).flat_map(pack).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::CompressionLevel(1)).unwrap();
    context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let mut out = vec![0; zstd_safe::compress_bound(bytes.len())];
    let len = context.compress2(out.as_mut_slice(), bytes).unwrap();
    out.truncate(len);
    out
}

/// xz with blocks of 1 MiB, as `xz --block-size` makes them.
fn xz(bytes: &[u8]) -> Vec<u8> {
    use liblzma::stream::{Action, Check, Status, Stream};
    let mut stream = Stream::new_easy_encoder(1, Check::Crc64).unwrap();
    let mut out = Vec::with_capacity(bytes.len() + (1 << 20));
    let mut pieces = bytes.chunks(1 << 20).peekable();
    while let Some(piece) = pieces.next() {
        // A full flush ends the block.
        let action = if pieces.peek().is_some() { Action::FullFlush } else { Action::Finish };
        let before = stream.total_in();
        loop {
            let done = usize::try_from(stream.total_in() - before).unwrap();
            if stream.process_vec(&piece[done..], &mut out, action).unwrap() == Status::StreamEnd {
                break;
            }
        }
    }
    out
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
