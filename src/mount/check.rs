//! What cannot become a mount, and why: before anything is hidden or hangs.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use log::warn;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, StatVfsMountFlags};
use rustix::mount::UnmountFlags;

use super::system::{FSTYPE, MountInfo, is_dead, kind, mounted_at, resolve, unmount};
use super::{MountError, Options};
use crate::error::Error;

/// A store and a mount point that fit together, both absolute and without links.
pub struct Place {
    pub store: PathBuf,
    pub point: PathBuf,
    /// Nobody can write to the store: it lies on a read-only medium.
    pub read_only: bool,
}

/// Refuses what would hide files or deadlock, and clears a dead mount away.
///
/// # Errors
/// One line that says what to do.
pub fn check(store: &Path, point: &Path, options: &Options) -> Result<Place, MountError> {
    let (store, read_only) = open_store(store)?;
    if let Some(mount) = store.ancestors().find_map(|dir| mounted_at(dir).filter(|m| m.fstype == FSTYPE)) {
        let (store, source) = (store.display(), mount.source.display());
        return Err(MountError::misuse(format!(
            "{store} is in a revfs mount itself; mount its store, {source}"
        )));
    }
    let shown = point.display().to_string();
    let point = open_point(point, &shown)?;
    if store == point {
        return Err(MountError::misuse(format!(
            "{shown} is both the store and the mount point; choose an empty directory"
        )));
    }
    if point.starts_with(&store) {
        return Err(MountError::misuse(format!(
            "the mount point {shown} is inside the store; choose one outside"
        )));
    }
    if store.starts_with(&point) {
        return Err(MountError::misuse(format!(
            "the store is inside the mount point {shown}, which would hide it"
        )));
    }
    // Reading a directory that systemd mounts on demand would wait for that mount, which is this one.
    let on_demand = mounted_at(&point).is_some_and(|m| m.fstype == "autofs");
    let is_empty = || point.read_dir().map(|mut entries| entries.next().is_none());
    if !options.nonempty && !on_demand && !is_empty().map_err(|e| no_point(&shown, &e))? {
        return Err(MountError::new(format!(
            "the mount point {shown} is not empty; its files would be hidden (-o nonempty allows that)"
        )));
    }
    Ok(Place { store, point, read_only })
}

fn no_point(shown: &str, e: &io::Error) -> MountError {
    let hint = match e.kind() {
        io::ErrorKind::NotFound => "; create it with mkdir",
        io::ErrorKind::NotConnected => "; a dead mount is there, take it away: umount -l",
        _ => "",
    };
    MountError::new(format!("cannot open the mount point {shown}: {e}{hint}"))
}

/// As any other command opens it, so that all say the same.
fn open_store(store: &Path) -> Result<(PathBuf, bool), MountError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotADirectory => {
            Error::NotAStore { path: store.into(), why: "it is not a directory".into() }
        }
        _ => Error::NoStore { path: store.into(), source },
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || rustix::fs::open(store, flags, Mode::empty());
    let dir = rustix::io::retry_on_intr(open).map_err(|e| failed(e.into()))?;
    let read_only =
        rustix::fs::fstatvfs(&dir).is_ok_and(|medium| medium.f_flag.contains(StatVfsMountFlags::RDONLY));
    Ok((store.canonicalize().map_err(failed)?, read_only))
}

fn taken(shown: &str, there: &MountInfo) -> MountError {
    let source = there.source.display();
    MountError::no(format!("{shown} is mounted already, from {source}; end that first: revfs umount {shown}"))
}

/// Makes others who mount at the same place at the same moment wait until what this returns is dropped.
pub fn claim(point: &Path) -> Result<Option<OwnedFd>, MountError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let on_demand = mounted_at(point).is_some_and(|m| m.fstype == "autofs");
    let dir = if on_demand { None } else { rustix::fs::open(point, flags, Mode::empty()).ok() };
    if let Some(dir) = &dir {
        let _ = rustix::io::retry_on_intr(|| rustix::fs::flock(dir, FlockOperation::LockExclusive));
    }
    match mounted_at(point).filter(|m| m.fstype == FSTYPE) {
        Some(first) => Err(taken(&point.display().to_string(), &first)),
        None => Ok(dir),
    }
}

/// The mount point without links: a directory where no revfs mount is, not even a dead one.
fn open_point(point: &Path, shown: &str) -> Result<PathBuf, MountError> {
    let resolved = resolve(point).map_err(|e| no_point(shown, &e))?;
    if let Some(there) = mounted_at(&resolved).filter(|m| m.fstype == FSTYPE) {
        if !is_dead(&resolved) {
            return Err(taken(shown, &there));
        }
        warn!("{shown}: clearing away a dead mount");
        unmount(&resolved, UnmountFlags::DETACH)?;
    }
    let resolved = resolved.canonicalize().map_err(|e| no_point(shown, &e))?;
    if kind(&resolved).map_err(|e| no_point(shown, &e))? != FileType::Directory {
        return Err(MountError::new(format!("the mount point {shown} is not a directory")));
    }
    Ok(resolved)
}
