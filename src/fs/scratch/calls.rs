//! Calls on scratch files.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::FileType;

use crate::backend::sys;
use crate::fs::attr::{Caller, Found, Ino, NOW, SCRATCH};
use crate::fs::core::await_release;
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Handle, Mode, Opened};
use crate::fs::node::{Node, Notice};
use crate::fs::scratch::{Dir, ScratchNode};
use crate::fs::{Fs, Name, scratch};

/// How many milliseconds a file that was closed is waited for at most.
const RELEASE: usize = 200;

impl Fs {
    pub(in crate::fs) fn lookup_scratch(&self, parent: Ino, dir: &Dir, name: &OsStr) -> Result<Found> {
        let node = ScratchNode::at(dir.as_fd(), name)?;
        let number = node.ino();
        let mut found = self.hold_scratch(node, dir, name)?;
        if found.node != number && self.nodes().is_left_over(found.node, number) {
            // Asked for before the kernel has let go of what the name was moved from, whose number that one wants back.
            (found.attr_ttl, found.entry_ttl) = (NOW, NOW);
            self.notify_kernel(self.notices().with(Notice::EntryIn(parent, name.to_owned())));
        }
        Ok(found)
    }

    /// Counts the kernel's reference to a scratch node and answers with it.
    pub(in crate::fs) fn hold_scratch(&self, node: ScratchNode, dir: &Dir, name: &OsStr) -> Result<Found> {
        let attr = self.masked(node.attr()?);
        let ttl = self.scratch_ttl();
        let mut t = self.nodes();
        let (ino, new) = t.add_scratch(node, dir, name, attr.kind);
        t.nodes.get_mut(&ino).ok_or(FsError::Stale)?.lookups += 1;
        drop(t);
        if let Some(new) = new {
            new.enlist();
        }
        Ok(Found { node: ino, attr, attr_ttl: ttl, entry_ttl: ttl })
    }

    /// How long what is told of scratch files stays true: not at all while another mount may change them.
    pub(in crate::fs) fn scratch_ttl(&self) -> Duration {
        if self.mount_lock.is_sole_mount() { SCRATCH } else { NOW }
    }

    pub(in crate::fs) fn make(
        &self,
        caller: Option<Caller>,
        parent: Ino,
        name: &OsStr,
        make: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Result<Found> {
        let dir = self.scratch_dir(parent, name)?;
        let fd = dir.as_fd();
        self.hold_scratch(scratch::make(fd, name, caller, || make(fd))?, &dir, name)
    }

    pub(in crate::fs) fn hold_again(&self, ino: Ino, scratch: &ScratchNode) -> Result<Found> {
        let attr = self.masked(scratch.attr()?);
        self.nodes().nodes.get_mut(&ino).ok_or(FsError::Stale)?.lookups += 1;
        Ok(Found { node: ino, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// The scratch file that has an inode number, found by looking at all of them.
    pub(in crate::fs) fn find_scratch(&self, ino: Ino) -> Result<Found> {
        let mut dirs: Vec<Dir> = vec![self.scratch_root()?.clone()];
        while let Some(dir) = dirs.pop() {
            for (name, kind) in scratch::list(dir.as_fd())? {
                if scratch::key(dir.as_fd(), &name).is_ok_and(|(_, number)| number == ino) {
                    return self.hold_scratch(ScratchNode::at(dir.as_fd(), &name)?, &dir, &name);
                }
                if kind == FileType::Directory {
                    dirs.extend(sys::dir(dir.as_fd(), &name).ok().map(Arc::new));
                }
            }
        }
        Err(FsError::Stale)
    }

    pub(in crate::fs) fn opened_scratch(
        &self,
        caller: Caller,
        node: Ino,
        scratch: Arc<ScratchNode>,
        file: File,
        mode: Mode,
    ) -> Opened {
        scratch.add_handle(mode.write);
        if let Some(entry) = self.nodes().nodes.get_mut(&node) {
            entry.handles += 1;
        }
        if mode.read
            && let Some((id, rev)) = self.memory.moved_from(scratch.key)
        {
            self.note_read(caller, &id, &rev);
        }
        let writer = if mode.write { self.process(caller) } else { None };
        if let Some(writer) = &writer {
            self.memory.wrote(writer, scratch.key);
            scratch.closed.store(false, Ordering::Release);
        }
        // A copy of what the process has read again may be made. Who closes the file can be asked nothing any more.
        let copier = writer.filter(|_| self.memory.any_reread());
        let handle =
            self.add_handle(caller, Handle::Scratch { node, scratch, file, write: mode.write, copier });
        Opened { handle, keep: false, no_flush: !mode.write, direct: false }
    }

    /// The kernel knows a file that a draft has become under its name as another node, which has changed with it.
    pub(in crate::fs) fn tell_moved(&self, node: Ino) {
        let mut notices = self.notices();
        let t = self.nodes();
        let named = match t.node(node) {
            Some(Node::Scratch(scratch)) => {
                t.scratch.get(&scratch.key).copied().filter(|named| *named != node)
            }
            _ => None,
        };
        drop(t);
        notices.extend(named.map(Notice::Attr));
        self.notify_kernel(notices);
    }

    /// The node of a scratch file, if programs have it open for writing.
    pub(in crate::fs) fn writer_of(&self, file: &ScratchNode) -> Option<Arc<ScratchNode>> {
        let t = self.nodes();
        match t.node(*t.scratch.get(&file.key)?)? {
            Node::Scratch(node) if node.has_writers() => Some(node.clone()),
            _ => None,
        }
    }

    /// Whether programs write a scratch file, asked again while its last writer's release may be under way: the kernel tells
    /// of that some time after the program's close has returned.
    pub(in crate::fs) fn is_written(&self, file: &ScratchNode) -> bool {
        let closed = |node: &ScratchNode| node.closed.load(Ordering::Acquire);
        await_release(RELEASE, || self.writer_of(file).is_some_and(|node| closed(&node)));
        self.writer_of(file).is_some()
    }

    /// A scratch file has another name: the descriptor that its node holds can be found again there.
    pub(in crate::fs) fn found_at(&self, dir: &Dir, name: &OsStr) {
        if let Ok(key) = scratch::key(dir.as_fd(), name) {
            let t = self.nodes();
            if let Some(Node::Scratch(node)) = t.scratch.get(&key).and_then(|ino| t.node(*ino)) {
                node.add_place(dir, name);
            }
        }
    }

    /// The directory where a new scratch name goes.
    pub(in crate::fs) fn scratch_dir(&self, parent: Ino, name: &OsStr) -> Result<Dir> {
        match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Scratch => Ok(self.scratch_root()?.clone()),
                Name::View(_) => Err(FsError::Exists),
                Name::Object(_) => Err(FsError::NotPermitted("an object is a regular file")),
            },
            Node::Scratch(dir) => Ok(dir.dir()?.clone()),
            Node::View(_) => Err(FsError::NotPermitted("views hold only what the store holds")),
            Node::Revision(_) | Node::Draft(_) => Err(FsError::NotADirectory),
        }
    }
}
