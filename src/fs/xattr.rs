//! Extended attributes, with `-o xattr`: those of scratch files, in the names that are anybody's (`user.`). An object has
//! none, for a revision is a text and nothing beside it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{FileType, XattrFlags};

use super::Fs;
use super::attr::Ino;
use super::errno::{Fail, Result};
use super::scratch::{ScratchNode, proc_path};
use super::table::Node;

/// Longest value, and longest list of names, in bytes (the kernel's XATTR_SIZE_MAX and XATTR_LIST_MAX).
const LONGEST: usize = 1 << 16;

impl Fs {
    /// Sets an attribute; `flags` as in setxattr(2).
    pub fn set_xattr(&self, ino: Ino, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
        let file = self.with_xattrs(ino, Some(name))?.fd()?;
        Ok(rustix::fs::setxattr(proc_path(&file), name, value, XattrFlags::from_bits_retain(flags as u32))?)
    }

    /// An attribute's value.
    pub fn get_xattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>> {
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
            Err(Fail::NotThere | Fail::NotSupported) => return Ok(Vec::new()),
            Err(fail) => return Err(fail),
        };
        let mut names = vec![0; LONGEST];
        let len = rustix::fs::listxattr(proc_path(&file), &mut names[..])?;
        let shown = names[..len].split_inclusive(|&b| b == 0).filter(|name| is_shown(name));
        Ok(shown.flatten().copied().collect())
    }

    /// Removes an attribute.
    pub fn remove_xattr(&self, ino: Ino, name: &OsStr) -> Result<()> {
        let file = self.with_xattrs(ino, Some(name))?.fd()?;
        Ok(rustix::fs::removexattr(proc_path(&file), name)?)
    }

    fn with_xattrs(&self, ino: Ino, name: Option<&OsStr>) -> Result<Arc<ScratchNode>> {
        if !self.options.xattr {
            return Err(Fail::NotThere);
        }
        match self.node(ino)? {
            Node::Scratch(scratch)
                if name.is_none_or(|name| is_shown(name.as_bytes()))
                    && matches!(scratch.kind()?, FileType::RegularFile | FileType::Directory) =>
            {
                Ok(scratch)
            }
            _ => Err(Fail::NotSupported),
        }
    }
}

fn is_shown(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}
