//! Directories.
//!
//! A stream is kept as it was read, from when it is read from the start on: cookies stay valid, and nothing that is there
//! all the time comes twice or is left out while others create and delete. A large store is still being listed when the
//! first names are given out. The kernel keeps what it has read of the root until a name comes or goes.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rustix::fs::FileType;

use crate::fs::Fs;
use crate::fs::attr::{Attr, Caller, Found, Ino, NOW, ROOT};
use crate::fs::dir_stream::{DirItem, Listed, Listing, OpenedDir, Stream};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::Handle;
use crate::fs::ino::object_ino;
use crate::fs::list::root::scratch_items;
use crate::fs::node::Node;
use crate::rev::ObjectId;

mod root;

impl Fs {
    /// Opens a directory.
    pub fn opendir(&self, caller: Caller, ino: Ino) -> Result<OpenedDir> {
        self.admit(caller, false)?;
        let root = match self.node(ino)? {
            Node::Revision(_) | Node::Draft(_) => return Err(FsError::NotADirectory),
            Node::Root => true,
            Node::Scratch(_) | Node::View(_) => false,
        };
        if root {
            self.drain();
        }
        let mut t = self.nodes();
        t.nodes.get_mut(&ino).ok_or(FsError::Stale)?.handles += 1;
        drop(t);
        let handle = self
            .add_handle(caller, Handle::Directory { node: ino, stream: Mutex::new(None), user: caller.uid });
        let keep = root
            && self.watcher.hears_all()
            && self.root_listed.load(Ordering::Acquire) == self.root_epoch.load(Ordering::Acquire)
            && self.kept_ids().is_ok_and(|kept| kept == *self.root_kept.lock());
        Ok(OpenedDir { handle, cache: root && self.watcher.hears_all(), keep })
    }

    /// Entries from `offset` on, each with the offset that follows it, until `add` says that there is no more room.
    pub fn readdir(
        &self,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(Listed<'_>, u64) -> bool,
    ) -> Result<()> {
        let handle = self.handle(handle)?;
        let Handle::Directory { node, stream, user } = &*handle else { return Err(FsError::NotADirectory) };
        let mut stream = stream.lock();
        let Stream { listing, walk, share } = match &mut *stream {
            Some(stream) if offset > 0 => stream,
            stream => stream.insert(self.list(*node, *user)?),
        };
        for i in usize::try_from(offset).unwrap_or(usize::MAX)..usize::MAX {
            while listing.len() <= i
                && let Some(going) = walk
            {
                if !self.walk_on(going, listing)? {
                    *walk = None;
                }
            }
            let Some(item) = listing.get(i) else { break };
            if add(item, i as u64 + 1) {
                break;
            }
        }
        share.set(listing.bytes());
        Ok(())
    }

    /// As [`readdir`](Self::readdir), each with what a lookup finds; `None` for `.` and `..`. The kernel holds what it is
    /// given until it forgets it.
    pub fn readdirplus(
        &self,
        caller: Caller,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(Listed<'_>, u64, Option<&Found>) -> bool,
    ) -> Result<()> {
        let dir = self.handle(handle)?.node();
        self.readdir(handle, offset, |item, next| {
            if item.name == "." || item.name == ".." {
                return add(item, next, None);
            }
            if let Some(found) = self.unheld(dir, item) {
                return add(item, next, Some(&found));
            }
            let found = match self.lookup(caller, dir, item.name) {
                Ok(found) => found,
                // Gone since, or nothing that its name could show.
                Err(FsError::NotFound) => return false,
                // It is there, whatever is wrong (no descriptor left): who goes on to use it is told. `rsync --delete` would
                // remove what it did not see. Node 0 is none: the kernel asks for it by its name.
                Err(_) => {
                    let attr = Attr { kind: item.kind, ..Attr::dot(0) };
                    return add(item, next, Some(&Found { node: 0, attr, attr_ttl: NOW, entry_ttl: NOW }));
                }
            };
            let full = add(item, next, Some(&found));
            if full {
                self.forget(found.node, 1);
            }
            full
        })
    }

    /// What to say of an object in a listing when enough nodes are remembered: its number, and that the kernel is to ask
    /// before it uses it. The kernel then knows a node that is not known here. Nobody can have it open, and the
    /// attributes, which are made up, count for no moment.
    fn unheld(&self, dir: Ino, item: Listed<'_>) -> Option<Found> {
        let id = ObjectId::from_file_name(item.name).filter(|_| dir == ROOT)?;
        let t = self.nodes();
        if !t.is_full() || t.objects.contains_key(&id) || t.node(object_ino(&id)).is_some() {
            return None;
        }
        let attr = Attr { kind: FileType::RegularFile, perm: 0o600, ..Attr::dot(object_ino(&id)) };
        Some(Found { node: attr.ino, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// Begins to list a directory. All but the root are read at once.
    fn list(&self, ino: Ino, user: u32) -> Result<Stream> {
        let mut listing = Listing::default();
        for (name, ino) in [(".", ino), ("..", ROOT)] {
            listing.add(&DirItem { name: name.into(), ino, kind: FileType::Directory });
        }
        let mut walk = None;
        match self.node(ino)? {
            Node::Root => walk = Some(Box::new(self.walk_root()?)),
            Node::Scratch(dir) => scratch_items(dir.dir()?)?.for_each(|item| listing.add(&item)),
            Node::View(view) => self.list_view(&view)?.iter().for_each(|item| listing.add(item)),
            Node::Revision(_) | Node::Draft(_) => return Err(FsError::NotADirectory),
        }
        let share = self.memory_budget.share(user, listing.bytes());
        Ok(Stream { listing, walk, share })
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::backend::{DirBackend, faults};
    use crate::fs::Options;

    #[test]
    fn behind_the_end_of_a_listing_is_nothing_however_far() {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let opened = fs.opendir(Caller { uid: 0, gid: 0, thread: 0 }, ROOT).unwrap();
        let names = |offset| {
            let mut names = 0;
            fs.readdir(opened.handle, offset, |_, _| {
                names += 1;
                false
            })
            .unwrap();
            names
        };
        assert_eq!([0, 1, 2, i64::MAX as u64, u64::MAX - 1, u64::MAX].map(names), [2, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn nothing_is_left_out_that_cannot_be_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x", "y"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join(format!("0-{}", "a".repeat(32))), "{}").unwrap();
        }
        let caller = Caller { uid: 0, gid: 0, thread: 0 };
        for n in 1.. {
            let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
            faults::fail(n, Errno::MFILE);
            let mut names = Vec::new();
            let listed = fs.opendir(caller, ROOT).and_then(|opened| {
                fs.readdirplus(caller, opened.handle, 0, |item, _, _| {
                    names.push(item.name.to_owned());
                    false
                })
            });
            let failed = faults::end();
            names.sort();
            assert!(listed.is_err() || names == [".", "..", "x.json", "y.json"], "{n}: {names:?}");
            if !failed {
                break;
            }
        }
    }
}
