//! Numbers and foreign text in the form people read.

use std::time::Duration;

const UNITS: [(&str, u64); 5] =
    [("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size with one decimal and the unit that fits: `13.1 GiB`; below 1 KiB in bytes.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, factor) in UNITS {
        if bytes >= factor {
            let tenths = (u128::from(bytes) * 10 + u128::from(factor) / 2) / u128::from(factor);
            // 1023.96 KiB rounds to 1024.0 KiB; leave it, the next unit would say 1.0 and hide that it is less.
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

/// The same with the exact number behind it: `13.1 GiB (14079238144 bytes)`.
pub(crate) fn exact(bytes: u64) -> String {
    if bytes < 1024 { size(bytes) } else { format!("{} ({bytes} bytes)", size(bytes)) }
}

/// How much of `whole` that is, with one decimal: `14.5 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "100.0 %".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// How many times `part` goes into `whole`, to two decimals.
pub(crate) fn ratio(whole: u64, part: u64) -> Option<f64> {
    let hundredths = (u128::from(whole) * 100 + u128::from(part) / 2).checked_div(u128::from(part))?;
    u32::try_from(hundredths).ok().map(|hundredths| f64::from(hundredths) / 100.0)
}

/// Bytes a second, or `None` when no time has passed.
pub(crate) fn rate(bytes: u64, within: Duration) -> Option<u64> {
    let micros = within.as_micros();
    (u128::from(bytes) * 1_000_000).checked_div(micros).map(|rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

/// A span of time: `120 ms`, `3.4 s`, `2 min 05 s`, `1 h 02 min`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Text from an image, a disk or a file name, with control and direction characters made visible, so that it cannot
/// drive a terminal or pose as something else.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `1 partition`, `2 partitions`.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// The text broken between words into lines of fewer than `columns`; those behind the first stand in by four. A word
/// that is longer has a line for itself, so that it can be copied.
pub(crate) fn wrapped(text: &str, columns: usize) -> String {
    const INDENT: &str = "    ";
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut now = String::new();
        for (number, word) in line.split(' ').enumerate() {
            let wide = console::measure_text_width(&now) + 1 + console::measure_text_width(word);
            // Spaces in front of a line are kept.
            if number > 0 && !now.trim().is_empty() && wide >= columns {
                lines.push(std::mem::replace(&mut now, format!("{INDENT}{word}")));
                continue;
            }
            if number > 0 {
                now.push(' ');
            }
            now.push_str(word);
        }
        lines.push(now);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (795 << 20, "795.0 MiB"),
            (14_079_238_144, "13.1 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(exact(2048), "2.0 KiB (2048 bytes)");
        assert_eq!(percent(145, 1000), "14.5 %");
        assert_eq!(percent(0, 0), "100.0 %");
    }

    #[test]
    fn times() {
        assert_eq!(span(Duration::from_millis(999)), "999 ms");
        assert_eq!(span(Duration::from_millis(3_460)), "3.4 s");
        assert_eq!(span(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(span(Duration::from_secs(3_725)), "1 h 02 min");
        assert_eq!(rate(100, Duration::from_millis(500)), Some(200));
        assert_eq!(rate(100, Duration::ZERO), None);
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(printable("root\x1b[2Jfs\n"), "root\\u{1b}[2Jfs\\n");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("Größe"), "Größe");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 80), "one two three");
        assert_eq!(wrapped("one two three", 9), "one two\n    three");
        assert_eq!(wrapped("  one two", 7), "  one\n    two");
        assert_eq!(wrapped("one\ntwo", 3), "one\ntwo");
        assert_eq!(wrapped("/a/long/path is a path", 8), "/a/long/path\n    is\n    a\n    path");
        assert_eq!(wrapped("", 8), "");
    }
}
