//! Opening and creating.
//!
//! Opening an object for writing answers ESTALE once. The kernel then looks the name up again on the same thread and
//! finds the draft's node, which nobody else does: writers and readers never share pages. The kernel retries once; where
//! that is used up, the draft is opened past the pages of the node that there is.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::attr::{Caller, Found, Ino};
use super::errno::{Fail, Result};
use super::io::{Handle, Mode, Opened};
use super::scratch::{self, ScratchNode};
use super::table::{Node, Notice, Pending};
use super::{Fs, Name};
use crate::draft::{Draft, Verdict};
use crate::rev::{ObjectId, Rev};
use crate::session::Session;

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
        if self.is_echo(who) {
            return self.create_echo(name);
        }
        let dir = match self.node(parent)? {
            Node::Root => match Name::of(name)? {
                Name::Object(id) => return self.create_object(who, &id, perm, mode),
                Name::View(_) => return Err(Fail::Exists),
                Name::Scratch => self.scratch_root()?.clone(),
            },
            Node::Scratch(dir) => dir.dir()?.clone(),
            Node::View(_) => return Err(Fail::NotPermitted("views hold only what the store holds")),
            Node::Revision(_) | Node::Draft(_) => return Err(Fail::NotADirectory),
        };
        let (node, file) = scratch::create(dir.as_fd(), name, perm, mode.flags, who)?;
        let found = self.hold_scratch(node, &dir, name)?;
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
        let fresh = if over { None } else { self.fresh_draft(id)? };
        if let Some((node, draft)) = fresh {
            if mode.exclusive() {
                return Err(Fail::Exists);
            }
            match self.open_held(who, node, draft, mode) {
                // Gone at this moment: a new one.
                Err(Fail::Stale) => {}
                opened => return opened,
            }
        }
        let mut draft = Draft::new(id.clone(), session);
        (draft.mode, draft.owner) = (Some(perm & 0o7777), self.owner_for(who));
        draft.fresh = !over;
        if there && !mode.truncate {
            let (_, shown, text) = self.shown(id, true)?;
            draft.load(Some(shown.rev), text, shown.meta.mtime);
        } else if over && let Ok((_, shown, _)) = self.shown(id, false) {
            draft.emptied = Some(shown.rev);
        }
        let draft = Arc::new(Mutex::new(draft));
        let mut t = self.tables.lock();
        let node = t.add(Node::Draft(draft.clone()));
        if !over {
            t.object(id).fresh = Some(node);
        }
        drop(t);
        if !over {
            self.tell(vec![Notice::Root]);
        }
        self.open_held(who, node, draft, mode)
    }

    /// Opens a draft that the kernel has not looked up: it gets a reference with the handle.
    fn open_held(
        &self,
        who: Caller,
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        let found = self.hold_draft(node, &draft)?;
        match self.open_draft(who, node, draft, mode) {
            Ok(opened) => Ok((found, opened)),
            Err(fail) => {
                self.forget(node, 1);
                Err(fail)
            }
        }
    }

    /// A daemon that runs as root makes objects for others.
    pub(super) fn owner_for(&self, who: Caller) -> Option<(u32, u32)> {
        rustix::process::geteuid().is_root().then_some((who.uid, who.gid))
    }

    /// Opens a node.
    pub fn open(&self, who: Caller, ino: Ino, mode: Mode) -> Result<Opened> {
        if self.is_echo(who) {
            return self.open_echo(ino);
        }
        let id = match self.node(ino)? {
            Node::Revision(shown) => Some(shown.id),
            Node::Draft(draft) => Some(draft.lock().id.clone()),
            _ => None,
        };
        let refused = id.as_ref().is_some_and(|id| self.was_refused(who, id));
        let opened = self.open_node(who, ino, mode);
        let Some(id) = id else { return opened };
        let opened = match opened {
            // The kernel looks the name up once more, and only once.
            Err(Fail::Stale) if refused => match mode.write {
                true => self.open_around(who, &id, mode),
                false => self.read_around(who, ino, &id),
            },
            opened => opened,
        };
        let mut t = self.tables.lock();
        match &opened {
            Err(Fail::Stale) => drop(t.refused.insert((who.thread, id), Instant::now())),
            _ => {
                let key = (who.thread, id);
                t.refused.remove(&key);
                t.excused.remove(&key);
            }
        }
        drop(t);
        opened
    }

    fn open_node(&self, who: Caller, ino: Ino, mode: Mode) -> Result<Opened> {
        match self.node(ino)? {
            Node::Revision(shown) if mode.write && self.insists(who, &shown.id) => {
                self.open_around(who, &shown.id, mode)
            }
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
        let rev = {
            let mut t = self.tables.lock();
            let entry = t.nodes.get_mut(&ino).ok_or(Fail::Stale)?;
            let Node::Revision(shown) = &entry.node else { return Err(Fail::Stale) };
            let rev = shown.rev.clone();
            entry.handles += 1;
            rev
        };
        let opened = match self.options.object_view {
            false => self.backend_open(id, &rev).map(|file| Handle::Revision { node: ino, file }),
            true => self.text_of(id, &rev).map(|bytes| Handle::Bytes { node: ino, bytes }),
        };
        let handle = match opened {
            Ok(handle) => self.add_handle(handle),
            Err(fail) => {
                self.drop_handle_of(ino);
                // Removed between the check and the open: the name is looked up once more.
                return Err(if fail.errno() == Fail::NotFound.errno() { Fail::Stale } else { fail });
            }
        };
        if let Some(session) = self.session(who) {
            self.memory.saw(session, id, &rev);
        }
        Ok(Opened { handle, keep: true, no_flush: true, direct: false })
    }

    /// Opens what the name shows now on a node that shows something else, past its pages: for a thread that the kernel
    /// would send no further.
    fn read_around(&self, who: Caller, node: Ino, id: &ObjectId) -> Result<Opened> {
        let (_, shown, bytes) = self.shown(id, true)?;
        self.tables.lock().nodes.get_mut(&node).ok_or(Fail::Stale)?.handles += 1;
        let handle = self.add_handle(Handle::Bytes { node, bytes });
        if let Some(session) = self.session(who) {
            self.memory.saw(session, id, &shown.rev);
        }
        Ok(Opened { handle, keep: false, no_flush: true, direct: true })
    }

    /// Whether the thread was told ESTALE a moment ago, by whatever call.
    fn was_refused(&self, who: Caller, id: &ObjectId) -> bool {
        let t = self.tables.lock();
        t.refused.contains_key(&(who.thread, id.clone()))
    }

    fn backend_open(&self, id: &ObjectId, rev: &Rev) -> Result<File> {
        Ok(self.store.backend().open(id, rev)?)
    }

    /// Prepares a draft for the thread and has it look the name up again.
    pub(super) fn announce_draft(&self, who: Caller, id: &ObjectId, mode: Mode) -> Fail {
        // Two descriptors of one process write one text, unless the second starts anew: then each is a save of its own.
        let shared = if mode.truncate { None } else { self.draft_of(self.session(who), id) };
        let draft = match shared {
            Some(_) => None,
            None => match self.new_draft(who, id, mode) {
                Ok(draft) => Some(draft),
                Err(fail) => return fail,
            },
        };
        let mut t = self.tables.lock();
        t.tidy();
        let draft = draft.map(|draft| t.add(Node::Draft(Arc::new(Mutex::new(draft)))));
        if let Some(node) = shared.or(draft) {
            t.pending.insert((who.thread, id.clone()), Pending { node, since: Instant::now() });
        }
        Fail::Stale
    }

    /// A draft that starts from what the object shows, or from nothing.
    fn new_draft(&self, who: Caller, id: &ObjectId, mode: Mode) -> Result<Draft> {
        let mut draft = Draft::new(id.clone(), self.session(who));
        match self.shown(id, !mode.truncate) {
            Ok((_, shown, text)) => {
                // Others may have saved since it was emptied.
                let emptied = self.tables.lock().object(id).emptied.clone();
                let emptied =
                    emptied.is_some_and(|(t, rev)| t.elapsed() < self.options.grace && rev == shown.rev);
                draft.mode = Some(shown.meta.mode);
                draft.owner = Some((shown.meta.uid, shown.meta.gid));
                if !mode.truncate && !emptied {
                    draft.load(Some(shown.rev), text, shown.meta.mtime);
                } else {
                    draft.emptied = Some(shown.rev);
                }
            }
            // Deleted by others at this moment: the program's one retry is needed for the draft, which makes it anew.
            Err(Fail::NotFound) => draft.owner = self.owner_for(who),
            Err(fail) => return Err(fail),
        }
        Ok(draft)
    }

    /// Whether the thread cannot be led to a draft's node by ESTALE and a lookup: something else has used up its one
    /// retry, or another thread that cannot be told from it is on its way to its own draft.
    fn insists(&self, who: Caller, id: &ObjectId) -> bool {
        let key = (who.thread, id.clone());
        let mut t = self.tables.lock();
        let before = t.refused.insert(key.clone(), Instant::now());
        before.is_some() || who.thread == 0 && t.pending.contains_key(&key)
    }

    /// Opens a draft on the node of the revision that others read, past its pages: only the handle leads to the draft.
    fn open_around(&self, who: Caller, id: &ObjectId, mode: Mode) -> Result<Opened> {
        let mut draft = self.new_draft(who, id, mode)?;
        if mode.truncate {
            draft.truncate(0);
        }
        let opener = draft.opener;
        let draft = Arc::new(Mutex::new(draft));
        let mut t = self.tables.lock();
        t.refused.remove(&(who.thread, id.clone()));
        let node = t.add(Node::Draft(draft.clone()));
        if let Some(entry) = t.nodes.get_mut(&node) {
            entry.handles += 1;
        }
        t.object(id).drafts.push((node, opener));
        drop(t);
        let handle = self.add_handle(Handle::draft(node, draft, mode, opener));
        Ok(Opened { handle, keep: false, no_flush: false, direct: true })
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
        let excused = self.excused(who, &id);
        let (first, writers) = {
            let mut t = self.tables.lock();
            t.pending.remove(&(who.thread, id.clone()));
            t.refused.remove(&(who.thread, id.clone()));
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
        if !mode.write && !d.fresh && writers > 0 && d.opener != session && !excused {
            // The kernel has moved the node along with a name (`mv` of a file that is still written): the name shows more.
            return Err(self.send_back(who, &id));
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
        let handle = self.add_handle(Handle::draft(node, draft, mode, session));
        Ok(Opened { handle, keep: false, no_flush: !mode.write, direct: false })
    }

    fn opened_scratch(&self, node: Ino, scratch: Arc<ScratchNode>, file: File, mode: Mode) -> Opened {
        scratch.add_handle(mode.write);
        if let Some(entry) = self.tables.lock().nodes.get_mut(&node) {
            entry.handles += 1;
        }
        let handle = self.add_handle(Handle::Scratch { node, scratch, file, write: mode.write });
        Opened { handle, keep: false, no_flush: !mode.write, direct: false }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::attr::ROOT;
    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::Options;
    use crate::store::Store;

    /// Readers and a writer of one object, all in this thread, and somebody else who saves each time it is opened.
    #[test]
    fn a_thread_that_was_sent_back_is_served_however_late_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open_or_create(dir.path()).unwrap();
        let id = ObjectId::new("a").unwrap();
        let name = id.file_name().unwrap();
        others.create(&id, b"{}").unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let who = Caller { uid: 0, gid: 0, thread: std::process::id() };
        let (read, write) = (Mode::new(0), Mode::new(rustix::fs::OFlags::WRONLY.bits() as i32));
        let lookup = || fs.lookup(who, ROOT, &name).unwrap().node;
        let mut seen = lookup();
        fs.open(who, seen, read).unwrap();
        for round in 0..2 {
            others.upsert(&id, format!("{{\"n\": {round}}}").as_bytes()).unwrap();
            assert!(matches!(fs.open(who, seen, read), Err(Fail::Stale)));
            seen = lookup();
            // Another reader keeps that node as it is, and a newer revision comes.
            let other = Caller { thread: 1, ..who };
            fs.open(other, seen, read).unwrap();
            others.upsert(&id, format!("{{\"m\": {round}}}").as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(1100));
            fs.open(who, seen, read).unwrap();
            seen = lookup();
            fs.open(other, seen, read).unwrap();
        }
        // The one excuse is used up.
        others.upsert(&id, b"{\"k\": 1}").unwrap();
        assert!(matches!(fs.open(who, seen, read), Err(Fail::Stale)));
        seen = lookup();
        fs.open(who, seen, read).unwrap();

        assert!(matches!(fs.open(who, seen, write), Err(Fail::Stale)));
        std::thread::sleep(Duration::from_millis(1100));
        // Its lookup was answered for somebody else: it must not be sent back once more.
        fs.open(who, seen, write).unwrap();
    }
}
