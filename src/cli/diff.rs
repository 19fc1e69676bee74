//! `diff`.

use std::path::PathBuf;

use clap::Args;

use super::exit::{CliError, Exit};
use super::patch::{Form, Patch};
use super::revision::REVISIONS;
use super::text::{Out, quoted};
use super::{Names, revision};
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
#[command(after_help = REVISIONS)]
pub struct Diff {
    /// One JSON object per comparison and line: old, new, and changes with path, kind, old, new
    #[arg(long, conflicts_with = "unified")]
    json: bool,
    /// End with 1 where something differs
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    names: Names,
}

impl Diff {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let located = revision::locate(self.names, store)?;
        let (store, id) = (&located.store, &located.id);
        let pairs = match &located.revs(..=2, "diff takes an id and at most two revisions")?[..] {
            [old] => vec![(old.clone(), store.winner_meta(id).map_err(|e| located.explain(e))?.0)],
            [old, new] => vec![(old.clone(), new.clone())],
            _ => by_default(store, id).map_err(|e| located.explain(e))?,
        };
        let mut any = false;
        for (old, new) in pairs {
            let read = |rev: &Rev| store.read(id, rev).map_err(|e| revision::unread(rev, e));
            let texts = [read(&old)?, read(&new)?];
            let patch = Patch::new(&texts[0], &texts[1]);
            match self.json {
                true => {
                    let [old, new] = [&old, &new].map(|rev| quoted(rev.as_str()));
                    let changes = patch.json();
                    any |= changes != "[]";
                    out.line(format!("{{\"old\":{old},\"new\":{new},\"changes\":{changes}}}"))?;
                }
                false => {
                    let heads = [&old, &new].map(Rev::as_str);
                    any |= patch.print(&self.form, Some(heads), out)?;
                }
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
