//! `diff`.

use std::ops::Range;
use std::path::PathBuf;

use clap::Args;

use super::color::{Color, Paint};
use super::exit::{CliError, Exit};
use super::text::{Out, quoted, visible};
use super::{Names, revision};
use crate::document::{self, Change, Kind};
use crate::error::Error;
use crate::resolve::ConflictSet;
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// Show which members differ between two revisions
///
/// They may be live or gone. What they say is compared: spacing, the order of members, the spelling of numbers and
/// top-level `_id` and `_rev` do not count. Each member that differs is named by its JSON pointer.
///
/// With two revisions: from the first to the second. With one: from that to the winner. With none: from each of those in
/// conflict with the winner to the winner, or from the winner's parent where nothing is in conflict.
#[derive(Debug, Args)]
pub struct Diff {
    /// One JSON object per comparison and line: old, new, and changes with path, kind, old, new
    #[arg(long)]
    json: bool,
    /// End with 1 where something differs
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    color: Color,
    #[command(flatten)]
    names: Names,
}

impl Diff {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (store, id, revs) = revision::locate(self.names, store)?;
        let pairs = match &revs[..] {
            [] => by_default(&store, &id)?,
            [old] => vec![(revision::find(&store, &id, old)?, store.winner_meta(&id)?.0)],
            [old, new] => vec![(revision::find(&store, &id, old)?, revision::find(&store, &id, new)?)],
            _ => return Err(CliError::Usage("diff takes an id and at most two revisions".into())),
        };
        let mut any = false;
        for (old, new) in pairs {
            let texts = [store.read(&id, &old)?, store.read(&id, &new)?];
            let changes = document::diff(&texts[0], &texts[1]);
            any |= !changes.is_empty();
            match self.json {
                true => out.line(json(&old, &new, &changes, &texts))?,
                false => print(&old, &new, &changes, &texts, self.color.paint(), out)?,
            }
        }
        match any && self.exit_code {
            true => Err(CliError::Told(Exit::No)),
            false => Ok(()),
        }
    }
}

fn by_default(store: &Store, id: &ObjectId) -> Result<Vec<(Rev, Rev)>, CliError> {
    let look = ConflictSet::at(store, id)?;
    let winner = look.winner.as_ref().ok_or_else(|| Error::NoObject(id.clone()))?;
    let mut others: Vec<Rev> = look.losers().map(|side| side.rev.clone()).collect();
    if others.is_empty() {
        others.extend(look.lineage.parent(&winner.rev).map(|parent| parent.rev));
    }
    if others.is_empty() {
        return Err(CliError::No(format!(
            "nothing to compare {} with: object {id} has no conflict, and no parent is known",
            winner.rev
        )));
    }
    Ok(others.into_iter().map(|other| (other, winner.rev.clone())).collect())
}

fn value<'a>(text: &'a [u8], span: &Option<Range<usize>>) -> Option<&'a [u8]> {
    text.get(span.clone()?)
}

fn print(
    old: &Rev,
    new: &Rev,
    changes: &[Change],
    texts: &[Vec<u8>; 2],
    paint: Paint,
    out: &mut Out,
) -> Result<(), CliError> {
    if changes.is_empty() {
        return Ok(());
    }
    out.line(paint.bold(format!("--- {old}")))?;
    out.line(paint.bold(format!("+++ {new}")))?;
    for change in changes {
        let path = if change.path.is_empty() { "the whole text" } else { &change.path };
        if let Some(value) = value(&texts[0], &change.old) {
            out.line(paint.red(format!("-{path}: {}", visible_line(value))))?;
        }
        if let Some(value) = value(&texts[1], &change.new) {
            out.line(paint.green(format!("+{path}: {}", visible_line(value))))?;
        }
    }
    Ok(())
}

/// A value on one line. (A text that is no JSON may hold anything.)
fn visible_line(value: &[u8]) -> String {
    visible(value).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn json(old: &Rev, new: &Rev, changes: &[Change], texts: &[Vec<u8>; 2]) -> String {
    let raw = |text: &[u8], span: &Option<Range<usize>>| match (span, value(text, span)) {
        (Some(span), Some(value)) if *span == (0..text.len()) && document::check(value).is_err() => {
            format!(",\"{{}}\":{}", quoted(&String::from_utf8_lossy(value)))
        }
        (_, Some(value)) => {
            format!(",\"{{}}\":{}", String::from_utf8_lossy(&document::compact(value)))
        }
        (_, None) => String::new(),
    };
    let change = |change: &Change| {
        let kind = match change.kind {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Changed => "changed",
        };
        let (before, after) = (raw(&texts[0], &change.old), raw(&texts[1], &change.new));
        let (before, after) = (before.replacen("{}", "old", 1), after.replacen("{}", "new", 1));
        // The path is written as it stands in a JSON string.
        format!("{{\"path\":\"{}\",\"kind\":\"{kind}\"{before}{after}}}", change.path)
    };
    let changes: Vec<String> = changes.iter().map(change).collect();
    format!(
        "{{\"old\":{},\"new\":{},\"changes\":[{}]}}",
        quoted(old.as_str()),
        quoted(new.as_str()),
        changes.join(",")
    )
}
