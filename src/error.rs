//! The one error of the crate.
//!
//! Every message is one line and says what to do where there is something to do.
//! Invariant: no errno here. The file system's table is `fs/errno.rs`, the command line's is `cli/exit.rs`.

use std::{io, path::PathBuf};

use crate::document::NotObject;
use crate::rev::{ObjectId, Rev, SUFFIX};

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong below the mount and the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object has no live revision that holds a JSON object, or does not exist at all.
    #[error("no object {0}{hint}", hint = if is_file_name(.0) { "; ids do not end in .json as files do" } else { "" })]
    NoObject(ObjectId),
    /// The object exists, but not with this revision.
    #[error("object {0} has no revision {1}")]
    NoRevision(ObjectId, Rev),
    /// An exclusive create met an object that exists.
    #[error("object {0} exists already; use update or upsert")]
    Exists(ObjectId),
    /// The name cannot be an object id.
    #[error("{name:?} cannot be an object id: {why}")]
    BadId {
        /// As it was given; bytes that are not UTF-8 as U+FFFD.
        name: String,
        /// What is wrong with it: "it starts with a dot".
        why: &'static str,
    },
    /// The name cannot be a revision.
    #[error("{0:?} is not a revision: expected <generation>-<32 hex digits>")]
    BadRev(String),
    /// The text is not one complete JSON object; nothing was stored.
    #[error("not a JSON object: {0}")]
    NotObject(#[from] NotObject),
    /// A stale save under the policy `refuse`.
    #[error("object {id} has moved on from {base} to {winner}; read it again and repeat the change")]
    Stale {
        /// The object.
        id: ObjectId,
        /// What the text was made from.
        base: Rev,
        /// What readers get by now.
        winner: Rev,
    },
    /// The object's generations are used up (2^53-2, the last one that the original library counts exactly).
    #[error("object {0} has reached generation 2^53-2; store its text under another id")]
    GenerationLimit(ObjectId),
    /// There is no directory to be the store, or nobody here may look into it.
    #[error("cannot open the store {}: {source}{}", path.display(), hint(source))]
    NoStore {
        /// As it was given.
        path: PathBuf,
        /// What opening it returned.
        source: io::Error,
    },
    /// The directory is not a store, or one of an unknown version.
    #[error("{} is not a store: {why}", path.display())]
    NotAStore {
        /// As it was given.
        path: PathBuf,
        /// What it is instead, in words.
        why: String,
    },
    /// A place that stores are synchronised through failed. What failed may have been done, and can be tried again.
    #[error("{peer}: {why}")]
    Peer {
        /// What it is called; nothing secret.
        peer: String,
        /// What was being done, and what happened, in words.
        why: String,
        /// It cannot be reached, or not now.
        away: bool,
    },
    /// A synchronisation was refused, for it could take something away that nobody meant to.
    #[error("{0}")]
    Sync(String),
    /// The medium failed. `op` is a verb: "read", "publish", "list".
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// To what; for messages, not for opening anything.
        path: PathBuf,
        /// What the system returned.
        source: io::Error,
    },
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

    /// Whether others may fare better than the object that it happened with.
    pub(crate) fn is_of_object(&self) -> bool {
        match self {
            Error::Io { source, .. } => {
                let kind = source.kind();
                !self.is_no_room()
                    && !matches!(
                        kind,
                        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StaleNetworkFileHandle
                    )
            }
            Error::Peer { .. } | Error::Sync(_) | Error::NoStore { .. } | Error::NotAStore { .. } => false,
            _ => true,
        }
    }

    /// Whether the process may not do it.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// `None` where the object or its revision is not there, or not any more.
pub(crate) fn found<T>(asked: Result<T>) -> Result<Option<T>> {
    match asked {
        Err(Error::NoObject(_) | Error::NoRevision(..)) => Ok(None),
        answer => answer.map(Some),
    }
}

/// Whether an id looks like the name of an object's file.
fn is_file_name(id: &ObjectId) -> bool {
    id.to_text().strip_suffix(SUFFIX).is_some_and(|stem| !stem.is_empty())
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; create it with mkdir",
        io::ErrorKind::PermissionDenied => "; it takes permission to read and search it",
        _ => "",
    }
}
