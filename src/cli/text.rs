//! What the commands print.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use super::exit::CliError;
use crate::document;
use crate::rev::Rev;

/// Standard output, buffered. What was written is only there after [`finish`](Out::finish).
pub struct Out(BufWriter<io::StdoutLock<'static>>);

impl Out {
    pub fn stdout() -> Out {
        Out(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    /// The bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.0.write_all(bytes).map_err(CliError::Output)
    }

    /// A line of text.
    pub fn line(&mut self, line: impl Display) -> Result<(), CliError> {
        writeln!(self.0, "{line}").map_err(CliError::Output)
    }

    /// The bytes, and a line break where they do not end in one.
    pub fn text(&mut self, text: &[u8]) -> Result<(), CliError> {
        self.bytes(text)?;
        if text.ends_with(b"\n") { Ok(()) } else { self.bytes(b"\n") }
    }

    /// Hands everything over.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.0.flush().map_err(CliError::Output)
    }

    pub fn finish(mut self) -> Result<(), CliError> {
        self.0.flush().map_err(CliError::Output)
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON value on one line and without a character that a terminal would act on: those stand escaped in its strings.
pub fn visible(value: &[u8]) -> String {
    let line = document::compact(value);
    String::from_utf8_lossy(&line).chars().fold(String::new(), |mut line, c| {
        // Others cannot stand in one, or the text is no JSON.
        if is_acted_on(c) && !c.is_ascii_control() || c == '\u{7f}' {
            escape(c, &mut line)
        } else {
            line.push(c)
        }
        line
    })
}

/// A text without a character that a terminal would act on, as in a JSON string; a tab stays.
pub fn shown(text: &str) -> String {
    text.chars().fold(String::new(), |mut line, c| {
        if is_acted_on(c) && c != '\t' {
            escape(c, &mut line)
        } else {
            line.push(c)
        }
        line
    })
}

fn escape(c: char, line: &mut String) {
    *line += &format!("\\u{:04x}", u32::from(c));
}

fn is_acted_on(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of [`visible`], at most `limit` characters.
pub fn brief(value: &[u8], limit: usize) -> String {
    let line = visible(value);
    match line.char_indices().nth(limit) {
        Some(_) => line.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
        None => line,
    }
}

/// Conflicts in the shape that the original library's getConflicts returns: a list of lists of names.
pub fn groups(conflicts: &[Vec<Rev>]) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    let group = |revs: &Vec<Rev>| list(revs.iter().map(|rev| quoted(rev.as_str())).collect());
    list(conflicts.iter().map(group).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_on_one_line_and_do_nothing_to_a_terminal() {
        assert_eq!(visible("{\n \"a\": \"x\u{9b}31m\u{202e}\" }".as_bytes()), r#"{"a":"x\u009b31m\u202e"}"#);
        assert_eq!((brief(b"[1, 2]", 5), brief(b"[1, 22]", 5)), ("[1,2]".into(), "[1,2…".into()));
        assert_eq!(brief("\"ééééé\"".as_bytes(), 4), "\"éé…");
    }
}
