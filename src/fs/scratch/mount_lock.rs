//! Whether this is the only mount of its store.
//!
//! Each mount holds a lock on one byte of `.revfs/mounts` while it lives; the kernel takes it back when it dies. Alone,
//! a mount may let the kernel remember scratch files. Where that cannot be told (a file system that other hosts write,
//! no locks) it is never alone.

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::backend::DirBackend;

/// A mount's mark for the others.
pub struct MountLock(Option<File>);

impl MountLock {
    /// Marks this mount as there.
    pub fn acquire(backend: &DirBackend) -> MountLock {
        let open = || backend.lock_file("mounts").ok().map(File::from);
        let file = (!backend.medium().is_shared()).then(open).flatten().filter(mark);
        // A lock that nobody meets is none.
        MountLock(file.filter(|_| !MountLock(open()).is_sole_mount()))
    }

    /// No mark: others need not know, and this one is never alone.
    pub fn none() -> MountLock {
        MountLock(None)
    }

    /// Whether no other mount is marked now.
    pub fn is_sole_mount(&self) -> bool {
        let Some(file) = &self.0 else { return false };
        let mut lock = range(0, 0);
        // SAFETY: `lock` is a valid `struct flock` for the length of the call.
        let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        asked == 0 && lock.l_type == libc::F_UNLCK as libc::c_short
    }
}

/// Locks a byte of its own.
fn mark(file: &File) -> bool {
    let at = uuid::Uuid::new_v4().as_u64_pair().0 >> 2;
    let mut lock = range(i64::try_from(at).unwrap_or(0), 1);
    // Others' question for a write lock meets it all the same, and users who may only read the file can set it.
    lock.l_type = libc::F_RDLCK as libc::c_short;
    // SAFETY: as above.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}

/// A write lock of `length` bytes from `start`; 0 for all there are.
fn range(start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_knows_whether_it_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let backend = DirBackend::open(dir.path()).unwrap();
        let one = MountLock::acquire(&backend);
        assert!(one.is_sole_mount());
        let two = MountLock::acquire(&backend);
        assert!(!one.is_sole_mount() && !two.is_sole_mount());
        drop(one);
        assert!(two.is_sole_mount());
        assert!(!MountLock(None).is_sole_mount());
    }
}
