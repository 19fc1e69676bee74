//! Open files: create, open, read, write, flush, fsync, release.
//!
//! Opening an object for writing answers ESTALE once. The kernel then looks the name up again on the same thread and
//! finds the draft's node, which nobody else does: writers and readers never share pages.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::{OFlags, SeekFrom};

use super::attr::{Caller, Found, Ino};
use super::errno::{Fail, Result};
use super::list::Listing;
use super::scratch::{self, ScratchNode, os};
use super::table::{Node, Notice, Pending};
use super::{Fs, Name};
use crate::backend::Durability;
use crate::draft::{Draft, Verdict};
use crate::rev::{ObjectId, Rev};
use crate::session::{Seen, Session};

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub read: bool,
    pub write: bool,
    pub truncate: bool,
    /// As the program gave them.
    pub flags: i32,
}

impl Mode {
    pub fn new(flags: i32) -> Mode {
        let bits = OFlags::from_bits_retain(flags as u32);
        let access = bits & OFlags::ACCMODE;
        let truncate = bits.contains(OFlags::TRUNC);
        Mode { read: access != OFlags::WRONLY, write: access != OFlags::RDONLY || truncate, truncate, flags }
    }

    fn exclusive(&self) -> bool {
        OFlags::from_bits_retain(self.flags as u32).contains(OFlags::EXCL)
    }
}

/// An open handle, and what the kernel may keep of the node's pages.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub handle: u64,
    /// Pages cached before are still right.
    pub keep: bool,
    /// Closing needs no call.
    pub no_flush: bool,
    /// Go around the page cache: the handle does not read what the node holds.
    pub direct: bool,
}

/// What a handle reads and writes.
pub(super) enum Handle {
    Revision { node: Ino, file: File },
    Bytes { node: Ino, bytes: Vec<u8> },
    Draft { node: Ino, draft: Arc<Mutex<Draft>>, write: bool },
    Scratch { node: Ino, scratch: Arc<ScratchNode>, file: File, write: bool },
    Directory { node: Ino, listing: Mutex<Option<Arc<Listing>>> },
}

impl Handle {
    pub(super) fn node(&self) -> Ino {
        match self {
            Handle::Revision { node, .. }
            | Handle::Bytes { node, .. }
            | Handle::Draft { node, .. }
            | Handle::Scratch { node, .. }
            | Handle::Directory { node, .. } => *node,
        }
    }

    fn writes(&self) -> bool {
        matches!(self, Handle::Draft { write: true, .. } | Handle::Scratch { write: true, .. })
    }
}

impl Fs {
    /// Creates a file and opens it.
    pub fn create(
        &self,
        who: Caller,
        parent: Ino,
        name: &OsStr,
        perm: u32,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        let dir = match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Object(id) => return self.create_object(who, &id, perm, mode),
                Name::View(_) => return Err(Fail::Exists),
                Name::Scratch => None,
            },
            Node::Scratch(dir) => Some(dir),
            Node::View(_) => return Err(Fail::NotPermitted("views hold only what the store holds")),
            Node::Revision(_) | Node::Draft(_) => return Err(Fail::NotADirectory),
        };
        let fd = dir.as_ref().map_or(self.scratch_root(), |d| d.fd());
        let (node, file) = scratch::create(fd, name, perm, mode.flags, who)?;
        let found = self.hold_scratch(node)?;
        let Node::Scratch(scratch) = self.node(found.node)? else { return Err(Fail::Stale) };
        Ok((found.clone(), self.opened_scratch(found.node, scratch, file, mode)))
    }

    fn create_object(&self, who: Caller, id: &ObjectId, perm: u32, mode: Mode) -> Result<(Found, Opened)> {
        if id.file_name().is_none() {
            return Err(Fail::NameTooLong);
        }
        let session = self.session(who);
        let there = match self.resolve(id) {
            Ok(_) if mode.exclusive() => return Err(Fail::Exists),
            Ok(_) => true,
            Err(Fail::NotFound) => false,
            Err(fail) => return Err(fail),
        };
        // A name that was renamed away: this is the second half of one update (vim, `mv x x~; cp x~ x`).
        let over = there || self.tables.lock().object(id).hidden.take().is_some();
        let draft = match (over, self.fresh_draft(id)?) {
            (false, Some(_)) if mode.exclusive() => return Err(Fail::Exists),
            (false, Some((node, draft))) => {
                let found = self.hold_draft(node, &draft)?;
                let opened = self.open_draft(who, node, draft, mode)?;
                return Ok((found, opened));
            }
            (over, _) => {
                let mut draft = Draft::new(id.clone(), session);
                (draft.mode, draft.owner) = (Some(perm & 0o7777), self.owner_for(who));
                draft.fresh = !over;
                if there && !mode.truncate {
                    let (_, shown, text) = self.shown(id, true)?;
                    draft.load(Some(shown.rev), text, shown.meta.mtime);
                }
                Arc::new(Mutex::new(draft))
            }
        };
        let mut t = self.tables.lock();
        let node = t.add(Node::Draft(draft.clone()));
        if !over {
            t.object(id).fresh = Some(node);
        }
        drop(t);
        if !over {
            self.tell(vec![Notice::Root]);
        }
        let found = self.hold_draft(node, &draft)?;
        let opened = self.open_draft(who, node, draft, mode)?;
        Ok((found, opened))
    }

    /// A daemon that runs as root makes objects for others.
    pub(super) fn owner_for(&self, who: Caller) -> Option<(u32, u32)> {
        rustix::process::geteuid().is_root().then_some((who.uid, who.gid))
    }

    /// Opens a node.
    pub fn open(&self, who: Caller, ino: Ino, mode: Mode) -> Result<Opened> {
        match self.node(ino)? {
            Node::Revision(shown) if mode.write => Err(self.announce_draft(who, &shown.id, mode)),
            Node::Revision(shown) => self.open_revision(who, ino, &shown.id),
            Node::Draft(draft) => self.open_draft(who, ino, draft, mode),
            Node::Scratch(scratch) => {
                let file = scratch.open(mode.flags)?;
                Ok(self.opened_scratch(ino, scratch, file, mode))
            }
            Node::View(view) => {
                if mode.write {
                    return Err(Fail::NotPermitted("views are read-only"));
                }
                let bytes = self.read_view(&view)?;
                let handle = self.add_handle(Handle::Bytes { node: ino, bytes });
                Ok(Opened { handle, keep: false, no_flush: true, direct: true })
            }
            Node::Root => Err(Fail::IsADirectory),
        }
    }

    fn open_revision(&self, who: Caller, ino: Ino, id: &ObjectId) -> Result<Opened> {
        if !self.excused(who, id) {
            match self.resolve(id) {
                Ok(home) if home == ino => {}
                Ok(_) | Err(Fail::NotFound) => return Err(self.send_back(who, id)),
                Err(fail) => return Err(fail),
            }
        }
        // Whatever the node shows now is opened; if it moves on meanwhile the handle keeps this revision.
        let (rev, told) = {
            let mut t = self.tables.lock();
            let entry = t.nodes.get_mut(&ino).ok_or(Fail::Stale)?;
            let Node::Revision(shown) = &entry.node else { return Err(Fail::Stale) };
            let rev = shown.rev.clone();
            entry.handles += 1;
            entry.read = true;
            (rev.clone(), entry.told.as_ref() == Some(&rev))
        };
        if !told {
            // The lookup that led here found an earlier revision in this node: its size would cut this one's text.
            self.tell(vec![Notice::Attr(ino)]);
        }
        let opened = match self.options.object_view {
            false => self.backend_open(id, &rev).map(|file| Handle::Revision { node: ino, file }),
            true => self.text_of(id, &rev).map(|bytes| Handle::Bytes { node: ino, bytes }),
        };
        let handle = match opened {
            Ok(handle) => self.add_handle(handle),
            Err(fail) => {
                self.drop_handle_of(ino);
                // Removed between the check and the open: the name is looked up once more.
                return Err(if fail.errno() == Fail::NotFound.errno() {
                    self.send_back(who, id)
                } else {
                    fail
                });
            }
        };
        if let Some(session) = self.session(who) {
            self.memory.saw(session, id, &rev);
        }
        Ok(Opened { handle, keep: true, no_flush: true, direct: false })
    }

    fn backend_open(&self, id: &ObjectId, rev: &Rev) -> Result<File> {
        Ok(self.store.backend().open(id, rev)?)
    }

    /// Prepares a draft for the thread and has it look the name up again.
    pub(super) fn announce_draft(&self, who: Caller, id: &ObjectId, mode: Mode) -> Fail {
        let session = self.session(who);
        // Two descriptors of one process write one text, unless the second starts anew: then each is a save of its own.
        let shared = if mode.truncate { None } else { self.draft_of(session, id) };
        let mut load = shared.is_none() && !mode.truncate;
        let mut draft = Draft::new(id.clone(), session);
        match self.shown(id, load) {
            Ok((_, shown, text)) => {
                // Others may have saved since.
                let emptied = self.tables.lock().object(id).emptied.clone();
                load &= !emptied.is_some_and(|(t, rev)| t.elapsed() < self.options.grace && rev == shown.rev);
                draft.mode = Some(shown.meta.mode);
                draft.owner = Some((shown.meta.uid, shown.meta.gid));
                if load {
                    draft.load(Some(shown.rev), text, shown.meta.mtime);
                }
            }
            // Deleted by others at this moment: the program's one retry is needed for the draft, which makes it anew.
            Err(Fail::NotFound) => draft.owner = self.owner_for(who),
            Err(fail) => return fail,
        }
        let mut t = self.tables.lock();
        t.tidy();
        let node = shared.unwrap_or_else(|| t.add(Node::Draft(Arc::new(Mutex::new(draft)))));
        t.pending.insert((who.thread, id.clone()), Pending { node, since: Instant::now() });
        Fail::Stale
    }

    /// The draft of an object that a process has open.
    fn draft_of(&self, session: Option<Session>, id: &ObjectId) -> Option<Ino> {
        let t = self.tables.lock();
        let drafts = &t.objects.get(id)?.drafts;
        drafts.iter().find(|(_, s)| s.is_some() && *s == session).map(|(node, _)| *node)
    }

    fn open_draft(&self, who: Caller, node: Ino, draft: Arc<Mutex<Draft>>, mode: Mode) -> Result<Opened> {
        let session = self.session(who);
        let mut d = draft.lock();
        let id = d.id.clone();
        let (first, writers) = {
            let mut t = self.tables.lock();
            t.pending.remove(&(who.thread, id.clone()));
            let entry = t.nodes.get_mut(&node).ok_or(Fail::Stale)?;
            (entry.handles == 0, entry.handles)
        };
        if !mode.write && !d.fresh && first {
            // Not a writer: it came here by a descriptor or because its thread cannot be told from a writer's.
            drop(d);
            let (_, _, bytes) =
                self.shown(&id, true).map_err(|f| if let Fail::NotFound = f { Fail::Stale } else { f })?;
            self.tables.lock().nodes.get_mut(&node).ok_or(Fail::Stale)?.handles += 1;
            let handle = self.add_handle(Handle::Bytes { node, bytes });
            return Ok(Opened { handle, keep: false, no_flush: true, direct: true });
        }
        if !mode.write && writers > 0 && d.opener != session && matches!(d.verdict(), Verdict::Refuse(_)) {
            // Half of the first text of a new name: not there yet.
            return Err(Fail::NotFound);
        }
        if first && mode.write {
            d.opener = session;
            if d.published.is_some() && !d.is_dirty() && !mode.truncate {
                let object = self.store.winner(&id)?;
                d.load(Some(object.rev.clone()), self.text_of(&id, &object.rev)?, object.meta.mtime);
            }
        }
        if mode.truncate {
            d.truncate(0);
        }
        {
            let mut t = self.tables.lock();
            t.nodes.get_mut(&node).ok_or(Fail::Stale)?.handles += 1;
            if first && mode.write && !d.fresh {
                let opener = d.opener;
                t.object(&id).drafts.push((node, opener));
            }
        }
        drop(d);
        let handle = self.add_handle(Handle::Draft { node, draft, write: mode.write });
        Ok(Opened { handle, keep: false, no_flush: !mode.write, direct: false })
    }

    fn opened_scratch(&self, node: Ino, scratch: Arc<ScratchNode>, file: File, mode: Mode) -> Opened {
        if mode.write {
            scratch.add_writer();
        }
        if let Some(entry) = self.tables.lock().nodes.get_mut(&node) {
            entry.handles += 1;
        }
        let handle = self.add_handle(Handle::Scratch { node, scratch, file, write: mode.write });
        Opened { handle, keep: false, no_flush: !mode.write, direct: false }
    }

    pub(super) fn add_handle(&self, handle: Handle) -> u64 {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles.lock().insert(number, Arc::new(handle));
        number
    }

    pub(super) fn handle(&self, number: u64) -> Result<Arc<Handle>> {
        self.handles.lock().get(&number).cloned().ok_or(Fail::BadHandle)
    }

    fn drop_handle_of(&self, node: Ino) {
        let mut t = self.tables.lock();
        if let Some(entry) = t.nodes.get_mut(&node) {
            entry.handles = entry.handles.saturating_sub(1);
        }
        t.reap(node);
    }

    /// A scratch file that was renamed over an object while a program has it open has become the object's draft.
    fn draft_behind(&self, handle: &Handle) -> Option<Arc<Mutex<Draft>>> {
        match handle {
            Handle::Draft { draft, .. } => Some(draft.clone()),
            Handle::Scratch { node, .. } => match self.node(*node) {
                Ok(Node::Draft(draft)) => Some(draft),
                _ => None,
            },
            _ => None,
        }
    }

    /// Reads at most `size` bytes.
    pub fn read(&self, handle: u64, offset: u64, size: usize) -> Result<Vec<u8>> {
        let handle = self.handle(handle)?;
        if let Some(draft) = self.draft_behind(&handle) {
            let d = draft.lock();
            if let (Some(session), Some(Seen { rev, text: None })) = (d.opener, &d.base) {
                self.memory.saw(session, &d.id, rev);
            }
            return Ok(d.read(offset, size).to_vec());
        }
        match &*handle {
            Handle::Revision { file, .. } | Handle::Scratch { file, .. } => {
                let mut buffer = vec![0; size];
                let mut got = 0;
                while got < size {
                    match file.read_at(&mut buffer[got..], offset + got as u64) {
                        Ok(0) => break,
                        Ok(n) => got += n,
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(os(e)),
                    }
                }
                buffer.truncate(got);
                Ok(buffer)
            }
            Handle::Bytes { bytes, .. } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes[start..start.saturating_add(size).min(bytes.len())].to_vec())
            }
            Handle::Draft { .. } | Handle::Directory { .. } => Err(Fail::BadHandle),
        }
    }

    /// Writes all of `bytes`.
    pub fn write(&self, handle: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let handle = self.handle(handle)?;
        if !handle.writes() {
            return Err(Fail::BadHandle);
        }
        if let Some(draft) = self.draft_behind(&handle) {
            let end = offset.saturating_add(bytes.len() as u64);
            if end > self.options.max_size {
                return Err(Fail::TooLarge);
            }
            draft.lock().write(offset as usize, bytes);
            return Ok(());
        }
        match &*handle {
            Handle::Scratch { file, .. } => file.write_all_at(bytes, offset).map_err(os),
            _ => Err(Fail::BadHandle),
        }
    }

    /// A descriptor is closed: what is complete becomes a revision before this returns, and the error is the closer's.
    pub fn flush(&self, who: Caller, handle: u64) -> Result<()> {
        let handle = self.handle(handle)?;
        match self.draft_behind(&handle) {
            Some(draft) => self.commit(handle.node(), &mut draft.lock(), self.durability(), Some(who)),
            None => Ok(()),
        }
    }

    /// Makes what was written durable.
    pub fn fsync(&self, handle: u64, data_only: bool) -> Result<()> {
        let handle = self.handle(handle)?;
        if let Some(draft) = self.draft_behind(&handle) {
            return self.commit(handle.node(), &mut draft.lock(), Durability::Full, None);
        }
        match &*handle {
            Handle::Scratch { file, .. } if data_only => file.sync_data().map_err(os),
            Handle::Scratch { file, .. } => file.sync_all().map_err(os),
            _ => Ok(()),
        }
    }

    /// The last descriptor is closed and the last mapping gone.
    pub fn release(&self, handle: u64) {
        let Some(handle) = self.handles.lock().remove(&handle) else { return };
        let node = handle.node();
        let draft = self.draft_behind(&handle);
        if let Handle::Scratch { scratch, write: true, .. } = &*handle {
            scratch.remove_writer();
        }
        // Counted down under the draft's lock, or of two that go at once neither is the last.
        let mut held = draft.as_ref().map(|draft| draft.lock());
        if let Some(d) = &mut held {
            let last = self.tables.lock().nodes.get(&node).is_none_or(|e| e.handles <= 1);
            if last {
                self.settle(node, d);
                let mut t = self.tables.lock();
                if let Some(object) = t.objects.get_mut(&d.id) {
                    object.drafts.retain(|(n, _)| *n != node);
                }
                self.forget_object(&mut t, &d.id);
            }
        }
        if let Some(entry) = self.tables.lock().nodes.get_mut(&node) {
            entry.handles = entry.handles.saturating_sub(1);
        }
        drop(held);
        self.tables.lock().reap(node);
    }

    /// The next data or hole from `offset` on, as `lseek` has it. A text has no holes but the one behind its end.
    pub fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64> {
        let handle = self.handle(handle)?;
        let at = u64::try_from(offset).map_err(|_| Fail::NoSuchOffset)?;
        let size = match (&*handle, self.draft_behind(&handle)) {
            (_, Some(draft)) => draft.lock().len(),
            (Handle::Bytes { bytes, .. }, _) => bytes.len() as u64,
            (Handle::Revision { file, .. } | Handle::Scratch { file, .. }, _) => {
                let from = match whence {
                    libc::SEEK_DATA => SeekFrom::Data(at),
                    libc::SEEK_HOLE => SeekFrom::Hole(at),
                    _ => return Err(Fail::Invalid),
                };
                return Ok(rustix::fs::seek(file, from)? as i64);
            }
            (Handle::Draft { .. } | Handle::Directory { .. }, _) => return Err(Fail::BadHandle),
        };
        match whence {
            libc::SEEK_DATA | libc::SEEK_HOLE if at >= size => Err(Fail::NoSuchOffset),
            libc::SEEK_DATA => Ok(offset),
            libc::SEEK_HOLE => Ok(size as i64),
            _ => Err(Fail::Invalid),
        }
    }

    /// Reserves space. Objects have none to reserve: a text grows as it is written.
    pub fn fallocate(&self, handle: u64, offset: u64, length: u64, mode: i32) -> Result<()> {
        match &*self.handle(handle)? {
            Handle::Scratch { file, write: true, .. } => {
                let mode = rustix::fs::FallocateFlags::from_bits_retain(mode as u32);
                Ok(rustix::fs::fallocate(file, mode, offset, length)?)
            }
            _ => Err(Fail::NotSupported),
        }
    }
}
