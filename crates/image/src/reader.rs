//! [`ImageReader`]: the seam between an image and whoever writes it.

use std::sync::Arc;

use crate::error::ImageError;
use crate::num::wide;

/// The unpacked bytes of an image, in order.
///
/// After an error of reading or decoding every further call fails with [`ImageError::Failed`]: there is no way to read
/// past damage by trying again. Two errors are about the question, not the image, and reading may go on after them:
/// [`ImageError::Unwanted`], which moves nothing, and [`ImageError::TooShort`], which leaves the position at the image's
/// end or where it was.
pub trait ImageReader: Send + std::fmt::Debug {
    /// The image's name, for messages.
    fn name(&self) -> &Arc<str>;

    /// Unpacked offset of the next byte.
    fn position(&self) -> u64;

    /// How many packed bytes have been used so far. For progress: decoders read ahead, and containers with an index
    /// leave bytes out, so that it may jump.
    fn packed_position(&self) -> u64;

    /// Reads at least one byte and at most `into.len()`; 0 only at the true, checked end of the image (or for an empty
    /// `into`).
    ///
    /// # Errors
    /// Any [`ImageError`] of reading and decoding; [`ImageError::Unwanted`] outside the promised ranges where those
    /// bytes were left out.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, ImageError>;

    /// Goes forward to `offset`, which may be the image's end but not past it.
    ///
    /// # Errors
    /// [`ImageError::TooShort`] past the end, [`ImageError::Unwanted`] backwards, and the errors of
    /// [`read`](Self::read).
    fn skip_to(&mut self, offset: u64) -> Result<(), ImageError>;

    /// Goes to the end, so that every check of what was decoded has been made, and returns the image's length in bytes.
    /// Parts that were left out as unwanted are not checked.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read).
    fn finish(&mut self) -> Result<u64, ImageError>;

    /// Fills `into`.
    ///
    /// # Errors
    /// [`ImageError::TooShort`] when the image ends first, and the errors of [`read`](Self::read).
    fn read_exact(&mut self, into: &mut [u8]) -> Result<(), ImageError> {
        let wanted = self.position().saturating_add(wide(into.len()));
        let mut done = 0;
        while done < into.len() {
            let count = self.read(&mut into[done..])?;
            if count == 0 {
                let len = self.position();
                return Err(ImageError::TooShort { name: Arc::clone(self.name()), len, wanted });
            }
            done += count;
        }
        debug_assert!(self.position() >= wide(done));
        Ok(())
    }
}
