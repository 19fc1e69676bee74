//! `blame`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use super::exit::CliError;
use super::revision::{REVISIONS, removed_saved_at};
use super::text::{Out, brief, quoted, shown};
use super::when::{local, utc};
use super::{Names, revision};
use crate::backend::Host;
use crate::document::{self, Leaves};
use crate::error::{Error, found};
use crate::resolve::Lineage;
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// How much of a value is shown.
const SHOWN: usize = 100;

/// Show which revision set each member, when and where
///
/// Of each member: which revision gave it the value that it has, when, and on which other host, where that is known. Values
/// are compared by what they say. Members of members have lines of their own, arrays are one value.
///
/// It follows the line of what was made from what. A `^` before the revision: that one or one before it, of which nothing is left
/// or known.
#[derive(Debug, Args)]
#[command(after_help = REVISIONS)]
pub struct Blame {
    /// One JSON object per member and line: path (a JSON pointer), rev, exact (false: that one or one before it), time (UTC),
    /// host, value
    #[arg(long)]
    json: bool,
    /// How many levels of objects are looked into; what lies deeper is one value
    #[arg(long, value_name = "LEVELS", default_value_t = 8)]
    depth: usize,
    #[command(flatten)]
    names: Names,
}

/// The revision that set a member, or an earlier one.
struct Setter {
    rev: Rev,
    exact: bool,
}

/// When and where.
type Saved = (Option<SystemTime>, Option<Host>);

impl Blame {
    pub fn run(mut self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let names = Names { names: std::mem::take(&mut self.names.names) };
        let located = revision::locate(names, store)?;
        let (store, id) = (&located.store, &located.id);
        let revs = located.revs(..=1, "blame takes an id and at most one revision")?;
        let rev = match &revs[..] {
            [rev] => rev.clone(),
            _ => store.winner_meta(id).map_err(|e| located.explain(e))?.0,
        };
        let text = store.read(id, &rev).map_err(|e| revision::unread(&rev, e))?;
        let leaves = Leaves::new(&text, self.depth).map_err(Error::from)?;
        let setters = setters(store, id, &rev, &leaves)?;
        let saved = saved(store, id, &setters)?;
        let wide = |cell: &dyn Fn(&Setter) -> usize| setters.values().map(cell).max().unwrap_or(0);
        let of = |setter: &Setter| saved.get(&setter.rev).copied().unwrap_or_default();
        let host = |setter: &Setter| of(setter).1.map_or_else(String::new, |host| format!(" from {host}"));
        let name = |setter: &Setter| format!("{}{}", if setter.exact { "" } else { "^" }, setter.rev);
        let (names, hosts) =
            (wide(&|setter| name(setter).len()), wide(&|setter| host(setter).chars().count()));
        for (&leaf, setter) in &setters {
            let (time, value) = (of(setter).0, leaves.value(leaf));
            if self.json {
                out.line(json(leaves.path(leaf), setter, of(setter), value))?;
                continue;
            }
            let time = time.map_or("-".into(), local);
            let path = shown(leaves.path(leaf));
            out.line(format!(
                "{:<names$} {time:>20}{:<hosts$} {path}: {}",
                name(setter),
                host(setter),
                brief(value, SHOWN)
            ))?;
        }
        Ok(())
    }
}

/// By leaf, in the order of the text. One text is held beside that of `rev`, however long the history is.
fn setters(
    store: &Store,
    id: &ObjectId,
    rev: &Rev,
    leaves: &Leaves,
) -> Result<BTreeMap<usize, Setter>, CliError> {
    let removed = store.removed(id)?;
    let live = found(store.revisions(id))?.unwrap_or_default();
    let line = Lineage::new(&live, &removed).line(rev);
    let (mut setters, mut open, mut current) = (BTreeMap::new(), leaves.all(), rev);
    let mut whole = true;
    for before in &line[1..] {
        if open.is_empty() {
            break;
        }
        let Some(text) = found(store.read(id, before))? else {
            whole = false;
            break;
        };
        // One that holds no object was nobody's base.
        let Ok(set) = leaves.not_in(&text, &open) else { continue };
        for leaf in set {
            open.remove(&leaf);
            setters.insert(leaf, Setter { rev: current.clone(), exact: true });
        }
        current = before;
    }
    let exact = whole && line.last().is_none_or(|first| first.generation() == Some(0));
    setters.extend(open.into_iter().map(|leaf| (leaf, Setter { rev: current.clone(), exact })));
    Ok(setters)
}

fn saved<'a>(
    store: &Store,
    id: &ObjectId,
    setters: &'a BTreeMap<usize, Setter>,
) -> Result<HashMap<&'a Rev, Saved>, CliError> {
    let (mut saved, mut gone) = (HashMap::new(), HashSet::new());
    for Setter { rev, .. } in setters.values() {
        if saved.contains_key(rev) {
            continue;
        }
        let meta = found(store.backend().meta(id, rev))?;
        if meta.is_none() {
            gone.insert(rev);
        }
        saved.insert(rev, (meta.map(|meta| store.saved_at(id, rev, &meta)), store.host(id, rev)));
    }
    if !gone.is_empty() {
        for tombstone in store.backend().tombstones(id)?.iter().filter(|tombstone| tombstone.meta.size > 0) {
            if let Some(rev) = gone.take(&tombstone.rev)
                && let Some((time, _)) = saved.get_mut(rev)
            {
                *time = Some(removed_saved_at(store, id, tombstone));
            }
        }
    }
    Ok(saved)
}

fn json(path: &str, setter: &Setter, (time, host): Saved, value: &[u8]) -> String {
    let null = || "null".to_owned();
    format!(
        r#"{{"path":"{path}","rev":{},"exact":{},"time":{},"host":{},"value":{}}}"#,
        quoted(setter.rev.as_str()),
        setter.exact,
        time.map_or_else(null, |time| quoted(&utc(time))),
        host.map_or_else(null, |host| quoted(host.as_str())),
        String::from_utf8_lossy(&document::compact(value)),
    )
}
