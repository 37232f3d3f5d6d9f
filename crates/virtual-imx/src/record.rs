//! What happened on a board's bus: counts, and each event for whoever wants to keep them.

use std::time::Duration;

use crate::board::Stage;

/// What went over a board's bus since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes from the host, reports and commands included.
    pub bytes_from_host: u64,
    /// Bytes to the host.
    pub bytes_to_host: u64,
    /// Commands of fastboot or FBK.
    pub commands: u64,
    /// Answers FAIL.
    pub fails: u64,
    /// How often it came to the bus.
    pub visits: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A stage was entered.
    Entered(Stage),
    /// The board left the bus.
    Left,
    /// A command of fastboot or FBK came.
    Command(String),
    /// An answer of it went, the first 64 bytes.
    Answer(String),
    /// A transfer from the host was over, with so many bytes.
    FromHost(usize),
    /// A transfer to the host was over, with so many bytes.
    ToHost(usize),
    /// Work of the board's own ended: it had been busy for so long.
    Worked(Duration),
}

/// Is told of each event, and when it was by the board's clock.
pub type Recorder = Box<dyn FnMut(Duration, &Event) + Send>;
