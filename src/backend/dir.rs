//! A store in a directory, as the original library lays it out, with `.revfs` beside the objects.
//!
//! The store's directory is opened once; its path is never resolved again (a mount may cover it, and the daemon must not
//! walk into its own mount). No link is followed below it.
//!
//! What is assumed of the file system: renaming is atomic; so is linking, where unnamed files exist. What more each
//! needs for bytes to precede their name through a power cut is in `dir/stage.rs`. Two hosts may share a directory on a
//! cluster file system; on GlusterFS, CephFS and NFS exclusiveness of a revision's name rests on its random digits.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::backend::{Attrs, Backend, Durability, Entry, Gone, Meta};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

mod gone;
mod private;
mod stage;
mod sys;

use private::Private;
use stage::Stage;

#[cfg(test)]
pub(super) use stage::Way;

/// A store in a directory. See the [module](self).
#[derive(Debug)]
pub struct DirBackend {
    path: PathBuf,
    private: Private,
    stage: Stage,
    name: Option<String>,
}

impl DirBackend {
    /// Opens an existing directory as a store. Gives it a format where it has none, and refuses unknown ones; removes
    /// what writers left unfinished more than a day ago. A store that may only be read is opened too.
    ///
    /// # Errors
    /// [`Error::NotAStore`]; [`Error::Io`] where there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<DirBackend> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::io::retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty())) {
            Err(Errno::NOTDIR) if path.exists() => {
                return Err(Error::NotAStore { path: path.into(), why: "it is not a directory".into() });
            }
            opened => opened.map_err(Error::io("open", path))?,
        };
        let stage = Stage::new(root.as_fd()).map_err(Error::io("open", path))?;
        let private = Private::new(root);
        let name = private.format(&stage, path)?;
        if name.is_some() {
            private.sweep_stage(private::LEFTOVER);
        }
        Ok(DirBackend { path: path.into(), private, stage, name })
    }

    /// On a medium that can only do this much.
    #[cfg(test)]
    pub(super) fn open_forced(path: &Path, way: stage::Way) -> Result<DirBackend> {
        let mut backend = DirBackend::open(path)?;
        backend.stage.force(way);
        Ok(backend)
    }

    /// The store's directory, for calls relative to it.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.private.root()
    }

    /// The path that the store was opened by: for messages, not for opening anything.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store's own name, 32 hex digits, the same for all who open it; `None` for a store that may only be read and
    /// never had one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Opens `.revfs/<name>`, making it where it is missing. `name` is one path component.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn private_dir(&self, name: &str) -> Result<OwnedFd> {
        self.private.dir(name).map_err(Error::io("open", self.path.join(private::NAME).join(name)))
    }

    fn io(&self, op: &'static str, id: &ObjectId, rev: Option<&Rev>, e: Errno) -> Error {
        let dir = self.path.join(id.as_os_str());
        Error::io(op, rev.map_or(dir.clone(), |rev| dir.join(rev.as_str())))(e)
    }

    /// An object's directory, as an anchor.
    fn object(&self, op: &'static str, id: &ObjectId) -> Result<OwnedFd> {
        sys::dir(self.root(), id.as_os_str()).map_err(|e| self.object_error(op, id, e))
    }

    fn object_error(&self, op: &'static str, id: &ObjectId, e: Errno) -> Error {
        match e {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::NoObject(id.clone()),
            e => self.io(op, id, None, e),
        }
    }

    /// For a call that named a revision: what was missing?
    fn rev_error(&self, op: &'static str, id: &ObjectId, rev: &Rev, e: Errno) -> Error {
        match e {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => match self.object(op, id) {
                Ok(_) => Error::NoRevision(id.clone(), rev.clone()),
                Err(missing) => missing,
            },
            e => self.io(op, id, Some(rev), e),
        }
    }

    fn open_rev(&self, op: &'static str, id: &ObjectId, rev: &Rev) -> Result<(OwnedFd, Meta)> {
        sys::open_file_in(self.root(), id.as_os_str(), rev.as_str().as_ref())
            .map_err(|e| self.rev_error(op, id, rev, e))
    }

    /// Whether the object's directory is still the one that was opened.
    fn is_current(&self, id: &ObjectId, dir: BorrowedFd) -> bool {
        let now = sys::identity(self.root(), id.as_os_str());
        now.is_ok() && now == sys::identity(dir, "")
    }
}

impl Backend for DirBackend {
    fn objects(&self) -> Result<Vec<ObjectId>> {
        let names = sys::list(self.root(), ".").map_err(Error::io("list", &self.path))?;
        let object = |(name, kind): (std::ffi::OsString, _)| {
            let id = ObjectId::new(&name).ok()?;
            Stage::is_dir(self.root(), &name, kind).then_some(id)
        };
        Ok(names.into_iter().filter_map(object).collect())
    }

    fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>> {
        let names = sys::list(self.root(), id.as_os_str()).map_err(|e| self.object_error("list", id, e))?;
        Ok(names
            .into_iter()
            .map(|(name, _)| Rev::new(&name).map_or(Entry::Foreign(name), Entry::Rev))
            .collect())
    }

    fn meta(&self, id: &ObjectId, rev: &Rev) -> Result<Meta> {
        let dir = self.object("stat", id)?;
        match sys::meta_at(dir.as_fd(), rev.as_str()) {
            Ok(Some(meta)) => Ok(meta),
            Ok(None) => Err(Error::NoRevision(id.clone(), rev.clone())),
            Err(e) => Err(self.rev_error("stat", id, rev, e)),
        }
    }

    fn read(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, Meta)> {
        let failed = |e| self.io("read", id, Some(rev), e);
        let (file, mut meta) = self.open_rev("read", id, rev)?;
        let text = sys::read_all(file.as_fd(), meta.size).map_err(failed)?;
        if text.len() as u64 != meta.size {
            // The original library is writing it at this moment.
            meta = sys::meta(file.as_fd()).map_err(failed)?.unwrap_or(meta);
            meta.size = text.len() as u64;
        }
        Ok((text, meta))
    }

    fn open(&self, id: &ObjectId, rev: &Rev) -> Result<File> {
        self.open_rev("open", id, rev).map(|(file, _)| file.into())
    }

    fn publish(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta> {
        let failed = |e| self.io("publish", id, Some(rev), e);
        let dir = self.object("publish", id)?;
        let name = rev.as_str().as_ref();
        let meta = match self.stage.publish(&self.private, dir.as_fd(), name, text, attrs, how) {
            Err(Errno::NOENT) if !self.is_current(id, dir.as_fd()) => {
                return Err(Error::NoObject(id.clone()));
            }
            published => published.map_err(failed)?,
        };
        if how == Durability::Full {
            // The object itself may be new, made by somebody who did not wait for the medium.
            self.stage.sync_names(self.root()).map_err(failed)?;
        }
        // An object that was deleted while this was written has taken the revision along.
        match self.is_current(id, dir.as_fd()) {
            true => Ok(meta),
            false => Err(Error::NoObject(id.clone())),
        }
    }

    fn create(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta> {
        let (dir, file) = (id.as_os_str(), rev.as_str().as_ref());
        self.stage.create(&self.private, self.root(), dir, file, text, attrs, how).map_err(|e| match e {
            Errno::EXIST | Errno::NOTDIR => Error::Exists(id.clone()),
            e => self.io("create", id, Some(rev), e),
        })
    }

    fn set_attrs(&self, id: &ObjectId, rev: &Rev, attrs: &Attrs) -> Result<Meta> {
        let dir = self.object("change", id)?;
        sys::apply_at(dir.as_fd(), rev.as_str().as_ref(), attrs)
            .map_err(|e| self.rev_error("change", id, rev, e))?;
        self.meta(id, rev)
    }

    fn rename(&self, id: &ObjectId, from: &Rev, to: &Rev) -> Result<()> {
        self.meta(id, from)?;
        let dir = self.object("rename", id)?;
        self.stage
            .rename_exclusive(dir.as_fd(), from.as_str().as_ref(), dir.as_fd(), to.as_str().as_ref())
            .map_err(|e| self.rev_error("rename", id, from, e))
    }

    fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<()> {
        self.retire_revision(id, rev, why, how)
    }

    fn keep(&self, id: &ObjectId, rev: &Rev, why: &str, text: &[u8], how: Durability) -> Result<()> {
        self.keep_text(id, rev, why, text, how)
    }

    fn remove(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.remove_object(id, op, how)
    }

    fn revive(
        &self,
        id: &ObjectId,
        op: &str,
        rev: &Rev,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta> {
        self.revive_object(id, op, rev, text, attrs, how)
    }

    fn move_object(&self, from: &ObjectId, to: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.move_revisions(from, to, op, how)
    }

    fn gone(&self, id: &ObjectId) -> Result<Vec<Gone>> {
        self.list_gone(id)
    }

    fn gone_objects(&self) -> Result<Vec<ObjectId>> {
        self.list_gone_objects()
    }

    fn read_gone(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        self.read_gone_revision(id, rev)
    }

    fn sync(&self, id: &ObjectId, rev: &Rev) -> Result<()> {
        let (file, _) = self.open_rev("sync", id, rev)?;
        let dir = self.object("sync", id)?;
        sys::sync(file.as_fd())
            .and_then(|()| self.stage.sync_names(dir.as_fd()))
            .and_then(|()| self.stage.sync_names(self.root()))
            .map_err(|e| self.io("sync", id, Some(rev), e))
    }
}
