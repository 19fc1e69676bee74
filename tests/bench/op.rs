//! What is done to a file or a directory: the system calls that programs make for it, and nothing around them.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::Fallible;

fn of(name: &str) -> impl FnOnce(Errno) -> Box<dyn std::error::Error + Send + Sync> {
    move |e| format!("{name}: {e}").into()
}

pub fn open_dir(path: &Path) -> Fallible<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(of(&path.display().to_string()))
}

/// Bytes that `cat` reads at once.
pub const PIECE: usize = 128 << 10;

/// open, read to the end, close, as `cat` does; the bytes read.
pub fn read(dir: BorrowedFd, name: &str, piece: &mut [u8]) -> Fallible<usize> {
    let file =
        rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(of(name))?;
    let mut total = 0;
    loop {
        match rustix::io::read(&file, &mut *piece).map_err(of(name))? {
            0 => return Ok(total),
            n => total += n,
        }
    }
}

pub fn stat(dir: BorrowedFd, name: &str) -> Fallible<i64> {
    Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(of(name))?.st_size)
}

/// Reads a directory to its end; how many names, but for `.` and `..`. With `stat`, one of each.
pub fn list(path: &Path, with_stat: bool) -> Fallible<usize> {
    let dir = open_dir(path)?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(&dir, &mut buffer);
    let mut count = 0;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(of("readdir"))?;
        if [c".", c".."].contains(&entry.file_name()) || entry.file_type() == FileType::Unknown {
            continue;
        }
        if with_stat {
            rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).map_err(of("stat"))?;
        }
        count += 1;
    }
    Ok(count)
}

/// How a text gets into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    Create,
    /// Truncated as it is opened.
    Overwrite,
    Append,
    /// Written beside it, then moved over it.
    Replace,
    /// [`Overwrite`](Self::Overwrite), and fsync before close.
    Sync,
}

pub fn save(dir: BorrowedFd, name: &str, text: &[u8], how: Save) -> Fallible<()> {
    let flags = match how {
        Save::Create | Save::Replace => OFlags::CREATE | OFlags::EXCL,
        Save::Overwrite | Save::Sync => OFlags::TRUNC,
        Save::Append => OFlags::APPEND,
    };
    let aside = format!("{name}.new");
    let target = if how == Save::Replace { &aside } else { name };
    let flags = flags | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, target, flags, Mode::from_raw_mode(0o644)).map_err(of(target))?;
    let written = rustix::io::write(&file, text).map_err(of(target))?;
    if written != text.len() {
        return Err(format!("{target}: {written} bytes of {} were written", text.len()).into());
    }
    if how == Save::Sync {
        rustix::fs::fsync(file.as_fd()).map_err(of(target))?;
    }
    close(file).map_err(of(target))?;
    if how == Save::Replace {
        rustix::fs::renameat(dir, &aside, dir, name).map_err(of(name))?;
    }
    Ok(())
}

/// The least by which a new file is whole or absent after a power cut: it has no name before its bytes are written.
pub fn publish(dir: BorrowedFd, name: &str, text: &[u8]) -> Fallible<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, ".", flags, Mode::from_raw_mode(0o644)).map_err(of(name))?;
    if rustix::io::write(&file, text).map_err(of(name))? != text.len() {
        return Err(format!("{name}: not all was written").into());
    }
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open, and no memory is passed.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } != 0 {
        return Err(format!("{name}: {}", std::io::Error::last_os_error()).into());
    }
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(rustix::fs::CWD, unnamed, dir, name, AtFlags::SYMLINK_FOLLOW).map_err(of(name))?;
    close(file).map_err(of(name))
}

/// Close with its error, which is where a save that was refused shows.
fn close(file: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is ours, and not used again.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
