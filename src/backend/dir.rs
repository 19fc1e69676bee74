//! A store in a directory, as the original library lays it out, with `.revfs` beside the objects.
//!
//! The store's directory is opened once; its path is never resolved again (a mount may cover it, and the daemon must not
//! walk into its own mount). No link is followed below it.
//!
//! What is assumed of the file system: renaming is atomic; so is linking, where unnamed files exist. Two hosts may share a
//! directory on a cluster file system; on GlusterFS, CephFS and NFS exclusiveness of a revision's name rests on its random
//! digits.
//!
//! Each file knows only those above it:
//!
//! - `sys`: the system calls; `faults`: for tests, how they fail
//! - `access`: who may read what, as modes; `origin`: whence a file came
//! - `layout`: the directories in `.revfs`, and temporaries in one of them
//! - `medium`: what the file system was seen to do
//! - `stage`: bytes that reach the medium before their name, and renaming to a free name
//! - `carry`: renaming where the medium moves no directory; `publish`: a file, or a directory with one, gets its name at once
//! - `format`: the version of the store, and its name; `reserve`: room for removing
//! - `facts`: what is known without bytes, in files of lines; `gone`: what lies among what is gone, under which names
//! - `follow`: a directory and its texts are kept as open as each other
//! - `unsynced`: revisions that nobody waited for, until they are on the medium
//! - `trash`: moving to what is gone, and back
//! - `full`: removing and purging where there is no room
//! - `purge`: removing bytes for good, and learning what others removed; `erase`: removing without a trace

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::backend::{Attrs, Backend, Durability, Entry, Meta, Origin, Removal, Tombstone, at_need};
use crate::error::{Error, Result};
use crate::rev::{ObjectId, Rev};

mod access;
mod carry;
mod erase;
mod facts;
#[cfg(test)]
pub(crate) mod faults;
mod follow;
mod format;
mod full;
#[cfg(any(test, fuzzing))]
#[path = "../../tests/fuzz/checks/disk.rs"]
pub(crate) mod fuzz;
mod gone;
mod layout;
mod medium;
mod origin;
mod publish;
mod purge;
mod reserve;
mod stage;
pub(crate) mod sys;
mod trash;
mod unsynced;

use layout::Layout;
use medium::Medium;
use stage::Stage;
use unsynced::Unsynced;

pub(crate) use layout::LEFTOVER;
pub use medium::LinkMethod;
pub(crate) use unsynced::{LeftBatch, LeftMark, Mark};

/// A store in a directory, which the original library may use at the same time.
///
/// On GlusterFS, CephFS, NFS and rclone mount, which know no exclusive rename, what the original library writes under a new
/// object's id at the very moment it is created here may be replaced.
#[derive(Debug)]
pub struct DirBackend {
    path: PathBuf,
    layout: Layout,
    stage: Stage,
    name: Option<String>,
    /// Its format is known to be one with fact files.
    raised: AtomicBool,
    unsynced: Unsynced,
    /// To sync by what was written since the store was opened; `None` where that may not be listed.
    since: Option<OwnedFd>,
}

impl DirBackend {
    /// Opens an existing directory as a store. Gives it a format where it has none, and refuses unknown ones; removes
    /// what writers left unfinished more than a day ago. A store that may only be read is opened too.
    ///
    /// # Errors
    /// [`Error::NotAStore`]; [`Error::NoStore`] where there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<DirBackend> {
        DirBackend::open_read_only(path)?.prepare()
    }

    fn prepare(mut self) -> Result<DirBackend> {
        // What fails for another reason than the medium's nature is met again by who saves.
        if let Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) = self.stage.medium.found(&self.layout) {
            return Ok(self);
        }
        if let Some(why) = self.stage.medium.refusal() {
            let why = format!("revfs cannot use its disk ({}): {why}", self.stage.medium.kind());
            return Err(Error::NoStore { path: self.path, source: std::io::Error::other(why) });
        }
        self.name = format::store_name(&self.layout, Some(&self.stage), &self.path)?;
        if self.name.is_some() {
            self.layout.sweep_stage(LEFTOVER);
            self.layout.reserve();
        }
        Ok(self)
    }

    /// Opens an existing directory as a store without changing anything there; for reading alone.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<DirBackend> {
        let path = path.as_ref();
        let root = match sys::open_root(path) {
            Err(Errno::NOTDIR) => {
                return Err(Error::NotAStore { path: path.into(), why: "it is not a directory".into() });
            }
            opened => opened.map_err(|e| Error::NoStore { path: path.into(), source: e.into() })?,
        };
        let stage = Stage::new(root.as_fd()).map_err(Error::io("open", path))?;
        let layout = Layout::new(root);
        let name = format::store_name(&layout, None, path)?;
        let (raised, unsynced) = (AtomicBool::new(false), Unsynced::default());
        let since = unsynced::open_since(layout.root()).map_err(Error::io("open", path))?;
        Ok(DirBackend { path: path.into(), layout, stage, name, raised, unsynced, since })
    }

    /// Whether the directory holds a store of a version that this program does not know.
    pub(crate) fn has_other_version(path: impl AsRef<Path>) -> bool {
        let text = sys::open_root(path.as_ref()).and_then(|root| format::read_text(root.as_fd()));
        text.is_ok_and(|text| format::other_version(&text).is_some())
    }

    /// Whether a name can be one in `.revfs/gone/<id>`, of a directory or of a file.
    pub(crate) fn is_gone_name(name: &OsStr, is_dir: bool, is_file: bool) -> bool {
        gone::shape(name).is_some_and(|dir| if dir { is_dir } else { is_file })
    }

    /// [`open`](Self::open), as on a medium that can only do this much: for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[doc(hidden)]
    pub fn open_forced(path: &Path, way: LinkMethod) -> Result<DirBackend> {
        let mut backend = DirBackend::open_read_only(path)?;
        backend.stage.force(way);
        backend.prepare()
    }

    /// What the store lies on.
    pub(crate) fn medium(&self) -> &Medium {
        &self.stage.medium
    }

    /// The store's directory, for calls relative to it.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.layout.root()
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
    pub(crate) fn private_dir(&self, name: &str) -> Result<OwnedFd> {
        at_need(self, true, || {
            self.layout.dir(name).map_err(Error::io("open", self.path.join(layout::NAME).join(name)))
        })
    }

    /// The permissions of a new file or directory for which a program asked for `mode`, under its `umask`: the store's default
    /// access list takes the place of that.
    pub(crate) fn mode_of_new(&self, mode: u32, umask: u32) -> u32 {
        self.layout.mode_of_new(mode, umask)
    }

    /// An empty file of ours for locks, opened for reading and made if missing.
    pub(crate) fn lock_file(&self, name: &str) -> Result<OwnedFd> {
        self.layout.lock_file(name).map_err(Error::io("open", self.path.join(layout::NAME).join(name)))
    }

    /// Opens `.revfs/<name>`; `None` where it is missing.
    pub(crate) fn private_dir_if_any(&self, name: &str) -> Result<Option<OwnedFd>> {
        self.layout.dir_if_any(name).map_err(Error::io("open", self.path.join(layout::NAME).join(name)))
    }

    /// The directory of fact files in that of what is gone of an object.
    pub(crate) const FACTS: &str = facts::FACTS;

    /// What is wrong with a fact file, where `.revfs/gone/<id>/facts` holds it: in words, and whether it was damaged.
    pub(crate) fn fact_file_fault(name: &OsStr, text: &[u8]) -> Option<(String, bool)> {
        let later = facts::lines(text).filter(|line| gone::fact_of_line(line).is_none()).count();
        match facts::is_whole(name, text) {
            false => Some(("it does not say what it said when it was made".into(), true)),
            true if later > 0 => Some((format!("{later} of its lines are of a later revfs"), false)),
            true => None,
        }
    }

    /// Whether a name can be one in that directory.
    pub(crate) fn is_fact_file(name: &OsStr) -> bool {
        facts::is_fact_file(name)
    }

    /// Before there is a fact file: no version opens the store any more that would not read it.
    fn raise_format(&self) -> Result<()> {
        if !self.raised.load(Ordering::Relaxed) {
            format::raise(&self.layout, &self.stage, &self.path)?;
            self.raised.store(true, Ordering::Relaxed);
        }
        Ok(())
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
            // The last: what no text can be.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::FBIG => self
                .object(op, id)
                .map_or_else(|missing| missing, |_| Error::NoRevision(id.clone(), rev.clone())),
            e => self.io(op, id, Some(rev), e),
        }
    }

    fn open_rev(&self, op: &'static str, id: &ObjectId, rev: &Rev) -> Result<(OwnedFd, Meta)> {
        sys::open_file_in(self.root(), id.as_os_str(), rev.as_str().as_ref())
            .map_err(|e| self.rev_error(op, id, rev, e))
    }

    /// Opens a directory in one of those that [`private_dir`](Self::private_dir) opens, making it where it is missing.
    pub(crate) fn private_dir_in(&self, at: BorrowedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
        self.layout.shared_dir(at, name)
    }

    /// Whether the object's directory is still the one that was opened.
    fn is_current(&self, id: &ObjectId, dir: BorrowedFd) -> bool {
        let now = sys::identity(self.root(), id.as_os_str());
        now.is_ok() && now == sys::identity(dir, "")
    }
}

impl Backend for DirBackend {
    fn each_object(&self, see: &mut dyn FnMut(ObjectId) -> bool) -> Result<()> {
        // The listing's kind saves asking, where it tells.
        let is_dir = |name: &OsStr, listed| match listed {
            FileType::Unknown => matches!(sys::kind(self.root(), name), Ok(Some(FileType::Directory))),
            kind => kind == FileType::Directory,
        };
        sys::each_while(self.root(), ".", |name, kind| match ObjectId::new(name) {
            Ok(id) if is_dir(name, kind) => see(id),
            _ => true,
        })
        .map_err(Error::io("list", &self.path))
    }

    fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        sys::each(self.root(), id.as_os_str(), |name, _| {
            entries.push(Rev::new(name).map_or_else(|_| Entry::Foreign(name.into()), Entry::Rev));
        })
        .map_err(|e| self.object_error("list", id, e))?;
        Ok(entries)
    }

    fn meta(&self, id: &ObjectId, rev: &Rev) -> Result<Meta> {
        let dir = self.object("stat", id)?;
        let access = sys::access(dir.as_fd()).map_err(|e| self.object_error("stat", id, e))?;
        match sys::meta_at(dir.as_fd(), rev.as_str()) {
            Ok(Some(meta)) => Ok(access::seen(access, meta)),
            Ok(None) => Err(Error::NoRevision(id.clone(), rev.clone())),
            Err(e) => Err(self.rev_error("stat", id, rev, e)),
        }
    }

    fn read(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, Meta)> {
        let failed = |e| self.rev_error("read", id, rev, e);
        let (file, mut meta) = self.open_rev("read", id, rev)?;
        let text = sys::read_text(file.as_fd(), meta.size).map_err(failed)?;
        if text.len() as u64 != meta.size {
            // The original library is writing it at this moment.
            meta = sys::meta(file.as_fd()).map_err(failed)?.unwrap_or(meta);
            meta.size = text.len() as u64;
        }
        if let Ok(access) = sys::access_of(self.root(), id.as_os_str()) {
            meta = access::seen(access, meta);
        }
        Ok((text, meta))
    }

    fn origin(&self, id: &ObjectId, rev: &Rev) -> Origin {
        self.origin_of(id, rev)
    }

    fn open(&self, id: &ObjectId, rev: &Rev) -> Result<File> {
        self.open_rev("open", id, rev).map(|(file, _)| file.into())
    }

    fn publish(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta> {
        let failed = |e| self.io("publish", id, Some(rev), e);
        let dir = self.object("publish", id)?;
        let name = rev.as_str().as_ref();
        let (how, _saving) = self.begin_save(id, rev, text.len(), how);
        let meta = match self.stage.publish(&self.layout, dir.as_fd(), name, text, attrs, how) {
            Err(Errno::NOENT) if !self.is_current(id, dir.as_fd()) => {
                return Err(Error::NoObject(id.clone()));
            }
            published => published.map_err(failed)?,
        };
        let access = self.follow(id, dir.as_fd(), rev, attrs, false).map_err(failed)?;
        let meta = access::seen(access, meta);
        if how == Durability::Full {
            // The object itself may be new, made by somebody who did not wait for the medium.
            self.stage.sync_names(self.root()).map_err(failed)?;
        }
        if self.is_current(id, dir.as_fd()) || self.meta(id, rev).is_ok() {
            return Ok(meta);
        }
        // An object that was deleted while this was written has taken the revision along, which it is not to have removed: the
        // caller may publish it under the same name again.
        sys::found(sys::unlink(dir.as_fd(), rev.as_str())).map_err(failed)?;
        Err(Error::NoObject(id.clone()))
    }

    fn create(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta> {
        let (dir, file) = (id.as_os_str(), rev.as_str().as_ref());
        let (how, _saving) = self.begin_save(id, rev, text.len(), how);
        self.stage.create(&self.layout, self.root(), dir, file, text, attrs, how).map_err(|e| match e {
            Errno::EXIST | Errno::NOTDIR => Error::Exists(id.clone()),
            e => self.io("create", id, Some(rev), e),
        })
    }

    fn set_attrs(&self, id: &ObjectId, rev: &Rev, attrs: &Attrs) -> Result<Meta> {
        let dir = self.object("change", id)?;
        sys::apply_at(dir.as_fd(), rev.as_str().as_ref(), attrs)
            .and_then(|()| self.follow(id, dir.as_fd(), rev, attrs, true))
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
        at_need(self, true, || self.retire_revision(id, rev, why, how))
    }

    fn keep(&self, id: &ObjectId, rev: &Rev, why: &str, text: &[u8], how: Durability) -> Result<()> {
        self.keep_text(id, rev, why, text, how.max(Durability::Ordered))
    }

    fn set_aside(&self, id: &ObjectId, name: &OsStr, op: &str, how: Durability) -> Result<()> {
        self.put_aside(id, name, op, how)
    }

    fn remove_empty(&self, id: &ObjectId) -> Result<bool> {
        match sys::remove_dir(self.root(), id.as_os_str()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(e) => Err(self.io("remove", id, None, e)),
        }
    }

    fn purge(&self, id: &ObjectId, revs: &[Rev], how: Durability) -> Result<u64> {
        // What took the place of these is to stay.
        self.settle().map_err(|e| self.io("purge", id, None, e))?;
        match at_need(self, true, || self.purge_revisions(id, revs, how)) {
            // Also where the format is another's, in a sticky store.
            Err(e) if e.is_no_room() || e.is_denied() => self.purge_to_names(id, revs, how, e),
            done => done,
        }
    }

    fn learn(&self, id: &ObjectId, facts: &[Removal], how: Durability) -> Result<()> {
        at_need(self, false, || self.learn_facts(id, facts, how))
    }

    fn remove(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()> {
        at_need(self, true, || match self.remove_object(id, op, how) {
            Err(e) if e.is_no_room() => self.remove_in_its_own(id, op, how, e),
            done => done,
        })
    }

    fn restore(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.bring_back(id, op, None, how).map(drop)
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
        // Were the text torn by a power cut, what was deleted would live.
        let how = how.max(Durability::Ordered);
        let meta = self.bring_back(id, op, Some((rev, text, attrs)), how)?;
        meta.map_or_else(|| self.meta(id, rev), Ok)
    }

    fn move_object(&self, from: &ObjectId, to: &ObjectId, op: &str, how: Durability) -> Result<()> {
        self.move_revisions(from, to, op, how)
    }

    fn erase(&self, id: &ObjectId, revs: &[Rev]) -> Result<bool> {
        at_need(self, true, || self.erase_object(id, revs))
    }

    fn removed(&self, id: &ObjectId) -> Result<Vec<Removal>> {
        self.list_gone(id)
    }

    fn tombstones(&self, id: &ObjectId) -> Result<Vec<Tombstone>> {
        self.list_graves(id)
    }

    fn removed_objects(&self) -> Result<Vec<ObjectId>> {
        self.list_gone_objects()
    }

    fn stamp(&self, id: &ObjectId, gone: bool) -> Result<Option<(u64, u64)>> {
        let failed = |e| self.io("look at", id, None, e);
        // Before 1970 is as good as any other time.
        let nanos = |at: Option<SystemTime>| {
            at.map_or(0, |at| at.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64))
        };
        let at = |dir: BorrowedFd| sys::found(sys::changed(dir, id.as_os_str())).map(nanos);
        let here = at(self.root()).map_err(failed)?;
        let gone = if gone { self.layout.gone_if_any().map_err(failed)? } else { None };
        let Some(gone) = gone else { return Ok(Some((here, 0))) };
        let dir = at(gone).map_err(failed)?;
        let facts = sys::found(sys::changed(gone, Path::new(id.as_os_str()).join(facts::FACTS)));
        Ok(Some((here, dir.max(nanos(facts.map_err(failed)?)))))
    }

    fn read_removed(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>> {
        self.read_gone_revision(id, rev)
    }

    fn make_room(&self, removes: bool) -> bool {
        self.layout.give_up(if removes { 0 } else { Layout::HALF })
    }

    fn sync(&self, id: &ObjectId, rev: &Rev) -> Result<()> {
        let ((file, _), dir) = (self.open_rev("sync", id, rev)?, self.object("sync", id)?);
        sys::sync(file.as_fd())
            .and_then(|()| self.sync_unsynced(id, dir.as_fd(), rev))
            .and_then(|()| self.stage.sync_names(dir.as_fd()))
            .and_then(|()| self.stage.sync_names(self.root()))
            .map_err(|e| self.io("sync", id, Some(rev), e))
    }

    fn sync_all(&self) -> Result<()> {
        self.sync_since().map_err(Error::io("sync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use rustix::fs::{CWD, Mode};
    use tempfile::TempDir;

    use super::*;

    const O: Durability = Durability::Ordered;

    fn id(name: &str) -> ObjectId {
        ObjectId::new(name).unwrap()
    }

    fn rev(generation: u64, n: u32) -> Rev {
        Rev::new(format!("{generation}-{n:032x}")).unwrap()
    }

    fn create(b: &DirBackend, name: &str, r: &Rev) {
        b.create(&id(name), r, b"{}", &Attrs::default(), O).unwrap();
    }

    fn names(path: impl AsRef<Path>) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .map(|all| all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    #[test]
    fn a_store_is_laid_out_as_the_original_does_and_beside_it_one_directory() {
        let place = TempDir::new().unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        create(&b, "x", &rev(0, 1));
        b.keep(&id("x"), &rev(1, 2), "discarded", b"{}", O).unwrap();
        b.remove(&id("x"), &"1".repeat(32), O).unwrap();
        create(&b, "x", &rev(2, 1));
        assert_eq!(names(&place), [".revfs", "x"]);
        assert_eq!(names(place.path().join("x")), [rev(2, 1).as_str()]);
        let own = place.path().join(".revfs");
        assert_eq!(names(&own), ["format", "gone", "medium", "reserve", "stage"]);
        assert_eq!(
            names(own.join("gone/x")),
            [format!("{}~discarded", rev(1, 2)), format!("{}~deleted", "1".repeat(32))]
        );
        assert!(names(own.join("stage")).is_empty());
        b.private_dir("drafts").unwrap();
        assert!(own.join("drafts").is_dir() && b.private_dir("format").is_err());
        assert_eq!(b.objects().unwrap(), [id("x")]);
    }

    #[test]
    fn all_who_open_a_store_find_one_name_and_one_version() {
        let place = TempDir::new().unwrap();
        let opened: Vec<_> = std::thread::scope(|s| {
            let all: Vec<_> = (0..4).map(|_| s.spawn(|| DirBackend::open(place.path()).unwrap())).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let name = opened[0].name().unwrap();
        assert!(name.len() == 32 && opened.iter().all(|b| b.name() == Some(name)));

        let format = place.path().join(".revfs/format");
        let refused = |text: &str| {
            fs::write(&format, text).unwrap();
            match DirBackend::open(place.path()) {
                Err(Error::NotAStore { why, .. }) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(refused("revfs 3\nstore 0\n").contains("version \"3\""));
        for broken in ["", "\n", "revfs 1\n", "revfs 1\nstore 12\n", "{}"] {
            assert!(refused(broken).contains("remove it"), "{broken:?}");
        }
        assert!(matches!(DirBackend::open(&format), Err(Error::NotAStore { .. })));
        assert!(matches!(DirBackend::open(place.path().join("no")), Err(Error::NoStore { .. })));
    }

    #[test]
    fn what_is_no_file_is_never_opened_and_no_link_is_followed() {
        let (place, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let b = DirBackend::open(place.path()).unwrap();
        let x = place.path().join("x");
        create(&b, "x", &rev(0, 1));
        fs::write(outside.path().join("secret"), "{}").unwrap();
        fs::write(outside.path().join(rev(0, 1).as_str()), "{}").unwrap();
        symlink(outside.path().join("secret"), x.join(rev(1, 1).as_str())).unwrap();
        symlink("nowhere", x.join(rev(1, 2).as_str())).unwrap();
        rustix::fs::mkfifoat(CWD, x.join(rev(1, 3).as_str()), Mode::from_raw_mode(0o600)).unwrap();
        fs::create_dir(x.join(rev(1, 4).as_str())).unwrap();
        let _socket = UnixListener::bind(x.join(rev(1, 5).as_str())).unwrap();
        for n in 1..=5 {
            let r = rev(1, n);
            for tried in [
                b.read(&id("x"), &r).map(drop),
                b.open(&id("x"), &r).map(drop),
                b.meta(&id("x"), &r).map(drop),
                b.set_attrs(&id("x"), &r, &Attrs { mode: Some(0o777), ..Attrs::default() }).map(drop),
                b.retire(&id("x"), &r, "discarded", O),
                b.rename(&id("x"), &r, &rev(9, 9)),
                b.sync(&id("x"), &r),
            ] {
                assert!(matches!(tried, Err(Error::NoRevision(..))), "{n}: {tried:?}");
            }
        }
        assert_eq!(b.entries(&id("x")).unwrap().len(), 6);

        // Nor is an object's directory, where it is a link.
        symlink(outside.path(), place.path().join("l")).unwrap();
        fs::write(place.path().join("f"), "{}").unwrap();
        for name in ["l", "f"] {
            let (o, r, attrs) = (id(name), rev(0, 1), Attrs::default());
            assert!(matches!(b.entries(&o), Err(Error::NoObject(_))));
            assert!(matches!(b.read(&o, &r), Err(Error::NoObject(_))));
            assert!(matches!(b.publish(&o, &r, b"{}", &attrs, O), Err(Error::NoObject(_))));
            assert!(matches!(b.remove(&o, &"1".repeat(32), O), Err(Error::NoObject(_))));
            assert!(matches!(b.move_object(&o, &id("n"), &"1".repeat(32), O), Err(Error::NoObject(_))));
            assert!(matches!(b.create(&o, &r, b"{}", &attrs, O), Err(Error::Exists(_))));
            assert!(matches!(b.move_object(&id("x"), &o, &"1".repeat(32), O), Err(Error::Exists(_))));
        }
        assert_eq!(b.objects().unwrap(), [id("x")]);
        assert_eq!(names(&outside).len(), 2);

        // A whole object goes with everything that is in it.
        b.remove(&id("x"), &"2".repeat(32), O).unwrap();
        assert_eq!(names(place.path().join(format!(".revfs/gone/x/{}~deleted", "2".repeat(32)))).len(), 6);
    }

    #[test]
    fn a_store_stays_open_when_its_path_leads_elsewhere() {
        let place = TempDir::new().unwrap();
        let (path, away) = (place.path().join("s"), place.path().join("away"));
        fs::create_dir(&path).unwrap();
        let b = DirBackend::open(&path).unwrap();
        create(&b, "x", &rev(0, 1));
        fs::rename(&path, &away).unwrap();
        fs::create_dir(&path).unwrap();
        b.publish(&id("x"), &rev(1, 1), b"{}", &Attrs::default(), Durability::Full).unwrap();
        create(&b, "y", &rev(0, 1));
        b.remove(&id("y"), &"1".repeat(32), Durability::Full).unwrap();
        b.private_dir("scratch").unwrap();
        assert_eq!(b.entries(&id("x")).unwrap().len(), 2);
        assert!(names(&path).is_empty() && names(away.join("x")).len() == 2);
    }

    #[test]
    fn who_may_write_to_the_store_may_write_to_all_of_it() {
        let place = TempDir::new().unwrap();
        let mode = |path: &str| fs::metadata(place.path().join(path)).unwrap().mode() & 0o7777;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o775)).unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        create(&b, "x", &rev(0, 1));
        b.retire(&id("x"), &rev(0, 1), "discarded", O).unwrap();
        for path in [".revfs", ".revfs/stage", ".revfs/gone", ".revfs/gone/x"] {
            assert_eq!(mode(path), 0o775, "{path}");
        }
        assert_eq!(mode("x") & 0o770, 0o770);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, of_file, of_dir) in
            [("a", 0o644, 0o755), ("b", 0o600, 0o700), ("c", 0o444, 0o755), ("d", 0, 0o700)]
        {
            let attrs = Attrs { mode: Some(of_file), ..Attrs::default() };
            b.create(&id(name), &rev(0, 1), b"{}", &attrs, O).unwrap();
            assert_eq!((mode(name), mode(&format!("{name}/{}", rev(0, 1)))), (of_dir, of_file));
        }
        b.move_object(&id("b"), &id("e"), &"1".repeat(32), O).unwrap();
        assert_eq!(mode("e"), 0o700);
    }

    #[test]
    fn an_unreadable_revision_takes_attributes() {
        let place = TempDir::new().unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        create(&b, "x", &rev(0, 1));
        let attrs = Attrs { mode: Some(0o200), mtime: Some(UNIX_EPOCH), ..Attrs::default() };
        // The second call is the one that opens the file for reading; to those who may read everything it says no too.
        faults::fail(2, Errno::ACCESS);
        let meta = b.set_attrs(&id("x"), &rev(0, 1), &attrs).unwrap();
        assert!(faults::end());
        assert_eq!((meta.mode, meta.mtime), (0o200, UNIX_EPOCH));
        let attrs = Attrs { mode: Some(0o600), ..attrs };
        assert_eq!(b.set_attrs(&id("x"), &rev(0, 1), &attrs).unwrap().mode, 0o600);
    }

    #[test]
    fn who_is_given_a_file_gets_all_bits_of_its_mode() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let place = TempDir::new().unwrap();
        let b = DirBackend::open(place.path()).unwrap();
        create(&b, "x", &rev(0, 1));
        let mut attrs = Attrs { mode: Some(0o4755), ..Attrs::default() };
        assert_eq!(b.set_attrs(&id("x"), &rev(0, 1), &attrs).unwrap().mode, 0o4755);
        attrs.owner = Some((1, 1));
        let meta = b.set_attrs(&id("x"), &rev(0, 1), &attrs).unwrap();
        assert_eq!((meta.mode, meta.uid, meta.gid), (0o4755, 1, 1));
    }

    #[test]
    fn what_died_in_stage_is_removed_when_it_is_old() {
        let place = TempDir::new().unwrap();
        let stage = place.path().join(".revfs/stage");
        let b = DirBackend::open(place.path()).unwrap();
        fs::write(stage.join("a"), "{").unwrap();
        fs::create_dir(stage.join("b")).unwrap();
        fs::write(stage.join("b").join(rev(0, 1).as_str()), "{").unwrap();
        let _ = DirBackend::open(place.path()).unwrap();
        assert_eq!(names(&stage), ["a", "b"]);
        std::thread::sleep(Duration::from_millis(20));
        b.layout.sweep_stage(Duration::ZERO);
        assert!(names(&stage).is_empty());
    }

    #[test]
    fn a_store_that_may_only_be_read_is_read() {
        let place = TempDir::new().unwrap();
        fs::create_dir(place.path().join("x")).unwrap();
        fs::write(place.path().join("x").join(rev(0, 1).as_str()), "{}").unwrap();
        let opened = (1..99).find_map(|n| {
            faults::fail(n, Errno::ROFS);
            let opened = DirBackend::open(place.path());
            assert!(faults::end());
            opened.ok()
        });
        let b = opened.unwrap();
        assert_eq!((b.name(), names(&place)), (None, vec!["x".to_owned()]));
        assert_eq!(b.read(&id("x"), &rev(0, 1)).unwrap().0, b"{}");
        assert!(b.removed(&id("x")).unwrap().is_empty() && b.removed_objects().unwrap().is_empty());
    }

    /// A change that is tried with each of its system calls failing.
    type Change = fn(&DirBackend, Durability) -> Result<()>;

    #[test]
    fn whichever_call_fails_nothing_is_left_half_done() {
        let publish: Change =
            |b, how| b.publish(&id("x"), &rev(5, 5), b"{\"a\":1}", &all_attrs(), how).map(drop);
        let create: Change =
            |b, how| b.create(&id("n"), &rev(5, 5), b"{\"a\":1}", &all_attrs(), how).map(drop);
        let keep: Change = |b, how| b.keep(&id("x"), &rev(5, 5), "discarded", b"{\"a\":1}", how);
        let retire: Change = |b, how| b.retire(&id("x"), &rev(0, 1), "discarded", how);
        let again: Change = |b, how| b.retire(&id("x"), &rev(1, 1), "discarded", how);
        let remove: Change = |b, how| b.remove(&id("x"), &"7".repeat(32), how);
        let revive: Change = |b, how| {
            b.revive(&id("r"), &"1".repeat(32), &rev(5, 5), b"{\"a\":1}", &all_attrs(), how).map(drop)
        };
        let moved: Change = |b, how| b.move_object(&id("x"), &id("n"), &"7".repeat(32), how);
        let ways = [
            LinkMethod::Proc,
            LinkMethod::Descriptor,
            LinkMethod::Exclusive,
            LinkMethod::Link,
            LinkMethod::Rename,
        ];
        for change in [publish, create, keep, retire, again, remove, revive, moved] {
            for (way, how) in ways.into_iter().flat_map(|w| [(w, O), (w, Durability::Full)]) {
                walk(way, |b| change(b, how));
            }
        }
    }

    fn all_attrs() -> Attrs {
        Attrs { mtime: Some(UNIX_EPOCH), mode: Some(0o640), owner: Some((0, 0)), ..Attrs::default() }
    }

    fn walk(way: LinkMethod, change: impl Fn(&DirBackend) -> Result<()>) {
        for (n, with) in (1..200).flat_map(|n| [(n, Errno::NOSPC), (n, Errno::IO)]) {
            let place = TempDir::new_in(fast()).unwrap();
            let b = DirBackend::open_forced(place.path(), way).unwrap();
            create(&b, "x", &rev(0, 1));
            b.publish(&id("x"), &rev(1, 1), b"{\"b\":2}", &Attrs::default(), O).unwrap();
            b.keep(&id("x"), &rev(1, 1), "discarded", b"{\"b\":2}", O).unwrap();
            create(&b, "r", &rev(0, 1));
            b.remove(&id("r"), &"1".repeat(32), O).unwrap();
            faults::fail(n, with);
            let done = change(&b);
            if !faults::end() {
                done.unwrap();
                return;
            }
            // What could not be cleaned up is in stage, where nobody looks for objects.
            for name in names(&place).into_iter().filter(|name| name != ".revfs") {
                let revs = names(place.path().join(&name));
                assert!(!revs.is_empty(), "{way:?} {n}: {name} is empty");
                for rev in revs {
                    Rev::new(&rev).unwrap();
                    let text = fs::read_to_string(place.path().join(&name).join(&rev)).unwrap();
                    assert!(["{}", "{\"a\":1}", "{\"b\":2}"].contains(&&*text), "{way:?} {n}: {text:?}");
                }
            }
            // Nothing that was there is lost: it lives, or is gone under its name.
            let at = |name: &str, r: Rev| {
                let found = [name, "n"].iter().any(|name| b.read(&id(name), &r).is_ok());
                found || b.read_removed(&id(name), &r).is_ok()
            };
            assert!(at("x", rev(0, 1)) && at("x", rev(1, 1)) && at("r", rev(0, 1)), "{way:?} {n}");
            let live = |name: &str| b.entries(&id(name)).is_ok();
            assert!(live("x") || live("n") || !b.removed(&id("x")).unwrap().is_empty());
        }
        panic!("{way:?}: no end");
    }

    /// Memory, where there is some: thousands of stores are made.
    pub(super) fn fast() -> PathBuf {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { memory.into() } else { std::env::temp_dir() }
    }

    #[test]
    fn an_empty_directory_counts_as_an_object() {
        let place = TempDir::new().unwrap();
        for way in [LinkMethod::Proc, LinkMethod::Rename] {
            let b = Arc::new(DirBackend::open_forced(place.path(), way).unwrap());
            fs::create_dir(place.path().join("e")).unwrap();
            let made = b.create(&id("e"), &rev(0, 1), b"{}", &Attrs::default(), O);
            assert!(matches!(made, Err(Error::Exists(_))));
            assert!(b.entries(&id("e")).unwrap().is_empty());
            fs::remove_dir(place.path().join("e")).unwrap();
        }
    }
}
