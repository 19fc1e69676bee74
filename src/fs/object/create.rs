//! Creating objects' files.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::draft::Draft;
use crate::fs::Fs;
use crate::fs::attr::{Caller, Found, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::handle::{Mode, Opened};
use crate::fs::node::{Node, Notice};
use crate::rev::ObjectId;

impl Fs {
    pub(in crate::fs) fn create_object(
        &self,
        caller: Caller,
        id: &ObjectId,
        perm: u32,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        if !id.has_file_name() {
            return Err(FsError::NameTooLong);
        }
        let there = match self.resolve(id) {
            Ok(_) if mode.exclusive() => return Err(FsError::Exists),
            Ok(_) => true,
            Err(FsError::NotFound) => false,
            Err(fail) => return Err(fail),
        };
        // A name that was renamed away is made anew: it is empty until it is written, and the history goes on then (vim,
        // `mv x x~; cp x~ x`).
        let fresh = if there { None } else { self.fresh_draft(id)? };
        if let Some((node, draft)) = fresh {
            if mode.exclusive() {
                return Err(FsError::Exists);
            }
            match self.open_held(caller, node, draft, mode) {
                // Gone at this moment, or an object now.
                Err(FsError::Stale) => return self.create_object(caller, id, perm, mode),
                opened => return opened,
            }
        }
        let mut draft = match there {
            // It came a moment ago.
            true => self.new_draft(caller, id, mode.truncate)?,
            false => Draft::new(id.clone(), self.process(caller)),
        };
        if !there {
            (draft.mode, draft.owner) = (Some(perm & 0o7777), self.owner_for(caller));
            draft.is_new_name = true;
        }
        draft.set_share(self.memory_budget.share(caller.uid, 0));
        let draft = Arc::new(Mutex::new(draft));
        let mut t = self.nodes();
        let node = t.add(Node::Draft(draft.clone()));
        if !there {
            t.active_mut(id).new_draft = Some(node);
        }
        drop(t);
        if !there {
            self.notify_kernel(self.notices().with(Notice::Root));
        }
        self.open_held(caller, node, draft, mode)
    }

    /// Opens a draft that the kernel has not looked up: it gets a reference with the handle.
    fn open_held(
        &self,
        caller: Caller,
        node: Ino,
        draft: Arc<Mutex<Draft>>,
        mode: Mode,
    ) -> Result<(Found, Opened)> {
        let found = self.hold_draft(node, &draft)?;
        match self.open_draft(caller, node, draft, mode).and_then(|opened| opened.ok_or(FsError::Stale)) {
            Ok(opened) => Ok((found, opened)),
            Err(fail) => {
                self.forget(node, 1);
                Err(fail)
            }
        }
    }
}
