//! `log`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::Names;
use super::exit::CliError;
use super::graph::graph;
use super::text::{Out, quoted, utc};
use crate::backend::Host;
use crate::error::{Error, found};
use crate::resolve::{Lineage, Parent};
use crate::rev::{ObjectId, Rev};
use crate::store::Store;

/// List an object's revisions, newest first
///
/// Each with its name, time, bytes, role, the revision that it was made from, and the other host that it came from, where
/// that is known.
#[derive(Debug, Args)]
pub struct Log {
    /// One JSON object per revision and line: rev, generation, time, size, role, parent, host; of a removed one also why
    #[arg(long, conflicts_with = "graph")]
    json: bool,
    /// Draw which revision was made from which. Names made by other programs do not tell; there the one revision of the
    /// generation before is assumed, if there is one and no other
    #[arg(long)]
    graph: bool,
    /// Removed revisions too, with the reason
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    names: Names,
}

/// One revision, live or gone.
struct Entry {
    rev: Rev,
    time: Option<String>,
    size: Option<u64>,
    role: &'static str,
    parent: Option<Parent>,
    /// The other host that it came from.
    host: Option<Host>,
    /// Why it was removed; nothing where it lives.
    why: Vec<String>,
}

impl Log {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let (store, ids) = self.names.locate_some(store)?;
        let [id] = &ids[..] else {
            return Err(CliError::Usage("log takes one id".into()));
        };
        let entries = entries(&store, id, self.all)?;
        let drawn = match self.graph {
            true => {
                let nodes: Vec<(Rev, Option<Rev>)> = lines_of(&entries);
                graph(&nodes)
            }
            false => vec![(Vec::new(), String::new()); entries.len()],
        };
        for (entry, (before, cell)) in entries.iter().zip(drawn) {
            for line in before {
                out.line(line)?;
            }
            match self.json {
                true => out.line(json(entry))?,
                false => out.line(format!("{cell}{}", row(entry, self.graph)))?,
            }
        }
        Ok(())
    }
}

/// Newest first.
fn entries(store: &Store, id: &ObjectId, all: bool) -> Result<Vec<Entry>, CliError> {
    let gone = store.removed(id)?;
    let history = match store.history(id) {
        Err(Error::NoObject(_)) if all && !gone.is_empty() => Vec::new(),
        history => history?,
    };
    let live: Vec<Rev> = history.iter().map(|one| one.rev.clone()).collect();
    let lineage = Lineage::new(&live, &gone);
    let mut entries: Vec<Entry> = history
        .into_iter()
        .map(|one| Entry {
            time: one.meta.as_ref().map(|meta| utc(store.saved_at(id, &one.rev, meta))),
            size: one.meta.as_ref().map(|meta| meta.size),
            role: one.role.word(),
            parent: lineage.parent(&one.rev),
            host: store.host(id, &one.rev),
            rev: one.rev,
            why: Vec::new(),
        })
        .collect();
    if all {
        for (rev, why) in gone.into_iter().filter(|(rev, _)| live.binary_search(rev).is_err()) {
            let size = found(store.read(id, &rev))?.map(|text| text.len() as u64);
            let parent = lineage.parent(&rev);
            let host = store.host(id, &rev);
            entries.push(Entry { rev, time: None, size, role: "gone", parent, host, why });
        }
    }
    entries.sort_by(|a, b| b.rev.cmp(&a.rev));
    Ok(entries)
}

/// For the graph: each revision with the nearest one before it in its line that is listed too.
fn lines_of(entries: &[Entry]) -> Vec<(Rev, Option<Rev>)> {
    let parents: BTreeMap<&Rev, &Rev> =
        entries.iter().filter_map(|entry| Some((&entry.rev, &entry.parent.as_ref()?.rev))).collect();
    let listed = |rev: &Rev| entries.iter().any(|entry| entry.rev == *rev);
    let before = |entry: &Entry| {
        let mut next = &entry.parent.as_ref()?.rev;
        for _ in 0..entries.len() {
            if listed(next) {
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
    let time = entry.time.clone().unwrap_or_else(dash);
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
            Err(_) => format!(" {why}"),
        };
    }
    row
}

fn json(entry: &Entry) -> String {
    let null = || "null".to_owned();
    let parent = entry.parent.as_ref().filter(|parent| !parent.assumed);
    let mut json = format!(
        r#"{{"rev":{},"generation":{},"time":{},"size":{},"role":{},"parent":{},"host":{}"#,
        quoted(entry.rev.as_str()),
        entry.rev.generation().map_or_else(null, |n| n.to_string()),
        entry.time.as_deref().map_or_else(null, quoted),
        entry.size.map_or_else(null, |size| size.to_string()),
        quoted(entry.role),
        parent.map_or_else(null, |parent| quoted(parent.rev.as_str())),
        entry.host.map_or_else(null, |host| quoted(host.as_str())),
    );
    if !entry.why.is_empty() {
        let why: Vec<String> = entry.why.iter().map(|why| quoted(why)).collect();
        json += &format!(r#","why":[{}]"#, why.join(","));
    }
    json + "}"
}
