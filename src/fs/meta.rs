//! Attributes: getattr, setattr, statfs, readlink.

use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FileType, StatVfs};

use super::attr::{Attr, Caller, Ino, LONG, NOW, ROOT};
use super::commit::Asks;
use super::errno::{FsError, Result};
use super::io::{Handle, Mode};
use super::scratch::{self, Change, ScratchNode, SetTime};
use super::table::{Node, Notice, ObjectState, Shown, removed_ino};
use super::{Fs, attr};
use crate::backend::{Attrs, Meta};
use crate::draft::Draft;
use crate::rev::{ObjectId, Rev};

impl Fs {
    /// `stat` of a node, and how long it stays true. `handle` is the file whose end a program seeks, if any.
    pub fn getattr(
        &self,
        caller: Caller,
        ino: Ino,
        handle: Option<u64>,
    ) -> Result<(Attr, std::time::Duration)> {
        let handle = handle.and_then(|handle| self.handle(handle).ok());
        match self.node(ino)? {
            Node::Revision(_) | Node::Draft(_)
                if let Some(Handle::Draft { node, draft, .. }) = handle.as_deref() =>
            {
                let draft = match self.node(*node) {
                    Ok(Node::Scratch(scratch)) => return Ok((self.masked(scratch.attr()?), NOW)),
                    Ok(Node::Draft(now)) => now,
                    _ => draft.clone(),
                };
                // Perhaps opened past the node, which is of something else: the end is the draft's.
                Ok((self.draft_attr(&draft.lock()), NOW))
            }
            Node::Root => {
                self.drain();
                Ok((self.root_attr()?, LONG))
            }
            Node::Revision(shown) => match self.revision_attr(caller, ino, shown.clone())? {
                Some(answer) => Ok(self.nodes().attr_as_linked(&shown.id, answer)),
                // It has become somebody's draft.
                None => self.getattr(caller, ino, None),
            },
            Node::Draft(draft) => {
                let attr = match self.shown_in_place(caller, ino, handle.is_some())? {
                    Some(shown) => self.object_attr(&shown.id, &shown.meta),
                    None => self.attr_of_draft(ino, &draft),
                };
                Ok((attr, NOW))
            }
            Node::Scratch(scratch) => {
                let ttl = self.scratch_ttl();
                Ok((self.masked(scratch.attr()?), ttl))
            }
            Node::View(view) => Ok((self.view_attr(ino, &view)?, NOW)),
        }
    }

    /// `None` where the node is no revision any more.
    fn revision_attr(
        &self,
        caller: Caller,
        ino: Ino,
        shown: Arc<Shown>,
    ) -> Result<Option<(Attr, std::time::Duration)>> {
        // What the name leads to may be replaced before it is looked at.
        let (current, mut t) = loop {
            let current = match self.resolve(&shown.id) {
                Ok(current) => Some(current),
                Err(FsError::NotFound) => None,
                Err(fail) => return Err(fail),
            };
            let t = self.nodes();
            if current.is_none_or(|current| t.nodes.contains_key(&current)) {
                break (current, t);
            }
        };
        let entry = t.nodes.get_mut(&ino).ok_or(FsError::Stale)?;
        let Node::Revision(now) = entry.node.clone() else { return Ok(None) };
        if current == Some(ino) {
            let sure = t.objects.get(&now.id).is_some_and(ObjectState::is_valid) && !t.is_transient(ino);
            return Ok(Some((self.object_attr(&now.id, &now.meta), if sure { LONG } else { NOW })));
        }
        // The name leads elsewhere. A reader sees what it has open. Nobody else can tell nodes apart and is told of what
        // the name shows: ESTALE here would use up the retry that an open for writing needs.
        // On a read-only mount nobody says so who has it open.
        let open = entry.handles > 0 || self.options.read_only;
        if let Some(Node::Revision(other)) = current.filter(|_| !open).and_then(|current| t.node(current)) {
            return Ok(Some((self.object_attr(&other.id, &other.meta), NOW)));
        }
        // What others removed a moment ago may be asked for by its name. Who was told ESTALE before finds out by what it does
        // next.
        if !open && !t.is_unnamed(&now) && t.retries.request(caller.thread, &now.id) {
            return Err(FsError::Stale);
        }
        Ok(Some((self.attr_of_left(&now), NOW)))
    }

    /// The attributes of a revision that no name leads to.
    fn attr_of_left(&self, shown: &Shown) -> Attr {
        let attr = self.object_attr(&shown.id, &shown.meta);
        match shown.removed {
            Some(_) => Attr { ino: removed_ino(&shown.id), nlink: 0, ..attr },
            None => attr,
        }
    }

    pub(super) fn root_attr(&self) -> Result<Attr> {
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

    /// Changes attributes. `handle` is the file that the program has open, if it named one.
    pub fn setattr(&self, caller: Caller, ino: Ino, change: &Change, handle: Option<u64>) -> Result<Attr> {
        if self.is_replay(caller) {
            return self.attr_for_echo(ino);
        }
        let mode = change.mode.map(|mode| self.mode_out_of_view(caller, mode));
        let change = &Change { mode, ..*change };
        let handle = handle.and_then(|h| self.handle(h).ok());
        let node = match (self.node(ino)?, handle.as_deref()) {
            // Perhaps a draft that was opened past the node of a revision, or of another draft.
            (now @ (Node::Revision(_) | Node::Draft(_)), Some(Handle::Draft { node, .. })) => {
                let attr = self.setattr_draft(caller, *node, change)?;
                return Ok(match now {
                    // The kernel would cut what readers of the node have open.
                    Node::Revision(shown) if *node != ino => self.object_attr(&shown.id, &shown.meta),
                    _ => attr,
                });
            }
            (Node::Draft(draft), handle) => match self.shown_in_place(caller, ino, handle.is_some())? {
                Some(shown) => Node::Revision(shown),
                None => self.own_or_shown(caller, draft)?,
            },
            (node, _) => node,
        };
        match node {
            Node::Root => {
                // `rsync -a dir/ mnt/` and `cp -a dir/. mnt/` set the root's attributes, too. Its time is the later of
                // the two directories that it shows.
                for dir in [self.backend.root(), self.scratch_root()?.as_fd()] {
                    ScratchNode::of(dir.try_clone_to_owned().map_err(scratch::os)?)?.change(change, None)?;
                }
                self.root_attr()
            }
            Node::Revision(shown) if change.size.is_some() => {
                // truncate(2) by path: a writer without an open.
                let size = change.size.unwrap_or(0);
                // bindfs truncates by path what it has just opened.
                if let Some(node) = self.draft_of(self.process(caller), &shown.id) {
                    self.setattr_draft(caller, node, change)?;
                    return Ok(self.object_attr(&shown.id, &shown.meta));
                }
                let flags = rustix::fs::OFlags::WRONLY.bits() as i32;
                let mode = Mode { read: false, write: true, truncate: size == 0, flags };
                match self.retry_exhausted(caller, &shown.id) {
                    true => self.truncate_around(caller, &shown, size),
                    false => Err(self.announce_draft(caller, &shown.id, mode)),
                }
            }
            Node::Revision(shown) => {
                let shown = self.named(ino, shown)?;
                let meta = self.store.backend().set_attrs(
                    &shown.id,
                    &shown.rev,
                    &attrs(change, (shown.meta.uid, shown.meta.gid)),
                )?;
                self.attrs_changed(&shown.id, &shown.rev, meta.clone());
                Ok(self.object_attr(&shown.id, &meta))
            }
            Node::Draft(_) => self.setattr_draft(caller, ino, change),
            Node::Scratch(scratch) => {
                let file = match handle.as_deref() {
                    Some(Handle::Scratch { file, write: true, .. }) => Some(file),
                    _ => None,
                };
                scratch.change(change, file)?;
                Ok(self.masked(scratch.attr()?))
            }
            Node::View(_) => Err(FsError::NotPermitted("views are read-only")),
        }
    }

    /// The draft, to the process that writes it; to one that it has started, and that was told of it by the name, what the
    /// name shows: `truncate` is not to cut somebody else's text.
    fn own_or_shown(&self, caller: Caller, draft: Arc<Mutex<Draft>>) -> Result<Node> {
        let (id, own) = {
            let d = draft.lock();
            (
                d.id.clone(),
                d.is_new_name || d.unlinked || d.opener.is_none() || d.opener == self.process(caller),
            )
        };
        match if own { Err(FsError::NotFound) } else { self.shown(&id, false) } {
            Ok((_, shown, _)) => Ok(Node::Revision(shown)),
            Err(FsError::NotFound) => Ok(Node::Draft(draft)),
            Err(fail) => Err(fail),
        }
    }

    /// What a change by path is meant for: what the name shows now, which the kernel may not know yet. Whoever has an
    /// earlier revision open changes that one.
    fn named(&self, ino: Ino, shown: Arc<Shown>) -> Result<Arc<Shown>> {
        match self.shown(&shown.id, false) {
            Ok((_, now, _)) if self.nodes().nodes.get(&ino).is_some_and(|e| e.handles == 0) => Ok(now),
            Ok(_) | Err(FsError::NotFound) => Ok(shown),
            Err(fail) => Err(fail),
        }
    }

    /// Truncates by path where the thread cannot be led to a draft's node. The node of the revision stays as it is.
    fn truncate_around(&self, caller: Caller, shown: &Shown, size: u64) -> Result<Attr> {
        if size > self.options.max_size {
            return Err(FsError::TooLarge);
        }
        self.nodes().finish_retry(caller.thread, &shown.id);
        let mut draft = self.new_draft(caller, &shown.id, size == 0)?;
        if draft.shown_rev.is_none() && shown.removed.is_some() {
            // The text is in `.deleted`.
            return Ok(Attr { size, ..self.attr_of_left(shown) });
        }
        draft.truncate(size as usize);
        self.truncated(0, &mut draft)?;
        Ok(self.object_attr(&shown.id, &shown.meta))
    }

    fn setattr_draft(&self, caller: Caller, ino: Ino, change: &Change) -> Result<Attr> {
        let draft = match self.node(ino)? {
            Node::Draft(draft) => draft,
            // Its name was moved away.
            Node::Scratch(scratch) => {
                scratch.change(change, None)?;
                self.tell_moved(ino);
                return Ok(self.masked(scratch.attr()?));
            }
            _ => return Err(FsError::Stale),
        };
        let mut d = draft.lock();
        if let Some(size) = change.size {
            if size > self.options.max_size {
                return Err(FsError::TooLarge);
            }
            let open = self.nodes().is_open(ino);
            if !open && size > 0 {
                self.renew(caller, &mut d)?;
            }
            d.truncate(size as usize);
            if open {
                self.note_written(ino, &draft, &mut d);
                self.commit_awaited(ino, &mut d);
            } else {
                self.nodes().retries.finish(caller.thread, &d.id);
                self.truncated(ino, &mut d)?;
            }
        }
        if change.mode.or(change.uid).or(change.gid).is_some() || change.mtime.is_some() {
            let Attr { uid, gid, .. } = self.draft_attr(&d);
            self.set_draft_attrs(&mut d, &attrs(change, (uid, gid)))?;
        }
        Ok(self.draft_attr(&d))
    }

    /// A truncation by path has nobody who will close the file: it is complete now, or waits for the next writer.
    fn truncated(&self, node: Ino, d: &mut Draft) -> Result<()> {
        if d.is_empty() {
            self.finish_draft(node, d);
            return Ok(());
        }
        self.flush_draft(node, d, Asks::Now)
    }

    /// A revision's file has other attributes now.
    pub(super) fn attrs_changed(&self, id: &ObjectId, rev: &Rev, meta: Meta) {
        self.close_kept(id, meta.mode);
        let mut notices = self.notices();
        let mut t = self.nodes();
        let current = t.current_node(id);
        if let Some(current) = current
            && let Some(entry) = t.nodes.get_mut(&current)
            && let Node::Revision(shown) = &mut entry.node
            && shown.rev == *rev
        {
            // `-o view=object` shows another size.
            let shown = Arc::make_mut(shown);
            shown.meta = Meta { size: shown.meta.size, ..meta };
            notices.push(Notice::Attr(current));
        }
        drop(t);
        self.notify_kernel(notices);
    }

    /// The store's file system: space is the store's.
    pub fn statfs(&self) -> Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(self.backend.root())?)
    }

    /// Makes all names durable: `fsync` of a directory, as after a rename.
    pub fn sync_all(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(self.backend.root())?)
    }

    /// Where a scratch link leads.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        match self.node(ino)? {
            Node::Scratch(scratch) => scratch.readlink(),
            _ => Err(FsError::Invalid),
        }
    }
}

/// `owner` is the one now.
fn attrs(change: &Change, owner: (u32, u32)) -> Attrs {
    let owner = (change.uid.is_some() || change.gid.is_some())
        .then(|| (change.uid.unwrap_or(owner.0), change.gid.unwrap_or(owner.1)));
    Attrs { mtime: change.mtime.map(SetTime::resolve), mode: change.mode, owner }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::Options;
    use crate::store::Store;

    #[test]
    fn a_mode_is_set_on_what_the_name_shows_whatever_the_kernel_knows() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open_or_create(dir.path()).unwrap();
        let id = ObjectId::new("a").unwrap();
        others.create(&id, b"{}").unwrap();
        let fs = Fs::new(DirBackend::open(dir.path()).unwrap(), Options::default()).unwrap();
        let caller = Caller { uid: 0, gid: 0, thread: std::process::id() };
        let node = fs.lookup(caller, ROOT, &id.file_name().unwrap()).unwrap().node;
        others.upsert(&id, b"{\"n\": 1}").unwrap();
        let change = Change { mode: Some(0o600), ..Change::default() };
        let attr = fs.setattr(caller, node, &change, None).unwrap();
        assert_eq!((attr.perm, attr.size), (0o600, others.winner_meta(&id).unwrap().1.size));
        assert_eq!(others.winner_meta(&id).unwrap().1.mode & 0o777, 0o600);
    }
}
