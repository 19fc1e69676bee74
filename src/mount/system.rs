//! Mounting and unmounting: the system calls as root, `fusermount3` as anybody else.
//!
//! fuser can mount too, but it gives up where `/dev/fuse` is root's alone, and it may unmount a stranger's mount; so the
//! device is opened here and handed to it.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::Failure;
use super::options::Options;

/// The type that `mount`, `findmnt` and `df -T` show.
pub const FSTYPE: &str = "fuse.revfs";

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// `major:minor`, one per superblock.
    pub device: String,
    pub point: PathBuf,
    pub fstype: String,
    pub source: OsString,
    /// Options of the mount and of its superblock, two lists with commas.
    pub options: [String; 2],
}

/// Everything that is mounted, in the order of mounting.
pub fn mounts() -> Vec<MountInfo> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    text.split(|&b| b == b'\n').filter_map(parse).collect()
}

/// What is mounted on top at `point`, which must be absolute and resolved.
pub fn mounted_at(point: &Path) -> Option<MountInfo> {
    mounts().into_iter().rev().find(|m| m.point == point)
}

fn parse(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|&b| b == b' ');
    let device = fields.nth(2)?;
    let (point, options) = (fields.nth(1)?, fields.next()?);
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    let (fstype, source, superblock) = (rest.next()?, rest.next()?, rest.next().unwrap_or_default());
    let text = |field| String::from_utf8_lossy(field).into_owned();
    Some(MountInfo {
        device: text(device),
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        fstype: text(fstype),
        source: OsString::from_vec(unescape(source)),
        options: [text(options), text(superblock)],
    })
}

/// Octal escapes stand for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&b, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| b == b'\\').and_then(|d| {
            d.iter().try_fold(0u32, |n, c| matches!(c, b'0'..=b'7').then(|| n * 8 + u32::from(c - b'0')))
        });
        match code.and_then(|c| u8::try_from(c).ok()) {
            Some(c) => {
                out.push(c);
                rest = &tail[3..];
            }
            None => {
                out.push(b);
                rest = tail;
            }
        }
    }
    out
}

/// Mounts `source` at `point` and returns the device that the requests come from.
///
/// # Errors
/// One line that says which way was tried and what to do.
pub fn mount(source: &OsStr, point: &Path, options: &Options) -> Result<OwnedFd, Failure> {
    match by_call(source, point, options) {
        Ok(fd) => Ok(fd),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => by_fusermount(source, point, options),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Failure::new(format!("/dev/fuse is not there ({e}); load the fuse module: modprobe fuse")))
        }
        Err(e) => Err(Failure::new(format!("cannot mount at {}: {e}", point.display()))),
    }
}

fn by_call(source: &OsStr, point: &Path, options: &Options) -> io::Result<OwnedFd> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let other = if options.allow_other { ",allow_other" } else { "" };
    let data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions{other}",
        device.as_raw_fd()
    );
    let data = std::ffi::CString::new(data)?;
    rustix::mount::mount(source, point, FSTYPE, options.flags, Some(data.as_c_str()))?;
    Ok(device)
}

fn by_fusermount(source: &OsStr, point: &Path, options: &Options) -> Result<OwnedFd, Failure> {
    let mut words = vec!["default_permissions".to_owned(), "subtype=revfs".to_owned()];
    // A comma would end the name and begin an option.
    let escaped = source.to_string_lossy().replace('\\', "\\\\").replace(',', "\\,");
    words.push(format!("fsname={escaped}"));
    let flags = options.flags;
    for (flag, word) in [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
    ] {
        if flags.contains(flag) {
            words.push(word.to_owned());
        }
    }
    if options.allow_other {
        words.push("allow_other".to_owned());
    }
    let (ours, theirs) =
        UnixStream::pair().map_err(|e| Failure::new(format!("cannot make a socket: {e}")))?;
    // fusermount3 finds the socket by number: it must survive the exec.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(|e| Failure::new(format!("cannot hand a socket on: {e}")))?;
    let child = Command::new("fusermount3")
        .arg("-o")
        .arg(words.join(","))
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::new(format!("cannot run fusermount3: {e}; install the package fuse3")))?;
    drop(theirs);
    let device = receive(&ours);
    let output = child.wait_with_output().map_err(|e| Failure::new(format!("fusermount3: {e}")))?;
    match device {
        Ok(Some(device)) if output.status.success() => {
            let _ = rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC);
            Ok(device)
        }
        _ => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            let hint =
                if said.contains("user_allow_other") { " (or mount without -o allow_other)" } else { "" };
            Err(Failure::new(format!("cannot mount at {}: {said}{hint}", point.display())))
        }
    }
}

/// The descriptor that fusermount3 sends.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::empty(),
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return Ok(fds.next());
        }
    }
    Ok(None)
}

/// Gives a mount other flags; the daemon need not know.
///
/// # Errors
/// One line; a mount with files open for writing cannot become read-only.
pub fn remount(point: &Path, flags: MountFlags) -> Result<(), Failure> {
    use rustix::io::Errno;
    rustix::mount::mount_remount(point, flags, "").map_err(|e| {
        let shown = point.display();
        Failure::new(match e {
            Errno::BUSY => format!("cannot remount {shown}: a file there is open for writing"),
            Errno::PERM => format!("cannot remount {shown}: only root can; unmount it and mount it anew"),
            other => format!("cannot remount {shown}: {}", io::Error::from(other)),
        })
    })
}

/// Unmounts what is at `point`; `lazy` also while programs use it.
///
/// # Errors
/// One line; for a busy mount it says so.
pub fn unmount(point: &Path, lazy: bool) -> Result<(), Failure> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(point, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            let mut command = Command::new("fusermount3");
            command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(point);
            let output = command.stdin(Stdio::null()).output().map_err(|e| {
                Failure::new(format!("cannot run fusermount3: {e}; install the package fuse3"))
            })?;
            match output.status.success() {
                true => Ok(()),
                false => {
                    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
                    Err(Failure::new(format!("cannot unmount {}: {said}", point.display())))
                }
            }
        }
        Err(rustix::io::Errno::BUSY) => Err(Failure::new(format!(
            "cannot unmount {}: it is busy, a program uses it; end that (fuser -vm names it) or unmount lazily: revfs umount -l",
            point.display()
        ))),
        Err(e) => Err(Failure::new(format!("cannot unmount {}: {}", point.display(), io::Error::from(e)))),
    }
}

/// Resolves a path without touching what is mounted there: a dead mount answers nothing but errors.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if name != OsStr::from_bytes(b"..") => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let joined = parent.canonicalize()?.join(name);
            match std::fs::symlink_metadata(&joined) {
                Ok(m) if m.file_type().is_symlink() => joined.canonicalize(),
                _ => Ok(joined),
            }
        }
        _ => path.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c rw,noatime shared:1 - fuse.revfs /st\054ore rw,user_id=0";
        let info = parse(line).unwrap();
        assert_eq!(info.device, "98:0");
        assert_eq!(info.point, Path::new("/a b\\c"));
        assert_eq!((info.fstype.as_str(), info.source.as_os_str()), ("fuse.revfs", OsStr::new("/st,ore")));
        assert_eq!(info.options, ["rw,noatime", "rw,user_id=0"]);
        assert_eq!(parse(b""), None);
        assert_eq!(unescape(br"\04"), br"\04");
    }
}
