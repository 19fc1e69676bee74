//! Whether this is the only mount of its store.
//!
//! Each mount holds a lock on one byte of `.revfs/mounts` while it lives; the kernel takes it back when it dies. Alone,
//! a mount may let the kernel remember scratch files. Where that cannot be told (a file system that other hosts write,
//! no locks) it is never alone.

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::backend::DirBackend;

/// A mount's mark for the others.
pub struct Presence(Option<File>);

/// File systems that other hosts write, by magic number: 9P, AFS, BeeGFS, CephFS, SMB (three), Coda, FUSE (GlusterFS,
/// sshfs, …), GFS2, GPFS, Lustre, NFS, OCFS2, PanFS, VirtualBox.
const SHARED: [u32; 16] = [
    0x0102_1997,
    0x5346_414f,
    0x1983_0326,
    0x00c3_6400,
    0x517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x7375_7245,
    0x6573_5546,
    0x0116_1970,
    0x4750_4653,
    0x0bd0_0bd0,
    0x6969,
    0x7461_636f,
    0xaad7_aaea,
    0x786f_4256,
];

/// Whether other hosts may write to a store's medium, or that cannot be told.
pub fn is_shared(backend: &DirBackend) -> bool {
    rustix::fs::fstatfs(backend.root())
        .map_or(true, |s| u32::try_from(s.f_type & 0xffff_ffff).is_ok_and(|magic| SHARED.contains(&magic)))
}

impl Presence {
    /// Marks this mount as there.
    pub fn announce(backend: &DirBackend) -> Presence {
        let file = (!is_shared(backend)).then(|| backend.lock_file("mounts").ok()).flatten().map(File::from);
        Presence(file.filter(mark))
    }

    /// No mark: others need not know, and this one is never alone.
    pub fn nowhere() -> Presence {
        Presence(None)
    }

    /// Whether no other mount is marked now.
    pub fn is_alone(&self) -> bool {
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
        let one = Presence::announce(&backend);
        assert!(one.is_alone());
        let two = Presence::announce(&backend);
        assert!(!one.is_alone() && !two.is_alone());
        drop(one);
        assert!(two.is_alone());
        assert!(!Presence(None).is_alone());
    }
}
