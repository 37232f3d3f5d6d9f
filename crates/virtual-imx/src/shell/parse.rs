//! From a line to commands.

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands; quotes and backslashes are gone.
    Text(String),
    /// A variable's value.
    Variable { name: String, default: Option<String>, quoted: bool },
}

pub(super) type Word = Vec<Piece>;

/// When a command runs, by the status of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Always,
    And,
    Or,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Command(Vec<Word>),
    If { arms: Vec<(List, List)>, otherwise: Option<List> },
}

pub(super) type List = Vec<(Join, Node)>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A word, and whether it is plain: without quotes, it may be `if` or `fi`.
    Word(Word, bool),
    Semicolon,
    And,
    Or,
}

/// How deep `if` may go.
const MAX_NESTING: usize = 32;

/// May a variable be called that, in `name=value` and after `$`?
pub(super) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

pub(super) fn parse(line: &str) -> Result<List, &'static str> {
    let tokens = lex(line)?;
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let list = parser.list(&[])?;
    if parser.at < parser.tokens.len() { Err("unexpected word") } else { Ok(list) }
}

fn lex(line: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            ' ' | '\t' | '\r' => {
                chars.next();
            }
            ';' | '\n' => {
                chars.next();
                tokens.push(Token::Semicolon);
            }
            '&' | '|' => {
                chars.next();
                if chars.next_if_eq(&c).is_none() {
                    return Err("& and | are not supported");
                }
                tokens.push(if c == '&' { Token::And } else { Token::Or });
            }
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            _ => tokens.push(word(&mut chars)?),
        }
    }
    Ok(tokens)
}

type Chars<'l> = std::iter::Peekable<std::str::Chars<'l>>;

fn word(chars: &mut Chars<'_>) -> Result<Token, &'static str> {
    let mut pieces: Word = Vec::new();
    let mut plain = true;
    let mut text: Option<String> = None;
    while let Some(&c) = chars.peek() {
        match c {
            ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' => break,
            '\'' => {
                chars.next();
                plain = false;
                let into = text.get_or_insert_default();
                loop {
                    match chars.next().ok_or("unterminated '")? {
                        '\'' => break,
                        c => into.push(c),
                    }
                }
            }
            '"' => {
                chars.next();
                plain = false;
                text.get_or_insert_default();
                double_quoted(chars, &mut pieces, &mut text)?;
            }
            '\\' => {
                chars.next();
                plain = false;
                text.get_or_insert_default().extend(chars.next());
            }
            '$' => {
                chars.next();
                plain = false;
                variable(chars, false, &mut pieces, &mut text)?;
            }
            c => {
                chars.next();
                text.get_or_insert_default().push(c);
            }
        }
    }
    pieces.extend(text.map(Piece::Text));
    Ok(Token::Word(pieces, plain))
}

fn double_quoted(chars: &mut Chars<'_>, pieces: &mut Word, text: &mut Option<String>) -> Result<(), &'static str> {
    loop {
        match chars.next().ok_or("unterminated \"")? {
            '"' => return Ok(()),
            '\\' => {
                // Only what means something in quotes is escaped.
                let c = chars.next().ok_or("unterminated \"")?;
                if !matches!(c, '"' | '\\' | '$') {
                    text.get_or_insert_default().push('\\');
                }
                text.get_or_insert_default().push(c);
            }
            '$' => variable(chars, true, pieces, text)?,
            c => text.get_or_insert_default().push(c),
        }
    }
}

fn variable(
    chars: &mut Chars<'_>,
    quoted: bool,
    pieces: &mut Word,
    text: &mut Option<String>,
) -> Result<(), &'static str> {
    let mut name = String::new();
    let mut default = None;
    if chars.next_if_eq(&'{').is_some() {
        loop {
            match chars.next().ok_or("unterminated ${")? {
                '}' => break,
                c => name.push(c),
            }
        }
        if let Some((before, after)) = name.split_once(":-") {
            default = Some(after.to_owned());
            name = before.to_owned();
        }
    } else if chars.next_if_eq(&'?').is_some() {
        name.push('?');
    } else {
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
    }
    if name.is_empty() {
        text.get_or_insert_default().push('$');
    } else {
        pieces.extend(text.take().map(Piece::Text));
        pieces.push(Piece::Variable { name, default, quoted });
    }
    Ok(())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    /// The plain word that comes next.
    fn keyword(&self) -> Option<&str> {
        match self.tokens.get(self.at)? {
            Token::Word(word, true) => match word.as_slice() {
                [Piece::Text(text)] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Commands up to one of the words in `until`, which stays. A list may be empty: `then ; else` is sent by tools.
    fn list(&mut self, until: &[&str]) -> Result<List, &'static str> {
        let mut list = Vec::new();
        let mut join = Join::Always;
        loop {
            if self.keyword().is_some_and(|word| until.contains(&word)) {
                break;
            }
            match self.tokens.get(self.at) {
                None => break,
                Some(Token::Semicolon) => {
                    self.at += 1;
                    if join != Join::Always {
                        return Err("unexpected ;");
                    }
                }
                Some(Token::And | Token::Or) => return Err("unexpected && or ||"),
                Some(Token::Word(..)) => {
                    let node = self.node()?;
                    list.push((join, node));
                    join = match self.tokens.get(self.at) {
                        Some(Token::And) => Join::And,
                        Some(Token::Or) => Join::Or,
                        _ => Join::Always,
                    };
                    if join != Join::Always {
                        self.at += 1;
                    }
                }
            }
        }
        if join == Join::Always { Ok(list) } else { Err("nothing after && or ||") }
    }

    fn node(&mut self) -> Result<Node, &'static str> {
        match self.keyword() {
            Some("if") => return self.conditional(),
            Some("then" | "else" | "elif" | "fi") => return Err("unexpected then, else, elif or fi"),
            Some("for" | "while" | "until" | "do" | "done") => return Err("loops are not supported"),
            _ => {}
        }
        let mut words = Vec::new();
        while let Some(Token::Word(word, _)) = self.tokens.get(self.at) {
            words.push(word.clone());
            self.at += 1;
        }
        Ok(Node::Command(words))
    }

    fn expect(&mut self, word: &str, problem: &'static str) -> Result<(), &'static str> {
        if self.keyword() == Some(word) {
            self.at += 1;
            Ok(())
        } else {
            Err(problem)
        }
    }

    fn conditional(&mut self) -> Result<Node, &'static str> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err("if goes too deep");
        }
        let mut arms = Vec::new();
        let mut otherwise = None;
        self.at += 1;
        loop {
            let condition = self.list(&["then"])?;
            self.expect("then", "if without then")?;
            let body = self.list(&["elif", "else", "fi"])?;
            arms.push((condition, body));
            match self.keyword() {
                Some("elif") => self.at += 1,
                Some("else") => {
                    self.at += 1;
                    otherwise = Some(self.list(&["fi"])?);
                    break;
                }
                _ => break,
            }
        }
        self.expect("fi", "if without fi")?;
        self.depth -= 1;
        Ok(Node::If { arms, otherwise })
    }
}
