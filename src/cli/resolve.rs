//! `resolve`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::ask::Asker;
use super::exit::{CliError, Tally};
use super::text::Out;
use super::{Names, revision};
use crate::resolve::{self, ConflictSet, Exec, Report, Strategy};
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// Settle conflicts; what loses is kept
///
/// One revision of each generation in conflict is left. The others are superseded: they go to the store's `.revfs/gone`, with
/// the name of the revision that takes their place. Ends with 1 where a conflict remains.
///
/// Without a way it asks, at a terminal, about each member that both sides changed.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("way").args(["auto", "ours", "theirs", "merge", "exec"])))]
pub struct Resolve {
    /// Every object that is in conflict
    #[arg(long)]
    all: bool,
    /// What is captured goes: where the winner has all members with equal values, nested ones too, and lacks what was taken
    /// out. The rest stays in conflict
    #[arg(long)]
    auto: bool,
    /// The winner stays, all others go
    #[arg(long)]
    ours: bool,
    /// This revision becomes the winner, all others go: its name, the beginning of one, or @{TIME}
    #[arg(long, value_name = "REV")]
    theirs: Option<OsString>,
    /// Three-way merge by members, arrays being one value. Where both sides changed one, the conflict stays
    #[arg(long)]
    merge: bool,
    /// A shell command puts two texts together: it gets three files as arguments (what both were made from, ours, theirs)
    /// and prints the result; or it names them itself as $BASE, $LOCAL, $REMOTE, and may write $MERGED instead
    #[arg(long, value_name = "CMD")]
    exec: Option<OsString>,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    names: Names,
}

impl Resolve {
    pub fn run(mut self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let asks = !(self.auto || self.ours || self.merge || self.theirs.is_some() || self.exec.is_some());
        if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            let how = "how? add --auto, --ours, --theirs REV, --merge or --exec CMD; at a terminal it asks";
            return Err(CliError::Usage(how.into()));
        }
        if asks && self.dry_run {
            return Err(CliError::Usage(
                "--dry-run takes --auto, --ours, --theirs, --merge or --exec".into(),
            ));
        }
        let names = std::mem::replace(&mut self.names, Names { names: Vec::new() });
        let (store, mut ids) = names.locate(store)?;
        match (self.all, ids.is_empty()) {
            (true, true) => {
                ids = store.conflicted()?;
                ids.sort();
            }
            (false, true) => return Err(CliError::Usage("which object? give ids, or --all".into())),
            (true, false) => return Err(CliError::Usage("ids or --all, not both".into())),
            (false, false) => {}
        }
        if self.theirs.is_some() && (self.all || ids.len() > 1) {
            return Err(CliError::Usage("--theirs takes one id".into()));
        }
        let mut asker = Asker::new();
        let mut tally = Tally::of(&store);
        for id in &ids {
            match self.one(&store, id, &mut asker) {
                Ok(done) => {
                    tell(id, &done, self.dry_run, out)?;
                    tally.add(remaining(id, &done))?;
                    if done.stopped {
                        break;
                    }
                }
                Err(e) => tally.add(Err(e))?,
            }
        }
        tally.finish()
    }

    fn one(&self, store: &Store, id: &ObjectId, asker: &mut Asker) -> Result<Report, CliError> {
        let dry = self.dry_run;
        let settle = |way: &mut Strategy| Ok(resolve::settle(store, id, way, dry)?);
        if self.auto {
            return settle(&mut Strategy::Auto);
        }
        if self.ours {
            return settle(&mut Strategy::Ours);
        }
        if self.merge {
            return settle(&mut Strategy::Settle(&mut |pair| resolve::merge(pair)));
        }
        if let Some(command) = &self.exec {
            let exec = Exec::new(command);
            return settle(&mut Strategy::Settle(&mut |pair| exec.settle(pair)));
        }
        if let Some(rev) = &self.theirs {
            let rev = revision::find(store, id, rev)?;
            in_conflict(store, id, &rev)?;
            return settle(&mut Strategy::Theirs(&rev));
        }
        settle(&mut Strategy::Settle(&mut |pair| asker.settle(pair)))
    }
}

fn in_conflict(store: &Store, id: &ObjectId, rev: &Rev) -> Result<(), CliError> {
    let set = ConflictSet::at(store, id)?;
    let wins = set.winner.as_ref().is_some_and(|winner| winner.rev == *rev);
    match set.side(rev) {
        Some(side) if side.text.is_none() => {
            Err(CliError::No(format!("revision {rev} of {id} holds no JSON object, so it cannot win")))
        }
        None if !wins => {
            let hint = "`revfs restore` makes any revision the newest";
            Err(CliError::No(format!("revision {rev} of {id} is not in conflict; {hint}")))
        }
        _ => Ok(()),
    }
}

fn tell(id: &ObjectId, done: &Report, dry: bool, out: &mut Out) -> Result<(), CliError> {
    if let Some(rev) = &done.published {
        out.line(format!("{id} {rev} is the winner now"))?;
    }
    for (rev, by) in &done.retired {
        out.line(match (dry, done.publishes) {
            (false, _) => format!("{id} {rev} is superseded by {by}"),
            (true, false) => format!("{id} {rev} would be superseded by {by}"),
            (true, true) => format!("{id} {rev} would be superseded by a new revision"),
        })?;
    }
    Ok(())
}

fn remaining(id: &ObjectId, done: &Report) -> Result<(), CliError> {
    if done.remain.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = done.remain.iter().map(|(rev, why)| format!("{rev}: {why}")).collect();
    Err(CliError::No(format!("object {id} stays in conflict: {}", list.join("; "))))
}
