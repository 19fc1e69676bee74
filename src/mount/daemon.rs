//! The way into the background: this program started again, which says through a pipe that it serves, or why it cannot.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::mount::UnmountFlags;

use super::system::{FSTYPE, is_dead, mounted_at, unmount};
use super::{Kind, MountError, journal};

/// Set for the program that the command starts as its daemon.
const DAEMON: &str = "REVFS_DAEMON";
/// What the daemon says when it serves.
const READY: &[u8] = b"ready";

/// Whether this process is the daemon.
pub fn is_daemon() -> bool {
    std::env::var_os(DAEMON).is_some()
}

/// This program, to start it again: also when another one, or none, lies in its place by now, as after an upgrade.
pub fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { "/proc/self/exe".into() })
}

/// Starts the daemon with these arguments and waits until it serves.
///
/// # Errors
/// What the daemon said, in one line.
pub fn launch(args: &[OsString]) -> Result<(), MountError> {
    let failed = |e: io::Error| MountError::new(format!("cannot start the daemon: {e}"));
    leave_descriptors_behind();
    let mut child = Command::new(program().map_err(failed)?)
        .args(args)
        .env(DAEMON, "1")
        // systemd counts on the process that it started, which is not the daemon.
        .env_remove("NOTIFY_SOCKET")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut said).map_err(failed)?;
    }
    if said == READY {
        return Ok(());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().last().unwrap_or("the daemon ended without a word");
    let message = line.strip_prefix("revfs: ").unwrap_or(line).to_owned();
    let kind = match output.status.code() {
        Some(1) => Kind::No,
        Some(2) => Kind::Usage,
        _ => Kind::Failed,
    };
    Err(MountError { message, kind })
}

/// The daemon's goodbye to its terminal.
pub fn detach(point: &Path, log: Option<&Path>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let _ = rustix::process::setsid();
    rustix::stdio::dup2_stdin(&null)?;
    match log {
        Some(path) => rustix::stdio::dup2_stderr(OpenOptions::new().create(true).append(true).open(path)?)?,
        None => {
            rustix::stdio::dup2_stderr(&null)?;
            journal::begin(point);
        }
    }
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

/// Starts the program that takes the mount away when this one has died: `auto_unmount`. fusermount3 has that too, but
/// not for a mount that only its maker may enter.
pub fn keeper(point: &Path) -> io::Result<Child> {
    let mut keeper = Command::new(program()?);
    keeper.args(["umount", "--keep", "--"]).arg(point).env_remove("NOTIFY_SOCKET").current_dir("/");
    // Its standard input ends with this process, however that ends.
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}

/// Waits for the end of the daemon that started this process, and takes away the mount that it left dead.
pub fn keep(point: &Path) -> Result<(), MountError> {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    let ours = || mounted_at(point).is_some_and(|mount| mount.fstype == FSTYPE);
    // Its descriptors are closed one after the other. A live mount is another daemon's.
    for _ in 0..50 {
        if !ours() {
            return Ok(());
        }
        if is_dead(point) {
            return unmount(point, UnmountFlags::DETACH);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A daemon that kept the descriptor of a lock would hold that lock as long as it serves: `(flock 9; revfs mount …) 9>lock`.
fn leave_descriptors_behind() {
    // SAFETY: closes nothing here; it marks descriptors to be closed in programs started later.
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if marked != 0 {
        log::debug!("open descriptors are passed on to the daemon: {}", io::Error::last_os_error());
    }
}
