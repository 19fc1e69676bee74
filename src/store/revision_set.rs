//! Which revisions of an object are known, and which of them live.
//!
//! A revision lives unless a fact removes it: it was discarded, purged or removed for any reason not known here; or it
//! went with the whole object, in a deletion that was not withdrawn; or it was superseded by another (the reason is that
//! one's name) which is known, and was not discarded itself or has been deleted since. Facts count even if a replicator
//! brought the file back. So everyone who knows the same names and facts sees the same revisions, in whatever order they
//! came.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{Backend, DELETED, DISCARDED, Entry, Removal};
use crate::error::{Error, Result, found};
use crate::rev::{self, LAST_GENERATION, ObjectId, Rev};

/// All that is known of an object's revisions without reading one.
#[derive(Clone, Debug, Default)]
pub struct RevisionSet {
    /// There is such an object, be it without revisions.
    pub exists: bool,
    /// In the object's directory and living, ascending.
    pub live: Vec<Rev>,
    /// In the object's directory in spite of a fact, ascending, with the reason.
    pub dead: Vec<(Rev, String)>,
    /// Not in the object's directory, though all that removed it was undone, ascending. (What was superseded by a
    /// revision that is not known is not among them: that is on its way from another host, or was never published.)
    pub missing: Vec<Rev>,
    /// There is something in the object's directory that is no revision.
    pub foreign: bool,
    facts: Facts,
    /// The highest generation of a name that only looks like a revision's; the original takes it for one.
    look_alike: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Facts {
    reasons: BTreeMap<Rev, BTreeSet<String>>,
    /// Deletions that were taken back.
    withdrawn: BTreeSet<String>,
}

/// Whether a fact holds.
#[derive(PartialEq, Eq)]
enum Holds {
    Yes,
    /// What the fact rests on was undone.
    Lapsed,
    /// What superseded the revision is not known.
    NotYet,
}

/// Whether a reason is the name of a deletion: 32 hex digits.
fn is_operation(why: &str) -> bool {
    why.len() == 32 && why.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A reason in words: the name of a deletion says nothing to people.
pub fn reason_text(why: &str) -> &str {
    if is_operation(why) { DELETED } else { why }
}

impl Facts {
    fn new(gone: Vec<Removal>) -> Self {
        let mut facts = Facts::default();
        for gone in gone {
            match gone {
                Removal::Rev { rev, why } => drop(facts.reasons.entry(rev).or_default().insert(why)),
                Removal::Object { op, revs } => {
                    for rev in revs {
                        facts.reasons.entry(rev).or_default().insert(op.clone());
                    }
                }
                Removal::Withdrawn { op } => drop(facts.withdrawn.insert(op)),
                Removal::Aside { .. } => {}
            }
        }
        facts
    }

    fn of(&self, rev: &Rev) -> impl Iterator<Item = &String> {
        self.reasons.get(rev).into_iter().flatten()
    }

    /// A deletion took this revision, or what superseded it.
    fn deleted(&self, rev: &Rev) -> bool {
        let (mut next, mut seen) = (vec![rev.clone()], BTreeSet::new());
        while let Some(rev) = next.pop() {
            if !seen.insert(rev.clone()) {
                continue;
            }
            for why in self.of(&rev) {
                match Rev::new(why) {
                    Ok(by) => next.push(by),
                    Err(_) if why == DELETED => return true,
                    Err(_) if is_operation(why) && !self.withdrawn.contains(why) => return true,
                    Err(_) => {}
                }
            }
        }
        false
    }

    fn holds(&self, why: &str, present: &[Rev]) -> Holds {
        match Rev::new(why) {
            Ok(by) if self.of(&by).any(|why| why == DISCARDED) => match self.deleted(&by) {
                true => Holds::Yes,
                false => Holds::Lapsed,
            },
            Ok(by) if present.binary_search(&by).is_ok() || self.reasons.contains_key(&by) => Holds::Yes,
            Ok(_) => Holds::NotYet,
            Err(_) if self.withdrawn.contains(why) => Holds::Lapsed,
            Err(_) => Holds::Yes,
        }
    }

    /// The reason why a revision does not live, if there is one. Such as cannot lapse go first.
    fn removal(&self, rev: &Rev, present: &[Rev]) -> Option<&str> {
        let lapses = |why: &str| is_operation(why) || Rev::new(why).is_ok();
        let held = self.of(rev).filter(|why| self.holds(why, present) == Holds::Yes);
        held.min_by_key(|why| lapses(why)).map(String::as_str)
    }

    fn all_lapsed(&self, rev: &Rev) -> bool {
        self.of(rev).all(|why| self.holds(why, &[]) == Holds::Lapsed)
    }
}

impl RevisionSet {
    /// Looks at the medium; an object that is not there is known by what is gone of it.
    pub fn load(backend: &dyn Backend, id: &ObjectId) -> Result<RevisionSet> {
        Ok(RevisionSet::new(found(backend.entries(id))?, backend.removed(id)?))
    }

    /// From what is in the object's directory (`None`: there is none) and what is gone.
    pub fn new(entries: Option<Vec<Entry>>, gone: Vec<Removal>) -> RevisionSet {
        let mut set =
            RevisionSet { exists: entries.is_some(), facts: Facts::new(gone), ..RevisionSet::default() };
        let mut present = Vec::new();
        for entry in entries.unwrap_or_default() {
            match entry {
                Entry::Rev(rev) => present.push(rev),
                Entry::Foreign(name) => {
                    set.foreign = true;
                    let generation = name.to_str().and_then(|n| n.split_once('-')?.0.parse().ok());
                    set.look_alike = set.look_alike.max(generation.filter(|&n| n < LAST_GENERATION));
                }
            }
        }
        rev::sort(&mut present);
        if set.facts.reasons.is_empty() {
            set.live = present;
            return set;
        }
        let missing = |rev: &&Rev| present.binary_search(rev).is_err() && set.facts.all_lapsed(rev);
        set.missing = set.facts.reasons.keys().filter(missing).cloned().collect();
        for rev in &present {
            match set.facts.removal(rev, &present) {
                None => set.live.push(rev.clone()),
                Some(why) => set.dead.push((rev.clone(), why.into())),
            }
        }
        set
    }

    /// Whether this is a revision of the object, live or gone.
    pub fn contains(&self, rev: &Rev) -> bool {
        self.live.binary_search(rev).is_ok()
            || self.dead.iter().any(|(r, _)| r == rev)
            || self.facts.reasons.contains_key(rev)
    }

    /// Whether this is a revision of the object as it lives now: not of one that was deleted, or renamed away, and left its
    /// id to another.
    pub fn contains_in_this_life(&self, rev: &Rev) -> bool {
        self.live.binary_search(rev).is_ok() || (self.contains(rev) && !self.facts.deleted(rev))
    }

    /// A revision was published that nothing was known of.
    pub fn add(&mut self, rev: Rev) {
        if let Err(at) = self.live.binary_search(&rev) {
            self.live.insert(at, rev);
        }
    }

    /// How many names are known.
    pub fn names(&self) -> usize {
        self.live.len() + self.dead.len() + self.facts.reasons.len()
    }

    /// Every revision of the object, live or gone.
    pub fn all(&self) -> impl Iterator<Item = &Rev> {
        self.live.iter().chain(self.dead.iter().map(|(rev, _)| rev)).chain(self.facts.reasons.keys())
    }

    /// Every revision that does not live, ascending, with what was said of it.
    pub fn removed(&self) -> impl Iterator<Item = (&Rev, &BTreeSet<String>)> {
        self.facts.reasons.iter().filter(|(rev, _)| self.live.binary_search(rev).is_err())
    }

    /// Whether a revision that is not live would be, were it in the object's directory.
    pub fn awaited(&self, rev: &Rev) -> bool {
        self.removal(rev).is_none()
    }

    /// The reason why a revision that is not live would not be, were it in the object's directory.
    pub fn removal(&self, rev: &Rev) -> Option<&str> {
        self.facts.removal(rev, &self.live)
    }

    /// Every reason that was given for a removal of this revision, whether it holds or not.
    pub fn reasons(&self, rev: &Rev) -> impl Iterator<Item = &String> {
        self.facts.of(rev)
    }

    /// Whether the deletion by `op` counts.
    pub fn is_deletion(&self, op: &str) -> bool {
        !self.facts.withdrawn.contains(op)
    }

    /// The generation above all that ever were, 0 for the first.
    ///
    /// # Errors
    /// [`Error::GenerationLimit`].
    pub fn next_generation(&self, id: &ObjectId) -> Result<u64> {
        let limit = || Error::GenerationLimit(id.clone());
        let counted = |rev: &&Rev| !rev.is_nan();
        // What is above the limit would hide all that can still be made, unless it is out of the way.
        if self.live.iter().rev().find(counted).is_some_and(|rev| rev.generation().is_none()) {
            return Err(limit());
        }
        // All are in order, and the number comes first in it.
        let live = self.live.iter().rev().find_map(Rev::generation);
        let dead = self.dead.iter().rev().find_map(|(rev, _)| rev.generation());
        let gone = self.facts.reasons.keys().rev().find_map(Rev::generation);
        let highest = live.max(dead).max(gone).max(self.look_alike);
        match highest {
            None => Ok(0),
            Some(n) if n < LAST_GENERATION => Ok(n + 1),
            Some(_) => Err(limit()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::rev;

    fn fact(rev: &Rev, why: &str) -> Removal {
        Removal::Rev { rev: rev.clone(), why: why.into() }
    }

    fn known(present: &[&Rev], gone: &[Removal]) -> RevisionSet {
        let entries = present.iter().map(|&r| Entry::Rev(r.clone())).collect();
        RevisionSet::new(Some(entries), gone.to_vec())
    }

    #[test]
    fn a_removed_revision_stays_removed_when_its_file_comes_back() {
        let (a, b) = (rev(1, 'a'), rev(1, 'b'));
        for why in ["deleted", "discarded", "purged", "a reason of tomorrow"] {
            let set = known(&[&a, &b], &[fact(&b, why)]);
            assert_eq!((set.live, set.dead), (vec![a.clone()], vec![(b.clone(), why.into())]));
        }
        let whole = Removal::Object { op: "0".repeat(32), revs: vec![a.clone()] };
        assert_eq!(known(&[&a, &b], &[whole]).live, [b]);
    }

    #[test]
    fn a_deletion_that_was_withdrawn_counts_for_nothing() {
        let (a, b, op) = (rev(1, 'a'), rev(2, 'b'), "0".repeat(32));
        let whole = Removal::Object { op: op.clone(), revs: vec![a.clone()] };
        let withdrawn = Removal::Withdrawn { op: op.clone() };
        let taken_back = known(&[&a, &b], &[whole.clone(), withdrawn.clone()]);
        assert_eq!(taken_back.live, [a.clone(), b.clone()]);
        assert_eq!(known(&[&b], &[withdrawn.clone(), whole.clone()]).missing, std::slice::from_ref(&a));
        // Put away again one by one, for the same reason.
        assert_eq!(known(&[&a, &b], &[fact(&a, &op)]).live, std::slice::from_ref(&b));
        assert_eq!(known(&[&a], &[fact(&a, &op), withdrawn.clone()]).live, std::slice::from_ref(&a));
        // Another deletion stands.
        let other = Removal::Object { op: "1".repeat(32), revs: vec![a.clone()] };
        assert_eq!(known(&[&a], &[whole, withdrawn, other]).dead.len(), 1);
    }

    #[test]
    fn what_was_superseded_does_not_outlive_a_deletion() {
        let (a, b, c, op) = (rev(1, 'a'), rev(2, 'b'), rev(3, 'c'), "0".repeat(32));
        let whole = |revs: &[&Rev]| Removal::Object {
            op: op.clone(),
            revs: revs.iter().map(|&r| r.clone()).collect(),
        };
        let facts = [fact(&a, b.as_str()), fact(&b, "discarded"), whole(&[&b])];
        assert!(known(&[&a], &facts).live.is_empty() && known(&[], &facts).missing.is_empty());
        // Also where that had been superseded itself.
        let facts = [fact(&a, b.as_str()), fact(&b, c.as_str()), fact(&b, "discarded"), whole(&[&c])];
        assert!(known(&[&a], &facts).live.is_empty());
        let facts = [&facts[..], &[Removal::Withdrawn { op: op.clone() }]].concat();
        assert_eq!(known(&[&a], &facts).live, [a]);
    }

    #[test]
    fn a_superseded_revision_lives_again_when_what_superseded_it_is_unknown_or_discarded() {
        let (a, b) = (rev(1, 'a'), rev(1, 'b'));
        let by_b = fact(&a, b.as_str());
        assert_eq!(known(&[&a, &b], std::slice::from_ref(&by_b)).live, std::slice::from_ref(&b));
        assert_eq!(known(&[&a], std::slice::from_ref(&by_b)).live, std::slice::from_ref(&a));
        assert_eq!(known(&[&a], &[by_b.clone(), fact(&b, "discarded")]).live, std::slice::from_ref(&a));
        assert!(known(&[], std::slice::from_ref(&by_b)).missing.is_empty());
        assert_eq!(known(&[], &[by_b.clone(), fact(&b, "discarded")]).missing, std::slice::from_ref(&a));
        // A fact that lapsed does not lift another.
        let both = [by_b.clone(), fact(&b, "discarded"), fact(&a, "deleted")];
        assert!(known(&[&a], &both).live.is_empty() && known(&[], &both).missing.is_empty());
        assert!(known(&[&a], &[by_b, fact(&b, "deleted")]).live.is_empty());
    }

    #[test]
    fn the_next_generation_is_above_everything_that_ever_was() {
        let id = ObjectId::new("x").unwrap();
        let next = |k: RevisionSet| k.next_generation(&id).ok();
        assert_eq!(next(RevisionSet::new(None, vec![])), Some(0));
        assert_eq!(next(known(&[&rev(7, 'a')], &[fact(&rev(9, 'b'), "deleted")])), Some(10));
        let look_alike = |n: &str| RevisionSet::new(Some(vec![Entry::Foreign(n.into())]), vec![]);
        assert_eq!(next(look_alike("12-README")), Some(13));
        assert_eq!(next(look_alike("20260101.txt")), Some(0));
        assert_eq!(next(look_alike("99999999999999999999-x")), Some(0));
        assert_eq!(next(known(&[&rev(LAST_GENERATION - 1, 'a')], &[])), Some(LAST_GENERATION));
        assert_eq!(next(known(&[&rev(LAST_GENERATION, 'a')], &[])), None);
        let huge = Rev::new(format!("1{}-{}", "0".repeat(30), "a".repeat(32))).unwrap();
        assert_eq!(next(known(&[&huge], &[])), None);
        assert_eq!(next(known(&[&rev(3, 'a')], &[fact(&huge, "discarded")])), Some(4));
        let nan = Rev::new(format!("NaN-{}", "a".repeat(32))).unwrap();
        assert_eq!(next(known(&[&nan, &rev(3, 'a')], &[])), Some(4));
    }
}
