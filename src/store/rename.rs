//! Objects that get another id, and temporary ones that are moved onto another's.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use super::revision_set::RevisionSet;
use super::save::SaveContext;
use super::{Object, Outcome, Saved, Store};
use crate::backend::{Attrs, DISCARDED, Durability, Removal};
use crate::document;
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

impl Store {
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
        let back = self.moved_by(to, &there, &set)?;
        // Under an id that this revision was once deleted from it would be dead: facts stay. Back under its own it lives.
        let newer = match called(from) != called(to) || there.contains(&latest.rev) != back.is_some() {
            true => {
                let generation = set.next_generation(from)?.max(there.next_generation(to)?);
                Some(Rev::child_of(Some(&latest.rev), generation, self.random()))
            }
            false => None,
        };
        if let Some(op) = back {
            return self.move_back(from, to, &op, &set, &latest, newer);
        }
        let added = newer.is_some();
        if let Some(rev) = newer {
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
            let attrs = Attrs { origin: self.backend().origin(from, rev), ..meta.attrs() };
            self.backend().publish(to, rev, &text, &attrs, how)?;
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
    pub(crate) fn pass_on(&self, id: &ObjectId, into: &ObjectId) -> Result<bool> {
        let winner = self.winner(into)?;
        let _turn = self.lock_object(id);
        let set = self.existing_revision_set(id)?;
        for rev in &set.live {
            let (text, _) = self.backend().read(id, rev)?;
            if !document::same(&text, &winner.text) {
                match self.backend().keep(into, rev, winner.rev.as_str(), &text, Durability::Ordered) {
                    // By a call that failed half-way.
                    Err(Error::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
                    kept => kept?,
                }
                self.0.cache.forget(into);
            }
        }
        self.0.cache.forget(id);
        self.backend().erase(id, &set.live)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Entry, Fault, FaultBackend};
    use crate::store::Astray;
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
    fn a_temporary_file_that_could_not_be_removed_is_passed_on_the_next_time() {
        let (_, backend) = store();
        let faulty = Arc::new(FaultBackend::new(backend));
        let (s, x, t) = (Store::with_backend(faulty.clone()), id("x"), id("t"));
        s.create(&t, b"{\"n\":1}").unwrap();
        let first = s.revisions(&t).unwrap().remove(0);
        s.update(&t, b"{\"n\":2}").unwrap();
        s.create(&x, b"{\"n\":2}").unwrap();
        faulty.fail(Fault { op: Some("erase"), nth: 1, errno: 30, done: false });
        assert!(s.pass_on(&t, &x).is_err() && s.winner(&t).is_ok());
        assert!(s.pass_on(&t, &x).unwrap());
        assert!(matches!(s.winner(&t), Err(Error::NoObject(_))));
        assert_eq!(s.read(&x, &first).unwrap(), b"{\"n\":1}");
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
}
