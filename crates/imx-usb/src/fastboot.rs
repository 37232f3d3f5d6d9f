//! Fastboot as U-Boot speaks it, and its i.MX additions (`UCmd:`, `ACmd:`).
//!
//! A [`Command`] goes out as one transfer of text. The board answers with any number of INFO and TEXT, then OKAY, FAIL
//! or DATA. After DATA the announced number of bytes follows, one way or the other, then OKAY or FAIL.
//!
//! U-Boot has no way to call off a download: it takes bytes until it has as many as announced. A [`Download`] is
//! therefore a guard. It takes exactly the announced bytes; dropped before that, it fills up with zeros, and the
//! [`Session`] then refuses to flash them.
//!
//! Sources: AOSP's fastboot README; U-Boot v2026.07 and NXP's 2023.04, read and run; traces of `uuu` 1.5.243.

mod command;
mod deadline;
mod download;
mod exchange;
mod reply;
mod session;
pub mod udp;

pub use command::{Command, CommandError, parse_number};
pub use deadline::{Deadlines, Pace};
pub use download::Download;
pub(crate) use exchange::Exchange;
pub use exchange::{FastbootError, Limits, Message};
pub use reply::{REPLY_BYTES, Reply, ReplyError};
pub use session::{Answer, Session, Staged};
