//! Texts that are no revisions: refused ones and unfinished ones are kept in `.revfs/drafts/<id>/`, each in a file of its
//! own. A new name that holds nothing yet, or refused text, is kept as `new` and shows under its name.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{error, warn};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::attr::Attr;
use super::errno::{Fail, Result};
use super::objects::FRESH;
use super::scratch::{self, ScratchNode};
use super::{Counts, Fs};
use crate::document::NotObject;
use crate::draft::Draft;
use crate::rev::ObjectId;

/// How many refusals `.status` remembers.
const REFUSALS: usize = 20;

impl Fs {
    /// A text is no object: the log and `.status` say so.
    pub(super) fn refused(&self, id: &ObjectId, why: &NotObject) {
        Counts::add(&self.counts.refused);
        let line = format!("{id}: not a JSON object: {why}; the text is kept in .drafts");
        warn!("{line}");
        let mut refusals = self.refusals.lock();
        if refusals.len() == REFUSALS {
            refusals.remove(0);
        }
        refusals.push(line);
    }

    pub(super) fn keep_or_complain(&self, d: &mut Draft) {
        match self.keep(d) {
            Ok(name) => d.set_kept(name),
            Err(fail) => error!("{}: cannot keep the unfinished text: {fail}", d.id),
        }
    }

    /// Puts a draft's text aside: under its name where it is the first of one, else in a file of its own. The file's name.
    pub(super) fn keep(&self, d: &Draft) -> Result<String> {
        let dir = self.drafts_of(&d.id, true)?.ok_or(Fail::NotFound)?;
        let name = if d.fresh && !d.unlinked { FRESH.to_owned() } else { kept_name() };
        let like = Attr { perm: d.mode.unwrap_or(0o644) & 0o777, atime: d.mtime(), ..self.unmasked_attr(d) };
        scratch::replace(dir.as_fd(), OsStr::new(&name), d.text(), &like, false)?;
        Ok(name)
    }

    /// The directory of an object's kept texts.
    pub(super) fn drafts_of(&self, id: &ObjectId, make: bool) -> Result<Option<OwnedFd>> {
        let name = id.as_os_str();
        if make {
            match rustix::fs::mkdirat(self.drafts_root()?, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(drafts) = self.drafts_root() else { return Ok(None) };
        match rustix::fs::openat(drafts, name, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The text that a name shows though it is not an object, and its attributes.
    pub(super) fn kept_fresh(&self, id: &ObjectId) -> Result<Option<(Vec<u8>, Attr)>> {
        let Some(dir) = self.drafts_of(id, false)? else { return Ok(None) };
        match ScratchNode::at(dir.as_fd(), OsStr::new(FRESH)) {
            Ok(file) => Ok(Some((file.read_all(self.options.max_size)?, file.attr()?))),
            Err(Fail::Os(Errno::NOENT)) => Ok(None),
            Err(fail) => Err(fail),
        }
    }

    /// The name became an object, or was removed: an empty text goes, any other is kept under another name.
    pub(super) fn discard_fresh(&self, id: &ObjectId) {
        self.drop_kept(id, FRESH, b"");
    }

    /// A text that was put aside goes if `saved` begins with it: its writer went on (`exec 3> f; printf { >&3; …`). Of
    /// another, the name that it showed under ends.
    pub(super) fn drop_kept(&self, id: &ObjectId, name: &str, saved: &[u8]) {
        let drop = || -> Result<()> {
            let Some(dir) = self.drafts_of(id, false)? else { return Ok(()) };
            let text = match ScratchNode::at(dir.as_fd(), OsStr::new(name)) {
                Ok(file) => file.read_all(saved.len() as u64),
                Err(Fail::Os(Errno::NOENT)) => return Ok(()),
                Err(fail) => return Err(fail),
            };
            if text.is_ok_and(|text| saved.starts_with(&text)) {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
                let _ = rustix::fs::unlinkat(self.drafts_root()?, id.as_os_str(), AtFlags::REMOVEDIR);
            } else if name == FRESH {
                rustix::fs::renameat(&dir, name, &dir, kept_name().as_str())?;
            }
            Ok(())
        };
        if let Err(fail) = drop() {
            warn!("{id}: cannot clear its draft: {fail}");
        }
    }
}

/// A name for a kept text: sortable by time, unique.
fn kept_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{}.{:03}-{}", now.as_secs(), now.subsec_millis(), &random[..8])
}
