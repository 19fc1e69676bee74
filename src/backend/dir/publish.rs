//! How bytes become a named file at once.
//!
//! The text is written to a file that has no name yet, and then named. Where the medium has unnamed files
//! (O_TMPFILE), they are made in the very directory they will be in: nothing can be left behind, the directory's
//! default ACL, group and place on the disk apply, and no boundary of quota or subvolume lies between. Elsewhere a
//! temporary in `.revfs/stage` takes their part, which is closed before it is named. Which it is was seen to work, see
//! `medium`.
//!
//! Invariant: nothing but finished files, under their final names, ever appears in an object's directory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::access::of_object;
use super::layout::{Layout, Temporary};
use super::medium::LinkMethod;
use super::stage::Stage;
use super::sys::{self, Result};
use crate::backend::{Attrs, Durability, Meta};

/// The attributes of a file as they stay: naming changes its ctime, and xfs takes back spare blocks when it is closed.
fn final_meta(open: Meta, dir: BorrowedFd, name: &OsStr) -> Meta {
    // Somebody may have removed it already.
    sys::meta_at(dir, name).ok().flatten().unwrap_or(open)
}

impl Stage {
    /// Puts a new file into `dir`, whole and exclusively (`EEXIST`).
    pub fn publish(
        &self,
        layout: &Layout,
        dir: BorrowedFd,
        name: &OsStr,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        let way = self.medium.found(layout)?.way;
        let mode = attrs.mode.unwrap_or(0o666) & 0o777;
        let meta = match way {
            LinkMethod::Proc | LinkMethod::Descriptor => {
                let file = sys::unnamed(dir, mode)?;
                let meta = self.write(file.as_fd(), text, attrs, how)?;
                match way {
                    LinkMethod::Proc => sys::link_by_proc(file.as_fd(), dir, name)?,
                    _ => sys::link_by_fd(file.as_fd(), dir, name)?,
                }
                meta
            }
            LinkMethod::Exclusive | LinkMethod::Link | LinkMethod::Rename => {
                let mut temporary = Temporary::new(layout.stage()?);
                let (at, from) = (temporary.at, temporary.os());
                let meta = self.write_closed(at, from, mode, text, attrs, how)?;
                match way {
                    LinkMethod::Link => match sys::link(at, from, dir, name) {
                        Err(Errno::EXIST) if sys::links(at, from)? > 1 => {}
                        linked => linked?,
                    },
                    _ => {
                        self.rename_exclusive(at, from, dir, name)?;
                        temporary.kept = true;
                    }
                }
                meta
            }
        };
        if how == Durability::Full {
            self.sync_names(dir)?;
        }
        Ok(final_meta(meta, dir, name))
    }

    /// Makes a directory with one file in it and moves it to `dir`/`name`, where nothing may be (`EEXIST`).
    #[expect(clippy::too_many_arguments, reason = "a backend's `create`, and where")]
    pub fn create(
        &self,
        layout: &Layout,
        dir: BorrowedFd,
        name: &OsStr,
        file_name: &OsStr,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        let (mut staged, inside) = self.directory(layout, dir, attrs)?;
        let mode = attrs.mode.unwrap_or(0o666) & 0o777;
        let meta = self.write_closed(inside.as_fd(), file_name, mode, text, attrs, how)?;
        if how == Durability::Full {
            sys::sync_dir(inside.as_fd())?;
        }
        self.rename_exclusive(staged.at, staged.os(), dir, name)?;
        staged.kept = true;
        if how == Durability::Full {
            self.sync_names(dir)?;
        }
        Ok(final_meta(meta, inside.as_fd(), file_name))
    }

    /// An empty directory in `.revfs/stage`, open, with the owner and permissions that an object's directory has.
    pub fn directory<'a>(
        &self,
        layout: &'a Layout,
        store: BorrowedFd,
        attrs: &Attrs,
    ) -> Result<(Temporary<'a>, OwnedFd)> {
        let temporary = Temporary::new(layout.stage()?);
        sys::make_dir(temporary.at, temporary.os())?;
        let dir = sys::open_dir(temporary.at, temporary.os())?;
        layout.inherit(dir.as_fd())?;
        let to = of_object(sys::access(store)?, attrs, sys::access(dir.as_fd())?);
        sys::set_access(dir.as_fd(), to)?;
        Ok((temporary, dir))
    }

    /// Puts a file of ours, whole, in the place of one that may be there.
    pub fn replace(
        &self,
        layout: &Layout,
        dir: BorrowedFd,
        name: &OsStr,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<()> {
        let mut whole = Temporary::new(layout.stage()?);
        self.write_closed(whole.at, whole.os(), attrs.mode.unwrap_or(0o666) & 0o777, text, attrs, how)?;
        sys::rename(whole.at, whole.os(), dir, name)?;
        whole.kept = true;
        if how == Durability::Full {
            self.sync_names(dir)?;
        }
        Ok(())
    }
}
