//! The work around a flasher, done plainly: packing an image, filling a disk, and writing all of it as `dd` does.
//!
//! Every loop reports how far it is and stops when asked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::sync_channel;
use std::thread;

use bmap::ByteRange;
use flasher::Cancel;
use flasher::event::{Event, Observer, Stage};
use flasher::target::Target;
use image::{AlignedBuffer, Image, ImageReader, Wanted};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::disk::content::{Content, Kind};

/// How much is moved at once: what `dd bs=4M` would.
const PIECE: usize = 4 << 20;

/// Level 1: the demo is about writing, not about packing.
const LEVEL: i32 = 1;

/// What a loop tells and listens to.
#[derive(Clone, Copy)]
pub(super) struct Onlooker<'a> {
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
}

impl Onlooker<'_> {
    /// Calls `work` for each piece of `total` bytes, with its offset and length.
    fn pieces(&self, stage: Stage, total: u64, mut work: impl FnMut(u64, usize) -> io::Result<()>) -> io::Result<()> {
        self.observer.event(&Event::Stage { stage, total: Some(total) });
        let mut at = 0;
        while at < total {
            if self.cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = usize::try_from(total - at).unwrap_or(PIECE).min(PIECE);
            work(at, len)?;
            at += u64::try_from(len).unwrap_or(0);
            self.observer.event(&Event::Progress { stage, done: at, position: at });
        }
        Ok(())
    }
}

/// Packs `image` into `packed` as one zstd frame with a checksum; returns its length.
///
/// # Errors
/// Those of reading, packing and writing; `Interrupted` when cancelled.
pub(super) fn pack(image: &File, packed: &File, onlooker: Onlooker<'_>) -> io::Result<u64> {
    let said = |code| io::Error::other(zstd_safe::get_error_name(code));
    let mut context = CCtx::create();
    let total = image.metadata()?.len();
    context.set_parameter(CParameter::CompressionLevel(LEVEL)).map_err(said)?;
    context.set_parameter(CParameter::ChecksumFlag(true)).map_err(said)?;
    context.set_pledged_src_size(Some(total)).map_err(said)?;
    let mut buffer = vec![0; PIECE];
    let mut out = vec![0; CCtx::out_size()];
    let mut written = 0;
    onlooker.pieces(Stage::Write, total, |at, len| {
        image.read_exact_at(&mut buffer[..len], at)?;
        let last = at + u64::try_from(len).unwrap_or(0) == total;
        let directive = if last { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_continue };
        let mut input = InBuffer::around(&buffer[..len]);
        loop {
            let mut output = OutBuffer::around(out.as_mut_slice());
            let rest = context.compress_stream2(&mut output, &mut input, directive).map_err(said)?;
            let made = output.as_slice();
            packed.write_all_at(made, written)?;
            written += u64::try_from(made.len()).unwrap_or(0);
            let done = if last { rest == 0 } else { input.pos() == len };
            if done {
                return Ok(());
            }
        }
    })?;
    Ok(written)
}

/// Fills a file of `bytes` bytes with what an older system might have left: nothing that repeats or packs.
///
/// # Errors
/// Those of writing; `Interrupted` when cancelled.
pub(super) fn fill(disk: &File, bytes: u64, onlooker: Onlooker<'_>) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut content = Content::new(2);
    onlooker.pieces(Stage::Write, bytes, |at, len| {
        content.fill(Kind::Packed, &mut buffer[..len]);
        disk.write_all_at(&buffer[..len], at)
    })?;
    disk.sync_all()
}

/// Unpacks every byte of `packed` and writes it to `disk`, syncs, and reads every byte back from the medium through
/// `target`, which is the same disk: `zstdcat | dd bs=4M conv=fsync`, then `cmp` with the unpacked `image`. Returns the
/// pieces that differ.
///
/// # Errors
/// Those of reading, writing and syncing; `Interrupted` when cancelled.
pub(super) fn write_all(
    packed: Image,
    image: &File,
    disk: &File,
    target: &dyn Target,
    onlooker: Onlooker<'_>,
) -> io::Result<Vec<ByteRange>> {
    let bytes = image.metadata()?.len();
    let mut buffer = AlignedBuffer::new(PIECE);
    let mut reader = packed.read(Wanted::All).map_err(io::Error::other)?;
    // As in a shell's pipe, one unpacks while the other writes, and a pipe's worth of data lies between them.
    let (filled, to_write) = sync_channel::<io::Result<Vec<u8>>>(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let read = fill_from(&mut *reader, &mut piece);
                let last = !matches!(read, Ok(PIECE));
                let piece = read.map(|len| {
                    piece.truncate(len);
                    piece
                });
                // The writer may have given up.
                if filled.send(piece).is_err() || last {
                    return;
                }
            }
        });
        // Owned here, so that giving up ends the thread before the scope waits for it.
        let to_write = to_write;
        onlooker.pieces(Stage::Write, bytes, |at, len| {
            let piece = to_write.recv().map_err(io::Error::other)??;
            if piece.len() != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            disk.write_all_at(&piece, at)
        })
    })?;
    onlooker.observer.event(&Event::Stage { stage: Stage::Sync, total: None });
    disk.sync_all()?;
    let mut held = AlignedBuffer::new(PIECE);
    let mut differing = Vec::new();
    onlooker.pieces(Stage::Prove, bytes, |at, len| {
        image.read_exact_at(&mut buffer[..len], at)?;
        target.read_back(at, &mut held[..len]).map_err(io::Error::other)?;
        if buffer[..len] != held[..len] {
            differing.extend(ByteRange::new(at, at + u64::try_from(len).unwrap_or(0)));
        }
        Ok(())
    })?;
    Ok(differing)
}

/// Reads until `piece` is full or the image ends; returns how many bytes there were.
fn fill_from(reader: &mut dyn ImageReader, piece: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < piece.len() {
        match reader.read(&mut piece[done..]).map_err(io::Error::other)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}
