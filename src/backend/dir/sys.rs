//! The system calls of the directory backend.
//!
//! Invariants: every path is relative to a descriptor, and leads to what is below it; no link is followed, in any component;
//! a call interrupted by a signal is repeated; opening never blocks (a fifo in an object's directory must not hang the
//! mount), nor is anything read but regular files, and not more of one than a text can be long.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, FileType, Mode, RawDir, RenameFlags, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::backend::{Attrs, Meta, NoIo};

mod open;

pub use open::{
    dir, new_file, open, open_dir, open_file, open_file_in, open_or_make_empty, open_root, open_to_write,
    pin, read_all, read_start, read_text, unnamed,
};

const DEFAULT_ACL: &str = "system.posix_acl_default";

pub type Result<T> = std::result::Result<T, Errno>;

/// Runs a system call, again if a signal interrupted it. In tests a chosen one fails instead.
pub fn call<T>(f: impl FnMut() -> Result<T>) -> Result<T> {
    NoIo::assert_none();
    #[cfg(test)]
    super::faults::step()?;
    retry_on_intr(f)
}

/// `None` where there is no such thing, or another than was asked for.
pub fn found<T>(done: Result<T>) -> Result<Option<T>> {
    match done {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        done => done.map(Some),
    }
}

pub fn empty(file: BorrowedFd) -> Result<()> {
    call(|| fs::ftruncate(file, 0))
}

/// Reserves room for a file. What does not know how to says so by `OPNOTSUPP`.
pub fn allocate(file: BorrowedFd, size: u64) -> Result<()> {
    match call(|| fs::fallocate(file, fs::FallocateFlags::empty(), 0, size)) {
        Err(Errno::NOSYS | Errno::INVAL) => Err(Errno::OPNOTSUPP),
        done => done,
    }
}

/// The attributes of an open file; `None` where it is not a regular file.
pub fn meta(fd: BorrowedFd) -> Result<Option<Meta>> {
    let x = statx(fd, "", AtFlags::EMPTY_PATH)?;
    Ok((FileType::from_raw_mode(x.stx_mode.into()) == FileType::RegularFile).then(|| meta_of(&x)))
}

/// The attributes of a regular file that need not be readable.
pub fn meta_at(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<Option<Meta>> {
    let x = statx(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((FileType::from_raw_mode(x.stx_mode.into()) == FileType::RegularFile).then(|| meta_of(&x)))
}

fn statx(at: BorrowedFd, name: impl AsRef<OsStr>, flags: AtFlags) -> Result<fs::Statx> {
    call(|| fs::statx(at, name.as_ref(), flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME))
}

fn meta_of(x: &fs::Statx) -> Meta {
    let time = |t: fs::StatxTimestamp| {
        let whole = Duration::from_secs(t.tv_sec.unsigned_abs());
        let at = if t.tv_sec < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
        at.and_then(|at| at.checked_add(Duration::from_nanos(t.tv_nsec.into()))).unwrap_or(UNIX_EPOCH)
    };
    Meta {
        size: x.stx_size,
        blocks: x.stx_blocks,
        mtime: time(x.stx_mtime),
        atime: time(x.stx_atime),
        ctime: time(x.stx_ctime),
        born: (x.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(x.stx_btime)),
        mode: u32::from(x.stx_mode) & 0o7777,
        uid: x.stx_uid,
        gid: x.stx_gid,
    }
}

/// What tells one file or directory from all others as long as it is open.
pub fn identity(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<(u32, u32, u64)> {
    let empty = name.as_ref().is_empty();
    let flags = if empty { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    let x = statx(at, name, flags)?;
    Ok((x.stx_dev_major, x.stx_dev_minor, x.stx_ino))
}

/// A path to what is open.
pub fn path_of(fd: BorrowedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What has this name; `None` where nothing has.
pub fn kind(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<Option<FileType>> {
    let there = found(statx(at, name, AtFlags::SYMLINK_NOFOLLOW))?;
    Ok(there.map(|x| FileType::from_raw_mode(x.stx_mode.into())))
}

/// Permissions, 12 bits, and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Who may do what with an open file or directory.
pub fn access(fd: BorrowedFd) -> Result<Access> {
    access_of(fd, "")
}

/// The same of what has a name.
pub fn access_of(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<Access> {
    let x = statx(at, name, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Access { mode: u32::from(x.stx_mode) & 0o7777, uid: x.stx_uid, gid: x.stx_gid })
}

/// Changes that as far as the process may. Whoever gives a directory away may be the one who can change it no more.
pub fn set_access(fd: BorrowedFd, to: Access) -> Result<()> {
    let now = access(fd)?;
    if (now.uid, now.gid) != (to.uid, to.gid) {
        change_owner(fd, (to.uid, to.gid))?;
    }
    match if now.mode == to.mode { Ok(()) } else { change_mode(fd, to.mode) } {
        Err(Errno::PERM) => Ok(()),
        changed => changed,
    }
}

/// When something was last changed, attributes and name included: unlike mtime, no program can set it. What a server says,
/// not what was remembered of it.
pub fn changed(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<SystemTime> {
    Ok(meta_of(&statx(at, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC)?).ctime)
}

/// What is made in a directory inherits this; `None` where it inherits nothing. Of media without such lists, too.
pub fn default_acl(dir: BorrowedFd) -> Result<Option<Vec<u8>>> {
    let mut list = Vec::with_capacity(4096);
    match call(|| fs::fgetxattr(dir, DEFAULT_ACL, rustix::buffer::spare_capacity(&mut list))) {
        Ok(_) => Ok(Some(list).filter(|list| !list.is_empty())),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Gives a directory the access list that it would have inherited, and to hand on.
pub fn inherit_acl(dir: BorrowedFd, list: &[u8]) -> Result<()> {
    for name in [DEFAULT_ACL, "system.posix_acl_access"] {
        match call(|| fs::fsetxattr(dir, name, list, fs::XattrFlags::empty())) {
            Err(Errno::PERM | Errno::OPNOTSUPP) => {}
            set => set?,
        }
    }
    Ok(())
}

/// How many names a file has.
pub fn links(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<u32> {
    Ok(statx(at, name, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)?.stx_nlink)
}

/// All names in a directory but `.` and `..`, in the order of the medium, with what the listing says of their kind.
pub fn list(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    each(at, name, |name, kind| names.push((name.into(), kind)))?;
    Ok(names)
}

/// [`list`] without keeping the names.
pub fn each(at: BorrowedFd, name: impl AsRef<OsStr>, mut see: impl FnMut(&OsStr, FileType)) -> Result<()> {
    each_while(at, name, |name, kind| {
        see(name, kind);
        true
    })
}

/// The same until `see` says that it has seen enough.
pub fn each_while(
    at: BorrowedFd,
    name: impl AsRef<OsStr>,
    mut see: impl FnMut(&OsStr, FileType) -> bool,
) -> Result<()> {
    // Opened anew: a descriptor that others use has its place in the listing only once.
    let dir = open_dir(at, name)?;
    let mut buffer = Vec::with_capacity(32 << 10);
    let room: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
    let mut entries = RawDir::new(dir.as_fd(), room);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(e) if matches!(e.file_name().to_bytes(), b"." | b"..") => {}
            Ok(e) if see(OsStr::from_bytes(e.file_name().to_bytes()), e.file_type()) => {}
            Ok(_) => break,
            Err(Errno::INTR) => {}
            // Removed while it was listed.
            Err(Errno::NOENT) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub fn write_all(fd: BorrowedFd, mut text: &[u8]) -> Result<()> {
    while !text.is_empty() {
        match call(|| rustix::io::write(fd, text))? {
            0 => return Err(Errno::IO),
            n => text = &text[n..],
        }
    }
    Ok(())
}

/// Closes a file and tells how that went: network file systems and FUSE say there that bytes could not be written.
pub fn close(file: OwnedFd) -> Result<()> {
    NoIo::assert_none();
    #[cfg(test)]
    super::faults::step()?;
    // SAFETY: the descriptor is owned, and given up here; it is closed whatever this returns. rustix drops the result.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => match Errno::from_io_error(&std::io::Error::last_os_error()) {
            // Whether all was written then is not known.
            None | Some(Errno::INTR) => Err(Errno::IO),
            Some(e) => Err(e),
        },
    }
}

/// Has an open file tell what its [`close`] would.
pub fn flush(file: BorrowedFd) -> Result<()> {
    close(call(|| rustix::io::fcntl_dupfd_cloexec(file, 0))?)
}

/// Names an unnamed file, through /proc: works for everybody.
pub fn link_by_proc(file: BorrowedFd, at: BorrowedFd, name: &OsStr) -> Result<()> {
    call(|| fs::linkat(fs::CWD, path_of(file), at, name, AtFlags::SYMLINK_FOLLOW))?;
    #[cfg(test)]
    super::faults::linked(file, at, name);
    Ok(())
}

/// Names an unnamed file without /proc: for the privileged, or since Linux 6.10.
pub fn link_by_fd(file: BorrowedFd, at: BorrowedFd, name: &OsStr) -> Result<()> {
    call(|| fs::linkat(file, "", at, name, AtFlags::EMPTY_PATH))?;
    #[cfg(test)]
    super::faults::linked(file, at, name);
    Ok(())
}

pub fn link(at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
    call(|| fs::linkat(at, name, to, new, AtFlags::empty()))
}

pub fn rename(at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
    #[cfg(test)]
    super::faults::renaming(at, name, to, new)?;
    call(|| fs::renameat(at, name, to, new))
}

/// Renames where `new` is free, else `EEXIST`; `EINVAL` where the medium cannot promise that.
pub fn rename_noreplace(at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> Result<()> {
    #[cfg(test)]
    if super::faults::is(super::faults::Medium::Replaces) {
        return rename(at, name, to, new);
    }
    #[cfg(test)]
    super::faults::renaming(at, name, to, new)?;
    call(|| fs::renameat_with(at, name, to, new, RenameFlags::NOREPLACE))
}

pub fn make_dir(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<()> {
    call(|| fs::mkdirat(at, name.as_ref(), Mode::from_raw_mode(0o777)))
}

pub fn unlink(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<()> {
    call(|| fs::unlinkat(at, name.as_ref(), AtFlags::empty()))
}

pub fn remove_dir(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<()> {
    call(|| fs::unlinkat(at, name.as_ref(), AtFlags::REMOVEDIR))
}

/// Removes a file, or a directory and the files in it; never further down (a staged directory has no other content).
pub fn remove_shallow(at: BorrowedFd, name: &OsStr) -> Result<()> {
    match unlink(at, name) {
        Err(Errno::ISDIR | Errno::PERM) => {
            let dir = open_dir(at, name)?;
            for (inner, _) in list(dir.as_fd(), ".")? {
                unlink(dir.as_fd(), inner)?;
            }
            remove_dir(at, name)
        }
        done => done,
    }
}

pub fn change_mode(fd: BorrowedFd, mode: u32) -> Result<()> {
    call(|| fs::fchmod(fd, Mode::from_raw_mode(mode & 0o7777)))
}

/// Gives a file away; where the process may not (or the medium knows no such user) it stays as it is.
pub fn change_owner(fd: BorrowedFd, (uid, gid): (u32, u32)) -> Result<()> {
    // uid_t -1 means "leave it": no user has that number.
    if uid == u32::MAX || gid == u32::MAX {
        return Ok(());
    }
    let owner = (Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)));
    match call(|| fs::fchown(fd, owner.0, owner.1)) {
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => done,
    }
}

fn change_mtime(fd: BorrowedFd, mtime: SystemTime) -> Result<()> {
    call(|| fs::futimens(fd, &times(mtime)))
}

/// For a call that sets the one time and keeps the other.
fn times(mtime: SystemTime) -> fs::Timestamps {
    let keep = fs::Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
    fs::Timestamps { last_access: keep, last_modification: timespec(mtime) }
}

fn timespec(t: SystemTime) -> fs::Timespec {
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => fs::Timespec { tv_sec: seconds(d), tv_nsec: d.subsec_nanos().into() },
        Err(before) => match (seconds(before.duration()), before.duration().subsec_nanos()) {
            (s, 0) => fs::Timespec { tv_sec: -s, tv_nsec: 0 },
            (s, n) => fs::Timespec { tv_sec: -s - 1, tv_nsec: (1_000_000_000 - n).into() },
        },
    }
}

/// Applies what is given and differs; the owner first, because giving a file away clears bits of its mode.
pub fn apply(fd: BorrowedFd, attrs: &Attrs) -> Result<()> {
    if attrs.mode.is_some() || attrs.owner.is_some() {
        let now = statx(fd, "", AtFlags::EMPTY_PATH)?;
        let owner = attrs.owner.filter(|&o| o != (now.stx_uid, now.stx_gid));
        if let Some(owner) = owner {
            change_owner(fd, owner)?;
        }
        let differs = |m: u32| m & 0o7777 != u32::from(now.stx_mode) & 0o7777;
        if let Some(mode) = attrs.mode.filter(|&m| owner.is_some() || differs(m)) {
            change_mode(fd, mode)?;
        }
    }
    attrs.mtime.map_or(Ok(()), |t| change_mtime(fd, t))
}

/// A descriptor that may not be read takes no attributes, but its name in /proc does.
pub fn change_mode_of_pinned(file: BorrowedFd, mode: u32) -> Result<()> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    call(|| fs::chmodat(fs::CWD, path_of(file), mode, AtFlags::empty()))
}

/// [`apply`] to a file that may not be readable (`chmod 200`), by its name.
pub fn apply_at(at: BorrowedFd, name: &OsStr, attrs: &Attrs) -> Result<()> {
    match open_file(at, name) {
        Ok((file, _)) => return apply(file.as_fd(), attrs),
        Err(Errno::ACCESS) => {}
        Err(e) => return Err(e),
    }
    let file = pin(at, name)?;
    meta(file.as_fd())?.ok_or(Errno::NOENT)?;
    if let Some(mode) = attrs.mode {
        change_mode_of_pinned(file.as_fd(), mode)?;
    }
    let path = path_of(file.as_fd());
    attrs
        .mtime
        .map_or(Ok(()), |mtime| call(|| fs::utimensat(fs::CWD, &path, &times(mtime), AtFlags::empty())))
}

pub fn sync(fd: BorrowedFd) -> Result<()> {
    match call(|| fs::fsync(fd)) {
        // Media that have nothing to sync, or no way to sync a directory. (EROFS is what a disk says that was made read-only
        // for an error: what is written has not come there.)
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        done => done,
    }
}

/// Makes all that was written to a file system survive a power cut. `dir` tells of what could not be written since it was opened,
/// once; of what was before, and told to somebody else, nothing.
pub fn sync_all(dir: BorrowedFd) -> Result<()> {
    match call(|| fs::syncfs(dir)) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        done => done,
    }
}

/// Has what is read next of a file come from the medium, as far as that has all of it.
pub fn drop_cached(file: BorrowedFd) {
    let _ = fs::fadvise(file, 0, None, fs::Advice::DontNeed);
}

/// Locks a directory as long as it is open. Whether nobody else has.
pub fn lock(dir: BorrowedFd) -> Result<bool> {
    match call(|| fs::flock(dir, fs::FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Makes the names in a directory survive a power cut.
pub fn sync_dir(dir: BorrowedFd) -> Result<()> {
    sync(open_dir(dir, ".")?.as_fd())
}

/// Writes a file's bytes to the medium and waits until it has them, in its cache or beyond. Their size may not be there.
pub fn wait_written(fd: BorrowedFd) -> Result<()> {
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let done = call(|| {
        // SAFETY: no memory is passed, and `fd` is open for as long as it is borrowed. rustix has no such call.
        match unsafe { libc::sync_file_range(fd.as_raw_fd(), 0, 0, flags) } {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    });
    match done {
        Err(Errno::NOSYS | Errno::INVAL | Errno::SPIPE | Errno::OPNOTSUPP) => call(|| fs::fdatasync(fd)),
        done => done,
    }
}
