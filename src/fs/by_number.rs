//! Nodes by their numbers: what a file handle holds (open_by_handle_at, NFS servers), when the kernel has forgotten the
//! node; and what is left of removed objects.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use crate::fs::attr::{Found, Ino, NOW, ROOT};
use crate::fs::errno::{FsError, Result};
use crate::fs::ino::object_ino;
use crate::fs::node::Node;
use crate::fs::object::shown::SHOWN_TRIES;
use crate::fs::scratch::ScratchNode;
use crate::fs::table::NodeTable;
use crate::fs::{Fs, scratch};
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
