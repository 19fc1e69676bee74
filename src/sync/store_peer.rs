//! Another store's directory as a peer: its revisions are the peer's revisions, and the log lies in its `.revfs/sync`.

use std::path::Path;
use std::sync::Arc;

use super::at_once::at_once;
use super::dir::DirPeer;
use super::peer::{Body, Key, Listed, Peer};
use super::{THREADS, own_host};
use crate::backend::{Attrs, DirBackend, Host, Origin};
use crate::error::{Result, found};
use crate::store::Store;

/// Where the log lies, in a store.
pub const SYNC: &str = ".revfs/sync";

/// A store that others synchronise with directly. What they bring is there for its readers at once; what they removed is
/// removed when the store itself is synchronised with what they left.
pub struct StorePeer {
    store: Store,
    backend: Arc<DirBackend>,
    log: DirPeer,
    name: String,
    host: Option<Host>,
}

impl StorePeer {
    /// The store in a directory.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path) -> Result<StorePeer> {
        let backend = Arc::new(DirBackend::open(path)?);
        let (store, log) = (Store::with_backend(backend.clone()), DirPeer::new(path.join(SYNC)));
        Ok(StorePeer { store, backend, log, name: path.display().to_string(), host: own_host() })
    }

    fn enter(&self, key: &Key, attrs: Attrs, bytes: &[u8]) -> Result<()> {
        let attrs = Attrs { origin: attrs.origin.heard_by(self.host), ..attrs };
        match key {
            Key::Rev(id, rev) => {
                self.store.receive(id, &[], &[(rev.clone(), bytes.to_vec(), attrs)]).map(drop)
            }
            key => {
                // Not before there is something to say; as open as the store, and its owner's.
                self.backend.private_dir("sync")?;
                self.log.put(key, bytes)
            }
        }
    }
}

impl Peer for StorePeer {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.enter(key, Attrs { origin: Origin::Elsewhere(None), ..Attrs::default() }, bytes)
    }

    fn put_revs(&self, revs: &[Body]) -> Result<()> {
        at_once(THREADS, revs, |rev| self.enter(&rev.key, rev.attrs, &rev.bytes)).map(drop)
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        match key {
            Key::Rev(id, rev) => found(self.store.read(id, rev)),
            key => self.log.get(key),
        }
    }

    fn heads(&self) -> Result<Vec<Listed>> {
        if self.log.is_there() { self.log.heads() } else { Ok(Vec::new()) }
    }

    /// A revision stays: a store forgets none by itself.
    fn remove(&self, key: &Key) -> Result<()> {
        match key {
            Key::Rev(..) => Ok(()),
            key => self.log.remove(key),
        }
    }

    fn packs(&self) -> bool {
        false
    }

    fn is_far(&self) -> bool {
        false
    }
}
