//! Raw images: a file or device read by offset, or a stream as it comes.

use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use crate::error::{Context, Fault, ImageError};
use crate::input::{Input, PackedFile};
use crate::num::{narrow, wide};
use crate::reader::ImageReader;
use crate::streaming::{Decode, check_forward};

/// A raw stream: the bytes are the image.
#[derive(Debug)]
pub(crate) struct RawStream;

impl Decode for RawStream {
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault> {
        input.read(into)
    }
}

/// A raw file or block device. Nothing is read but what is asked for.
#[derive(Debug)]
pub(crate) struct RawFile {
    context: Context,
    file: PackedFile,
    position: u64,
    failed: bool,
}

impl RawFile {
    pub(crate) fn new(context: Context, file: PackedFile) -> Self {
        Self { context, file, position: 0, failed: false }
    }

    /// Remembers that something failed: what is read after that is no image any more.
    fn fail(&mut self, fault: Fault) -> ImageError {
        self.failed = true;
        self.context.error(fault, self.position)
    }

    fn check(&self) -> Result<(), ImageError> {
        if self.failed {
            return Err(ImageError::Failed { name: Arc::clone(&self.context.name), unpacked: self.position });
        }
        Ok(())
    }
}

impl ImageReader for RawFile {
    fn name(&self) -> &Arc<str> {
        &self.context.name
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn packed_position(&self) -> u64 {
        self.position
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, ImageError> {
        self.check()?;
        let len = narrow(self.file.len - self.position, into.len());
        if len == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut into[..len], self.position);
        let count = count.map_err(|fault| self.fail(fault))?;
        self.position += wide(count);
        Ok(count)
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), ImageError> {
        self.check()?;
        check_forward(&self.context, self.position, offset)?;
        if offset > self.file.len {
            let name = Arc::clone(&self.context.name);
            return Err(ImageError::TooShort { name, len: self.file.len, wanted: offset });
        }
        self.position = offset;
        Ok(())
    }

    /// A file that grew or shrank since it was opened is an error even if every byte asked for was there.
    fn finish(&mut self) -> Result<u64, ImageError> {
        self.check()?;
        let now = (&*self.file.file).seek(SeekFrom::End(0));
        let now = now.map_err(|error| self.fail(Fault::Read(self.position, error)))?;
        if now != self.file.len {
            return Err(self.fail(Fault::Resized { was: self.file.len, now }));
        }
        self.position = self.file.len;
        Ok(self.position)
    }
}
