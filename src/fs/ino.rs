//! Inode numbers that the mount makes up.

use crate::fs::attr::Ino;
use crate::rev::{ObjectId, fnv1a};

/// Objects' inode numbers: 51 bits of a hash of the id, from here to 2^52. All numbers are exact as JavaScript numbers.
const OBJECTS: Ino = 1 << 51;
/// Nodes that need a number of their own: drafts, views, objects whose number is taken.
pub const OTHERS: Ino = 1 << 52;

/// Removed objects.
const REMOVED: Ino = OTHERS + OBJECTS;

/// What only the replaying process comes to: the directory of nodes by number, and what it finds where an object was.
pub const REPLAY_DIR: Ino = 1 << 53;
pub const REPLAY_TARGET: Ino = REPLAY_DIR + 1;

/// An object's inode number: the same in every mount of every copy of the store.
pub fn object_ino(id: &ObjectId) -> Ino {
    ino_of(id.as_os_str().as_encoded_bytes())
}

/// The inode number of an object that was removed and that programs have open still: another than that of whatever comes
/// under its name.
pub fn removed_ino(id: &ObjectId) -> Ino {
    REMOVED + (object_ino(id) - OBJECTS)
}

/// [`object_ino`] of the bytes of an id.
pub fn ino_of(id: &[u8]) -> Ino {
    OBJECTS + (mixed(id) & (OBJECTS - 1))
}

/// A hash of which every bit depends on every bit of `bytes`.
pub fn mixed(bytes: &[u8]) -> u64 {
    let h = fnv1a(bytes);
    let h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 33)
}
