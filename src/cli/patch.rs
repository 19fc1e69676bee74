//! What differs between two texts: by members, or by lines.

use std::io::IsTerminal;
use std::ops::Range;
use std::time::Duration;

use clap::Args;
use similar::{ChangeTag, TextDiff};

use super::color::{Color, Paint};
use super::exit::CliError;
use super::text::{Out, quoted, shown, visible};
use crate::document::{self, Change, Kind};

/// How long the shortest list of lines is looked for; then a longer one will do.
const LOOKING: Duration = Duration::from_secs(2);

/// How differences are shown.
#[derive(Clone, Copy, Debug, Args)]
pub struct Form {
    #[command(flatten)]
    color: Color,
    /// Show lines as `diff -u` does, with so many around each change (3): those of the stored texts, or, where one of the two
    /// stands on one line, a line for each member
    #[arg(short = 'U', long, value_name = "LINES", num_args = 0..=1, default_missing_value = "3", require_equals = true)]
    unified: Option<usize>,
}

impl Form {
    pub fn paint(&self) -> Paint {
        self.color.paint()
    }
}

/// Two texts.
pub struct Patch<'a> {
    old: &'a [u8],
    new: &'a [u8],
}

impl<'a> Patch<'a> {
    pub fn new(old: &'a [u8], new: &'a [u8]) -> Patch<'a> {
        Patch { old, new }
    }

    /// Prints what differs, if something does, below what both are called. Whether something did.
    pub fn print(&self, form: &Form, heads: Option<[&str; 2]>, out: &mut Out) -> Result<bool, CliError> {
        match form.unified {
            Some(around) => self.print_lines(around, form.paint(), heads, out),
            None => self.print_members(form.paint(), heads, out),
        }
    }

    fn print_members(&self, paint: Paint, heads: Option<[&str; 2]>, out: &mut Out) -> Result<bool, CliError> {
        let changes = document::diff(self.old, self.new);
        if changes.is_empty() {
            return Ok(false);
        }
        print_heads(heads, paint, out)?;
        for change in &changes {
            let path = if change.path.is_empty() { "the whole text" } else { &shown(&change.path) };
            if let Some(value) = value(self.old, &change.old) {
                out.line(paint.red(format!("-{path}: {}", visible_line(value))))?;
            }
            if let Some(value) = value(self.new, &change.new) {
                out.line(paint.green(format!("+{path}: {}", visible_line(value))))?;
            }
        }
        Ok(true)
    }

    fn print_lines(
        &self,
        around: usize,
        paint: Paint,
        heads: Option<[&str; 2]>,
        out: &mut Out,
    ) -> Result<bool, CliError> {
        // What is laid out by hand is shown so, and can be patched.
        let laid_out = |text: &[u8]| text.trim_ascii_end().contains(&b'\n') || document::check(text).is_err();
        let text = |text: &[u8]| match laid_out(self.old) && laid_out(self.new) {
            true => String::from_utf8_lossy(text).into_owned(),
            false => match document::check(text) {
                Ok(()) => String::from_utf8_lossy(&document::lines(text)).into_owned(),
                Err(_) => String::from_utf8_lossy(text).into_owned(),
            },
        };
        let (old, new) = (text(self.old), text(self.new));
        if old == new {
            return Ok(false);
        }
        let escape = std::io::stdout().is_terminal();
        print_heads(heads, paint, out)?;
        let diff = TextDiff::configure().timeout(LOOKING).diff_lines(old.as_str(), new.as_str());
        for hunk in diff.unified_diff().context_radius(around).iter_hunks() {
            out.line(paint.cyan(hunk.header()))?;
            for change in hunk.iter_changes() {
                let line = change.value().trim_end_matches('\n');
                let line = if escape { shown(line) } else { line.to_owned() };
                out.line(match change.tag() {
                    ChangeTag::Equal => format!(" {line}"),
                    ChangeTag::Delete => paint.red(format!("-{line}")),
                    ChangeTag::Insert => paint.green(format!("+{line}")),
                })?;
                if change.missing_newline() {
                    out.line("\\ No newline at end of file")?;
                }
            }
        }
        Ok(true)
    }

    /// A list of members as JSON.
    pub fn json(&self) -> String {
        let raw = |name: &str, text: &[u8], span: &Option<Range<usize>>| match (span, value(text, span)) {
            (Some(span), Some(value)) if *span == (0..text.len()) && document::check(value).is_err() => {
                format!(",\"{name}\":{}", quoted(&String::from_utf8_lossy(value)))
            }
            (_, Some(value)) => {
                format!(",\"{name}\":{}", String::from_utf8_lossy(&document::compact(value)))
            }
            (_, None) => String::new(),
        };
        let change = |change: &Change| {
            let kind = match change.kind {
                Kind::Added => "added",
                Kind::Removed => "removed",
                Kind::Changed => "changed",
            };
            let (before, after) = (raw("old", self.old, &change.old), raw("new", self.new, &change.new));
            // The path is written as it stands in a JSON string.
            format!("{{\"path\":\"{}\",\"kind\":\"{kind}\"{before}{after}}}", change.path)
        };
        let changes: Vec<String> = document::diff(self.old, self.new).iter().map(change).collect();
        format!("[{}]", changes.join(","))
    }
}

fn print_heads(heads: Option<[&str; 2]>, paint: Paint, out: &mut Out) -> Result<(), CliError> {
    let Some([old, new]) = heads else { return Ok(()) };
    out.line(paint.bold(format!("--- {old}")))?;
    out.line(paint.bold(format!("+++ {new}")))
}

fn value<'a>(text: &'a [u8], span: &Option<Range<usize>>) -> Option<&'a [u8]> {
    text.get(span.clone()?)
}

/// A value on one line. (A text that is no JSON may hold anything.)
fn visible_line(value: &[u8]) -> String {
    visible(value).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
