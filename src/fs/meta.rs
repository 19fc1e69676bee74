//! Attributes: getattr, setattr, statfs, readlink.

use std::os::fd::AsFd;

use crate::fs::attr::{Attr, Caller, Ino, LONG, NOW};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Handle, Mode};
use crate::fs::node::Node;
use crate::fs::object::meta::attrs;
use crate::fs::scratch::{Change, ScratchNode};
use crate::fs::{Fs, scratch};

impl Fs {
    /// `stat` of a node, and how long it stays true. `handle` is the file whose end a program seeks, if any.
    pub fn getattr(
        &self,
        caller: Caller,
        ino: Ino,
        handle: Option<u64>,
    ) -> Result<(Attr, std::time::Duration)> {
        let handle = handle.and_then(|handle| self.handle(handle).ok());
        match (self.node(ino)?, handle.as_deref()) {
            (Node::Revision(_) | Node::Draft(_), Some(Handle::Draft { node, draft, .. })) => {
                let draft = match self.node(*node) {
                    Ok(Node::Scratch(scratch)) => return Ok((self.masked(scratch.attr()?), NOW)),
                    Ok(Node::Draft(now)) => now,
                    _ => draft.clone(),
                };
                // Perhaps opened past the node, which is of something else: the end is the draft's.
                Ok((self.draft_attr(&draft.lock()), NOW))
            }
            (Node::Root, _) => {
                self.drain();
                Ok((self.root_attr()?, LONG))
            }
            (Node::Revision(shown), _) => match self.revision_attr(caller, ino, shown.clone())? {
                Some(answer) => Ok(self.nodes().attr_as_linked(&shown.id, answer)),
                // It has become somebody's draft.
                None => self.getattr(caller, ino, None),
            },
            (Node::Draft(draft), _) => {
                let attr = match self.shown_in_place(caller, ino, handle.is_some())? {
                    Some(shown) => self.object_attr(&shown.id, &shown.meta),
                    None => self.attr_of_draft(ino, &draft),
                };
                Ok((attr, NOW))
            }
            (Node::Scratch(scratch), _) => {
                let ttl = self.scratch_ttl();
                Ok((self.masked(scratch.attr()?), ttl))
            }
            (Node::View(view), _) => Ok((self.view_attr(ino, &view)?, NOW)),
        }
    }

    /// Changes attributes. `handle` is the file that the program has open, if it named one.
    pub fn setattr(&self, caller: Caller, ino: Ino, change: &Change, handle: Option<u64>) -> Result<Attr> {
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
                if self.nodes().has_varied(ino) {
                    self.may_open_shown(caller, &*self.named(ino, shown.clone())?, mode)?;
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::DirBackend;
    use crate::fs::Options;
    use crate::fs::attr::ROOT;
    use crate::rev::ObjectId;
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
