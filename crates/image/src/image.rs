//! [`Image`]: what a file, a block device or standard input holds, before any of it is read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::bzip2::Bzip2;
use crate::bzip2::blocks::Sections;
use crate::error::{Context, Fault, ImageError};
use crate::gzip::Gzip;
use crate::input::{Input, PackedFile, Stream};
use crate::merge::Merge;
use crate::num::{narrow, wide};
use crate::options::{Format, Options, Wanted};
use crate::raw::{RawFile, RawStream};
use crate::reader::ImageReader;
use crate::sniff::{Kind, SNIFF_LEN, cut_magic, sniff};
use crate::streaming::{Decode, Streaming};
use crate::xz::{self, Xz};
use crate::zstd::{self, Zstd};

/// The most that [`Image::head`] gives, 1 MiB.
pub const MAX_HEAD: usize = 1 << 20;

/// An image that has been found and recognised, ready to be read once.
#[derive(Debug)]
pub struct Image {
    context: Context,
    options: Options,
    packed: Packed,
    index: Index,
    size: Option<u64>,
}

/// The parts of a file that can be decoded one without the other.
#[derive(Debug)]
enum Index {
    Nothing,
    Xz(Vec<xz::index::Block>),
    Zstd(zstd::index::Frames),
}

#[derive(Debug)]
enum Packed {
    File(PackedFile),
    Stream(Stream),
}

impl Image {
    /// Opens a regular file or a block device and looks at what it holds.
    ///
    /// # Errors
    /// [`ImageError::Open`], [`ImageError::NotAFile`], [`ImageError::Unsupported`], and errors of reading the first
    /// bytes and the container's index.
    pub fn open(path: &Path, options: &Options) -> Result<Self, ImageError> {
        let name: Arc<str> = path.display().to_string().into();
        let open = |source| ImageError::Open { name: Arc::clone(&name), source };
        // Without O_NONBLOCK a FIFO would hang here before it can be refused; on files and disks the flag does nothing.
        let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(open)?;
        let kind = file.metadata().map_err(open)?.file_type();
        let what = match kind {
            kind if kind.is_file() || kind.is_block_device() => None,
            kind if kind.is_dir() => Some("a directory"),
            kind if kind.is_fifo() => Some("a pipe"),
            kind if kind.is_socket() => Some("a socket"),
            kind if kind.is_char_device() => Some("a character device"),
            _ => Some("something else"),
        };
        if let Some(what) = what {
            return Err(ImageError::NotAFile { name, what });
        }
        // The end of a block device is its size (block/fops.c seeks within it); so it is for files.
        let len = file.seek(SeekFrom::End(0)).map_err(open)?;
        let file = PackedFile { file: Arc::new(file), len };
        let mut first = vec![0; narrow(len, SNIFF_LEN)];
        let mut context = Context { name, format: Format::Raw };
        file.read_exact_at(&mut first, 0).map_err(|fault| context.error(fault, 0))?;
        context.format = format(&first, &context.name)?;
        let fault = |fault| context.error(fault, 0);
        let (index, size) = match context.format {
            Format::Raw => (Index::Nothing, Some(len)),
            Format::Gzip | Format::Bzip2 => (Index::Nothing, None),
            Format::Xz => match xz::index::read(&file).map_err(fault)? {
                Some((blocks, len)) => (Index::Xz(blocks), Some(len)),
                None => (Index::Nothing, None),
            },
            Format::Zstd => match zstd::index::read(&file).map_err(fault)? {
                // A single frame is better decoded straight into the reader's buffer.
                Some(frames) if frames.list.len() < 2 => (Index::Nothing, frames.len),
                Some(frames) => {
                    let len = frames.len;
                    (Index::Zstd(frames), len)
                }
                None => (Index::Nothing, None),
            },
        };
        Ok(Self { context, options: options.clone(), packed: Packed::File(file), index, size })
    }

    /// An image that arrives in order, such as on standard input. Up to 4 MiB of it may be read ahead and kept.
    ///
    /// # Errors
    /// [`ImageError::Unsupported`] and errors of reading the first bytes.
    pub fn from_reader(name: &str, reader: Box<dyn Read + Send>, options: &Options) -> Result<Self, ImageError> {
        let mut context = Context { name: name.into(), format: Format::Raw };
        let mut stream = Stream::new(reader);
        let first = stream.look_ahead(SNIFF_LEN).map_err(|fault| context.error(fault, 0))?;
        context.format = format(first, &context.name)?;
        Ok(Self {
            context,
            options: options.clone(),
            packed: Packed::Stream(stream),
            index: Index::Nothing,
            size: None,
        })
    }

    /// The image's name: the path as given, or what [`from_reader`](Self::from_reader) was told.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.context.name
    }

    /// How it is packed.
    #[must_use]
    pub fn format(&self) -> Format {
        self.context.format
    }

    /// Unpacked length in bytes, where it is known exactly ahead of decoding: raw files and devices, xz files by their
    /// index, zstd files all of whose frames declare it. gzip keeps it only modulo 2³², bzip2 not at all.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Length in bytes as stored; `None` for a stream.
    #[must_use]
    pub fn packed_size(&self) -> Option<u64> {
        match &self.packed {
            Packed::File(file) => Some(file.len),
            Packed::Stream(_) => None,
        }
    }

    /// The open file, if the image is raw and seekable: for finding holes in it.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        match &self.packed {
            Packed::File(file) if self.context.format == Format::Raw => Some(&file.file),
            _ => None,
        }
    }

    /// The image's first `len` bytes, or all where it is shorter; never more than [`MAX_HEAD`]. A later
    /// [`read`](Self::read) still begins at the start.
    ///
    /// # Errors
    /// Those of reading and decoding; [`ImageError::NoHead`] for a stream that would have to be read too far.
    pub fn head(&mut self, len: usize) -> Result<Vec<u8>, ImageError> {
        let len = len.min(MAX_HEAD);
        let input = match &mut self.packed {
            Packed::File(file) => Input::file(file.clone(), 0, file.len),
            Packed::Stream(stream) => {
                Input::keeping(std::mem::replace(stream, Stream::new(Box::new(std::io::empty()))))
            }
        };
        let options = &self.options;
        let fault = |fault| self.context.error(fault, 0);
        let (head, input) = match self.context.format {
            Format::Raw => head_of(&self.context, input, RawStream, len),
            Format::Gzip => head_of(&self.context, input, Gzip::default(), len),
            Format::Zstd => head_of(&self.context, input, Zstd::new(options).map_err(fault)?, len),
            Format::Xz => head_of(&self.context, input, Xz::new(options), len),
            Format::Bzip2 => head_of(&self.context, input, Bzip2::default(), len),
        };
        if let (Packed::Stream(stream), Some(rewound)) = (&mut self.packed, input.into_stream()) {
            *stream = rewound;
        }
        head
    }

    /// Begins to read. `wanted` is a promise about what will be asked for.
    ///
    /// # Errors
    /// [`ImageError::Disorder`] for ranges out of order; errors of starting the decoder.
    pub fn read(self, wanted: Wanted) -> Result<Box<dyn ImageReader>, ImageError> {
        if let Some(index) = wanted.disorder() {
            return Err(ImageError::Disorder { name: self.context.name, index });
        }
        let Self { context, options, packed, index, .. } = self;
        let fault = |fault: Fault| context.error(fault, 0);
        let packed = match (index, packed) {
            (Index::Xz(blocks), Packed::File(file)) => {
                let (plan, crew) = xz::blocks::Blocks::start(&file, blocks, wanted, &options).map_err(fault)?;
                return Ok(Box::new(Merge::new(context, plan, crew)));
            }
            (Index::Zstd(frames), Packed::File(file)) => {
                let (plan, crew) = zstd::frames::Frames::start(&file, frames, wanted, &options).map_err(fault)?;
                return Ok(Box::new(Merge::new(context, plan, crew)));
            }
            (_, packed) => packed,
        };
        let input = match packed {
            Packed::File(file) if context.format == Format::Raw => return Ok(Box::new(RawFile::new(context, file))),
            Packed::File(file) => {
                let len = file.len;
                Input::file(file, 0, len)
            }
            Packed::Stream(stream) => Input::stream(stream),
        };
        Ok(match context.format {
            Format::Raw => Box::new(Streaming::new(context, input, RawStream)),
            Format::Gzip => Box::new(Streaming::new(context, input, Gzip::default())),
            Format::Zstd => {
                let decoder = Zstd::new(&options).map_err(fault)?;
                Box::new(Streaming::new(context, input, decoder))
            }
            Format::Xz => Box::new(Streaming::new(context, input, Xz::new(&options))),
            Format::Bzip2 => {
                let (plan, crew) = Sections::start(input, &options).map_err(fault)?;
                Box::new(Merge::new(context, plan, crew))
            }
        })
    }
}

/// The format of a file that begins with these bytes, [`SNIFF_LEN`] or all there are, if it is one we read.
fn format(first: &[u8], name: &Arc<str>) -> Result<Format, ImageError> {
    let kind = sniff(first);
    let name = || Arc::clone(name);
    let Some(format) = kind.format() else { return Err(ImageError::Unsupported { name: name(), kind }) };
    // Nobody writes an image of one to five bytes, but a download may stop there.
    match cut_magic(first) {
        Some(format) if kind == Kind::Unknown => {
            Err(Context { name: name(), format }.error(Fault::Truncated(wide(first.len())), 0))
        }
        _ => Ok(format),
    }
}

/// The first bytes that a decoder makes, and the input back.
fn head_of<D: Decode>(context: &Context, input: Input, decoder: D, len: usize) -> (Result<Vec<u8>, ImageError>, Input) {
    let mut reader = Streaming::new(context.clone(), input, decoder);
    let mut head = vec![0; len];
    let mut done = 0;
    while done < len {
        match reader.read(&mut head[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) => return (Err(error), reader.into_input()),
        }
    }
    head.truncate(done);
    (Ok(head), reader.into_input())
}
