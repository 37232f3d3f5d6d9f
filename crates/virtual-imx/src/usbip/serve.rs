//! One device over one socket: a thread that reads what the host asks, and the caller's, which does it.

use std::io::{self, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::board::{Board, Device};

use super::Stream;
use super::stream::write_both;
use super::urbs::{Next, Urbs};
use super::wire::{Command, HEADER_BYTES, Reply};

/// Bytes that may wait for the board; the host is not read from while there are more.
const MAX_PENDING_BYTES: u64 = 64 << 20;
/// How long it takes at most to see what somebody did to the board.
const LOOK: Duration = Duration::from_millis(10);

/// Why it ended.
#[derive(Debug)]
pub enum Ended {
    /// The device left the bus.
    Device,
    /// The host closed the connection.
    Host,
    /// The connection failed, or the host said what makes no sense.
    Broken(io::Error),
}

struct Shared {
    urbs: Urbs,
    stream: Stream,
    ended: Option<Ended>,
}

struct Session {
    shared: Mutex<Shared>,
    /// There is something to do, or room for more.
    changed: Condvar,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn end(&mut self, why: Ended) {
        self.ended.get_or_insert(why);
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Urbs, &mut dyn FnMut(Reply, &[u8])) -> T) -> T {
        let mut failed = None;
        let stream = &mut self.stream;
        let result = act(&mut self.urbs, &mut |reply, data| {
            if failed.is_none() {
                failed = write_both(stream, &reply.encode(), data).err();
            }
        });
        if let Some(error) = failed {
            self.end(Ended::Broken(error));
        }
        result
    }
}

/// Serves `device`, which `board` is on the bus, until one of them ends it; the socket is closed then.
///
/// Simulated time passes whenever there is nothing to do but to wait.
///
/// # Errors
/// When the socket cannot be used at all.
pub fn serve(board: &Board, device: Device, stream: Stream) -> io::Result<Ended> {
    let reading = stream.try_clone()?;
    let closing = stream.try_clone()?;
    let shared = Shared { urbs: Urbs::new(board.clone(), device), stream, ended: None };
    let session = Session { shared: Mutex::new(shared), changed: Condvar::new() };
    std::thread::scope(|scope| {
        scope.spawn(|| read(&session, reading));
        work(&session, board);
        // The reader wakes up by this.
        closing.close();
        session.changed.notify_all();
    });
    let ended = session.lock().ended.take();
    Ok(ended.unwrap_or(Ended::Device))
}

fn read(session: &Session, mut from: Stream) {
    let result = loop {
        match read_one(session, &mut from) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let mut shared = session.lock();
    shared.end(match result {
        Ok(()) => Ended::Host,
        Err(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Ended::Host,
            _ => Ended::Broken(error),
        },
    });
    session.changed.notify_all();
}

/// Reads a message and takes it. `false`: there is none any more.
fn read_one(session: &Session, from: &mut Stream) -> io::Result<bool> {
    let mut header = [0; HEADER_BYTES];
    if !read_header(from, &mut header)? {
        return Ok(false);
    }
    let command = Command::decode(&header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let bytes = u64::from(command.data_bytes());
    let mut data = Vec::new();
    if bytes > 0 {
        let mut shared = session.lock();
        while shared.ended.is_none() && shared.urbs.bytes_pending().saturating_add(bytes) > MAX_PENDING_BYTES {
            if shared.urbs.bytes_pending() == 0 {
                break;
            }
            shared = session.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        data = shared.urbs.spare();
        drop(shared);
        // Grows with what comes, so that announcing much costs nothing.
        data.reserve(usize::try_from(bytes.min(4 << 20)).unwrap_or(0));
        if Read::by_ref(from).take(bytes).read_to_end(&mut data)? != usize::try_from(bytes).unwrap_or(usize::MAX) {
            return Ok(false);
        }
    }
    let mut shared = session.lock();
    shared.with(|urbs, sink| urbs.take(command, data, sink));
    session.changed.notify_all();
    Ok(shared.ended.is_none())
}

/// `false` at the end of the stream.
fn read_header(from: &mut Stream, header: &mut [u8; HEADER_BYTES]) -> io::Result<bool> {
    match from.read_exact(header) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn work(session: &Session, board: &Board) {
    let mut shared = session.lock();
    while shared.ended.is_none() {
        let next = shared.with(|urbs, sink| urbs.work(sink));
        if shared.ended.is_some() {
            return;
        }
        session.changed.notify_all();
        let wait = match next {
            Next::Gone => return shared.end(Ended::Device),
            Next::Idle => LOOK,
            Next::Until(when) if board.is_real() => match when.checked_sub(board.now()) {
                Some(left) if !left.is_zero() => left.min(LOOK),
                _ => continue,
            },
            Next::Until(when) => {
                board.pass_until(when);
                continue;
            }
        };
        shared = session.changed.wait_timeout(shared, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}
