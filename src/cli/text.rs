//! What the commands print.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

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

/// A point in time in UTC, to the second: `2026-01-31T23:59:59Z`.
pub fn utc(time: SystemTime) -> String {
    let furthest = if time < UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.0}", Timestamp::try_from(time).unwrap_or(furthest))
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON value on one line and without a character that a terminal would act on: those stand escaped in its strings.
pub fn visible(value: &[u8]) -> String {
    let mut line = String::new();
    for c in String::from_utf8_lossy(&document::compact(value)).chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                line += &format!("\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line
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
    use std::time::Duration;

    #[test]
    fn dates() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(utc(UNIX_EPOCH - Duration::from_secs(1)), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn no_date_panics() {
        if let Some(late) = UNIX_EPOCH.checked_add(Duration::from_secs(i64::MAX as u64)) {
            assert!(utc(late).ends_with('Z'));
        }
        if let Some(early) = UNIX_EPOCH.checked_sub(Duration::from_secs(i64::MAX as u64)) {
            assert!(utc(early).ends_with('Z'));
        }
    }

    #[test]
    fn values_are_shown_on_one_line_and_do_nothing_to_a_terminal() {
        assert_eq!(visible("{\n \"a\": \"x\u{9b}31m\u{202e}\" }".as_bytes()), r#"{"a":"x\u009b31m\u202e"}"#);
        assert_eq!((brief(b"[1, 2]", 5), brief(b"[1, 22]", 5)), ("[1,2]".into(), "[1,2…".into()));
        assert_eq!(brief("\"ééééé\"".as_bytes(), 4), "\"éé…");
    }
}
