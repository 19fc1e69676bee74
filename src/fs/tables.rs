//! The node table's lock.
//!
//! What a change of the table asks for and that may wait for a disk (the end of a watch, the close of a file) is noted in
//! the table, and done when the lock is given back. Debug builds assert that no system call of the backend and none on a
//! watch is made while it is held.

use std::ops::{Deref, DerefMut};

use parking_lot::MutexGuard;

use super::Fs;
use super::table::NodeTable;
use crate::backend::NoIo;
use crate::rev::ObjectId;

/// The locked table.
pub(super) struct Locked<'a> {
    fs: &'a Fs,
    table: MutexGuard<'a, NodeTable>,
    no_io: Option<NoIo>,
}

impl Fs {
    /// Locks the node table. Nothing that may wait for a disk, for the kernel or for a program is done meanwhile.
    pub(super) fn nodes(&self) -> Locked<'_> {
        Locked { fs: self, table: self.nodes.lock(), no_io: Some(NoIo::begin()) }
    }

    /// Ends the watches of objects that were forgotten, but for those that somebody has come to know since: he counts on it.
    fn unwatch_forgotten(&self, ids: &[ObjectId]) {
        for id in ids {
            if !self.watches_idle() {
                self.watcher.unwatch(id, || !self.nodes.lock().objects.contains_key(id));
            }
        }
    }
}

impl Deref for Locked<'_> {
    type Target = NodeTable;

    fn deref(&self) -> &NodeTable {
        &self.table
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut NodeTable {
        &mut self.table
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (unwatch, close) = self.table.take_deferred();
        self.no_io = None;
        if !unwatch.is_empty() || !close.is_empty() {
            MutexGuard::unlocked(&mut self.table, || {
                drop(close);
                self.fs.unwatch_forgotten(&unwatch);
            });
        }
    }
}
