//! The file under a name that another one is moved onto.
//!
//! On a disk it has no name then: what watches it ends, and its inode number goes with it. An object goes on, under the
//! same number, so what watches it must go on too. The kernel counts one link less for the file that it takes for replaced,
//! and ends its watches when it has come to none. So whoever is about to move a file onto an object is sent to look the name
//! up once more, and finds the object with two links; nobody else is told of that.

use std::time::Instant;

use crate::fs::Fs;
use crate::fs::attr::{Caller, Found, NOW};
use crate::fs::errno::{Fail, Result};
use crate::fs::table::Tables;
use crate::rev::ObjectId;

impl Fs {
    /// `Stale` once for each move onto a file that the kernel knows.
    pub(super) fn link_once_more(&self, who: Caller, id: &ObjectId) -> Result<()> {
        if who.thread == 0 {
            return Ok(());
        }
        let mut t = self.tables.lock();
        if t.overlaying.remove(&(who.thread, id.clone())).is_some() || !t.is_home_known(id) {
            return Ok(());
        }
        drop(t);
        // A server in the kernel would pass the error on.
        if self.process(who).is_none_or(|process| process.is_kernel()) {
            return Ok(());
        }
        self.tables.lock().overlaying.insert((who.thread, id.clone()), Instant::now());
        Err(Fail::Stale)
    }

    /// The move was made: if the kernel goes on to know the file it is watched, and who watches it is told what a writer's
    /// close would tell.
    pub(super) fn overlaid(&self, id: &ObjectId) {
        let mut t = self.tables.lock();
        let home = t.objects.get(id).and_then(|object| object.home);
        if let Some(entry) = home.and_then(|home| t.nodes.get_mut(&home)).filter(|entry| entry.lookups > 0) {
            entry.overlaid = true;
            drop(t);
            self.echoes.left_behind(id);
        }
    }
}

impl Tables {
    fn is_home_known(&self, id: &ObjectId) -> bool {
        let home = self.objects.get(id).and_then(|object| object.home);
        home.and_then(|home| self.nodes.get(&home)).is_some_and(|entry| entry.lookups > 0)
    }

    /// What a lookup has `found`, as it is to be told to a thread that is about to move another file there.
    pub fn as_linked(&self, thread: u32, id: &ObjectId, mut found: Found) -> Found {
        if !self.overlaying.is_empty() && self.overlaying.contains_key(&(thread, id.clone())) {
            found.attr.nlink += 1;
            (found.attr_ttl, found.entry_ttl) = (NOW, NOW);
        }
        found
    }
}
