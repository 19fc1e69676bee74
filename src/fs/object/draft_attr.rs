//! What is told of a draft while it is saved: a save may wait for the disk, and holds the draft's lock.

use std::time::Duration;

use parking_lot::Mutex;

use crate::draft::Draft;
use crate::fs::Fs;
use crate::fs::attr::{Attr, Ino};
use crate::fs::ino::{object_ino, removed_ino};
use crate::fs::node::Shown;

/// How long a draft's lock is waited for before it is asked whether it is being saved.
const GLANCE: Duration = Duration::from_millis(1);

/// A draft that is being saved, see [`Fs::attr_of_draft`].
pub(in crate::fs) struct Saving<'a>(&'a Fs, Ino);

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.saving.lock().remove(&self.1);
    }
}

impl Fs {
    /// From here on, until what this returns is dropped, whoever asks is told the attributes that the draft has now.
    pub(in crate::fs) fn saving(&self, node: Ino, d: &Draft) -> Saving<'_> {
        self.saving.lock().insert(node, self.draft_attr(d));
        Saving(self, node)
    }

    /// [`draft_attr`](Self::draft_attr), without waiting for a save that is under way.
    pub(in crate::fs) fn attr_of_draft(&self, node: Ino, draft: &Mutex<Draft>) -> Attr {
        loop {
            if let Some(d) = draft.try_lock_for(GLANCE) {
                return self.draft_attr(&d);
            }
            if let Some(attr) = self.saving.lock().get(&node) {
                return attr.clone();
            }
        }
    }

    /// A draft's attributes: the object's inode number, so that no program sees two files (vim's E949).
    pub(in crate::fs) fn draft_attr(&self, d: &Draft) -> Attr {
        self.masked(self.unmasked_attr(d))
    }

    pub(in crate::fs) fn unmasked_attr(&self, d: &Draft) -> Attr {
        let (uid, gid) = d
            .owner
            .unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
        let published = d.published.as_ref().filter(|_| !d.is_dirty()).map(|(_, meta)| meta);
        Attr {
            ino: object_ino(&d.id),
            size: d.len(),
            blocks: d.len().div_ceil(512),
            atime: published.map_or(d.mtime(), |m| m.atime),
            mtime: d.mtime(),
            ctime: published.map_or(d.mtime(), |m| m.ctime),
            kind: rustix::fs::FileType::RegularFile,
            perm: d.mode.unwrap_or(0o644),
            nlink: u32::from(!d.unlinked),
            uid,
            gid,
            rdev: 0,
        }
    }

    /// The attributes of a revision that no name leads to.
    pub(in crate::fs) fn attr_of_left(&self, shown: &Shown) -> Attr {
        let attr = self.object_attr(&shown.id, &shown.meta);
        match shown.removed {
            Some(_) => Attr { ino: removed_ino(&shown.id), nlink: 0, ..attr },
            None => attr,
        }
    }
}
