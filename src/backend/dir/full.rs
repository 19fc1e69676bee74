//! Removing where nothing can be made: without a block, and without an inode.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::gone::rev_name;
use super::{DirBackend, sys};
use crate::backend::{Durability, PURGED};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

/// One in a directory.
type Name<'a> = (BorrowedFd<'a>, &'a OsStr);

pub(super) fn is_no_room(e: Errno) -> bool {
    matches!(e, Errno::NOSPC | Errno::DQUOT)
}

impl DirBackend {
    /// Whether a text so long could be stored now: the failure is that of storing it.
    ///
    /// # Errors
    /// As fallocate(2); none where that cannot be told.
    pub(crate) fn try_room(&self, len: u64) -> rustix::io::Result<()> {
        let room = self.layout.stage().and_then(|stage| sys::unnamed(stage, 0o600));
        match room.and_then(|file| sys::allocate(file.as_fd(), len)) {
            Err(e) if is_no_room(e) => Err(e),
            _ => Ok(()),
        }
    }

    /// Reserves room for removing things anew, where some was given up.
    pub(crate) fn reserve(&self) {
        if self.layout.is_spent() {
            self.layout.reserve();
        }
    }

    /// Where there is no room for another directory, and none is there for what is removed of this object, its own becomes
    /// that: the revisions in it are gone by that alone, and say by which operation when they are renamed.
    pub(super) fn remove_in_its_own(
        &self,
        id: &ObjectId,
        op: &str,
        how: Durability,
        full: Error,
    ) -> Result<()> {
        let (root, name) = (self.layout.root(), id.as_os_str());
        let Ok(all) = self.layout.gone() else { return Err(full) };
        if self.stage.rename_exclusive(root, name, all, name).is_err() {
            return Err(full);
        }
        let failed = |e| self.io("delete", id, None, e);
        let dir = sys::open_dir(all, name).map_err(failed)?;
        for (name, _) in sys::list(dir.as_fd(), ".").map_err(failed)? {
            if let Ok(rev) = Rev::new(&name)
                && self.stage.rename_exclusive(dir.as_fd(), &name, dir.as_fd(), &rev_name(&rev, op)).is_err()
            {
                break;
            }
        }
        self.sync_dirs(how, &[dir.as_fd(), root]).map_err(failed)
    }

    /// Purges revisions where there can be no fact file, as versions before fact files did: each keeps its names, with
    /// empty files, and gets one that says [`PURGED`].
    pub(super) fn purge_to_names(
        &self,
        id: &ObjectId,
        revs: &[Rev],
        how: Durability,
        full: Error,
    ) -> Result<u64> {
        let failed = |e| self.io("purge", id, None, e);
        let gone = self.gone_dir(id)?;
        let mut freed = 0;
        for rev in revs {
            let mut places = Vec::new();
            self.each_grave(id, |dir, name, of, _, _| {
                if of == *rev {
                    places.push((sys::open_dir(dir, ".")?, name.to_owned()));
                }
                Ok(())
            })
            .map_err(failed)?;
            if places.is_empty() {
                continue;
            }
            let fact = rev_name(rev, PURGED);
            let mut names: Vec<Name> =
                places.iter().map(|(dir, name)| (dir.as_fd(), name.as_os_str())).collect();
            names.push((gone.as_fd(), &fact));
            let marked = sys::kind(gone.as_fd(), &fact).map_err(failed)?.is_some();
            if !marked && mark_by_one(&places, gone.as_fd(), &fact).is_err() {
                return Err(full);
            }
            for &(dir, name) in &names {
                match sys::meta_at(dir, name) {
                    Ok(Some(meta)) if meta.size > 0 => freed += meta.size,
                    Ok(_) | Err(Errno::NOENT) => continue,
                    Err(e) => return Err(failed(e)),
                }
                if empty_in_place((dir, name), &names).is_err() {
                    return Err(full);
                }
            }
        }
        self.sync_dirs(how, &[gone.as_fd()]).map_err(failed)?;
        Ok(freed)
    }
}

/// Where there is no inode for a name that says it, one of the files that are purged gets that name: another one, or in
/// place of its own (tmpfs counts names as inodes).
fn mark_by_one(places: &[(OwnedFd, OsString)], gone: BorrowedFd, fact: &OsStr) -> sys::Result<()> {
    let named = places.iter().any(|(dir, name)| {
        sys::link(dir.as_fd(), name, gone, fact).is_ok()
            || sys::rename_noreplace(dir.as_fd(), name, gone, fact).is_ok()
    });
    if named { Ok(()) } else { Err(Errno::NOSPC) }
}

/// Empties a file, unless it has other names than these: after a rename of the object it lives by one.
fn empty_in_place((dir, name): Name, names: &[Name]) -> sys::Result<()> {
    let (file, _) = sys::open_to_write(dir, name)?;
    let this = sys::identity(file.as_fd(), "")?;
    let known = names.iter().filter(|(dir, name)| sys::identity(*dir, name) == Ok(this)).count();
    match usize::try_from(sys::links(file.as_fd(), "")?) == Ok(known) {
        true => sys::empty(file.as_fd()),
        false => Err(Errno::NOSPC),
    }
}
