//! Echoes: changes made in the store by others, done once more through the mount so that inotify tells of them.
//!
//! The kernel raises inotify events for calls that are made through the mount, and knows no other way. So a process of
//! ours (`mount/echo.rs`) makes one such call for each change: it creates, opens and closes, or unlinks the name. This
//! file system knows the process by its id, lets each of its calls succeed, and does nothing.
//!
//! A program that watches a file itself watches a node. The name may lead elsewhere by the next save, as somebody has what was
//! there before open; a node that the kernel holds all the same is an open file or one that is watched. It
//! is touched by its number, in a directory that nobody else can look up.
//!
//! Invariants: an echo changes nothing; a change that a program made through this mount has had its event and gets no
//! other; an event that is late or double is fine, one that is missing is not. Echoes hold no lock of the file system.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Fs;
use super::attr::{Attr, Caller, Found, Ino, NOW};
use super::errno::{FsError, Result};
use super::io::{Handle, Opened};
use super::table::{Node, Notice};
use super::views::View;
use crate::error::Error;
use crate::rev::{ObjectId, Rev};
use crate::watch::Event;

/// The directory of nodes by number, for the echoing process alone.
pub const DIR: &str = ".revfs-echo";

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
    pid: AtomicU32,
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
    /// Names that the echoing process must find absent once, to create them, or there once, to unlink them.
    coming: HashSet<ObjectId>,
    leaving: HashSet<ObjectId>,
    /// Objects that programs change through the mount right now, and by how many calls.
    under_way: HashMap<ObjectId, usize>,
    /// When what is too old was forgotten.
    tidied: Option<Instant>,
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
            // A name that the kernel knew was not looked up for its echo.
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
    pub(super) fn begin(&self, id: &ObjectId) -> Change<'_> {
        *self.state.lock().under_way.entry(id.clone()).or_default() += 1;
        Change { echoes: self, id: id.clone() }
    }

    /// Whether a program is changing the object through the mount.
    pub(super) fn is_under_way(&self, id: &ObjectId) -> bool {
        self.state.lock().under_way.contains_key(id)
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

    /// Signs of changes in the store. Those of changes made here are passed over.
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
                Event::Scratch | Event::Lost => continue,
            };
            let ours = match (event, state.told.get(id).map(|(rev, _)| rev)) {
                (Event::Object(_, Some(name)), Some(Some(rev))) => name == rev.as_str(),
                (Event::Store(_, true), Some(rev)) => rev.is_some(),
                (Event::Store(_, false) | Event::Left(_), Some(rev)) => rev.is_none(),
                _ => false,
            };
            if !ours {
                self.add(&mut state, id.clone(), PendingChange { foreign: true, ..change });
            }
        }
    }

    /// Waits for signs, at most `timeout`, and takes those of objects that no program is changing.
    fn take(&self, timeout: Duration) -> Vec<(ObjectId, PendingChange)> {
        let mut state = self.state.lock();
        state.tidy();
        if !state.is_due() {
            self.due.wait_for(&mut state, timeout);
        }
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
pub(super) struct Change<'a> {
    echoes: &'a Replay,
    id: ObjectId,
}

impl Change<'_> {
    /// The change is made; `rev` is what the object shows now.
    pub(super) fn made(self, rev: Option<&Rev>) {
        if self.echoes.on() {
            self.echoes.state.lock().told.insert(self.id.clone(), (rev.cloned(), Instant::now()));
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut state = self.echoes.state.lock();
        if let Some(calls) = state.under_way.get_mut(&self.id) {
            *calls -= 1;
            if *calls == 0 {
                state.under_way.remove(&self.id);
            }
        }
        if state.pending.contains_key(&self.id) {
            self.echoes.due.notify_one();
        }
    }
}

impl Fs {
    /// From now on calls by the process `pid` are echoes. 0 ends that.
    pub fn echo_as(&self, pid: u32) {
        self.echoes.pid.store(pid, Ordering::Relaxed);
    }

    /// Watches every object, if there are at most `limit` and half of the watches suffice, for those in use need some:
    /// changes of objects that no program has looked at are then echoed, too. Returns whether it does.
    ///
    /// # Errors
    /// As [`Store::ids`](crate::store::Store::ids).
    pub fn watch_all(&self, limit: usize) -> crate::error::Result<bool> {
        let ids = self.store.ids()?;
        let limit = limit.min(self.watcher.limit() / 2);
        let all = ids.len() <= limit;
        self.watch_all.store(if all { limit } else { 0 }, Ordering::Relaxed);
        if all {
            ids.iter().for_each(|id| {
                self.watcher.watch(id);
            });
        }
        Ok(all)
    }

    /// Whether an object is watched even if the kernel knows nothing of it.
    pub(super) fn watches_idle(&self) -> bool {
        self.watcher.watched() <= self.watch_all.load(Ordering::Relaxed)
    }

    /// Waits for changes, at most `timeout`, and returns the calls that tell programs of them.
    pub fn echoes(&self, timeout: Duration) -> Vec<ReplayCall> {
        let mut echoes = Vec::new();
        for (id, change) in self.echoes.take(timeout) {
            let seen = self.nodes().objects.get(&id).is_some_and(|o| o.current_node.is_some());
            if change.foreign && seen {
                // Moves the name on to another node, so that the one before is known to be left.
                let _ = self.resolve(&id);
            }
            let asked = Instant::now();
            let now = match change.foreign {
                true => match self.store.winner_meta(&id) {
                    Ok((rev, _)) => Some(Some(rev)),
                    Err(Error::NoObject(_)) => Some(None),
                    Err(_) => None,
                },
                false => None,
            };
            if self.echoes.put_back(&id, change, asked) {
                continue;
            }
            let gone = {
                let t = self.nodes();
                // Renamed away here: that had its event, and the store has not changed.
                if t.hidden(&id).is_some() {
                    continue;
                }
                now.as_ref().map_or(t.deleted(&id).is_some(), Option::is_none)
            };
            if let Some(now) = now {
                echoes.extend(self.echoes.decide(&id, change, now));
            }
            let mut t = self.nodes();
            let current = t.current_node(&id);
            let overlaid = current
                .and_then(|current| t.nodes.get_mut(&current))
                .is_some_and(|entry| std::mem::take(&mut entry.overlaid));
            let former = t.stale_nodes(&id);
            let nodes =
                former.iter().copied().chain(t.nodes_in_place(&id).filter(|node| !former.contains(node)));
            let nodes = nodes.chain(current.filter(|_| overlaid));
            let held = nodes.filter(|node| t.nodes.get(node).is_some_and(|e| e.lookups > 0));
            echoes.extend(held.map(|node| {
                let name = node.to_string().into();
                if gone { ReplayCall::NodeDeleted(name) } else { ReplayCall::NodeModified(name) }
            }));
        }
        echoes
    }

    /// Ends a wait for changes at once.
    pub fn stop_echoes(&self) {
        self.echoes.due.notify_all();
    }

    /// Whether a call is an echo.
    pub(super) fn is_replay(&self, caller: Caller) -> bool {
        caller.thread != 0 && caller.thread == self.echoes.pid.load(Ordering::Relaxed)
    }

    pub(super) fn lookup_for_replay(&self, parent: Ino, name: &OsStr) -> Result<Found> {
        match self.node(parent)? {
            Node::Root if name == DIR => self.lookup_view(View::Echo),
            Node::View(View::Echo) => {
                let node = name.to_str().and_then(|name| name.parse().ok()).ok_or(FsError::NotFound)?;
                self.hold_former(node)
            }
            Node::Root => {
                let id = ObjectId::from_file_name(name).ok_or(FsError::NotFound)?;
                let (coming, leaving) = {
                    let mut state = self.echoes.state.lock();
                    (state.coming.remove(&id), state.leaving.remove(&id))
                };
                if coming {
                    return Err(FsError::NotFound);
                }
                if leaving {
                    // The node that the name led to last: who watches it hears that it went.
                    let last = self.nodes().stale_nodes(&id).last().copied();
                    return match last.map(|node| self.hold_former(node)) {
                        Some(Ok(found)) => Ok(found),
                        _ => self.lookup_view(View::ReplayTarget),
                    };
                }
                self.hold_shown(&id)
            }
            _ => Err(FsError::NotFound),
        }
    }

    /// Counts the kernel's reference to a node that it knows already.
    fn hold_former(&self, node: Ino) -> Result<Found> {
        let shown = match self.node(node).map_err(|_| FsError::NotFound)? {
            Node::Revision(shown) => shown,
            Node::Draft(draft) => return self.hold_draft(node, &draft),
            _ => return Err(FsError::NotFound),
        };
        let attr = self.object_attr(&shown.id, &shown.meta);
        let mut t = self.nodes();
        t.nodes.get_mut(&node).ok_or(FsError::NotFound)?.lookups += 1;
        let (attr, _) = t.attr_as_linked(&shown.id, (attr, NOW));
        Ok(Found { node, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// An echo opens a node: nothing is read or written, and its pages stay.
    pub(super) fn open_echo(&self, node: Ino) -> Result<Opened> {
        let handle = self.add_handle(Handle::Echo { node });
        Ok(Opened { handle, keep: true, no_flush: true, direct: false })
    }

    pub(super) fn create_echo(&self, name: &OsStr) -> Result<(Found, Opened)> {
        let id = ObjectId::from_file_name(name).ok_or(FsError::NotFound)?;
        let found = self.hold_shown(&id)?;
        match self.open_echo(found.node) {
            Ok(opened) => Ok((found, opened)),
            Err(fail) => {
                self.forget(found.node, 1);
                Err(fail)
            }
        }
    }

    /// The attributes as they are, whatever an echo says to set.
    pub(super) fn attr_for_echo(&self, node: Ino) -> Result<Attr> {
        match self.node(node)? {
            Node::Revision(shown) => {
                let attr = self.object_attr(&shown.id, &shown.meta);
                Ok(self.nodes().attr_as_linked(&shown.id, (attr, NOW)).0)
            }
            Node::Draft(draft) => Ok(self.draft_attr(&draft.lock())),
            Node::View(view) => self.view_attr(node, &view),
            Node::Root | Node::Scratch(_) => Err(FsError::Invalid),
        }
    }

    /// An echo is over: the kernel need not keep the node under its number.
    pub(super) fn end_echo(&self, node: Ino) {
        self.notify_kernel(self.notices().with(Notice::Echoed(node)));
    }

    /// The node of [`DIR`], if the kernel knows it.
    pub(super) fn echo_dir(&self) -> Option<Ino> {
        self.nodes().views.get(&View::Echo).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    fn rev(generation: u64) -> Rev {
        Rev::new(format!("{generation}-{}", "a".repeat(32))).unwrap()
    }

    fn echoes() -> Replay {
        let echoes = Replay::default();
        echoes.pid.store(1, Ordering::Relaxed);
        echoes
    }

    fn told(echoes: &Replay, events: &[Event], now: Option<Rev>) -> Vec<ReplayCall> {
        echoes.on_events(events.iter());
        let taken = echoes.take(Duration::ZERO);
        let foreign = taken.into_iter().filter(|(_, change)| change.foreign);
        foreign.filter_map(|(id, change)| echoes.decide(&id, change, now.clone())).collect()
    }

    #[test]
    fn each_change_by_others_is_told_once() {
        let e = echoes();
        let x = id("x");
        let name = |rev: &Rev| Some(OsString::from(rev.as_str()));
        // The original: mkdir, create, write, close.
        assert_eq!(told(&e, &[Event::Store(x.clone(), true)], None), []);
        assert_eq!(
            told(&e, &[Event::Object(x.clone(), None)], Some(rev(0))),
            [ReplayCall::Created("x.json".into())]
        );
        assert_eq!(told(&e, &[Event::Object(x.clone(), name(&rev(1)))], Some(rev(0))), []);
        let both = [Event::Object(x.clone(), name(&rev(1))), Event::Object(x.clone(), None)];
        assert_eq!(told(&e, &both, Some(rev(1))), [ReplayCall::Modified("x.json".into())]);
        assert_eq!(told(&e, &[Event::Left(x.clone())], None), [ReplayCall::Deleted("x.json".into())]);
        assert_eq!(told(&e, &[Event::Store(x.clone(), false)], None), []);
        // A whole directory at once.
        assert_eq!(
            told(&e, &[Event::Store(id("y"), true)], Some(rev(0))),
            [ReplayCall::Created("y.json".into())]
        );
        // Of an object never told of before.
        assert_eq!(
            told(&e, &[Event::Object(id("z"), None)], Some(rev(7))),
            [ReplayCall::Modified("z.json".into())]
        );
    }

    #[test]
    fn what_was_made_here_is_not_told_again() {
        let e = echoes();
        let x = id("x");
        e.begin(&x).made(Some(&rev(0)));
        assert_eq!(told(&e, &[Event::Store(x.clone(), true)], Some(rev(0))), []);
        e.begin(&x).made(Some(&rev(1)));
        assert_eq!(told(&e, &[Event::Object(x.clone(), None)], Some(rev(1))), []);
        assert_eq!(
            told(&e, &[Event::Object(x.clone(), None)], Some(rev(2))),
            [ReplayCall::Modified("x.json".into())]
        );
        e.begin(&x).made(None);
        let left = [Event::Left(x.clone()), Event::Store(x.clone(), false)];
        assert_eq!(told(&e, &left, None), []);
        // Others create it anew.
        assert_eq!(told(&e, &[Event::Store(x, true)], Some(rev(3))), [ReplayCall::Created("x.json".into())]);
    }

    #[test]
    fn signs_that_come_before_the_change_is_over_wait_for_it() {
        let e = echoes();
        let (x, y) = (id("x"), id("y"));
        let change = e.begin(&x);
        let events =
            [Event::Store(x.clone(), true), Event::Object(x.clone(), None), Event::Store(y.clone(), true)];
        assert_eq!(told(&e, &events, Some(rev(0))), [ReplayCall::Created("y.json".into())]);
        change.made(Some(&rev(0)));
        assert_eq!(told(&e, &[], Some(rev(0))), []);
        // Taken before the change began, judged while it goes on or after it.
        e.on_events([Event::Object(x.clone(), None)].iter());
        let (_, pending) = e.take(Duration::ZERO).remove(0);
        let asked = Instant::now();
        let change = e.begin(&x);
        assert!(e.put_back(&x, pending, asked));
        change.made(None);
        assert!(e.put_back(&x, pending, asked));
        assert_eq!(told(&e, &[], None), []);
        // Signs do not wait for ever.
        let _saving = e.begin(&y);
        e.on_events([Event::Store(y.clone(), false)].iter());
        assert!(e.take(Duration::ZERO).is_empty());
        e.state.lock().pending.get_mut(&y).unwrap().since = Instant::now().checked_sub(MAX_HOLD);
        let (_, pending) = e.take(Duration::ZERO).remove(0);
        assert!(!e.put_back(&y, pending, asked));
        assert_eq!(e.decide(&y, pending, None), Some(ReplayCall::Deleted("y.json".into())));
        // A change that failed holds nothing up, and what others did is told.
        e.on_events([Event::Store(x.clone(), true)].iter());
        drop(e.begin(&x));
        assert_eq!(told(&e, &[], Some(rev(2))), [ReplayCall::Created("x.json".into())]);
    }

    #[test]
    fn objects_that_nobody_uses_leave_watches_to_those_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let backend = crate::backend::DirBackend::open(dir.path()).unwrap();
        let fs = Fs::new(backend, crate::fs::Options::default()).unwrap();
        assert!(fs.watch_all(usize::MAX).unwrap());
        assert_eq!(fs.watch_all.load(Ordering::Relaxed), fs.watcher.limit() / 2);
        fs.store.create(&id("x"), b"{}").unwrap();
        assert!(!fs.watch_all(0).unwrap() && !fs.watcher.is_watched(&id("x")));
    }
}
