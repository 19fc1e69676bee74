//! Deleting, renaming, and putting right what removal facts say.

use super::known::{DISCARDED, Known, told};
use super::save::{Ready, inherit};
use super::{Outcome, Saved, Store};
use crate::backend::{Attrs, Durability, Gone};
use crate::document;
use crate::error::{Error, Result};
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
        let _turn = self.turn(id);
        self.remove(id)
    }

    /// [`delete`](Self::delete), but only where `rev` still wins and nobody saves meanwhile. Returns the operation, `None`
    /// where the object stays.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_at(&self, id: &ObjectId, rev: &Rev) -> Result<Option<String>> {
        // No save of this process can come between.
        let _turn = self.turn(id);
        let before = self.revisions(id)?;
        if self.winner_meta(id)?.0 != *rev {
            return Ok(None);
        }
        let op = self.remove(id)?;
        let came = |gone: &Gone| match gone {
            Gone::Object { op: by, revs } => *by == op && revs.iter().any(|rev| !before.contains(rev)),
            Gone::Rev { .. } | Gone::Withdrawn { .. } | Gone::Aside { .. } => false,
        };
        // Another process saved at this very moment: the object is its.
        if self.backend().gone(id)?.iter().any(came) {
            self.backend().restore(id, &op, Durability::Ordered)?;
            return Ok(None);
        }
        Ok(Some(op))
    }

    fn remove(&self, id: &ObjectId) -> Result<String> {
        // A deletion takes what is in the directory: so all that lives must be there.
        let known = self.known_existing(id)?;
        self.put_back(id, &known)?;
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
        let _turns = self.turns(from, to);
        let Ready { known, latest, .. } = self.ready(from)?;
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
        let there = self.known(to)?;
        if there.exists {
            return Err(Error::Exists(to.clone()));
        }
        let called = |id: &ObjectId| document::stamp(&latest.text, &id.to_text(), latest.rev.as_str());
        // Under an id that this revision was once deleted from (`mv a b; mv b a`) it would be dead: facts stay.
        let added = called(from) != called(to) || there.knows(&latest.rev);
        if added {
            let generation = known.next_generation(from)?.max(there.next_generation(to)?);
            let rev = Rev::child_of(Some(&latest.rev), generation, self.random());
            let text = document::stamp(&latest.text, &to.to_text(), rev.as_str());
            let attrs =
                Attrs { mtime: Some(latest.meta.mtime), ..inherit(&Attrs::default(), Some(&latest.meta)) };
            // Before the move, so that the new id never shows the old text.
            saved.meta = self.backend().publish(from, &rev, &text, &attrs, Durability::Ordered)?;
            saved.altered = *text != *latest.text;
            (saved.rev, saved.outcome) = (rev, Outcome::Fresh);
        }
        let moved = self.backend().move_object(from, to, &self.operation(), Durability::Ordered);
        if moved.is_err() && added {
            let _ = self.backend().retire(from, &saved.rev, DISCARDED, Durability::Ordered);
        }
        moved.map(|()| saved)
    }

    /// Makes an object's directory say what the facts say: removed revisions that came back are removed again, and those
    /// that live again because what removed them was undone are put back. Readers of the directory who do not know the
    /// facts (the original library) then see what we see. Returns whether there was anything to do.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn sweep(&self, id: &ObjectId) -> Result<bool> {
        let _turn = self.turn(id);
        let how = Durability::Ordered;
        let mut any = false;
        let known = match self.known_existing(id) {
            Err(Error::NoObject(_)) => {
                self.finish_revival(id)?;
                any = true;
                self.known_existing(id)?
            }
            known => known?,
        };
        any |= self.put_back(id, &known)?;
        for (rev, why) in &known.dead {
            match self.backend().retire(id, rev, why, how) {
                // Not a file, or somebody else's work.
                Err(Error::NoRevision(..) | Error::NoObject(_)) => {}
                done => {
                    done?;
                    any = true;
                }
            }
        }
        // An empty directory makes the original's upsert fail.
        if any && known.live.is_empty() && known.missing.is_empty() {
            self.backend().remove_empty(id)?;
        }
        Ok(any)
    }

    /// What [`sweep`](Self::sweep) would put right.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn astray(&self, id: &ObjectId) -> Result<Astray> {
        let known = self.known(id)?;
        let kept = |rev: &Rev| self.backend().read_gone(id, rev).is_ok();
        let missing = match known.exists {
            true => known.missing.into_iter().filter(kept).collect(),
            false => self.interrupted(id)?.map(|(_, revs)| revs).unwrap_or_default(),
        };
        let back = known.dead.into_iter().map(|(rev, why)| (rev, told(&why).to_owned())).collect();
        Ok(Astray { back, missing })
    }

    /// Puts revisions back that live again. Whether there was one.
    fn put_back(&self, id: &ObjectId, known: &Known) -> Result<bool> {
        let mut any = false;
        for rev in &known.missing {
            let text = match self.backend().read_gone(id, rev) {
                // Purged.
                Err(Error::NoRevision(..)) => continue,
                text => text?,
            };
            match self.backend().publish(id, rev, &text, &Attrs::default(), Durability::Ordered) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                published => {
                    published?;
                }
            }
            any = true;
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
        let missing = self.known(id)?.missing;
        if missing.is_empty() {
            return Ok(None);
        }
        let gone = self.backend().gone(id)?;
        let withdrawn = |op: &str| gone.iter().any(|g| matches!(g, Gone::Withdrawn { op: o } if o == op));
        let mut objects = gone.iter().filter_map(|g| match g {
            Gone::Object { op, revs } if withdrawn(op) => {
                let revs: Vec<Rev> = revs.iter().filter(|rev| missing.contains(rev)).cloned().collect();
                (!revs.is_empty()).then(|| (op.clone(), revs))
            }
            _ => None,
        });
        Ok(objects.next())
    }

    pub(super) fn operation(&self) -> String {
        self.random().simple().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Entry, Fault, FaultBackend, Gone};
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
        assert_eq!((moved.outcome, moved.rev.generation()), (Outcome::Fresh, Some(3)));
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
        assert_eq!(of_d.parent, Some(c), "a parent that is gone is known");
        assert!(s.backend().gone(&x).unwrap().iter().any(|g| matches!(g, Gone::Rev { .. })));
    }

    #[test]
    fn whichever_call_of_a_revival_fails_nothing_is_lost_and_the_next_one_succeeds() {
        use crate::backend::{DirBackend, faults};
        use crate::session::Origin;
        use crate::store::SaveOptions;
        let x = id("x");
        for n in 1..300 {
            let place = tempfile::tempdir().unwrap();
            let s = Store::with_backend(Arc::new(DirBackend::open(place.path()).unwrap()));
            let first = s.create(&x, b"{\"n\":0}").unwrap().rev;
            let op = s.delete(&x).unwrap();
            let revive = |text: &[u8]| s.revive(&x, &op, text, &Origin::default(), &SaveOptions::default());
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
