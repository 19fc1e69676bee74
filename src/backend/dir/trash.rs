//! Moving to what is gone, and back: see `gone` for what lies there.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use uuid::Uuid;

use super::gone::{ASIDE, WITHDRAWN, object_name, op_name, rev_name};
use super::{DirBackend, origin, sys};
use crate::backend::{Attrs, Durability, Meta, PURGED, Removal};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

impl DirBackend {
    pub(super) fn retire_revision(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<()> {
        self.plain(id, why)?;
        let failed = |e| self.rev_error("retire", id, rev, e);
        let dir = self.object("retire", id)?;
        let Some(meta) = sys::meta_at(dir.as_fd(), rev.as_str()).map_err(failed)? else {
            return Err(Error::NoRevision(id.clone(), rev.clone()));
        };
        self.close_leaving(dir.as_fd(), rev.as_str().as_ref(), &meta).map_err(failed)?;
        let gone = self.gone_dir(id)?;
        match self.stage.rename_exclusive(
            dir.as_fd(),
            rev.as_str().as_ref(),
            gone.as_fd(),
            &rev_name(rev, why),
        ) {
            Err(Errno::EXIST) => self.retire_again(id, rev, why, dir.as_fd(), gone.as_fd())?,
            done => done.map_err(failed)?,
        }
        self.sync_dirs(how, &[gone.as_fd(), dir.as_fd()]).map_err(|e| self.io("retire", id, Some(rev), e))
    }

    /// A replicator brought back what was retired. The same bytes, and any where bytes were purged, are dropped; others
    /// (a name is used once, but the original library writes in place and may have been interrupted) are kept too.
    fn retire_again(
        &self,
        id: &ObjectId,
        rev: &Rev,
        why: &str,
        dir: BorrowedFd,
        gone: BorrowedFd,
    ) -> Result<()> {
        let failed = |e| self.rev_error("retire", id, rev, e);
        let bytes = |at, name: &OsStr| {
            let (file, meta) = sys::open_file(at, name)?;
            sys::read_all(file.as_fd(), meta.size)
        };
        let kept = bytes(gone, &rev_name(rev, why)).map_err(|e| self.io("read", id, Some(rev), e))?;
        if kept.is_empty() || kept == bytes(dir, rev.as_str().as_ref()).map_err(failed)? {
            return sys::unlink(dir, rev.as_str()).map_err(failed);
        }
        let apart = op_name(&Uuid::new_v4().simple().to_string(), ASIDE);
        let apart = self.layout.shared_dir(gone, &apart).map_err(|e| self.io("retire", id, Some(rev), e))?;
        let name = rev.as_str().as_ref();
        self.stage.rename_exclusive(dir, name, apart.as_fd(), name).map_err(failed)
    }

    pub(super) fn keep_text(
        &self,
        id: &ObjectId,
        rev: &Rev,
        why: &str,
        text: &[u8],
        how: Durability,
    ) -> Result<()> {
        self.plain(id, why)?;
        let failed = |e| self.io("keep", id, Some(rev), e);
        let gone = self.gone_dir(id)?;
        let name = rev_name(rev, why);
        let attrs = self.attrs_like(id, gone.as_fd()).map_err(failed)?;
        self.stage.publish(&self.layout, gone.as_fd(), &name, text, &attrs, how).map_err(failed)?;
        self.sync_dirs(how, &[]).map_err(failed)
    }

    pub(super) fn remove_object(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.plain(id, op)?;
        let root = self.layout.root();
        if sys::kind(root, id.as_os_str()).map_err(|e| self.io("delete", id, None, e))?
            != Some(FileType::Directory)
        {
            return Err(Error::NoObject(id.clone()));
        }
        let gone = self.gone_dir(id)?;
        let failed = |e| self.io("delete", id, None, e);
        if self.is_withdrawn(gone.as_fd(), op).map_err(failed)? {
            return Err(failed(Errno::EXIST));
        }
        self.stage.rename_exclusive(root, id.as_os_str(), gone.as_fd(), &object_name(op)).map_err(
            |e| match e {
                Errno::NOENT => Error::NoObject(id.clone()),
                e => self.io("delete", id, None, e),
            },
        )?;
        self.sync_dirs(how, &[gone.as_fd(), root]).map_err(|e| self.io("delete", id, None, e))
    }

    /// Moves a removed object back, with a newer revision where one is given.
    pub(super) fn bring_back(
        &self,
        id: &ObjectId,
        op: &str,
        newer: Option<(&Rev, &[u8], &Attrs)>,
        how: Durability,
    ) -> Result<Option<Meta>> {
        self.plain(id, op)?;
        let root = self.layout.root();
        let failed = |e| match e {
            Errno::NOENT | Errno::NOTDIR => Error::NoObject(id.clone()),
            e => self.io("revive", id, None, e),
        };
        let all = self.layout.gone_if_any().map_err(failed)?.ok_or_else(|| Error::NoObject(id.clone()))?;
        let gone = sys::open_dir(all, id.as_os_str()).map_err(failed)?;
        let dir = sys::dir(gone.as_fd(), object_name(op)).map_err(failed)?;
        if sys::kind(root, id.as_os_str()).map_err(failed)?.is_some() {
            return Err(Error::Exists(id.clone()));
        }
        // An empty file is what a purge by an older version left, and no revision to be met again; another fact tells of it.
        let known = self.list_gone(id)?;
        let inside: HashSet<&Rev> = known
            .iter()
            .flat_map(|gone| match gone {
                Removal::Object { op: of, revs } if of == op => revs.as_slice(),
                _ => &[],
            })
            .collect();
        for gone in &known {
            if let Removal::Rev { rev, why } = gone
                && why == PURGED
                && inside.contains(rev)
                && let Ok(Some(meta)) = sys::meta_at(dir.as_fd(), rev.as_str())
                && meta.size == 0
            {
                sys::unlink(dir.as_fd(), rev.as_str()).map_err(failed)?;
            }
        }
        // The new revision first: whoever meets the object again meets it with this one winning.
        let publish = |(rev, text, attrs): (&Rev, _, _)| {
            self.stage.publish(&self.layout, dir.as_fd(), rev.as_str().as_ref(), text, attrs, how)
        };
        let meta = newer.map(publish).transpose().map_err(failed)?;
        if let Some((rev, _, attrs)) = newer {
            self.follow(id, dir.as_fd(), rev, attrs, false).map_err(failed)?;
        }
        let (attrs, withdrawn) = (self.layout.attrs().map_err(failed)?, op_name(op, WITHDRAWN));
        let moved = match self.stage.publish(&self.layout, gone.as_fd(), &withdrawn, b"", &attrs, how) {
            // By a call that was interrupted.
            Ok(_) | Err(Errno::EXIST) => {
                self.stage.rename_exclusive(gone.as_fd(), &object_name(op), root, id.as_os_str())
            }
            Err(e) => Err(e),
        };
        if let Err(e) = moved {
            if let Some((rev, ..)) = newer {
                let _ = sys::unlink(dir.as_fd(), rev.as_str());
            }
            return Err(match e {
                Errno::EXIST | Errno::NOTDIR => Error::Exists(id.clone()),
                e => failed(e),
            });
        }
        self.sync_dirs(how, &[root, gone.as_fd()]).map_err(failed)?;
        Ok(meta)
    }

    pub(super) fn move_revisions(
        &self,
        from: &ObjectId,
        to: &ObjectId,
        op: &str,
        how: Durability,
    ) -> Result<()> {
        self.plain(from, op)?;
        let root = self.layout.root();
        let failed = |e| self.io("rename", to, None, e);
        // Marks tell of the old id.
        self.settle().map_err(failed)?;
        let source = self.object("rename", from)?;
        if sys::kind(root, to.as_os_str()).map_err(failed)?.is_some() {
            return Err(Error::Exists(to.clone()));
        }
        // What the removal needs is there before there are two.
        self.gone_dir(from)?;
        let (mut staged, target) =
            self.stage.directory(&self.layout, root, &Attrs::default()).map_err(failed)?;
        sys::access(source.as_fd()).and_then(|like| sys::set_access(target.as_fd(), like)).map_err(failed)?;
        self.link_all(source.as_fd(), target.as_fd(), how).map_err(failed)?;
        self.sync_dirs(how, &[target.as_fd()]).map_err(failed)?;
        self.stage.rename_exclusive(staged.at, staged.os(), root, to.as_os_str()).map_err(|e| match e {
            Errno::EXIST | Errno::NOTDIR => Error::Exists(to.clone()),
            e => failed(e),
        })?;
        staged.kept = true;
        match self.remove_object(from, op, how) {
            Ok(()) => {}
            // Somebody else deleted it meanwhile: it is gone under its old name, as it should be.
            Err(Error::NoObject(_)) => return Ok(()),
            Err(e) => {
                // Not both: what was just made goes, with all that others may have saved to it already.
                let _ = self.remove_object(to, &Uuid::new_v4().simple().to_string(), how);
                return Err(e);
            }
        }
        // Saved to the old name after it was listed.
        self.link_all(source.as_fd(), target.as_fd(), how).map_err(failed)?;
        self.sync_dirs(how, &[target.as_fd()]).map_err(failed)
    }

    /// Gives every revision in one directory the same name in another, unless it has it there.
    fn link_all(&self, source: BorrowedFd, target: BorrowedFd, how: Durability) -> sys::Result<()> {
        for (name, _) in sys::list(source, ".")? {
            if Rev::new(&name).is_err() || sys::kind(source, &name)? != Some(FileType::RegularFile) {
                continue;
            }
            match sys::link(source, &name, target, &name) {
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
                // Media without links, and the kernel's fs.protected_hardlinks for other people's files.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::XDEV) => {
                    let (file, meta) = sys::open_file(source, &name)?;
                    let text = sys::read_all(file.as_fd(), meta.size)?;
                    let attrs = Attrs {
                        mtime: Some(meta.mtime),
                        mode: Some(meta.mode),
                        owner: Some((meta.uid, meta.gid)),
                        origin: origin::of(file.as_fd()),
                    };
                    match self.stage.publish(&self.layout, target, &name, &text, &attrs, how) {
                        Ok(_) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub(super) fn put_aside(&self, id: &ObjectId, name: &OsStr, op: &str, how: Durability) -> Result<()> {
        self.plain(id, op)?;
        let failed = |e| Error::io("set aside", self.path.join(id.as_os_str()).join(name))(e);
        let missing = |e| match e {
            Errno::NOENT => Error::NoObject(id.clone()),
            e => failed(e),
        };
        if matches!(name.as_encoded_bytes(), b"" | b"." | b"..") || name.as_encoded_bytes().contains(&b'/') {
            return Err(failed(Errno::INVAL));
        }
        let dir = self.object("set aside", id)?;
        sys::identity(dir.as_fd(), name).map_err(missing)?;
        let gone = self.gone_dir(id)?;
        let aside = self.layout.shared_dir(gone.as_fd(), op_name(op, ASIDE)).map_err(failed)?;
        self.stage.rename_exclusive(dir.as_fd(), name, aside.as_fd(), name).map_err(missing)?;
        self.sync_dirs(how, &[aside.as_fd(), gone.as_fd(), dir.as_fd()]).map_err(failed)
    }

    /// With `Full`, makes the names in these directories, and of the directories of what is gone, survive a power cut.
    pub(super) fn sync_dirs(&self, how: Durability, dirs: &[BorrowedFd]) -> sys::Result<()> {
        if how != Durability::Full {
            return Ok(());
        }
        for dir in dirs {
            self.stage.sync_names(*dir)?;
        }
        self.stage.sync_names(self.layout.gone()?)
    }

    /// Refuses what would not be one name: operations and reasons come from command lines too.
    pub(super) fn plain(&self, id: &ObjectId, name: &str) -> Result<()> {
        match name.is_empty() || name.contains(['/', '~', '\0']) {
            false => Ok(()),
            true => Err(self.io("remove", id, None, Errno::INVAL)),
        }
    }
}
