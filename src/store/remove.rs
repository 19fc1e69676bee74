//! Deleting an object.

use super::Store;
use crate::backend::{Durability, Removal};
use crate::error::Result;
use crate::rev::{ObjectId, Rev};

impl Store {
    /// Deletes an object, with all its revisions. Returns the operation's name, by which it can be brought back.
    ///
    /// # Errors
    /// [`NoObject`](crate::Error::NoObject), [`Io`](crate::Error::Io).
    pub fn delete(&self, id: &ObjectId) -> Result<String> {
        let _turn = self.lock_object(id);
        self.remove(id)
    }

    /// [`delete`](Self::delete), but only where `rev` still wins and nobody saves meanwhile. Returns the operation, `None`
    /// where the object stays.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_at(&self, id: &ObjectId, rev: &Rev) -> Result<Option<String>> {
        // No save of this process can come between.
        let _turn = self.lock_object(id);
        let before = self.revisions(id)?;
        if self.winner_meta(id)?.0 != *rev {
            return Ok(None);
        }
        let op = self.remove(id)?;
        let came = |gone: &Removal| match gone {
            Removal::Object { op: by, revs } => *by == op && revs.iter().any(|rev| !before.contains(rev)),
            Removal::Rev { .. } | Removal::Withdrawn { .. } | Removal::Aside { .. } => false,
        };
        // Another process saved at this very moment: the object is its.
        if self.backend().removed(id)?.iter().any(came) {
            self.backend().restore(id, &op, Durability::Ordered)?;
            return Ok(None);
        }
        Ok(Some(op))
    }

    fn remove(&self, id: &ObjectId) -> Result<String> {
        // A deletion takes what is in the directory: so all that lives must be there.
        let set = self.existing_revision_set(id)?;
        self.put_back(id, &set)?;
        let (op, how) = (self.operation(), Durability::Ordered);
        self.backend().remove(id, &op, how)?;
        // And what lives and has not come yet: only facts about it have.
        let fact = |rev| Removal::Rev { rev, why: op.clone() };
        let known: Vec<Removal> = set.missing.into_iter().map(fact).collect();
        if let Err(e) = self.backend().learn(id, &known, how) {
            log::warn!("{id} is deleted, but for what comes of it from elsewhere: {e}");
        }
        Ok(op)
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::{Durability, Entry, Removal};
    use crate::error::Error;
    use crate::store::testing::{id, rev, store, text};

    #[test]
    fn a_deletion_takes_what_only_facts_have_come_of() {
        let ((s, backend), x, late) = (store(), id("x"), rev(3, 'a'));
        s.create(&x, b"{}").unwrap();
        let op = "0".repeat(32);
        let undone = [Removal::Rev { rev: late.clone(), why: op.clone() }, Removal::Withdrawn { op }];
        s.backend().learn(&x, &undone, Durability::Ordered).unwrap();
        s.delete(&x).unwrap();
        backend.plant(&x, Entry::Rev(late), b"{}");
        assert!(matches!(s.winner(&x), Err(Error::NoObject(_))));
    }

    #[test]
    fn a_deleted_object_that_came_back_can_be_created() {
        let (s, backend) = store();
        let x = id("x");
        let first = s.create(&x, b"{}").unwrap();
        s.delete(&x).unwrap();
        backend.plant(&x, Entry::Rev(first.rev), b"{}");
        assert!(matches!(s.update(&id("y"), b"{}"), Err(Error::NoObject(_))));
        let again = s.create(&x, b"{\"n\":1}").unwrap();
        assert_eq!((again.rev.generation(), text(&s, "x")), (Some(1), "{\"n\":1}".into()));
    }
}
