//! Names come and go.
//!
//! The one-update rule: a name that is unlinked or renamed away and soon created again is one update, and the history
//! goes on (vim, `mv` from another file system, `install`, `git checkout`). An unlink is visible to everybody at once
//! and the create brings the history back; a rename away hides the name here and leaves the store alone meanwhile.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode};

use crate::fs::attr::{Caller, Found, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::{Node, Notice, View};
use crate::fs::scratch::ScratchNode;
use crate::fs::{Fs, Name, scratch};
use crate::rev::ObjectId;

impl Fs {
    /// Makes a directory; all that is in it is scratch.
    pub fn mkdir(&self, caller: Caller, parent: Ino, name: &OsStr, perm: u32) -> Result<Found> {
        self.make(Some(caller), parent, name, |dir| {
            rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(perm & 0o7777))?;
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(perm & 0o7777), AtFlags::empty())
        })
    }

    /// Makes a fifo, socket, device node or file. An object's name becomes an empty draft.
    pub fn mknod(&self, caller: Caller, parent: Ino, name: &OsStr, mode: u32, rdev: u32) -> Result<Found> {
        let kind = FileType::from_raw_mode(mode as _);
        if kind == FileType::RegularFile {
            let flags = rustix::fs::OFlags::EXCL | rustix::fs::OFlags::WRONLY;
            let (found, opened) =
                self.create(caller, parent, name, mode & 0o7777, super::Mode::new(flags.bits() as i32))?;
            self.release(opened.handle);
            return Ok(found);
        }
        let perm = Mode::from_raw_mode(mode & 0o7777);
        self.make(Some(caller), parent, name, |dir| {
            rustix::fs::mknodat(dir, name, kind, perm, u64::from(rdev))?;
            rustix::fs::chmodat(dir, name, perm, AtFlags::empty())
        })
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, caller: Caller, parent: Ino, name: &OsStr, target: &OsStr) -> Result<Found> {
        // Whose a link is decides nothing, and sshfs gives away what it leads to, though that is root's.
        let caller = self.backend.medium().is_local().then_some(caller);
        self.make(caller, parent, name, |dir| rustix::fs::symlinkat(target, dir, name))
    }

    /// Gives a scratch file another name. An object has one name: a link to it is a scratch file with its text, and a link
    /// under its name makes it (`gawk -i inplace` with a suffix, Python's atomicwrites).
    pub fn link(&self, caller: Caller, ino: Ino, parent: Ino, name: &OsStr) -> Result<Found> {
        let node = match (self.node(ino)?, self.node(parent)?) {
            (Node::Scratch(node), Node::Root) => match Name::of(name)? {
                Name::Object(id) => return self.link_to_object(caller, &node, &id),
                _ => node,
            },
            (Node::Scratch(node), _) => node,
            (Node::Revision(shown), _) => return self.link_of_object(&shown.id, parent, name),
            (Node::Draft(draft), _) => {
                let id = draft.lock().id.clone();
                return self.link_of_object(&id, parent, name);
            }
            (Node::Root | Node::View(_), _) => return Err(FsError::NotPermitted("a view has one name")),
        };
        let dir = self.scratch_dir(parent, name)?;
        // AT_EMPTY_PATH needs a capability; the magic link does not.
        let file = node.fd()?;
        rustix::fs::linkat(rustix::fs::CWD, scratch::proc_path(&file), &dir, name, AtFlags::SYMLINK_FOLLOW)?;
        self.lookup_scratch(parent, &dir, name)
    }

    fn link_of_object(&self, id: &ObjectId, parent: Ino, name: &OsStr) -> Result<Found> {
        let dir = match self.scratch_dir(parent, name) {
            Err(FsError::NotPermitted(_)) => return Err(FsError::NotPermitted("an object has one name")),
            dir => dir?,
        };
        let (_, shown, text) = self.shown(id, true)?;
        let node = scratch::replace(dir.as_fd(), name, &text, &self.object_attr(id, &shown.meta), true)?;
        self.memory.moved(node.key, id, &shown.rev);
        self.hold_scratch(node, &dir, name)
    }

    fn link_to_object(&self, caller: Caller, file: &ScratchNode, id: &ObjectId) -> Result<Found> {
        if self.taken(id)? {
            return Err(FsError::Exists);
        }
        self.save_scratch(caller, file, id)?;
        self.notify_kernel(self.notices().with(Notice::Root));
        self.hold_shown(id)
    }

    /// Removes a directory.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Scratch => Ok(rustix::fs::unlinkat(self.scratch_root()?, name, AtFlags::REMOVEDIR)?),
                Name::View(_) => Err(FsError::NotPermitted("views are always there")),
                Name::Object(_) => Err(FsError::NotADirectory),
            },
            Node::Scratch(dir) => Ok(rustix::fs::unlinkat(dir.dir()?, name, AtFlags::REMOVEDIR)?),
            Node::View(_) => Err(FsError::NotPermitted("views are always there")),
            Node::Revision(_) | Node::Draft(_) => Err(FsError::NotADirectory),
        }
    }

    /// Removes a name. An object goes at once, for everybody, and can be brought back.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Scratch => Ok(rustix::fs::unlinkat(self.scratch_root()?, name, AtFlags::empty())?),
                Name::View(_) => Err(FsError::NotPermitted("views are always there")),
                Name::Object(id) => self.unlink_object(&id),
            },
            Node::Scratch(dir) => Ok(rustix::fs::unlinkat(dir.dir()?, name, AtFlags::empty())?),
            Node::View(View::Conflict(id)) => self.discard(&id, name),
            Node::View(View::DraftsOf(id)) => self.drop_draft(&id, name),
            Node::View(_) => Err(FsError::NotPermitted("views are read-only")),
            Node::Revision(_) | Node::Draft(_) => Err(FsError::NotADirectory),
        }
    }
}
