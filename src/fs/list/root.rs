//! The root: objects, names that show a draft where there is no object, scratch files; no name twice.

use std::sync::atomic::Ordering;

use std::os::fd::AsFd;

use log::warn;

use crate::error::Error;
use crate::fs::dir_stream::{DirItem, IdsLeft, Listing, RootWalk};
use crate::fs::errno::Result;
use crate::fs::{Fs, scratch};
use crate::rev::ObjectId;

/// A directory of this many bytes, some 20,000 names on ext4, is listed by a thread of its own.
const LARGE: i64 = 1 << 20;

/// How many objects of which nothing is known are looked at before they are listed: that costs more than to list them.
const LOOKED_AT: usize = 4096;

impl Fs {
    /// Begins to list the root.
    pub(super) fn walk_root(&self) -> Result<RootWalk> {
        let version = self.root_epoch.load(Ordering::Acquire);
        self.drain();
        let kept = self.kept_ids()?;
        self.root_kept.lock().clone_from(&kept);
        let fresh = self.fresh_ids(kept);
        let large = rustix::fs::fstat(self.backend.root())?.st_size >= LARGE;
        let ids = match if large { self.store.stream_ids() } else { None } {
            Some(ids) => IdsLeft::Coming(ids),
            None => IdsLeft::All(self.store.ids()?),
        };
        // A change from now on raises the epoch, so that what is listed will not be found right.
        self.root_listed.store(version, Ordering::Release);
        Ok(RootWalk { ids, fresh, hidden: Vec::new(), recent: self.recently_created() })
    }

    /// Lists some more. Whether there may be more still.
    pub(super) fn walk_on(&self, walk: &mut RootWalk, listing: &mut Listing) -> Result<bool> {
        // What could not be listed to its end must not be kept by the kernel.
        let ids = walk.ids.next().inspect_err(|_| self.root_listed.store(0, Ordering::Release))?;
        let Some(ids) = ids else {
            self.end_walk(walk, listing)?;
            return Ok(false);
        };
        // In the store's order, whatever is known of them: cookies stay the same as long as the names do.
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(LOOKED_AT) {
            let t = self.nodes();
            for id in some {
                if !id.has_file_name() {
                    warn!("object {id} has an id longer than 250 bytes: no file here, use the commands");
                }
                match t.hidden(id) {
                    Some(_) => walk.hidden.push(id.clone()),
                    None => found.push((id, t.current_node(id).is_some())),
                }
            }
        }
        let unknown = found.iter().filter(|(_, known)| !known).count();
        let few = matches!(walk.ids, IdsLeft::All(_)) && unknown <= LOOKED_AT;
        for (id, known) in found {
            if known || !(few || walk.recent.contains(id)) || self.is_finished(id) {
                walk.add(id, listing);
            }
        }
        Ok(true)
    }

    fn end_walk(&self, walk: &mut RootWalk, listing: &mut Listing) -> Result<()> {
        // First, for it is all that can go wrong.
        let scratch = self.scratch_root().ok().map(scratch_items).transpose()?;
        for id in std::mem::take(&mut walk.hidden) {
            if self.resolve(&id).is_ok() {
                walk.add(&id, listing);
            }
        }
        walk.fresh.iter().for_each(|id| listing.add_object(id));
        scratch.into_iter().flatten().for_each(|item| listing.add(&item));
        Ok(())
    }

    /// A directory without a revision is one that its writer has not finished.
    fn is_finished(&self, id: &ObjectId) -> bool {
        match self.store.revisions(id) {
            Ok(revs) => !revs.is_empty(),
            // What cannot be looked at is not left out.
            Err(fail) => !matches!(fail, Error::NoObject(_)),
        }
    }
}

impl RootWalk {
    fn add(&mut self, id: &ObjectId, listing: &mut Listing) {
        listing.add_object(id);
        self.fresh.remove(id);
    }
}

/// The entries of a directory of scratch files.
pub(in crate::fs) fn scratch_items(dir: &scratch::Dir) -> Result<impl Iterator<Item = DirItem> + use<>> {
    let dir = dir.clone();
    Ok(scratch::list(dir.as_fd())?.into_iter().filter_map(move |(name, kind)| {
        // One that has gone meanwhile needs no number.
        let (_, ino) = scratch::key(dir.as_fd(), &name).ok()?;
        Some(DirItem { name, ino, kind })
    }))
}
