//! What an object has been.

use std::collections::HashMap;
use std::time::SystemTime;

use super::Store;
use crate::backend::{Host, Meta, Origin};
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

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Winner => "winner",
            Role::Loser => "loser",
            Role::Ancestor => "ancestor",
            Role::Broken => "broken",
        }
    }
}

impl Store {
    /// The other host that a revision came from, live or gone, where that is known.
    pub fn host(&self, id: &ObjectId, rev: &Rev) -> Option<Host> {
        self.backend().origin(id, rev).host()
    }

    /// When a revision was saved, as far as that is known: one that came from another host tells it by its mtime, which was not
    /// changed here.
    pub fn saved_at(&self, id: &ObjectId, rev: &Rev, meta: &Meta) -> SystemTime {
        match self.backend().origin(id, rev) {
            Origin::Here => meta.published(),
            Origin::Elsewhere(_) => meta.mtime,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{DISCARDED, Durability, Entry, Removal};
    use crate::store::testing::{id, rev, store};

    #[test]
    fn history_tells_roles_and_parents() {
        let (s, backend) = store();
        let x = id("x");
        let a = s.create(&x, b"{\"n\":0}").unwrap().rev;
        let b = s.update(&x, b"{\"n\":1}").unwrap().rev;
        let declared = format!("{{\"n\":2,\"_rev\":\"{a}\"}}");
        let c = s.update(&x, declared.as_bytes()).unwrap().rev;
        let d = s.update(&x, b"{\"n\":3}").unwrap().rev;
        backend.plant(&x, Entry::Rev(rev(9, 'f')), b"{");
        backend.plant(&x, Entry::Foreign("notes".into()), b"");
        let history = s.history(&x).unwrap();
        let told: Vec<_> = history.iter().map(|one| (&one.rev, one.role, one.parent.as_ref())).collect();
        let broken = rev(9, 'f');
        assert_eq!(
            told,
            [
                (&a, Role::Ancestor, None),
                (&b, Role::Loser, Some(&a)),
                (&c, Role::Ancestor, Some(&a)),
                (&d, Role::Winner, Some(&c)),
                (&broken, Role::Broken, None),
            ]
        );
        assert!(history.iter().all(|one| one.meta.is_some()));
        s.backend().retire(&x, &c, DISCARDED, Durability::Ordered).unwrap();
        let history = s.history(&x).unwrap();
        let of_d = history.iter().find(|one| one.rev == d).unwrap();
        assert_eq!(of_d.parent, Some(c), "a parent that is gone is set");
        assert!(s.backend().removed(&x).unwrap().iter().any(|g| matches!(g, Removal::Rev { .. })));
    }
}
