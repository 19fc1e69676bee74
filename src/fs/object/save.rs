//! Saving: the one way from a text to a revision that the name shows.

use std::sync::Arc;

use log::{info, warn};

use crate::backend::{Attrs, Durability, Meta};
use crate::base::{Evidence, Process};
use crate::document;
use crate::error::Error;
use crate::fs::errno::Result;
use crate::fs::node::{Node, Notice, Shown};
use crate::fs::replay::Publishing;
use crate::fs::{Counts, Fs};
use crate::rev::{ObjectId, Rev};
use crate::store::{Epoch, Outcome, SaveOptions, Saved};

/// What held when a save began.
pub(in crate::fs) struct Before<'a> {
    change: Publishing<'a>,
    epoch: Epoch,
    /// What the name showed, and whether that was known to be right.
    shown: Option<Arc<Shown>>,
    was_valid: bool,
}

impl Fs {
    /// How this mount saves a text that is to look like `attrs` and is taken from a file that goes: the disk may have it there.
    pub(in crate::fs) fn save_options(&self, attrs: Attrs) -> SaveOptions {
        let how = self.durability().max(Durability::Ordered);
        SaveOptions { attrs, how, on_stale: self.options.on_stale }
    }

    /// Saves a text under the rules of this mount and makes the object's name show it. `writer`: who saves it, if that can be
    /// told; `evidence`: what is known of who wrote the text.
    pub(in crate::fs) fn save_by(
        &self,
        writer: Option<&Process>,
        id: &ObjectId,
        given: &[u8],
        evidence: &Evidence,
        options: &SaveOptions,
    ) -> Result<Saved> {
        let before = self.before(id);
        let op = {
            let t = self.nodes();
            let recent = t.deleted(id).filter(|deleted| deleted.since.elapsed() < self.options.grace);
            recent.map(|deleted| deleted.op.clone())
        };
        let plain = self.without_view(id, given);
        let text = plain.as_deref().unwrap_or(given);
        let promoted = writer.and_then(|writer| self.promoted(writer, id, text));
        let saved = match (promoted, op) {
            (Some(rev), _) => self.store.promote(id, &rev, options),
            // unlink and create: one update (mv from another file system, install, git checkout).
            (None, Some(op)) => match self.store.revive(id, &op, text, evidence, options) {
                Err(Error::NoObject(_) | Error::Exists(_)) => self.store.save(id, text, evidence, options),
                other => other,
            },
            (None, None) => self.store.save(id, text, evidence, options),
        };
        let saved = saved.inspect_err(|_| self.not_saved(id))?;
        let same = saved.outcome == Outcome::Same && options.how == Durability::Ordered;
        if same && self.backend.is_any_unsynced().unwrap_or(true) {
            // Perhaps nobody has waited for it, and where the text was taken from it goes.
            self.sync_revision(id, &saved.rev)?;
        }
        self.saved(writer, id, given, &saved, before);
        Ok(saved)
    }

    /// Makes what was saved durable, whoever did that.
    pub(in crate::fs) fn sync_revision(&self, id: &ObjectId, rev: &Rev) -> Result<()> {
        match self.store.backend().sync(id, rev) {
            // Others have removed it.
            Err(Error::NoObject(_) | Error::NoRevision(..)) => Ok(()),
            synced => Ok(synced?),
        }
    }

    /// A save begins.
    pub(in crate::fs) fn before(&self, id: &ObjectId) -> Before<'_> {
        let change = self.replay.begin(id);
        let mut t = self.nodes();
        t.object(id);
        let (epoch, was_valid) = (t.changes.epoch(id), t.is_valid(id));
        Before { change, epoch, shown: t.current_shown(id).cloned(), was_valid }
    }

    /// A save failed. It may have got as far as to publish the revision, whose sign was then taken for that of a save that
    /// succeeds.
    pub(in crate::fs) fn not_saved(&self, id: &ObjectId) {
        let mut notices = self.notices();
        self.nodes().invalidate(id, &mut notices);
        self.notify_kernel(notices);
        self.replay.tell_again(id);
    }

    /// The object's name shows what was `saved`, and `writer` has seen it.
    pub(in crate::fs) fn saved(
        &self,
        writer: Option<&Process>,
        id: &ObjectId,
        given: &[u8],
        saved: &Saved,
        before: Before<'_>,
    ) {
        if let Some(writer) = writer {
            self.memory.saved(writer, id, &saved.rev, saved.own(given, self.options.on_stale));
        }
        match saved.outcome {
            Outcome::Same => {}
            Outcome::Merge => {
                Counts::add(&self.counts.merges);
                info!("{id}: merged with a newer revision into {}", saved.rev);
            }
            Outcome::Overlap | Outcome::Stale => {
                Counts::add(&self.counts.conflicts);
                warn!("{id}: in conflict, {} wins; see .conflicts/{id}", saved.rev);
            }
            Outcome::Update | Outcome::Restore | Outcome::Created => {}
        }
        if saved.outcome != Outcome::Same {
            Counts::add(&self.counts.revisions);
        }
        let mut notices = self.notices();
        let mut t = self.nodes();
        let new = t.current_node(id).is_none();
        // After a sign of change this may not be the newest any more, and what the name shows may have been found since.
        let epoch = t.changes.epoch(id);
        let same =
            before.shown.as_ref().zip(t.current_shown(id)).is_some_and(|(then, now)| Arc::ptr_eq(then, now));
        let unchanged = same && before.epoch.is_same_for_others(epoch) && !self.options.object_view;
        if let Some(active) = t.active.get_mut(id) {
            active.end_waits();
        }
        if unchanged {
            t.show(id, saved.rev.clone(), saved.meta.clone(), &mut notices);
            if before.was_valid && self.store.changes().is_last_published(id, &saved.rev) {
                t.object(id).validated_at = Some(epoch);
            }
        } else if !t.shows(id, &saved.rev) {
            t.invalidate(id, &mut notices);
        }
        let left = !t.stale_nodes(id).is_empty() || t.is_in_place_of_another(id, writer);
        drop(t);
        // The tables first: until it is made, signs of it wait.
        before.change.made(Some(&saved.rev));
        if new {
            notices.push(Notice::Root);
        }
        self.notify_kernel(notices);
        if left {
            self.replay.left_behind(id);
        }
    }

    /// An object's home node shows what a program has saved by another one. If the kernel knows the home node, that may be
    /// watched: who does is told what a writer's close would tell.
    pub(in crate::fs) fn replay_home(&self, id: &ObjectId) {
        let mut t = self.nodes();
        let current = t.current_node(id);
        let held = current.and_then(|current| t.nodes.get_mut(&current)).filter(|entry| entry.lookups > 0);
        if let Some(entry) = held {
            entry.saved_elsewhere = true;
            drop(t);
            self.replay.left_behind(id);
        }
    }

    /// Under `-o view=object` a text that only carries the stamps it was shown with is the revision itself.
    fn without_view(&self, id: &ObjectId, text: &[u8]) -> Option<Vec<u8>> {
        if !self.options.object_view {
            return None;
        }
        let object = self.store.winner(id).ok()?;
        let view = document::object_view(&object.text, &id.to_text(), object.rev.as_str());
        document::same(text, &view).then_some(object.text)
    }

    /// The revision that a process has opened in `.conflicts/<id>` and now saves as it is: it puts that one in force
    /// (`cp .conflicts/x/R x.json`, and `cat` as well).
    fn promoted(&self, by: &Process, id: &ObjectId, text: &[u8]) -> Option<Rev> {
        let picked = self.memory.picked(by, id).into_iter();
        let live = |rev: &Rev| self.store.backend().read(id, rev).is_ok_and(|(bytes, _)| bytes == text);
        let conflicts = || self.store.conflicts(id).unwrap_or_default();
        picked.into_iter().find(live).filter(|rev| conflicts().iter().any(|group| group.contains(rev)))
    }

    /// A revision's file has other attributes now.
    pub(in crate::fs) fn attrs_changed(&self, id: &ObjectId, rev: &Rev, meta: Meta) {
        self.close_kept(id, meta.mode);
        let mut notices = self.notices();
        let mut t = self.nodes();
        let current = t.current_node(id);
        if let Some(current) = current
            && let Some(entry) = t.nodes.get_mut(&current)
            && let Node::Revision(shown) = &mut entry.node
            && shown.rev == *rev
        {
            // `-o view=object` shows another size.
            let shown = Arc::make_mut(shown);
            shown.meta = Meta { size: shown.meta.size, ..meta };
            t.doubt_attr(current, &mut notices);
        }
        drop(t);
        self.notify_kernel(notices);
    }
}
