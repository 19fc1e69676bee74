//! What every call needs: the locked table, what the kernel is told, handles, and who calls.
//!
//! What a change of the table asks for and that may wait for a disk (the end of a watch, the close of a file) is noted in
//! the table, and done when the lock is given back. Debug builds assert that no system call of the backend and none on a
//! watch is made while it is held.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use log::warn;
use parking_lot::{Mutex, MutexGuard, RwLockReadGuard};
use rustix::fs::{FileType, OFlags, StatVfs};
use rustix::io::Errno;

use crate::backend::{Durability, Meta, NoIo};
use crate::base::Process;
use crate::draft::Draft;
use crate::fs::APART;
use crate::fs::attr::{Attr, Caller, Ino, ROOT};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Handle, Mode};
use crate::fs::ino::object_ino;
use crate::fs::node::{Node, Notice, Shown};
use crate::fs::table::NodeTable;
use crate::fs::{Fs, attr, scratch};
use crate::rev::{ObjectId, Rev};

/// The locked table.
pub(in crate::fs) struct Locked<'a> {
    fs: &'a Fs,
    table: MutexGuard<'a, NodeTable>,
    no_io: Option<NoIo>,
}

impl Fs {
    /// Locks the node table. Nothing that may wait for a disk, for the kernel or for a program is done meanwhile.
    pub(in crate::fs) fn nodes(&self) -> Locked<'_> {
        Locked { fs: self, table: self.nodes.lock(), no_io: Some(NoIo::begin()) }
    }

    /// Ends the watches of objects that were forgotten, but for those that somebody has come to know since: he counts on it.
    fn unwatch_forgotten(&self, ids: &[ObjectId]) {
        for id in ids {
            if !self.watches_idle() {
                self.watcher.unwatch(id, || !self.nodes.lock().objects.contains_key(id));
            }
        }
    }

    pub(in crate::fs) fn scratch_root(&self) -> Result<&scratch::Dir> {
        self.scratch.as_ref().ok_or(FsError::NotFound)
    }

    pub(in crate::fs) fn drafts_root(&self) -> Result<BorrowedFd<'_>> {
        self.drafts.as_ref().map(AsFd::as_fd).ok_or(FsError::NotFound)
    }

    pub(in crate::fs) fn durability(&self) -> Durability {
        self.options.durability
    }

    /// Saves are not waited for.
    pub fn is_async(&self) -> bool {
        self.durability() == Durability::Async
    }

    /// Waits until something was saved that nobody waited for.
    pub fn await_unsynced(&self) {
        self.backend.await_unsynced();
    }

    /// Brings to the disk what was saved and not waited for.
    pub fn sync_point(&self) {
        if let Err(e) = self.backend.sync_point() {
            log::error!("{e}: what was saved a moment ago may not survive a power cut");
        }
    }

    /// What the kernel is to be told of a change of the tables, which are not locked yet.
    pub(in crate::fs) fn notices(&self) -> Notices<'_> {
        Notices { list: Vec::new(), _telling: self.telling.read_recursive() }
    }

    /// Has the kernel ask for the size of a node that was just opened; whether it will. It may have the old one: it makes its
    /// node when it takes the answer to a lookup, and what it was told of the number before that is gone.
    pub(in crate::fs) fn has_size_asked(&self, node: Ino) -> bool {
        let told = self.telling.try_write_for(TOLD).is_some();
        if told {
            if let Some(kernel) = self.kernel.get() {
                kernel.forget_attr(node);
            }
            if let Some(entry) = self.nodes().nodes.get_mut(&node) {
                entry.asked = true;
            }
        }
        told
    }

    /// Carries out what a change of the tables asks for; no lock may be held.
    pub(in crate::fs) fn notify_kernel(&self, mut notices: Notices<'_>) {
        let Some(kernel) = self.kernel.get() else { return };
        for notice in notices.list.drain(..) {
            match notice {
                Notice::Attr(node) => kernel.forget_attr(node),
                Notice::Entry(name) => kernel.forget_entry(ROOT, &name),
                Notice::EntryIn(parent, name) => kernel.forget_entry(parent, &name),
                Notice::Root => {
                    self.root_epoch.fetch_add(1, Ordering::AcqRel);
                    kernel.forget_attr(ROOT);
                }
            }
        }
    }

    /// Refuses whoever has the daemon hold as much already as it will: before anything is opened. A text is held only for who
    /// `writes`.
    pub(in crate::fs) fn admit(&self, caller: Caller, writes: bool) -> Result<()> {
        match (self.files_budget.admits(caller.uid, 1), !writes || self.memory_budget.admits(caller.uid, 0)) {
            (true, true) => Ok(()),
            (false, _) => Err(FsError::TooManyOpen),
            (true, false) => Err(FsError::NoMemory),
        }
    }

    /// Whether the caller may open what is shown now, where the kernel may have asked that of what was shown before: what is
    /// private and was moved over what is not.
    pub(in crate::fs) fn may_open(
        &self,
        caller: Caller,
        perm: u32,
        owner: (u32, u32),
        mode: Mode,
    ) -> Result<()> {
        let uid = self.options.uid.unwrap_or(owner.0);
        let gid = self.options.gid.unwrap_or(owner.1);
        let wanted = u32::from(mode.read) << 2 | u32::from(mode.write) << 1;
        let perm = perm & !self.options.fmask.unwrap_or(0);
        let class = |shift: u32| perm >> shift & wanted == wanted;
        let (group, others) = (class(3), class(0));
        let may = match caller.uid {
            0 => true,
            own if own == uid => class(6),
            _ if group == others || caller.gid == gid => group,
            _ => match caller.groups() {
                Some(groups) if groups.contains(&gid) => group,
                Some(_) => others,
                None => group || others,
            },
        };
        if may || caller.overrides_modes(mode.write) { Ok(()) } else { Err(FsError::Os(Errno::ACCESS)) }
    }

    /// The same of a revision.
    pub(in crate::fs) fn may_open_shown(&self, caller: Caller, shown: &Shown, mode: Mode) -> Result<()> {
        self.may_open(caller, shown.meta.mode, (shown.meta.uid, shown.meta.gid), mode)
    }

    /// The same of a draft that starts from what is shown now.
    pub(in crate::fs) fn may_begin(&self, caller: Caller, d: &Draft, mode: Mode) -> Result<()> {
        d.mode.zip(d.owner).map_or(Ok(()), |(perm, owner)| self.may_open(caller, perm, owner, mode))
    }

    /// Refuses a text that is longer than the daemon will hold for its writer.
    pub(in crate::fs) fn may_hold(&self, d: &Draft, len: u64) -> Result<()> {
        if d.may_hold(len) { Ok(()) } else { Err(FsError::NoMemory) }
    }

    pub(in crate::fs) fn add_handle(&self, caller: Caller, handle: Handle) -> u64 {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        // A scratch file has two descriptors.
        let cost = if matches!(handle, Handle::Scratch { .. }) { 2 } else { 1 };
        let share = self.files_budget.share(caller.uid, cost);
        self.handles.lock().insert(number, (Arc::new(handle), share));
        number
    }

    /// A handle of bytes that are held for it.
    pub(in crate::fs) fn bytes_handle(&self, caller: Caller, node: Ino, bytes: Vec<u8>) -> Result<Handle> {
        /// Less is bounded by the number of handles.
        const LARGE: usize = 64 << 10;
        let len = bytes.len() as u64;
        if bytes.len() > LARGE && !self.memory_budget.admits(caller.uid, len) {
            return Err(FsError::NoMemory);
        }
        Ok(Handle::Bytes { node, bytes, _share: self.memory_budget.share(caller.uid, len) })
    }

    pub(in crate::fs) fn handle(&self, number: u64) -> Result<Arc<Handle>> {
        self.handles.lock().get(&number).map(|(handle, _)| handle.clone()).ok_or(FsError::BadHandle)
    }

    /// The handles of a node.
    pub(in crate::fs) fn handles_of(&self, node: Ino) -> Vec<Arc<Handle>> {
        let handles = self.handles.lock();
        handles.values().map(|(handle, _)| handle).filter(|handle| handle.node() == node).cloned().collect()
    }

    /// A node has a handle less.
    pub(in crate::fs) fn count_closed(&self, node: Ino) {
        let mut notices = self.notices();
        let doubted = self.nodes().nodes.get_mut(&node).is_some_and(|entry| {
            entry.handles = entry.handles.saturating_sub(1);
            entry.note_closed()
        });
        notices.extend(doubted.then_some(Notice::Attr(node)));
        self.notify_kernel(notices);
    }

    pub(in crate::fs) fn drop_handle_of(&self, node: Ino) {
        self.count_closed(node);
        self.nodes().reap(node);
    }

    /// The draft that a handle reads and writes. A file goes where its name goes: a scratch file that was renamed over an
    /// object while a program has it open has become the object's draft, and the other way round.
    pub(in crate::fs) fn draft_behind(&self, handle: &Handle) -> Option<Arc<Mutex<Draft>>> {
        match handle {
            Handle::Draft { node, draft, .. } => match self.node(*node) {
                Ok(Node::Scratch(_)) => None,
                // Moved away and on to an object's name.
                Ok(Node::Draft(now)) => Some(now),
                _ => Some(draft.clone()),
            },
            Handle::Scratch { node, .. } => match self.node(*node) {
                Ok(Node::Draft(draft)) => Some(draft),
                _ => None,
            },
            _ => None,
        }
    }

    /// Does something to the draft that a handle reads and writes; `None` where it is none. What is moved away at this moment
    /// is waited for.
    pub(in crate::fs) fn with_draft<T>(
        &self,
        handle: &Handle,
        act: impl FnOnce(&Arc<Mutex<Draft>>, &mut Draft) -> T,
    ) -> Option<T> {
        loop {
            let draft = self.draft_behind(handle)?;
            let mut d = draft.lock();
            if self.draft_behind(handle).is_some_and(|now| Arc::ptr_eq(&now, &draft)) {
                return Some(act(&draft, &mut d));
            }
        }
    }

    /// The scratch file that is behind a handle since its name was moved, opened anew: a draft's, or another than the handle
    /// was opened with.
    pub(in crate::fs) fn moved_file(&self, handle: &Handle) -> Result<Option<File>> {
        let (node, write, own) = match handle {
            Handle::Draft { node, write, .. } => (*node, *write, None),
            Handle::Scratch { node, scratch, write, .. } => (*node, *write, Some(scratch.key)),
            _ => return Ok(None),
        };
        match self.node(node)? {
            Node::Scratch(scratch) if Some(scratch.key) != own => {
                let flags = if write { OFlags::RDWR } else { OFlags::RDONLY };
                scratch.open(flags.bits() as i32).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub(in crate::fs) fn node(&self, ino: Ino) -> Result<Node> {
        self.nodes().node(ino).cloned().ok_or(FsError::Stale)
    }

    /// The draft that a node is.
    pub(in crate::fs) fn node_of(&self, node: Ino) -> Option<Arc<Mutex<Draft>>> {
        match self.node(node) {
            Ok(Node::Draft(draft)) => Some(draft),
            _ => None,
        }
    }

    /// The process behind a thread, where it can be told.
    pub(in crate::fs) fn process(&self, caller: Caller) -> Option<Process> {
        static TOLD: Once = Once::new();
        if caller.thread == 0 {
            TOLD.call_once(|| warn!("{APART}"));
        }
        Process::of_thread(caller.thread)
    }

    /// `-o uid=,gid=,umask=`.
    pub(in crate::fs) fn masked(&self, mut attr: Attr) -> Attr {
        attr.uid = self.options.uid.unwrap_or(attr.uid);
        attr.gid = self.options.gid.unwrap_or(attr.gid);
        let mask = match attr.kind {
            FileType::Directory => self.options.dmask,
            // Nobody asks a link for permission.
            FileType::Symlink => None,
            _ => self.options.fmask,
        };
        attr.perm &= !mask.unwrap_or(0);
        attr
    }

    pub(in crate::fs) fn object_attr(&self, id: &ObjectId, meta: &Meta) -> Attr {
        self.masked(Attr::of_revision(object_ino(id), meta))
    }

    pub(in crate::fs) fn root_attr(&self) -> Result<Attr> {
        let store = rustix::fs::fstat(self.backend.root())?;
        let mut a = Attr::of_stat(ROOT, &store);
        // `find` looks for no more sub-directories than this tells of.
        (a.kind, a.nlink) = (FileType::Directory, 2);
        if let Ok(scratch) = self.scratch_root() {
            let scratch = rustix::fs::fstat(scratch)?;
            a.mtime = a.mtime.max(attr::time(scratch.st_mtime as i64, scratch.st_mtime_nsec as u32));
            a.ctime = a.ctime.max(a.mtime);
            a.nlink = scratch.st_nlink as u32;
        }
        Ok(self.masked(a))
    }

    /// Whether an object is watched even if the kernel knows nothing of it.
    pub(in crate::fs) fn watches_idle(&self) -> bool {
        let limit = self.watch_all.load(Ordering::Relaxed);
        limit > 0 && self.watcher.watched() <= limit
    }

    /// The process knows a revision from now on: it has opened it, or done something to what shows it.
    pub(in crate::fs) fn note_read(&self, caller: Caller, id: &ObjectId, rev: &Rev) {
        if let Some(by) = self.process(caller) {
            self.memory.read(&by, id, rev);
        }
    }

    /// An attribute for what exists only here: the root's owner and times.
    pub(in crate::fs) fn synthetic(&self, ino: Ino, kind: FileType, perm: u32, size: u64) -> Result<Attr> {
        Ok(Attr::synthetic(ino, kind, perm, size, &self.root_attr()?))
    }

    /// The kernel forgets `lookups` of its references to a node.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let mut t = self.nodes();
        let Some(entry) = t.nodes.get_mut(&ino) else { return };
        entry.lookups = entry.lookups.saturating_sub(lookups);
        let id = match &entry.node {
            Node::Revision(shown) => Some(shown.id.clone()),
            _ => None,
        };
        t.reap(ino);
        if let Some(id) = id {
            t.forget_object(&id);
        }
    }

    /// The store's file system: space is the store's.
    pub fn statfs(&self) -> Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(self.backend.root())?)
    }
}

impl Deref for Locked<'_> {
    type Target = NodeTable;

    fn deref(&self) -> &NodeTable {
        &self.table
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut NodeTable {
        &mut self.table
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (unwatch, close) = self.table.take_deferred();
        self.no_io = None;
        if !unwatch.is_empty() || !close.is_empty() {
            MutexGuard::unlocked(&mut self.table, || {
                drop(close);
                self.fs.unwatch_forgotten(&unwatch);
            });
        }
    }
}

/// How long an open waits for what the kernel is being told.
const TOLD: Duration = Duration::from_millis(100);

/// What the kernel is to be told, from before the tables show it until it is told.
///
/// An answer that tells a node's size is dropped by the kernel if it was told of a change of that node meanwhile: it goes on
/// with the size that it had, and cuts the text or reads NUL bytes behind the end. So who opens a node that has come to show
/// another revision is answered when all have told ([`Fs::has_size_asked`]): what it asks then comes after that, and until it
/// closes the node nothing is told of it that can wait ([`NodeTable::doubt_attr`]).
pub(in crate::fs) struct Notices<'a> {
    list: Vec<Notice>,
    _telling: RwLockReadGuard<'a, ()>,
}

impl Notices<'_> {
    pub(in crate::fs) fn with(mut self, notice: Notice) -> Self {
        self.list.push(notice);
        self
    }
}

impl std::ops::Deref for Notices<'_> {
    type Target = Vec<Notice>;

    fn deref(&self) -> &Vec<Notice> {
        &self.list
    }
}

impl std::ops::DerefMut for Notices<'_> {
    fn deref_mut(&mut self) -> &mut Vec<Notice> {
        &mut self.list
    }
}

/// Waits at most so many milliseconds while a release is `pending`: the kernel sends it some time after a program's close has
/// returned.
pub(in crate::fs) fn await_release(millis: usize, pending: impl Fn() -> bool) {
    for _ in 0..millis {
        if !pending() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
