//! What an object has been.

use std::collections::HashMap;

use super::Store;
use crate::backend::Meta;
use crate::document;
use crate::error::{Error, Result};
use crate::rev::{self, ObjectId, Rev};

/// One live revision among the others of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its name.
    pub rev: Rev,
    /// `None` where it is not a file.
    pub meta: Option<Meta>,
    /// What it is to the object.
    pub role: Role,
    /// The revision that it was made from, where its name says so and that one is known, live or gone.
    pub parent: Option<Rev>,
}

/// What a revision is to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What readers get.
    Winner,
    /// In conflict, and not the highest of its generation.
    Loser,
    /// An earlier state.
    Ancestor,
    /// Holds no JSON object, or is no file.
    Broken,
}

impl Store {
    /// All live revisions of an object, in ascending order. Reads each.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn history(&self, id: &ObjectId) -> Result<Vec<Revision>> {
        let set = self.existing_revision_set(id)?;
        let names: HashMap<String, &Rev> = set.all().map(|rev| (rev.mark(), rev)).collect();
        let parent = |rev: &Rev| {
            let parent = *names.get(rev.parent_mark())?;
            (parent != rev).then(|| parent.clone())
        };
        let mut history = Vec::with_capacity(set.live.len());
        for rev in &set.live {
            let (meta, role) = match self.backend().read(id, rev) {
                Ok((text, meta)) if document::check(&text).is_ok() => (Some(meta), Role::Ancestor),
                Ok((_, meta)) => (Some(meta), Role::Broken),
                Err(Error::NoRevision(..)) => (None, Role::Broken),
                Err(e) => return Err(e),
            };
            history.push(Revision { rev: rev.clone(), meta, role, parent: parent(rev) });
        }
        for group in rev::conflicts(&set.live) {
            let losers = group.split_last().map_or(&group[..], |(_, losers)| losers);
            for one in
                history.iter_mut().filter(|one| one.role == Role::Ancestor && losers.contains(&one.rev))
            {
                one.role = Role::Loser;
            }
        }
        if let Some(winner) = history.iter_mut().rev().find(|one| one.role != Role::Broken) {
            winner.role = Role::Winner;
        }
        Ok(history)
    }
}
