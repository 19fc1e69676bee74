//! The one error of the crate.
//!
//! Every message is one line and says what to do where there is something to do.
//! Invariant: no errno here. The file system's table is `fs/errno.rs`, the command line's is `cli/exit.rs`.

use std::{fmt, io, path::PathBuf};

use crate::document::NotObject;
use crate::rev::{ObjectId, Rev, SUFFIX};

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong below the mount and the command line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The object has no live revision that holds a JSON object, or does not exist at all.
    NoObject(ObjectId),
    /// The object exists, but not with this revision.
    NoRevision(ObjectId, Rev),
    /// An exclusive create met an object that exists.
    Exists(ObjectId),
    /// The name cannot be an object id.
    BadId { name: String, why: &'static str },
    /// The name cannot be a revision.
    BadRev(String),
    /// The text is not one complete JSON object; nothing was stored.
    NotObject(NotObject),
    /// A stale save under the policy `refuse`.
    Stale { id: ObjectId, base: Rev, winner: Rev },
    /// The object's generations are used up (2^53-2, the last one that the original library counts exactly).
    GenerationLimit(ObjectId),
    /// There is no directory to be the store, or nobody here may look into it.
    NoStore { path: PathBuf, source: io::Error },
    /// The directory is not a store, or one of an unknown version.
    NotAStore { path: PathBuf, why: String },
    /// The medium failed. `op` is a verb: "read", "publish", "list".
    Io { op: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    /// An [`Error::Io`] maker for `map_err`: `file.read(..).map_err(Error::io("read", path))`.
    pub fn io<E: Into<io::Error>>(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Error {
        let path = path.into();
        move |source| Error::Io { op, path, source: source.into() }
    }

    /// Whether the medium had no room: no block, no inode, or none within somebody's quota.
    pub fn is_no_room(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoObject(id) => match id.to_text().strip_suffix(SUFFIX) {
                Some(stem) if !stem.is_empty() => {
                    write!(f, "no object {id}; ids do not end in {SUFFIX} as files do")
                }
                _ => write!(f, "no object {id}"),
            },
            Error::NoRevision(id, rev) => write!(f, "object {id} has no revision {rev}"),
            Error::Exists(id) => write!(f, "object {id} exists already; use update or upsert"),
            Error::BadId { name, why } => write!(f, "{name:?} cannot be an object id: {why}"),
            Error::BadRev(name) => {
                write!(f, "{name:?} is not a revision: expected <generation>-<32 hex digits>")
            }
            Error::NotObject(why) => write!(f, "not a JSON object: {why}"),
            Error::Stale { id, base, winner } => {
                write!(
                    f,
                    "object {id} has moved on from {base} to {winner}; read it again and repeat the change"
                )
            }
            Error::GenerationLimit(id) => {
                write!(f, "object {id} has reached generation 2^53-2; store its text under another id")
            }
            Error::NoStore { path, source } => {
                let hint = match source.kind() {
                    io::ErrorKind::NotFound => "; create it with mkdir",
                    io::ErrorKind::PermissionDenied => "; it takes permission to read and search it",
                    _ => "",
                };
                write!(f, "cannot open the store {}: {source}{hint}", path.display())
            }
            Error::NotAStore { path, why } => write!(f, "{} is not a store: {why}", path.display()),
            Error::Io { op, path, source } => write!(f, "cannot {op} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::NoStore { source, .. } | Error::Io { source, .. } => Some(source),
            Error::NotObject(why) => Some(why),
            _ => None,
        }
    }
}

impl From<NotObject> for Error {
    fn from(why: NotObject) -> Self {
        Error::NotObject(why)
    }
}
