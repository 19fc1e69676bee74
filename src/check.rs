//! Finding what does not belong into a store, and putting it right without losing a byte.
//!
//! Invariants: what is in the way is moved, never removed: out of an object's directory to `.revfs/gone/<id>/<op>~aside`,
//! from elsewhere to `.revfs/aside/<op>`, one `op` per run. What readers get does not change, but where they got nothing.
//! Other programs may be writing: what changed in the last seconds is waited for, and left alone if it changes again.
//! Without `repair` nothing is written at all.
//!
//! Architecture invariant: no winner is chosen and no fact read here; the store does that.
//!
//! `disk`: what lies in a directory; `reason`: why a name is no revision's; `object`: one object's directory; `own`: `.revfs`, and
//! the top of the store. Each knows only those before it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use uuid::Uuid;

use crate::backend::sys;
use crate::error::{Error, Result};
use crate::rev::ObjectId;
use crate::store::{REPAIR_QUIET, REPAIR_WAIT};
use disk::{Item, shown};

mod disk;
mod object;
mod own;
mod reason;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The object that it belongs to.
    pub id: Option<ObjectId>,
    /// Where it is: a path below the store, on one line.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
    pub cure: Cure,
}

/// What a repair does, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// A repair would do this.
    Would(String),
    /// This was done.
    Did(String),
    /// Somebody is at it; the next check may find nothing.
    Waits,
    /// It stays: this is in the way, or to be done by hand.
    Cannot(String),
    /// It harms nobody.
    Note,
}

impl Finding {
    /// It is still wrong.
    pub fn remains(&self) -> bool {
        !matches!(self.cure, Cure::Did(_) | Cure::Note)
    }
}

/// How a store is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub repair: bool,
    /// Tell also what harms nobody.
    pub notes: bool,
}

/// Checks a store, or only these objects of it; `see` gets each finding when it is made, `looked` how many objects of how many
/// were looked at.
///
/// # Errors
/// [`Error::NoStore`], [`Error::NotAStore`] for what is no directory, [`Error::Io`].
pub fn check(
    path: &Path,
    ids: &[ObjectId],
    options: Options,
    mut see: impl FnMut(Finding),
    looked: impl Fn(usize, usize),
) -> Result<()> {
    let path = crate::store::expand(path);
    let root = match sys::open_root(&path) {
        Err(Errno::NOTDIR) => return Err(Error::NotAStore { path, why: "it is not a directory".into() }),
        Err(errno) => return Err(Error::NoStore { path, source: errno.into() }),
        Ok(root) => root,
    };
    let op = Uuid::new_v4().simple().to_string();
    let mut run = Run { root, path: &path, options, op, patience: REPAIR_WAIT, see: &mut see };
    if !run.own_directory()? {
        return Ok(());
    }
    let Some(store) = run.open()? else { return Ok(()) };
    match ids.is_empty() {
        true => {
            run.own_contents(&store)?;
            run.objects(&store, &looked)
        }
        false => ids.iter().enumerate().try_for_each(|(n, id)| {
            run.one(&store, id)?;
            looked(n + 1, ids.len());
            Ok(())
        }),
    }
}

/// One check under way.
struct Run<'a> {
    /// The store's directory.
    root: OwnedFd,
    path: &'a Path,
    options: Options,
    /// Names all that this run moves away.
    op: String,
    /// How much longer it will wait.
    patience: Duration,
    see: &'a mut dyn FnMut(Finding),
}

impl Run<'_> {
    fn io(&self, op: &'static str, place: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        Error::io(op, self.path.join(place))
    }

    fn report(&mut self, id: Option<&ObjectId>, place: &str, what: impl Into<String>, cure: Cure) {
        if cure != Cure::Note || self.options.notes {
            (self.see)(Finding { id: id.cloned(), place: place.into(), what: what.into(), cure });
        }
    }

    fn note(&mut self, id: Option<&ObjectId>, place: &str, what: impl Into<String>) {
        self.report(id, place, what, Cure::Note);
    }

    /// Tells of something, after repairing it where that is wanted. `watched`: the thing itself, which must be quiet, and
    /// its directory. `would` is what the repair does, `go` does it and says what came of it.
    fn cure(
        &mut self,
        (id, place): (Option<&ObjectId>, &str),
        what: impl Into<String>,
        watched: Option<(BorrowedFd, &Item)>,
        would: &str,
        go: impl FnOnce(&Self) -> Result<String>,
    ) {
        let cure = match watched.map(|(at, item)| self.quiet(at, item)) {
            _ if !self.options.repair => Cure::Would(would.into()),
            Some(Quiet::No) => Cure::Waits,
            Some(Quiet::Vanished) => return,
            Some(Quiet::Yes) | None => match go(self) {
                Ok(done) => Cure::Did(done),
                Err(e) => Cure::Cannot(e.to_string()),
            },
        };
        self.report(id, place, what, cure);
    }

    /// Waits until a thing has been left alone for long enough.
    fn quiet(&mut self, at: BorrowedFd, item: &Item) -> Quiet {
        if !self.options.repair {
            return Quiet::Yes;
        }
        let since = SystemTime::now().duration_since(item.changed.max(item.modified));
        // A time to come: another host's clock, or `touch -d`.
        let rest = since.map_or(REPAIR_QUIET, |since| REPAIR_QUIET.saturating_sub(since));
        if rest > self.patience {
            return Quiet::No;
        }
        self.patience -= rest;
        std::thread::sleep(rest);
        match disk::lstat(at, &item.name) {
            Ok(None) => Quiet::Vanished,
            Ok(Some(now)) if now.is_as(item) => Quiet::Yes,
            Ok(Some(_)) | Err(_) => Quiet::No,
        }
    }

    /// Moves something that is in nobody's directory, to the same place below `.revfs/aside/<op>`. Says where that is.
    fn away(&self, at: BorrowedFd, name: &OsStr, below: &[&OsStr]) -> Result<String> {
        let root = self.root.as_fd();
        let place = |name: &OsStr| {
            below.iter().map(|dir| format!("{}/", shown(dir))).collect::<String>() + &shown(name)
        };
        let failed = || self.io("move away", &place(name));
        let go = || -> std::io::Result<()> {
            let mut dir = disk::shared_dir(root, root, ".revfs")?;
            for name in [OsStr::new("aside"), OsStr::new(&self.op)].iter().chain(below) {
                dir = disk::shared_dir(root, dir.as_fd(), name)?;
            }
            disk::rename(at, name, dir.as_fd(), name)
        };
        go().map_err(failed())?;
        Ok(format!("moved to .revfs/aside/{}/{}", self.op, place(name)))
    }
}

enum Quiet {
    Yes,
    No,
    Vanished,
}
