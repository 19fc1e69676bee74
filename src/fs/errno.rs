//! Every way a call on the mount can fail, and the one table from there to errno.
//!
//! Invariant: no other place of the crate names an errno for a reply.

use std::fmt;

use rustix::io::Errno;

use crate::error::Error;

/// Why a call on the mount failed.
#[derive(Debug)]
pub enum FsError {
    /// Below the mount: the store or its medium.
    Store(Error),
    /// A system call on a scratch file, passed on as it is.
    Os(Errno),
    NotFound,
    Exists,
    /// The name means something else since the kernel looked it up: it looks it up once more.
    Stale,
    /// Forbidden for what this name is: a view, a link to an object.
    NotPermitted(&'static str),
    NotSupported,
    NameTooLong,
    NotADirectory,
    IsADirectory,
    Invalid,
    /// From one world into the other where there is no way: `mv` copies then.
    CrossDevice,
    /// Larger than `-o max_size`.
    TooLarge,
    /// The daemon holds as many texts in its memory for this user as it will.
    NoMemory,
    /// The same of open files.
    TooManyOpen,
    BadHandle,
    Busy,
    NotATerminal,
    /// A seek beyond the end.
    NoSuchOffset,
    /// ENOSYS: the kernel remembers that, and sends no such request any more.
    Unimplemented,
    /// The file has no attribute of this name.
    NoData,
    /// The answer is longer than the program's buffer.
    Longer,
}

/// `Result` with [`FsError`].
pub type Result<T, E = FsError> = std::result::Result<T, E>;

impl FsError {
    /// What the program sees.
    pub fn errno(&self) -> i32 {
        match self {
            FsError::Store(error) => of_store(error),
            FsError::Os(errno) => errno.raw_os_error(),
            FsError::NotFound => libc::ENOENT,
            FsError::Exists => libc::EEXIST,
            FsError::Stale => libc::ESTALE,
            // EPERM, not EACCES: no change of mode or owner would help.
            FsError::NotPermitted(_) => libc::EPERM,
            FsError::NotSupported => libc::EOPNOTSUPP,
            FsError::NameTooLong => libc::ENAMETOOLONG,
            FsError::NotADirectory => libc::ENOTDIR,
            FsError::IsADirectory => libc::EISDIR,
            FsError::Invalid => libc::EINVAL,
            FsError::CrossDevice => libc::EXDEV,
            FsError::TooLarge => libc::EFBIG,
            FsError::NoMemory => libc::ENOMEM,
            // Not EMFILE: the program's own limit is not what was met.
            FsError::TooManyOpen => libc::ENFILE,
            FsError::BadHandle => libc::EBADF,
            FsError::Busy => libc::EBUSY,
            FsError::NotATerminal => libc::ENOTTY,
            FsError::NoSuchOffset => libc::ENXIO,
            FsError::Unimplemented => libc::ENOSYS,
            FsError::NoData => libc::ENODATA,
            FsError::Longer => libc::ERANGE,
        }
    }
}

fn of_store(error: &Error) -> i32 {
    match error {
        Error::NoObject(_) | Error::NoRevision(..) => libc::ENOENT,
        Error::Exists(_) => libc::EEXIST,
        Error::BadId { .. } | Error::BadRev(_) => libc::EINVAL,
        // Not EINVAL: mv would say "cannot move to a subdirectory of itself". cp, python, node, vim and rsync all
        // report "Bad message".
        Error::NotObject(_) => libc::EBADMSG,
        Error::Stale { .. } => libc::ESTALE,
        Error::GenerationLimit(_) => libc::EOVERFLOW,
        Error::NotAStore { .. } | Error::Peer { .. } | Error::Sync(_) => libc::EIO,
        Error::NoStore { source, .. } | Error::Io { source, .. } => {
            source.raw_os_error().unwrap_or(match source.kind() {
                std::io::ErrorKind::AlreadyExists => libc::EEXIST,
                std::io::ErrorKind::NotFound => libc::ENOENT,
                std::io::ErrorKind::PermissionDenied => libc::EACCES,
                _ => libc::EIO,
            })
        }
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FsError::Store(error) => error.fmt(f),
            FsError::NotPermitted(why) => f.write_str(why),
            other => std::io::Error::from_raw_os_error(other.errno()).fmt(f),
        }
    }
}

impl From<Error> for FsError {
    fn from(error: Error) -> Self {
        FsError::Store(error)
    }
}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        FsError::Os(errno)
    }
}
