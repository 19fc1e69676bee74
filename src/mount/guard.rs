//! The process that ends the connection of a daemon that was killed.
//!
//! A thread that tells the kernel of a name waits for its directory's lock. A program may hold that which waits for the
//! daemon's answer: after `kill -9` neither would ever end, as `/dev/fuse` stays open as long as the thread lives. The
//! connection's `abort` ends both.
//!
//! Invariants: it is forked before there is a thread, by the first one, whose death it is told of even while others cannot die;
//! it makes system calls only, and has nothing open but that file, which is this connection's even when another has got its
//! number. Price: one process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::info;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use super::replay::fork;

/// Where it is mounted by systemd.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Tells of the death; nobody else sends it. SIGTERM comes to all of a service's processes, and is the daemon's business.
const DEATH: libc::c_int = libc::SIGUSR1;

/// The daemon's end.
pub struct Guard(Pid);

impl Guard {
    /// Forks the process for the mount with this device number; without it, what a killed daemon leaves may hang.
    pub fn start(device: &str) -> Option<Guard> {
        let daemon = rustix::process::getpid();
        let forked =
            abort_of(device).and_then(|abort| fork(c"revfs-guard", &abort, |abort| watch(abort, daemon)));
        forked.map(Guard).inspect_err(|e| info!("programs may hang if this daemon is killed: {e}")).ok()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// The file that ends a connection, for its maker. Where the control file system is not mounted, root has it nevertheless.
fn abort_of(device: &str) -> io::Result<OwnedFd> {
    let number = device.strip_prefix("0:").ok_or(io::ErrorKind::Unsupported)?;
    let abort = format!("{number}/abort");
    let open =
        |at: BorrowedFd| rustix::fs::openat(at, &abort, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mounted = rustix::fs::openat(CWD, CONNECTIONS, root, Mode::empty());
    Ok(mounted.and_then(|root| open(root.as_fd())).or_else(|_| open(control()?.as_fd()))?)
}

fn control() -> rustix::io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The child.
fn watch(abort: BorrowedFd<'_>, daemon: Pid) {
    // SAFETY: signal sets of this process's own.
    unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigfillset(&mut signals);
        libc::sigprocmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_PDEATHSIG, DEATH);
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, DEATH);
        if rustix::process::getppid() == Some(daemon) {
            libc::sigwait(&signals, &mut 0);
        }
    }
    let _ = rustix::io::write(abort, b"1");
}
