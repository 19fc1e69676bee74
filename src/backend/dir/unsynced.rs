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
//! The file that a revision's text was taken from, and that is to go, may be on the medium when the revision is not. It takes the
//! place of the mark: what is torn is then made anew from it.
//!
//! Invariant: a mark goes only when its revision is on the medium, or was found to be whole or set aside.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustix::io::Errno;

use super::gone::{ASIDE, op_name};
use super::layout::{Layout, NAME, Temporary};
use super::{DirBackend, sys};
use crate::backend::Durability;
use crate::error::{Error, Result};
use crate::rev::{NAME_MAX, ObjectId, Rev};

pub(super) const UNSYNCED: &str = "unsynced";

/// The empty file in a batch whose other names the marks are, so that a mark takes no inode.
const EMPTY: &str = "empty";

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
    /// What the revision's text was taken from, where that was to go and is as long still.
    pub source: Option<Vec<u8>>,
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
    pub marks: Vec<LeftMark>,
}

impl LeftMark {
    /// `None` of what is no mark.
    fn read(batch: BorrowedFd, name: &OsStr) -> Option<sys::Result<LeftMark>> {
        let mark = Mark::parse(name)?;
        let source = || {
            let (file, meta) = sys::open_file(batch, name)?;
            let is_whole = mark.size > 0 && meta.size == mark.size;
            is_whole.then(|| sys::read_text(file.as_fd(), meta.size)).transpose()
        };
        let source = match source() {
            Err(Errno::NOENT | Errno::LOOP | Errno::FBIG) => Ok(None),
            source => source,
        };
        Some(source.map(|source| LeftMark { mark, source }))
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
        is_marked && sys::rename(dir, name, batch.dir.as_fd(), &mark).is_ok()
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
        batch.map_or(Ok(()), |batch| self.end_batches(&[(batch.name, batch.dir)]))
    }

    /// Has what anybody saved be on the medium, where somebody may not have waited for that.
    pub(super) fn settle(&self) -> sys::Result<()> {
        let any = match self.layout.dir_if_any(UNSYNCED) {
            Ok(None) => false,
            Ok(Some(all)) => !sys::list(all.as_fd(), ".")?.is_empty(),
            // None of ours; `check` moves it away.
            Err(Errno::NOTDIR | Errno::LOOP) => false,
            Err(e) => return Err(e),
        };
        if any { self.stage.sync_all(self.root()) } else { Ok(()) }
    }

    /// What programs that died have left: nobody else will look at it meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn left_unsynced(&self) -> Result<Vec<LeftBatch>> {
        let failed = |e| self.unsynced_error("list", e);
        let Some(all) = self.layout.dir_if_any(UNSYNCED).map_err(failed)? else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for (name, _) in sys::list(all.as_fd(), ".").map_err(failed)? {
            // Or it has gone.
            let Some(dir) = sys::found(sys::open_dir(all.as_fd(), &name)).map_err(failed)? else { continue };
            if sys::lock(dir.as_fd()).map_err(failed)? {
                let names = sys::list(dir.as_fd(), ".").map_err(failed)?;
                let marks = names.iter().filter_map(|(name, _)| LeftMark::read(dir.as_fd(), name));
                let marks = marks.collect::<sys::Result<_>>().map_err(failed)?;
                left.push(LeftBatch { name, dir, marks });
            }
        }
        Ok(left)
    }

    /// What is marked there was looked at.
    ///
    /// # Errors
    /// As [`sync_point`](Self::sync_point).
    pub(crate) fn end_left(&self, left: Vec<LeftBatch>) -> Result<()> {
        let left: Vec<_> = left.into_iter().map(|left| (left.name, left.dir)).collect();
        if left.is_empty() { Ok(()) } else { self.end_batches(&left) }
    }

    /// Brings all to the medium and takes the marks away.
    fn end_batches(&self, batches: &[(OsString, OwnedFd)]) -> Result<()> {
        self.stage.sync_all(self.root()).map_err(|e| self.unsynced_error("sync", e))?;
        let failed = |e| self.unsynced_error("clear", e);
        let all = self.layout.dir(UNSYNCED).map_err(failed)?;
        for (name, dir) in batches {
            for (mark, _) in sys::list(dir.as_fd(), ".").map_err(failed)? {
                sys::found(sys::unlink(dir.as_fd(), &mark)).map_err(failed)?;
            }
            sys::found(sys::remove_dir(all.as_fd(), name)).map_err(failed)?;
        }
        Ok(())
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
        is_torn: impl Fn(&[u8]) -> bool,
    ) -> Result<bool> {
        let mut torn = Vec::new();
        let mut look = |dir: BorrowedFd, name: &OsStr, of: Rev, _: String, whole: bool| {
            if of != *rev {
                return Ok(());
            }
            let (file, meta) = sys::open_file(dir, name)?;
            let is = match sys::read_text(file.as_fd(), meta.size) {
                // As large as it is and full of holes.
                Err(Errno::FBIG) => true,
                text => is_torn(&text?),
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
