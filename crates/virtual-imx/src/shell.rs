//! Enough of U-Boot's shell (hush) for what flashing tools send.
//!
//! `;`, `&&`, `||`, `if … then … elif … else … fi`, quotes, backslashes, `${name}`, `${name:-default}`, `$name`, `$?`,
//! `name=value`, and the commands listed in `shell/commands.rs`. Left out: loops, which none of those tools send, and `|`, `&` and
//! redirections, which hush in U-Boot does not have either.
//!
//! As in U-Boot, an unset variable outside quotes leaves no argument at all.

mod boot;
mod check;
mod commands;
mod inflate;
mod lz4;
mod mmc;
mod number;
mod parse;
mod part;

pub use number::hex;

use crate::machine::{Halt, Machine};
use parse::{Join, List, Node, Piece, Word};

/// The longest line that is taken.
pub const MAX_LINE: usize = 4095;
/// The most arguments of one command, its name included (`CONFIG_SYS_MAXARGS`).
pub const MAX_ARGS: usize = 64;
/// The most that a line may become by its variables.
const MAX_EXPANDED: usize = 64 << 10;
/// The most variables of the shell's own.
const MAX_LOCALS: usize = 1000;
/// How deep `run` may go.
const MAX_DEPTH: usize = 16;

/// Runs a line; the result is its exit status, 0 for success.
pub fn run(machine: &mut Machine, line: &str) -> Result<i32, Halt> {
    Shell { machine, status: 0, depth: 0 }.line(line)
}

struct Shell<'m> {
    machine: &'m mut Machine,
    status: i32,
    depth: usize,
}

impl Shell<'_> {
    fn line(&mut self, line: &str) -> Result<i32, Halt> {
        if line.len() > MAX_LINE || self.depth > MAX_DEPTH {
            self.machine.print("** Too long or too deep **\n");
            return Ok(1);
        }
        match parse::parse(line) {
            Ok(list) => self.list(&list),
            Err(problem) => {
                self.machine.print(&format!("syntax error: {problem}\n"));
                Ok(1)
            }
        }
    }

    fn list(&mut self, list: &List) -> Result<i32, Halt> {
        self.status = 0;
        for (join, node) in list {
            let wanted = match join {
                Join::Always => true,
                Join::And => self.status == 0,
                Join::Or => self.status != 0,
            };
            if wanted {
                self.status = self.node(node)?;
            }
        }
        Ok(self.status)
    }

    fn node(&mut self, node: &Node) -> Result<i32, Halt> {
        match node {
            Node::Command(words) => self.command(words),
            Node::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.list(condition)? == 0 {
                        return self.list(body);
                    }
                }
                otherwise.as_ref().map_or(Ok(0), |body| self.list(body))
            }
        }
    }

    fn command(&mut self, words: &[Word]) -> Result<i32, Halt> {
        let mut fields = Vec::new();
        let mut room = MAX_EXPANDED;
        for word in words {
            if !self.expand(word, &mut fields, &mut room) {
                self.machine.print("** Command too long **\n");
                return Ok(1);
            }
        }
        if fields.len() > MAX_ARGS {
            self.machine.print(&format!("** Too many args (max. {MAX_ARGS}) **\n"));
            return Ok(1);
        }
        let args: Vec<&str> = fields.iter().map(String::as_str).collect();
        let Some((name, rest)) = args.split_first() else { return Ok(0) };
        if let (Some((name, value)), true) = (name.split_once('='), rest.is_empty())
            && parse::is_name(name)
            && self.machine.locals.len() < MAX_LOCALS
        {
            self.machine.locals.insert(name.to_owned(), value.to_owned());
            return Ok(0);
        }
        self.machine.spend(self.machine.timing.shell_command);
        if *name == "run" {
            return self.run(rest);
        }
        commands::run(self.machine, name, rest)
    }

    fn run(&mut self, names: &[&str]) -> Result<i32, Halt> {
        for name in names {
            let Some(line) = self.machine.env(name).map(str::to_owned) else {
                self.machine.print(&format!("## Error: \"{name}\" not defined\n"));
                return Ok(1);
            };
            self.depth += 1;
            let status = self.line(&line)?;
            self.depth -= 1;
            if status != 0 {
                return Ok(1);
            }
        }
        Ok(i32::from(names.is_empty()))
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "?" => Some(self.status.to_string()),
            _ => self.machine.locals.get(name).cloned().or_else(|| self.machine.env(name).map(str::to_owned)),
        }
    }

    /// Adds the fields of a word. `false`: too long.
    fn expand(&self, word: &Word, fields: &mut Vec<String>, room: &mut usize) -> bool {
        let mut field: Option<String> = None;
        for piece in word {
            let (text, quoted) = match piece {
                Piece::Text(text) => (text.clone(), true),
                Piece::Variable { name, default, quoted } => {
                    let value = self.value(name).filter(|value| !value.is_empty());
                    (value.or_else(|| default.clone()).unwrap_or_default(), *quoted)
                }
            };
            let Some(left) = room.checked_sub(text.len()) else { return false };
            *room = left;
            if quoted {
                field.get_or_insert_default().push_str(&text);
                continue;
            }
            // Outside quotes spaces in a value part fields.
            for (n, part) in text.split(char::is_whitespace).enumerate() {
                if n > 0 {
                    fields.extend(field.take());
                }
                if !part.is_empty() {
                    field.get_or_insert_default().push_str(part);
                }
            }
        }
        fields.extend(field);
        true
    }
}

#[cfg(test)]
mod tests;
