//! What a board received and did, by its own log, and how long it did nothing although it could have.
//!
//! The way of one board is cut at the commands that judge. The first `flash` clears the old head, and what judges next is
//! its proof; behind that, up to the next command that judges, is the write phase; then the proof of the body; the head is
//! what is left.

use serde_json::Value;

use crate::Problem;
use crate::works::COMMAND;

/// A stretch of a board's time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Span {
    /// From its first command to its last answer, in seconds.
    pub(crate) seconds: f64,
    /// Bytes that came.
    pub(crate) received: u64,
    /// Commands that came.
    pub(crate) commands: u64,
    /// How long it worked, commands included.
    pub(crate) worked: f64,
}

impl Span {
    /// How long it neither received nor worked.
    pub(crate) fn idle(&self, bus_rate: f64) -> f64 {
        self.seconds - self.worked - crate::float(self.received) / bus_rate
    }

    pub(crate) fn command_time(&self) -> f64 {
        crate::float(self.commands) * COMMAND
    }
}

/// The phases of one board, and how much it received in all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    pub(crate) write: Span,
    pub(crate) proof: Span,
    pub(crate) received: u64,
    /// Commands, in all.
    pub(crate) commands: u64,
}

/// Which part of its way a board is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Asked,
    Clear,
    Cleared,
    Write,
    Proof,
    Rest,
}

struct Open {
    span: Span,
    from: f64,
    to: f64,
}

impl Open {
    fn new() -> Self {
        Self { span: Span::default(), from: f64::NAN, to: f64::NAN }
    }

    fn close(self) -> Span {
        Span { seconds: self.to - self.from, ..self.span }
    }
}

/// Reads the log of the board at `port`.
pub(crate) fn read(log: &str, port: &str) -> Result<Account, Problem> {
    let mut part = Part::Asked;
    let (mut write, mut proof) = (Open::new(), Open::new());
    let (mut received, mut commands) = (0, 0);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["port"] != *port {
            continue;
        }
        let time = line["t"].as_f64().ok_or("a line of the log has no time")?;
        if let Some(command) = line["command"].as_str() {
            commands += 1;
            let judges = command.contains("crc32 -v") || command.contains("hash sha256");
            let download = command.starts_with("download:");
            part = match part {
                Part::Asked if command.starts_with("flash:") => Part::Clear,
                Part::Clear if judges => Part::Cleared,
                Part::Cleared if download => Part::Write,
                Part::Write if judges => Part::Proof,
                Part::Proof if download => Part::Rest,
                part => part,
            };
        }
        let open = match part {
            Part::Write => Some(&mut write),
            Part::Proof => Some(&mut proof),
            _ => None,
        };
        let bytes = line["out"].as_u64().unwrap_or(0);
        received += bytes;
        let Some(open) = open else { continue };
        open.span.received += bytes;
        if line["command"].is_string() {
            open.span.commands += 1;
            // The command itself took 10 ms from when it came.
            open.from = open.from.min(time);
        }
        open.span.worked += line["worked"].as_f64().unwrap_or(0.0);
        if line["answer"].is_string() {
            open.to = time;
        }
    }
    Ok(Account { write: write.close(), proof: proof.close(), received, commands })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_cut_at_what_judges() {
        let event = |t: f64, key: &str, value: Value| {
            let mut line = serde_json::json!({"t": t, "port": "1-1"});
            line[key] = value;
            line.to_string()
        };
        let download = |t| event(t, "command", "download:1".into());
        let judge = |t| event(t, "command", "UCmd:mmc dev 2 0 && mmc read 1 2 3 && crc32 -v 1 2 3".into());
        let lines = [
            judge(0.0),
            download(0.1),
            event(0.2, "command", "flash:all".into()),
            judge(0.3),
            download(1.0),
            event(2.0, "out", 1_000.into()),
            event(2.0, "worked", 0.25.into()),
            event(3.0, "answer", "OKAY".into()),
            r#"{"t":3.1,"port":"1-2","out":5}"#.to_owned(),
            judge(4.0),
            event(4.0, "worked", 0.5.into()),
            event(4.75, "answer", "OKAY".into()),
            download(5.0),
            event(6.0, "out", 10.into()),
        ];
        let account = read(&lines.join("\n"), "1-1").unwrap();
        assert_eq!(account.received, 1010);
        assert_eq!(account.write, Span { seconds: 2.0, received: 1000, commands: 1, worked: 0.25 });
        assert_eq!(account.proof, Span { seconds: 0.75, received: 0, commands: 1, worked: 0.5 });
        assert!((account.write.idle(1000.0) - 0.75).abs() < 1e-9);
    }
}
