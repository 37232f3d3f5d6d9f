//! [`Input`]: packed bytes on their way into a decoder, from a file by offset or from a stream in order.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::Fault;
use crate::num::{narrow, wide};

/// Packed bytes are read in portions of this size: few system calls, and still inside a core's second-level cache.
const BUFFER: usize = 256 << 10;

/// How many packed bytes of a stream are kept so that its head can be looked at first.
pub(crate) const MAX_KEPT: usize = 4 << 20;

/// A part of a file of packed bytes.
#[derive(Debug, Clone)]
pub(crate) struct PackedFile {
    pub(crate) file: Arc<File>,
    /// Length of the whole file when it was opened.
    pub(crate) len: u64,
}

impl PackedFile {
    /// Fills `into` from `offset` on. A file that has become shorter is [`Fault::Resized`].
    pub(crate) fn read_exact_at(&self, into: &mut [u8], offset: u64) -> Result<(), Fault> {
        let mut done = 0;
        while done < into.len() {
            done += self.read_at(&mut into[done..], offset + wide(done))?;
        }
        Ok(())
    }

    /// Reads at least one byte at `offset`, which must lie inside the file, unless `into` is empty.
    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Fault> {
        loop {
            match self.file.read_at(into, offset) {
                Ok(0) if !into.is_empty() => return Err(Fault::Resized { was: self.len, now: offset }),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Read(offset, error)),
            }
        }
    }
}

/// A stream of packed bytes, with what has been read ahead of it.
pub(crate) struct Stream {
    reader: Box<dyn Read + Send>,
    /// Bytes read already, from the stream's start.
    kept: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, kept: Vec::new() }
    }

    /// Reads ahead until `len` bytes are kept or the stream has ended, and returns what is kept.
    pub(crate) fn look_ahead(&mut self, len: usize) -> Result<&[u8], Fault> {
        let len = len.min(MAX_KEPT);
        while self.kept.len() < len {
            let start = self.kept.len();
            self.kept.resize(len, 0);
            let count = read_some(&mut *self.reader, &mut self.kept[start..], wide(start));
            self.kept.truncate(start + count.as_ref().map_or(0, |&count| count));
            if count? == 0 {
                break;
            }
        }
        Ok(&self.kept)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

/// One read that is not interrupted.
fn read_some(reader: &mut dyn Read, into: &mut [u8], offset: u64) -> Result<usize, Fault> {
    loop {
        match reader.read(into) {
            Ok(count) => return Ok(count.min(into.len())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Read(offset, error)),
        }
    }
}

#[derive(Debug)]
enum From {
    File {
        file: PackedFile,
        /// Offset behind the last byte of this input.
        end: u64,
    },
    Stream {
        stream: Stream,
        /// How many of the kept bytes have been given out.
        replayed: usize,
        /// Whether bytes are to be kept, for another reading from the start.
        keep: bool,
    },
}

/// Packed bytes in order, buffered.
#[derive(Debug)]
pub(crate) struct Input {
    from: From,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Packed offset of `buffer[start]`.
    position: u64,
}

impl Input {
    /// Bytes `start` to `end` of a file.
    pub(crate) fn file(file: PackedFile, start: u64, end: u64) -> Self {
        let end = end.min(file.len);
        Self::new(From::File { file, end }, start)
    }

    /// A stream from its beginning.
    pub(crate) fn stream(stream: Stream) -> Self {
        Self::new(From::Stream { stream, replayed: 0, keep: false }, 0)
    }

    /// A stream from its beginning, to be read again afterwards: see [`Input::into_stream`].
    pub(crate) fn keeping(stream: Stream) -> Self {
        Self::new(From::Stream { stream, replayed: 0, keep: true }, 0)
    }

    fn new(from: From, position: u64) -> Self {
        Self { from, buffer: Vec::new(), start: 0, end: 0, position }
    }

    /// The stream, rewound; `None` for a file.
    pub(crate) fn into_stream(self) -> Option<Stream> {
        match self.from {
            From::Stream { stream, .. } => Some(stream),
            From::File { .. } => None,
        }
    }

    /// Packed offset of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes at hand; empty only at the end of the input.
    pub(crate) fn fill(&mut self) -> Result<&[u8], Fault> {
        self.need(1)
    }

    /// At least `len` bytes (at most 256 KiB), fewer only at the end of the input.
    pub(crate) fn need(&mut self, len: usize) -> Result<&[u8], Fault> {
        if self.end - self.start < len {
            self.buffer.resize(BUFFER, 0);
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let len = len.min(BUFFER);
            while self.end < len {
                let at = self.position + wide(self.end);
                let count = self.from.read(&mut self.buffer[self.end..], at)?;
                if count == 0 {
                    break;
                }
                self.end += count;
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Takes `len` bytes, which [`fill`](Self::fill) or [`need`](Self::need) have shown.
    pub(crate) fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.position += wide(len);
    }

    /// Takes up to `len` bytes unseen; returns how many there were.
    pub(crate) fn discard(&mut self, len: u64) -> Result<u64, Fault> {
        let mut done = 0;
        if let From::File { end, .. } = &self.from {
            // What is buffered is dropped, the rest is not read at all.
            done = len.min(end.saturating_sub(self.position));
            let buffered = narrow(done, self.end - self.start);
            self.start += buffered;
            self.position += done;
            return Ok(done);
        }
        while done < len {
            let count = self.fill()?.len();
            if count == 0 {
                break;
            }
            let count = narrow(len - done, count);
            self.consume(count);
            done += wide(count);
        }
        Ok(done)
    }

    /// Reads straight into the caller's buffer; 0 at the end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        let count = if self.start < self.end {
            let count = into.len().min(self.end - self.start);
            into[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            count
        } else {
            self.from.read(into, self.position)?
        };
        self.position += wide(count);
        Ok(count)
    }
}

impl From {
    fn read(&mut self, into: &mut [u8], at: u64) -> Result<usize, Fault> {
        match self {
            Self::File { file, end } => {
                let len = narrow(end.saturating_sub(at), into.len());
                if len == 0 { Ok(0) } else { file.read_at(&mut into[..len], at) }
            }
            Self::Stream { stream, replayed, keep } => {
                if *replayed == stream.kept.len() && *keep {
                    let more = stream.kept.len().saturating_add(into.len().min(64 << 10));
                    if stream.kept.len() == MAX_KEPT {
                        return Err(Fault::Lookahead { limit: wide(MAX_KEPT) });
                    }
                    // One read, not a full portion: a slow pipe must not hold up what is there already.
                    let start = stream.kept.len();
                    stream.kept.resize(more.min(MAX_KEPT), 0);
                    let count = read_some(&mut *stream.reader, &mut stream.kept[start..], at);
                    stream.kept.truncate(start + count.as_ref().map_or(0, |&count| count));
                    count?;
                }
                if *replayed < stream.kept.len() {
                    let count = into.len().min(stream.kept.len() - *replayed);
                    into[..count].copy_from_slice(&stream.kept[*replayed..*replayed + count]);
                    *replayed += count;
                    if *replayed == stream.kept.len() && !*keep {
                        // Given out for the last time: the memory may go.
                        (stream.kept, *replayed) = (Vec::new(), 0);
                    }
                    return Ok(count);
                }
                if *keep { Ok(0) } else { read_some(&mut *stream.reader, into, at) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out one byte less each time, with interruptions between.
    struct Trickle(Vec<u8>, usize, bool);

    impl Read for Trickle {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = into.len().min(3).min(self.0.len() - self.1);
            into[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
            self.1 += count;
            Ok(count)
        }
    }

    #[test]
    fn a_kept_stream_is_read_twice() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut stream = Stream::new(Box::new(Trickle(bytes.clone(), 0, false)));
        assert_eq!(stream.look_ahead(10).unwrap(), &bytes[..10]);
        let mut input = Input::keeping(stream);
        assert_eq!(input.need(100).unwrap()[..100], bytes[..100]);
        input.consume(60);
        assert_eq!(input.position(), 60);
        let mut input = Input::stream(input.into_stream().unwrap());
        let mut all = Vec::new();
        loop {
            let mut part = [0; 7];
            let count = input.read(&mut part).unwrap();
            if count == 0 {
                break;
            }
            all.extend_from_slice(&part[..count]);
        }
        assert_eq!(all, bytes);
    }

    #[test]
    fn keeping_has_an_end() {
        let mut input = Input::keeping(Stream::new(Box::new(io::repeat(7))));
        assert_eq!(input.discard(wide(MAX_KEPT) - 5).unwrap(), wide(MAX_KEPT) - 5);
        assert_eq!(input.need(5).unwrap().len(), 5);
        assert!(matches!(input.need(6), Err(Fault::Lookahead { .. })));
    }

    #[test]
    fn discarding_and_needing_on_a_file() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let file = PackedFile { file: Arc::new(file), len: 8 };
        let mut input = Input::file(file.clone(), 1, 7);
        assert_eq!(input.need(2).unwrap()[..2], [2, 3]);
        assert_eq!(input.discard(3).unwrap(), 3);
        assert_eq!((input.position(), input.need(9).unwrap()), (4, &[5, 6, 7][..]));
        assert_eq!(input.discard(9).unwrap(), 3);
        assert!(input.fill().unwrap().is_empty());
        file.file.set_len(4).unwrap();
        let mut input = Input::file(file, 0, 8);
        input.discard(4).unwrap();
        assert!(matches!(input.fill(), Err(Fault::Resized { was: 8, now: 4 })));
    }
}
