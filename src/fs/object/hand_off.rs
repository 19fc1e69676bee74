//! How a thread comes from the node of a revision to that of a draft, or to the revision that the name shows.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::core::await_release;
use crate::fs::errno::FsError;
use crate::fs::handle::Mode;
use crate::fs::node::{Node, NodeEntry};
use crate::rev::ObjectId;

/// How many milliseconds it is waited for who has a file open that somebody is about to write without its name.
const RELEASE: usize = 30;

impl Fs {
    /// Waits a moment for a revision's node to be closed. The kernel tells of that some time after a program's close has
    /// returned, and who then writes through the same handle or descriptor would be told the old size.
    pub(in crate::fs) fn await_readers(&self, node: Ino) {
        await_release(RELEASE, || {
            let t = self.nodes();
            let read = |entry: &NodeEntry| entry.handles > 0 && matches!(entry.node, Node::Revision(_));
            t.nodes.get(&node).is_some_and(read)
        });
    }

    /// Has the object's name lead to a node that somebody has come to without it, if that is one it led to before.
    pub(in crate::fs) fn come_home(&self, id: &ObjectId, node: Ino) {
        if !self.nodes().stale_nodes(id).contains(&node) {
            return;
        }
        let mut notices = self.notices();
        if self.resolve(id).is_ok() {
            self.nodes().come_home(id, node, &mut notices);
        }
        self.notify_kernel(notices);
    }

    /// Whether the thread was told ESTALE a moment ago, by whatever call, or must never be.
    pub(in crate::fs) fn was_refused(&self, caller: Caller, id: &ObjectId) -> bool {
        self.nodes().retries.is_exhausted(caller.thread, id)
    }

    /// Whether the thread was told ESTALE, and has looked the name up since.
    pub(in crate::fs) fn was_led(&self, caller: Caller, id: &ObjectId) -> bool {
        self.nodes().retries.was_led(caller.thread, id)
    }

    /// Prepares a draft for the thread and has it look the name up again.
    pub(in crate::fs) fn announce_draft(&self, caller: Caller, id: &ObjectId, mode: Mode) -> FsError {
        // Two descriptors of one process write one text, unless the second starts anew or others have saved since: then
        // each is a save of its own.
        let shared = if mode.truncate { None } else { self.draft_of(self.process(caller), id) };
        let draft = match shared {
            Some(_) => None,
            None => match self.new_draft(caller, id, mode.truncate) {
                // Others have removed it: the lookup finds nothing, and a program that would create it does.
                Ok(draft) if draft.shown_rev.is_none() => return FsError::Stale,
                Ok(draft) => Some(draft),
                Err(fail) => return fail,
            },
        };
        let mut t = self.nodes();
        t.expire_retries();
        if shared.is_some_and(|node| !t.is_open(node) || !matches!(t.node(node), Some(Node::Draft(_)))) {
            // Its last descriptor was closed at this moment.
            drop(t);
            return self.announce_draft(caller, id, mode);
        }
        let draft = draft.map(|draft| t.add(Node::Draft(Arc::new(Mutex::new(draft)))));
        if let Some(node) = shared.or(draft) {
            t.retries.announce(caller.thread, id, node);
        }
        FsError::Stale
    }

    /// Whether the thread cannot be led to a draft's node by ESTALE and a lookup: something else has used up its one
    /// retry, or it cannot be told from another thread that is on its way to its own draft.
    pub(in crate::fs) fn retry_exhausted(&self, caller: Caller, id: &ObjectId) -> bool {
        !self.nodes().retries.request(caller.thread, id)
    }
}
