//! Names come and go.
//!
//! The one-update rule: a name that is unlinked or renamed away and soon created again is one update, and the history
//! goes on (vim, `mv` from another file system, `install`, `git checkout`). An unlink is visible to everybody at once
//! and the create brings the history back; a rename away hides the name here and leaves the store alone meanwhile.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode};

use super::attr::{Caller, Found, Ino, NOW, SCRATCH};
use super::errno::{FsError, Result};
use super::scratch::{self, Dir, ScratchNode};
use super::table::{Deleted, Node, Notice};
use super::{Fs, Name, views::View};
use crate::base::Process;
use crate::draft::Draft;
use crate::rev::ObjectId;

impl Fs {
    pub(super) fn lookup_scratch(&self, dir: &Dir, name: &OsStr) -> Result<Found> {
        self.hold_scratch(ScratchNode::at(dir.as_fd(), name)?, dir, name)
    }

    /// Counts the kernel's reference to a scratch node and answers with it.
    pub(super) fn hold_scratch(&self, node: ScratchNode, dir: &Dir, name: &OsStr) -> Result<Found> {
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
    pub(super) fn scratch_ttl(&self) -> Duration {
        if self.mount_lock.is_sole_mount() { SCRATCH } else { NOW }
    }

    /// The directory where a new scratch name goes.
    fn scratch_dir(&self, parent: Ino, name: &OsStr) -> Result<Dir> {
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

    fn make(
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
        self.lookup_scratch(&dir, name)
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
    pub fn unlink(&self, caller: Caller, parent: Ino, name: &OsStr) -> Result<()> {
        if self.is_replay(caller) {
            return Ok(());
        }
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

    fn unlink_object(&self, id: &ObjectId) -> Result<()> {
        match self.resolve(id) {
            Ok(_) => {}
            Err(FsError::NotFound) => {
                if !self.unlink_fresh(id)? {
                    return Err(FsError::NotFound);
                }
                self.notify_kernel(self.notices().with(Notice::Root));
                return Ok(());
            }
            Err(fail) => return Err(fail),
        }
        self.delete(id, None)
    }

    /// Removes the draft that a name shows where there is no object. Whether there was one.
    pub(super) fn unlink_fresh(&self, id: &ObjectId) -> Result<bool> {
        let Some((_, draft)) = self.fresh_draft(id)? else { return Ok(false) };
        draft.lock().unlinked = true;
        self.nodes().active_mut(id).new_draft = None;
        self.discard_fresh(id);
        Ok(true)
    }

    /// The drafts of an object that programs have open.
    pub(super) fn open_drafts(&self, id: &ObjectId) -> Vec<Arc<Mutex<Draft>>> {
        self.drafts_by(id, |_| true).into_iter().map(|(_, draft)| draft).collect()
    }

    /// The drafts of an object that processes for which `opened` holds have open, in the order in which they were.
    pub(super) fn drafts_by(
        &self,
        id: &ObjectId,
        opened: impl Fn(&Option<Process>) -> bool,
    ) -> Vec<(Ino, Arc<Mutex<Draft>>)> {
        let t = self.nodes();
        let nodes = t.drafts(id);
        let drafts = nodes.iter().filter(|(_, opener)| opened(opener)).filter_map(|(node, _)| {
            let Some(Node::Draft(draft)) = t.node(*node) else { return None };
            Some((*node, draft.clone()))
        });
        drafts.collect()
    }

    /// Deletes an object for everybody; programs that write it go on writing a file without a name. `into`: it was a temporary
    /// file, whose text has become that object's.
    pub(super) fn delete(&self, id: &ObjectId, into: Option<&ObjectId>) -> Result<()> {
        let drafts = self.open_drafts(id);
        let mark = |unlinked| drafts.iter().for_each(|draft| draft.lock().unlinked = unlinked);
        // First, for a commit that is under way (a child that was forked closes its copy of a descriptor) would make the
        // object anew after it was deleted.
        mark(true);
        let change = self.echoes.begin(id);
        let passed = into.map_or(Ok(false), |into| self.store.pass_on(id, into));
        let op = match passed.inspect_err(|_| mark(false))? {
            true => None,
            false => Some(self.store.delete(id).inspect_err(|_| mark(false))?),
        };
        change.made(None);
        let mut notices = self.notices().with(Notice::Root);
        let mut t = self.nodes();
        t.hide(id, &mut notices);
        t.bump_version(id);
        let active = t.active_mut(id);
        // What is written into them is no text of this name's next file.
        active.drafts.clear();
        active.end_waits();
        active.deleted = op.map(|op| Deleted { since: Instant::now(), op });
        drop(t);
        self.notify_kernel(notices);
        self.echoes.left_behind(id);
        Ok(())
    }
}
