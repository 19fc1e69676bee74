//! What ends without a call: graces, what nobody holds, and the drafts of a mount that is about to end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::error;
use parking_lot::Mutex;

use crate::draft::Draft;
use crate::error::Error;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::node::{Node, Notice};
use crate::fs::table::Deleted;

impl Fs {
    /// Commits every draft that is complete and keeps every other: the mount is about to end.
    pub fn shutdown(&self) {
        let drafts: Vec<(Ino, Arc<Mutex<Draft>>)> = {
            let t = self.nodes();
            let open = t.nodes.iter().filter(|(_, e)| e.handles > 0);
            open.filter_map(|(ino, e)| match &e.node {
                Node::Draft(draft) => Some((*ino, draft.clone())),
                _ => None,
            })
            .collect()
        };
        for (node, draft) in drafts {
            self.finish_draft(node, &mut draft.lock());
        }
        self.end_grace(Duration::ZERO);
        self.keep_held(true);
        self.sync_point();
    }

    /// Whether something is to happen though no call comes: a grace ends, a text that is written rests or finds room.
    pub fn waits_for_the_clock(&self) -> bool {
        let waits = self.nodes().active.values().any(|active| active.waits());
        waits || !self.written.lock().is_empty() || !self.held.lock().is_empty()
    }

    /// Makes final what waited for a second half that did not come within `grace`: names that were renamed away.
    pub fn end_grace(&self, grace: Duration) {
        let mut due = Vec::new();
        {
            let mut t = self.nodes();
            t.expire_retries();
            let waiting = t.active.iter().filter(|(_, active)| active.waits());
            for id in waiting.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
                match t.hidden(&id) {
                    // Somebody is at work on what comes after it.
                    Some(_) if !grace.is_zero() && t.is_made_anew(&id) => {}
                    Some(hidden) if hidden.since.elapsed() >= grace => due.push((id, hidden.clone())),
                    Some(_) => {}
                    None => t.forget_object(&id),
                }
            }
        }
        for (id, hidden) in due {
            // A second half may have come while others were made final.
            if self.nodes().hidden(&id).map(|hidden| hidden.since) != Some(hidden.since) {
                continue;
            }
            let change = self.replay.begin(&id);
            let op = match self.store.delete_at(&id, &hidden.rev) {
                Ok(op) => {
                    if op.is_some() {
                        change.made(None);
                    }
                    op
                }
                Err(Error::NoObject(_)) => None,
                Err(e) => {
                    error!("{id}: cannot delete it after its file was renamed away: {e}");
                    None
                }
            };
            let mut notices = self.notices().with(Notice::Root);
            let mut t = self.nodes();
            let active = t.active_mut(&id);
            if active.hidden.take().is_none() {
                // It has come now: the history goes on with it.
                active.deleted = op.map(|op| Deleted { since: Instant::now(), op });
            }
            t.invalidate(&id, &mut notices);
            drop(t);
            self.notify_kernel(notices);
        }
    }

    /// Forgets what processes read and wrote that have ended since.
    pub fn forget_ended(&self) {
        self.memory.forget_ended();
    }

    /// Forgets nodes and names that nobody holds.
    pub fn sweep(&self) {
        self.nodes().sweep();
    }

    /// How long names wait for their second half.
    pub fn grace(&self) -> Duration {
        self.options.grace
    }
}
