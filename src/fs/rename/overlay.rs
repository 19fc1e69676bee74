//! The file under a name that another one is moved onto.
//!
//! On a disk it has no name then: what watches it ends, and its inode number goes with it. An object goes on, under the
//! same number, so what watches it must go on too. The kernel counts one link less for the file that it takes for replaced,
//! and ends its watches when it has come to none. So whoever is about to move a file onto an object is sent to look the name
//! up once more, and finds the object with two links. Until the move is answered everybody is told of two: the answer to a
//! `stat` would take the one more back.

use std::time::Duration;

use crate::fs::Fs;
use crate::fs::attr::{Attr, Caller, Found, NOW};
use crate::fs::errno::{FsError, Result};
use crate::fs::table::NodeTable;
use crate::rev::ObjectId;

impl Fs {
    /// Fails with `Stale` once for each move onto a file that the kernel knows.
    pub(super) fn link_once_more(&self, caller: Caller, id: &ObjectId) -> Result<()> {
        if caller.thread == 0 {
            return Ok(());
        }
        {
            let t = self.nodes();
            if t.retries.overlays(caller.thread, id) || !t.is_home_known(id) {
                return Ok(());
            }
        }
        // A server in the kernel would pass the error on.
        if self.process(caller).is_none_or(|process| process.is_kernel()) {
            return Ok(());
        }
        self.nodes().retries.begin_overlay(caller.thread, id);
        Err(FsError::Stale)
    }

    /// The move was made, or failed. If the kernel goes on to know the object's file, that is watched, and who watches it is
    /// told what a writer's close would tell.
    pub(super) fn overlaid(&self, caller: Caller, id: &ObjectId, made: bool) {
        self.nodes().retries.end_overlay(caller.thread, id);
        if made {
            self.replay_home(id);
        }
    }
}

impl NodeTable {
    fn is_home_known(&self, id: &ObjectId) -> bool {
        let current = self.current_node(id);
        current.and_then(|current| self.nodes.get(&current)).is_some_and(|entry| entry.lookups > 0)
    }

    /// What a lookup has `found`, as it is to be told now.
    pub fn as_linked(&self, id: &ObjectId, mut found: Found) -> Found {
        if self.retries.is_overlaid(id) {
            found.attr.nlink += 1;
            (found.attr_ttl, found.entry_ttl) = (NOW, NOW);
        }
        found
    }

    /// The same of the attributes of a node.
    pub fn attr_as_linked(&self, id: &ObjectId, (attr, ttl): (Attr, Duration)) -> (Attr, Duration) {
        match attr.nlink == 1 && self.retries.is_overlaid(id) {
            true => (Attr { nlink: 2, ..attr }, NOW),
            false => (attr, ttl),
        }
    }
}
