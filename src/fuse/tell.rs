//! What the file system tells the kernel.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::mpsc;

use fuser::{INodeNo, Notifier};

use crate::fs::Kernel;

/// Tells the kernel what changed. Attributes at once; names from a thread of their own, because the kernel waits with
/// them for lookups that only our workers can answer.
pub struct Tell {
    notifier: Notifier,
    names: mpsc::Sender<(u64, OsString)>,
}

impl Tell {
    /// Starts the thread; it ends with the last reference.
    pub fn new(notifier: Notifier) -> io::Result<Tell> {
        let (names, queue) = mpsc::channel::<(u64, OsString)>();
        let own = notifier.clone();
        std::thread::Builder::new().name("notify".into()).spawn(move || {
            for (parent, name) in queue {
                let _ = own.inval_entry(INodeNo(parent), &name);
            }
        })?;
        Ok(Tell { notifier, names })
    }
}

impl Kernel for Tell {
    fn forget_attr(&self, node: u64) {
        // A negative offset leaves pages alone, so the kernel waits for no read.
        let _ = self.notifier.inval_inode(INodeNo(node), -1, 0);
    }

    fn forget_entry(&self, parent: u64, name: &OsStr) {
        let _ = self.names.send((parent, name.to_owned()));
    }
}
