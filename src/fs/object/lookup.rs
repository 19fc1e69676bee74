//! Lookups of objects' names.

use parking_lot::Mutex;

use crate::draft::Draft;
use crate::fs::Fs;
use crate::fs::attr::{BRIEF, Caller, Found, Ino, LONG, NOW};
use crate::fs::errno::{FsError, Result};
use crate::fs::node::Node;
use crate::fs::object::shown::SHOWN_TRIES;
use crate::rev::ObjectId;

impl Fs {
    pub(in crate::fs) fn lookup_object(&self, caller: Caller, id: &ObjectId) -> Result<Found> {
        if !id.has_file_name() {
            return Err(FsError::NameTooLong);
        }
        let pending = self.nodes().retries.announced(caller.thread, id);
        if let Some(node) = pending
            && let Ok(Node::Draft(draft)) = self.node(node)
            && let Ok(found) = self.hold_draft(node, &draft)
        {
            return Ok(found);
        }
        if let Some(found) = self.hold_own(caller, id) {
            return Ok(found);
        }
        // A node may be replaced before it is held. That must not cost the program one of its two tries.
        for _ in 0..SHOWN_TRIES {
            match self.hold_name(id) {
                Err(FsError::Stale) => {}
                Ok(found) => return Ok(self.nodes().as_linked(id, found)),
                Err(fail) => {
                    let fresh = match fail {
                        FsError::NotFound => self.fresh_draft(id)?,
                        _ => None,
                    };
                    match fresh.map(|(node, draft)| self.hold_draft(node, &draft)) {
                        Some(Err(FsError::Stale)) => {}
                        Some(held) => return held,
                        None => {
                            self.nodes().retries.miss(caller.thread, id);
                            return Err(fail);
                        }
                    }
                }
            }
        }
        Err(FsError::Busy)
    }

    /// The draft that the caller, or a process above it, writes, as what it is to it: with the size and the times that it has
    /// come to. Who has no descriptor of it and opens it is sent on to what the name shows.
    fn hold_own(&self, caller: Caller, id: &ObjectId) -> Option<Found> {
        {
            let mut t = self.nodes();
            if t.retries.lead(caller.thread, id) {
                return None;
            }
            if t.drafts(id).is_empty() {
                return None;
            }
        }
        let process = self.process(caller)?;
        let own = self.drafts_by(id, |opener| opener.as_ref().is_some_and(|opener| process.is_of(opener)));
        let (node, draft) =
            own.into_iter().rev().find(|(_, draft)| draft.try_lock().is_some_and(|d| d.is_ahead()))?;
        self.hold_draft(node, &draft).ok()
    }

    /// Counts the kernel's reference to the node that an object's name shows, and answers with it. `Stale` where that was
    /// replaced before it was held.
    fn hold_name(&self, id: &ObjectId) -> Result<Found> {
        let current = self.resolve(id)?;
        self.hold_home(id, current)
    }

    /// [`hold_name`](Self::hold_name), until it was held.
    pub(in crate::fs) fn hold_shown(&self, id: &ObjectId) -> Result<Found> {
        for _ in 0..SHOWN_TRIES {
            match self.hold_name(id) {
                Err(FsError::Stale) => {}
                held => return held.map(|found| self.nodes().as_linked(id, found)),
            }
        }
        Err(FsError::Busy)
    }

    /// Counts the kernel's reference to an object's home and answers with it.
    fn hold_home(&self, id: &ObjectId, current: Ino) -> Result<Found> {
        let mut t = self.nodes();
        let sure = t.current_node(id) == Some(current) && t.is_valid(id);
        let drafting = !t.drafts(id).is_empty();
        t.admit(current);
        let sure = sure && !t.is_transient(current);
        let entry = t.nodes.get_mut(&current).ok_or(FsError::Stale)?;
        let Node::Revision(shown) = &entry.node else { return Err(FsError::Stale) };
        let attr = self.object_attr(id, &shown.meta);
        entry.lookups += 1;
        entry.by_number = false;
        let (attr_ttl, entry_ttl) = if sure { (LONG, LONG) } else { (BRIEF, NOW) };
        Ok(Found {
            node: current,
            // A lookup answers st_ino and node in one number; the next getattr tells the right one.
            attr_ttl: if current == attr.ino { attr_ttl } else { NOW },
            // While somebody writes, the name leads the writer's own thread to the draft.
            entry_ttl: if drafting { NOW } else { entry_ttl },
            attr,
        })
    }

    /// Counts the kernel's reference to a draft's node and answers with it, for this moment only.
    pub(in crate::fs) fn hold_draft(&self, node: Ino, draft: &Mutex<Draft>) -> Result<Found> {
        let attr = self.attr_of_draft(node, draft);
        let mut t = self.nodes();
        t.nodes.get_mut(&node).ok_or(FsError::Stale)?.lookups += 1;
        Ok(Found { node, attr, attr_ttl: NOW, entry_ttl: NOW })
    }

    /// Counts the kernel's reference to an object's node that it asks for by number.
    pub(in crate::fs) fn hold_number(&self, id: &ObjectId, ino: Ino) -> Result<Found> {
        self.come_home(id, ino);
        let mut t = self.nodes();
        let entry = t.nodes.get_mut(&ino).ok_or(FsError::Stale)?;
        let Node::Revision(shown) = entry.node.clone() else { return Err(FsError::Stale) };
        entry.by_number |= entry.lookups == 0;
        entry.lookups += 1;
        Ok(Found { node: ino, attr: self.object_attr(id, &shown.meta), attr_ttl: NOW, entry_ttl: NOW })
    }
}
