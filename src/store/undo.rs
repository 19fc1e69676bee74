//! Bringing back what was removed, by appending its bytes: the facts stay.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::SystemTime;

use super::revision_set::reason_text;
use super::save::{SaveContext, inherit};
use super::{Outcome, Saved, Store, TRIES, unsteady};
use crate::backend::{Attrs, DELETED, Durability, Tombstone};
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};

/// An object's deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its name; `deleted` stands for those that have none.
    pub op: String,
    /// When it happened, as far as the medium tells.
    pub at: SystemTime,
    /// What the object had then, ascending, without what was purged since.
    pub revs: Vec<Rev>,
}

impl Store {
    /// Every revision of an object that is gone, ascending, each with the reasons: `deleted`, `discarded`, `purged`, the
    /// name of the revision that superseded it, or another word. Some never lived: a writer's own text beside a merge.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn removed(&self, id: &ObjectId) -> Result<Vec<(Rev, Vec<String>)>> {
        let set = self.revision_set(id)?;
        let removed = set.removed().map(|(rev, reasons)| {
            let mut reasons: Vec<String> = reasons.iter().map(|why| reason_text(why).to_owned()).collect();
            reasons.dedup();
            (rev.clone(), reasons)
        });
        Ok(removed.collect())
    }

    /// The deletions of an object that count, newest first. Those with nothing left in them are left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn deletions(&self, id: &ObjectId) -> Result<Vec<Deletion>> {
        let set = self.revision_set(id)?;
        let mut found: HashMap<String, Deletion> = HashMap::new();
        for Tombstone { rev, why, at, meta, .. } in self.backend().tombstones(id)? {
            // A program that knows no facts deleted it elsewhere, perhaps bit by bit, and one who had it told so.
            let is_deletion = why == DELETED || reason_text(&why) != why;
            if !is_deletion || !set.is_deletion(&why) || meta.size == 0 {
                continue;
            }
            let deletion = found.entry(why.clone()).or_insert(Deletion { op: why, at, revs: Vec::new() });
            deletion.at = deletion.at.max(at);
            deletion.revs.push(rev);
        }
        let mut found: Vec<Deletion> = found.into_values().collect();
        for deletion in &mut found {
            deletion.revs.sort();
            deletion.revs.dedup();
        }
        found.sort_by_cached_key(|deletion| Reverse((deletion.at, deletion.revs.last().cloned())));
        Ok(found)
    }

    /// The revision that a deleted object showed last, `None` where nothing of it was deleted that holds an object.
    pub(crate) fn last_deleted(&self, id: &ObjectId) -> Result<Option<Rev>> {
        let deletions = self.deletions(id)?;
        for rev in deletions.iter().flat_map(|deletion| deletion.revs.iter().rev()) {
            let text = found(self.backend().read_removed(id, rev))?;
            if text.is_some_and(|text| document::check(&text).is_ok()) {
                return Ok(Some(rev.clone()));
            }
        }
        Ok(None)
    }

    /// The ids of objects that are not there and left something that can be brought back, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn deleted(&self) -> Result<Vec<ObjectId>> {
        let mut ids = Vec::new();
        for id in self.backend().removed_objects()? {
            let winner = found(self.winner(&id))?;
            if winner.is_none() && self.backend().tombstones(&id)?.iter().any(|grave| grave.meta.size > 0) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Brings a deleted object back: what it was last is its newest revision again, the ones before stay gone. Of many
    /// deletions the newest counts, unless `op` names another. (An object that lost all its revisions without having been
    /// deleted gets the highest back.)
    ///
    /// # Errors
    /// [`Error::Exists`] for an object that is there, [`Error::NoObject`] where nothing is left or `op` names nothing;
    /// [`Error::GenerationLimit`], [`Error::Io`].
    pub fn undelete(&self, id: &ObjectId, op: Option<&str>) -> Result<Saved> {
        let _turn = self.lock_object(id);
        if found(self.winner(id))?.is_some() {
            return Err(Error::Exists(id.clone()));
        }
        let mut deletions = self.deletions(id)?;
        deletions.retain(|deletion| op.is_none_or(|op| deletion.op == op));
        let mut candidates: Vec<Vec<Rev>> = deletions.into_iter().map(|deletion| deletion.revs).collect();
        if op.is_none() {
            candidates.push(self.revision_set(id)?.removed().map(|(rev, _)| rev.clone()).collect());
        }
        for rev in candidates.iter().flat_map(|revs| revs.iter().rev()) {
            match self.append(id, rev) {
                // Purged, or broken: what was before it is served by readers too.
                Err(Error::NoRevision(..) | Error::NotObject(_)) => {}
                done => return done,
            }
        }
        Err(Error::NoObject(id.clone()))
    }

    /// Makes an older revision, live or gone, the newest again: its bytes are appended. An object that was deleted is
    /// there again. Nothing happens where the winner says the same.
    ///
    /// # Errors
    /// [`Error::NoRevision`], also for one that was purged; [`Error::NotObject`] for one that holds no object;
    /// [`Error::NoObject`], [`Error::GenerationLimit`], [`Error::Io`].
    pub fn restore(&self, id: &ObjectId, rev: &Rev) -> Result<Saved> {
        let _turn = self.lock_object(id);
        self.append(id, rev)
    }

    /// [`restore`](Self::restore), of a revision whose text is not here any more, or not whole: `text` is what it said.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_text(&self, id: &ObjectId, rev: &Rev, text: &[u8]) -> Result<Saved> {
        let _turn = self.lock_object(id);
        self.append_text(id, rev, text)
    }

    fn append(&self, id: &ObjectId, rev: &Rev) -> Result<Saved> {
        self.append_text(id, rev, &self.read(id, rev)?)
    }

    fn append_text(&self, id: &ObjectId, rev: &Rev, old: &[u8]) -> Result<Saved> {
        document::check(old)?;
        let grave = self.backend().tombstones(id)?.into_iter().find(|grave| grave.rev == *rev);
        for _ in 0..TRIES {
            let SaveContext { set, latest, .. } = self.prepare(id)?;
            if let Some(latest) = latest.as_ref().filter(|latest| document::same(old, &latest.text)) {
                let (rev, meta) = (latest.rev.clone(), latest.meta.clone());
                return Ok(Saved { rev, meta, outcome: Outcome::Same, altered: latest.text != old });
            }
            let new = Rev::child_of(Some(rev), set.next_generation(id)?, self.random());
            let text = document::stamp(old, &id.to_text(), new.as_str());
            // An object that is back is as private as it was.
            let like = latest.as_ref().map(|latest| &latest.meta).or(grave.as_ref().map(|grave| &grave.meta));
            let attrs = inherit(&Attrs::default(), like);
            match self.publish(id, &set, &new, &text, &attrs, Durability::Ordered) {
                Err(Error::Exists(_) | Error::NoObject(_)) => {}
                done => {
                    let altered = *text != *old;
                    return Ok(Saved { meta: done?, rev: new, outcome: Outcome::Restore, altered });
                }
            }
        }
        Err(unsteady(id))
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::backend::Entry;
    use crate::store::testing::{id, store, text};

    #[test]
    fn an_undeleted_object_says_what_it_said_and_its_history_stays_gone() {
        let (s, _) = store();
        let x = id("x");
        assert!(matches!(s.undelete(&x, None), Err(Error::NoObject(_))));
        s.create(&x, b"{\"n\":0}").unwrap();
        let last = s.update(&x, b"{\"n\":1,\"_rev\":\"\"}").unwrap().rev;
        assert!(matches!(s.undelete(&x, None), Err(Error::Exists(_))));
        let op = s.delete(&x).unwrap();
        assert_eq!(s.deleted().unwrap(), std::slice::from_ref(&x));
        let deletions = s.deletions(&x).unwrap();
        assert_eq!((deletions.len(), &deletions[0].op, deletions[0].revs.last()), (1, &op, Some(&last)));
        let back = s.undelete(&x, None).unwrap();
        assert_eq!((back.rev.generation(), back.outcome), (Some(2), Outcome::Restore));
        assert!(back.rev.is_child_of(&last));
        assert_eq!(text(&s, "x"), format!("{{\"n\":1,\"_rev\":\"{}\"}}", back.rev));
        assert_eq!(s.revisions(&x).unwrap(), std::slice::from_ref(&back.rev));
        let removed = s.removed(&x).unwrap();
        assert!(removed.len() == 2 && removed.iter().all(|(_, why)| why == &["deleted"]));
        assert!(s.deleted().unwrap().is_empty());
    }

    #[test]
    fn of_two_deletions_the_newer_is_undone_unless_the_other_is_named() {
        let (s, _) = store();
        let x = id("x");
        s.create(&x, b"{\"n\":1}").unwrap();
        let first = s.delete(&x).unwrap();
        s.create(&x, b"{\"n\":2}").unwrap();
        let second = s.delete(&x).unwrap();
        let ops: Vec<_> = s.deletions(&x).unwrap().into_iter().map(|d| d.op).collect();
        assert_eq!(ops, [second, first.clone()]);
        assert!(matches!(s.undelete(&x, Some("no")), Err(Error::NoObject(_))));
        s.undelete(&x, None).unwrap();
        assert_eq!(text(&s, "x"), "{\"n\":2}");
        s.delete(&x).unwrap();
        s.undelete(&x, Some(&first)).unwrap();
        assert_eq!(text(&s, "x"), "{\"n\":1}");
    }

    #[test]
    fn what_cannot_be_read_is_not_brought_back() {
        let (s, backend) = store();
        let x = id("x");
        s.create(&x, b"{\"n\":1}").unwrap();
        backend.plant(&x, Entry::Rev(Rev::new(format!("7-{}", "a".repeat(32))).unwrap()), b"{");
        s.delete(&x).unwrap();
        let back = s.undelete(&x, None).unwrap();
        assert_eq!((back.rev.generation(), text(&s, "x")), (Some(8), "{\"n\":1}".into()));
    }

    #[test]
    fn any_revision_can_be_the_newest_again() {
        let (s, _) = store();
        let x = id("x");
        let first = s.create(&x, b"{\"n\":1}").unwrap().rev;
        s.update(&x, b"{\"n\":2}").unwrap();
        let back = s.restore(&x, &first).unwrap();
        assert_eq!((back.rev.generation(), text(&s, "x")), (Some(2), "{\"n\":1}".into()));
        assert_eq!(s.restore(&x, &first).unwrap().outcome, Outcome::Same);
        let no = Rev::new(format!("9-{}", "0".repeat(32))).unwrap();
        assert!(matches!(s.restore(&x, &no), Err(Error::NoRevision(..))));
        s.delete(&x).unwrap();
        s.restore(&x, &first).unwrap();
        assert_eq!((s.revisions(&x).unwrap().len(), text(&s, "x")), (1, "{\"n\":1}".into()));
        assert!(matches!(s.restore(&id("y"), &first), Err(Error::NoObject(_))));
    }

    #[test]
    fn a_deletion_of_which_only_facts_have_come_is_one() {
        let ((s, _), x) = (store(), id("x"));
        let first = s.create(&x, b"{\"n\":0}").unwrap().rev;
        let last = s.update(&x, b"{\"n\":1}").unwrap().rev;
        for rev in [&first, &last] {
            assert!(s.retire(&x, rev, DELETED, Durability::Ordered).unwrap());
        }
        assert_eq!(s.deleted().unwrap(), std::slice::from_ref(&x));
        let [deletion] = &s.deletions(&x).unwrap()[..] else { panic!() };
        assert_eq!((deletion.op.as_str(), &deletion.revs), (DELETED, &vec![first, last]));
        s.undelete(&x, Some(DELETED)).unwrap();
        assert!(text(&s, "x").contains("1"));
    }

    #[test]
    fn what_a_deleted_object_showed_last() {
        let ((s, _), x) = (store(), id("x"));
        assert_eq!(s.last_deleted(&x).unwrap(), None);
        s.create(&x, b"{}").unwrap();
        assert_eq!(s.last_deleted(&x).unwrap(), None);
        let last = s.upsert(&x, b"{\"n\":1}").unwrap().rev;
        s.delete(&x).unwrap();
        assert_eq!(s.last_deleted(&x).unwrap(), Some(last));
    }
}
