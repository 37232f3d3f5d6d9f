//! A board that is still on the bus after something failed: does it answer, and are both sides in step again?
//!
//! It may have answered after the deadline, and then each answer would be taken for the next command's. So what it has
//! to say is thrown away, and it is asked something whose answer cannot be mistaken for one of those. A board that waits
//! for the rest of a download takes the question for data: over USB it answers only after a reset of the bus, over UDP
//! after a datagram with nothing in it.

use std::time::Duration;

use imx_usb::pipe::{BulkPipe, Fault, TransferError};

/// How long a board may still be busy with what it was told before.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must come before all is taken to be said.
const QUIET: Duration = Duration::from_millis(200);
/// The most answers that are listened to.
const ANSWERS: usize = 1000;
/// Room for the longest answer.
const ROOM: usize = 4096;

/// Asks the board on the other side of `pipe`: true if it answers, and nothing else is to come from it.
pub(super) fn in_step(pipe: &mut dyn BulkPipe) -> bool {
    hush(pipe);
    let answers = answers(pipe);
    if answers {
        hush(pipe);
    }
    answers
}

/// The same over UDP, where the board says something only to a datagram, and to one with nothing in it whatever ends what
/// came before: an answer that was not fetched, that a download is too short, or that this is no command.
///
/// # Errors
/// When the board says nothing, or nothing that ends anything.
pub(super) fn into_step(pipe: &mut dyn BulkPipe) -> Result<(), TransferError> {
    let mut buffer = [0; ROOM];
    for _ in 0..ANSWERS {
        let len = pipe.receive(&mut buffer, PATIENCE)?;
        let ends = buffer.get(..len).is_some_and(|said| said.starts_with(b"OKAY") || said.starts_with(b"FAIL"));
        if ends {
            return if answers(pipe) { Ok(()) } else { Err(silence()) };
        }
    }
    Err(silence())
}

fn silence() -> TransferError {
    TransferError::receiving(0, ROOM, Fault::TimedOut(PATIENCE))
}

fn answers(pipe: &mut dyn BulkPipe) -> bool {
    // Any fastboot knows that variable, and tells something.
    let end = pipe.now().saturating_add(PATIENCE);
    if pipe.send(b"getvar:version", PATIENCE).is_err() {
        return false;
    }
    let mut buffer = [0; ROOM];
    for _ in 0..ANSWERS {
        let left = end.saturating_sub(pipe.now());
        match pipe.receive(&mut buffer, left) {
            // An answer to anything but a question has no text.
            Ok(len) if buffer.get(..len).is_some_and(|answer| answer.starts_with(b"OKAY") && len > 4) => {
                return true;
            }
            Ok(_) if !left.is_zero() => {}
            Ok(_) | Err(_) => return false,
        }
    }
    false
}

/// Throws away what the board has to say.
fn hush(pipe: &mut dyn BulkPipe) {
    let mut buffer = [0; ROOM];
    for _ in 0..ANSWERS {
        if pipe.receive(&mut buffer, QUIET).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imx_usb::pipe::{Fault, TransferError};
    use std::collections::VecDeque;

    /// A board that says these before it answers a question, if it does.
    struct Talker {
        before: VecDeque<&'static [u8]>,
        late: VecDeque<&'static [u8]>,
        answers: bool,
    }

    impl BulkPipe for Talker {
        fn send(&mut self, bytes: &[u8], _: Duration) -> Result<(), TransferError> {
            assert_eq!(bytes, b"getvar:version");
            self.before.append(&mut self.late);
            self.before.extend(self.answers.then_some(b"OKAY0.4".as_slice()));
            Ok(())
        }

        fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
            let Some(answer) = self.before.pop_front() else {
                return Err(TransferError::receiving(0, into.len(), Fault::TimedOut(within)));
            };
            into[..answer.len()].copy_from_slice(answer);
            Ok(answer.len())
        }
    }

    #[test]
    fn late_answers_are_not_taken_for_the_next_ones() {
        let talker = |before: &[&'static [u8]], late: &[&'static [u8]], answers| Talker {
            before: before.iter().copied().collect(),
            late: late.iter().copied().collect(),
            answers,
        };
        let mut pipe = talker(&[b"INFOx", b"OKAY1.5"], &[b"OKAY", b"FAILbusy", b""], true);
        assert!(in_step(&mut pipe) && pipe.before.is_empty());
        assert!(!in_step(&mut talker(&[b"OKAY0.4"], &[b"OKAY"], false)));
    }
}
