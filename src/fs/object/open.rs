//! Opening revisions and drafts.

use std::fs::File;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::draft::{Draft, Verdict};
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Handle, Mode, Opened};
use crate::fs::node::{Node, Shown};
use crate::rev::{ObjectId, Rev};

impl Fs {
    /// Opens for reading what is open already and known to be what the name shows: nothing is asked of the store.
    pub(in crate::fs) fn open_again(&self, caller: Caller, ino: Ino, mode: Mode) -> Option<Opened> {
        if mode.write || caller.thread == 0 || self.options.object_view {
            return None;
        }
        self.drain();
        let (file, shown) = {
            let mut t = self.nodes();
            let Node::Revision(shown) = t.node(ino)? else { return None };
            let shown = shown.clone();
            let refused = t.retries.is_exhausted(caller.thread, &shown.id);
            let right = t.current_node(&shown.id) == Some(ino) && t.is_valid(&shown.id);
            if refused || !right || t.hidden(&shown.id).is_some() {
                return None;
            }
            let file = t.file(ino)?;
            let entry = t.nodes.get_mut(&ino).filter(|entry| !entry.turned)?;
            if entry.varied && self.may_open_shown(caller, &shown, mode).is_err() {
                return None;
            }
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
        let handle = self.add_handle(caller, handle);
        self.note_read(caller, id, rev);
        // Who writes past this node's pages truncates it in the kernel's eyes, for a moment. Where threads cannot be told
        // apart every writer does.
        Opened { handle, keep, no_flush: true, direct: caller.thread == 0 }
    }

    pub(in crate::fs) fn open_revision(
        &self,
        caller: Caller,
        ino: Ino,
        id: &ObjectId,
        mode: Mode,
    ) -> Result<Opened> {
        match self.resolve(id) {
            Ok(current) if current == ino => {}
            // What the second lookup has found is served, or an object that changes all the time could never be opened.
            Ok(_) if self.was_led(caller, id) => {}
            Ok(_) | Err(FsError::NotFound) => return Err(FsError::Stale),
            Err(fail) => return Err(fail),
        }
        // Whatever the node shows now is opened; it stays with that until the handle is closed.
        let (shown, varied, turned, first, asked) = {
            let mut t = self.nodes();
            let entry = t.nodes.get_mut(&ino).ok_or(FsError::Stale)?;
            let Node::Revision(shown) = &entry.node else { return Err(FsError::Stale) };
            let shown = shown.clone();
            entry.handles += 1;
            let first = entry.handles == 1;
            entry.asked &= !first;
            (shown, entry.varied, entry.turned, first, entry.asked)
        };
        if varied && let Err(fail) = self.may_open_shown(caller, &shown, mode) {
            self.drop_handle_of(ino);
            return Err(fail);
        }
        // Only the first has the kernel ask: the answer to what it asks then would be dropped if another did so, too.
        let told = !turned || if first { self.has_size_asked(ino) } else { asked };
        let opened = match self.options.object_view {
            false => self
                .open_file(ino, id, &shown.rev)
                .map(|file| Handle::Revision { node: ino, file })
                .map_err(FsError::from),
            true => self.text_of(id, &shown.rev).and_then(|bytes| self.bytes_handle(caller, ino, bytes)),
        };
        match opened {
            Ok(handle) => {
                let opened = self.opened_revision(caller, handle, (id, &shown.rev), !turned);
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
    pub(in crate::fs) fn read_around(
        &self,
        caller: Caller,
        node: Ino,
        id: &ObjectId,
        mode: Mode,
    ) -> Result<Opened> {
        let (_, shown, bytes) = match self.shown(id, true) {
            Err(FsError::NotFound) => return self.open_removed(caller, node, mode),
            shown => shown?,
        };
        self.may_open_shown(caller, &shown, mode)?;
        let handle = self.bytes_handle(caller, node, bytes)?;
        self.nodes().nodes.get_mut(&node).ok_or(FsError::Stale)?.handles += 1;
        let handle = self.add_handle(caller, handle);
        self.note_read(caller, id, &shown.rev);
        Ok(Opened { handle, keep: false, no_flush: true, direct: true })
    }

    /// Opens a draft on the node of the revision that others read, past its pages: only the handle leads to the draft. Of an
    /// object that was removed it is a file without a name, as on a disk.
    pub(in crate::fs) fn open_around(
        &self,
        caller: Caller,
        ino: Ino,
        id: &ObjectId,
        mode: Mode,
    ) -> Result<Opened> {
        let mut draft = self.new_draft(caller, id, mode.truncate)?;
        self.may_begin(caller, &draft, mode)?;
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
        let handle = self.add_handle(caller, Handle::draft(node, draft, mode, opener));
        Ok(Opened { handle, keep: false, no_flush: false, direct: true })
    }

    /// Opens a draft. `None` where the node is no draft any more: its last descriptor was closed at this moment.
    pub(in crate::fs) fn open_draft(
        &self,
        caller: Caller,
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        mode: Mode,
    ) -> Result<Option<Opened>> {
        let process = self.process(caller);
        let mut d = draft.lock();
        let id = d.id.clone();
        let (first, writers) = {
            let mut t = self.nodes();
            let entry = t.nodes.get_mut(&node).ok_or(FsError::Stale)?;
            if !matches!(&entry.node, Node::Draft(now) if Arc::ptr_eq(now, &draft)) {
                return Ok(None);
            }
            let writers = entry.handles;
            t.retries.finish(caller.thread, &id);
            (writers == 0, writers)
        };
        if !mode.write && !d.is_new_name && first {
            // Not a writer: it came here by a descriptor or because its thread cannot be told from a writer's.
            drop(d);
            let (_, shown, bytes) = self
                .shown(&id, true)
                .map_err(|f| if let FsError::NotFound = f { FsError::Stale } else { f })?;
            self.may_open_shown(caller, &shown, mode)?;
            let handle = self.bytes_handle(caller, node, bytes)?;
            self.nodes().nodes.get_mut(&node).ok_or(FsError::Stale)?.handles += 1;
            let handle = self.add_handle(caller, handle);
            return Ok(Some(Opened { handle, keep: false, no_flush: true, direct: true }));
        }
        let another = process.is_none() || d.opener != process;
        let half = || !d.is_parked() && matches!(d.verdict(), Verdict::Refuse(_));
        if !mode.write && d.is_new_name && writers > 0 && another && half() {
            // Half of the first text of a new name: not there yet. A text that was refused is, though its writer's
            // release may be under way.
            return Err(FsError::NotFound);
        }
        if !mode.write && writers > 0 {
            self.may_begin(caller, &d, mode)?;
        }
        if first && mode.write {
            d.opener.clone_from(&process);
            if !mode.truncate {
                self.renew(caller, &mut d)?;
                if !d.is_new_name {
                    self.may_begin(caller, &d, mode)?;
                }
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
        let handle = self.add_handle(caller, Handle::draft(node, draft, mode, process));
        // The kernel believes of a node in place what it told whoever asked last: its pages are no good to read.
        Ok(Some(Opened { handle, keep: false, no_flush: !mode.write, direct: mode.read && in_place }))
    }

    /// Opens the file of the revision that a node shows. Whoever opens it next finds it open.
    pub(in crate::fs) fn open_file(
        &self,
        node: Ino,
        id: &ObjectId,
        rev: &Rev,
    ) -> crate::error::Result<Arc<File>> {
        let file = Arc::new(self.store.backend().open(id, rev)?);
        self.nodes().keep_file(node, rev, &file, files_limit());
        Ok(file)
    }

    /// What a node shows whose object was removed.
    fn removed(&self, ino: Ino) -> Option<Arc<Shown>> {
        match self.node(ino) {
            Ok(Node::Revision(shown)) => Some(shown).filter(|shown| shown.removed.is_some()),
            _ => None,
        }
    }

    /// Opens a removed object once more by what a program has of it, open (`cp /dev/fd/3 t`) or not (a bind mount, a name that
    /// went between the lookup and the open).
    fn open_removed(&self, caller: Caller, ino: Ino, mode: Mode) -> Result<Opened> {
        let (handle, direct) = match self.node(ino)? {
            Node::Revision(shown) => {
                self.may_open_shown(caller, &shown, mode)?;
                let held = self.handles_of(ino).into_iter().find_map(|handle| match &*handle {
                    Handle::Revision { file, .. } => Some(file.clone()),
                    _ => None,
                });
                match held {
                    Some(file) => (Handle::Revision { node: ino, file }, caller.thread == 0),
                    None => {
                        let gone = self.backend.open_removed(&shown.id, &shown.rev);
                        let file = Arc::new(gone.map_err(|_| FsError::Stale)?);
                        (Handle::Revision { node: ino, file }, true)
                    }
                }
            }
            Node::Draft(draft) => {
                let d = draft.lock();
                self.may_begin(caller, &d, mode)?;
                let bytes = d.text().to_vec();
                drop(d);
                (self.bytes_handle(caller, ino, bytes)?, true)
            }
            _ => return Err(FsError::Stale),
        };
        self.nodes().nodes.get_mut(&ino).ok_or(FsError::Stale)?.handles += 1;
        Ok(Opened { handle: self.add_handle(caller, handle), keep: false, no_flush: true, direct })
    }
}

/// How many revisions' files are held open at most: a quarter of what the process may open, and never more than is of use.
fn files_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        most.map_or(usize::MAX, |n| usize::try_from(n / 4).unwrap_or(usize::MAX)).min(8192)
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::attr::ROOT;
    use crate::fs::{Kernel, Options};
    use crate::store::Store;

    /// The nodes whose attributes the kernel was to forget.
    #[derive(Default)]
    struct Forgotten(Mutex<Vec<Ino>>);

    impl Kernel for Forgotten {
        fn forget_attr(&self, node: Ino) {
            self.0.lock().push(node);
        }

        fn forget_entry(&self, _parent: Ino, _name: &OsStr) {}
    }

    #[test]
    fn who_reads_a_node_that_has_turned_asks_for_its_size_and_is_not_disturbed() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open_or_create(dir.path()).unwrap();
        let id = ObjectId::new("a").unwrap();
        others.create(&id, b"{}").unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let kernel = Arc::new(Forgotten::default());
        fs.connect(kernel.clone());
        let told = || std::mem::take(&mut *kernel.0.lock());
        let caller = Caller { uid: 0, gid: 0, thread: std::process::id() };
        let find = || fs.lookup(caller, ROOT, &id.file_name().unwrap()).unwrap().node;
        let open = |node| fs.open(caller, node, Mode::new(0)).unwrap();
        let node = find();
        others.upsert(&id, b"{\"n\": 1}").unwrap();
        assert_eq!(find(), node);
        // A lookup may be under way that told the kernel of the size before, and makes its node only now.
        told();
        let first = open(node);
        assert!(!first.keep && !first.direct);
        assert_eq!(told(), [node]);
        // Nor is it by who opens the node next.
        let next = open(node);
        assert!(!next.keep && !next.direct && told().is_empty());
        fs.release(next.handle);
        others.upsert(&id, b"{\"n\": 22}").unwrap();
        fs.drain();
        assert!(!told().contains(&node), "the answer to what a reader asks would be dropped");
        fs.release(first.handle);
        assert!(told().contains(&node));
        // Where the kernel has yet to ask, who comes second goes past its pages.
        others.upsert(&id, b"{\"n\": 333}").unwrap();
        let node = find();
        told();
        fs.nodes().nodes.get_mut(&node).unwrap().handles += 1;
        let second = open(node);
        assert!(second.direct && !told().contains(&node));
        fs.release(second.handle);
        fs.count_closed(node);
        // A reader that asked for no size leaves it as unsure as it was.
        let node = find();
        let second = open(node);
        fs.getattr(caller, node, None).unwrap();
        fs.release(second.handle);
        told();
        let third = open(node);
        assert!(third.keep && told().is_empty());
        fs.release(third.handle);
    }
}
