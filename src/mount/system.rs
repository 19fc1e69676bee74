//! Mounting and unmounting: the system calls as root, `fusermount3` as anybody else.
//!
//! fuser can mount too, but it gives up where `/dev/fuse` is root's alone, and it may unmount a stranger's mount; so the
//! device is opened here and handed to it.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::MountError;
use super::options::{Access, Options};

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
pub fn unescape(field: &[u8]) -> Vec<u8> {
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
pub fn mount(source: &OsStr, point: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    match by_call(source, point, options) {
        Ok(fd) => Ok(fd),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => by_fusermount(source, point, options),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(MountError::new(format!("/dev/fuse is not there ({e}); load the fuse module: modprobe fuse")))
        }
        Err(e) => Err(MountError::new(format!("cannot mount at {}: {e}", point.display()))),
    }
}

fn by_call(source: &OsStr, point: &Path, options: &Options) -> io::Result<OwnedFd> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let mut data =
        format!("fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions", device.as_raw_fd());
    if options.access != Access::Owner {
        data += ",allow_other";
    }
    for label in &options.data {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        data += &format!(",{key}=\"{value}\"");
    }
    rustix::mount::mount(source, point, FSTYPE, options.flags, Some(CString::new(data)?.as_c_str()))?;
    Ok(device)
}

/// The options as fusermount3 takes them. `source` is anybody's path: a comma in it would begin an option.
fn fusermount_options(source: &OsStr, options: &Options) -> OsString {
    let mut list = b"default_permissions,subtype=revfs,fsname=".to_vec();
    for &byte in source.as_bytes() {
        list.extend((byte == b',' || byte == b'\\').then_some(b'\\'));
        list.push(byte);
    }
    let flags = options.flags;
    let words = [
        (flags.contains(MountFlags::RDONLY), "ro"),
        (flags.contains(MountFlags::NOEXEC), "noexec"),
        (flags.contains(MountFlags::NOATIME), "noatime"),
        // For root alone; it says so itself to others, and goes on.
        (!flags.contains(MountFlags::NOSUID), "suid"),
        (!flags.contains(MountFlags::NODEV), "dev"),
        (options.access != Access::Owner, "allow_other"),
    ];
    let words = words.iter().filter(|word| word.0).map(|word| word.1);
    for word in words.chain(options.data.iter().map(String::as_str)) {
        list.push(b',');
        list.extend_from_slice(word.as_bytes());
    }
    OsString::from_vec(list)
}

fn by_fusermount(source: &OsStr, point: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    let (ours, theirs) =
        UnixStream::pair().map_err(|e| MountError::new(format!("cannot make a socket: {e}")))?;
    // fusermount3 finds the socket by number: it must survive the exec.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(|e| MountError::new(format!("cannot hand a socket on: {e}")))?;
    let child = Command::new("fusermount3")
        .arg("-o")
        .arg(fusermount_options(source, options))
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| MountError::new(format!("cannot run fusermount3: {e}; install the package fuse3")))?;
    drop(theirs);
    let device = receive(&ours);
    let output = child.wait_with_output().map_err(|e| MountError::new(format!("fusermount3: {e}")))?;
    match device {
        Ok(Some(fd)) if output.status.success() => {
            let _ = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
            Ok(fd)
        }
        _ => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            let hint = if said.contains("user_allow_other") {
                ": add that line to it, or mount without allow_other and allow_root"
            } else if rustix::process::geteuid().is_root() {
                "; root may mount, but not in this container (it needs CAP_SYS_ADMIN and /dev/fuse)"
            } else {
                ""
            };
            Err(MountError::new(format!("cannot mount at {}: {said}{hint}", point.display())))
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
pub fn remount(point: &Path, flags: MountFlags) -> Result<(), MountError> {
    use rustix::io::Errno;
    rustix::mount::mount_remount(point, flags, "").map_err(|e| {
        let shown = point.display();
        MountError::new(match e {
            Errno::BUSY => format!("cannot remount {shown}: a file there is open for writing"),
            Errno::PERM => format!("cannot remount {shown}: only root can; unmount it and mount it anew"),
            other => format!("cannot remount {shown}: {}", io::Error::from(other)),
        })
    })
}

/// Enters the mount namespace that the file `namespace` stands for: `mount -N`.
///
/// # Errors
/// One line; only root may.
pub fn enter(namespace: &Path) -> Result<(), MountError> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let entered = rustix::fs::open(namespace, flags, Mode::empty())
        .and_then(|fd| move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Mount)));
    entered.map_err(|e| {
        MountError::new(format!("cannot enter the namespace {}: {}", namespace.display(), io::Error::from(e)))
    })
}

/// Unmounts what is at `point`; with DETACH also while programs use it.
///
/// # Errors
/// One line; for a busy mount it says so.
pub fn unmount(point: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    match rustix::mount::unmount(point, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            // fusermount3 would only say that it finds no entry.
            let ours = format!("user_id={}", rustix::process::getuid().as_raw());
            let superblock = mounted_at(point).map_or_else(String::new, |m| m.options[1].clone());
            let maker = superblock.split(',').find(|word| word.starts_with("user_id=") && *word != ours);
            if let Some((_, maker)) = maker.and_then(|word| word.split_once('=')) {
                return Err(MountError::new(format!(
                    "cannot unmount {}: only user {maker}, who mounted it, and root can",
                    point.display()
                )));
            }
            let mut command = Command::new("fusermount3");
            command.arg("-u").args(flags.contains(UnmountFlags::DETACH).then_some("-z")).arg("--").arg(point);
            let output = command.stdin(Stdio::null()).output().map_err(|e| {
                MountError::new(format!("cannot run fusermount3: {e}; install the package fuse3"))
            })?;
            match output.status.success() {
                true => Ok(()),
                false => {
                    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
                    if said.ends_with("busy") {
                        return Err(MountError::busy(point));
                    }
                    Err(MountError::new(format!("cannot unmount {}: {said}", point.display())))
                }
            }
        }
        Err(rustix::io::Errno::BUSY) => Err(MountError::busy(point)),
        Err(e) => Err(MountError::new(format!("cannot unmount {}: {}", point.display(), io::Error::from(e)))),
    }
}

/// Whether the daemon of the mount at `point` is gone. Asks it, if it is not.
pub fn is_dead(point: &Path) -> bool {
    // Not `stat`, which the kernel answers from its memory.
    let gone = [Errno::NOTCONN, Errno::CONNABORTED];
    rustix::fs::statfs(point).is_err_and(|e| gone.contains(&e))
}

/// Resolves a path without touching what is mounted there: a dead mount answers nothing but errors.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if name != OsStr::from_bytes(b"..") => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let joined = parent.canonicalize()?.join(name);
            match kind(&joined) {
                Ok(FileType::Symlink) => joined.canonicalize(),
                _ => Ok(joined),
            }
        }
        _ => path.canonicalize(),
    }
}

/// What is at a path. Links are not followed, and what is mounted on demand is not mounted for this: the standard
/// library's `stat` would ask systemd to mount what this program is about to mount, and wait for it.
pub fn kind(path: &Path) -> io::Result<FileType> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(FileType::from_raw_mode(rustix::fs::statat(CWD, path, flags)?.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_brings_no_option_along() {
        let list = fusermount_options(OsStr::from_bytes(b"/a,allow_other\\\xff"), &Options::default());
        let expected = b"default_permissions,subtype=revfs,fsname=/a\\,allow_other\\\\\xff";
        assert_eq!(list.as_bytes(), expected);
        let options = Options::parse(&["ro,suid,allow_root,noexec".to_owned()], false).unwrap();
        let list = fusermount_options(OsStr::new("/s"), &options).into_string().unwrap();
        assert!(list.ends_with("fsname=/s,ro,noexec,suid,allow_other"), "{list}");
    }

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
