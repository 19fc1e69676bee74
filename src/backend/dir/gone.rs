//! What lies in `.revfs/gone/<id>/`: the files `<rev>~<why>`, and for each deleted object a directory `<op>~deleted/`, so an entry
//! is tombstone, reason and undo in one; and `facts/`, for what has no bytes. An empty file `<op>~withdrawn` says that a deletion counts no more; in
//! `<op>~aside/` is what was no revision and in the way.
//!
//! Invariant: facts only come. `<op>~deleted/` goes when it is brought back, which `<op>~withdrawn` stands for then, and what
//! is purged when a fact file says all that the name did.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::access::seen;
use super::facts::{self, FACTS, FactFile};
use super::layout::NAME;
use super::{DirBackend, origin, sys};
use crate::backend::{DELETED, Meta, Origin, Removal, Tombstone};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

pub(super) const WITHDRAWN: &str = "withdrawn";
pub(super) const ASIDE: &str = "aside";

/// What a name among what is gone says; what is in a directory is not looked at.
pub(super) fn fact(name: &OsStr) -> Option<Removal> {
    let name = name.to_str()?;
    let Some((what, why)) = name.split_once('~') else {
        // See `remove_in_its_own`.
        return Rev::new(name).ok().map(|rev| Removal::Rev { rev, why: DELETED.into() });
    };
    match (Rev::new(what), why) {
        (Ok(rev), why) => Some(Removal::Rev { rev, why: why.into() }),
        (Err(_), DELETED) => Some(Removal::Object { op: what.into(), revs: Vec::new() }),
        (Err(_), WITHDRAWN) => Some(Removal::Withdrawn { op: what.into() }),
        (Err(_), ASIDE) => Some(Removal::Aside { op: what.into(), names: Vec::new() }),
        (Err(_), _) => None,
    }
}

/// What a line of a fact file says; `None` for what only a later version knows.
pub(super) fn fact_of_line(line: &[u8]) -> Option<Removal> {
    let fact = fact(OsStr::from_bytes(line)).filter(|_| line.contains(&b'~'));
    fact.filter(|fact| matches!(fact, Removal::Rev { .. } | Removal::Withdrawn { .. }))
}

/// The line that says it, if there is one that says just this.
pub(super) fn line_of(fact: &Removal) -> Option<Vec<u8>> {
    let name = match fact {
        Removal::Rev { rev, why } => rev_name(rev, why),
        Removal::Withdrawn { op } => op_name(op, WITHDRAWN),
        Removal::Object { .. } | Removal::Aside { .. } => return None,
    };
    let line = name.into_encoded_bytes();
    (!line.contains(&b'\n') && fact_of_line(&line).as_ref() == Some(fact)).then_some(line)
}

/// Whether a name can be one in `.revfs/gone/<id>`, and is a directory's (`Some(true)`) or a file's there.
pub(super) fn shape(name: &OsStr) -> Option<bool> {
    if name == FACTS {
        return Some(true);
    }
    fact(name).map(|fact| matches!(fact, Removal::Object { .. } | Removal::Aside { .. }))
}

/// Whether a name is that of a whole object that was removed.
pub(super) fn is_object(name: &OsStr) -> bool {
    matches!(fact(name), Some(Removal::Object { .. }))
}

pub(super) fn rev_name(rev: &Rev, why: &str) -> OsString {
    format!("{rev}~{why}").into()
}

pub(super) fn op_name(op: &str, what: &str) -> OsString {
    format!("{op}~{what}").into()
}

pub(super) fn object_name(op: &str) -> OsString {
    op_name(op, DELETED)
}

impl DirBackend {
    /// What is gone of an object, where anything is.
    pub(super) fn gone_dir_if_any(&self, id: &ObjectId) -> sys::Result<Option<OwnedFd>> {
        let all = self.layout.gone_if_any()?;
        all.map_or(Ok(None), |all| sys::found(sys::open_dir(all, id.as_os_str())))
    }

    /// Where what is removed of an object goes.
    pub(super) fn gone_dir(&self, id: &ObjectId) -> Result<OwnedFd> {
        let failed = |e| self.io("remove", id, None, e);
        let all = self.layout.gone().map_err(failed)?;
        self.layout.shared_dir(all, id.as_os_str()).map_err(failed)
    }

    pub(super) fn list_gone(&self, id: &ObjectId) -> Result<Vec<Removal>> {
        let failed = |e| self.io("list", id, None, e);
        let mut gone = Vec::new();
        let Some(dir) = self.gone_dir_if_any(id).map_err(failed)? else { return Ok(gone) };
        let mut names = sys::list(dir.as_fd(), ".").map_err(failed)?;
        for (name, _) in &names {
            let Some(mut fact) = fact(name) else { continue };
            let inside = match &mut fact {
                Removal::Object { revs, .. } => {
                    sys::each(dir.as_fd(), name, |name, _| revs.extend(Rev::new(name).ok()))
                }
                Removal::Aside { names, .. } => {
                    sys::each(dir.as_fd(), name, |name, _| names.push(name.to_owned()))
                }
                Removal::Rev { .. } | Removal::Withdrawn { .. } => Ok(()),
            };
            // Or it was revived meanwhile, or is nothing of ours.
            if sys::found(inside).map_err(failed)?.is_some() {
                gone.push(fact);
            }
        }
        let files = facts::read(dir.as_fd()).map_err(failed)?;
        let mut lines: Vec<&[u8]> = files.iter().flat_map(FactFile::lines).collect();
        if !lines.is_empty() {
            lines.sort_unstable();
            lines.dedup();
            names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let named = |line: &[u8]| names.binary_search_by(|(name, _)| name.as_bytes().cmp(line)).is_ok();
            gone.extend(lines.into_iter().filter(|line| !named(line)).filter_map(fact_of_line));
        }
        Ok(gone)
    }

    /// Whether a deletion is known to be withdrawn.
    pub(super) fn is_withdrawn(&self, gone: BorrowedFd, op: &str) -> sys::Result<bool> {
        let name = op_name(op, WITHDRAWN);
        if sys::kind(gone, &name)?.is_some() {
            return Ok(true);
        }
        let files = facts::read(gone)?;
        Ok(files.iter().flat_map(FactFile::lines).any(|line| line == name.as_bytes()))
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
        let Some(dir) = self.gone_dir_if_any(id)? else { return Ok(()) };
        for (name, _) in sys::list(dir.as_fd(), ".")? {
            let seen = match fact(&name) {
                Some(Removal::Rev { rev, why }) => see(dir.as_fd(), &name, rev, why, false),
                Some(Removal::Object { op, .. }) => sys::open_dir(dir.as_fd(), &name).and_then(|inside| {
                    for (name, _) in sys::list(inside.as_fd(), ".")? {
                        if let Ok(rev) = Rev::new(&name) {
                            sys::found(see(inside.as_fd(), &name, rev, op.clone(), true))?;
                        }
                    }
                    Ok(())
                }),
                Some(Removal::Withdrawn { .. } | Removal::Aside { .. }) | None => Ok(()),
            };
            sys::found(seen)?;
        }
        Ok(())
    }

    pub(super) fn read_gone_revision(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        self.find_gone(id, rev, |file, meta| {
            // A purged revision keeps its name and no bytes.
            Ok(Some(sys::read_all(file, meta.size)?).filter(|text| !text.is_empty()))
        })
    }

    /// Opens a removed revision.
    ///
    /// # Errors
    /// As [`read_removed`](crate::backend::Backend::read_removed).
    pub(crate) fn open_removed(&self, id: &ObjectId, rev: &Rev) -> Result<File> {
        let dup = |file: BorrowedFd| sys::call(|| rustix::io::fcntl_dupfd_cloexec(file, 0)).map(File::from);
        self.find_gone(id, rev, |file, meta| (meta.size > 0).then(|| dup(file)).transpose())
    }

    pub(super) fn origin_of(&self, id: &ObjectId, rev: &Rev) -> Origin {
        let gone = |file: BorrowedFd, meta: Meta| Ok((meta.size > 0).then(|| origin::of(file)));
        match self.open_rev("read", id, rev) {
            Ok((file, _)) => origin::of(file.as_fd()),
            Err(_) => self.find_gone(id, rev, gone).unwrap_or(Origin::Elsewhere(None)),
        }
    }

    /// What `see` makes of the first file of a removed revision of which it makes something.
    fn find_gone<T>(
        &self,
        id: &ObjectId,
        rev: &Rev,
        mut see: impl FnMut(BorrowedFd, Meta) -> sys::Result<Option<T>>,
    ) -> Result<T> {
        let missing = || Error::NoRevision(id.clone(), rev.clone());
        let failed = |e| match e {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => missing(),
            e => self.io("read", id, Some(rev), e),
        };
        let dir = self.gone_dir_if_any(id).map_err(failed)?.ok_or_else(missing)?;
        for (name, _) in sys::list(dir.as_fd(), ".").map_err(failed)? {
            let opened = match fact(&name) {
                Some(Removal::Rev { rev: of, .. }) if of == *rev => sys::open_file(dir.as_fd(), &name),
                Some(Removal::Object { .. }) => sys::open_file_in(dir.as_fd(), &name, rev.as_str().as_ref()),
                _ => continue,
            };
            let Some((file, meta)) = sys::found(opened).map_err(failed)? else { continue };
            if let Some(seen) = see(file.as_fd(), meta).map_err(failed)? {
                return Ok(seen);
            }
        }
        Err(missing())
    }

    pub(super) fn list_gone_objects(&self) -> Result<Vec<ObjectId>> {
        let failed = |e| Error::io("list", self.path.join(NAME).join("gone"))(e);
        let Some(all) = self.layout.gone_if_any().map_err(failed)? else { return Ok(Vec::new()) };
        let names = sys::list(all, ".").map_err(failed)?;
        Ok(names.iter().filter_map(|(name, _)| ObjectId::new(name).ok()).collect())
    }
}
