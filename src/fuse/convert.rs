//! Between fuser's types and ours, both ways.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fuser::{
    Errno, FileAttr, FileType, FopenFlags, Generation, INodeNo, ReplyEmpty, ReplyEntry, ReplyXattr, Request,
    TimeOrNow,
};
use log::{debug, error};

use crate::fs::attr::{Attr, Caller, Found};
use crate::fs::errno::FsError;
use crate::fs::replay::ReplayFs;
use crate::fs::scratch::SetTime;
use crate::fs::{Opened, OpenedDir};

pub(super) fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), thread: req.pid() }
}

pub(super) fn errno(fail: &FsError) -> Errno {
    Errno::from_i32(fail.errno())
}

/// Runs a call; a panic becomes an I/O error.
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, FsError>) -> Result<T, Errno> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fail)) => {
            debug!("answered {fail:?}");
            Err(errno(&fail))
        }
        Err(_) => {
            error!("a call panicked; please report this");
            Err(Errno::EIO)
        }
    }
}

/// [`guard`] of a call that is either the replay's, which has a file system of its own, or a program's.
pub(super) fn whose<T>(
    replay: Option<ReplayFs<'_>>,
    own: impl FnOnce(ReplayFs<'_>) -> Result<T, FsError>,
    program: impl FnOnce() -> Result<T, FsError>,
) -> Result<T, Errno> {
    guard(|| replay.map_or_else(program, own))
}

/// [`guard`] of a call that cannot fail.
pub(super) fn done(call: impl FnOnce()) -> Result<(), Errno> {
    guard(|| {
        call();
        Ok(())
    })
}

pub(super) fn kind(kind: rustix::fs::FileType) -> FileType {
    use rustix::fs::FileType as Kind;
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::RegularFile | Kind::Unknown => FileType::RegularFile,
    }
}

/// `ino` is the node in replies that make one, `st_ino` elsewhere.
pub(super) fn file_attr(ino: u64, a: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: a.size,
        blocks: a.blocks,
        atime: a.atime,
        mtime: a.mtime,
        ctime: a.ctime,
        crtime: a.mtime,
        kind: kind(a.kind),
        perm: a.perm as u16,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        blksize: 4096,
        flags: 0,
    }
}

pub(super) fn entry(result: Result<Found, Errno>, reply: ReplyEntry) {
    match result {
        Ok(f) => {
            reply.entry_with_ttls(&f.attr_ttl, &f.entry_ttl, &file_attr(f.node, &f.attr), Generation(0));
        }
        Err(e) => reply.error(e),
    }
}

pub(super) fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

pub(super) fn xattr(result: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match result {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => reply.error(errno(&FsError::Longer)),
        Ok(bytes) => reply.data(&bytes),
        Err(e) => reply.error(e),
    }
}

pub(super) fn open_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct);
    flags
}

pub(super) fn dir_flags(opened: &OpenedDir) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_CACHE_DIR, opened.cache);
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep);
    flags
}

pub(super) fn set_time(t: TimeOrNow) -> SetTime {
    match t {
        TimeOrNow::SpecificTime(t) => SetTime::At(t),
        TimeOrNow::Now => SetTime::Now,
    }
}
