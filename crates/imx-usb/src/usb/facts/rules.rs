//! Which udev rules give access to a device?
//!
//! Reads the rules as udev does, as far as that can be done without the device: what a rule asks of the vendor, the
//! product and the subsystem is decided; what else it asks is taken to be true, and [`Rule::certain`] is false. Jumps
//! are not followed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use crate::usb::roots::Roots;

/// `TAG+="uaccess"` is read by the rules file of this name, so it has no effect in files that come later.
pub const LATE_RULES: &str = "73-seat-late.rules";

/// More than any file of rules has.
const LONGEST_FILE: u64 = 1 << 20;

/// A rule that gives somebody access to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its file.
    pub file: PathBuf,
    /// Its line, from 1 on; the first, if it has several.
    pub line: usize,
    /// What it gives.
    pub grants: Grants,
    /// It asks for this vendor or product, rather than for any USB device.
    pub named: bool,
    /// It asks for nothing that could not be decided here.
    pub certain: bool,
}

impl Rule {
    /// Does it give access to whoever sits at this machine, in a file that udev reads too late for that?
    pub fn is_late(&self) -> bool {
        self.grants.uaccess && self.file.file_name().is_some_and(|name| name.to_string_lossy().as_ref() > LATE_RULES)
    }
}

/// What a rule gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// Permission bits of the node.
    pub mode: Option<u32>,
    /// The node's group.
    pub group: Option<String>,
    /// The node's owner.
    pub owner: Option<String>,
    /// Access for whoever sits at this machine.
    pub uaccess: bool,
}

/// The rules that give access to a USB device with these identifiers, in the order in which udev reads them.
pub fn rules(roots: &Roots, vendor: u16, product: u16) -> Vec<Rule> {
    let ids = Ids { vendor: format!("{vendor:04x}"), product: format!("{product:04x}") };
    let mut files = BTreeMap::new();
    for folder in &roots.rules {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().ends_with(".rules") {
                files.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    let mut found = Vec::new();
    for file in files.into_values() {
        for (line, text) in joined(&read(&file)) {
            let Some((grants, named, certain)) = judge(&text, &ids) else { continue };
            found.push(Rule { file: file.clone(), line, grants, named, certain });
        }
    }
    found
}

fn read(file: &PathBuf) -> String {
    let mut bytes = Vec::new();
    // What cannot be read, udev cannot either; and a link to /dev/null says that there are no rules.
    let _ = File::open(file).and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Lines with their numbers; a backslash at the end joins the next one. Comments and empty lines are left out.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if line.starts_with('#') {
            // Also inside of a joined line.
            continue;
        }
        let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match found.last_mut().filter(|_| goes_on) {
            Some((_, whole)) => whole.push_str(part),
            None => found.push((number, part.to_owned())),
        }
        goes_on = more;
    }
    found.retain(|(_, line)| !line.trim().is_empty());
    found
}

struct Ids {
    vendor: String,
    product: String,
}

/// What a rule gives to a device; `None` if nothing, or it is not for that device.
fn judge(rule: &str, ids: &Ids) -> Option<(Grants, bool, bool)> {
    let (mut grants, mut named, mut certain) = (Grants::default(), false, true);
    for (key, operator, value) in tokens(rule)? {
        let upper = key.to_ascii_uppercase();
        match operator {
            "==" | "!=" => {
                let actual = match &*upper {
                    "ATTR{IDVENDOR}" | "ATTRS{IDVENDOR}" | "SYSFS{IDVENDOR}" | "ENV{ID_VENDOR_ID}" => &*ids.vendor,
                    "ATTR{IDPRODUCT}" | "ATTRS{IDPRODUCT}" | "SYSFS{IDPRODUCT}" | "ENV{ID_MODEL_ID}" => &*ids.product,
                    "SUBSYSTEM" | "SUBSYSTEMS" => "usb",
                    "ENV{DEVTYPE}" => "usb_device",
                    "ACTION" => "add",
                    // Devices on USB are named by numbers, as in 1-4.2; which they are is not known here.
                    "KERNEL" if operator == "==" && value.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                        return None;
                    }
                    _ => {
                        certain = false;
                        continue;
                    }
                };
                // Identifiers are written in small letters; udev compares them as they are.
                if value.split('|').any(|pattern| fits(pattern.as_bytes(), actual.as_bytes())) != (operator == "==") {
                    return None;
                }
                named |= (actual == ids.vendor || actual == ids.product) && operator == "==";
            }
            _ => match &*upper {
                "MODE" => grants.mode = u32::from_str_radix(value, 8).ok(),
                "GROUP" => grants.group = Some(value.to_owned()),
                "OWNER" => grants.owner = Some(value.to_owned()),
                "TAG" => grants.uaccess = (grants.uaccess || value == "uaccess") && operator != "-=",
                _ => {}
            },
        }
    }
    (grants != Grants::default()).then_some((grants, named, certain))
}

/// A rule's parts: key, operator, value. `None` if it is no rule.
fn tokens(mut rest: &str) -> Option<Vec<(&str, &str, &str)>> {
    const OPERATORS: [&str; 6] = ["==", "!=", "+=", "-=", ":=", "="];
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.trim_end().is_empty() {
            return Some(found);
        }
        let end = rest.find(['=', '!', '+', '-', ':', '"'])?;
        let (key, tail) = rest.split_at(end);
        let operator = OPERATORS.into_iter().find(|operator| tail.starts_with(operator))?;
        // A letter before the quotes: escapes are resolved (e), case does not matter (i).
        let value = tail.get(operator.len()..)?.trim_start().trim_start_matches(['e', 'i']).strip_prefix('"')?;
        let (value, tail) = value.split_once('"')?;
        found.push((key.trim(), operator, value));
        rest = tail;
    }
}

/// Does a pattern with `*`, `?` and `[…]` fit, as for file names?
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on after a star took one more byte.
    let (mut p, mut t, mut star) = (0, 0, None::<(usize, usize)>);
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => one_of(&pattern[p..], text[t]),
            Some(&byte) if byte == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => (p, t) = (p + length, t + 1),
            (None, Some((at, from))) => {
                (p, t) = (at + 1, from + 1);
                star = Some((at, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The length of a set in brackets, if `byte` is of it.
fn one_of(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|&byte| byte == b']')? + 2;
    let set = &pattern[1..end];
    let (set, inverted) = match set.split_first() {
        Some((b'!' | b'^', set)) => (set, true),
        _ => (set, false),
    };
    let ranges = set.windows(3).any(|range| range[1] == b'-' && (range[0]..=range[2]).contains(&byte));
    ((set.contains(&byte) || ranges) != inverted).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usb::tree::Tree;

    fn grants(rule: &str) -> Option<(Grants, bool, bool)> {
        judge(rule, &Ids { vendor: "1fc9".to_owned(), product: "0146".to_owned() })
    }

    fn uaccess() -> Grants {
        Grants { uaccess: true, ..Grants::default() }
    }

    #[test]
    fn what_a_rule_gives() {
        let uuu =
            r#"SUBSYSTEM=="usb", ATTRS{idVendor}=="1fc9", ATTRS{idProduct}=="0146", MODE="0666", GROUP="plugdev""#;
        let mode = Grants { mode: Some(0o666), group: Some("plugdev".to_owned()), ..Grants::default() };
        assert_eq!(grants(uuu), Some((mode, true, true)));
        let tag = r#"SUBSYSTEM=="usb",ATTR{idVendor}=="1fc9|15a2", TAG+="uaccess""#;
        assert_eq!(grants(tag), Some((uaccess(), true, true)));
        let any = r#"SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", MODE="0664""#;
        assert_eq!(grants(any).unwrap(), (Grants { mode: Some(0o664), ..Grants::default() }, false, true));
        let kernel = r#"KERNEL=="1-4", SUBSYSTEM=="usb", TAG+="uaccess""#;
        assert_eq!(grants(kernel), Some((uaccess(), false, false)));
        let glob = r#"ATTR{idVendor}=="1f??", ATTR{idProduct}=="01[0-4]*", ACTION!="remove", TAG+="uaccess""#;
        assert_eq!(grants(glob), Some((uaccess(), true, true)));
    }

    #[test]
    fn what_is_no_rule_for_it() {
        for rule in [
            r#"SUBSYSTEM=="usb", ATTR{idVendor}=="1FC9", TAG+="uaccess""#,
            r#"SUBSYSTEM=="tty", ATTRS{idVendor}=="1fc9", TAG+="uaccess""#,
            r#"SUBSYSTEM=="usb", ATTR{idVendor}=="1fc9", ATTR{idProduct}=="0147", TAG+="uaccess""#,
            r#"ATTR{idVendor}!="1fc9", TAG+="uaccess""#,
            r#"ATTR{idVendor}=="1fc9", TAG-="uaccess""#,
            r#"ATTR{idVendor}=="1fc9", SYMLINK+="board""#,
            r#"ACTION=="remove", TAG+="uaccess""#,
            r#"KERNEL=="legousbtower*", MODE="0666""#,
            r#"ATTR{idVendor}=="1fc9", TAG+="uaccess"#,
            "LABEL",
            "",
        ] {
            assert_eq!(grants(rule), None, "{rule}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text) in
            [("*", ""), ("1fc9", "1fc9"), ("1*9", "1fc9"), ("**9", "1fc9"), ("[!0]fc[0-9]", "1fc9"), ("*[9]", "99")]
        {
            assert!(fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "1"), ("1fc", "1fc9"), ("1fc9?", "1fc9"), ("[", "["), ("[]", "a"), ("*8", "1fc9"), ("[a-", "a")]
        {
            assert!(!fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn files_are_read_as_udev_reads_them() {
        let tree = Tree::new();
        let tag = r#"ATTR{idVendor}=="1fc9", TAG+="uaccess""#;
        tree.file("usr/lib/udev/rules.d/70-board.rules", tag).file("usr/lib/udev/rules.d/90-board.rules", tag);
        tree.file("etc/udev/rules.d/99-mine.rules", "# Mine\n\nATTR{idVendor}==\"1fc9\", \\\n  MODE=\"0666\"\n");
        tree.file("etc/udev/rules.d/README", tag).file("etc/udev/rules.d/90-board.rules", "");
        let found = rules(tree.roots(), 0x1fc9, 0x0146);
        let summary: Vec<_> = found.iter().map(|rule| (rule.file.clone(), rule.line, rule.is_late())).collect();
        let board = (tree.path("usr/lib/udev/rules.d/70-board.rules"), 1, false);
        assert_eq!(summary, [board, (tree.path("etc/udev/rules.d/99-mine.rules"), 3, false)]);
        assert_eq!(rules(tree.roots(), 0x1fc8, 0x0146), []);

        tree.file("run/udev/rules.d/95-late.rules", tag);
        assert!(rules(tree.roots(), 0x1fc9, 0x0146).iter().any(Rule::is_late));
    }
}
