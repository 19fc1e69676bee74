//! `undelete`, `restore`, `gc`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::{CliError, Tally};
use super::from_copy::FromCopy;
use super::progress::{Objects, Shown, during};
use super::revision::REVISIONS;
use super::text::{Out, quoted};
use super::when::{local, utc};
use super::{Names, place, revision};
use crate::error::Error;
use crate::rev::{ObjectId, Rev};
use crate::store::{Deletion, Keep, Store};

/// Bring deleted objects back, or list what can be
///
/// What each was last is its newest revision again, and the name of that is printed. Without ids: lists what can be brought
/// back, one deletion per line: time, operation, revisions, the last of them, id.
#[derive(Debug, Args)]
pub struct Undelete {
    /// The deletion to undo, as listed, or the beginning of its name; otherwise the newest
    #[arg(long, value_name = "OP")]
    op: Option<String>,
    /// This revision instead of the last: its name, the beginning of one, ~2 or @{yesterday}
    #[arg(long, value_name = "REV", conflicts_with = "op")]
    rev: Option<OsString>,
    /// List as one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    names: Names,
}

impl Undelete {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (store, ids) = self.names.locate(store)?;
        if (self.op.is_some() || self.rev.is_some()) && ids.len() != 1 {
            return Err(CliError::Usage("--op and --rev take one id".into()));
        }
        if ids.is_empty() {
            return list(&store, self.json, out);
        }
        let mut tally = Tally::default();
        for id in &ids {
            tally.add(
                undelete(&store, id, self.op.as_deref(), self.rev.as_ref()).and_then(|rev| out.line(rev)),
            )?;
        }
        tally.finish()
    }
}

fn undelete(store: &Store, id: &ObjectId, op: Option<&str>, rev: Option<&OsString>) -> Result<Rev, CliError> {
    let there = || {
        CliError::No(format!(
            "object {id} is there; `revfs restore {id} REV` takes it back to an older revision"
        ))
    };
    if let Some(rev) = rev {
        if store.winner(id).is_ok() {
            return Err(there());
        }
        let rev = revision::find(store, id, rev)?;
        return Ok(store.restore(id, &rev).map_err(|e| revision::unread(&rev, e))?.rev);
    }
    let op = op.map(|op| operation(store, id, op)).transpose()?;
    match store.undelete(id, op.as_deref()) {
        Err(Error::Exists(_)) => Err(there()),
        Err(Error::NoObject(_)) => Err(CliError::No(format!(
            "nothing is left of an object {id}; `revfs undelete` lists what can be brought back"
        ))),
        done => Ok(done?.rev),
    }
}

/// The deletion that `op` is the beginning of.
fn operation(store: &Store, id: &ObjectId, op: &str) -> Result<String, CliError> {
    let mut all = store.deletions(id)?;
    all.retain(|deletion| deletion.op.starts_with(op));
    match &all[..] {
        [one] => Ok(one.op.clone()),
        [] => Err(CliError::No(format!("object {id} was not deleted by {op}"))),
        _ => {
            Err(CliError::Usage(format!("{op} may be any of {} deletions; give more of the name", all.len())))
        }
    }
}

fn list(store: &Store, json: bool, out: &mut Out) -> Result<(), CliError> {
    let mut ids = store.deleted()?;
    ids.sort();
    for id in &ids {
        for deletion in store.deletions(id)? {
            let Deletion { op, at, revs } = &deletion;
            let last = revs.last().map_or("-", Rev::as_str);
            out.line(match json {
                true => format!(
                    r#"{{"id":{},"op":{},"time":{},"revisions":{},"last":{}}}"#,
                    quoted(&id.to_text()),
                    quoted(op),
                    quoted(&utc(*at)),
                    revs.len(),
                    quoted(last)
                ),
                false => {
                    format!("{} {} {:>6} {last} {id}", local(*at), &op.get(..12).unwrap_or(op), revs.len())
                }
            })?;
        }
    }
    Ok(())
}

/// Make an older revision the newest, or bring back from a copy
///
/// The bytes of an older revision, live or removed, are appended as the newest; its name is printed.
///
/// With --from, of all objects that a copy of the store has, or of these: revisions that are missing here are added under their
/// own names; an object that was deleted, or whose newest text is spoiled, gets a new revision that says what the copy says.
/// Nothing that is in the store is changed, and what is newer stays newer. What was purged comes back only by name. Prints a line
/// for each object that something was done for. Ends with 1 where something could not be brought back, which is told.
#[derive(Debug, Args)]
#[command(after_help = REVISIONS)]
pub struct Restore {
    /// A copy of the store's directory, as rsync, cp or tar make one; nothing is written there
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// With --from: say what would be done, and do nothing
    #[arg(short = 'n', long, requires = "from")]
    dry_run: bool,
    /// The store, where it contains a slash or is `.`, `..` or `~`; then the object's id; then the revision
    #[arg(value_name = "[STORE] ID REV", hide_default_value = true)]
    names: Vec<OsString>,
}

impl Restore {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        if let Some(from) = self.from {
            let (path, names) = place::take(store, self.names)?;
            let ids = names.iter().map(ObjectId::new).collect::<Result<Vec<_>, _>>()?;
            let store = Store::open(&path)?;
            return FromCopy::open(&store, &path, &from, self.dry_run)?.run(&ids, out);
        }
        let located = revision::locate(Names { names: self.names }, store)?;
        let wrong = "restore takes an id and a revision; `revfs log ID` lists them";
        located.revs(1..=1, wrong)?.iter().try_for_each(|rev| {
            let restored = located.store.restore(&located.id, rev);
            out.line(restored.map_err(|e| revision::unread(rev, e))?.rev)
        })
    }
}

/// Retire old revisions; remove for good what has long been gone
///
/// Of all objects, or those given. Nothing is done without one of the options.
///
/// The winner, all that is in conflict, and what holds no object always stay. What `--keep` retires can be read and
/// restored as before until it is purged. `--purge` never takes what a deleted object was last, or what that was in
/// conflict with: `--purge-deleted` does.
#[derive(Debug, Args)]
pub struct Gc {
    /// Retire revisions but the newest N, or those published longer ago than AGE (90s, 15m, 12h, 30d, 2w)
    #[arg(long, value_name = "N|AGE", value_parser = keep)]
    keep: Option<Keep>,
    /// Remove the bytes of what has been gone for longer than AGE; that it was stays known
    #[arg(long, value_name = "AGE", value_parser = age)]
    purge: Option<Duration>,
    /// Remove all of objects that were deleted longer than AGE ago: they cannot be brought back then
    #[arg(long, value_name = "AGE", value_parser = age)]
    purge_deleted: Option<Duration>,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Say now and then how far it has come, also where standard error is no terminal
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    names: Names,
}

/// Objects, revisions and bytes.
#[derive(Default)]
struct Count(u64, usize, u64);

impl Count {
    fn add(&mut self, revs: usize, bytes: u64) {
        self.0 += u64::from(revs > 0);
        self.1 += revs;
        self.2 += bytes;
    }

    fn said(&self, dry: bool, verb: &str, done: &str) -> String {
        let n = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (objects, revs) = (n(self.0, "object"), n(self.1 as u64, "revision"));
        let start = if dry { format!("would {verb}") } else { done.to_owned() };
        format!("{start} {revs} of {objects}, {}", n(self.2, "byte"))
    }
}

impl Gc {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let purging = self.purge.is_some() || self.purge_deleted.is_some();
        if self.keep.is_none() && !purging {
            return Err(CliError::Usage("what may go? give --keep N or --keep AGE, or --purge AGE".into()));
        }
        let (store, given) = self.names.locate(store)?;
        let ids: BTreeSet<ObjectId> = match given.is_empty() {
            true => store.ids()?.into_iter().chain(store.backend().removed_objects()?).collect(),
            false => given.iter().cloned().collect(),
        };
        let (mut tally, mut retired, mut purged) = (Tally::default(), Count::default(), Count::default());
        let done = Objects::of(ids.len());
        during(Shown::find(self.progress, false), &done, || {
            ids.iter().try_for_each(|id| {
                done.one();
                if let Some(keep) = self.keep {
                    tally.add(match store.retire_old(id, keep, self.dry_run) {
                        Ok(cleared) => {
                            retired.add(cleared.revs.len(), cleared.bytes);
                            Ok(())
                        }
                        // Gone, or on its way.
                        Err(Error::NoObject(_)) if given.is_empty() || purging => Ok(()),
                        Err(e) => Err(e.into()),
                    })?;
                }
                if purging {
                    tally.add(match store.purge(id, self.purge, self.purge_deleted, self.dry_run) {
                        Ok(cleared) => {
                            purged.add(cleared.revs.len(), cleared.bytes);
                            Ok(())
                        }
                        Err(e) => Err(e.into()),
                    })?;
                }
                Ok::<(), CliError>(())
            })
        })?;
        if self.keep.is_some() {
            out.line(retired.said(self.dry_run, "retire", "retired"))?;
        }
        if purging {
            out.line(purged.said(self.dry_run, "purge", "purged"))?;
        }
        tally.finish()
    }
}

fn keep(text: &str) -> Result<Keep, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("the winner is always kept; 1 keeps nothing else".into()),
        Ok(n) => Ok(Keep::Newest(n)),
        Err(_) => age(text).map(Keep::Within),
    }
}

/// A number and a unit: seconds, minutes, hours, days, weeks.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number and a unit: 90s, 15m, 12h, 30d, 2w".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let number = &text[..text.len() - unit.len_utf8()];
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let n: u64 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    Ok(Duration::from_secs(n.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let day = Duration::from_secs(86_400);
        assert_eq!((age("30d"), age("2w"), age("0s")), (Ok(day * 30), Ok(day * 14), Ok(Duration::ZERO)));
        assert_eq!((keep("12h"), keep("3")), (Ok(Keep::Within(day / 2)), Ok(Keep::Newest(3))));
        assert!(age("99999999999999999999d").is_err() && age("9999999999999999999w").is_ok());
        for wrong in ["", "d", "3", "-1d", "+1d", "1.5h", "3 d", "1y", "tage", "0x1d", "1dd", "5é"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
        assert!(keep("0").is_err() && keep("-1").is_err());
    }
}
