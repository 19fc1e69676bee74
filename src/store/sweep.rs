//! Making an object's directory say what the facts say: what is back is removed again, what lives again is put back.

use std::io::ErrorKind;

use super::Store;
use super::revision_set::{RevisionSet, reason_text};
use super::save::inherit;
use crate::backend::{Attrs, Durability, PURGED, Removal};
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};

/// Revisions of an object whose files are where the facts say they are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Astray {
    /// In the object's directory in spite of a fact, ascending, each with the reason as in [`Store::removed`].
    pub back: Vec<(Rev, String)>,
    /// Among what is gone only, though nothing keeps them there any more, ascending.
    pub missing: Vec<Rev>,
}

impl Store {
    /// Makes an object's directory say what the facts say: removed revisions that came back are removed again, and those
    /// that live again because what removed them was undone are put back. Readers of the directory who do not know the
    /// facts (the original library) then see what we see. Returns whether there was anything to do.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn sweep(&self, id: &ObjectId) -> Result<bool> {
        let _turn = self.lock_object(id);
        let how = Durability::Ordered;
        let mut any = false;
        let set = match found(self.existing_revision_set(id))? {
            Some(set) => set,
            None => {
                self.finish_revival(id)?;
                any = true;
                self.existing_revision_set(id)?
            }
        };
        any |= self.put_back(id, &set)?;
        for (rev, why) in &set.dead {
            any |= self.retire(id, rev, why, how)?;
        }
        // What was purged is so again.
        let purged = |(rev, _): &&(Rev, String)| set.reasons(rev).any(|why| why == PURGED);
        let purged: Vec<Rev> = set.dead.iter().filter(purged).map(|(rev, _)| rev.clone()).collect();
        if !purged.is_empty() {
            found(self.backend().purge(id, &purged, how))?;
        }
        // An empty directory makes the original's upsert fail.
        if any && set.live.is_empty() && set.missing.is_empty() {
            self.backend().remove_empty(id)?;
        }
        Ok(any)
    }

    /// What [`sweep`](Self::sweep) would put right.
    pub(crate) fn astray(&self, id: &ObjectId) -> Result<Astray> {
        let set = self.revision_set(id)?;
        let kept = |rev: &Rev| self.backend().read_removed(id, rev).is_ok();
        let missing = match set.exists {
            true => set.missing.into_iter().filter(kept).collect(),
            false => self.interrupted(id)?.map(|(_, revs)| revs).unwrap_or_default(),
        };
        let back = set.dead.into_iter().map(|(rev, why)| (rev, reason_text(&why).to_owned())).collect();
        Ok(Astray { back, missing })
    }

    /// Publishes a revision unless somebody else has.
    pub(super) fn publish_copy(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs) -> Result<()> {
        match self.backend().publish(id, rev, text, attrs, Durability::Ordered) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
            published => published.map(drop),
        }
    }

    /// Puts revisions back that live again. Whether there was one.
    pub(super) fn put_back(&self, id: &ObjectId, set: &RevisionSet) -> Result<bool> {
        self.each_kept(id, set.missing.iter(), |rev, text, attrs| self.publish_copy(id, rev, text, attrs))
    }

    /// Calls `back` for each of these revisions whose bytes are among what is gone, with them, and with what its file is to look
    /// like. Whether there was one.
    pub(super) fn each_kept<'r>(
        &self,
        id: &ObjectId,
        revs: impl Iterator<Item = &'r Rev>,
        back: impl Fn(&Rev, &[u8], &Attrs) -> Result<()>,
    ) -> Result<bool> {
        let mut any = false;
        let mut revs = revs.peekable();
        let tombstones = if revs.peek().is_none() { Vec::new() } else { self.backend().tombstones(id)? };
        for rev in revs {
            // Or it was purged.
            if let Some(text) = found(self.backend().read_removed(id, rev))? {
                let like = tombstones.iter().find(|grave| grave.rev == *rev).map(|grave| &grave.meta);
                let attrs = Attrs { origin: self.backend().origin(id, rev), ..Attrs::default() };
                back(rev, &text, &inherit(&attrs, like))?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Brings back an object whose deletion was withdrawn by somebody who did not get further.
    fn finish_revival(&self, id: &ObjectId) -> Result<()> {
        let (op, _) = self.interrupted(id)?.ok_or_else(|| Error::NoObject(id.clone()))?;
        self.backend().restore(id, &op, Durability::Ordered)
    }

    /// A deletion that was withdrawn and holds revisions that should live: its name, and these.
    fn interrupted(&self, id: &ObjectId) -> Result<Option<(String, Vec<Rev>)>> {
        let set = self.revision_set(id)?;
        if set.missing.is_empty() {
            return Ok(None);
        }
        Ok(self.backend().removed(id)?.into_iter().find_map(|gone| match gone {
            Removal::Object { op, mut revs } if !set.is_deletion(&op) => {
                revs.retain(|rev| set.missing.contains(rev));
                (!revs.is_empty()).then_some((op, revs))
            }
            _ => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{DISCARDED, Entry, Host, Origin};
    use crate::store::testing::{id, rev, store, text};

    #[test]
    fn revisions_that_come_back_are_removed_again() {
        let (s, backend) = store();
        let x = id("x");
        let (a, b, c) = (rev(1, 'a'), rev(1, 'b'), rev(2, 'c'));
        for r in [&a, &b, &c] {
            backend.plant(&x, Entry::Rev(r.clone()), b"{}");
        }
        s.backend().retire(&x, &a, DISCARDED, Durability::Ordered).unwrap();
        s.backend().retire(&x, &b, c.as_str(), Durability::Ordered).unwrap();
        assert!(!s.sweep(&x).unwrap());
        for r in [&a, &b] {
            backend.plant(&x, Entry::Rev(r.clone()), b"{}");
        }
        assert_eq!(s.revisions(&x).unwrap(), std::slice::from_ref(&c));
        assert!(s.conflicts(&x).unwrap().is_empty() && s.conflicted().unwrap().is_empty());
        assert!(s.sweep(&x).unwrap());
        assert_eq!(s.backend().entries(&x).unwrap(), [Entry::Rev(c.clone())]);
        // What superseded the one is discarded: it lives again.
        s.create(&id("y"), b"{}").unwrap();
        s.update(&x, b"{\"n\":1}").unwrap();
        s.backend().retire(&x, &c, DISCARDED, Durability::Ordered).unwrap();
        assert!(s.sweep(&x).unwrap());
        assert!(s.revisions(&x).unwrap().contains(&b) && !s.revisions(&x).unwrap().contains(&a));

        // It is from where it was from.
        let attrs = Attrs { origin: Origin::Elsewhere(Host::new(b"elsewhere")), ..Attrs::default() };
        s.backend().publish(&x, &rev(2, 'd'), b"{}", &attrs, Durability::Ordered).unwrap();
        s.backend().publish(&x, &rev(2, 'e'), b"{}", &Attrs::default(), Durability::Ordered).unwrap();
        s.backend().retire(&x, &rev(2, 'd'), rev(2, 'e').as_str(), Durability::Ordered).unwrap();
        s.backend().retire(&x, &rev(2, 'e'), DISCARDED, Durability::Ordered).unwrap();
        assert!(s.sweep(&x).unwrap());
        assert!(s.revisions(&x).unwrap().contains(&rev(2, 'd')));
        assert_eq!(s.host(&x, &rev(2, 'd')), Host::new(b"elsewhere"));

        // A deleted object that comes back as a whole goes as a whole, and leaves no empty directory.
        let all = s.revisions(&x).unwrap();
        s.delete(&x).unwrap();
        for r in &all {
            backend.plant(&x, Entry::Rev(r.clone()), b"{}");
        }
        assert!(matches!(s.winner(&x), Err(Error::NoObject(_))));
        assert!(s.sweep(&x).unwrap());
        assert_eq!(s.ids().unwrap(), [id("y")]);
        assert_eq!(s.all().unwrap().count(), 1);
    }

    #[test]
    fn whichever_call_of_a_revival_fails_nothing_is_lost_and_the_next_one_succeeds() {
        use crate::backend::{DirBackend, faults};
        use crate::base::Evidence;
        use crate::store::SaveOptions;
        let x = id("x");
        for n in 1..300 {
            let place = tempfile::tempdir().unwrap();
            let s = Store::with_backend(Arc::new(DirBackend::open(place.path()).unwrap()));
            let first = s.create(&x, b"{\"n\":0}").unwrap().rev;
            let op = s.delete(&x).unwrap();
            let revive = |text: &[u8]| s.revive(&x, &op, text, &Evidence::default(), &SaveOptions::default());
            faults::fail(n, rustix::io::Errno::IO);
            let revived = revive(b"{\"n\":1}");
            if !faults::end() {
                revived.unwrap();
                return;
            }
            assert_eq!(s.read(&x, &first).unwrap(), b"{\"n\":0}", "{n}");
            // The caller falls back to a plain save where it is too late for the other.
            match revive(b"{\"n\":2}") {
                Err(Error::NoObject(_) | Error::Exists(_)) => drop(s.update(&x, b"{\"n\":2}").unwrap()),
                revived => drop(revived.unwrap()),
            }
            assert_eq!(text(&s, "x"), "{\"n\":2}", "{n}");
            let _ = s.sweep(&x);
            assert_eq!(text(&s, "x"), "{\"n\":2}", "{n}");
            assert!(s.revisions(&x).unwrap().contains(&first), "{n}: the history is back");
        }
        panic!("a revival has an end");
    }
}
