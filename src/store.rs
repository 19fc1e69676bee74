//! Objects and their revisions: which one wins, what may be seen, how one is added.
//!
//! Invariants: a revision is added or removed, never changed. What wins is a function of names and of what is gone, so all
//! who look at the same directory agree. Reading costs one listing and one file. Two saves of one object in one process
//! never run at once; saves of different objects do not wait for each other (but for chance: locks are few and hashed).
//!
//! Architecture invariant: no path (but in `store/open.rs`), no inode, no FUSE.
//!
//! Here are the types, and reading. Each file knows only those above it:
//!
//! - `par_map`, `locks`, `id_stream`: objects in parallel, one writer for each, all ids while they are listed
//! - `revision_set`: which revisions are known and which live, by names and facts
//! - `changes`: what changed, and by whom
//! - `cache`: what is remembered of objects that are watched
//! - `sibling`: names beside the winner's
//! - `save_policy`: what a save publishes, and where: same, fresh, restore, in conflict
//! - `unfinished`: half-written texts: passed over, waited for, and how long
//! - `save`: adding a revision
//! - `bulk`: many texts, one after the other
//! - `sweep`: the directory is made to say what the facts say
//! - `torn`: what a power cut left of saves that nobody waited for
//! - `open`: a directory as a store
//! - `remove`, `rename`, `renumber`: deleting an object; another id; numbers that can be counted on from
//! - `undo`: what was removed comes back
//! - `promote`: another revision is put in force
//! - `receive`: what came from other hosts
//! - `history`: what an object has been
//! - `gc`: what is old goes, then its bytes

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::backend::{Attrs, Backend, Durability, Meta};
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{self, ObjectId, Rev};

mod bulk;
mod cache;
mod changes;
mod gc;
mod history;
mod id_stream;
mod locks;
mod open;
mod par_map;
mod promote;
mod receive;
mod remove;
mod rename;
mod renumber;
mod revision_set;
mod save;
mod save_policy;
mod sibling;
mod sweep;
#[cfg(test)]
mod testing;
mod torn;
mod undo;
mod unfinished;

pub use gc::{Cleared, Keep};
pub use history::{Revision, Role};
pub use receive::Incoming;
pub use revision_set::RevisionSet;
pub use undo::Deletion;

pub(crate) use changes::{Changes, Epoch};
pub(crate) use id_stream::IdStream;
pub(crate) use open::expand;
pub(crate) use sweep::Astray;
pub(crate) use unfinished::{REPAIR_QUIET, REPAIR_WAIT, SAVE_WAIT, may_go_on};

use cache::Cache;
use locks::{ObjectLock, ObjectLocks};
use par_map::par_map;

/// What happens to a save whose base is no longer the winner. See `store/save_policy.rs` for the cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStale {
    /// The text stands as it is and wins; it and what it replaces are in conflict.
    #[default]
    Conflict,
    /// Changes are merged into the winner; where both changed one member, the two become a conflict.
    Merge,
    /// The text goes on top of the winner as it is.
    Latest,
    /// The original library's way: the generation after the base's, which may lie under the winner.
    Sibling,
    /// [`Error::Stale`].
    Refuse,
}

/// An object as readers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its id.
    pub id: ObjectId,
    /// The winner.
    pub rev: Rev,
    /// Of the winner's file.
    pub meta: Meta,
    /// The winner's bytes: one JSON object.
    pub text: Vec<u8>,
}

/// What became of a text that was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It says nothing new; nothing was published.
    Same,
    /// It is the newest revision.
    Update,
    /// Its changes were applied to a winner that had changed elsewhere.
    Merge,
    /// The same, and where both had changed, this text's values stand; the two are in conflict.
    Overlap,
    /// It was made from an older revision, and is now in conflict with the winner that it replaces.
    Stale,
    /// An older revision is the newest again.
    Restore,
    /// The object is new.
    Created,
}

/// What a save led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What readers now get.
    pub rev: Rev,
    /// Of its file.
    pub meta: Meta,
    /// What was published, and why.
    pub outcome: Outcome,
    /// Readers get other bytes than were given: stamped, merged, without the BOM, or another revision.
    pub altered: bool,
}

impl Saved {
    /// The text as it was given, where readers get one that says something else: a merge of it, or the winner above a
    /// sibling. `on_stale`: the policy of the save.
    #[doc(hidden)]
    pub fn own(&self, given: &[u8], on_stale: OnStale) -> Option<Arc<[u8]>> {
        let merged = match self.outcome {
            Outcome::Merge | Outcome::Overlap => true,
            Outcome::Same => on_stale == OnStale::Merge,
            Outcome::Stale => on_stale == OnStale::Sibling,
            Outcome::Update | Outcome::Restore | Outcome::Created => false,
        };
        (merged && self.altered).then(|| given.into())
    }

    /// What readers now get, if that says what was given and nothing of others' (as far as that is known).
    pub(crate) fn as_given(&self) -> Option<&Rev> {
        let merged = matches!(self.outcome, Outcome::Merge | Outcome::Overlap);
        (!merged && (self.outcome != Outcome::Same || !self.altered)).then_some(&self.rev)
    }
}

/// How a save is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// For the new revision. Mode and owner are those of the revision before where not given.
    pub attrs: Attrs,
    /// How far the revision must have got when the call returns.
    pub how: Durability,
    /// What happens where the base is not the winner any more.
    pub on_stale: OnStale,
}

/// A store. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    cache: Cache,
    changes: Arc<Changes>,
    backend: Arc<dyn Backend>,
    random: Box<dyn Fn() -> Uuid + Send + Sync>,
    locks: ObjectLocks,
}

/// How often a look at an object is repeated when it changes under the eyes. Each time somebody else has got on, so this
/// many in a row are no bad luck but a medium that contradicts itself.
const TRIES: usize = 32;

impl Store {
    /// A store on any medium.
    pub fn with_backend(backend: Arc<dyn Backend>) -> Store {
        Store::with_random(backend, Uuid::new_v4)
    }

    /// [`with_backend`](Self::with_backend), with the source of the digits in new names. They must not repeat.
    pub fn with_random(
        backend: Arc<dyn Backend>,
        random: impl Fn() -> Uuid + Send + Sync + 'static,
    ) -> Store {
        let changes = Arc::new(Changes::default());
        let cache = Cache::new(changes.clone());
        let (random, locks) = (Box::new(random), ObjectLocks::default());
        Store(Arc::new(Inner { cache, changes, backend, random, locks }))
    }

    /// The medium.
    pub fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    /// The live revisions, in ascending order. Names only: whether one holds an object shows when it is read.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn revisions(&self, id: &ObjectId) -> Result<Vec<Rev>> {
        Ok(self.existing_revision_set(id)?.live)
    }

    /// The object as readers get it: the highest live revision that holds a JSON object. One that does not (the original
    /// library writes in place) is passed over.
    ///
    /// # Errors
    /// [`Error::NoObject`] where there is none, [`Error::Io`].
    pub fn winner(&self, id: &ObjectId) -> Result<Object> {
        for _ in 0..TRIES {
            let (set, winner) = self.scan(id, cache::LONG)?;
            if !set.exists {
                return Err(Error::NoObject(id.clone()));
            }
            if let Scan::Stable(found) = self.load_winner(id, &set, winner)? {
                return found.ok_or_else(|| Error::NoObject(id.clone()));
            }
        }
        Err(unsteady(id))
    }

    /// The winner's name and attributes. It is read all the same, to know that it is an object.
    ///
    /// # Errors
    /// As [`winner`](Self::winner).
    pub fn winner_meta(&self, id: &ObjectId) -> Result<(Rev, Meta)> {
        if let Some(winner) = self.0.cache.recall(id).and_then(|recall| recall.winner) {
            match found(self.backend().meta(id, &winner))? {
                Some(meta) => return Ok((winner, meta)),
                None => self.0.cache.forget(id),
            }
        }
        self.winner(id).map(|object| (object.rev, object.meta))
    }

    /// The bytes of one revision, live or gone.
    ///
    /// # Errors
    /// [`Error::NoObject`] for an object that has neither, [`Error::NoRevision`], [`Error::Io`].
    pub fn read(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        match self.backend().read(id, rev) {
            Ok((text, _)) => Ok(text),
            Err(missing @ (Error::NoObject(_) | Error::NoRevision(..))) => {
                found(self.backend().read_removed(id, rev))?.ok_or(missing)
            }
            Err(e) => Err(e),
        }
    }

    /// The winner as the original's `getObject` gives it: with `_id` and `_rev`.
    ///
    /// # Errors
    /// As [`winner`](Self::winner).
    pub fn get(&self, id: &ObjectId) -> Result<Vec<u8>> {
        let object = self.winner(id)?;
        Ok(document::object_view(&object.text, &id.to_text(), object.rev.as_str()))
    }

    /// The ids of all objects, in no order. Names only: one may turn out to hold nothing that can be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ids(&self) -> Result<Vec<ObjectId>> {
        self.backend().objects()
    }

    /// Every object that has a winner, by id. What goes wrong with one does not end the walk.
    ///
    /// # Errors
    /// [`Error::Io`] where the store cannot be listed.
    pub fn all(&self) -> Result<impl Iterator<Item = Result<Object>> + use<>> {
        let mut ids = self.ids()?;
        ids.sort();
        let gone = self.gone_ids()?;
        // `None` for an object that is not there any more.
        Ok(self.winners(ids, &gone).filter_map(|object| found(object).transpose()))
    }

    /// The ids of which something may be gone. What goes meanwhile is not in its directory any more.
    pub(crate) fn gone_ids(&self) -> Result<Arc<HashSet<ObjectId>>> {
        Ok(Arc::new(self.backend().removed_objects()?.into_iter().collect()))
    }

    /// The winners of these objects, in their order. `gone`: what [`gone_ids`](Self::gone_ids) was before they were listed;
    /// of most objects nothing is.
    pub(crate) fn winners(
        &self,
        ids: Vec<ObjectId>,
        gone: &Arc<HashSet<ObjectId>>,
    ) -> impl Iterator<Item = Result<Object>> + use<> {
        let (store, gone) = (self.clone(), gone.clone());
        par_map(ids, move |id: &ObjectId| {
            if !gone.contains(id) {
                let set = RevisionSet::new(Some(store.backend().entries(id)?), Vec::new());
                if let Scan::Stable(Some(object)) = store.find_winner(id, &set)? {
                    return Ok(object);
                }
            }
            store.winner(id)
        })
    }

    /// The conflicts, as the original's `getConflicts` lists them.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Io`].
    pub fn conflicts(&self, id: &ObjectId) -> Result<Vec<Vec<Rev>>> {
        Ok(rev::conflicts(&self.revisions(id)?))
    }

    /// The objects that are in conflict, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn conflicted(&self) -> Result<Vec<ObjectId>> {
        let store = self.clone();
        let conflicted = par_map(self.ids()?, move |id| {
            let groups = found(store.conflicts(id))?;
            Ok(groups.is_some_and(|groups| !groups.is_empty()).then(|| id.clone()))
        });
        conflicted.filter_map(Result::transpose).collect()
    }

    /// Keeps all other writers of this object, within this process, waiting.
    fn lock_object(&self, id: &ObjectId) -> ObjectLock<'_> {
        self.0.locks.lock(id)
    }

    fn random(&self) -> Uuid {
        (self.0.random)()
    }

    fn operation(&self) -> String {
        self.random().simple().to_string()
    }

    /// Moves a live revision to what is gone. Whether it did: it may not be a file, or not be there any more.
    fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<bool> {
        Ok(found(self.backend().retire(id, rev, why, how))?.is_some())
    }

    fn revision_set(&self, id: &ObjectId) -> Result<RevisionSet> {
        RevisionSet::load(self.backend(), id)
    }

    fn existing_revision_set(&self, id: &ObjectId) -> Result<RevisionSet> {
        let entries = self.backend().entries(id)?;
        Ok(RevisionSet::new(Some(entries), self.backend().removed(id)?))
    }

    /// The revisions of an object (none if there is no such object), and the winner if it was read before. A set of at least
    /// `from` names is remembered.
    fn scan(&self, id: &ObjectId, from: usize) -> Result<(Arc<RevisionSet>, Option<Rev>)> {
        if let Some(recall) = self.0.cache.recall(id) {
            return Ok((recall.set, recall.winner));
        }
        let epoch = self.0.cache.begin(id);
        let set = Arc::new(self.revision_set(id)?);
        if set.names() >= from {
            self.0.cache.remember(id, epoch, &set);
        }
        Ok((set, None))
    }

    /// [`find_winner`](Self::find_winner), of what [`scan`](Self::scan) gave.
    fn load_winner(&self, id: &ObjectId, set: &Arc<RevisionSet>, winner: Option<Rev>) -> Result<Scan> {
        let Some(rev) = winner else {
            let top = self.find_winner(id, set)?;
            if let Scan::Stable(Some(object)) = &top {
                self.0.cache.found(id, set, &object.rev);
            }
            return Ok(top);
        };
        let Some((text, meta)) = found(self.backend().read(id, &rev))? else {
            self.0.cache.forget(id);
            return Ok(Scan::Raced);
        };
        Ok(Scan::Stable(Some(Object { id: id.clone(), rev, meta, text })))
    }
}

/// What a look at an object's revisions found.
enum Scan {
    Stable(Option<Object>),
    /// They changed meanwhile: look again.
    Raced,
}

fn unsteady(id: &ObjectId) -> Error {
    let why = std::io::Error::other("it changes faster than it can be read");
    Error::io("read", id.as_os_str())(why)
}
