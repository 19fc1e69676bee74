//! Objects' names go.

use std::time::Instant;

use crate::fs::Fs;
use crate::fs::errno::{FsError, Result};
use crate::fs::node::Notice;
use crate::fs::table::Deleted;
use crate::rev::ObjectId;

impl Fs {
    pub(in crate::fs) fn unlink_object(&self, id: &ObjectId) -> Result<()> {
        match self.resolve(id) {
            Ok(_) => {}
            Err(FsError::NotFound) => {
                if !self.unlink_fresh(id)? {
                    return Err(FsError::NotFound);
                }
                self.notify_kernel(self.notices().with(Notice::Root));
                return Ok(());
            }
            Err(fail) => return Err(fail),
        }
        self.delete(id, None)
    }

    /// Removes the draft that a name shows where there is no object. Whether there was one.
    pub(in crate::fs) fn unlink_fresh(&self, id: &ObjectId) -> Result<bool> {
        let Some((_, draft)) = self.fresh_draft(id)? else { return Ok(false) };
        draft.lock().unlinked = true;
        self.nodes().active_mut(id).new_draft = None;
        self.discard_fresh(id);
        Ok(true)
    }

    /// Deletes an object for everybody; programs that write it go on writing a file without a name. `into`: it was a temporary
    /// file, whose text has become that object's.
    pub(in crate::fs) fn delete(&self, id: &ObjectId, into: Option<&ObjectId>) -> Result<()> {
        let drafts = self.open_drafts(id);
        let mark = |unlinked| drafts.iter().for_each(|draft| draft.lock().unlinked = unlinked);
        // First, for a commit that is under way (a child that was forked closes its copy of a descriptor) would make the
        // object anew after it was deleted.
        mark(true);
        let change = self.replay.begin(id);
        let passed = into.map_or(Ok(false), |into| self.store.pass_on(id, into));
        let op = match passed.inspect_err(|_| mark(false))? {
            true => None,
            false => Some(self.store.delete(id).inspect_err(|_| mark(false))?),
        };
        change.made(None);
        let mut notices = self.notices().with(Notice::Root);
        let mut t = self.nodes();
        t.hide(id, &mut notices);
        t.changes.doubt(id);
        let active = t.active_mut(id);
        // What is written into them is no text of this name's next file.
        active.drafts.clear();
        active.end_waits();
        active.deleted = op.map(|op| Deleted { since: Instant::now(), op });
        drop(t);
        self.notify_kernel(notices);
        self.replay.left_behind(id);
        Ok(())
    }
}
