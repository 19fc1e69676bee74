//! Moving a directory where the medium will not: overlayfs answers EXDEV for what lies in a lower layer.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::layout::Temporary;
use super::origin;
use super::stage::Stage;
use super::sys::{self, Result};
use crate::backend::{Attrs, Durability};
use crate::rev::Rev;

/// How often what others save there meanwhile is fetched.
const TRIES: usize = 100;

impl Stage {
    /// Renames where `new` is free, else `EEXIST`.
    ///
    /// Where the medium has no exclusive rename, a file or an *empty* directory that appears between the look and the rename is
    /// replaced.
    pub fn rename_exclusive(&self, at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
        match self.rename_as_whole(at, name, to, new) {
            Err(Errno::XDEV) => self.carry(at, name, to, new),
            done => done,
        }
    }

    /// Moves a directory of files by what is in it: that comes into a new directory, which takes the free name `new` in one
    /// step, and leaves the old place then, the winner last. It is in both places for a while, and never in none.
    fn carry(&self, at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
        if sys::kind(at, name)? != Some(FileType::Directory) {
            return Err(Errno::XDEV);
        }
        let source = sys::open_dir(at, name)?;
        // No object has a name with a dot in front, nor is it one among what is gone.
        let mut made = Temporary::hidden(to);
        sys::make_dir(made.at, made.os())?;
        let target = sys::open_dir(made.at, made.os())?;
        sys::set_access(target.as_fd(), sys::access(source.as_fd())?)?;
        let mut names = self.bring(source.as_fd(), target.as_fd())?;
        sys::sync_dir(target.as_fd())?;
        self.rename_as_whole(made.at, made.os(), to, new)?;
        made.kept = true;
        for _ in 0..TRIES {
            for name in names {
                match sys::unlink(source.as_fd(), name) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                }
            }
            match sys::remove_dir(at, name) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => names = self.bring(source.as_fd(), target.as_fd())?,
                Err(Errno::NOENT) => return Ok(()),
                removed => return removed,
            }
        }
        Err(Errno::NOTEMPTY)
    }

    /// Gives every file in one directory the same name in another, in the order in which they may leave the first.
    fn bring(&self, source: BorrowedFd, target: BorrowedFd) -> Result<Vec<OsString>> {
        let mut names: Vec<OsString> = sys::list(source, ".")?.into_iter().map(|(name, _)| name).collect();
        names.sort_by_cached_key(|name| Rev::new(name).ok());
        for name in &names {
            match sys::link(source, name, target, name) {
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
                Err(_) if sys::meta_at(source, name)?.is_some() => {
                    let (file, meta) = sys::open_file(source, name)?;
                    let text = sys::read_all(file.as_fd(), meta.size)?;
                    let owner = Some((meta.uid, meta.gid));
                    let origin = origin::of(file.as_fd());
                    let attrs = Attrs { mtime: Some(meta.mtime), mode: Some(meta.mode), owner, origin };
                    self.write_closed(target, name, meta.mode & 0o777, &text, &attrs, Durability::Full)?;
                }
                // A directory, which nobody of ours has put there.
                Err(_) => return Err(Errno::XDEV),
            }
        }
        Ok(names)
    }
}
