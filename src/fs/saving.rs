//! What is told of a draft while it is saved: a save may wait for the disk, and holds the draft's lock.

use std::time::Duration;

use parking_lot::Mutex;

use super::Fs;
use super::attr::{Attr, Ino};
use crate::draft::Draft;

/// How long a draft's lock is waited for before it is asked whether it is being saved.
const GLANCE: Duration = Duration::from_millis(1);

/// A draft that is being saved, see [`Fs::attr_of_draft`].
pub(super) struct Saving<'a>(&'a Fs, Ino);

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.saving.lock().remove(&self.1);
    }
}

impl Fs {
    /// From here on, until what this returns is dropped, whoever asks is told the attributes that the draft has now.
    pub(super) fn saving(&self, node: Ino, d: &Draft) -> Saving<'_> {
        self.saving.lock().insert(node, self.draft_attr(d));
        Saving(self, node)
    }

    /// [`draft_attr`](Self::draft_attr), without waiting for a save that is under way.
    pub(super) fn attr_of_draft(&self, node: Ino, draft: &Mutex<Draft>) -> Attr {
        loop {
            if let Some(d) = draft.try_lock_for(GLANCE) {
                return self.draft_attr(&d);
            }
            if let Some(attr) = self.saving.lock().get(&node) {
                return attr.clone();
            }
        }
    }
}
