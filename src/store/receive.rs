//! What came from other hosts enters the store: revisions, and facts of removal.

use std::io::ErrorKind;

use super::Store;
use super::revision_set::RevisionSet;
use crate::backend::{Attrs, Durability, PURGED, Removal};
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};

/// A revision from elsewhere: its name, its bytes, and what its file is to look like.
pub type Incoming = (Rev, Vec<u8>, Attrs);

impl Store {
    /// Adds what is known elsewhere of an object: facts first, so that what was removed lives here at no moment; then those
    /// revisions that are not known here, the winner first; then the directory is made to say what the facts say. A revision
    /// that facts remove is kept among what is gone: what undoes its removal may be on the way. Whatever order hosts receive
    /// in, they come to show the same. How many revisions were added.
    ///
    /// # Errors
    /// [`Error::Io`]. What was added stays; the call can be made again.
    pub fn receive(&self, id: &ObjectId, facts: &[Removal], revs: &[Incoming]) -> Result<usize> {
        let added = {
            let _turn = self.lock_object(id);
            if !facts.is_empty() {
                self.learn(id, facts)?;
            }
            let set = self.revision_set(id)?;
            let (mut revs, others): (Vec<&Incoming>, Vec<&Incoming>) =
                revs.iter().partition(|(rev, ..)| is_lacking(&set, rev));
            for (rev, text, _) in others {
                self.keep_removed(id, &set, rev, text)?;
            }
            revs.sort_by(|a, b| b.0.cmp(&a.0));
            for (rev, text, attrs) in &revs {
                self.add(id, rev, text, attrs)?;
            }
            revs.len()
        };
        if found(self.sweep(id))?.is_none() {
            // Its revisions were removed one by one, by a deletion that was withdrawn.
            let missing = self.revision_set(id)?.missing;
            self.bring_back(id, &missing)?;
        }
        Ok(added)
    }

    /// Adds facts. What they remove here goes with its bytes, for the same reason: it can be brought back.
    fn learn(&self, id: &ObjectId, facts: &[Removal]) -> Result<()> {
        let how = Durability::Ordered;
        let set = self.revision_set_with(id, facts)?;
        for (rev, why) in &set.dead {
            self.retire(id, rev, why, how)?;
        }
        // An empty directory makes the original's upsert fail. Whoever was interrupted here left one.
        if set.exists && set.live.is_empty() {
            self.backend().remove_empty(id)?;
        }
        self.backend().learn(id, facts, how)?;
        // Whoever purged a text wants it to be nowhere.
        let purged = facts.iter().filter_map(|fact| match fact {
            Removal::Rev { rev, why } if why == PURGED => Some(rev.clone()),
            _ => None,
        });
        let purged: Vec<Rev> = purged.filter(|rev| self.backend().read_removed(id, rev).is_ok()).collect();
        if purged.is_empty() { Ok(()) } else { self.backend().purge(id, &purged, how).map(drop) }
    }

    /// Keeps the bytes of a revision that came in spite of its removal, unless they are there, or were to be nowhere.
    fn keep_removed(&self, id: &ObjectId, set: &RevisionSet, rev: &Rev, text: &[u8]) -> Result<()> {
        let Some(why) = set.removal(rev) else { return Ok(()) };
        if set.reasons(rev).any(|why| why == PURGED) || self.backend().read_removed(id, rev).is_ok() {
            return Ok(());
        }
        match self.backend().keep(id, rev, why, text, Durability::Ordered) {
            // An older revfs has purged it.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
            kept => kept,
        }
    }

    /// What would be known of an object's revisions with these facts.
    fn revision_set_with(&self, id: &ObjectId, facts: &[Removal]) -> Result<RevisionSet> {
        let entries = found(self.backend().entries(id))?;
        Ok(RevisionSet::new(entries, [self.backend().removed(id)?, facts.to_vec()].concat()))
    }

    /// Those of these revisions of which this store has neither the bytes nor a fact that removes them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lacking(&self, id: &ObjectId, facts: &[Removal], revs: &[Rev]) -> Result<Vec<Rev>> {
        let set = self.revision_set_with(id, facts)?;
        let mut lacking: Vec<Rev> = revs.iter().filter(|rev| is_lacking(&set, rev)).cloned().collect();
        // Bytes that are kept among what is gone are put back from there.
        lacking.retain(|rev| self.backend().read_removed(id, rev).is_err());
        Ok(lacking)
    }

    /// Makes revisions live again that are among what is gone with their bytes, and that no fact keeps there.
    pub(crate) fn bring_back(&self, id: &ObjectId, revs: &[Rev]) -> Result<()> {
        let _turn = self.lock_object(id);
        self.each_kept(id, revs.iter().rev(), |rev, text, attrs| self.add(id, rev, text, attrs)).map(drop)
    }

    fn add(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs) -> Result<()> {
        // Somebody may make or delete the object meanwhile.
        for _ in 0..super::TRIES {
            match self.publish_copy(id, rev, text, attrs) {
                Err(Error::NoObject(_)) => {}
                published => return published,
            }
            match self.backend().create(id, rev, text, attrs, Durability::Ordered) {
                Err(Error::Exists(_)) => {}
                created => return created.map(drop),
            }
        }
        Err(super::unsteady(id))
    }
}

/// Whether a revision that lives elsewhere is to live here, too, and does not.
fn is_lacking(set: &RevisionSet, rev: &Rev) -> bool {
    set.live.binary_search(rev).is_err() && set.awaited(rev)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::backend::{Backend, DELETED, DirBackend, Entry, faults};
    use crate::base::Evidence;
    use crate::store::SaveOptions;
    use crate::store::testing::{id, rev};

    /// What comes between two calls of a change, whichever they are.
    fn deleted_meanwhile(change: impl Fn(&Store) -> Rev) {
        for n in 1..300 {
            let place = tempfile::tempdir().unwrap();
            let open = || Arc::new(DirBackend::open(place.path()).unwrap());
            let (s, other) = (Store::with_backend(open()), open());
            s.create(&id("x"), b"{}").unwrap();
            let (seen, before) = channel();
            faults::before(n, move || {
                seen.send(other.entries(&id("x")).unwrap()).unwrap();
                other.remove(&id("x"), &"1".repeat(32), Durability::Ordered).unwrap();
            });
            let came = change(&s);
            if !faults::has_happened() {
                return;
            }
            // A deletion takes what was there before it, and nothing else; one that is in time may take what is on its way.
            let was_there = before.recv().unwrap().contains(&Entry::Rev(came.clone()));
            let taken = s.backend().read_removed(&id("x"), &came).is_ok();
            let lives = s.revisions(&id("x")).is_ok_and(|live| live == [came]);
            assert!(lives != taken && (lives || was_there), "{n}");
        }
        panic!("a change has an end");
    }

    #[test]
    fn a_revision_that_comes_while_its_object_is_deleted_lives() {
        let late = rev(3, 'a');
        deleted_meanwhile(|s| {
            let revs = [(late.clone(), b"{\"n\":1}".to_vec(), Attrs::default())];
            assert_eq!(s.receive(&id("x"), &[], &revs).unwrap(), 1);
            late.clone()
        });
    }

    #[test]
    fn facts_that_were_learned_by_half_leave_no_empty_directory() {
        let (s, backend) = crate::store::testing::store();
        let saved = s.create(&id("x"), b"{}").unwrap();
        backend.retire(&id("x"), &saved.rev, DELETED, Durability::Ordered).unwrap();
        assert_eq!(backend.entries(&id("x")).unwrap(), []);
        let facts = [Removal::Rev { rev: saved.rev, why: DELETED.into() }];
        s.receive(&id("x"), &facts, &[]).unwrap();
        assert!(matches!(backend.entries(&id("x")), Err(Error::NoObject(_))));
    }

    #[test]
    fn a_save_while_the_object_is_deleted_lives() {
        deleted_meanwhile(|s| {
            s.save(&id("x"), b"{\"n\":1}", &Evidence::default(), &SaveOptions::default()).unwrap().rev
        });
    }
}
