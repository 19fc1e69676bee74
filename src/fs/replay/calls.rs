//! The calls that the replaying process makes, and what they are told.

use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::{Attr, Found, Ino, NOW};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Handle, Opened};
use crate::fs::node::{Node, Notice, View};
use crate::fs::replay::{DIR, ReplayCall};
use crate::rev::ObjectId;
use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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

    pub(in crate::fs) fn lookup_for_replay(&self, parent: Ino, name: &OsStr) -> Result<Found> {
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
    pub(in crate::fs) fn open_echo(&self, node: Ino) -> Result<Opened> {
        let handle = self.add_handle(Handle::Echo { node });
        Ok(Opened { handle, keep: true, no_flush: true, direct: false })
    }

    pub(in crate::fs) fn create_echo(&self, name: &OsStr) -> Result<(Found, Opened)> {
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
    pub(in crate::fs) fn attr_for_echo(&self, node: Ino) -> Result<Attr> {
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
    pub(in crate::fs) fn end_echo(&self, node: Ino) {
        self.notify_kernel(self.notices().with(Notice::Echoed(node)));
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
