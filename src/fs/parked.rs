//! Texts that are no revisions: refused ones and unfinished ones are kept in `.revfs/drafts/<id>/`, each in a file of its
//! own. A new name that holds nothing yet, or refused text, is kept as `new` and shows under its name.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{error, warn};
use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::attr::{Attr, Ino};
use super::errno::{FsError, Result};
use super::objects::NEW_NAME_FILE;
use super::scratch::{self, Change, ScratchNode};
use super::table::Notice;
use super::{Counts, Fs};
use crate::document::NotObject;
use crate::draft::{Draft, Synced};
use crate::error::Error;
use crate::rev::ObjectId;

/// How many refusals `.status` remembers.
const REFUSALS: usize = 20;

/// At most so many bytes of texts that cannot be stored are held in memory.
const HELD: usize = 64 << 20;

/// A text that waits for room.
pub(super) struct Held {
    id: ObjectId,
    text: Vec<u8>,
    like: Attr,
}

/// Has a draft start from a file that is no revision.
pub(super) fn load_file(d: &mut Draft, text: Vec<u8>, attr: &Attr) {
    d.load(None, text, attr.mtime);
    (d.mode, d.owner) = (Some(attr.perm), Some((attr.uid, attr.gid)));
}

impl Fs {
    /// Refuses a draft's text, which is no object: it is kept, and the log and `.status` say so, once for each text.
    pub(super) fn refuse(&self, d: &mut Draft, why: &NotObject) -> Result<()> {
        if d.is_parked() {
            return Ok(());
        }
        let name = self.park(d)?;
        self.told_refused(&d.id, &name, why);
        d.set_parked(name);
        Ok(())
    }

    /// A text was refused and is kept under this name: that is told once.
    fn told_refused(&self, id: &ObjectId, name: &str, why: &NotObject) {
        const MANY: usize = 1024;
        let text = (id.clone(), name.to_owned());
        let mut told = self.told.lock();
        // What shows under a name may be another text each time.
        if name != NEW_NAME_FILE && told.contains(&text) {
            return;
        }
        if told.len() == MANY {
            told.pop_front();
        }
        told.push_back(text);
        drop(told);
        self.tell_refusal(format!("{id}: not a JSON object: {why}; the text is kept in .drafts"));
    }

    /// The log and `.status` tell of a text that was not saved.
    fn tell_refusal(&self, line: String) {
        Counts::add(&self.counts.refused);
        warn!("{line}");
        let mut refusals = self.refusals.lock();
        if refusals.len() == REFUSALS {
            refusals.remove(0);
        }
        refusals.push(line);
    }

    /// A whole text could not be stored: that is told, once as long as nothing else is.
    pub(super) fn not_stored(&self, id: &ObjectId, fail: &FsError, kept: Option<bool>) {
        let what = match kept {
            Some(true) => "; the text is kept in .drafts",
            Some(false) => "; the text is held in memory until there is room, then kept in .drafts",
            None => "",
        };
        let line = format!("{id}: not saved: {fail}{what}");
        if self.refusals.lock().last() != Some(&line) {
            self.tell_refusal(line);
        }
    }

    /// Fails a write that makes a text longer than could be stored: not every program looks at what close says.
    pub(super) fn assure_room(&self, d: &mut Draft, len: u64) -> Result<()> {
        if len <= d.assured {
            return Ok(());
        }
        let Ok(free) = self.statfs() else { return Ok(()) };
        let room = free.f_bavail.saturating_mul(free.f_frsize) / 2;
        let ample = (free.f_blocks == 0 || room >= len) && (free.f_files == 0 || free.f_favail > 1);
        let tried = match free.f_flag.contains(StatVfsMountFlags::RDONLY) {
            true => Err(Errno::ROFS),
            // What root may take beyond, and quotas, show when it is tried.
            false if !ample || self.full.load(Ordering::Relaxed) => self.backend.try_room(len),
            false => Ok(()),
        };
        match tried {
            // Others take of it, too.
            Ok(()) => d.assured = if ample { room.max(len) } else { len },
            Err(errno) => {
                let fail = FsError::Os(errno);
                self.not_stored(&d.id, &fail, None);
                return Err(fail);
            }
        }
        Ok(())
    }

    /// Keeps a text that could not be saved or kept, where there is room for it.
    pub(super) fn keep_unsaved(&self, d: &mut Draft, fail: &FsError) {
        if d.is_parked() {
            return;
        }
        let kept = self.park(d);
        self.not_stored(&d.id, fail, Some(kept.is_ok()));
        match kept {
            Ok(name) => d.set_parked(name),
            Err(_) => self.hold(&d.id, d.text(), self.unmasked_attr(d)),
        }
    }

    /// Holds a text in memory until there is room.
    fn hold(&self, id: &ObjectId, text: &[u8], like: Attr) {
        let mut held = self.held.lock();
        if held.iter().any(|held| held.id == *id && held.text == text) {
            return;
        }
        let size: usize = held.iter().map(|held| held.text.len()).sum();
        if size + text.len() > HELD {
            error!("{id}: a text of {} bytes is lost: nothing can be stored, and memory is full", text.len());
            return;
        }
        held.push(Held { id: id.clone(), text: text.to_vec(), like });
    }

    /// Keeps the texts that wait for room, if there is some now. `last`: what cannot be kept is lost.
    pub fn keep_held(&self, last: bool) {
        self.backend.reserve();
        let waiting = std::mem::take(&mut *self.held.lock());
        for held in waiting {
            match self.keep_text(&held.id, &kept_name(), &held.text, &held.like) {
                Ok(()) => warn!("{}: a text that could not be saved is kept in .drafts", held.id),
                Err(fail) if last => error!("{}: a text is lost that could not be saved: {fail}", held.id),
                Err(_) => self.held.lock().push(held),
            }
        }
    }

    pub(super) fn park_or_log(&self, d: &mut Draft) {
        match self.park(d) {
            Ok(name) => d.set_parked(name),
            Err(fail) => {
                error!("{}: cannot keep the unfinished text: {fail}", d.id);
                if !d.is_empty() {
                    self.hold(&d.id, d.text(), self.unmasked_attr(d));
                }
            }
        }
    }

    /// Puts a draft's text aside: as what its name shows where there was nothing, else in a file of its own. Returns the
    /// file's name.
    fn park(&self, d: &mut Draft) -> Result<String> {
        let like = self.unmasked_attr(d);
        let name = match d.is_new_name && !d.unlinked {
            // A name that holds nothing yet goes on to show that, whatever is refused.
            true if d.is_empty() || self.kept_fresh(&d.id)?.is_none() => NEW_NAME_FILE.to_owned(),
            _ => kept_name(),
        };
        let Some(synced) = d.synced.take() else {
            return self.keep_once(&d.id, name, d.text(), &like);
        };
        if name == NEW_NAME_FILE || synced.id != d.id {
            let kept = self.keep_once(&d.id, name, d.text(), &like)?;
            self.drop_synced(&synced);
            return Ok(kept);
        }
        // What was made durable of it becomes the whole.
        if let Some(same) = self.kept_as(&d.id, d.text(), &synced.name) {
            self.drop_synced(&synced);
            return Ok(same);
        }
        self.keep_text(&d.id, &synced.name, d.text(), &like)?;
        Ok(synced.name)
    }

    /// A text is no object that was to be moved onto an object's name. It is kept, and the name shows something: a program
    /// that has moved or removed the old file first (`mv -b`, `rsync -ab`) leaves the object where it was.
    pub(super) fn refuse_moved(&self, id: &ObjectId, text: &[u8], attr: &Attr, why: NotObject) -> FsError {
        let shows = || self.is_object(id).unwrap_or(true) || !matches!(self.fresh_draft(id), Ok(None));
        let vacant = self.was_deleted(id) && !shows();
        let name = if vacant { NEW_NAME_FILE.to_owned() } else { kept_name() };
        match self.keep_once(id, name, text, attr) {
            Ok(name) => self.told_refused(id, &name, &why),
            Err(fail) => self.not_stored(id, &fail, None),
        }
        let mut notices = self.notices();
        let mut t = self.nodes();
        if vacant || t.active_mut(id).hidden.take().is_some() {
            notices.push(Notice::Root);
            notices.extend(id.file_name().map(Notice::Entry));
        }
        drop(t);
        self.notify_kernel(notices);
        FsError::Store(Error::NotObject(why))
    }

    /// Keeps a text under `name`, unless the same is kept already.
    fn keep_once(&self, id: &ObjectId, name: String, text: &[u8], like: &Attr) -> Result<String> {
        if name != NEW_NAME_FILE
            && let Some(same) = self.kept_as(id, text, "")
        {
            return Ok(same);
        }
        if name == NEW_NAME_FILE
            && let Some((old, attr)) = self.kept_fresh(id)?
            && !old.is_empty()
            && old != text
        {
            // It was refused once, and nobody has it but us.
            self.keep_once(id, kept_name(), &old, &attr)?;
        }
        self.keep_text(id, &name, text, like)?;
        Ok(name)
    }

    fn keep_text(&self, id: &ObjectId, name: &str, text: &[u8], like: &Attr) -> Result<()> {
        const TRIES: usize = 100;
        let like = Attr { perm: like.perm & 0o777, atime: like.mtime, ..like.clone() };
        for _ in 0..TRIES {
            let dir = self.drafts_of(id, true)?.ok_or(FsError::NotFound)?;
            match scratch::replace(dir.as_fd(), OsStr::new(name), text, &like, false) {
                // The directory went with another text.
                Err(FsError::Os(Errno::NOENT)) => {}
                kept => return kept.map(drop),
            }
        }
        Err(FsError::Busy)
    }

    /// An object was closed to some: so are its texts that were refused.
    pub(super) fn close_kept(&self, id: &ObjectId, mode: u32) {
        let close = || -> Result<()> {
            let Some(dir) = self.drafts_of(id, false)? else { return Ok(()) };
            for (name, ..) in scratch::list(dir.as_fd())? {
                let file = ScratchNode::at(dir.as_fd(), &name)?;
                let perm = file.attr()?.perm;
                if perm & !mode & 0o044 != 0 {
                    let mode = Some(perm & (mode | 0o700));
                    file.change(&Change { mode, ..Change::default() }, None)?;
                }
            }
            Ok(())
        };
        if let Err(fail) = close() {
            warn!("{id}: cannot close its drafts to others: {fail}");
        }
    }

    /// The name under which an object's text is kept already, but for one.
    fn kept_as(&self, id: &ObjectId, text: &[u8], but: &str) -> Option<String> {
        let dir = self.drafts_of(id, false).ok()??;
        let same = |name: &OsStr| {
            let file = ScratchNode::at(dir.as_fd(), name).ok()?;
            (file.stat().ok()?.st_size as u64 == text.len() as u64).then_some(())?;
            (file.read_all(text.len() as u64).ok()? == text).then_some(())
        };
        let names = scratch::list(dir.as_fd()).ok()?.into_iter().map(|(name, _)| name);
        names.filter(|name| name != but && same(name).is_some()).find_map(|name| name.into_string().ok())
    }

    /// Makes the bytes of a text durable that is not whole.
    pub(super) fn keep_synced(&self, d: &mut Draft) -> Result<()> {
        let dir = self.drafts_of(&d.id, true)?.ok_or(FsError::NotFound)?;
        let mut synced = match d.synced.take() {
            Some(synced) => synced,
            None => {
                let (id, name) = (d.id.clone(), kept_name());
                let like = Attr { perm: d.mode.unwrap_or(0o644) & 0o777, ..self.unmasked_attr(d) };
                let file = scratch::replace(dir.as_fd(), OsStr::new(&name), b"", &like, false)?;
                Synced { id, file: file.open(OFlags::RDWR.bits() as i32)?, name, upto: 0 }
            }
        };
        let done = (|| {
            let from = synced.upto.min(d.text().len());
            synced.file.write_all_at(&d.text()[from..], from as u64)?;
            synced.file.set_len(d.len())?;
            synced.file.sync_all()
        })();
        synced.upto = if done.is_ok() { d.text().len() } else { 0 };
        (d.synced, d.awaited) = (Some(synced), true);
        done.map_err(scratch::os)?;
        Ok(rustix::fs::fsync(&dir)?)
    }

    /// The text went on and was saved, or is kept elsewhere.
    pub(super) fn drop_synced(&self, synced: &Synced) {
        let Ok(Some(dir)) = self.drafts_of(&synced.id, false) else { return };
        let there = scratch::key(dir.as_fd(), synced.name.as_ref()).ok();
        if there.is_some() && there == scratch::key(synced.file.as_fd(), "".as_ref()).ok() {
            let _ = rustix::fs::unlinkat(&dir, &synced.name, AtFlags::empty());
            self.drop_empty(&synced.id);
        }
    }

    fn drop_empty(&self, id: &ObjectId) {
        if let Ok(drafts) = self.drafts_root() {
            let _ = rustix::fs::unlinkat(drafts, id.as_os_str(), AtFlags::REMOVEDIR);
        }
    }

    /// A new name shows what is kept under it, and not what was refused since.
    pub(super) fn show_kept(&self, node: Ino, d: &mut Draft) {
        if let Ok(Some((text, attr))) = self.kept_fresh(&d.id)
            && (text != d.text() || attr.mtime != d.mtime())
        {
            load_file(d, text, &attr);
            d.set_parked(NEW_NAME_FILE.to_owned());
            self.notify_kernel(self.notices().with(Notice::Attr(node)));
        }
    }

    /// The directory of an object's kept texts.
    pub(super) fn drafts_of(&self, id: &ObjectId, make: bool) -> Result<Option<OwnedFd>> {
        const TRIES: usize = 100;
        let name = id.as_os_str();
        let Ok(drafts) = self.drafts_root() else {
            return if make { Err(FsError::NotFound) } else { Ok(None) };
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let opened = match make {
                true => self.backend.private_dir_in(drafts, name),
                false => rustix::fs::openat(drafts, name, flags, Mode::empty()),
            };
            match opened {
                Ok(dir) => return Ok(Some(dir)),
                // Another text of the object went at this moment, and the directory with it.
                Err(Errno::NOENT) if make => {}
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(FsError::Busy)
    }

    /// The text that a name shows though it is not an object, and its attributes.
    pub(super) fn kept_fresh(&self, id: &ObjectId) -> Result<Option<(Vec<u8>, Attr)>> {
        let Some(dir) = self.drafts_of(id, false)? else { return Ok(None) };
        match ScratchNode::at(dir.as_fd(), OsStr::new(NEW_NAME_FILE)) {
            Ok(file) => Ok(Some((file.read_all(self.options.max_size)?, file.attr()?))),
            Err(FsError::Os(Errno::NOENT)) => Ok(None),
            Err(fail) => Err(fail),
        }
    }

    /// The name became an object, or was removed: an empty text goes, any other is kept under another name.
    pub(super) fn discard_fresh(&self, id: &ObjectId) {
        self.unpark(id, NEW_NAME_FILE, b"");
    }

    /// A text that was put aside goes if `saved` begins with it: its writer went on (`exec 3> f; printf { >&3; …`). Of
    /// another, the name that it showed under ends.
    pub(super) fn unpark(&self, id: &ObjectId, name: &str, saved: &[u8]) {
        let drop = || -> Result<()> {
            let Some(dir) = self.drafts_of(id, false)? else { return Ok(()) };
            let text = match ScratchNode::at(dir.as_fd(), OsStr::new(name)) {
                Ok(file) => file.read_all(saved.len() as u64),
                Err(FsError::Os(Errno::NOENT)) => return Ok(()),
                Err(fail) => return Err(fail),
            };
            if text.is_ok_and(|text| saved.starts_with(&text)) {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
                self.drop_empty(id);
            } else if name == NEW_NAME_FILE {
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
