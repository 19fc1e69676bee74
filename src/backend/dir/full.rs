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

    pub(super) fn purge_revision(&self, id: &ObjectId, rev: &Rev, how: Durability) -> Result<u64> {
        let failed = |e| self.io("purge", id, Some(rev), e);
        let (mut places, mut empty) = (Vec::new(), None);
        self.each_grave(id, |dir, name, of, why, _| {
            if of == *rev {
                places.push((sys::open_dir(dir, ".")?, name.to_owned()));
            } else if empty.is_none() && why == PURGED {
                empty = sys::meta_at(dir, name)?.filter(|meta| meta.size == 0).map(|_| name.to_owned());
            }
            Ok(())
        })
        .map_err(failed)?;
        if places.is_empty() {
            return Err(Error::NoRevision(id.clone(), rev.clone()));
        }
        let gone = self.gone_dir(id)?;
        let fact = rev_name(rev, PURGED);
        // All that is left of an object are names of one file: their inodes are given back, too.
        let marked =
            empty.map_or(Err(Errno::NOENT), |empty| sys::link(gone.as_fd(), &empty, gone.as_fd(), &fact));
        let marked = match marked {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(_) => {
                let attrs = self.layout.attrs().map_err(failed)?;
                self.stage.publish(&self.layout, gone.as_fd(), &fact, b"", &attrs, how).map(drop)
            }
        };
        match marked {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) if is_no_room(e) => mark_by_one(&places, gone.as_fd(), &fact).map_err(|_| failed(e))?,
            Err(e) => return Err(failed(e)),
        }
        let mut names: Vec<Name> = places.iter().map(|(dir, name)| (dir.as_fd(), name.as_os_str())).collect();
        names.push((gone.as_fd(), &fact));
        let mut freed = 0;
        for &(dir, name) in &names {
            let size = match sys::meta_at(dir, name) {
                Ok(Some(meta)) if meta.size > 0 => meta.size,
                Ok(_) | Err(Errno::NOENT) => continue,
                Err(e) => return Err(failed(e)),
            };
            match self.stage.replace_by_empty(&self.layout, dir, name, (gone.as_fd(), &fact)) {
                Err(e) if is_no_room(e) => empty_in_place((dir, name), &names).map_err(|_| failed(e))?,
                replaced => replaced.map_err(failed)?,
            }
            freed += size;
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
