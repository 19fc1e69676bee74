//! Texts that are no revisions: refused ones and unfinished ones are kept in `.revfs/drafts/<id>/`, each in a file of its
//! own. A new name that holds nothing yet, or refused text, is kept as `new` and shows under its name.

use std::sync::atomic::Ordering;

use log::{error, warn};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use crate::document::NotObject;
use crate::draft::Draft;
use crate::error::Error;
use crate::fs::attr::{Attr, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::Notice;
use crate::fs::object::kept::{NEW_NAME_FILE, kept_name, load_file};
use crate::fs::{Counts, Fs};
use crate::rev::ObjectId;

/// How many refusals `.status` remembers.
const REFUSALS: usize = 20;

/// At most so many bytes of texts that cannot be stored are held in memory.
const HELD: usize = 64 << 20;

/// A text that waits for room.
pub(in crate::fs) struct Held {
    id: ObjectId,
    text: Vec<u8>,
    like: Attr,
}

impl Fs {
    /// Refuses a draft's text, which is no object: it is kept, and the log and `.status` say so, once for each text.
    pub(in crate::fs) fn refuse(&self, d: &mut Draft, why: &NotObject) -> Result<()> {
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
    pub(in crate::fs) fn not_stored(&self, id: &ObjectId, fail: &FsError, kept: Option<bool>) {
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
    pub(in crate::fs) fn assure_room(&self, d: &mut Draft, len: u64) -> Result<()> {
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
    pub(in crate::fs) fn keep_unsaved(&self, d: &mut Draft, fail: &FsError) {
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

    pub(in crate::fs) fn park_or_log(&self, d: &mut Draft) {
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
    pub(in crate::fs) fn refuse_moved(
        &self,
        id: &ObjectId,
        text: &[u8],
        attr: &Attr,
        why: NotObject,
    ) -> FsError {
        let shows = self.is_object(id).unwrap_or(true) || !matches!(self.fresh_draft(id), Ok(None));
        let vacant = self.was_deleted(id) && !shows;
        let name = if vacant { NEW_NAME_FILE.to_owned() } else { kept_name() };
        match self.keep_once(id, name, text, attr) {
            Ok(name) => self.told_refused(id, &name, &why),
            Err(fail) => self.not_stored(id, &fail, None),
        }
        let mut notices = self.notices();
        let mut t = self.nodes();
        // What was made anew there stays what the name shows.
        if vacant || !shows && t.active_mut(id).hidden.take().is_some() {
            notices.push(Notice::Root);
            notices.extend(id.file_name().map(Notice::Entry));
        }
        drop(t);
        self.notify_kernel(notices);
        FsError::Store(Error::NotObject(why))
    }

    /// A new name shows what is kept under it, and not what was refused since.
    pub(in crate::fs) fn show_kept(&self, node: Ino, d: &mut Draft) {
        if let Ok(Some((text, attr))) = self.kept_fresh(&d.id)
            && (text != d.text() || attr.mtime != d.mtime())
        {
            load_file(d, text, &attr);
            d.set_parked(NEW_NAME_FILE.to_owned());
            self.notify_kernel(self.notices().with(Notice::Attr(node)));
        }
    }

    pub(in crate::fs) fn was_deleted(&self, id: &ObjectId) -> bool {
        self.nodes().deleted(id).is_some_and(|d| d.since.elapsed() < self.options.grace)
    }
}
