//! A peer that is a store, here or on another host.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::wire::Greeting;
use super::{Replica, Report, StorePeer, SyncOptions, TIMEOUT, state_file};
use crate::error::{Error, Result};
use crate::store::Store;

/// A store that another is synchronised with directly. Before that it says in its own log what is new in it, and afterwards it
/// looks what it was told; it remembers that on its own host.
pub trait Counterpart: Send + Sync {
    /// What is left there, and what it holds.
    fn peer(&self) -> &dyn Peer;

    /// It learns what was left for it (`pull`) and says what is new in it (`push`).
    ///
    /// # Errors
    /// As [`Replica::run`].
    fn learn(&self, options: SyncOptions) -> Result<Report>;

    /// Nothing more is asked for a while.
    fn rest(&self) {}
}

/// A store of this host's.
pub struct StoreHere {
    peer: StorePeer,
    store: Store,
    name: String,
    state: PathBuf,
    dir: PathBuf,
    timeout: Duration,
}

impl StoreHere {
    /// The store in a directory, whose full path is given. `states`: where its exchanges are remembered. `timeout`: how long it
    /// waits for others who synchronise with it.
    ///
    /// # Errors
    /// As [`StorePeer::open`].
    pub fn open(dir: &Path, states: &Path, timeout: Duration) -> Result<StoreHere> {
        let peer = StorePeer::open(dir)?;
        let (store, name) = Store::open_named(dir)?;
        let state = state_file(states, dir, &peer.name());
        Ok(StoreHere { peer, store, name, state, dir: dir.into(), timeout })
    }

    fn take_turn(&self) -> Result<File> {
        let path = self.state.with_extension("lock");
        let made =
            self.state.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| File::create(&path));
        let (turn, begun) = (made.map_err(Error::io("lock", &path))?, Instant::now());
        loop {
            match turn.try_lock() {
                Ok(()) => return Ok(turn),
                Err(TryLockError::WouldBlock) if begun.elapsed() < self.timeout => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Sync(format!(
                        "{}: somebody else synchronises with it; try again when that has ended",
                        self.peer.name()
                    )));
                }
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
        }
    }
}

impl Counterpart for StoreHere {
    fn peer(&self) -> &dyn Peer {
        &self.peer
    }

    /// One after the other: many may be synchronised with it at the same time.
    fn learn(&self, options: SyncOptions) -> Result<Report> {
        let _turn = self.take_turn()?;
        let replica = Replica::open(&self.store, &self.peer, &self.state, options)?;
        replica.at(&self.dir).of_itself().run(&self.name)
    }
}

impl Greeting {
    /// Of the store in a directory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn of(store: &Path, dry_run: bool) -> Result<Greeting> {
        let path = store.join(super::FORMAT);
        let format = std::fs::read(&path).map_err(Error::io("read", &path))?;
        Ok(Greeting { dry_run, timeout: TIMEOUT, format })
    }
}
