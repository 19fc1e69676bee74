//! Bytes and names on their way: what is written before it is named, and named where nothing is.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::medium::{LinkMethod, Medium, Spares};
use super::origin;
use super::sys::{self, Result};
use crate::backend::{Attrs, Durability, LONGEST, Meta};

/// Names files, in the way that the medium allows.
#[derive(Debug)]
pub struct Stage {
    pub medium: Medium,
    /// The medium was found to know no exclusive rename.
    plain: AtomicBool,
}

impl Stage {
    /// For the file system that `root` is on.
    pub fn new(root: BorrowedFd) -> Result<Self> {
        Ok(Stage { medium: Medium::new(root)?, plain: AtomicBool::new(false) })
    }

    /// Another way than would be found to work here, on a medium where every step counts.
    pub fn force(&mut self, way: LinkMethod) {
        self.medium.force(way);
    }

    /// Makes a file that holds this when it is closed: what a medium tells then comes before the file's name, or that of its
    /// directory.
    pub(super) fn write_closed(
        &self,
        at: BorrowedFd,
        name: &OsStr,
        mode: u32,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        let file = sys::new_file(at, name, mode)?;
        let meta = self.write(file.as_fd(), text, attrs, how)?;
        sys::close(file).map(|()| meta)
    }

    /// Writes bytes and attributes to a new file, and gets the bytes to the medium ahead of a name.
    ///
    /// Waiting until they are written, without a flush of the medium, is what makes a journal put the file's size and
    /// extents before its name: on xfs, btrfs, and ext4. Only to start the writing is not enough on ext4, which allocates
    /// unwritten extents and marks them written when the data has arrived: of 60,440 revisions saved through 12 power
    /// cuts 6 were there and full of zeros. The wait costs 50 µs beside the 70 that publishing takes anyhow.
    pub fn write(&self, file: BorrowedFd, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta> {
        if text.len() as u64 > LONGEST {
            return Err(Errno::FBIG);
        }
        sys::write_all(file, text)?;
        sys::apply(file, attrs)?;
        origin::note(file, attrs.origin);
        match how {
            _ if self.medium.is_volatile() => {}
            // It is marked, see `unsynced`.
            Durability::Async => {}
            Durability::Ordered if !self.medium.is_layer() => sys::wait_written(file)?,
            _ => sys::sync(file)?,
        }
        sys::meta(file)?.ok_or(Errno::IO)
    }

    /// Renames where `new` is free, else `EEXIST`.
    ///
    /// Where the medium has no exclusive rename, a file or an *empty* directory that appears between the look and the rename is
    /// replaced.
    pub fn rename_as_whole(&self, at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
        if self.medium.spares() == Spares::All && !self.plain.load(Ordering::Relaxed) {
            match sys::rename_noreplace(at, name, to, new) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.plain.store(true, Ordering::Relaxed)
                }
                Err(Errno::NOTEMPTY) => return Err(Errno::EXIST),
                done => return done,
            }
        }
        // Where a rename replaces a directory with what is in it (rclone mount), the name is taken by an empty one, so that no
        // other comes. Readers may meet that, and others save into it: then this one was not the first.
        let takes =
            self.medium.spares() == Spares::Nothing && sys::kind(at, name)? == Some(FileType::Directory);
        if takes {
            sys::make_dir(to, new)?;
        } else if sys::kind(to, new)?.is_some() {
            return Err(Errno::EXIST);
        }
        let renamed = sys::rename(at, name, to, new);
        if takes && renamed.is_err() {
            let _ = sys::remove_dir(to, new);
        }
        match renamed {
            Err(Errno::NOTEMPTY) => Err(Errno::EXIST),
            done => done,
        }
    }

    /// Makes all that was written to the medium survive a power cut; `since` was opened before that.
    pub fn sync_all(&self, root: BorrowedFd, since: BorrowedFd) -> Result<()> {
        sys::sync_all(since)?;
        self.sync_names(root)
    }

    /// Makes the names in a directory survive a power cut.
    pub fn sync_names(&self, dir: BorrowedFd) -> Result<()> {
        sys::sync_dir(dir)?;
        if self.medium.is_xfs() {
            // While it shuts down (its log has failed) it takes back what was on its way to the log, and then calls an fsync of
            // a directory done for which nothing is left to do: of 25,620 names that had their fsync, 19 in 120 shutdowns
            // were missing. Then its attributes cannot be had any more, either.
            sys::identity(dir, "")?;
        }
        Ok(())
    }
}
