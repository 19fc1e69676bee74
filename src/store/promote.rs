//! Putting one of several revisions in force.

use super::save::{SaveContext, checked, inherit};
use super::save_policy::{Place, Plan};
use super::{Outcome, SaveOptions, Saved, Store, TRIES, unsteady};
use crate::backend::{Durability, at_need};
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{self, ObjectId, Rev};

impl Store {
    /// Puts a live revision's text on top. The conflict that it is part of is settled by that: all revisions of its
    /// generation are superseded by the new one, and the original sees none of them either; but for what is being written
    /// at this moment, which nobody has read. Nothing is published where the winner is promoted that is in no conflict.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::NoRevision`], [`Error::NotObject`], [`Error::GenerationLimit`], [`Error::Io`].
    pub fn promote(&self, id: &ObjectId, rev: &Rev, options: &SaveOptions) -> Result<Saved> {
        // It takes the place of others.
        let how = options.how.max(Durability::Ordered);
        let _turn = self.lock_object(id);
        for _ in 0..TRIES {
            let SaveContext { set, latest, .. } = self.prepare(id)?;
            let latest = latest.ok_or_else(|| Error::NoObject(id.clone()))?;
            if !set.live.contains(rev) {
                return Err(Error::NoRevision(id.clone(), rev.clone()));
            }
            let (text, _) = self.backend().read(id, rev)?;
            document::check(&text)?;
            let group = rev::conflicts(&set.live).into_iter().find(|group| group.contains(rev));
            if group.is_none() && *rev == latest.rev {
                let (rev, meta) = (latest.rev, latest.meta);
                return Ok(Saved { rev, meta, outcome: Outcome::Same, altered: false });
            }
            let new = Rev::child_of(Some(rev), set.next_generation(id)?, self.random());
            let published = document::stamp(&text, &id.to_text(), new.as_str());
            let attrs = inherit(&options.attrs, Some(&latest.meta));
            let publish = || self.publish(id, &set, &new, &published, &attrs, how);
            let meta = match at_need(self.backend(), false, publish) {
                // Deleted, or created, meanwhile.
                Err(Error::NoObject(_) | Error::Exists(_)) => continue,
                published => published?,
            };
            for old in group.into_iter().flatten() {
                if !self.is_being_written(id, &old)? {
                    self.retire(id, &old, new.as_str(), how)?;
                }
            }
            let altered = *published != *text;
            return Ok(Saved { rev: new, meta, outcome: Outcome::Restore, altered });
        }
        Err(unsteady(id))
    }

    /// Puts a text made from `parent` on top of `winner`, stamped as any save. `None`, and nothing is done, where another
    /// revision wins by now. (A `NaN-` name has a number then.)
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub(crate) fn put_over(
        &self,
        id: &ObjectId,
        winner: &Rev,
        parent: &Rev,
        text: &[u8],
    ) -> Result<Option<Saved>> {
        let text = checked(text)?;
        let _turn = self.lock_object(id);
        let SaveContext { set, latest, .. } = self.prepare(id)?;
        let Some(latest) = latest.filter(|latest| latest.rev == *winner) else { return Ok(None) };
        let (place, outcome) = (Place::OnTop, Outcome::Update);
        let plan = Plan { text: text.into(), place, parent: parent.clone(), outcome };
        let commit = || {
            let (latest, plan) = (latest.clone(), plan.clone());
            self.commit(id, &set, latest, plan, (text, text), &SaveOptions::default())
        };
        found(at_need(self.backend(), false, commit))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Attrs, Entry, MemoryBackend};
    use crate::store::testing::rev;

    #[test]
    fn a_promoted_revision_settles_its_conflict_and_no_other() {
        let (x, no) = (ObjectId::new("x").unwrap(), SaveOptions::default());
        for (promoted, left, text) in [
            (rev(7, 'a'), vec![rev(3, 'a'), rev(3, 'b')], "{\"n\":\"7a\"}"),
            (rev(7, 'b'), vec![rev(3, 'a'), rev(3, 'b')], "{\"n\":\"7b\"}"),
            (rev(3, 'a'), vec![rev(7, 'a'), rev(7, 'b')], "{\"n\":\"3a\"}"),
        ] {
            let backend = Arc::new(MemoryBackend::new());
            let s = Store::with_backend(backend.clone());
            for (r, n) in [(rev(3, 'a'), "3a"), (rev(3, 'b'), "3b"), (rev(7, 'a'), "7a"), (rev(7, 'b'), "7b")]
            {
                backend.plant(&x, Entry::Rev(r), format!("{{\"n\":\"{n}\"}}").as_bytes());
            }
            let saved = s.promote(&x, &promoted, &no).unwrap();
            assert_eq!((saved.rev.generation(), saved.outcome), (Some(8), Outcome::Restore));
            assert_eq!(s.winner(&x).unwrap().text, text.as_bytes());
            assert_eq!(s.conflicts(&x).unwrap(), std::slice::from_ref(&left));
            let kept = s.read(&x, &promoted).unwrap();
            assert_eq!(kept, text.as_bytes(), "what is retired is kept");
            assert!(matches!(s.promote(&x, &promoted, &no), Err(Error::NoRevision(..))));
            // One that is in no conflict is a restore, or nothing.
            assert_eq!(s.promote(&x, &saved.rev, &no).unwrap().outcome, Outcome::Same);
            s.upsert(&x, b"{\"m\":1}").unwrap();
            let again = s.promote(&x, &saved.rev, &no).unwrap();
            assert_eq!((again.outcome, s.winner(&x).unwrap().text), (Outcome::Restore, text.into()));
            assert_eq!(s.revisions(&x).unwrap().len(), 5);
        }
    }

    #[test]
    fn what_somebody_is_writing_is_not_settled_with_the_rest() {
        let (x, no) = (ObjectId::new("x").unwrap(), SaveOptions::default());
        let backend = Arc::new(MemoryBackend::new());
        let s = Store::with_backend(backend.clone());
        for (r, text) in [(rev(7, 'a'), "{\"n\":"), (rev(7, 'b'), "{\"n\":1}"), (rev(7, 'c'), "{\"n\":2}")] {
            backend.plant(&x, Entry::Rev(r), text.as_bytes());
        }
        let now = Attrs { mtime: Some(std::time::SystemTime::now()), ..Attrs::default() };
        s.backend().set_attrs(&x, &rev(7, 'a'), &now).unwrap();
        let saved = s.promote(&x, &rev(7, 'b'), &no).unwrap();
        assert_eq!(s.revisions(&x).unwrap(), [rev(7, 'a'), saved.rev]);
    }
}
