//! What is in conflict in one object, read once.

use std::collections::HashMap;

use super::lineage::Lineage;
use crate::backend::Meta;
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{self, ObjectId, Rev};
use crate::store::{Store, may_go_on};

/// How often a look is repeated when revisions vanish under it.
const TRIES: usize = 32;

/// One object: its winner, and all that is in conflict.
#[derive(Clone, Debug)]
pub struct ConflictSet {
    /// The object.
    pub id: ObjectId,
    /// What readers get; `None` where no live revision holds an object.
    pub winner: Option<Side>,
    /// As the original's `getConflicts` lists them.
    pub groups: Vec<Group>,
    /// Live revisions in no group that nobody ever gets to read, ascending: each lies below the winner, which was made from
    /// another of its generation, or has no live revision of the next generation. (The original, saving what it read before
    /// the history was pruned.)
    pub strays: Vec<Side>,
    /// Which revision was made from which, live or gone.
    pub lineage: Lineage,
}

/// The live revisions of one generation, two or more.
#[derive(Clone, Debug)]
pub struct Group {
    /// Ascending.
    pub sides: Vec<Side>,
    /// Which of them stays when the conflict is settled: the one that the winner is or was made from, else the highest
    /// that holds an object, else the highest.
    pub kept: usize,
}

impl Group {
    /// All but the one that stays, the highest first.
    pub fn losers(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().enumerate().rev().filter(|&(i, _)| i != self.kept).map(|(_, side)| side)
    }
}

/// One revision.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its name.
    pub rev: Rev,
    /// `None` where it is not a file.
    pub meta: Option<Meta>,
    /// Its text, if that is an object.
    pub text: Option<Vec<u8>>,
    /// It is not an object, but was written to a moment ago.
    pub unfinished: bool,
    /// Of one in conflict: where its line parts from the winner's, if that is known and can be read.
    pub base: Option<Base>,
}

/// A revision that two others were made from.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its name.
    pub rev: Rev,
    /// Its bytes, a JSON object.
    pub text: Vec<u8>,
}

impl ConflictSet {
    /// Reads the winner and whatever is in conflict.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn at(store: &Store, id: &ObjectId) -> Result<ConflictSet> {
        let mut last = Err(Error::NoObject(id.clone()));
        for _ in 0..TRIES {
            last = ConflictSet::once(store, id);
            if !matches!(last, Err(Error::NoRevision(..))) {
                break;
            }
        }
        last
    }

    fn once(store: &Store, id: &ObjectId) -> Result<ConflictSet> {
        let live = store.revisions(id)?;
        let lineage = Lineage::new(&live, &store.removed(id)?);
        let mut read = HashMap::new();
        let mut winner = None;
        for rev in live.iter().rev() {
            let side = side(store, id, rev)?;
            let found = side.text.is_some();
            read.insert(rev.clone(), side);
            if found {
                winner = read.get(rev).cloned();
                break;
            }
        }
        let line = winner.as_ref().map(|winner| lineage.line(&winner.rev)).unwrap_or_default();
        let mut fetch = |rev: &Rev| match read.remove(rev) {
            Some(side) => Ok(side),
            None => side(store, id, rev),
        };
        let mut groups = Vec::new();
        for revs in rev::conflicts(&live) {
            let mut sides = revs.iter().map(&mut fetch).collect::<Result<Vec<_>>>()?;
            let in_line = sides.iter().rposition(|side| line.contains(&side.rev));
            let kept = in_line.or_else(|| sides.iter().rposition(|side| side.text.is_some()));
            for side in sides.iter_mut().filter(|side| !line.contains(&side.rev)) {
                let winner = winner.as_ref().map(|winner| &winner.rev);
                side.base = winner
                    .and_then(|winner| base(store, id, lineage.parting(&side.rev, winner)).transpose())
                    .transpose()?;
            }
            groups.push(Group { kept: kept.unwrap_or(sides.len() - 1), sides });
        }
        let mut strays = Vec::new();
        if let Some(winner) = &winner {
            let grouped =
                |rev: &Rev| groups.iter().any(|group| group.sides.iter().any(|side| side.rev == *rev));
            for rev in live.iter().filter(|&rev| rev < &winner.rev && !line.contains(rev) && !grouped(rev)) {
                let generation = rev.generation();
                let passed = line.iter().any(|other| other.generation() == generation);
                let next = generation.map(|generation| generation + 1);
                if passed || !live.iter().any(|rev| rev.generation() == next) {
                    strays.push(fetch(rev)?);
                }
            }
        }
        Ok(ConflictSet { id: id.clone(), winner, groups, strays, lineage })
    }

    /// Every revision in conflict but those that stay.
    pub fn losers(&self) -> impl Iterator<Item = &Side> {
        self.groups.iter().flat_map(Group::losers)
    }

    /// A revision in conflict, or a stray.
    pub fn side(&self, rev: &Rev) -> Option<&Side> {
        let in_conflict = self.groups.iter().flat_map(|group| &group.sides);
        in_conflict.chain(&self.strays).find(|side| side.rev == *rev)
    }
}

fn side(store: &Store, id: &ObjectId, rev: &Rev) -> Result<Side> {
    match store.backend().read(id, rev) {
        Ok((text, meta)) => {
            let text = document::check(&text).is_ok().then_some(text);
            let unfinished = text.is_none() && may_go_on(&meta);
            Ok(Side { rev: rev.clone(), meta: Some(meta), text, unfinished, base: None })
        }
        // Removed since it was listed; or not a file, and listed for ever.
        Err(Error::NoRevision(..)) if store.revisions(id)?.contains(rev) => {
            Ok(Side { rev: rev.clone(), meta: None, text: None, unfinished: false, base: None })
        }
        Err(e) => Err(e),
    }
}

/// A base that can be read; one that was purged is as good as unknown.
fn base(store: &Store, id: &ObjectId, rev: Option<Rev>) -> Result<Option<Base>> {
    let Some(rev) = rev else { return Ok(None) };
    let text = found(store.read(id, &rev))?.filter(|text| document::check(text).is_ok());
    Ok(text.map(|text| Base { rev, text }))
}
