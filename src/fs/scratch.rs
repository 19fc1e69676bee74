//! Scratch files: every name that is not an object's, kept as an ordinary file under the store's private directory.
//!
//! A node holds the file itself by an `O_PATH` descriptor, so renames, links and removals by anybody cannot make it
//! point elsewhere. Descriptors are few and the kernel may know more files (`npm install`, a clone of a large
//! repository), so those of files that nobody has open are given up in turn and found again under a name that led to the
//! file; directories keep theirs. Invariants: nothing of a scratch file's content is in memory; a descriptor is given up
//! only while a name leads to its file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, StatxFlags, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use crate::backend::sys;
use crate::fs::attr::{Attr, Caller, Ino, timespec};
use crate::fs::errno::{FsError, Result};
use crate::fs::ino::mixed;

mod cached;
mod calls;
mod mount_lock;

use cached::Cached;

pub use mount_lock::MountLock;

/// Inode numbers of scratch files start here; below are those that the mount makes up, above are the objects'.
const BASE: Ino = 1 << 50;

/// One scratch file, directory or link that the kernel knows.
pub struct ScratchNode {
    hold: Hold,
    /// What makes it itself.
    pub key: Key,
    /// Handles that may write.
    writers: AtomicU32,
    /// A program has closed one, and nothing was written since: its release comes later.
    pub closed: AtomicBool,
}

/// What makes a file below itself, see [`key`].
pub type Key = (u64, Ino);

/// A directory of scratch files.
pub type Dir = Arc<OwnedFd>;

/// How a node holds its file.
enum Hold {
    Fixed(Dir),
    Cached(Arc<Cached>),
}

/// A change of attributes. `None` leaves a thing as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub enum SetTime {
    Now,
    At(SystemTime),
}

impl SetTime {
    pub fn resolve(self) -> SystemTime {
        match self {
            SetTime::Now => SystemTime::now(),
            SetTime::At(t) => t,
        }
    }
}

impl ScratchNode {
    /// The file under `name` in `dir`.
    pub fn at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<ScratchNode> {
        ScratchNode::of(sys::pin(dir, name)?)
    }

    /// The file behind a descriptor.
    pub fn of(fd: OwnedFd) -> Result<ScratchNode> {
        let key = key(fd.as_fd(), OsStr::new(""))?;
        let (hold, writers) = (Hold::Fixed(Arc::new(fd)), AtomicU32::new(0));
        Ok(ScratchNode { hold, key, writers, closed: AtomicBool::new(false) })
    }

    /// A node that the kernel is about to know, found as `name` in `dir`: a file's descriptor may be given up once it is
    /// [enlisted](Self::enlist).
    pub fn into_cached(self, dir: &Dir, name: &OsStr, kind: FileType) -> ScratchNode {
        match self.hold {
            Hold::Fixed(fd) if kind != FileType::Directory => {
                let hold = Hold::Cached(Cached::new(self.key, fd, dir, name));
                ScratchNode { hold, ..self }
            }
            hold => ScratchNode { hold, ..self },
        }
    }

    /// Puts a new node's descriptor in line, once. Looks at the disk: no lock may be held.
    pub fn enlist(&self) {
        if let Hold::Cached(cached) = &self.hold {
            cached.enqueue();
        }
    }

    /// Whether it can be a file of this kind: one that was given up and removed may have left its number to another.
    pub fn fits(&self, kind: FileType) -> bool {
        matches!(self.hold, Hold::Fixed(_)) == (kind == FileType::Directory)
    }

    /// The file was found under this name, too.
    pub fn add_place(&self, dir: &Dir, name: &OsStr) {
        if let Hold::Cached(cached) = &self.hold {
            cached.add_place(dir, name);
        }
    }

    /// The directory itself, to look into.
    pub fn dir(&self) -> Result<&Dir> {
        match &self.hold {
            Hold::Fixed(fd) => Ok(fd),
            Hold::Cached(_) => Err(FsError::NotADirectory),
        }
    }

    /// The file itself, by an `O_PATH` descriptor.
    ///
    /// # Errors
    /// `Stale` where other mounts have moved it: looking its name up again helps.
    pub fn fd(&self) -> Result<Arc<OwnedFd>> {
        match &self.hold {
            Hold::Fixed(fd) => Ok(fd.clone()),
            Hold::Cached(cached) => cached.get(),
        }
    }

    /// The inode number that programs see.
    pub fn ino(&self) -> Ino {
        self.key.1
    }

    pub fn stat(&self) -> Result<Stat> {
        Ok(rustix::fs::fstat(self.fd()?)?)
    }

    pub fn attr(&self) -> Result<Attr> {
        Ok(Attr::of_stat(self.ino(), &self.stat()?))
    }

    pub fn kind(&self) -> Result<FileType> {
        Ok(FileType::from_raw_mode(self.stat()?.st_mode as _))
    }

    /// Opens the file anew.
    pub fn open(&self, flags: i32) -> Result<File> {
        let keep = OFlags::ACCMODE
            | OFlags::APPEND
            | OFlags::TRUNC
            | OFlags::NONBLOCK
            | OFlags::SYNC
            | OFlags::DSYNC
            | OFlags::NOATIME;
        // The kernel has turned appends into offsets already; with O_APPEND pwrite would ignore them.
        let flags = (OFlags::from_bits_retain(flags as u32) & keep) - OFlags::APPEND;
        let held = self.fd()?;
        let path = proc_path(&held);
        let open = |flags| rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty());
        // Partial page writes and appends read the page first.
        let fd = match flags & OFlags::ACCMODE {
            OFlags::WRONLY => {
                let both = (flags - OFlags::ACCMODE) | OFlags::RDWR;
                open(both).or_else(|e| if e == Errno::ACCESS { open(flags) } else { Err(e) })?
            }
            _ => open(flags)?,
        };
        Ok(File::from(fd))
    }

    /// All bytes of the file, at most `limit`. Nothing but a regular file is opened for that: another program may have put
    /// a fifo here.
    pub fn read_all(&self, limit: u64) -> Result<Vec<u8>> {
        let stat = self.stat()?;
        if FileType::from_raw_mode(stat.st_mode as _) != FileType::RegularFile {
            return Err(FsError::NotFound);
        }
        if stat.st_size as u64 > limit {
            return Err(FsError::TooLarge);
        }
        let mut bytes = Vec::new();
        self.open(0)?.take(limit + 1).read_to_end(&mut bytes).map_err(os)?;
        Ok(bytes)
    }

    /// What the file has to become an object of: its attributes, and its text of at most `limit` bytes.
    pub fn as_object(&self, limit: u64) -> Result<(Attr, Vec<u8>)> {
        let attr = self.attr()?;
        match attr.kind {
            FileType::RegularFile => Ok((attr, self.read_all(limit)?)),
            _ => Err(FsError::NotPermitted("an object is a regular file")),
        }
    }

    /// Applies a change, through `file` where the program has the file open.
    pub fn change(&self, change: &Change, file: Option<&File>) -> Result<()> {
        let held = self.fd()?;
        let path = proc_path(&held);
        if let Some(size) = change.size {
            match file {
                Some(file) => rustix::fs::ftruncate(file, size)?,
                None => rustix::fs::ftruncate(self.open(OFlags::WRONLY.bits() as i32)?, size)?,
            }
        }
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
            rustix::fs::chownat(&held, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = change.mode {
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode & 0o7777))?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let times = Timestamps { last_access: spec(change.atime), last_modification: spec(change.mtime) };
            rustix::fs::utimensat(&held, "", &times, AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }

    pub fn readlink(&self) -> Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(self.fd()?, "", Vec::new())?.into_bytes())
    }
}

/// A magic link that opens and links the file behind an `O_PATH` descriptor.
pub fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The inode number that programs see for inode `below`. The system gives the number of a file that was removed, or moved
/// onto an object, to the very next one; the time of birth tells the two apart. All bits are a hash of both: a part of them
/// for the time alone would be the same again after some hundred files.
fn ino_of(below: u64, born: Option<(i64, u32)>) -> Ino {
    let number = match born {
        Some((s, ns)) => {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&below.to_le_bytes());
            bytes[8..16].copy_from_slice(&s.to_le_bytes());
            bytes[16..].copy_from_slice(&ns.to_le_bytes());
            mixed(&bytes)
        }
        None => below,
    };
    BASE + (number & (BASE - 1))
}

/// What makes the file under `name`, or behind the descriptor where that is empty, itself: the device below, and the inode
/// number that programs see.
pub fn key(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Key> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let x = rustix::fs::statx(dir, name, flags, StatxFlags::INO | StatxFlags::BTIME)?;
    let born = x.stx_mask & StatxFlags::BTIME.bits() != 0;
    let born = born.then_some((x.stx_btime.tv_sec, x.stx_btime.tv_nsec));
    Ok((rustix::fs::makedev(x.stx_dev_major, x.stx_dev_minor), ino_of(x.stx_ino, born)))
}

/// How often a file is made that somebody else takes away.
const TRIES: usize = 16;

/// Creates a regular file; it belongs to the caller. One that is there already was not when the kernel looked: it is not
/// opened, for nobody has asked whether the caller may. The kernel looks again.
pub fn create(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    mode: u32,
    flags: i32,
    caller: Caller,
) -> Result<(ScratchNode, File)> {
    let exclusive = OFlags::from_bits_retain(flags as u32).contains(OFlags::EXCL);
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    // Another mount may make it and take it away at the same time.
    for _ in 0..TRIES {
        let file = match sys::open(dir, name, new, mode & 0o777) {
            Err(Errno::EXIST) if !exclusive => match key(dir, name) {
                Err(Errno::NOENT) => continue,
                _ => return Err(FsError::Stale),
            },
            made => File::from(made?),
        };
        let owned = give(dir, file.as_fd(), caller)?;
        // The kernel has applied the caller's umask; the daemon's own must not count. Who writes with the daemon's rights may
        // not have others run it with them.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & if owned { 0o7777 } else { 0o1777 }))?;
        match ScratchNode::at(dir, name) {
            Ok(node) if node.key == key(file.as_fd(), OsStr::new(""))? => return Ok((node, file)),
            Ok(_) | Err(FsError::NotFound | FsError::Os(Errno::NOENT)) => {}
            Err(fail) => return Err(fail),
        }
    }
    Err(FsError::Stale)
}

/// Makes a directory, link target, fifo, socket or device node, as `make` does it, and gives it to the caller.
pub fn make(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    caller: Option<Caller>,
    make: impl FnOnce() -> Result<(), Errno>,
) -> Result<ScratchNode> {
    make()?;
    let node = ScratchNode::at(dir, name)?;
    caller.map_or(Ok(true), |caller| give(dir, node.fd()?.as_fd(), caller))?;
    Ok(node)
}

/// Puts a whole file in place of `name`, atomically, with the attributes given.
pub fn replace(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    bytes: &[u8],
    like: &Attr,
    no_replace: bool,
) -> Result<ScratchNode> {
    let temp = format!(".{}", uuid::Uuid::new_v4().simple());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    let mut file = File::from(sys::open(dir, temp.as_str(), flags, 0o600)?);
    let filled = (|| {
        file.write_all(bytes).map_err(os)?;
        let (uid, gid) = (Uid::from_raw(like.uid), Gid::from_raw(like.gid));
        let keep = if rustix::fs::fchown(&file, Some(uid), Some(gid)).is_ok() { 0o7777 } else { 0o1777 };
        rustix::fs::fchmod(&file, Mode::from_raw_mode(like.perm & keep))?;
        let times = Timestamps { last_access: timespec(like.atime), last_modification: timespec(like.mtime) };
        rustix::fs::futimens(&file, &times)?;
        sys::close(file.into())?;
        let how = if no_replace { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        rename(dir, OsStr::new(&temp), dir, name, how)
    })();
    if let Err(fail) = filled {
        let _ = rustix::fs::unlinkat(dir, temp.as_str(), AtFlags::empty());
        return Err(fail);
    }
    ScratchNode::at(dir, name)
}

/// `renameat2`; a file system that knows no flags still renames without.
pub fn rename(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    newname: &OsStr,
    how: RenameFlags,
) -> Result<()> {
    if how.is_empty() {
        return Ok(rustix::fs::renameat(from, name, to, newname)?);
    }
    Ok(rustix::fs::renameat_with(from, name, to, newname, how)?)
}

/// Names in a directory with their kinds, without `.` and `..`.
pub fn list(dir: BorrowedFd<'_>) -> Result<Vec<(OsString, FileType)>> {
    use std::os::unix::ffi::OsStrExt;
    let mut names = Vec::new();
    // Opened anew: the node's own descriptor is good for names only.
    for entry in rustix::fs::Dir::new(sys::open_dir(dir, ".")?)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// A daemon that runs as root makes files for others. Whether the file is the caller's own now.
fn give(dir: BorrowedFd<'_>, file: BorrowedFd<'_>, caller: Caller) -> Result<bool> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return Ok(own.as_raw() == caller.uid);
    }
    // In a set-group-id directory the group is the directory's.
    let inherited = rustix::fs::fstat(dir)?.st_mode & 0o2000 != 0;
    let gid = (!inherited).then(|| Gid::from_raw(caller.gid));
    rustix::fs::chownat(file, "", Some(Uid::from_raw(caller.uid)), gid, AtFlags::EMPTY_PATH)?;
    Ok(true)
}

impl ScratchNode {
    /// A handle is opened. Its descriptor stays: an open file may lose its last name.
    pub fn add_handle(&self, write: bool) {
        self.writers.fetch_add(u32::from(write), Ordering::AcqRel);
        if let Hold::Cached(cached) = &self.hold {
            cached.handles.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub fn remove_handle(&self, write: bool) {
        let less = |count: &AtomicU32, by| {
            let _ =
                count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n: u32| Some(n.saturating_sub(by)));
        };
        less(&self.writers, u32::from(write));
        if let Hold::Cached(cached) = &self.hold {
            less(&cached.handles, 1);
        }
    }

    pub fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }
}

fn spec(t: Option<SetTime>) -> Timespec {
    match t {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(t)) => timespec(t),
    }
}

/// A failed read or write of a file, for the program that asked.
pub fn os(e: std::io::Error) -> FsError {
    FsError::Os(Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_that_the_disk_gives_anew_are_other_numbers_here() {
        let born = |n: u32| Some((1_700_000_000, n * 4_000_000));
        let reused: HashSet<Ino> =
            (0..200).flat_map(|n| (0..200).map(move |inode| ino_of(inode, born(n)))).collect();
        assert_eq!(reused.len(), 40_000);
        assert!(reused.iter().all(|ino| (BASE..2 * BASE).contains(ino)));
        assert_eq!((ino_of(12, None), ino_of(12, born(1))), (BASE + 12, ino_of(12, born(1))));
    }
}
