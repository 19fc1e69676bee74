//! Revisions whose number cannot be counted on from.

use super::Store;
use crate::backend::{Attrs, Durability};
use crate::error::{Error, Result, found};
use crate::rev::{LAST_GENERATION, ObjectId, Rev};

use super::revision_set::RevisionSet;

impl Store {
    /// Gives numbers to live revisions that have none to go on from: `NaN-` names and such above 2^53-2, which hide all
    /// that is saved after them. They get the next numbers in their order, so the same one wins, and those of one number
    /// stay in conflict. A number with zeros before it (`007-`) loses these if it wins; else the revision is superseded by
    /// the winner. The bytes are published under the new name and the old one retired for it: both are known from then on.
    /// Returns the pairs of names, old and new; with `dry` nothing is done.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::GenerationLimit`], [`Error::Io`].
    pub(crate) fn renumber(&self, id: &ObjectId, dry: bool) -> Result<Vec<(Rev, Rev)>> {
        let _turn = self.lock_object(id);
        let set = self.existing_revision_set(id)?;
        let Some(winner) = found(self.winner(id))? else { return Ok(Vec::new()) };
        let mut named = Vec::new();
        for Step { old, new, copied } in plan(id, &set, &winner.rev)? {
            let Some((text, meta)) = found(self.backend().read(id, &old))? else { continue };
            if !dry {
                if copied {
                    let attrs = Attrs { origin: self.backend().origin(id, &old), ..meta.attrs() };
                    self.publish_copy(id, &new, &text, &attrs)?;
                }
                let how = Durability::Ordered;
                if self.backend().retire(id, &old, new.as_str(), how).is_err() {
                    // Two long names in one are too long a name; or it is gone already.
                    found(self.backend().set_aside(id, old.as_str().as_ref(), &self.operation(), how))?;
                }
            }
            named.push((old, new));
        }
        Ok(named)
    }
}

/// One revision and the name that stands for it.
struct Step {
    old: Rev,
    new: Rev,
    /// The bytes go under the new name; else that is another revision's.
    copied: bool,
}

/// Which revisions get other names, and which; first those that are copied.
fn plan(id: &ObjectId, set: &RevisionSet, winner: &Rev) -> Result<Vec<Step>> {
    let limit = || Error::GenerationLimit(id.clone());
    let copy = |n: u64, old: &Rev| {
        let hex = old.as_str().rsplit_once('-').map_or("", |(_, hex)| hex);
        let new = Rev::new(format!("{n}-{hex}"))?;
        Ok::<_, Error>(Step { old: old.clone(), new, copied: true })
    };
    let (mut steps, mut superseded) = (Vec::new(), Vec::new());
    let mut last = set.all().filter_map(Rev::generation).max();
    let mut of: Option<&str> = None;
    for old in &set.live {
        let text = old.generation_text();
        match old.generation() {
            Some(n) if n.to_string() == text => {}
            Some(n) if old == winner => steps.push(copy(n, old)?),
            Some(_) if old < winner => superseded.push(old.clone()),
            Some(_) => {}
            None => {
                if of != Some(text) {
                    let next = last.map_or(Some(0), |n| n.checked_add(1));
                    last = Some(next.filter(|&n| n <= LAST_GENERATION).ok_or_else(limit)?);
                    of = Some(text);
                }
                steps.push(copy(last.unwrap_or(0), old)?);
            }
        }
    }
    let new = steps.iter().find(|step| step.old == *winner).map_or(winner, |step| &step.new).clone();
    steps.extend(superseded.into_iter().map(|old| Step { old, new: new.clone(), copied: false }));
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Entry, MemoryBackend};

    #[test]
    fn names_that_nobody_can_count_on_from_get_the_next_numbers() {
        let backend = Arc::new(MemoryBackend::new());
        let s = Store::with_backend(backend.clone());
        let x = ObjectId::new("x").unwrap();
        let rev = |generation: &str, digit: char| {
            Rev::new(format!("{generation}-{}", digit.to_string().repeat(32))).unwrap()
        };
        let names = [
            rev("3", 'a'),
            rev("007", 'b'),
            rev("7", 'c'),
            rev("9007199254740993", 'd'),
            rev("9007199254740993", 'e'),
            rev("99999999999999999999999", 'f'),
            rev("NaN", '1'),
            rev("NaN", '2'),
        ];
        for (n, name) in names.iter().enumerate() {
            backend.plant(&x, Entry::Rev(name.clone()), format!("{{\"n\":{n}}}").as_bytes());
        }
        let would = s.renumber(&x, true).unwrap();
        assert_eq!(s.revisions(&x).unwrap().len(), 8);
        assert_eq!(s.renumber(&x, false).unwrap(), would);
        let live = [rev("3", 'a'), rev("7", 'c'), rev("8", 'd'), rev("8", 'e'), rev("9", 'f')];
        assert_eq!(s.revisions(&x).unwrap(), [&live[..], &[rev("10", '1'), rev("10", '2')]].concat());
        assert_eq!(s.winner(&x).unwrap().text, b"{\"n\":7}");
        assert_eq!(s.conflicts(&x).unwrap().len(), 2);
        assert!(s.renumber(&x, false).unwrap().is_empty());
        // A replica that comes back changes nothing.
        backend.plant(&x, Entry::Rev(names[7].clone()), b"{\"n\":7}");
        assert_eq!(s.revisions(&x).unwrap().len(), 7);
        assert_eq!(s.update(&x, b"{}").unwrap().rev.generation(), Some(11));
    }

    #[test]
    fn zeros_before_the_number_of_a_winner_go() {
        let backend = Arc::new(MemoryBackend::new());
        let s = Store::with_backend(backend.clone());
        let x = ObjectId::new("x").unwrap();
        let name = |n: &str| Rev::new(format!("{n}-{}", "a".repeat(32))).unwrap();
        for n in ["1", "0005", "007"] {
            backend.plant(&x, Entry::Rev(name(n)), b"{}");
        }
        assert_eq!(s.renumber(&x, false).unwrap().len(), 2);
        assert_eq!(s.revisions(&x).unwrap(), [name("1"), name("7")]);
        assert!(s.backend().removed(&x).unwrap().len() == 2);
    }
}
