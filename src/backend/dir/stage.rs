//! How bytes become a named file at once.
//!
//! The text is written to a file that has no name yet, and then named. Where the medium has unnamed files
//! (O_TMPFILE), they are made in the very directory they will be in: nothing can be left behind, the directory's
//! default ACL, group and place on the disk apply, and no boundary of quota or subvolume lies between. Elsewhere a
//! temporary in `.revfs/stage` takes their part. Which it is gets tried once.
//!
//! Invariant: nothing but finished files, under their final names, ever appears in an object's directory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use rustix::io::Errno;
use uuid::Uuid;

use super::access::of_object;
use super::private::Private;
use super::sys::{self, Result};
use crate::backend::{Attrs, Durability, Meta};

/// What is known of a file system, by its magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    /// tmpfs, ramfs: nothing survives a power cut.
    Volatile,
    /// overlayfs: does not pass sync_file_range on; what is below is not known.
    Overlay,
    /// xfs: what follows an fsync of a directory matters, see [`Stage::sync_names`].
    Xfs,
    /// nfs: no NOREPLACE; a LINK that was sent twice may answer EEXIST for its own success.
    Nfs,
    Other,
}

/// How a file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// An unnamed file, linked through /proc.
    Proc,
    /// An unnamed file, linked by its descriptor.
    Descriptor,
    /// A temporary, renamed exclusively.
    Exclusive,
    /// A temporary, linked and unlinked: exclusive on NFS.
    Link,
    /// A temporary, renamed: exclusive only in that the names of revisions do not repeat. CephFS (where two clients
    /// that link to one directory wait a second for each other) and GlusterFS.
    Rename,
}

/// Names files, in the way that the medium allows.
#[derive(Debug)]
pub struct Stage {
    medium: Medium,
    way: OnceLock<Way>,
    /// The medium was found to know no exclusive rename.
    plain: AtomicBool,
}

/// A written file that has no name in any object's directory.
struct Staged<'a> {
    file: OwnedFd,
    /// Its temporary name, removed on drop.
    temporary: Option<Temporary<'a>>,
}

/// Something in `.revfs/stage`, gone when this is dropped.
pub struct Temporary<'a> {
    pub at: BorrowedFd<'a>,
    pub name: String,
    pub kept: bool,
}

impl<'a> Temporary<'a> {
    /// A name that nothing has yet.
    pub fn new(at: BorrowedFd<'a>) -> Self {
        Temporary { at, name: Uuid::new_v4().simple().to_string(), kept: false }
    }

    /// In a directory where names with a dot in front are nobody's.
    pub fn hidden(at: BorrowedFd<'a>) -> Self {
        Temporary { name: format!(".{}", Uuid::new_v4().simple()), ..Temporary::new(at) }
    }

    pub fn os(&self) -> &OsStr {
        OsStr::new(&self.name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed when the store is opened a day later.
            let _ = sys::remove_shallow(self.at, OsStr::new(&self.name));
        }
    }
}

/// The attributes of a file as they stay: naming changes its ctime, and xfs takes back spare blocks when it is closed.
fn settled(file: OwnedFd, dir: BorrowedFd, name: &OsStr) -> Result<Meta> {
    let open = sys::meta(file.as_fd())?.ok_or(Errno::IO)?;
    drop(file);
    // Somebody may have removed it already.
    Ok(sys::meta_at(dir, name).ok().flatten().unwrap_or(open))
}

impl Stage {
    /// For the file system that `root` is on.
    pub fn new(root: BorrowedFd) -> Result<Self> {
        let magic = rustix::io::retry_on_intr(|| rustix::fs::fstatfs(root))?.f_type;
        let medium = match u32::try_from(magic & 0xffff_ffff).unwrap_or(0) {
            0x0102_1994 | 0x8584_58f6 => Medium::Volatile,
            0x794c_7630 => Medium::Overlay,
            0x5846_5342 => Medium::Xfs,
            0x6969 => Medium::Nfs,
            _ => Medium::Other,
        };
        Ok(Stage { medium, way: OnceLock::new(), plain: AtomicBool::new(false) })
    }

    /// Another way than would be found to work here, on a medium where every step counts.
    pub fn force(&mut self, way: Way) {
        self.medium = Medium::Xfs;
        self.way = OnceLock::from(way);
        self.plain = AtomicBool::new(matches!(way, Way::Link | Way::Rename));
    }

    /// Puts a new file into `dir`, whole and exclusively (`EEXIST`).
    pub fn publish(
        &self,
        private: &Private,
        dir: BorrowedFd,
        name: &OsStr,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        let way = self.way(private)?;
        let mode = attrs.mode.unwrap_or(0o666) & 0o777;
        let staged = match way {
            Way::Proc | Way::Descriptor => Staged { file: sys::unnamed(dir, mode)?, temporary: None },
            Way::Exclusive | Way::Link | Way::Rename => {
                let temporary = Temporary::new(private.stage()?);
                Staged {
                    file: sys::new_file(temporary.at, temporary.os(), mode)?,
                    temporary: Some(temporary),
                }
            }
        };
        self.write(staged.file.as_fd(), text, attrs, how)?;
        let file = self.name(way, staged, dir, name)?;
        if how == Durability::Full {
            self.sync_names(dir)?;
        }
        settled(file, dir, name)
    }

    /// Writes bytes and attributes to a new file, and gets the bytes to the medium ahead of a name.
    ///
    /// Waiting until they are written, without a flush of the medium, is what makes a journal put the file's size and
    /// extents before its name: on xfs, btrfs, and ext4. Only to start the writing is not enough on ext4, which allocates
    /// unwritten extents and marks them written when the data has arrived: of 60,440 revisions saved through 12 power
    /// cuts 6 were there and full of zeros. The wait costs 50 µs beside the 70 that publishing takes anyhow.
    pub(super) fn write(&self, file: BorrowedFd, text: &[u8], attrs: &Attrs, how: Durability) -> Result<()> {
        sys::write_all(file, text)?;
        sys::apply(file, attrs)?;
        match (how, self.medium) {
            (_, Medium::Volatile) => Ok(()),
            (Durability::Full, _) | (Durability::Ordered, Medium::Overlay) => sys::sync(file),
            (Durability::Ordered, Medium::Xfs | Medium::Nfs | Medium::Other) => sys::wait_written(file),
        }
    }

    fn name(&self, way: Way, staged: Staged, dir: BorrowedFd, name: &OsStr) -> Result<OwnedFd> {
        let Staged { file, temporary } = staged;
        match (way, temporary) {
            (Way::Descriptor, _) => sys::link_by_fd(file.as_fd(), dir, name)?,
            (Way::Proc, _) | (_, None) => sys::link_by_proc(file.as_fd(), dir, name)?,
            (Way::Link, Some(temporary)) => match sys::link(temporary.at, temporary.os(), dir, name) {
                Err(Errno::EXIST) if sys::links(file.as_fd())? > 1 => {}
                linked => linked?,
            },
            (Way::Exclusive | Way::Rename, Some(mut temporary)) => {
                self.rename_exclusive(temporary.at, temporary.os(), dir, name)?;
                temporary.kept = true;
            }
        }
        Ok(file)
    }

    /// Makes a directory with one file in it and moves it to `dir`/`name`, where nothing may be (`EEXIST`).
    #[allow(clippy::too_many_arguments)]
    pub fn create(
        &self,
        private: &Private,
        dir: BorrowedFd,
        name: &OsStr,
        file_name: &OsStr,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        let mut staged = self.directory(private, dir, attrs)?;
        let inside = sys::dir(staged.at, staged.os())?;
        let file = sys::new_file(inside.as_fd(), file_name, attrs.mode.unwrap_or(0o666) & 0o777)?;
        self.write(file.as_fd(), text, attrs, how)?;
        if how == Durability::Full {
            sys::sync_dir(inside.as_fd())?;
        }
        self.rename_exclusive(staged.at, staged.os(), dir, name)?;
        staged.kept = true;
        if how == Durability::Full {
            self.sync_names(dir)?;
        }
        settled(file, inside.as_fd(), file_name)
    }

    /// An empty directory in `.revfs/stage`, with the owner and permissions that an object's directory has.
    pub fn directory<'a>(
        &self,
        private: &'a Private,
        store: BorrowedFd,
        attrs: &Attrs,
    ) -> Result<Temporary<'a>> {
        let temporary = Temporary::new(private.stage()?);
        sys::make_dir(temporary.at, temporary.os())?;
        let dir = sys::open_dir(temporary.at, temporary.os())?;
        private.inherit(dir.as_fd())?;
        let to = of_object(sys::access(store)?, attrs, sys::access(dir.as_fd())?);
        sys::set_access(dir.as_fd(), to)?;
        Ok(temporary)
    }

    /// Renames where `new` is free, else `EEXIST`.
    ///
    /// Where the medium has no exclusive rename, a name that appears between the look and the rename is replaced if it
    /// is a file or an *empty* directory.
    pub fn rename_exclusive(&self, at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
        if !self.plain.load(Ordering::Relaxed) {
            match sys::rename_noreplace(at, name, to, new) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.plain.store(true, Ordering::Relaxed)
                }
                Err(Errno::NOTEMPTY) => return Err(Errno::EXIST),
                Err(Errno::XDEV) => return self.carry(at, name, to, new),
                done => return done,
            }
        }
        if sys::kind(to, new)?.is_some() {
            return Err(Errno::EXIST);
        }
        match sys::rename(at, name, to, new) {
            Err(Errno::NOTEMPTY) => Err(Errno::EXIST),
            Err(Errno::XDEV) => self.carry(at, name, to, new),
            done => done,
        }
    }

    /// Puts an empty file in the place of a file, at once. `like` is one, and this another name of it where that can be: there
    /// may be no inode for more.
    pub fn replace_by_empty(
        &self,
        private: &Private,
        dir: BorrowedFd,
        name: &OsStr,
        (at, like): (BorrowedFd, &OsStr),
    ) -> Result<()> {
        let mut empty = Temporary::new(private.stage()?);
        let is_empty = sys::meta_at(at, like)?.is_some_and(|meta| meta.size == 0);
        if !is_empty || sys::link(at, like, empty.at, empty.os()).is_err() {
            let file = sys::new_file(empty.at, empty.os(), 0o666)?;
            sys::apply(file.as_fd(), &private.attrs()?)?;
        }
        sys::rename(empty.at, empty.os(), dir, name)?;
        empty.kept = true;
        Ok(())
    }

    /// Makes the names in a directory survive a power cut.
    pub fn sync_names(&self, dir: BorrowedFd) -> Result<()> {
        sys::sync_dir(dir)?;
        if self.medium == Medium::Xfs {
            // Without a change of metadata after it, the newest name was missing after 2 of 2,697 cuts.
            let _ = sys::unnamed(dir, 0o600);
        }
        Ok(())
    }

    fn way(&self, private: &Private) -> Result<Way> {
        if let Some(&way) = self.way.get() {
            return Ok(way);
        }
        let way = self.try_ways(private.stage()?)?;
        Ok(*self.way.get_or_init(|| way))
    }

    fn try_ways(&self, stage: BorrowedFd) -> Result<Way> {
        let target = Temporary::new(stage);
        match sys::unnamed(stage, 0o600) {
            Ok(file) => {
                if sys::link_by_proc(file.as_fd(), stage, target.os()).is_ok() {
                    return Ok(Way::Proc);
                }
                if sys::link_by_fd(file.as_fd(), stage, target.os()).is_ok() {
                    return Ok(Way::Descriptor);
                }
            }
            // A medium that cannot (EOPNOTSUPP, or EISDIR and EINVAL where the flag is not known), not one that fails.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {}
            Err(e) => return Err(e),
        }
        if self.medium == Medium::Nfs {
            return Ok(Way::Link);
        }
        let mut source = Temporary::new(stage);
        sys::new_file(stage, source.os(), 0o600)?;
        match sys::rename_noreplace(stage, source.os(), stage, target.os()) {
            Ok(()) => {
                source.kept = true;
                Ok(Way::Exclusive)
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.plain.store(true, Ordering::Relaxed);
                Ok(Way::Rename)
            }
            Err(e) => Err(e),
        }
    }

    /// Whether a name may be an object's directory; the listing's kind saves asking.
    pub fn is_dir(at: BorrowedFd, name: &OsStr, listed: FileType) -> bool {
        match listed {
            FileType::Directory => true,
            FileType::Unknown => matches!(sys::kind(at, name), Ok(Some(FileType::Directory))),
            _ => false,
        }
    }
}
