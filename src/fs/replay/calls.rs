//! The calls that the replaying process makes, and what they are told.

use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::{Attr, Caller, Found, Ino, NOW, ROOT};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::Opened;
use crate::fs::ino::{REPLAY_DIR, REPLAY_TARGET};
use crate::fs::node::{Node, Notice};
use crate::fs::replay::{DIR, ReplayCall};
use crate::rev::ObjectId;

impl Fs {
    /// From now on calls by the process `pid` are replays. 0 ends that.
    pub fn replay_as(&self, pid: u32) {
        self.replay.pid.store(pid, Ordering::Relaxed);
    }

    /// Watches every object, if there are at most `limit` and half of the watches suffice, for those in use need some:
    /// changes of objects that no program has looked at are then replayed, too. Returns whether it does.
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

    /// Waits for changes that programs are to be told of; `false` once [`stop_replay`](Self::stop_replay) was called.
    pub fn wait_for_replay(&self) -> bool {
        self.replay.wait()
    }

    /// The calls that tell programs of changes.
    pub fn replay_calls(&self) -> Vec<ReplayCall> {
        let mut calls = Vec::new();
        for (id, change) in self.replay.take() {
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
            if self.replay.put_back(&id, change, asked) {
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
                calls.extend(self.replay.decide(&id, change, now));
            }
            let mut t = self.nodes();
            let current = t.current_node(&id);
            let saved_elsewhere = current
                .and_then(|current| t.nodes.get_mut(&current))
                .is_some_and(|entry| std::mem::take(&mut entry.saved_elsewhere));
            let former = t.stale_nodes(&id);
            // The kernel may hear late that the name leads to another node, and the name be touched at one of these.
            let misled = !former.is_empty() || !t.drafts(&id).is_empty();
            let nodes =
                former.iter().copied().chain(t.nodes_in_place(&id).filter(|node| !former.contains(node)));
            let nodes = nodes.chain(current.filter(|_| saved_elsewhere || misled));
            let held = nodes.filter(|node| t.nodes.get(node).is_some_and(|e| e.lookups > 0));
            calls.extend(held.map(|node| {
                let name = node.to_string().into();
                if gone { ReplayCall::NodeDeleted(name) } else { ReplayCall::NodeModified(name) }
            }));
        }
        calls
    }

    /// Ends the wait for changes, for good.
    pub fn stop_replay(&self) {
        self.replay.end();
    }

    /// The file system of a caller that is the replaying process.
    pub fn replay_by(&self, caller: Caller) -> Option<ReplayFs<'_>> {
        let pid = self.replay.pid.load(Ordering::Relaxed);
        (pid != 0 && pid == caller.thread).then_some(ReplayFs { fs: self })
    }

    /// The file system that a handle is of, if that is the replay's. Who closes is not told to a release.
    pub fn replay_of(&self, handle: u64) -> Option<ReplayFs<'_>> {
        (handle & HANDLE != 0).then_some(ReplayFs { fs: self })
    }
}

/// What tells a handle of the replay's from programs': the rest is the node's number.
const HANDLE: u64 = 1 << 63;

/// The file system that the replaying process has. Its nodes are those of programs, for what a name leads to is the same
/// for all who ask the kernel; the references that the kernel has to them count, and no handle does.
pub struct ReplayFs<'a> {
    fs: &'a Fs,
}

impl ReplayFs<'_> {
    /// Names in the root directory, and numbers of nodes in [`DIR`].
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Found> {
        match parent {
            ROOT if name == DIR => self.hold(REPLAY_DIR),
            ROOT => self.lookup_object(&ObjectId::from_file_name(name).ok_or(FsError::NotFound)?),
            REPLAY_DIR => self.hold(name.to_str().and_then(|name| name.parse().ok()).unwrap_or_default()),
            _ => Err(FsError::NotFound),
        }
    }

    fn lookup_object(&self, id: &ObjectId) -> Result<Found> {
        let (coming, leaving) = {
            let mut state = self.fs.replay.state.lock();
            // The kernel looks once more where it knew the name for another node: a name that leaves is there until it is unlinked.
            (state.coming.remove(id), state.leaving.contains(id))
        };
        if coming {
            return Err(FsError::NotFound);
        }
        if !leaving {
            return self.fs.hold_shown(id);
        }
        // The node that the name led to last: who watches it hears that it went.
        let last = self.fs.nodes().stale_nodes(id).last().copied();
        last.and_then(|node| self.hold(node).ok()).map_or_else(|| self.hold(REPLAY_TARGET), Ok)
    }

    /// Counts the kernel's reference to a node that it knows already; of the replay's own none are counted.
    fn hold(&self, node: Ino) -> Result<Found> {
        if let Ok(Node::Draft(draft)) = self.fs.node(node) {
            return self.fs.hold_draft(node, &draft);
        }
        let attr = self.setattr(node).map_err(|_| FsError::NotFound)?;
        if node < REPLAY_DIR {
            self.fs.nodes().nodes.get_mut(&node).ok_or(FsError::NotFound)?.lookups += 1;
        }
        Ok(Found { node, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// As programs are told, but for what only the replay has.
    pub fn getattr(&self, caller: Caller, node: Ino, handle: Option<u64>) -> Result<(Attr, Duration)> {
        match node {
            REPLAY_DIR | REPLAY_TARGET => Ok((self.setattr(node)?, NOW)),
            _ => self.fs.getattr(caller, node, handle),
        }
    }

    /// The attributes as they are, whatever is to be set.
    pub fn setattr(&self, node: Ino) -> Result<Attr> {
        let fs = self.fs;
        match node {
            REPLAY_DIR => fs.synthetic(node, FileType::Directory, fs.root_attr()?.perm & 0o1777, 4096),
            REPLAY_TARGET => fs.synthetic(node, FileType::RegularFile, 0o600, 0),
            _ => match fs.node(node)? {
                Node::Revision(shown) => {
                    let attr = fs.object_attr(&shown.id, &shown.meta);
                    Ok(fs.nodes().attr_as_linked(&shown.id, (attr, NOW)).0)
                }
                Node::Draft(draft) => {
                    let attr = fs.draft_attr(&draft.lock());
                    // The kernel takes it for the size when its writer may have got further.
                    if let Some(lent) = fs.nodes().in_place.get_mut(&node) {
                        lent.sized_otherwise = true;
                    }
                    Ok(attr)
                }
                _ => Err(FsError::Invalid),
            },
        }
    }

    /// Nothing will be read or written, and the node's pages stay. A kernel before 5.16 asks to flush all the same; nobody
    /// minds that it fails.
    pub fn open(&self, node: Ino) -> Result<Opened> {
        if let Some(entry) = self.fs.nodes().nodes.get_mut(&node) {
            entry.replays += 1;
        }
        Ok(Opened { handle: HANDLE | node, keep: true, no_flush: true, direct: false })
    }

    /// What others have created is there.
    pub fn create(&self, name: &OsStr) -> Result<(Found, Opened)> {
        let id = ObjectId::from_file_name(name).ok_or(FsError::NotFound)?;
        let found = self.fs.hold_shown(&id)?;
        self.open(found.node).map(|opened| (found, opened))
    }

    /// It has gone, or stays.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        if let (ROOT, Some(id)) = (parent, ObjectId::from_file_name(name)) {
            self.fs.replay.state.lock().leaving.remove(&id);
        }
        Ok(())
    }

    /// The kernel need not keep the node under its number.
    pub fn release(&self, handle: u64) {
        let node = handle & !HANDLE;
        let object = {
            let mut t = self.fs.nodes();
            if let Some(entry) = t.nodes.get_mut(&node) {
                entry.replays = entry.replays.saturating_sub(1);
            }
            t.reap(node);
            t.home_of(node)
        };
        if let Some(id) = object {
            self.fs.come_home(&id, node);
        }
        let name = node.to_string().into();
        self.fs.notify_kernel(self.fs.notices().with(Notice::EntryIn(REPLAY_DIR, name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::replay::*;

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    fn rev(generation: u64) -> Rev {
        Rev::new(format!("{generation}-{}", "a".repeat(32))).unwrap()
    }

    fn replay() -> Replay {
        let replay = Replay::default();
        replay.pid.store(1, Ordering::Relaxed);
        replay
    }

    fn told(replay: &Replay, events: &[Event], now: Option<Rev>) -> Vec<ReplayCall> {
        replay.on_events(events.iter());
        let taken = replay.take();
        let foreign = taken.into_iter().filter(|(_, change)| change.foreign);
        foreign.filter_map(|(id, change)| replay.decide(&id, change, now.clone())).collect()
    }

    #[test]
    fn each_change_by_others_is_told_once() {
        let e = replay();
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
        let e = replay();
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
        let e = replay();
        let (x, y) = (id("x"), id("y"));
        let change = e.begin(&x);
        let events =
            [Event::Store(x.clone(), true), Event::Object(x.clone(), None), Event::Store(y.clone(), true)];
        assert_eq!(told(&e, &events, Some(rev(0))), [ReplayCall::Created("y.json".into())]);
        change.made(Some(&rev(0)));
        assert_eq!(told(&e, &[], Some(rev(0))), []);
        // Taken before the change began, judged while it goes on or after it.
        e.on_events([Event::Object(x.clone(), None)].iter());
        let (_, pending) = e.take().remove(0);
        let asked = Instant::now();
        let change = e.begin(&x);
        assert!(e.put_back(&x, pending, asked));
        change.made(None);
        assert!(e.put_back(&x, pending, asked));
        assert_eq!(told(&e, &[], None), []);
        // Signs do not wait for ever.
        let _saving = e.begin(&y);
        e.on_events([Event::Store(y.clone(), false)].iter());
        assert!(e.take().is_empty());
        e.state.lock().pending.get_mut(&y).unwrap().since = Instant::now().checked_sub(MAX_HOLD);
        let (_, pending) = e.take().remove(0);
        assert!(!e.put_back(&y, pending, asked));
        assert_eq!(e.decide(&y, pending, None), Some(ReplayCall::Deleted("y.json".into())));
        // A change that failed holds nothing up, and what others did is told.
        e.on_events([Event::Store(x.clone(), true)].iter());
        drop(e.begin(&x));
        assert_eq!(told(&e, &[], Some(rev(2))), [ReplayCall::Created("x.json".into())]);
    }

    #[test]
    fn a_name_that_leaves_is_there_until_it_is_unlinked() {
        let dir = tempfile::tempdir().unwrap();
        let backend = crate::backend::DirBackend::open(dir.path()).unwrap();
        let fs = Fs::new(backend, crate::fs::Options::default()).unwrap();
        let (x, name) = (id("x"), OsStr::new("x.json"));
        let left = PendingChange { foreign: true, left: true, ..PendingChange::default() };
        let replay = ReplayFs { fs: &fs };
        let begin = || assert!(matches!(fs.replay.decide(&x, left, None), Some(ReplayCall::Deleted(_))));
        begin();
        // The kernel knew the name for another node, and asks again.
        assert!(replay.lookup(ROOT, name).is_ok() && replay.lookup(ROOT, name).is_ok());
        replay.unlink(ROOT, name).unwrap();
        assert!(replay.lookup(ROOT, name).is_err());
        // It came again before it was unlinked.
        fs.replay.state.lock().told.clear();
        begin();
        assert!(fs.replay.decide(&x, left, Some(rev(1))).is_some());
        fs.replay.state.lock().coming.clear();
        assert!(replay.lookup(ROOT, name).is_err());
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
