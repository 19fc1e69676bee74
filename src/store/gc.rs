//! Getting rid of what is old: first out of the history, then, on demand, for good.
//!
//! Invariants: the winner stays; so does all that a conflict is made of, and what those were made from; and what holds no
//! JSON object, for that is somebody's unfinished work or a matter for `check`. A retired revision is superseded by the
//! winner of that moment and keeps its name. Bytes go only where nobody can want them back by the rules: the revision is
//! not live, is not part of an open conflict, and is not what a deleted object was last (that has an age of its own).

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::revision_set::RevisionSet;
use super::{Role, Store};
use crate::backend::{Durability, PURGED};
use crate::error::{Result, found};
use crate::rev::{self, ObjectId, Rev};

/// What is kept of an object's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many of the newest revisions, the winner among them.
    Newest(u64),
    /// What was published within this time.
    Within(Duration),
}

/// What a call took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Ascending.
    pub revs: Vec<Rev>,
    /// The size of their texts, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Retires the old revisions of an object. With `dry` it only says which.
    ///
    /// # Errors
    /// [`NoObject`](crate::Error::NoObject), [`Io`](crate::Error::Io).
    pub fn retire_old(&self, id: &ObjectId, keep: Keep, dry: bool) -> Result<Cleared> {
        let _turn = self.lock_object(id);
        let history = self.history(id)?;
        let mut cleared = Cleared::default();
        let Some(winner) = history.iter().find(|one| one.role == Role::Winner).map(|one| one.rev.clone())
        else {
            return Ok(cleared);
        };
        let live: Vec<Rev> = history.iter().map(|one| one.rev.clone()).collect();
        let needed = needed(&live, live.iter());
        let now = SystemTime::now();
        for (newer, one) in history.iter().rev().enumerate() {
            let Some(meta) = one.meta.as_ref().filter(|_| one.role == Role::Ancestor) else { continue };
            let old = match keep {
                Keep::Newest(n) => newer as u64 >= n,
                Keep::Within(age) => {
                    now.duration_since(meta.published()).is_ok_and(|published| published > age)
                }
            };
            if !old || needed.contains(&one.rev) || one.rev > winner {
                continue;
            }
            if !dry && !self.retire(id, &one.rev, winner.as_str(), Durability::Ordered)? {
                continue;
            }
            cleared.bytes += meta.size;
            cleared.revs.push(one.rev.clone());
        }
        cleared.revs.reverse();
        Ok(cleared)
    }

    /// Removes for good the bytes of revisions that have been gone for longer than `older`. What a deleted object was
    /// last, with all that was in conflict then, only where it was deleted longer than `deleted` ago, and then with all
    /// that is gone of it; `None` keeps it. With `dry` it only says which.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io).
    pub fn purge(
        &self,
        id: &ObjectId,
        older: Option<Duration>,
        deleted: Option<Duration>,
        dry: bool,
    ) -> Result<Cleared> {
        let _turn = self.lock_object(id);
        let set = self.revision_set(id)?;
        let tombstones = self.backend().tombstones(id)?;
        let live: BTreeSet<&Rev> = set.live.iter().collect();
        let needed = needed(&set.live, set.all());
        let in_conflict: BTreeSet<Rev> = rev::conflicts(&set.live).into_iter().flatten().collect();
        let last = match found(self.winner(id))? {
            Some(_) => BTreeSet::new(),
            None => self.last_of(id, &set)?,
        };
        let now = SystemTime::now();
        // When a revision with bytes went.
        let went = |rev: &Rev| {
            let of_it = tombstones.iter().filter(|grave| grave.rev == *rev && grave.meta.size > 0);
            of_it.map(|grave| grave.at).max()
        };
        let is_past = |age: Option<Duration>, at: SystemTime| {
            age.is_some_and(|age| now.duration_since(at).is_ok_and(|gone| gone > age))
        };
        // What was before it would be what can be brought back.
        let whole = deleted.is_some()
            && !last.is_empty()
            && last.iter().filter_map(went).all(|at| is_past(deleted, at));
        let mut cleared = Cleared::default();
        let mut revs: Vec<&Rev> = tombstones.iter().map(|grave| &grave.rev).collect();
        revs.sort();
        revs.dedup();
        for rev in revs {
            let of_it = || tombstones.iter().filter(|grave| grave.rev == *rev);
            let size = of_it().map(|grave| grave.meta.size).sum::<u64>();
            let Some(newest) = went(rev) else { continue };
            let due = is_past(if last.contains(rev) { deleted } else { older }, newest) || whole;
            // On another host, or by who got no further; the bytes were copied since, perhaps.
            let due = due || set.reasons(rev).any(|why| why == PURGED);
            // A writer's own text beside the merge that is in conflict now.
            let unmerged =
                set.reasons(rev).any(|why| Rev::new(why).is_ok_and(|by| in_conflict.contains(&by)));
            if !due || live.contains(rev) || set.awaited(rev) || needed.contains(rev) || unmerged {
                continue;
            }
            cleared.bytes += size;
            cleared.revs.push(rev.clone());
        }
        if !dry {
            // Without revisions, too: it puts in order what was purged before.
            match found(self.backend().purge(id, &cleared.revs, Durability::Ordered))? {
                Some(freed) => cleared.bytes = freed,
                None => cleared = Cleared::default(),
            }
        }
        Ok(cleared)
    }

    /// What an object without a winner was last: the newest that can be brought back, and all conflicts of that time.
    fn last_of(&self, id: &ObjectId, set: &RevisionSet) -> Result<BTreeSet<Rev>> {
        let mut groups: Vec<Vec<Rev>> = self.deletions(id)?.into_iter().map(|d| d.revs).collect();
        groups.push(set.removed().map(|(rev, _)| rev.clone()).collect());
        for revs in groups {
            for rev in revs.iter().rev().filter(|rev| !set.reasons(rev).any(|why| why == PURGED)) {
                if self.read_if_kept(id, rev)?.is_some_and(|text| crate::document::check(&text).is_ok()) {
                    let mut last: BTreeSet<Rev> = rev::conflicts(&revs).into_iter().flatten().collect();
                    last.insert(rev.clone());
                    return Ok(last);
                }
            }
        }
        Ok(BTreeSet::new())
    }
}

/// What open conflicts need: their members, and what those were made from, among `revs`; where the names do not tell, all
/// of the generation before.
fn needed<'a>(live: &[Rev], revs: impl Iterator<Item = &'a Rev>) -> BTreeSet<Rev> {
    let mut needed = BTreeSet::new();
    let groups = rev::conflicts(live);
    let revs: Vec<&Rev> = if groups.is_empty() { Vec::new() } else { revs.collect() };
    for group in groups {
        for member in &group {
            let parents: Vec<&Rev> = revs.iter().filter(|rev| member.is_child_of(rev)).copied().collect();
            let before = member.generation().and_then(|n| n.checked_sub(1));
            let set = !parents.is_empty();
            needed.extend(parents.into_iter().cloned());
            if !set && before.is_some() {
                needed.extend(revs.iter().filter(|rev| rev.generation() == before).copied().cloned());
            }
        }
        needed.extend(group);
    }
    needed
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::backend::Entry;
    use crate::error::Error;
    use crate::store::testing::{id, rev, store};

    const ALL: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn what_is_purged_of_a_deleted_object_leaves_nothing_older_to_bring_back() {
        let (s, _) = store();
        let x = id("x");
        for n in 0..4 {
            s.upsert(&x, format!("{{\"n\":{n}}}").as_bytes()).unwrap();
        }
        s.retire_old(&x, Keep::Newest(2), false).unwrap();
        s.delete(&x).unwrap();
        assert!(s.purge(&x, None, Some(Duration::MAX), false).unwrap().revs.is_empty());
        assert_eq!(s.purge(&x, None, ALL, true).unwrap().revs.len(), 4);
        assert_eq!(s.purge(&x, None, ALL, false).unwrap().revs.len(), 4);
        assert!(matches!(s.undelete(&x, None), Err(Error::NoObject(_))));
        assert!(s.deleted().unwrap().is_empty());
    }

    #[test]
    fn old_ancestors_go_and_their_names_stay() {
        let (s, _) = store();
        let x = id("x");
        let mut revs = vec![s.create(&x, b"{\"n\":0}").unwrap().rev];
        for n in 1..6 {
            revs.push(s.update(&x, format!("{{\"n\":{n}}}").as_bytes()).unwrap().rev);
        }
        let would = s.retire_old(&x, Keep::Newest(2), true).unwrap();
        assert_eq!((would.revs.as_slice(), would.bytes), (&revs[..4], 28));
        assert_eq!(s.revisions(&x).unwrap().len(), 6);
        assert_eq!(s.retire_old(&x, Keep::Newest(2), false).unwrap(), would);
        assert_eq!(s.revisions(&x).unwrap(), revs[4..]);
        assert!(s.removed(&x).unwrap().iter().all(|(_, why)| why == &[revs[5].to_string()]));
        assert_eq!(s.retire_old(&x, Keep::Newest(2), false).unwrap(), Cleared::default());
        assert!(s.retire_old(&x, Keep::Within(Duration::MAX), false).unwrap().revs.is_empty());
        assert_eq!(s.retire_old(&x, Keep::Within(Duration::ZERO), false).unwrap().revs, revs[4..5]);
        assert_eq!(s.retire_old(&x, Keep::Newest(0), false).unwrap(), Cleared::default());
        assert_eq!(s.winner(&x).unwrap().rev, revs[5]);
        // They can be read until they are purged, and are no revisions to come back then.
        assert_eq!(s.read(&x, &revs[0]).unwrap(), b"{\"n\":0}");
        let would = s.purge(&x, ALL, None, true).unwrap();
        assert_eq!((would.revs.as_slice(), would.bytes), (&revs[..5], 35));
        assert_eq!(s.purge(&x, ALL, None, false).unwrap(), would);
        assert!(matches!(s.read(&x, &revs[0]), Err(Error::NoRevision(..))));
        assert_eq!(s.purge(&x, ALL, ALL, false).unwrap(), Cleared::default());
        assert_eq!(s.update(&x, b"{}").unwrap().rev.generation(), Some(6));
    }

    #[test]
    fn what_a_conflict_needs_stays() {
        let (s, backend) = store();
        let x = id("x");
        let (a, b, c, d, e) = (rev(1, 'a'), rev(2, 'b'), rev(3, 'c'), rev(3, 'd'), rev(4, 'e'));
        for r in [&rev(0, '0'), &a, &b, &c, &d, &e, &rev(5, 'f')] {
            backend.plant(&x, Entry::Rev(r.clone()), b"{}");
        }
        backend.plant(&x, Entry::Rev(rev(4, '0')), b"{");
        // The torn one counts for the original, which lists it as in conflict.
        let cleared = s.retire_old(&x, Keep::Newest(1), false).unwrap();
        assert_eq!(cleared.revs, [rev(0, '0'), a]);
        assert_eq!(s.conflicts(&x).unwrap(), [vec![c, d], vec![rev(4, '0'), e]]);
    }

    #[test]
    fn the_last_of_a_deleted_object_has_an_age_of_its_own() {
        let (s, backend) = store();
        let x = id("x");
        s.create(&x, b"{\"n\":0}").unwrap();
        let (a, b) = (rev(1, 'a'), rev(1, 'b'));
        backend.plant(&x, Entry::Rev(a.clone()), b"{\"a\":0}");
        backend.plant(&x, Entry::Rev(b.clone()), b"{\"b\":0}");
        s.delete(&x).unwrap();
        assert_eq!(s.purge(&x, ALL, None, false).unwrap().revs.len(), 1);
        assert_eq!(s.purge(&x, ALL, Some(Duration::MAX), false).unwrap(), Cleared::default());
        assert_eq!(s.purge(&x, None, ALL, true).unwrap().revs, [a, b]);
        s.undelete(&x, None).unwrap();
        s.delete(&x).unwrap();
        // With all that was before it.
        assert_eq!(s.purge(&x, None, ALL, false).unwrap().revs.len(), 3);
        assert!(matches!(s.undelete(&x, Some("none")), Err(Error::NoObject(_))));
    }

    #[test]
    fn the_text_beside_a_merge_stays_while_that_is_in_conflict() {
        let (s, backend) = store();
        let x = id("x");
        let (a, b, own) = (rev(1, 'a'), rev(1, 'b'), rev(1, '9'));
        for r in [&a, &b] {
            backend.plant(&x, Entry::Rev(r.clone()), b"{}");
        }
        s.backend().keep(&x, &own, b.as_str(), b"{\"own\":1}", Durability::Ordered).unwrap();
        assert_eq!(s.purge(&x, ALL, ALL, false).unwrap(), Cleared::default());
        s.backend().retire(&x, &a, "discarded", Durability::Ordered).unwrap();
        assert_eq!(s.purge(&x, ALL, ALL, false).unwrap().revs, [own, a]);
    }

    #[test]
    fn what_a_conflict_was_made_from_stays_though_it_was_retired_before() {
        let (s, backend) = store();
        let x = id("x");
        let base = s.create(&x, b"{\"n\":0}").unwrap().rev;
        let own = s.update(&x, b"{\"n\":1}").unwrap().rev;
        s.retire_old(&x, Keep::Newest(1), false).unwrap();
        s.update(&x, b"{\"n\":2}").unwrap();
        s.retire_old(&x, Keep::Newest(1), false).unwrap();
        // The original's, of what it had read long ago.
        for digit in ['a', 'b'] {
            backend.plant(&x, Entry::Rev(rev(1, digit)), b"{\"n\":0,\"m\":0}");
        }
        assert_eq!(s.purge(&x, ALL, ALL, false).unwrap().revs, std::slice::from_ref(&own));
        assert_eq!(s.read(&x, &base).unwrap(), b"{\"n\":0}");
        s.backend().retire(&x, &rev(1, 'a'), "discarded", Durability::Ordered).unwrap();
        assert_eq!(s.purge(&x, ALL, ALL, false).unwrap().revs, [base, rev(1, 'a')]);
    }
}
