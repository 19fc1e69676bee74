//! The file `.revfs/format`: two lines, `revfs 1` and `store <32 hex digits>`: the version of all that lies there, and a name for
//! the store that survives copying and moving.
//!
//! Version 2 is version 1 with fact files. A store becomes one when it gets the first: what knows only version 1 would take
//! what they say is gone for alive.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use uuid::Uuid;

use super::layout::{Layout, NAME};
use super::stage::Stage;
use super::sys;
use crate::backend::Durability;
use crate::error::{Error, Result};

pub const FORMAT: &str = "format";
/// Of a new store, and of one with fact files.
const VERSIONS: [&str; 2] = ["1", "2"];

/// Reads it, or writes one by `stage` where there is none. Returns the store's own name; `None` for a store that has none and
/// that nobody here may write to.
///
/// # Errors
/// [`Error::NotAStore`] for another version or an unreadable one.
pub fn store_name(layout: &Layout, stage: Option<&Stage>, path: &Path) -> Result<Option<String>> {
    let at = || path.join(NAME).join(FORMAT);
    // Twice: another process may be the one that writes it.
    for _ in 0..2 {
        if let Some((name, _)) = read(layout, path)? {
            return Ok(Some(name));
        }
        let Some(stage) = stage else { break };
        let text = text(VERSIONS[0], &Uuid::new_v4().simple().to_string());
        let written = layout.own().and_then(|own| {
            let attrs = layout.attrs()?;
            stage.publish(layout, own, FORMAT.as_ref(), text.as_bytes(), &attrs, Durability::Full)
        });
        match written {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(e) => return Err(Error::io("write", at())(e)),
        }
    }
    Ok(None)
}

/// Makes it say that there are fact files.
///
/// # Errors
/// As [`store_name`].
pub fn raise(layout: &Layout, stage: &Stage, path: &Path) -> Result<()> {
    let name = match read(layout, path)? {
        Some((_, version)) if version == VERSIONS[1] => return Ok(()),
        Some((name, _)) => name,
        None => Uuid::new_v4().simple().to_string(),
    };
    let text = text(VERSIONS[1], &name);
    let written = layout.own().and_then(|own| {
        let attrs = layout.shared_attrs()?;
        stage.replace(layout, own, FORMAT.as_ref(), text.as_bytes(), &attrs, Durability::Full)
    });
    written.map_err(Error::io("write", path.join(NAME).join(FORMAT)))
}

pub(super) fn text(version: &str, name: &str) -> String {
    format!("revfs {version}\nstore {name}\n")
}

/// What the file says, as far as it can say anything.
pub fn read_text(root: BorrowedFd) -> sys::Result<Vec<u8>> {
    let own = sys::dir(root, NAME)?;
    sys::read_start(sys::open_file(own.as_fd(), FORMAT)?.0.as_fd(), 4096)
}

/// The store's name and version.
fn read(layout: &Layout, path: &Path) -> Result<Option<(String, String)>> {
    match read_text(layout.root()) {
        Ok(text) => parse(&text).map(Some).map_err(|why| Error::NotAStore { path: path.into(), why }),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::io("read", path.join(NAME).join(FORMAT))(e)),
    }
}

/// The version that a format names, where it is one of revfs and not ours.
pub fn other_version(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let version = text.lines().next()?.strip_prefix("revfs ")?;
    (!VERSIONS.contains(&version) && !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()))
        .then(|| version.to_owned())
}

pub(super) fn parse(text: &[u8]) -> std::result::Result<(String, String), String> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let version = match lines.next().unwrap_or_default().strip_prefix("revfs ") {
        Some(version) if VERSIONS.contains(&version) => version,
        Some(other) => {
            let [_, newest] = VERSIONS;
            return Err(format!("its format is version {other:?}, this revfs knows versions up to {newest}"));
        }
        None => return Err(format!("{NAME}/{FORMAT} is not one of revfs; remove it if the store is sound")),
    };
    match lines.next().and_then(|line| line.strip_prefix("store ")) {
        Some(name) if name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok((name.into(), version.into()))
        }
        _ => Err(format!("{NAME}/{FORMAT} names no store; remove it to get a new name")),
    }
}
