//! What the peer was not told yet.
//!
//! An object is looked at where its directory, or what is gone of it, changed since all of it was told: by the times that the
//! medium keeps, asked for one object after the other without opening any. A time of less than two seconds ago does not count,
//! for a change may follow that leaves it as it is.

use std::collections::{BTreeSet, HashSet};
use std::num::NonZero;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::at_once::at_once;
use super::peer::{Body, Key};
use super::segment::{Entry, RevEntry, fact_name};
use super::state::{HERE, NameState, Stamp, TOLD};
use super::{Replica, THREADS};
use crate::backend::{self, Attrs, DELETED, Origin, Removal};
use crate::document;
use crate::error::{Error, Result, found};
use crate::rev::{ObjectId, Rev};
use crate::store::RevisionSet;

/// How long a time must be past to say that nothing changed since.
const SETTLED: Duration = Duration::from_secs(2);

/// So many objects' stamps are compared in one go, and so many such pieces by all threads together.
const PIECE: usize = 1024;
const PIECES: usize = 16;

/// What one object has that the peer was not told.
#[derive(Default)]
pub struct News {
    /// Facts, and revisions with their bytes in `texts`.
    pub entries: Vec<Entry>,
    /// In the order of the revisions among the entries.
    pub texts: Vec<Vec<u8>>,
    /// Revisions that do not live any more.
    pub dead: Vec<Key>,
    /// Revisions that live again, which somebody may have taken away at the peer.
    pub back: Vec<Body>,
    /// What is known of the object's names that was not.
    pub names: Vec<(ObjectId, String, NameState)>,
    /// Revisions that were here, and are neither here nor among what is gone.
    pub vanished: Vec<Rev>,
    /// When the object is to be looked at again.
    pub stamp: Stamp,
}

impl Replica<'_> {
    /// The objects to look at, in no order.
    pub(super) fn changed(&self) -> Result<Vec<ObjectId>> {
        let backend = self.store.backend();
        // Of most objects nothing is gone, and need not be asked for one by one.
        let gone: HashSet<ObjectId> = backend.removed_objects()?.into_iter().collect();
        let mut scan = Scan { replica: self, gone: &gone, changed: BTreeSet::new(), met: 0 };
        let (mut ids, mut failed) = (Vec::with_capacity(PIECES * PIECE), None);
        backend.each_object(&mut |id| {
            ids.push(id);
            if ids.len() == PIECES * PIECE {
                failed = scan.compare(&mut ids, false).err();
            }
            failed.is_none()
        })?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        scan.compare(&mut ids, false)?;
        // What was deleted is not among the objects, or is again.
        for id in &gone {
            ids.push(id.clone());
            if ids.len() == PIECES * PIECE {
                scan.compare(&mut ids, true)?;
            }
        }
        scan.compare(&mut ids, true)?;
        let Scan { mut changed, met, .. } = scan;
        if met < self.state.objects()? {
            // Some that were known are in neither list.
            let mut known = Vec::new();
            self.state.each_object(&mut |id| {
                known.push(id);
                true
            })?;
            for id in known.into_iter().filter(|id| !gone.contains(id)) {
                if found(backend.entries(&id))?.is_none() {
                    changed.insert(id);
                }
            }
        }
        Ok(changed.into_iter().collect())
    }

    /// Looks at one object.
    pub(super) fn examine(&self, id: &ObjectId) -> Result<News> {
        let backend = self.store.backend();
        let known = self.state.names(id)?;
        let flags = |name: &str| known.get(name).map_or(0, |known| known.flags);
        let mut news = News { stamp: settled(backend.stamp(id, true)?), ..News::default() };
        let entries = found(backend.entries(id))?;
        let gone = backend.removed(id)?;
        let facts = Removal::single(&gone);
        let set = RevisionSet::new(entries, gone);
        let mut name = |name: String, flags: u8| {
            let packed = known.get(&name).and_then(|known| known.packed.clone());
            news.names.push((id.clone(), name, NameState { flags, packed }));
        };
        for rev in &set.live {
            match flags(rev.as_str()) {
                TOLD => name(rev.as_str().into(), HERE | TOLD),
                told if told & TOLD != 0 => {}
                _ => {
                    // It may be gone by now: then there is another change to look at.
                    let Some((text, meta)) = found(backend.read(id, rev))? else {
                        news.stamp = (0, 0);
                        continue;
                    };
                    if document::check(document::strip_bom(&text)).is_err() {
                        // Somebody is writing it in place, which the directory does not show.
                        news.stamp = (0, 0);
                        continue;
                    }
                    let origin = backend.origin(id, rev).told_by(self.host);
                    let attrs = Attrs { origin, ..meta.attrs() };
                    news.entries.push(Entry::Rev(RevEntry::new(id, rev, &text, attrs, false)));
                    news.texts.push(text);
                    name(rev.as_str().into(), HERE | TOLD);
                }
            }
        }
        let (mut removed_now, known_facts) = (BTreeSet::new(), news.entries.len());
        for fact in facts {
            let Some(text) = fact_name(&fact).filter(|text| flags(text) & TOLD == 0) else { continue };
            if let Removal::Rev { rev, .. } = &fact {
                removed_now.insert(rev.clone());
                if set.live.binary_search(rev).is_err() && !set.awaited(rev) {
                    news.dead.push(Key::Rev(id.clone(), rev.clone()));
                }
            }
            name(text, TOLD);
            news.entries.push(Entry::Fact(id.clone(), fact));
        }
        // Whoever told of a removal takes the bytes away.
        let more_facts = news.entries.len() > known_facts;
        let again = |rev: &&Rev| {
            let removal = format!("{rev}~");
            let was_removed =
                || known.range(removal.clone()..).next().is_some_and(|(name, _)| name.starts_with(&removal));
            let flags = flags(rev.as_str());
            (flags == TOLD || flags & TOLD != 0 && more_facts) && was_removed()
        };
        for rev in set.live.iter().filter(again) {
            if let Some((bytes, meta)) = found(backend.read(id, rev))? {
                news.back.push(Body { key: Key::Rev(id.clone(), rev.clone()), attrs: meta.attrs(), bytes });
            }
        }
        // What was removed with its bytes is not here any more: should all that removed it lapse, it is not missing because
        // somebody deleted it. (Where the bytes are not among what is gone, somebody has.)
        for (rev, _) in set.removed().filter(|(rev, _)| flags(rev.as_str()) & HERE != 0 && !set.awaited(rev))
        {
            if backend.read_removed(id, rev).is_ok() {
                name(rev.as_str().into(), flags(rev.as_str()) & !HERE);
            }
        }
        // What the peer knows to live, and is not here: it is among what is gone, and what superseded it was never known to
        // anybody else; or it never was here; or it was deleted by a program that leaves no facts.
        let told = known.iter().filter(|(_, known)| known.flags & TOLD != 0);
        let told = told.filter_map(|(name, known)| Some((Rev::new(name).ok()?, known.flags & HERE != 0)));
        let awaited = told.filter(|(rev, _)| set.live.binary_search(rev).is_err() && set.awaited(rev));
        let awaited: Vec<(Rev, bool)> = awaited.collect();
        if !awaited.is_empty() {
            let revs: Vec<Rev> = awaited.iter().map(|(rev, _)| rev.clone()).collect();
            let lacking = self.store.lacking(id, &[], &revs)?;
            if !self.options.dry_run {
                let back = awaited.iter().filter(|(rev, was_here)| !was_here || removed_now.contains(rev));
                let back: Vec<Rev> = back.map(|(rev, _)| rev.clone()).collect();
                self.store.bring_back(id, &back)?;
                self.want_lapsed(id)?;
            }
            // Not if it was just removed for a reason that holds nothing, nor if it has never been here.
            let never_here = self.state.never_here(id)?;
            let is_gone = |rev: &Rev, was_here: bool| match lacking.contains(rev) {
                true => was_here || !never_here.contains(rev),
                false => was_here && !removed_now.contains(rev),
            };
            let vanished = awaited.into_iter().filter(|(rev, was_here)| is_gone(rev, *was_here));
            news.vanished = vanished.map(|(rev, _)| rev).collect();
        }
        if !news.vanished.is_empty() {
            // Not before that is known to be meant.
            news.stamp = (0, 0);
        }
        Ok(news)
    }

    /// Makes sure that what vanished was deleted by somebody, and not with a disk: `objects` of those that were known.
    pub(super) fn confirm(&self, objects: u64, emptied: bool) -> Result<()> {
        /// Fewer are always taken for deleted.
        const FEW: u64 = 10;
        let known = self.state.objects()?;
        if self.options.confirm_deletes || !emptied && (objects <= FEW || objects * 10 < known) {
            return Ok(());
        }
        let there = if self.is_itself { "=there" } else { "" };
        Err(Error::Sync(format!(
            "{objects} of {known} objects vanished from the store, not by revfs; if they were deleted on purpose, \
             `--confirm-deletes{there}` deletes them elsewhere, too; if not, put the store back first",
        )))
    }

    /// The same before anything comes, after which little would seem to be gone: where nothing that the peer was told of is
    /// left, and nothing was saved here since, though another peer may have filled the store again.
    pub(super) fn confirm_emptied(&self) -> Result<()> {
        if self.state.objects()? == 0 || self.has_objects()? && (self.is_any_left()? || self.is_any_own()?) {
            return Ok(());
        }
        let mut vanished = 0;
        for id in self.changed()? {
            vanished += u64::from(!self.examine(&id)?.vanished.is_empty());
        }
        if vanished == 0 { Ok(()) } else { self.confirm(vanished, true) }
    }

    /// Whether any revision was saved here, or it is not known where one was.
    fn is_any_own(&self) -> Result<bool> {
        let backend = self.store.backend();
        let is_own =
            |id: &ObjectId, revs: &[Rev]| Ok(revs.iter().any(|rev| backend.origin(id, rev) == Origin::Here));
        self.is_any(|see| backend.each_object(see), is_own)
    }

    /// Whether any revision is in the store of which the peer was told that it is.
    fn is_any_left(&self) -> Result<bool> {
        let is_left = |id: &ObjectId, revs: &[Rev]| {
            let known = self.state.names(id)?;
            let is_known = |rev: &Rev| known.get(rev.as_str()).is_some_and(|known| known.flags & HERE != 0);
            Ok(revs.iter().any(is_known))
        };
        self.is_any(|see| self.state.each_object(see), is_left)
    }

    /// Whether something is so of any of these objects, by the revisions in its directory. What cannot be looked at is there,
    /// and counts.
    fn is_any(
        &self,
        each: impl FnOnce(&mut dyn FnMut(ObjectId) -> bool) -> Result<()>,
        is_so: impl Fn(&ObjectId, &[Rev]) -> Result<bool>,
    ) -> Result<bool> {
        let look = |id: &ObjectId| match found(self.store.backend().entries(id)) {
            Ok(entries) => {
                let revs = entries.unwrap_or_default().into_iter().filter_map(|entry| match entry {
                    backend::Entry::Rev(rev) => Some(rev),
                    backend::Entry::Foreign(_) => None,
                });
                let revs: Vec<Rev> = revs.collect();
                if revs.is_empty() { Ok(false) } else { is_so(id, &revs) }
            }
            Err(e) => {
                if e.is_of_object() {
                    Ok(true)
                } else {
                    Err(e)
                }
            }
        };
        let mut any = Ok(false);
        each(&mut |id| {
            any = look(&id);
            matches!(any, Ok(false))
        })?;
        any
    }
}

/// The objects of a store, as they are being compared with what was known of them.
struct Scan<'a, 'b> {
    replica: &'a Replica<'b>,
    gone: &'a HashSet<ObjectId>,
    changed: BTreeSet<ObjectId>,
    /// So many of those that were known were met.
    met: u64,
}

impl Scan<'_, '_> {
    /// Sorts out what changed, by several threads. `absent`: of those, the objects that are not there.
    fn compare(&mut self, ids: &mut Vec<ObjectId>, absent: bool) -> Result<()> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS);
        let pieces: Vec<&[ObjectId]> = ids.chunks(PIECE).collect();
        for (changed, met) in at_once(threads, &pieces, |piece| self.compare_piece(piece, absent))? {
            self.changed.extend(changed);
            self.met += met;
        }
        ids.clear();
        Ok(())
    }

    /// Those that changed, and how many were known.
    fn compare_piece(&self, piece: &[ObjectId], absent: bool) -> Result<(Vec<ObjectId>, u64)> {
        self.replica.progress.look(piece.len());
        let (mut changed, mut met) = (Vec::new(), 0);
        for (id, known) in piece.iter().zip(self.replica.state.stamps(piece)?) {
            let settled = known.filter(|stamp| *stamp != (0, 0));
            let now = match settled.is_some() || absent {
                true => match self.replica.store.backend().stamp(id, self.gone.contains(id)) {
                    // Whoever examines it meets that again.
                    Err(e) if e.is_of_object() => {
                        changed.push(id.clone());
                        continue;
                    }
                    stamp => stamp?,
                },
                false => None,
            };
            if absent && now.is_some_and(|(here, _)| here != 0) {
                continue;
            }
            met += u64::from(known.is_some());
            if settled.is_none() || settled != now {
                changed.push(id.clone());
            }
        }
        Ok((changed, met))
    }
}

/// That a program of its own removed a revision.
pub(super) fn deleted(rev: &Rev) -> Removal {
    Removal::Rev { rev: rev.clone(), why: DELETED.into() }
}

/// A stamp that may be relied on, or none.
fn settled(stamp: Option<Stamp>) -> Stamp {
    let Some(stamp) = stamp else { return (0, 0) };
    let newest = UNIX_EPOCH + Duration::from_nanos(stamp.0.max(stamp.1));
    match SystemTime::now().duration_since(newest) {
        Ok(age) if age >= SETTLED => stamp,
        _ => (0, 0),
    }
}
