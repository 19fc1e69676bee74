//! `.revfs`: what is ours in a store's directory. Directories are made when they are first needed, with the permissions of
//! the store's own, so that all who share the store can share them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use uuid::Uuid;

use super::access::{is_root, left_by};
use super::sys::{self, Access, Result};
use crate::backend::Attrs;

/// The directory's name. The original library skips names with a dot at the top of a store.
pub const NAME: &str = ".revfs";

/// How long an unfinished write keeps its temporary file: longer than any write lasts.
pub const LEFTOVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The directories in `.revfs`, each opened once.
#[derive(Debug)]
pub struct Layout {
    root: OwnedFd,
    own: OnceLock<OwnedFd>,
    stage: OnceLock<OwnedFd>,
    gone: OnceLock<OwnedFd>,
    /// See `reserve`.
    pub(super) spent: AtomicBool,
}

impl Layout {
    /// `root` is the store's directory.
    pub fn new(root: OwnedFd) -> Self {
        Layout {
            root,
            own: OnceLock::new(),
            stage: OnceLock::new(),
            gone: OnceLock::new(),
            spent: AtomicBool::new(false),
        }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// `.revfs` itself, made where it is missing.
    pub fn own(&self) -> Result<BorrowedFd<'_>> {
        once(&self.own, || self.shared_dir(self.root(), NAME))
    }

    pub fn stage(&self) -> Result<BorrowedFd<'_>> {
        once(&self.stage, || self.dir("stage"))
    }

    pub fn gone(&self) -> Result<BorrowedFd<'_>> {
        once(&self.gone, || self.dir("gone"))
    }

    /// [`gone`](Self::gone) for reading: `None` where it has never been needed.
    pub fn gone_if_any(&self) -> Result<Option<BorrowedFd<'_>>> {
        if let Some(gone) = self.gone.get() {
            return Ok(Some(gone.as_fd()));
        }
        // Asked at every look at an object.
        let gone =
            once(&self.own, || sys::open_dir(self.root(), NAME)).and_then(|own| sys::open_dir(own, "gone"));
        match gone {
            Err(Errno::NOENT) => Ok(None),
            gone => gone.map(|gone| Some(self.gone.get_or_init(|| gone).as_fd())),
        }
    }

    /// Opens a directory in `.revfs` if it is there.
    pub fn dir_if_any(&self, name: &str) -> Result<Option<OwnedFd>> {
        match sys::dir(self.root(), NAME).and_then(|own| sys::open_dir(own.as_fd(), name)) {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Opens a directory in `.revfs`, making it where it is missing.
    pub fn dir(&self, name: &str) -> Result<OwnedFd> {
        self.shared_dir(self.own()?, name)
    }

    /// An empty file, made where it is missing, that everybody who may read the store may read.
    pub fn lock_file(&self, name: &str) -> Result<OwnedFd> {
        sys::open_or_make_empty(self.own()?, name, self.attrs()?.owner)
    }

    /// What a directory here has from the store's that it may not have inherited, as it was made in another.
    pub fn inherit(&self, dir: BorrowedFd) -> Result<()> {
        match sys::default_acl(self.root())? {
            Some(list) => sys::inherit_acl(dir, &list),
            None => Ok(()),
        }
    }

    /// The permissions of a new file or directory in the store for which a program asked for `mode`, under its `umask`.
    pub fn mode_of_new(&self, mode: u32, umask: u32) -> u32 {
        match sys::default_acl(self.root()) {
            Ok(Some(list)) => mode & (left_by(&list) | !0o777),
            _ => mode & !umask,
        }
    }

    /// Opens a directory below `.revfs`, making it where it is missing.
    pub fn shared_dir(&self, at: BorrowedFd, name: impl AsRef<OsStr>) -> Result<OwnedFd> {
        let name = name.as_ref();
        let made = match sys::open_dir(at, name) {
            Err(Errno::NOENT) => match sys::make_dir(at, name) {
                Err(Errno::EXIST) => false,
                made => made.map(|()| true)?,
            },
            // A daemon of root's may have made it for itself once.
            Ok(dir) if !is_root() => return Ok(dir),
            opened => opened.map(|_| false)?,
        };
        let dir = sys::open_dir(at, name)?;
        let (store, now) = (sys::access(self.root())?, sys::access(dir.as_fd())?);
        let owner = if is_root() { store } else { now };
        if made {
            self.inherit(dir.as_fd())?;
            let mode = store.mode & 0o3777 | 0o700 | now.mode & 0o6000;
            sys::set_access(dir.as_fd(), Access { mode, ..owner })?;
        } else if now.uid == 0 && store.uid != 0 {
            sys::set_access(dir.as_fd(), Access { mode: now.mode, ..owner })?;
        }
        Ok(dir)
    }

    /// What a file of ours is to look like: a daemon of root's makes it for the store's owner.
    pub fn attrs(&self) -> Result<Attrs> {
        let store = sys::access(self.root())?;
        Ok(Attrs { owner: is_root().then_some((store.uid, store.gid)), ..Attrs::default() })
    }

    /// The same of a file that must be read to know what is gone: whoever may read the store may read it, whatever the umask.
    pub fn shared_attrs(&self) -> Result<Attrs> {
        let mode = sys::access(self.root())?.mode & 0o666 | 0o600;
        Ok(Attrs { mode: Some(mode), ..self.attrs()? })
    }

    /// Removes what writers that died left in `stage`, if it is older than this.
    pub fn sweep_stage(&self, older: Duration) {
        let Ok(stage) = self.stage() else { return };
        for (name, _) in sys::list(stage, ".").unwrap_or_default() {
            let old = sys::changed(stage, &name)
                .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > older));
            if old && sys::remove_shallow(stage, &name).is_ok() {
                log::info!("removed what a writer left unfinished: {}", name.display());
            }
        }
    }
}

/// Something in `.revfs/stage`, gone when this is dropped.
pub struct Temporary<'a> {
    pub at: BorrowedFd<'a>,
    pub name: String,
    pub kept: bool,
}

impl<'a> Temporary<'a> {
    /// A name that nothing has yet.
    pub fn new(at: BorrowedFd<'a>) -> Self {
        Temporary { at, name: Uuid::new_v4().simple().to_string(), kept: false }
    }

    /// In a directory where names with a dot in front are nobody's.
    pub fn hidden(at: BorrowedFd<'a>) -> Self {
        Temporary { name: format!(".{}", Uuid::new_v4().simple()), ..Temporary::new(at) }
    }

    pub fn os(&self) -> &OsStr {
        OsStr::new(&self.name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed when the store is opened a day later.
            let _ = sys::remove_shallow(self.at, OsStr::new(&self.name));
        }
    }
}

fn once(cell: &OnceLock<OwnedFd>, open: impl FnOnce() -> Result<OwnedFd>) -> Result<BorrowedFd<'_>> {
    if let Some(fd) = cell.get() {
        return Ok(fd.as_fd());
    }
    let fd = open()?;
    Ok(cell.get_or_init(|| fd).as_fd())
}
