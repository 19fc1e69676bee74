//! The end of a mount: whoever takes it away can wait until the daemon has let go of the store.
//!
//! The daemon listens on an abstract socket that is named after the mount's device number; nothing is ever sent there.
//! The kernel tells who listens, in the asker's own numbers, and when that process has ended, with all its files closed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::UnmountFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags};

use super::holders::{Holder, holders};
use super::system::{MountInfo, mounted_at, mounts, unmount};
use super::{Kind, MountError, UNMOUNT_GRACE};

/// How long the daemon is waited for that nobody holds any more. It may have much to save yet.
const DETACH_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a mount begins later for the end of a daemon whose mount had its number.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(1);

/// So many of those who use a mount are named.
const MOST_HOLDERS: usize = 5;

fn name(device: &str) -> String {
    format!("revfs/{device}")
}

/// The daemon's part, for as long as it lives.
pub struct Answers(UnixListener);

impl Answers {
    /// Begins to listen for those who want to know who serves the mount. A daemon whose mount had the number before may
    /// be about to end.
    pub fn begin(device: &str) -> io::Result<Answers> {
        let (address, start) = (SocketAddr::from_abstract_name(name(device))?, Instant::now());
        let socket = loop {
            match UnixListener::bind_addr(&address) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PREDECESSOR_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                bound => break bound?,
            }
        };
        Ok(Answers(socket))
    }

    /// Makes room for others who ask, for ever. They know already.
    pub fn clear(&self) -> ! {
        loop {
            if self.0.accept().is_err() {
                // No descriptor is left, say.
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

/// The daemon of a mount.
struct Daemon {
    pid: Pid,
    process: OwnedFd,
}

impl Daemon {
    /// Asks who serves a mount. `None` where nobody says so: it is dead, or in another network namespace.
    fn of(mount: &MountInfo) -> Option<Daemon> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        let address = SocketAddrUnix::new_abstract_name(name(&mount.device).as_bytes()).ok()?;
        rustix::net::connect(&socket, &address).ok()?;
        let peer = sockopt::socket_peercred(&socket).ok()?;
        // Anybody may listen there.
        let maker = format!("user_id={}", peer.uid.as_raw());
        if !peer.uid.is_root() && mount.options[1].split(',').all(|word| word != maker) {
            return None;
        }
        let process = rustix::process::pidfd_open(peer.pid, PidfdFlags::empty()).ok()?;
        Some(Daemon { pid: peer.pid, process })
    }

    fn ends_within(&self, time: Duration) -> bool {
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
        let ended = || rustix::event::poll(&mut fds, Some(&time));
        matches!(rustix::io::retry_on_intr(ended), Ok(n) if n > 0)
    }
}

/// Unmounts what is at `point` and returns when its daemon has ended. `lazy`: also while programs use it, which it then may
/// outlive; `force`: what is under way fails.
///
/// # Errors
/// One line; also where the daemon does not end.
pub fn end(point: &Path, lazy: bool, force: bool) -> Result<(), MountError> {
    let mut flags = UnmountFlags::empty();
    flags.set(UnmountFlags::DETACH, lazy);
    flags.set(UnmountFlags::FORCE, force);
    let mount = mounted_at(point);
    let daemon = mount.as_ref().and_then(Daemon::of);
    if let Err(e) = unmount(point, flags) {
        return Err(if e.kind() == Kind::Busy { explain(point, e) } else { e });
    }
    let (Some(mount), Some(daemon)) = (mount, daemon) else { return Ok(()) };
    let shown = point.display();
    let pid = daemon.pid.as_raw_pid();
    if let Some(elsewhere) = mounts().into_iter().find(|other| other.device == mount.device) {
        let elsewhere = elsewhere.point.display();
        eprintln!(
            "revfs: {shown} is unmounted, but it is mounted at {elsewhere}, too: process {pid} goes on"
        );
        return Ok(());
    }
    if daemon.ends_within(if lazy { UNMOUNT_GRACE } else { DETACH_TIMEOUT }) {
        return Ok(());
    }
    match lazy {
        true => {
            eprintln!("revfs: {shown} is detached; process {pid} goes on for the programs that use it");
            Ok(())
        }
        false => Err(MountError::new(format!(
            "{shown} is unmounted, but process {pid} still has the store: the disk is slow or frozen, or the mount \
             lives on in another mount namespace"
        ))),
    }
}

/// Says who uses the mount, and what to do about each.
fn explain(point: &Path, busy: MountError) -> MountError {
    let found = holders(point);
    let mut who: Vec<String> = found.holders.iter().take(MOST_HOLDERS).map(Holder::line).collect();
    match found.holders.len() {
        0 if found.hidden => who.push("programs of other users use it, which root gets named here".into()),
        0 => return busy,
        n if n > MOST_HOLDERS => who.push(format!("{} more use it", n - MOST_HOLDERS)),
        _ => {}
    }
    let (shown, who) = (point.display(), who.join("; "));
    let message =
        format!("cannot unmount {shown}: it is busy: {who}; or unmount lazily: revfs umount -l {shown}");
    MountError { message, ..busy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_given_anew_is_listened_under_once_its_last_daemon_has_ended() {
        let device = format!("test:{}", std::process::id());
        let last = Answers::begin(&device).unwrap();
        let ends = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            drop(last);
        });
        Answers::begin(&device).unwrap();
        ends.join().unwrap();
    }
}
