//! When a draft becomes a revision, and where its text goes when it cannot.
//!
//! Commits happen at flush, fsync and rename, before the reply, and the reply carries the error. What is not a JSON
//! object is refused and kept, see `parked`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backend::{Attrs, Durability};
use crate::base::Writer;
use crate::draft::{Draft, Verdict};
use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::errno::{FsError, Result};
use crate::fs::object::kept::NEW_NAME_FILE;
use crate::store::SaveOptions;

/// How long a whole text must not have changed to be published though programs have it open.
const RESTED: Duration = Duration::from_secs(1);

/// Who asks for a draft to be saved.
pub(in crate::fs) enum Asks<'a> {
    /// A descriptor is closed; whether the same open file goes on to be written by another one.
    Close(&'a dyn Fn(&Draft) -> bool),
    /// The bytes are to be durable. That is no moment to refuse a text: its program is not done with it.
    Sync,
    /// The text is to be what it is now.
    Now,
}

impl Fs {
    /// Publishes a draft if it is complete.
    ///
    /// # Errors
    /// `NotObject` where the text is not a JSON object: it was kept among the drafts.
    pub(in crate::fs) fn flush_draft(&self, node: Ino, d: &mut Draft, asks: Asks<'_>) -> Result<()> {
        if d.unlinked {
            return Ok(());
        }
        let how = if matches!(asks, Asks::Sync) { Durability::Full } else { self.durability() };
        match (d.verdict(), asks) {
            (Verdict::Nothing, asks) => {
                self.note_emptied(d);
                self.flush_attrs(d)?;
                // Perhaps another descriptor has saved it, at its close.
                let is = d.published.as_ref().map(|(rev, _)| rev).or(d.base.as_ref());
                match (asks, d.is_dirty(), is) {
                    (Asks::Sync, false, Some(rev)) => self.sync_revision(&d.id, rev),
                    _ => Ok(()),
                }
            }
            (Verdict::Publish, _) => self.save_draft(node, d, how),
            (Verdict::Refuse(_), Asks::Sync) => {
                let _saving = self.saving(node, d);
                self.keep_synced(d)
            }
            (Verdict::Refuse(_), Asks::Close(goes_on)) if goes_on(d) => Ok(()),
            (Verdict::Refuse(why), _) => {
                let _saving = self.saving(node, d);
                self.refuse(d, &why)?;
                // The object goes on to be what it was.
                if let Some(active) = self.nodes().active.get_mut(&d.id) {
                    active.emptied = None;
                }
                Err(FsError::Store(Error::NotObject(why)))
            }
        }
    }

    /// Publishes a draft whose last change has made it whole, if somebody waits for that. Where that fails its bytes are
    /// written all the same; the failure is that of the next fsync or close.
    pub(in crate::fs) fn commit_awaited(&self, node: Ino, d: &mut Draft) {
        if !d.awaited || d.unlinked || !d.may_be_whole() || d.verdict() != Verdict::Publish {
            return;
        }
        let how = if d.synced.is_some() { Durability::Full } else { self.durability() };
        if let Err(fail) = self.save_draft(node, d, how) {
            self.not_stored(&d.id, &fail, None);
        }
    }

    /// Publishes what is whole and has not changed for a while, though programs have it open still: on a disk others would
    /// see it.
    pub fn publish_rested(&self) {
        let Some(since) = Instant::now().checked_sub(RESTED) else { return };
        let written = std::mem::take(&mut *self.written.lock());
        for (node, draft) in written {
            let Some(shared) = draft.upgrade() else { continue };
            let mut d = shared.lock();
            if !d.is_dirty() || d.unlinked || self.node_of(node).is_none_or(|now| !Arc::ptr_eq(&now, &shared))
            {
                d.listed = false;
                continue;
            }
            if d.rested(since)
                && d.verdict() == Verdict::Publish
                && let Err(fail) = self.save_draft(node, &mut d, self.durability())
            {
                self.not_stored(&d.id, &fail, None);
                d.set_unjudged();
            }
            drop(d);
            self.written.lock().push((node, draft));
        }
    }

    /// A draft has been changed that was not before: it is looked at until it is saved.
    pub(in crate::fs) fn note_written(&self, node: Ino, draft: &Arc<Mutex<Draft>>, d: &mut Draft) {
        if !std::mem::replace(&mut d.listed, true) {
            self.written.lock().push((node, Arc::downgrade(draft)));
        }
    }

    /// The last handle is gone: publishes what is complete, keeps what is not.
    pub(in crate::fs) fn finish_draft(&self, node: Ino, d: &mut Draft) {
        if d.unlinked {
            // The name was removed while the text was written: on a disk it would be no more. It is kept all the same.
            if d.is_dirty() && !d.is_empty() && !d.is_parked() {
                self.park_or_log(d);
            }
            return;
        }
        match d.verdict() {
            Verdict::Publish => {
                match self.save_draft(node, d, self.durability()) {
                    // Programs had the event of the close before there was anything to see.
                    Ok(()) => self.replay.tell_again(&d.id),
                    Err(fail) => self.keep_unsaved(d, &fail),
                }
            }
            Verdict::Refuse(why) => {
                if let Err(fail) = self.refuse(d, &why) {
                    self.keep_unsaved(d, &fail);
                }
            }
            Verdict::Nothing if d.is_new_name && d.published.is_none() && !d.is_parked() => {
                self.park_or_log(d)
            }
            Verdict::Nothing => self.note_emptied(d),
        }
        if let Some(synced) = d.synced.take() {
            // Its writer has emptied it since.
            self.drop_synced(&synced);
        }
        if d.is_new_name {
            self.show_kept(node, d);
        }
    }

    /// Whoever appends next starts from nothing (`: > f; echo … >> f`), unless others save before. The file's release may
    /// come after that.
    fn note_emptied(&self, d: &mut Draft) {
        if d.is_new_name || !d.is_dirty() || !d.is_empty() {
            return;
        }
        if let Some(rev) = d.emptied.take() {
            self.nodes().active_mut(&d.id).emptied = Some((Instant::now(), rev));
        }
    }

    /// Makes a draft's text the object's next revision.
    fn save_draft(&self, node: Ino, d: &mut Draft, how: Durability) -> Result<()> {
        let _saving = self.saving(node, d);
        // What is kept on the disk of it goes when it has its name.
        let how = if d.synced.is_some() || d.is_parked() { how.max(Durability::Ordered) } else { how };
        let options = SaveOptions { how, ..self.save_options(d.attrs()) };
        if let (Some(opener), Some(base)) = (&d.opener, d.goes_on_from()) {
            self.memory.goes_on(opener, &d.id, base);
        }
        // A child that ends closes its copies of descriptors, and a draft is saved then that it has moved, perhaps.
        let writers: Vec<Writer> = d.opener.iter().chain(&d.closer).cloned().map(Writer::from).collect();
        let evidence = self.memory.evidence(&writers, &d.id);
        let saved = self.save_by(d.opener.as_ref(), &d.id, d.text(), &evidence, &options);
        self.full.store(matches!(&saved, Err(FsError::Store(e)) if e.is_no_room()), Ordering::Relaxed);
        let saved = saved?;
        if let Some(synced) = d.synced.take() {
            self.drop_synced(&synced);
        }
        for name in d.take_parked() {
            self.unpark(&d.id, &name, d.text());
        }
        if d.is_new_name {
            self.unpark(&d.id, NEW_NAME_FILE, d.text());
            d.is_new_name = false;
            let mut t = self.nodes();
            let open = t.is_open(node);
            let active = t.active_mut(&d.id);
            active.new_draft = None;
            if open {
                active.drafts.push((node, d.opener.clone()));
            }
            t.leave(&d.id, node);
        }
        if d.nameless {
            self.replay.tell_again(&d.id);
        }
        if self.nodes().current_node(&d.id) != Some(node) {
            self.replay_home(&d.id);
        }
        let shown_rev = saved.as_given().cloned();
        d.set_published(saved.rev, saved.meta, shown_rev, !saved.altered);
        Ok(())
    }

    /// `touch` and `chmod` of an open file that nobody wrote to: its revision gets what was set.
    fn flush_attrs(&self, d: &mut Draft) -> Result<()> {
        if d.is_dirty() || d.is_new_name || !d.take_attrs_set() {
            return Ok(());
        }
        let rev = match &d.published {
            Some((rev, _)) => rev.clone(),
            None => match self.shown_rev(&d.id) {
                Some(rev) => rev,
                None => return Ok(()),
            },
        };
        match self.store.backend().set_attrs(&d.id, &rev, &d.attrs()) {
            Ok(meta) => self.attrs_changed(&d.id, &rev, meta),
            // Others have removed it.
            Err(Error::NoObject(_) | Error::NoRevision(..)) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Sets attributes of a draft; of one that is published already, of its revision too.
    pub(in crate::fs) fn set_draft_attrs(&self, d: &mut Draft, attrs: &Attrs) -> Result<()> {
        d.set_attrs(attrs);
        if d.published.is_some() { self.flush_attrs(d) } else { Ok(()) }
    }
}
