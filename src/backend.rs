//! What a medium must do to hold a store.
//!
//! A backend keeps, for each object, a set of immutable revisions, and apart from them what was removed. It knows
//! names and bytes. Invariants: it does not know JSON, and it does not know which revision wins.
//!
//! Implementations: [`DirBackend`] (a directory, shared with the original library), [`MemoryBackend`] (the model that
//! tests compare with), [`FaultBackend`] (any of them, failing where told). All run the one suite in
//! `tests/it/conformance.rs`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::rev::{ObjectId, Rev};

mod dir;
mod fault;
mod memory;
mod no_io;
mod origin;

/// For tests that walk through every system call of a change.
#[cfg(test)]
pub(crate) use dir::faults;
#[cfg(any(test, fuzzing))]
pub(crate) use dir::fuzz;

pub use dir::DirBackend;
/// For the tests of a backend: what the medium is taken for.
#[doc(hidden)]
pub use dir::LinkMethod;
pub(crate) use dir::{LEFTOVER, LeftBatch, LeftMark, Mark, sys};
pub use fault::{Fault, FaultBackend};
pub use memory::MemoryBackend;
pub use no_io::NoIo;
pub use origin::{Host, Origin};

/// What is known of a revision's file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Size in bytes.
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// When the text was written; a program may set it (`cp -p`, `rsync -t`).
    pub mtime: SystemTime,
    /// Last read, as far as the medium records it.
    pub atime: SystemTime,
    /// Last change of the attributes or of the number of names.
    pub ctime: SystemTime,
    /// Birth time (`btime` of statx), if the file system records it: a lower bound for the time of publication.
    pub born: Option<SystemTime>,
    /// Permission bits, 12 of them.
    pub mode: u32,
    /// The owner's user id.
    pub uid: u32,
    /// The owning group's id.
    pub gid: u32,
}

impl Meta {
    /// What makes a copy look like it.
    pub fn attrs(&self) -> Attrs {
        Attrs {
            mtime: Some(self.mtime),
            mode: Some(self.mode),
            owner: Some((self.uid, self.gid)),
            origin: Origin::Here,
        }
    }

    /// When the revision was published: programs can set `mtime`, and do.
    pub fn published(&self) -> SystemTime {
        self.born.unwrap_or(self.ctime)
    }

    /// The same from above: a file gets its name when its bytes are on the medium, and its ctime with it. A ctime of much
    /// later is of a program that has set attributes since.
    pub fn published_by(&self) -> SystemTime {
        /// Longer than a medium takes to write a text.
        const WRITING: Duration = Duration::from_secs(10);
        match self.born {
            Some(born) if self.ctime.duration_since(born).is_ok_and(|later| later > WRITING) => born,
            _ => self.ctime,
        }
    }
}

/// What a new revision's file is to look like; `None` leaves it to the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// When the text was written.
    pub mtime: Option<SystemTime>,
    /// Permission bits, 12 of them.
    pub mode: Option<u32>,
    /// User and group. Where the process may not give files away, the file stays its own.
    pub owner: Option<(u32, u32)>,
    /// Whence the revision came. What an existing one is known to have come from is not changed.
    pub origin: Origin,
}

/// How long a text is at most, in bytes. What is longer is no text: nothing of it is read, and none is written.
pub const LONGEST: u64 = 1 << 30;

/// How far a change must have got when a call returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Readers see it, and the medium comes to it in its own time: after a power cut a revision may be there without its bytes,
    /// until whoever opens the store next has set it aside. [`DirBackend::sync_point`] ends that. A medium of which that cannot be known has it `Ordered`, as has
    /// every change but a new revision.
    Async,
    /// After a power cut a revision is whole or absent: bytes reach the medium before their name.
    #[default]
    Ordered,
    /// The change survives a power cut.
    Full,
}

/// One thing in an object's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Named as a revision. Whether it is a regular file shows when it is opened.
    Rev(Rev),
    /// Any other name: not a revision, never touched, reported by `check`.
    Foreign(OsString),
}

/// Something that was removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removal {
    /// One revision and why: `discarded`, `purged`, the name of the revision that superseded it, …
    Rev {
        /// The revision.
        rev: Rev,
        /// The reason, a file name's worth of text.
        why: String,
    },
    /// A whole object, deleted at once by operation `op`, with the revisions it had.
    Object {
        /// The operation's name, 32 hex digits.
        op: String,
        /// In no order.
        revs: Vec<Rev>,
    },
    /// The deletion by `op` was taken back: it counts for nothing, also where it is still known.
    Withdrawn {
        /// The deletion's name.
        op: String,
    },
    /// Things that were no revisions, out of the way since operation `op`. No fact about any revision.
    Aside {
        /// The operation's name, 32 hex digits.
        op: String,
        /// What they were called in the object's directory.
        names: Vec<OsString>,
    },
}

impl Removal {
    /// Each fact by itself: [`Object`](Self::Object) is one for each of its revisions, [`Aside`](Self::Aside) is none.
    pub fn single(facts: &[Removal]) -> BTreeSet<Removal> {
        let mut single = BTreeSet::new();
        for fact in facts {
            match fact {
                Removal::Rev { .. } | Removal::Withdrawn { .. } => drop(single.insert(fact.clone())),
                Removal::Object { op, revs } => {
                    single.extend(revs.iter().map(|rev| Removal::Rev { rev: rev.clone(), why: op.clone() }));
                }
                Removal::Aside { .. } => {}
            }
        }
        single
    }
}

/// One place among what is gone where the bytes of a removed revision are; it may have several. One that was purged has
/// none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The revision that was removed.
    pub rev: Rev,
    /// As in [`Removal::Rev`]; of a whole object's deletion the operation.
    pub why: String,
    /// It went with the whole object, by the operation that `why` names.
    pub whole: bool,
    /// When it was removed.
    pub at: SystemTime,
    /// Of its file. The size is 0 where an older revfs purged the bytes.
    pub meta: Meta,
}

/// Takes a step towards less, at the price of the room that is kept for that. `removes`: nothing is added on the way.
pub(crate) fn at_need<T>(
    backend: &dyn Backend,
    removes: bool,
    mut step: impl FnMut() -> Result<T>,
) -> Result<T> {
    loop {
        match step() {
            Err(e) if e.is_no_room() && backend.make_room(removes) => {}
            done => return done,
        }
    }
}

/// The reason of what was removed for good.
pub const PURGED: &str = "purged";
/// The reason of a loser that somebody removed.
pub const DISCARDED: &str = "discarded";
/// The reason of what went with its object, by an operation whose name is not known.
pub const DELETED: &str = "deleted";

/// A medium. All calls may come from many threads and, through other processes, from other hosts.
///
/// Paths in errors are the medium's own. Unless a call says otherwise, a missing object is
/// [`Error::NoObject`](crate::error::Error::NoObject) and a missing revision
/// [`Error::NoRevision`](crate::error::Error::NoRevision).
pub trait Backend: Send + Sync {
    /// Calls `see` once for the id of each object, in no order, until it returns `false`. Names that cannot be ids are left
    /// out.
    fn each_object(&self, see: &mut dyn FnMut(ObjectId) -> bool) -> Result<()>;

    /// All of them.
    fn objects(&self) -> Result<Vec<ObjectId>> {
        let mut ids = Vec::new();
        self.each_object(&mut |id| {
            ids.push(id);
            true
        })?;
        Ok(ids)
    }

    /// All that is in an object's directory, in no order.
    fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>>;

    /// The attributes of a live revision. What is not a regular file is `NoRevision`; links are not followed.
    fn meta(&self, id: &ObjectId, rev: &Rev) -> Result<Meta>;

    /// The bytes and attributes of a live revision, as one consistent pair. Same conditions as [`meta`](Self::meta).
    fn read(&self, id: &ObjectId, rev: &Rev) -> Result<(Vec<u8>, Meta)>;

    /// Whence a revision came that is live, or among what is gone with its bytes: as it was published, or as unknown where the
    /// medium keeps no such, or cannot be asked.
    fn origin(&self, id: &ObjectId, rev: &Rev) -> Origin;

    /// A live revision opened for reading, where the medium has files; it stays readable when the revision is
    /// removed. Never blocks (fifos), never follows a link.
    fn open(&self, id: &ObjectId, rev: &Rev) -> Result<File>;

    /// Adds a revision to an existing object, atomically and exclusively: at no moment can anybody see the name with
    /// fewer bytes. Returns the attributes as later calls will report them.
    ///
    /// # Errors
    /// `NoObject` where the object does not exist (so a save cannot race a delete into a half-made directory);
    /// `Io` with `AlreadyExists` where the name is taken.
    fn publish(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;

    /// Adds an object together with its first revision: nobody meets it without.
    ///
    /// # Errors
    /// `Exists` where the object exists; an empty directory left by another program counts as existing.
    fn create(&self, id: &ObjectId, rev: &Rev, text: &[u8], attrs: &Attrs, how: Durability) -> Result<Meta>;

    /// Sets attributes of a live revision; its bytes never change.
    fn set_attrs(&self, id: &ObjectId, rev: &Rev, attrs: &Attrs) -> Result<Meta>;

    /// Gives a live revision another name (the repair of `NaN-` names), exclusively.
    fn rename(&self, id: &ObjectId, from: &Rev, to: &Rev) -> Result<()>;

    /// Moves one live revision to what is gone, by one rename. `why` is a file name's worth of text without `~` or `/`.
    /// Where it is there already for that reason, with other bytes, these are set aside.
    fn retire(&self, id: &ObjectId, rev: &Rev, why: &str, how: Durability) -> Result<()>;

    /// Keeps bytes among what is gone without their ever having been live: a writer's own text after a merge.
    fn keep(&self, id: &ObjectId, rev: &Rev, why: &str, text: &[u8], how: Durability) -> Result<()>;

    /// Moves anything in an object's directory, whatever its name and kind, to what is gone, by one rename: out of the way,
    /// with all that is in it, and no fact about a revision. `op` is unique, or that of other things set aside together
    /// with this one. A name that is not there is `NoObject`.
    fn set_aside(&self, id: &ObjectId, name: &OsStr, op: &str, how: Durability) -> Result<()>;

    /// Takes an object's directory away if nothing is in it. Whether there was one.
    fn remove_empty(&self, id: &ObjectId) -> Result<bool>;

    /// Removes the bytes of removed revisions for good, wherever among what is gone they are. What was known of them stays
    /// known, and that each is [`PURGED`], so that no replica brings it back. What was purged before is put in order on
    /// the way. Returns how many bytes those were; revisions that are not gone are passed over, but it is `NoRevision`
    /// where none of them is.
    fn purge(&self, id: &ObjectId, revs: &[Rev], how: Durability) -> Result<u64>;

    /// Takes over what somebody else knows of removals, without bytes; of [`Removal::Object`] that it took each of its
    /// revisions. The object need not exist, nor anything gone of it. Where all is known nothing is written.
    fn learn(&self, id: &ObjectId, facts: &[Removal], how: Durability) -> Result<()>;

    /// Moves a whole object to what is gone, by one rename. `op` is unique (a uuid's 32 hex digits).
    fn remove(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()>;

    /// Brings back what `remove` took with `op`, as it was. The deletion stays known as [`Removal::Withdrawn`], from before
    /// the object is back: whoever copied it learns that it counts no more. A call that was interrupted is made again.
    ///
    /// # Errors
    /// As [`revive`](Self::revive).
    fn restore(&self, id: &ObjectId, op: &str, how: Durability) -> Result<()>;

    /// Brings back what `remove` took with `op`, and with it a newer revision: whoever sees the object again sees `rev`.
    ///
    /// # Errors
    /// `NoObject` where nothing was removed under `op`, `Exists` where the object exists again: then nothing changed.
    fn revive(
        &self,
        id: &ObjectId,
        op: &str,
        rev: &Rev,
        text: &[u8],
        attrs: &Attrs,
        how: Durability,
    ) -> Result<Meta>;

    /// Makes `to` an object with all revisions of `from` (the same bytes), and `from` gone under `op`: a rename.
    ///
    /// # Errors
    /// `Exists` where `to` exists: then nothing changed.
    fn move_object(&self, from: &ObjectId, to: &ObjectId, op: &str, how: Durability) -> Result<()>;

    /// Removes an object for good and without a trace, by one rename, if it holds these revisions and nothing else: their
    /// texts are elsewhere. Whether it did.
    fn erase(&self, id: &ObjectId, revs: &[Rev]) -> Result<bool>;

    /// When the object's directory and what is gone of it changed last, in nanoseconds of any clock, 0 where there is no such;
    /// `None` where the medium cannot tell. `gone`: something may be gone of it; otherwise it is not looked there.
    fn stamp(&self, id: &ObjectId, gone: bool) -> Result<Option<(u64, u64)>> {
        let _ = (id, gone);
        Ok(None)
    }

    /// What was removed of an object, in no order; empty where nothing was.
    fn removed(&self, id: &ObjectId) -> Result<Vec<Removal>>;

    /// The removed revisions of an object that have bytes, one for each place where those are, in no order.
    fn tombstones(&self, id: &ObjectId) -> Result<Vec<Tombstone>>;

    /// The ids that have something among what is gone.
    fn removed_objects(&self) -> Result<Vec<ObjectId>>;

    /// The bytes of a removed revision, wherever among what is gone it is.
    fn read_removed(&self, id: &ObjectId, rev: &Rev) -> Result<Vec<u8>>;

    /// Gives up a part of the room that is kept for taking things away where there is no other; all of it in turn where
    /// `removes`, else some. Whether there was some.
    fn make_room(&self, removes: bool) -> bool {
        let _ = removes;
        false
    }

    /// Makes everything published so far for this object survive a power cut: `fsync` after an `Ordered` publish.
    fn sync(&self, id: &ObjectId, rev: &Rev) -> Result<()>;

    /// The same of everything published so far, at once.
    fn sync_all(&self) -> Result<()> {
        Ok(())
    }
}
