//! Asking at the terminal what becomes of two texts, member by member.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::process::Command;

use super::color::Paint;
use super::text::{brief, visible};
use crate::document::{self, Overlap, Pick};
use crate::error::{Error, Result};
use crate::resolve::{Pair, Verdict, Workplace};
use crate::rev::{ObjectId, Rev};

/// How much of a value is shown.
const SHOWN: usize = 200;

/// Asks on standard error, reads answers from standard input.
pub struct Asker {
    paint: Paint,
    /// What was asked about last.
    asked: Option<(ObjectId, Rev)>,
}

/// What is to be done with one member.
enum Answer {
    Pick(Pick),
    /// The whole text goes to the editor.
    Whole,
    Skip,
    Quit,
}

impl Asker {
    pub fn new() -> Asker {
        Asker { paint: Paint::for_errors(), asked: None }
    }

    /// Asks about each member that both changed, each that differs where no base is known.
    ///
    /// # Errors
    /// [`Error::Io`] where the editor's file cannot be made.
    pub fn settle(&mut self, pair: &Pair) -> Result<Verdict> {
        let paint = self.paint;
        let now = Some((pair.id.clone(), pair.loser.clone()));
        if self.asked == now {
            eprintln!("{} changed meanwhile; once more", pair.id);
        }
        self.asked = now;
        let made_from = match pair.base {
            Some(base) => format!("both made from {}", base.rev),
            None => "nobody knows what both were made from".into(),
        };
        let head = format!("{}: ours {}, theirs {}, {made_from}", pair.id, pair.winner, pair.loser);
        eprintln!("{}", paint.bold(head));
        let base = pair.base.map(|base| base.text.as_slice());
        let (mut end, mut failed, mut count) = (None, Ok(()), 0);
        let merged = document::three_way(base, pair.ours, pair.theirs, |overlap| {
            if end.is_some() || failed.is_err() {
                return Pick::Ours;
            }
            count += 1;
            match self.member(pair, overlap) {
                Ok(Answer::Pick(pick)) => return pick,
                Ok(other) => end = Some(other),
                Err(e) => failed = Err(e),
            }
            Pick::Ours
        })?;
        failed?;
        match end {
            Some(Answer::Quit) => return Ok(Verdict::Stop),
            Some(Answer::Skip) => return Ok(Verdict::Leave("it was skipped".into())),
            Some(Answer::Whole) => return self.whole(pair, &merged),
            Some(Answer::Pick(_)) | None => {}
        }
        for change in document::diff(pair.ours, &merged).iter().filter(|_| count == 0) {
            let value = change.new.clone().and_then(|span| merged.get(span));
            let value = value.map_or("taken out".into(), |value| brief(value, SHOWN));
            eprintln!("{} {value}: changed by theirs alone", change.path);
        }
        Ok(Verdict::Text(merged))
    }

    fn member(&self, pair: &Pair, overlap: &Overlap) -> Result<Answer> {
        let paint = self.paint;
        loop {
            eprintln!("{}", overlap.path);
            let show = |value: Option<&[u8]>| value.map_or("none".into(), |value| brief(value, SHOWN));
            if pair.base.is_some() {
                eprintln!("  base    {}", show(overlap.base));
            }
            eprintln!("  ours    {}", paint.green(show(overlap.ours)));
            eprintln!("  theirs  {}", paint.red(show(overlap.theirs)));
            eprint!("[o]urs, [t]heirs, [e]dit, [w]hole text, [s]kip this revision, [q]uit? ");
            let _ = std::io::stderr().flush();
            let Some(line) = line() else {
                eprintln!();
                return Ok(Answer::Quit);
            };
            let answer = match line.trim() {
                "o" | "ours" => Answer::Pick(Pick::Ours),
                "t" | "theirs" => Answer::Pick(Pick::Theirs),
                "s" | "skip" => Answer::Skip,
                "q" | "quit" => Answer::Quit,
                "w" | "whole" => Answer::Whole,
                "e" | "edit" => match self.edit_member(pair, overlap)? {
                    Some(value) => Answer::Pick(Pick::Value(value)),
                    None => continue,
                },
                _ => continue,
            };
            return Ok(answer);
        }
    }

    /// One value in the editor, the three sides above it as remarks.
    fn edit_member(&self, pair: &Pair, overlap: &Overlap) -> Result<Option<Vec<u8>>> {
        let sides = [("base", overlap.base), ("ours", overlap.ours), ("theirs", overlap.theirs)];
        let mut text = format!(
            "# {} of {}. Leave one JSON value; lines that start with # do not count.\n",
            overlap.path, pair.id
        );
        for (side, value) in sides {
            text += &format!("# {side}: {}\n", value.map_or("none".into(), visible));
        }
        let start = overlap.ours.or(overlap.theirs).unwrap_or_default();
        let edited = edit("member.json", [text.as_bytes(), start, b"\n"].concat())?;
        let Some(edited) = edited else { return Ok(None) };
        let value = without_remarks(&edited);
        let value = document::strip_bom(&value).trim_ascii();
        // A value is what can be a member.
        match document::check(&[b"{\"\":", value, b"}"].concat()) {
            Ok(())
                if document::members(&[b"{\"\":", value, b"}"].concat()).is_ok_and(|all| all.len() == 1) =>
            {
                Ok(Some(value.to_vec()))
            }
            Ok(()) => {
                eprintln!("that is more than one value");
                Ok(None)
            }
            Err(_) => {
                eprintln!("that is not a JSON value");
                Ok(None)
            }
        }
    }

    /// The whole text in the editor, the three sides above it as remarks.
    fn whole(&self, pair: &Pair, merged: &[u8]) -> Result<Verdict> {
        let remark = |side: &str, text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            let lines: String = text.lines().map(|line| format!("#   {line}\n")).collect();
            format!("# {side}:\n{lines}")
        };
        let base = pair.base.map_or(String::new(), |base| remark("base", &base.text));
        let text = format!(
            "# {}. Leave one JSON object; lines that start with # do not count.\n{base}{}{}",
            pair.id,
            remark("ours", pair.ours),
            remark("theirs", pair.theirs)
        );
        let mut start = [text.as_bytes(), merged].concat();
        loop {
            let Some(edited) = edit("merged.json", start.clone())? else {
                return Ok(Verdict::Leave("the editor failed".into()));
            };
            let text = without_remarks(&edited);
            let text = document::strip_bom(&text);
            match document::check(text) {
                Ok(()) => return Ok(Verdict::Text(text.to_vec())),
                Err(why) => eprint!("not a JSON object: {why}; [e]dit again, or [s]kip this revision? "),
            }
            let _ = std::io::stderr().flush();
            match line().as_deref().map(str::trim) {
                None | Some("s" | "skip" | "q" | "quit") => {
                    return Ok(Verdict::Leave("it was skipped".into()));
                }
                _ => start = edited,
            }
        }
    }
}

/// A line from standard input; `None` at its end.
fn line() -> Option<String> {
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line),
    }
}

/// A JSON text never has a line that starts with `#`: a string holds no line break.
fn without_remarks(text: &[u8]) -> Vec<u8> {
    text.split_inclusive(|&b| b == b'\n').filter(|line| !line.starts_with(b"#")).collect::<Vec<_>>().concat()
}

/// Lets somebody edit a text. `None` where the editor failed, which was said.
fn edit(name: &str, text: Vec<u8>) -> Result<Option<Vec<u8>>> {
    let place = Workplace::new()?;
    let path = place.write(name, &text)?;
    let editor = editor();
    let mut line = editor.clone();
    line.push(" \"$@\"");
    // As git does it: the editor may be a command with arguments.
    let status = Command::new("sh").arg("-c").arg(line).arg("sh").arg(&path).status();
    let status = status.map_err(Error::io("run", &editor))?;
    if !status.success() {
        eprintln!("{} ended with {status}", editor.to_string_lossy());
        return Ok(None);
    }
    place.read(&path).map(Some)
}

fn editor() -> OsString {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_are_lines() {
        let text = b"# a\n{\"k\": \"#\",\n #\n#\n\"l\":1}";
        assert_eq!(without_remarks(text), b"{\"k\": \"#\",\n #\n\"l\":1}");
        assert_eq!(without_remarks(b"#"), b"");
    }
}
