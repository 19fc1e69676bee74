//! `.revfs`: what is ours in a store's directory.
//!
//! `format` holds two lines, `revfs 1` and `store <32 hex digits>`: the version of all that lies here, and a name for
//! the store that survives copying and moving. Directories are made when they are first needed, with the permissions of
//! the store's own, so that all who share the store can share them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use uuid::Uuid;

use super::stage::Stage;
use super::sys::{self, Result};
use crate::backend::Durability;
use crate::error::Error;

/// The directory's name. The original library skips names with a dot at the top of a store.
pub const NAME: &str = ".revfs";
pub const FORMAT: &str = "format";
const VERSION: &str = "1";

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

    /// Reads `format`, or writes one by `stage` where there is none. Returns the store's own name; `None` for a store
    /// that has none and that nobody here may write to.
    ///
    /// # Errors
    /// [`Error::NotAStore`] for another version or an unreadable one.
    pub fn format(&self, stage: Option<&Stage>, path: &Path) -> crate::error::Result<Option<String>> {
        let at = || -> PathBuf { path.join(NAME).join(FORMAT) };
        // Twice: another process may be the one that writes it.
        for _ in 0..2 {
            let read = sys::dir(self.root(), NAME)
                .and_then(|own| sys::open_file(own.as_fd(), FORMAT))
                .and_then(|(file, meta)| sys::read_all(file.as_fd(), meta.size.min(4096)));
            match read {
                Ok(text) => {
                    return parse(&text).map(Some).map_err(|why| Error::NotAStore { path: path.into(), why });
                }
                Err(Errno::NOENT) => {}
                Err(e) => return Err(Error::io("read", at())(e)),
            }
            let Some(stage) = stage else { break };
            let text = format!("revfs {VERSION}\nstore {}\n", Uuid::new_v4().simple());
            let written = self.own().and_then(|own| {
                let attrs = self.attrs()?;
                stage.publish(self, own, FORMAT.as_ref(), text.as_bytes(), &attrs, Durability::Full)
            });
            match written {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => return Ok(None),
                Err(e) => return Err(Error::io("write", at())(e)),
            }
        }
        Ok(None)
    }
}

/// The version that a format names, where it is one of revfs and not ours.
pub fn other_version(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let version = text.lines().next()?.strip_prefix("revfs ")?;
    (version != VERSION && !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()))
        .then(|| version.to_owned())
}

fn parse(text: &[u8]) -> std::result::Result<String, String> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    match lines.next().unwrap_or_default().strip_prefix("revfs ") {
        Some(VERSION) => {}
        Some(other) => {
            return Err(format!("its format is version {other:?}, this revfs knows version {VERSION}"));
        }
        None => return Err(format!("{NAME}/{FORMAT} is not one of revfs; remove it if the store is sound")),
    }
    match lines.next().and_then(|line| line.strip_prefix("store ")) {
        Some(name) if name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(name.into()),
        _ => Err(format!("{NAME}/{FORMAT} names no store; remove it to get a new name")),
    }
}

fn once(cell: &OnceLock<OwnedFd>, open: impl FnOnce() -> Result<OwnedFd>) -> Result<BorrowedFd<'_>> {
    if let Some(fd) = cell.get() {
        return Ok(fd.as_fd());
    }
    let fd = open()?;
    Ok(cell.get_or_init(|| fd).as_fd())
}
