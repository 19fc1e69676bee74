//! Directories.
//!
//! A stream is kept as it was read, from when it is read from the start on: cookies stay valid, and nothing that is there
//! all the time comes twice or is left out while others create and delete. A large store is still being listed when the
//! first names are given out. The kernel keeps what it has read of the root until a name comes or goes.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::FileType;

use super::Fs;
use super::attr::{Attr, Caller, Found, Ino, NOW};
use super::errno::{FsError, Result};
use super::io::Handle;
use super::objects::NEW_NAME_FILE;
use super::scratch;
use super::table::{Node, ino_of, object_ino};
use crate::rev::{ObjectId, SUFFIX};
use root::RootWalk;

mod root;

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub name: &'a OsStr,
    pub ino: Ino,
    pub kind: FileType,
}

/// One entry of a directory that is read entry by entry.
pub(super) struct DirItem {
    pub name: OsString,
    pub ino: Ino,
    pub kind: FileType,
}

/// A directory that was opened, and what the kernel may do with what it reads there.
#[derive(Clone, Copy, Debug)]
pub struct OpenedDir {
    pub handle: u64,
    /// Keep what is read, for whoever opens the directory next.
    pub cache: bool,
    /// What was kept before is still right.
    pub keep: bool,
}

/// A directory's entries at one moment: of a million objects, so each costs little more than its name.
#[derive(Default)]
pub(super) struct Listing {
    names: Vec<u8>,
    /// Where each name ends.
    ends: Vec<u32>,
    /// What is no object, by its index, ascending. An object's number follows from its name.
    others: Vec<(u32, Ino, FileType)>,
}

impl Listing {
    fn add_name(&mut self, name: &OsStr) {
        self.names.extend_from_slice(name.as_bytes());
        self.ends.push(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
    }

    /// An object's name; where it is too long for one nothing is added.
    fn add_object(&mut self, id: &ObjectId) {
        if id.has_file_name() {
            self.names.extend_from_slice(id.as_os_str().as_bytes());
            self.add_name(OsStr::new(SUFFIX));
        }
    }

    fn add(&mut self, item: &DirItem) {
        self.others.push((self.ends.len() as u32, item.ino, item.kind));
        self.add_name(&item.name);
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> Option<Listed<'_>> {
        let &end = self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let name = self.names.get(start as usize..end as usize)?;
        let (ino, kind) = match self.others.binary_search_by_key(&(index as u32), |&(index, ..)| index) {
            Ok(at) => (self.others[at].1, self.others[at].2),
            Err(_) => (ino_of(name.strip_suffix(SUFFIX.as_bytes())?), FileType::RegularFile),
        };
        Some(Listed { name: OsStr::from_bytes(name), ino, kind })
    }
}

/// A directory as far as it was read, and what there is to go on with.
pub(super) struct Stream {
    listing: Listing,
    walk: Option<Box<RootWalk>>,
}

/// How many objects of which nothing is known are looked at before they are listed: that costs more than to list them.
const LOOKED_AT: usize = 4096;

/// How long a directory that came may be without a revision because its writer has not got further.
const CREATION_GRACE: Duration = Duration::from_secs(10);

impl Fs {
    /// Opens a directory.
    pub fn opendir(&self, ino: Ino) -> Result<OpenedDir> {
        let root = match self.node(ino)? {
            Node::Revision(_) | Node::Draft(_) => return Err(FsError::NotADirectory),
            Node::Root => true,
            Node::Scratch(_) | Node::View(_) => false,
        };
        if root {
            self.drain();
        }
        let mut t = self.nodes();
        t.nodes.get_mut(&ino).ok_or(FsError::Stale)?.handles += 1;
        drop(t);
        let handle = self.add_handle(Handle::Directory { node: ino, stream: Mutex::new(None) });
        let keep = root
            && self.watcher.hears_all()
            && self.root_listed.load(Ordering::Acquire) == self.root_epoch.load(Ordering::Acquire)
            && self.kept_ids().is_ok_and(|kept| kept == *self.root_kept.lock());
        Ok(OpenedDir { handle, cache: root && self.watcher.hears_all(), keep })
    }

    /// Entries from `offset` on, each with the offset that follows it, until `add` says that there is no more room.
    pub fn readdir(
        &self,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(Listed<'_>, u64) -> bool,
    ) -> Result<()> {
        let handle = self.handle(handle)?;
        let Handle::Directory { node, stream } = &*handle else { return Err(FsError::NotADirectory) };
        let mut stream = stream.lock();
        let Stream { listing, walk } = match &mut *stream {
            Some(stream) if offset > 0 => stream,
            stream => stream.insert(self.list(*node)?),
        };
        for i in usize::try_from(offset).unwrap_or(usize::MAX).. {
            while listing.len() <= i
                && let Some(going) = walk
            {
                if !self.walk_on(going, listing)? {
                    *walk = None;
                }
            }
            let Some(item) = listing.get(i) else { break };
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
        caller: Caller,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(Listed<'_>, u64, Option<&Found>) -> bool,
    ) -> Result<()> {
        let dir = self.handle(handle)?.node();
        self.readdir(handle, offset, |item, next| {
            if item.name == "." || item.name == ".." {
                return add(item, next, None);
            }
            if let Some(found) = self.unheld(dir, item) {
                return add(item, next, Some(&found));
            }
            let Ok(found) = self.lookup(caller, dir, item.name) else {
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

    /// What to say of an object in a listing when enough nodes are remembered: its number, and that the kernel is to ask
    /// before it uses it. The kernel then knows a node that is not known here. Nobody can have it open, and the
    /// attributes, which are made up, count for no moment.
    fn unheld(&self, dir: Ino, item: Listed<'_>) -> Option<Found> {
        let id = ObjectId::from_file_name(item.name).filter(|_| dir == super::attr::ROOT)?;
        let t = self.nodes();
        if !t.is_full() || t.objects.contains_key(&id) || t.node(object_ino(&id)).is_some() {
            return None;
        }
        let attr = Attr { kind: FileType::RegularFile, perm: 0o600, ..Attr::dot(object_ino(&id)) };
        Some(Found { node: attr.ino, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// Begins to list a directory. All but the root are read at once.
    fn list(&self, ino: Ino) -> Result<Stream> {
        let mut listing = Listing::default();
        for (name, ino) in [(".", ino), ("..", super::attr::ROOT)] {
            listing.add(&DirItem { name: name.into(), ino, kind: FileType::Directory });
        }
        let mut walk = None;
        match self.node(ino)? {
            Node::Root => walk = Some(Box::new(self.walk_root()?)),
            Node::Scratch(dir) => scratch_items(dir.dir()?)?.for_each(|item| listing.add(&item)),
            Node::View(view) => self.list_view(&view)?.iter().for_each(|item| listing.add(item)),
            Node::Revision(_) | Node::Draft(_) => return Err(FsError::NotADirectory),
        }
        Ok(Stream { listing, walk })
    }

    /// An object's directory came.
    pub(super) fn note_recently_created(&self, id: &ObjectId) {
        let mut recent = self.recently_created.lock();
        if recent.len() >= LOOKED_AT {
            recent.retain(|_, since| since.elapsed() < CREATION_GRACE);
        }
        if recent.len() < LOOKED_AT {
            recent.insert(id.clone(), Instant::now());
        }
    }

    /// The objects whose directories came a moment ago.
    fn recently_created(&self) -> HashSet<ObjectId> {
        let mut recent = self.recently_created.lock();
        recent.retain(|_, since| since.elapsed() < CREATION_GRACE);
        recent.keys().cloned().collect()
    }

    /// The names that show a draft because there is no object: those that are kept, and those that are open.
    fn fresh_ids(&self, kept: HashSet<ObjectId>) -> HashSet<ObjectId> {
        let mut ids = kept;
        let t = self.nodes();
        let open = t.active.iter().filter(|(_, active)| active.new_draft.is_some_and(|node| t.is_open(node)));
        ids.extend(open.map(|(id, _)| id.clone()));
        ids
    }

    /// The names of which a draft is kept that shows where there is no object.
    fn kept_ids(&self) -> Result<HashSet<ObjectId>> {
        let mut ids = HashSet::new();
        for (name, _) in self.drafts_root().map_or(Ok(Vec::new()), scratch::list)? {
            let Ok(id) = ObjectId::new(&name) else { continue };
            if let Ok(Some(dir)) = self.drafts_of(&id, false)
                && rustix::fs::statat(&dir, NEW_NAME_FILE, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
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
    let dir = dir.clone();
    Ok(scratch::list(dir.as_fd())?.into_iter().filter_map(move |(name, kind)| {
        // One that has gone meanwhile needs no number.
        let (_, ino) = scratch::key(dir.as_fd(), &name).ok()?;
        Some(DirItem { name, ino, kind })
    }))
}
