//! Directories.
//!
//! A stream is a snapshot, taken when it is read from the start: cookies stay valid, nothing comes twice or is left out
//! while others create and delete.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;

use log::warn;
use parking_lot::Mutex;
use rustix::fs::FileType;

use super::Fs;
use super::attr::{Attr, Caller, Found, Ino};
use super::errno::{Fail, Result};
use super::io::{Handle, Opened};
use super::objects::FRESH;
use super::scratch;
use super::table::{Node, object_ino};
use crate::rev::ObjectId;

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct DirItem {
    pub name: OsString,
    pub ino: Ino,
    pub kind: FileType,
}

/// A directory's entries at one moment.
pub(super) struct Listing {
    items: Vec<DirItem>,
}

impl Fs {
    /// Opens a directory.
    pub fn opendir(&self, ino: Ino) -> Result<Opened> {
        if let Node::Revision(_) | Node::Draft(_) = self.node(ino)? {
            return Err(Fail::NotADirectory);
        }
        let mut t = self.tables.lock();
        t.nodes.get_mut(&ino).ok_or(Fail::Stale)?.handles += 1;
        drop(t);
        let handle = self.add_handle(Handle::Directory { node: ino, listing: Mutex::new(None) });
        Ok(Opened { handle, keep: false, no_flush: true, direct: false })
    }

    /// Entries from `offset` on, each with the offset that follows it, until `add` says that there is no more room.
    pub fn readdir(
        &self,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(&DirItem, u64) -> bool,
    ) -> Result<()> {
        let listing = self.listing(handle, offset)?;
        for (i, item) in listing.items.iter().enumerate().skip(usize::try_from(offset).unwrap_or(usize::MAX))
        {
            if add(item, i as u64 + 1) {
                break;
            }
        }
        Ok(())
    }

    /// As [`readdir`](Self::readdir), each with what a lookup finds; `None` for `.` and `..`. The kernel holds what it is
    /// given until it forgets it.
    pub fn readdirplus(
        &self,
        who: Caller,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(&DirItem, u64, Option<&Found>) -> bool,
    ) -> Result<()> {
        let dir = self.handle(handle)?.node();
        self.readdir(handle, offset, |item, next| {
            if item.name == "." || item.name == ".." {
                return add(item, next, None);
            }
            let Ok(found) = self.lookup(who, dir, &item.name) else {
                // Gone since, or nothing that its name could show.
                return false;
            };
            let full = add(item, next, Some(&found));
            if full {
                self.forget(found.node, 1);
            }
            full
        })
    }

    fn listing(&self, handle: u64, offset: u64) -> Result<Arc<Listing>> {
        let handle = self.handle(handle)?;
        let Handle::Directory { node, listing } = &*handle else { return Err(Fail::NotADirectory) };
        let mut listing = listing.lock();
        match &*listing {
            Some(listing) if offset > 0 => Ok(listing.clone()),
            _ => {
                let fresh = Arc::new(Listing { items: self.list(*node)? });
                *listing = Some(fresh.clone());
                Ok(fresh)
            }
        }
    }

    fn list(&self, ino: Ino) -> Result<Vec<DirItem>> {
        let dot = |name: &str, ino| DirItem { name: name.into(), ino, kind: FileType::Directory };
        let mut items = vec![dot(".", ino), dot("..", super::attr::ROOT)];
        match self.node(ino)? {
            Node::Root => self.list_root(&mut items)?,
            Node::Scratch(dir) => items.extend(scratch_items(dir.dir()?)?),
            Node::View(view) => items.extend(self.list_view(&view)?),
            Node::Revision(_) | Node::Draft(_) => return Err(Fail::NotADirectory),
        }
        Ok(items)
    }

    fn list_root(&self, items: &mut Vec<DirItem>) -> Result<()> {
        self.drain();
        let ids = self.store.ids()?;
        let (hidden, known): (HashSet<ObjectId>, HashSet<ObjectId>) = {
            let t = self.tables.lock();
            let hidden = t.objects.iter().filter(|(_, o)| o.hidden.is_some()).map(|(id, _)| id.clone());
            let known = t.objects.iter().filter(|(_, o)| o.home.is_some()).map(|(id, _)| id.clone());
            (hidden.collect(), known.collect())
        };
        let mut listed = HashSet::new();
        for id in ids {
            let Some(name) = id.file_name() else {
                warn!("object {id} has an id longer than 250 bytes: no file here, use the commands");
                continue;
            };
            // A directory without a revision is one that its writer has not finished.
            let shows = match hidden.contains(&id) {
                true => self.resolve(&id).is_ok(),
                false => known.contains(&id) || self.store.revisions(&id).is_ok_and(|revs| !revs.is_empty()),
            };
            if shows {
                items.push(DirItem { name, ino: object_ino(&id), kind: FileType::RegularFile });
                listed.insert(id);
            }
        }
        for id in self.fresh_ids()? {
            if !listed.contains(&id) {
                let Some(name) = id.file_name() else { continue };
                items.push(DirItem { name, ino: object_ino(&id), kind: FileType::RegularFile });
            }
        }
        if let Ok(scratch) = self.scratch_root() {
            items.extend(scratch_items(scratch)?);
        }
        Ok(())
    }

    /// The names that show a draft because there is no object.
    fn fresh_ids(&self) -> Result<HashSet<ObjectId>> {
        let mut ids: HashSet<ObjectId> = {
            let t = self.tables.lock();
            let open = t.objects.iter().filter(|(_, o)| {
                o.fresh.and_then(|node| t.nodes.get(&node)).is_some_and(|entry| entry.handles > 0)
            });
            open.map(|(id, _)| id.clone()).collect()
        };
        for (name, _, _) in self.drafts_root().map_or(Ok(Vec::new()), scratch::list)? {
            let Ok(id) = ObjectId::new(&name) else { continue };
            if let Ok(Some(dir)) = self.drafts_of(&id, false)
                && rustix::fs::statat(&dir, FRESH, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
            {
                ids.insert(id);
            }
        }
        Ok(ids)
    }

    /// An attribute for what exists only here: the root's owner and times.
    pub(super) fn synthetic(&self, ino: Ino, kind: FileType, perm: u32, size: u64) -> Result<Attr> {
        Ok(Attr::synthetic(ino, kind, perm, size, &self.root_attr()?))
    }
}

fn scratch_items(dir: &scratch::Dir) -> Result<impl Iterator<Item = DirItem> + use<>> {
    Ok(scratch::list(std::os::fd::AsFd::as_fd(dir))?.into_iter().map(|(name, ino, kind)| DirItem {
        name,
        ino,
        kind,
    }))
}
