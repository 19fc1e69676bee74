//! Nodes by their numbers: what a file handle holds (open_by_handle_at, NFS servers), when the kernel has forgotten the
//! node; and what is left of removed objects.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};

use super::Fs;
use super::attr::{Caller, Found, Ino, NOW, ROOT};
use super::errno::{FsError, Result};
use super::io::{Handle, Opened};
use super::objects::SHOWN_TRIES;
use super::scratch::{self, Dir, ScratchNode};
use super::table::{Node, NodeTable, Shown, object_ino};
use crate::rev::ObjectId;

/// How often a file is followed that has become one after the other.
const HOPS: usize = 16;

impl Fs {
    /// `.` of a number.
    pub(super) fn lookup_self(&self, ino: Ino) -> Result<Found> {
        // The kernel may be forgetting the node at this moment, and then it is found anew.
        for _ in 1..SHOWN_TRIES {
            match self.find_number(ino) {
                Err(FsError::Stale) if self.node(ino).is_ok() || self.object_of(ino)?.is_some() => {}
                found => return found,
            }
        }
        self.find_number(ino)
    }

    fn find_number(&self, ino: Ino) -> Result<Found> {
        match self.node(ino) {
            Ok(Node::Root) => self.found_root(),
            Ok(Node::Revision(shown)) => self.hold_number(&shown.id, ino),
            Ok(Node::Draft(draft)) => self.hold_draft(ino, &draft),
            Ok(Node::Scratch(scratch)) => self.hold_again(ino, &scratch),
            Ok(Node::View(view)) => self.lookup_view(view),
            Err(_) => match self.object_of(ino)? {
                Some(id) => {
                    self.resolve(&id)?;
                    self.nodes().lead_to(&id, ino);
                    self.hold_number(&id, ino)
                }
                None => self.find_scratch(ino),
            },
        }
    }

    /// `..` of a number: handles of directories only are led to their places.
    pub(super) fn lookup_parent(&self, ino: Ino) -> Result<Found> {
        let Ok(Node::Scratch(scratch)) = self.node(ino) else { return self.found_root() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = rustix::fs::openat(scratch.dir()?, "..", flags, Mode::empty())?;
        let top = scratch::key(self.scratch_root()?.as_fd(), OsStr::new(""))?;
        if scratch::key(above.as_fd(), OsStr::new(""))? == top {
            return self.found_root();
        }
        self.hold_scratch(ScratchNode::of(above)?, self.scratch_root()?, OsStr::new(""))
    }

    fn found_root(&self) -> Result<Found> {
        Ok(Found { node: ROOT, attr: self.root_attr()?, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// Counts the kernel's reference to an object's node that it asks for by number.
    fn hold_number(&self, id: &ObjectId, ino: Ino) -> Result<Found> {
        self.come_home(id, ino);
        let mut t = self.nodes();
        let entry = t.nodes.get_mut(&ino).ok_or(FsError::Stale)?;
        let Node::Revision(shown) = entry.node.clone() else { return Err(FsError::Stale) };
        entry.by_number |= entry.lookups == 0;
        entry.lookups += 1;
        Ok(Found { node: ino, attr: self.object_attr(id, &shown.meta), attr_ttl: NOW, entry_ttl: NOW })
    }

    fn hold_again(&self, ino: Ino, scratch: &ScratchNode) -> Result<Found> {
        let attr = self.masked(scratch.attr()?);
        self.nodes().nodes.get_mut(&ino).ok_or(FsError::Stale)?.lookups += 1;
        Ok(Found { node: ino, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// The object that has an inode number, or that the file of that number has become. There is no index of objects'
    /// numbers: all ids are looked at.
    fn object_of(&self, ino: Ino) -> Result<Option<ObjectId>> {
        let ids = self.store.ids()?;
        let mut number = ino;
        for _ in 0..HOPS {
            if let Some(id) = ids.iter().find(|id| object_ino(id) == number) {
                return Ok(Some(id.clone()));
            }
            match self.nodes().what_became_of(number) {
                Some(id) => number = object_ino(&id),
                None => break,
            }
        }
        Ok(None)
    }

    /// What a node shows whose object was removed.
    pub(super) fn removed(&self, ino: Ino) -> Option<Arc<Shown>> {
        match self.node(ino) {
            Ok(Node::Revision(shown)) => Some(shown).filter(|shown| shown.removed.is_some()),
            _ => None,
        }
    }

    /// Opens a removed object once more by what a program has of it, open (`cp /dev/fd/3 t`) or not (a bind mount).
    pub(super) fn open_removed(&self, caller: Caller, ino: Ino) -> Result<Opened> {
        let shown = self.removed(ino).ok_or(FsError::Stale)?;
        let held = self.handles_of(ino).into_iter().find_map(|handle| match &*handle {
            Handle::Revision { file, .. } => Some(file.clone()),
            _ => None,
        });
        let (handle, direct) = match held {
            Some(file) => (Handle::Revision { node: ino, file }, caller.thread == 0),
            None => {
                let gone = self.store.backend().read_removed(&shown.id, &shown.rev);
                (Handle::Bytes { node: ino, bytes: gone.map_err(|_| FsError::Stale)? }, true)
            }
        };
        self.nodes().nodes.get_mut(&ino).ok_or(FsError::Stale)?.handles += 1;
        Ok(Opened { handle: self.add_handle(handle), keep: false, no_flush: true, direct })
    }

    /// The scratch file that has an inode number, found by looking at all of them.
    fn find_scratch(&self, ino: Ino) -> Result<Found> {
        let mut dirs: Vec<Dir> = vec![self.scratch_root()?.clone()];
        while let Some(dir) = dirs.pop() {
            for (name, kind) in scratch::list(dir.as_fd())? {
                if scratch::key(dir.as_fd(), &name).is_ok_and(|(_, number)| number == ino) {
                    return self.hold_scratch(ScratchNode::at(dir.as_fd(), &name)?, &dir, &name);
                }
                if kind == FileType::Directory {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let below: rustix::io::Result<OwnedFd> =
                        rustix::fs::openat(&dir, &name, flags, Mode::empty());
                    dirs.extend(below.ok().map(Arc::new));
                }
            }
        }
        Err(FsError::Stale)
    }
}

impl NodeTable {
    /// Makes a number that nothing has now one of an object's, beside the node that its name leads to.
    fn lead_to(&mut self, id: &ObjectId, ino: Ino) {
        let current = self.current_node(id);
        if let Some(Node::Revision(shown)) =
            current.filter(|current| *current != ino).and_then(|current| self.node(current)).cloned()
            && self.add_at(ino, Node::Revision(shown)) == ino
        {
            self.active_mut(id).stale_nodes.push(ino);
        }
    }
}
