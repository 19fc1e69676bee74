//! `put`, `create`, `update`, `upsert`, `rm`: the text comes from standard input, the new revision's name goes out.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;

use super::Names;
use super::exit::{CliError, Tally};
use super::hint::explain;
use super::text::Out;
use super::texts::{Fault, Text, Texts};
use crate::backend::Durability;
use crate::document::{self, NotObject};
use crate::error::Error;
use crate::rev::ObjectId;
use crate::store::{SaveOptions, Saved, Store};

/// How a text becomes a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Byte for byte, on top of everything.
    Put,
    /// Only where there is no such object.
    Create,
    /// On top of the revision that the text's `_rev` names.
    Update,
    /// Its members over those of the object.
    Upsert,
}

/// Stores one text. Without an id the text's own `_id` says whose it is. What each way does is said in `cli`.
#[derive(Debug, Args)]
pub struct Save {
    /// Return when the revision would survive a power cut
    #[arg(long)]
    durable: bool,
    #[command(flatten)]
    names: Names,
}

impl Save {
    pub fn run(self, store: Option<PathBuf>, out: &mut Out, way: WriteMode) -> Result<(), CliError> {
        let (store, ids) = self.names.locate_new(store)?;
        let given = match &ids[..] {
            [] if way == WriteMode::Put => return Err(CliError::Usage("which object? give its id".into())),
            [] => None,
            [id] => Some(id.clone()),
            [_, second, ..] => {
                return Err(CliError::Usage(format!("one object at a time: {second} is one id too many")));
            }
        };
        let text = input()?;
        let id = given.map_or_else(|| own_id(&text), Ok).map_err(|e| several(&text, e))?;
        let saved = save(&store, &id, &text, way, self.durable)
            .map_err(|e| explain(&store, several(&text, e.into())))?;
        out.line(saved.rev)
    }
}

fn save(store: &Store, id: &ObjectId, text: &[u8], way: WriteMode, durable: bool) -> Result<Saved, Error> {
    let saved = match way {
        WriteMode::Put => {
            let how = if durable { Durability::Full } else { Durability::Ordered };
            return store.put(id, text, &SaveOptions { how, ..SaveOptions::default() });
        }
        WriteMode::Create => store.create(id, text)?,
        WriteMode::Update => store.update(id, text)?,
        WriteMode::Upsert => store.upsert(id, text)?,
    };
    if durable {
        store.backend().sync(id, &saved.rev)?;
    }
    Ok(saved)
}

/// What was said, and for more than one object what takes those.
fn several(text: &[u8], said: CliError) -> CliError {
    let many = match &said {
        CliError::Store(Error::NotObject(NotObject::Kind("an array"))) => true,
        CliError::Store(Error::NotObject(NotObject::Trailing { .. })) => {
            let is_object =
                |one: Result<Text, Fault>| one.is_ok_and(|one| document::check(&one.bytes).is_ok());
            Texts::new(text, true).is_ok_and(|texts| texts.take(2).all(is_object))
        }
        _ => false,
    };
    match many {
        true => CliError::Refused(format!(
            "{}; `revfs import -` takes many",
            said.to_string().replacen("not a JSON object: ", "", 1)
        )),
        false => said,
    }
}

/// Standard input to its end.
fn input() -> Result<Vec<u8>, CliError> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        eprintln!("revfs: type the JSON text, then Ctrl-D");
    }
    let mut text = Vec::new();
    stdin.read_to_end(&mut text).map_err(|e| CliError::Io(format!("cannot read standard input: {e}")))?;
    Ok(text)
}

/// The id that the text itself names: the last top-level `_id`, if it is a string.
fn own_id(text: &[u8]) -> Result<ObjectId, CliError> {
    let text = document::strip_bom(text);
    let members = document::members(text).map_err(Error::from)?;
    let value =
        members.iter().rfind(|member| member.key == "_id").and_then(|member| text.get(member.value.clone()));
    match value.and_then(|value| serde_json::from_slice::<String>(value).ok()) {
        Some(id) => Ok(ObjectId::new(id)?),
        None => {
            Err(CliError::Usage("which object? give its id, or text with an `_id` that is a string".into()))
        }
    }
}

/// Deletes objects, each as far as it goes.
pub fn rm(names: Names, store: Option<PathBuf>) -> Result<(), CliError> {
    let (store, ids) = names.locate_some(store)?;
    let mut tally = Tally::of(&store);
    for id in &ids {
        tally.add(store.delete(id).map(drop).map_err(CliError::from))?;
    }
    tally.finish()
}
