//! Every way a call on the mount can fail, and the one table from there to errno.
//!
//! Invariant: no other place of the crate names an errno for a reply.

use std::fmt;

use rustix::io::Errno;

use crate::error::Error;

/// Why a call on the mount failed.
#[derive(Debug)]
pub enum Fail {
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
    BadHandle,
    Busy,
    NotATerminal,
    /// A seek beyond the end.
    NoSuchOffset,
    /// Once and for all: the kernel does not ask again.
    NotThere,
    /// The file has no attribute of this name.
    NoData,
    /// The answer is longer than the program's buffer.
    Longer,
}

/// `Result` with [`Fail`].
pub type Result<T, E = Fail> = std::result::Result<T, E>;

impl Fail {
    /// What the program sees.
    pub fn errno(&self) -> i32 {
        match self {
            Fail::Store(error) => of_store(error),
            Fail::Os(errno) => errno.raw_os_error(),
            Fail::NotFound => libc::ENOENT,
            Fail::Exists => libc::EEXIST,
            Fail::Stale => libc::ESTALE,
            // EPERM, not EACCES: no change of mode or owner would help.
            Fail::NotPermitted(_) => libc::EPERM,
            Fail::NotSupported => libc::EOPNOTSUPP,
            Fail::NameTooLong => libc::ENAMETOOLONG,
            Fail::NotADirectory => libc::ENOTDIR,
            Fail::IsADirectory => libc::EISDIR,
            Fail::Invalid => libc::EINVAL,
            Fail::CrossDevice => libc::EXDEV,
            Fail::TooLarge => libc::EFBIG,
            Fail::BadHandle => libc::EBADF,
            Fail::Busy => libc::EBUSY,
            Fail::NotATerminal => libc::ENOTTY,
            Fail::NoSuchOffset => libc::ENXIO,
            Fail::NotThere => libc::ENOSYS,
            Fail::NoData => libc::ENODATA,
            Fail::Longer => libc::ERANGE,
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
        Error::NotAStore { .. } => libc::EIO,
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

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fail::Store(error) => error.fmt(f),
            Fail::NotPermitted(why) => f.write_str(why),
            other => std::io::Error::from_raw_os_error(other.errno()).fmt(f),
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Fail::Store(error)
    }
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Self {
        Fail::Os(errno)
    }
}
