//! Drafts of objects: how they begin, whose they are, and which of them a process goes on with.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::Process;
use crate::draft::Draft;
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::Node;
use crate::rev::{ObjectId, Rev};

impl Fs {
    /// A draft that starts from what the object shows, or from nothing.
    pub(in crate::fs) fn new_draft(&self, caller: Caller, id: &ObjectId, truncate: bool) -> Result<Draft> {
        let mut draft = Draft::new(id.clone(), self.process(caller));
        draft.set_share(self.memory_budget.share(caller.uid, 0));
        match self.shown(id, !truncate) {
            Ok((_, shown, text)) => {
                let emptied = self.is_emptied(id, &shown.rev);
                draft.mode = Some(shown.meta.mode);
                draft.owner = Some((shown.meta.uid, shown.meta.gid));
                if !truncate && !emptied {
                    draft.load(Some(shown.rev.clone()), text, shown.meta.mtime);
                } else {
                    draft.load_emptied(shown.rev.clone());
                }
            }
            // Deleted by others at this moment: the program's one retry is needed for the draft, which makes it anew.
            Err(FsError::NotFound) => draft.owner = self.owner_for(caller),
            Err(fail) => return Err(fail),
        }
        Ok(draft)
    }

    /// Whether the object was truncated to nothing a moment ago, and nobody has saved since: its name shows `rev`. (The
    /// kernel may forget the node that does at any moment.)
    fn is_emptied(&self, id: &ObjectId, rev: &Rev) -> bool {
        let t = self.nodes();
        let emptied = t.active.get(id).and_then(|active| active.emptied.as_ref());
        emptied.is_some_and(|(t0, was)| t0.elapsed() < self.options.grace && was == rev)
    }

    /// The draft of an object that a process has open, if what it opens now goes on with it.
    pub(in crate::fs) fn draft_of(&self, by: Option<Process>, id: &ObjectId) -> Option<Ino> {
        by.as_ref()?;
        let drafts = self.drafts_by(id, |opener| *opener == by);
        if drafts.is_empty() {
            return None;
        }
        // What was emptied since goes on from nothing, unless something was written that is nowhere else.
        let emptied = self.shown_rev(id).is_some_and(|rev| self.is_emptied(id, &rev));
        // The latest first; asked with its lock, for it may be in the middle of a save.
        let goes_on = |d: &Draft| {
            if emptied { d.is_dirty() || d.is_empty() } else { d.is_continuation(|| self.shown_rev(id)) }
        };
        let shared = drafts.into_iter().rev().find(|(_, draft)| goes_on(&draft.lock()));
        shared.map(|(node, _)| node)
    }

    /// A draft that nobody has open starts from what the object shows now. It may have been made a while ago, for a thread
    /// that never came.
    pub(in crate::fs) fn renew(&self, caller: Caller, d: &mut Draft) -> Result<()> {
        if d.is_dirty() || d.is_new_name || d.unlinked {
            return Ok(());
        }
        let rev = match self.shown(&d.id, false) {
            Ok((_, shown, _)) => shown.rev.clone(),
            Err(FsError::NotFound) if d.published.is_none() => return Ok(()),
            Err(fail) => return Err(fail),
        };
        if d.published.is_some() || d.base.as_ref() != Some(&rev) {
            *d = self.new_draft(caller, &d.id, false)?;
        }
        Ok(())
    }

    /// A program that only appends, and has not written yet, goes on from what others have put there since it opened: on a
    /// disk it writes behind that.
    pub(in crate::fs) fn catch_up(&self, d: &mut Draft) -> Result<()> {
        if d.is_dirty() || d.is_new_name || d.unlinked || d.is_empty() {
            return Ok(());
        }
        match self.shown(&d.id, true) {
            Ok((_, shown, text)) if d.base.as_ref() != Some(&shown.rev) => {
                d.load(Some(shown.rev.clone()), text, shown.meta.mtime);
                d.pages_differ = true;
                Ok(())
            }
            Ok(_) | Err(FsError::NotFound) => Ok(()),
            Err(fail) => Err(fail),
        }
    }

    /// A daemon that runs as root makes objects for others. In a set-group-id store they have its group.
    pub(in crate::fs) fn owner_for(&self, caller: Caller) -> Option<(u32, u32)> {
        let group = || {
            let store = rustix::fs::fstat(self.backend.root()).ok()?;
            (store.st_mode & 0o2000 != 0).then_some(store.st_gid)
        };
        rustix::process::geteuid().is_root().then(|| (caller.uid, group().unwrap_or(caller.gid)))
    }

    /// The drafts of an object that processes for which `opened` holds have open, in the order in which they were.
    pub(in crate::fs) fn drafts_by(
        &self,
        id: &ObjectId,
        opened: impl Fn(&Option<Process>) -> bool,
    ) -> Vec<(Ino, Arc<Mutex<Draft>>)> {
        let t = self.nodes();
        let nodes = t.drafts(id);
        let drafts = nodes.iter().filter(|(_, opener)| opened(opener)).filter_map(|(node, _)| {
            let Some(Node::Draft(draft)) = t.node(*node) else { return None };
            Some((*node, draft.clone()))
        });
        drafts.collect()
    }

    /// The drafts of an object that programs have open.
    pub(in crate::fs) fn open_drafts(&self, id: &ObjectId) -> Vec<Arc<Mutex<Draft>>> {
        self.drafts_by(id, |_| true).into_iter().map(|(_, draft)| draft).collect()
    }
}
