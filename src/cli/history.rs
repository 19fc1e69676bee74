//! `conflicts`, `log`.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;

use super::Names;
use super::exit::{Failure, Tally};
use super::text::{Out, groups, quoted, utc};
use crate::rev::{ObjectId, Rev};
use crate::store::{Revision, Role, Store};

/// Without ids: lists those in conflict. With ids: their conflicts, one line of revisions per generation, the id
/// and a tab before it where several ids are given. Finding none is no failure.
#[derive(Debug, Args)]
pub struct Conflicts {
    /// One id: a list of lists of revisions, as the original library's getConflicts; else an object of those by id
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    names: Names,
}

impl Conflicts {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), Failure> {
        let (store, given) = self.names.locate(store)?;
        let ids = match &given[..] {
            [] => {
                let mut ids = store.conflicted()?;
                ids.sort();
                ids
            }
            given => given.to_vec(),
        };
        let mut tally = Tally::default();
        let mut any = false;
        for id in &ids {
            let printed = match (self.json, &given[..]) {
                (false, []) => out.bytes(id.as_os_str().as_bytes()).and_then(|()| out.bytes(b"\n")),
                (false, _) => lines(&store, id, given.len() > 1, out),
                (true, [_]) => {
                    store.conflicts(id).map_err(Failure::from).and_then(|found| out.line(groups(&found)))
                }
                (true, _) => store.conflicts(id).map_err(Failure::from).and_then(|found| {
                    out.bytes(if any { b",\n" } else { b"{" })?;
                    any = true;
                    out.bytes(format!("{}:{}", quoted(&id.to_text()), groups(&found)).as_bytes())
                }),
            };
            tally.add(printed)?;
        }
        if self.json && given.len() != 1 {
            out.line(if any { "}" } else { "{}" })?;
        }
        tally.finish()
    }
}

fn lines(store: &Store, id: &ObjectId, with_id: bool, out: &mut Out) -> Result<(), Failure> {
    for group in store.conflicts(id)? {
        if with_id {
            out.bytes(id.as_os_str().as_bytes())?;
            out.bytes(b"\t")?;
        }
        let names: Vec<&str> = group.iter().map(Rev::as_str).collect();
        out.line(names.join(" "))?;
    }
    Ok(())
}

/// Lists the live revisions of one object, newest first.
#[derive(Debug, Args)]
pub struct Log {
    /// One JSON object per revision and line: rev, generation, time, size, role, parent
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    names: Names,
}

impl Log {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), Failure> {
        let (store, ids) = self.names.locate_some(store)?;
        let [id] = &ids[..] else {
            return Err(Failure::Usage("log takes one id".into()));
        };
        for revision in store.history(id)?.iter().rev() {
            out.line(if self.json { json(revision) } else { row(revision) })?;
        }
        Ok(())
    }
}

fn role(role: &Role) -> &'static str {
    match role {
        Role::Winner => "winner",
        Role::Loser => "loser",
        Role::Ancestor => "ancestor",
        Role::Broken => "broken",
    }
}

fn row(revision: &Revision) -> String {
    let (time, size) = match &revision.meta {
        Some(meta) => (utc(meta.published()), meta.size.to_string()),
        None => ("-".into(), "-".into()),
    };
    let parent = revision.parent.as_ref().map_or("-", Rev::as_str);
    format!("{} {time:>20} {size:>8} {:<8} {parent}", revision.rev, role(&revision.role))
}

fn json(revision: &Revision) -> String {
    let null = || "null".to_owned();
    let meta = revision.meta.as_ref();
    format!(
        r#"{{"rev":{},"generation":{},"time":{},"size":{},"role":{},"parent":{}}}"#,
        quoted(revision.rev.as_str()),
        revision.rev.generation().map_or_else(null, |n| n.to_string()),
        meta.map_or_else(null, |meta| quoted(&utc(meta.published()))),
        meta.map_or_else(null, |meta| meta.size.to_string()),
        quoted(role(&revision.role)),
        revision.parent.as_ref().map_or_else(null, |parent| quoted(parent.as_str())),
    )
}
