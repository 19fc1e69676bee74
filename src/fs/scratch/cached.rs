//! Descriptors of scratch files: few are held open, in the order of their use.

use crate::fs::errno::{FsError, Result};
use crate::fs::scratch::{Dir, Hold, Key, ScratchNode, key};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// A descriptor that can be given up.
pub(super) struct Cached {
    key: Key,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// Where the file was found, the latest last.
    places: Mutex<Vec<(Dir, OsString)>>,
    /// Open handles.
    pub(super) handles: AtomicU32,
    /// Used since it was last considered.
    used: AtomicBool,
}

/// The descriptors that can be given up, in the order in which they are considered.
static CACHED: Mutex<VecDeque<Weak<Cached>>> = Mutex::new(VecDeque::new());

/// At most this many names of one file are remembered.
const PLACES: usize = 4;

/// How many descriptors may be cached: half of what the process may open, and never more than is of use.
fn cache_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        most.map_or(usize::MAX, |n| usize::try_from(n / 2).unwrap_or(usize::MAX)).min(16_384)
    })
}

impl Cached {
    /// A file that was found as `name` in `dir`, with its descriptor.
    pub(super) fn new(key: Key, fd: Dir, dir: &Dir, name: &OsStr) -> Arc<Cached> {
        Arc::new(Cached {
            key,
            fd: Mutex::new(Some(fd)),
            places: Mutex::new(vec![(dir.clone(), name.to_owned())]),
            handles: AtomicU32::new(0),
            used: AtomicBool::new(true),
        })
    }

    /// The file, opened anew if need be. `ESTALE` where no name leads to it any more.
    pub(super) fn get(self: &Arc<Self>) -> Result<Arc<OwnedFd>> {
        self.used.store(true, Ordering::Relaxed);
        let mut fd = self.fd.lock();
        if let Some(fd) = &*fd {
            return Ok(fd.clone());
        }
        // Others add places with the tables locked: they must not wait for the disk.
        let places = self.places.lock().clone();
        let found = places.iter().rev().find_map(|(dir, name)| {
            let node = ScratchNode::at(dir.as_fd(), name).ok().filter(|node| node.key == self.key)?;
            let Hold::Fixed(fd) = node.hold else { return None };
            Some(fd)
        });
        let found = found.ok_or(FsError::Stale)?;
        *fd = Some(found.clone());
        drop(fd);
        self.enqueue();
        Ok(found)
    }

    /// Puts the descriptor in line, and gives up the first ones while there are too many.
    pub(super) fn enqueue(self: &Arc<Self>) {
        let mut line = CACHED.lock();
        line.push_back(Arc::downgrade(self));
        // Those in use go to the end; some calls later they may not be.
        for _ in 0..8 {
            if line.len() <= cache_limit() {
                return;
            }
            let Some(first) = line.pop_front() else { return };
            let Some(cached) = first.upgrade() else { continue };
            if !cached.give_up() {
                line.push_back(first);
            }
        }
    }

    fn give_up(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) || self.handles.load(Ordering::Acquire) > 0 {
            return false;
        }
        // Whoever waits for the line may hold it.
        let Some(mut fd) = self.fd.try_lock() else { return false };
        let there = |(dir, name): &(Dir, OsString)| key(dir.as_fd(), name).is_ok_and(|key| key == self.key);
        let places = self.places.lock().clone();
        if !places.iter().any(there) {
            return false;
        }
        *fd = None;
        true
    }

    pub(super) fn add_place(&self, dir: &Dir, name: &OsStr) {
        let mut places = self.places.lock();
        let same = |(d, n): &(Dir, OsString)| n == name && Arc::ptr_eq(d, dir);
        if places.last().is_some_and(same) {
            return;
        }
        places.retain(|place| !same(place));
        if places.len() == PLACES {
            places.remove(0);
        }
        places.push((dir.clone(), name.to_owned()));
    }
}
