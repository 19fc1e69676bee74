//! The replay: changes made in the store by others, done once more through the mount so that inotify tells of them.
//!
//! The kernel raises inotify events for calls that are made through the mount, and knows no other way. So a process of
//! ours (`mount/replay.rs`) makes one such call for each change: it creates, opens and closes, or unlinks the name. It has
//! a file system of its own ([`ReplayFs`]), in which each call succeeds and does nothing.
//!
//! A program that watches a file itself watches a node. The name may lead elsewhere by the next save, as somebody has what was
//! there before open; a node that the kernel holds all the same is an open file or one that is watched. It
//! is touched by its number, in a directory that nobody else can look up.
//!
//! Invariants: a replay changes nothing; a change that a program made through this mount has had its event and gets no
//! other; an event that is late or double is fine, one that is missing is not. The replay holds no lock of the file system.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::rev::{ObjectId, Rev};
use crate::watch::Event;

mod calls;
mod look;

pub use calls::ReplayFs;
pub use look::Seen;

/// The directory of nodes by number, for the replaying process alone.
pub const DIR: &str = ".revfs-replay";

/// How long signs of one change gather; also the time that the kernel has to forget what nobody watches.
const COALESCE_WINDOW: Duration = Duration::from_millis(15);

/// How long signs wait for changes that programs make meanwhile: an event that is double is better than one that is missing.
const MAX_HOLD: Duration = Duration::from_secs(1);

/// How long a change that programs were told of is remembered: longer than its own signs are under way.
const REPLAYED_TTL: Duration = Duration::from_secs(30);

/// A call to make through the mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayCall {
    /// Create the name.
    Created(OsString),
    /// Open the name for writing, touch and close it.
    Modified(OsString),
    /// Unlink the name.
    Deleted(OsString),
    /// The same as the last two for a name in [`DIR`].
    NodeModified(OsString),
    NodeDeleted(OsString),
}

/// What is known of changes on their way.
#[derive(Default)]
pub(super) struct Replay {
    /// The process that makes the calls; 0 for none.
    pub(super) pid: AtomicU32,
    state: Mutex<State>,
    due: Condvar,
}

#[derive(Default)]
struct State {
    /// Objects in the order of their first sign.
    order: Vec<ObjectId>,
    pending: HashMap<ObjectId, PendingChange>,
    /// The last state of an object that programs were told of: the winner, or that there is none.
    told: HashMap<ObjectId, (Option<Rev>, Instant)>,
    /// Names that the replaying process must find absent once, to create them, or there until it unlinks them.
    coming: HashSet<ObjectId>,
    leaving: HashSet<ObjectId>,
    /// Objects that programs change through the mount right now, and by how many calls.
    under_way: HashMap<ObjectId, usize>,
    /// When what is too old was forgotten.
    tidied: Option<Instant>,
    /// Nothing is told any more.
    ended: bool,
}

impl State {
    fn is_due(&self) -> bool {
        self.order.iter().any(|id| !self.is_held(id))
    }

    /// Whether a program is changing the object, so that what others did to it cannot be told yet.
    fn is_held(&self, id: &ObjectId) -> bool {
        self.under_way.contains_key(id) && self.pending.get(id).is_none_or(PendingChange::may_wait)
    }

    fn tidy(&mut self) {
        if self.tidied.is_none_or(|then| then.elapsed() >= REPLAYED_TTL) {
            self.told.retain(|_, (_, since)| since.elapsed() < REPLAYED_TTL);
            // A name that the kernel knew was not looked up for its replay.
            self.coming.retain(|id| self.told.contains_key(id));
            self.leaving.retain(|id| self.told.contains_key(id));
            self.tidied = Some(Instant::now());
        }
    }
}

/// What the signs of one object's change say.
#[derive(Clone, Copy, Debug, Default)]
struct PendingChange {
    /// Not (only) made through this mount.
    foreign: bool,
    came: bool,
    left: bool,
    /// When the first of them came.
    since: Option<Instant>,
}

impl PendingChange {
    fn may_wait(&self) -> bool {
        self.foreign && self.since.is_none_or(|since| since.elapsed() < MAX_HOLD)
    }
}

impl Replay {
    fn on(&self) -> bool {
        self.pid.load(Ordering::Relaxed) != 0
    }

    fn add(&self, state: &mut State, id: ObjectId, change: PendingChange) {
        let there = state.pending.entry(id.clone()).or_insert_with(|| {
            state.order.push(id);
            PendingChange::default()
        });
        there.foreign |= change.foreign;
        (there.came, there.left) = (there.came | change.came, there.left | change.left);
        there.since = there.since.or(change.since).or_else(|| Some(Instant::now()));
        self.due.notify_one();
    }

    /// A program is about to change the object through the mount.
    pub(super) fn begin(&self, id: &ObjectId) -> Publishing<'_> {
        *self.state.lock().under_way.entry(id.clone()).or_default() += 1;
        Publishing { replay: self, id: id.clone() }
    }

    /// Programs have had the event of a change before it could be seen: they are told of it as if it were others'.
    pub(super) fn tell_again(&self, id: &ObjectId) {
        if self.on() {
            let mut state = self.state.lock();
            state.told.remove(id);
            self.add(&mut state, id.clone(), PendingChange { foreign: true, ..PendingChange::default() });
        }
    }

    /// Nodes that the object's name led to may be watched.
    pub(super) fn left_behind(&self, id: &ObjectId) {
        if self.on() {
            self.add(&mut self.state.lock(), id.clone(), PendingChange::default());
        }
    }

    /// Signs of changes in the store that are not of own revisions. Those of what was made or removed here are passed over.
    pub(super) fn on_events<'a>(&self, events: impl Iterator<Item = &'a Event>) {
        if !self.on() {
            return;
        }
        let mut state = self.state.lock();
        for event in events {
            let (id, change) = match event {
                Event::Object(id, _) => (id, PendingChange::default()),
                Event::Left(id) => (id, PendingChange { left: true, ..PendingChange::default() }),
                Event::Store(id, came) => {
                    (id, PendingChange { came: *came, left: !came, ..PendingChange::default() })
                }
                Event::Scratch | Event::Lost | Event::Begun(_) => continue,
            };
            let ours = match (event, state.told.get(id).map(|(rev, _)| rev)) {
                (Event::Store(_, true), Some(rev)) => rev.is_some(),
                (Event::Store(_, false) | Event::Left(_), Some(rev)) => rev.is_none(),
                _ => false,
            };
            if !ours {
                self.add(&mut state, id.clone(), PendingChange { foreign: true, ..change });
            }
        }
    }

    /// Waits for signs; `false` at the end.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.ended && !state.is_due() {
            match state.order.is_empty() {
                true => self.due.wait(&mut state),
                // Those that are held are so for a time.
                false => drop(self.due.wait_for(&mut state, MAX_HOLD)),
            }
        }
        !state.ended
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.due.notify_all();
    }

    /// Takes the signs of objects that no program is changing.
    fn take(&self) -> Vec<(ObjectId, PendingChange)> {
        let mut state = self.state.lock();
        state.tidy();
        if !state.is_due() {
            return Vec::new();
        }
        drop(state);
        std::thread::sleep(COALESCE_WINDOW);
        let mut state = self.state.lock();
        let order = std::mem::take(&mut state.order);
        let (held, order): (Vec<_>, Vec<_>) = order.into_iter().partition(|id| state.is_held(id));
        state.order = held;
        order.into_iter().filter_map(|id| state.pending.remove(&id).map(|change| (id, change))).collect()
    }

    /// Whether signs that were taken wait once more: a program has begun to change the object, or has done so since `asked`,
    /// when somebody asked what the store holds.
    fn put_back(&self, id: &ObjectId, change: PendingChange, asked: Instant) -> bool {
        let mut state = self.state.lock();
        let since = state.told.get(id).is_some_and(|(_, since)| *since > asked);
        let back = change.may_wait() && (since || state.under_way.contains_key(id));
        if back {
            self.add(&mut state, id.clone(), change);
        }
        back
    }

    /// What programs are to be told of a change by others that left the object at `now`.
    fn decide(&self, id: &ObjectId, change: PendingChange, now: Option<Rev>) -> Option<ReplayCall> {
        let name = id.file_name()?;
        let mut state = self.state.lock();
        let told = state.told.insert(id.clone(), (now.clone(), Instant::now())).map(|(rev, _)| rev);
        if told.as_ref() == Some(&now) {
            return None;
        }
        // One that came again meanwhile is not to be found gone.
        state.leaving.remove(id);
        match now {
            Some(_) if told == Some(None) || (told.is_none() && change.came) => {
                state.coming.insert(id.clone());
                Some(ReplayCall::Created(name))
            }
            Some(_) => Some(ReplayCall::Modified(name)),
            None if change.left || matches!(told, Some(Some(_))) => {
                state.leaving.insert(id.clone());
                Some(ReplayCall::Deleted(name))
            }
            None => None,
        }
    }
}

/// A change that a program makes through the mount. Its signs can come before the call that makes it is over, so until
/// this is dropped nobody judges them.
pub(super) struct Publishing<'a> {
    replay: &'a Replay,
    id: ObjectId,
}

impl Publishing<'_> {
    /// The change is made; `rev` is what the object shows now.
    pub(super) fn made(self, rev: Option<&Rev>) {
        if self.replay.on() {
            self.replay.state.lock().told.insert(self.id.clone(), (rev.cloned(), Instant::now()));
        }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        let mut state = self.replay.state.lock();
        if let Some(calls) = state.under_way.get_mut(&self.id) {
            *calls -= 1;
            if *calls == 0 {
                state.under_way.remove(&self.id);
            }
        }
        if state.pending.contains_key(&self.id) {
            self.replay.due.notify_one();
        }
    }
}
