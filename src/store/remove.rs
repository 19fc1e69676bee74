//! Deleting, renaming, and putting right what removal facts say.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use super::revision_set::{DISCARDED, RevisionSet, reason_text};
use super::save::{SaveContext, inherit};
use super::{Object, Outcome, Saved, Store};
use crate::backend::{Attrs, Durability, Removal};
use crate::document;
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
    /// Deletes an object, with all its revisions. Returns the operation's name, by which it can be brought back.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
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
        let op = self.operation();
        self.backend().remove(id, &op, Durability::Ordered)?;
        Ok(op)
    }

    /// Gives an object another id; its history goes along. A text that holds its `_id` gets a revision with the new one.
    ///
    /// # Errors
    /// [`Error::NoObject`] where there is no `from`, [`Error::Exists`] where there is a `to`, [`Error::GenerationLimit`],
    /// [`Error::Io`]. After the first two everything is as it was.
    pub fn rename(&self, from: &ObjectId, to: &ObjectId) -> Result<Saved> {
        let _turns = self.0.locks.lock_both(from, to);
        let SaveContext { set, latest, .. } = self.prepare(from)?;
        let latest = latest.ok_or_else(|| Error::NoObject(from.clone()))?;
        let mut saved = Saved {
            rev: latest.rev.clone(),
            meta: latest.meta.clone(),
            outcome: Outcome::Same,
            altered: false,
        };
        if from == to {
            return Ok(saved);
        }
        let there = self.revision_set(to)?;
        if there.exists {
            return Err(Error::Exists(to.clone()));
        }
        let called = |id: &ObjectId| document::stamp(&latest.text, &id.to_text(), latest.rev.as_str());
        if let Some(op) = self.moved_by(to, &there, &set)? {
            let newer = match called(from) != called(to) || !there.contains(&latest.rev) {
                true => {
                    let generation = set.next_generation(from)?.max(there.next_generation(to)?);
                    Some(Rev::child_of(Some(&latest.rev), generation, self.random()))
                }
                false => None,
            };
            return self.move_back(from, to, &op, &set, &latest, newer);
        }
        // Under an id that this revision was once deleted from it would be dead: facts stay.
        let added = called(from) != called(to) || there.contains(&latest.rev);
        if added {
            let generation = set.next_generation(from)?.max(there.next_generation(to)?);
            let rev = Rev::child_of(Some(&latest.rev), generation, self.random());
            let text = document::stamp(&latest.text, &to.to_text(), rev.as_str());
            let attrs = latest.meta.attrs();
            // Before the move, so that the new id never shows the old text.
            saved.meta = self.backend().publish(from, &rev, &text, &attrs, Durability::Ordered)?;
            saved.altered = *text != *latest.text;
            (saved.rev, saved.outcome) = (rev, Outcome::Update);
        }
        let moved = self.backend().move_object(from, to, &self.operation(), Durability::Ordered);
        if moved.is_err() && added {
            let _ = self.backend().retire(from, &saved.rev, DISCARDED, Durability::Ordered);
        }
        moved.map(|()| saved)
    }

    /// The operation by which an object was given the id that it has now, where `then` is what is known under its old id and
    /// `now` is what it has become since: of what went with it then, some lives on in that.
    fn moved_by(&self, id: &ObjectId, then: &RevisionSet, now: &RevisionSet) -> Result<Option<String>> {
        let op = self.backend().removed(id)?.into_iter().find_map(|g| match g {
            Removal::Object { op, revs } if then.is_deletion(&op) => {
                revs.iter().any(|rev| now.live.contains(rev)).then_some(op)
            }
            _ => None,
        });
        Ok(op)
    }

    /// Gives an object back the id that it had before the move `op`: with its whole history, its conflicts, and what came to
    /// them meanwhile. `newer`: the name of a revision on top, where what it was called by then does not do.
    fn move_back(
        &self,
        from: &ObjectId,
        to: &ObjectId,
        op: &str,
        set: &RevisionSet,
        latest: &Object,
        newer: Option<Rev>,
    ) -> Result<Saved> {
        let how = Durability::Ordered;
        let saved = match newer {
            Some(rev) => {
                let text = document::stamp(&latest.text, &to.to_text(), rev.as_str());
                let meta = self.backend().revive(to, op, &rev, &text, &latest.meta.attrs(), how)?;
                Saved { meta, outcome: Outcome::Update, altered: *text != *latest.text, rev }
            }
            None => {
                self.backend().restore(to, op, how)?;
                let meta = self.backend().meta(to, &latest.rev)?;
                Saved { rev: latest.rev.clone(), meta, outcome: Outcome::Same, altered: false }
            }
        };
        self.0.cache.forget(to);
        let back = self.existing_revision_set(to)?;
        for rev in set.live.iter().filter(|rev| !back.contains(rev)) {
            let (text, meta) = self.backend().read(from, rev)?;
            self.backend().publish(to, rev, &text, &meta.attrs(), how)?;
        }
        for (rev, reasons) in set.removed().filter(|(rev, _)| back.live.contains(rev)) {
            for why in reasons {
                self.retire(to, rev, why, how)?;
            }
        }
        self.0.cache.forget(to);
        self.backend().remove(from, &self.operation(), how)?;
        self.0.cache.forget(from);
        Ok(saved)
    }

    /// How many revisions an object has that came less than `age` ago as a whole, and nothing of which was ever removed: a
    /// temporary file, perhaps, that is moved onto its place. 0 for any other.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub(crate) fn temporary_revisions(&self, id: &ObjectId, age: Duration) -> Result<usize> {
        const FEW: usize = 8;
        let set = self.existing_revision_set(id)?;
        if set.live.len() > FEW || set.names() > set.live.len() || set.foreign {
            return Ok(0);
        }
        let now = SystemTime::now();
        let recent = |rev: &Rev| -> Result<bool> {
            let came = self.backend().meta(id, rev)?.published_by();
            Ok(now.duration_since(came).is_ok_and(|ago| ago < age))
        };
        let all = set.live.iter().try_fold(true, |all, rev| Ok::<_, Error>(all && recent(rev)?))?;
        Ok(if all { set.live.len() } else { 0 })
    }

    /// Ends an object that was a temporary file, whose text is the winner of `into` now. That is no deletion: nothing tells of
    /// it, and other texts that it had are kept with those that `into` has superseded. Whether it could be done so.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub(crate) fn pass_on(&self, id: &ObjectId, into: &ObjectId) -> Result<bool> {
        let winner = self.winner(into)?;
        let _turn = self.lock_object(id);
        let set = self.existing_revision_set(id)?;
        for rev in &set.live {
            let (text, _) = self.backend().read(id, rev)?;
            if !document::same(&text, &winner.text) {
                self.backend().keep(into, rev, winner.rev.as_str(), &text, Durability::Ordered)?;
                self.0.cache.forget(into);
            }
        }
        self.0.cache.forget(id);
        self.backend().erase(id, &set.live)
    }

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
        // An empty directory makes the original's upsert fail.
        if any && set.live.is_empty() && set.missing.is_empty() {
            self.backend().remove_empty(id)?;
        }
        Ok(any)
    }

    /// What [`sweep`](Self::sweep) would put right.
    ///
    /// # Errors
    /// [`Error::Io`].
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

    /// Moves a live revision to what is gone. Whether it did: it may not be a file, or not be there any more.
    pub(super) fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<bool> {
        Ok(found(self.backend().retire(id, rev, why, how))?.is_some())
    }

    /// Publishes a revision unless somebody else has.
    pub(super) fn publish_copy(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs) -> Result<()> {
        match self.backend().publish(id, rev, text, attrs, Durability::Ordered) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
            published => published.map(drop),
        }
    }

    /// Puts revisions back that live again. Whether there was one.
    fn put_back(&self, id: &ObjectId, set: &RevisionSet) -> Result<bool> {
        let mut any = false;
        let tombstones = if set.missing.is_empty() { Vec::new() } else { self.backend().tombstones(id)? };
        for rev in &set.missing {
            // Or it was purged.
            if let Some(text) = found(self.backend().read_removed(id, rev))? {
                let like = tombstones.iter().find(|grave| grave.rev == *rev).map(|grave| &grave.meta);
                self.publish_copy(id, rev, &text, &inherit(&Attrs::default(), like))?;
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

    pub(super) fn operation(&self) -> String {
        self.random().simple().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Entry, Fault, FaultBackend, Removal};
    use crate::store::Role;
    use crate::store::testing::{id, rev, store, text};

    #[test]
    fn a_renamed_object_keeps_its_history_and_tells_its_new_id() {
        let (s, _) = store();
        let (x, y) = (id("x"), id("y"));
        s.create(&x, b"{\"n\":0}").unwrap();
        let last = s.update(&x, b"{\"n\":1}").unwrap();
        let moved = s.rename(&x, &y).unwrap();
        assert_eq!((&moved.rev, moved.outcome, moved.altered), (&last.rev, Outcome::Same, false));
        assert!(matches!(s.winner(&x), Err(Error::NoObject(_))));
        assert_eq!((text(&s, "y"), s.revisions(&y).unwrap().len()), ("{\"n\":1}".into(), 2));

        s.update(&y, b"{\"n\":2,\"_id\":\"y\",\"_rev\":\"\"}").unwrap();
        let moved = s.rename(&y, &id("z")).unwrap();
        assert_eq!((moved.outcome, moved.rev.generation()), (Outcome::Update, Some(3)));
        assert_eq!(text(&s, "z"), format!("{{\"n\":2,\"_id\":\"z\",\"_rev\":\"{}\"}}", moved.rev));
        assert_eq!(s.revisions(&id("z")).unwrap().len(), 4);
    }

    #[test]
    fn an_object_can_be_renamed_back_and_forth() {
        let (s, _) = store();
        let (x, y) = (id("x"), id("y"));
        s.create(&x, b"{\"n\":1}").unwrap();
        for _ in 0..3 {
            s.rename(&x, &y).unwrap();
            assert!(matches!(s.winner(&x), Err(Error::NoObject(_))));
            assert_eq!(text(&s, "y"), "{\"n\":1}");
            s.rename(&y, &x).unwrap();
            assert_eq!(text(&s, "x"), "{\"n\":1}");
        }
        // And onto the id of an object that was deleted.
        s.create(&y, b"{\"n\":2}").unwrap();
        s.delete(&y).unwrap();
        s.rename(&x, &y).unwrap();
        assert_eq!(text(&s, "y"), "{\"n\":1}");
    }

    #[test]
    fn an_object_renamed_away_and_back_has_its_history_and_its_conflicts() {
        let (s, backend) = store();
        let (x, y) = (id("x"), id("y"));
        for (r, text) in [(rev(0, 'a'), "{\"n\":0}"), (rev(1, 'a'), "{\"n\":1}"), (rev(1, 'b'), "{\"n\":2}")]
        {
            backend.plant(&x, Entry::Rev(r), text.as_bytes());
        }
        let all = s.revisions(&x).unwrap();
        for _ in 0..2 {
            s.rename(&x, &y).unwrap();
            assert_eq!(s.revisions(&y).unwrap(), all);
            s.rename(&y, &x).unwrap();
            assert_eq!((s.revisions(&x).unwrap(), s.conflicts(&x).unwrap().len()), (all.clone(), 1));
            assert_eq!(s.astray(&x).unwrap(), Astray::default());
        }
        // What comes and goes meanwhile came and went.
        s.rename(&x, &y).unwrap();
        s.backend().retire(&y, &rev(1, 'a'), DISCARDED, Durability::Ordered).unwrap();
        let new = s.update(&y, b"{\"_id\":\"y\",\"n\":3}").unwrap().rev;
        let back = s.rename(&y, &x).unwrap();
        assert_eq!(text(&s, "x"), "{\"_id\":\"x\",\"n\":3}");
        assert_eq!(s.revisions(&x).unwrap(), [rev(0, 'a'), rev(1, 'b'), new, back.rev]);
        assert!(s.conflicts(&x).unwrap().is_empty() && !s.sweep(&x).unwrap());
    }

    #[test]
    fn a_temporary_file_leaves_nothing_but_its_texts() {
        let (s, _) = store();
        let (x, t, hour) = (id("x"), id("t"), Duration::from_secs(3600));
        s.create(&t, b"{\"n\":1}").unwrap();
        let first = s.revisions(&t).unwrap().remove(0);
        s.update(&t, b"{\"n\":2}").unwrap();
        s.create(&x, b"{\"n\":2}").unwrap();
        assert!(s.pass_on(&t, &x).unwrap());
        assert!(
            matches!(s.winner(&t), Err(Error::NoObject(_))) && s.backend().removed(&t).unwrap().is_empty()
        );
        assert_eq!(s.read(&x, &first).unwrap(), b"{\"n\":1}");
        assert_eq!((s.revisions(&x).unwrap().len(), text(&s, "x")), (1, "{\"n\":2}".into()));
        assert_eq!(s.temporary_revisions(&x, hour).unwrap(), 0, "something of it was removed");
        assert!(matches!(s.pass_on(&t, &x), Err(Error::NoObject(_))));
    }

    #[test]
    fn a_rename_that_is_refused_changes_nothing() {
        let (s, backend) = store();
        let (x, y) = (id("x"), id("y"));
        assert!(matches!(s.rename(&x, &y), Err(Error::NoObject(_))));
        s.create(&x, b"{\"_id\":\"x\"}").unwrap();
        s.create(&y, b"{\"_id\":\"y\"}").unwrap();
        assert!(matches!(s.rename(&x, &y), Err(Error::Exists(e)) if e == y));
        assert_eq!(s.rename(&x, &x).unwrap().outcome, Outcome::Same);
        backend.plant_empty(&id("e"));
        assert!(matches!(s.rename(&x, &id("e")), Err(Error::Exists(_))));
        assert_eq!(
            (s.revisions(&x).unwrap().len(), text(&s, "x"), text(&s, "y")),
            (1, "{\"_id\":\"x\"}".into(), "{\"_id\":\"y\"}".into())
        );

        let faulty = Arc::new(FaultBackend::new(backend));
        let s = Store::with_backend(faulty.clone());
        faulty.fail(Fault { op: Some("move_object"), nth: 1, errno: 5, done: false });
        assert!(matches!(s.rename(&x, &id("z")), Err(Error::Io { .. })));
        assert_eq!((s.revisions(&x).unwrap().len(), text(&s, "x")), (1, "{\"_id\":\"x\"}".into()));
    }

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
