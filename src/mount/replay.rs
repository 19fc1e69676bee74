//! The process that replays changes made by others, so that inotify tells of them (see [`crate::fs::replay`]).
//!
//! It must be a process: a thread of the daemon that waits for a request on its own mount keeps `/dev/fuse` open, so
//! that after `kill -9` neither it nor the mount could end. It holds no descriptor of the mount while it has nothing to
//! do, and where it may it works on a detached clone of the mount, so that `umount` never finds it busy.
//!
//! Invariants: it is forked before there is a mount or a thread; it allocates nothing and cannot panic; it ends when the
//! daemon does. Price: one process, and four requests for each change by others.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, WaitOptions};

use super::start;
use crate::fs::Fs;
use crate::fs::replay::{DIR, ReplayCall, Seen};

/// How many objects are watched that no program has looked at, so that inotify tells of their changes, too: 1.4 kB of
/// kernel memory each.
const WATCH_IDLE: usize = 32_768;

/// How long a mount waits at most until they are: before, what others change is seen late.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How long nobody looks for what no event tells of, at least; and how many times as long as looking took.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
const LOOK_REST: u32 = 4;

/// A message: one byte that says what to do, a name, and a NUL. The first is the mount point with its device number.
const LONGEST: usize = 4096 + 64;

/// The daemon's end.
pub struct Replayer {
    socket: Option<OwnedFd>,
    pid: Pid,
}

impl Replayer {
    /// Forks the process. Call it while the daemon has one thread and no mount.
    ///
    /// # Errors
    /// Where there are no more processes or descriptors.
    fn start() -> io::Result<Replayer> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let pid = fork(c"revfs-replay", &theirs, work)?;
        Ok(Replayer { socket: Some(ours), pid })
    }

    /// Where the mount is, and the device number that tells it from others at that place.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn place(&self, point: &Path, device: u64) -> io::Result<()> {
        let mut message = device.to_ne_bytes().to_vec();
        message.extend_from_slice(point.as_os_str().as_bytes());
        self.put(message)
    }

    /// Has one call made. Waits while there are many.
    ///
    /// # Errors
    /// Where the process has ended.
    fn send(&self, call: &ReplayCall) -> io::Result<()> {
        let (what, name): (u8, &OsStr) = match call {
            ReplayCall::Created(name) => (b'c', name),
            ReplayCall::Modified(name) => (b'm', name),
            ReplayCall::Deleted(name) => (b'd', name),
            ReplayCall::NodeModified(name) => (b'M', name),
            ReplayCall::NodeDeleted(name) => (b'D', name),
        };
        let mut message = vec![what];
        message.extend_from_slice(name.as_bytes());
        self.put(message)
    }

    fn put(&self, mut message: Vec<u8>) -> io::Result<()> {
        message.push(0);
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(rustix::net::send(socket, &message, SendFlags::NOSIGNAL).map(drop)?)
    }

    /// [`start`](Self::start); without it the mount works, but inotify tells of this mount's own changes only.
    pub fn try_start() -> Option<Replayer> {
        Replayer::start().inspect_err(|e| warn!("inotify will not tell of changes by others: {e}")).ok()
    }

    /// Has changes that others make in the store raise inotify events on the mount, until `ended`.
    pub fn serve(
        self,
        fs: Arc<Fs>,
        ended: Arc<AtomicBool>,
        point: &Path,
        device: Option<&str>,
    ) -> Option<JoinHandle<()>> {
        if let Err(e) = self.place(point, device.and_then(device_number)?) {
            warn!("inotify will not tell of changes by others: {e}");
            return None;
        }
        fs.replay_as(self.pid.as_raw_pid().unsigned_abs());
        let (watching, (done, watched)) = (fs.clone(), mpsc::channel::<()>());
        let until = ended.clone();
        let looking = start(move || {
            match watching.watch_all(WATCH_IDLE) {
                Ok(true) => {}
                Ok(false) => {
                    info!("too many objects to watch: inotify tells of changes by others of those in use")
                }
                Err(e) => warn!("cannot watch all objects: {e}"),
            }
            look(&watching, &until, done);
        });
        // Who mounts a store of usual size and waits for the next change misses none.
        let _ = watched.recv_timeout(POLL_INTERVAL);
        let telling = start(move || {
            while fs.wait_for_replay() {
                for call in fs.replay_calls() {
                    if let Err(e) = self.send(&call) {
                        fs.replay_as(0);
                        return warn!("inotify tells of changes by others no more: {e}");
                    }
                }
            }
        });
        looking.and(telling).inspect_err(|e| warn!("inotify will not tell of changes by others: {e}")).ok()
    }
}

/// Looks for what no event tells of, where there is such, until `ended`; drops `first` when it has looked once.
fn look(fs: &Fs, ended: &AtomicBool, first: mpsc::Sender<()>) {
    let (mut seen, mut first) = (Seen::default(), Some(first));
    while fs.must_look() && !ended.load(Ordering::Acquire) {
        let began = Instant::now();
        if let Err(e) = fs.look(&mut seen) {
            debug!("what others changed was not looked for: {e}");
        }
        first = None;
        let until = Instant::now() + LOOK_INTERVAL.max(began.elapsed() * LOOK_REST);
        while Instant::now() < until && !ended.load(Ordering::Acquire) {
            std::thread::sleep(LOOK_INTERVAL / 4);
        }
    }
    drop(first);
}

/// `major:minor` as `st_dev` has it.
fn device_number(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

impl Drop for Replayer {
    fn drop(&mut self) {
        self.socket = None;
        // It ends at once, unless a call of its own is still under way; then init collects it.
        for _ in 0..20 {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Ok(None) => std::thread::sleep(std::time::Duration::from_millis(5)),
                _ => return,
            }
        }
    }
}

/// Forks a process that makes system calls only, on memory of its own, and ends with `work`. Call it while there is one thread.
///
/// # Errors
/// Where there are no more processes.
pub fn fork(name: &CStr, keep: &OwnedFd, work: impl FnOnce(BorrowedFd)) -> io::Result<Pid> {
    // SAFETY: no other thread could hold a lock that the child waits for, and the child never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            close_others(name, keep.as_fd());
            work(keep.as_fd());
            // SAFETY: ends the process without running what the daemon has registered for its end.
            unsafe { libc::_exit(0) }
        }
        child => Pid::from_raw(child).ok_or_else(|| io::Error::other("fork returned no process")),
    }
}

/// Leaves the terminal and every descriptor but one: pipes that the daemon's parent waits on, the store.
fn close_others(name: &CStr, keep: BorrowedFd<'_>) {
    let _ = rustix::process::setsid();
    let keep = keep.as_raw_fd().unsigned_abs();
    // SAFETY: numbers only; what is closed is this process's own copy and is used no more.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
        libc::chdir(c"/".as_ptr());
        if keep > 3 {
            libc::syscall(libc::SYS_close_range, 3, keep - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, keep + 1, u32::MAX, 0);
    }
}

/// The child: makes calls as told until the daemon is gone.
fn work(socket: BorrowedFd<'_>) {
    let mut place = [0; LONGEST];
    let Some((device, point)) = receive(socket, &mut place, RecvFlags::empty()).and_then(located) else {
        return;
    };
    let mut message = [0; LONGEST];
    let mut flags = RecvFlags::empty();
    let mut mount = None;
    loop {
        match receive(socket, &mut message, flags) {
            Some([what, name @ ..]) => {
                mount = mount.or_else(|| enter(point, device));
                if let (Some(mount), Ok(name)) = (&mount, CStr::from_bytes_until_nul(name)) {
                    call(mount.as_fd(), *what, name);
                }
                flags = RecvFlags::DONTWAIT;
            }
            Some(_) => {}
            None if flags.is_empty() => return,
            // Nothing more to do: let go of the mount, then wait.
            None => {
                mount = None;
                flags = RecvFlags::empty();
            }
        }
    }
}

/// One message, or nothing where the daemon is gone or, if it shall not wait, has none.
fn receive<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8], flags: RecvFlags) -> Option<&'a [u8]> {
    loop {
        match rustix::net::recv(socket, &mut *buffer, flags) {
            Err(Errno::INTR) => {}
            Ok((_, 0)) | Err(_) => return None,
            Ok((_, n)) => return buffer.get(..n),
        }
    }
}

fn located(message: &[u8]) -> Option<(u64, &CStr)> {
    let (device, point) = message.split_first_chunk()?;
    Some((u64::from_ne_bytes(*device), CStr::from_bytes_until_nul(point).ok()?))
}

/// The mount's root, if it is where it was.
fn enter(point: &CStr, device: u64) -> Option<OwnedFd> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = rustix::mount::open_tree(CWD, point, clone).or_else(|_| {
        rustix::fs::open(point, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    });
    let root = root.ok()?;
    (rustix::fs::fstat(&root).ok()?.st_dev == device).then_some(root)
}

/// Failures are the business of nobody: the object may have changed once more, and that is told next.
fn call(root: BorrowedFd<'_>, what: u8, name: &CStr) {
    // NONBLOCK: a program may hold a lease on the file.
    let open = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = |flags| rustix::fs::openat(root, DIR, flags, Mode::empty()).ok();
    let nodes = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match what {
        b'c' => {
            let new = open | OFlags::CREATE | OFlags::EXCL;
            if rustix::fs::openat(root, name, new, Mode::from_raw_mode(0o600)).is_err() {
                // Somebody has looked it up already. The first lookup may find what was meant for the create.
                let _ = touch(root, name, open) || touch(root, name, open);
            }
        }
        // Others may save in the middle of the first.
        b'm' => {
            let _ = touch(root, name, open) || touch(root, name, open);
        }
        b'd' => drop(rustix::fs::unlinkat(root, name, AtFlags::empty())),
        b'M' => {
            if let Some(nodes) = inner(nodes) {
                touch(nodes.as_fd(), name, open);
            }
        }
        b'D' => {
            if let Some(nodes) = inner(nodes) {
                let _ = rustix::fs::unlinkat(nodes, name, AtFlags::empty());
            }
        }
        _ => {}
    }
}

/// `IN_OPEN`, `IN_MODIFY`, `IN_CLOSE_WRITE`. A new modification time alone counts as a modification.
fn touch(dir: BorrowedFd<'_>, name: &CStr, open: OFlags) -> bool {
    let Ok(file) = rustix::fs::openat(dir, name, open, Mode::empty()) else { return false };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    };
    let _ = rustix::fs::futimens(&file, &times);
    true
}
