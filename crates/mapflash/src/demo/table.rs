//! The table that the demo ends with.

use std::io::{self, Write as _};
use std::time::Duration;

use crate::render::text::{size, span};

/// Bytes a second that an ordinary SD card takes: what the reckoning below the table goes by.
const CARD: u64 = 20_000_000;

/// One way of writing the image, as measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// What people call it.
    pub(super) name: &'static str,
    /// Bytes written.
    pub(super) written: u64,
    /// Bytes read back and compared.
    pub(super) read_back: u64,
    /// From the first byte read to the last one proven.
    pub(super) time: Duration,
}

/// The rows under a heading, the last one compared with the first.
pub(super) fn table(rows: &[Row]) -> String {
    let mut lines = vec![String::new(), format!("{:<12}{:>12}{:>12}{:>10}", "", "written", "read back", "time")];
    for row in rows {
        let cells = [size(row.written), size(row.read_back), span(row.time)];
        lines.push(format!("{:<12}{:>12}{:>12}{:>10}", row.name, cells[0], cells[1], cells[2]));
    }
    if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
        let bytes = tenths(u128::from(first.written), u128::from(last.written));
        let time = tenths(first.time.as_micros(), last.time.as_micros());
        let on_a_card = |row: &Row| span(Duration::from_millis(row.written * 1000 / CARD));
        lines.push(format!(
            "{bytes} times fewer bytes, {time} times as fast on this disk. A card that writes 20 MB/s would take"
        ));
        lines.push(format!("{} for writing alone, or {} by the map.", on_a_card(first), on_a_card(last)));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The quotient with one decimal.
fn tenths(part: u128, whole: u128) -> String {
    let tenths = part * 10 / whole.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The same for programs.
pub(super) fn json(rows: &[Row]) -> serde_json::Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let seconds = row.time.as_secs_f64();
            serde_json::json!({
                "name": row.name, "written": row.written, "read_back": row.read_back, "seconds": seconds,
            })
        })
        .collect();
    serde_json::json!({ "command": "demo", "status": 0, "ways": rows })
}

/// Prints to standard output; nobody can be told when that fails.
pub(super) fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_is_compared_with_the_first() {
        let row =
            |name, written, millis| Row { name, written, read_back: written, time: Duration::from_millis(millis) };
        let text = table(&[row("dd and cmp", 512 << 20, 4000), row("mapflash", 64 << 20, 1000)]);
        assert!(text.contains("dd and cmp     512.0 MiB   512.0 MiB     4.0 s\n"), "{text}");
        assert!(text.contains("8.0 times fewer bytes, 4.0 times as fast on this disk."), "{text}");
        assert!(text.contains("26.8 s for writing alone, or 3.3 s by the map."), "{text}");
    }
}
