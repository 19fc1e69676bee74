//! Adding a revision. What is published for a text, and where, is decided in `save_policy`.

use std::sync::Arc;

use super::revision_set::RevisionSet;
use super::save_policy::{Decision, Latest, Place, Plan, plan};
use super::{Object, OnStale, Outcome, SaveOptions, Saved, Scan, Store, TRIES, unsteady};
use crate::backend::{Attrs, Durability, Entry, Meta, Removal};
use crate::base::{Base, Evidence, base};
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{LAST_GENERATION, ObjectId, Rev};

/// What to do about an object that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Refuse,
}

/// What a look at an object before a save found.
pub(super) struct SaveContext {
    pub set: Arc<RevisionSet>,
    pub latest: Option<Object>,
    /// `NaN-` names that were given a number, and the names they have now.
    renamed: Vec<(Rev, Rev)>,
}

impl Store {
    /// Saves a text of whose writer `evidence` is known, by the rules of [`crate::base::rules`] and
    /// the cases of `store/save_policy.rs`. An object that does not exist is created.
    ///
    /// A BOM is dropped, and a `_rev` or `_id` that the text has is made true; else its bytes are kept as they are.
    ///
    /// # Errors
    /// [`Error::NotObject`], [`Error::Stale`] under `OnStale::Refuse`, [`Error::GenerationLimit`], [`Error::Io`]. After
    /// any of them the object is as it was.
    pub fn save(
        &self,
        id: &ObjectId,
        text: &[u8],
        evidence: &Evidence,
        options: &SaveOptions,
    ) -> Result<Saved> {
        let _turn = self.lock_object(id);
        self.save_in_turn(id, text, evidence, options, Missing::Create)
    }

    /// Creates an object. Its first revision is of generation 0, or above all that a deleted object of this id had.
    ///
    /// # Errors
    /// [`Error::Exists`], also for an empty directory; [`Error::NotObject`], [`Error::Io`].
    pub fn create(&self, id: &ObjectId, text: &[u8]) -> Result<Saved> {
        let stripped = checked(text)?;
        let _turn = self.lock_object(id);
        let set = self.revision_set(id)?;
        match set.exists && (set.dead.is_empty() || !set.live.is_empty()) {
            true => Err(Error::Exists(id.clone())),
            false => self.first(id, &set, None, &[], text, stripped, &SaveOptions::default()),
        }
    }

    /// Saves a text whose base is what its `_rev` says.
    ///
    /// # Errors
    /// [`Error::NoObject`] where there is no such object; else as [`save`](Self::save).
    pub fn update(&self, id: &ObjectId, text: &[u8]) -> Result<Saved> {
        let _turn = self.lock_object(id);
        let options = SaveOptions::default();
        self.save_in_turn(id, text, &Evidence::default(), &options, Missing::Refuse)
    }

    /// Creates an object, or replaces those members of an existing one that `patch` has.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn upsert(&self, id: &ObjectId, patch: &[u8]) -> Result<Saved> {
        let stripped = checked(patch)?;
        let options = SaveOptions::default();
        let _turn = self.lock_object(id);
        for _ in 0..TRIES {
            let SaveContext { set, latest, .. } = self.prepare(id)?;
            let Some(latest) = latest else {
                match self.first(id, &set, None, &[], patch, stripped, &options) {
                    Err(Error::Exists(_) | Error::NoObject(_)) => continue,
                    saved => return saved,
                }
            };
            let view = document::object_view(&latest.text, &id.to_text(), latest.rev.as_str());
            let text = document::assign(&view, stripped)?;
            if document::same(&text, &latest.text) {
                return self.unchanged(latest, patch, true, &options);
            }
            let (place, outcome) = (Place::OnTop, Outcome::Update);
            let plan = Plan { text: text.into(), place, parent: latest.rev.clone(), outcome };
            match self.commit(id, &set, latest, plan, (patch, stripped), &options) {
                Err(Error::NoObject(_)) => {}
                saved => return saved,
            }
        }
        Err(unsteady(id))
    }

    /// Puts exactly these bytes on top, creating the object if there is none. Nothing is stamped, nothing compared.
    ///
    /// # Errors
    /// [`Error::NotObject`] (a BOM included), [`Error::GenerationLimit`], [`Error::Io`].
    pub fn put(&self, id: &ObjectId, bytes: &[u8], options: &SaveOptions) -> Result<Saved> {
        self.put_unless(id, bytes, options, |_| false)
    }

    /// [`put`](Self::put), unless this holds of the winner's text.
    pub(super) fn put_unless(
        &self,
        id: &ObjectId,
        bytes: &[u8],
        options: &SaveOptions,
        done: impl Fn(&[u8]) -> bool,
    ) -> Result<Saved> {
        document::check(bytes)?;
        let _turn = self.lock_object(id);
        for _ in 0..TRIES {
            let SaveContext { set, mut latest, .. } = self.prepare(id)?;
            if let Some(latest) = latest.take_if(|latest| done(&latest.text)) {
                return self.unchanged(latest, bytes, true, options);
            }
            let parent = latest.as_ref().map(|l| &l.rev);
            let rev = Rev::child_of(parent, set.next_generation(id)?, self.random());
            let attrs = inherit(&options.attrs, latest.as_ref().map(|l| &l.meta));
            let put = self.publish(id, &set, &rev, bytes, &attrs, options.how);
            let outcome = latest.map_or(Outcome::Created, |_| Outcome::Update);
            match put {
                Err(Error::Exists(_) | Error::NoObject(_)) => {}
                put => return Ok(Saved { rev, meta: put?, outcome, altered: false }),
            }
        }
        Err(unsteady(id))
    }

    /// Saves a text under the id of an object that was deleted by operation `op`, and brings that back with all its
    /// revisions: together one update, or none where the text is the winner's. (vim, `mv`, `install` and `git checkout` unlink and create.)
    ///
    /// # Errors
    /// [`Error::Exists`] where the object exists again, [`Error::NoObject`] where nothing was deleted by `op`; else as
    /// [`save`](Self::save).
    pub fn revive(
        &self,
        id: &ObjectId,
        op: &str,
        text: &[u8],
        evidence: &Evidence,
        options: &SaveOptions,
    ) -> Result<Saved> {
        let stripped = checked(text)?;
        let _turn = self.lock_object(id);
        if self.revision_set(id)?.exists {
            return Err(Error::Exists(id.clone()));
        }
        // What lives once this deletion is taken back.
        let (back, mut rest): (Vec<_>, Vec<_>) = self
            .backend()
            .removed(id)?
            .into_iter()
            .partition(|gone| matches!(gone, Removal::Object { op: o, .. } if o == op));
        let Some(Removal::Object { revs, .. }) = back.into_iter().next() else {
            return Err(Error::NoObject(id.clone()));
        };
        let entries = revs.into_iter().map(Entry::Rev).collect();
        rest.push(Removal::Withdrawn { op: op.into() });
        let set = RevisionSet::new(Some(entries), rest);
        let mut latest = None;
        for rev in set.live.iter().rev() {
            let bytes = found(self.backend().read_removed(id, rev))?;
            if let Some(bytes) = bytes.filter(|bytes| document::check(bytes).is_ok()) {
                latest = Some((rev, bytes));
                break;
            }
        }
        let mut plan = match &latest {
            Some((rev, bytes)) => {
                let read = |rev: &Rev| self.read_if_kept(id, rev);
                let declared = declared(stripped, &set, &[]);
                let evidence = evidence.clone().of_this_life(|rev| set.contains_in_this_life(rev));
                let mut base = base(&evidence, rev, stripped, declared.as_ref(), read)?;
                // Who takes a file away and puts an older text in its place does so on purpose (`git checkout`).
                if options.on_stale == OnStale::Conflict
                    && let Base::Older { rev, .. } = &base
                    && read(rev)?.is_some_and(|old| document::same(&old, stripped))
                {
                    base = Base::Restored(rev.clone());
                }
                let latest = Latest { id, rev, text: bytes };
                match plan(latest, &base, stripped, options.on_stale, read)? {
                    Decision::Publish(plan) => plan,
                    Decision::Nothing { winner: true } => {
                        let (rev, text) = ((*rev).clone(), bytes.clone());
                        self.backend().restore(id, op, options.how)?;
                        let meta = self.backend().meta(id, &rev)?;
                        return self.unchanged(
                            Object { id: id.clone(), rev, meta, text },
                            stripped,
                            true,
                            options,
                        );
                    }
                    Decision::Nothing { winner: false } => Plan {
                        text: bytes.into(),
                        place: Place::OnTop,
                        parent: (*rev).clone(),
                        outcome: Outcome::Restore,
                    },
                }
            }
            None => {
                let parent = set.all().max().cloned().ok_or_else(|| Error::NoObject(id.clone()))?;
                Plan { text: stripped.into(), place: Place::OnTop, parent, outcome: Outcome::Created }
            }
        };
        if matches!(plan.place, Place::After(_)) {
            plan.place = Place::OnTop;
        }
        // A `NaN-` name above all numbers is left to the next save: this one must not change what is gone.
        let rev = self.name(id, &set, latest.as_ref().map(|(rev, _)| *rev), &plan)?;
        let published = document::stamp(&plan.text, &id.to_text(), rev.as_str());
        self.keep_own(id, &plan, &rev, stripped, options.how)?;
        let (attrs, how) = (&options.attrs, options.how);
        let meta = self.backend().revive(id, op, &rev, &published, attrs, how)?;
        Ok(Saved { meta, outcome: plan.outcome, altered: *published != *text, rev })
    }

    fn save_in_turn(
        &self,
        id: &ObjectId,
        text: &[u8],
        evidence: &Evidence,
        options: &SaveOptions,
        missing: Missing,
    ) -> Result<Saved> {
        let stripped = checked(text)?;
        for _ in 0..TRIES {
            let SaveContext { set, latest, renamed } = self.prepare(id)?;
            if !set.exists && missing == Missing::Refuse {
                return Err(Error::NoObject(id.clone()));
            }
            let evidence = evidence.renamed(|rev| now_called(rev.clone(), &renamed));
            let saved = match latest {
                None => {
                    let seen: Vec<Rev> = evidence.all().cloned().collect();
                    self.first(id, &set, seen.iter().max(), &seen, text, stripped, options)
                }
                Some(latest) => {
                    let evidence = evidence.of_this_life(|rev| set.contains_in_this_life(rev));
                    let read = |rev: &Rev| self.read_if_kept(id, rev);
                    let declared = declared(stripped, &set, &renamed);
                    let base = base(&evidence, &latest.rev, stripped, declared.as_ref(), read)?;
                    let met = Latest { id, rev: &latest.rev, text: &latest.text };
                    match plan(met, &base, stripped, options.on_stale, read)? {
                        Decision::Nothing { winner } => self.unchanged(latest, text, winner, options),
                        Decision::Publish(plan) => {
                            self.commit(id, &set, latest, plan, (text, stripped), options)
                        }
                    }
                }
            };
            match saved {
                // Created or deleted by somebody else meanwhile.
                Err(Error::Exists(_) | Error::NoObject(_)) => {}
                saved => return saved,
            }
        }
        Err(unsteady(id))
    }

    /// Looks at an object that is about to get a revision. `NaN-` names, which would stay above every new one, are given
    /// the next numbers first, in their order.
    pub(super) fn prepare(&self, id: &ObjectId) -> Result<SaveContext> {
        let (mut renamed, mut waited) = (Vec::new(), false);
        for _ in 0..TRIES {
            let (set, winner) = self.scan(id, 0)?;
            let mut skipped = false;
            let mut generation = set.next_generation(id);
            for nan in
                set.live.iter().rev().take_while(|rev| rev.is_nan()).collect::<Vec<_>>().into_iter().rev()
            {
                let number = generation?;
                let rev = Rev::child_of(None, number, self.random());
                match self.backend().rename(id, nan, &rev) {
                    Ok(()) => renamed.push((nan.clone(), rev)),
                    // Not a file: the original fails on it, we pass it over.
                    Err(Error::NoRevision(..)) => {}
                    Err(Error::NoObject(_)) => skipped = true,
                    Err(e) => return Err(e),
                }
                generation = match number < LAST_GENERATION {
                    true => Ok(number + 1),
                    false => Err(Error::GenerationLimit(id.clone())),
                };
            }
            let set = match renamed.is_empty() && !skipped {
                true => set,
                false => {
                    self.0.cache.forget(id);
                    self.scan(id, 0)?.0
                }
            };
            match self.load_winner(id, &set, winner.filter(|_| renamed.is_empty())) {
                Ok(Scan::Stable(latest)) => {
                    let winner = latest.as_ref().map(|latest| &latest.rev);
                    if waited || !self.await_writers(id, &set, winner)? {
                        return Ok(SaveContext { set, latest, renamed });
                    }
                    waited = true;
                }
                Ok(Scan::Raced) | Err(Error::NoObject(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Err(unsteady(id))
    }

    /// Publishes what is the only revision that can be read. It goes above what the writer has `seen`, too: the original
    /// deletes without leaving a trace, and elsewhere those revisions may still be.
    #[expect(clippy::too_many_arguments, reason = "all that there is to a save")]
    fn first(
        &self,
        id: &ObjectId,
        set: &RevisionSet,
        parent: Option<&Rev>,
        seen: &[Rev],
        given: &[u8],
        text: &[u8],
        options: &SaveOptions,
    ) -> Result<Saved> {
        let above = seen.iter().filter_map(Rev::generation).filter(|&n| n < LAST_GENERATION).max();
        let generation = set.next_generation(id)?.max(above.map_or(0, |n| n + 1));
        let rev = Rev::child_of(parent, generation, self.random());
        let text = document::stamp(text, &id.to_text(), rev.as_str());
        let meta = self.publish(id, set, &rev, &text, &options.attrs, options.how)?;
        Ok(Saved { rev, meta, outcome: Outcome::Created, altered: *text != *given })
    }

    /// Publishes what was planned. `texts`: the text as it was given, and without BOM.
    pub(super) fn commit(
        &self,
        id: &ObjectId,
        set: &RevisionSet,
        latest: Object,
        plan: Plan,
        (given, text): (&[u8], &[u8]),
        options: &SaveOptions,
    ) -> Result<Saved> {
        let attrs = inherit(&options.attrs, Some(&latest.meta));
        let rev = self.name(id, set, Some(&latest.rev), &plan)?;
        let published = document::stamp(&plan.text, &id.to_text(), rev.as_str());
        self.keep_own(id, &plan, &rev, text, options.how)?;
        let meta = self.publish(id, set, &rev, &published, &attrs, options.how)?;
        if rev < latest.rev {
            // The original's way: a sibling of an old revision, which nobody gets to read.
            let Object { rev, meta, text, .. } = latest;
            return Ok(Saved { rev, meta, outcome: plan.outcome, altered: text != given });
        }
        Ok(Saved { rev, meta, outcome: plan.outcome, altered: *published != *given })
    }

    /// Adds a revision to an object, or makes the object with it where none is known. What is remembered of the object then
    /// has it, too.
    pub(super) fn publish(
        &self,
        id: &ObjectId,
        set: &RevisionSet,
        rev: &Rev,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        if !set.exists {
            return self.backend().create(id, rev, text, attrs, how);
        }
        self.0.changes.announce(id, rev);
        let published = self.backend().publish(id, rev, text, attrs, how);
        match published {
            Ok(_) => self.0.cache.published(id, rev),
            Err(_) => self.0.cache.forget(id),
        }
        self.0.changes.done(id, rev, published.is_ok());
        published
    }

    /// A name in the place that was planned.
    fn name(&self, id: &ObjectId, set: &RevisionSet, latest: Option<&Rev>, plan: &Plan) -> Result<Rev> {
        let parent = Some(&plan.parent);
        let generation = match (&plan.place, latest) {
            (Place::Sibling, Some(latest)) => {
                if let Some(rev) = self.sibling_above(latest, parent) {
                    return Ok(rev);
                }
                set.next_generation(id)?
            }
            (Place::After(base), _) => match base.generation() {
                Some(n) if n < LAST_GENERATION => n + 1,
                Some(_) => return Err(Error::GenerationLimit(id.clone())),
                None => set.next_generation(id)?,
            },
            (Place::OnTop | Place::Sibling, _) => set.next_generation(id)?,
        };
        Ok(Rev::child_of(parent, generation, self.random()))
    }

    /// Keeps the writer's own bytes where others are published: under a name that never lived, superseded by the one that
    /// holds the merge. So should that be discarded, the unmerged text takes its place.
    fn keep_own(
        &self,
        id: &ObjectId,
        plan: &Plan,
        published: &Rev,
        text: &[u8],
        how: Durability,
    ) -> Result<()> {
        if !matches!(plan.outcome, Outcome::Merge | Outcome::Overlap) || *plan.text == *text {
            return Ok(());
        }
        let Some(generation) = published.generation() else { return Ok(()) };
        let own = Rev::child_of(Some(&plan.parent), generation, self.random());
        let kept = self.backend().keep(id, &own, published.as_str(), text, how);
        // One more fact.
        self.0.cache.forget(id);
        kept
    }

    /// Publishes nothing. Times, modes and owners that come with the winner's own bytes are set all the same: `cp -p` and
    /// `rsync -t` of an unchanged file look whether they arrived.
    pub(super) fn unchanged(
        &self,
        latest: Object,
        given: &[u8],
        is_winner: bool,
        options: &SaveOptions,
    ) -> Result<Saved> {
        let Object { id, rev, mut meta, text } = latest;
        let Attrs { mtime, mode, owner, .. } = options.attrs;
        let wanted = Attrs {
            mtime: mtime.filter(|&t| t != meta.mtime),
            mode: mode.map(|m| m & 0o7777).filter(|&m| m != meta.mode),
            owner: owner.filter(|&owner| owner != (meta.uid, meta.gid)),
            ..Attrs::default()
        };
        if is_winner && wanted != Attrs::default() {
            meta = match self.backend().set_attrs(&id, &rev, &wanted) {
                // Another user's file.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    meta
                }
                set => set?,
            };
        }
        if options.how == Durability::Full {
            self.backend().sync(&id, &rev)?;
        }
        Ok(Saved { rev, meta, outcome: Outcome::Same, altered: text != given })
    }

    /// A revision's bytes, live or gone; `None` where they are lost.
    pub(super) fn read_if_kept(&self, id: &ObjectId, rev: &Rev) -> Result<Option<Vec<u8>>> {
        found(self.read(id, rev))
    }
}

/// The text without BOM, if it is an object.
pub(super) fn checked(text: &[u8]) -> Result<&[u8]> {
    let text = document::strip_bom(text);
    document::check(text)?;
    Ok(text)
}

/// The text's `_rev`, if that is a revision of the object.
fn declared(text: &[u8], set: &RevisionSet, renamed: &[(Rev, Rev)]) -> Option<Rev> {
    let rev = now_called(Rev::new(document::declared_rev(text)?).ok()?, renamed);
    set.contains(&rev).then_some(rev)
}

fn now_called(rev: Rev, renamed: &[(Rev, Rev)]) -> Rev {
    renamed.iter().find(|(old, _)| *old == rev).map_or(rev, |(_, new)| new.clone())
}

/// An object keeps its mode and owner from revision to revision, as a file does when it is overwritten.
pub(super) fn inherit(attrs: &Attrs, before: Option<&Meta>) -> Attrs {
    Attrs {
        mode: attrs.mode.or(before.map(|meta| meta.mode)),
        owner: attrs.owner.or(before.map(|meta| (meta.uid, meta.gid))),
        ..*attrs
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use rustix::io::Errno;

    use super::*;
    use crate::backend::{Backend, DirBackend, Fault, FaultBackend, MemoryBackend, Origin, faults};
    use crate::base::{Memory, Process};
    use crate::store::testing::{id, rev, store};

    const NO: SaveOptions = SaveOptions {
        attrs: Attrs { mtime: None, mode: None, owner: None, origin: Origin::Here },
        how: Durability::Ordered,
        on_stale: OnStale::Conflict,
    };

    const MERGE: SaveOptions = SaveOptions { on_stale: OnStale::Merge, ..NO };

    /// The writer has read or saved this revision.
    fn knows(rev: Rev) -> Evidence {
        Evidence { known: vec![rev], ..Evidence::default() }
    }

    fn plant(backend: &MemoryBackend, revs: &[(&Rev, &str)]) {
        for (rev, text) in revs {
            backend.plant(&id("x"), Entry::Rev((*rev).clone()), text.as_bytes());
        }
    }

    fn text(store: &Store) -> String {
        String::from_utf8(store.winner(&id("x")).unwrap().text).unwrap()
    }

    /// A program that reads once and saves often.
    struct Editor<'a> {
        store: &'a Store,
        memory: &'a Memory,
        process: Process,
        options: SaveOptions,
    }

    impl Editor<'_> {
        fn read(&self) -> String {
            let winner = self.store.winner(&id("x")).unwrap();
            self.memory.read(&self.process, &winner.id, &winner.rev);
            String::from_utf8(winner.text).unwrap()
        }

        fn save(&self, text: &str) -> Saved {
            let evidence = self.memory.evidence(&[self.process.clone().into()], &id("x"));
            let saved = self.store.save(&id("x"), text.as_bytes(), &evidence, &self.options).unwrap();
            let own = saved.own(text.as_bytes(), self.options.on_stale);
            self.memory.saved(&self.process, &id("x"), &saved.rev, own);
            saved
        }
    }

    fn editors<'a, const N: usize>(
        store: &'a Store,
        memory: &'a Memory,
        options: SaveOptions,
    ) -> [Editor<'a>; N] {
        std::array::from_fn(|n| {
            let process = Process::made(n as u32 + 1, 1, None);
            Editor { store, memory, process, options }
        })
    }

    fn generations(store: &Store) -> Vec<u64> {
        store.revisions(&id("x")).unwrap().iter().map(|rev| rev.generation().unwrap()).collect()
    }

    #[test]
    fn saves_follow_each_other_and_name_their_parents() {
        let (s, _) = store();
        let x = id("x");
        let a = s.save(&x, b"{}", &Evidence::default(), &NO).unwrap();
        let b = s.update(&x, b"{\"n\":1}").unwrap();
        let c = s.put(&x, b"{ \"_rev\": 7 }", &NO).unwrap();
        assert_eq!((a.outcome, b.outcome, c.outcome), (Outcome::Created, Outcome::Update, Outcome::Update));
        assert_eq!(generations(&s), [0, 1, 2]);
        assert!(b.rev.is_child_of(&a.rev) && c.rev.is_child_of(&b.rev));
        assert!(!(a.altered || b.altered || c.altered));
        assert_eq!(text(&s), "{ \"_rev\": 7 }");
        assert_eq!(s.winner_meta(&x).unwrap(), (c.rev, c.meta));
        let op = s.delete(&x).unwrap();
        assert!(matches!(s.update(&x, b"{}"), Err(Error::NoObject(_))));
        let d = s.create(&x, b"{}").unwrap();
        assert_eq!((d.outcome, d.rev.generation()), (Outcome::Created, Some(3)));
        assert!(matches!(s.create(&x, b"{}"), Err(Error::Exists(_))));
        assert!(matches!(s.revive(&x, &op, b"{}", &Evidence::default(), &NO), Err(Error::Exists(_))));
    }

    #[test]
    fn a_text_is_kept_to_the_byte_but_for_a_bom_and_what_it_says_of_itself() {
        let (s, _) = store();
        let x = id("x");
        s.create(&x, b"{\"n\": 1.10 , \"n\":1e400}\r\n\n").unwrap();
        assert_eq!(text(&s), "{\"n\": 1.10 , \"n\":1e400}\r\n\n");
        let saved = s.update(&x, b"\xef\xbb\xbf{\"a\":1}").unwrap();
        assert_eq!((text(&s), saved.altered), ("{\"a\":1}".into(), true));
        let saved = s.update(&x, b"{\"_id\": \"y\", \"_rev\" : null,\"a\":2}").unwrap();
        let want = format!("{{\"_id\": \"x\", \"_rev\" : \"{}\",\"a\":2}}", saved.rev);
        assert_eq!((text(&s), saved.altered), (want, true));
        for bad in [
            &b""[..],
            b"[]",
            b"{",
            b"{} {}",
            b"{\"a\":\xff}",
            b"\xef\xbb\xbf\xef\xbb\xbf{}",
            b"\xff\xfe{\0}\0",
        ] {
            for refused in [
                s.save(&x, bad, &Evidence::default(), &NO),
                s.update(&x, bad),
                s.put(&x, bad, &NO),
                s.upsert(&x, bad),
                s.create(&id("y"), bad),
            ] {
                assert!(matches!(refused, Err(Error::NotObject(_))), "{bad:?}: {refused:?}");
            }
        }
        assert!(matches!(s.put(&x, b"\xef\xbb\xbf{}", &NO), Err(Error::NotObject(_))));
        assert_eq!(generations(&s), [0, 1, 2]);
    }

    #[test]
    fn the_same_text_makes_no_revision_and_still_sets_attributes() {
        let (s, _) = store();
        let x = id("x");
        let first = s.create(&x, b"{\"_rev\":\"\"}").unwrap();
        let mtime = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let attrs = Attrs { mtime: Some(mtime), mode: Some(0o600), owner: Some((7, 7)), ..Attrs::default() };
        let saved =
            s.save(&x, b"{\"_rev\":\"other\"}", &Evidence::default(), &SaveOptions { attrs, ..NO }).unwrap();
        assert_eq!((&saved.rev, saved.outcome, saved.altered), (&first.rev, Outcome::Same, true));
        assert_eq!((saved.meta.mtime, saved.meta.mode, saved.meta.uid), (mtime, 0o600, 7));
        assert_eq!(s.winner_meta(&x).unwrap(), (first.rev, saved.meta));
        // The next has the same mode and a time of its own.
        let next = s.update(&x, b"{\"a\":1}").unwrap();
        assert!(next.meta.mode == 0o600 && next.meta.mtime != mtime);
    }

    #[test]
    fn an_editor_that_never_reloads_is_not_in_conflict_with_itself() {
        let (s, _) = store();
        let memory = Memory::default();
        s.create(&id("x"), b"{\"_rev\":\"\",\"n\":0}").unwrap();
        let [vim] = editors(&s, &memory, NO);
        let buffer = vim.read();
        for n in 1..50 {
            let saved = vim.save(&buffer.replace("\"n\":0", &format!("\"n\":{n}")));
            assert_eq!((saved.outcome, saved.rev.generation()), (Outcome::Update, Some(n)));
        }
        assert!(s.conflicts(&id("x")).unwrap().is_empty());
    }

    #[test]
    fn a_text_stands_and_what_its_writer_could_not_know_is_in_conflict_with_it() {
        let (s, _) = store();
        let memory = Memory::default();
        s.create(&id("x"), b"{\"a\":0,\"b\":0}").unwrap();
        let [one, two] = editors(&s, &memory, NO);
        one.read();
        two.read();
        let first = one.save("{\"a\":1,\"b\":0}");
        let second = two.save("{\"a\":0,\"b\":1}");
        assert_eq!((first.outcome, second.outcome), (Outcome::Update, Outcome::Stale));
        assert!(second.rev > first.rev && !second.altered);
        assert_eq!(text(&s), "{\"a\":0,\"b\":1}");
        assert_eq!(s.conflicts(&id("x")).unwrap(), [[first.rev, second.rev.clone()]]);
        assert!(s.backend().removed(&id("x")).unwrap().is_empty());
        // Who goes on without having looked is in conflict once more; who has looked is not.
        assert_eq!(two.save("{\"a\":0,\"b\":2}").outcome, Outcome::Update);
        assert_eq!(one.save("{\"a\":2,\"b\":0}").outcome, Outcome::Stale);
        two.read();
        assert_eq!(two.save("{\"a\":2,\"b\":3}").outcome, Outcome::Update);
    }

    #[test]
    fn two_editors_of_different_members_lose_nothing() {
        let (s, _) = store();
        let memory = Memory::default();
        s.create(&id("x"), b"{\"a\":0,\"b\":0}").unwrap();
        let [one, two] = editors(&s, &memory, MERGE);
        one.read();
        two.read();
        assert_eq!(one.save("{\"a\":1,\"b\":0}").outcome, Outcome::Update);
        let merged = two.save("{\"a\":0,\"b\":1}");
        assert_eq!((merged.outcome, merged.altered), (Outcome::Merge, true));
        assert_eq!(text(&s), "{\"a\":1,\"b\":1}");
        // The second editor's buffer still says a: 0. That is not its will.
        assert_eq!(two.save("{\"a\":0,\"b\":2}").outcome, Outcome::Merge);
        assert_eq!(one.save("{\"a\":3,\"b\":0}").outcome, Outcome::Merge);
        assert_eq!(text(&s), "{\"a\":3,\"b\":2}");
        // It saves again what it had saved.
        assert_eq!(one.save("{\"a\":3,\"b\":0}").outcome, Outcome::Same);
        assert!(s.conflicts(&id("x")).unwrap().is_empty());
        assert_eq!(s.backend().removed(&id("x")).unwrap().len(), 3);
    }

    #[test]
    fn what_both_changed_is_a_conflict_and_the_last_to_save_is_read() {
        let (s, _) = store();
        let memory = Memory::default();
        s.create(&id("x"), b"{\"n\":0,\"m\":0}").unwrap();
        let [one, two] = editors(&s, &memory, MERGE);
        one.read();
        two.read();
        let first = one.save("{\"n\":1,\"m\":1}");
        let second = two.save("{\"n\":2,\"m\":0}");
        assert_eq!(second.outcome, Outcome::Overlap);
        assert!(second.rev > first.rev && second.rev.generation() == first.rev.generation());
        assert_eq!(text(&s), "{\"n\":2,\"m\":1}");
        assert_eq!(s.conflicts(&id("x")).unwrap(), [[first.rev, second.rev.clone()]]);
        // The writer's own bytes are kept, and come back should the merge be discarded.
        let kept = s.backend().removed(&id("x")).unwrap();
        let [Removal::Rev { rev: own, why }] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!(
            (why.as_str(), s.read(&id("x"), own).unwrap()),
            (second.rev.as_str(), b"{\"n\":2,\"m\":0}".to_vec())
        );
        s.backend().retire(&id("x"), &second.rev, "discarded", Durability::Ordered).unwrap();
        assert!(s.sweep(&id("x")).unwrap() && !s.sweep(&id("x")).unwrap());
        assert!(s.revisions(&id("x")).unwrap().contains(own));
    }

    #[test]
    fn a_conflict_of_any_size_has_the_last_to_save_on_top() {
        let (s, backend) = store();
        plant(&backend, &[(&rev(6, '0'), "{\"n\":-1}"), (&rev(7, '0'), "{\"n\":-2}")]);
        let old = knows(rev(6, '0'));
        let mut last = rev(7, '0');
        for n in 0..1000 {
            let saved = s.save(&id("x"), format!("{{\"n\":{n}}}").as_bytes(), &old, &NO).unwrap();
            assert!(saved.rev > last);
            last = saved.rev;
            assert_eq!(text(&s), format!("{{\"n\":{n}}}"));
        }
        assert_eq!(s.conflicts(&id("x")).unwrap()[0].len(), 1001);
        // Nor does a name that chance put close to the top leave no room.
        let mut last = Rev::new(format!("7-fffe{}", "0".repeat(28))).unwrap();
        for _ in 0..1000 {
            let next = s.sibling_above(&last, None).unwrap();
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn where_there_is_no_room_above_the_winner_the_next_generation_must_do() {
        let (s, _) = store();
        let parent = rev(6, '0');
        for leading in 0..11 {
            let latest = format!("7-{}{}", "f".repeat(leading), "e".repeat(32 - leading));
            let latest = Rev::new(latest).unwrap();
            let name = s.sibling_above(&latest, Some(&parent)).unwrap();
            assert!(name > latest && name.is_child_of(&parent) && name.generation() == Some(7));
        }
        assert_eq!(s.sibling_above(&rev(7, 'f'), Some(&parent)), None);
        // Zeros before the number are another name, and the original's conflicts go by it.
        let zeros = Rev::new(format!("07-{}", "0".repeat(32))).unwrap();
        assert_eq!(s.sibling_above(&zeros, Some(&parent)), None);
        let (s, backend) = store_with(&[(&rev(6, '0'), "{\"n\":0}"), (&rev(7, 'f'), "{\"n\":1}")]);
        let declared = format!("{{\"n\":2,\"_rev\":\"{}\"}}", rev(6, '0'));
        let saved = s.update(&id("x"), declared.as_bytes()).unwrap();
        assert_eq!((saved.outcome, saved.rev.generation()), (Outcome::Stale, Some(8)));
        drop(backend);
    }

    fn store_with(revs: &[(&Rev, &str)]) -> (Store, Arc<MemoryBackend>) {
        let (s, backend) = store();
        plant(&backend, revs);
        (s, backend)
    }

    #[test]
    fn a_backup_copied_back_is_a_return_or_if_edited_a_conflict() {
        let (s, _b) = store_with(&[(&rev(6, 'a'), "{\"_rev\":\"\",\"n\":6}"), (&rev(7, 'a'), "{\"n\":7}")]);
        let backup = format!("{{\"_rev\":\"{}\",\"n\":6}}", rev(6, 'a'));
        let restored = s.save(&id("x"), backup.as_bytes(), &Evidence::default(), &NO).unwrap();
        assert_eq!((restored.outcome, restored.rev.generation()), (Outcome::Restore, Some(8)));
        let edited = backup.replace("\"n\":6", "\"n\":5");
        s.update(&id("x"), b"{\"n\":9}").unwrap();
        let stale = s.save(&id("x"), edited.as_bytes(), &Evidence::default(), &NO).unwrap();
        assert_eq!((stale.outcome, stale.rev.generation()), (Outcome::Stale, Some(9)));
        assert!(stale.rev.is_child_of(&rev(6, 'a')));
        assert_eq!(text(&s), format!("{{\"_rev\":\"{}\",\"n\":5}}", stale.rev));
        // A revision of nobody, or of another object, says nothing.
        let foreign = format!("{{\"_rev\":\"{}\",\"n\":1}}", rev(3, 'c'));
        assert_eq!(s.update(&id("x"), foreign.as_bytes()).unwrap().outcome, Outcome::Update);
        // One that is gone still says what the text was made from.
        s.backend().retire(&id("x"), &rev(6, 'a'), "discarded", Durability::Ordered).unwrap();
        assert_eq!(s.update(&id("x"), backup.as_bytes()).unwrap().outcome, Outcome::Restore);
    }

    #[test]
    fn policies_change_what_a_stale_save_does() {
        let evidence = knows(rev(5, 'a'));
        let saved = |on_stale| {
            let texts = [(&rev(5, 'a'), "{\"n\":5}"), (&rev(7, 'a'), "{\"n\":7}")];
            let (s, _b) = store_with(&texts);
            let saved = s.save(&id("x"), b"{\"n\":1}", &evidence, &SaveOptions { on_stale, ..NO });
            (saved, generations(&s), text(&s))
        };
        let (latest, generations, read) = saved(OnStale::Latest);
        assert_eq!(
            (latest.unwrap().outcome, generations, &*read),
            (Outcome::Update, vec![5, 7, 8], "{\"n\":1}")
        );
        let (sibling, generations, read) = saved(OnStale::Sibling);
        let sibling = sibling.unwrap();
        assert_eq!((generations, &*read), (vec![5, 6, 7], "{\"n\":7}"));
        assert_eq!((sibling.rev, sibling.outcome, sibling.altered), (rev(7, 'a'), Outcome::Stale, true));
        let (refused, generations, _) = saved(OnStale::Refuse);
        assert!(matches!(refused, Err(Error::Stale { .. })) && generations == [5, 7]);
    }

    #[test]
    fn half_a_revision_is_passed_over_and_overtaken() {
        let (s, _b) =
            store_with(&[(&rev(7, 'a'), "{\"n\":7}"), (&rev(8, 'a'), "{\"n\":"), (&rev(9, 'a'), "")]);
        assert_eq!(text(&s), "{\"n\":7}");
        let saved = s.update(&id("x"), b"{\"n\":8}").unwrap();
        assert_eq!((saved.outcome, saved.rev.generation()), (Outcome::Update, Some(10)));
        assert!(saved.rev.is_child_of(&rev(7, 'a')));
        // With nothing that can be read there is no object, and yet it can be saved.
        let (s, _b) = store_with(&[(&rev(3, 'a'), "")]);
        assert!(matches!(s.winner(&id("x")), Err(Error::NoObject(_))));
        assert!(matches!(s.create(&id("x"), b"{}"), Err(Error::Exists(_))));
        let saved = s.upsert(&id("x"), b"{}").unwrap();
        assert_eq!((saved.outcome, saved.rev.generation()), (Outcome::Created, Some(4)));
    }

    #[test]
    fn an_empty_directory_is_filled() {
        let (s, backend) = store();
        backend.plant_empty(&id("x"));
        assert!(matches!(s.create(&id("x"), b"{}"), Err(Error::Exists(_))));
        assert!(matches!(s.winner(&id("x")), Err(Error::NoObject(_))));
        let saved = s.save(&id("x"), b"{}", &Evidence::default(), &NO).unwrap();
        assert_eq!((saved.outcome, saved.rev.generation()), (Outcome::Created, Some(0)));
    }

    #[test]
    fn a_name_that_is_no_number_gets_one_before_the_next_save() {
        let nan = |digit: char| Rev::new(format!("NaN-{}", digit.to_string().repeat(32))).unwrap();
        let texts = [(&rev(3, 'a'), "{\"n\":3}"), (&nan('a'), "{\"n\":4}"), (&nan('b'), "{\"n\":5}")];
        let (s, _b) = store_with(&texts);
        assert_eq!((s.winner(&id("x")).unwrap().rev, text(&s)), (nan('b'), "{\"n\":5}".into()));
        // The session has seen the old name: it is the winner all the same.
        let evidence = knows(nan('b'));
        let declares = format!("{{\"n\":6,\"_rev\":\"{}\"}}", nan('b'));
        let saved = s.save(&id("x"), declares.as_bytes(), &evidence, &NO).unwrap();
        assert_eq!((saved.outcome, generations(&s)), (Outcome::Update, vec![3, 4, 5, 6]));
        assert!(text(&s).starts_with("{\"n\":6,"));
    }

    #[test]
    fn generations_end_before_the_original_loses_count() {
        let (s, _b) = store_with(&[(&rev(LAST_GENERATION - 1, 'a'), "{}")]);
        assert_eq!(s.update(&id("x"), b"{\"n\":1}").unwrap().rev.generation(), Some(LAST_GENERATION));
        assert!(matches!(s.update(&id("x"), b"{\"n\":2}"), Err(Error::GenerationLimit(_))));
        assert!(matches!(s.put(&id("x"), b"{}", &NO), Err(Error::GenerationLimit(_))));
        assert!(matches!(s.upsert(&id("x"), b"{\"n\":2}"), Err(Error::GenerationLimit(_))));
        // What says nothing new can be saved, and a conflict has room beside the last.
        assert_eq!(s.update(&id("x"), b"{\"n\":1}").unwrap().outcome, Outcome::Same);
        let huge = Rev::new(format!("1{}-{}", "0".repeat(40), "a".repeat(32))).unwrap();
        let (s, _b) = store_with(&[(&rev(1, 'a'), "{\"n\":1}"), (&huge, "{\"n\":2}")]);
        assert_eq!(text(&s), "{\"n\":2}");
        assert!(matches!(s.update(&id("x"), b"{\"n\":3}"), Err(Error::GenerationLimit(_))));
    }

    #[test]
    fn an_upsert_creates_or_assigns() {
        let (s, _) = store();
        let x = id("x");
        s.upsert(&x, b"{\"_id\":\"x\",\"a\":1,\"b\":1}").unwrap();
        assert_eq!(text(&s), "{\"_id\":\"x\",\"a\":1,\"b\":1}");
        let saved = s.upsert(&x, b"{\"b\":2,\"c\":3}").unwrap();
        assert_eq!(text(&s), format!("{{\"_id\":\"x\",\"a\":1,\"b\":2,\"_rev\":\"{}\",\"c\":3}}", saved.rev));
        assert_eq!(saved.rev.generation(), Some(1));
        // A patch is meant for what is there, whatever revision it says it comes from.
        let stale = format!("{{\"_rev\":\"{}\",\"d\":4}}", s.revisions(&x).unwrap()[0]);
        let saved = s.upsert(&x, stale.as_bytes()).unwrap();
        assert_eq!((saved.outcome, saved.rev.generation()), (Outcome::Update, Some(2)));
        assert_eq!(s.upsert(&x, b"{\"d\":4}").unwrap().outcome, Outcome::Same);
    }

    #[test]
    fn a_revived_object_goes_on_where_it_was() {
        let (s, _) = store();
        let (x, none) = (id("x"), Evidence::default());
        let memory = Memory::default();
        s.create(&x, b"{\"a\":0,\"b\":0}").unwrap();
        let [vim] = editors(&s, &memory, MERGE);
        vim.read();
        let other = s.update(&x, b"{\"a\":1,\"b\":0}").unwrap();
        let op = s.delete(&x).unwrap();
        assert!(matches!(s.revive(&x, "no", b"{}", &none, &NO), Err(Error::NoObject(_))));
        let evidence = memory.evidence(&[vim.process.clone().into()], &x);
        let saved = s.revive(&x, &op, b"{\"a\":0,\"b\":1}", &evidence, &MERGE).unwrap();
        assert_eq!((saved.outcome, text(&s)), (Outcome::Merge, "{\"a\":1,\"b\":1}".into()));
        assert_eq!(generations(&s), [0, 1, 2]);
        assert!(other.rev.generation() == Some(1) && s.winner(&x).unwrap().rev == saved.rev);
        // Also where the policy would hide it under what was deleted.
        let op = s.delete(&x).unwrap();
        let declared = format!("{{\"_rev\":\"{}\",\"c\":1}}", s_first(&s, &x, &op));
        let hidden = SaveOptions { on_stale: OnStale::Sibling, ..NO };
        let saved = s.revive(&x, &op, declared.as_bytes(), &none, &hidden).unwrap();
        assert_eq!((saved.rev.generation(), s.winner(&x).unwrap().rev), (Some(3), saved.rev));
        s.update(&x, b"{\"a\":1,\"b\":1}").unwrap();
        // The same text again brings it back as it was.
        let op = s.delete(&x).unwrap();
        let saved = s.revive(&x, &op, b"{\"a\":1,\"b\":1}", &none, &NO).unwrap();
        assert_eq!((saved.outcome, saved.rev.generation()), (Outcome::Same, Some(4)));
        // An editor that saves what it had read does not undo what others did before the deletion.
        let op = s.delete(&x).unwrap();
        let evidence = knows(s_first(&s, &x, &op));
        s.revive(&x, &op, b"{\"a\":0,\"b\":0}", &evidence, &MERGE).unwrap();
        assert_eq!(text(&s), "{\"a\":1,\"b\":1}");
    }

    fn s_first(s: &Store, x: &ObjectId, op: &str) -> Rev {
        let gone = s.backend().removed(x).unwrap();
        let revs = gone.into_iter().find_map(|g| match g {
            Removal::Object { op: o, revs } if o == op => Some(revs),
            _ => None,
        });
        revs.unwrap().into_iter().min().unwrap()
    }

    #[test]
    fn writers_in_one_process_take_turns() {
        let (s, _) = store();
        let x = id("x");
        std::thread::scope(|scope| {
            for w in 0..8 {
                let (s, x) = (&s, &x);
                scope.spawn(move || {
                    for n in 0..25 {
                        s.save(x, format!("{{\"w{w}\":{n}}}").as_bytes(), &Evidence::default(), &NO).unwrap();
                        s.upsert(x, format!("{{\"u{w}\":{n}}}").as_bytes()).unwrap();
                    }
                });
            }
        });
        assert_eq!(generations(&s), (0..400).collect::<Vec<_>>());
    }

    #[test]
    fn writers_in_many_processes_lose_nothing_to_creates_and_deletes() {
        // Each with a store of its own on one medium: no turns between them.
        let (_, backend) = store();
        let x = id("x");
        let all = parking_lot::Mutex::new(vec![]);
        std::thread::scope(|scope| {
            for w in 0..4 {
                let (backend, x, all) = (backend.clone(), &x, &all);
                scope.spawn(move || {
                    let s = Store::with_backend(backend);
                    for n in 0..50 {
                        let text = format!("{{\"w\":{w},\"n\":{n}}}");
                        all.lock().push(s.save(x, text.as_bytes(), &Evidence::default(), &NO).unwrap().rev);
                        if n % 10 == w {
                            let _ = s.delete(x);
                        }
                    }
                });
            }
        });
        let set = RevisionSet::load(&*backend, &x).unwrap();
        assert!(all.into_inner().iter().all(|rev| set.contains(rev)));
    }

    #[test]
    fn a_medium_that_fails_leaves_the_object_as_it_was() {
        let ops = ["entries", "removed", "read", "publish", "keep", "rename", "sync", "set_attrs", "create"];
        for (op, done) in ops.into_iter().flat_map(|op| [(op, false), (op, true)]) {
            for nth in 1..4 {
                let (_, memory) = store();
                plant(&memory, &[(&rev(6, 'a'), "{\"a\":0,\"b\":0}"), (&rev(7, 'a'), "{\"a\":1,\"b\":0}")]);
                let faulty = Arc::new(FaultBackend::new(memory.clone()));
                let s = Store::with_backend(faulty.clone());
                let evidence = knows(rev(6, 'a'));
                faulty.fail(Fault { op: Some(op), nth, errno: 28, done });
                let saved = s.save(&id("x"), b"{\"a\":0,\"b\":1}", &evidence, &MERGE);
                let fired = faulty.clear() == 0;
                assert_eq!(saved.is_err(), fired, "{op} {nth} {done}: {saved:?}");
                let merged = "{\"a\":1,\"b\":1}";
                match saved {
                    Ok(_) => assert_eq!(text(&s), merged),
                    // Only what was done and not answered for is there, and that is whole.
                    Err(_) if op == "publish" && done => assert_eq!(text(&s), merged),
                    Err(_) => {
                        assert_eq!((text(&s), generations(&s)), ("{\"a\":1,\"b\":0}".into(), vec![6, 7]))
                    }
                }
                // Whoever saves again succeeds, and does not conflict with what was not answered for.
                s.save(&id("x"), b"{\"a\":0,\"b\":1}", &evidence, &MERGE).unwrap();
                assert!(text(&s) == merged && s.conflicts(&id("x")).unwrap().is_empty());
            }
        }
    }

    #[test]
    fn the_same_text_to_be_durable_is_synced() {
        let (_, memory) = store();
        let faulty = Arc::new(FaultBackend::new(memory));
        let s = Store::with_backend(faulty.clone());
        s.create(&id("x"), b"{}").unwrap();
        let full = SaveOptions { how: Durability::Full, ..NO };
        assert_eq!(s.save(&id("x"), b"{}", &Evidence::default(), &full).unwrap().outcome, Outcome::Same);
        assert_eq!((faulty.calls("sync"), faulty.calls("publish")), (1, 0));
    }

    #[test]
    fn a_read_costs_one_listing_and_one_file() {
        let (_, memory) = store();
        plant(&memory, &[(&rev(6, 'a'), "{}"), (&rev(7, 'a'), "{}"), (&rev(8, 'a'), "{}")]);
        let counting = Arc::new(FaultBackend::new(memory));
        let s = Store::with_backend(counting.clone());
        s.winner(&id("x")).unwrap();
        let calls = ["entries", "removed", "read"].map(|op| counting.calls(op));
        assert_eq!((calls, counting.all_calls()), ([1, 1, 1], 3));
    }

    #[test]
    fn whichever_call_of_a_save_fails_the_old_winner_is_served() {
        const OLD: &str = "{\"a\":1,\"b\":0}";
        let (x, new, none, seen) = (id("x"), id("n"), Evidence::default(), knows(rev(6, 'a')));
        let memory = std::path::Path::new("/dev/shm");
        let memory = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        for (id, evidence, text) in [
            (&x, &none, "{\"a\":9,\"b\":9}"),
            (&x, &seen, "{\"a\":0,\"b\":1}"),
            (&x, &seen, "{\"a\":5,\"b\":1}"),
            (&new, &none, "{\"c\":1}"),
        ] {
            for (n, errno) in (1..300).flat_map(|n| [(n, Errno::NOSPC), (n, Errno::IO), (n, Errno::DQUOT)]) {
                let place = tempfile::tempdir_in(&memory).unwrap();
                let dir = DirBackend::open(place.path()).unwrap();
                dir.create(&x, &rev(6, 'a'), b"{\"a\":0,\"b\":0}", &NO.attrs, NO.how).unwrap();
                dir.publish(&x, &rev(7, 'a'), OLD.as_bytes(), &NO.attrs, NO.how).unwrap();
                let s = Store::with_backend(Arc::new(dir));
                faults::fail(n, errno);
                let saved = s.save(id, text.as_bytes(), evidence, &NO);
                if !faults::end() {
                    saved.unwrap();
                    break;
                }
                assert!(n < 299);
                let read = || s.winner(id).map(|w| String::from_utf8(w.text).unwrap()).ok();
                match (&saved, read().as_deref()) {
                    (Ok(_), Some(read)) => assert_eq!(read, text, "{n}"),
                    (Err(_), None) => assert_eq!(id, &new),
                    // A failure after the name was given, in looking at the new file, comes too late to take it back.
                    (Err(_), Some(read)) => assert!(read == OLD || read == text, "{n}: {read}"),
                    (Ok(_), None) => panic!("{n}: saved and not there"),
                }
                for id in s.ids().unwrap() {
                    let names = s.backend().entries(&id).unwrap();
                    let whole = names.iter().all(|e| matches!(e, Entry::Rev(_)));
                    assert!(!names.is_empty() && whole, "{n}: {names:?}");
                }
                // And the next save goes through.
                s.save(id, text.as_bytes(), evidence, &NO).unwrap();
                assert_eq!(read().as_deref(), Some(text), "{n}");
            }
        }
    }
}
