//! What was removed: in `.revfs/gone/<id>/` the files `<rev>~<why>`, and for each deleted object a directory
//! `<op>~deleted/`, so an entry is tombstone, reason and undo in one. An empty file `<op>~withdrawn` says that a deletion
//! counts no more; in `<op>~aside/` is what was no revision and in the way.
//!
//! Invariant: names only come. The two that go are `<op>~deleted/` when it is brought back, which `<op>~withdrawn` stands
//! for then, and bytes when they are purged, which leaves the name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use uuid::Uuid;

use super::access::seen;
use super::{DirBackend, sys};
use crate::backend::{Attrs, Durability, Meta, PURGED, Removal, Tombstone};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

const DELETED: &str = "deleted";
const WITHDRAWN: &str = "withdrawn";
const ASIDE: &str = "aside";

/// What a name among what is gone says.
enum Fact {
    Rev(Rev, String),
    Object(String),
    Withdrawn(String),
    Aside(String),
}

fn fact(name: &OsStr) -> Option<Fact> {
    let name = name.to_str()?;
    let Some((what, why)) = name.split_once('~') else {
        // See `remove_in_its_own`.
        return Rev::new(name).ok().map(|rev| Fact::Rev(rev, DELETED.into()));
    };
    match (Rev::new(what), why) {
        (Ok(rev), why) => Some(Fact::Rev(rev, why.into())),
        (Err(_), DELETED) => Some(Fact::Object(what.into())),
        (Err(_), WITHDRAWN) => Some(Fact::Withdrawn(what.into())),
        (Err(_), ASIDE) => Some(Fact::Aside(what.into())),
        (Err(_), _) => None,
    }
}

/// Whether a name can be one in `.revfs/gone/<id>`, and is a directory's (`Some(true)`) or a file's there.
pub(super) fn shape(name: &OsStr) -> Option<bool> {
    fact(name).map(|fact| matches!(fact, Fact::Object(_) | Fact::Aside(_)))
}

/// Whether a name is that of a whole object that was removed.
pub(super) fn is_object(name: &OsStr) -> bool {
    matches!(fact(name), Some(Fact::Object(_)))
}

pub(super) fn rev_name(rev: &Rev, why: &str) -> OsString {
    format!("{rev}~{why}").into()
}

fn op_name(op: &str, what: &str) -> OsString {
    format!("{op}~{what}").into()
}

pub(super) fn object_name(op: &str) -> OsString {
    op_name(op, DELETED)
}

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
        let attrs = self.attrs_like(id, gone.as_fd()).map_err(failed)?;
        self.stage.publish(&self.private, gone.as_fd(), &name, text, &attrs, how).map_err(failed)?;
        self.sync_dirs(how, &[]).map_err(failed)
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
        let failed = |e| self.io("delete", id, None, e);
        if sys::kind(gone.as_fd(), op_name(op, WITHDRAWN)).map_err(failed)?.is_some() {
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
        // An empty file is what a purge left, and no revision to be met again; another name tells of it.
        for (name, _) in sys::list(gone.as_fd(), ".").map_err(failed)? {
            if let Some(Fact::Rev(rev, why)) = fact(&name)
                && why == PURGED
                && let Ok(Some(meta)) = sys::meta_at(dir.as_fd(), rev.as_str())
                && meta.size == 0
            {
                sys::unlink(dir.as_fd(), rev.as_str()).map_err(failed)?;
            }
        }
        // The new revision first: whoever meets the object again meets it with this one winning.
        let publish = |(rev, text, attrs): (&Rev, _, _)| {
            self.stage.publish(&self.private, dir.as_fd(), rev.as_str().as_ref(), text, attrs, how)
        };
        let meta = newer.map(publish).transpose().map_err(failed)?;
        if let Some((rev, _, attrs)) = newer {
            self.follow(id, dir.as_fd(), rev, attrs, false).map_err(failed)?;
        }
        let (attrs, withdrawn) = (self.private.attrs().map_err(failed)?, op_name(op, WITHDRAWN));
        let moved = match self.stage.publish(&self.private, gone.as_fd(), &withdrawn, b"", &attrs, how) {
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
        let root = self.private.root();
        let failed = |e| self.io("rename", to, None, e);
        let source = self.object("rename", from)?;
        if sys::kind(root, to.as_os_str()).map_err(failed)?.is_some() {
            return Err(Error::Exists(to.clone()));
        }
        let mut staged = self.stage.directory(&self.private, root, &Attrs::default()).map_err(failed)?;
        let target = sys::open_dir(staged.at, staged.os()).map_err(failed)?;
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

    pub(super) fn list_gone(&self, id: &ObjectId) -> Result<Vec<Removal>> {
        let failed = |e| self.io("list", id, None, e);
        let Some(all) = self.private.gone_if_any().map_err(failed)? else { return Ok(Vec::new()) };
        let dir = match sys::open_dir(all, id.as_os_str()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut gone = Vec::new();
        for (name, _) in sys::list(dir.as_fd(), ".").map_err(failed)? {
            match fact(&name) {
                Some(Fact::Rev(rev, why)) => gone.push(Removal::Rev { rev, why }),
                Some(Fact::Object(op)) => {
                    let mut revs = Vec::new();
                    match sys::each(dir.as_fd(), &name, |name, _| revs.extend(Rev::new(name).ok())) {
                        Ok(()) => gone.push(Removal::Object { op, revs }),
                        // Revived meanwhile, or nothing of ours.
                        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                        Err(e) => return Err(failed(e)),
                    }
                }
                Some(Fact::Withdrawn(op)) => gone.push(Removal::Withdrawn { op }),
                Some(Fact::Aside(op)) => {
                    let mut names = Vec::new();
                    match sys::each(dir.as_fd(), &name, |name, _| names.push(name.to_owned())) {
                        Ok(()) => gone.push(Removal::Aside { op, names }),
                        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                        Err(e) => return Err(failed(e)),
                    }
                }
                None => {}
            }
        }
        Ok(gone)
    }

    pub(super) fn list_graves(&self, id: &ObjectId) -> Result<Vec<Tombstone>> {
        let failed = |e| self.io("list", id, None, e);
        let mut tombstones = Vec::new();
        self.each_grave(id, |dir, name, rev, why, whole| {
            if let Some(mut meta) = sys::meta_at(dir, name)? {
                let at = if whole { sys::changed(dir, ".")? } else { meta.ctime };
                if whole {
                    meta = seen(sys::access(dir)?, meta);
                }
                tombstones.push(Tombstone { rev, why, whole, at, meta });
            }
            Ok(())
        })
        .map_err(failed)?;
        Ok(tombstones)
    }

    /// Calls `see` for each file that a removed revision has: with its directory, its name there, the revision, the
    /// reason, and whether it went with the whole object. What vanishes meanwhile is passed over.
    pub(super) fn each_grave(
        &self,
        id: &ObjectId,
        mut see: impl FnMut(BorrowedFd, &OsStr, Rev, String, bool) -> sys::Result<()>,
    ) -> sys::Result<()> {
        let past = |done: sys::Result<()>| match done {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            done => done,
        };
        let Some(all) = self.private.gone_if_any()? else { return Ok(()) };
        let dir = match sys::open_dir(all, id.as_os_str()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened?,
        };
        for (name, _) in sys::list(dir.as_fd(), ".")? {
            match fact(&name) {
                Some(Fact::Rev(rev, why)) => past(see(dir.as_fd(), &name, rev, why, false))?,
                Some(Fact::Object(op)) => past(sys::open_dir(dir.as_fd(), &name).and_then(|inside| {
                    for (name, _) in sys::list(inside.as_fd(), ".")? {
                        if let Ok(rev) = Rev::new(&name) {
                            past(see(inside.as_fd(), &name, rev, op.clone(), true))?;
                        }
                    }
                    Ok(())
                }))?,
                Some(Fact::Withdrawn(_) | Fact::Aside(_)) | None => {}
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
        let aside = self.private.shared_dir(gone.as_fd(), op_name(op, ASIDE)).map_err(failed)?;
        self.stage.rename_exclusive(dir.as_fd(), name, aside.as_fd(), name).map_err(missing)?;
        self.sync_dirs(how, &[aside.as_fd(), gone.as_fd(), dir.as_fd()]).map_err(failed)
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
        let failed = |e| Error::io("list", self.path.join(super::layout::NAME).join("gone"))(e);
        let Some(all) = self.private.gone_if_any().map_err(failed)? else { return Ok(Vec::new()) };
        let names = sys::list(all, ".").map_err(failed)?;
        Ok(names.iter().filter_map(|(name, _)| ObjectId::new(name).ok()).collect())
    }

    /// Where what is removed of an object goes.
    pub(super) fn gone_dir(&self, id: &ObjectId) -> Result<OwnedFd> {
        let failed = |e| self.io("remove", id, None, e);
        let all = self.private.gone().map_err(failed)?;
        self.private.shared_dir(all, id.as_os_str()).map_err(failed)
    }

    /// With `Full`, makes the names in these directories, and of the directories of what is gone, survive a power cut.
    pub(super) fn sync_dirs(&self, how: Durability, dirs: &[BorrowedFd]) -> sys::Result<()> {
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
