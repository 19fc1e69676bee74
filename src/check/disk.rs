//! What lies in a directory, seen without following, opening or waiting for anything.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::backend::sys;

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: OsString,
    pub kind: FileType,
    /// Permission bits.
    pub mode: u32,
    pub size: u64,
    pub modified: SystemTime,
    /// Attributes and name included.
    pub changed: SystemTime,
    /// How many names the file has.
    pub links: u64,
    inode: u64,
}

impl Item {
    /// Nothing has happened to it between two looks.
    pub fn is_as(&self, before: &Item) -> bool {
        (self.inode, self.size, self.changed) == (before.inode, before.size, before.changed)
    }

    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// What it is, in words.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            FileType::RegularFile => "a file",
            FileType::Directory => "a directory",
            FileType::Symlink => "a link",
            FileType::Fifo => "a fifo",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            FileType::Unknown => "of an unknown kind",
        }
    }
}

/// What has this name, if anything has.
pub fn lstat(at: BorrowedFd, name: &OsStr) -> io::Result<Option<Item>> {
    let x = match rustix::io::retry_on_intr(|| rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        x => x?,
    };
    let time = |seconds: i64, nanos: u64| {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let at = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
        at.and_then(|at| at.checked_add(Duration::from_nanos(nanos))).unwrap_or(UNIX_EPOCH)
    };
    Ok(Some(Item {
        name: name.into(),
        kind: FileType::from_raw_mode(x.st_mode),
        mode: x.st_mode & 0o7777,
        size: u64::try_from(x.st_size).unwrap_or(0),
        #[allow(clippy::useless_conversion, reason = "its type differs from platform to platform")]
        modified: time(x.st_mtime.into(), x.st_mtime_nsec.try_into().unwrap_or(0)),
        #[allow(clippy::useless_conversion, reason = "its type differs from platform to platform")]
        changed: time(x.st_ctime.into(), x.st_ctime_nsec.try_into().unwrap_or(0)),
        #[allow(clippy::useless_conversion, reason = "its type differs from platform to platform")]
        links: x.st_nlink.into(),
        inode: x.st_ino,
    }))
}

/// All names in a directory, sorted by their bytes. What vanishes meanwhile is left out.
pub fn list(at: BorrowedFd, name: impl AsRef<OsStr>) -> io::Result<(OwnedFd, Vec<Item>)> {
    let dir = sys::open_dir(at, name)?;
    let mut items = Vec::new();
    for (name, _) in sys::list(dir.as_fd(), ".")? {
        items.extend(lstat(dir.as_fd(), &name)?);
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((dir, items))
}

/// The bytes of a file, if it still is one.
pub fn read(at: BorrowedFd, item: &Item) -> io::Result<Vec<u8>> {
    let (file, meta) = sys::open_file(at, &item.name)?;
    Ok(sys::read_all(file.as_fd(), meta.size)?)
}

/// Opens a directory, making it where it is missing, as open to others as the store's is.
pub fn shared_dir(root: BorrowedFd, at: BorrowedFd, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    let name = name.as_ref();
    let made = match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => false,
        made => made.map(|()| true)?,
    };
    let dir = sys::open_dir(at, name)?;
    if made {
        let mode = rustix::fs::fstat(root)?.st_mode & 0o1777 | 0o700;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
    }
    Ok(dir)
}

/// Renames where `new` is free.
pub fn rename(at: BorrowedFd, name: &OsStr, to: BorrowedFd, new: &OsStr) -> io::Result<()> {
    match sys::rename_noreplace(at, name, to, new) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if lstat(to, new)?.is_some() {
                return Err(Errno::EXIST.into());
            }
            Ok(sys::rename(at, name, to, new)?)
        }
        done => Ok(done?),
    }
}

/// Lets the owner use a file or directory again, if it is still the one that was seen.
pub fn permit(at: BorrowedFd, item: &Item, bits: u32) -> io::Result<()> {
    let file = sys::pin(at, &item.name)?;
    let now = rustix::fs::fstat(&file)?;
    if now.st_ino != item.inode || FileType::from_raw_mode(now.st_mode) != item.kind {
        return Err(Errno::STALE.into());
    }
    Ok(sys::change_mode_of_pinned(file.as_fd(), now.st_mode | bits)?)
}

/// A name on one line whatever it holds.
pub fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().fold(String::new(), |mut shown, c| {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn what_came_in_the_place_of_a_file_is_not_given_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o7777;
        let [seen, other] = ["seen", "other"].map(|name| {
            fs::write(dir.path().join(name), "").unwrap();
            lstat(root.as_fd(), name.as_ref()).unwrap().unwrap()
        });
        let was = mode("other");
        fs::remove_file(dir.path().join("seen")).unwrap();
        symlink("other", dir.path().join("seen")).unwrap();
        permit(root.as_fd(), &Item { mode: 0o4755, ..seen.clone() }, 0o700).unwrap_err();
        fs::rename(dir.path().join("other"), dir.path().join("seen")).unwrap();
        permit(root.as_fd(), &seen, 0o700).unwrap_err();
        assert_eq!(mode("seen"), was);
        permit(root.as_fd(), &Item { name: "seen".into(), ..other }, 0o701).unwrap();
        assert_eq!(mode("seen"), was | 0o701);
    }
}
