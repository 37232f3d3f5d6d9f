//! Pieces that are written again, in few lines: a medium that forgets a lot would push everything else off the screen.

use bmap::ByteRange;

/// How many pieces of one attempt are named.
const NAMED: usize = 8;

/// Counts the pieces of an attempt.
#[derive(Debug, Default)]
pub(super) struct Retries {
    attempt: u32,
    pieces: usize,
}

impl Retries {
    /// What to say about one more piece, or about those before it.
    pub(super) fn piece(&mut self, extent: ByteRange, attempt: u32) -> Vec<String> {
        let mut lines = Vec::new();
        if attempt != self.attempt {
            lines.extend(self.end());
            self.attempt = attempt;
        }
        self.pieces = self.pieces.saturating_add(1);
        if self.pieces <= NAMED {
            lines.push(format!("{extent} did not read back as written; writing again (attempt {attempt})"));
        }
        lines
    }

    /// What is left to say now that something else comes.
    pub(super) fn end(&mut self) -> Option<String> {
        let Self { attempt, pieces } = std::mem::take(self);
        let more = pieces.checked_sub(NAMED).filter(|more| *more > 0)?;
        Some(format!("and {more} more did not; writing them again too (attempt {attempt})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_rest_counted() {
        let mut retries = Retries::default();
        let mut said = Vec::new();
        for (attempt, pieces) in [(1, 30), (2, 8), (3, 9)] {
            for piece in 0..pieces {
                said.extend(retries.piece(ByteRange::at(piece * 10, 10).unwrap(), attempt));
            }
        }
        said.extend(retries.end());
        assert_eq!(retries.end(), None);
        assert_eq!(said.len(), 9 + 8 + 9, "{said:#?}");
        assert!(said[0].contains("bytes 0..10 "), "{}", said[0]);
        assert_eq!(said[8], "and 22 more did not; writing them again too (attempt 1)");
        assert_eq!(said[25], "and 1 more did not; writing them again too (attempt 3)");
    }
}
