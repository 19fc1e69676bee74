//! Which revisions of an object are known, and which of them live.
//!
//! A revision lives unless a fact removes it: it was deleted, discarded, purged or removed for any reason not known here;
//! or superseded by another (the reason is that one's name) which is known and was not discarded itself. Facts count even
//! if a replicator brought the file back. So everyone who knows the same names and facts sees the same revisions, in
//! whatever order they came.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{Backend, Entry, Gone};
use crate::error::{Error, Result};
use crate::rev::{LAST_GENERATION, ObjectId, Rev};

pub const DELETED: &str = "deleted";
pub const DISCARDED: &str = "discarded";

/// All that is known of an object's revisions without reading one.
#[derive(Debug, Default)]
pub struct Known {
    /// There is such an object, be it without revisions.
    pub exists: bool,
    /// In the object's directory and living, ascending.
    pub live: Vec<Rev>,
    /// In the object's directory in spite of a fact, ascending, with the reason.
    pub dead: Vec<(Rev, String)>,
    /// Not in the object's directory, though all that superseded it was discarded, ascending. (What was superseded by a
    /// revision that is not known is not among them: that is on its way from another host, or was never published.)
    pub missing: Vec<Rev>,
    /// There is something in the object's directory that is no revision.
    pub foreign: bool,
    facts: Facts,
    /// The highest generation of a name that only looks like a revision's; the original takes it for one.
    look_alike: Option<u64>,
}

#[derive(Debug, Default)]
struct Facts(BTreeMap<Rev, BTreeSet<String>>);

impl Facts {
    fn new(gone: Vec<Gone>) -> Self {
        let mut facts: BTreeMap<Rev, BTreeSet<String>> = BTreeMap::new();
        for gone in gone {
            match gone {
                Gone::Rev { rev, why } => drop(facts.entry(rev).or_default().insert(why)),
                Gone::Object { revs, .. } => {
                    for rev in revs {
                        facts.entry(rev).or_default().insert(DELETED.into());
                    }
                }
            }
        }
        Facts(facts)
    }

    fn discarded(&self, rev: &Rev) -> bool {
        self.0.get(rev).is_some_and(|why| why.contains(DISCARDED))
    }

    /// The reason why a revision does not live, if there is one.
    fn removal(&self, rev: &Rev, present: &[Rev]) -> Option<&str> {
        let holds = |why: &&String| match Rev::new(why.as_str()) {
            Ok(by) => {
                (present.binary_search(&by).is_ok() || self.0.contains_key(&by)) && !self.discarded(&by)
            }
            Err(_) => true,
        };
        // What cannot lapse goes first.
        let reasons = self.0.get(rev)?;
        let lasting = reasons.iter().find(|why| Rev::new(why.as_str()).is_err());
        lasting.or_else(|| reasons.iter().find(holds)).map(String::as_str)
    }
}

impl Known {
    /// Looks at the medium; an object that is not there is known by what is gone of it.
    pub fn look(backend: &dyn Backend, id: &ObjectId) -> Result<Known> {
        let entries = match backend.entries(id) {
            Err(Error::NoObject(_)) => None,
            entries => Some(entries?),
        };
        Ok(Known::new(entries, backend.gone(id)?))
    }

    /// From what is in the object's directory (`None`: there is none) and what is gone.
    pub fn new(entries: Option<Vec<Entry>>, gone: Vec<Gone>) -> Known {
        let mut known = Known { exists: entries.is_some(), facts: Facts::new(gone), ..Known::default() };
        let mut present = Vec::new();
        for entry in entries.unwrap_or_default() {
            match entry {
                Entry::Rev(rev) => present.push(rev),
                Entry::Foreign(name) => {
                    known.foreign = true;
                    let generation = name.to_str().and_then(|n| n.split_once('-')?.0.parse().ok());
                    known.look_alike = known.look_alike.max(generation.filter(|&n| n < LAST_GENERATION));
                }
            }
        }
        present.sort_unstable();
        if known.facts.0.is_empty() {
            known.live = present;
            return known;
        }
        let lapsed = |why: &String| Rev::new(why.as_str()).is_ok_and(|by| known.facts.discarded(&by));
        let missing = |(rev, reasons): &(&Rev, &BTreeSet<String>)| {
            present.binary_search(rev).is_err() && reasons.iter().all(lapsed)
        };
        known.missing = known.facts.0.iter().filter(missing).map(|(rev, _)| rev.clone()).collect();
        for rev in &present {
            match known.facts.removal(rev, &present) {
                None => known.live.push(rev.clone()),
                Some(why) => known.dead.push((rev.clone(), why.into())),
            }
        }
        known
    }

    /// Whether this is a revision of the object, live or gone.
    pub fn knows(&self, rev: &Rev) -> bool {
        self.live.binary_search(rev).is_ok()
            || self.dead.iter().any(|(r, _)| r == rev)
            || self.facts.0.contains_key(rev)
    }

    /// Every revision of the object, live or gone.
    pub fn all(&self) -> impl Iterator<Item = &Rev> {
        self.live.iter().chain(self.dead.iter().map(|(rev, _)| rev)).chain(self.facts.0.keys())
    }

    /// The generation above all that ever were, 0 for the first.
    ///
    /// # Errors
    /// [`Error::GenerationLimit`].
    pub fn next_generation(&self, id: &ObjectId) -> Result<u64> {
        let limit = || Error::GenerationLimit(id.clone());
        let counted = |rev: &&Rev| !rev.is_nan();
        // What is above the limit would hide all that can still be made, unless it is out of the way.
        if self.live.iter().filter(counted).any(|rev| rev.generation().is_none()) {
            return Err(limit());
        }
        let highest = self.all().filter_map(Rev::generation).max().max(self.look_alike);
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

    fn rev(generation: u64, digit: char) -> Rev {
        Rev::new(format!("{generation}-{}", digit.to_string().repeat(32))).unwrap()
    }

    fn fact(rev: &Rev, why: &str) -> Gone {
        Gone::Rev { rev: rev.clone(), why: why.into() }
    }

    fn known(present: &[&Rev], gone: &[Gone]) -> Known {
        let entries = present.iter().map(|&r| Entry::Rev(r.clone())).collect();
        Known::new(Some(entries), gone.to_vec())
    }

    #[test]
    fn a_removed_revision_stays_removed_when_its_file_comes_back() {
        let (a, b) = (rev(1, 'a'), rev(1, 'b'));
        for why in ["deleted", "discarded", "purged", "a reason of tomorrow"] {
            let known = known(&[&a, &b], &[fact(&b, why)]);
            assert_eq!((known.live, known.dead), (vec![a.clone()], vec![(b.clone(), why.into())]));
        }
        let whole = Gone::Object { op: "0".repeat(32), revs: vec![a.clone()] };
        assert_eq!(known(&[&a, &b], &[whole]).live, [b]);
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
        let next = |k: Known| k.next_generation(&id).ok();
        assert_eq!(next(Known::new(None, vec![])), Some(0));
        assert_eq!(next(known(&[&rev(7, 'a')], &[fact(&rev(9, 'b'), "deleted")])), Some(10));
        let look_alike = |n: &str| Known::new(Some(vec![Entry::Foreign(n.into())]), vec![]);
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
