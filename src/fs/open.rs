//! Opening.
//!
//! Opening an object for writing answers ESTALE once. The kernel then looks the name up again on the same thread and
//! finds the draft's node, which nobody else does: writers and readers never share pages. So does opening a node that the
//! name leads to no more. The kernel retries once; where that is used up, or the thread cannot be told from others (its id
//! is 0), or has no name to look up (a handle, `/proc/self/fd/N`, a bind mount), the name comes to lead to the node that
//! it holds. Where somebody has that open with an earlier revision, it is served past the node's pages.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::Fs;
use super::attr::{Caller, Ino};
use super::errno::{FsError, Result};
use super::flush::await_release;
use super::io::{Handle, Mode, Opened};
use super::scratch::ScratchNode;
use super::table::{Node, NodeEntry, ObjectState};
use super::views::View;
use crate::base::Process;
use crate::draft::{Draft, Verdict};
use crate::rev::{ObjectId, Rev};

/// How many milliseconds it is waited for who has a file open that somebody is about to write without its name.
const RELEASE: usize = 30;

impl Fs {
    /// Opens a node.
    pub fn open(&self, caller: Caller, ino: Ino, mode: Mode) -> Result<Opened> {
        if self.is_replay(caller) {
            return self.open_echo(ino);
        }
        if self.options.read_only {
            // Nobody writes, and what is cached is told when it is old: the kernel need not ask.
            return Err(FsError::Unimplemented);
        }
        if let Some(opened) = self.open_again(caller, ino, mode) {
            return Ok(opened);
        }
        let id = match self.node(ino)? {
            Node::Revision(shown) => Some(shown.id.clone()),
            Node::Draft(draft) => Some(draft.lock().id.clone()),
            _ => None,
        };
        let refused = id.as_ref().is_some_and(|id| self.was_refused(caller, id));
        if let Some(id) = id.as_ref().filter(|id| refused && !self.was_led(caller, id)) {
            if mode.write && caller.thread != 0 {
                self.await_readers(ino);
            }
            self.come_home(id, ino);
        }
        let opened = self.open_node(caller, ino, mode, refused);
        let Some(id) = id else { return opened };
        let opened = match opened {
            // The kernel looks the name up once more, and only once.
            Err(FsError::Stale) if refused => match mode.write {
                true => self.open_around(caller, ino, &id, mode),
                false => self.read_around(caller, ino, &id),
            },
            opened => opened,
        };
        let mut t = self.nodes();
        match &opened {
            Err(FsError::Stale) => {
                t.retries.request(caller.thread, &id);
            }
            _ => {
                t.retries.answer(caller.thread, &id);
            }
        }
        drop(t);
        opened
    }

    /// `refused`: the caller was sent back and has come to the same node.
    fn open_node(&self, caller: Caller, ino: Ino, mode: Mode, refused: bool) -> Result<Opened> {
        let by_name = |id: &ObjectId| match mode.write {
            true if self.retry_exhausted(caller, id) => self.open_around(caller, ino, id, mode),
            true => Err(self.announce_draft(caller, id, mode)),
            false => self.open_revision(caller, ino, id),
        };
        match self.node(ino)? {
            Node::Revision(shown) => match self.open_in_place(caller, ino, &shown, mode, refused)? {
                Some(opened) => Ok(opened),
                None => by_name(&shown.id),
            },
            Node::Draft(draft) => match self.seeks_object(caller, ino, &draft, mode, refused) {
                Some(id) => by_name(&id),
                None => self.open_draft(caller, ino, draft, mode),
            },
            Node::Scratch(scratch) => {
                let file = scratch.open(mode.flags)?;
                Ok(self.opened_scratch(caller, ino, scratch, file, mode))
            }
            Node::View(view) => {
                if mode.write {
                    return Err(FsError::NotPermitted("views are read-only"));
                }
                let bytes = self.read_view(&view)?;
                self.note_viewed(caller, ino, &view);
                if let (View::Revision(id, rev), Some(by)) = (&view, self.process(caller)) {
                    self.memory.pick(&by, id, rev);
                }
                let handle = self.add_handle(Handle::Bytes { node: ino, bytes });
                Ok(Opened { handle, keep: false, no_flush: true, direct: true })
            }
            Node::Root => Err(FsError::IsADirectory),
        }
    }

    /// Opens for reading what is open already and known to be what the name shows: nothing is asked of the store.
    fn open_again(&self, caller: Caller, ino: Ino, mode: Mode) -> Option<Opened> {
        if mode.write || caller.thread == 0 || self.options.object_view {
            return None;
        }
        self.drain();
        let (file, shown) = {
            let mut t = self.nodes();
            let Node::Revision(shown) = t.node(ino)? else { return None };
            let shown = shown.clone();
            let refused = t.retries.is_exhausted(caller.thread, &shown.id);
            let right = |o: &ObjectState| o.is_valid() && o.current_node == Some(ino);
            if refused || !t.objects.get(&shown.id).is_some_and(right) || t.hidden(&shown.id).is_some() {
                return None;
            }
            let file = t.file(ino)?;
            let entry = t.nodes.get_mut(&ino).filter(|entry| !entry.turned)?;
            entry.handles += 1;
            (file, shown)
        };
        let handle = Handle::Revision { node: ino, file };
        Some(self.opened_revision(caller, handle, (&shown.id, &shown.rev), true))
    }

    /// A handle that reads what the node shows.
    fn opened_revision(
        &self,
        caller: Caller,
        handle: Handle,
        (id, rev): (&ObjectId, &Rev),
        keep: bool,
    ) -> Opened {
        let handle = self.add_handle(handle);
        self.note_read(caller, id, rev);
        // Who writes past this node's pages truncates it in the kernel's eyes, for a moment. Where threads cannot be told
        // apart every writer does.
        Opened { handle, keep, no_flush: true, direct: caller.thread == 0 }
    }

    fn open_revision(&self, caller: Caller, ino: Ino, id: &ObjectId) -> Result<Opened> {
        match self.resolve(id) {
            Ok(current) if current == ino => {}
            // What the second lookup has found is served, or an object that changes all the time could never be opened.
            Ok(_) if self.was_led(caller, id) => {}
            Ok(_) | Err(FsError::NotFound) => return Err(FsError::Stale),
            Err(fail) => return Err(fail),
        }
        // Whatever the node shows now is opened; it stays with that until the handle is closed.
        let (rev, turned, restless) = {
            let mut t = self.nodes();
            let entry = t.nodes.get_mut(&ino).ok_or(FsError::Stale)?;
            let Node::Revision(shown) = &entry.node else { return Err(FsError::Stale) };
            let rev = shown.rev.clone();
            entry.handles += 1;
            (rev, entry.turned, entry.is_restless())
        };
        let told = !turned || (self.is_told() && !restless);
        let opened = match self.options.object_view {
            false => self
                .open_file(ino, id, &rev)
                .map(|file| Handle::Revision { node: ino, file })
                .map_err(FsError::from),
            true => self.text_of(id, &rev).map(|bytes| Handle::Bytes { node: ino, bytes }),
        };
        match opened {
            Ok(handle) => {
                let opened = self.opened_revision(caller, handle, (id, &rev), !turned);
                Ok(Opened { direct: opened.direct || !told, ..opened })
            }
            Err(fail) => {
                self.drop_handle_of(ino);
                // Removed between the check and the open: the name is looked up once more.
                Err(if fail.errno() == FsError::NotFound.errno() { FsError::Stale } else { fail })
            }
        }
    }

    /// Opens what the name shows now on a node that shows something else, past its pages: for a thread that the kernel
    /// would send no further.
    fn read_around(&self, caller: Caller, node: Ino, id: &ObjectId) -> Result<Opened> {
        let (_, shown, bytes) = match self.shown(id, true) {
            Err(FsError::NotFound) => return self.open_removed(caller, node),
            shown => shown?,
        };
        self.nodes().nodes.get_mut(&node).ok_or(FsError::Stale)?.handles += 1;
        let handle = self.add_handle(Handle::Bytes { node, bytes });
        self.note_read(caller, id, &shown.rev);
        Ok(Opened { handle, keep: false, no_flush: true, direct: true })
    }

    /// Waits a moment for a revision's node to be closed. The kernel tells of that some time after a program's close has
    /// returned, and who then writes through the same handle or descriptor would be told the old size.
    fn await_readers(&self, node: Ino) {
        await_release(RELEASE, || {
            let t = self.nodes();
            let read = |entry: &NodeEntry| entry.handles > 0 && matches!(entry.node, Node::Revision(_));
            t.nodes.get(&node).is_some_and(read)
        });
    }

    /// Has the object's name lead to a node that somebody has come to without it, if that is one it led to before.
    pub(super) fn come_home(&self, id: &ObjectId, node: Ino) {
        if !self.nodes().stale_nodes(id).contains(&node) {
            return;
        }
        let mut notices = self.notices();
        if self.resolve(id).is_ok() {
            self.nodes().come_home(id, node, &mut notices);
        }
        self.notify_kernel(notices);
    }

    /// The process knows a revision from now on: it has opened it, or done something to what shows it.
    pub(super) fn note_read(&self, caller: Caller, id: &ObjectId, rev: &Rev) {
        if let Some(by) = self.process(caller) {
            self.memory.read(&by, id, rev);
        }
    }

    /// Whether the thread was told ESTALE a moment ago, by whatever call, or must never be.
    fn was_refused(&self, caller: Caller, id: &ObjectId) -> bool {
        self.nodes().retries.is_exhausted(caller.thread, id)
    }

    /// Whether the thread was told ESTALE, and has looked the name up since.
    pub(super) fn was_led(&self, caller: Caller, id: &ObjectId) -> bool {
        self.nodes().retries.was_led(caller.thread, id)
    }

    /// Prepares a draft for the thread and has it look the name up again.
    pub(super) fn announce_draft(&self, caller: Caller, id: &ObjectId, mode: Mode) -> FsError {
        // Two descriptors of one process write one text, unless the second starts anew or others have saved since: then
        // each is a save of its own.
        let shared = if mode.truncate { None } else { self.draft_of(self.process(caller), id) };
        let draft = match shared {
            Some(_) => None,
            None => match self.new_draft(caller, id, mode.truncate) {
                Ok(draft) => Some(draft),
                Err(fail) => return fail,
            },
        };
        let mut t = self.nodes();
        t.expire_retries();
        if shared.is_some_and(|node| !t.is_open(node) || !matches!(t.node(node), Some(Node::Draft(_)))) {
            // Its last descriptor was closed at this moment.
            drop(t);
            return self.announce_draft(caller, id, mode);
        }
        let draft = draft.map(|draft| t.add(Node::Draft(Arc::new(Mutex::new(draft)))));
        if let Some(node) = shared.or(draft) {
            t.retries.announce(caller.thread, id, node);
        }
        FsError::Stale
    }

    /// A draft that starts from what the object shows, or from nothing.
    pub(super) fn new_draft(&self, caller: Caller, id: &ObjectId, truncate: bool) -> Result<Draft> {
        let mut draft = Draft::new(id.clone(), self.process(caller));
        match self.shown(id, !truncate) {
            Ok((_, shown, text)) => {
                let emptied = self.is_emptied(id, &shown.rev);
                draft.mode = Some(shown.meta.mode);
                draft.owner = Some((shown.meta.uid, shown.meta.gid));
                if !truncate && !emptied {
                    draft.load(Some(shown.rev.clone()), text, shown.meta.mtime);
                } else {
                    draft.load_emptied(shown.rev.clone());
                }
            }
            // Deleted by others at this moment: the program's one retry is needed for the draft, which makes it anew.
            Err(FsError::NotFound) => draft.owner = self.owner_for(caller),
            Err(fail) => return Err(fail),
        }
        Ok(draft)
    }

    /// Whether the object was truncated to nothing a moment ago, and nobody has saved since: its name shows `rev`. (The
    /// kernel may forget the node that does at any moment.)
    fn is_emptied(&self, id: &ObjectId, rev: &Rev) -> bool {
        let t = self.nodes();
        let emptied = t.active.get(id).and_then(|active| active.emptied.as_ref());
        emptied.is_some_and(|(t0, was)| t0.elapsed() < self.options.grace && was == rev)
    }

    /// Whether the thread cannot be led to a draft's node by ESTALE and a lookup: something else has used up its one
    /// retry, or it cannot be told from another thread that is on its way to its own draft.
    pub(super) fn retry_exhausted(&self, caller: Caller, id: &ObjectId) -> bool {
        !self.nodes().retries.request(caller.thread, id)
    }

    /// Opens a draft on the node of the revision that others read, past its pages: only the handle leads to the draft. Of an
    /// object that was removed it is a file without a name, as on a disk.
    fn open_around(&self, caller: Caller, ino: Ino, id: &ObjectId, mode: Mode) -> Result<Opened> {
        let mut draft = self.new_draft(caller, id, mode.truncate)?;
        if draft.shown_rev.is_none()
            && let Some(shown) = self.removed(ino)
        {
            let gone = || self.store.backend().read_removed(id, &shown.rev).map_err(|_| FsError::Stale);
            let text = if mode.truncate { Vec::new() } else { gone()? };
            draft.load(None, text, shown.meta.mtime);
            (draft.mode, draft.owner) = (Some(shown.meta.mode), Some((shown.meta.uid, shown.meta.gid)));
            draft.unlinked = true;
        }
        if mode.truncate {
            draft.truncate(0);
        }
        draft.nameless = self.nodes().current_node(id) != Some(ino);
        let (opener, unlinked) = (draft.opener.clone(), draft.unlinked);
        let draft = Arc::new(Mutex::new(draft));
        let mut t = self.nodes();
        t.finish_retry(caller.thread, id);
        let node = t.add(Node::Draft(draft.clone()));
        if let Some(entry) = t.nodes.get_mut(&node) {
            entry.handles += 1;
        }
        if !unlinked {
            t.active_mut(id).drafts.push((node, opener.clone()));
        }
        drop(t);
        let handle = self.add_handle(Handle::draft(node, draft, mode, opener));
        Ok(Opened { handle, keep: false, no_flush: false, direct: true })
    }

    /// The draft of an object that a process has open, if what it opens now goes on with it.
    pub(super) fn draft_of(&self, by: Option<Process>, id: &ObjectId) -> Option<Ino> {
        by.as_ref()?;
        let drafts = self.drafts_by(id, |opener| *opener == by);
        if drafts.is_empty() {
            return None;
        }
        // What was emptied since goes on from nothing, unless something was written that is nowhere else.
        let emptied = self.shown_rev(id).is_some_and(|rev| self.is_emptied(id, &rev));
        // The latest first; asked with its lock, for it may be in the middle of a save.
        let goes_on = |d: &Draft| {
            if emptied { d.is_dirty() || d.is_empty() } else { d.is_continuation(|| self.shown_rev(id)) }
        };
        let shared = drafts.into_iter().rev().find(|(_, draft)| goes_on(&draft.lock()));
        shared.map(|(node, _)| node)
    }

    pub(super) fn open_draft(
        &self,
        caller: Caller,
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        mode: Mode,
    ) -> Result<Opened> {
        let process = self.process(caller);
        let mut d = draft.lock();
        let id = d.id.clone();
        let (first, writers) = {
            let mut t = self.nodes();
            let entry = t.nodes.get_mut(&node).ok_or(FsError::Stale)?;
            if !matches!(&entry.node, Node::Draft(now) if Arc::ptr_eq(now, &draft)) {
                // Its last descriptor was closed at this moment.
                drop((t, d));
                return self.open_node(caller, node, mode, self.was_refused(caller, &id));
            }
            let writers = entry.handles;
            t.retries.finish(caller.thread, &id);
            (writers == 0, writers)
        };
        if !mode.write && !d.is_new_name && first {
            // Not a writer: it came here by a descriptor or because its thread cannot be told from a writer's.
            drop(d);
            let (_, _, bytes) = self
                .shown(&id, true)
                .map_err(|f| if let FsError::NotFound = f { FsError::Stale } else { f })?;
            self.nodes().nodes.get_mut(&node).ok_or(FsError::Stale)?.handles += 1;
            let handle = self.add_handle(Handle::Bytes { node, bytes });
            return Ok(Opened { handle, keep: false, no_flush: true, direct: true });
        }
        let another = process.is_none() || d.opener != process;
        let half = || !d.is_parked() && matches!(d.verdict(), Verdict::Refuse(_));
        if !mode.write && d.is_new_name && writers > 0 && another && half() {
            // Half of the first text of a new name: not there yet. A text that was refused is, though its writer's
            // release may be under way.
            return Err(FsError::NotFound);
        }
        if first && mode.write {
            d.opener.clone_from(&process);
            if !mode.truncate {
                self.renew(caller, &mut d)?;
            }
        }
        if mode.truncate {
            d.truncate(0);
        }
        let in_place = {
            let mut t = self.nodes();
            t.nodes.get_mut(&node).ok_or(FsError::Stale)?.handles += 1;
            if first && mode.write && !d.is_new_name {
                let opener = d.opener.clone();
                t.active_mut(&id).drafts.push((node, opener));
            }
            t.in_place.contains_key(&node)
        };
        drop(d);
        let handle = self.add_handle(Handle::draft(node, draft, mode, process));
        // The kernel believes of a node in place what it told whoever asked last: its pages are no good to read.
        Ok(Opened { handle, keep: false, no_flush: !mode.write, direct: mode.read && in_place })
    }

    /// A draft that nobody has open starts from what the object shows now. It may have been made a while ago, for a thread
    /// that never came.
    pub(super) fn renew(&self, caller: Caller, d: &mut Draft) -> Result<()> {
        if d.is_dirty() || d.is_new_name || d.unlinked {
            return Ok(());
        }
        let rev = match self.shown(&d.id, false) {
            Ok((_, shown, _)) => shown.rev.clone(),
            Err(FsError::NotFound) if d.published.is_none() => return Ok(()),
            Err(fail) => return Err(fail),
        };
        if d.published.is_some() || d.base.as_ref() != Some(&rev) {
            *d = self.new_draft(caller, &d.id, false)?;
        }
        Ok(())
    }

    /// A program that only appends, and has not written yet, goes on from what others have put there since it opened: on a
    /// disk it writes behind that.
    pub(super) fn catch_up(&self, d: &mut Draft) -> Result<()> {
        if d.is_dirty() || d.is_new_name || d.unlinked || d.is_empty() {
            return Ok(());
        }
        match self.shown(&d.id, true) {
            Ok((_, shown, text)) if d.base.as_ref() != Some(&shown.rev) => {
                d.load(Some(shown.rev.clone()), text, shown.meta.mtime);
                d.pages_differ = true;
                Ok(())
            }
            Ok(_) | Err(FsError::NotFound) => Ok(()),
            Err(fail) => Err(fail),
        }
    }

    pub(super) fn opened_scratch(
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
        let handle = self.add_handle(Handle::Scratch { node, scratch, file, write: mode.write, copier });
        Opened { handle, keep: false, no_flush: !mode.write, direct: false }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::attr::ROOT;
    use super::super::scratch;
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
        let caller = Caller { uid: 0, gid: 0, thread: std::process::id() };
        let (read, write) = (Mode::new(0), Mode::new(rustix::fs::OFlags::WRONLY.bits() as i32));
        let lookup = || fs.lookup(caller, ROOT, &name).unwrap().node;
        let mut seen = lookup();
        fs.open(caller, seen, read).unwrap();
        for round in 0..2 {
            others.upsert(&id, format!("{{\"n\": {round}}}").as_bytes()).unwrap();
            assert!(matches!(fs.open(caller, seen, read), Err(FsError::Stale)));
            seen = lookup();
            // Another reader keeps that node as it is, and a newer revision comes.
            let other = Caller { thread: 1, ..caller };
            fs.open(other, seen, read).unwrap();
            others.upsert(&id, format!("{{\"m\": {round}}}").as_bytes()).unwrap();
            fs.nodes().retries.age(Duration::from_secs(29));
            fs.open(caller, seen, read).unwrap();
            seen = lookup();
            fs.open(other, seen, read).unwrap();
        }
        // The one excuse is used up.
        others.upsert(&id, b"{\"k\": 1}").unwrap();
        assert!(matches!(fs.open(caller, seen, read), Err(FsError::Stale)));
        seen = lookup();
        fs.open(caller, seen, read).unwrap();

        assert!(matches!(fs.open(caller, seen, write), Err(FsError::Stale)));
        fs.nodes().retries.age(Duration::from_secs(29));
        // Its lookup was answered for somebody else: it must not be sent back once more.
        fs.open(caller, seen, write).unwrap();
    }

    /// A mount of one object, and the id of a process that lives.
    fn mounted(dir: &std::path::Path) -> (Fs, ObjectId, Caller) {
        let id = ObjectId::new("a").unwrap();
        Store::open_or_create(dir).unwrap().create(&id, b"{}").unwrap();
        let fs = Fs::new(DirBackend::open(dir).unwrap(), Options::default()).unwrap();
        (fs, id, Caller { uid: 0, gid: 0, thread: std::process::id() })
    }

    fn flags(flags: rustix::fs::OFlags) -> Mode {
        Mode::new(flags.bits() as i32)
    }

    #[test]
    fn what_was_prepared_for_an_open_by_descriptor_is_not_what_the_next_open_finds() {
        use rustix::fs::OFlags;
        let dir = tempfile::tempdir().unwrap();
        let (fs, id, caller) = mounted(dir.path());
        let name = id.file_name().unwrap();
        for truncate in [OFlags::empty(), OFlags::TRUNC] {
            // `/proc/self/fd/5`: the kernel retries without a lookup.
            let node = fs.lookup(caller, ROOT, &name).unwrap().node;
            fs.open(caller, node, flags(OFlags::RDONLY)).unwrap();
            let write = flags(OFlags::RDWR | truncate);
            assert!(matches!(fs.open(caller, node, write), Err(FsError::Stale)));
            let around = fs.open(caller, node, write).unwrap().handle;
            let text = format!("{{\"n\": {}}}", truncate.bits());
            fs.write(around, 0, text.as_bytes()).unwrap();
            fs.flush(caller, around).unwrap();
            fs.release(around);
            let node = fs.lookup(caller, ROOT, &name).unwrap().node;
            let again = match fs.open(caller, node, flags(OFlags::RDWR)) {
                Err(FsError::Stale) => {
                    fs.open(caller, fs.lookup(caller, ROOT, &name).unwrap().node, flags(OFlags::RDWR))
                }
                opened => opened,
            };
            let again = again.unwrap().handle;
            assert_eq!(fs.read(again, 0, 100).unwrap(), text.as_bytes());
            fs.release(again);
        }
    }

    #[test]
    fn a_draft_that_nobody_came_for_starts_from_what_is_there_now() {
        use rustix::fs::OFlags;
        let dir = tempfile::tempdir().unwrap();
        let (fs, id, caller) = mounted(dir.path());
        let name = id.file_name().unwrap();
        for forsaken in [OFlags::RDWR, OFlags::RDWR | OFlags::TRUNC] {
            let node = fs.lookup(caller, ROOT, &name).unwrap().node;
            assert!(matches!(fs.open(caller, node, flags(forsaken)), Err(FsError::Stale)));
            let saved = fs.store.upsert(&id, format!("{{\"n\": {}}}", forsaken.bits()).as_bytes()).unwrap();
            let node = fs.lookup(caller, ROOT, &name).unwrap().node;
            let handle = fs.open(caller, node, flags(OFlags::RDWR)).unwrap().handle;
            assert_eq!(fs.read(handle, 0, 100).unwrap(), fs.store.read(&id, &saved.rev).unwrap());
            fs.release(handle);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_told_from_others_is_never_sent_back() {
        use rustix::fs::OFlags;
        let dir = tempfile::tempdir().unwrap();
        let (fs, id, caller) = mounted(dir.path());
        let caller = Caller { thread: 0, ..caller };
        let name = id.file_name().unwrap();
        let node = fs.lookup(caller, ROOT, &name).unwrap().node;
        let write = flags(OFlags::WRONLY | OFlags::TRUNC);
        let two = [1, 2].map(|_| fs.open(caller, node, write).unwrap().handle);
        assert_eq!(fs.lookup(caller, ROOT, &name).unwrap().node, node, "a reader is led to no draft");
        for (n, handle) in two.into_iter().enumerate() {
            fs.write(handle, 0, format!("{{\"n{n}\": 1}}").as_bytes()).unwrap();
            assert_eq!(fs.getattr(caller, node, Some(handle)).unwrap().0.size, 9, "where its end is");
        }
        for handle in two {
            fs.flush(caller, handle).unwrap();
            fs.release(handle);
        }
        let change = |size| scratch::Change { size: Some(size), ..scratch::Change::default() };
        assert!(!matches!(fs.setattr(caller, node, &change(1), None), Ok(_) | Err(FsError::Stale)));
        fs.setattr(caller, node, &change(0), None).unwrap();
        // The node is not what the name leads to any more.
        fs.store.upsert(&id, b"{\"m\": 1}").unwrap();
        fs.open(caller, node, flags(OFlags::RDONLY)).unwrap();
        assert_eq!(fs.store.history(&id).unwrap().len(), 4);
    }
}
