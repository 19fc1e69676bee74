//! Opening and reading.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Result, apply, call, meta};
use crate::backend::{Attrs, LONGEST, Meta};

/// To open a file whatever has its name.
const FILE: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Where a path may lead. Linux before 5.6 knows no such thing; sandboxes that know no openat2 (older Docker) say EPERM.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// How often a path is followed that is moved meanwhile.
const FOLLOWS: usize = 16;

/// From which size on a file is looked at for holes.
const LARGE: u64 = 1 << 20;

/// Opens one name. `mode` is for what `flags` create.
pub fn open(at: BorrowedFd, name: impl AsRef<OsStr>, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    let (name, mode) = (name.as_ref(), Mode::from_raw_mode(mode));
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    call(|| match follow(at, name, flags, mode) {
        // Names come from listings, ids, revisions and the kernel: none has a slash in it.
        Err(Errno::NOSYS | Errno::PERM) if !name.as_bytes().contains(&b'/') => {
            fs::openat(at, name, flags, mode)
        }
        opened => opened,
    })
}

/// Opens what a path has that stays beneath `at`.
///
/// The kernel says `EXDEV` also where a part of the path is moved out of `at` while it is being followed, as an object's
/// directory is that is deleted. The path is followed again then, and leads to another thing or to none.
fn follow(at: BorrowedFd, path: &OsStr, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    for _ in 1..FOLLOWS {
        match fs::openat2(at, path, flags, mode, BENEATH) {
            Err(Errno::XDEV) => {}
            opened => return opened,
        }
    }
    fs::openat2(at, path, flags, mode, BENEATH)
}

/// A store's directory, whose path may lead through links.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    call(|| fs::open(path, flags, Mode::empty()))
}

/// A directory as an anchor for other calls; it cannot be listed or synced itself.
pub fn dir(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<OwnedFd> {
    open(at, name, OFlags::PATH | OFlags::DIRECTORY, 0)
}

/// A directory that can be listed and synced.
pub fn open_dir(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<OwnedFd> {
    open(at, name, OFlags::RDONLY | OFlags::DIRECTORY, 0)
}

/// Whatever has a name, to ask what it is; it cannot be read or written by this.
pub fn pin(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<OwnedFd> {
    open(at, name, OFlags::PATH, 0)
}

/// A regular file opened for reading, with its attributes. Anything else is `ENOENT`: links (`ELOOP`), sockets
/// (`ENXIO`), fifos, directories, devices.
pub fn open_file(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<(OwnedFd, Meta)> {
    regular(open(at, name, OFlags::RDONLY | FILE, 0))
}

/// The same opened for writing.
pub fn open_to_write(at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<(OwnedFd, Meta)> {
    regular(open(at, name, OFlags::WRONLY | FILE, 0))
}

/// [`open_file`] one level down, in one call where the kernel can refuse links in the middle of a path.
pub fn open_file_in(at: BorrowedFd, parent: &OsStr, name: &OsStr) -> Result<(OwnedFd, Meta)> {
    let flags = OFlags::RDONLY | FILE;
    let path = [parent.as_bytes(), b"/", name.as_bytes()].concat();
    match open(at, OsStr::from_bytes(&path), flags, 0) {
        Err(Errno::NOSYS | Errno::PERM) => open_file(dir(at, parent)?.as_fd(), name),
        opened => regular(opened),
    }
}

fn regular(opened: Result<OwnedFd>) -> Result<(OwnedFd, Meta)> {
    let fd = opened.map_err(|e| if e == Errno::NXIO { Errno::NOENT } else { e })?;
    let meta = meta(fd.as_fd())?.ok_or(Errno::NOENT)?;
    Ok((fd, meta))
}

/// [`read_all`] of what may be a text. `FBIG` also for a large file with holes, which takes no room on the disk and all of it
/// in memory: no text has a NUL in it.
pub fn read_text(fd: BorrowedFd, size: u64) -> Result<Vec<u8>> {
    let hole = if size > LARGE { call(|| fs::seek(fd, fs::SeekFrom::Hole(0))).ok() } else { None };
    // Media tell of holes where what was written is not on the disk yet.
    let is_one = |at: &u64| {
        let mut byte = [1];
        *at < size && call(|| rustix::io::pread(fd, &mut byte, *at)) == Ok(1) && byte == [0]
    };
    match hole.filter(is_one) {
        Some(_) => Err(Errno::FBIG),
        None => read_all(fd, size),
    }
}

/// The first bytes of a file.
pub fn read_start(fd: BorrowedFd, most: usize) -> Result<Vec<u8>> {
    let (mut text, mut len) = (vec![0; most], 0);
    while len < most {
        match call(|| rustix::io::pread(fd, &mut text[len..], len as u64))? {
            0 => break,
            n => len += n,
        }
    }
    text.truncate(len);
    Ok(text)
}

/// All bytes of a file, from its start. `FBIG` where they are more than a text has.
pub fn read_all(fd: BorrowedFd, size: u64) -> Result<Vec<u8>> {
    if size > LONGEST {
        return Err(Errno::FBIG);
    }
    // One byte more than the size tells in one read that the end is reached.
    let mut text = Vec::new();
    let room = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1);
    text.try_reserve_exact(room).map_err(|_| Errno::NOMEM)?;
    loop {
        if text.len() as u64 > LONGEST {
            return Err(Errno::FBIG);
        }
        if text.len() == text.capacity() {
            text.try_reserve(text.capacity().max(4096)).map_err(|_| Errno::NOMEM)?;
        }
        let at = text.len() as u64;
        if call(|| rustix::io::pread(fd, rustix::buffer::spare_capacity(&mut text), at))? == 0 {
            return Ok(text);
        }
        if text.len() as u64 == size && text.len() < text.capacity() {
            return Ok(text);
        }
    }
}

/// A file without a name, in the file system of `at`.
pub fn unnamed(at: BorrowedFd, mode: u32) -> Result<OwnedFd> {
    open(at, ".", OFlags::TMPFILE | OFlags::WRONLY, mode)
}

/// A new file for writing.
pub fn new_file(at: BorrowedFd, name: impl AsRef<OsStr>, mode: u32) -> Result<OwnedFd> {
    open(at, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, mode)
}

/// A file opened for reading; an empty one is made where there is none, for everybody to read.
pub fn open_or_make_empty(
    at: BorrowedFd,
    name: impl AsRef<OsStr>,
    owner: Option<(u32, u32)>,
) -> Result<OwnedFd> {
    let name = name.as_ref();
    match open_file(at, name) {
        Err(Errno::NOENT) => {}
        opened => return opened.map(|(file, _)| file),
    }
    // Or it is there by now, and as it is, or there is another thing.
    let file = match open(at, name, OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL, 0o644) {
        Err(Errno::EXIST) => return open_file(at, name).map(|(file, _)| file),
        made => made?,
    };
    let _ = apply(file.as_fd(), &Attrs { mode: Some(0o644), owner, ..Attrs::default() });
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn open_of_what_is_moved_away_meanwhile_is_of_what_is_there() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        std::fs::create_dir_all(path("in/d")).unwrap();
        std::fs::write(path("in/d/x"), "").unwrap();
        let inside = open_root(&path("in")).unwrap();
        let ended = AtomicBool::new(false);
        let (opened, missing) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::fs::rename(path("in/d"), path("d")).unwrap();
                    std::fs::rename(path("d"), path("in/d")).unwrap();
                }
            });
            let (mut opened, mut missing, mut other) = (0, 0, None);
            while other.is_none() && opened + missing < 200_000 {
                match open_file_in(inside.as_fd(), "d".as_ref(), "x".as_ref()) {
                    Ok(_) => opened += 1,
                    Err(Errno::NOENT) => missing += 1,
                    Err(e) => other = Some(e),
                }
            }
            ended.store(true, Ordering::Relaxed);
            assert_eq!(other, None, "after {opened} opened and {missing} missed");
            (opened, missing)
        });
        assert!(opened > 0 && missing > 0, "{opened} {missing}");
        assert_eq!(open(inside.as_fd(), "../d", OFlags::RDONLY, 0).unwrap_err(), Errno::XDEV);
    }
}
