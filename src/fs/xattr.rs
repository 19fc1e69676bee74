//! Extended attributes, with `-o xattr`: those of scratch files, in the names that are anybody's (`user.`), and a few that
//! tell of an object.
//!
//! | name | of | value |
//! |---|---|---|
//! | `user.revfs.id` | objects, revisions in `.conflicts` | the object's id |
//! | `user.revfs.rev` | the same | the revision's name |
//! | `user.revfs.conflicts` | objects | the names of all revisions in conflict, a space between two; empty where there is none |
//! | `user.revfs.base` | objects, scratch files | the revision that the next text of this process, or the file's when it is renamed over an object, is made from; may be set and removed |
//! | `user.revfs.host` | objects, revisions in `.conflicts` | the other host that the revision came from, where that is known |
//! | `user.revfs.role` | revisions in `.conflicts` | `winner`, `loser`, `ancestor` or `broken` |
//!
//! An object has no others, for a revision is a text and nothing beside it. Those it has are not listed, as other file
//! systems do with what they make up themselves: `cp -a` and `rsync -X` would give a copy the original's, and `rsync -X`
//! would remove from an object, each time anew, what its source does not have.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{FileType, XattrFlags};

use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::{Node, View};
use crate::fs::scratch::{ScratchNode, proc_path};
use crate::rev::{ObjectId, Rev};

/// Longest value, and longest list of names, in bytes (the kernel's XATTR_SIZE_MAX and XATTR_LIST_MAX).
const LONGEST: usize = 1 << 16;

/// What all names begin with that tell of an object.
const OURS: &str = "user.revfs.";

const BASE: &str = "user.revfs.base";

impl Fs {
    /// Sets an attribute; `flags` as in setxattr(2).
    pub fn set_xattr(&self, caller: Caller, ino: Ino, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
        let flags = XattrFlags::from_bits_retain(flags as u32);
        if let Some(id) = self.base_of(ino, name)? {
            let rev = rev(value)?;
            let by = self.process(caller).ok_or(FsError::NotSupported)?;
            match self.memory.named(&by, &id) {
                Some(_) if flags.contains(XattrFlags::CREATE) => return Err(FsError::Exists),
                None if flags.contains(XattrFlags::REPLACE) => return Err(FsError::NoData),
                _ => {}
            }
            // A name that this object never had is a mistake.
            self.store.read(&id, &rev).map_err(|_| FsError::Invalid)?;
            self.memory.name(&by, &id, Some(rev));
            return Ok(());
        }
        let file = self.with_xattrs(ino, Some(name))?.fd()?;
        if name == BASE {
            rev(value)?;
        }
        Ok(rustix::fs::setxattr(proc_path(&file), name, value, flags)?)
    }

    /// An attribute's value.
    pub fn get_xattr(&self, caller: Caller, ino: Ino, name: &OsStr) -> Result<Vec<u8>> {
        if self.options.xattr
            && let Some(name) = name.to_str().and_then(|name| name.strip_prefix(OURS))
            && let Some(value) = self.revfs_xattr(caller, ino, name)?
        {
            return Ok(value);
        }
        let file = self.with_xattrs(ino, Some(name))?.fd()?;
        let mut value = vec![0; LONGEST];
        let len = rustix::fs::getxattr(proc_path(&file), name, &mut value[..])?;
        value.truncate(len);
        Ok(value)
    }

    /// The names that a file has attributes under, each with a NUL behind it. Without `-o xattr` an empty list, not a
    /// refusal: `getfattr -d` and `cp -a` take that for a failure.
    pub fn list_xattr(&self, ino: Ino) -> Result<Vec<u8>> {
        let file = match self.with_xattrs(ino, None) {
            Ok(scratch) => scratch.fd()?,
            Err(FsError::Unimplemented | FsError::NotSupported) => return Ok(Vec::new()),
            Err(fail) => return Err(fail),
        };
        let mut names = vec![0; LONGEST];
        let len = rustix::fs::listxattr(proc_path(&file), &mut names[..])?;
        let shown = names[..len].split_inclusive(|&b| b == 0).filter(|name| is_shown(name));
        Ok(shown.flatten().copied().collect())
    }

    /// Removes an attribute.
    pub fn remove_xattr(&self, caller: Caller, ino: Ino, name: &OsStr) -> Result<()> {
        if let Some(id) = self.base_of(ino, name)? {
            let by = self.process(caller).ok_or(FsError::NoData)?;
            self.memory.named(&by, &id).ok_or(FsError::NoData)?;
            self.memory.name(&by, &id, None);
            return Ok(());
        }
        let file = self.with_xattrs(ino, Some(name))?.fd()?;
        Ok(rustix::fs::removexattr(proc_path(&file), name)?)
    }

    /// What `user.revfs.<name>` says of a node; `None` for a scratch file, whose attributes are its own.
    fn revfs_xattr(&self, caller: Caller, ino: Ino, name: &str) -> Result<Option<Vec<u8>>> {
        let id = match self.node(ino)? {
            Node::Revision(shown) => shown.id.clone(),
            Node::Draft(draft) => draft.lock().id.clone(),
            Node::View(View::Revision(id, rev)) => return self.told_of(&id, &rev, name).map(Some),
            Node::Root | Node::Scratch(_) | Node::View(_) => return Ok(None),
        };
        let value = match name {
            "id" => id.as_os_str().as_bytes().to_vec(),
            "rev" | "host" => match self.shown(&id, false) {
                Ok((_, shown, _)) if name == "host" => self.host_of(&id, &shown.rev)?,
                Ok((_, shown, _)) => shown.rev.as_str().into(),
                Err(FsError::NotFound) => return Err(FsError::NoData),
                Err(fail) => return Err(fail),
            },
            "conflicts" => {
                let groups = self.store.conflicts(&id)?;
                groups.concat().iter().map(Rev::as_str).collect::<Vec<_>>().join(" ").into_bytes()
            }
            "base" => {
                let named = self.process(caller).and_then(|by| self.memory.named(&by, &id));
                named.ok_or(FsError::NoData)?.as_str().into()
            }
            _ => return Err(FsError::NotSupported),
        };
        Ok(Some(value))
    }

    fn told_of(&self, id: &ObjectId, rev: &Rev, name: &str) -> Result<Vec<u8>> {
        match name {
            "id" => Ok(id.as_os_str().as_bytes().to_vec()),
            "rev" => Ok(rev.as_str().into()),
            "host" => self.host_of(id, rev),
            "role" => {
                let history = self.store.history(id)?;
                let one = history.iter().find(|one| one.rev == *rev).ok_or(FsError::NotFound)?;
                Ok(one.role.word().into())
            }
            _ => Err(FsError::NotSupported),
        }
    }

    fn host_of(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        self.store.host(id, rev).map(|host| host.as_str().into()).ok_or(FsError::NoData)
    }

    /// The object of whose next text the base is to be named.
    fn base_of(&self, ino: Ino, name: &OsStr) -> Result<Option<ObjectId>> {
        if !self.options.xattr || name != BASE {
            return Ok(None);
        }
        Ok(match self.node(ino)? {
            Node::Revision(shown) => Some(shown.id.clone()),
            Node::Draft(draft) => Some(draft.lock().id.clone()),
            Node::Root | Node::Scratch(_) | Node::View(_) => None,
        })
    }

    fn with_xattrs(&self, ino: Ino, name: Option<&OsStr>) -> Result<Arc<ScratchNode>> {
        if !self.options.xattr {
            return Err(FsError::Unimplemented);
        }
        match self.node(ino)? {
            Node::Scratch(scratch)
                if name.is_none_or(|name| is_shown(name.as_bytes()))
                    && matches!(scratch.kind()?, FileType::RegularFile | FileType::Directory) =>
            {
                Ok(scratch)
            }
            _ => Err(FsError::NotSupported),
        }
    }

    /// The base that was named for a scratch file's text.
    pub(super) fn base_of_scratch(&self, file: &ScratchNode) -> Option<Rev> {
        if !self.options.xattr {
            return None;
        }
        let mut value = vec![0; LONGEST];
        let len = rustix::fs::getxattr(proc_path(&*file.fd().ok()?), BASE, &mut value[..]).ok()?;
        rev(&value[..len]).ok()
    }
}

fn is_shown(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

/// A revision's name, as programs write it: with or without a line's end.
fn rev(value: &[u8]) -> Result<Rev> {
    Rev::new(OsStr::from_bytes(value.trim_ascii())).map_err(|_| FsError::Invalid)
}
