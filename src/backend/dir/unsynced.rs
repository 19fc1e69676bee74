//! Saves that nobody waits for ([`Durability::Async`]): which they are, until they are on the medium.
//!
//! A directory in `.revfs/unsynced` is a *batch*: what one program has saved since its last sync point. In it is a *mark* for
//! each revision, a name `<rev>~<size>~<id>`, made before the revision gets its own. Names come to the disk in the order in
//! which they were made. So after a power cut there is a mark of every revision whose bytes may be missing, and who opens the
//! store looks at those alone, however many objects there are.
//!
//! At a sync point the next save begins another batch, the medium writes all that it has (syncfs), and the batch goes. Its
//! program holds a lock on it; one that anybody can lock was left by a program that died.
//!
//! The file that a revision's text was taken from, and that is to go, may be on the medium when the revision is not. It is kept
//! beside the mark: what is torn is then made anew from it.
//!
//! Invariant: a mark goes only when its revision is on the medium, or was found to be whole or set aside.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::gone::{ASIDE, op_name};
use super::layout::{Layout, NAME, Temporary};
use super::{DirBackend, sys};
use crate::backend::{Durability, Meta};
use crate::error::{Error, Result};
use crate::rev::{NAME_MAX, ObjectId, Rev};

pub(super) const UNSYNCED: &str = "unsynced";

/// The empty file in a batch whose other names the marks are, so that a mark takes no inode.
const EMPTY: &str = "empty";

/// The name of a file that became a revision begins with it; the revision's mark follows.
const KEPT: &str = "=";

/// The batch of this program.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// Held for reading from before a mark is made until the revision has its name.
    batch: RwLock<Option<Batch>>,
    /// There is one, and who waits for that.
    begun: Mutex<bool>,
    begins: Condvar,
    /// Held during a sync point.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Batch {
    name: OsString,
    /// Locked.
    dir: OwnedFd,
    marks: Mutex<HashMap<ObjectId, Vec<Rev>>>,
    count: AtomicUsize,
}

/// A revision is being saved: its batch stays until this is dropped.
pub(super) struct Saving<'a>(#[expect(dead_code, reason = "a lock")] RwLockReadGuard<'a, Option<Batch>>);

/// A revision that was saved and may not be on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub id: ObjectId,
    pub rev: Rev,
    /// How long its text is, in bytes.
    pub size: u64,
}

/// A mark that a program left.
#[derive(Debug)]
pub(crate) struct LeftMark {
    pub mark: Mark,
    name: OsString,
    /// Whose file it is.
    uid: u32,
}

/// The name beside a mark of the file that became the revision.
fn kept_name(mark: &OsStr) -> OsString {
    [OsStr::new(KEPT), mark].into_iter().collect()
}

impl Mark {
    /// `None` where that is longer than a name can be.
    fn name(id: &ObjectId, rev: &Rev, size: usize) -> Option<OsString> {
        let mut name = format!("{rev}~{size}~").into_bytes();
        name.extend(id.as_os_str().as_bytes());
        (name.len() <= NAME_MAX).then(|| OsString::from_vec(name))
    }

    fn parse(name: &OsStr) -> Option<Mark> {
        let mut parts = name.as_bytes().splitn(3, |&byte| byte == b'~');
        let rev = Rev::new(OsStr::from_bytes(parts.next()?)).ok()?;
        let size = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        Some(Mark { id: ObjectId::new(OsStr::from_bytes(parts.next()?)).ok()?, rev, size })
    }
}

/// A batch that a program left which died, locked.
#[derive(Debug)]
pub(crate) struct LeftBatch {
    name: OsString,
    dir: OwnedFd,
    /// Those that were not looked at: they stay.
    pub marks: Vec<LeftMark>,
}

impl LeftBatch {
    fn source(&self, left: &LeftMark, uid: u32) -> sys::Result<Option<Vec<u8>>> {
        let (batch, kept) = (self.dir.as_fd(), kept_name(&left.name));
        let is_one = |meta: &Meta| (meta.size, meta.uid) == (left.mark.size, uid);
        if !sys::found(sys::meta_at(batch, &kept))?.flatten().as_ref().is_some_and(is_one) {
            return Ok(None);
        }
        let Some((file, meta)) = sys::found(sys::open_file(batch, &kept))? else { return Ok(None) };
        if !is_one(&meta) || sys::links(batch, &kept)? != 1 {
            return Ok(None);
        }
        match sys::read_text(file.as_fd(), meta.size) {
            Err(Errno::FBIG) => Ok(None),
            text => text.map(Some),
        }
    }
}

impl LeftMark {
    /// `None` of what is no mark.
    fn read(batch: BorrowedFd, name: OsString) -> sys::Result<Option<LeftMark>> {
        let Some(mark) = Mark::parse(&name) else { return Ok(None) };
        let Some(meta) = sys::found(sys::meta_at(batch, &name))?.flatten() else { return Ok(None) };
        Ok(Some(LeftMark { mark, name, uid: meta.uid }))
    }

    /// Whether a name in the batch is its, or that of the file beside it.
    fn is_of(&self, name: &OsStr) -> bool {
        name == self.name || name == kept_name(&self.name)
    }
}

impl Batch {
    fn begin(layout: &Layout) -> sys::Result<Batch> {
        let all = layout.dir(UNSYNCED)?;
        let mut staged = Temporary::new(layout.stage()?);
        let dir = layout.shared_dir(staged.at, &staged.name)?;
        sys::apply(sys::new_file(dir.as_fd(), EMPTY, 0o600)?.as_fd(), &layout.attrs()?)?;
        // Before anybody sees it.
        if !sys::lock(dir.as_fd())? {
            return Err(Errno::AGAIN);
        }
        let name = OsString::from(&staged.name);
        sys::rename(staged.at, &name, all.as_fd(), &name)?;
        staged.kept = true;
        Ok(Batch { name, dir, marks: Mutex::default(), count: AtomicUsize::new(0) })
    }
}

/// What a store is synced by: it tells of what could not be written since. `None` where the directory may not be listed.
pub(super) fn open_since(root: BorrowedFd) -> sys::Result<Option<OwnedFd>> {
    match sys::open_dir(root, ".") {
        Err(Errno::ACCESS) => Ok(None),
        opened => opened.map(Some),
    }
}

impl DirBackend {
    /// Whether saves need not wait here, and why not.
    pub(crate) fn is_async(&self) -> std::result::Result<(), String> {
        match self.stage.medium.orders_names() || self.stage.medium.is_volatile() {
            true => Ok(()),
            false => {
                Err(format!("it is not known that {} writes names in their order", self.stage.medium.kind()))
            }
        }
    }

    /// A revision is about to be saved: how it is saved, and what is to be held until it has its name.
    pub(super) fn begin_save(
        &self,
        id: &ObjectId,
        rev: &Rev,
        size: usize,
        how: Durability,
    ) -> (Durability, Option<Saving<'_>>) {
        if how != Durability::Async || self.stage.medium.is_volatile() {
            return (how, None);
        }
        let name = Mark::name(id, rev, size).filter(|_| self.stage.medium.orders_names());
        match name.ok_or(Errno::NAMETOOLONG).and_then(|name| self.mark(&name, id, rev)) {
            Ok(saving) => (Durability::Async, Some(saving)),
            // No room, a limit of links: it is waited for instead.
            Err(_) => (Durability::Ordered, None),
        }
    }

    fn mark(&self, name: &OsStr, id: &ObjectId, rev: &Rev) -> sys::Result<Saving<'_>> {
        let mut batch = self.unsynced.batch.read();
        if batch.is_none() {
            drop(batch);
            let mut begun = self.unsynced.batch.write();
            if begun.is_none() {
                *begun = Some(Batch::begin(&self.layout)?);
                *self.unsynced.begun.lock() = true;
                self.unsynced.begins.notify_all();
            }
            batch = RwLockWriteGuard::downgrade(begun);
        }
        if let Some(batch) = &*batch {
            sys::link(batch.dir.as_fd(), EMPTY.as_ref(), batch.dir.as_fd(), name)?;
            batch.marks.lock().entry(id.clone()).or_default().push(rev.clone());
            batch.count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Saving(batch))
    }

    /// Takes away the file `name` of `dir`, of which a revision was made with the same bytes: for good at the next sync point.
    /// Whether it did.
    pub(crate) fn keep_source(
        &self,
        id: &ObjectId,
        rev: &Rev,
        size: usize,
        dir: BorrowedFd,
        name: &OsStr,
    ) -> bool {
        let Some(mark) = Mark::name(id, rev, size) else { return false };
        let batch = self.unsynced.batch.read();
        let Some(batch) = &*batch else { return false };
        let is_marked = batch.marks.lock().get(id).is_some_and(|revs| revs.contains(rev));
        // Not in the place of another file: ext4 writes what comes there at once.
        is_marked && sys::rename(dir, name, batch.dir.as_fd(), &kept_name(&mark)).is_ok()
    }

    /// How many revisions were saved since the last sync point that nobody waited for.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.batch.read().as_ref().map_or(0, |batch| batch.count.load(Ordering::Relaxed))
    }

    /// Syncs what was saved of an object since then besides `rev`, and waits for a sync point that is under way: whoever asks for
    /// an object to be durable means what he has saved, also where others have saved since.
    pub(super) fn sync_unsynced(&self, id: &ObjectId, object: BorrowedFd, rev: &Rev) -> sys::Result<()> {
        let marked = {
            let _turn = self.unsynced.turn.lock();
            let batch = self.unsynced.batch.read();
            batch.as_ref().and_then(|batch| batch.marks.lock().get(id).cloned()).unwrap_or_default()
        };
        for other in marked.iter().filter(|other| *other != rev) {
            match sys::open_file(object, other.as_str()) {
                Ok((file, _)) => sys::sync(file.as_fd())?,
                // It was removed, or its name is yet to come.
                Err(_) => return self.settle(),
            }
        }
        Ok(())
    }

    /// Waits until there is such a one.
    pub(crate) fn await_unsynced(&self) {
        let mut begun = self.unsynced.begun.lock();
        while !*begun {
            self.unsynced.begins.wait(&mut begun);
        }
    }

    /// A sync point: what was saved before, and not waited for, is on the medium when this returns.
    ///
    /// # Errors
    /// [`Error::Io`]; then those who open the store next look at it.
    pub fn sync_point(&self) -> Result<()> {
        let _turn = self.unsynced.turn.lock();
        *self.unsynced.begun.lock() = false;
        let batch = self.unsynced.batch.write().take();
        let Some(batch) = batch else { return Ok(()) };
        // Opened before anything was saved: it tells of all that could not be written since.
        let synced = self.stage.sync_all(self.root(), batch.dir.as_fd());
        synced.map_err(|e| self.unsynced_error("sync", e))?;
        self.end_batch(&batch.name, batch.dir.as_fd(), |_| false)
    }

    /// Has what anybody saved be on the medium, where somebody may not have waited for that.
    pub(crate) fn settle(&self) -> sys::Result<()> {
        if self.is_any_unsynced()? { self.sync_since() } else { Ok(()) }
    }

    /// Whether somebody may not have waited for what he saved, in this store.
    pub(crate) fn is_any_unsynced(&self) -> sys::Result<bool> {
        match self.layout.dir_if_any(UNSYNCED) {
            Ok(None) => Ok(false),
            Ok(Some(all)) => Ok(!sys::list(all.as_fd(), ".")?.is_empty()),
            // None of ours; `check` moves it away.
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What programs that died have left: nobody else will look at it meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn left_unsynced(&self) -> Result<Vec<LeftBatch>> {
        let failed = |e| self.unsynced_error("list", e);
        let Some(all) = self.layout.dir_if_any(UNSYNCED).map_err(failed)? else { return Ok(Vec::new()) };
        let mut left: Vec<(OsString, OwnedFd)> = Vec::new();
        for (name, _) in sys::list(all.as_fd(), ".").map_err(failed)? {
            // Or it has gone.
            let Some(dir) = sys::found(sys::open_dir(all.as_fd(), &name)).map_err(failed)? else { continue };
            if sys::lock(dir.as_fd()).map_err(failed)? {
                left.push((name, dir));
            }
        }
        if !left.is_empty() {
            // What is read then is what the medium has, or will.
            self.sync_since().map_err(|e| self.unsynced_error("sync", e))?;
        }
        let with_marks = |(name, dir): (OsString, OwnedFd)| {
            let names = sys::list(dir.as_fd(), ".").map_err(failed)?.into_iter();
            let marks = names.filter_map(|(name, _)| LeftMark::read(dir.as_fd(), name).transpose());
            let marks = marks.collect::<sys::Result<_>>().map_err(failed)?;
            Ok(LeftBatch { name, dir, marks })
        };
        left.into_iter().map(with_marks).collect()
    }

    /// Whether a mark is one of whoever could have saved the revision, which is this user's: others may have put it there who may
    /// write the store's directory, and not change the revision.
    pub(crate) fn believes(&self, mark: &LeftMark, uid: u32) -> bool {
        let store = sys::access(self.root()).map(|store| store.uid);
        mark.uid == 0 || mark.uid == uid || store.is_ok_and(|store| store == mark.uid)
    }

    /// The text of a marked revision, as the medium has it, and whose it is.
    ///
    /// # Errors
    /// As [`Backend::read`](crate::backend::Backend::read).
    pub(crate) fn read_marked(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, u32)> {
        let (file, meta) = self.open_rev("read", id, rev)?;
        sys::drop_cached(file.as_fd());
        let text = sys::read_text(file.as_fd(), meta.size).map_err(|e| self.io("read", id, Some(rev), e));
        text.map(|text| (text, meta.uid))
    }

    /// What a marked revision's text was taken from, where that was to go, is this user's, and is as long still.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn source_of(&self, batch: &LeftBatch, left: &LeftMark, uid: u32) -> Result<Option<Vec<u8>>> {
        batch.source(left, uid).map_err(|e| self.unsynced_error("read", e))
    }

    /// What is marked there was looked at.
    ///
    /// # Errors
    /// As [`sync_point`](Self::sync_point).
    pub(crate) fn end_left(&self, left: Vec<LeftBatch>) -> Result<()> {
        if left.is_empty() {
            return Ok(());
        }
        self.sync_since().map_err(|e| self.unsynced_error("sync", e))?;
        let mut all = Ok(());
        for batch in left {
            let stays = |name: &OsStr| batch.marks.iter().any(|mark| mark.is_of(name));
            // One that cannot be cleared keeps no other from that.
            all = self.end_batch(&batch.name, batch.dir.as_fd(), stays).and(all);
        }
        all
    }

    /// Brings to the medium what was written since the store was opened.
    pub(super) fn sync_since(&self) -> sys::Result<()> {
        match &self.since {
            Some(since) => self.stage.sync_all(self.root(), since.as_fd()),
            None => self.stage.sync_all(self.root(), sys::open_dir(self.root(), ".")?.as_fd()),
        }
    }

    /// Takes a batch's marks away whose revisions are on the medium, and then the batch, if nothing else is there.
    fn end_batch(&self, name: &OsStr, dir: BorrowedFd, stays: impl Fn(&OsStr) -> bool) -> Result<()> {
        let failed = |e| self.unsynced_error("clear", e);
        let all = self.layout.dir(UNSYNCED).map_err(failed)?;
        for (mark, kind) in sys::list(dir, ".").map_err(failed)? {
            if kind != FileType::Directory && !stays(&mark) {
                sys::found(sys::unlink(dir, &mark)).map_err(failed)?;
            }
        }
        match sys::found(sys::remove_dir(all.as_fd(), name)) {
            // None of ours; `check` tells of it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            gone => gone.map(drop).map_err(failed),
        }
    }

    /// Moves what is torn of a removed revision out of the way. Whether there was some. Bytes that were purged, of which an
    /// empty file tells, are not torn.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn set_gone_aside(
        &self,
        id: &ObjectId,
        rev: &Rev,
        op: &str,
        is_torn: impl Fn(&[u8], u32) -> bool,
    ) -> Result<bool> {
        let mut torn = Vec::new();
        let mut look = |dir: BorrowedFd, name: &OsStr, of: Rev, _: String, whole: bool| {
            if of != *rev {
                return Ok(());
            }
            let (file, meta) = sys::open_file(dir, name)?;
            let is = match sys::read_text(file.as_fd(), meta.size) {
                // As large as it is and full of holes.
                Err(Errno::FBIG) => is_torn(b"", meta.uid),
                text => is_torn(&text?, meta.uid),
            };
            if is && (whole || meta.size > 0) {
                torn.push((sys::open_dir(dir, ".")?, name.to_owned()));
            }
            Ok(())
        };
        let failed = |e| self.io("set aside", id, Some(rev), e);
        self.each_grave(id, &mut look).map_err(failed)?;
        for (dir, name) in &torn {
            let gone = self.gone_dir(id)?;
            let aside = self.layout.shared_dir(gone.as_fd(), op_name(op, ASIDE)).map_err(failed)?;
            self.stage.rename_exclusive(dir.as_fd(), name, aside.as_fd(), name).map_err(failed)?;
        }
        Ok(!torn.is_empty())
    }

    fn unsynced_error(&self, op: &'static str, e: Errno) -> Error {
        Error::io(op, self.path.join(NAME).join(UNSYNCED))(e)
    }
}
