//! What changed, and by whom: the one place where that is decided.
//!
//! Every object has an epoch, which rises with each sign of a change. Who looks at an object takes its epoch before, and
//! what was found is right for as long as the epoch is the same. Signs come from a watcher ([`ChangeListener`]), and from
//! who changes an object here. The sign of a revision that this store publishes says nothing new and goes no further, as long
//! as it is awaited: that ends with a watch, with a sign of anything else, and where too many are.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use lru::LruCache;
use parking_lot::Mutex;

use super::{Inner, Store};
use crate::rev::{ObjectId, Rev, fnv1a};

/// Objects are told apart but for chance: a change of one may doubt another, which costs a look.
const SLOTS: usize = 1 << 14;

/// Of how many objects it is known what this store has published.
const MOST_OBJECTS: usize = 1024;

/// How many revisions of one object may be published before the sign of the first has come.
const MOST_REVS: usize = 64;

/// A moment in the life of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Changes by others, or by nobody knows whom.
    theirs: u64,
    /// Revisions of this store's own.
    ours: u64,
}

impl Epoch {
    /// Whether others may have changed the object between the two.
    pub(crate) fn is_same_for_others(self, later: Epoch) -> bool {
        self.theirs == later.theirs
    }
}

#[derive(Default)]
struct Slot {
    theirs: AtomicU64,
    ours: AtomicU64,
}

/// The epochs of all objects, and the revisions whose signs are this store's own.
pub(crate) struct Changes {
    slots: Box<[Slot]>,
    /// How often anything may have changed.
    all: AtomicU64,
    own: Mutex<LruCache<ObjectId, Own>>,
}

/// What this store publishes of one object.
#[derive(Default)]
struct Own {
    /// Announced and not done, and whether the sign has come already.
    under_way: Vec<(Rev, bool)>,
    /// Done; the signs are yet to come.
    awaited: Vec<Rev>,
    last: Option<Rev>,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            all: AtomicU64::new(0),
            own: Mutex::new(LruCache::unbounded()),
        }
    }
}

impl Changes {
    fn slot(&self, id: &ObjectId) -> &Slot {
        &self.slots[fnv1a(id.as_os_str().as_encoded_bytes()) as usize % SLOTS]
    }

    pub(crate) fn epoch(&self, id: &ObjectId) -> Epoch {
        let slot = self.slot(id);
        let theirs = slot.theirs.load(Ordering::SeqCst) + self.all.load(Ordering::SeqCst);
        Epoch { theirs, ours: slot.ours.load(Ordering::SeqCst) }
    }

    /// Somebody may have changed the object.
    pub(crate) fn doubt(&self, id: &ObjectId) {
        self.slot(id).theirs.fetch_add(1, Ordering::SeqCst);
    }

    /// Signs were lost: what is awaited may have come and gone.
    fn doubt_all(&self) {
        self.own.lock().iter_mut().for_each(|(_, own)| own.awaited.clear());
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    /// This store is about to publish a revision.
    pub(super) fn announce(&self, id: &ObjectId, rev: &Rev) {
        let mut own = self.own.lock();
        own.get_or_insert_mut(id.clone(), Own::default).under_way.push((rev.clone(), false));
        while own.len() > MOST_OBJECTS {
            own.pop_lru();
        }
    }

    /// An announced revision was published, or was not: then its sign, if it comes, is one like all others.
    pub(super) fn done(&self, id: &ObjectId, rev: &Rev, published: bool) {
        if let Some(own) = self.own.lock().get_mut(id) {
            let at = own.under_way.iter().position(|(announced, _)| announced == rev);
            let heard = at.is_some_and(|at| own.under_way.swap_remove(at).1);
            own.last = published.then(|| rev.clone());
            if published && !heard {
                own.awaited.push(rev.clone());
                let surplus = own.awaited.len().saturating_sub(MOST_REVS);
                own.awaited.drain(..surplus);
            }
        }
        self.slot(id).ours.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a revision is the last that this store has published of an object, and it publishes no other.
    pub(crate) fn is_last_published(&self, id: &ObjectId, rev: &Rev) -> bool {
        let own = self.own.lock();
        own.peek(id).is_some_and(|own| own.under_way.is_empty() && own.last.as_ref() == Some(rev))
    }

    /// A sign has come: a name came into the object's directory, or anything else happened (`None`). Whether it is one that
    /// this store awaits, and then awaits no more.
    fn take_sign(&self, id: &ObjectId, came: Option<&OsStr>) -> bool {
        let rev = came.and_then(|name| Rev::new(name).ok());
        let expected = self.own.lock().peek_mut(id).and_then(|own| own.take_sign(rev.as_ref()));
        match expected {
            Some(Sign::OfDone) => {}
            // It is there, and who publishes it has yet to say so.
            Some(Sign::UnderWay) => drop(self.slot(id).ours.fetch_add(1, Ordering::SeqCst)),
            None => self.doubt(id),
        }
        expected.is_some()
    }
}

/// A sign of this store's own revision.
enum Sign {
    UnderWay,
    OfDone,
}

impl Own {
    fn take_sign(&mut self, rev: Option<&Rev>) -> Option<Sign> {
        let Some(rev) = rev else {
            // What is removed may come back by other hands.
            self.awaited.clear();
            return None;
        };
        if let Some((_, heard)) = self.under_way.iter_mut().find(|(announced, _)| announced == rev) {
            return (!std::mem::replace(heard, true)).then_some(Sign::UnderWay);
        }
        let at = self.awaited.iter().position(|awaited| awaited == rev)?;
        self.awaited.remove(at);
        Some(Sign::OfDone)
    }
}

/// A store that is told of changes, for as long as anybody else holds it.
pub(crate) struct ChangeListener(Weak<Inner>);

impl Store {
    /// For whoever tells of changes.
    pub(crate) fn change_listener(&self) -> ChangeListener {
        ChangeListener(Arc::downgrade(&self.0))
    }

    /// The epochs of its objects.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.0.changes
    }
}

impl ChangeListener {
    /// An object's directory changed: a name came into it, or anything else happened (`None`). Whether that is news: it is
    /// none that a revision came which this store has just published or is publishing.
    pub fn changed(&self, id: &ObjectId, came: Option<&OsStr>) -> bool {
        let Some(store) = self.0.upgrade() else { return true };
        let news = !store.changes.take_sign(id, came);
        if news {
            store.cache.forget_unless_listed(id, came);
        }
        news
    }

    /// Signs of an object come from now on: those of revisions that were published before never do.
    pub fn begins(&self, id: &ObjectId) {
        if let Some(store) = self.0.upgrade()
            && let Some(own) = store.changes.own.lock().peek_mut(id)
        {
            own.awaited.clear();
        }
    }

    /// Anything may have changed.
    pub fn all_changed(&self) {
        if let Some(store) = self.0.upgrade() {
            store.changes.doubt_all();
            store.cache.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::rev;

    fn x() -> ObjectId {
        ObjectId::new("x").unwrap()
    }

    fn sign_is_own(changes: &Changes, rev: &Rev) -> bool {
        changes.take_sign(&x(), Some(rev.as_str().as_ref()))
    }

    #[test]
    fn the_sign_of_an_own_revision_is_no_news_and_only_once() {
        let (changes, one, two) = (Changes::default(), rev(1, 'a'), rev(2, 'a'));
        let before = changes.epoch(&x());
        changes.announce(&x(), &one);
        assert_eq!(changes.epoch(&x()), before, "nothing is there yet");
        assert!(!changes.is_last_published(&x(), &one));
        // The sign comes first, to somebody else: what he found before is right no more.
        assert!(sign_is_own(&changes, &one));
        assert!(changes.epoch(&x()) != before && changes.epoch(&x()).is_same_for_others(before));
        changes.done(&x(), &one, true);
        assert!(changes.is_last_published(&x(), &one) && !sign_is_own(&changes, &one));

        changes.announce(&x(), &two);
        assert!(!changes.is_last_published(&x(), &one));
        changes.done(&x(), &two, true);
        let after = changes.epoch(&x());
        assert!(sign_is_own(&changes, &two));
        assert_eq!(changes.epoch(&x()), after, "it was known to be there");
        assert!(!sign_is_own(&changes, &two) && !changes.epoch(&x()).is_same_for_others(after));
    }

    #[test]
    fn what_failed_or_went_away_is_awaited_no_more() {
        let (changes, one, two) = (Changes::default(), rev(1, 'a'), rev(2, 'a'));
        changes.announce(&x(), &one);
        changes.done(&x(), &one, false);
        assert!(!sign_is_own(&changes, &one) && !changes.is_last_published(&x(), &one));
        changes.announce(&x(), &two);
        changes.done(&x(), &two, true);
        assert!(!changes.take_sign(&x(), None) && !sign_is_own(&changes, &two));
        // Signs were lost, or came to nobody.
        changes.announce(&x(), &one);
        changes.done(&x(), &one, true);
        changes.doubt_all();
        assert!(!sign_is_own(&changes, &one));
        let store = Store::with_backend(Arc::new(crate::backend::MemoryBackend::new()));
        store.create(&x(), b"{}").unwrap();
        let unwatched = store.update(&x(), b"{\"n\":1}").unwrap().rev;
        let listener = store.change_listener();
        listener.begins(&x());
        assert!(listener.changed(&x(), Some(unwatched.as_str().as_ref())), "it went and came back");
    }

    #[test]
    fn whatever_may_have_changed_all_begins_another_epoch_of_all() {
        let changes = Changes::default();
        let before = changes.epoch(&x());
        changes.doubt_all();
        assert!(!changes.epoch(&x()).is_same_for_others(before));
    }

    #[test]
    fn what_is_awaited_is_bounded() {
        let changes = Changes::default();
        for n in 0..2 * MOST_OBJECTS {
            let id = ObjectId::new(format!("o{n}")).unwrap();
            changes.announce(&id, &rev(0, 'a'));
            changes.done(&id, &rev(0, 'a'), true);
        }
        for n in 0..2 * MOST_REVS as u64 {
            changes.announce(&x(), &rev(n, 'a'));
            changes.done(&x(), &rev(n, 'a'), true);
        }
        let own = changes.own.lock();
        assert_eq!((own.len(), own.peek(&x()).unwrap().awaited.len()), (MOST_OBJECTS, MOST_REVS));
    }
}
