//! `get`, `ls`, `all`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;

use super::exit::{CliError, Tally};
use super::revision::{REVISIONS, Target};
use super::text::Out;
use super::when::local;
use super::{Names, place, revision};
use crate::document;
use crate::error::found;
use crate::rev::ObjectId;
use crate::store::Store;

/// Print objects, each with its `_id` and `_rev`
///
/// One JSON text after the other, as the original library's getObject returns them.
#[derive(Debug, Args)]
#[command(after_help = REVISIONS)]
pub struct Get {
    /// The stored bytes as they are, no line break added
    #[arg(long)]
    raw: bool,
    /// This revision instead of the winner, a removed one too
    #[arg(long, value_name = "REV")]
    rev: Option<OsString>,
    #[command(flatten)]
    names: Names,
}

impl Get {
    pub fn run(mut self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let names = Names { names: std::mem::take(&mut self.names.names) };
        let (store, words) = names.words(store)?;
        if self.rev.is_some() && words.len() > 1 {
            return Err(CliError::Usage("--rev takes one id".into()));
        }
        let mut tally = Tally::of(&store);
        for word in &words {
            let text = Target::new(&store, word).and_then(|target| self.read(&store, &target));
            tally.add(text.and_then(|text| match self.raw {
                true => out.bytes(&text),
                false => out.text(&text),
            }))?;
        }
        tally.finish()
    }

    fn read(&self, store: &Store, target: &Target) -> Result<Vec<u8>, CliError> {
        let id = &target.id;
        let rev = match (&self.rev, target.rev(store)?) {
            (Some(_), Some(_)) => {
                return Err(CliError::Usage("which revision? the id says one, and --rev another".into()));
            }
            (Some(rev), None) => Some(revision::find(store, id, rev)?),
            (None, rev) => rev,
        };
        Ok(match (rev, self.raw) {
            (None, false) => store.get(id)?,
            (None, true) => store.winner(id)?.text,
            (Some(rev), raw) => {
                let text = store.read(id, &rev).map_err(|e| revision::unread(&rev, e))?;
                if raw { text } else { document::object_view(&text, &id.to_text(), rev.as_str()) }
            }
        })
    }
}

/// List the ids of all objects
///
/// Sorted by their bytes, one on each line.
#[derive(Debug, Args)]
pub struct Ls {
    /// Generation, bytes, time, number of conflicts, id
    #[arg(short, long)]
    long: bool,
    /// End each line with a NUL byte instead of a line break: an id may contain one
    #[arg(short = '0', long = "null")]
    null: bool,
    /// The store, or its mount
    #[arg(value_name = "STORE")]
    place: Option<PathBuf>,
}

impl Ls {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let store = Store::open(&place::only(store, self.place)?)?;
        let mut ids = store.ids()?;
        ids.sort();
        let escape = !self.null && std::io::stdout().is_terminal();
        let mut tally = Tally::default();
        for id in &ids {
            let columns = if self.long { columns(&store, id) } else { Ok(String::new()) };
            tally.add(columns.and_then(|columns| {
                out.bytes(columns.as_bytes())?;
                match escape {
                    true => out.bytes(id.to_string().as_bytes())?,
                    false => out.bytes(id.as_os_str().as_bytes())?,
                }
                out.bytes(if self.null { b"\0" } else { b"\n" })
            }))?;
        }
        tally.finish()
    }
}

/// What `ls -l` says before the id; of an object that holds nothing readable, dashes.
fn columns(store: &Store, id: &ObjectId) -> Result<String, CliError> {
    let (generation, size, time) = match found(store.winner_meta(id))? {
        Some((rev, meta)) => {
            (rev.generation_text().to_owned(), meta.size.to_string(), local(meta.published()))
        }
        None => ("-".into(), "-".into(), "-".into()),
    };
    let conflicts = found(store.conflicts(id))?.map_or(0, |groups| groups.len());
    Ok(format!("{generation:>6} {size:>10} {time:>20} {conflicts:>3} "))
}

/// Print all objects, one JSON text per line
///
/// As `get` does, but white space between the tokens is left out; no token changes.
#[derive(Debug, Args)]
pub struct All {
    /// One JSON array instead
    #[arg(long)]
    array: bool,
    /// The store, or its mount
    #[arg(value_name = "STORE")]
    place: Option<PathBuf>,
}

impl All {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out) -> Result<(), CliError> {
        let store = Store::open(&place::only(store, self.place)?)?;
        let mut tally = Tally::default();
        let (open, between, close) = if self.array { ("[", ",\n", "]\n") } else { ("", "\n", "") };
        out.bytes(open.as_bytes())?;
        let mut any = false;
        for object in store.all()? {
            tally.add(object.map_err(CliError::from).and_then(|object| {
                let view = document::object_view(&object.text, &object.id.to_text(), object.rev.as_str());
                if any {
                    out.bytes(between.as_bytes())?;
                }
                any = true;
                out.bytes(&document::compact(&view))
            }))?;
        }
        if any && !self.array {
            out.bytes(b"\n")?;
        }
        out.bytes(close.as_bytes())?;
        tally.finish()
    }
}
