//! The queue on a wire that is played: a board that takes packets in order, and goes wrong where it is told to.

use super::*;

/// What goes wrong, when so many bytes have gone.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The transfer ends so; nothing moves after it.
    Ends(How),
    /// The transfer ends well here, with less than it has.
    Short,
    /// Nothing moves any more.
    Hangs,
    /// As before, and what is called off does not come back.
    Keeps,
    /// Events cannot be asked for.
    Deaf,
}

#[derive(Debug)]
struct Played {
    /// What is in flight, oldest first.
    flights: Vec<(usize, Vec<u8>)>,
    cancelled: Vec<(usize, End)>,
    /// What the board got.
    board: Vec<u8>,
    trouble: Option<(usize, Trouble)>,
    /// Bytes that may be in flight at once.
    memory: usize,
    /// Bytes of each transfer handed over.
    submitted: Vec<usize>,
    most: usize,
    /// Slots in the order in which they were called off.
    called_off: Vec<usize>,
    refusal: Option<Refusal>,
}

impl Played {
    fn new() -> Self {
        Self {
            flights: Vec::new(),
            cancelled: Vec::new(),
            board: Vec::new(),
            trouble: None,
            memory: usize::MAX,
            submitted: Vec::new(),
            most: 0,
            called_off: Vec::new(),
            refusal: None,
        }
    }

    fn with(at: usize, trouble: Trouble) -> Self {
        Self { trouble: Some((at, trouble)), ..Self::new() }
    }

    fn held(&self) -> usize {
        self.flights.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

impl Wire for Played {
    fn submit(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Refusal> {
        assert!(!bytes.is_empty(), "a zero-length packet");
        assert!(self.flights.iter().all(|(used, _)| *used != slot), "slot {slot} is in use");
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if self.held() + bytes.len() > self.memory {
            return Err(Refusal::Memory);
        }
        self.flights.push((slot, bytes.to_vec()));
        self.submitted.push(bytes.len());
        self.most = self.most.max(self.flights.len());
        Ok(())
    }

    fn reap(&mut self, until: Deadline) -> Result<Option<(usize, End)>, rusb::Error> {
        if let Some((slot, end)) = (!self.cancelled.is_empty()).then(|| self.cancelled.remove(0)) {
            return Ok(Some((slot, end)));
        }
        assert!(!self.flights.is_empty(), "waits for nothing");
        let length = self.flights[0].1.len();
        let room = self.trouble.map(|(at, trouble)| (at - self.board.len(), trouble));
        let (taken, how) = match room {
            Some((room, trouble)) if room < length => match trouble {
                Trouble::Ends(how) => (room, how),
                Trouble::Short => {
                    self.trouble = None;
                    (room, How::Done)
                }
                Trouble::Hangs | Trouble::Keeps => {
                    // Time passes; what moves, moves.
                    let part = self.flights[0].1.drain(..room).collect::<Vec<_>>();
                    self.board.extend(part);
                    std::thread::sleep(until.left().min(Duration::from_millis(20)));
                    return Ok(None);
                }
                Trouble::Deaf => return Err(rusb::Error::Other),
            },
            _ => (length, How::Done),
        };
        let (slot, bytes) = self.flights.remove(0);
        self.board.extend(&bytes[..taken]);
        Ok(Some((slot, End { bytes: taken, how })))
    }

    fn cancel(&mut self, slot: usize) {
        self.called_off.push(slot);
        let Some(at) = self.flights.iter().position(|(used, _)| *used == slot) else { return };
        if matches!(self.trouble, Some((_, Trouble::Keeps))) {
            return;
        }
        // A board that works would get what lies behind it.
        assert_eq!(at, self.flights.len() - 1, "called off while a later one is in flight");
        let (_, left) = self.flights.remove(at);
        let gone = LENGTH.saturating_sub(left.len());
        let bytes = if matches!(self.trouble, Some((_, Trouble::Hangs))) && at == 0 { gone } else { 0 };
        self.cancelled.push((slot, End { bytes, how: How::Cancelled }));
    }
}

const LENGTH: usize = 32 << 10;
const QUEUE: Queue = Queue { transfers: 3, bytes: LENGTH };

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n / 7 % 251).unwrap()).collect()
}

fn soon() -> Deadline {
    Deadline::new(Duration::from_secs(10))
}

fn sent(wire: &mut Played, length: usize) -> Result<(), (usize, Stop)> {
    let bytes = bytes(length);
    let result = send(wire, &bytes, QUEUE, soon());
    let went = result.map_or_else(|(went, _)| went, |()| length);
    assert!(bytes.starts_with(&wire.board), "the board got something else");
    assert_eq!(wire.board.len(), went);
    result
}

#[test]
fn everything_goes_in_order_and_nothing_for_nothing() {
    for length in [1, 512, LENGTH - 1, LENGTH, LENGTH + 1, 3 * LENGTH, 10 * LENGTH + 5] {
        let mut wire = Played::new();
        sent(&mut wire, length).unwrap();
        assert_eq!(wire.most, length.div_ceil(LENGTH).min(3));
        assert_eq!(wire.submitted.len(), length.div_ceil(LENGTH));
        assert_eq!(wire.called_off, []);
    }
    let mut wire = Played::new();
    sent(&mut wire, 0).unwrap();
    assert_eq!(wire.submitted, []);
}

#[test]
fn what_went_is_told_exactly() {
    let cases = [
        (How::Stalled, Stop::Stalled),
        (How::Gone, Stop::Gone),
        (How::Failed, Stop::Failed),
        (How::Cancelled, Stop::Cancelled),
        (How::Overflow, Stop::Overflow),
    ];
    for (how, stop) in cases {
        for at in [0, 512, LENGTH, 2 * LENGTH + 1024, 9 * LENGTH] {
            let mut wire = Played::with(at, Trouble::Ends(how));
            assert_eq!(sent(&mut wire, 9 * LENGTH + 1), Err((at, stop)));
            assert!(wire.flights.is_empty() && wire.cancelled.is_empty());
        }
    }
}

#[test]
fn a_board_that_hangs_is_left_in_time_newest_transfer_first() {
    let mut wire = Played::with(LENGTH + 512, Trouble::Hangs);
    let result = send(&mut wire, &bytes(9 * LENGTH), QUEUE, Deadline::new(Duration::from_millis(1)));
    assert_eq!(result, Err((LENGTH + 512, Stop::TimedOut)));
    assert_eq!(wire.called_off.len(), 3);
    assert!(wire.flights.is_empty() && wire.cancelled.is_empty());
}

#[test]
fn a_transfer_that_ends_early_is_no_end() {
    // The others are called off in time, and the rest is sent again.
    for at in [512, LENGTH - 1, 4 * LENGTH + 512] {
        let mut wire = Played::with(at, Trouble::Short);
        sent(&mut wire, 9 * LENGTH).unwrap();
    }
}

/// A wire on which what is called off goes all the same.
struct Fast(Played);

impl Wire for Fast {
    fn submit(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Refusal> {
        self.0.submit(slot, bytes)
    }

    fn reap(&mut self, until: Deadline) -> Result<Option<(usize, End)>, rusb::Error> {
        self.0.reap(until)
    }

    fn cancel(&mut self, _: usize) {}
}

#[test]
fn a_hole_is_told() {
    let mut wire = Fast(Played::with(LENGTH + 512, Trouble::Short));
    let result = send(&mut wire, &bytes(9 * LENGTH), QUEUE, soon());
    assert_eq!(result, Err((LENGTH + 512, Stop::Hole)));
    // Nothing was behind it.
    let mut wire = Fast(Played::with(2 * LENGTH + 512, Trouble::Short));
    assert_eq!(send(&mut wire, &bytes(3 * LENGTH), QUEUE, soon()), Ok(()));
    // Late, but everything went.
    let mut wire = Fast(Played::new());
    assert_eq!(send(&mut wire, &bytes(2 * LENGTH), QUEUE, Deadline::new(Duration::ZERO)), Ok(()));
}

#[test]
fn little_memory_is_enough() {
    for (memory, most) in [(2 * LENGTH, 2), (LENGTH, 1), (LENGTH / 2, 1), (LENGTH + LENGTH / 2, 2)] {
        let mut wire = Played { memory, ..Played::new() };
        sent(&mut wire, 9 * LENGTH + 3).unwrap();
        assert_eq!(wire.most, most, "{memory}");
    }
    let mut wire = Played { memory: LEAST - 1, ..Played::new() };
    let result = send(&mut wire, &bytes(LENGTH), QUEUE, Deadline::new(Duration::from_millis(20)));
    assert_eq!(result, Err((0, Stop::Memory)));
    // A part that is small enough still goes.
    sent(&mut wire, LEAST - 1).unwrap();
}

#[test]
fn a_refusal_is_no_hang() {
    for (refusal, stop) in
        [(Refusal::Gone, Stop::Gone), (Refusal::Other(rusb::Error::Busy), Stop::Refused(rusb::Error::Busy))]
    {
        let mut wire = Played { refusal: Some(refusal), ..Played::new() };
        assert_eq!(sent(&mut wire, 9 * LENGTH), Err((0, stop)));
    }
    let mut wire = Played::with(0, Trouble::Deaf);
    assert_eq!(sent(&mut wire, LENGTH), Err((0, Stop::Refused(rusb::Error::Other))));
    // Transfers that the system keeps.
    let mut wire = Played::with(0, Trouble::Keeps);
    let result = send(&mut wire, &bytes(LENGTH), QUEUE, Deadline::new(Duration::from_millis(1)));
    assert_eq!(result, Err((0, Stop::TimedOut)));
    assert_eq!(wire.flights.len(), 1);
}
