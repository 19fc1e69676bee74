//! Opening.
//!
//! Opening an object for writing answers ESTALE once. The kernel then looks the name up again on the same thread and
//! finds the draft's node, which nobody else does: writers and readers never share pages. So does opening a node that the
//! name leads to no more. The kernel retries once; where that is used up, or the thread cannot be told from others (its id
//! is 0), or has no name to look up (a handle, `/proc/self/fd/N`, a bind mount), the name comes to lead to the node that
//! it holds. Where somebody has that open with an earlier revision, it is served past the node's pages.

use std::sync::Arc;

use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Handle, Mode, Opened};
use crate::fs::node::{Node, View};
use crate::fs::views::Source;
use crate::rev::ObjectId;

impl Fs {
    /// Opens a node.
    pub fn open(&self, caller: Caller, ino: Ino, mode: Mode) -> Result<Opened> {
        if self.options.read_only {
            // Nobody writes, and what is cached is told when it is old: the kernel need not ask.
            return Err(FsError::Unimplemented);
        }
        self.admit(caller, mode.write)?;
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
                false => self.read_around(caller, ino, &id, mode),
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
            false => self.open_revision(caller, ino, id, mode),
        };
        loop {
            return match self.node(ino)? {
                Node::Revision(shown) => match self.open_in_place(caller, ino, &shown, mode, refused)? {
                    Some(opened) => Ok(opened),
                    None => by_name(&shown.id),
                },
                Node::Draft(draft) => match self.seeks_object(caller, ino, &draft, mode, refused) {
                    Some(id) => by_name(&id),
                    None => match self.open_draft(caller, ino, draft, mode)? {
                        Some(opened) => Ok(opened),
                        None => continue,
                    },
                },
                Node::Scratch(scratch) => {
                    let file = scratch.open(mode.flags)?;
                    Ok(self.opened_scratch(caller, ino, scratch, file, mode))
                }
                Node::View(view) => {
                    if mode.write {
                        return Err(FsError::NotPermitted("views are read-only"));
                    }
                    let source = self.view_source(&view)?;
                    self.note_viewed(caller, ino, &view);
                    if let (View::Revision(id, rev), Some(by)) = (&view, self.process(caller)) {
                        self.memory.pick(&by, id, rev);
                    }
                    let handle = match source {
                        Source::File(file) => {
                            self.add_handle(caller, Handle::Revision { node: ino, file: Arc::new(file) })
                        }
                        Source::Bytes(bytes) => {
                            self.add_handle(caller, self.bytes_handle(caller, ino, bytes)?)
                        }
                    };
                    Ok(Opened { handle, keep: false, no_flush: true, direct: true })
                }
                Node::Root => Err(FsError::IsADirectory),
            };
        }
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

    /// The kernel looks a name up twice where the first answer is not what it knew.
    #[test]
    fn a_name_that_was_gone_for_a_moment_uses_up_no_second_try() {
        let dir = tempfile::tempdir().unwrap();
        let (fs, id, caller) = mounted(dir.path());
        let (name, read) = (id.file_name().unwrap(), Mode::new(0));
        let node = fs.lookup(caller, ROOT, &name).unwrap().node;
        let reader = fs.open(Caller { thread: 1, ..caller }, node, read).unwrap();
        fs.store.upsert(&id, b"{\"n\": 1}").unwrap();
        assert!(matches!(fs.open(caller, node, read), Err(FsError::Stale)));
        fs.unlink(ROOT, &name).unwrap();
        assert!(matches!(fs.lookup(caller, ROOT, &name), Err(FsError::NotFound)));
        fs.store.create(&id, b"{\"n\": 2}").unwrap();
        let node = fs.lookup(caller, ROOT, &name).unwrap().node;
        let another = fs.open(Caller { thread: 1, ..caller }, node, read).unwrap();
        fs.store.upsert(&id, b"{\"n\": 3}").unwrap();
        let opened = fs.open(caller, node, read).unwrap();
        assert_eq!(fs.read(opened.handle, 0, 100).unwrap(), b"{\"n\": 2}");
        for opened in [opened, another, reader] {
            fs.release(opened.handle);
        }
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
