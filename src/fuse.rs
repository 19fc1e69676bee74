//! The FUSE protocol: decode, call, reply. Nothing is decided here but whose call it is: the replaying process has its own.
//!
//! A panic in a call ends that call with EIO and nothing else: fuser's workers die silently otherwise.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use crate::fs::attr::Attr;
use crate::fs::errno::FsError;
use crate::fs::replay::ReplayFs;
use crate::fs::scratch::Change;
use crate::fs::{self, Fs, Mode};

mod convert;
pub(crate) mod idle;
mod tell;
mod workers;

pub use self::{idle::Idle, tell::Tell};

use convert::{
    caller, dir_flags, done, empty, entry, errno, file_attr, guard, kind, open_flags, set_time, whose, xattr,
};
use workers::{Call, Workers};

/// The adapter that fuser serves.
pub struct Adapter {
    fs: Arc<Fs>,
    workers: Arc<Workers>,
}

/// Largest write in one request, in bytes.
const MAX_WRITE: u32 = 1 << 20;

/// How many requests that no program waits for (releases, reads ahead) the kernel may have under way: all, or some that
/// wait for the disk would hold up the others. For users but root it takes the least of this and what
/// `/sys/module/fuse/parameters/max_user_bgreq` says.
const BACKGROUND: u16 = u16::MAX;

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in [
            // Lookups in one directory need not wait for each other: all objects are in one.
            InitFlags::FUSE_PARALLEL_DIROPS,
            // Truncation comes with the open: an emptied draft is one step, not a commit of nothing.
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            // A default access list takes the umask's place.
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            // A file's handle is good for as long as the file is there: `.` of a number is looked up.
            InitFlags::FUSE_EXPORT_SUPPORT,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
        ] {
            // What the kernel does not have it does without.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {
        self.workers.finish();
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (caller, name) = (caller(req), name.to_owned());
        self.look(move |fs| {
            let own = |replay: ReplayFs<'_>| replay.lookup(parent.0, &name);
            entry(whose(fs.replay_by(caller), own, || fs.lookup(caller, parent.0, &name)), reply);
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let _ = done(|| self.fs.forget(ino.0, nlookup));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let (caller, fh) = (caller(req), fh.map(|h| h.0));
        self.look(move |fs| {
            let own = |replay: ReplayFs<'_>| replay.getattr(caller, ino.0, fh);
            match whose(fs.replay_by(caller), own, || fs.getattr(caller, ino.0, fh)) {
                Ok((a, ttl)) => reply.attr(&ttl, &file_attr(a.ino, &a)),
                Err(e) => reply.error(e),
            }
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change { mode, uid, gid, size, atime: atime.map(set_time), mtime: mtime.map(set_time) };
        let caller = caller(req);
        self.change(move |fs| {
            let program = || fs.setattr(caller, ino.0, &change, fh.map(|h| h.0));
            match whose(fs.replay_by(caller), |replay| replay.setattr(ino.0), program) {
                Ok(a) => reply.attr(&Duration::ZERO, &file_attr(a.ino, &a)),
                Err(e) => reply.error(e),
            }
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.look(move |fs| match guard(|| fs.readlink(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let mode = self.fs.mode_of_new(mode, umask);
        let (caller, name) = (caller(req), name.to_owned());
        self.change(move |fs| entry(guard(|| fs.mknod(caller, parent.0, &name, mode, rdev)), reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mode = self.fs.mode_of_new(mode, umask);
        let (caller, name) = (caller(req), name.to_owned());
        self.change(move |fs| entry(guard(|| fs.mkdir(caller, parent.0, &name, mode)), reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, name) = (caller(req), name.to_owned());
        self.change(move |fs| {
            let program = || fs.unlink(parent.0, &name);
            empty(whose(fs.replay_by(caller), |own| own.unlink(parent.0, &name), program), reply);
        });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.change(move |fs| empty(guard(|| fs.rmdir(parent.0, &name)), reply));
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &std::path::Path,
        reply: ReplyEntry,
    ) {
        let (caller, name, target) = (caller(req), name.to_owned(), target.as_os_str().to_owned());
        self.change(move |fs| entry(guard(|| fs.symlink(caller, parent.0, &name, &target)), reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let known = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE;
        if !known.contains(flags) {
            return reply.error(errno(&FsError::Invalid));
        }
        let flags = fs::RenameFlags {
            no_replace: flags.contains(RenameFlags::RENAME_NOREPLACE),
            exchange: flags.contains(RenameFlags::RENAME_EXCHANGE),
        };
        let (caller, name, newname) = (caller(req), name.to_owned(), newname.to_owned());
        self.change(move |fs| {
            empty(guard(|| fs.rename(caller, parent.0, &name, newparent.0, &newname, flags)), reply);
        });
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (caller, newname) = (caller(req), newname.to_owned());
        self.change(move |fs| entry(guard(|| fs.link(caller, ino.0, newparent.0, &newname)), reply));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (caller, mode) = (caller(req), Mode::new(flags.0));
        let call = if mode.write { Call::Change } else { Call::Look };
        self.answer(call, move |fs| {
            match whose(fs.replay_by(caller), |replay| replay.open(ino.0), || fs.open(caller, ino.0, mode)) {
                Ok(o) => reply.opened(FileHandle(o.handle), open_flags(&o)),
                Err(e) => reply.error(e),
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let mode = self.fs.mode_of_new(mode, umask);
        let (caller, name) = (caller(req), name.to_owned());
        self.change(move |fs| {
            let program = || fs.create(caller, parent.0, &name, mode, Mode::new(flags));
            match whose(fs.replay_by(caller), |replay| replay.create(&name), program) {
                Ok((f, o)) => {
                    let (ttl, attr) = (f.attr_ttl.min(f.entry_ttl), file_attr(f.node, &f.attr));
                    reply.created(&ttl, &attr, Generation(0), FileHandle(o.handle), open_flags(&o));
                }
                Err(e) => reply.error(e),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let size = size as usize;
        self.look(move |fs| {
            let read = || match fh.0 {
                fs::NO_HANDLE => fs.read_node(ino.0, offset, size),
                handle => fs.read(handle, offset, size),
            };
            match guard(read) {
                Ok(bytes) => reply.data(&bytes),
                Err(e) => reply.error(e),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let answer = move |fs: &Fs, data: &[u8]| match guard(|| fs.write(fh.0, offset, data)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(e) => reply.error(e),
        };
        match self.workers.turn(Call::Change) {
            Some(_turn) => answer(&self.fs, data),
            None => {
                let (fs, data) = (self.fs.clone(), data.to_owned());
                self.workers.hand_over(Call::Change, move || answer(&fs, &data));
            }
        }
    }

    fn flush(&self, req: &Request, _ino: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        let caller = caller(req);
        self.change(move |fs| empty(guard(|| fs.flush(caller, fh.0)), reply));
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.change(move |fs| match fs.replay_of(fh.0) {
            Some(replay) => empty(done(|| replay.release(fh.0)), reply),
            None => empty(done(|| fs.release(fh.0)), reply),
        });
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.change(move |fs| empty(guard(|| fs.fsync(fh.0, datasync)), reply));
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let caller = caller(req);
        self.look(move |fs| match guard(|| fs.opendir(caller, ino.0)) {
            Ok(o) => reply.opened(FileHandle(o.handle), dir_flags(&o)),
            Err(e) => reply.error(e),
        });
    }

    fn readdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.look(move |fs| {
            let filled = guard(|| {
                fs.readdir(fh.0, offset, |item, next| {
                    reply.add(INodeNo(item.ino), next, kind(item.kind), item.name)
                })
            });
            match filled {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(e),
            }
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let caller = caller(req);
        self.look(move |fs| {
            let filled = guard(|| {
                fs.readdirplus(caller, fh.0, offset, |item, next, found| {
                    let (ttl, attr) = match found {
                        Some(f) => (f.attr_ttl.min(f.entry_ttl), file_attr(f.node, &f.attr)),
                        // Of `.` and `..` the kernel takes the number alone.
                        None => (Duration::ZERO, file_attr(item.ino, &Attr::dot(item.ino))),
                    };
                    reply.add(INodeNo(item.ino), next, item.name, &ttl, &attr, Generation(0))
                })
            });
            match filled {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(e),
            }
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.look(move |fs| empty(done(|| fs.release(fh.0)), reply));
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.change(move |fs| empty(guard(|| fs.sync_all()), reply));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.look(move |fs| match guard(|| fs.statfs()) {
            Ok(s) => reply.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                s.f_bsize as u32,
                255,
                s.f_frsize as u32,
            ),
            Err(e) => reply.error(e),
        });
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.change(move |fs| empty(guard(|| fs.fallocate(fh.0, offset, length, mode)), reply));
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.look(move |fs| match guard(|| fs.seek(fh.0, offset, whence)) {
            Ok(offset) => reply.offset(offset),
            Err(e) => reply.error(e),
        });
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        // Python asks each text file that it opens whether it is a terminal.
        reply.error(errno(&FsError::NotATerminal));
    }

    // The kernel then copies by reading and writing, and takes every file as ready; fuser would warn of each.
    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (caller, name, value) = (caller(req), name.to_owned(), value.to_owned());
        self.change(move |fs| empty(guard(|| fs.set_xattr(caller, ino.0, &name, &value, flags)), reply));
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (caller, name) = (caller(req), name.to_owned());
        self.look(move |fs| xattr(guard(|| fs.get_xattr(caller, ino.0, &name)), size, reply));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.look(move |fs| xattr(guard(|| fs.list_xattr(ino.0)), size, reply));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, name) = (caller(req), name.to_owned());
        self.change(move |fs| empty(guard(|| fs.remove_xattr(caller, ino.0, &name)), reply));
    }
}
