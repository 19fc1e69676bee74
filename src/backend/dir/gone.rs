//! What was removed: `.revfs/gone/<id>/<rev>~<why>` and `.revfs/gone/<id>/<op>~deleted/`.
//!
//! Invariant: nothing is ever taken from here but by `revive`, so an entry is tombstone, reason and undo in one.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use uuid::Uuid;

use super::{DirBackend, sys};
use crate::backend::{Attrs, Durability, Gone, Meta};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

const DELETED: &str = "deleted";

/// What a name among what is gone says.
enum Fact {
    Rev(Rev, String),
    Object(String),
}

fn fact(name: &OsStr) -> Option<Fact> {
    let (what, why) = name.to_str()?.split_once('~')?;
    match Rev::new(what) {
        Ok(rev) => Some(Fact::Rev(rev, why.into())),
        Err(_) => (why == DELETED).then(|| Fact::Object(what.into())),
    }
}

fn rev_name(rev: &Rev, why: &str) -> OsString {
    format!("{rev}~{why}").into()
}

fn object_name(op: &str) -> OsString {
    format!("{op}~{DELETED}").into()
}

impl DirBackend {
    pub(super) fn retire_revision(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<()> {
        self.plain(id, why)?;
        let failed = |e| self.rev_error("retire", id, rev, e);
        let dir = self.object("retire", id)?;
        if sys::kind(dir.as_fd(), rev.as_str()).map_err(failed)? != Some(FileType::RegularFile) {
            return Err(Error::NoRevision(id.clone(), rev.clone()));
        }
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
        self.settle(how, &[gone.as_fd(), dir.as_fd()]).map_err(|e| self.io("retire", id, Some(rev), e))
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
        let apart = object_name(&Uuid::new_v4().simple().to_string());
        let apart = self.private.shared_dir(gone, &apart).map_err(|e| self.io("retire", id, Some(rev), e))?;
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
        self.stage
            .publish(&self.private, gone.as_fd(), &name, text, &Attrs::default(), how)
            .map_err(failed)?;
        self.settle(how, &[]).map_err(failed)
    }

    pub(super) fn remove_object(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.plain(id, op)?;
        let root = self.private.root();
        if sys::kind(root, id.as_os_str()).map_err(|e| self.io("delete", id, None, e))?
            != Some(FileType::Directory)
        {
            return Err(Error::NoObject(id.clone()));
        }
        let gone = self.gone_dir(id)?;
        self.stage.rename_exclusive(root, id.as_os_str(), gone.as_fd(), &object_name(op)).map_err(
            |e| match e {
                Errno::NOENT => Error::NoObject(id.clone()),
                e => self.io("delete", id, None, e),
            },
        )?;
        self.settle(how, &[gone.as_fd(), root]).map_err(|e| self.io("delete", id, None, e))
    }

    #[allow(clippy::too_many_arguments)]
    /// Moves a removed object back, with a newer revision where one is given.
    pub(super) fn bring_back(
        &self,
        id: &ObjectId,
        op: &str,
        newer: Option<(&Rev, &[u8], &Attrs)>,
        how: Durability,
    ) -> Result<Option<Meta>> {
        self.plain(id, op)?;
        let root = self.private.root();
        let failed = |e| match e {
            Errno::NOENT | Errno::NOTDIR => Error::NoObject(id.clone()),
            e => self.io("revive", id, None, e),
        };
        let all = self.private.gone_if_any().map_err(failed)?.ok_or_else(|| Error::NoObject(id.clone()))?;
        let gone = sys::open_dir(all, id.as_os_str()).map_err(failed)?;
        let dir = sys::dir(gone.as_fd(), object_name(op)).map_err(failed)?;
        if sys::kind(root, id.as_os_str()).map_err(failed)?.is_some() {
            return Err(Error::Exists(id.clone()));
        }
        // The new revision first: whoever meets the object again meets it with this one winning.
        let publish = |(rev, text, attrs): (&Rev, _, _)| {
            self.stage.publish(&self.private, dir.as_fd(), rev.as_str().as_ref(), text, attrs, how)
        };
        let meta = newer.map(publish).transpose().map_err(failed)?;
        if let Err(e) = self.stage.rename_exclusive(gone.as_fd(), &object_name(op), root, id.as_os_str()) {
            if let Some((rev, ..)) = newer {
                let _ = sys::unlink(dir.as_fd(), rev.as_str());
            }
            return Err(match e {
                Errno::EXIST | Errno::NOTDIR => Error::Exists(id.clone()),
                e => failed(e),
            });
        }
        self.settle(how, &[root, gone.as_fd()]).map_err(failed)?;
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
        let root = self.private.root();
        let failed = |e| self.io("rename", to, None, e);
        let source = self.object("rename", from)?;
        if sys::kind(root, to.as_os_str()).map_err(failed)?.is_some() {
            return Err(Error::Exists(to.clone()));
        }
        let mut staged = self.stage.directory(&self.private, root, &Attrs::default()).map_err(failed)?;
        let target = sys::open_dir(staged.at, staged.os()).map_err(failed)?;
        sys::match_dir(target.as_fd(), source.as_fd()).map_err(failed)?;
        self.link_all(source.as_fd(), target.as_fd(), how).map_err(failed)?;
        self.settle(how, &[target.as_fd()]).map_err(failed)?;
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
        self.settle(how, &[target.as_fd()]).map_err(failed)
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
                    };
                    match self.stage.publish(&self.private, target, &name, &text, &attrs, how) {
                        Ok(_) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub(super) fn list_gone(&self, id: &ObjectId) -> Result<Vec<Gone>> {
        let failed = |e| self.io("list", id, None, e);
        let Some(all) = self.private.gone_if_any().map_err(failed)? else { return Ok(Vec::new()) };
        let dir = match sys::open_dir(all, id.as_os_str()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut gone = Vec::new();
        for (name, _) in sys::list(dir.as_fd(), ".").map_err(failed)? {
            match fact(&name) {
                Some(Fact::Rev(rev, why)) => gone.push(Gone::Rev { rev, why }),
                Some(Fact::Object(op)) => {
                    let mut revs = Vec::new();
                    match sys::each(dir.as_fd(), &name, |name, _| revs.extend(Rev::new(name).ok())) {
                        Ok(()) => gone.push(Gone::Object { op, revs }),
                        // Revived meanwhile, or nothing of ours.
                        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                        Err(e) => return Err(failed(e)),
                    }
                }
                None => {}
            }
        }
        Ok(gone)
    }

    pub(super) fn read_gone_revision(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        let missing = || Error::NoRevision(id.clone(), rev.clone());
        let failed = |e| match e {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => missing(),
            e => self.io("read", id, Some(rev), e),
        };
        let all = self.private.gone_if_any().map_err(failed)?.ok_or_else(missing)?;
        let dir = sys::dir(all, id.as_os_str()).map_err(failed)?;
        for (name, _) in sys::list(dir.as_fd(), ".").map_err(failed)? {
            let opened = match fact(&name) {
                Some(Fact::Rev(r, _)) if r == *rev => sys::open_file(dir.as_fd(), &name),
                Some(Fact::Object(_)) => sys::open_file_in(dir.as_fd(), &name, rev.as_str().as_ref()),
                _ => continue,
            };
            let text = match opened {
                Ok((file, meta)) => sys::read_all(file.as_fd(), meta.size).map_err(failed)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(failed(e)),
            };
            // A purged revision keeps its name and no bytes.
            if !text.is_empty() {
                return Ok(text);
            }
        }
        Err(missing())
    }

    pub(super) fn list_gone_objects(&self) -> Result<Vec<ObjectId>> {
        let failed = |e| Error::io("list", self.path.join(super::private::NAME).join("gone"))(e);
        let Some(all) = self.private.gone_if_any().map_err(failed)? else { return Ok(Vec::new()) };
        let names = sys::list(all, ".").map_err(failed)?;
        Ok(names.iter().filter_map(|(name, _)| ObjectId::new(name).ok()).collect())
    }

    /// Where what is removed of an object goes.
    fn gone_dir(&self, id: &ObjectId) -> Result<OwnedFd> {
        let failed = |e| self.io("remove", id, None, e);
        let all = self.private.gone().map_err(failed)?;
        self.private.shared_dir(all, id.as_os_str()).map_err(failed)
    }

    /// With `Full`, makes the names in these directories, and of the directories of what is gone, survive a power cut.
    fn settle(&self, how: Durability, dirs: &[BorrowedFd]) -> sys::Result<()> {
        if how == Durability::Ordered {
            return Ok(());
        }
        for dir in dirs {
            self.stage.sync_names(*dir)?;
        }
        self.stage.sync_names(self.private.gone()?)
    }

    /// Refuses what would not be one name: operations and reasons come from command lines too.
    fn plain(&self, id: &ObjectId, name: &str) -> Result<()> {
        match name.is_empty() || name.contains(['/', '~', '\0']) {
            false => Ok(()),
            true => Err(self.io("remove", id, None, Errno::INVAL)),
        }
    }
}
