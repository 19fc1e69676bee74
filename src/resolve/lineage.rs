//! Which revision was made from which.
//!
//! The names that we give carry a mark of their parent's name; that is certain. The original's do not: there the parent
//! is assumed to be the one revision of the generation before, if there is one and no other.

use std::collections::{HashMap, HashSet};

use crate::backend::{DELETED, DISCARDED};
use crate::rev::Rev;

/// The parents of an object's revisions.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    by_mark: HashMap<String, Rev>,
    /// The one revision of a generation that others may have gone on from; `None` where there are several.
    only: HashMap<String, Option<Rev>>,
}

/// What a revision was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its name.
    pub rev: Rev,
    /// Its name does not say so.
    pub assumed: bool,
}

impl Lineage {
    /// From the names of all live revisions, and those of all removed ones with the reasons.
    pub fn new(live: &[Rev], removed: &[(Rev, Vec<String>)]) -> Lineage {
        let mut lineage = Lineage::default();
        let removed = removed.iter().map(|(rev, why)| (rev, why.iter().any(|why| is_judged(rev, why))));
        let mut seen = HashSet::new();
        for (rev, judged) in live.iter().map(|rev| (rev, false)).chain(removed) {
            lineage.by_mark.insert(rev.mark(), rev.clone());
            if judged || !seen.insert(rev) {
                continue;
            }
            let generation = rev.generation_text().to_owned();
            lineage.only.entry(generation).and_modify(|only| *only = None).or_insert(Some(rev.clone()));
        }
        lineage
    }

    /// What a revision was made from, where that is known, live or gone.
    pub fn parent(&self, rev: &Rev) -> Option<Parent> {
        if let Some(parent) = self.by_mark.get(rev.parent_mark()).filter(|&parent| parent != rev) {
            return Some(Parent { rev: parent.clone(), assumed: false });
        }
        let before = rev.generation()?.checked_sub(1)?.to_string();
        let only = self.only.get(&before)?.clone()?;
        Some(Parent { rev: only, assumed: true })
    }

    /// The revision itself, its parent, that one's parent, and so on.
    pub fn line(&self, rev: &Rev) -> Vec<Rev> {
        let mut line = vec![rev.clone()];
        let mut seen = HashSet::from([rev.clone()]);
        while let Some(parent) = line.last().and_then(|last| self.parent(last)) {
            // Two names of one mark could make a circle.
            if !seen.insert(parent.rev.clone()) {
                break;
            }
            line.push(parent.rev);
        }
        line
    }

    /// Where the line of `rev` parts from that of `other`: the youngest revision that both were made from, one of the two
    /// included; where their lines are not known to meet, the parent of `rev`.
    pub fn parting(&self, rev: &Rev, other: &Rev) -> Option<Rev> {
        let (line, others) = (self.line(rev), self.line(other));
        line.iter().find(|one| others.contains(one)).or_else(|| line.get(1)).cloned()
    }
}

/// Whether a revision was removed for what it is beside others of its generation: nobody goes on from such a one. What was
/// superseded by a later generation may have been that one's ancestor.
fn is_judged(rev: &Rev, why: &str) -> bool {
    let beside = Rev::new(why).is_ok_and(|by| by.generation_text() == rev.generation_text());
    why == DISCARDED || why == DELETED || beside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(generation: u64, digit: char) -> Rev {
        Rev::new(format!("{generation}-{}", digit.to_string().repeat(32))).unwrap()
    }

    fn child(parent: &Rev, generation: u64, byte: u8) -> Rev {
        let random = uuid::Builder::from_random_bytes([byte; 16]).into_uuid();
        Rev::child_of(Some(parent), generation, random)
    }

    fn gone(rev: &Rev, why: &str) -> (Rev, Vec<String>) {
        (rev.clone(), vec![why.into()])
    }

    #[test]
    fn marks_are_certain_and_the_only_one_before_is_assumed() {
        let root = rev(0, 'a');
        let ours = child(&root, 1, 1);
        let theirs = rev(2, 'b');
        let lineage = Lineage::new(&[root.clone(), ours.clone(), theirs.clone()], &[]);
        assert_eq!(lineage.parent(&ours), Some(Parent { rev: root.clone(), assumed: false }));
        assert_eq!(lineage.parent(&theirs), Some(Parent { rev: ours.clone(), assumed: true }));
        assert_eq!(lineage.parent(&root), None);
        assert_eq!(lineage.line(&theirs), [theirs.clone(), ours.clone(), root.clone()]);
        // Two before, and nobody knows.
        let other = rev(1, 'c');
        let lineage = Lineage::new(&[root.clone(), ours, other, theirs.clone()], &[]);
        assert_eq!(lineage.line(&theirs), [theirs]);
    }

    #[test]
    fn what_lost_a_conflict_is_nobodys_parent_but_what_was_pruned_may_be() {
        let (root, low, high, last) = (rev(0, 'a'), rev(1, 'b'), rev(1, 'c'), rev(2, 'd'));
        let live = [root.clone(), high.clone(), last.clone()];
        for why in [high.as_str(), "discarded"] {
            let lineage = Lineage::new(&live, &[gone(&low, why)]);
            assert_eq!(lineage.line(&last), [last.clone(), high.clone(), root.clone()], "{why}");
        }
        let lineage = Lineage::new(&live, &[gone(&low, last.as_str())]);
        assert_eq!(lineage.line(&last), std::slice::from_ref(&last), "either may be its parent");
        let lineage = Lineage::new(std::slice::from_ref(&last), &[gone(&high, last.as_str())]);
        assert_eq!(lineage.line(&last), [last, high]);
    }

    #[test]
    fn lines_part_at_the_youngest_that_they_share() {
        let root = rev(0, 'a');
        let one = child(&root, 1, 1);
        let (a, b, stale) = (child(&one, 2, 2), child(&one, 2, 3), child(&root, 2, 4));
        let all = [&root, &one, &a, &b, &stale].map(Rev::clone);
        let lineage = Lineage::new(&all, &[]);
        assert_eq!(lineage.parting(&a, &b), Some(one.clone()));
        assert_eq!(lineage.parting(&a, &stale), Some(root.clone()));
        assert_eq!(lineage.parting(&stale, &a), Some(root));
        assert_eq!(lineage.parting(&a, &one), Some(one.clone()));
        // One of them is the original's, and there are two it could come from.
        let lineage = Lineage::new(&[one.clone(), rev(1, 'e'), a.clone(), rev(2, 'f')], &[]);
        assert_eq!(lineage.parting(&a, &rev(2, 'f')), Some(one));
        assert_eq!(lineage.parting(&rev(2, 'f'), &a), None);
        assert_eq!(Lineage::new(&[rev(2, 'e'), rev(2, 'f')], &[]).parting(&rev(2, 'e'), &rev(2, 'f')), None);
    }
}
