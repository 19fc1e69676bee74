//! `log`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use super::exit::CliError;
use super::graph::graph;
use super::patch::{Form, Patch};
use super::revision::{REVISIONS, removed_saved_at};
use super::text::{Out, quoted, shown};
use super::when::{When, local, utc};
use super::{Names, revision};
use crate::backend::{Host, Meta, Tombstone};
use crate::document;
use crate::error::{Error, found};
use crate::resolve::{Lineage, Parent};
use crate::rev::{self, ObjectId, Rev};
use crate::store::{Role, Store};

/// List an object's revisions, newest first
///
/// Each with its name, time (in your time zone), bytes, role, the revision that it was made from, and the other host that it
/// came from, where that is known. Of an id with a revision after it, `hello~3`: that revision and those that it was made from.
#[derive(Debug, Args)]
#[command(after_help = REVISIONS)]
pub struct Log {
    /// One JSON object per revision and line: rev, generation, time (UTC), size, role, parent, host; of a removed one also why;
    /// with --patch also changes, null where nobody knows them
    #[arg(long, conflicts_with_all = ["graph", "unified"])]
    json: bool,
    /// Draw which revision was made from which. Names made by other programs do not tell; there the one revision of the
    /// generation before is assumed, if there is one and no other
    #[arg(long)]
    graph: bool,
    /// Removed revisions too, with the reason
    #[arg(short, long)]
    all: bool,
    /// What each changed of the revision that it was made from, by members
    #[arg(short, long, conflicts_with = "graph")]
    patch: bool,
    /// Those saved at TIME or later: 2d, '2 hours ago', yesterday, 2026-11-30, '2026-11-30 12:00'; a day counts from its beginning
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Those saved at TIME or before; a day counts to its end
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N")]
    max_count: Option<usize>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    names: Names,
}

/// One revision, live or gone.
struct Entry {
    rev: Rev,
    time: Option<SystemTime>,
    size: Option<u64>,
    role: &'static str,
    parent: Option<Parent>,
    /// The other host that it came from.
    host: Option<Host>,
    /// Why it was removed; nothing where it lives.
    why: Vec<String>,
}

impl Log {
    pub fn run(mut self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let bound = |said: &Option<String>| said.as_deref().map(When::new).transpose();
        let since = bound(&self.since)?.map(|when| when.first());
        let until = bound(&self.until)?.map(|when| when.last());
        let within = |time: Option<SystemTime>| match time {
            Some(time) => since.is_none_or(|since| since <= time) && until.is_none_or(|until| time <= until),
            None => since.is_none() && until.is_none(),
        };
        let names = Names { names: std::mem::take(&mut self.names.names) };
        let located = revision::locate(names, store)?;
        if !located.rest.is_empty() {
            return Err(CliError::Usage("log takes one id".into()));
        }
        let history = History::load(&located.store, &located.id, self.all).map_err(|e| located.explain(e))?;
        let revs = history.listed(located.rev.as_ref());
        let most = self.max_count.unwrap_or(usize::MAX);
        // One after the other: a history may be long.
        let entries =
            revs.iter().map(|&rev| history.entry(rev, within)).filter_map(Result::transpose).take(most);
        if self.graph {
            let entries = entries.collect::<Result<Vec<Entry>, CliError>>()?;
            let drawn = graph(&lines_of(&entries));
            return entries.iter().zip(drawn).try_for_each(|(entry, (before, cell))| {
                before.iter().try_for_each(|line| out.line(line))?;
                out.line(format!("{cell}{}", row(entry, true)))
            });
        }
        let paint = self.form.paint();
        for (n, entry) in entries.enumerate() {
            let entry = entry?;
            let patch = if self.patch { history.patch(&entry)? } else { None };
            if self.json {
                let changes = patch.as_ref().map(|[old, new]| Patch::new(old, new).json());
                let changes = changes.unwrap_or_else(|| "null".into());
                let more = if self.patch { format!(",\"changes\":{changes}") } else { String::new() };
                out.line(json(&entry, &more))?;
                continue;
            }
            if !self.patch {
                out.line(row(&entry, false))?;
                continue;
            }
            if n > 0 {
                out.line("")?;
            }
            out.line(paint.bold(row(&entry, false)))?;
            match patch {
                Some([old, new]) => drop(Patch::new(&old, &new).print(&self.form, None, out)?),
                None => out.line(
                    "(what it changed is not known: nothing is left of it, or of what it was made from)",
                )?,
            }
        }
        Ok(())
    }
}

/// What the names of an object's revisions say, and what readers get.
struct History<'a> {
    store: &'a Store,
    id: &'a ObjectId,
    live: Vec<Rev>,
    /// Those that are listed.
    gone: BTreeMap<Rev, Vec<String>>,
    tombstones: HashMap<Rev, Tombstone>,
    losers: HashSet<Rev>,
    winner: Option<Rev>,
    lineage: Lineage,
}

impl History<'_> {
    fn load<'a>(store: &'a Store, id: &'a ObjectId, all: bool) -> Result<History<'a>, CliError> {
        let removed = store.removed(id)?;
        let live = match store.revisions(id) {
            Err(Error::NoObject(_)) if all && !removed.is_empty() => Vec::new(),
            live => live?,
        };
        let lineage = Lineage::new(&live, &removed);
        let mut losers = HashSet::new();
        for group in rev::conflicts(&live) {
            losers.extend(group.split_last().map_or(&group[..], |(_, losers)| losers).iter().cloned());
        }
        let winner = found(store.winner_meta(id))?.map(|(rev, _)| rev);
        let (mut gone, mut tombstones) = (BTreeMap::new(), HashMap::new());
        if all && !removed.is_empty() {
            let dead = removed.into_iter().filter(|(rev, _)| live.binary_search(rev).is_err());
            gone = dead.collect();
            for tombstone in store.backend().tombstones(id)? {
                // One place has the bytes, another perhaps none.
                match tombstones.get(&tombstone.rev) {
                    Some(Tombstone { meta, .. }) if meta.size > 0 => {}
                    _ => drop(tombstones.insert(tombstone.rev.clone(), tombstone)),
                }
            }
        }
        Ok(History { store, id, live, gone, tombstones, losers, winner, lineage })
    }

    /// Newest first.
    fn listed(&self, from: Option<&Rev>) -> Vec<&Rev> {
        let mut revs: Vec<&Rev> = self.live.iter().chain(self.gone.keys()).collect();
        if let Some(from) = from {
            let line: HashSet<Rev> = self.lineage.line(from).into_iter().collect();
            revs.retain(|rev| line.contains(*rev));
        }
        revs.sort_unstable_by(|a, b| b.cmp(a));
        revs
    }

    /// `None` where its time is not meant, or it is gone meanwhile.
    fn entry(
        &self,
        rev: &Rev,
        within: impl Fn(Option<SystemTime>) -> bool,
    ) -> Result<Option<Entry>, CliError> {
        let (store, id) = (self.store, self.id);
        let entry = |time, size, role, why| Entry {
            rev: rev.clone(),
            time,
            size,
            role,
            parent: self.lineage.parent(rev),
            host: store.host(id, rev),
            why,
        };
        if let Some(why) = self.gone.get(rev) {
            let tombstone = self.tombstones.get(rev).filter(|tombstone| tombstone.meta.size > 0);
            let time = tombstone.map(|tombstone| removed_saved_at(store, id, tombstone));
            let size = tombstone.map(|tombstone| tombstone.meta.size);
            return Ok(within(time).then(|| entry(time, size, "gone", why.clone())));
        }
        let meta: Option<Meta> = found(store.backend().meta(id, rev))?;
        let time = meta.as_ref().map(|meta| store.saved_at(id, rev, meta));
        if !within(time) {
            return Ok(None);
        }
        let whole =
            meta.is_some() && found(store.read(id, rev))?.is_some_and(|text| document::check(&text).is_ok());
        let role = match whole {
            false => Role::Broken,
            true if self.winner.as_ref() == Some(rev) => Role::Winner,
            true if self.losers.contains(rev) => Role::Loser,
            true => Role::Ancestor,
        };
        Ok(Some(entry(time, meta.map(|meta| meta.size), role.word(), Vec::new())))
    }

    /// The text that a revision was made from, and its own; `None` where one of them is not left. The first was made from nothing.
    fn patch(&self, entry: &Entry) -> Result<Option<[Vec<u8>; 2]>, CliError> {
        let read = |rev: &Rev| found(self.store.read(self.id, rev));
        let old = match &entry.parent {
            Some(parent) => read(&parent.rev)?,
            None => (entry.rev.generation() == Some(0)).then(|| b"{}".to_vec()),
        };
        Ok(old.zip(read(&entry.rev)?).map(|(old, new)| [old, new]))
    }
}

/// For the graph: each revision with the nearest one before it in its line that is listed too.
fn lines_of(entries: &[Entry]) -> Vec<(Rev, Option<Rev>)> {
    let parents: HashMap<&Rev, &Rev> =
        entries.iter().filter_map(|entry| Some((&entry.rev, &entry.parent.as_ref()?.rev))).collect();
    let listed: HashSet<&Rev> = entries.iter().map(|entry| &entry.rev).collect();
    let before = |entry: &Entry| {
        let mut next = &entry.parent.as_ref()?.rev;
        for _ in 0..entries.len() {
            if listed.contains(next) {
                return Some(next.clone()).filter(|parent| *parent < entry.rev);
            }
            next = parents.get(next)?;
        }
        None
    };
    entries.iter().map(|entry| (entry.rev.clone(), before(entry))).collect()
}

fn row(entry: &Entry, assume: bool) -> String {
    let dash = || "-".to_owned();
    let time = entry.time.map_or_else(dash, local);
    let size = entry.size.map_or_else(dash, |size| size.to_string());
    let parent = match &entry.parent {
        Some(Parent { rev, assumed: false }) => rev.to_string(),
        Some(Parent { rev, assumed: true }) if assume => format!("{rev} (assumed)"),
        _ => dash(),
    };
    let mut row = format!("{} {time:>20} {size:>8} {:<8} {parent}", entry.rev, entry.role);
    row += &entry.host.map_or(String::new(), |host| format!(" from {host}"));
    for why in &entry.why {
        row += &match Rev::new(why) {
            Ok(by) => format!(" superseded by {by}"),
            Err(_) => format!(" {}", shown(why)),
        };
    }
    row
}

fn json(entry: &Entry, more: &str) -> String {
    let null = || "null".to_owned();
    let parent = entry.parent.as_ref().filter(|parent| !parent.assumed);
    let mut json = format!(
        r#"{{"rev":{},"generation":{},"time":{},"size":{},"role":{},"parent":{},"host":{}"#,
        quoted(entry.rev.as_str()),
        entry.rev.generation().map_or_else(null, |n| n.to_string()),
        entry.time.map_or_else(null, |time| quoted(&utc(time))),
        entry.size.map_or_else(null, |size| size.to_string()),
        quoted(entry.role),
        parent.map_or_else(null, |parent| quoted(parent.rev.as_str())),
        entry.host.map_or_else(null, |host| quoted(host.as_str())),
    );
    if !entry.why.is_empty() {
        let why: Vec<String> = entry.why.iter().map(|why| quoted(why)).collect();
        json += &format!(r#","why":[{}]"#, why.join(","));
    }
    json + more + "}"
}
