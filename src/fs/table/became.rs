//! What files have become whose numbers nothing has any more.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::fs::attr::Ino;
use crate::fs::ino::object_ino;
use crate::fs::table::NodeTable;
use crate::rev::ObjectId;

/// How many numbers are remembered that files had before.
const MOST: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// By number: the objects that scratch files, other objects and drafts have become. The latest are remembered.
pub(super) struct Became(LruCache<Ino, ObjectId>);

impl Default for Became {
    fn default() -> Became {
        Became(LruCache::new(MOST))
    }
}

impl NodeTable {
    /// The file of a number has become an object, which has a number of its own.
    pub fn note_became(&mut self, number: Ino, id: &ObjectId) {
        if number != object_ino(id) {
            self.became.0.put(number, id.clone());
        }
    }

    /// The object that the file of a number has become.
    pub fn what_became_of(&self, number: Ino) -> Option<ObjectId> {
        self.became.0.peek(&number).cloned()
    }
}
