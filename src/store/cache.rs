//! What is remembered of objects whose directories somebody watches: a history of any length is listed once, and not again
//! while nothing changes.
//!
//! Invariants: nothing is remembered of an object that is not watched. Before anything is used, all signs of changes that
//! are complete have been taken ([`Store::remember_while`]). Signs of changes by others forget what they speak of; what this
//! store publishes is added. What was listed in another epoch ([`Changes`]) is not remembered. Texts never are; nor short
//! histories that were only read, of which there may be a million.

use std::ffi::OsStr;
use std::sync::{Arc, OnceLock};

use lru::LruCache;
use parking_lot::Mutex;

use super::Store;
use super::changes::{Changes, Epoch};
use super::revision_set::RevisionSet;
use crate::rev::{ObjectId, Rev};

/// How many names are remembered at most, at about 100 bytes each.
const MAX_NAMES: usize = 1 << 18;

/// From how many names on a history is remembered that was only read.
pub(super) const LONG: usize = 64;

type Watched = Box<dyn Fn(&ObjectId) -> bool + Send + Sync>;

pub(super) struct Cache {
    watched: OnceLock<Watched>,
    changes: Arc<Changes>,
    state: Mutex<State>,
}

struct State {
    set: LruCache<ObjectId, Remembered>,
    names: usize,
    most: usize,
}

struct Remembered {
    set: Arc<RevisionSet>,
    /// Published since, in this order.
    added: Vec<Rev>,
    /// The highest name, if it was found to hold an object.
    winner: Option<Rev>,
}

/// What is remembered of an object.
pub(super) struct Recall {
    pub set: Arc<RevisionSet>,
    /// The highest name, if it is known to hold an object.
    pub winner: Option<Rev>,
}

impl Cache {
    pub fn new(changes: Arc<Changes>) -> Cache {
        let state = State { set: LruCache::unbounded(), names: 0, most: MAX_NAMES };
        Cache { watched: OnceLock::new(), changes, state: Mutex::new(state) }
    }

    fn is_watched(&self, id: &ObjectId) -> bool {
        self.watched.get().is_some_and(|watched| watched(id))
    }

    /// What is remembered, true at some moment of this call.
    pub fn recall(&self, id: &ObjectId) -> Option<Recall> {
        if !self.is_watched(id) {
            return None;
        }
        let mut state = self.state.lock();
        let there = state.set.get_mut(id)?;
        if !there.added.is_empty() {
            let set = Arc::make_mut(&mut there.set);
            there.added.drain(..).for_each(|rev| set.add(rev));
        }
        Some(Recall { set: there.set.clone(), winner: there.winner.clone() })
    }

    /// Before an object is listed that may be remembered then.
    pub fn begin(&self, id: &ObjectId) -> Option<Epoch> {
        self.is_watched(id).then(|| self.changes.epoch(id))
    }

    /// Remembers what was listed since `epoch`, unless the object has changed meanwhile.
    pub fn remember(&self, id: &ObjectId, epoch: Option<Epoch>, set: &Arc<RevisionSet>) {
        // Signs that are there and were not taken count, too.
        let Some(epoch) = epoch.filter(|_| self.is_watched(id)) else { return };
        let mut state = self.state.lock();
        if self.changes.epoch(id) != epoch || set.names() > state.most {
            return;
        }
        state.forget(id);
        state.names += set.names();
        let new = Remembered { set: set.clone(), added: Vec::new(), winner: None };
        state.set.put(id.clone(), new);
        while state.names > state.most
            && let Some((_, oldest)) = state.set.pop_lru()
        {
            state.names -= oldest.names();
        }
    }

    /// The highest name holds an object: it was read.
    pub fn found(&self, id: &ObjectId, set: &Arc<RevisionSet>, winner: &Rev) {
        let mut state = self.state.lock();
        if let Some(there) = state.set.peek_mut(id)
            && Arc::ptr_eq(&there.set, set)
            && there.added.is_empty()
            && set.live.last() == Some(winner)
        {
            there.winner = Some(winner.clone());
        }
    }

    /// This store has published a revision.
    pub fn published(&self, id: &ObjectId, rev: &Rev) {
        let mut state = self.state.lock();
        let Some(there) = state.set.peek_mut(id) else { return };
        // It was forgotten meanwhile, and listed anew by somebody else.
        if there.set.live.binary_search(rev).is_ok() {
            return;
        }
        let highest = there.added.iter().max().max(there.set.live.last());
        if highest.is_none_or(|highest| highest < rev) {
            there.winner = Some(rev.clone());
        }
        there.added.push(rev.clone());
        state.names += 1;
    }

    pub fn forget(&self, id: &ObjectId) {
        self.state.lock().forget(id);
    }

    /// Forgets an object, unless all that is new is the name of a revision that is remembered.
    pub fn forget_unless_listed(&self, id: &ObjectId, came: Option<&OsStr>) {
        let mut state = self.state.lock();
        let listed = |there: &Remembered| {
            came.and_then(|name| Rev::new(name).ok())
                .is_some_and(|rev| there.set.live.binary_search(&rev).is_ok())
        };
        if !state.set.peek(id).is_some_and(listed) {
            state.forget(id);
        }
    }

    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.set.clear();
        state.names = 0;
    }
}

impl State {
    fn forget(&mut self, id: &ObjectId) {
        self.names -= self.set.pop(id).map_or(0, |gone| gone.names());
    }
}

impl Remembered {
    fn names(&self) -> usize {
        self.set.names() + self.added.len()
    }
}

impl Store {
    /// Lets the store remember what it has listed of objects for which `watched` is true. Before it answers, `watched`
    /// must have told ([`ChangeListener::changed`](super::changes::ChangeListener::changed)) of every change that was complete when it was called. The first call counts.
    pub(crate) fn remember_while(&self, watched: impl Fn(&ObjectId) -> bool + Send + Sync + 'static) {
        let _ = self.0.cache.watched.set(Box::new(watched));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::backend::{Attrs, Backend, Durability, Entry, MemoryBackend};
    use crate::store::testing::rev;

    fn x() -> ObjectId {
        ObjectId::new("x").unwrap()
    }

    /// A store whose object `x` is watched while the flag says so.
    fn watched() -> (Store, Arc<MemoryBackend>, Arc<AtomicBool>) {
        let (backend, flag) = (Arc::new(MemoryBackend::new()), Arc::new(AtomicBool::new(true)));
        let store = Store::with_backend(backend.clone());
        let asked = flag.clone();
        store.remember_while(move |_| asked.load(Ordering::Relaxed));
        store.create(&x(), b"{\"n\":0}").unwrap();
        store.update(&x(), b"{\"n\":1}").unwrap();
        (store, backend, flag)
    }

    fn generations(store: &Store) -> Option<Vec<u64>> {
        let set = store.0.cache.recall(&x())?.set;
        Some(set.live.iter().filter_map(Rev::generation).collect())
    }

    #[test]
    fn what_this_store_publishes_is_known_without_a_look() {
        let (store, backend, _) = watched();
        assert_eq!(generations(&store), Some(vec![0, 1]));
        // Nobody tells of this one: it is not seen, for nothing is listed.
        backend.plant(&x(), Entry::Rev(rev(7, 'a')), b"{}");
        let third = store.update(&x(), b"{\"n\":2}").unwrap().rev;
        assert_eq!((generations(&store), third.generation()), (Some(vec![0, 1, 2]), Some(2)));
        // Its own sign changes nothing, another's does.
        store.change_listener().changed(&x(), Some(third.as_str().as_ref()));
        assert_eq!(generations(&store), Some(vec![0, 1, 2]));
        store.change_listener().changed(&x(), Some(rev(7, 'a').as_str().as_ref()));
        assert_eq!(generations(&store), None);
        assert_eq!(store.winner_meta(&x()).unwrap().0, rev(7, 'a'));
        assert_eq!(store.update(&x(), b"{\"n\":3}").unwrap().rev.generation(), Some(8));
    }

    #[test]
    fn any_other_sign_forgets_and_so_does_the_end_of_the_watch() {
        let (store, _, flag) = watched();
        store.change_listener().changed(&x(), None);
        assert_eq!(generations(&store), None);
        store.update(&x(), b"{\"n\":2}").unwrap();
        assert!(generations(&store).is_some());
        store.change_listener().all_changed();
        assert_eq!(generations(&store), None);
        store.update(&x(), b"{\"n\":3}").unwrap();
        flag.store(false, Ordering::Relaxed);
        assert_eq!(generations(&store), None);
        store.update(&x(), b"{\"n\":4}").unwrap();
        assert_eq!(store.winner(&x()).unwrap().rev.generation(), Some(4));
    }

    #[test]
    fn what_was_listed_while_a_sign_came_is_not_remembered() {
        let (store, _, _) = watched();
        let cache = &store.0.cache;
        cache.forget(&x());
        let epoch = cache.begin(&x());
        let set = Arc::new(store.revision_set(&x()).unwrap());
        store.change_listener().changed(&x(), None);
        cache.remember(&x(), epoch, &set);
        assert_eq!(generations(&store), None);
        cache.remember(&x(), cache.begin(&x()), &set);
        assert!(generations(&store).is_some());
    }

    #[test]
    fn what_was_listed_anew_is_counted_once() {
        let (store, _, _) = watched();
        let last = store.update(&x(), b"{\"n\":2}").unwrap().rev;
        assert!(generations(&store).is_some());
        store.0.cache.published(&x(), &last);
        assert_eq!((generations(&store), store.0.cache.state.lock().names), (Some(vec![0, 1, 2]), 3));
        store.0.cache.forget(&x());
        assert_eq!(store.0.cache.state.lock().names, 0);
    }

    #[test]
    fn a_winner_that_is_gone_is_looked_for_anew() {
        let (store, backend, _) = watched();
        let last = store.update(&x(), b"{\"n\":2}").unwrap().rev;
        assert_eq!(store.winner_meta(&x()).unwrap().0, last);
        backend.retire(&x(), &last, "discarded", Durability::Ordered).unwrap();
        assert_eq!(store.winner_meta(&x()).unwrap().0.generation(), Some(1));
        let next = store.update(&x(), b"{\"n\":3}").unwrap().rev;
        backend.retire(&x(), &next, "discarded", Durability::Ordered).unwrap();
        assert_eq!(store.update(&x(), b"{\"n\":4}").unwrap().rev.generation(), Some(4));
    }

    #[test]
    fn no_more_names_are_remembered_than_allowed() {
        let backend = Arc::new(MemoryBackend::new());
        let store = Store::with_backend(backend.clone());
        store.remember_while(|_| true);
        store.0.cache.state.lock().most = 100;
        let id = |n: u64| ObjectId::new(format!("o{n}")).unwrap();
        for n in 0..50 {
            store.create(&id(n), b"{}").unwrap();
            for m in 0..n {
                store.upsert(&id(n), format!("{{\"m\":{m}}}").as_bytes()).unwrap();
            }
            let state = store.0.cache.state.lock();
            let counted: usize = state.set.iter().map(|(_, there)| there.names()).sum();
            assert!(state.names <= 100 + 50 && state.names == counted);
        }
        let long = id(999);
        for n in 0..200 {
            let attrs = Attrs::default();
            match n {
                0 => backend.create(&long, &rev(n, 'a'), b"{}", &attrs, Durability::Ordered).unwrap(),
                _ => backend.publish(&long, &rev(n, 'a'), b"{}", &attrs, Durability::Ordered).unwrap(),
            };
        }
        store.winner(&long).unwrap();
        assert!(store.0.cache.recall(&long).is_none());
        assert_eq!(store.upsert(&long, b"{\"m\":1}").unwrap().rev.generation(), Some(200));
    }

    /// Somebody who changes an object.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Save { by_us: bool, id: u8 },
        Delete { by_us: bool, id: u8 },
        Rename { by_us: bool, from: u8, to: u8 },
        Undelete { by_us: bool, id: u8 },
        Retire { id: u8 },
        Plant { id: u8, generation: u8 },
        Ask { id: u8 },
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (by_us, id, to) = (any::<bool>(), 0..3u8, 0..3u8);
        (0..20u8, by_us, id, to, 0..9u8).prop_map(|(what, by_us, id, to, generation)| match what {
            0..8 => Step::Save { by_us, id },
            8..10 => Step::Delete { by_us, id },
            10..12 => Step::Rename { by_us, from: id, to },
            12 => Step::Undelete { by_us, id },
            13 => Step::Retire { id },
            14 => Step::Plant { id, generation },
            15 => Step::Lose,
            _ => Step::Ask { id },
        })
    }

    /// What a watcher would tell between two states of the objects.
    fn events(before: &[Vec<Entry>], after: &[Vec<Entry>]) -> Vec<(u8, Option<Rev>)> {
        let mut events = Vec::new();
        for (id, (old, new)) in before.iter().zip(after).enumerate() {
            if old.iter().any(|entry| !new.contains(entry)) {
                events.push((id as u8, None));
            }
            let came = new.iter().filter(|entry| !old.contains(entry));
            events.extend(came.map(|entry| match entry {
                Entry::Rev(rev) => (id as u8, Some(rev.clone())),
                _ => (id as u8, None),
            }));
        }
        events
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn what_is_remembered_is_what_a_fresh_look_finds(steps in prop::collection::vec(step(), 1..60)) {
            let backend = Arc::new(MemoryBackend::new());
            let (ours, others) = (Store::with_backend(backend.clone()), Store::with_backend(backend.clone()));
            let queue = Arc::new(Mutex::new(Vec::<(u8, Option<Rev>)>::new()));
            let listener = ours.change_listener();
            let id = |n: u8| ObjectId::new(format!("o{n}")).unwrap();
            let taken = queue.clone();
            // All that is queued is told before anything is answered.
            ours.remember_while(move |_| {
                for (n, came) in taken.lock().drain(..) {
                    listener.changed(&id(n), came.as_ref().map(|rev| OsStr::new(rev.as_str())));
                }
                true
            });
            let entries = || -> Vec<Vec<Entry>> { (0..3).map(|n| backend.entries(&id(n)).unwrap_or_default()).collect() };
            for (n, step) in steps.into_iter().enumerate() {
                let before = entries();
                let by = |by_us| if by_us { &ours } else { &others };
                match step {
                    Step::Save { by_us, id: of } => drop(by(by_us).upsert(&id(of), format!("{{\"n\":{n}}}").as_bytes())),
                    Step::Delete { by_us, id: of } => drop(by(by_us).delete(&id(of))),
                    Step::Rename { by_us, from, to } => drop(by(by_us).rename(&id(from), &id(to))),
                    Step::Undelete { by_us, id: of } => drop(by(by_us).undelete(&id(of), None)),
                    Step::Retire { id: of } => {
                        if let Ok((winner, _)) = others.winner_meta(&id(of)) {
                            let _ = backend.retire(&id(of), &winner, "discarded", Durability::Ordered);
                        }
                    }
                    Step::Plant { id: of, generation } => {
                        let name = Rev::new(format!("{generation}-{n:032x}")).unwrap();
                        backend.plant(&id(of), Entry::Rev(name), b"{}");
                    }
                    Step::Ask { id: of } => drop(ours.winner_meta(&id(of))),
                    Step::Lose => {
                        queue.lock().clear();
                        ours.change_listener().all_changed();
                    }
                }
                queue.lock().extend(events(&before, &entries()));
                let fresh = Store::with_backend(backend.clone());
                for n in 0..3 {
                    prop_assert_eq!(
                        ours.winner_meta(&id(n)).ok().map(|(rev, _)| rev),
                        fresh.winner_meta(&id(n)).ok().map(|(rev, _)| rev),
                        "o{} after {:?}", n, step
                    );
                    prop_assert_eq!(ours.revisions(&id(n)).ok(), fresh.revisions(&id(n)).ok());
                }
            }
        }
    }
}
