//! Attributes as the kernel wants them, from what the layers below know.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};

use crate::backend::Meta;

/// A node's number in the protocol, and an inode number in `stat`.
pub type Ino = u64;

/// The root directory's.
pub const ROOT: Ino = 1;

/// How long the kernel may keep what it was told: until it is told otherwise.
pub const LONG: Duration = Duration::from_secs(3600);

/// Scratch files of a mount that shares them with no other: what another one changes right after it has come, it may
/// hide this long.
pub const SCRATCH: Duration = Duration::from_secs(1);

/// Attributes of an object of which no sign would come: long enough that a lookup's answer serves the `stat` that it was
/// made for. The name is asked for each time, so what a path leads to is never that old.
pub const BRIEF: Duration = Duration::from_millis(20);

/// Not at all: it asks each time.
pub const NOW: Duration = Duration::ZERO;

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// The thread's id; 0 where it lives in another pid namespace.
    pub thread: u32,
}

impl Caller {
    /// The groups that the caller is in besides its own; `None` where that cannot be told.
    pub fn groups(self) -> Option<Vec<u32>> {
        self.status("Groups:")?.split_whitespace().map(|group| group.parse().ok()).collect()
    }

    /// Whether modes do not count for it, in this user namespace: CAP_DAC_OVERRIDE, or where it only reads CAP_DAC_READ_SEARCH,
    /// which programs have that make backups.
    pub fn overrides_modes(self, writes: bool) -> bool {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/user")).ok();
        let here = of("self").is_some_and(|own| of(&self.thread.to_string()) == Some(own));
        let effective = self.status("CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        let enough = if writes { 1 << 1 } else { 1 << 1 | 1 << 2 };
        here && effective.is_some_and(|set| set & enough != 0)
    }

    fn status(self, of: &str) -> Option<String> {
        // A program's name may be any bytes.
        let status = std::fs::read(format!("/proc/{}/status", self.thread)).ok()?;
        let status = String::from_utf8_lossy(&status);
        status.lines().find_map(|line| line.strip_prefix(of)).map(str::to_owned)
    }
}

/// `stat` of one node.
#[derive(Clone, Debug)]
pub struct Attr {
    /// `st_ino`.
    pub ino: Ino,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub atime: SystemTime,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
    pub kind: FileType,
    /// Permission bits, 12 of them.
    pub perm: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
}

impl Attr {
    /// An object's, showing a revision.
    pub fn of_revision(ino: Ino, meta: &Meta) -> Attr {
        Attr {
            ino,
            size: meta.size,
            // `tar -S` reads a file without blocks as one hole.
            blocks: meta.blocks.max(meta.size.div_ceil(512)),
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            kind: FileType::RegularFile,
            perm: meta.mode & 0o7777,
            // A history that was renamed shares files with what is gone; a program must not see that.
            nlink: 1,
            uid: meta.uid,
            gid: meta.gid,
            rdev: 0,
        }
    }

    /// A file's or directory's as the system reports it, under another inode number.
    pub fn of_stat(ino: Ino, s: &Stat) -> Attr {
        Attr {
            ino,
            size: u64::try_from(s.st_size).unwrap_or(0),
            blocks: u64::try_from(s.st_blocks).unwrap_or(0),
            atime: time(s.st_atime, s.st_atime_nsec as u32),
            mtime: time(s.st_mtime, s.st_mtime_nsec as u32),
            ctime: time(s.st_ctime, s.st_ctime_nsec as u32),
            kind: FileType::from_raw_mode(s.st_mode),
            perm: s.st_mode & 0o7777,
            nlink: u32::try_from(s.st_nlink).unwrap_or(u32::MAX),
            uid: s.st_uid,
            gid: s.st_gid,
            rdev: s.st_rdev as u32,
        }
    }

    /// `.` or `..` in a listing, of which the kernel takes the number alone.
    pub fn dot(ino: Ino) -> Attr {
        Attr {
            ino,
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
        }
    }

    /// A directory or file that exists only in the mount: `like` gives owner and times.
    pub fn synthetic(ino: Ino, kind: FileType, perm: u32, size: u64, like: &Attr) -> Attr {
        let nlink = if kind == FileType::Directory { 2 } else { 1 };
        Attr { ino, size, blocks: size.div_ceil(512), kind, perm, nlink, rdev: 0, ..like.clone() }
    }
}

/// What a lookup answers.
#[derive(Clone, Debug)]
pub struct Found {
    /// The node, which is not always `attr.ino`.
    pub node: Ino,
    pub attr: Attr,
    pub attr_ttl: Duration,
    pub entry_ttl: Duration,
}

/// A time before or after 1970, from its seconds and nanoseconds.
pub fn time(seconds: i64, nanos: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|t| t.checked_add(Duration::from_nanos(u64::from(nanos)))).unwrap_or(UNIX_EPOCH)
}

/// The inverse of [`time`], for `utimensat`.
pub fn timespec(t: SystemTime) -> rustix::fs::Timespec {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => rustix::fs::Timespec { tv_sec: d.as_secs() as i64, tv_nsec: d.subsec_nanos().into() },
        Err(before) => {
            let d = before.duration();
            let (mut sec, mut nsec) = (-(d.as_secs() as i64), i64::from(d.subsec_nanos()));
            if nsec > 0 {
                sec -= 1;
                nsec = 1_000_000_000 - nsec;
            }
            rustix::fs::Timespec { tv_sec: sec, tv_nsec: nsec }
        }
    }
}
