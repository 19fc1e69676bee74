//! A new name that holds no object yet is moved.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FileType;

use crate::document::{self, NotObject};
use crate::draft::{Draft, Verdict};
use crate::fs::attr::Ino;
use crate::fs::errno::Result;
use crate::fs::node::Notice;
use crate::fs::object::commit::Asks;
use crate::fs::rename::drafts::sync_moved;
use crate::fs::rename::end::Flags;
use crate::fs::scratch::Dir;
use crate::fs::{Fs, scratch};
use crate::rev::ObjectId;

impl Fs {
    /// A text that was no object yet moves to a scratch name.
    pub(super) fn fresh_to_scratch(
        &self,
        id: &ObjectId,
        draft: &Arc<Mutex<Draft>>,
        (parent, dir): (Ino, &Dir),
        name: &OsStr,
        flags: Flags,
    ) -> Result<()> {
        let mut d = draft.lock();
        let like = self.draft_attr(&d);
        let scratch = scratch::replace(dir.as_fd(), name, d.text(), &like, flags.no_replace)?;
        if d.synced.is_some() {
            sync_moved(&scratch, dir)?;
        }
        let scratch = Arc::new(scratch.into_cached(dir, name, FileType::RegularFile));
        let node = self.nodes().active_mut(id).new_draft.take();
        scratch.enlist();
        match node {
            Some(node) => self.move_drafts(vec![(vec![node], d)], &scratch),
            None => d.unlinked = true,
        }
        self.discard_fresh(id);
        self.notify_kernel(self.notices().with(Notice::Root).with(Notice::EntryIn(parent, name.to_owned())));
        Ok(())
    }

    /// A text that was no object yet moves to another name.
    pub(super) fn fresh_to_object(
        &self,
        from: &ObjectId,
        draft: &Arc<Mutex<Draft>>,
        to: &ObjectId,
    ) -> Result<()> {
        let over = self.is_object(to)?;
        if !over {
            self.unlink_fresh(to)?;
        }
        let mut d = draft.lock();
        let node = self.nodes().new_draft(from);
        if over && !(d.is_empty() && d.is_dirty()) {
            // Over an object only an object, or what its writer has not finished.
            let open = node.is_some_and(|node| self.nodes().is_open(node));
            match document::check(document::strip_bom(d.text())) {
                Err(NotObject::Incomplete) if open => d.awaited = true,
                checked => {
                    let attr = self.unmasked_attr(&d);
                    checked.map_err(|why| self.refuse_moved(to, d.text(), &attr, why))?;
                }
            }
        }
        self.discard_fresh(from);
        let opener = d.opener.clone();
        {
            let mut t = self.nodes();
            t.active_mut(from).new_draft = None;
            if let Some(node) = node {
                match over {
                    true => t.active_mut(to).drafts.push((node, opener)),
                    false => t.active_mut(to).new_draft = Some(node),
                }
            }
        }
        d.rename(to.clone());
        d.is_new_name = !over;
        let node = node.unwrap_or(0);
        let result = self.flush_draft(
            node,
            &mut d,
            Asks::Close(&|d| matches!(d.verdict(), Verdict::Refuse(_)) && self.nodes().is_open(node)),
        );
        if !self.nodes().is_open(node) {
            self.finish_draft(node, &mut d);
            self.nodes().drop_draft(to, node);
        }
        // A text that is no object may have a new name, too.
        if over { result } else { Ok(()) }
    }
}
