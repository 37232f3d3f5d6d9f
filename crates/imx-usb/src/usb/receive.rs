//! Receiving one transfer.
//!
//! The system is always asked for whole packets: a board that sends more than was asked for then shows as that, rather
//! than as an error of the controller in which bytes are lost. One transfer at a time is in flight, as the next one
//! might bring what belongs to the next call.

use std::thread;

use super::deadline::Deadline;
use super::queue::{End, GRACE, How, PAUSE, Refusal, Stop, Wire};
use super::transfer::Lane;

/// Most that the system is asked for at once.
const MOST: usize = 256 << 10;

/// It is not asked for less than this because of a lack of memory.
const LEAST: usize = 4 << 10;

/// A wire from which transfers come.
pub(super) trait Source: Wire {
    /// Bytes in its packets, at least 1.
    fn packet(&self) -> usize;

    /// Starts a transfer of up to that many bytes, which is a multiple of whole packets.
    fn start(&mut self, length: usize) -> Result<(), Refusal>;

    /// What the last transfer brought.
    fn brought(&self) -> &[u8];
}

/// Transfers from the device use this one.
const SLOT: usize = 0;

impl Source for Lane {
    fn packet(&self) -> usize {
        usize::from(self.endpoint().packet)
    }

    fn start(&mut self, length: usize) -> Result<(), Refusal> {
        self.submit_in(SLOT, length)
    }

    fn brought(&self) -> &[u8] {
        self.received(SLOT)
    }
}

/// Receives up to `into.len()` bytes, ended by a packet that is not full; or says how many came, and why it stopped.
pub(super) fn receive<S: Source>(source: &mut S, into: &mut [u8], until: Deadline) -> Result<usize, (usize, Stop)> {
    let packet = source.packet().max(1);
    let (mut came, mut most) = (0, MOST);
    while came < into.len() {
        let rest = into.len() - came;
        let length = rest.min(most).div_ceil(packet) * packet;
        match source.start(length) {
            Ok(()) => {}
            Err(Refusal::Memory) if most > LEAST => {
                most /= 2;
                continue;
            }
            Err(Refusal::Memory) if !until.is_over() => {
                thread::sleep(PAUSE.min(until.left()));
                continue;
            }
            Err(refusal) => return Err((came, refusal.into())),
        }
        let (end, late) = finish(source, until).map_err(|stop| (came, stop))?;
        let brought = source.brought();
        let fits = brought.len().min(rest);
        into[came..came + fits].copy_from_slice(&brought[..fits]);
        came += fits;
        if brought.len() > rest {
            return Err((came, Stop::Overflow));
        }
        match (end.how, late) {
            (How::Done, _) if end.bytes < length => return Ok(came),
            (How::Done, _) => {}
            // What was called off here, after something came that fills the room, is whole.
            (How::Cancelled, Some(_)) if came == into.len() => {}
            (How::Cancelled, Some(stop)) => return Err((came, stop)),
            (how, _) => return Err((came, Stop::after(how).unwrap_or(Stop::Failed))),
        }
    }
    Ok(came)
}

/// Takes the transfer back, calling it off when its time is over; then says why.
fn finish<S: Source>(source: &mut S, until: Deadline) -> Result<(End, Option<Stop>), Stop> {
    let stop = match source.reap(until) {
        Ok(Some((_, end))) => return Ok((end, None)),
        Ok(None) => Stop::TimedOut,
        Err(error) => Stop::Refused(error),
    };
    source.cancel(SLOT);
    let grace = Deadline::new(GRACE);
    loop {
        match source.reap(grace) {
            Ok(Some((_, end))) => return Ok((end, Some(stop))),
            Err(_) if !grace.is_over() => thread::sleep(PAUSE),
            Ok(None) | Err(_) => return Err(stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    /// A board that sends these transfers, each in packets of 64 bytes.
    struct Board {
        sends: VecDeque<(Vec<u8>, How)>,
        asked: Vec<usize>,
        brought: Vec<u8>,
        cancelled: bool,
        memory: usize,
    }

    impl Board {
        fn new(sends: &[(usize, How)]) -> Self {
            let mut next = 0u8;
            let mut bytes = |length| {
                let fill = |_| {
                    next = next.wrapping_add(1);
                    next
                };
                (0..length).map(fill).collect()
            };
            let sends = sends.iter().map(|&(length, how)| (bytes(length), how)).collect();
            Self { sends, asked: Vec::new(), brought: Vec::new(), cancelled: false, memory: usize::MAX }
        }
    }

    impl Wire for Board {
        fn submit(&mut self, _: usize, _: &[u8]) -> Result<(), Refusal> {
            unreachable!()
        }

        fn reap(&mut self, until: Deadline) -> Result<Option<(usize, End)>, rusb::Error> {
            let asked = *self.asked.last().unwrap();
            while self.brought.len() < asked {
                let Some((bytes, how)) = self.sends.front_mut() else {
                    if !self.cancelled {
                        std::thread::sleep(until.left().min(Duration::from_millis(10)));
                        return Ok(None);
                    }
                    return Ok(Some((0, End { bytes: self.brought.len(), how: How::Cancelled })));
                };
                let room = asked - self.brought.len();
                let part: Vec<_> = bytes.drain(..bytes.len().min(room)).collect();
                let short = part.len() % 64 != 0 || part.is_empty();
                self.brought.extend(part);
                let how = *how;
                if bytes.is_empty() {
                    self.sends.pop_front();
                }
                if short || how != How::Done {
                    return Ok(Some((0, End { bytes: self.brought.len(), how })));
                }
            }
            Ok(Some((0, End { bytes: asked, how: How::Done })))
        }

        fn cancel(&mut self, _: usize) {
            self.cancelled = true;
        }
    }

    impl Source for Board {
        fn packet(&self) -> usize {
            64
        }

        fn start(&mut self, length: usize) -> Result<(), Refusal> {
            assert!(length > 0 && length.is_multiple_of(64));
            if length > self.memory {
                return Err(Refusal::Memory);
            }
            self.asked.push(length);
            self.brought.clear();
            Ok(())
        }

        fn brought(&self) -> &[u8] {
            &self.brought
        }
    }

    fn received(board: &mut Board, room: usize) -> Result<usize, (usize, Stop)> {
        let mut into = vec![0; room];
        let result = receive(board, &mut into, Deadline::new(Duration::from_millis(50)));
        let came = result.unwrap_or_else(|(came, _)| came);
        let expected = Board::new(&[(came, How::Done)]).sends.pop_front().unwrap().0;
        assert_eq!(into[..came], expected);
        result
    }

    #[test]
    fn a_transfer_ends_with_a_short_packet_or_when_the_room_is_full() {
        for (sends, room, came) in [(5, 65, 5), (65, 65, 65), (64, 64, 64), (13, 64, 13), (128, 128, 128), (0, 64, 0)] {
            let mut board = Board::new(&[(sends, How::Done)]);
            assert_eq!(received(&mut board, room), Ok(came), "{sends} for {room}");
            assert_eq!(board.asked, [room.div_ceil(64) * 64]);
        }
        // Nothing is asked for when there is no room.
        let mut board = Board::new(&[]);
        assert_eq!(received(&mut board, 0), Ok(0));
        assert_eq!(board.asked, []);
    }

    #[test]
    fn large_ones_come_in_parts_and_the_next_is_left_alone() {
        let mut board = Board::new(&[(MOST + 7, How::Done), (9, How::Done)]);
        assert_eq!(received(&mut board, 3 * MOST), Ok(MOST + 7));
        assert_eq!(board.sends.len(), 1);
        // Full parts, ended by a zero-length packet.
        let mut board = Board::new(&[(MOST, How::Done), (0, How::Done)]);
        assert_eq!(received(&mut board, 3 * MOST), Ok(MOST));
        let mut board = Board { memory: LEAST, ..Board::new(&[(3 * LEAST + 1, How::Done)]) };
        assert_eq!(received(&mut board, MOST), Ok(3 * LEAST + 1));
    }

    #[test]
    fn errors_say_what_came() {
        let mut board = Board::new(&[(100, How::Done)]);
        assert_eq!(received(&mut board, 70), Err((70, Stop::Overflow)));
        // It goes on only when asked to, so that is no error, but for whoever expected less.
        let mut board = Board::new(&[(192, How::Done)]);
        assert_eq!(received(&mut board, 128), Ok(128));
        for (how, stop) in [(How::Stalled, Stop::Stalled), (How::Gone, Stop::Gone), (How::Failed, Stop::Failed)] {
            let mut board = Board::new(&[(64, How::Done), (0, how)]);
            assert_eq!(received(&mut board, 256), Err((64, stop)));
        }
        // A full packet, and then nothing more.
        let mut board = Board::new(&[(64, How::Done)]);
        assert_eq!(received(&mut board, 65), Err((64, Stop::TimedOut)));
        let mut board = Board { memory: 0, ..Board::new(&[]) };
        assert_eq!(received(&mut board, 64), Err((0, Stop::Memory)));
    }
}
